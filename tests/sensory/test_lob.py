"""Every feature against a plain computation from the book, the messages and the account; nothing later matters."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emp_gym.data.synthetic.day import DayConfig
from emp_gym.data.tape.tape_set import TapeSet, build
from emp_gym.envs.trading_core import Lanes
from emp_gym.sensory.lob import CLIP, finish, log1p, transforms
from emp_gym.types import NS, Feature, MessageType, RecordedDay, RequestType
from tests.market.duel import read_only, synthetic_day
from tests.reference_market import Day

CONFIGS = {
    "one tick": DayConfig(seed=31, rows=3_000, halts=1, thin=True, stressed=0.5),
    "wide": DayConfig(seed=32, rows=3_000, tick_regime="wide", levels=7),
    "one level": DayConfig(seed=33, rows=3_000, levels=1),
}
LANES, PER_CLIP, LIMIT, EPISODE, TICK, CASH = 12, 100, 500, 30, 100, 10_000
LATENCIES = [0, [2 * NS, 3 * NS]]


def day_of(name: str) -> RecordedDay:
    """A synthetic day, twenty times as fast: some messages a second."""
    day = synthetic_day(CONFIGS[name])
    return replace(day, time_ns=34_200 * NS + (day.time_ns - 34_200 * NS) // 20)


def log(x: float) -> float:
    return math.copysign(math.log1p(abs(x)), x)


def share(a: float, b: float) -> float:
    return (a - b) / (a + b) if a + b else 0.0


def lanes_on(tape: TapeSet, folder: Path, task: str = "trade", **arguments: Any) -> Lanes:
    path = tape.save(folder / "day.tape")
    defaults = {"every": "9 messages", "episode": f"{EPISODE} decisions", "split": "all", "threads": 1}
    lanes = Lanes(task, LANES, data=str(path), **(defaults | arguments))
    lanes.seed(4)
    lanes.reset(np.arange(LANES))
    return lanes


def observed(lanes: Lanes) -> np.ndarray:
    out = np.full((lanes.lanes, len(lanes.features)), np.nan, np.float32)
    lanes.observe(np.arange(lanes.lanes), out)
    return out


def book_features(day: Day, judged: dict, seen: int, last: int, now_ns: int, levels: int) -> dict[str, float]:
    """What the market's own features must be at row `seen`, the decision before having seen row `last`."""
    row, found = day.rows[seen], {}
    sums = {}
    for side, name in ((1, "bid"), (-1, "ask")):
        book = list(row.book[side].items())[:levels]
        sums[side] = sum(size for _, size in book)
        for level in range(levels):
            price, size = book[level] if level < len(book) else (None, 0)
            gap = side * (row.mid2 - 2 * price) / TICK if price is not None else None
            found[f"{name}_distance_{level + 1}"] = CLIP if gap is None else log(gap) / 2
            found[f"{name}_size_{level + 1}"] = log(size) / 4
    bids, asks = list(row.book[1].items()), list(row.book[-1].items())
    first = (bids[0][1] if bids else 0, asks[0][1] if asks else 0)
    spread = (asks[0][0] - bids[0][0]) / TICK if bids and asks else 0
    found["imbalance_1"], found["imbalance_all" if levels == 1 else f"imbalance_{levels}"] = (
        share(*first),
        share(sums[1], sums[-1]),
    )
    found["microprice"] = log(32 * share(*first) * spread / 2) / 2
    found["spread"] = log(2 * spread) / 2
    starts = {"step": last, "short": max(seen - 200, 0), "long": max(seen - 1000, 0)}
    for window, start in starts.items():
        then = day.rows[start]
        found[f"ofi_{window}"] = log(sum(judged["flow"][start + 1 : seen + 1])) / 4
        passed = day.rows[start + 1 : seen + 1]
        bought = sum(r.size for r in passed if r.kind == MessageType.EXECUTE and r.side < 0)
        sold = sum(r.size for r in passed if r.kind == MessageType.EXECUTE and r.side > 0)
        found[f"trade_imbalance_{window}"] = share(bought, sold)
        found[f"return_{window}"] = log((row.mid2 - then.mid2) / TICK) / 2 if then.mid2 else 0.0
        found[f"hidden_{window}"] = log(sum(judged["hidden"][start + 1 : seen + 1])) / 4
        if window == "step":
            found["volume_step"] = log(bought + sold) / 4
        else:
            found[f"volatility_{window}"] = log(math.sqrt(sum(judged["moves2"][start + 1 : seen + 1])) / TICK) / 2
    elapsed = max(row.time_ns - day.rows[starts["short"]].time_ns, 1)
    found["rate"] = log(min(1e9 * (seen - starts["short"]) / elapsed, 1e9)) / 4
    found["time_of_day"], found["status"] = (now_ns / NS - 34_200) / 23_400, row.status / 3
    return found


