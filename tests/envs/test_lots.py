"""Quantities that would wrap are refused with the bound, closings in a halt are said, levers that are no numbers are named."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

import emp_gym  # noqa: F401
from emp_gym.data.synthetic.day import DayConfig, write_day
from emp_gym.envs.trading_core import Lanes
from emp_gym.market import lots
from emp_gym.runs.backtest import Comparison
from emp_gym.types import ConfigError, TradingStatus
from tests.inside import market_of

SHORT = {"split": "all", "episode": "20 decisions"}
IDS = ("emp-lob-v0", "emp-lob-market-making-v0", "emp-lob-execution-v0")
TASK = {"emp-lob-v0": "trade", "emp-lob-market-making-v0": "make", "emp-lob-execution-v0": "execute"}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A small day with a halt of five minutes."""
    return str(write_day(tmp_path_factory.mktemp("day") / "day", DayConfig(seed=5, rows=4_000, halts=1)).message)


def largest(lanes: Lanes) -> int:
    return min(lots.most_lots(day, lots.highest_price(lanes.market.data, i)) for i, day in enumerate(lanes.market.public.rules))


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("quantity", [10**9, 10**12, 1 << 62, 1 << 64, 10**30])
def test_quantities_that_would_wrap_are_refused_with_the_bound(name, quantity, path):
    argument = "parent" if "execution" in name else "max_position"
    with pytest.raises(ConfigError, match=rf"{argument} must be at most [\d,]+.* got {quantity:,}"):
        gym.make(name, data=path, **SHORT, **{argument: quantity})
    with pytest.raises(ConfigError, match="must be at most"):
        gym.make_vec(name, num_envs=2, data=path, order_quantity=quantity, **SHORT, **{argument: quantity})


