"""Two kinds of actions as the planner counts them: a menu, and levers of which it looks at a sample.

A planner chooses among A candidates. For a menu these are the actions. For levers (Hubert et al. 2021, "Sampled MuZero")
they are A draws of the policy's normal distribution at the state in question: candidate k is ``mean + spread * deviation *
noise[k]`` with one table of noise for all states of a search, so that an index is all that the search has to know.

Draws are from a distribution wider than the policy (`spread` > 1), so that the planner looks beyond what the policy would
do; the prior of a candidate is therefore the ratio of the two densities, whose logarithm depends on its noise only:
``-(spread² - 1) |noise|² / 2``.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional as F

from emp_gym.agents.muzero.search import SearchResult

ALMOST = 0.9999
"""How near a mean may come to the end of a lever."""


class Actions(Protocol):
    """M rows of anything; a policy is a row of numbers that the network gives."""

    size: int  # numbers that describe an action
    policy: int  # numbers that describe a policy
    target: int  # numbers that describe the policy that a search has found
    candidates: int  # A

    def draw(self, random: np.random.Generator | None) -> None:
        """New candidates for the searches to come; None: those that are used when nothing is to be explored."""
        ...

    def nearer(self, policy: Tensor, result: SearchResult) -> Tensor | None:
        """The policy with what a search has found as its middle, after which candidates are half as far from it until the next
        `draw`; None where there is nothing between candidates."""
        ...

    def logits(self, policy: Tensor) -> Tensor:
        """Log prior [M, A] of the candidates."""
        ...

    def encode(self, policy: Tensor, index: Tensor) -> Tensor:
        """Candidates [M, size] by number [M]."""
        ...

    def found(self, policy: Tensor, result: SearchResult) -> Tensor:
        """What a search has found [M, target], to train towards."""
        ...

    def loss(self, policy: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy [M] between what was found and the policy."""
        ...

    def entropy(self, policy: Tensor) -> Tensor: ...

    def played(self, action: Tensor) -> np.ndarray:
        """The environment's actions for encoded ones [M, size]."""
        ...

    def best(self, policy: Tensor, result: SearchResult) -> Tensor:
        """Encoded actions [M, size] to play when nothing is to be explored."""
        ...


class DiscreteActions:
    """`Discrete` actions."""

    def __init__(self, space: spaces.Discrete) -> None:
        self.start = int(space.start)
        self.size = self.policy = self.target = self.candidates = int(space.n)

    def draw(self, random: np.random.Generator | None) -> None:
        """A menu is always the same."""

    def nearer(self, policy: Tensor, result: SearchResult) -> Tensor | None:
        return None

    def logits(self, policy: Tensor) -> Tensor:
        return policy

    def encode(self, policy: Tensor, index: Tensor) -> Tensor:
        return F.one_hot(index, self.size).float()

    def found(self, policy: Tensor, result: SearchResult) -> Tensor:
        return torch.as_tensor(result.weights)

    def loss(self, policy: Tensor, target: Tensor) -> Tensor:
        return -(target * policy.log_softmax(-1)).sum(-1)

    def entropy(self, policy: Tensor) -> Tensor:
        logs = policy.log_softmax(-1)
        return -(logs.exp() * logs).sum(-1)

    def played(self, action: Tensor) -> np.ndarray:
        return action.argmax(-1).numpy() + self.start

    def best(self, policy: Tensor, result: SearchResult) -> Tensor:
        return self.encode(policy, torch.as_tensor(result.action))


class BoxActions:
    """`Box` actions, described in [-1, 1] whatever the box."""

    def __init__(self, space: spaces.Box, samples: int, settled: int, spread: float, least: float, first: float) -> None:
        self.shape, self.dtype = space.shape, space.dtype
        self.size = int(np.prod(space.shape))
        low, high = space.low.reshape(-1).astype(np.float64), space.high.reshape(-1).astype(np.float64)
        self.middle, self.half = (low + high) / 2, (high - low) / 2
        self.policy = self.target = 2 * self.size
        self.candidates, self.spread, self.least = samples, spread, least
        self.first = math.log((first - least) / (1 - first + least))
        self.noise = self._even = even_normals(settled, self.size)

    def draw(self, random: np.random.Generator | None) -> None:
        if random is None:
            self.noise = self._even
        else:
            self.noise = torch.from_numpy(random.standard_normal((self.candidates, self.size), np.float32))

    def nearer(self, policy: Tensor, result: SearchResult) -> Tensor | None:
        middle = self.found(policy, result)[..., : self.size]
        self.noise = self.noise / 2
        return torch.cat((middle.clamp(-ALMOST, ALMOST).atanh(), policy[..., self.size :]), -1)

    def _normal(self, policy: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation [M, size]; the deviation is in [least, 1 + least]."""
        mean, width = policy.chunk(2, -1)
        return mean.tanh(), self.least + (width + self.first).sigmoid()

    def logits(self, policy: Tensor) -> Tensor:
        prior = -0.5 * (self.spread**2 - 1) * self.noise.square().sum(-1)
        return prior.repeat(*policy.shape[:-1], 1)

    def encode(self, policy: Tensor, index: Tensor) -> Tensor:
        mean, deviation = self._normal(policy)
        return (mean + self.spread * deviation * self.noise[index]).clamp(-1.0, 1.0)

    def _every(self, policy: Tensor) -> Tensor:
        """All candidates [M, A, size]."""
        mean, deviation = self._normal(policy)
        return (mean[:, None] + self.spread * deviation[:, None] * self.noise).clamp(-1.0, 1.0)

    def found(self, policy: Tensor, result: SearchResult) -> Tensor:
        """Mean and variance of the weighted candidates: all that the likelihood of a normal distribution asks for."""
        candidates, weights = self._every(policy), torch.as_tensor(result.weights)[..., None]
        mean = (weights * candidates).sum(1)
        return torch.cat((mean, (weights * (candidates - mean[:, None]).square()).sum(1)), -1)

    def loss(self, policy: Tensor, target: Tensor) -> Tensor:
        mean, deviation = self._normal(policy)
        wanted, variance = target.chunk(2, -1)
        return (deviation.log() + ((wanted - mean).square() + variance) / (2 * deviation.square())).sum(-1)

    def entropy(self, policy: Tensor) -> Tensor:
        return self._normal(policy)[1].log().sum(-1)

    def played(self, action: Tensor) -> np.ndarray:
        levers = self.middle + self.half * action.numpy().astype(np.float64)
        return levers.reshape(-1, *self.shape).astype(self.dtype)

    def best(self, policy: Tensor, result: SearchResult) -> Tensor:
        """The mean of the improved policy."""
        return self.found(policy, result)[..., : self.size]


def even_normals(count: int, size: int) -> Tensor:
    """Normal noise [count, size] spread evenly (Sobol's points); the first is 0."""
    points = torch.quasirandom.SobolEngine(size).draw(count + 1, dtype=torch.float64)[1:]
    return torch.special.ndtri(points).float()


def actions_of(space: Any, samples: int, settled: int, spread: float, least: float, first: float) -> DiscreteActions | BoxActions:
    """Menu or levers, of which a search looks at `samples`, or at `settled` where nothing is to be explored."""
    if isinstance(space, spaces.Discrete):
        return DiscreteActions(space)
    return BoxActions(space, samples, settled, spread, least, first)


__all__ = ["Actions", "BoxActions", "DiscreteActions", "actions_of", "even_normals"]
