"""Where episodes may start on recorded days: a split takes whole dates, or an earlier and a later part of one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from emp_gym.data.tape.tape_set import TapeSet
from emp_gym.market.clock import Clock
from emp_gym.market.starts import SPLITS, Starts
from emp_gym.settings import LARGEST, whole, word
from emp_gym.types import NS, ConfigError, DataError

HELD_OUT = 0.2  # share of the dates, the last ones, where there are two or more
HELD_OUT_OF_A_DATE = 0.25  # share of its rows, the last ones, where there is one


class DayStarts(Starts):
    """Starts of one split of `tape`, for episodes of so many decisions. `table`: day, first start row, last start row, last row of
    an episode."""

    def __init__(self, table: np.ndarray, tape: TapeSet, clock: Clock, episode: int) -> None:
        super().__init__(table)
        self.tape, self.clock, self.episode = tape, clock, episode

    def disjoint(self) -> list[tuple[int, int]]:
        """Starts (day, row) of consecutive, non-overlapping episodes, in order."""
        starts, clock = [], self.clock
        for day, first, last, end in self.table.tolist():
            rows = self.tape.rows[self.tape.day_slice(day)]
            times, group = rows["time_ns"], rows["group_end"]
            row = int(group[first])
            while row <= last:
                starts.append((day, row))
                if clock.count:
                    for _ in range(self.episode):  # exactly the decisions that the market will take
                        row = int(group[min(row + clock.count, len(group) - 1)])
                else:
                    row = int(np.searchsorted(times, times[row] + clock.ns * self.episode, side="right"))
                if row >= end:
                    break
        return starts

    def pin(self, day: Any, start: Any) -> tuple[int, int, int]:
        day = whole("day", day, 0, len(self.tape.info) - 1, "; a place in tape_set.info")
        own, times = self.table[self.table[:, 0] == day], self.tape.rows["time_ns"][self.tape.day_slice(day)]
        row = (int(own[0, 1]) if len(own) else 0) if start is None else parse_start(start, times)
        first = first_price(self.tape, day)
        if row < first:
            raise ConfigError(
                f"start {row} is before row {first} of {self.tape.info[day]}, the first by which both sides had been "
                "quoted: nothing has a price yet; start there or later"
            )
        ends = [int(window[3]) for window in own if window[1] <= row <= window[3]]
        return day, row, ends[0] if ends else len(times) - 1


def split_days(tape: TapeSet, split: str, clock: Clock, episode: int) -> DayStarts:
    """The starts of one split, by the one rule of `halves`: "train" and "test", or "all" for both together. "fit" and
    "validation" are the training part cut once more: for a search, which must not choose on the test. `DataError` when
    nothing is long enough for an episode.
    """
    word("split", split, SPLITS)
    if (clock.count or clock.ns) * episode > LARGEST // 2:
        raise ConfigError(f"an episode of {episode:,} decisions every {clock} does not fit the 64 bits of a clock; use a smaller one")
    table = _table(tape, split, clock, episode)
    if not table and not _parts(tape, "all", clock, episode):
        raise DataError(f"{tape.described}: the two sides of the book are never both quoted, so nothing has a price; give other days")
    if not table:
        raise DataError(
            f"no {split} window of {len(tape.info)} day(s) holds an episode of {episode} decisions every {clock}; "
            f"{_what_fits(tape, split, clock, episode)}"
        )
    return DayStarts(np.array(table, np.int64), tape, clock, episode)


def _table(tape: TapeSet, split: str, clock: Clock, episode: int) -> list[tuple[int, int, int, int]]:
    """Empty when nothing is long enough."""
    table = []
    for day, first, end in _parts(tape, split, clock, episode):
        last = _last_start(tape.rows["time_ns"][tape.day_slice(day)], first, end, clock, episode)
        if last >= first:
            table.append((day, first, last, end))
    return table


def _what_fits(tape: TapeSet, split: str, clock: Clock, episode: int) -> str:
    """A setting under which there is a window, each half of the one before: shorter episodes before more frequent decisions."""
    every = clock
    while every.count or every.ns:
        length = episode
        while length >= min(2, episode):
            if _table(tape, split, every, length):
                fit = {"every": str(every)} if every != clock else {}
                fit["episode"] = f"{length} decision{'s' if length > 1 else ''}"
                told = ", ".join(f"{key}='{value}'" for key, value in fit.items())
                flags = " ".join(f"env.{key}='{value}'" for key, value in fit.items())
                return f"{told} fits (on a command line: --set {flags}); or {_else(split)}"
            length //= 2
        every = Clock(every.count // 2, every.ns // 2, every.unit)
    return _else(split)


def first_price(tape: TapeSet, day: int) -> int:
    """First row by which both sides of the book have been quoted: nothing has a price before. The number of rows where there is none."""
    rows = tape.day_slice(day)
    mid2 = tape.rows["mid2"][rows.start : rows.start + 1]
    if mid2[0] <= 0:  # seldom: a day begins with both sides, as a rule
        mid2 = tape.rows["mid2"][rows]
    return int(np.argmax(mid2 > 0)) if np.any(mid2 > 0) else rows.stop - rows.start


def _else(split: str) -> str:
    return "give more data or split='all'" + (" (on a command line: --set evaluation.split=all)" if split == "test" else "")


_Part = tuple[int, int, int]  # day, first row, last row


def _parts(tape: TapeSet, split: str, clock: Clock, episode: int) -> list[_Part]:
    """What belongs to `split`, in order of time."""
    days = range(len(tape.info))
    rows = [tape.day_slice(day) for day in days]
    whole = [(day, first_price(tape, day), rows[day].stop - rows[day].start - 1) for day in days]
    whole = [part for part in whole if part[1] <= part[2]]
    if split == "all":
        return whole
    train, test = halves(tape, whole, clock, episode)
    if split in ("train", "test"):
        return train if split == "train" else test
    fit, validation = halves(tape, train, clock, episode, marked=False)
    return fit if split == "fit" else validation


def dates(tape: TapeSet, days: Iterable[int] | None = None) -> list[str]:
    """The dates of `days` (None: all), ascending: the samples that a split or a fold takes whole."""
    return sorted({tape.info[day].date for day in (range(len(tape.info)) if days is None else days)})


def halves(
    tape: TapeSet, parts: list[_Part], clock: Clock, episode: int, *, marked: bool = True
) -> tuple[list[_Part], list[_Part]]:
    """`parts` (a day each) as an earlier and a later half: what is trained on ends before the first moment that is judged.

    1. Days that are marked as held out (the embedded days are, and those of a walk-forward fold) are the later half.
    2. Of two dates or more the last fifth is held out whole, at least one; all symbols of a date fall on one side.
    3. Of one date the last quarter of the clock is, from one moment for all its symbols and sessions: that before which
       three quarters of their rows lie. One episode before it is in neither half.
    """
    late = {day for day, _, _ in parts if marked and tape.info[day].source.get("held_out")}
    known = dates(tape, [day for day, _, _ in parts])
    if not late and len(known) > 1:
        last = known[-max(1, round(HELD_OUT * len(known))) :]
        late = {day for day, _, _ in parts if tape.info[day].date in last}
    if late:
        return [part for part in parts if part[0] not in late], [part for part in parts if part[0] in late]
    return _cut_of_a_date(tape, parts, clock, episode)


def _cut_of_a_date(tape: TapeSet, parts: list[_Part], clock: Clock, episode: int) -> tuple[list[_Part], list[_Part]]:
    if not parts:
        return [], []
    times = {day: tape.rows["time_ns"][tape.day_slice(day)] for day, _, _ in parts}
    pooled = np.sort(np.concatenate([times[day][first : end + 1] for day, first, end in parts]))
    at = int((1 - HELD_OUT_OF_A_DATE) * len(pooled))
    moment = pooled[at]
    earlier, later = [], []
    owed: dict[str, int] = {}  # by symbol: rows before the moment that are not trained on
    for day, first, end in sorted(parts, key=lambda part: -int(times[part[0]][0])):
        # of one day the cut is a row, which may lie amid a timestamp
        cut = first + at if len(parts) == 1 else max(first, int(np.searchsorted(times[day][: end + 1], moment)))
        symbol = tape.info[day].instrument.symbol
        purged = owed.get(symbol, clock.count * episode)
        before = cut - 1 - purged
        if not clock.count:
            before = min(cut, int(np.searchsorted(times[day], moment - clock.ns * episode))) - 1
        owed[symbol] = max(0, purged - (cut - first))
        if before >= first:
            earlier.append((day, first, before))
        if cut <= end:
            later.append((day, cut, end))
    return sorted(earlier), sorted(later)


def _last_start(times: np.ndarray, first: int, end: int, clock: Clock, episode: int) -> int:
    """Last row from which a whole episode fits before `end`; one that is too long for the window may start at its first row
    if at least two decisions fit (it is truncated where the window ends)."""
    if end <= first:
        return first - 1
    if clock.count:
        last = end - clock.count * episode
        enough = end - first >= 2 * clock.count
    else:
        last = int(np.searchsorted(times, times[end] - clock.ns * episode, side="right")) - 1
        enough = times[end] - times[first] >= 2 * clock.ns
    return last if last >= first else (first if enough else first - 1)


def parse_start(start: Any, times: np.ndarray) -> int:
    """A row, or a clock time '10:15:00' -> the last row not after it."""
    if isinstance(start, str):
        match = re.fullmatch(r"(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?", start)
        if not match:
            raise ConfigError(f"start must be a row or a time like '10:15:00', got {start!r}")
        hours, minutes, seconds, fraction = match.groups()
        ns = (int(hours) * 3600 + int(minutes) * 60 + int(seconds or 0)) * NS + int((fraction or "0").ljust(9, "0"))
        row = int(np.searchsorted(times, ns, side="right")) - 1
        if row < 0:
            raise ConfigError(f"start {start!r} is before the first message of the day")
        return row
    return whole("start", start, 0, len(times) - 1, "; a row, or a time like '10:15:00'")
