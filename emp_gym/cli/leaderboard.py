"""``leaderboard.py``: judged runs side by side, a table for each group that may be compared, and what is in none."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emp_gym.printable import printable
from emp_gym.terminal.console import console, guarded
from emp_gym.terminal.flags import Parser


def parser() -> Parser:
    p = Parser(
        prog="leaderboard.py",
        description="Judged runs side by side. What was judged alike (environment, setting, data, windows) stands in one table; the "
        "rest in tables of its own, with the words by which it differs. Runs that were not held out, or are one of several seeds, are "
        "marked and come last.",
    )
    p.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders, or folders of them")
    how = p.add_mutually_exclusive_group()
    how.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    how.add_argument("--json", action="store_true", help="print one JSON object and nothing else on stdout")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 0, or 2 with one line on stderr for what cannot be compared."""
    return guarded(lambda: _run(parser().parse_args(argv)), "leaderboard.py")


def _run(a: argparse.Namespace) -> int:
    from emp_gym.reports import leaderboard
    from emp_gym.reports import leaderboard_view as view
    from emp_gym.reports.blocks import markdown
    from emp_gym.reports.judged_run import shelf

    found = shelf(a.runs)
    boards = leaderboard.grouped(found)
    if a.json:
        print(json.dumps(view.as_json(boards, found.beside)))
    elif a.markdown:
        print(markdown(view.document(boards, found.beside)), end="")
    else:
        _show(boards, found.beside)
    return 0


def _show(boards: Sequence[Any], beside: Sequence[Any]) -> None:
    from emp_gym.reports import leaderboard_view as view
    from emp_gym.reports.leaderboard import rows
    from emp_gym.terminal import tables

    out = console()
    for board in boards:
        lines = rows(board)
        titles, body = view.cells_of(board, lines)
        out.print()
        for note in view.notes(board, lines):
            out.print(printable(note), highlight=False, markup=False)
        out.print(tables.table(
            view.title(board), titles, body, out.width, spare=view.SPARE, elsewhere="--markdown or --json"
        ))  # fmt: skip
    out.print()
    for line in view.beside_lines(beside):
        out.print(printable(line), highlight=False, markup=False, soft_wrap=True)
    out.print(view.reading(boards).replace("`", ""), highlight=False, markup=False)
