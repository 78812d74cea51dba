"""Order book cells that stand still for a stretch while the messages go on.

From the last trusted row on the messages are applied to the book. Each cell of the rows behind must be what they make
of it, or a held one: the value that the cell had in the trusted row, or the one size that the first damaged row shows
instead of the right one. Anything else ends the stretch. Where a level moves into the window at a held cell, its size
cannot be known: it is taken as shown, and such rows are unsure. When the level is gone again, the messages have taken either
what was shown, and the rows were right, or not, and they were wrong.
"""

from __future__ import annotations

import numpy as np

from emp_gym.data.lobster.check import _better, _empty, _known
from emp_gym.jit import njit

ENDED, RIGHT, UNSURE, WRONG, REFUSED = 0, 1, 2, 3, 4  # of each row of a stretch
QUIET = 64  # rows one after the other that are right: the stretch is over


@njit
def frozen(kind, side, units, lots, usable, price, size, sound, message, book, held_side, held_level, told):
    """Follows the messages behind the trusted pair (message, book): what is told of each row, up to len(told) of them.

    held_side, held_level: a size known to be held from the trusted row on; -1 if none is. Returns how many rows were
    told of, and whether a size other than the trusted row's was held.
    """
    levels = price.shape[2]
    now_price, now_size = price[book].copy(), size[book].astype(np.int64)
    guessed = np.zeros((2, levels), np.int64)  # number of the guess if the size was taken over from a held cell, or 0
    outcome = np.zeros(2 * levels * len(told) + 2, np.int8)  # of each guess: UNSURE, RIGHT, WRONG; last: of nobody's
    guess_of = np.zeros(len(told), np.int64)  # of a row that is unsure for one guess only
    guesses = quiet = count = 0
    held = np.zeros((2, 2, levels), np.bool_)  # [0] prices, [1] sizes
    known, whole = _known(now_price)
    constant = np.int64(-1)
    if held_side >= 0:
        held[1, held_side, held_level] = True
    told[:] = ENDED
    for step in range(len(told)):
        m, b = message + 1 + step, book + 1 + step
        if m >= len(kind) or b >= len(sound) or not usable[m] or quiet == QUIET:
            break
        if kind[m] <= 4:
            s = 0 if side[m] == 1 else 1
            if not _apply(
                now_price[s], now_size[s], guessed[s], outcome, known, whole, s, kind[m], units[m], lots[m],
                price[b, s], size[b, s], sound[b] and not held[0, s].any(),
            ):  # fmt: skip
                break
        count = step + 1
        if not sound[b]:
            told[step], quiet = REFUSED, 0
            continue
        if step == 0:
            constant = _first_wrong_size(now_price, now_size, known, price[b], size[b], size[book])
        found, doubts, guess = RIGHT, 0, 0
        for s in range(2):
            for level in range(levels):
                new = level >= known[s]
                if new:
                    one = _adopt(
                        now_price[s], now_size[s], held[:, s], known, whole, s, level,
                        price[b, s, level], size[b, s, level], price[book, s, level], size[book, s, level], constant,
                    )  # fmt: skip
                    if one == UNSURE and known[s] == level + 1:
                        guesses += 1
                        guessed[s, level], outcome[guesses] = guesses, UNSURE
                    elif known[s] == level + 1:
                        guessed[s, level] = 0
                else:
                    one = _compare(
                        now_price[s], now_size[s], guessed[s], outcome, held[:, s], level,
                        price[b, s, level], size[b, s, level], price[book, s, level], size[book, s, level], constant,
                    )  # fmt: skip
                if one == ENDED:
                    found = ENDED
                if one == UNSURE:
                    doubts += 1
                    guess = guessed[s, level] if level < known[s] else 0
                if found != ENDED:
                    found = max(found, one)
        if found == ENDED:
            count = step
            break
        told[step] = found
        quiet = quiet + 1 if found == RIGHT else 0
        guess_of[step] = guess if doubts == 1 else 0
    for step in range(count):
        if told[step] == UNSURE:
            told[step] = outcome[guess_of[step]] if guess_of[step] else UNSURE
    return count, constant >= 0


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
def _compare(now_price, now_size, guessed, outcome, held, level, price, size, was_price, was_size, constant):
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
    if guessed[level]:  # the cell moves again, and no message did it
        outcome[guessed[level]] = WRONG
        now_size[level], guessed[level] = size, 0
        return found
    return ENDED


@njit
def _adopt(now_price, now_size, held, known, whole, s, level, price, size, was_price, was_size, constant):
    """A level of a row beyond those that are known: taken over unless its price is held. UNSURE with the level known
    now: its size is that of a held cell.
    """
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
    known[s] = level + 1
    return UNSURE if held[1, level] and (size == was_size or size == constant) else RIGHT


@njit
def _apply(price, size, guessed, outcome, known, whole, s, kind, units, lots, row_price, row_size, tells):
    """Applies one message to the known levels of one side in place; False when it cannot be.

    row_price, row_size [L]: the row as it stands; it tells whether a level of guessed size is gone, if its prices can be trusted
    (`tells`).
    """
    levels, count = len(price), known[s]
    at = 0
    while at < count and _better(price[at], units, s):
        at += 1
    if at < count and price[at] == units:
        left = size[at] + (lots if kind == 1 else -lots)
        if guessed[at]:
            gone = left == 0 if not tells else row_price[at] != units
            if gone:
                outcome[guessed[at]] = RIGHT if left == 0 else WRONG
            elif left <= 0:
                outcome[guessed[at]] = WRONG
            left = 0 if gone else max(left, 1)
        size[at] = left
        if left == 0:
            for level in range(at, count - 1):
                price[level], size[level], guessed[level] = price[level + 1], size[level + 1], guessed[level + 1]
            known[s] = count - 1
        return left >= 0
    if at == count and not whole[s]:
        if levels == 1 and (kind == 1 or (tells and row_price[0] == units)):
            # whatever a file of one level tells of happens at the best level
            price[0], size[0], guessed[0], known[s] = units, row_size[0], len(outcome) - 1, 1
            return True
        if levels == 1:
            return True
        return count < levels
    if kind != 1 or at == levels:
        return False
    if count == levels:
        whole[s] = False
        count -= 1
    for level in range(count, at, -1):
        price[level], size[level], guessed[level] = price[level - 1], size[level - 1], guessed[level - 1]
    price[at], size[at], guessed[at] = units, lots, 0
    known[s] = count + 1
    return True
