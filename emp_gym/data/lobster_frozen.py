"""Order book cells that stand still for a stretch while the messages go on.

From the last trusted row on the messages are applied to the book. Each cell of the rows behind must be what they make
of it, or a held one: the value that the cell had in the trusted row, or the one size that the first damaged row shows
instead of the right one. Anything else ends the stretch. Where a level moves into the window at a held cell, its size
cannot be known until the cell moves again or a new level comes: such rows are unsure.
"""

from __future__ import annotations

import numpy as np

from emp_gym.data.lobster_check import _better, _empty, _known
from emp_gym.jit import njit
from emp_gym.types import I8

ENDED, RIGHT, UNSURE, WRONG, REFUSED = 0, 1, 2, 3, 4  # of each row of a stretch


@njit
def frozen(kind, side, units, lots, usable, price, size, sound, message, book, held_side, held_level, told: I8) -> int:
    """Follows the messages behind the trusted pair (message, book): what is told of each row, up to len(told) of them.

    held_side, held_level: a size known to be held from the trusted row on; -1 if none is. Returns how many rows were
    told of.
    """
    levels = price.shape[2]
    now_price, now_size = price[book].copy(), size[book].astype(np.int64)
    guessed = np.zeros((2, levels), np.bool_)  # sizes that are not known, because they were taken over from a held cell
    held = np.zeros((2, 2, levels), np.bool_)  # [0] prices, [1] sizes
    known, whole = _known(now_price)
    constant = np.int64(-1)
    if held_side >= 0:
        held[1, held_side, held_level] = True
    told[:] = ENDED
    for step in range(len(told)):
        m, b = message + 1 + step, book + 1 + step
        if m >= len(kind) or b >= len(sound) or not usable[m]:
            return step
        if kind[m] <= 4:
            s = 0 if side[m] == 1 else 1
            if not _apply(
                now_price[s], now_size[s], guessed[s], known, whole, s, kind[m], units[m], lots[m],
                price[b, s], size[b, s], sound[b] and not held[0, s].any(),
            ):  # fmt: skip
                return step
        if not sound[b]:
            told[step] = REFUSED
            continue
        if step == 0:
            constant = _first_wrong_size(now_price, now_size, known, price[b], size[b], size[book])
        found = RIGHT
        for s in range(2):
            for level in range(levels):
                if level < known[s]:
                    one = _compare(
                        now_price[s], now_size[s], guessed[s], held[:, s], level,
                        price[b, s, level], size[b, s, level], price[book, s, level], size[book, s, level], constant,
                    )  # fmt: skip
                else:
                    one = _adopt(
                        now_price[s], now_size[s], guessed[s], held[:, s], known, whole, s, level,
                        price[b, s, level], size[b, s, level], price[book, s, level], size[book, s, level], constant,
                    )  # fmt: skip
                if one == ENDED:
                    return step
                found = max(found, one)
        told[step] = found
    return len(told)


@njit
def _first_wrong_size(now_price, now_size, known, price, size, trusted):
    """The first size that is neither what the messages make of it nor what it was; -1 if there is none."""
    for s in range(2):
        for level in range(known[s]):
            if price[s, level] == now_price[s, level] and size[s, level] != now_size[s, level]:
                if size[s, level] != trusted[s, level]:
                    return np.int64(size[s, level])
    return np.int64(-1)


@njit
def _compare(now_price, now_size, guessed, held, level, price, size, was_price, was_size, constant):
    """What one level of a row is, given what the messages make of it."""
    found = RIGHT
    if price != now_price[level]:
        if price != was_price:
            return ENDED
        held[0, level] = True
        found = WRONG
    if size == now_size[level]:
        return max(found, UNSURE) if guessed[level] else found
    if size == was_size or size == constant:
        held[1, level] = True
        return WRONG
    if guessed[level]:  # the cell moves again, or the guess was wrong
        now_size[level], guessed[level] = size, False
        return found
    return ENDED


@njit
def _adopt(now_price, now_size, guessed, held, known, whole, s, level, price, size, was_price, was_size, constant):
    """A level of a row beyond those that are known: taken over unless its price is held."""
    if _empty(price):
        return RIGHT
    if whole[s]:  # there is nothing there, the messages say
        held[:, level] = True
        return WRONG if price == was_price and size == was_size else ENDED
    if known[s] < level:
        return UNSURE
    if (held[0, level] and price == was_price) or (level > 0 and not _better(now_price[level - 1], price, s)):
        held[0, level] = True
        return UNSURE if price == was_price else ENDED
    now_price[level], now_size[level] = price, size
    guessed[level] = held[1, level] and (size == was_size or size == constant)
    known[s] = level + 1
    return UNSURE if guessed[level] else RIGHT


@njit
def _apply(price, size, guessed, known, whole, s, kind, units, lots, row_price, row_size, tells):
    """Applies one message to the known levels of one side in place; False when it cannot be.

    row_price, row_size [L]: the row as it stands; it tells whether a level of unknown size is gone, if its prices can
    be trusted (`tells`).
    """
    levels, count = len(price), known[s]
    at = 0
    while at < count and _better(price[at], units, s):
        at += 1
    if at < count and price[at] == units:
        left = size[at] + (lots if kind == 1 else -lots)
        if guessed[at]:
            gone = tells and row_price[at] != units
            left = 0 if gone else max(left, 1)
        size[at] = left
        if left == 0:
            for level in range(at, count - 1):
                price[level], size[level], guessed[level] = price[level + 1], size[level + 1], guessed[level + 1]
            known[s] = count - 1
        return left >= 0
    if at == count and not whole[s]:
        if levels == 1:  # whatever a file of one level tells of happens at the best level
            price[0], size[0], guessed[0], known[s] = units, row_size[0], True, 1
            if kind != 1 and (not tells or row_price[0] != units):
                known[s] = 0
            return True
        return count < levels
    if kind != 1 or at == levels:
        return False
    if count == levels:
        whole[s] = False
        count -= 1
    for level in range(count, at, -1):
        price[level], size[level], guessed[level] = price[level - 1], size[level - 1], guessed[level - 1]
    price[at], size[at], guessed[at] = units, lots, False
    known[s] = count + 1
    return True
