"""Times and text of a synthetic day: business time to the wall clock, rows to the bytes of LOBSTER's CSV files."""

from __future__ import annotations

from emp_gym.data.synthetic.book import ENDED, TICK, TIME
from emp_gym.jit import njit


@njit
def share(a, b, c):
    """a * b / c rounded down to within 1 + 2**-40 b, for 0 <= a < c < 2**43 and b < 2**42, without leaving int64."""
    high, rest = (a << 20) // c, (a << 20) % c
    return (high * b >> 20) + (((rest << 20) // c) * b >> 40)


@njit
def wall_times(message, bounds, start, end, pause, out):
    """Nanoseconds after midnight into `out` [R]: part i of the trading time holds the business time from bounds[i] to
    bounds[i + 1]; each halt that ended before the row adds `pause`."""
    parts = len(bounds) - 1
    length = (end - start - message[-1, ENDED] * pause) // parts
    i = 0
    for row in range(len(message)):
        while message[row, TIME] >= bounds[i + 1]:
            i += 1
        offset = share(message[row, TIME] - bounds[i], length, bounds[i + 1] - bounds[i])
        out[row] = start + i * length + offset + message[row, ENDED] * pause


@njit
def put_int(text, at, value):
    """Writes `value` in decimal at `at`; gives the position after it."""
    if value < 0:
        text[at] = 45
        at, value = at + 1, -value
    digits, rest = 1, value // 10
    while rest > 0:
        digits += 1
        rest //= 10
    for i in range(at + digits - 1, at - 1, -1):
        text[i] = 48 + value % 10
        value //= 10
    return at + digits


@njit
def message_text(message, time_ns, first, last, text):
    """The message rows [first, last) as CSV bytes in `text`; gives their number."""
    at = 0
    for row in range(first, last):
        at = put_int(text, at, time_ns[row] // 1_000_000_000)
        fraction, unit = time_ns[row] % 1_000_000_000, 100_000_000
        if fraction > 0:
            text[at] = 46
            at += 1
        while fraction > 0:  # trailing zeros are dropped, as in LOBSTER's files
            text[at] = 48 + fraction // unit
            fraction, unit, at = fraction % unit, unit // 10, at + 1
        for column in range(5):
            text[at] = 44
            at = put_int(text, at + 1, message[row, column])
        text[at] = 10
        at += 1
    return at


@njit
def book_text(book, first, last, empty, text):
    """The book rows [first, last) as CSV bytes in `text`: ask price, ask size, bid price, bid size, level by level."""
    at = 0
    for row in range(first, last):
        for level in range(book.shape[2]):
            for k in (1, 0):
                price = book[row, k, level, 0] * TICK if book[row, k, level, 0] >= 0 else empty * (2 * k - 1)
                at = put_int(text, at, price)
                text[at] = 44
                at = put_int(text, at + 1, book[row, k, level, 1] * 1)
                text[at] = 44
                at += 1
        text[at - 1] = 10
    return at