def per_row(day: Day) -> dict[str, list[int]]:
    """Order-flow imbalance (Cont, Kukanov, Stoikov 2014), hidden lots above less below mid, squared moves, by row."""
    flow, hidden, moves2 = [0], [0], [0]
    for before, row in zip(day.rows, day.rows[1:]):
        change = 0
        for side in (1, -1):
            was, now = (next(((side * p, q) for p, q in r.book[side].items()), (-(10**11), 0)) for r in (before, row))
            change += side * ((now[1] if now[0] >= was[0] else 0) - (was[1] if now[0] <= was[0] else 0))
        flow.append(change)
        above = 2 * row.price - before.mid2
        shown = row.kind == MessageType.EXECUTE_HIDDEN and before.mid2
        hidden.append(row.size * ((above > 0) - (above < 0)) if shown else 0)
        moves2.append((row.mid2 - before.mid2) ** 2 if before.mid2 else 0)
    return {"flow": flow, "hidden": hidden, "moves2": moves2}


def own_features(lanes: Lanes, i: int) -> dict[str, float]:
    """From the public view; age from the ids (16 numbers a decision)."""
    view = lanes.market.view
    orders = [
        {
            name: int(getattr(view, f"order_{name}")[i, k])
            for name in ("id", "live", "side", "price", "quantity", "ahead")
        }
        for k in range(view.order_id.shape[1])
        if view.order_id[i, k] and view.order_kind[i, k] == RequestType.LIMIT
    ]
    flying = sum(1 for k in range(8) if view.order_id[i, k] and not view.order_live[i, k])
    mid2, position = int(view.mid2[i, 0]), int(view.position[i, 0])
    equity = 2 * int(view.cash[i]) + position * mid2 * CASH
    found = {
        "inventory": position / LIMIT,
        "equity": log(equity / (CASH * TICK * PER_CLIP)) / 2,
        "elapsed": view.decision[i] / EPISODE,
        "in_flight": flying / 8,
    }
    for side, name, best in ((1, "bid", view.bid_price[i, 0, 0]), (-1, "ask", view.ask_price[i, 0, 0])):
        mine = sorted((o for o in orders if o["side"] == side), key=lambda o: -side * o["price"])
        keys = [f"{name}_{part}" for part in ("live", "offset", "quantity", "ahead", "age")]
        if not mine:
            found |= dict.fromkeys(keys, 0.0)
            continue
        own, there = mine[0], (view.bid_size if side > 0 else view.ask_size)[i, 0, 0] > 0
        behind = side * (int(best) - own["price"]) if there else 0
        age = int(view.decision[i]) - own["id"] // 16
        found |= dict(zip(keys, (
            1.0 if own["live"] else 0.5, log(2 * behind / TICK) / 2, own["quantity"] / PER_CLIP, log(own["ahead"]) / 4,
            log(age) / 2,
        )))  # fmt: skip
    return found


@pytest.mark.parametrize("latency_ns", LATENCIES)
@pytest.mark.parametrize("name", CONFIGS)
def test_every_feature_equals_its_plain_computation(tmp_path: Path, name: str, latency_ns: Any) -> None:
    recorded = day_of(name)
    day, lanes = Day(recorded), lanes_on(build(recorded), tmp_path, latency_ns=latency_ns)
    sums, rng, state = per_row(day), np.random.default_rng(8), lanes.market.state
    names = [feature.name for feature in lanes.features]
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    assert len(set(names)) == len(names)
    for _ in range(EPISODE):
        out = observed(lanes)
        low, high = np.minimum(low, out.min(axis=0)), np.maximum(high, out.max(axis=0))
        for i in range(LANES):
            seen, last, now = (int(state[i][part]) for part in ("seen_row", "last_row", "time_ns"))
            expected = book_features(day, sums, seen, last, now, lanes.levels) | own_features(lanes, i)
            assert set(expected) == set(names)
            wanted = np.clip([expected[feature] for feature in names], -CLIP, CLIP)
            wrong = np.abs(out[i] - wanted) > 2e-6
            assert not wrong.any(), [(names[j], out[i, j], wanted[j]) for j in np.flatnonzero(wrong)]
        lanes.step(rng.integers(0, 11, LANES))
    still = {feature for feature, least, most in zip(names, low, high) if least == most} - {"status", "in_flight"}
    assert not still or name == "one level", "a feature that never moves tests nothing"


