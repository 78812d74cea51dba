"""``diary.py``: what was decided in a run under governance, why, and what came of it; exports it, replays it."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from emp_gym.printable import printable
from emp_gym.terminal.console import console, data_argument, guarded, say, trust_argument, vouched
from emp_gym.terminal.flags import Parser
from emp_gym.types import NS, ConfigError

SHOWN, NOTHING, DIFFERS = 0, 1, 1
"""Exit status: done; no decision is as wanted; a replay is not identical."""
FILTERS = ("lane", "reason", "regime", "since", "until", "fills_only")
GO_WITH = {
    "": ("run", "show", *FILTERS), "runs": (), "summary": ("run", *FILTERS), "export": ("run", *FILTERS),
    "replay": ("run", "data"),
}  # fmt: skip
"""Options that each of the command's answers takes ("": the decisions themselves), --json aside."""
FIRST = 20  # decisions shown


def parser() -> Parser:
    p = Parser(
        prog="diary.py",
        description="Look through a decision diary: each decision with its explanation, sums by reason and regime, "
        "an export, a replay. Runs are numbered from 0, the oldest; --runs lists them. Exit status: 0 done; 1 no decision "
        "is as wanted, or the replay differs; 2 the command was wrong.",
    )
    p.add_argument("log", type=Path, metavar="LOGDIR", help="folder of a governed run, or its diary.log")
    p.add_argument("--runs", action="store_true", help="list the runs of the diary")
    p.add_argument("--run", type=int, metavar="R", help="number of the run, 0 for the oldest (default: the last)")
    p.add_argument("--lane", type=int, nargs="+", metavar="N", help="only these lanes")
    p.add_argument("--reason", metavar="NAME", help='only decisions with this reason, e.g. position, masked, "(none)"')
    p.add_argument("--regime", metavar="NAME", help="only decisions in this regime, e.g. calm-up, unknown")
    p.add_argument("--since", type=int, metavar="STEP", help="from this step of the run on")
    p.add_argument("--until", type=int, metavar="STEP", help="up to this step of the run")
    p.add_argument("--fills-only", action="store_true", help="only decisions after which something was executed")
    p.add_argument("--show", type=int, metavar="N", help=f"decisions shown (default: the first {FIRST})")
    p.add_argument("--summary", action="store_true", help="sums by reason and by regime instead of decisions")
    p.add_argument("--export", type=Path, metavar="FILE", help="write all of them to FILE.csv or FILE.parquet")
    p.add_argument("--replay", action="store_true", help="run the environment again and compare every bit")
    p.add_argument("--data", nargs="+", metavar="PATH", help="with --replay: where the run's days lie now")
    p.add_argument("--json", action="store_true", help="print one JSON object and nothing else on stdout")
    trust_argument(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return guarded(lambda: vouched(parser().parse_args(argv), _run), "diary.py", argv)


def _run(a: argparse.Namespace) -> int:
    from emp_gym.governance.diary.diary import DiaryReader
    from emp_gym.governed.diary_query import Pages, Query

    answer = _answer(a)
    with DiaryReader(a.log) as reader:
        if answer == "runs":
            return _runs(a, reader)
        if answer == "replay":
            return _replay(a, reader)
        run = reader.run(a.run)
        pages = Pages(reader, run, Query(a.lane, a.reason, _spelled(a.regime), a.since, a.until, a.fills_only))
        return {"": _decisions, "summary": _summary, "export": _export}[answer](a, pages)


def _answer(a: argparse.Namespace) -> str:
    """Which of `GO_WITH` is asked for; `ConfigError` for two of them, or for an option that would do nothing."""
    asked = [name for name in GO_WITH if name and _given(a, name)]
    if len(asked) > 1:
        raise ConfigError(f"one answer at a time, got {_flags(asked)}; run the command once for each")
    answer = asked[0] if asked else ""
    idle = [name for name in ("run", "show", "data", *FILTERS) if _given(a, name) and name not in GO_WITH[answer]]
    if idle:
        takes = _flags(GO_WITH[answer]) or "nothing else"
        what = f"--{answer}" if answer else "the list of decisions"
        raise ConfigError(f"{_flags(idle)} would do nothing here: {what} takes {takes}")
    if a.show is not None and a.show < 1:
        raise ConfigError(
            f"--show: expected 1 or more, got {a.show}; for sums use --summary, for all --export FILE.csv"
        )
    return answer


def _given(a: argparse.Namespace, name: str) -> bool:
    return getattr(a, name) is not None and getattr(a, name) is not False


def _flags(names: Iterable[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def _nothing(pages: Any) -> int:
    from emp_gym.governed.diary_query import nothing_like

    say(f"diary.py: {nothing_like(pages)}")
    return NOTHING


def _export(a: argparse.Namespace, pages: Any) -> int:
    from emp_gym.governed.diary_query import export

    count = export(pages, a.export)
    if not count:
        return _nothing(pages)
    said = {"run": pages.run.number, "exported": count, "file": str(a.export)}
    print(json.dumps(said) if a.json else printable(f"{count:,} decisions in {a.export}"))
    return SHOWN


def _summary(a: argparse.Namespace, pages: Any) -> int:
    from emp_gym.governed.diary_query import summarise

    found = summarise(pages)
    if a.json:
        print(json.dumps({"run": pages.run.number, **asdict(found)}))
    elif found.total.decisions:
        _header(pages)
        _sums(found)
    return SHOWN if found.total.decisions else _nothing(pages)


def _decisions(a: argparse.Namespace, pages: Any) -> int:
    count = a.show or FIRST
    shown = list(itertools.islice(pages.records(), count + 1))
    if a.json:
        more = len(shown) > count
        print(json.dumps({"run": pages.run.number, "decisions": shown[:count], "more": more}))
    elif shown:
        _header(pages)
        _table_of(shown, count)
    return SHOWN if shown else _nothing(pages)


def _runs(a: argparse.Namespace, reader: Any) -> int:
    """The list of runs: `governance.diary.Run` in a line each."""
    rows = [_row(run) for run in reader.runs()]
    if a.json:
        print(json.dumps({"runs": rows}))
        return SHOWN
    table = _table(["run", "begun (UTC)", "policy", "environment", "split", "lanes", "decisions"],
                   ("begun (UTC)", "policy", "environment", "split"))  # fmt: skip
    for row in rows:
        ended = "no end" if row["decisions"] is None else f"{row['decisions']:,}"
        told = (_plain(row[name]) for name in ("begun", "policy", "env", "split"))
        table.add_row(str(row["run"]), *told, str(row["lanes"]), ended)
    out = console()
    out.print(table)
    hint = "run 0 is the oldest; --run R shows one" if rows else "no run is in this diary yet"
    unended = any(row["decisions"] is None for row in rows)
    out.print(hint + ("; no end: cut off, or still running" if unended else ""), highlight=False)
    return SHOWN


def _row(run: Any) -> dict[str, Any]:
    begun = datetime.fromtimestamp(run.ts_ns // NS, UTC)
    return {
        "run": run.number, "entry": run.entry, "begun": f"{begun:%Y-%m-%d %H:%M}", "env": run.about["env"],
        "policy": run.policies[-1][1] if run.policies else "", "split": json.loads(run.about["kwargs"]).get("split", ""),
        "lanes": run.lanes, "steps": run.end and run.end["steps"], "decisions": run.end and run.end["decisions"],
        "durable": run.about["durable"],
    }  # fmt: skip


def _spelled(regime: str | None) -> str | None:
    """CALM_UP, as other commands print it, is calm-up here."""
    return None if regime is None else regime.lower().replace("_", "-")


def _replay(a: argparse.Namespace, reader: Any) -> int:
    from emp_gym.governed.diary_replay import replay

    found = replay(reader, a.run, **data_argument(a.data))
    if a.json:
        print(json.dumps({**asdict(found), "identical": found.identical}))
        return 0 if found.identical else DIFFERS
    if found.identical:
        print(f"run {found.run}: {found.decisions:,} decisions replayed, every bit the same")
    else:
        print(printable(f"run {found.run}: differs after {found.decisions:,} decisions, at {found.difference}"))
    if found.played_back:
        print(printable(f"  taken from the diary, not computed again: {', '.join(found.played_back)}"))
    if not found.whole:
        print("  the run has no end: it was cut off, or is still running")
    return 0 if found.identical else DIFFERS


def _header(pages: Any) -> None:
    """What the run is, in a few lines."""
    run, out = pages.run, console()
    about = run.about
    gates = ", ".join(gate["name"] for gate in about["gates"]) or "none"
    policies = {name: digest for _, name, digest in run.policies}
    latest = ", ".join(f"{name} {digest[:12]}…" for name, digest in policies.items()) or "not said"
    changes = f" (the last of {len(run.policies)} weights)" if len(run.policies) > 1 else ""
    others = len(pages.reader.runs()) - 1
    state = (
        "no end: cut off, or still running"
        if run.end is None
        else f"{run.end['steps']:,} steps, {run.end['decisions']:,} decisions"
    )
    kept = "a durable row each decision" if about["durable"] else "columnar blocks"
    out.print(
        f"[bold]run {run.number}[/]: {_plain(about['env'])}, {run.lanes} lane{'s' * (run.lanes > 1)}; {state}; {kept}",
        highlight=False,
    )
    out.print(f"  policy {_plain(latest)}{changes}; gates: {_plain(gates)}", highlight=False)
    days = about["data"]["days"]
    span = days[0] if len(days) == 1 else f"{len(days)} days, {days[0]} to {days[-1]}"
    more = f"; {others} other {'run' if others == 1 else 'runs'} (--runs)" if others else ""
    out.print(f"  {_plain(span)}{more}", highlight=False)


def _plain(text: object) -> str:
    """Text of a diary for a rich table or line: nothing in it acts, and no bracket is a colour."""
    from rich.markup import escape

    return escape(printable(text))


def _table_of(shown: Sequence[Mapping[str, Any]], count: int) -> None:
    regimes = any(record["regime"] != "unknown" for record in shown)
    table = _table(
        ["step", "lane", "time", *(["regime"] if regimes else []), "decision", "reward", "P&L"], ("decision",)
    )
    for record in shown[:count]:
        cells = [str(record["step"]), str(record["lane"]), record["time"][:12]]
        cells += [_plain(record["regime"])] if regimes else []
        settled = record["settled"]
        amounts = [f"{record['reward']:+.2f}", f"{record['pnl']:+.2f}"] if settled else ["?", "?"]
        table.add_row(*cells, _plain(record["explanation"]), *amounts)
    out = console()
    out.print(table)
    if len(shown) > count:
        out.print(f"there are more than these {count:,}: --show N, --since STEP, or --export FILE.csv", highlight=False)


def _sums(found: Any) -> None:
    for title, rows in (("reason", found.by_reason), ("regime", found.by_regime)):
        table = _table([title, "decisions", "orders", "objections", "lots filled", "P&L"], (title,))
        for name, sums in rows.items():
            table.add_row(_plain(name), *_cells(sums))
        table.add_section()
        table.add_row("all", *_cells(found.total))
        if found.unfinished.decisions:
            table.add_row("of it unfinished", *_cells(found.unfinished))
        console().print(table)
    out = console()
    out.print("A decision with several reasons counts for each of them. P&L in currency, after fees.", highlight=False)
    if found.unfinished.decisions:
        count = found.unfinished_episodes
        out.print(
            f"P&L includes {count:,} {'episode' if count == 1 else 'episodes'} not over when the run stopped, the position "
            "at the mid price: the line \"of it unfinished\".", highlight=False
        )  # fmt: skip


def _cells(sums: Any) -> Iterable[str]:
    return (*(f"{n:,}" for n in (sums.decisions, sums.orders, sums.objections, sums.lots)), f"{sums.pnl:,.2f}")


def _table(headings: Sequence[str], wide: Sequence[str]) -> Any:
    from rich import box
    from rich.table import Table

    gap = 1 if console().width >= 100 else 0  # what decides needs the room on a narrow terminal
    table = Table(box=box.SIMPLE_HEAD, padding=(0, gap), pad_edge=False)
    for heading in headings:
        left = heading in (*wide, "time", "regime")
        table.add_column(heading, justify="left" if left else "right", no_wrap=heading not in wide, overflow="fold")
    return table
