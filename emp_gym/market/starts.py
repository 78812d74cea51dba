"""Where episodes may start in a market's source, and which part of it a split holds."""

from __future__ import annotations

from typing import Any

import numpy as np

from emp_gym.settings import shown, whole, word
from emp_gym.types import I64, ConfigError

SPLITS = ("train", "test", "all", "fit", "validation")
WINDOWS = 256  # disjoint windows that a simulator offers of a split
_FIT, _TRAIN, _TEST = 3 << 28, 1 << 30, 3 << 29  # numbers below the second are trained on, those from there to the third are judged on
_BETWEEN = {"train": (0, _TRAIN), "test": (_TRAIN, _TEST), "all": (0, _TEST), "fit": (0, _FIT), "validation": (_FIT, _TRAIN)}


class Starts:
    """Starts of one split. `table` i8 [W, 4]: day, first start, last start, last event of an episode."""

    table: np.ndarray

    def draw(self, lanes: I64, random: np.ndarray) -> tuple[I64, I64, I64]:
        """(day, row, end_row) [n] of new episodes in `lanes` [n], uniform over all starts; `random` u8 [N] moves on there."""
        count = self.table[:, 2] - self.table[:, 1] + 1
        until = np.cumsum(count)
        at = (_next(lanes, random) % np.uint64(until[-1])).astype(np.int64)
        window = np.searchsorted(until, at, side="right")
        row = self.table[window, 1] + at - (until[window] - count[window])
        return self.table[window, 0], row, self.table[window, 3]

    def disjoint(self) -> list[tuple[int, int]]:
        """Starts (day, row) of episodes that share no event, in order."""
        raise NotImplementedError

    def pin(self, day: Any, start: Any) -> tuple[int, int, int]:
        """(day, row, end_row) of the start that somebody asks for; None: the first one. `ConfigError` where there is none."""
        raise NotImplementedError


class Numbers(Starts):
    """Starts of a simulator: numbers, each with noise of its own, so that no two episodes share an event."""

    def __init__(self, split: str) -> None:
        first, until = _BETWEEN[word("split", split, SPLITS)]
        self.table = np.array([[0, first, until - 1, until - 1]], np.int64)

    def disjoint(self) -> list[tuple[int, int]]:
        first = int(self.table[0, 1])
        return [(0, row) for row in range(first, first + WINDOWS)]

    def pin(self, day: Any, start: Any) -> tuple[int, int, int]:
        whole("day", 0 if day is None else day, 0, 0, "; a simulated market has one")
        if isinstance(start, str):
            raise ConfigError(f"start must be a number in a simulated market, which has no clock times to start at, got {shown(start)}")
        row = int(self.table[0, 1]) if start is None else whole("start", start, 0, _TEST - 1)
        return 0, row, row


def _next(lanes: I64, random: np.ndarray) -> np.ndarray:
    """The next number u8 [n] of each lane's SplitMix64."""
    with np.errstate(over="ignore"):
        random[lanes] += np.uint64(0x9E3779B97F4A7C15)
        return mixed(random[lanes])


def mixed(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014) of each of u8 [...]."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
