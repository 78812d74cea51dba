"""Running sums over a day's messages that a feature brings: what is published is the sum up to what is shown, and to each look-back."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest

from emp_gym.market.base import MarketSpec, Recorded
from emp_gym.market.replay import REQUESTS, ReplayConfig, ReplayMarket
from emp_gym.types import ConfigError, MessageType, Orders

LOOKS = (7, 50)


def large(day: Recorded) -> np.ndarray:
    return (
        np.isin(day.messages["kind"], (MessageType.EXECUTE, MessageType.EXECUTE_HIDDEN)) & (day.messages["size"] >= 100)
    ).astype(np.int64)


SPEC = MarketSpec(5, split="all", every="20 messages", looks=LOOKS, sums={"large": large}, needs=frozenset({"large"}))
CONFIG = ReplayConfig("synthetic:rows=3000", latency_ns=(0, 2_000_000_000))


@pytest.fixture
def market() -> ReplayMarket:
    return ReplayMarket(SPEC, CONFIG)


def begin(market: ReplayMarket) -> None:
    lanes = np.arange(market.lanes)
    market.reset(lanes, *market.starts.draw(lanes, lanes.astype(np.uint64)))


def expected(market: ReplayMarket) -> np.ndarray:
    """By hand, message by message."""
    found, data = np.zeros((market.lanes, 1, 1 + len(LOOKS)), np.int64), market.data
    for lane, (day, seen) in enumerate(zip(market.public.lane["day"], market.public.lane["seen_row"])):
        own = data.messages[data.day_slice(int(day))]
        counted = [
            row
            for row in range(seen + 1)
            if own["kind"][row] in (MessageType.EXECUTE, MessageType.EXECUTE_HIDDEN) and own["size"][row] >= 100
        ]
        for w, look in enumerate((0, *LOOKS)):
            found[lane, 0, w] = sum(row <= max(seen - look, 0) for row in counted)
    return found


def test_a_sum_is_that_up_to_the_shown_row_and_to_each_look_back(market: ReplayMarket) -> None:
    begin(market)
    assert (market.view.named["large"] == expected(market)).all()
    for step in range(8):
        market.active[:] = np.arange(5) != step % 5
        still = market.named["large"][step % 5].copy()
        market.advance(Orders.empty(5, REQUESTS))
        assert (market.view.named["large"] == expected(market)).all() and (market.named["large"][step % 5] == still).all()
    assert market.view.named["large"].max() > 0 and not market.view.named["large"].flags.writeable


def test_copies_and_states_have_their_sums_without_the_function(market: ReplayMarket) -> None:
    lambdas = ReplayMarket(replace(SPEC, sums={"large": lambda day: large(day)}), CONFIG)
    begin(lambdas)
    lambdas.advance(Orders.empty(5, REQUESTS))
    market.restore(market.checked({name: array.copy() for name, array in lambdas.kept("here").items()}, "here"))
    for twin in (copy.deepcopy(lambdas), pickle.loads(pickle.dumps(lambdas)), market):
        assert (twin.view.named["large"] == lambdas.view.named["large"]).all()
        assert not np.shares_memory(twin.named["large"], lambdas.named["large"])
        twin.advance(Orders.empty(5, REQUESTS))
        assert (twin.view.named["large"] == expected(twin)).all()


def test_what_nobody_publishes_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"ReplayMarket publishes no array 'larg'; it has \['large'\]; did you mean 'large'"):
        ReplayMarket(replace(SPEC, needs=frozenset({"larg"})), CONFIG)
    with pytest.raises(ConfigError, match="'ohlcv'; it has none"):
        ReplayMarket(MarketSpec(1, needs=frozenset({"ohlcv"})), CONFIG)


def test_a_sum_of_another_shape_is_refused_by_its_name() -> None:
    for wrong in (lambda day: np.zeros(3, np.int64), lambda day: np.zeros(len(day.rows)), lambda day: 5):
        with pytest.raises(ConfigError, match="running sum 'large'"):
            ReplayMarket(replace(SPEC, sums={"large": wrong}), CONFIG)
