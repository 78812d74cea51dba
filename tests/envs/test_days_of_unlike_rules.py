"""Days of unlike instruments in one set: each trades, shows and counts as it does alone, in whatever order they stand.

AAA is free, in dollars, for a whole session; BBB costs 30 bp and more a lot, in euros of another price unit, in lots of 100, until
one o'clock. Whoever takes the first day's rules for all is wrong on one of them.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import emp_gym  # noqa: F401  (registers the ids)
from emp_gym.data.synthetic.day import DayConfig
from emp_gym.data.tape.tape_set import build
from emp_gym.envs.trading_core import Lanes
from emp_gym.types import CASH_UNITS, NS, ConfigError, Instrument, RequestType
from tests.market.duel import synthetic_day

HOUR = 3_600 * NS
AAA = Instrument("AAA")
BBB = Instrument(
    "BBB", lot=100, price_unit=1e-2, currency="EUR", maker_fee_bps=-1.0, taker_fee_bps=30.0, maker_fee_per_lot=0.001,
    taker_fee_per_lot=0.0035, session_start_ns=9 * HOUR, session_end_ns=13 * HOUR, timezone="Europe/Berlin",
)  # fmt: skip
IDS = ("emp-lob-v0", "emp-lob-market-making-v0", "emp-lob-execution-v0")
SETTINGS = {"split": "all", "every": "10 messages", "episode": "12 decisions", "info": "full", "latency_ns": 200_000}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("days")
    found = {}
    for seed, own in ((31, AAA), (32, BBB)):
        day = replace(synthetic_day(DayConfig(seed=seed, rows=3_000)), instrument=own)
        found[own.symbol] = str(build(day).save(folder / f"{own.symbol}.tape"))
    return found


def lanes_of(lanes: int, **arguments: Any) -> Lanes:
    return Lanes("trade", lanes, split="all", every="10 messages", episode="12 decisions", **arguments)


def number_of(env: Any, symbol: str) -> int:
    return next(i for i, day in enumerate(env.unwrapped.tape_set.info) if day.instrument.symbol == symbol)


def plain(values: Any) -> Any:
    """Nested lists of numbers, which compare whole."""
    if isinstance(values, np.ndarray) and values.dtype != object:
        return values.tolist()
    return [plain(value) for value in values] if isinstance(values, list | tuple | np.ndarray) else values


def episodes(env_id: str, data: list[str], symbol: str, **more: Any) -> Iterator[Any]:
    """All that an environment gives of pinned episodes on the day of `symbol`, as plain values."""
    env = gym.make_vec(env_id, num_envs=4, data=data, **SETTINGS, autoreset_mode="Disabled", **more)
    day, random = number_of(env, symbol), np.random.default_rng(5)
    observation, info = env.reset(seed=3, options={"day": day, "start": [100, 700, 1_300, 1_900]})
    space = env.single_action_space
    for _ in range(12):
        view = env.unwrapped.view
        yield observation.tolist(), view.equity2.tolist(), view.price_to_cash.tolist(), view.time_utc_ns.tolist(), view.tick.tolist()
        actions = random.integers(0, space.n, 4) if hasattr(space, "n") else random.uniform(-1, 1, (4, *space.shape)).astype("f4")
        observation, reward, terminated, truncated, info = env.step(actions)
        own = {name: plain(value) for name, value in info.items() if name != "summary"}
        summary = {name: np.asarray(value).tolist() for name, value in info.get("summary", {}).items() if "day" not in name}
        yield reward.tolist(), terminated.tolist(), truncated.tolist(), own, summary
        if (terminated | truncated).any():
            break
    env.close()


@pytest.mark.parametrize("env_id", IDS)
def test_a_day_among_others_gives_to_the_bit_what_it_gives_alone(env_id: str, paths: dict[str, str]) -> None:
    both = [paths["AAA"], paths["BBB"]]
    for symbol in ("AAA", "BBB"):
        alone = list(episodes(env_id, [paths[symbol]], symbol))
        for data in (both, both[::-1]):
            assert list(episodes(env_id, data, symbol)) == alone


@pytest.mark.parametrize("first", ["AAA", "BBB"])
def test_each_day_pays_its_own_fees_in_its_own_money(first: str, paths: dict[str, str]) -> None:
    env = gym.make("emp-lob-v0", data=sorted(paths.values(), reverse=first == "BBB"), split="all", every="10 messages")
    paid = {}
    for symbol in ("AAA", "BBB"):
        env.reset(seed=1, options={"day": number_of(env, symbol), "start": 500})
        env.step(7)  # buys 100 lots at the market
        fills, view = env.unwrapped.last_fills, env.unwrapped.view
        paid[symbol] = int(fills.fee.sum())
        amount = sum(int(p) * int(q) for p, q in zip(fills.price, fills.quantity))
        unit = {"AAA": 10_000, "BBB": 1_000_000}[symbol]
        assert view.price_to_cash.tolist() == [[unit]] and int(view.cash[0]) == -amount * unit - paid[symbol]
        assert fills.instrument.dtype == np.int32 and not fills.instrument.any()
        if symbol == "BBB":  # 30 bp of the notional, each fill rounded up to 1e-8, and 0.0035 a lot
            each = [-(-int(p) * int(q) * unit * 30 // 10_000) for p, q in zip(fills.price, fills.quantity)]
            assert paid["BBB"] == sum(each) + 100 * 350_000
    assert paid["AAA"] == 0 < paid["BBB"]
    env.close()


def test_the_time_of_day_is_a_share_of_each_days_own_session(paths: dict[str, str]) -> None:
    env = gym.make("emp-lob-v0", data=list(paths.values()), split="all")
    at = [feature.name for feature in env.unwrapped.lanes.features].index("time_of_day")
    for own in (AAA, BBB):
        observation, _ = env.reset(seed=0, options={"day": number_of(env, own.symbol), "start": 1_000})
        elapsed = int(env.unwrapped.view.time_ns[0]) - own.session_start_ns
        assert observation[at] == np.float32(elapsed / (own.session_end_ns - own.session_start_ns))


def test_a_view_says_when_it_is_in_utc(paths: dict[str, str]) -> None:
    env = gym.make_vec("emp-lob-v0", num_envs=2, data=list(paths.values()), split="all")
    days = [number_of(env, symbol) for symbol in ("AAA", "BBB")]
    env.reset(seed=0, options={"day": days, "start": 10})
    view, info = env.unwrapped.view, env.unwrapped.tape_set.info
    for lane, (day, zone_hours) in enumerate(zip(days, (-5, 1))):  # a winter date in New York and in Berlin
        date = datetime.fromisoformat(info[day].date).replace(tzinfo=UTC)
        assert date.month in (1, 2, 12), "else the hours to UTC are others"
        midnight = int(date.timestamp() - zone_hours * 3_600) * NS
        assert int(view.midnight_utc_ns[lane]) == midnight == info[day].midnight_utc_ns
        assert int(view.time_utc_ns[lane]) == midnight + int(view.time_ns[lane])
    assert view.midnight_utc_ns.shape == (2,) and view.price_to_cash.shape == view.tick.shape == (2, 1)


def test_pictures_show_the_prices_and_the_currency_of_the_lanes_own_day(paths: dict[str, str]) -> None:
    env = gym.make("emp-lob-v0", data=list(paths.values()), split="all", render_mode="ansi")
    for own in (AAA, BBB):
        env.reset(seed=0, options={"day": number_of(env, own.symbol), "start": 1_000})
        text, best = env.render(), int(env.unwrapped.view.ask_price[0, 0, 0])
        assert text.startswith(own.symbol) and f"{own.currency}\n" in text and f"{best * own.price_unit:.4f}" in text
        assert env.unwrapped._trail.ask == [best * own.price_unit]


def test_an_order_must_be_a_multiple_of_every_days_lot(paths: dict[str, str]) -> None:
    for data in (list(paths.values()), list(paths.values())[::-1]):
        with pytest.raises(ConfigError, match=r"that of BBB .* is 100, got 50$"):
            lanes_of(1, data=data, order_quantity=50)
    assert lanes_of(1, data=[paths["AAA"]], order_quantity=50)


def test_limits_in_money_need_days_of_one_currency(paths: dict[str, str], tmp_path: Path) -> None:
    risk = {"gate": "risk", "limits": {"order": {"max_quantity": 900}}}
    with pytest.raises(ConfigError, match=r"RiskGate are money of one currency and price unit, but the days are of .*AAA USD"):
        lanes_of(1, data=list(paths.values()), gates=[risk])
    fall = {"gate": "kill-switch", "scope": "lane", "drawdown": 10}
    with pytest.raises(ConfigError, match="KillGate are money of one currency"):
        lanes_of(1, data=list(paths.values()), gates=[fall])
    assert lanes_of(1, data=[paths["BBB"]], gates=[risk, fall])
    assert lanes_of(1, data=list(paths.values()), gates=[{"gate": "kill-switch", "scope": "lane", "stale_ms": 9}])


# ------------------------------------------------------------------------------------------------------------------- options


def fees_of(own: Any) -> tuple[int, int]:
    """(maker, taker) of one lot at a price of 1, in cash units."""
    return own["maker_per_lot"], own["taker_per_lot"]


def test_fees_per_lot_are_arguments_and_stand_over_the_instruments(paths: dict[str, str]) -> None:
    lanes = lanes_of(1, data=list(paths.values()), taker_fee_per_lot=0.005)
    assert {tuple(map(int, fees_of(own))) for own in lanes.market.public.rules} == {(0, 500_000), (100_000, 500_000)}
    with pytest.raises(ConfigError, match=r"taker_fee_per_lot must be a multiple of 1e-8 USD, got 1e-09"):
        lanes_of(1, data=[paths["AAA"]], taker_fee_per_lot=1e-9)
    with pytest.raises(ConfigError, match="did you mean 'taker_fee_per_lot'"):
        lanes_of(1, data=[paths["AAA"]], taker_fee_per_lots=1)


def test_an_instrument_is_an_argument_as_mapping_or_file(paths: dict[str, str], tmp_path: Path) -> None:
    said = {"AAA": {"taker_fee_per_lot": 0.0035, "lot": 100}}
    (tmp_path / "own.json").write_text(json.dumps({"instrument": said}))
    tapes = [lanes_of(1, data=list(paths.values()), instrument=given).tape for given in (said, str(tmp_path / "own.json"))]
    assert tapes[0].info == tapes[1].info and {day.instrument.lot for day in tapes[0].info} == {100}
    env = gym.make("emp-lob-v0", data=[paths["AAA"]], split="all", every="10 messages", instrument=said)
    env.reset(seed=1, options={"day": 0, "start": 500})
    env.step(7)
    assert int(env.unwrapped.last_fills.fee.sum()) == 100 * 350_000
    with pytest.raises(ConfigError, match="did you mean 'lot'"):
        gym.make("emp-lob-v0", data=[paths["AAA"]], instrument={"lots": 100})


def test_an_environment_that_was_pickled_keeps_its_rules(paths: dict[str, str]) -> None:
    lanes = lanes_of(2, data=[paths["AAA"]], instrument={"currency": "CHF", "taker_fee_bps": 2})
    again = pickle.loads(pickle.dumps(lanes))
    assert again.market.data.info == lanes.market.data.info and again.layout == lanes.layout
    assert again.layout != lanes_of(2, data=[paths["AAA"]]).layout, "a state of other rules is another state"


# ------------------------------------------------------------------------------------------------------------- ticks by price


@pytest.fixture(scope="module")
def dollar(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A day about 10,000 units, below which ticks are 1, from which on 100."""
    from tests.market.test_judge import day_of

    return str(build(day_of("through a dollar")).save(tmp_path_factory.mktemp("dollar") / "day.tape"))


