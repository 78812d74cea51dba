"""The same rows twice in one set of days: found by name, by content and by a sample of the rows, and refused.

What is trained on must not be judged, and what is judged must not count twice. Two days are the same rows when

- they are of one symbol and date and their times overlap: a copy, a damaged copy, another depth, a session inside another;
- they share rows (time to the ns, kind, order id, size, price and side) under other symbols or dates;
- they share runs of rows but for a constant: times, prices or order ids were shifted, rows cut off (`shape`).

Shared rows under another symbol on the same date, with other fees, lot, tick or price unit, are let through with a warning:
somebody compares rules of a market, and the split puts days of one date on one side.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np

from emp_gym.data.tape.format import Columns, DayInfo, Tape, rules_of
from emp_gym.types import DataError, Instrument, RecordedDay

SAMPLE = 128  # rows of a day that are compared with those of other days
SHARED = 4  # of them in both days: more than chance, since times are to the nanosecond
MOST_HOLDERS = 64  # days that hold a row, with which each further one that holds it is compared
RUN = 8  # steps from row to row that are hashed together in a `shape`
IRREGULAR = 4  # different pauses that a run must have: sweeps of one moment and clocks of whole seconds look alike on all days
RUNS = 256  # runs of a day that are compared with those of other days
_OF_ITS_NAME = ("symbol", "session_start_ns", "session_end_ns", "sector")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Given(Generic[Tape]):
    """A day of what the user named."""

    where: str  # for messages
    source: int  # which of the names it is from
    tape: Tape
    day: int = 0

    @property
    def info(self) -> DayInfo:
        return self.tape.info[self.day]

    @property
    def times(self) -> tuple[int, int]:
        """First and last row, ns after midnight."""
        own = self.tape.rows["time_ns"][self.tape.day_slice(self.day)]
        return int(own[0]), int(own[-1])

    def __str__(self) -> str:
        return f"{self.info} ({self.where})"


def without_repeats(days: Sequence[Given[Tape]]) -> list[Given[Tape]]:
    """`days`, each once. `DataError` for the same rows twice; one day that lies twice in one folder (a tape beside its zip, a
    zip beside its files) is read once, and said."""
    once: dict[tuple[str, int], Given[Tape]] = {}
    for day in days:
        first = once.setdefault((day.info.identity, day.source), day)
        if first is not day:
            log.warning("%s: the same day as %s, read once", day.where, first.where)
    kept = list(once.values())
    for one, other, why in _same_rows(kept):
        raise DataError(f"{one} and {other} {why}; what is trained on must not be judged, nor judged twice: give one of them")
    return kept


def _same_rows(days: Sequence[Given]) -> Iterator[tuple[Given, Given, str]]:
    yield from _overlapping(days)
    contents: dict[str, Given] = {}
    for day in days:
        first = contents.setdefault(day.info.content, day) if day.info.content else day
        if first is not day and not _differ(first, day):
            yield first, day, "hold the same rows"
    yield from _sharing(days, [day.info.source.get("sample", ()) for day in days], f"share rows ({{}} of a sample of {SAMPLE})")
    if len(days) > 1:
        shapes = [shape_of(day.tape, day.day) for day in days]
        yield from _sharing(days, shapes, f"share rows that were shifted or renumbered ({{}} of {RUNS} runs of {RUN + 1} rows)")


def _overlapping(days: Sequence[Given]) -> Iterator[tuple[Given, Given, str]]:
    """Days of one symbol and date of which one begins before another is over."""
    together = defaultdict(list)
    for day in days:
        together[day.info.instrument.symbol, day.info.date].append((*day.times, day))
    for group in together.values():
        group.sort(key=lambda entry: entry[:2])
        _, end, latest = group[0]
        for begin, last, day in group[1:]:
            if begin < end:
                yield latest, day, _overlap(latest.info, day.info)
            if last > end:
                end, latest = last, day


def _overlap(one: DayInfo, other: DayInfo) -> str:
    if one.content == other.content:
        return "hold the same rows"
    if one.levels != other.levels:
        return f"are one day at {one.levels} and at {other.levels} levels"
    return "overlap: two versions of one day, or a session inside another, or names that do not say the date"


def _sharing(days: Sequence[Given], sketches: Sequence[Iterable[int]], why: str) -> Iterator[tuple[Given, Given, str]]:
    """Days of which a part of the sketch is in that of another day too."""
    holders: dict[int, list[int]] = defaultdict(list)
    for number, sketch in enumerate(sketches):
        for row in set(sketch):
            holders[row].append(number)
    shared = Counter((i, j) for at in holders.values() for k, j in enumerate(at) for i in at[: min(k, MOST_HOLDERS)])
    for (i, j), count in sorted(shared.items()):
        one, other = days[i], days[j]
        if count < SHARED:
            continue
        if not (differ := _differ(one, other)):
            yield one, other, why.format(count)
        log.warning("%s and %s share rows under other rules (%s): what they give is not independent", one, other, ", ".join(differ))


def _differ(one: Given, other: Given) -> list[str]:
    """In which rules the instruments of two days of one date differ; none for days of unlike dates."""
    a, b = (rules_alone(x.info.instrument) for x in (one, other))
    return sorted(name for name in a | b if a.get(name) != b.get(name)) if one.info.date == other.info.date else []


def rules_alone(instrument: Instrument) -> dict[str, Any]:
    """The rules of an instrument (fees, lot, tick, ...) without what names it."""
    return {name: value for name, value in rules_of(instrument).items() if name not in _OF_ITS_NAME}


def sample(day: RecordedDay) -> list[int]:
    """The `SAMPLE` smallest hashes of the rows of `day`: of two days that share a part of their rows, about that part is
    common (bottom-k sketch, Broder 1997)."""
    mixed = np.zeros(len(day.time_ns), np.uint64)
    columns: list[Any] = [day.time_ns, day.kind, day.order_id, day.size, day.price, day.side]
    for column in columns:
        mixed = _mix(mixed ^ column.astype(np.int64).view(np.uint64))
    return [int(row) for row in np.unique(mixed)[:SAMPLE]]


def shape(rows: np.ndarray) -> list[int]:
    """The `RUNS` smallest hashes of runs of `rows` (MESSAGE): pause, kind, size, side and change of price from row to row, so neither
    name, date, order ids nor a constant added to times or prices matter.

    Two days of which one holds a part p of the other's rows have about p `RUNS` in common. Different days have none but by
    chance: a hash stands for `RUN` steps, each to the nanosecond, of which at least `IRREGULAR` pauses differ.
    """
    if len(rows) <= RUN:
        return []
    pause = np.diff(rows["time_ns"])
    steps = np.zeros(len(pause), np.uint64)
    columns: list[Any] = [pause, *(rows[name][1:] for name in ("kind", "size", "side")), np.diff(rows["price"].astype(np.int64))]
    for column in columns:
        steps = _mix(steps ^ column.astype(np.int64).view(np.uint64))
    several = np.sort(np.lib.stride_tricks.sliding_window_view(pause, RUN), axis=1)
    differ = (np.diff(several, axis=1) > 0).sum(axis=1) + (several[:, 0] > 0)  # of those above 0
    runs = np.zeros(len(several), np.uint64)
    for k in range(RUN):
        runs = _mix(runs ^ steps[k : k + len(runs)])
    return [int(run) for run in np.unique(runs[differ >= IRREGULAR])[:RUNS]]


def shape_of(tape: Columns, day: int) -> tuple[int, ...]:
    """The `shape` of a day of `tape`, also of one that was saved without it."""
    kept = tape.info[day].source.get("shape")
    if kept is None:
        kept = shape(tape.messages[tape.day_slice(day)])
    return tuple(kept)


def shares(one: Iterable[int], other: Iterable[int]) -> bool:
    """Whether two shapes have more in common than chance gives."""
    return len(set(one) & set(other)) >= SHARED


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
