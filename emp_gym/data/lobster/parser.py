"""LOBSTER's two kinds of lines, bytes to integers: one fast numba parser for each.

The kernels only accept or refuse a line; why a line was refused is worked out afterwards, in plain Python, by
lobster_lines for the few lines that need it. A line is accepted by a kernel if and only if its explanation finds
nothing.

Numbers are exact: time is decimal seconds with at most 9 fractional digits and becomes int64 ns without passing through
a float; integers may have a sign "-", no "+", no exponent, no decimal point. One exception, met in LOBSTER's own sample
days: a time printed from a double, such as 43002.632812672004. If its digits behind the ninth are a double's noise
(less than 1/50 ns away from a whole ns) the ns is beyond doubt: it is taken, and the caller is told how often; any
other time with more than 9 fractional digits is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from emp_gym.jit import njit
from emp_gym.types import EMPTY_ASK, EMPTY_BID, I8, I32, I64, NS, Bool, DataError

Bytes = np.typing.NDArray[np.uint8]

MESSAGE_COLUMNS = ("time", "type", "order id", "size", "price", "direction")
DAY_SECONDS = 86_400
NOISE = 50  # digits behind the ninth count as a double's noise up to 1/NOISE ns
_TOO_LATE = np.int64(10**9)  # seconds
INT64_MAX, INT32_MAX = 2**63 - 1, 2**31 - 1
_NEWLINE, _RETURN, _MINUS, _DOT = 10, 13, 45, 46


@dataclass
class Messages:
    """A parsed message file: R rows. Refused rows hold zeros."""

    time_ns: I64  # [R] after local midnight
    kind: I8  # [R] LOBSTER's type
    order_id: I64  # [R]
    size: I32  # [R] lots
    price: I64  # [R] price units
    side: I8  # [R]
    ok: Bool  # [R] accepted
    noisy: int  # accepted times whose digits behind the ninth were a double's noise

    def __len__(self) -> int:
        return len(self.kind)


@dataclass
class Books:
    """A parsed order book file: R rows, L levels. Refused rows hold unfinished numbers."""

    price: I64  # [R, 2, L] [:, 0] bids, [:, 1] asks, best first
    size: I32  # [R, 2, L]
    ok: Bool  # [R] accepted

    def __len__(self) -> int:
        return len(self.ok)


@njit(inline="always")
def _integer(text, at):
    """The integer at `at`: (value, offset behind it, fits in int64 and has a digit)."""
    negative = np.int64(text[at] == _MINUS)  # as a number: a branch on it is mispredicted half of the time
    at += negative
    first = at
    value = np.int64(0)
    digit = np.int64(text[at]) - 48
    most = at + 18
    while 0 <= digit <= 9 and at < most:
        value = value * 10 + digit
        at += 1
        digit = np.int64(text[at]) - 48
    good = at > first
    if 0 <= digit <= 9:  # slow but exact: 19 digits may or may not fit
        value, at, good = _long_integer(text, first)
    return value * (1 - 2 * negative), at, good


@njit
def _long_integer(text, at):
    """The digits from `at` on, with a check for overflow of int64 (the lowest value of all is refused too)."""
    value, good = np.int64(0), True
    digit = np.int64(text[at]) - 48
    while 0 <= digit <= 9:
        good = bool(good and value <= (INT64_MAX - digit) // 10)
        value = value * 10 + digit if good else np.int64(0)
        at += 1
        digit = np.int64(text[at]) - 48
    return value, at, good


@njit(inline="always")
def _time(text, at):
    """Decimal seconds at `at`: (ns, offset behind it, well-formed and within a day, printed from a double)."""
    first = at
    seconds = np.int64(0)
    digit = np.int64(text[at]) - 48
    while 0 <= digit <= 9:
        seconds = min(seconds * 10 + digit, _TOO_LATE)  # so that it never overflows
        at += 1
        digit = np.int64(text[at]) - 48
    good = at > first and seconds < DAY_SECONDS
    fraction = np.int64(0)
    noisy = False
    if text[at] == _DOT:
        at += 1
        first = at
        digit = np.int64(text[at]) - 48
        while 0 <= digit <= 9 and at - first < 9:
            fraction = fraction * 10 + digit
            at += 1
            digit = np.int64(text[at]) - 48
        digits = at - first
        good = good and digits > 0
        for _ in range(digits, 9):
            fraction *= 10
        if 0 <= digit <= 9:
            up, at, noisy = _noise(text, at)
            fraction += up
            good = good and noisy
    return seconds * NS + fraction, at, good, noisy


@njit
def _noise(text, at):
    """Digits behind the ninth, at most 9 of them: (ns to add, offset behind them, within 1/50 ns of a whole ns)."""
    first = at
    rest, scale = np.int64(0), np.int64(1)
    digit = np.int64(text[at]) - 48
    while 0 <= digit <= 9 and at - first < 9:
        rest = rest * 10 + digit
        scale *= 10
        at += 1
        digit = np.int64(text[at]) - 48
    if rest * NOISE <= scale:
        return 0, at, True
    return 1, at, (scale - rest) * NOISE <= scale


@njit(inline="always")
def _line_end(text: Bytes, at: int) -> int:
    """Offset of the next newline at or behind `at`."""
    while text[at] != _NEWLINE:
        at += 1
    return at


@njit(inline="always")
def _cell_end(text: Bytes, at: int, delimiter: int) -> int:
    """Offset of what ends the cell at `at`: a delimiter or the line's end."""
    while text[at] != delimiter and text[at] != _NEWLINE and not (text[at] == _RETURN and text[at + 1] == _NEWLINE):
        at += 1
    return at


