"""Baselines do what their sources say, on observations made by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from emp_gym.agents import baselines, schedules
from emp_gym.agents.baselines import AT_TOUCH, AvellanedaStoikov, Hold, Oracle, OrderFlowTaker, Random, Symmetric
from emp_gym.agents.schedules import KEEP, TAKE_ONE, TAKE_TWO, TWAP, VWAP, curves
from emp_gym.types import ConfigError, Feature

BOX3 = spaces.Box(-1.0, 1.0, (3,), np.float32)


def build(cls: Any, action_space: Any, features: list[Feature], **config: Any) -> Any:
    spec = SimpleNamespace(id="by-hand-v0", features=tuple(features), kwargs={})
    return cls(spaces.Box(-10, 10, (len(features),), np.float32), action_space, spec, seed=0, **config)


def rows(*values: list[float]) -> np.ndarray:
    return np.array(values, np.float32)


def test_hold_never_trades() -> None:
    assert (build(Hold, spaces.Discrete(11), []).act(np.zeros((3, 0), np.float32), None)[0] == 0).all()
    action, _ = build(Hold, BOX3, []).act(np.zeros((3, 0), np.float32), None)
    assert (action[:, 2] == -1).all(), "size -1 withdraws"


def test_symmetric_quotes_at_the_touch_unless_masked() -> None:
    agent = build(Symmetric, spaces.Discrete(11), [])
    mask = np.ones((2, 11), bool)
    mask[1, 1] = False
    assert agent.act(np.zeros((2, 0), np.float32), None, mask)[0].tolist() == [1, 0]
    assert np.array_equal(build(Symmetric, BOX3, []).act(np.zeros((1, 0), np.float32), None)[0][0], AT_TOUCH)
    with pytest.raises(ConfigError, match="quote both"):
        build(Symmetric, spaces.Discrete(1), [])


def test_random_is_uniform_over_what_is_allowed() -> None:
    agent = build(Random, spaces.Discrete(4), [])
    mask = np.tile(np.array([True, False, True, True]), (5000, 1))
    state, counts = agent.initial_state(5000), np.zeros(4)
    for _ in range(4):
        action, state = agent.act(np.zeros((5000, 0), np.float32), state, mask)
        counts += np.bincount(action, minlength=4)
    assert counts[1] == 0 and np.abs(counts[[0, 2, 3]] / counts.sum() - 1 / 3).max() < 0.01


def test_random_fills_the_box_and_differs_between_episodes() -> None:
    agent = build(Random, BOX3, [])
    state = agent.initial_state(4000)
    first, _ = agent.act(np.zeros((4000, 0), np.float32), state)
    assert np.abs(first.mean(axis=0)).max() < 0.05 and first.min() < -0.99 and first.max() > 0.99
    again, _ = agent.act(np.zeros((4000, 0), np.float32), agent.reset_state(state, np.ones(4000, bool)))
    assert not np.array_equal(first, again)


def test_order_flow_taker_enters_holds_and_leaves() -> None:
    features = [Feature("ofi_long", "lots"), Feature("inventory", "share")]
    agent = build(OrderFlowTaker, spaces.Discrete(11), features, enter=1.0, hold=3)
    state = agent.initial_state(1)
    seen = []
    for flow, inventory in [
        (0.5, 0.0),
        (2.0, 0.0),
        (2.0, 0.2),
        (0.0, 0.2),
        (0.0, 0.2),
        (0.0, 0.2),
        (-2.0, 0.0),
        (2.0, -0.2),
    ]:
        action, state = agent.act(rows([flow, inventory]), state)
        seen.append(int(action[0]))
    assert seen == [0, baselines.BUY, 0, 0, 0, baselines.FLATTEN, baselines.SELL, baselines.FLATTEN]


class Planted:
    """An environment that tells the truth."""

    def __init__(self, signal: list[float]) -> None:
        self.unwrapped = self
        self.signal = signal

    def truth(self) -> Any:
        return np.array(self.signal, np.float32), np.zeros(len(self.signal), np.int8)


def test_oracle_follows_the_planted_sign() -> None:
    agent = build(Oracle, spaces.Discrete(11), [Feature("inventory", "share")], enter=0.3)
    agent.bind(Planted([0.9, -0.9, 0.1, -0.9, -0.1]))
    action, _ = agent.act(rows([0.0], [0.0], [0.0], [0.4], [0.4]), None)
    assert action.tolist() == [baselines.BUY, baselines.SELL, 0, baselines.FLATTEN, baselines.FLATTEN]


def test_an_unbound_oracle_says_so() -> None:
    agent = build(Oracle, spaces.Discrete(11), [Feature("inventory", "share")])
    with pytest.raises(ConfigError, match="bind"):
        agent.act(rows([0.0]), None)


def test_avellaneda_stoikov_by_hand() -> None:
    """gamma 0.1, k 1.5, sigma 2 ticks, T - t = 1/2, q = 1/2: r - s = -0.1, half-spread = 0.1 + ln(1 + 1/15) / 0.1."""
    features = [
        Feature("inventory", "share"),
        Feature("elapsed", "share"),
        Feature("spread", "half ticks"),
        Feature("volatility_long", "ticks"),
    ]
    agent = build(AvellanedaStoikov, BOX3, features, risk_aversion=0.1, decay=1.5)
    action, _ = agent.act(rows([0.5, 0.5, 1.0, 2.0]), None)
    half = 0.5 * 0.1 * 4 * 0.5 + np.log(1 + 0.1 / 1.5) / 0.1
    assert action[0, 0] == pytest.approx(2 * (half - 0.25) / 10 - 1, abs=1e-6)
    assert action[0, 1] == pytest.approx(-0.5 * 0.1 * 4 * 0.5 / 10, abs=1e-6)
    assert action[0, 2] == 1


def test_a_missing_feature_is_named() -> None:
    with pytest.raises(ConfigError, match="did you mean ofi_lon"):
        build(OrderFlowTaker, spaces.Discrete(11), [Feature("ofi_lon", "lots"), Feature("inventory", "share")])


EXECUTION = [
    Feature("parent_left", "share"),
    Feature("elapsed", "share"),
    Feature("time_of_day", "share"),
    Feature("volume_step", "lots"),
]


def test_twap_takes_what_is_due_and_no_more() -> None:
    agent = build(TWAP, spaces.Discrete(6), EXECUTION)
    left_and_elapsed = rows([1.0, 0.0, 0, 0], [0.9, 0.05, 0, 0], [0.9, 0.1, 0, 0], [1.0, 0.15, 0, 0], [0.1, 0.85, 0, 0])
    assert agent.act(left_and_elapsed, None)[0].tolist() == [TAKE_ONE, KEEP, TAKE_ONE, TAKE_TWO, KEEP]


def test_vwap_follows_its_curve() -> None:
    agent = build(VWAP, spaces.Discrete(6), EXECUTION, buckets=1, points=2)
    assert agent.act(rows([0.9, 0.05, 0.5, 0]), agent.initial_state(1))[0].tolist() == [KEEP], (
        "without learning it is TWAP"
    )
    agent.restore({"curve": np.array([[0.0, 0.9, 1.0]])})
    assert agent.act(rows([0.9, 0.1, 0.5, 0]), agent.initial_state(1))[0].tolist() == [TAKE_ONE]
    assert agent.act(rows([0.15, 0.45, 0.5, 0]), agent.initial_state(1))[0].tolist() == [KEEP]


def test_volume_curves() -> None:
    found = curves(np.array([[1.0, 3.0], [0.0, 0.0]]))
    assert np.allclose(found, [[0, 0.25, 1], [0, 0.25, 1]], atol=1e-3)


def test_defaults_equal_the_environments() -> None:
    from emp_gym.envs.tasks import ExecuteParent, MakeMarket, TradeBook

    assert MakeMarket().max_offset == baselines.MAX_OFFSET
    assert (ExecuteParent().parent, ExecuteParent().order_quantity) == (schedules.PARENT, schedules.CLIP)
    named = {baselines.KEEP: "keep", baselines.QUOTE_BOTH: "quote both", baselines.BUY: "buy", baselines.SELL: "sell"}
    assert (
        all(TradeBook.menu[entry] == name for entry, name in named.items())
        and TradeBook.menu[baselines.FLATTEN] == "flatten"
    )
    execution = {
        schedules.KEEP: "keep",
        schedules.POST: "post",
        schedules.TAKE_ONE: "take one",
        schedules.TAKE_TWO: "take two",
    }
    assert all(ExecuteParent.menu[entry] == name for entry, name in execution.items())
