"""Searching again, nearer: among continuous actions the mean of what was found comes to the top of a lopsided value."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from emp_gym.agents.muzero.actions import BoxActions, DiscreteActions
from emp_gym.agents.muzero.planning import Planner
from emp_gym.agents.muzero.search import SearchConfig

COST = 0.6


def gain(offset: Any) -> Any:
    """What a quote at an offset in [0, 4] makes: it is filled with chance exp(-offset) and then earns offset - COST. Its top is at 1 +
    COST; a step nearer loses more than a step away."""
    return (-offset).exp() * (offset - COST)


class OneQuote:
    """Networks that know it: no state, one step."""

    private = market = 0
    shape = SimpleNamespace(codes=1)

    def represent(self, observation: torch.Tensor) -> torch.Tensor:
        return observation[:, :0]

    def predict(self, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(len(state), 2), torch.zeros(len(state))

    def afterstate(self, state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return action

    def outcome(self, after: torch.Tensor, code: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return after[:, :0], gain(2 * after[:, 0] + 2), torch.full((len(after),), 50.0)

    def account_after(self, after: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        return after[:, :0]

    def reward_of(self, numbers: torch.Tensor) -> torch.Tensor:
        return numbers

    value_of = reward_of


def found(rounds: int) -> float:
    """The offset that is found, starting at 2."""
    levers = BoxActions(spaces.Box(-1.0, 1.0, (1,), np.float32), 64, 64, 1.0, 0.25, 0.6)
    levers.draw(None)
    planner = Planner(OneQuote(), levers, 1.0)  # type: ignore[arg-type]
    config = SearchConfig(simulations=0, q_floor=1e-6)
    result, policy = planner.plan(torch.zeros(1, 1), config, rounds=rounds)
    return 2 * float(levers.best(policy, result)) + 2


def test_searching_again_comes_nearer_to_the_top() -> None:
    top = 1 + COST
    distance = [abs(found(rounds) - top) for rounds in (1, 2, 6)]
    assert distance[0] > 0.1 and distance[1] < 0.6 * distance[0] and distance[2] < 0.02


def test_in_a_menu_there_is_nothing_between() -> None:
    assert DiscreteActions(spaces.Discrete(3)).nearer(torch.zeros(2, 3), None) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("rounds", [1, 3])
def test_new_candidates_are_as_wide_as_ever(rounds: int) -> None:
    levers = BoxActions(spaces.Box(-1.0, 1.0, (1,), np.float32), 8, 8, 1.0, 0.25, 0.6)
    levers.draw(None)
    before = levers.noise.clone()
    planner = Planner(OneQuote(), levers, 1.0)  # type: ignore[arg-type]
    planner.plan(torch.zeros(1, 1), SearchConfig(simulations=0, q_floor=1e-6), rounds=rounds)
    assert torch.equal(levers.noise, before / 2 ** (rounds - 1))
    levers.draw(None)
    assert torch.equal(levers.noise, before)
