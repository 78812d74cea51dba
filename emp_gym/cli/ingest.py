"""``ingest``: LOBSTER days in, verified tapes out, with an account of every row.

A tape is called SYMBOL_DATE_LEVELS, or SYMBOL_DATE_START_END_LEVELS (ms, as in LOBSTER's names) where the day has several
sessions. No tape replaces another one unless --replace says so."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from emp_gym.data.instruments import Instruments, for_day, from_options
from emp_gym.printable import printable
from emp_gym.terminal.console import console, guarded
from emp_gym.terminal.flags import Parser
from emp_gym.terminal.obstacles import writing
from emp_gym.types import DataError

if TYPE_CHECKING:
    from rich.console import Console

    from emp_gym.data.lobster.files import Half
    from emp_gym.data.lobster.reader import Quarantine, Reading
    from emp_gym.data.tape.format import DayInfo
    from emp_gym.data.tape.tape_set import TapeSet

COUNTS = (
    "rows_in", "rows_kept", "rows_quarantined",
    "book_rows_checked", "book_rows_equal", "book_rows_explained", "book_rows_unexplained",
)  # fmt: skip
ORDER_COUNTS = (
    "order_events_checked", "order_events_equal", "order_events_explained", "order_events_unexplained",
    "order_events_first", "rows_of_types_5_to_7",
)  # fmt: skip
HEADINGS = ("rows in", "kept", "quarantined", "checked", "equal", "explained", "unexplained")
NS_A_MS = 1_000_000
SPARE = ("equal", "explained", "checked")
"""Columns that a narrow terminal may do without, the least important one first."""
SHOWN = 20  # quarantined rows on the terminal; all of them are in quarantine.csv


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``scripts/ingest.py``; returns the exit code (2: the data could not be read)."""
    parser = Parser(prog="ingest", description=__doc__)
    parser.add_argument(
        "source", nargs="+",
        help="a LOBSTER message file, a folder or a zip of days; or two files of any name: MESSAGE BOOK",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("tapes"), help="folder for the tapes (default: tapes)")
    parser.add_argument(
        "--replace", action="store_true", help="a tape of the same symbol, date, session and depth gives way to the new one"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object of totals on stdout and nothing else"
    )
    parser.add_argument(
        "--self-test", action="store_true", help="plant known damage into copies of the days and print what is found"
    )
    own = parser.add_argument_group("instrument", "rules under which the days trade; they end in the tapes")
    own.add_argument("--tick", help="0.01 (currency), 100 (price units), or by price: 0.0001,1.00:0.01")
    own.add_argument("--fees", help="maker=-0.2bp,taker=0.3bp or taker=0.0035/share; negative for a rebate")
    own.add_argument("--instrument", metavar="FILE", help="YAML or JSON: fields of an instrument, or SYMBOL: {fields}")

    def story() -> int:
        arguments = parser.parse_args(argv)
        if arguments.self_test:
            from emp_gym.cli.ingest_self_test import self_test_days

            return self_test_days(_pairs(arguments.source), arguments.json)
        said = from_options(arguments.tick, arguments.fees, arguments.instrument)
        with writing(arguments.out):
            return _ingest(arguments.source, arguments.out, arguments.json, arguments.replace, said)

    return guarded(story, "ingest")


def _ingest(sources: list[str], out: Path, as_json: bool, replace: bool, said: Instruments) -> int:
    from emp_gym.data.lobster import reader
    from emp_gym.data.tape.tape_set import build

    started = time.perf_counter()
    totals = dict.fromkeys((*COUNTS, *ORDER_COUNTS), 0)
    days = []
    pairs = _pairs(sources)
    said.stop_if_nobody({message.symbol for message, _ in pairs})
    written: dict[Path, tuple[str, str]] = {}  # tape -> identity of its day, and where it was found
    for message, book in pairs:
        known = said.before_reading(message.symbol, message.session_ns)
        reading = reader.read_pair(message, book, instrument=known, progress=_to_stderr)
        reading.day.instrument = for_day(said, reading.day)
        tape = build(reading.day)
        (info,) = tape.info
        target = _place(out, info, several=len(_sessions(pairs, message)) > 1)
        identity, where = written.setdefault(target, (info.identity, message.where))
        if where != message.where and identity == info.identity:
            _to_stderr(f"{message.where}: the same day as {where}, taken once")
            continue
        if where != message.where:
            raise DataError(
                f"{message.where} and {where} are both {info} of one session at {info.levels} levels, with other rows; "
                "ingest the right one, or each into a folder of its own (--out)"
            )
        _save(tape, target, message.where, replace)
        _keep_quarantine(reading.quarantine, target)
        _to_stderr(f"{target}: written")
        counts = _counts(reading)
        totals = {name: totals[name] + counts[name] for name in totals}
        days.append((target, counts, reading.quarantine))
    seconds = round(time.perf_counter() - started, 3)
    if as_json:
        sys.stdout.write(json.dumps(totals | {"seconds": seconds}) + "\n")
    else:
        _show(days, seconds)
    return 0