@pytest.mark.parametrize("task", ["trade", "make", "execute"])
def test_what_tasks_ask_for_is_valid_at_its_own_price(task: str, dollar: str) -> None:
    lanes = Lanes(task, 8, data=dollar, split="all", every="10 messages", episode="60 decisions", threads=1)
    own, random, everyone = lanes.market.data.info[0].instrument, np.random.default_rng(2), np.arange(8)
    lanes.seed(4)
    lanes.reset(everyone)
    out = np.empty((8, len(lanes.features)), np.float32)
    lanes.observe(everyone, out)
    seen: set[int] = set()
    for _ in range(150):
        menu = len(lanes.task.menu)
        actions = random.integers(0, menu, 8) if menu else random.uniform(-1, 1, (8, 3)).astype(np.float32)
        ended, _, _ = lanes.step(actions)
        kinds = np.isin(lanes.sent.kind, [RequestType.LIMIT, RequestType.REPLACE])
        for price in lanes.sent.price[kinds].tolist():
            assert price > 0 and price % own.tick_at(price) == 0
            seen.add(own.tick_at(price))
        view = lanes.market.view
        assert view.tick[:, 0].tolist() == [own.tick_at(int(mid2) // 2) for mid2 in view.mid2[:, 0]]
        lanes.settle_and_observe()
        if ended.any():
            lanes.reset(np.flatnonzero(ended))
            lanes.observe(np.flatnonzero(ended), out)
    assert seen == {1, 100}
    assert not lanes.market.public.lane["refused"].any()


def test_a_risk_gate_lets_pass_what_is_valid_at_its_own_price(dollar: str) -> None:
    limits = {"order": {"max_quantity": 900}}
    lanes = Lanes("trade", 4, data=dollar, split="all", every="10 messages", gates=[{"gate": "risk", "limits": limits}], threads=1)
    everyone, random = np.arange(4), np.random.default_rng(1)
    lanes.seed(1)
    lanes.reset(everyone)
    lanes.observe(everyone, np.empty((4, len(lanes.features)), np.float32))
    off_the_mids_tick = 0
    for _ in range(100):
        tick = lanes.market.view.tick.copy()
        lanes.step(random.integers(0, 7, 4))
        kinds = np.isin(lanes.orders.kind, [RequestType.LIMIT, RequestType.REPLACE])
        off_the_mids_tick += int((lanes.orders.price % tick)[kinds].astype(bool).sum())
        assert not lanes.verdicts[0].reason.any()
        lanes.settle_and_observe()
    assert off_the_mids_tick > 0, "or there was nothing to be seen"


def test_features_are_counted_in_the_tick_of_the_moment_and_rewards_in_that_of_the_start(dollar: str) -> None:
    lanes = Lanes("trade", 1, data=dollar, split="all", every="10 messages", episode="60 decisions", threads=1)
    one = np.zeros(1, np.int64)
    names = [feature.name for feature in lanes.features]
    ticks = set()
    for start in range(0, 2_400, 100):
        lanes.reset(one, {"day": 0, "start": start})
        out = np.empty((1, len(lanes.features)), np.float32)
        lanes.observe(one, out)
        view = lanes.market.view
        tick = int(view.tick[0, 0])
        ticks.add(tick)
        half_ticks = 2 * int(view.spread[0, 0]) / tick
        assert np.isclose(out[0, names.index("spread")], np.clip(np.log1p(half_ticks) / 2, -10, 10), rtol=1e-5)
        worth = 0
        for action in (7, 0, 0, 10):
            lanes.step(np.array([action]))
            _, reward = lanes.settle_and_observe()
            before, worth = worth, int(view.equity2[0])
            assert np.isclose(reward[0], (worth - before) / (2 * 10_000 * tick * 100))
        assert view.price_to_cash[0, 0] == 10_000 and abs(worth) < 10**6 * CASH_UNITS
    assert ticks == {1, 100}
