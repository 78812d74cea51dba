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
from emp_gym.types import I8, I64, Bool

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
    visit: I64  # of the level at which the event is; -1 where the book does not tell
    behind: Bool  # the level was not the best of its side
    orders: int  # ids of orders

    @property
    def wrong(self) -> I64:
        return np.flatnonzero(self.found >= CONTRADICTS)


def lives_of(messages: Messages, books: Books, pairing: Pairing, trusted: Bool) -> Lives:
    """Judges every event of the day. trusted [R]: messages that nothing else speaks against."""
    m, b = pairing.message, pairing.book
    book_of = np.full(len(messages), -1, np.int64)
    both = (m >= 0) & (b >= 0)
    linked = both & ((pairing.verdict == EQUAL) | (pairing.verdict == EXPLAINED))
    linked[0] = False
    linked[1:] &= (b[1:] - b[:-1] == 1) & (m[1:] - m[:-1] == 1)
    damaged = np.array([row for row, blame in pairing.blame.items() if blame.startswith("book")], np.int64)
    linked[(damaged + 1)[damaged + 1 < len(linked)]] = False
    book_of[m[linked]] = b[linked]
    found, visit = np.zeros(len(messages), np.int8), np.full(len(messages), -1, np.int64)
    behind = np.zeros(len(messages), np.bool_)
    x = messages
    ok = x.ok & trusted
    orders = _judge(
        x.kind, x.order_id, x.size, x.price, x.side, ok, book_of, books.price, books.size, found, visit, behind
    )  # fmt: skip
    return Lives(found, visit, behind, int(orders))


@njit
def _judge(kind, order_id, size, price, side, ok, book_of, book_price, book_size, found, visit, behind):
    """Fills found, visit and behind; the number of order ids. book_of [R]: book row that follows from the row before it
    and this message; -1: none does.
    """
    levels = book_price.shape[2]
    slots = 16
    while slots < 2 * len(kind):
        slots *= 2
    table = np.zeros((slots, 4), np.int64)  # row of the first message + 1, lots left, visit of its entry, whether it is over
    visits = np.zeros((2, levels), np.int64)
    lots = np.zeros((2, levels), np.int64)  # of the orders entered in this visit
    stands, number, orders = np.int64(-1), np.int64(1), 0
    for row in range(len(kind)):
        if not ok[row]:
            continue
        book = book_of[row]
        if kind[row] > _EXECUTED:
            if book >= 0 and stands == book - 1:
                stands = book
            continue
        s = 0 if side[row] == 1 else 1
        level = np.int64(-1)
        if book >= 0:
            if stands != book - 1:
                for both in range(2):
                    for at in range(levels):
                        visits[both, at], lots[both, at] = number, 0
                        number += 1
            stands = book
            level = np.int64(0)
            while level < levels and _better(book_price[book - 1, s, level], price[row], s):
                level += 1
            if level == levels:
                level, stands = np.int64(-1), np.int64(-1)
            elif kind[row] == _NEW and book_price[book - 1, s, level] != price[row]:
                for at in range(levels - 1, level, -1):
                    visits[s, at], lots[s, at] = visits[s, at - 1], lots[s, at - 1]
                visits[s, level], lots[s, level] = number, 0
                number += 1
            if level >= 0:
                visit[row] = visits[s, level]
                behind[row] = level > 0

        at = (order_id[row] * np.int64(-7046029254386353131) >> 20) & (slots - 1)
        while table[at, _ROW] and order_id[table[at, _ROW] - 1] != order_id[row]:
            at = (at + 1) & (slots - 1)
        mine = table[at]
        said = FIRST
        if not mine[_ROW]:
            orders += 1
            mine[_ROW] = row + 1
            mine[_LEFT], mine[_VISIT] = _UNKNOWN, _UNKNOWN
            if kind[row] == _NEW:
                mine[_LEFT] = size[row]
                mine[_VISIT] = visit[row]
                if level >= 0:
                    lots[s, level] += size[row]
            mine[_OVER] = kind[row] == _DELETE
        else:
            here = mine[_VISIT] >= 0 and mine[_VISIT] == visit[row]
            said = _said(kind[row], size[row], mine, here)
            if price[row] != price[mine[_ROW] - 1]:
                said = PRICE
            elif side[row] != side[mine[_ROW] - 1]:
                said = SIDE
            if kind[row] != _NEW and said != PRICE and said != SIDE:
                if mine[_LEFT] >= 0:
                    taken = min(mine[_LEFT], np.int64(size[row]))
                    if here:
                        lots[s, level] -= taken
                    mine[_LEFT] -= taken
                if kind[row] == _DELETE or mine[_LEFT] == 0:
                    mine[_OVER] = 1
        if kind[row] == _EXECUTED and behind[row] and said < CONTRADICTS:
            said = BEHIND
        if level >= 0:
            shown = np.int64(0)
            if book_price[book, s, level] == price[row]:
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
    return orders


@njit(inline="always")
def _said(kind, size, mine, here):
    """What the order's earlier events say of one, its price and side aside."""
    if kind == _NEW:
        return AGAIN
    if mine[_OVER]:
        return GONE
    left = mine[_LEFT]
    if left < 0:
        return FITS
    if size > left:
        return MORE
    if kind == _PARTIAL and size == left:
        return ALL
    if kind == _DELETE and size < left:
        return REST if here else CUT
    return FITS
