"""What was lived through: arrays of fixed size, one column a lane, drawn from by priority (Schaul et al. 2016).

A row holds one step of every lane: what was seen before and after it, what was done, what the search thought of it. Rows are
counted from the first that ever came; row r lies in slot r % rows of the arrays. Episodes follow each other in a column; `end`
says where one was finished (1: nothing comes after) or cut (2: something would have).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from emp_gym.types import F32, F64, I64, Bool

FINISHED, CUT = 1, 2

Judge = Callable[[F32], F32]


@dataclass(frozen=True)
class Batch:
    """B stretches of K steps. State k is seen before step k; `lived` says which states, `went` which steps belong to the
    episode of state 0; what is not lived is filled with something of no meaning."""

    row: I64  # [B] of state 0
    lane: I64  # [B]
    weight: F32  # [B] corrects for what is drawn more often, at most 1
    observation: F32  # [B, K + 1, D]
    following: F32  # [B, K + 1, D] after step k
    action: F32  # [B, K + 1, A]
    code: I64  # [B, K + 1]
    reward: F32  # [B, K + 1]
    finished: Bool  # [B, K + 1] step k ended the episode for good
    policy: F32  # [B, K + 1, O] that the search found
    value: F32  # [B, K + 1] target: n rewards and what is thought of the state after them
    lived: Bool  # [B, K + 1]


class Replay:
    """The last `rows` steps of `lanes` lanes."""

    def __init__(self, rows: int, lanes: int, *, observation: int, action: int, policy: int, menu: int) -> None:
        self.rows, self.lanes, self.count = rows, lanes, 0
        wide = {"observation": observation, "following": observation, "action": action, "policy": policy}
        self._of: dict[str, np.ndarray] = {
            name: np.zeros((rows, lanes, width), np.float32) for name, width in wide.items()
        }
        for name, dtype in (("reward", "f4"), ("value", "f4"), ("code", "i8"), ("end", "i1"), ("priority", "f8")):
            self._of[name] = np.zeros((rows, lanes), dtype)
        if menu:
            self._of["mask"] = np.ones((rows, lanes, menu), np.bool_)

    def __len__(self) -> int:
        """Steps that can be drawn."""
        return min(self.count, self.rows) * self.lanes

    @property
    def oldest(self) -> int:
        return max(0, self.count - self.rows)

    def add(self, **columns: np.ndarray | None) -> None:
        """One step of every lane, arrays [N, ...] by name; priority is the largest so far until it is known better."""
        slot = self.count % self.rows
        for name, values in columns.items():
            if values is not None:
                self._of[name][slot] = values
        self._of["priority"][slot] = self._of["priority"].max() or 1.0
        self.count += 1

    def cut(self) -> None:
        """What comes next does not follow from the last row: its episodes count as cut."""
        if self.count:
            last = self._of["end"][(self.count - 1) % self.rows]
            last[last == 0] = CUT

    # ---- drawing

    def draw(self, size: int, generator: np.random.Generator, alpha: float, beta: float) -> tuple[I64, I64, F32]:
        """`size` places (row [B], lane [B]) with chances ``priority ** alpha``, and their weights ``(n p) ** -beta`` divided
        by the largest."""
        used = self._of["priority"][: min(self.count, self.rows)].ravel()
        mass: F64 = np.cumsum(used**alpha) if alpha else np.arange(1.0, len(used) + 1)
        at = np.searchsorted(mass, generator.random(size) * mass[-1], side="right").clip(max=len(used) - 1)
        chance = np.diff(mass, prepend=0.0)[at] / mass[-1]
        weight = (len(used) * chance) ** -beta
        slot, lane = np.divmod(at, self.lanes)
        row = self.oldest + (slot - self.oldest) % self.rows
        return row, lane, (weight / weight.max()).astype(np.float32)

    def batch(
        self, row: I64, lane: I64, weight: F32, unroll: int, n: int, gamma: float, judge: Judge | None = None
    ) -> Batch:
        """The stretches of `unroll` steps that begin at those places, with value targets over `n` steps. After these `judge` says
        what a state is worth by its observation [..., D]; without one it is what the search thought of it at the time."""
        span = row[:, None] + np.arange(unroll + n + 1)
        here, lived = self._lived(span, lane)
        value = self._targets(here, lived, unroll, n, gamma, judge)
        near = tuple(index[:, : unroll + 1] for index in here)
        of = {name: array[near] for name, array in self._of.items()}
        return Batch(
            row, lane, weight, of["observation"], of["following"], of["action"], of["code"], of["reward"],
            of["end"] == FINISHED, of["policy"], value, lived[:, : unroll + 1],
        )  # fmt: skip

    def _lived(self, span: I64, lane: I64) -> tuple[tuple[I64, I64], Bool]:
        """Index of the steps `span` [B, S] of `lane` [B], and which of them belong to the episode of the first."""
        stored = span < self.count
        here = (span % self.rows, np.broadcast_to(lane[:, None], span.shape))
        ends = (self._of["end"][here] != 0) | ~stored
        before = np.cumsum(ends, axis=1) - ends  # ends before this step
        return here, stored & (before == 0)

    def _targets(
        self, here: tuple[I64, I64], lived: Bool, unroll: int, n: int, gamma: float, judge: Judge | None
    ) -> F32:
        """For each state k: up to n rewards, then what is thought of the last state reached. Where an episode was cut, or what
        follows is not there any more, that is the last state of it that was lived; where it is finished, nothing."""
        reward, finished = self._of["reward"][here].astype(np.float64), self._of["end"][here] == FINISHED
        states = np.arange(unroll + 1)
        going, over = lived[:, : unroll + 1], np.zeros((len(lived), unroll + 1), np.bool_)
        total, discount, last = np.zeros(over.shape), np.ones(over.shape), np.zeros_like(over, np.int64) + states
        for step in range(n):
            at = states + step
            further = going & ~over & (finished[:, at] | lived[:, at + 1])
            total += np.where(further, discount * reward[:, at], 0.0)
            discount = np.where(further, discount * gamma, discount)
            last = np.where(further & ~finished[:, at], at + 1, last)
            over, going = over | (further & finished[:, at]), further
        reached = tuple(np.take_along_axis(index, last, axis=1) for index in here)
        thought = self._of["value"][reached] if judge is None else judge(self._of["observation"][reached])
        return (total + np.where(over, 0.0, discount * thought)).astype(np.float32)

    # ---- second thoughts

    def seen(self, row: I64, lane: I64) -> tuple[F32, Bool | None]:
        """Observations [B, D] and masks [B, A] of places."""
        at = (row % self.rows, lane)
        return self._of["observation"][at], self._of["mask"][at] if "mask" in self._of else None

    def revise(self, row: I64, lane: I64, policy: F32, value: F32) -> None:
        """Replaces what the search thought of places by what it thinks now."""
        at = (row % self.rows, lane)
        self._of["policy"][at], self._of["value"][at] = policy, value

    def surprise(self, row: I64, lane: I64, error: F32) -> None:
        """Priorities of places: how wrong their value was."""
        self._of["priority"][row % self.rows, lane] = error + 1e-6

    # ---- files

    def arrays(self) -> dict[str, np.ndarray]:
        """The part that is used, and how much was ever added."""
        kept = min(self.count, self.rows)
        return {name: array[:kept] for name, array in self._of.items()} | {"count": np.array(self.count)}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes over what `arrays` gave."""
        self.count = int(arrays["count"])
        for name, array in self._of.items():
            array[: len(arrays[name])] = arrays[name]
