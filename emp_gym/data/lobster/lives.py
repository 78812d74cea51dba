"""Does every event of an order follow from the order's earlier ones, and from the level at which it stands?

An event is judged by the rows before it alone: which rows a day has up to a time does not depend on what comes after it.

A *visit* of a level is the time from the row in which it came into the window to the row in which it left. Within a visit
everything that happens at the level is in the files. So:

* price and side are those of the order's first message; nothing is entered twice, nothing follows an order's end. Where ids do
  not rise in the order of entry, an id whose order has ended may be used again; where they do, an entry with a higher id than the
  entry before is one, and what had its id earlier is wrong;
* no more is taken than the order has, a partial cancellation (2) leaves something, and a deletion (3) takes all that is
  left, or less if the order was out of sight since it was entered: it may have been cut meanwhile (EXPLAINED);
* an execution (4) is at the best price of its side;
* the orders entered in this visit never have more lots together than the level shows.

Whatever contradicts, the order's lots and the level's orders are not known from there on: one wrong event accuses few others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emp_gym.data.lobster.alignment import Pairing
from emp_gym.data.lobster.check import EQUAL, EXPLAINED, _better
from emp_gym.data.lobster.parser import Books, Messages
from emp_gym.jit import njit
from emp_gym.types import I8, I32, Bool

FIRST, FITS, CUT = 0, 1, 2  # nothing before it to check it with; follows; follows if the order was cut out of sight
CONTRADICTS = 3  # and from here on what is wrong:
PRICE, SIDE, AGAIN, GONE, MORE = 3, 4, 5, 6, 7  # the id
STRANGER = 8  # the id was never seen, and the orders that entered at the level have all of its lots
ALL, REST, BEHIND = 9, 10, 11  # the type
UNSURE = 12  # more after a deletion that may be none, or the level shows fewer lots than its orders have: which event is wrong?
_NEW, _PARTIAL, _DELETE, _EXECUTED = 1, 2, 3, 4
_ROW, _LEFT, _VISIT, _OVER = 0, 1, 2, 3  # columns of the table of orders
_NUMBER, _LOTS = 0, 1  # of a level: its visit, lots of the orders entered in it
_LAST, _ENTRIES, _RISING = 0, 1, 2  # of the flow of entries: the last id, how many, how many with a higher id than before
_FEW, _IN_ORDER = 50, 0.9  # ids rise in the order of entry: rising ones that tell so, and their share
_UNKNOWN = -1
_NO, _YES, _PERHAPS = 0, 1, 2  # whether an order is over: perhaps, if its deletion was not of the lots that were known


@dataclass
class Lives:
    """What is said of each message row [R]."""

    found: I8  # FIRST, FITS, CUT or what is wrong
    visit: I32  # of the level at which the event is; -1 where the book does not tell
    first: int  # events that were found FIRST
    fits: int  # FITS
    cut: int  # CUT
    contradicts: int


def lives_of(messages: Messages, books: Books, pairing: Pairing, trusted: Bool) -> Lives:
    """Judges every event of the day. trusted [R]: messages that nothing else speaks against."""
    damaged = np.zeros(len(pairing.book) + 1, np.bool_)
    damaged[[row + 1 for row, blame in pairing.blame.items() if blame.startswith("book")]] = True
    book_of = np.full(len(messages), -1, np.int64)
    _link(pairing.message, pairing.book, pairing.verdict, damaged, book_of)
    found, visit = np.zeros(len(messages), np.int8), np.full(len(messages), _UNKNOWN, np.int32)
    counts = np.zeros(4, np.int64)
    x = messages
    ok = x.ok if trusted.all() else x.ok & trusted
    _judge(x.kind, x.order_id, x.size, x.price, x.side, ok, book_of, books.price, books.size, found, visit, counts)
    return Lives(found, visit, *(int(count) for count in counts))


@njit
def _link(message, book, verdict, damaged, book_of):
    """Fills book_of for the aligned rows that follow from the row just before them. damaged [P + 1]: whose row before is not
    what the messages say.
    """
    for row in range(1, len(book)):
        follows = verdict[row] == EQUAL or verdict[row] == EXPLAINED
        m, b = message[row], book[row]
        if follows and not damaged[row] and m >= 1 and b >= 1 and message[row - 1] == m - 1 and book[row - 1] == b - 1:
            book_of[m] = b


@njit
def _judge(kind, order_id, size, price, side, ok, book_of, book_price, book_size, found, visit, counts):
    """Fills found and visit [R]. book_of [R]: book row that follows from the row before it and this message; -1: none does. counts
    [4]: events found FIRST, FITS, CUT and wrong.
    """
    levels = book_price.shape[2]
    slots = 16
    while slots < len(kind) + (len(kind) >> 2):
        slots *= 2
    table = np.zeros((slots, 4), np.int32)  # row of the first message + 1, lots left, visit of its entry, whether it is over
    window = np.zeros((2, levels, 2), np.int32)
    flow = np.zeros(3, np.int64)
    stands, number = np.int64(-1), np.int32(1)
    for row in range(len(kind)):
        if not ok[row]:
            continue
        book = book_of[row]
        what = kind[row]
        if what > _EXECUTED:
            if book >= 0 and stands == book - 1:
                stands = book
            continue
        s = 0 if side[row] == 1 else 1
        units, many = price[row], size[row]
        level = np.int64(-1)
        now = np.int32(_UNKNOWN)
        if book >= 0:
            if stands != book - 1:
                for both in range(2):
                    for at in range(levels):
                        number = _begin(window, both, at, number)
            stands = book
            level = np.int64(0)
            while level < levels and _better(book_price[book - 1, s, level], units, s):
                level += 1
            if level == levels:
                level, stands = np.int64(-1), np.int64(-1)
            else:
                if what == _NEW and book_price[book - 1, s, level] != units:
                    for at in range(levels - 1, level, -1):
                        window[s, at] = window[s, at - 1]
                    number = _begin(window, s, level, number)
                now = visit[row] = window[s, level, _NUMBER]

        at = (order_id[row] * np.int64(-7046029254386353131) >> 20) & (slots - 1)
        while table[at, _ROW] and order_id[table[at, _ROW] - 1] != order_id[row]:
            at = (at + 1) & (slots - 1)
        first = np.int64(table[at, _ROW]) - 1
        behind = what == _EXECUTED and level > 0
        said = BEHIND if behind else FIRST
        rise = flow[_RISING] >= max(_FEW, flow[_ENTRIES] * _IN_ORDER)
        if first >= 0 and what == _NEW and (order_id[row] > flow[_LAST] if rise else table[at, _OVER] != _NO):
            first, said = np.int64(-1), UNSURE if rise else FIRST
        if first < 0:
            table[at, _ROW] = row + 1
            table[at, _LEFT] = many if what == _NEW else _UNKNOWN
            table[at, _VISIT] = now if what == _NEW else _UNKNOWN
            table[at, _OVER] = _PERHAPS if what == _DELETE else _NO
            if what == _NEW:
                flow[_RISING] += order_id[row] > flow[_LAST]
                flow[_LAST] = order_id[row]
                flow[_ENTRIES] += 1
                if level >= 0:
                    window[s, level, _LOTS] += many
        elif price[first] != units:
            said = PRICE
        elif side[first] != side[row]:
            said = SIDE
        elif what == _NEW:
            said = AGAIN
        else:
            left = table[at, _LEFT]
            here = now >= 0 and table[at, _VISIT] == now
            said = _said(what, many, left, table[at, _OVER], here)
            if behind and said < CONTRADICTS:
                said = BEHIND
            if said >= CONTRADICTS:
                table[at, _LEFT], table[at, _OVER] = _UNKNOWN, _NO
            else:
                if left == many:
                    table[at, _OVER] = _YES
                elif what == _DELETE:
                    table[at, _OVER] = _PERHAPS
                if left >= 0:
                    table[at, _LEFT] = left - many
                if here:
                    window[s, level, _LOTS] -= many
        if level >= 0:
            shown = np.int64(0)
            if book_price[book, s, level] == units:
                shown = np.int64(book_size[book, s, level])
            if window[s, level, _LOTS] > shown and said < CONTRADICTS:
                said = STRANGER if said == FIRST and what != _NEW and rise else UNSURE
            if said >= CONTRADICTS:  # what is left at the level is nobody's
                number = _begin(window, s, level, number)
            if shown == 0:
                for to in range(level, levels - 1):
                    window[s, to] = window[s, to + 1]
                number = _begin(window, s, levels - 1, number)
        found[row] = said
        counts[min(said, CONTRADICTS)] += 1


@njit(inline="always")
def _begin(window, side, level, number):
    """A visit of a level begins; the number of the next one."""
    window[side, level, _NUMBER], window[side, level, _LOTS] = number, 0
    return number + 1


@njit(inline="always")
def _said(kind, size, left, over, here):
    """What the order's earlier events say of one of types 2 to 4, its price and side aside."""
    if over != _NO:
        return GONE if over == _YES else UNSURE
    if left < 0:
        return FITS
    if size > left:
        return MORE
    if kind == _PARTIAL and size == left:
        return ALL
    if kind == _DELETE and size < left:
        return REST if here else CUT
    return FITS
