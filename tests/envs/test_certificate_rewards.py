"""The other form of reward of certificates with risk aversion: increments of the certainty equivalent."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import emp_gym
from emp_gym.evaluation import optimal
from emp_gym.types import ConfigError

AVERSE = {"emp-avellaneda-stoikov-v0": "avellaneda-stoikov", "emp-glft-v0": "glft"}
assert emp_gym


def played(env_id: str, reward: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Rewards [T, N] and the summary of episodes 0 to 63 under quotes drawn from one generator."""
    env = gym.make_vec(env_id, num_envs=64, reward=reward, autoreset_mode="Disabled")
    env.reset(seed=0, options={"day": list(range(64))})
    rng, rewards = np.random.default_rng(5), []
    while True:
        _, reward_, terminated, _, info = env.step(rng.uniform(-0.9, -0.2, (64, 2)).astype(np.float32))
        rewards.append(reward_)
        if terminated.all():
            return np.stack(rewards), info["summary"]


@pytest.mark.parametrize("env_id", AVERSE)
def test_sums_of_certain_rewards_are_worth_the_utility_of_the_same_episodes(env_id: str) -> None:
    """Of each episode, `value` (utility with the mid's noise integrated out) is the utility of the sum of certain rewards:
    the two forms tell of the same thing, episode by episode."""
    gamma = optimal.problem(AVERSE[env_id]).risk_aversion  # type: ignore[attr-defined]
    own, told = played(env_id, "own")
    certain, other = played(env_id, "certain")
    assert not np.allclose(own, certain)
    for name in ("value", "pnl", "turnover", "day"):
        assert np.array_equal(told[name], other[name]), "only rewards and their sum differ"
    assert np.allclose(other["return"], certain.sum(axis=0))
    assert np.allclose(-np.expm1(-gamma * certain.sum(axis=0)) / gamma, other["value"], rtol=1e-9)


@pytest.mark.parametrize(
    ("problem", "least"), [("avellaneda-stoikov", 0.996), pytest.param("glft", 0.993, marks=pytest.mark.slow)]
)
def test_the_optimum_of_summed_certain_rewards_is_nearly_that_of_utility(problem: str, least: float) -> None:
    """A learner of the sum can come as near as this to the certificate's optimum."""
    exact: Any = optimal.problem(problem)
    cost = exact._noise_cost()

    class Summed(type(exact)):  # type: ignore[misc]
        aversion = 0.0

        def _noise_cost(self) -> np.ndarray:
            return cost

    summed = Summed(**{field.name: getattr(exact, field.name) for field in fields(exact)})
    assert least < exact.score(exact.evaluate(summed.optimal().policy)) < 1.0


def test_it_is_refused_where_there_is_no_risk_aversion() -> None:
    for env_id in ("emp-cartea-jaimungal-v0", "emp-ladder-trend-v0"):
        with pytest.raises(ConfigError, match="risk aversion"):
            gym.make_vec(env_id, num_envs=2, reward="certain")
    with pytest.raises(ConfigError, match=r"one of \['own', 'certain'\]"):
        gym.make_vec("emp-glft-v0", num_envs=2, reward="utility")
