"""Hold, random, symmetric and the oracle do what they say, on observations made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from by_hand import BOX, BUY, EXECUTION, FLATTEN, MENU, SELL, build, rows
from gymnasium import spaces

from emp_gym.agents.baselines import Hold, Oracle, Random, Symmetric
from emp_gym.agents.baselines.action_layouts import AT_TOUCH
from emp_gym.types import ConfigError, Feature


def test_hold_never_trades() -> None:
    assert (build(Hold, MENU, []).act(np.zeros((3, 0), np.float32), None)[0] == 0).all()
    action, _ = build(Hold, BOX, []).act(np.zeros((3, 0), np.float32), None)
    assert (action[:, 2] == -1).all(), "size -1 withdraws"


def test_symmetric_quotes_at_the_touch_unless_masked() -> None:
    agent = build(Symmetric, MENU, [])
    mask = np.ones((2, 11), bool)
    mask[1, 1] = False
    assert agent.act(np.zeros((2, 0), np.float32), None, mask)[0].tolist() == [1, 0]
    assert np.array_equal(build(Symmetric, BOX, []).act(np.zeros((1, 0), np.float32), None)[0][0], AT_TOUCH)


def test_symmetric_refuses_the_execution_menu_whose_entry_1_means_something_else() -> None:
    with pytest.raises(ConfigError, match="Symmetric acts where actions quote both sides"):
        build(Symmetric, EXECUTION, [Feature("parent_left", "share")])


def test_random_is_uniform_over_what_is_allowed() -> None:
    agent = build(Random, spaces.Discrete(4), [])
    mask = np.tile(np.array([True, False, True, True]), (5000, 1))
    state, counts = agent.initial_state(5000), np.zeros(4)
    for _ in range(4):
        action, state = agent.act(np.zeros((5000, 0), np.float32), state, mask)
        counts += np.bincount(action, minlength=4)
    assert counts[1] == 0 and np.abs(counts[[0, 2, 3]] / counts.sum() - 1 / 3).max() < 0.01


def test_random_fills_the_box_and_differs_between_episodes() -> None:
    agent = build(Random, BOX, [])
    state = agent.initial_state(4000)
    first, _ = agent.act(np.zeros((4000, 0), np.float32), state)
    assert np.abs(first.mean(axis=0)).max() < 0.05 and first.min() < -0.99 and first.max() > 0.99
    again, _ = agent.act(np.zeros((4000, 0), np.float32), agent.reset_state(state, np.ones(4000, bool)))
    assert not np.array_equal(first, again)


class Planted:
    """An environment that tells the truth."""

    def __init__(self, signal: list[float]) -> None:
        self.unwrapped = self
        self.signal = signal

    def truth(self) -> Any:
        return np.array(self.signal, np.float32), np.zeros(len(self.signal), np.int8)


def test_oracle_follows_the_planted_sign() -> None:
    agent = build(Oracle, MENU, [Feature("inventory", "share")], enter=0.3)
    agent.bind(Planted([0.9, -0.9, 0.1, -0.9, -0.1]))
    action, _ = agent.act(rows([0.0], [0.0], [0.0], [0.4], [0.4]), None)
    assert action.tolist() == [BUY, SELL, 0, FLATTEN, FLATTEN]


def test_an_unbound_oracle_says_so() -> None:
    agent = build(Oracle, MENU, [Feature("inventory", "share")])
    with pytest.raises(ConfigError, match="bind"):
        agent.act(rows([0.0]), None)
