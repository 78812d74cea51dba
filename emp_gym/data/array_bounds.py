"""Bytes of a file become arrays of the type that they had, and nothing in them is out of bounds.

`DataError` names the file, the array, its lane and field, what was expected and what is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from emp_gym.types import DataError

Arrays = Mapping[str, np.ndarray]
MOST = 1 << 62  # of what is only counted, so that sums of two fit 64 bits


def typed(own: Arrays, saved: Arrays, where: str) -> dict[str, np.ndarray]:
    """The bytes of `saved` as the arrays of `own`, apart from them. `DataError` where one is missing or of another size."""
    found = {}
    for name, array in own.items():
        there = saved[name].nbytes if name in saved else None
        if there != array.nbytes:
            raise DataError(f"{where}: {name}: expected {array.nbytes} bytes, got {there}; the file is damaged, or of another environment")
        found[name] = saved[name].view(array.dtype).reshape(array.shape)
    return found


class Bounds:
    """Says where a file is out of bounds."""

    def __init__(self, where: str) -> None:
        self.where = where

    def within(self, name: str, values: np.ndarray, low: Any, high: Any, which: Any = True) -> None:
        """`DataError` unless `values` [N] or [N, K] are `low` to `high`, where `which`."""
        with np.errstate(invalid="ignore"):
            wrong = ~((values >= low) & (values <= high)) & which
        if np.any(wrong):
            at = tuple(int(n) for n in np.argwhere(wrong)[0])
            lows, highs = np.broadcast_to(low, values.shape)[at], np.broadcast_to(high, values.shape)[at]
            self.refuse(name, at, f"{lows} to {highs}", values[at])

    def plain(self, name: str, values: np.ndarray) -> None:
        """`DataError` unless truth values are 0 or 1 and fractions finite."""
        rows = values.reshape(len(values), -1) if values.size else values
        if values.dtype.kind == "b":
            self.within(name, rows.view(np.uint8), 0, 1)
        elif values.dtype.kind == "f":
            self.within(name, rows, -np.finfo(values.dtype).max, np.finfo(values.dtype).max)

    def equal(self, name: str, values: np.ndarray, expected: np.ndarray, which: Any = True) -> None:
        wrong = (values != expected) & which
        if np.any(wrong):
            at = tuple(int(n) for n in np.argwhere(wrong)[0])
            self.refuse(name, at, f"{np.broadcast_to(expected, values.shape)[at]} as the tape has it", values[at])

    def refuse(self, name: str, at: tuple[int, ...], expected: str, got: Any) -> None:
        place = f"lane {at[0]}" + (f", entry {at[1]}" if len(at) > 1 else "")
        raise DataError(
            f"{self.where}: {name}, {place}: expected {expected}, got {got}; the file is damaged: go on from an earlier checkpoint, or "
            "begin new episodes"
        )
