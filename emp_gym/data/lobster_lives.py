"""Does every event of an order follow from the order's earlier ones, and from the level at which it stands?

A *visit* of a level is the time from the row in which it came into the window to the row in which it left. Within a visit
everything that happens at the level is in the files. So:

* price and side are those of the order's first message; nothing is entered twice, nothing follows an order's end;
* no more is taken than the order has, a partial cancellation (2) leaves something, and a deletion (3) takes all that is
  left, or less if the order was out of sight since it was entered: it may have been cut meanwhile (EXPLAINED);
* an execution (4) is at the best price of its side;
* the orders entered in this visit never have more lots together than the level shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emp_gym.data.lobster_bytes import Books, Messages
from emp_gym.data.lobster_check import EQUAL, EXPLAINED, _better
from emp_gym.data.lobster_pairing import Pairing
from emp_gym.jit import njit
from emp_gym.types import I8, I32, I64, Bool

FIRST, FITS, CUT = 0, 1, 2  # nothing before it to check it with; follows; follows if the order was cut out of sight
CONTRADICTS = 3  # and from here on what is wrong:
PRICE, SIDE, AGAIN, GONE, MORE, ALL, REST, BEHIND = 3, 4, 5, 6, 7, 8, 9, 10
SHORT = 64  # added: the orders of the level have more lots than it shows
_NEW, _PARTIAL, _DELETE, _EXECUTED = 1, 2, 3, 4
_ROW, _LEFT, _VISIT, _OVER = 0, 1, 2, 3  # columns of the table of orders
_UNKNOWN = -1


@dataclass
class Lives:
    """What is said of each message row [R]."""

    found: I8  # FIRST, FITS, CUT or what is wrong
    visit: I32  # of the level at which the event is; -1 where the book does not tell
    behind: Bool  # the level was not the best of its side
    first: int  # events that were found FIRST
    fits: int  # FITS
    cut: int  # CUT
    contradicts: int
    orders: int  # ids of orders

    @property
    def wrong(self) -> I64:
        return np.flatnonzero(self.found >= CONTRADICTS)


def lives_of(messages: Messages, books: Books, pairing: Pairing, trusted: Bool) -> Lives:
    """Judges every event of the day. trusted [R]: messages that nothing else speaks against."""
    damaged = np.zeros(len(pairing.book) + 1, np.bool_)
    damaged[[row + 1 for row, blame in pairing.blame.items() if blame.startswith("book")]] = True
    book_of = np.full(len(messages), -1, np.int64)
    _link(pairing.message, pairing.book, pairing.verdict, damaged, book_of)
    found, visit = np.zeros(len(messages), np.int8), np.full(len(messages), -1, np.int32)
    behind = np.zeros(len(messages), np.bool_)
    counts = np.zeros(5, np.int64)
    x = messages
    ok = x.ok if trusted.all() else x.ok & trusted
    _judge(x.kind, x.order_id, x.size, x.price, x.side, ok, book_of, books.price, books.size, found, visit, behind, counts)
    return Lives(found, visit, behind, *(int(count) for count in counts))


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
def _judge(kind, order_id, size, price, side, ok, book_of, book_price, book_size, found, visit, behind, counts):
    """Fills found, visit and behind. book_of [R]: book row that follows from the row before it and this message; -1: none
    does. counts [5]: events found FIRST, FITS, CUT and wrong; ids of orders.
    """
    levels = book_price.shape[2]
    slots = 16
    while slots < len(kind) + (len(kind) >> 2):
        slots *= 2
    table = np.zeros((slots, 4), np.int32)  # row of the first message + 1, lots left, visit of its entry, whether it is over
    visits = np.zeros((2, levels), np.int32)
    lots = np.zeros((2, levels), np.int64)  # of the orders entered in this visit
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
        now = np.int32(-1)
        if book >= 0:
            if stands != book - 1:
                for both in range(2):
                    for at in range(levels):
                        visits[both, at], lots[both, at] = number, 0
                        number += 1
            stands = book
            level = np.int64(0)
            while level < levels and _better(book_price[book - 1, s, level], units, s):
                level += 1
            if level == levels:
                level, stands = np.int64(-1), np.int64(-1)
            else:
                if what == _NEW and book_price[book - 1, s, level] != units:
                    for at in range(levels - 1, level, -1):
                        visits[s, at], lots[s, at] = visits[s, at - 1], lots[s, at - 1]
                    visits[s, level], lots[s, level] = number, 0
                    number += 1
                now = visits[s, level]
                visit[row] = now
                behind[row] = level > 0

        at = (order_id[row] * np.int64(-7046029254386353131) >> 20) & (slots - 1)
        while table[at, _ROW] and order_id[table[at, _ROW] - 1] != order_id[row]:
            at = (at + 1) & (slots - 1)
        first = np.int64(table[at, _ROW]) - 1
        said = FIRST
        if first < 0:
            counts[4] += 1
            table[at, _ROW] = row + 1
            table[at, _LEFT] = many if what == _NEW else _UNKNOWN
            table[at, _VISIT] = now if what == _NEW else _UNKNOWN
            table[at, _OVER] = 1 if what == _DELETE else 0
            if what == _NEW and level >= 0:
                lots[s, level] += many
        elif price[first] != units:
            said = PRICE
        elif side[first] != side[row]:
            said = SIDE
        elif what == _NEW:
            said = AGAIN
        else:
            left = table[at, _LEFT]
            here = now >= 0 and table[at, _VISIT] == now
            said = _said(what, many, left, table[at, _OVER] != 0, here)
            if left >= 0:
                taken = min(left, many)
                if here:
                    lots[s, level] -= taken
                left -= taken
                table[at, _LEFT] = left
            if what == _DELETE or left == 0:
                table[at, _OVER] = 1
        if what == _EXECUTED and level > 0 and said < CONTRADICTS:
            said = BEHIND
        if level >= 0:
            shown = np.int64(0)
            if book_price[book, s, level] == units:
                shown = np.int64(book_size[book, s, level])
            if lots[s, level] > shown:
                said += SHORT
            if said >= CONTRADICTS:  # what is left at the level is nobody's
                visits[s, level], lots[s, level] = number, 0
                number += 1
            if shown == 0:
                for to in range(level, levels - 1):
                    visits[s, to], lots[s, to] = visits[s, to + 1], lots[s, to + 1]
                visits[s, levels - 1], lots[s, levels - 1] = number, 0
                number += 1
        found[row] = said
        counts[min(said, CONTRADICTS)] += 1


@njit(inline="always")
def _said(kind, size, left, over, here):
    """What the order's earlier events say of one of types 2 to 4, its price and side aside."""
    if over:
        return GONE
    if left < 0:
        return FITS
    if size > left:
        return MORE
    if kind == _PARTIAL and size == left:
        return ALL
    if kind == _DELETE and size < left:
        return REST if here else CUT
    return FITS
