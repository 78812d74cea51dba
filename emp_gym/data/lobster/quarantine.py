"""Words for the rows that are not kept: file, line, column, rule, expected, got; and which rows' times are out of
order.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import product

import numpy as np

from emp_gym.data.lobster.accused import Accused
from emp_gym.data.lobster.alignment import Pairing
from emp_gym.data.lobster.check import expected_book, implied
from emp_gym.data.lobster.edits import wrong_fields
from emp_gym.data.lobster.files import DayFiles
from emp_gym.data.lobster.line_rules import Fault, Lines, book_column, integer
from emp_gym.data.lobster.parser import Books, Messages
from emp_gym.data.lobster.tick import off_tick
from emp_gym.types import I64, NS, EmpGymError, Instrument

Entry = tuple[str, int, str, str, str, str]  # file, line, column, rule, expected, got


class Accuser:
    """Says of each bad row what is wrong with it."""

    def __init__(
        self, files: DayFiles, messages: Messages, books: Books, pairing: Pairing, instrument: Instrument
    ) -> None:
        self.levels, self.instrument = files.levels, instrument
        self.messages, self.books, self.pairing = messages, books, pairing
        self.message_lines, self.book_lines = Lines(files.message), Lines(files.book)

    def line(self, row: int) -> int:
        """1-based line of an aligned row in the message file, or in the order book file if the message is missing."""
        message = int(self.pairing.message[row])
        return (
            self.message_lines.number(message) if message >= 0 else self.book_lines.number(int(self.pairing.book[row]))
        )

    def entries(self, rows: I64, late: I64, accused: Accused) -> Iterator[Entry]:
        """One entry for each bad line of the aligned rows `rows`; `late`: message rows whose time is out of order;
        `accused`: those whose order id or type contradicts the rows before.
        """
        out_of_order = set(late.tolist())
        for row in rows.tolist():
            message, book = int(self.pairing.message[row]), int(self.pairing.book[row])
            found = False
            if message >= 0 and not self.messages.ok[message]:
                yield self._in_messages(message, self._refused_message(message))
                found = True
            if book >= 0 and not self.books.ok[book]:
                yield self._in_books(book, _must(self.book_lines.book_fault(book, self.levels)))
                found = True
            if found:
                continue
            if row in self.pairing.blame:
                yield self._blamed(row, message, book)
            elif message in out_of_order:
                yield self._in_messages(message, self._late(message))
            elif message in accused.faults:
                yield self._in_messages(message, accused.faults[message])

    def _in_messages(self, row: int, fault: Fault) -> Entry:
        return (self.message_lines.file.name, self.message_lines.number(row), *fault)

    def _in_books(self, row: int, fault: Fault) -> Entry:
        return (self.book_lines.file.name, self.book_lines.number(row), *fault)

    def _refused_message(self, row: int) -> Fault:
        fault = self.message_lines.message_fault(row)
        return fault or off_tick(integer(self.message_lines.cells(row)[4]), self.instrument)

    def _late(self, row: int) -> Fault:
        before = self.messages.time_ns[:row][self.messages.ok[:row]]
        got = int(self.messages.time_ns[row])
        after = self.messages.time_ns[row + 1 :][self.messages.ok[row + 1 :]]
        if len(before) and got < before[-1]:
            expected = f"not before the row above ({_seconds(int(before[-1]))})"
        elif len(after) and got > after[0]:
            expected = f"not after the row below ({_seconds(int(after[0]))})"
        else:
            expected = "times that never decrease"
        return Fault("time", "time-decreasing", expected, _seconds(got))

    def _blamed(self, row: int, message: int, book: int) -> Entry:
        blame, base = self.pairing.blame[row], self.pairing.base[row]
        if blame == "no message":
            return self._in_books(
                book, Fault("line", "missing-message", "a line for this book row in the message file", "none")
            )
        if blame == "no book":
            return self._in_messages(
                message, Fault("line", "missing-book-row", "a line for this message in the order book file", "none")
            )
        if blame == "swap":
            fault = Fault(
                "line",
                "book-mismatch",
                "the change that the book shows",
                "the neighbour's message: two lines changed places",
            )
            return self._in_messages(message, fault)
        if blame == "message":
            change = self._implied(base[1], book)
            wrong = wrong_fields(self.messages, message, change)
            column, expected, got = wrong[0] if wrong else ("line", "the change that the book shows", "another")
            return self._in_messages(message, Fault(column, "book-mismatch", f"{expected}, from the order book", got))
        return self._in_books(book, self._book_cell(base, message, book))

    def _implied(self, before: int, after: int) -> tuple[int, int, int, int]:
        price, size = self.books.price, self.books.size
        return implied(price[before], size[before], price[after], size[after])

    def _book_cell(self, base: tuple[int, int], message: int, book: int) -> Fault:
        """The first cell of a book row that is not what the messages since the trusted row `base` make of it."""
        x, y = self.messages, self.books
        if base[1] >= 0:
            one = (x.kind, x.side, x.price, x.size, x.ok, y.price[base[1]], y.size[base[1]], base[0] + 1, message + 1)
            price, size, known, whole = expected_book(*one)
            for side, level in product((1, 0), range(self.levels)):
                column = 4 * level + 2 * (1 - side)
                for name, expected, got in ((column, price, y.price[book]), (column + 1, size, y.size[book])):
                    if whole and level < known[side] and expected[side, level] != got[side, level]:
                        wanted = f"{expected[side, level]}, from the message and the row before"
                        return Fault(book_column(name), "book-mismatch", wanted, str(got[side, level]))
        return Fault(
            "line", "book-mismatch", "a row that follows from its message and leads to the next", "one that does not"
        )


def _must(fault: Fault | None) -> Fault:
    if fault is None:
        raise EmpGymError("a line was refused without a reason: the byte parser and its explanation disagree")
    return fault


def _seconds(time_ns: int) -> str:
    return f"{time_ns // NS}.{time_ns % NS:09d}"


def late_rows(messages: Messages) -> I64:
    """Rows to take away so that the accepted times never decrease: as few as possible, the later of two that would do.

    A single wrong time is found wherever it stands, too early or too late (longest non-decreasing subsequence). Two
    adjacent rows in exchanged order whose messages do the same to the book (so that only their times tell) are both
    named.
    """
    rows = np.flatnonzero(messages.ok)
    times = (-messages.time_ns[rows[::-1]]).tolist()  # backwards, so that the earlier of two equal choices is kept
    tops: list[int] = []  # smallest last time of a non-decreasing run of each length
    places: list[int] = []
    before = [-1] * len(times)
    for place, clock in enumerate(times):
        length = bisect_right(tops, clock)
        before[place] = places[length - 1] if length else -1
        if length == len(tops):
            tops.append(clock)
            places.append(place)
        else:
            tops[length], places[length] = clock, place
    kept = np.zeros(len(times), np.bool_)
    place = places[-1]
    while place >= 0:
        kept[place] = True
        place = before[place]
    out = np.flatnonzero(~kept[::-1])
    return np.array(sorted({*rows[out].tolist(), *_exchanged(messages, rows, out)}), np.int64)


def _exchanged(messages: Messages, rows: I64, out: I64) -> set[int]:
    """The other row of each exchanged pair that the book cannot tell."""
    found = set()
    times = messages.time_ns[rows]
    for place in out.tolist():
        for first in (place - 1, place):
            if first < 0 or first + 1 >= len(rows) or times[first] <= times[first + 1]:
                continue
            fits_below = first == 0 or times[first - 1] <= times[first + 1]
            fits_above = first + 2 >= len(rows) or times[first] <= times[first + 2]
            if (
                fits_below
                and fits_above
                and _effect(messages, int(rows[first])) == _effect(messages, int(rows[first + 1]))
            ):
                found |= {int(rows[first]), int(rows[first + 1])}
    return found


def _effect(messages: Messages, row: int) -> tuple[int, ...]:
    kind = int(messages.kind[row])
    if kind >= 5:
        return ()
    return (kind == 1, int(messages.side[row]), int(messages.price[row]), int(messages.size[row]))
