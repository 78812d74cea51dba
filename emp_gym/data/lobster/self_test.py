"""The reader judged on a day of the user's own: damage of known kinds is planted, and what it says is compared.

For each kind and number of book levels a stretch of the day is copied in memory, damaged in places some hundred rows
apart, and read again. A file of fewer levels is made from the day as LOBSTER cuts it: the rows that change the best
levels, and those of types 5-7.
"""

from __future__ import annotations

import itertools
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from emp_gym.data.lobster.damage import BOOKS, DAMAGES, INTACT, LONGEST, MESSAGES, Copy, Damage, Line
from emp_gym.data.lobster.files import DayFiles, FileText, Half
from emp_gym.data.lobster.reader import Reading, read_files
from emp_gym.types import NS, DataError, Instrument, RecordedDay

STRETCH = 20_000  # rows of the day that are copied, at most
SPACING = 350  # rows between two damages
NEAR = 120  # rows behind the last damaged one within which what is said is taken as said of this damage
MOST_TRIES = 30  # rows tried for one damage: not every row can be damaged in every way
WANTED, ROUNDS = 20, 12  # damages of a kind: a short stretch is copied again, with other places, but not too often


@dataclass(frozen=True)
class DetectionFigures:
    """What the reader said of one kind of damage in files of so many levels."""

    kind: str
    levels: int
    planted: int  # damages
    detected: int  # of which at least one row near by was accused, or an order's event is unexplained
    at_fault: int  # rows damaged or missing
    rightly: int  # of them, those whose own line was accused
    wrongly: int  # intact lines that were accused
    kept: int  # rows at fault that were kept without a word


_COUNTS = ("planted", "detected", "at_fault", "rightly", "wrongly", "kept")


@dataclass(frozen=True)
class SelfTest:
    """The table of one day."""

    symbol: str
    date: str
    rows: int  # of the day
    first: int  # first of its kept rows that was used, from 0
    used: int
    seed: int
    figures: tuple[DetectionFigures, ...]

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "figures": [asdict(line) for line in self.figures]}


class _Lines(NamedTuple):
    messages: list[str]
    books: list[str]


def self_test(
    day: RecordedDay, *, seed: int = 0, levels: Sequence[int] = (), damages: Sequence[Damage] = DAMAGES,
    stretch: int = STRETCH,
) -> SelfTest:  # fmt: skip
    """Figures of every kind of damage on a stretch of the kept rows of `day`.

    levels: numbers of book levels to be tried, by default 1, 5 and all of the day's own, as far as it has them.
    Raises DataError when the day has no stretch of rows that follow from each other and is long enough.
    """
    own = day.book_price.shape[2]
    depths = sorted({depth for depth in levels or (1, 5, own) if depth <= own})
    first, lines = _clean_stretch(day, stretch)
    figures = []
    for depth in reversed(depths):
        cut = _of_levels(lines, depth)
        for damage in damages:
            if damage.by_level or depth == own:
                random = np.random.default_rng((seed, zlib.crc32(damage.name.encode()), depth))
                figures.append(_rounds(damage, cut, depth, day.instrument, random))
    order = {damage.name: number for number, damage in enumerate(damages)}
    figures.sort(key=lambda line: (order[line.kind], -line.levels))
    return SelfTest(day.instrument.symbol, day.date, len(day.kind), first, len(lines.messages), seed, tuple(figures))


def _clean_stretch(day: RecordedDay, most: int) -> tuple[int, _Lines]:
    """The first of the day's longest stretches of rows in which nothing is accused, at most `most` rows, as lines."""
    lines = _lines_of(day, 0, len(day.kind)) if len(day.kind) <= 4 * most else _middle(day, 4 * most)
    offset = (len(day.kind) - len(lines.messages)) // 2
    reading = _read([[Line(text)] for text in lines.messages], [[Line(text)] for text in lines.books], day.instrument)
    accused = sorted({entry.row - 1 for entry in reading.quarantine.rows})
    edges = [-1, *accused, len(lines.messages)]
    start, end = max(itertools.pairwise(edges), key=lambda edge: min(edge[1] - edge[0], most))
    start += 1
    if end - start > most:  # not the quiet or hectic beginning
        start += (end - start - most) // 2
        end = start + most
    if end - start < 2 * SPACING:
        raise DataError(
            f"{day.instrument.symbol} {day.date}: the longest stretch without an accused row has {end - start} rows, "
            f"expected at least {2 * SPACING} to plant damage in; take another day"
        )
    return offset + start, _Lines(lines.messages[start:end], lines.books[start:end])


def _middle(day: RecordedDay, rows: int) -> _Lines:
    first = (len(day.kind) - rows) // 2
    return _lines_of(day, first, first + rows)


