"""``ingest --self-test``: what the reader finds of damage that is planted into copies of a day."""

from __future__ import annotations

import json
import sys
import time

HEADINGS = ("levels", "planted", "detected", "rows at fault", "rightly accused", "wrongly accused", "kept silently")


def self_test_days(sources: list[str], as_json: bool) -> int:
    """Judges the reader on every day of the sources and prints a table of each, or one JSON object."""
    from emp_gym.data import lobster
    from emp_gym.data.lobster_self_test import self_test

    days = []
    for source in sources:
        for reading in lobster.read(source):
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


def _show(day: dict) -> None:  # type: ignore[type-arg]
    from rich.console import Console
    from rich.table import Table

    last = day["first"] + day["used"]
    table = Table(
        title=f"{day['symbol']} {day['date']}: damage planted into copies of rows {day['first'] + 1:,} to {last:,} of its "
        f"{day['rows']:,} kept rows (seed {day['seed']}, {day['seconds']} s)"
    )
    table.add_column("kind of damage")
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for line in day["figures"]:
        cells = ("levels", "planted", "detected", "at_fault", "rightly", "wrongly", "kept")
        table.add_row(line["kind"], *(f"{line[cell]:,}" for cell in cells))
    console = Console()
    console.print(table)
    console.print(
        "detected: places near which a row was accused. rightly accused: rows at fault that were. wrongly accused: intact "
        "lines. kept silently: rows at fault that stay in the day. What no check can see stands in docs/data.md."
    )