@njit
def _message_allowed(kind: int, order_id: int, size: int, price: int, side: int) -> bool:
    """The rules that one message must keep by itself; `explain_message` says the same in words."""
    if not -1 <= side <= 1 or side == 0:
        return False
    if 1 <= kind <= 5:
        return 0 < size <= INT32_MAX and 0 < price < EMPTY_ASK
    if kind == 6:
        return 0 <= size <= INT32_MAX and 0 <= price < EMPTY_ASK
    return kind == 7 and order_id == 0 and size == 0 and -1 <= price <= 1


@njit
def parse_messages(text, at, delimiter, extra, row, time_ns, kind, order_id, size, price, side, ok):
    """Parse the lines of `text` from offset `at` into the arrays from index `row` on: (next free index, noisy times).

    `text` must end in a newline. Blank lines are no rows. A refused line gives ok[row] False and zeros. extra: 1 if a
    further column follows whose content does not matter, else 0.
    """
    end, noise = len(text), 0
    while at < end:
        if text[at] == _NEWLINE or (text[at] == _RETURN and text[at + 1] == _NEWLINE):
            at = _line_end(text, at) + 1
            continue
        clock, at, good, noisy = _time(text, at)
        good = good and text[at] == delimiter
        if good:
            code, at, good_kind = _integer(text, at + 1)
            good = good_kind and text[at] == delimiter
        if good:
            number, at, good_id = _integer(text, at + 1)
            good = good_id and text[at] == delimiter
        if good:
            lots, at, good_size = _integer(text, at + 1)
            good = good_size and text[at] == delimiter
        if good:
            units, at, good_price = _integer(text, at + 1)
            good = good_price and text[at] == delimiter
        if good:
            direction, at, good_side = _integer(text, at + 1)
            if extra:
                good_side = good_side and text[at] == delimiter
                at = _cell_end(text, at + good_side, delimiter)
            if text[at] == _RETURN:
                at += 1
            good = good_side and text[at] == _NEWLINE and _message_allowed(code, number, lots, units, direction)
        ok[row] = good
        if good:
            time_ns[row] = clock
            kind[row] = code
            order_id[row] = number
            size[row] = lots
            price[row] = units
            side[row] = direction
            noise += noisy
        else:
            time_ns[row], kind[row], order_id[row], size[row], price[row], side[row] = 0, 0, 0, 0, 0, 0
            at = _line_end(text, at)
        row += 1
        at += 1
    return row, noise


@njit
def _book_allowed(price: I64, size: I64, levels: int) -> bool:
    """The rules that one book row [2, L] must keep by itself; `explain_book` says the same in words."""
    for side in range(2):
        empty = EMPTY_ASK if side else EMPTY_BID
        sign = 1 if side else -1
        before = np.int64(-EMPTY_ASK)
        for level in range(levels):
            units = price[side, level]
            key = units * sign
            if units == empty:
                if size[side, level] != 0:
                    return False
            elif units <= 0 or key >= EMPTY_ASK or size[side, level] <= 0 or key <= before:
                return False
            before = key
    return price[0, 0] < price[1, 0]  # an empty side never crosses: its price is beyond every other