def test_the_largest_that_is_let_through_keeps_every_sum_exact(path):
    """Judged by Python's integers, which have no end."""
    small = Lanes("execute", 1, data=path, parent=100, split="all")
    most = largest(small) // 100 * 100
    with pytest.raises(ConfigError, match=f"at most {largest(small):,} "):
        Lanes("execute", 1, data=path, parent=(largest(small) // 100 + 1) * 100, order_quantity=100, split="all")
    lanes = Lanes("execute", 1, data=path, parent=most, order_quantity=most // 200 * 100, taker_fee_bps=0.3, episode="20 decisions",
                  split="all")  # fmt: skip
    lanes.seed(3)
    lanes.reset(np.zeros(1, np.int64))
    cash = fees = position = 0
    unit = int(lanes.market.public.rules["price_to_cash"][0])
    ended = np.zeros(1, bool)
    while not ended[0]:
        ended, _, _ = lanes.step(np.full(1, 4))
        fills = lanes.market.last_fills()
        for side, price, quantity, fee in zip(fills.side, fills.price, fills.quantity, fills.fee, strict=True):
            cash -= int(side) * int(price) * int(quantity) * unit + int(fee)
            fees, position = fees + int(fee), position + int(side) * int(quantity)
        lanes.settle_and_observe()
    view = lanes.market.view
    assert (int(view.cash[0]), int(view.fees[0]), int(view.position[0, 0])) == (cash, fees, position)
    assert abs(position) == most and abs(cash) < 1 << 63
    assert lanes.summary(np.zeros(1, np.int64))["pnl"][0] == pytest.approx(
        (2 * cash + position * int(lanes.episodes["arrival2"][0]) * unit) / 2e8, rel=1e-9
    )


@pytest.mark.parametrize("part", [1, 5])
@pytest.mark.parametrize("impact", ["none", "permanent"])
def test_an_episode_that_loses_more_than_64_bits_hold_is_ended_by_an_error_before_a_sum_wraps(path, part, impact):
    """Buys and sells all it may in turn, beyond the file; judged by Python's integers."""
    most = largest(Lanes("trade", 1, data=path, split="all")) // part // 100 * 100
    lanes = Lanes("trade", 1, data=path, split="all", order_quantity=most, max_position=most, impact=impact, every="1 messages",
                  episode="3000 decisions")  # fmt: skip
    lanes.seed(3)
    lanes.reset(np.zeros(1, np.int64))
    cash, unit = 0, int(lanes.market.days["price_to_cash"][0])
    with pytest.raises(ConfigError, match=r"lane 0: 64 bits hold cash of .*, got -.*; use a smaller max_position"):
        for _ in range(3_000):
            try:
                lanes.step(np.array([7 if lanes.market.state["position"][0] <= 0 else 8]))
            finally:
                fills = lanes.market.last_fills()
                for side, price, quantity, fee in zip(fills.side, fills.price, fills.quantity, fills.fee, strict=True):
                    cash -= int(side) * int(price) * int(quantity) * unit + int(fee)
                assert int(lanes.market.state["cash"][0]) == cash and abs(2 * cash) < 1 << 63
                equity2 = 2 * cash + int(lanes.market.state["position"][0]) * int(lanes.market.quote["mid2"][0, 0]) * unit
                assert int(lanes.market.view.equity2[0]) == equity2
            lanes.settle_and_observe()


def test_accounts_are_looked_at_as_seldom_as_their_quantities_allow(path):
    lanes = Lanes("trade", 1, data=path, split="all")
    most = largest(lanes)
    assert lanes._between_looks > 300
    assert Lanes("trade", 1, data=path, split="all", max_position=most // 100 * 100)._between_looks == 1


def test_usual_quantities_are_let_through_without_a_look_at_the_day(path, monkeypatch):
    monkeypatch.setattr(lots, "highest_price", None)
    for name in IDS:
        gym.make(name, data=path, **SHORT).close()
        gym.make(name, data=path, **SHORT, order_quantity=100, max_position=2_000).close()


def test_the_bound_follows_fees_and_the_worth_of_a_price_unit(path):
    day = Lanes("trade", 1, data=path, split="all").market.days[0].copy()
    price, before = 1_000_000, lots.most_lots(day, 1_000_000)
    assert before == (1 << 60) // (20 * price * int(day["price_to_cash"]))
    day["price_to_cash"] *= 10
    assert lots.most_lots(day, price) == before // 10
    day["taker_numerator"] = 100 * day["price_to_cash"]
    assert lots.most_lots(day, price) == pytest.approx(before / 1000, rel=1e-3)


# ------------------------------------------------------------------------------------------------------------------ halts


def closing(path: str, offset: int, action: int, **keywords: object) -> tuple[dict, int]:
    """Summary of a short episode that begins `offset` rows before the halt, and the status of its last row."""
    env = gym.make("emp-lob-v0", data=path, split="all", every="1 messages", episode="5 decisions", **keywords)
    tape = env.unwrapped.tape_set
    halt = int(np.flatnonzero(tape.rows["status"] == TradingStatus.HALTED)[0])
    env.reset(seed=0, options={"day": 0, "start": halt - offset})
    over, info = False, {}
    while not over:
        _, _, terminated, truncated, info = env.step(action)
        over = terminated or truncated
    row = int(market_of(env).public.lane["row"][0])
    env.close()
    return info["summary"], int(tape.rows["status"][row])


def test_an_episode_that_closes_in_a_halt_says_so(path):
    summary, status = closing(path, 5, action=7)  # buys until the halt
    assert status != TradingStatus.TRADING and summary["max_inventory"] > 0 and summary["closed_halted"] == 1


def test_one_that_holds_nothing_or_ends_before_the_halt_does_not(path):
    summary, status = closing(path, 5, action=0)
    assert status != TradingStatus.TRADING and summary["closed_halted"] == 0
    summary, status = closing(path, 60, action=7)
    assert status == TradingStatus.TRADING and summary["max_inventory"] > 0 and summary["closed_halted"] == 0


def test_lanes_say_it_each_for_itself(path):
    env = gym.make_vec("emp-lob-v0", num_envs=2, data=path, split="all", every="1 messages", episode="5 decisions",
                       autoreset_mode="Disabled")  # fmt: skip
    halt = int(np.flatnonzero(env.unwrapped.tape_set.rows["status"] == TradingStatus.HALTED)[0])
    env.reset(seed=0, options={"day": [0, 0], "start": [halt - 60, halt - 5]})
    info: dict = {}
    for _ in range(5):
        *_, info = env.step(np.full(2, 7))
    assert info["summary"]["closed_halted"].tolist() == [0, 1]
    env.close()


def test_a_report_says_how_many_episodes_closed_in_a_halt():
    from dataclasses import replace

    from judged import judged

    from emp_gym.reports.preface import _halted

    comparison = judged().comparison
    assert "closed_halted" in comparison.agent.episodes

    def of(episodes: dict) -> Comparison:
        return replace(comparison, rows=[replace(comparison.agent, episodes=episodes)])

    none = {**comparison.agent.episodes, "closed_halted": np.zeros((1, 8))}
    two = {**none, "closed_halted": np.array([[0, 1, 0, 0, 1, 0, 0, 0.0]])}
    assert _halted(of(none)) == ""
    text = _halted(of(two))
    assert text.startswith("2 of 8 episodes of random ended while trading was halted")
    assert _halted(of({})) == ""


# ----------------------------------------------------------------------------------------------------------------- levers


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_levers_that_are_no_numbers_are_named_with_their_lane(wrong, path):
    env = gym.make_vec("emp-lob-market-making-v0", num_envs=4, data=path, **SHORT)
    env.reset(seed=0)
    actions = np.full((4, 3), 0.5, np.float32)
    env.step(actions)
    actions[2, 1] = wrong
    with pytest.raises(ConfigError, match=rf"got \[0.5, {wrong:g}, 0.5\] \(number 1\) for lane 2"):
        env.step(actions)
    env.close()
    alone = gym.make("emp-lob-market-making-v0", data=path, **SHORT)
    alone.reset(seed=0)
    with pytest.raises(ConfigError, match=rf"got \[{wrong:g}, 0, {wrong:g}\] \(number 0, 2\) for lane 0"):
        alone.unwrapped.step(np.array([wrong, 0, wrong], np.float32))
    with pytest.raises(ConfigError, match=r"shape \(3,\), got shape \(2,\)"):
        alone.unwrapped.step(np.zeros(2, np.float32))
    with pytest.raises(ConfigError, match="must be numbers"):
        alone.unwrapped.step("abc")
    alone.close()
