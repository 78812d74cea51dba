"""How a ledger and a review look on the terminal, or as JSON."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.markup import escape

from emp_gym.governance.ledger.ledger import Ledger
from emp_gym.governance.ledger.record import CASH, STAGES, Evaluation, Version, read_setting
from emp_gym.governance.ledger.signatures import Person
from emp_gym.governance.promotion.evidence import Case, count_trials, session_totals
from emp_gym.governance.promotion.guard import RuleFinding
from emp_gym.printable import printable
from emp_gym.terminal.console import console
from emp_gym.types import NS, Regime


def tampered(path: Path, found: Sequence[Any], as_json: bool) -> None:
    """That the log is not whole, and where."""
    if as_json:
        print(json.dumps({"log": str(path), "whole": False, "findings": [str(finding) for finding in found]}))
        return
    out = console()
    out.print(f"[bold red]{escape(printable(path))} is not whole.[/] Nothing in it can be relied upon; nothing is promoted.")
    for finding in found[:10]:
        out.print(f"  [red]✗[/] {escape(printable(finding))}", highlight=False, soft_wrap=True)
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
                    "revoked": {p.name: p.revoked for p in state.people.values() if p.revoked is not None},
                    "invalid": [str(one) for one in state.invalid],
                    "ahead": state.ahead,
                    "clock": ledger.clock_trouble,
                }
            )
        )
        return
    out = console()
    title = ", ".join((_count(len(versions), "version"), _count(len(state.trials), "trial")))
    out.print(f"{title}; {_count(state.size, 'entry', 'entries')} in the ledger", highlight=False)
    environments = sorted({read_setting(v.setting)[0] for v in versions})
    for env in environments:
        out.print(_table(ledger, env, [v for v in versions if read_setting(v.setting)[0] == env]))
    names: dict[str, list[str]] = {v.version: [] for v in versions}
    for alias, target in pointers.items():
        names[target].append(alias)
    called = "; ".join(f"{', '.join(own)} → {state.versions[v].name}" for v, own in names.items() if own)
    if versions:
        out.print(
            "trials: all of this record on any of its days, whatever their environment. P&L: a session.",
            highlight=False,
        )
    if called:
        out.print(printable(f"Names: {called}"), highlight=False, markup=False)
    people = "; ".join(map(_person, state.people.values()))
    out.print(printable(f"People who sign: {people or 'nobody yet (--add-signer)'}"), highlight=False, markup=False)
    _warn(out, ledger)


def _table(ledger: Ledger, env: str, versions: Sequence[Version]) -> Any:
    """The versions of one environment, a line each; within 80 columns."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, title=escape(printable(env)), title_justify="left")
    for name in ("strategy", "version", "stage", "until", "trials", "sessions", "P&L"):
        wide, number = name == "strategy", name in ("trials", "sessions", "P&L")
        table.add_column(name, justify="right" if number else "left", no_wrap=not wide, overflow="fold")
    for v in versions:
        row = _row(ledger, v)
        mean = "" if row["pnl"] is None else f"{row['pnl']:,.2f}"
        cells = (v.name, v.version[:8], row["stage"], row["until"], row["trials"], row["sessions"], mean)
        table.add_row(*(escape(printable(cell)) for cell in cells))
    return table


def _person(one: Person) -> str:
    roles = ", ".join(one.roles)
    return f"{one.name} ({roles})" if one.revoked is None else f"{one.name} (key revoked, entry {one.revoked})"


def _count(number: int, noun: str, nouns: str = "") -> str:
    """ "1 version", "2 versions" """
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


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


@dataclass
class ReviewResult:
    """What came of a review."""

    asked: str | None  # stage that was asked for
    promoted: int | None  # entry of the promotion
    skipped: bool = False  # the evidence was not executed again, since it is refused without that
    request: Path | None = None  # file with what is to be signed


