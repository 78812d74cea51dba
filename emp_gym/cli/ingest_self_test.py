"""``ingest --self-test``: what the reader finds of damage that is planted into copies of a day."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from emp_gym.terminal.console import console

if TYPE_CHECKING:
    from emp_gym.data.lobster.files import Half

HEADINGS = ("L", "planted", "detected", "rows", "right", "wrong", "kept")


def self_test_days(pairs: list[tuple[Half, Half]], as_json: bool) -> int:
    """Judges the reader on every day of the pairs and prints a table of each, or one JSON object."""
    from emp_gym.data.lobster import reader
    from emp_gym.data.lobster.self_test import self_test

    days = []
    for message, book in pairs:
        reading = reader.read_pair(message, book)
        sys.stderr.write(f"{reading.day.instrument.symbol} {reading.day.date}: planting and reading\n")
        started = time.perf_counter()
        result = self_test(reading.day)
        days.append(result.as_json() | {"seconds": round(time.perf_counter() - started, 1)})
    if as_json:
        sys.stdout.write(json.dumps({"days": days}) + "\n")
        return 0
    for day in days:
        _show(day)
    return 0


def _show(day: dict[str, Any]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    last = day["first"] + day["used"]
    table = Table(
        title=f"{day['symbol']} {day['date']}: damage planted into copies of rows {day['first'] + 1:,} to {last:,} of its "
        f"{day['rows']:,} kept rows (seed {day['seed']}, {day['seconds']} s)",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("kind of damage", no_wrap=True)
    for heading in HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for line in day["figures"]:
        cells = ("levels", "planted", "detected", "at_fault", "rightly", "wrongly", "kept")
        table.add_row(line["kind"], *(f"{line[cell]:,}" for cell in cells))
    out = console()
    out.print(table)
    out.print(
        "L: levels of the book. detected: damages near which a row was accused. rows: rows at fault. "
        "right: rows at fault that were accused themselves. wrong: intact lines that were accused. "
        "kept: rows at fault that stay in the day without a word. What no check can see stands in docs/data.md."
    )
