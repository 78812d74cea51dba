"""Augmented random search over linear policies (Mania, Guy and Recht 2018, arXiv 1803.07055), numpy only.

Every lane of the vector environment plays one episode with its own perturbed weights: the population is the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gymnasium import spaces

from emp_gym.agents.base import BaseAgent


@dataclass(frozen=True)
class LinearSearchConfig:
    """Parameters of `LinearSearch`; each is a ``--set agent.NAME=VALUE``."""

    num_envs: int = 256  # lanes = twice the directions tried at once
    noise: float = 0.3  # size of the perturbations
    step: float = 0.3  # length of a step, in perturbations


class LinearSearch(BaseAgent):
    """Scores actions as ``observation @ weights + bias`` and takes the best that the mask allows (the tanh of them in
    a box)."""

    Config = LinearSearchConfig

    def __init__(self, observation_space, action_space, spec=None, seed=0, **config):
        super().__init__(observation_space, action_space, spec, seed, **config)
        self.menu = isinstance(action_space, spaces.Discrete)
        actions = int(action_space.n) if self.menu else int(np.prod(action_space.shape))
        self.weights = np.zeros((observation_space.shape[0] + 1, actions), np.float32)

    def act(self, observation, state, mask=None):
        return self._actions(observation, self.weights[None], mask), state

    def _actions(self, observation, weights, mask):
        """Actions [N] for weights [N, D + 1, A], or [1, D + 1, A] for all lanes alike."""
        scores = (observation[:, :, None] * weights[:, :-1]).sum(axis=1) + weights[:, -1]
        if not self.menu:
            low, high = self.action_space.low, self.action_space.high
            return (low + (np.tanh(scores) + 1) / 2 * (high - low)).astype(np.float32)
        return np.where(mask, scores, -np.inf).argmax(axis=1) if mask is not None else scores.argmax(axis=1)

    def learn(self, make_env, total_timesteps, callback=None):
        env = make_env(num_envs=self.config.num_envs, autoreset_mode="Disabled")
        rng = np.random.default_rng(self.seed)
        half, steps = env.num_envs // 2, 0
        while steps < total_timesteps:
            direction = rng.normal(size=(half, *self.weights.shape)).astype(np.float32)
            both = np.concatenate([direction, -direction, np.zeros_like(direction[: env.num_envs % 2])])
            returns, seen = self._episode(env, self.weights + self.config.noise * both, int(rng.integers(2**31)))
            steps += seen
            gain = returns[:half] - returns[half : 2 * half]
            move = (gain[:, None, None] * direction).mean(axis=0) / (gain.std() + 1e-9)
            self.weights = self.weights + (self.config.step * move).astype(np.float32)
            if callback is not None and callback(steps, {"search/mean_return": float(returns.mean())}) is False:
                break
        env.close()

    def _episode(self, env, weights, seed):
        """Return of one episode with each lane's own weights, and the steps that it took."""
        observation, info = env.reset(seed=seed)
        returns, running, steps = np.zeros(env.num_envs), np.ones(env.num_envs, bool), 0
        while running.any():
            action = self._actions(observation, weights, info.get("action_mask"))
            observation, reward, terminated, truncated, info = env.step(action)
            returns += np.where(running, reward, 0.0)
            steps += int(running.sum())
            running &= ~(terminated | truncated)
        return returns, steps

    def arrays(self):
        return {"weights": self.weights}

    def restore(self, arrays):
        self.weights = arrays["weights"]
