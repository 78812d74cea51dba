"""How a ledger and a review look on the terminal, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.markup import escape

from emp_gym.experiments.commands.terminal import console
from emp_gym.governance.evidence import Case, count_trials, session_totals
from emp_gym.governance.ledger import Ledger
from emp_gym.governance.promotion import Finding
from emp_gym.governance.record import CASH, STAGES, Evaluation, Version, read_setting
from emp_gym.types import NS, Regime


def tampered(path: Path, found: Sequence[Any], as_json: bool) -> None:
    """That the log is not whole, and where."""
    if as_json:
        print(json.dumps({"log": str(path), "whole": False, "findings": [str(finding) for finding in found]}))
        return
    out = console()
    out.print(f"[bold red]{path} is not whole.[/] Nothing in it can be relied upon; nothing is promoted.")
    for finding in found[:10]:
        out.print(f"  [red]✗[/] {escape(str(finding))}", highlight=False, soft_wrap=True)
    out.print("Details: python scripts/verify.py LOG --witness DIR", highlight=False)


def listing(ledger: Ledger, as_json: bool) -> None:
    """Every version, person and alias."""
    state, now = ledger.state, ledger.now
    versions = sorted(state.versions.values(), key=lambda v: v.seq)
    pointers = state.pointers(now)
    if as_json:
        print(
            json.dumps(
                {
                    "versions": [_row(ledger, v) for v in versions],
                    "aliases": pointers,
                    "trials": len(state.trials),
                    "people": {p.name: list(p.roles) for p in state.people.values()},
                    "invalid": [str(one) for one in state.invalid],
                }
            )
        )
        return
    from rich.table import Table

    out = console()
    title = f"{len(versions)} versions, {len(state.trials)} trials, {state.size} entries"
    table = Table(title=title, title_justify="left", show_edge=False)
    for name in (
        "strategy",
        "version",
        "environment",
        "stage",
        "until",
        "trials on its days",
        "sessions",
        "P&L a session",
        "also called",
    ):
        table.add_column(
            name, justify="right" if name in ("trials on its days", "sessions", "P&L a session") else "left"
        )
    for v in versions:
        row = _row(ledger, v)
        called = ", ".join(alias for alias, version in pointers.items() if version == v.version)
        mean = "" if row["pnl"] is None else f"{row['pnl']:,.2f}"
        cells = (
            v.name,
            v.version[:12],
            row["env"],
            row["stage"],
            row["until"],
            row["trials"],
            row["sessions"],
            mean,
            called,
        )
        table.add_row(*(escape(str(cell)) for cell in cells))
    out.print(table)
    people = "; ".join(f"{p.name} ({', '.join(p.roles)})" for p in state.people.values())
    out.print(f"People who sign: {people or 'nobody yet (--add-signer)'}", highlight=False, markup=False)
    _warn(out, ledger)


def _row(ledger: Ledger, v: Version) -> dict[str, Any]:
    now, totals = ledger.now, session_totals(v)
    return {
        "name": v.name,
        "version": v.version,
        "env": read_setting(v.setting)[0],
        "agent": v.agent,
        "stage": v.stage(now),
        "until": date(v.expires(now)) if v.stage(now) != STAGES[0] else "",
        "trials": count_trials(ledger.state, v),
        "evaluations": len(v.evaluations),
        "sessions": len(totals),
        "pnl": sum(totals.values()) / len(totals) / CASH if totals else None,  # a session
    }


def review(
    ledger: Ledger, version: Version, case: Case, findings: Sequence[Finding], *, asked: str | None, promoted: int | None,
    as_json: bool,
) -> None:  # fmt: skip
    """A version's evidence, every finding, and what to do next."""
    if as_json:
        said = {**_row(ledger, version), "to": case.stage, "promoted": promoted is not None, "entry": promoted}
        print(json.dumps({**said, "findings": [asdict(f) | {"passed": bool(f.passed)} for f in findings]}))
        return
    out = console()
    _head(out, ledger, version)
    for evaluation in version.evaluations:
        _evaluation(out, ledger, version, evaluation, evaluation in case.used)
    refused = [f for f in findings if not f.passed]
    out.print()
    out.print(f"[bold]{case.stage}[/]: what the guard says", highlight=False)
    for finding in findings:
        _finding(out, finding)
    out.print()
    _warn(out, ledger)
    if promoted is not None:
        regimes = ", ".join(case.regimes)
        out.print(f"[bold green]Promoted to {asked}[/] (entry {promoted}). The evidence speaks for {regimes}; elsewhere it is "
                  f"untried. Renew it before {date(version.expires(ledger.now))}.", highlight=False, soft_wrap=True)  # fmt: skip
    elif asked is not None:
        out.print(f"[bold red]Refused[/]: {len(refused)} of {len(findings)} findings object. It stays in "
                  f"{version.stage(ledger.now)}.", highlight=False)  # fmt: skip
    else:
        left = ", ".join(f.rule for f in refused)
        text = f"Missing for {case.stage}: {left}" if refused else f"Ready for {case.stage}"
        out.print(text + ".", highlight=False, markup=False, soft_wrap=True)