def review(
    ledger: Ledger, version: Version, case: Case, findings: Sequence[RuleFinding], outcome: ReviewResult, *, as_json: bool, verbose: bool,
) -> None:  # fmt: skip
    """A version's evidence, every finding, and what to do next."""
    asked, promoted = outcome.asked, outcome.promoted
    if as_json:
        said = {**_row(ledger, version), "keywords": read_setting(version.setting)[1], "to": case.stage}
        said |= {
            "promoted": promoted is not None,
            "entry": promoted,
            "request": outcome.request and str(outcome.request),
        }
        print(json.dumps({**said, "findings": [asdict(f) | {"passed": bool(f.passed)} for f in findings]}))
        return
    out = console()
    _head(out, ledger, version, verbose)
    for evaluation in version.evaluations:
        _evaluation(out, ledger, version, evaluation, evaluation in case.used)
    refused = [f for f in findings if not f.passed]
    out.print()
    out.print(f"[bold]{case.stage}[/]: what the guard says", highlight=False)
    for finding in findings:
        _finding(out, finding)
    if outcome.skipped:
        out.print(
            "  – executed again: not done, since it is refused already (--verify does it all the same)", highlight=False
        )
    out.print()
    _warn(out, ledger)
    if promoted is not None:
        regimes = ", ".join(case.regimes)
        out.print(f"[bold green]Promoted to {asked}[/] (entry {promoted}). The evidence speaks for {regimes}; elsewhere it is "
                  f"untried. Renew it before {date(version.expires(ledger.now))}.", highlight=False, soft_wrap=True)  # fmt: skip
    elif outcome.request is not None:
        _requested(out, ledger, version, outcome.request, case.stage)
    elif asked is not None:
        out.print(f"[bold red]Refused[/]: {len(refused)} of {len(findings)} findings object. It stays in "
                  f"{version.stage(ledger.now)}.", highlight=False)  # fmt: skip
    else:
        left = ", ".join(f.rule for f in refused)
        text = f"Missing for {case.stage}: {left}" if refused else f"Ready for {case.stage}"
        out.print(printable(text + "."), highlight=False, markup=False, soft_wrap=True)


def _requested(out: Any, ledger: Ledger, version: Version, request: Path, stage: str) -> None:
    folder = ledger.log.path.parent
    for line in (
        f"Nothing is promoted. What is to be signed stands in {request}; each signer, where the key lies:",
        f"  openssl pkeyutl -sign -rawin -inkey KEYFILE -in {shlex.quote(request.name)} -out NAME.sig",
        f"then, as long as nothing new about {version.name} or its search is entered:",
        f"  scripts/promote.py {shlex.quote(str(folder))} {version.version[:12]} --to {stage} --approve NAME=NAME.sig",
    ):
        out.print(printable(line), highlight=False, markup=False, soft_wrap=True)


def _head(out: Any, ledger: Ledger, v: Version, verbose: bool) -> None:
    now = ledger.now
    env, keywords = read_setting(v.setting)
    stage = v.stage(now)
    until = f", evidence until {date(v.expires(now))}" if stage != STAGES[0] else ""
    out.print(f"[bold]{escape(printable(v.name))}[/] {v.version[:12]}: {stage}{until}", highlight=False)
    trials = count_trials(ledger.state, v)
    lineage = f", made from {v.parent[:12]}" if v.parent else ""
    lines = [
        f"  {v.agent} on {env}{_setting(keywords)}, commit {v.commit or 'unknown'}{lineage}",
        f"  registered {date(v.ts_ns)} (entry {v.seq}) from trial {v.trial}; trials on its days in this record: {trials}",
        *(f"  {date(m.ts_ns)} {m.origin} → {m.to}: {m.why} (entry {m.seq})" for m in v.moves),
    ]
    if verbose:
        lines.append(f"  parameters of the environment: {json.dumps(keywords, sort_keys=True)}")
    for line in lines:
        out.print(printable(line), highlight=False, markup=False, soft_wrap=True)


