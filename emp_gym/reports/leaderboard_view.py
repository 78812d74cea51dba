"""The leaderboard as people and programs read it: tables on a terminal, Markdown, JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from emp_gym.evaluation.intervals import LEVEL
from emp_gym.evaluation.reliability import FEWEST_RUNS
from emp_gym.printable import printable
from emp_gym.reports.blocks import Block, Heading, Table, Text
from emp_gym.reports.caveats import setting_text
from emp_gym.reports.formatting import bare, interval, number
from emp_gym.reports.judged_run import Beside
from emp_gym.reports.leaderboard import Board, BoardRow, rows
from emp_gym.reports.report import told_columns
from emp_gym.reports.report_data import KNOWING

MARK = "†"
"""Behind the name of a run with a caveat."""
TITLES = (
    "agent", "score", "{} per episode", "IQM over seeds", "seeds", "Sharpe", "drawdown", "turnover",
    "P(beats best baseline)", "env steps", "seconds", "trials",
)  # fmt: skip
SPARE = (
    "trials", "seconds", "turnover", "env steps", "drawdown", "Sharpe", "seeds", "P(beats best baseline)", "IQM over seeds",
)  # fmt: skip
"""Columns that a narrow terminal may do without, the least important one first."""


def cells(row: BoardRow) -> tuple[str, ...]:
    def maybe(value: float | None, digits: int = 0) -> str:
        return "" if value is None else number(value, digits)

    return (
        f"{row.agent} *" if row.baseline else f"{row.agent} {MARK}" if row.caveats else row.agent,
        bare(row.score, 3),
        interval(row.pnl) if row.pnl.low is not None else bare(row.pnl),
        bare(row.iqm),
        str(row.seeds) if row.iqm else "",
        maybe(row.sharpe, 2),
        maybe(row.drawdown, 1),
        maybe(row.turnover),
        bare(row.improvement),
        maybe(row.env_steps),
        maybe(row.seconds),
        maybe(row.trials),
    )


def title(board: Board) -> str:
    """``emp-lob-v0: 16 test windows of 8 dates, data 80ac2296``."""
    dates = len(set(board.dates))
    data = f", data {board.data_hash[:8]}" if board.data_hash else ""
    given = ", ".join(f"{key}={setting_text(value)}" for key, value in board.settings.items())
    count, plural = f"{len(board.windows)} {board.split}", "s" if len(board.windows) > 1 else ""
    where = f"{count} window{plural} of {dates} date{'s' if dates > 1 else ''}" if data else f"{count} episode{plural}"
    money = f", in {board.currency}" if board.currency not in ("", "USD") else ""
    return f"{board.env}{f' ({given})' if given else ''}: {where}{data}{money}"


def notes(board: Board, found: Sequence[BoardRow]) -> list[str]:
    """What must be known of the table whose lines are `found`, the gravest first."""
    apart = f"A table of its own, not to be compared with the first of {board.env}: {', '.join(board.differs)}."
    marked = [f"{MARK} {', '.join(who)}: {caveat}" for caveat, who in _grouped((c, r.agent) for r in found for c in r.caveats)]
    return [printable(note) for note in (*([apart] if board.differs else []), *marked, *board.notes)]


def beside_lines(found: Sequence[Beside]) -> list[str]:
    """What is in no table, why, and the command that judges it."""
    reasons = _grouped((one.why, one.remedy) for one in found if not one.instead)
    told = [line for why, remedies in reasons for line in (f"In no table ({why}), until judged:", *remedies)]
    return [*told, *(f"In no table: {one.folder} ({one.why}); {one.instead}." for one in found if one.instead)]


def _grouped(told: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Who shares a reason: each reason once, in the order in which they come."""
    found: dict[str, list[str]] = {}
    for reason, who in told:
        if who not in (named := found.setdefault(reason, [])):
            named.append(who)
    return list(found.items())


def table(board: Board) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Titles and cells, without columns in which nothing stands."""
    return cells_of(board, rows(board))


def cells_of(board: Board, found: Sequence[BoardRow]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The same for its lines `found`."""
    return told_columns([name.format(board.what) for name in TITLES], [cells(row) for row in found])


def reading(found: Sequence[Board]) -> str:
    """What the numbers of these boards mean."""
    judged = {board.judged for board in found}
    text = f"`*` is a baseline; `{MARK}` does not rank beside the others, for the reason above. "
    if "pnl" in judged:
        text += "P&L, drawdown and turnover are in currency, means over episodes; Sharpe is per episode, not annualised. "
    if judged - {"pnl"}:
        text += (
            "`value` is J of an episode without the noise of its steps, in the problem's own unit, which is not currency; "
            "`score` is 1 at the optimum and 0 at the best naive policy. "
        )
    return text + (
        f"Intervals are {100 * LEVEL:g}% block bootstraps over dates (windows, where there is one date or none), whatever level a run was "
        "judged with; `IQM` is the interquartile mean over training seeds: its bootstrap interval is over the seeds alone, on the same "
        f"dates, and there is none of fewer than {FEWEST_RUNS} seeds, or of fewer than eight dates or windows. `P(beats best "
        "baseline)`: the probability that an episode of the agent "
        f"beats one of the baseline with the highest mean ({' and '.join(KNOWING)} aside). Seconds of training are wall clock, a seed. "
    ) + _counted(found)


def _counted(found: Sequence[Board]) -> str:
    if all(entry.trials is None for board in found for entry in board.entries):
        return "How many trials led here nobody counted (runs under `--govern` do)."
    return "`trials` that count against the run stand in its ledger; empty: nobody counted. No number is deflated by them."


def document(found: Sequence[Board], beside: Sequence[Beside] = ()) -> list[Block]:
    """All boards, as blocks."""
    blocks: list[Block] = []
    for board in found:
        lines = rows(board)
        titles, body = cells_of(board, lines)
        blocks += [Heading(title(board)), *(Text(note) for note in notes(board, lines)), Table(titles, tuple(body))]
    machines = sorted({entry.machine for board in found for entry in board.entries if entry.machine})
    blocks += [*(Text(line) for line in beside_lines(beside)), Text(reading(found))]
    return [*blocks, *([Text(f"Trained or judged on: {'; '.join(machines)}.")] if machines else [])]


def as_json(found: Sequence[Board], beside: Sequence[Beside] = ()) -> dict[str, Any]:
    """All boards as plain numbers, and what is in none."""
    return {
        "boards": [_board(board) for board in found],
        "beside": [{"folder": str(one.folder), "why": one.why, "remedy": one.remedy} for one in beside],
    }


def _board(board: Board) -> dict[str, Any]:
    return {
        "env": board.env,
        "settings": dict(board.settings),
        "data_hash": board.data_hash,
        "split": board.split,
        "currency": board.currency,
        "differs": list(board.differs),
        "windows": [list(window) for window in board.windows],
        "dates": list(board.dates),
        "level": board.level,
        "notes": list(board.notes),
        "judged": board.judged,
        "unit": UNITS.get(board.judged, "the problem's own"),
        "rows": [_plain(row, board.judged) for row in rows(board)],
    }


UNITS = {"pnl": "currency"}


def _plain(row: BoardRow, judged: str) -> dict[str, Any]:
    """With what was judged under its own name."""
    return {judged if key == "pnl" else key: value for key, value in asdict(row).items()}
