"""LOBSTER days: message and order book file pairs → `RecordedDay`, every bad row quarantined, every book row verified.

`read` takes a folder, a zip, a message path or a pair of paths. Nothing is repaired silently: a row k (message k and
book row k are one row) is either kept as it stands in the files or quarantined with file, line, column, rule, expected
and got, and ``rows_in == rows_kept + rows_quarantined``. Quarantine never shifts the pairing.

Rules: ``column-count``, ``truncated-line``, ``not-a-number``, ``time-digits``, ``time-range``, ``time-decreasing``,
``unknown-type``, ``zero-size``, ``negative-size``, ``out-of-range``, ``price-range``, ``direction``,
``halt-convention``, ``off-tick`` (visible types 1-4 only: hidden orders may print between ticks), ``crossed`` (or
locked), ``levels-not-sorted``, ``empty-level-size``; found by comparing the two files: ``book-mismatch``,
``missing-message``, ``missing-book-row``; found by comparing the events of one order: ``order-id``, ``order-type``. See
lobster_bytes for the lines, lobster_check for the verification of book rows, lobster_pairing for what is blamed when a
row does not follow, lobster_lives and lobster_accused for orders, and docs/data.md.

Format: https://lobsterdata.com/info/DataStructure.php
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emp_gym.data.lobster.accused import Accused, OrderCheck, accused_of
from emp_gym.data.lobster.alignment import Pairing, pair
from emp_gym.data.lobster.check import EQUAL, EXPLAINED, UNCHECKED, UNEXPLAINED, is_sorted
from emp_gym.data.lobster.files import DayFiles, Half, Source, days_of, open_day
from emp_gym.data.lobster.parser import Books, Messages, books_of, messages_of
from emp_gym.data.lobster.quarantine import Accuser, late_rows
from emp_gym.data.lobster.refusal import stop_if_mostly_bad
from emp_gym.data.lobster.tick import instrument_of, mark_off_tick, stop_if_off_tick, told_ticks
from emp_gym.types import I64, Bool, Instrument, RecordedDay

Progress = Callable[[str], None]


class BadRow(NamedTuple):
    """One line that was not kept, and why."""

    file: str
    row: int  # 1-based line of the file
    column: str
    rule: str
    expected: str
    got: str


@dataclass(frozen=True)
class Quarantine:
    """Every bad line of a day in file order. A row whose two lines are both bad has two entries and counts as one
    row.
    """

    rows: tuple[BadRow, ...] = ()
    columns: tuple[str, ...] = BadRow._fields

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def rules(self) -> dict[str, int]:
        """How often each rule fired."""
        return dict(Counter(row.rule for row in self.rows))


@dataclass(frozen=True)
class BookCheck:
    """Result of applying message i to book row i - 1; rows_checked = equal + explained + unexplained.

    Not checked: the first row, rows refused when they were read, rows behind a gap that nothing bridges.
    """

    rows_checked: int
    equal: int
    explained: int  # ... but for a level that moved into the window
    unexplained: int  # quarantined as book-mismatch, missing-message or missing-book-row
    unexplained_rows: tuple[
        int, ...
    ] = ()  # 1-based line in the message file (order book file if the message is missing)


@dataclass(frozen=True)
class Reading:
    """One day as read. ``rows_in == rows_kept + rows_quarantined``; a line missing in one file is a row too."""

    day: RecordedDay
    quarantine: Quarantine
    check: BookCheck
    orders: OrderCheck
    rows_in: int
    rows_kept: int
    rows_quarantined: int
    seconds: float = field(compare=False)


def read(source: Source, *, instrument: Instrument | None = None, progress: Progress | None = None) -> list[Reading]:
    """Every LOBSTER day of `source`, in order of date, symbol and levels.

    source: a folder (with the folders and zips in it; `lobster_files.find` names what is not read), a zip (read in
    place), a message path (its order book is looked for beside it) or the pair (message path, order book path).
    instrument: symbol, tick, session and fees; without it symbol and session come from the file name and the ticks from
    the prices; one that is given must fit them. progress: called with a line of text now and then.

    Raises DataError when a half is missing, a file is empty or of another kind, or the two halves cannot be paired.
    """
    return [read_pair(message, book, instrument=instrument, progress=progress) for message, book in days_of(source)]


def read_pair(
    message: Half, book: Half, *, instrument: Instrument | None = None, progress: Progress | None = None
) -> Reading:
    """The day of one pair that `lobster_files.find` found: see `read`."""
    return _read_day(message, book, instrument, progress or _silent)


def _silent(_: str) -> None:
    return None


def _read_day(message: Half, book: Half, instrument: Instrument | None, progress: Progress) -> Reading:
    started = time.perf_counter()
    with open_day(message, book) as files:
        reading = read_files(files, message, instrument, progress)
    return replace(reading, seconds=time.perf_counter() - started)


def read_files(files: DayFiles, message: Half, instrument: Instrument | None, progress: Progress) -> Reading:
    """The reading of two files whose bytes are at hand. message: what the message file's name says."""
    m, b = files.message, files.book
    size = len(m.text) + len(b.text)
    told = f"{size / 1e6:,.0f} MB" if size >= 10e6 else f"{size / 1e3:,.1f} kB"
    progress(f"{m.name}: reading {told}")
    messages = messages_of(m.text, m.begin, m.delimiter, m.extra, m.name)
    books = books_of(b.text, b.begin, b.delimiter, files.levels, b.extra, b.name)
    stop_if_mostly_bad(m, messages.ok, files.levels)
    stop_if_mostly_bad(b, books.ok, files.levels)
    rules = {**files.notes}
    if messages.noisy:
        rules["time-noise"] = f"{messages.noisy} times with a double's noise behind the ninth digit, taken to the ns"
    if instrument is None:
        chosen, rules["tick"] = instrument_of(message, messages, books)
    else:
        chosen, rules["tick"] = instrument, f"{told_ticks(instrument)} price units, from the instrument"
        stop_if_off_tick(m, messages, instrument)
    if mark_off_tick(messages, chosen):
        progress(f"{m.name}: prices off the tick of {told_ticks(chosen)}")
    progress(f"{m.name}: verifying {len(messages):,} rows")
    pairing = pair(messages, books)
    late = np.empty(0, np.int64) if is_sorted(messages.time_ns, messages.ok) else late_rows(messages)
    accused = accused_of(messages, books, pairing, _trusted(pairing, len(messages)))
    bad = _bad_rows(pairing, messages, books, np.concatenate([late, accused.rows]))
    accuser = Accuser(files, messages, books, pairing, chosen)
    quarantine = Quarantine(tuple(BadRow(*entry) for entry in accuser.entries(np.flatnonzero(bad), late, accused)))
    check, orders = _check(pairing, accuser), _order_check(accused, accuser)
    rules |= quarantine.rules
    day = _day(message, chosen, messages, books, pairing, ~bad)
    rows_in, rows_bad = len(bad), int(bad.sum())
    day.source = _provenance(files.hashes, message, files.levels, rows_in, rows_bad, rules)
    day.source["orders"] = asdict(accused.check) | {"unseen": _unseen(messages)}
    del day.source["orders"]["unexplained_rows"]
    progress(f"{m.name}: {rows_in:,} rows, {rows_in - rows_bad:,} kept")
    if len(accused.unexplained) > len(accused.rows):
        kept = len(accused.unexplained) - len(accused.rows)
        progress(f"{m.name}: {kept:,} of the kept rows do not follow from the orders before: an earlier event may be wrong")
    return Reading(day, quarantine, check, orders, rows_in, rows_in - rows_bad, rows_bad, 0.0)


