"""Exact nearest neighbours by squared distance, the same to the bit whichever library does the scan.

A backend names more rows than are wanted, and a bound that no other row's distance is below. The named ones are then
measured again in float64, difference by difference, and ordered by (distance, id). Where the bound does not prove that
nothing was missed (ties, mostly), that query is answered by measuring every row. So ids, order and distances are those
of a plain scan, always; the backend decides the speed only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from emp_gym.extras import MissingPackage, pip_line
from emp_gym.types import F32, F64, I64, Bool, ConfigError

SPARE = 16
"""Rows that a backend names beyond those wanted."""
CHUNK = 16
"""Queries that FAISS is given at a time: below 20 it subtracts and squares; above, it expands the square, which is no
faster on one core and loses digits."""
NOBODY = -1
"""The id where there are fewer rows than wanted; its distance is infinite."""


class FlatIndex:
    """Rows in the order of their ids, which rise; numpy does the scan."""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.ids: I64 = np.zeros(0, np.int64)
        self._buffer: F32 = np.zeros((64, dimension), np.float32)

    @property
    def keys(self) -> F32:
        """[R, d]."""
        return self._buffer[: len(self.ids)]

    def add(self, ids: I64, keys: F32) -> None:
        """Rows `keys` [n, d] called `ids` [n], which are above all before."""
        if len(ids) and (np.diff(ids, prepend=self.ids[-1] if len(self.ids) else -1) <= 0).any():
            raise ConfigError(f"ids must rise from row to row, got {ids[:5]} after {self.ids[-1:]}")
        size = len(self.ids)
        if size + len(ids) > len(self._buffer):
            grown = np.zeros((2 * (size + len(ids)), self.dimension), np.float32)
            grown[:size] = self.keys
            self._buffer = grown
        self._buffer[size : size + len(ids)] = keys
        self.ids = np.concatenate((self.ids, ids))

    def keep(self, kept: Bool) -> None:
        """Drops the rows outside of `kept` [R]; the order stays."""
        rows = self.keys[kept]
        self._buffer[: len(rows)] = rows
        self.ids = self.ids[kept]

    def search(self, queries: F32, k: int) -> tuple[I64, F64]:
        """The `k` rows nearest to each of `queries` [Q, d]: ids [Q, k], squared distances [Q, k]; equal distances by id."""
        ids, distances = np.full((len(queries), k), NOBODY), np.full((len(queries), k), np.inf)
        count = min(k, len(self.ids))
        if count == 0 or len(queries) == 0:
            return ids, distances
        places, bound = self._candidates(queries, min(count + SPARE, len(self.ids)))
        measured = _measure(queries, self.keys[places])
        order = np.lexsort((places, measured))[:, :count]
        found, near = np.take_along_axis(places, order, 1), np.take_along_axis(measured, order, 1)
        for q in np.flatnonzero(near[:, -1] >= bound):
            every = _measure(queries[q], self.keys)
            found[q] = np.argsort(every, kind="stable")[:count]
            near[q] = every[found[q]]
        ids[:, :count], distances[:, :count] = self.ids[found], near
        return ids, distances

    def places(self, ids: I64) -> tuple[I64, Bool]:
        """Where the rows `ids` stand, and whether they are still there (else the place means nothing)."""
        if not len(self.ids):
            return np.zeros(ids.shape, np.int64), np.zeros(ids.shape, np.bool_)
        places = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return places, self.ids[places] == ids

    def _candidates(self, queries: F32, count: int) -> tuple[I64, F64]:
        """Places [Q, count], and what the exact distance of every other row is at least [Q] (infinite: there is none)."""
        rows, asked = self.keys.astype(np.float64), queries.astype(np.float64)
        squares, own = np.square(rows).sum(axis=1), np.square(asked).sum(axis=1)
        about = own[:, None] + squares - 2.0 * asked @ rows.T
        if count == len(rows):
            return np.broadcast_to(np.arange(count), about.shape), np.full(len(queries), np.inf)
        places = np.argpartition(about, count - 1, axis=1)[:, :count]
        worst = np.take_along_axis(about, places, 1).max(axis=1)
        return places, worst - 2.0**-50 * (self.dimension + 8) * (own + squares.max())


class FaissIndex(FlatIndex):
    """The same, scanned by FAISS's ``IndexIDMap2(IndexFlatL2)`` on one thread."""

    def __init__(self, dimension: int) -> None:
        super().__init__(dimension)
        self._faiss: Any = _faiss()
        self._index = self._faiss.IndexIDMap2(self._faiss.IndexFlatL2(dimension))

    def add(self, ids: I64, keys: F32) -> None:
        super().add(ids, keys)
        if len(ids):
            self._index.add_with_ids(np.ascontiguousarray(keys, np.float32), np.ascontiguousarray(ids))

    def keep(self, kept: Bool) -> None:
        if not kept.all():
            self._index.remove_ids(self._faiss.IDSelectorBatch(np.ascontiguousarray(self.ids[~kept])))
        super().keep(kept)

    def _candidates(self, queries: F32, count: int) -> tuple[I64, F64]:
        queries = np.ascontiguousarray(queries, np.float32)
        parts = [self._index.search(queries[at : at + CHUNK], count) for at in range(0, len(queries), CHUNK)]
        about = np.concatenate([part[0] for part in parts]).astype(np.float64)
        places = np.searchsorted(self.ids, np.concatenate([part[1] for part in parts]))
        if count == len(self.ids):
            return places, np.full(len(queries), np.inf)
        return places, about[:, -1] * (1.0 - 2.0**-22 * (self.dimension + 4))


BACKENDS: dict[str, type[FlatIndex]] = {"faiss": FaissIndex, "numpy": FlatIndex}
"""What may do the scan."""


def _measure(queries: F32, rows: F32) -> F64:
    """Squared distances of `queries` [..., d] to rows [..., R, d]."""
    return np.square(rows.astype(np.float64) - queries[..., None, :].astype(np.float64)).sum(axis=-1)


def _faiss() -> Any:
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise MissingPackage(f"memory=faiss needs the package faiss: {pip_line('faiss')} (or use memory=numpy)") from error
    faiss.omp_set_num_threads(1)
    return faiss
