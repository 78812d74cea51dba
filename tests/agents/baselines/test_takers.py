"""Takers enter, hold and leave as their sources say, on observations made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from by_hand import BUY, FLATTEN, KEEP, MENU, SELL, build, rows
from hypothesis import given
from hypothesis import strategies as st

from emp_gym.agents.baselines import MeanReversionTaker, Momentum, OrderFlowTaker
from emp_gym.types import ConfigError, Feature

FLOW = [Feature("ofi_long", "lots"), Feature("inventory", "share")]
MOVES = [
    Feature("return_long", "half ticks", 2.0, "signed_log"),
    Feature("volatility_long", "half ticks, root of summed squares", 2.0, "signed_log"),
    Feature("inventory", "share"),
]


def played(agent: Any, seen: list[list[float]]) -> list[int]:
    state, actions = agent.initial_state(1), []
    for row in seen:
        action, state = agent.act(rows(row), state)
        actions.append(int(action[0]))
    return actions


def published(move: float, volatility: float, inventory: float) -> list[float]:
    """A row of MOVES from quantities in their units."""
    return [float(np.sign(move) * np.log1p(abs(move)) / 2), float(np.log1p(volatility) / 2), inventory]


def test_order_flow_taker_enters_holds_and_leaves() -> None:
    agent = build(OrderFlowTaker, MENU, FLOW, enter=1.0, hold=3)
    seen = [[0.5, 0.0], [2.0, 0.0], [2.0, 0.2], [0.0, 0.2], [0.0, 0.2], [0.0, 0.2], [-2.0, 0.0], [2.0, -0.2]]
    assert played(agent, seen) == [KEEP, BUY, KEEP, KEEP, KEEP, FLATTEN, SELL, FLATTEN]


def test_momentum_follows_a_move_of_one_standard_deviation() -> None:
    agent = build(Momentum, MENU, MOVES, hold=2)
    seen = [(3.9, 4, 0), (4.1, 4, 0), (9, 4, 0.2), (3, 4, 0.2), (3, 4, 0.2), (-4.1, 4, 0), (4.1, 4, -0.2), (0, 0, 0)]
    assert played(agent, [published(*row) for row in seen]) == [KEEP, BUY, KEEP, KEEP, FLATTEN, SELL, FLATTEN, KEEP]


def test_mean_reversion_fades_two_standard_deviations_and_leaves_at_the_crossing() -> None:
    agent = build(MeanReversionTaker, MENU, MOVES, hold=50)
    seen = [
        (7.9, 4, 0),
        (8.1, 4, 0),
        (6, 4, -0.2),
        (0.5, 4, -0.2),
        (-0.5, 4, -0.2),
        (-8.1, 4, 0),
        (-1, 4, 0.2),
        (1, 4, 0.2),
    ]
    assert played(agent, [published(*row) for row in seen]) == [KEEP, SELL, KEEP, KEEP, FLATTEN, BUY, KEEP, FLATTEN]


def test_mean_reversion_gives_up_after_its_holding_time() -> None:
    agent = build(MeanReversionTaker, MENU, MOVES, hold=3)
    assert played(agent, [published(5, 4, -0.2)] * 4) == [KEEP, KEEP, FLATTEN, KEEP]


@given(st.floats(-40, 40), st.floats(0, 30))
def test_at_the_same_threshold_reversion_enters_against_momentum(move: float, volatility: float) -> None:
    seen = rows(published(move, volatility, 0.0))
    ahead, _ = build(Momentum, MENU, MOVES, enter=1.5).act(seen, np.zeros(1, np.int64))
    back, _ = build(MeanReversionTaker, MENU, MOVES, enter=1.5).act(seen, np.zeros(1, np.int64))
    assert {BUY: SELL, SELL: BUY, KEEP: KEEP}[int(ahead[0])] == int(back[0])


def test_a_missing_feature_is_named() -> None:
    with pytest.raises(ConfigError, match="did you mean ofi_lon"):
        build(OrderFlowTaker, MENU, [Feature("ofi_lon", "lots"), Feature("inventory", "share")])
