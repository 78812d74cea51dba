"""n-step returns of decisions that lanes took, given out when they are known.

A decision waits until `steps` rewards have come, or its episode is over. Its outcome is the discounted sum of these and, where the
episode goes on (or was cut short), the discounted worth of where it then is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from emp_gym.memory.episodic import Arrays, Recollection
from emp_gym.types import F32, F64, I64, Bool


class Finished(NamedTuple):
    """Decisions whose outcome is known, lane by lane and the oldest first."""

    lanes: I64  # [n]
    windows: F32  # [n, W]: what was seen
    actions: F64  # [n, A]: what was done
    returns: F64  # [n]: what came of it
    recalled: Recollection  # what was remembered then


class Pending:
    """Decisions of L lanes whose outcome is not known yet."""

    def __init__(self, lanes: int, steps: int, gamma: float, *, width: int, action_size: int, neighbours: int) -> None:
        self.lanes, self.steps, self.gamma = lanes, steps, gamma
        both = (steps, lanes)
        self._open: Bool = np.zeros(both, np.bool_)
        self._slot = np.zeros(1, np.int64)  # of the next decision, in a ring of `steps`
        self._told: Arrays = {
            "windows": np.zeros((*both, width), np.float32),
            "actions": np.zeros((*both, action_size)),
            "returns": np.zeros(both),
            "discount": np.ones(both),
        }
        self._recalled: Arrays = {
            "ids": np.zeros((*both, neighbours), np.int64),
            "weights": np.zeros((*both, neighbours)),
            "actions": np.zeros((*both, neighbours, action_size)),
            "returns": np.zeros((*both, neighbours)),
            "prior": np.zeros(both),
        }

    def step(
        self, windows: F32, actions: F64, recalled: Recollection, rewards: F64, *, moved: Bool, ended: Bool, tail: F64
    ) -> Finished:
        """One decision in each lane that `moved` [L]: `windows` [L, W] were seen and `actions` [L, A] taken, which gave `rewards`
        [L] and ended the episode or not; `tail` [L] is the worth of what comes after, 0 where nothing does."""
        slot, told = int(self._slot[0]), self._told
        told["windows"][slot], told["actions"][slot] = windows, actions
        told["returns"][slot], told["discount"][slot] = 0.0, 1.0
        self._open[slot] = moved
        for name, array in recalled.arrays().items():
            self._recalled[name][slot] = array
        told["returns"] += told["discount"] * rewards
        told["discount"] *= self.gamma
        self._slot[0] = oldest = (slot + 1) % self.steps
        due = self._open & ended
        due[oldest] |= self._open[oldest]
        self._open &= ~due
        by_age = (oldest + np.arange(self.steps)) % self.steps
        lanes, age = np.nonzero(due[by_age].T)
        at = (by_age[age], lanes)
        outcome = told["returns"][at] + told["discount"][at] * tail[lanes]
        found = Recollection(**{name: array[at] for name, array in self._recalled.items()})
        return Finished(lanes, told["windows"][at], told["actions"][at], outcome, found)

    def forget(self, lanes: Bool) -> None:
        """What waits in `lanes` [L] will never be known."""
        self._open[:, lanes] = False

    def arrays(self) -> Arrays:
        """All that one step leaves to the next; the arrays themselves."""
        told = {f"told.{name}": array for name, array in self._told.items()}
        recalled = {f"recalled.{name}": array for name, array in self._recalled.items()}
        return {"open": self._open, "slot": self._slot, **told, **recalled}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Takes over what `arrays` gave."""
        for name, array in self.arrays().items():
            array[...] = arrays[name]
