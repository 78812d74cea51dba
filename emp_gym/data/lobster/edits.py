"""Every way in which two LOBSTER files can go on from a pair of rows that is trusted, and what each is worth.

Message i applied to book row i - 1 must give book row i. Where it does not, something is damaged; the question is what,
and the neighbours must not be accused. Every way to go on from the last trusted pair is an edit with a cost; a search
by rising cost finds the first chain of edits behind which `ENOUGH` messages in a row agree with the book again. The
edits:

==============  =======  ==========================================================================================
edit            cost     when
==============  =======  ==========================================================================================
message         1        the two book rows differ by exactly one change, such as one message makes, but not by this
                         one; 1.3-1.5 if it would be wrong in several fields or is of types 5-7; + 1 if the order's
                         whole life is in the file and adds up with the message as it stands, - 0.3 if it would with
                         what the book shows (lobster_orders)
book            1        rows r, r + 1, ... do not agree, but the messages up to row r + n applied to row r - 1 give
                         row r + n; each further row + 0.02, + 0.8 if the damaged rows do not follow from each
                         other, + 1 if row r + n follows from the damaged row before it
book, earlier   + 0.01   the same from up to `BACK` rows before the one that fails: damage at a level that had just
                         moved into the window is found out later
stand still     1.0-2.2  cells of row r, r + 1, ... keep the value of row r - 1 (or read one other value) while the messages
                         go on; + 0.01 a row; + 0.4-1 if nothing tells that it is over: the next row follows from the
                         damaged one (lobster_frozen)
swap            0.9      the next two lines fit in the other order, in one file or in both; a message line takes its
                         time along, so the times must be out of order
missing line    1.2      in the file that has fewer rows left (else 2.4): a change without a message, or two messages
                         for one change
missing block   2        as many lines as one file is shorter, taken on the strength of what follows
first row       0.9-1.2  the first book row is damaged or missing: nothing stands before it
lost            2.2      the book row stands, its message does not explain it (a row may be missing in both files)
both            2.5      message and book row are both wrong: start again from the row behind
==============  =======  ==========================================================================================

A row that was refused when it was read costs nothing to pass: through its book row if only the message is bad, through
its message if only the book row is bad. A book row with two independent changes cannot be explained by a damaged
message; that is what tells the two apart. Two adjacent messages in exchanged order are both damaged rows, unless they
do the same to the book at the same time. Damage that leaves no trace cannot be found: in types 5-7 (they do not touch
the book), in the message of the first row, in a level that moved in and out of the window untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from emp_gym.data.lobster.check import ADD, EQUAL, EXPLAINED, UNCHECKED, UNEXPLAINED, chain, implied, verdict
from emp_gym.data.lobster.frozen import REFUSED, RIGHT, UNSURE, WRONG, frozen
from emp_gym.data.lobster.orders import AGREES, CONTRADICTS, SILENT, WHOLE, OrderRows
from emp_gym.data.lobster.parser import Books, Messages
from emp_gym.types import I8, I64

REACH = 64  # damaged book rows in a row that messages can bridge
BACK = 32  # rows to look back for a damaged book row that was found out late
CHEAP = 64  # rows that a kernel compares while Python touches one
STILL = 2_000  # rows of a stretch in which book cells stand still
_FOR_IT = {WHOLE: 1.0, AGREES: 0.3, SILENT: 0.0, CONTRADICTS: -0.3}  # what other messages of the order say of this one
_FOR_THE_BOOK = {WHOLE: -0.3, AGREES: 0.0, SILENT: 0.0, CONTRADICTS: 0.3}  # ... and of what the book makes of it


class EditRow(NamedTuple):
    """One row of an edit. A line that is missing has index -1."""

    message: int
    book: int
    verdict: int
    blame: str = ""  # "message", "book", "swap", "lost", "no message", "no book", "first"; "" = fine or refused earlier


class EditRows:
    """The rows of an edit that may be long, made when they are asked for: of a hundred edits one is taken."""

    def __init__(self, make: Callable[[], Iterable[EditRow]]) -> None:
        self._make = make

    @cached_property
    def _all(self) -> tuple[EditRow, ...]:
        return tuple(self._make())

    def __iter__(self) -> Iterator[EditRow]:
        return iter(self._all)


class Edit(NamedTuple):
    cost: float
    start: tuple[int, int]  # (message, book) trusted before it; earlier than the failing row for "book, earlier"
    message: int  # trusted behind it
    book: int
    rows: tuple[EditRow, ...] | EditRows


class Edits:
    """The edits that are possible at a place of two files.

    `work` counts what was looked at to tell them: one for each row that Python touched, or for `CHEAP` rows in a kernel.
    """

    def __init__(self, messages: Messages, books: Books) -> None:
        self.messages, self.books = messages, books
        self.orders = OrderRows(messages)
        self.found = np.zeros(REACH + 1, np.int8)
        self.told = np.zeros(STILL, np.int8)
        self.work = 0

    @cached_property
    def _next_sound(self) -> I64:
        """Of each book row: the first from it on that can be read; the number of rows if none can."""
        rows = len(self.books)
        here = np.where(self.books.ok, np.arange(rows), rows)
        return np.minimum.accumulate(here[::-1])[::-1]

    def at(self, m: int, b: int, agreed: int) -> Iterator[Edit]:
        """Every way to go on from the trusted pair (m, b), whose next pair does not agree.

        agreed: rows up to (m, b) that agreed one after the other and may be thought over.
        """
        self.work += 1
        left_m, left_b = len(self.messages) - 1 - m, len(self.books) - 1 - b
        if left_m == 0 or left_b == 0:
            if left_m or left_b:
                yield self._surplus(m, b, left_m, left_b)
            return
        readable, sound = bool(self.messages.ok[m + 1]), bool(self.books.ok[b + 1])
        if readable and sound:
            yield from self._swapped(m, b)
            yield from self._message(m, b)
            if (m, b) == (0, 0) and self.messages.ok[0]:
                yield from self._first(left_m - left_b)
        elif sound:
            yield Edit(0.0, (m, b), m + 1, b + 1, (EditRow(m + 1, b + 1, UNCHECKED),))
        if readable:
            yield from self._books(m, b, 0.0)
        yield from self._missing(m, b, left_m - left_b, readable, sound)
        yield from self.lost(m, b)
        if readable:
            yield from self._frozen(m, b, agreed)
        if agreed and readable and sound:
            yield from self._earlier(m, b, agreed)

    def _change(self, before: int, after: int) -> tuple[int, int, int, int]:
        price, size = self.books.price, self.books.size
        return implied(price[before], size[before], price[after], size[after])

    def _verdict(self, message: int, before: int, after: int) -> int:
        self.work += 1
        x, y = self.messages, self.books
        if not (x.ok[message] and y.ok[before] and y.ok[after]):
            return UNEXPLAINED
        one = (x.kind[message], x.side[message], x.price[message], x.size[message])
        return verdict(y.price[before], y.size[before], *one, y.price[after], y.size[after])

    def _message(self, m: int, b: int) -> Iterator[Edit]:
        change = self._change(b, b + 1)
        if change[0] == 2:
            return
        wrong = wrong_fields(self.messages, m + 1, change)
        hidden = self.messages.kind[m + 1] >= 5 and self.messages.order_id[m + 1] <= 0
        cost = 1.5 if hidden or change[0] == 0 else 1.0 if len(wrong) == 1 else 1.3
        word = self.orders.word_for(m + 1)
        if word != AGREES or any(field[0] != "size" for field in wrong):  # an open life says little of a size
            cost += _FOR_IT[word]
        if change[0]:
            cost += _FOR_THE_BOOK[self.orders.word_for(m + 1, change)]
        yield Edit(cost, (m, b), m + 1, b + 1, (EditRow(m + 1, b + 1, UNEXPLAINED, "message"),))

    def _chain(self, m: int, b: int, reach: int, skip_books: int) -> I8:
        x, y = self.messages, self.books
        found = self.found[:reach]
        self.work += 1 + reach // CHEAP
        chain(x.kind, x.side, x.price, x.size, x.ok, y.price, y.size, y.ok, m, b, reach, skip_books, found)
        return found

    def _books(self, m: int, b: int, extra: float) -> Iterator[Edit]:
        """Book rows b + 1 ... b + n are damaged, their messages are good, and row b + n + 1 agrees again."""
        rows: list[EditRow] = []
        guilty, breaks = 0, 0
        verdicts = self._chain(m, b, REACH + 1, 0).tolist()
        again = [n for n, found in enumerate(verdicts) if n and found in (EQUAL, EXPLAINED)][:3]
        for n in range(again[-1] + 1 if again else 0):
            row = (m + 1 + n, b + 1 + n)
            follows = n > 0 and self.books.ok[row[1] - 1] and self._verdict(row[0], row[1] - 1, row[1]) != UNEXPLAINED
            if n in again:
                cost = 1.0 + 0.02 * (guilty - 1) + 0.8 * breaks + (follows and n > 1) if guilty else 0.0
                yield Edit(cost + extra, (m, b), *row, (*rows, EditRow(*row, verdicts[n])))
            sound = bool(self.books.ok[row[1]])
            guilty += sound
            breaks += n > 0 and not follows
            rows.append(EditRow(*row, UNEXPLAINED, "book") if sound else EditRow(*row, UNCHECKED))

    def _frozen(self, m: int, b: int, agreed: int) -> Iterator[Edit]:
        """Book cells stand still from row b + 1 on, or since a row before that agreed all the same."""
        yield from self._still(m, b, m, -1, -1, 1.0)
        x, y = self.messages, self.books
        if not (agreed and y.ok[b + 1] and x.kind[m + 1] <= 4):
            return
        side = 0 if x.side[m + 1] == 1 else 1
        for level in range(y.price.shape[2]):
            first = b
            while first > b - min(BACK, agreed) and y.size[first, side, level] == y.size[b + 1, side, level]:
                first -= 1
            first = min(first + 1, b)
            if y.price[b, side, level] == x.price[m + 1] and first < b:
                yield from self._still(m - (b - first), first, m, side, level, 1.01)

    def _still(self, m: int, b: int, failing: int, side: int, level: int, cost: float) -> Iterator[Edit]:
        """Ways in which a stretch of still cells that begins behind (m, b) can end."""
        x, y = self.messages, self.books
        one = (x.kind, x.side, x.price, x.size, x.ok, y.price, y.size, y.ok, m, b, side, level, self.told)
        count, other = frozen(*one)
        self.work += 1 + count // CHEAP
        told = self.told[:count].tolist()
        guilty = [n for n, word in enumerate(told) if word == WRONG]
        ends = [n for n in range(1, count) if told[n] in (RIGHT, UNSURE) and told[n - 1] in (WRONG, REFUSED)]
        ends += [n for n in range(1, count) if told[n] == RIGHT and told[n - 1] == UNSURE]
        ends = [n for n in ends if m + 1 + n > failing and guilty and guilty[0] < n]
        ends.sort()
        cost += 0.2 * other
        for n in sorted({*ends[:2], *ends[-2:]}):
            last = max(at for at in guilty if at < n)
            wrong = sum(word == WRONG for word in told[:n])
            rows = EditRows(partial(self._stood_rows, m, b, told[: n + 1], guilty[0], last))
            price = cost + min(0.01 * (wrong - 1), 0.8)
            if self._verdict(m + 1 + n, b + n, b + 1 + n) != UNEXPLAINED:
                price += (0.7 if y.price.shape[2] == 1 else 1.0) if other else 0.4  # nothing tells that it is over
            yield Edit(price, (m, b), m + 1 + n, b + 1 + n, rows)

    def _stood_rows(self, m: int, b: int, told: list[int], first: int, last: int) -> Iterator[EditRow]:
        for at, word in enumerate(told):
            yield self._stood(m + 1 + at, b + 1 + at, word, first < at < last)

    def _stood(self, m: int, b: int, word: int, between: bool) -> EditRow:
        if word == WRONG or (word == UNSURE and between):
            return EditRow(m, b, UNEXPLAINED, "book")
        if word == REFUSED:
            return EditRow(m, b, UNCHECKED)
        found = self._verdict(m, b - 1, b)
        return EditRow(m, b, found if found != UNEXPLAINED else EXPLAINED)

    def _earlier(self, m: int, b: int, agreed: int) -> Iterator[Edit]:
        """Damage in a row before, which agreed only because a level had moved into the window there."""
        for back in range(1, min(BACK, agreed) + 1):
            if self._verdict(m - back + 1, b - back, b - back + 1) != EXPLAINED:
                continue
            if back == 1:
                yield from self._swapped(m - 1, b - 1, 0.01)
            for edit in self._books(m - back, b - back, 0.01):
                if edit.message > m:
                    yield edit
                    break

    def _swapped(self, m: int, b: int, extra: float = 0.0) -> Iterator[Edit]:
        """Two lines changed places: in the message file, in the order book file, or in both."""
        last = min(len(self.messages) - m, len(self.books) - b, 4)  # end of the rows looked at
        if last < 3:
            return
        for messages, books in (((2, 1, 3), (1, 2, 3)), ((1, 2, 3), (2, 1, 3)), ((2, 1, 3), (2, 1, 3))):
            if messages[0] == 2 and self.messages.time_ns[m + 1] < self.messages.time_ns[m + 2]:
                continue  # a message line takes its time along
            path = [b, *(b + n for n in books)][:last]
            found = [self._verdict(m + n, *step) for n, step in zip(messages, pairwise(path), strict=False)]
            if UNEXPLAINED not in found:
                rows = [EditRow(m + n, b + n, UNEXPLAINED, "swap" if books[0] == 1 else "book swap") for n in (1, 2)]
                rows += [EditRow(m + 3, b + 3, found[2])] if last == 4 else []
                yield Edit(0.9 + extra, (m, b), m + last - 1, b + last - 1, tuple(rows))

    def _first(self, balance: int) -> Iterator[Edit]:
        """Something is wrong with the first row, which has no row before it; messages[0] stood beside books[0]."""
        nothing = (-1, -1)
        yield Edit(1.2, nothing, 1, 1, (EditRow(0, 0, UNEXPLAINED, "first"), EditRow(1, 1, UNCHECKED)))
        found = self._verdict(0, 0, 1)
        if found != UNEXPLAINED and self.messages.time_ns[0] >= self.messages.time_ns[1]:
            yield Edit(0.9, nothing, 1, 1, (EditRow(0, 0, UNEXPLAINED, "swap"), EditRow(1, 1, UNEXPLAINED, "swap")))
        if found != UNEXPLAINED and balance < 0:
            yield Edit(1.1, nothing, 0, 1, (EditRow(-1, 0, UNEXPLAINED, "no message"), EditRow(0, 1, found)))
        if balance > 0:
            yield Edit(1.1, nothing, 1, 0, (EditRow(0, -1, UNEXPLAINED, "no book"), EditRow(1, 0, UNCHECKED)))

    def _missing(self, m: int, b: int, balance: int, readable: bool, sound: bool) -> Iterator[Edit]:
        """A line is missing in one file, or a line too many stands in the other. balance: messages - books left."""
        if sound and self._change(b, b + 1)[0] != 2:
            yield Edit(1.2 if balance < 0 else 2.4, (m, b), m, b + 1, (EditRow(-1, b + 1, UNEXPLAINED, "no message"),))
        cost = 1.2 if balance > 0 else 2.4
        orphan = EditRow(m + 1, -1, UNEXPLAINED, "no book") if readable else EditRow(m + 1, -1, UNCHECKED)
        if readable:
            found = int(self._chain(m, b, 1, 1)[0])
            if found in (EQUAL, EXPLAINED):
                yield Edit(cost, (m, b), m + 2, b + 1, (orphan, EditRow(m + 2, b + 1, found)))
            yield Edit(cost + 0.1, (m, b), m + 1, b, (orphan,))
        elif balance > 0:
            yield Edit(0.5, (m, b), m + 1, b, (orphan,))
        if not sound and balance < 0:
            yield Edit(0.5, (m, b), m, b + 1, (EditRow(-1, b + 1, UNCHECKED),))
        if balance < -1 and self.books.ok[b - balance]:
            yield Edit(2.0, (m, b), m, b - balance, EditRows(partial(_without_message, b + 1, b + 1 - balance)))
        if balance > 1 and sound:
            block = partial(_without_book, m + 1, m + 1 + balance, EditRow(m + balance + 1, b + 1, UNCHECKED))
            yield Edit(2.0, (m, b), m + balance + 1, b + 1, EditRows(block))

    def lost(self, m: int, b: int) -> Iterator[Edit]:
        """Give up the link: trust the next book row as it is, or the one behind it."""
        last = min(len(self.messages) - m, len(self.books) - b) - 1
        refused = not (self.messages.ok[m + 1] and self.books.ok[b + 1])
        if not refused:
            row = EditRow(m + 1, b + 1, UNEXPLAINED, "lost")
            yield Edit(2.2 if last > 1 else 1.0, (m, b), m + 1, b + 1, (row,))
        first = EditRow(m + 1, b + 1, UNCHECKED) if refused else EditRow(m + 1, b + 1, UNEXPLAINED, "lost")
        n = int(self._next_sound[b + 2]) - b if last >= 2 else 2
        if n <= last:
            yield Edit(2.2 if refused else 2.5, (m, b), m + n, b + n, EditRows(partial(_passed, first, n)))
        elif refused:
            yield Edit(2.2, (m, b), m + last, b + last, EditRows(partial(_passed, first, last)))

    def _surplus(self, m: int, b: int, left_m: int, left_b: int) -> Edit:
        """One file goes on where the other has ended."""
        if left_m:
            rows = EditRows(partial(_without_book, m + 1, m + 1 + left_m))
        else:
            rows = EditRows(partial(_without_message, b + 1, b + 1 + left_b))
        return Edit(1.2 + 0.01 * (left_m + left_b), (m, b), m + left_m, b + left_b, rows)


def _without_message(first: int, end: int) -> Iterator[EditRow]:
    """Book rows [first, end)."""
    return (EditRow(-1, b, UNEXPLAINED, "no message") for b in range(first, end))


def _without_book(first: int, end: int, *behind: EditRow) -> Iterator[EditRow]:
    """Message rows [first, end), and what stands behind them."""
    yield from (EditRow(m, -1, UNEXPLAINED, "no book") for m in range(first, end))
    yield from behind


def _passed(first: EditRow, count: int) -> Iterator[EditRow]:
    """`first` and the pairs behind it, `count` in all."""
    yield first
    yield from (EditRow(first.message + n, first.book + n, UNCHECKED) for n in range(1, count))


def wrong_fields(messages: Messages, row: int, change: tuple[int, int, int, int]) -> list[tuple[str, str, str]]:
    """(column, expected, got) for each field in which a message is not the change that the book shows."""
    direction, side, price, lots = change
    kind = int(messages.kind[row])
    acts = 0 if kind >= 5 else ADD if kind == 1 else -ADD
    wrong = []
    if direction != acts:
        wrong.append(("type", {0: "5, 6 or 7", ADD: "1", -ADD: "2, 3 or 4"}[direction], str(kind)))
    if direction == 0:
        return wrong
    fields = (
        ("size", lots, messages.size[row]),
        ("price", price, messages.price[row]),
        ("direction", side, messages.side[row]),
    )
    wrong += [(name, str(expected), str(got)) for name, expected, got in fields if expected != got]
    return wrong
