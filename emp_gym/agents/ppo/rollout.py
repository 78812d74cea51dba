"""What is kept of a rollout, and the minibatches that it is learned from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor

from emp_gym.agents.backbones import State
from emp_gym.agents.ppo.policy import PolicyInput

NUMBERS = ("values", "log_probs", "advantages", "returns")


class RewardScale:
    """Divides rewards by the running deviation of each lane's discounted return, so that the value loss has one size
    whatever the unit of reward. [Engstrom et al. 2020, arXiv 2005.12729, detail 2]"""

    def __init__(self, lanes: int, gamma: float) -> None:
        self.gamma = gamma
        self.returns = np.zeros(lanes)
        self.mean, self.variance, self.count = 0.0, 1.0, 1e-4

    @property
    def deviation(self) -> float:
        """What rewards are divided by now: a numpy float64, in which they are then divided."""
        return np.sqrt(self.variance + 1e-12)

    def __call__(self, rewards: np.ndarray, done: np.ndarray) -> np.ndarray:
        """Scaled rewards [N], float32, clipped to +-10 deviations."""
        self.returns = self.returns * self.gamma + rewards
        count = len(rewards)
        mean, variance = float(self.returns.mean()), float(self.returns.var())
        total, delta = self.count + count, mean - self.mean
        self.variance = (self.variance * self.count + variance * count + delta**2 * self.count * count / total) / total
        self.mean += delta * count / total
        self.count = total
        self.returns[done] = 0.0
        return np.clip(rewards / self.deviation, -10.0, 10.0).astype(np.float32)


class LaneBuffer(RolloutBuffer):
    """SB3's rollout buffer, allocated once, shuffled by its own generator, handed out without a transposed copy.

    Minibatches are rows, or, where the rollout began with a `state`, whole sequences of lanes [T, n, ...]. Their
    "observations" are what the policy is shown: `PolicyInput`.
    """

    generator: torch.Generator
    state: State
    _beside: dict[str, np.ndarray]  # masks [T, N, A] and the baseline's choices [T, N], where there are any

    def reset(self) -> None:
        if self.pos == 0 and not hasattr(self, "observations"):
            super().reset()
            self._beside = {}
        self.pos, self.full, self.state = 0, False, {}

    def put_beside(self, seen: PolicyInput) -> None:
        """Keeps mask and choice of the decision that is added next."""
        for name, tensor in (("mask", seen.mask), ("choice", seen.choice)):
            if tensor is None:
                continue
            if name not in self._beside:
                shape = (self.buffer_size, *tensor.shape)
                self._beside[name] = np.zeros(shape, bool if name == "mask" else np.int64)
            self._beside[name][self.pos] = tensor.numpy()

    def get(self, batch_size: int | None = None) -> Iterator[RolloutBufferSamples]:  # type: ignore[override]
        batch_size = batch_size or self.buffer_size * self.n_envs
        return self._sequences(batch_size) if self.state else self._rows(batch_size)

    def _rows(self, batch_size: int) -> Iterator[RolloutBufferSamples]:
        count = self.buffer_size * self.n_envs
        columns = {
            name: torch.from_numpy(getattr(self, name).reshape(count, -1)) for name in ("observations", "actions")
        } | {name: torch.from_numpy(getattr(self, name).reshape(count)) for name in NUMBERS}
        beside = {
            name: torch.from_numpy(array.reshape(count, *array.shape[2:])) for name, array in self._beside.items()
        }
        order = torch.randperm(count, generator=self.generator)
        for rows in order.split(batch_size):
            chosen = {name: column.index_select(0, rows) for name, column in columns.items()}
            shown = {name: column.index_select(0, rows) for name, column in beside.items()}
            observation = chosen["observations"].reshape(-1, *self.obs_shape)
            yield _samples(PolicyInput(observation, shown.get("mask"), shown.get("choice")), chosen)

    def _sequences(self, batch_size: int) -> Iterator[RolloutBufferSamples]:
        columns = {name: torch.from_numpy(getattr(self, name)) for name in ("actions", *NUMBERS)}
        shown = {"observation": torch.from_numpy(self.observations), "fresh": torch.from_numpy(self.episode_starts) > 0}
        shown |= {name: torch.from_numpy(array) for name, array in self._beside.items()}
        order = torch.randperm(self.n_envs, generator=self.generator)
        for lanes in order.split(max(1, batch_size // self.buffer_size)):
            chosen = {name: column.index_select(1, lanes).flatten(0, 1) for name, column in columns.items()}
            state = {name: tensor.index_select(0, lanes) for name, tensor in self.state.items()}
            seen = {name: column.index_select(1, lanes) for name, column in shown.items()}
            yield _samples(PolicyInput(state=state, **seen), chosen)


def _samples(seen: PolicyInput, chosen: dict[str, Tensor]) -> RolloutBufferSamples:
    return RolloutBufferSamples(seen, chosen["actions"], *(chosen[name] for name in NUMBERS))  # type: ignore[arg-type]


__all__ = ["LaneBuffer", "RewardScale"]