def _setting(keywords: Mapping[str, Any]) -> str:
    """What matters of an environment's keywords, in short; --verbose has all of them."""
    said = [f"gates: {', '.join(map(_gate, gates))}" for name, gates in keywords.items() if name == "gates" and gates]
    for name, value in keywords.items():
        text = json.dumps(value)
        if name != "gates":
            said.append(f"{name}={text if len(text) <= 40 else '…'}")
    return f" ({'; '.join(said)})" if said else " (its defaults)"


IMPORTANT = {
    "position": ("instrument", "max_position"), "order": ("order", "max_quantity"),
    "daily loss": ("portfolio", "daily_loss", "hard"), "drawdown": ("portfolio", "drawdown", "hard"),
}  # fmt: skip
"""Limits of a risk gate that a reviewer looks at first: lots, lots, currency, currency."""


def _gate(gate: Any) -> str:
    if not isinstance(gate, Mapping):
        return str(gate)
    name, limits, found = str(gate.get("gate", "?")), gate.get("limits"), []
    for word, path in IMPORTANT.items():
        value: Any = limits
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            found.append(f"{word} ≤ {value}")
    if not isinstance(limits, Mapping):
        found = [str(limits)] if limits else []
    return f"{name} ({', '.join(found)})" if found else name


def _evaluation(out: Any, ledger: Ledger, version: Version, e: Evaluation, counts: bool) -> None:
    """One evaluation: where, how much, in which regimes."""
    mine = e.policies[version.version]
    hold = (
        f"{_count(len(e.day), 'episode')} of {_count(len(e.days), 'session')} ({e.days[0].date} to {e.days[-1].date})"
    )
    mean = sum(mine.pnl_e8) / len(mine.pnl_e8) / CASH
    known = {v.version: v.name for v in ledger.state.versions.values()}
    others = ", ".join(
        f"{known.get(q.name, q.name)} {sum(q.pnl_e8) / len(q.pnl_e8) / CASH:,.2f}"
        for q in e.policies.values()
        if q is not mine
    )
    note = "" if counts else " [does not count here: another setting, expired, or days not between its registration and this evaluation]"
    out.print(printable(f"  evaluation {e.seq}, {date(e.ts_ns)}: {hold}; P&L {mean:,.2f} an episode; {others}{note}"),
              highlight=False, markup=False, soft_wrap=True)  # fmt: skip
    regimes = ((Regime(r), [p for p, own in zip(mine.pnl_e8, e.regime) if own == r]) for r in sorted(set(e.regime)))
    text = ", ".join(f"{r.name} {len(p)} × {sum(p) / len(p) / CASH:,.0f}" for r, p in regimes)
    out.print(f"    by regime (episodes × mean): {text}", highlight=False, soft_wrap=True)


def _finding(out: Any, f: RuleFinding) -> None:
    mark = "[green]✓[/]" if f.passed else "[bold red]✗[/]"
    out.print(f"  {mark} [bold]{escape(printable(f.rule))}[/]: ", end="", highlight=False)
    out.print(printable(f"expected {f.expected}, got {f.got}"), highlight=False, markup=False, soft_wrap=True)
    if not f.passed and f.remedy:
        out.print(printable(f"      → {f.remedy}"), highlight=False, markup=False, soft_wrap=True)


def _warn(out: Any, ledger: Ledger) -> None:
    """What the ledger holds that does not count, and a clock that is not believed."""
    if ledger.state.ahead:
        entries = ", ".join(map(str, ledger.state.ahead[:10]))
        out.print(f"[bold red]✗[/] entries under a clock that had jumped, which moved no time: {entries}", highlight=False)
    if ledger.clock_trouble:
        out.print(f"[bold red]✗[/] {escape(ledger.clock_trouble)}", highlight=False, soft_wrap=True)
    for one in ledger.state.invalid:
        out.print(f"[bold red]✗[/] {escape(printable(one))}", highlight=False, soft_wrap=True)


def date(ts_ns: int) -> str:
    """The UTC date of a time."""
    return datetime.fromtimestamp(ts_ns // NS, UTC).date().isoformat()
