"""Kernel = judge, to the last lot: random lanes on synthetic and damaged days, under every assumption."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emp_gym.data.synthetic.day import DayConfig
from emp_gym.data.tape.tape_set import TapeSet, build
from emp_gym.types import NS, RecordedDay
from tests.market.duel import (
    Duel,
    Request,
    Trader,
    damaged,
    merged,
    orders_of,
    read_only,
    synthetic_day,
    tape_of,
    walk,
)
from tests.market.on_tape import replaying
from tests.reference_market import Day, Judge, Rules

CONFIGS = {
    "one tick, thin": DayConfig(seed=3, rows=3_000, halts=1, thin=True, stressed=0.4),
    "wide tick": DayConfig(seed=4, rows=3_000, tick_regime="wide", halts=2, thin=True, levels=3),
    "one level": DayConfig(seed=5, rows=3_000, levels=1),
    "two levels, wide": DayConfig(seed=6, rows=3_000, levels=2, tick_regime="wide"),
    "wide tick, sides told": DayConfig(seed=9, rows=3_000, tick_regime="wide", hidden_side=True, date="2012-06-21"),
    "ten levels": DayConfig(seed=8, rows=3_000, levels=10, tick_regime="wide", stressed=0.6),
}
RULES = {
    "exact": Rules(every_rows=7),
    "touch, fees": Rules(fills="touch", every_rows=5, maker_fee_bps=-0.2, taker_fee_bps=0.3),
    "fees per lot": Rules(
        every_rows=5, half_life_ns=-1, maker_fee_per_lot=-0.0021, taker_fee_bps=0.3, taker_fee_per_lot=0.0035
    ),
    "optimistic": Rules(fills="optimistic", every_rows=5),
    "both latencies, resilient": Rules(order_latency_ns=20 * NS, feed_latency_ns=15 * NS, half_life_ns=30 * NS),
    "slow orders, permanent": Rules(
        every_rows=2, order_latency_ns=60 * NS, half_life_ns=-1, maker_fee_bps=-1.7, taker_fee_bps=2.5
    ),
    "by time": Rules(every_rows=0, every_ns=25 * NS, order_latency_ns=3 * NS, half_life_ns=5 * NS),
    "hidden prints": Rules(hidden_prints="fill", every_rows=5, order_latency_ns=NS, maker_fee_bps=-0.2),
    "hidden prints, touch": Rules(fills="touch", hidden_prints="fill", every_rows=7),
    "hidden prints, optimistic": Rules(fills="optimistic", hidden_prints="fill", every_rows=4),
    "every message": Rules(every_rows=1, half_life_ns=-1, taker_fee_bps=0.0001),
}


def through_a_dollar(day: RecordedDay) -> RecordedDay:
    """The day moved to where its median price is 10,000 units, below which prices may be one unit apart, not 100."""
    shift = 10_000 - int(np.median(day.price[day.kind <= 4])) // 100 * 100
    moved = {name: getattr(day, name) for name in ("price", "book_price")}
    moved = {name: np.where(np.abs(prices) < 1 << 33, np.maximum(prices + shift, 100), prices) for name, prices in moved.items()}
    book, size = moved["book_price"], day.book_size
    assert not ((book[:, :, 1:] == book[:, :, :-1]) & (size[:, :, 1:] > 0)).any(), "levels that fell together; take another seed"
    return replace(day, **moved, instrument=replace(day.instrument, tick=1, ticks=((0, 1), (10_000, 100))))


def day_of(name: str) -> RecordedDay:
    if name == "through a dollar":
        return through_a_dollar(synthetic_day(CONFIGS["wide tick"]))
    config, _, damage = name.partition("; ")
    day = synthetic_day(CONFIGS[config])
    return damaged(day, CONFIGS[config].seed) if damage else day


DAYS = [*CONFIGS, *(f"{name}; damaged" for name in CONFIGS)]


def conserved(duel: Duel, booked: list[np.ndarray]) -> int:
    """Cash, fees and position of every lane follow from the market's own fill log. Returns the fills of the step."""
    log, view = duel.market.last_fills(), duel.market.view
    amount = log.side * log.price * log.quantity * view.price_to_cash[log.lane, 0]
    for total, part in zip(booked, (-amount - log.fee, log.fee, log.side * log.quantity)):
        np.add.at(total, log.lane, part)
    assert (
        (view.cash == booked[0]).all() and (view.fees == booked[1]).all() and (view.position[:, 0] == booked[2]).all()
    )
    for i, judge in enumerate(duel.judges):
        mid2 = judge.day.rows[judge.seen].mid2
        assert int(view.equity2[i]) == 2 * judge.cash + judge.position * mid2 * int(view.price_to_cash[i, 0])
    return len(log.lane)


