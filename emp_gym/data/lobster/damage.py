"""Kinds of damage to a LOBSTER day, planted where everybody knows: what the reader's self-test judges it by.

A copy holds the lines of both files row by row. Each kind changes a copy at a row and marks the lines at fault; lines
that are not marked are as in the day.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from emp_gym.data.lobster.line_rules import integer
from emp_gym.types import EMPTY_ASK, EMPTY_BID

MESSAGES, BOOKS = 0, 1
INTACT = -1
SHORTEST, LONGEST = 10, 60  # rows of a stretch that is damaged "a while"
_EMPTY = (str(EMPTY_ASK), str(EMPTY_BID))


class Line(NamedTuple):
    text: str
    fault: int = INTACT  # number of the damage that this line is at fault for


@dataclass
class Copy:
    """A day's lines, to be damaged: `lines[file][row]` holds no line (dropped), one, or two (duplicated)."""

    messages: list[str]
    books: list[str]
    tick: int
    lines: tuple[list[list[Line]], list[list[Line]]] = field(init=False)

    def __post_init__(self) -> None:
        self.lines = ([[Line(text)] for text in self.messages], [[Line(text)] for text in self.books])

    def cells(self, file: int, row: int) -> list[str]:
        return (self.messages, self.books)[file][row].split(",")

    def put(self, file: int, row: int, number: int, *texts: str) -> None:
        """Lines at fault in the place of the one of `row`."""
        self.lines[file][row] = [Line(text, number) for text in texts]

    def cell(self, file: int, row: int, number: int, column: int, value: object) -> bool:
        """Another value in one cell; False if it was there already."""
        cells = self.cells(file, row)
        was, cells[column] = cells[column], str(value)
        if cells[column] == was:
            return False
        self.put(file, row, number, ",".join(cells))
        return True

    def blame(self, file: int, row: int, number: int) -> None:
        """Names a line that is as it was, but stands for what is missing beside or before it."""
        self.lines[file][row] = [Line(line.text, number) for line in self.lines[file][row]]


Planter = Callable[[Copy, int, int, np.random.Generator], int]  # (copy, row, number, random) -> rows damaged, 0: none


@dataclass(frozen=True)
class Damage:
    """One kind of damage."""

    name: str
    plant: Planter
    by_level: bool  # whether what can be seen depends on the number of book levels


def _visible(copy: Copy, row: int) -> bool:
    return copy.cells(MESSAGES, row)[1] in "1234"


def _message_size(copy: Copy, row: int, number: int, random: np.random.Generator) -> int:
    size = integer(copy.cells(MESSAGES, row)[3])
    more = int(random.choice((1, 10, 100, max(size, 1))))
    return int(_visible(copy, row) and copy.cell(MESSAGES, row, number, 3, size + more))


def _message_digit(copy: Copy, row: int, number: int, random: np.random.Generator) -> int:
    """The last digit of a size is lost."""
    size = copy.cells(MESSAGES, row)[3]
    return int(_visible(copy, row) and len(size) > 1 and copy.cell(MESSAGES, row, number, 3, size[:-1]))


def _message_price(copy: Copy, row: int, number: int, random: np.random.Generator) -> int:
    price = integer(copy.cells(MESSAGES, row)[4]) + copy.tick * int(random.choice((-3, -2, -1, 1, 2, 3)))
    return int(_visible(copy, row) and copy.cell(MESSAGES, row, number, 4, price))


def _message_side(copy: Copy, row: int, number: int, random: np.random.Generator) -> int:
    return int(_visible(copy, row) and copy.cell(MESSAGES, row, number, 5, -integer(copy.cells(MESSAGES, row)[5])))


def _message_type(copy: Copy, row: int, number: int, random: np.random.Generator) -> int:
    """A new order for a deletion, anything else for a new order: what it does to the book is turned round."""
    new = copy.cells(MESSAGES, row)[1] == "1"
    return int(_visible(copy, row) and copy.cell(MESSAGES, row, number, 1, 3 if new else 1))


