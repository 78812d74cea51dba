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

from emp_gym.agents.muzero.gumbel import QTransform, halving_table
from emp_gym.agents.muzero.tree import (
    Halving,
    Leaves,
    back_up_afterstates,
    back_up_states,
    conclude,
    fill_afterstates,
    fill_states,
    open_actions,
    open_outcomes,
    plant,
    settle_root,
    walk,
)
from emp_gym.extras import need
from emp_gym.types import EmpGymError

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
MOST_LOGITS = 500.0  # that a q may add to a logit
ROWS = 1024  # of one question to the model at most: what comes of so many stays in a core's cache
Edge = Callable[[Any, Integers, Any, Floats, Floats], tuple[Floats, Floats]]
"""``(after [M, ...], code [M], latent [M, ...], reward [M], value [M]) -> (reward, value)`` for every new outcome."""


class SearchError(EmpGymError, ValueError):
    """The search was asked for something impossible, or its model answered with something that is no answer."""


class Model(Protocol):
    """What the search asks of a model: two functions over 1 to `ROWS` rows. Arrays are numpy float32; latents are the model's own,
    numpy arrays or torch tensors (without gradient), one row each. Latents handed in are copies, free to be overwritten."""

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
    least_chance: float = 0.0
    """Codes less probable than this are left out of that batch, and count with the value of the afterstate. 0: exact."""

    def __post_init__(self) -> None:
        least = 0 if self.root_expansion else 1
        if self.simulations < least or self.max_considered < 1 or not self.q_floor > 0:
            raise SearchError(
                f"search: simulations={self.simulations}, max_considered={self.max_considered}, q_floor={self.q_floor}; "
                f"expected at least {least}, at least 1, above 0"
            )
        added = self.value_scale * (self.visit_offset + self.simulations)
        if not 0 <= added <= MOST_LOGITS:
            raise SearchError(
                f"search: value_scale {self.value_scale} x (visit_offset {self.visit_offset} + simulations "
                f"{self.simulations}) adds {added} to a logit; expected 0 to {MOST_LOGITS}, else exp() overflows; "
                f"change value_scale"
            )


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
    run = _SearchRun(root, model, config, gumbel, edge)
    if config.root_expansion:
        run.expand_root()
    for _ in range(config.simulations):
        run.simulate()
    return run.result()


class _SearchRun:
    """One search: the tree, the latents of its nodes, and the model that is asked about new ones."""

    def __init__(
        self, root: Root, model: Model, config: SearchConfig, gumbel: Floats | None, edge: Edge | None
    ) -> None:
        logits = np.asarray(root.logits)
        lanes, actions = logits.shape
        self.model, self.edge = model, edge
        self.codes, self.actions = model.codes, actions
        self.scale = QTransform(config.value_scale, config.visit_offset, config.q_floor)
        self.least_chance = config.least_chance if self.codes > 1 else 0.0
        self.halving = _halving(logits, root.mask, gumbel, config)
        allowed, once = int(self.halving.mask.sum()), lanes * config.simulations
        at_root = actions if config.root_expansion else 0
        self.tree = plant(
            lanes, 1 + at_root * self.codes + config.simulations, at_root + config.simulations, actions, self.codes
        )
        self.states = _Rows(lanes + (allowed * self.codes if at_root else 0) + once)
        self.afterstates = _Rows((allowed if at_root else 0) + once)
        self.leaves, self.behind = Leaves.empty(lanes), Leaves.empty(lanes)
        roots = Leaves(np.arange(lanes), *np.zeros((3, lanes), np.int64))
        nothing = np.zeros(lanes, np.float32)
        value = _floats("root.value", root.value, lanes)
        logits = _floats("root.logits", logits, lanes, actions)
        fill_states(self.tree, roots, self.states.append(root.latent, lanes), nothing, nothing, logits, value)

    def expand_root(self) -> None:
        """All codes of all allowed actions, in one batch."""
        actions = Leaves.empty(int(self.halving.mask.sum()))
        open_actions(self.tree, self.halving.mask, actions)
        self._ask_afterstates(actions)
        outcomes = Leaves.empty(len(actions.lane) * self.codes)
        outcomes = outcomes.part(0, open_outcomes(self.tree, actions, self.least_chance, outcomes))
        self._ask_states(outcomes)
        settle_root(self.tree, outcomes)

    def simulate(self) -> None:
        """One new node in every lane."""
        early = walk(self.tree, self.halving, self.scale, self.leaves)
        afterstates, states = self.leaves.part(0, early), self.leaves.part(early, len(self.leaves.lane))
        self._ask_afterstates(afterstates)
        if self.codes == 1:  # nothing to wait for: straight through
            open_outcomes(self.tree, afterstates, 0.0, self.behind)
            states = self.behind
        else:
            back_up_afterstates(self.tree, afterstates)
        self._ask_states(states)
        back_up_states(self.tree, states)

    def result(self) -> SearchResult:
        lanes, actions = self.halving.mask.shape
        weights, q = np.empty((2, lanes, actions), np.float32)
        action, value = np.empty(lanes, np.int64), np.empty(lanes, np.float32)
        conclude(self.tree, self.halving, self.scale, action, weights, q, value)
        if not np.isfinite(value).all():
            lane = int(np.flatnonzero(~np.isfinite(value))[0])
            raise SearchError(
                f"search: lane {lane} has the value {value[lane]}: the model answered with numbers that are none; "
                f"expected finite logits, values and rewards (have its weights diverged?)"
            )
        return SearchResult(action, self.tree.visits[:, 0].astype(np.int64), weights, q, value)

    def _ask_afterstates(self, opened: Leaves) -> None:
        for leaves in opened.blocks(ROWS):
            count = len(leaves.lane)
            after, value, chance = self.model.afterstate(self.states.take(leaves.row), leaves.edge)
            if self.codes == 1:
                value, chance = np.zeros(count, np.float32), np.ones((count, 1), np.float32)
            value, chance = _floats("value", value, count), _floats("probabilities", chance, count, self.codes)
            fill_afterstates(self.tree, leaves, self.afterstates.append(after, count), value, chance)

    def _ask_states(self, opened: Leaves) -> None:
        for leaves in opened.blocks(ROWS):
            count = len(leaves.lane)
            after = self.afterstates.take(leaves.row)
            latent, reward, discount, logits, value = self.model.outcome(after, leaves.edge)
            if self.edge is not None:
                reward, value = self.edge(after, leaves.edge, latent, reward, value)
            fill_states(
                self.tree, leaves, self.states.append(latent, count), _floats("reward", reward, count),
                _floats("discount", discount, count), _floats("logits", logits, count, self.actions),
                _floats("value", value, count),
            )  # fmt: skip


