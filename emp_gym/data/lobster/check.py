"""Does message i, applied to book row i - 1, give book row i? Kernels over the parsed columns of a LOBSTER day.

A book is price [2, L] and size [2, L]: [0] bids, [1] asks, best first, empty levels last. A file of L levels is a
window: when a level vanishes from a full side, the level that moves in at the far end was not known before. So a row is

* EQUAL: the message alone gives it, all 4 L numbers;
* EXPLAINED: the same, except for levels that moved in at the far end of a full side;
* UNEXPLAINED: anything else.

Types 1-4 act on one level of their own side; types 5, 6 and 7 must leave the row as it was. A message outside the
window is not part of a level-L file, so it is unexplained.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from emp_gym.data.lobster.parser import INT32_MAX
from emp_gym.jit import njit
from emp_gym.types import EMPTY_ASK, I32, I64, Bool

UNCHECKED, EQUAL, EXPLAINED, UNEXPLAINED = 0, 1, 2, 3
ADD, TAKE = 1, -1  # direction of a size change


@njit(inline="always")
def _better(first: int, second: int, side: int) -> bool:
    """Whether price `first` stands before `second` on book side 0 (bids) or 1 (asks). Empty prices stand last."""
    return first < second if side else first > second


@njit(inline="always")
def _empty(price: int) -> bool:
    return price == EMPTY_ASK or price == -EMPTY_ASK


@njit
def _same(price: I64, size: I32, was_price: I64, was_size: I32, side: int, first: int, last: int, shift: int) -> bool:
    """Whether levels [first, last) of the new row equal the old levels `shift` further on."""
    for level in range(first, last):
        if price[side, level] != was_price[side, level + shift] or size[side, level] != was_size[side, level + shift]:
            return False
    return True


@njit
def verdict(was_price, was_size, kind, side, units, lots, price, size):
    """EQUAL, EXPLAINED or UNEXPLAINED for one message between two book rows [2, L]."""
    levels = price.shape[1]
    touched = 0 if side == 1 else 1
    if not _same(price, size, was_price, was_size, 1 - touched, 0, levels, 0):
        return UNEXPLAINED
    if kind >= 5:
        return EQUAL if _same(price, size, was_price, was_size, touched, 0, levels, 0) else UNEXPLAINED
    at = 0
    while at < levels and _better(was_price[touched, at], units, touched):
        at += 1
    if at == levels or not _same(price, size, was_price, was_size, touched, 0, at, 0):
        return UNEXPLAINED
    if was_price[touched, at] == units:
        left = was_size[touched, at] + (lots if kind == 1 else -lots)
        if left == 0:
            return _removed(was_price, was_size, touched, at, price, size)
        good = price[touched, at] == units and size[touched, at] == left
        good = good and _same(price, size, was_price, was_size, touched, at + 1, levels, 0)
        return EQUAL if good else UNEXPLAINED
    good = kind == 1 and price[touched, at] == units and size[touched, at] == lots
    good = good and _same(price, size, was_price, was_size, touched, at + 1, levels, -1)
    return EQUAL if good else UNEXPLAINED


@njit
def _removed(was_price, was_size, side, at, price, size):
    """Verdict when level `at` vanished: the rest moves up, and something may move in at the far end of a full side."""
    last = price.shape[1] - 1
    if not _same(price, size, was_price, was_size, side, at, last, 1):
        return UNEXPLAINED
    if _empty(price[side, last]):
        return EQUAL
    return EXPLAINED if _better(was_price[side, last], price[side, last], side) else UNEXPLAINED


@njit
def walk(kind, side, units, lots, usable, price, size, sound, message, book, enough, verdicts):
    """Follow pairs (message + 1, book + 1), ... from a trusted book row until one does not follow or a file ends.

    Stops early when `enough` messages that moved the book have agreed (0: never). Returns the last (message, book) that
    agreed and how many moved the book. `verdicts` [rows of the message file] is written when it is not empty.
    """
    moved = 0
    while message + 1 < len(kind) and book + 1 < len(sound):
        m, b = message + 1, book + 1
        if not (usable[m] and sound[b]):
            break
        found = verdict(price[b - 1], size[b - 1], kind[m], side[m], units[m], lots[m], price[b], size[b])
        if found == UNEXPLAINED:
            break
        if len(verdicts):
            verdicts[m] = found
        message, book = m, b
        moved += kind[m] <= 4
        if moved == enough and enough:
            break
    return message, book, moved


@njit
def implied(was_price: I64, was_size: I32, price: I64, size: I32) -> Any:
    """The one change that turns a book row [2, L] into another: (direction, side, price, lots).

    Direction is ADD or TAKE; 0 when nothing changed; 2 when no single message can have done it.
    """
    levels = price.shape[1]
    differs = 0
    touched = 0
    for side in range(2):
        if not _same(price, size, was_price, was_size, side, 0, levels, 0):
            differs += 1
            touched = side
    if differs == 0:
        return 0, 0, 0, 0
    if differs == 2:
        return 2, 0, 0, 0
    at = 0
    while price[touched, at] == was_price[touched, at] and size[touched, at] == was_size[touched, at]:
        at += 1
    resting = 1 if touched == 0 else -1
    units, lots = price[touched, at], np.int64(size[touched, at])
    was_units, was_lots = was_price[touched, at], np.int64(was_size[touched, at])
    if units == was_units:
        if not _same(price, size, was_price, was_size, touched, at + 1, levels, 0):
            return 2, 0, 0, 0
        return (ADD, resting, units, lots - was_lots) if lots > was_lots else (TAKE, resting, units, was_lots - lots)
    if _better(units, was_units, touched) and _same(price, size, was_price, was_size, touched, at + 1, levels, -1):
        return ADD, resting, units, lots
    if _better(was_units, units, touched) and _removed(was_price, was_size, touched, at, price, size) != UNEXPLAINED:
        return TAKE, resting, was_units, was_lots
    return 2, 0, 0, 0


@njit
def _known(price):
    """For both sides of a book row [2, L]: how many levels it shows, and whether the side has no further ones."""
    levels = price.shape[1]
    known, whole = np.empty(2, np.int64), np.empty(2, np.bool_)
    for side in range(2):
        count = 0
        while count < levels and not _empty(price[side, count]):
            count += 1
        known[side], whole[side] = count, count < levels
    return known, whole


@njit
def expected_book(kind, side, units, lots, usable, price, size, first, last):
    """The book row `price`, `size` [2, L] after messages [first, last): (price, size, known levels [2], all were
    applied).
    """
    now_price, now_size = price.copy(), size.copy()
    known, whole = _known(now_price)
    for m in range(first, last):
        if not usable[m] or not _apply(now_price, now_size, known, whole, kind[m], side[m], units[m], lots[m]):
            return now_price, now_size, known, False
    return now_price, now_size, known, True


@njit
def _apply(price, size, known, whole, kind, side, units, lots):
    """Apply one message to the known levels of a book in place; False when it cannot be.

    known [2]: how many levels a side are known, from the best on; whole [2]: the side has no further levels at all.
    What happens beyond the known levels of a side that is not whole cannot be known and is passed over.
    """
    if kind >= 5:
        return True
    levels = price.shape[1]
    touched = 0 if side == 1 else 1
    count = known[touched]
    at = 0
    while at < count and _better(price[touched, at], units, touched):
        at += 1
    if at < count and price[touched, at] == units:
        left = np.int64(size[touched, at]) + (lots if kind == 1 else -np.int64(lots))
        if left > INT32_MAX:
            return False
        size[touched, at] = left
        if left == 0:
            for level in range(at, count - 1):
                price[touched, level], size[touched, level] = price[touched, level + 1], size[touched, level + 1]
            known[touched] = count - 1
        return left >= 0
    if at == count and not whole[touched]:
        return count < levels
    if kind != 1 or at == levels:
        return False
    if count == levels:
        whole[touched] = False  # the last level leaves the window
        count -= 1
    for level in range(count, at, -1):
        price[touched, level], size[touched, level] = price[touched, level - 1], size[touched, level - 1]
    price[touched, at], size[touched, at] = units, lots
    known[touched] = count + 1
    return True


@njit
def _agrees(known_price, known_size, known, whole, price, size):
    """Verdict of a row against what is known. A side of which nothing is known any more proves nothing: UNEXPLAINED."""
    found = EQUAL
    levels = price.shape[1]
    for side in range(2):
        if not _same(price, size, known_price, known_size, side, 0, known[side], 0):
            return UNEXPLAINED
        if known[side] < levels and not _empty(price[side, known[side]]):
            if whole[side] or known[side] == 0:
                return UNEXPLAINED
            found = EXPLAINED
    return found


@njit
def chain(kind, side, units, lots, usable, price, size, sound, message, book, reach, skip_books, found):
    """Apply messages message + 1, ... to book row `book` and see which later rows agree, as if the rows between were
    damaged.

    found [reach]: found[r] is the verdict of row book + 1 + r after messages message + 1 ... message + 1 + r +
    skip_books (`skip_books` rows being absent from the order book file); UNCHECKED where the files or the known levels
    end.
    """
    now_price, now_size = price[book].copy(), size[book].copy()
    known, whole = _known(now_price)
    found[:] = UNCHECKED
    for step in range(reach + skip_books):
        m, b = message + 1 + step, book + 1 + step - skip_books
        if m >= len(kind) or b >= len(sound) or not usable[m]:
            return
        if not _apply(now_price, now_size, known, whole, kind[m], side[m], units[m], lots[m]):
            return
        if step >= skip_books and sound[b]:
            found[step - skip_books] = _agrees(now_price, now_size, known, whole, price[b], size[b])


@njit
def is_sorted(time_ns: I64, ok: Bool) -> bool:
    """Whether the accepted rows' times never decrease."""
    before = np.int64(-1)
    for row in range(len(time_ns)):
        if ok[row]:
            if time_ns[row] < before:
                return False
            before = time_ns[row]
    return True