def _message_id(copy: Copy, row: int, number: int, random: np.random.Generator) -> int:
    """The id of another order that lives near by."""
    other = copy.cells(MESSAGES, row - int(random.integers(1, 20)))[2]
    mine = copy.cells(MESSAGES, row)
    return int(
        _visible(copy, row) and int(other) > 0 and copy.cell(MESSAGES, row, number, 2, other) and mine[2] != other
    )


def _message_misread(copy: Copy, row: int, number: int, random: np.random.Generator) -> int:
    """One digit of the id is another one: an id that mostly nobody has."""
    digits = list(copy.cells(MESSAGES, row)[2])
    at = int(random.integers(len(digits)))
    digits[at] = str((int(digits[at]) + int(random.integers(1, 10))) % 10) if digits[at].isdigit() else digits[at]
    return int(_visible(copy, row) and copy.cell(MESSAGES, row, number, 2, "".join(digits)))


def _message_ending(copy: Copy, row: int, number: int, random: np.random.Generator) -> int:
    """A cancellation, deletion or execution is called by another of these types: the book shows the same."""
    kind = copy.cells(MESSAGES, row)[1]
    others = [other for other in "234" if other != kind]
    return int(kind in "234" and copy.cell(MESSAGES, row, number, 1, others[int(random.integers(2))]))


def _message_hidden(copy: Copy, row: int, number: int, random: np.random.Generator) -> int:
    """The price or the size of a hidden execution: nothing else in the files tells of it."""
    cells = copy.cells(MESSAGES, row)
    column = int(random.integers(3, 5))
    more = copy.tick if column == 4 else int(random.choice((1, 10, 100)))
    return int(cells[1] == "5" and copy.cell(MESSAGES, row, number, column, integer(cells[column]) + more))


def _message_time(copy: Copy, row: int, number: int, random: np.random.Generator) -> int:
    """A time of some hundred rows before or behind."""
    away = int(random.choice((-1, 1)) * random.integers(20, 200))
    if not 0 <= row + away < len(copy.messages):
        return 0
    clock = copy.cells(MESSAGES, row + away)[0]
    between = range(min(row, row + away), max(row, row + away) + 1)
    return int(len({copy.cells(MESSAGES, r)[0] for r in between}) > 3 and copy.cell(MESSAGES, row, number, 0, clock))


def _swapped(file: int) -> Planter:
    def plant(copy: Copy, row: int, number: int, random: np.random.Generator) -> int:
        first, second = (copy.messages, copy.books)[file][row : row + 2]
        if first == second:
            return 0
        copy.put(file, row, number, second)
        copy.put(file, row + 1, number, first)
        return 2

    return plant


def _dropped(*files: int) -> Planter:
    def plant(copy: Copy, row: int, number: int, random: np.random.Generator) -> int:
        for file in files:
            copy.lines[file][row] = []
        if len(files) == 1:
            copy.blame(1 - files[0], row, number)
            return 1
        if copy.books[row] == copy.books[row - 1]:
            return 0  # nothing happened to the book: the row leaves no gap
        for file in files:  # the row behind the gap stands for it
            copy.blame(file, row + 1, number)
        return 1

    return plant


def _duplicated(file: int) -> Planter:
    def plant(copy: Copy, row: int, number: int, random: np.random.Generator) -> int:
        text = (copy.messages, copy.books)[file][row]
        copy.put(file, row, number, text, text)
        return 1

    return plant


def _shifted(file: int) -> Planter:
    """A cell is lost and the others move up; an empty one stands at the end."""

    def plant(copy: Copy, row: int, number: int, random: np.random.Generator) -> int:
        cells = copy.cells(file, row)
        del cells[int(random.integers(len(cells)))]
        copy.put(file, row, number, ",".join([*cells, ""]))
        return 1

    return plant


def _level(copy: Copy, row: int, random: np.random.Generator) -> int:
    """Column of the price of a level that the row shows; -1 if it shows none."""
    cells = copy.cells(BOOKS, row)
    shown = [column for column in range(0, len(cells), 2) if cells[column] not in _EMPTY]
    return int(random.choice(shown)) if shown else -1


