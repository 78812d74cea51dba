"""``ingest``: LOBSTER days in, verified tapes out, with an account of every row."""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from emp_gym.experiments.commands.obstacles import writing
from emp_gym.experiments.commands.terminal import console, guarded

if TYPE_CHECKING:
    from emp_gym.data.lobster import Quarantine, Reading

COUNTS = (
    "rows_in", "rows_kept", "rows_quarantined",
    "book_rows_checked", "book_rows_equal", "book_rows_explained", "book_rows_unexplained",
)  # fmt: skip
HEADINGS = ("rows in", "kept", "quarantined", "checked", "equal", "explained", "unexplained")
SPARE = ("equal", "explained", "checked")
"""Columns that a narrow terminal may do without, the least important one first."""
SHOWN = 20  # quarantined rows on the terminal; all of them are in quarantine.csv


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``scripts/ingest.py``; returns the exit code (2: the data could not be read)."""
    parser = argparse.ArgumentParser(prog="ingest", description=__doc__)
    parser.add_argument("source", nargs="+", help="a LOBSTER message file, a folder or a zip of days")
    parser.add_argument("--out", type=Path, default=Path("tapes"), help="folder for the tapes (default: tapes)")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object of totals on stdout and nothing else"
    )
    def story() -> int:
        arguments = parser.parse_args(argv)
        with writing(arguments.out):
            return _ingest(arguments.source, arguments.out, arguments.json)

    return guarded(story, "ingest")


def _ingest(sources: list[str], out: Path, as_json: bool) -> int:
    from emp_gym.data import lobster
    from emp_gym.data.tape import build

    started = time.perf_counter()
    totals = dict.fromkeys(COUNTS, 0)
    days = []
    for source in sources:
        for reading in lobster.read(source, progress=_to_stderr):
            counts = _counts(reading)
            totals = {name: totals[name] + counts[name] for name in COUNTS}
            info = reading.day
            target = out / f"{info.instrument.symbol}_{info.date}_{info.book_price.shape[2]}.tape"
            build(info).save(target)
            _keep_quarantine(reading.quarantine, target)
            _to_stderr(f"{target}: written")
            days.append((target, counts, reading.quarantine))
    seconds = round(time.perf_counter() - started, 3)
    if as_json:
        sys.stdout.write(json.dumps(totals | {"seconds": seconds}) + "\n")
    else:
        _show(days, seconds)
    return 0


def _counts(reading: Reading) -> dict[str, int]:
    check = reading.check
    return dict(
        zip(
            COUNTS,
            (
                reading.rows_in, reading.rows_kept, reading.rows_quarantined,
                check.rows_checked, check.equal, check.explained, check.unexplained,
            ),
            strict=True,
        )
    )  # fmt: skip


def _keep_quarantine(quarantine: Quarantine, tape: Path) -> None:
    """Writes every quarantined row beside the tape, so that nothing is lost."""
    path = tape.with_suffix(".quarantine.csv")
    if not len(quarantine):
        path.unlink(missing_ok=True)
        return
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(quarantine.columns)
        writer.writerows(quarantine.rows)


def _show(days: list[tuple[Path, dict[str, int], Quarantine]], seconds: float) -> None:
    """The account of every day, its name and numbers whole however narrow the terminal is."""
    from emp_gym.experiments import columns

    out = console()
    rows = [(tape.name, *(f"{counts[name]:,}" for name in COUNTS)) for tape, counts, _ in days]
    title = f"{len(days)} day(s) in {seconds:.2f} s, in {days[0][0].parent}"
    out.print(columns.table(title, ("tape", *HEADINGS), rows, out.width, spare=SPARE, elsewhere="--json", strong=False))
    for tape, _, quarantine in days:
        if not len(quarantine):
            continue
        title = f"{tape.name}: quarantined (all in {tape.with_suffix('.quarantine.csv').name})"
        cells = [[str(cell) for cell in row] for row in quarantine.rows[:SHOWN]]
        if len(quarantine) > SHOWN:
            cells.append(["...", *([""] * (len(quarantine.columns) - 1))])
        out.print(columns.table(title, quarantine.columns, cells, out.width, texts=quarantine.columns, strong=False))


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
