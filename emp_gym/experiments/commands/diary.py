"""``diary.py``: what was decided in a run under governance, why, and what came of it; exports it, replays it."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from emp_gym.experiments.commands.terminal import console, data_argument, guarded
from emp_gym.types import ConfigError

DIFFERS = 1
"""Exit status of a replay that is not identical."""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="diary.py",
        description="Look through a decision diary: each decision with its explanation, sums by reason and regime, "
        "an export, a replay. Exit status 1: the replay differs; 2: cannot be done as asked.",
    )
    p.add_argument("log", type=Path, metavar="LOGDIR", help="folder of a governed run, or its diary.log")
    p.add_argument("--run", type=int, metavar="R", help="number of the run in the log (default: the last)")
    p.add_argument("--lane", type=int, nargs="+", metavar="N", help="only these lanes")
    p.add_argument("--reason", metavar="NAME", help='only decisions with this reason, e.g. position, masked, "(none)"')
    p.add_argument("--regime", metavar="NAME", help="only decisions in this regime, e.g. calm-up, unknown")
    p.add_argument("--since", type=int, metavar="STEP", help="from this step of the run on")
    p.add_argument("--until", type=int, metavar="STEP", help="up to this step of the run")
    p.add_argument("--fills-only", action="store_true", help="only decisions after which something was executed")
    p.add_argument("--show", type=int, default=20, metavar="N", help="decisions shown (default: the first 20)")
    p.add_argument("--summary", action="store_true", help="sums by reason and by regime instead of decisions")
    p.add_argument("--export", type=Path, metavar="FILE", help="write all of them to FILE.csv or FILE.parquet")
    p.add_argument("--replay", action="store_true", help="run the environment again and compare every bit")
    p.add_argument("--data", nargs="+", metavar="PATH", help="with --replay: where the run's days lie now")
    p.add_argument("--json", action="store_true", help="print one JSON object and nothing else on stdout")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    arguments = parser().parse_args(argv)
    return guarded(lambda: _run(arguments), "diary.py")


def _run(a: argparse.Namespace) -> int:
    from emp_gym.experiments.browsing import Pages, Query, export, summarise
    from emp_gym.governance.diary import DiaryReader

    if a.show < 0:
        raise ConfigError(f"--show: expected 0 or more, got {a.show}")
    with DiaryReader(a.log) as reader:
        run = reader.run(a.run)
        if a.replay:
            return _replay(a, reader)
        pages = Pages(reader, run, Query(a.lane, a.reason, _spelled(a.regime), a.since, a.until, a.fills_only))
        if a.export is not None:
            count = export(pages, a.export)
            _say(a, {"run": run.number, "exported": count, "file": str(a.export)}, f"{count:,} decisions in {a.export}")
        elif a.summary:
            found = summarise(pages)
            if a.json:
                print(json.dumps({"run": run.number, **asdict(found)}))
            else:
                _header(run, reader)
                _sums(found)
        else:
            shown = list(itertools.islice(pages.records(), a.show + 1))
            if a.json:
                print(json.dumps({"run": run.number, "decisions": shown[: a.show], "more": len(shown) > a.show}))
            else:
                _header(run, reader)
                _decisions(shown, a.show)
    return 0


def _spelled(regime: str | None) -> str | None:
    """CALM_UP, as other commands print it, is calm-up here."""
    return None if regime is None else regime.lower().replace("_", "-")


def _say(a: argparse.Namespace, value: Mapping[str, Any], text: str) -> None:
    print(json.dumps(value) if a.json else text)


def _replay(a: argparse.Namespace, reader: Any) -> int:
    from emp_gym.experiments.replaying import replay

    found = replay(reader, a.run, **data_argument(a.data))
    if a.json:
        print(json.dumps({**asdict(found), "identical": found.identical}))
        return 0 if found.identical else DIFFERS
    if found.identical:
        print(f"run {found.run}: {found.decisions:,} decisions replayed, every bit the same")
    else:
        print(f"run {found.run}: differs after {found.decisions:,} decisions, at {found.difference}")
    if found.played_back:
        print(f"  taken from the diary, not computed again: {', '.join(found.played_back)}")
    if not found.whole:
        print("  the run has no end: it was cut off, or is still running")
    return 0 if found.identical else DIFFERS


def _header(run: Any, reader: Any) -> None:
    """What the run is, in a few lines."""
    about, out = run.about, console()
    gates = ", ".join(gate["name"] for gate in about["gates"]) or "none"
    policies = {name: digest for _, name, digest in run.policies}
    latest = ", ".join(f"{name} {digest[:12]}…" for name, digest in policies.items()) or "not said"
    changes = f" (the last of {len(run.policies)} weights)" if len(run.policies) > 1 else ""
    others = [str(other.number) for other in reader.runs() if other.number != run.number]
    state = (
        "no end: cut off, or still running"
        if run.end is None
        else f"{run.end['steps']:,} steps, {run.end['decisions']:,} decisions"
    )
    kept = "a durable row each decision" if about["durable"] else "columnar blocks"
    out.print(
        f"[bold]run {run.number}[/]: {about['env']}, {run.lanes} lane{'s' * (run.lanes > 1)}; {state}; {kept}",
        highlight=False,
    )
    out.print(f"  policy {latest}{changes}; gates: {gates}", highlight=False)
    days = about["data"]["days"]
    span = days[0] if len(days) == 1 else f"{len(days)} days, {days[0]} to {days[-1]}"
    out.print(f"  {span}" + (f"; other runs: {', '.join(others)}" if others else ""), highlight=False)


def _decisions(shown: Sequence[Mapping[str, Any]], count: int) -> None:
    from rich.markup import escape

    regimes = any(record["regime"] != "unknown" for record in shown)
    table = _table(
        ["step", "lane", "time", *(["regime"] if regimes else []), "decision", "reward", "P&L"], ("decision",)
    )
    for record in shown[:count]:
        cells = [str(record["step"]), str(record["lane"]), record["time"][:12]]
        cells += [record["regime"]] if regimes else []
        settled = record["settled"]
        amounts = [f"{record['reward']:+.2f}", f"{record['pnl']:+.2f}"] if settled else ["?", "?"]
        table.add_row(*cells, escape(record["explanation"]), *amounts)
    out = console()
    out.print(table)
    if not shown:
        out.print("no decision is like that")
    elif len(shown) > count:
        out.print(f"there are more than these {count:,}: --show N, --since STEP, or --export FILE.csv", highlight=False)


def _sums(found: Any) -> None:
    for title, rows in (("reason", found.by_reason), ("regime", found.by_regime)):
        table = _table([title, "decisions", "orders", "objections", "lots filled", "P&L"], (title,))
        for name, sums in rows.items():
            table.add_row(name, *_cells(sums))
        table.add_section()
        table.add_row("all", *_cells(found.total))
        console().print(table)
    console().print("A decision with several reasons counts for each of them. P&L in currency, fees included.")


def _cells(sums: Any) -> Iterable[str]:
    return (*(f"{n:,}" for n in (sums.decisions, sums.orders, sums.objections, sums.lots)), f"{sums.pnl:,.2f}")


def _table(headings: Sequence[str], wide: Sequence[str]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for heading in headings:
        left = heading in (*wide, "time", "regime")
        table.add_column(heading, justify="left" if left else "right", no_wrap=heading not in wide, overflow="fold")
    return table
