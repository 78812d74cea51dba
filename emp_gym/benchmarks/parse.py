"""Reading speed: bytes to integers, the whole verified reading, the tape; other CSV readers on the same file beside."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emp_gym.benchmarks.figures import Effort, Figures, rates, say
from emp_gym.data.lobster import reader as lobster
from emp_gym.data.lobster.files import DayFiles, days_of, open_day
from emp_gym.data.lobster.parser import Messages, books_of, messages_of
from emp_gym.data.synthetic import day
from emp_gym.data.tape.tape_set import build

LARGE = 64_000_000  # bytes of the file that parsers read
COLUMNS = ["time", "type", "order", "size", "price", "direction"]


def measure(figures: Figures, effort: Effort, data: Sequence[str] | None = None) -> None:
    """Adds every figure about reading; `data` is a LOBSTER day of the user's."""
    with tempfile.TemporaryDirectory(prefix="emp_gym-") as folder:
        source: Any = data[0] if data else None
        if source is None:
            config = day.DayConfig(seed=7_100, rows=effort.large_rows, tick_regime="one")
            say(f"writing a synthetic day of {config.rows:,} messages")
            written = day.write_day(Path(folder), config)
            source = (written.message, written.orderbook)
        (message, book), *_ = days_of(source)
        with open_day(message, book) as files:
            _parsers(figures, effort, files, Path(folder))
        _reading(figures, effort, source)


def _parsers(figures: Figures, effort: Effort, files: DayFiles, folder: Path) -> None:
    text = np.asarray(files.message.text[files.message.begin :])
    delimiter = files.message.delimiter
    if text[-1] != ord("\n"):
        text = np.append(text, np.uint8(ord("\n")))
        text.setflags(write=False)
    wanted = min(LARGE, effort.large_rows * 64)
    large = folder / "repeated_message.csv"
    with large.open("wb") as stream:
        for _ in range(max(1, -(-wanted // len(text)))):
            stream.write(text.tobytes())
    ours = _ours(large, delimiter)
    count = len(ours)
    wrong = int((~ours.ok).sum())
    say(f"{count:,} message rows, {large.stat().st_size / 1e6:.0f} MB, {wrong} refused")
    samples = rates(lambda: float(len(_ours(large, delimiter))), effort)
    figures.add("message file, own byte parser, exact ns, 1 core", samples, "rows/s")
    samples = rates(lambda: float(len(messages_of(text, 0, delimiter))), effort)
    figures.add("message bytes in memory, own byte parser, exact ns, 1 core", samples, "rows/s")
    for name, reader in _others(chr(delimiter)).items():
        if reader is None:
            figures.missing(f"message file, {name}", f"not installed: pip install {name.split()[0].rstrip(',')}")
            continue
        if _length(reader(large)) != count:
            figures.missing(f"message file, {name}", f"read {_length(reader(large)):,} rows of {count:,}")
            continue
        figures.add(f"message file, {name}", rates(lambda: float(_length(reader(large))), effort), "rows/s")  # noqa: B023
    book = files.book
    rows = len(books_of(book.text, book.begin, book.delimiter, files.levels))
    samples = rates(lambda: _portion(books_of(book.text, book.begin, book.delimiter, files.levels), rows), effort)
    figures.add(f"order book file, {files.levels} levels, own byte parser, 1 core", samples, "rows/s")


def _ours(path: Path, delimiter: int) -> Messages:
    text = np.fromfile(path, np.uint8)
    text.setflags(write=False)  # as mapped files are: no second compilation
    return messages_of(text, 0, delimiter)


def _portion(_: Any, rows: int) -> float:
    return float(rows)


def _length(table: Any) -> int:
    return int(table.num_rows) if hasattr(table, "num_rows") else len(table)


def _others(delimiter: str) -> dict[str, Callable[[Path], Any] | None]:
    """Readers of the same file, None where one is not installed."""
    import pandas as pd

    readers: dict[str, Callable[[Path], Any] | None] = {
        "pandas C engine, time as a float (loses digits), 1 core": lambda path: pd.read_csv(
            path, header=None, names=COLUMNS, sep=delimiter
        ),
        "pandas C engine, time as text, 1 core": lambda path: pd.read_csv(
            path, header=None, names=COLUMNS, sep=delimiter, dtype={"time": str}
        ),
        "polars, time as a float (loses digits), all cores": None,
        "pyarrow, time as a float (loses digits), all cores": None,
    }
    polars, arrow = _module("polars"), _module("pyarrow.csv")
    if polars is not None:
        readers["polars, time as a float (loses digits), all cores"] = lambda path: polars.read_csv(
            path, has_header=False, separator=delimiter
        )
    if arrow is not None:
        options = arrow.ReadOptions(column_names=COLUMNS)
        parsing = arrow.ParseOptions(delimiter=delimiter)
        readers["pyarrow, time as a float (loses digits), all cores"] = lambda path: arrow.read_csv(
            path, read_options=options, parse_options=parsing
        )
    return readers


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _reading(figures: Figures, effort: Effort, source: Any) -> None:
    reading = lobster.read(source)[0]
    check = reading.check
    say(
        f"{reading.rows_in:,} rows: {reading.rows_kept:,} kept, {reading.rows_quarantined:,} quarantined; book rows: "
        f"{check.equal:,} equal, {check.explained:,} explained, {check.unexplained:,} unexplained"
    )
    rows = float(reading.rows_in)
    samples = rates(lambda: _portion(lobster.read(source), int(rows)), effort)
    levels = reading.day.book_price.shape[2]
    figures.add(f"whole day, both files, {levels} levels, read and verified, 1 core", samples, "rows/s")
    build(reading.day)
    samples = rates(lambda: _portion(build(reading.day), reading.rows_kept), effort)
    figures.add("tape built from a day in memory, 1 core", samples, "rows/s")