def _pairs(sources: list[str]) -> list[tuple[Half, Half]]:
    """What the sources hold; says what is not read. Two files whose names do not tell halves are message and order book."""
    from emp_gym.data.lobster import files

    if len(sources) == 2 and all(_tells_nothing(Path(source)) for source in sources):
        return files.find(sources).pairs
    pairs = []
    for source in sources:
        found = files.find(source)
        for name in (*found.unread, *map(str, found.tapes)):
            _to_stderr(f"not read: {name}")
        pairs += found.pairs
    return list({(message.where, book.where): (message, book) for message, book in pairs}.values())  # a day named by both its files


def _tells_nothing(path: Path) -> bool:
    """Whether `path` is a file whose name leads to no other half of a day."""
    from emp_gym.data.lobster import files

    other = files.partner(path)
    return path.is_file() and not zipfile.is_zipfile(path) and (other == path or not other.exists())


def _sessions(pairs: list[tuple[Half, Half]], of: Half) -> set[tuple[int, int] | None]:
    """The sessions in which the day of `of` comes."""
    return {message.session_ns for message, _ in pairs if (message.symbol, message.date) == (of.symbol, of.date)}


def _place(out: Path, info: DayInfo, several: bool) -> Path:
    """Where the tape of a day goes: a name that tells its session where there are several, or a tape of another one."""
    from emp_gym.data.tape.tape_set import TapeSet

    rules, day = info.instrument, f"{info.instrument.symbol}_{info.date}"
    session = f"{rules.session_start_ns // NS_A_MS}_{rules.session_end_ns // NS_A_MS}"
    plain, full = out / f"{day}_{info.levels}.tape", out / f"{day}_{session}_{info.levels}.tape"
    if several or full.exists():
        return full
    if (plain / "meta.json").exists():
        with contextlib.suppress(DataError):  # one that cannot be opened gives way
            there = TapeSet.open(plain).info[0].instrument
            if (there.session_start_ns, there.session_end_ns) != (rules.session_start_ns, rules.session_end_ns):
                return full
    return plain


def _save(tape: TapeSet, target: Path, where: str, replace: bool) -> None:
    try:
        tape.save(target, replace=replace)
    except DataError as error:
        raise DataError(f"{where}: {error}, or --replace it") from error


def _counts(reading: Reading) -> dict[str, int]:
    check, orders = reading.check, reading.orders
    told = (orders.checked, orders.equal, orders.explained, orders.unexplained, orders.first)
    return dict(zip(ORDER_COUNTS, (*told, reading.day.source["orders"]["unseen"]), strict=True)) | dict(
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
    from emp_gym.terminal import tables

    out = console()
    rows = [(tape.name, *(f"{counts[name]:,}" for name in COUNTS)) for tape, counts, _ in days]
    title = f"{len(days)} day(s) in {seconds:.2f} s, in {days[0][0].parent}"
    out.print(tables.table(title, ("tape", *HEADINGS), rows, out.width, spare=SPARE, elsewhere="--json", strong=False))
    for tape, counts, _ in days:
        _show_orders(out, tape.name, counts)
    for tape, _, quarantine in days:
        if not len(quarantine):
            continue
        title = f"{tape.name}: quarantined (all in {tape.with_suffix('.quarantine.csv').name})"
        cells = [[str(cell) for cell in row] for row in quarantine.rows[:SHOWN]]
        if len(quarantine) > SHOWN:
            cells.append(["...", *([""] * (len(quarantine.columns) - 1))])
        out.print(tables.table(title, quarantine.columns, cells, out.width, texts=quarantine.columns, strong=False))


def _show_orders(out: Console, name: str, counts: dict[str, int]) -> None:
    """What was checked besides the book rows, and what was not."""
    checked, equal, explained, unexplained, first, unseen = (f"{counts[count]:,}" for count in ORDER_COUNTS)
    out.print(
        f"{name}: events of orders: {checked} checked with the order's earlier ones, {equal} equal, {explained} explained (cut "
        f"while out of sight), {unexplained} unexplained; {first} the first of their order. Not checked: {unseen} rows of types 5 "
        "to 7. No check sees an id changed throughout; more in docs/data.md.",
        highlight=False,
    )


def _to_stderr(line: str) -> None:
    sys.stderr.write(printable(line) + "\n")