def _unseen(messages: Messages) -> int:
    """Rows of types 5 to 7: neither the order book nor another message tells of them."""
    return int(np.count_nonzero(messages.kind > 4))  # refused rows hold zeros


def _trusted(pairing: Pairing, rows: int) -> Bool:
    """Message rows [R] that the order book does not accuse."""
    accused = [int(pairing.message[row]) for row, blame in pairing.blame.items() if not blame.startswith("book")]
    trusted = np.ones(rows, np.bool_)
    trusted[[message for message in accused if message >= 0]] = False
    return trusted


def _bad_rows(pairing: Pairing, messages: Messages, books: Books, alone: I64) -> Bool:
    """Aligned rows [P] that are not kept. alone: message rows that only their file accuses."""
    m, b = pairing.message, pairing.book
    bad = (m < 0) | (b < 0) | (pairing.verdict == UNEXPLAINED)
    bad |= ~messages.ok[m] | ~books.ok[b]  # index -1 is harmless: such rows are bad anyway
    return bad | np.isin(m, alone) if len(alone) else bad


def _check(pairing: Pairing, accuser: Accuser) -> BookCheck:
    counts = np.bincount(pairing.verdict, minlength=4)
    rows = np.flatnonzero(pairing.verdict == UNEXPLAINED)
    return BookCheck(
        rows_checked=int(counts.sum() - counts[UNCHECKED]),
        equal=int(counts[EQUAL]),
        explained=int(counts[EXPLAINED]),
        unexplained=int(counts[UNEXPLAINED]),
        unexplained_rows=tuple(accuser.line(int(row)) for row in rows),
    )


def _order_check(accused: Accused, accuser: Accuser) -> OrderCheck:
    lines = tuple(accuser.message_lines.number(row) for row in accused.unexplained.tolist())
    return replace(accused.check, unexplained_rows=lines)


def _day(message: Half, chosen: Instrument, x: Messages, y: Books, pairing: Pairing, kept: Bool) -> RecordedDay:
    columns: list[Any] = [x.time_ns, x.kind, x.order_id, x.size, x.price, x.side]
    book: list[Any] = [y.price, y.size]
    if len(kept) != len(x) or len(kept) != len(y) or not kept.all():  # else the columns are the day as they stand
        columns = [column[pairing.message[kept]] for column in columns]
        book = [column[pairing.book[kept]] for column in book]
    return RecordedDay(chosen, message.date, *columns, *book)


def _provenance(
    hashes: Sequence[dict[str, Any]], message: Half, levels: int, rows_in: int, rows_bad: int, rules: dict[str, Any]
) -> dict[str, Any]:
    """What a tape keeps about where it came from; JSON values only."""
    return {
        "format": "LOBSTER",
        "folder": str(Path(message.container)),
        "message": hashes[0],
        "orderbook": hashes[1],
        "levels": levels,
        "rows_in": rows_in,
        "rows_kept": rows_in - rows_bad,
        "rows_quarantined": rows_bad,
        "rules": rules,
    }