def test_the_parents_features_are_its_side_its_rest_and_its_schedule(tmp_path: Path) -> None:
    lanes = lanes_on(build(day_of("wide")), tmp_path, "execute", parent=1_000)
    rng = np.random.default_rng(2)
    for step in range(10):
        out, side = observed(lanes), lanes.episodes["parent_side"]
        left = 1 - side * lanes.market.view.position[:, 0] / 1_000
        np.testing.assert_allclose(out[:, -3], side)
        np.testing.assert_allclose(out[:, -2], left, rtol=1e-6)
        np.testing.assert_allclose(out[:, -1], left - (1 - step / EPISODE), atol=1e-6)
        lanes.step(rng.integers(0, 4, LANES))
    assert set(lanes.episodes["parent_side"]) == {-1, 1}


def test_log1p_is_numpys_to_the_last_bits_of_a_float32() -> None:
    rng = np.random.default_rng(1)
    some = [np.arange(5_000), rng.integers(0, 2**40, 3_000), rng.random(1_000) * 10, 2.0 ** np.arange(64)]
    for x in np.concatenate(some).astype(np.float32):
        exact = np.log1p(np.float64(x))
        assert abs(log1p(x) - exact) <= 2e-7 * max(exact, 1.0), x


def test_quantities_are_finished_as_their_features_say() -> None:
    columns = [Feature("a", "lots", 4.0, "signed_log"), Feature("b", "share", 2.0), Feature("c", "lots", 1.0)]
    raw = np.zeros(transforms(columns).shape[1], np.float32)
    raw[:3] = -999.0, 3.0, 77.0
    out = np.zeros(3, np.float32)
    assert finish(raw, out, transforms(columns)) == 1  # the 77
    np.testing.assert_allclose(out, [-np.log1p(999.0) / 4, 1.5, CLIP], rtol=1e-6)


@pytest.mark.parametrize("task", ["trade", "make", "execute"])
def test_values_stay_in_bounds_and_clipping_is_counted(tmp_path: Path, task: str) -> None:
    lanes = lanes_on(build(day_of("wide")), tmp_path, task, order_quantity=1, latency_ns=2 * NS)
    rng = np.random.default_rng(3)
    assert {(feature.low, feature.high) for feature in lanes.features} == {(-CLIP, CLIP)}
    for _ in range(EPISODE):
        before = lanes.episodes["clipped"].copy()
        out = observed(lanes)
        assert np.isfinite(out).all() and np.abs(out).max() <= CLIP
        assert (lanes.episodes["clipped"] - before <= (np.abs(out) == CLIP).sum(axis=1)).all()
        menu = len(lanes.task.menu)
        lanes.step(rng.integers(0, menu, LANES) if menu else rng.uniform(-1, 1, (LANES, 3)).astype(np.float32))


def test_a_clipped_feature_is_clipped_and_counted(tmp_path: Path) -> None:
    lanes = lanes_on(build(day_of("wide")), tmp_path)
    lanes.market.public.quote["position"][3] = -77 * LIMIT
    out = observed(lanes)
    column = [feature.name for feature in lanes.features].index("inventory")
    assert out[3, column] == -CLIP and lanes.episodes["clipped"].tolist() == [0, 0, 0, 1] + [0] * (LANES - 4)


@pytest.mark.parametrize("latency_ns", LATENCIES)
def test_nothing_after_the_decision_row_matters(tmp_path: Path, latency_ns: Any) -> None:
    """The rows after the decision are rewritten: another book, other prices, sums and times. Whoever comes to it by the same
    actions sees the same."""
    lanes = lanes_on(build(day_of("one tick")), tmp_path, latency_ns=latency_ns)
    actions = np.random.default_rng(5).integers(0, 11, (8, LANES))
    for number, action in enumerate(actions):
        observed(lanes)  # and masks
        lanes.step(action)
        if number not in (3, 7):
            continue
        before, mask = observed(lanes), lanes.mask.copy()
        for i in range(0, LANES, 3):
            row = int(lanes.market.public.lane["row"][i])  # own executions up to it are told at once
            future = {name: np.array(getattr(lanes.market.data, name)) for name in ("rows", "messages", "book", "links")}
            for array in future.values():
                array[row + 1 :] = array[::-1][: len(array) - row - 1]
            future["rows"]["time_ns"][row + 1 :] += NS
            twin = lanes_on(lanes.market.data, tmp_path, latency_ns=latency_ns)
            twin.market.data = read_only(replace(lanes.market.data, **future))
            twin.market._show_all()
            for earlier in actions[: number + 1]:
                observed(twin)
                twin.step(earlier)
            assert observed(twin)[i].tobytes() == before[i].tobytes() and (twin.mask[i] == mask[i]).all()