def _head(out: Any, ledger: Ledger, v: Version) -> None:
    now = ledger.now
    env, keywords = read_setting(v.setting)
    stage = v.stage(now)
    until = f", evidence until {date(v.expires(now))}" if stage != STAGES[0] else ""
    out.print(f"[bold]{escape(v.name)}[/] {v.version[:12]}: {stage}{until}", highlight=False)
    trials = count_trials(ledger.state, v)
    lineage = f", made from {v.parent[:12]}" if v.parent else ""
    lines = [
        f"  {v.agent} on {env} {keywords or '(its defaults)'}, commit {v.commit or 'unknown'}{lineage}",
        f"  registered {date(v.ts_ns)} (entry {v.seq}) from trial {v.trial}; trials on its days in this record: {trials}",
        *(f"  {date(m.ts_ns)} {m.origin} → {m.to}: {m.why} (entry {m.seq})" for m in v.moves),
    ]
    for line in lines:
        out.print(line, highlight=False, markup=False, soft_wrap=True)


def _evaluation(out: Any, ledger: Ledger, version: Version, e: Evaluation, counts: bool) -> None:
    """One evaluation: where, how much, in which regimes."""
    mine = e.policies[version.version]
    hold = f"{len(e.day)} episodes of {len(e.days)} sessions ({e.days[0].date} to {e.days[-1].date})"
    mean = sum(mine.pnl_e8) / len(mine.pnl_e8) / CASH
    known = {v.version: v.name for v in ledger.state.versions.values()}
    others = ", ".join(
        f"{known.get(q.name, q.name)} {sum(q.pnl_e8) / len(q.pnl_e8) / CASH:,.2f}"
        for q in e.policies.values()
        if q is not mine
    )
    note = "" if counts else " [does not count here: another setting, expired, or seen before registration]"
    out.print(f"  evaluation {e.seq}, {date(e.ts_ns)}: {hold}; P&L {mean:,.2f} an episode; {others}{note}",
              highlight=False, markup=False, soft_wrap=True)  # fmt: skip
    regimes = ((Regime(r), [p for p, own in zip(mine.pnl_e8, e.regime) if own == r]) for r in sorted(set(e.regime)))
    text = ", ".join(f"{r.name} {len(p)} × {sum(p) / len(p) / CASH:,.0f}" for r, p in regimes)
    out.print(f"    by regime (episodes × mean): {text}", highlight=False, soft_wrap=True)


def _finding(out: Any, f: Finding) -> None:
    mark = "[green]✓[/]" if f.passed else "[bold red]✗[/]"
    out.print(f"  {mark} [bold]{escape(f.rule)}[/]: ", end="", highlight=False)
    out.print(f"expected {f.expected}, got {f.got}", highlight=False, markup=False, soft_wrap=True)
    if not f.passed and f.remedy:
        out.print(f"      → {f.remedy}", highlight=False, markup=False, soft_wrap=True)


def _warn(out: Any, ledger: Ledger) -> None:
    for one in ledger.state.invalid:
        out.print(f"[bold red]✗[/] {escape(str(one))}", highlight=False, soft_wrap=True)


def date(ts_ns: int) -> str:
    """The UTC date of a time."""
    return datetime.fromtimestamp(ts_ns // NS, UTC).date().isoformat()
