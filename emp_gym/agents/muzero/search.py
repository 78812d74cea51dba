"""Gumbel MuZero search with chance nodes, for a whole batch of lanes at once.

Danihelka et al. 2022, "Policy improvement by planning with Gumbel", with the chance nodes of Antonoglou et al. 2022,
"Planning in stochastic environments with a learned model". Letters: B lanes, A actions, C chance codes, M rows of one
call of the model, L whatever a latent row holds.

A tree has states (where we decide) and afterstates (we have decided, the market has not answered yet). A simulation walks
from the root to the first node that is not there, has the model evaluate it, and carries what it found to the root:

- root: sequential halving over the actions with the largest ``gumbel + logit + sigma(q)``;
- states below: ``argmax softmax(logit + sigma(q)) - N / (1 + sum N)``;
- afterstates: ``argmax p / (N + 1)``, the same outcomes for all siblings, so that they are compared on equal luck.

The value of an afterstate is ``sum_c p(c) (reward + discount * V(c))``, with the model's own value for codes that were not
looked at yet; the value of a state is the mean of the model's and of those of its visits. With ``codes == 1`` nothing is left
to chance: a simulation goes straight through the afterstate, and the search is that of ``mctx.gumbel_muzero_policy``.

The search sees numbers and indices only. Exact private state (inventory, cash, clock, own quotes) and sampled continuous
actions live inside the latent rows and in the model that reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from emp_gym.types import EmpGymError

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
Edge = Callable[[Any, Integers, Any, Floats, Floats], tuple[Floats, Floats]]
"""``(after [M, ...], code [M], latent [M, ...], reward [M], value [M]) -> (reward, value)`` for every new outcome."""


class SearchError(EmpGymError, ValueError):
    """The search was asked for something impossible, or its model answered with what is no number."""


class Model(Protocol):
    """What the search asks of a model: two functions over M rows. Arrays are numpy float32; latents are the model's own,
    numpy arrays or torch tensors (without gradient), one row each. Nothing is handed in twice, nothing is kept."""

    @property
    def codes(self) -> int:
        """C, the number of outcomes that chance decides between; 1: none."""

    def afterstate(self, latent: Any, action: Integers) -> tuple[Any, Floats | None, Floats | None]:
        """``latent [M, ...], action int64 [M] -> after [M, ...], value [M], probabilities [M, C]``; with ``codes == 1``
        value and probabilities are not looked at and may be None."""

    def outcome(self, after: Any, code: Integers) -> tuple[Any, Floats, Floats, Floats, Floats]:
        """``after [M, ...], code int64 [M] -> latent [M, ...], reward [M], discount [M], logits [M, A], value [M]``;
        discount is 0 where the episode ends."""


@dataclass(frozen=True)
class Root:
    """Where the search starts, one row a lane."""

    logits: Floats  # [B, A]
    value: Floats  # [B]
    latent: Any  # [B, ...]
    mask: NDArray[np.bool_] | None = None  # [B, A], True: allowed; at least one in a lane


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How the search spends its effort and how much it trusts a difference of values."""

    simulations: int
    q_floor: float
    """A spread of values below this is not blown up to the full scale. 1e-8 is mctx's, which believes any difference;
    0.1 standard deviations of the values that the model gives is sensible for markets."""
    max_considered: int = 16
    value_scale: float = 0.1
    visit_offset: float = 50.0
    root_expansion: bool = True
    """Every allowed root action x code is evaluated at once before the first simulation, so that the root's q are whole
    expectations under the model. It costs a batch of B x A x C rows, and counts as no simulation."""


@dataclass(frozen=True)
class SearchResult:
    """What the search found for the root, one row a lane."""

    action: Integers  # [B] the best of the most visited
    visits: Integers  # [B, A]; a row sums to `simulations`
    weights: Floats  # [B, A] the improved policy, softmax(logit + sigma(q)): the target of the policy network
    q: Floats  # [B, A] completed: actions never looked at have the mixed value
    value: Floats  # [B] sum of weights * q: what the improved policy is worth, to bootstrap from


def search(
    root: Root, model: Model, config: SearchConfig, gumbel: Floats | None = None, edge: Edge | None = None
) -> SearchResult:
    """Plans for every lane. `gumbel`: standard Gumbel noise [B, A] to explore with; None: none of it, as at evaluation.

    `edge` may correct reward and value of every new outcome, for instance by a causal estimate of our own effect. A lane's
    result does not depend on the other lanes (as far as the model's rows do not). Raises SearchError.
    """
    raise NotImplementedError
