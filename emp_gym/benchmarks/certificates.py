"""Speed of the certificates: random actions through ``gym.make_vec``, observation and reward included, one core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from emp_gym.benchmarks.figures import Effort, Figures, rates, say
from emp_gym.envs import CERTIFICATES

ACTIONS = 16  # different draws of actions, used in turn


def measure(figures: Figures, effort: Effort, data: Sequence[str] | None = None) -> None:
    """Adds env-steps/s of every certificate at the main number of lanes. `data` is of no meaning here."""
    for env_id in CERTIFICATES:
        work = _Random(env_id, effort.many)
        for _ in range(3):
            work()
        figures.add(f"{env_id}, {effort.many} lanes, 1 core", rates(work, effort), "env-steps/s")
    say("mbt_gym, the peer with such environments, is in no package registry: it is not measured here")


class _Random:
    """Steps of one environment under random actions."""

    def __init__(self, env_id: str, lanes: int) -> None:
        self.env = gym.make_vec(env_id, num_envs=lanes)
        self.lanes = lanes
        self.env.reset(seed=0, options={"stagger": True})
        self.env.action_space.seed(0)
        self.actions: list[Any] = [np.asarray(self.env.action_space.sample()) for _ in range(ACTIONS)]

    def __call__(self) -> float:
        for actions in self.actions:
            self.env.step(actions)
        return float(self.lanes * ACTIONS)