def _book_size(copy: Copy, row: int, number: int, random: np.random.Generator) -> int:
    column = _level(copy, row, random) + 1
    if not column:
        return 0
    size = integer(copy.cells(BOOKS, row)[column]) + int(random.choice((1, 10, 100)))
    return int(copy.cell(BOOKS, row, number, column, size))


def _book_price(copy: Copy, row: int, number: int, random: np.random.Generator) -> int:
    column = _level(copy, row, random)
    if column < 0:
        return 0
    price = integer(copy.cells(BOOKS, row)[column]) + copy.tick * int(random.choice((-1, 1)))
    return int(copy.cell(BOOKS, row, number, column, price))


def _frozen(kind: str) -> Planter:
    """Cells of the row before are repeated for a stretch: one size, one price, or all of them."""

    def plant(copy: Copy, row: int, number: int, random: np.random.Generator) -> int:
        stale = copy.cells(BOOKS, row - 1)
        column = _level(copy, row - 1, random)
        chosen = range(len(stale)) if kind == "row" else [column + (kind == "size")]
        if column < 0 or stale[column] in _EMPTY:
            return 0
        damaged = 0
        for at in range(row, row + int(random.integers(SHORTEST, LONGEST + 1))):
            cells = copy.cells(BOOKS, at)
            before = list(cells)
            for cell in chosen:
                cells[cell] = stale[cell]
            if cells != before:
                copy.put(BOOKS, at, number, ",".join(cells))
                damaged += 1
        return damaged

    return plant


def _clipped(copy: Copy, row: int, number: int, random: np.random.Generator) -> int:
    """The largest size of a row reads 50 wherever that price shows it in the next rows."""
    cells = copy.cells(BOOKS, row)
    largest = max(range(1, len(cells), 2), key=lambda column: integer(cells[column]))
    price, damaged = cells[largest - 1], 0
    for at in range(row, row + int(random.integers(SHORTEST, LONGEST + 1))):
        cells = copy.cells(BOOKS, at)
        if price in cells[::2]:
            damaged += copy.cell(BOOKS, at, number, cells.index(price) + 1, 50)
    return damaged


def _changed_sides(copy: Copy, row: int, number: int, random: np.random.Generator) -> int:
    """The best ask's size and the best bid's have changed places."""
    cells = copy.cells(BOOKS, row)
    first, cells[1] = cells[1], cells[3]
    cells[3] = first
    if cells[1] == cells[3] or {cells[0], cells[2]} & set(_EMPTY):
        return 0
    copy.put(BOOKS, row, number, ",".join(cells))
    return 1


DAMAGES = (
    Damage("message: size edited", _message_size, False),
    Damage("message: size digit lost", _message_digit, False),
    Damage("message: price edited", _message_price, False),
    Damage("message: direction turned", _message_side, False),
    Damage("message: type edited", _message_type, False),
    Damage("message: another's id", _message_id, False),
    Damage("message: id misread", _message_misread, False),
    Damage("message: 2, 3, 4 confused", _message_ending, False),
    Damage("message: hidden row edited", _message_hidden, False),
    Damage("message: time edited", _message_time, False),
    Damage("message: two lines swapped", _swapped(MESSAGES), False),
    Damage("message: line dropped", _dropped(MESSAGES), False),
    Damage("message: line duplicated", _duplicated(MESSAGES), False),
    Damage("message: columns shifted", _shifted(MESSAGES), False),
    Damage("book: size edited", _book_size, True),
    Damage("book: price edited", _book_price, True),
    Damage("book: best sizes exchanged", _changed_sides, True),
    Damage("book: size frozen a while", _frozen("size"), True),
    Damage("book: price frozen a while", _frozen("price"), True),
    Damage("book: size 50 for a while", _clipped, True),
    Damage("book: row frozen a while", _frozen("row"), True),
    Damage("book: two rows swapped", _swapped(BOOKS), True),
    Damage("book: row dropped", _dropped(BOOKS), True),
    Damage("book: row duplicated", _duplicated(BOOKS), True),
    Damage("book: columns shifted", _shifted(BOOKS), True),
    Damage("both: row dropped", _dropped(MESSAGES, BOOKS), True),
)