def _lines_of(day: RecordedDay, first: int, end: int) -> _Lines:
    """Rows of a day as LOBSTER writes them."""
    rows = slice(first, end)
    messages = []
    columns = (day.time_ns, day.kind, day.order_id, day.size, day.price, day.side)
    for clock, *numbers in zip(*(column[rows].tolist() for column in columns)):
        second, rest = divmod(clock, NS)
        time = f"{second}.{rest:09d}".rstrip("0").rstrip(".")
        messages.append(",".join([time, *map(str, numbers)]))
    cells = np.stack([day.book_price[rows], day.book_size[rows]], axis=-1)[:, ::-1]  # asks first
    table = cells.transpose(0, 2, 1, 3).reshape(len(messages), -1).tolist()
    return _Lines(messages, [",".join(map(str, row)) for row in table])


def _of_levels(lines: _Lines, levels: int) -> _Lines:
    """The same rows as a file of fewer levels has them."""
    messages: list[str] = []
    books: list[str] = []
    for message, book in zip(*lines):
        cells = book.split(",")
        if len(cells) == 4 * levels:
            return lines
        top = ",".join(cells[: 4 * levels])
        if not books or top != books[-1] or message.split(",")[1] in "567":
            messages.append(message)
            books.append(top)
    return _Lines(messages, books)


def _read(messages: list[list[Line]], books: list[list[Line]], instrument: Instrument) -> Reading:
    """The reader's verdict on lines in memory."""
    texts = []
    for kind, rows in (("message", messages), ("orderbook", books)):
        body = "".join(f"{line.text}\n" for row in rows for line in row).encode()
        texts.append(FileText(kind, np.frombuffer(body, np.uint8), 0, ord(","), {}, kind))
    levels = (next(row[0].text for row in books if row).count(",") + 1) // 4
    half = Half("memory", "message", False, instrument.symbol, "1970-01-01", None, "message", levels)
    files = DayFiles(texts[0], texts[1], levels, ({}, {}))
    return read_files(files, half, instrument, lambda line: None)


def _rounds(damage: Damage, lines: _Lines, levels: int, instrument: Instrument, random: np.random.Generator) -> DetectionFigures:
    figures = _judge(damage, lines, levels, instrument, random)
    for _ in range(ROUNDS - 1):
        if figures.planted >= WANTED:
            break
        more = _judge(damage, lines, levels, instrument, random)
        counts = {name: getattr(figures, name) + getattr(more, name) for name in _COUNTS}
        figures = replace(figures, **counts)
    return figures


def _judge(damage: Damage, lines: _Lines, levels: int, instrument: Instrument, random: np.random.Generator) -> DetectionFigures:
    copy = Copy(lines.messages, lines.books, instrument.tick)
    faults = dict(_planted(copy, damage, random))
    reading = _read(*copy.lines, instrument)
    said = defaultdict(set)  # row of the day -> damages that its accused lines are at fault for
    wrongly = 0
    origin = {kind: list(_origins(copy.lines[file])) for file, kind in ((MESSAGES, "message"), (BOOKS, "orderbook"))}
    right: dict[int, set[int]] = defaultdict(set)
    for entry in reading.quarantine.rows:
        row, fault = origin[entry.file][entry.row - 1]
        said[row].add(fault)
        wrongly += fault == INTACT
        if fault != INTACT:
            right[fault].add(row)
    spoken = {*said, *(origin["message"][line - 1][0] for line in reading.orders.unexplained_rows)}
    detected = rightly = kept = 0
    for number, (first, last, count) in faults.items():
        near = any(row in spoken for row in range(first - NEAR, last + NEAR))
        found = min(count, len(right[number]))
        detected += near
        rightly += found
        own = {row for row, fault in itertools.chain(*origin.values()) if fault == number} if found < count else set()
        kept += 0 if found == count else min(count - found, len(own - set(said)))
    return DetectionFigures(
        damage.name,
        levels,
        len(faults),
        detected,
        sum(count for _, _, count in faults.values()),
        rightly,
        wrongly,
        kept,
    )


def _planted(copy: Copy, damage: Damage, random: np.random.Generator) -> Iterator[tuple[int, tuple[int, int, int]]]:
    """Damages the copy; for each damage its number, first row, last row and number of rows at fault."""
    number = 0
    for at in range(int(random.integers(SPACING // 8, SPACING)), len(copy.messages) - SPACING, SPACING):
        for row in at + random.permutation(SPACING // 4)[:MOST_TRIES]:
            kept = [rows[row : row + LONGEST + 2] for rows in copy.lines]
            count = damage.plant(copy, int(row), number, random)
            if count:
                yield number, (int(row), int(row) + LONGEST + 1, count)
                number += 1
                break
            for rows, before in zip(copy.lines, kept):
                rows[row : row + LONGEST + 2] = before


def _origins(rows: list[list[Line]]) -> Iterator[tuple[int, int]]:
    """Of each line of a file that is left: the row of the day, and the damage it is at fault for."""
    for row, lines in enumerate(rows):
        for line in lines:
            yield row, line.fault
