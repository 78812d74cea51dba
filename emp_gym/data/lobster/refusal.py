"""What is said of a file most of whose rows break a rule: its first bad rows, and what to do where that is known."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np

from emp_gym.data.lobster.files import FileText
from emp_gym.data.lobster.line_rules import Fault, Lines, book_column
from emp_gym.data.lobster.parser import DAY_SECONDS, MESSAGE_COLUMNS
from emp_gym.types import EMPTY_ASK, EMPTY_BID, Bool, DataError

MOST_BAD = 0.5  # share of quarantined rows from which a file is not worth reading
SHOWN = 3  # bad rows that the error names
_DECIMAL = re.compile(r"-?\d+\.\d+")
_CLOCK = re.compile(r"(\d{4}-\d\d-\d\d[ T])?\d{1,2}:\d\d(:\d\d(\.\d+)?)?")
_ORDER = "an order book line is ask price, ask size, bid price, bid size of the best level, then of the next: check that order"
_POWER = re.compile(r"-?\d+([.,]\d+)?[eE]\+?\d+")


def stop_if_mostly_bad(file: FileText, ok: Bool, levels: int) -> None:
    """Raises DataError with the first bad rows and the remedy when more than `MOST_BAD` of the rows are refused."""
    bad = np.flatnonzero(~ok)
    if len(ok) and len(bad) <= MOST_BAD * len(ok):
        return
    lines, message = Lines(file), file.kind == "message"
    kind = "message" if message else "order book"
    faults, remedies = [], []
    for row in bad[:SHOWN].tolist():
        fault = lines.message_fault(row) if message else lines.book_fault(row, levels)
        if fault:
            faults.append(_told(lines.number(row), fault))
            turned = fault.rule in ("crossed", "levels-not-sorted") or fault.got in (str(EMPTY_ASK), str(EMPTY_BID))
            if turned and _ORDER not in remedies:
                remedies.append(_ORDER)
        cells = lines.cells(row)
        names = MESSAGE_COLUMNS if message else [book_column(index) for index in range(4 * levels)]
        remedies += [remedy for remedy in _remedies(cells, names) if remedy not in remedies]
    words = "; ".join(remedies) or f"check that the file is an unedited {kind} file"
    raise DataError(
        f"{file.name}: {len(bad):,} of {len(ok):,} rows break a rule of LOBSTER's {kind} files, expected a few at most. "
        f"First: {'; '.join(faults) or 'the file has no rows'}. What to do: {words}"
    )


def _told(line: int, fault: Fault) -> str:
    return f"line {line}, column {fault.column!r}, {fault.rule}: expected {fault.expected}, got {fault.got}"


def _remedies(cells: list[str], names: tuple[str, ...] | list[str]) -> Iterator[str]:
    """What to do about each way in which a line's cells are known to be written wrongly."""
    if any(cell != cell.strip() for cell in cells):
        yield "remove the spaces around the cells"
    cells = [cell.strip() for cell in cells]
    if any(cell[:1] in ("'", '"') and cell[-1:] == cell[:1] for cell in cells):
        yield "write the cells without quotes"
    cells = [cell.strip("\"'") for cell in cells]
    named = list(zip(names, cells))
    for known, words in _KNOWN:
        if any(known(name, cell) for name, cell in named):
            yield words


def _of_price(name: str) -> bool:
    return "price" in name


def _float(cell: str) -> bool:
    return bool(re.fullmatch(r"-?\d+\.0+", cell))


_KNOWN: tuple[tuple[Callable[[str, str], bool], str], ...] = (
    (
        lambda name, cell: _of_price(name) and bool(_DECIMAL.fullmatch(cell)) and abs(float(cell)) < 100_000
        and not (_float(cell) and float(cell) % 100 == 0),
        "prices are in 1e-4 dollars: multiply by 10,000 and write them as integers",
    ),
    (lambda name, cell: "$" in cell, "write prices as integers in 1e-4 dollars: no currency sign, multiplied by 10,000"),
    (
        lambda name, cell: name != "time" and _float(cell) and not (name == "type" and float(cell) > 7),
        'integers were saved as floats ("100.0"): write them without a decimal point (pandas: astype("int64") first)',
    ),
    (
        lambda name, cell: bool(_POWER.fullmatch(cell)),
        "a spreadsheet has rounded numbers (1.6E+07) and their digits are lost: take the file from the download again",
    ),
    (lambda name, cell: name == "time" and bool(re.fullmatch(r"\d+,\d+", cell)), "write times with a decimal point"),
    (
        lambda name, cell: bool(re.fullmatch(r"-?\d{1,3}(['’ _.]\d{3})+", cell)) and name != "time",
        "write numbers without separators of thousands",
    ),
    (lambda name, cell: name == "direction" and cell.isalpha(), "write directions as 1 (buy) and -1 (sell)"),
    (
        lambda name, cell: name == "time" and bool(_CLOCK.fullmatch(cell)),
        "write times as seconds after local midnight (09:30:00.5 is 34200.5)",
    ),
    (
        lambda name, cell: name == "time" and bool(re.fullmatch(r"\d+(\.\d+)?", cell)) and float(cell) >= DAY_SECONDS,
        "times must be seconds after local midnight: divide milliseconds by 1,000 (nanoseconds by 1e9), and take away "
        "midnight from a time since 1970",
    ),
    (
        lambda name, cell: name == "time" and bool(re.fullmatch(r"\d+\.\d{10,}", cell)),
        "write times with at most 9 digits behind the point",
    ),
    (
        lambda name, cell: name == "type" and bool(re.fullmatch(r"\d{4,5}\.\d+", cell)),
        "the first column may count rows: save the file without it (pandas: index=False)",
    ),
)  # fmt: skip