class _Rows:
    """Latents in one numpy array or torch tensor, in the order in which they came."""

    def __init__(self, room: int) -> None:
        self.room, self.filled = room, 0
        self.store: Any = None

    def append(self, rows: Any, count: int) -> int:
        """The row of the first of these `count` latents."""
        if len(rows) != count:
            raise SearchError(f"search: {len(rows)} rows of latents from the model; expected {count}, one a question")
        if self.store is None:
            shape = (self.room, *rows.shape[1:])
            self.store = rows.new_empty(shape) if hasattr(rows, "new_empty") else np.empty(shape, rows.dtype)
        first, self.filled = self.filled, self.filled + count
        self.store[first : self.filled] = rows
        return first

    def take(self, index: Integers) -> Any:
        if isinstance(self.store, np.ndarray):
            return self.store[index]
        need("torch")
        import torch

        return self.store.index_select(0, torch.from_numpy(index).to(self.store.device))


def _halving(logits: Any, mask: Any, gumbel: Any, config: SearchConfig) -> Halving:
    mask = np.ones(logits.shape, np.bool_) if mask is None else np.ascontiguousarray(mask, np.bool_)
    if mask.shape != logits.shape or not mask.any(axis=1).all():
        raise SearchError(
            f"search: a mask of shape {mask.shape} allows {mask.sum(axis=-1).min()} actions in some lane; expected shape "
            f"{logits.shape} and at least one; leave lanes out that have nothing to decide"
        )
    if gumbel is not None and gumbel.shape != logits.shape:
        raise SearchError(f"search: gumbel has the shape {gumbel.shape}; expected {logits.shape}, one number an action")
    most = min(config.max_considered, logits.shape[1])
    shifted = logits.astype(np.float64)
    shifted -= np.max(shifted, axis=1, keepdims=True, where=mask, initial=-np.inf)
    return Halving(
        halving_table(most, config.simulations),
        np.minimum(most, mask.sum(axis=1)),
        shifted,
        shifted if gumbel is None else shifted + gumbel,
        mask,
    )


def _floats(what: str, answer: Any, *shape: int) -> Floats:
    array = np.ascontiguousarray(answer, np.float32)
    if array.shape != shape:
        raise SearchError(f"search: {what} of the model has the shape {array.shape}; expected {shape}, one row a question")
    return array
