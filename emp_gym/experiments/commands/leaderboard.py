"""``leaderboard.py``: judged runs side by side, one table for each environment, setting and data."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emp_gym.experiments.commands.terminal import console, guarded


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="leaderboard.py",
        description="Judged runs side by side. Runs that were judged on different windows are refused, not averaged.",
    )
    p.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders, or folders of them")
    how = p.add_mutually_exclusive_group()
    how.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    how.add_argument("--json", action="store_true", help="print one JSON array and nothing else on stdout")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 0, or 2 with one line on stderr for what cannot be compared."""
    return guarded(lambda: _run(parser().parse_args(argv)), "leaderboard.py")


def _run(a: argparse.Namespace) -> int:
    from emp_gym.experiments import leaderboard
    from emp_gym.experiments.document import markdown

    boards = leaderboard.boards(a.runs)
    if a.json:
        print(json.dumps(leaderboard.as_json(boards)))
    elif a.markdown:
        print(markdown(leaderboard.document(boards)), end="")
    else:
        _show(boards)
    return 0


def _show(boards: Sequence[Any]) -> None:
    from emp_gym.experiments import columns, leaderboard

    out = console()
    for board in boards:
        titles, rows = leaderboard.table(board)
        out.print()
        out.print(columns.table(
            leaderboard.title(board), titles, rows, out.width, spare=leaderboard.SPARE, elsewhere="--markdown or --json"
        ))  # fmt: skip
        for note in board.notes:
            out.print(note, highlight=False)
    out.print()
    out.print(leaderboard.reading(boards).replace("`", ""), highlight=False)
