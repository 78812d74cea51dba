"""What a situation is, and how it becomes a key.

A *window* is what is stored raw, float32 [W]: three traces of the episode's observations, one after the other: the present one, in
each column the last value that was not 0 (carried forward, as one does with prints and announcements), and a slow mean. A cue
that was shown once and then is 0 stays whole in the second, however long ago it was.

A *key* [d] is what is compared. `Projection` centres and scales the columns of a window and, where they are more than d,
projects them with a fixed random matrix (Johnson and Lindenstrauss). It is a value: fitting gives another one, with another
`sha256`, and the memory embeds all its rows again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from emp_gym.types import F32, F64, DataError

TRACES = 3
PRIOR = (1.0, 1.0, 0.3)
"""Weight of each trace's columns before anything is known of them."""
SLOW = 0.1
"""Share of the present observation in the slow mean."""
SAMPLE = 1024
"""Rows that a fit measures distances between."""


class KeyEncoder(Protocol):
    """Anything that makes keys; one that changes must change its `sha256`."""

    @property
    def dimension(self) -> int: ...
    @property
    def sha256(self) -> str: ...
    def __call__(self, windows: F32) -> F32:
        """Keys float32 [N, d] of `windows` [N, W]; a row's key must not depend on the other rows."""
        ...


def begin(lanes: int, features: int) -> F32:
    """Traces [N, 3, D] of `lanes` lanes before their first observation."""
    return np.zeros((lanes, TRACES, features), np.float32)


def follow(traces: F32, observation: F32) -> F32:
    """`traces` [N, 3, D] after one more `observation` [N, D]; fresh."""
    now = observation.astype(np.float32)
    carried, slow = traces[:, 1], traces[:, 2]
    return np.stack((now, np.where(now != 0, now, carried), slow + np.float32(SLOW) * (now - slow)), axis=1)


def windows(traces: F32) -> F32:
    """[N, W] of traces [N, 3, D]."""
    return traces.reshape(len(traces), -1)


@dataclass(frozen=True, eq=False)
class Projection:
    """Key = ((window - centre) * scale) @ matrix; without a matrix the columns themselves."""

    centre: F32  # [W]
    scale: F32  # [W]
    matrix: F32  # [W, d], or [0, 0] for none

    @classmethod
    def plain(cls, features: int, dimension: int, seed: int) -> Projection:
        """For windows of which nothing is known yet: columns as they are, those of the past with less weight."""
        scale = np.repeat(np.array(PRIOR, np.float32), features)
        width = len(scale)
        matrix = np.zeros((0, 0), np.float32)
        if width > dimension:
            rng = np.random.default_rng(np.random.SeedSequence([seed, 23]))
            matrix = (rng.standard_normal((width, dimension)) / np.sqrt(dimension)).astype(np.float32)
        return cls(np.zeros(width, np.float32), scale, matrix)

    def fitted(self, seen: F32, actions: F64, outcomes: F64, neighbour: int) -> Projection:
        """The same projection with columns at deviation 1 times their weight, in units of the usual distance to the
        `neighbour`-th nearest row, from the rows' windows [R, W], actions [R, A] and outcomes [R].

        A column that goes with the outcome of some action weighs 1, one that does not what `PRIOR` says; one that never changes,
        or carries forward what is never 0, weighs nothing.
        """
        deviation, features = seen.std(axis=0, dtype=np.float64), seen.shape[1] // TRACES
        prior = np.repeat(np.array(PRIOR), features)
        twice = np.zeros(len(prior), np.bool_)
        twice[features : 2 * features] = (seen[:, :features] == seen[:, features : 2 * features]).all(axis=0)
        weight = np.where((deviation > 1e-6) & ~twice, np.maximum(prior, relevance(seen, actions, outcomes)), 0.0)
        scale = weight / np.maximum(deviation, 1e-6)
        centre = seen.mean(axis=0, dtype=np.float64)
        rough = Projection(centre.astype(np.float32), scale.astype(np.float32), self.matrix)
        unit = _usual_distance(rough(seen[np.linspace(0, len(seen) - 1, min(len(seen), SAMPLE)).astype(int)]), neighbour)
        return Projection(rough.centre, (scale / unit).astype(np.float32), self.matrix)

    def __call__(self, windows: F32) -> F32:
        if windows.shape[-1] != len(self.centre):
            raise DataError(f"windows must have {len(self.centre)} columns, got {windows.shape[-1]}")
        scaled = (windows - self.centre) * self.scale
        # einsum, not a matrix product: BLAS rounds a row differently in another batch
        return np.einsum("nw,wd->nd", scaled, self.matrix) if self.matrix.size else scaled

    @property
    def dimension(self) -> int:
        """d."""
        return self.matrix.shape[1] if self.matrix.size else len(self.centre)

    @cached_property
    def sha256(self) -> str:
        """Of all its numbers."""
        parts = (np.array(self.matrix.shape, np.int64), self.centre, self.scale, self.matrix)
        return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()

    def arrays(self) -> dict[str, np.ndarray]:
        """All its numbers."""
        return {"centre": self.centre, "scale": self.scale, "matrix": self.matrix}


def relevance(seen: F32, actions: F64, outcomes: F64) -> F64:
    """How far each column [W] goes with the outcome of some action, 0 to 1: |correlation| among the rows of one action, less
    three times what chance does, relative to the best column.

    Linear: a column that tells something only together with others has 0 here. Where actions are not a few (more than 32
    different ones) all rows are taken together.
    """
    kinds, which = np.unique(actions, axis=0, return_inverse=True)
    which = which.ravel() if len(kinds) <= 32 else np.zeros(len(actions), np.int64)
    best = np.zeros(seen.shape[1])
    for kind in range(which.max() + 1):
        rows, told = seen[which == kind].astype(np.float64), outcomes[which == kind]
        if len(rows) < 32:
            continue
        rows, told = rows - rows.mean(axis=0), told - told.mean()
        size = np.sqrt(np.square(rows).sum(axis=0) * np.square(told).sum())
        found = np.abs(rows.T @ told) / np.maximum(size, 1e-12)
        best = np.maximum(best, found - 3.0 / np.sqrt(len(rows)))
    return best / best.max() if best.max() > 0.02 else np.zeros_like(best)


def _usual_distance(keys: F32, neighbour: int) -> float:
    """Median distance of a row to its `neighbour`-th nearest other one; 1 where rows coincide."""
    rows = keys.astype(np.float64)
    squares = np.square(rows).sum(axis=1)
    apart = np.maximum(squares[:, None] + squares - 2.0 * rows @ rows.T, 0.0)
    nearest = np.partition(apart, min(neighbour, len(rows) - 1), axis=1)[:, min(neighbour, len(rows) - 1)]
    usual = float(np.sqrt(np.median(nearest)))
    return usual if usual > 1e-6 else 1.0
