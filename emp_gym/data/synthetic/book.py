"""The private L3 book behind a synthetic day: orders in FIFO queues by price, seen through a window of the best levels.

Everything is int64 with prices in ticks on a grid; random numbers come from a 32-bit generator (sfc32) in int64 words.
No floating point and no libm: the same seed gives the same bytes on every platform. Side index k: 0 bids, 1 asks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emp_gym.jit import njit
from emp_gym.types import I32, I64

TICK = 100  # price units in a tick
GRID = 1 << 16  # ticks on the price grid
SLOTS = 8_192  # live orders that the book can hold
ONE = 1 << 16  # probability 1, and the largest planted signal
MASK = (1 << 32) - 1

# Words of the state vector `s`. BEST, LIVE and EDGE hold two words each: bids, asks.
VALUE, BEST, LIVE, EDGE = 0, 1, 3, 5
SPARE, NEXT_ID, SIGNAL, HEADING, CONDITION, CLOCK, ROWS, CREDIT, PHASE, PAUSES, HALTS, RESUME, BUSY = range(7, 20)
WORDS = 20

# Columns of the tables.
HEAD, TAIL, DEPTH, COUNT = range(4)  # Book.level
AHEAD, BEHIND, LOTS, PRICE, ID, PLACE = range(6)  # Book.order
STACK = 2  # row of Book.slots after those of live bids and live asks
# Rows.message: LOBSTER's five columns in its order, then what it does not show.
KIND, ORDER, SIZE, AT_PRICE, SIDE, TIME, ENDED, TRUE_VALUE, TRUE_SIGNAL, TRUE_CONDITION = range(10)


class SlotTables(NamedTuple):
    """Queues of order slots by price. Tables, because every array is many arguments to the compiler."""

    level: I64  # [GRID, 4] first and last slot of the queue (-1 if none), lots, orders
    order: I64  # [SLOTS, 6] slot ahead and behind in the queue, lots, price in ticks, id, place among the live orders
    slots: I32  # [3, SLOTS] live bids, live asks, stack of free slots


class WrittenRows(NamedTuple):
    """What is written, one entry a row, and the truth behind it."""

    message: I64  # [R, 10] LOBSTER's type to direction; business time, halts ended, value, signal, condition
    book: I32  # [R, 2, L, 2] price in ticks (-1 = empty) and lots; [:, 0] bids


def new_book() -> SlotTables:
    """An empty private book."""
    level = np.zeros((GRID, 4), np.int64)
    level[:, (HEAD, TAIL)] = -1
    return SlotTables(level, np.zeros((SLOTS, 6), np.int64), np.tile(np.arange(SLOTS, dtype=np.int32), (3, 1)))


def new_rows(rows: int, levels: int) -> WrittenRows:
    """Room for `rows` rows of `levels` levels."""
    return WrittenRows(np.zeros((rows, 10), np.int64), np.zeros((rows, 2, levels, 2), np.int32))


# ---- random numbers -------------------------------------------------------------------------------------------------


@njit
def rand32(r):
    """32 random bits from the generator `r` (sfc32 by Chris Doty-Humphrey, PractRand)."""
    out = (r[0] + r[1] + r[3]) & MASK
    r[3] = (r[3] + 1) & MASK
    r[0] = r[1] ^ (r[1] >> 9)
    r[1] = (r[2] + (r[2] << 3)) & MASK
    r[2] = ((((r[2] << 21) & MASK) | (r[2] >> 11)) + out) & MASK
    return out


@njit
def below(r, n):
    """A whole number in [0, n), n up to 2**30."""
    return (rand32(r) * n) >> 32


@njit
def exponential(r, mean):
    """-mean log U, rounded down; mean up to 2**40. The logarithm bit by bit, without the platform's libm."""
    u = rand32(r) + 1
    log2 = 0
    while u < 1 << 32:
        u <<= 1
        log2 += 1
    u >>= 2  # now in [2**30, 2**31)
    for _ in range(12):
        u = (u * u) >> 30
        log2 <<= 1
        if u >= 1 << 31:
            u >>= 1
            log2 -= 1
    return ((log2 * 2_839 >> 12) * mean) >> 12  # 2,839 = 4096 ln 2


