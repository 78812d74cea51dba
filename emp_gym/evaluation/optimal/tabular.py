"""Finite Markov decision processes with a horizon: their optimum by backward induction, any policy's value exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from emp_gym.evaluation.optimal.base import Policy
from emp_gym.types import F32, F64, I64, DataError

_TIE = 1e-12  # actions this close in value are equally good


@dataclass(frozen=True, eq=False)
class FiniteMDP:
    """S states, A actions, D features; rewards in ticks, turnover in lots. Arrays are read-only.

    `turnover` and `cost` are what a decision is expected to trade and to pay for it; cost is part of the reward already.
    """

    transition: F64  # [A, S, S]: probability of the next state
    reward: F64  # [A, S, S]: for each next state
    start: F64  # [S]: probability
    observation: F32  # [S, D], in [-1, 1]
    features: tuple[str, ...]  # D names, with units
    horizon: int  # decisions of an episode
    turnover: F64  # [A, S], lots
    cost: F64  # [A, S], ticks
    idle: int = 0  # the action that is preferred among equals

    def __post_init__(self) -> None:
        actions, states, _ = self.transition.shape
        shapes = {"transition": (actions, states, states), "reward": (actions, states, states), "start": (states,)}
        shapes |= {
            "observation": (states, len(self.features)),
            "turnover": (actions, states),
            "cost": (actions, states),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape or not np.isfinite(array).all():
                raise DataError(f"FiniteMDP: {name} must be {shape} and finite, got {array.shape}")
        for name in ("transition", "start"):
            array = getattr(self, name)
            if array.min() < 0 or np.abs(array.sum(axis=-1) - 1).max() > 1e-12:
                raise DataError(f"FiniteMDP: {name} must hold probabilities that sum to 1 over its last axis")
        if np.abs(self.observation).max() > 1:
            raise DataError("FiniteMDP: observation must lie in [-1, 1]")
        for field in fields(self):
            if isinstance(array := getattr(self, field.name), np.ndarray):
                array.flags.writeable = False

    @property
    def actions(self) -> int:
        """A."""
        return self.transition.shape[0]

    @property
    def states(self) -> int:
        """S."""
        return self.transition.shape[1]

    def expected_reward(self) -> F64:
        """Expected reward [A, S] of an action in a state."""
        return (self.transition * self.reward).sum(axis=2)

    def backward_induction(self) -> tuple[F64, I64]:
        """Optimal values [horizon + 1, S] from each step on, and actions [horizon, S]; among equals `idle`, else the first."""
        now = self.expected_reward()
        values, actions = np.zeros((self.horizon + 1, self.states)), np.zeros((self.horizon, self.states), np.int64)
        for step in range(self.horizon - 1, -1, -1):
            worth = now + self.transition @ values[step + 1]  # [A, S]
            values[step] = worth.max(axis=0)
            good = worth >= values[step] - _TIE
            actions[step] = np.where(good[self.idle], self.idle, good.argmax(axis=0))
        return values, actions

    def judge(self, policy: Policy) -> PolicyValue:
        """What `policy` makes and trades, exactly.

        It is called with steps [S] and state numbers [S, 1] and gives actions [S, 1] or their probabilities [S, A].
        """
        state, now = np.arange(self.states, dtype=np.float64)[:, None], self.expected_reward()
        here, value, turnover, cost = self.start, 0.0, 0.0, 0.0
        for step in range(self.horizon):
            weight = here * self._probabilities(policy(np.full(self.states, step), state)).T  # [A, S]
            value += float((weight * now).sum())
            turnover += float((weight * self.turnover).sum())
            cost += float((weight * self.cost).sum())
            here = np.einsum("as,ast->t", weight, self.transition)
        return PolicyValue(value, turnover / self.horizon, cost / self.horizon)

    def _probabilities(self, action: F64) -> F64:
        action = np.asarray(action, np.float64)
        if action.shape == (self.states, self.actions):
            return action
        if action.shape != (self.states, 1) or not ((action >= 0) & (action < self.actions) & (action % 1 == 0)).all():
            raise DataError(
                f"FiniteMDP: a policy gives actions [N, 1] from 0 to {self.actions - 1} or probabilities [N, {self.actions}],"
                f" got shape {action.shape}"
            )
        return np.eye(self.actions)[action[:, 0].astype(np.int64)]

    def best_memoryless(self) -> float:
        """Value of the best policy that knows the present observation only, where no action moves the state.

        Then the value is a sum over observations, and each may be given its own best action.
        """
        if np.abs(self.transition - self.transition[0]).max() > 0:
            raise DataError("best_memoryless needs a process whose states do not depend on actions")
        here, visits = self.start, np.zeros(self.states)
        for _ in range(self.horizon):
            visits, here = visits + here, here @ self.transition[0]
        _, seen = np.unique(self.observation, axis=0, return_inverse=True)
        worth = np.zeros((self.actions, int(seen.max()) + 1))
        np.add.at(worth.T, seen.ravel(), (visits * self.expected_reward()).T)
        return float(worth.max(axis=0).sum())

    def seeing(self, act: Callable[[F32], F64]) -> Policy:
        """The policy that gives `act` the observations [N, D] of the states: a feed-forward agent in this process."""
        return lambda step, state: act(self.observation[state[:, 0].astype(np.int64)])


@dataclass(frozen=True)
class PolicyValue:
    """A policy's value, and what it trades and pays a step on average."""

    value: float  # ticks an episode
    turnover: float  # lots a step
    cost: float  # ticks a step
