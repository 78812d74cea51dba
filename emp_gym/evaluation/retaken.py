"""Lots that were taken more often than the file showed them.

Without impact what was taken is back at once, so that an agent that decides often takes the same lots again and again. At one price, and
from when an episode first took there, at most so much can be had: what the file showed then, and every lot by which it has shown more
since. What is taken on top of that was there once and is taken twice. A level that comes back into view counts as new.
"""

from __future__ import annotations

import numpy as np

from emp_gym.data.tape.tape_set import TapeSet
from emp_gym.evaluation.observers import Began, Observer, Settled
from emp_gym.types import F64

TAKE = np.dtype([("lane", "i8"), ("side", "i8"), ("price", "i8"), ("row", "i8"), ("quantity", "i8")])


class Retaken(Observer):
    """Notes what lanes take from the visible book of `days`, where every lane is one episode; then `lots`."""

    def __init__(self, days: TapeSet) -> None:
        self._days, self._day = days, np.zeros(0, np.int64)
        self._takes: list[np.ndarray] = []

    def began(self, now: Began) -> None:
        self._day = now.public.lane["day"].copy()

    def settled(self, now: Settled) -> None:
        fills = now.fills
        mine = np.flatnonzero(now.moved[fills.lane] & ~fills.maker & ~fills.beyond_depth)
        if len(mine):
            takes = np.zeros(len(mine), TAKE)
            for name in TAKE.names or ():
                takes[name] = getattr(fills, name)[mine]
            self._takes.append(takes)

    def lots(self) -> F64:
        """Lots of each lane [N] that were taken more often than they were shown."""
        again = np.zeros(len(self._day))
        if not self._takes:
            return again
        takes = np.concatenate(self._takes)
        takes = takes[np.lexsort((takes["row"], takes["price"], takes["side"], takes["lane"]))]
        key = np.stack([takes["lane"], takes["side"], takes["price"]])
        for at_price in np.split(takes, np.flatnonzero((key[:, 1:] != key[:, :-1]).any(axis=0)) + 1):
            lane = int(at_price["lane"][0])
            again[lane] += _again(self._days, int(self._day[lane]), at_price)
        return again


def _again(tape: TapeSet, day: int, takes: np.ndarray) -> int:
    """Of the `takes` of one episode at one price, ascending by row: lots that were there only once."""
    side, rows = 1 if takes["side"][0] > 0 else 0, takes["row"]
    first, price = int(tape.days[day]["row0"]) + int(rows[0]), int(takes["price"][0]) - int(tape.days[day]["base"])
    end = first + int(rows[-1] - rows[0]) + 1
    for last in (first + 1, end):  # the first row is enough as a rule
        book = tape.book[first:last, side]
        shown = (book["size"] * (book["price"] == price)).sum(axis=1, dtype=np.int64)
        if takes["quantity"].sum() <= shown[0]:
            return 0
    there = shown[0] + np.concatenate([[0], np.maximum(np.diff(shown), 0)]).cumsum()  # lots that were ever there
    had = again = 0
    for could, wanted in zip(there[rows - rows[0]].tolist(), takes["quantity"].tolist()):
        again += max(wanted - (could - had), 0)
        had += min(wanted, could - had)
    return again