@njit
def heavy_size(r, size, cap):
    """Lots of a new order: Pareto with exponent 1 from `size` to `size * cap`, two of three in round lots."""
    lots = size * ONE // (below(r, ONE) + ONE // cap + 1)
    return max(1, (lots + 99) // 100) * 100 if below(r, 3) > 0 else max(lots, 1)


# ---- what a file shows ----------------------------------------------------------------------------------------------


@njit
def show_side(book, s, row, k, out):
    """Writes the best levels of side k into `row` and remembers the last visible price."""
    sign, levels = 1 - 2 * k, out.book.shape[2]
    price, seen, level = s[BEST + k], 0, 0
    s[EDGE + k] = -sign * GRID * 2  # fewer levels than the window has: everything is in sight
    while seen < s[LIVE + k]:
        orders = book.level[price, COUNT]
        if orders > 0:
            out.book[row, k, level, 0] = price
            out.book[row, k, level, 1] = book.level[price, DEPTH]
            seen += orders
            level += 1
            if level == levels:
                s[EDGE + k] = price
                break
        price -= sign
    for empty in range(level, levels):
        out.book[row, k, empty, 0] = -1
        out.book[row, k, empty, 1] = 0


@njit
def in_sight(s, k, price):
    """Whether a change at `price` is inside the window of side k."""
    return (1 - 2 * k) * (price - s[EDGE + k]) >= 0


@njit
def record(s, out, kind, order_id, size, price, side):
    """Appends one row with the book of the row before it; gives its number."""
    row = s[ROWS]
    message = out.message[row]
    message[KIND], message[ORDER], message[SIZE], message[AT_PRICE], message[SIDE] = kind, order_id, size, price, side
    message[TIME], message[ENDED] = s[CLOCK], s[PAUSES]
    if row > 0:
        for k in range(2):
            for level in range(out.book.shape[2]):
                out.book[row, k, level, 0] = out.book[row - 1, k, level, 0]
                out.book[row, k, level, 1] = out.book[row - 1, k, level, 1]
    s[ROWS] = row + 1
    return row


# ---- what changes the book ------------------------------------------------------------------------------------------


@njit
def enter(book, s, out, k, price, size, order_id):
    """A new limit order at the back of its queue; written if it is in sight. Ignored when the book holds no more."""
    if s[SPARE] == 0:
        return
    s[SPARE] -= 1
    slot = np.int64(book.slots[STACK, s[SPARE]])
    order, level = book.order[slot], book.level[price]
    order[LOTS], order[PRICE], order[ID], order[PLACE] = size, price, order_id, s[LIVE + k]
    order[AHEAD], order[BEHIND] = level[TAIL], -1
    if level[TAIL] >= 0:
        book.order[level[TAIL], BEHIND] = slot
    else:
        level[HEAD] = slot
    level[TAIL] = slot
    level[DEPTH] += size
    level[COUNT] += 1
    book.slots[k, s[LIVE + k]] = slot
    if s[LIVE + k] == 0 or (1 - 2 * k) * (price - s[BEST + k]) > 0:
        s[BEST + k] = price
    s[LIVE + k] += 1
    if in_sight(s, k, price):
        show_side(book, s, record(s, out, 1, order_id, size, price * TICK, 1 - 2 * k), k, out)


@njit
def cut(book, s, out, k, slot, lots, kind):
    """Takes `lots` from an order (2 partial cancel, 3 deletion, 4 execution); written if it was in sight."""
    price, order_id = book.order[slot, PRICE], book.order[slot, ID]
    seen = in_sight(s, k, price)
    book.order[slot, LOTS] -= lots
    book.level[price, DEPTH] -= lots
    if book.order[slot, LOTS] == 0:
        leave(book, s, k, slot)
    if seen:
        show_side(book, s, record(s, out, kind, order_id, lots, price * TICK, 1 - 2 * k), k, out)


@njit
def leave(book, s, k, slot):
    """Takes an order out of its queue and of the live orders."""
    order = book.order[slot]
    level = book.level[order[PRICE]]
    if order[AHEAD] >= 0:
        book.order[order[AHEAD], BEHIND] = order[BEHIND]
    else:
        level[HEAD] = order[BEHIND]
    if order[BEHIND] >= 0:
        book.order[order[BEHIND], AHEAD] = order[AHEAD]
    else:
        level[TAIL] = order[AHEAD]
    level[COUNT] -= 1
    s[LIVE + k] -= 1
    last = book.slots[k, s[LIVE + k]]
    book.slots[k, order[PLACE]] = last
    book.order[last, PLACE] = order[PLACE]
    book.slots[STACK, s[SPARE]] = slot
    s[SPARE] += 1
    if s[LIVE + k] > 0:
        while book.level[s[BEST + k], COUNT] == 0:
            s[BEST + k] -= 1 - 2 * k
