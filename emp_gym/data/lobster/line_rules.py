"""The rules of one LOBSTER line in words: what is wrong with a line that the byte parser refused. Plain, slow,
obvious.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from emp_gym.data.lobster.files import FileText
from emp_gym.data.lobster.parser import DAY_SECONDS, INT32_MAX, INT64_MAX, MESSAGE_COLUMNS, NOISE, Bytes, find_rows
from emp_gym.types import EMPTY_ASK, EMPTY_BID, I64

LONGEST = 1 << 16  # bytes of a line whose words are weighed; 200 levels are some 10,000


class Fault(NamedTuple):
    """Why one line is refused."""

    column: str
    rule: str
    expected: str
    got: str


def line_starts(text: Bytes, at: int) -> tuple[I64, I64]:
    """Where each row (no blank line) from offset `at` on begins, and its 1-based line number. For the few who need
    it.
    """
    rows = find_rows(text, at, np.empty(0, np.int64), np.empty(0, np.int64))
    starts, numbers = np.empty(rows, np.int64), np.empty(rows, np.int64)
    find_rows(text, at, starts, numbers)
    return starts, numbers


def line_at(text: Bytes, start: int) -> tuple[str, bool]:
    """The line that begins at `start`, without its end, and whether it had one. Of a line of more than `LONGEST` bytes
    the beginning, which is longer than `LONGEST` too.
    """
    for most in (4_096, LONGEST + 2):
        piece = bytes(text[start : start + most])
        cut = piece.find(b"\n")
        if cut >= 0:
            return piece[:cut].removesuffix(b"\r").decode("utf-8", "replace"), True
    if len(piece) > LONGEST:
        return piece.decode("latin-1"), True
    return piece.removesuffix(b"\r").decode("utf-8", "replace"), False


def book_column(index: int) -> str:
    """Name of a column of the order book file: ``ask price 1``, ``ask size 1``, ``bid price 1``, ..."""
    side = "ask" if index % 4 < 2 else "bid"
    return f"{side} {'size' if index % 2 else 'price'} {index // 4 + 1}"


def _is_integer(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits.lstrip("0")) <= 19 and abs(integer(text)) <= INT64_MAX


def integer(text: str) -> int:
    """The number of decimal digits, however many zeros it begins with: Python reads 4,300 digits at most."""
    digits = text.removeprefix("-").lstrip("0") or "0"
    return -int(digits) if text.startswith("-") else int(digits)


def _length_fault(line: str) -> Fault | None:
    if len(line) <= LONGEST:
        return None
    return Fault("line", "line-length", f"at most {LONGEST:,} bytes", f"a longer line: {line[:60]!r}")


def _count_fault(line: str, cells: list[str], columns: int, ended: bool) -> Fault | None:
    if len(cells) == columns:
        return None
    rule = "column-count" if ended or len(cells) > columns else "truncated-line"
    return Fault("line", rule, f"{columns} columns", f"{len(cells)} columns: {line[:60]!r}")


def _time_fault(text: str) -> Fault | None:
    whole, dot, fraction = text.partition(".")
    digits = whole + fraction
    if not (whole and digits.isascii() and digits.isdigit() and (fraction or not dot)):
        return Fault("time", "not-a-number", "seconds after midnight as plain decimal digits", repr(text[:60]))
    rest = fraction[9:]
    if rest and (len(rest) > 9 or min(int(rest), 10 ** len(rest) - int(rest)) * NOISE > 10 ** len(rest)):
        return Fault(
            "time", "time-digits", "at most 9 fractional digits, or a double's noise behind them", repr(text[:60])
        )
    if len(whole.lstrip("0")) > 5 or integer(whole) >= DAY_SECONDS:
        return Fault("time", "time-range", f"less than {DAY_SECONDS} seconds", repr(text[:60]))
    return None


def explain_message(line: str, delimiter: str, ended: bool, extra: int = 0) -> Fault | None:
    """The first rule that a message line breaks by itself, or None. extra: columns behind the sixth, any content."""
    cells = line.split(delimiter)
    fault = _length_fault(line) or _count_fault(line, cells, len(MESSAGE_COLUMNS) + extra, ended) or _time_fault(cells[0])
    if fault:
        return fault
    cells = cells[: len(MESSAGE_COLUMNS)]
    for name, cell in zip(MESSAGE_COLUMNS[1:], cells[1:], strict=True):
        if not _is_integer(cell):
            return Fault(name, "not-a-number" if ended else "truncated-line", "an integer (int64)", repr(cell[:60]))
    kind, order_id, size, price, side = (integer(cell) for cell in cells[1:])
    if not 1 <= kind <= 7:
        return Fault("type", "unknown-type", "1 to 7", str(kind))
    if kind == 7:
        for name, good, expected, got in (
            ("order id", order_id == 0, "0 for a halt (type 7)", order_id),
            ("size", size == 0, "0 for a halt (type 7)", size),
            ("price", -1 <= price <= 1, "-1 halt, 0 quotes resume or 1 trading resumes (type 7)", price),
        ):
            if not good:
                return Fault(name, "halt-convention", expected, str(got))
    elif size < 0 or (size == 0 and kind != 6):
        return Fault(
            "size", "negative-size" if size < 0 else "zero-size", "0 or more" if kind == 6 else "more than 0", str(size)
        )
    elif size > INT32_MAX:
        return Fault("size", "out-of-range", f"at most {INT32_MAX}", str(size))
    elif price < 0 or (price == 0 and kind != 6) or price >= EMPTY_ASK:
        return Fault(
            "price", "price-range", f"{'0 or' if kind == 6 else ''} more than 0, below {EMPTY_ASK}".strip(), str(price)
        )
    if side not in (1, -1):
        return Fault("direction", "direction", "1 or -1", str(side))
    return None


def explain_book(line: str, delimiter: str, ended: bool, levels: int, extra: int = 0) -> Fault | None:
    """The first rule that an order book line breaks by itself, or None. extra: 1 if each line ends in a delimiter."""
    cells = line.split(delimiter)
    fault = _length_fault(line) or _count_fault(line, cells, 4 * levels + extra, ended)
    if fault:
        return fault
    if extra and cells.pop():
        return Fault("line", "column-count", "nothing behind the last delimiter", repr(line[-60:]))
    for index, cell in enumerate(cells):
        if not _is_integer(cell):
            return Fault(
                book_column(index), "not-a-number" if ended else "truncated-line", "an integer (int64)", repr(cell[:60])
            )
    numbers = [integer(cell) for cell in cells]
    for index in range(0, 4 * levels, 2):
        fault = _level_fault(numbers, index)
        if fault:
            return fault
    if numbers[2] >= numbers[0]:
        return Fault("bid price 1", "crossed", f"below the best ask {numbers[0]}", str(numbers[2]))
    return None


def _level_fault(numbers: list[int], index: int) -> Fault | None:
    """The first rule broken by the level whose price is numbers[index]."""
    price, size = numbers[index], numbers[index + 1]
    ask = index % 4 == 0
    name, size_name = book_column(index), book_column(index + 1)
    if size < 0:
        return Fault(size_name, "negative-size", "0 or more", str(size))
    if size > INT32_MAX:
        return Fault(size_name, "out-of-range", f"at most {INT32_MAX}", str(size))
    if price == (EMPTY_ASK if ask else EMPTY_BID):
        return Fault(size_name, "empty-level-size", "0 at an empty level", str(size)) if size else None
    if not 0 < price < EMPTY_ASK:
        return Fault(
            name,
            "price-range",
            f"more than 0, below {EMPTY_ASK}, or {EMPTY_ASK if ask else EMPTY_BID} for an empty level",
            str(price),
        )
    if size == 0:
        return Fault(size_name, "zero-size", "more than 0 at a level with a price", "0")
    if index >= 4 and (price <= numbers[index - 4] if ask else price >= numbers[index - 4]):
        worse = "above" if ask else "below"
        return Fault(name, "levels-not-sorted", f"{worse} the level before it ({numbers[index - 4]})", str(price))
    return None


class Lines:
    """Line numbers and texts of one file, looked up when the first is asked for."""

    def __init__(self, text: FileText) -> None:
        self.file = text
        self.delimiter = chr(text.delimiter)

    @cached_property
    def places(self) -> tuple[I64, I64]:
        return line_starts(self.file.text, self.file.begin)

    def number(self, row: int) -> int:
        return int(self.places[1][row])

    def line(self, row: int) -> tuple[str, bool]:
        return line_at(self.file.text, int(self.places[0][row]))

    def cells(self, row: int) -> list[str]:
        return self.line(row)[0].split(self.delimiter)

    def message_fault(self, row: int) -> Fault | None:
        text, ended = self.line(row)
        return explain_message(text, self.delimiter, ended, self.file.extra)

    def book_fault(self, row: int, levels: int) -> Fault | None:
        text, ended = self.line(row)
        return explain_book(text, self.delimiter, ended, levels, self.file.extra)
