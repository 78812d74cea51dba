"""The two ends of the scale on which a certificate measures: the optimal policy and the best naive one.

Both know the environment's problem and its exact state through `bind`, as oracles do: they are bars, not agents to trade.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from emp_gym.agents.base import BaseAgent
from emp_gym.envs.about import about
from emp_gym.types import F32, Bool, ConfigError


class ProblemPolicy(BaseAgent):
    """Acts as a policy of the environment's problem says, in the problem's own units."""

    _env: Any = None
    _policy: Any = None

    def bind(self, env: Any) -> None:
        """Reads problem and state of `env` from now on; raises `ConfigError` where its optimum is not known."""
        problem, env = about(env).problem, env.unwrapped
        if problem is None:
            where = self.env_id or "this environment"
            raise ConfigError(
                f"{where} has no known optimum; certificates have one (emp-cartea-jaimungal-v0 and others)"
            )
        self._env, self._policy = env, self.choose(problem)

    def choose(self, problem: Any) -> Any:
        """The policy: (step [N], state [N, S]) -> action [N, A]."""
        raise NotImplementedError

    def act(self, observation: F32, state: Any, mask: Bool | None = None) -> tuple[np.ndarray, Any]:
        if self._env is None:
            raise ConfigError("an oracle must be bound to its environment first: agent.bind(env)")
        action = self._policy(*self._env.truth())
        if isinstance(self.action_space, spaces.Discrete) and action.shape[1] > 1:  # probabilities: a mixed policy
            below = action.cumsum(axis=1) <= self._env.chances()[:, None]
            action = np.minimum(below.sum(axis=1, keepdims=True), action.shape[1] - 1)
        return self._env.encode(action), state


class Optimal(ProblemPolicy):
    """The policy of the exact dynamic programme: the 1 of the score."""

    def choose(self, problem: Any) -> Any:
        return problem.optimal().policy


class Naive(ProblemPolicy):
    """The best of the problem's simple policies: the 0 of the score."""

    def choose(self, problem: Any) -> Any:
        return problem.naive()[problem.base()[0]]