def play(day: RecordedDay, rules: Rules, *, lanes: int, steps: int, seed: int) -> tuple[int, int]:
    """(decisions, fills) that were compared."""
    booked = [np.zeros(lanes, np.int64) for _ in range(3)]
    decisions = fills = closing = 0
    for duel in walk(day, rules, lanes=lanes, steps=steps, seed=seed):
        if closing == duel.judges[0].decision:  # the close: its fills follow those of the last step in one log
            break
        closing = duel.judges[0].decision
        fills += conserved(duel, booked)
        decisions += lanes
    return decisions, fills


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("day", ["one tick, thin", "wide tick; damaged", "one level; damaged", "ten levels"])
def test_kernel_and_judge_agree_after_every_step(day: str, rules: str) -> None:
    decisions, fills = play(day_of(day), RULES[rules], lanes=6, steps=120, seed=len(day) + 7 * len(rules))
    assert decisions >= 240 and fills > 40


@pytest.mark.long
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("day", DAYS)
def test_kernel_and_judge_agree_over_many_steps(day: str, rules: str, seed: int) -> None:
    config, _, damage = day.partition("; ")
    made = synthetic_day(replace(CONFIGS[config], seed=1_000 + seed, rows=12_000))
    play(damaged(made, seed) if damage else made, RULES[rules], lanes=16, steps=600, seed=seed)


def test_the_view_is_the_judges_book() -> None:
    """Levels, sizes, aggressor volumes, status and mid at the row that may be seen."""
    rules = Rules(every_rows=9, feed_latency_ns=40 * NS)
    for duel in walk(day_of("one tick, thin"), rules, lanes=4, steps=60, seed=5):
        view = duel.market.view
        for i, judge in enumerate(duel.judges):
            now, before = judge.day.rows[judge.seen], judge.day.rows[judge.seen_before]
            shown = zip(view.bid_price[i, 0].tolist(), view.bid_size[i, 0].tolist())
            assert {price: size for price, size in shown if size} == now.book[1]
            shown = zip(view.ask_price[i, 0].tolist(), view.ask_size[i, 0].tolist())
            assert {price: size for price, size in shown if size} == now.book[-1]
            assert view.bought[i, 0] == now.bought - before.bought and view.sold[i, 0] == now.sold - before.sold
            assert (view.status[i, 0], view.mid2[i, 0], view.time_ns[i]) == (now.status, now.mid2, judge.time_ns)


def test_random_lanes_meet_everything_that_the_judge_knows() -> None:
    """The comparison is worth something: every kind of outcome and fill comes up in it."""
    seen: set[str] = set()
    outcomes: set[int] = set()
    for day, rules in (("one tick, thin", "both latencies, resilient"), ("wide tick; damaged", "exact")):
        for duel in walk(day_of(day), RULES[rules], lanes=8, steps=150, seed=2):
            outcomes |= set(duel.market.outcome.ravel().tolist())
            for judge in duel.judges:
                for fill in judge.fills:
                    row = judge.day.rows[fill.row]
                    seen.add("beyond" if fill.beyond else "taken" if not fill.maker else f"made by {int(row.kind)}")
                    if fill.maker and row.kind == 4:
                        seen.add("at the price" if row.price == fill.price else "through the price")
                prices = [(own.side, own.price) for own in judge.orders if own.live]
                seen |= {"shared level"} if len(set(prices)) < len(prices) else set()
                seen |= {"unknown place" for own in judge.orders if own.ahead < 0}
                seen |= {"spell out of sight" for own in judge.orders if own.level_left is not None}
                seen |= {"in flight" for own in judge.orders if not own.live}
    assert seen >= {
        "beyond", "taken", "made by 1", "made by 4", "at the price", "through the price", "shared level",
        "unknown place", "spell out of sight", "in flight",
    }  # fmt: skip
    assert outcomes == set(range(6))


# ---- one kernel, many ways to run it --------------------------------------------------------------------------------