@njit
def parse_books(text, at, delimiter, extra, row, price, size, ok):
    """Parse order book lines, as `parse_messages` does for messages; price and size are [R, 2, L]. extra: 1 if each
    line ends in a delimiter.
    """
    end, levels = len(text), price.shape[2]
    while at < end:
        if text[at] == _NEWLINE or (text[at] == _RETURN and text[at + 1] == _NEWLINE):
            at = _line_end(text, at) + 1
            continue
        good = True
        for pair in range(2 * levels):
            side, level = 1 - (pair & 1), pair >> 1  # a line holds ask 1, bid 1, ask 2, bid 2, ...
            units, at, good_price = _integer(text, at)
            good = good_price and text[at] == delimiter
            if not good:
                break
            lots, at, good_size = _integer(text, at + 1)
            good = good_size and -INT32_MAX <= lots <= INT32_MAX
            if not good:
                break
            price[row, side, level] = units
            size[row, side, level] = lots
            if pair < 2 * levels - 1:
                good = text[at] == delimiter
                if not good:
                    break
                at += 1
        if good and extra:
            good = text[at] == delimiter
            at += good
        if good:
            if text[at] == _RETURN:
                at += 1
            good = text[at] == _NEWLINE and _book_allowed(price[row], size[row], levels)
        ok[row] = good
        if not good:
            at = _line_end(text, at)
        row += 1
        at += 1
    return row


@njit
def _most_rows(text: Bytes) -> int:
    """How many rows `text` can hold: newlines with something else before them than a newline."""
    count, before = 0, np.uint8(_NEWLINE)
    for byte in text:
        count += (byte == _NEWLINE) & (before != _NEWLINE)
        before = byte
    return count


@njit
def find_rows(text: Bytes, at: int, starts: I64, numbers: I64) -> int:
    """How many rows (no blank lines) begin from offset `at` on; where, and their 1-based line numbers, if there is room."""
    rows, line, end = 0, 1, len(text)
    for place in range(at):
        line += text[place] == _NEWLINE
    begins = True
    for place in range(at, end):
        byte = text[place]
        if byte == _NEWLINE:
            line += 1
            begins = True
        elif begins and not (byte == _RETURN and place + 1 < end and text[place + 1] == _NEWLINE):
            if rows < len(starts):
                starts[rows], numbers[rows] = place, line
            rows += 1
            begins = False
    return rows


def _stop_if_too_short(name: str, lines: int, size: int, columns: int) -> None:
    """Raises DataError when more than half of the lines are too short to be rows: no room is made for them."""
    most = size // (2 * columns) + 1
    if lines > 2 * most:
        raise DataError(
            f"{name}: {lines:,} lines in {size:,} bytes, expected {most:,} at most, as a row of {columns} columns has "
            f"{2 * columns} bytes or more; check that it is the right file, unedited"
        )


def _parts(text: Bytes, at: int) -> tuple[list[tuple[Bytes, int]], int]:
    """Cut `text` so that each part ends in a newline: (part, offset to begin at), and the most rows they can hold."""
    rows = _most_rows(text)
    if len(text) == at or text[-1] == _NEWLINE:
        return [(text, at)], rows
    cut = len(text)
    while cut > at and text[cut - 1] != _NEWLINE:
        cut -= 1
    tail = np.append(text[cut:], np.uint8(_NEWLINE))
    tail.setflags(write=False)  # the same type as the rest: no second compilation
    return [(text[:cut], at), (tail, 0)], rows + 1


def messages_of(text: Bytes, at: int, delimiter: int, extra: int = 0, name: str = "message file") -> Messages:
    """Parse a whole message file from offset `at` on. extra: columns behind the sixth, 0 or 1; they are not used."""
    parts, rows = _parts(text, at)
    _stop_if_too_short(name, rows, len(text), len(MESSAGE_COLUMNS))
    types = (np.int64, np.int8, np.int64, np.int32, np.int64, np.int8, np.bool_)  # as the fields of Messages
    columns: list[Any] = [np.empty(rows, kind) for kind in types]
    row, noisy = 0, 0
    for part, begin in parts:
        row, more = parse_messages(part, begin, delimiter, extra, row, *columns)
        noisy += more
    fields = [*(column[:row] for column in columns), noisy]
    return Messages(*fields)


def books_of(
    text: Bytes, at: int, delimiter: int, levels: int, extra: int = 0, name: str = "order book file"
) -> Books:
    """Parse a whole order book file from offset `at` on. extra: 1 if each line ends in a delimiter."""
    parts, rows = _parts(text, at)
    _stop_if_too_short(name, rows, len(text), 4 * levels)
    # zeros: what stands in a refused row is looked at where the search goes past it
    price, size = np.zeros((rows, 2, levels), np.int64), np.zeros((rows, 2, levels), np.int32)
    ok = np.empty(rows, np.bool_)
    row = 0
    for part, begin in parts:
        row = parse_books(part, begin, delimiter, extra, row, price, size, ok)
    return Books(price[:row], size[:row], ok[:row])
