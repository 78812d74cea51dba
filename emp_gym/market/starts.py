"""Where episodes may start in a market's source, and which part of it a split holds."""

from __future__ import annotations

from typing import Any

import numpy as np

from emp_gym.jit import hot
from emp_gym.settings import shown, whole, word
from emp_gym.types import I64, ConfigError

SPLITS = ("train", "test", "all", "fit", "validation")
WINDOWS = 256  # disjoint windows that a simulator offers of a split
_FIT, _TRAIN, _TEST = 3 << 28, 1 << 30, 3 << 29  # numbers below the second are trained on, those from there to the third are judged on
_BETWEEN = {"train": (0, _TRAIN), "test": (_TRAIN, _TEST), "all": (0, _TEST), "fit": (0, _FIT), "validation": (_FIT, _TRAIN)}


class Starts:
    """Starts of one split. `table` i8 [W, 4]: day, first start, last start, last event of an episode."""

    def __init__(self, table: np.ndarray) -> None:
        self.table = table
        self._weight_end = np.cumsum(table[:, 2] - table[:, 1] + 1)  # running number of possible starts [W]

    def draw(self, lanes: I64, random: np.ndarray) -> tuple[I64, I64, I64]:
        """(day, row, end_row) [n] of new episodes in `lanes` [n], uniform over all starts; `random` u8 [N] moves on there."""
        drawn = np.zeros((3, len(lanes)), np.int64)
        _draw_starts(lanes, random, self.table, self._weight_end, *drawn)
        return drawn[0], drawn[1], drawn[2]

    def disjoint(self) -> list[tuple[int, int]]:
        """Starts (day, row) of episodes that share no event, in order."""
        raise NotImplementedError

    def pin(self, day: Any, start: Any) -> tuple[int, int, int]:
        """(day, row, end_row) of the start that somebody asks for; None: the first one of that day. `ConfigError` where there is none."""
        raise NotImplementedError


class Numbers(Starts):
    """Starts of a simulator: numbers, each with noise of its own, so that no two episodes share an event."""

    def __init__(self, split: str) -> None:
        first, until = _BETWEEN[word("split", split, SPLITS)]
        super().__init__(np.array([[0, first, until - 1, until - 1]], np.int64))

    def disjoint(self) -> list[tuple[int, int]]:
        first = int(self.table[0, 1])
        return [(0, row) for row in range(first, first + WINDOWS)]

    def pin(self, day: Any, start: Any) -> tuple[int, int, int]:
        whole("day", day, 0, 0, "; a simulated market has one")
        if isinstance(start, str):
            raise ConfigError(f"start must be a number in a simulated market, which has no clock times to start at, got {shown(start)}")
        row = int(self.table[0, 1]) if start is None else whole("start", start, 0, _TEST - 1)
        return 0, row, row


def mixed(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014) of each of u8 [...]."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


# --------------------------------------------------------------------------------------------------------------- kernels


@hot
def _mix(x):
    """SplitMix64's output function (Steele, Lea, Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@hot
def draw(random, i):
    """The next 64 random bits of lane i (SplitMix64)."""
    random[i] += np.uint64(0x9E3779B97F4A7C15)
    return _mix(random[i])


@hot
def _draw_starts(lanes, random, windows, weight_end, day, row, end_row):
    """Draws for each of `lanes` a start, uniform over the rows of `windows` [W, 4] (day, first, last start, end)."""
    total = np.uint64(weight_end[len(weight_end) - 1])
    for j in range(len(lanes)):
        at = np.int64(draw(random, lanes[j]) % total)
        w = 0
        while weight_end[w] <= at:
            w += 1
        before = weight_end[w - 1] if w > 0 else 0
        day[j], row[j], end_row[j] = windows[w, 0], windows[w, 1] + at - before, windows[w, 3]
