"""When decisions are taken and where episodes may start: parses "100 messages" or "1 s", splits days into windows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from emp_gym.data.clock import UNITS
from emp_gym.data.tape import TapeSet
from emp_gym.evaluation.assumptions import half_life_of
from emp_gym.settings import LARGEST, shown, whole, word
from emp_gym.types import NS, ConfigError, DataError

SPLITS = ("train", "test", "all", "fit", "validation")
HELD_OUT = 0.2  # share of the dates, the last ones, where there are two or more
HELD_OUT_OF_A_DATE = 0.25  # share of its rows, the last ones, where there is one


@dataclass(frozen=True)
class Pace:
    """Every how many messages or nanoseconds a decision is taken (one of both is 0)."""

    rows: int
    ns: int

    def __str__(self) -> str:
        """As `parse_pace` reads it, in the largest unit that is exact."""
        if self.rows:
            return f"{self.rows} message{'s' if self.rows > 1 else ''}"
        unit = next(unit for unit in reversed(UNITS) if self.ns % UNITS[unit] == 0)
        return f"{self.ns // UNITS[unit]} {unit}"


def parse_pace(text: Any) -> Pace:
    """'100 messages', '250 ms', '1 s'."""
    match = re.fullmatch(r"\s*(\d{1,18})\s*([a-z]+)\s*", text) if isinstance(text, str) else None
    if match and int(match[1]) > 0:
        count, unit = int(match[1]), match[2]
        if unit in ("message", "messages"):
            return Pace(count, 0)
        if unit in UNITS:
            return Pace(0, count * UNITS[unit])
    raise ConfigError(f"every must be like '100 messages', '250 ms' or '1 s', got {shown(text)}")


def parse_episode(text: Any) -> int:
    """'256 decisions' -> 256."""
    match = re.fullmatch(r"\s*(\d{1,18})\s*decisions?\s*", text) if isinstance(text, str) else None
    if not match or int(match[1]) < 1:
        raise ConfigError(f"episode must be like '256 decisions', got {shown(text)}")
    return int(match[1])


def parse_impact(text: Any) -> int:
    """Half-life of consumed depth in ns; see `half_life_of`."""
    half_life = half_life_of(text)
    if half_life is None:
        raise ConfigError(f"impact must be 'none', 'resilient', 'resilient 250 ms' or 'permanent', got {shown(text)}")
    return half_life


@dataclass(frozen=True)
class Windows:
    """Where episodes may start. `table` i8 [W, 4]: day, first start row, last start row, last row of an episode."""

    table: np.ndarray
    span: np.ndarray  # rows of one episode, an estimate when paced by time [W]

    @property
    def weight_end(self) -> np.ndarray:
        """Running number of possible starts [W]."""
        return np.cumsum(self.table[:, 2] - self.table[:, 1] + 1)

    def disjoint(self, tape: TapeSet, pace: Pace, episode: int) -> list[tuple[int, int]]:
        """Starts (day, row) of consecutive, non-overlapping episodes, in order."""
        starts = []
        for day, first, last, end in self.table.tolist():
            times, group = tape.rows["time_ns"][tape.day_slice(day)], tape.rows["group_end"][tape.day_slice(day)]
            row = int(group[first])
            while row <= last:
                starts.append((day, row))
                if pace.rows:
                    for _ in range(episode):  # exactly the decisions that the market will take
                        row = int(group[min(row + pace.rows, len(group) - 1)])
                else:
                    row = int(np.searchsorted(times, times[row] + pace.ns * episode, side="right"))
                if row >= end:
                    break
        return starts


def split_windows(tape: TapeSet, split: str, pace: Pace, episode: int) -> Windows:
    """The windows of one split, by the one rule of `halves`: "train" and "test", or "all" for both together. "fit" and
    "validation" are the training part cut once more: for a search, which must not choose on the test. `DataError` when
    nothing is long enough for an episode.
    """
    word("split", split, SPLITS)
    if (pace.rows or pace.ns) * episode > LARGEST // 2:
        raise ConfigError(f"an episode of {episode:,} decisions every {pace} does not fit the 64 bits of a clock; use a smaller one")
    windows = _windows(tape, split, pace, episode)
    if windows is None and not _parts(tape, "all", pace, episode):
        raise DataError(f"{tape.described}: the two sides of the book are never both quoted, so nothing has a price; give other days")
    if windows is None:
        raise DataError(
            f"no {split} window of {len(tape.info)} day(s) holds an episode of {episode} decisions every {pace}; "
            f"{_what_fits(tape, split, pace, episode)}"
        )
    return windows


def _windows(tape: TapeSet, split: str, pace: Pace, episode: int) -> Windows | None:
    """None when nothing is long enough."""
    table, spans = [], []
    for day, first, end in _parts(tape, split, pace, episode):
        times = tape.rows["time_ns"][tape.day_slice(day)]
        last = _last_start(times, first, end, pace, episode)
        if last >= first:
            table.append((day, first, last, end))
            spans.append(pace.rows * episode or end - last)
    return Windows(np.array(table, np.int64), np.array(spans, np.int64)) if table else None


def _what_fits(tape: TapeSet, split: str, pace: Pace, episode: int) -> str:
    """A setting under which there is a window, each half of the one before: shorter episodes before more frequent decisions."""
    every = pace
    while every.rows or every.ns:
        length = episode
        while length >= min(2, episode):
            if _windows(tape, split, every, length) is not None:
                fit = {"every": str(every)} if every != pace else {}
                fit["episode"] = f"{length} decision{'s' if length > 1 else ''}"
                told = ", ".join(f"{key}='{value}'" for key, value in fit.items())
                flags = " ".join(f"env.{key}='{value}'" for key, value in fit.items())
                return f"{told} fits (on a command line: --set {flags}); or {_else(split)}"
            length //= 2
        every = Pace(every.rows // 2, every.ns // 2)
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


def _parts(tape: TapeSet, split: str, pace: Pace, episode: int) -> list[_Part]:
    """What belongs to `split`, in order of time."""
    days = range(len(tape.info))
    rows = [tape.day_slice(day) for day in days]
    whole = [(day, first_price(tape, day), rows[day].stop - rows[day].start - 1) for day in days]
    whole = [part for part in whole if part[1] <= part[2]]
    if split == "all":
        return whole
    train, test = halves(tape, whole, pace, episode)
    if split in ("train", "test"):
        return train if split == "train" else test
    fit, validation = halves(tape, train, pace, episode, marked=False)
    return fit if split == "fit" else validation


def dates(tape: TapeSet, days: Iterable[int] | None = None) -> list[str]:
    """The dates of `days` (None: all), ascending: the samples that a split or a fold takes whole."""
    return sorted({tape.info[day].date for day in (range(len(tape.info)) if days is None else days)})


def halves(
    tape: TapeSet, parts: list[_Part], pace: Pace, episode: int, *, marked: bool = True
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
    return _cut_of_a_date(tape, parts, pace, episode)


def _cut_of_a_date(tape: TapeSet, parts: list[_Part], pace: Pace, episode: int) -> tuple[list[_Part], list[_Part]]:
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
        purged = owed.get(symbol, pace.rows * episode)
        before = cut - 1 - purged
        if not pace.rows:
            before = min(cut, int(np.searchsorted(times[day], moment - pace.ns * episode))) - 1
        owed[symbol] = max(0, purged - (cut - first))
        if before >= first:
            earlier.append((day, first, before))
        if cut <= end:
            later.append((day, cut, end))
    return sorted(earlier), sorted(later)


def _last_start(times: np.ndarray, first: int, end: int, pace: Pace, episode: int) -> int:
    """Last row from which a whole episode fits before `end`; one that is too long for the window may start at its first row
    if at least two decisions fit (it is truncated where the window ends)."""
    if end <= first:
        return first - 1
    if pace.rows:
        last = end - pace.rows * episode
        enough = end - first >= 2 * pace.rows
    else:
        last = int(np.searchsorted(times, times[end] - pace.ns * episode, side="right")) - 1
        enough = times[end] - times[first] >= 2 * pace.ns
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
