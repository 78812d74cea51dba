"""The cross-entropy method on polynomial policies, in numpy: it trains in a fraction of a second, and says what may be searched.

Rubinstein and Kroese, "The Cross-Entropy Method" (2004); Szita and Lőrincz, "Learning Tetris Using the Noisy Cross-Entropy Method" (2006).
``--agent cross_entropy:CrossEntropy`` with this folder on ``PYTHONPATH``; docs/search.md compares searches with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from gymnasium import spaces

from emp_gym.agents.base import Arrays, BaseAgent, Callback
from emp_gym.types import F32, F64, Bool, ConfigError, MakeEnv


@dataclass(frozen=True)
class CrossEntropyConfig:
    population: int = 32  # policies of an iteration
    rollouts: int = 2  # episodes that judge each of them
    elite: float = 0.2  # share of them that the next iteration is drawn around
    sigma: float = 0.5  # deviation of weights at the beginning
    rate: float = 0.7  # how far mean and deviation move towards the elite
    noise: float = 0.02  # the least deviation of weights
    degree: int = 1  # of the polynomial


class CrossEntropy(BaseAgent):
    """Actions are a polynomial of the observation; what is searched are its weights [K, A]. For `Box` actions."""

    Config = CrossEntropyConfig
    search_space = {
        "agent.population": {"low": 6, "high": 128, "log": True},
        "agent.rollouts": {"low": 1, "high": 16, "log": True},
        "agent.elite": {"low": 0.05, "high": 0.6},
        "agent.sigma": {"low": 0.03, "high": 3.0, "log": True},
        "agent.rate": {"low": 0.1, "high": 1.0},
        "agent.noise": {"low": 1e-3, "high": 0.5, "log": True},
        "agent.degree": [1, 2, 3],
    }

    def __init__(self, *arguments: Any, **config: Any) -> None:
        super().__init__(*arguments, **config)
        if not isinstance(self.action_space, spaces.Box):
            raise ConfigError(f"CrossEntropy takes Box actions, got {self.action_space}")
        columns = range(self.observation_space.shape[0])
        self._powers = [c for n in range(self.config.degree + 1) for c in combinations_with_replacement(columns, n)]
        self.weights: F64 = np.zeros((len(self._powers), *self.action_space.shape))
        self.num_timesteps = 0

    def act(self, observation: F32, state: Any, mask: Bool | None = None) -> tuple[np.ndarray, Any]:
        return self._actions(self._basis(observation) @ self.weights), state

    def learn(self, make_env: MakeEnv, total_timesteps: int, callback: Callback | None = None) -> None:
        """Whole iterations until `total_timesteps` steps, over lanes, have been seen."""
        c, rng = self.config, np.random.default_rng(self.seed)
        env = make_env(num_envs=c.population * c.rollouts)
        deviation = np.full(self.weights.shape, c.sigma)
        observation, _ = env.reset(seed=self.seed)
        while self.num_timesteps < total_timesteps:
            drawn = self.weights + deviation * rng.normal(size=(c.population, *self.weights.shape))
            returns, observation = self._played(env, observation, np.repeat(drawn, c.rollouts, axis=0))
            order = np.argsort(-returns.reshape(c.population, c.rollouts).mean(axis=1), kind="stable")
            elite = drawn[order[: max(1, round(c.elite * c.population))]]
            self.weights = (1 - c.rate) * self.weights + c.rate * elite.mean(axis=0)
            deviation = np.maximum((1 - c.rate) * deviation + c.rate * elite.std(axis=0), c.noise)
            if callback is not None and callback(self.num_timesteps, {"rollout/ep_rew_mean": float(returns.mean())}) is False:
                break
        env.close()

    def _played(self, env: Any, observation: F32, weights: F64) -> tuple[F64, F32]:
        """Return of one episode in each lane [N], and the observation after it."""
        returns, running = np.zeros(len(weights)), np.ones(len(weights), bool)
        while running.any():
            actions = self._actions(np.einsum("nk,nka->na", self._basis(observation), weights))
            observation, rewards, terminated, truncated, _ = env.step(actions)
            returns += rewards * running
            running &= ~(terminated | truncated)
            self.num_timesteps += len(weights)
        return returns, observation

    def _basis(self, observation: F32) -> F64:
        """Products of the columns up to the degree [N, K], 1 first."""
        x = observation.astype(np.float64)
        return np.stack([x[:, list(power)].prod(axis=1) for power in self._powers], axis=1)

    def _actions(self, raw: F64) -> np.ndarray:
        return np.clip(raw, self.action_space.low, self.action_space.high).astype(np.float32)  # type: ignore[attr-defined]

    def arrays(self) -> Arrays:
        return {"weights": self.weights}

    def restore(self, arrays: Arrays) -> None:
        self.weights = arrays["weights"]