def scripted(day: RecordedDay, rules: Rules, lanes: int, steps: int) -> list[list[list[Request]]]:
    """Requests [steps][lanes] of random traders, from judges alone (no kernel has a say in them)."""
    judged = Day(day)
    judges = [Judge(judged, rules, 20 * i, len(day.time_ns) - 1) for i in range(lanes)]
    traders = [Trader(i) for i in range(lanes)]
    script = []
    for _ in range(steps):
        script.append([trader.requests(judge) for trader, judge in zip(traders, judges)])
        for judge, requests in zip(judges, script[-1]):
            judge.step(requests)
    return script


def bytes_of_run(
    tape: TapeSet, script: list[list[list[Request]]], rules: Rules, threads: int = 1, day: int = 0
) -> Iterator[bytes]:
    """What the market shows after every step of a script."""
    lanes = len(script[0])
    market = replaying(tape, lanes, threads=threads, **vars(rules))
    end = int(tape.days[day]["rows"]) - 1
    market.reset(np.arange(lanes), np.full(lanes, day), 20 * np.arange(lanes), np.full(lanes, end))
    for requests in script:
        market.advance(orders_of(requests))
        shown = [np.ascontiguousarray(value) for value in vars(market.view).values() if isinstance(value, np.ndarray)]
        fills = [np.ascontiguousarray(array) for array in vars(market.last_fills()).values()]
        yield b"".join(array.tobytes() for array in [*shown, market.book, market.outcome, *fills])


def test_threads_change_nothing() -> None:
    day, rules = day_of("wide tick"), RULES["both latencies, resilient"]
    script = scripted(day, rules, lanes=7, steps=40)
    tape = tape_of(day)
    assert list(bytes_of_run(tape, script, rules)) == list(bytes_of_run(tape, script, rules, threads=2))


@pytest.mark.parametrize("rules", ["fees per lot", "both latencies, resilient"])
def test_a_stock_that_crosses_a_dollar_trades_on_the_tick_of_each_price(rules: str) -> None:
    day = day_of("through a dollar")
    mids = (day.book_price[:, 0, 0] + day.book_price[:, 1, 0]) // 2
    assert (mids > 10_000).mean() > 0.1 and (mids < 10_000).mean() > 0.1
    decisions, fills = play(day, RULES[rules], lanes=6, steps=200, seed=11)
    assert decisions >= 240 and fills > 40


def test_a_day_among_others_is_the_day_alone() -> None:
    first, day, rules = day_of("two levels, wide"), day_of("two levels, wide; damaged"), RULES["exact"]
    script = scripted(day, rules, lanes=3, steps=40)
    together = read_only(TapeSet.concatenate([build(first), build(day), build(first)]))
    alone = list(bytes_of_run(tape_of(day), script, rules))
    assert alone == list(bytes_of_run(together, script, rules, day=1))
    assert alone != list(bytes_of_run(together, script, rules, day=2))


def test_kernels_run_without_a_compiler_and_give_the_same_bytes(tmp_path: Path) -> None:
    rules = replace(RULES["both latencies, resilient"], maker_fee_bps=-0.7, taker_fee_bps=1.3)
    day = day_of("one tick, thin")
    script = scripted(day, rules, lanes=3, steps=50)
    build(day).save(tmp_path / "day.tape")
    (tmp_path / "script.json").write_text(json.dumps(script))
    compiled = hashlib.sha256(b"".join(bytes_of_run(TapeSet.open(tmp_path / "day.tape"), script, rules))).hexdigest()
    lines = f"""
import hashlib, json, pathlib
from emp_gym.data.tape.tape_set import TapeSet
from tests.market.test_judge import bytes_of_run, Rules
script = json.loads(pathlib.Path({str(tmp_path / "script.json")!r}).read_text())
tape = TapeSet.open({str(tmp_path / "day.tape")!r})
print(hashlib.sha256(b"".join(bytes_of_run(tape, script, {rules!r}))).hexdigest())
"""
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(root), "PYTHONWARNINGS": "error:::emp_gym"}
    run = subprocess.run([sys.executable, "-c", lines], cwd=root, env=environment, capture_output=True, text=True)
    assert run.stdout.strip() == compiled, run.stderr


def test_the_log_merges_parts_of_one_order_at_one_price() -> None:
    for duel in walk(day_of("one level"), Rules(every_rows=60), lanes=4, steps=30, seed=1):
        log = duel.market.last_fills()
        keys = list(
            zip(log.lane.tolist(), log.id.tolist(), log.price.tolist(), log.maker.tolist(), log.beyond_depth.tolist())
        )
        assert len(set(keys)) == len(keys) == sum(len(merged(judge)) for judge in duel.judges)
        assert (np.diff(log.lane) >= 0).all()
