"""Whether a version may enter a stage: everything that the record holds for and against it, and the guard's word on that.

Who counts as a trial *behind* a version: each trial that trained, or whose versions were evaluated, on any day that the
version was trained or evaluated on (`Day.key`). Names, seeds, keywords and agents play no part, so a search cannot be hidden by
calling its winner something else; only data that none of the trials has seen make a new beginning, and those cost what
data cost. A trial counts once, and once more for each further version that it was made to give.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np

from emp_gym.governance.ledger.record import (
    STAGES,
    VALID_NS,
    Day,
    Evaluation,
    Session,
    Trial,
    Version,
    digest,
    joined,
    number,
    pnl_table,
    read_setting,
)
from emp_gym.governance.ledger.signatures import Person
from emp_gym.governance.promotion import costs, guard
from emp_gym.governance.promotion.costs import ASKED, Costs
from emp_gym.governance.promotion.guard import GATES, Performance, PromotionCriteria, RuleFinding
from emp_gym.types import NS


class OnRecord(Protocol):
    """What is asked of the record: `emp_gym.governance.ledger.state.State`."""

    @property
    def versions(self) -> Mapping[str, Version]: ...
    @property
    def trials(self) -> Mapping[int, Trial]: ...
    @property
    def invalid(self) -> Sequence[Any]: ...
    def champion(self, stage: str, now: int, env_id: str | None = None) -> Version | None: ...


SIGNERS = {"paper": 1, "pilot": 2, "live": 2}
"""Different people who must sign for a stage."""


@dataclass(frozen=True)
class Case:
    """A version before the guard of a stage."""

    stage: str
    used: tuple[Evaluation, ...]  # all that count: valid, in the version's own setting
    findings: tuple[RuleFinding, ...]  # without signatures
    regimes: tuple[str, ...] = ()  # for which the evidence speaks

    @property
    def passed(self) -> bool:
        return all(finding.passed for finding in self.findings)


def examine(state: OnRecord, version: Version, to: str, now: int, least: Costs | None = None) -> Case:
    """All findings about entering `to` (or renewing it) at time `now` (ns): a pure function of the record. `least`: what the
    evidence must assume, if not what every stage asks."""
    used = tuple(_valid(version, to, now))
    days = list({day.key: day for e in used for day in e.days}.values())
    findings = [*_formal(state, version, to, now), *_evidence(version, used, to)]
    keywords = read_setting(version.setting)[1]
    findings += costs.findings(keywords, [day.fees for day in days], ASKED if least is None else least)
    if not used:
        return Case(to, used, tuple(findings))
    findings += _data(days)
    findings += _searched(state, version)
    if not _one_currency(days):
        return Case(to, used, tuple(findings))  # there is no sum to judge
    evidence = _assembled(state, version, used, GATES[to], now)
    judgement = guard.judge(evidence, GATES[to], _draws(version, to, used))
    regimes = tuple(regime.name for regime in judgement.regimes)
    return Case(to, used, (*findings, *judgement.findings), regimes)


def signed(who: Sequence[Person], stage: str, wrong: Sequence[str] = ()) -> RuleFinding:
    """Whether enough people who may sign for `stage` have signed."""
    able, needed = [one.name for one in who if stage in one.roles], SIGNERS[stage]
    got = f"{len(able)}{': ' + ', '.join(able) if able else ''}"
    got += "".join(f"; {one.name} has no role {stage}" for one in who if stage not in one.roles)
    got += "".join(f"; {reason}" for reason in wrong)
    expected = f"{needed} {'person' if needed == 1 else 'different people'} with the role {stage}"
    return RuleFinding("signatures", len(able) >= needed, expected, got, "--signer NAME --key FILE for each of them")


def trials_behind(state: OnRecord, version: Version) -> list[tuple[Trial, list[Version]]]:
    """The trials that count against `version`, with the versions that each gave."""
    given: dict[int, list[Version]] = {}
    for other in state.versions.values():
        given.setdefault(other.trial, []).append(other)
    mine = _keys(state.trials[version.trial], [version])
    found = []
    for trial in state.trials.values():
        keys = _keys(trial, given.get(trial.seq, []))
        if trial.seq == version.trial or not keys or not mine or keys & mine:  # no days on record: it counts for all
            found.append((trial, given.get(trial.seq, [])))
    return found


def count_trials(state: OnRecord, version: Version) -> int:
    return sum(max(1, len(versions)) for _, versions in trials_behind(state, version))


def _keys(trial: Trial, versions: Sequence[Version]) -> set[str]:
    seen = {day.key for version in versions for e in version.evaluations for day in e.days}
    return seen | {day.key for day in trial.days}


def _draws(version: Version, to: str, used: Sequence[Evaluation]) -> np.random.Generator:
    """The guard's bootstraps: seeded by the evidence, so that nobody can draw again."""
    return np.random.default_rng(int(digest([version.version, to, *(e.payload_hash for e in used)]), 16))


def _valid(version: Version, to: str, now: int) -> Iterator[Evaluation]:
    """Every evaluation that counts. The best ones cannot be picked: what was evaluated in the version's own setting
    counts. Into pilot and live only sessions that came after the registration do."""
    for evaluation in version.evaluations:
        if evaluation.setting == version.setting and now < evaluation.ts_ns + VALID_NS:
            if not GATES[to].forward or _forward(version, evaluation):
                yield evaluation


def _forward(version: Version, evaluation: Evaluation) -> bool:
    """Whether all sessions lie after the registration and not after the evaluation, by their dates (UTC)."""
    first, last = _date(version.ts_ns), _date(evaluation.ts_ns)
    return all(first < day.date <= last for day in evaluation.days)


def _date(ts_ns: int) -> str:
    return datetime.fromtimestamp(ts_ns // NS, UTC).date().isoformat()


def _formal(state: OnRecord, version: Version, to: str, now: int) -> list[RuleFinding]:
    """What needs no statistics."""
    here = version.stage(now)
    following = STAGES[min(STAGES.index(here) + 1, len(STAGES) - 1)]
    return [
        RuleFinding(
            "next stage", to == following or (to == here != STAGES[0]), f"{following}, the one after {here}", to,
            "no stage is skipped: promote it to the next one first",
        ),
        RuleFinding(
            "whole ledger", not state.invalid, "no entry that the rules forbid",
            f"{len(state.invalid)}" + (f", the first being {state.invalid[0]}" if state.invalid else ""),
            "someone has the log's key who should not: find out who, and begin a new ledger",
        ),
    ]  # fmt: skip


def _evidence(version: Version, used: Sequence[Evaluation], to: str) -> list[RuleFinding]:
    everything, gate = len(version.evaluations), GATES[to]
    sessions = {day.key for e in used for day in e.days}
    got = f"{len(used)} of {everything} evaluations, {len(sessions)} sessions"
    kind = "of sessions after its registration" if gate.forward else "on record"
    expected = f"an executed evaluation {kind}, in its own setting, younger than 90 days"
    remedy = "evaluate it: scripts/evaluate.py --govern LOGDIR --policy ..."
    if gate.forward and not used:
        remedy += f" --data DAYS, each dated after {_date(version.ts_ns)}, when it was registered, and not after the day of the evaluation"
        dates = sorted({day.date for e in version.evaluations for day in e.days})
        got += f"; those on record are of days from {dates[0]} to {dates[-1]}" if dates else ""
    return [RuleFinding("evidence", bool(used), expected, got, remedy)]


def _data(days: Sequence[Day]) -> list[RuleFinding]:
    """On which data the evidence is, and that its money is of one kind."""
    kinds = [(name, [day for day in days if day.synthetic == kind]) for name, kind in (("recorded", False), ("synthetic", True))]
    told = "; ".join(f"{len(some)} {name} {_days_told(some)}" for name, some in kinds if some)
    currencies = sorted({day.currency for day in days if day.currency})
    return [
        RuleFinding("data", bool(days), "named days", told),
        RuleFinding(
            "currency", _one_currency(days), "one: sums of several mean nothing", ", ".join(currencies) or "not on record",
            "evaluate it on days of one currency; those of another are evidence for a version of their own",
        ),
    ]  # fmt: skip


def _one_currency(days: Sequence[Day]) -> bool:
    return len({day.currency for day in days if day.currency}) <= 1


def _days_told(days: Sequence[Day]) -> str:
    """``days of SYNA, SYNB, 2031-01-06 to 2031-03-12``."""
    dates, symbols = sorted({day.date for day in days}), sorted({day.symbol for day in days})
    named = ", ".join(symbols[:3]) + (f" and {len(symbols) - 3} more" if len(symbols) > 3 else "")
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return f"day{'' if len(days) == 1 else 's'} of {named}, {when}"


def _searched(state: OnRecord, version: Version) -> list[RuleFinding]:
    """That every version of the search was evaluated where the candidate was, or ranks are those of another search."""
    mine = set(session_totals(version))
    others = [v for _, versions in trials_behind(state, version) for v in versions]
    here = read_setting(version.setting)[0]
    apart = [_named(v, here) for v in others if not mine & set(session_totals(v))]
    got = f"{len(others) - len(apart)} of {len(others)} versions" + (f"; not {', '.join(apart[:3])}" if apart else "")
    return [
        RuleFinding(
            "whole search", not apart, "every version of the search evaluated on some of its sessions", got,
            "the search is every trial that touched one of its days, in whatever environment: evaluate those versions on its "
            "sessions too; a search whose failures were not looked at has no rank",
        )
    ]  # fmt: skip


def _named(version: Version, here: str) -> str:
    """Its name, with its environment if that is another one than `here`."""
    where = read_setting(version.setting)[0]
    return version.name if where == here else f"{version.name} (of {where})"


def session_totals(version: Version) -> dict[Session, int]:
    """P&L of a version by session, over all evaluations in its own setting; never summed over currencies."""
    by_day: dict[str, tuple[Day, int]] = {}
    for evaluation in version.evaluations:
        if evaluation.setting == version.setting:
            by_day |= {day.key: (day, pnl) for day, pnl in evaluation.totals(version.version).items()}
    first = next((day.currency for day, _ in by_day.values()), "")
    sums: dict[Session, int] = {}
    for day, pnl in by_day.values():
        date, block = day.session
        session = (date, block if day.currency == first else f"{block} {day.currency}")
        sums[session] = sums.get(session, 0) + pnl
    return sums


def _assembled(state: OnRecord, version: Version, used: Sequence[Evaluation], gate: PromotionCriteria, now: int) -> guard.Evidence:
    candidate = joined([e.performance(version.version) for e in used])
    behind = trials_behind(state, version)
    rows = [session_totals(v) for _, versions in behind for v in versions]
    idle = sum(not versions for _, versions in behind)
    trials = count_trials(state, version)
    champion = state.champion(gate.stage, now, read_setting(version.setting)[0])
    if champion is not None and champion.version == version.version:
        champion = None  # a renewal: it need not beat itself
    sessions = set(candidate.session.tolist())
    return guard.Evidence(
        candidate,
        trials=trials,
        breaches=sum(e.policies[version.version].breaches for e in version.evaluations),
        rivals=_rivals(state, sessions),
        trial_pnl=None if trials == 1 else pnl_table([row for row in rows if row] + [None] * idle),
        champion=None if champion is None else _on_record(state, champion, version, candidate),
        baselines=tuple(_baselines(used)),
        fitted=np.array(sorted({number(day.block) for day in _fitted(state, version, used)}), np.int64),
    )


def _rivals(state: OnRecord, sessions: set[int]) -> int:
    """Versions with an evaluation in any of these sessions."""
    return sum(any(sessions & set(e.sessions.tolist()) for e in v.evaluations) for v in state.versions.values())


def _fitted(state: OnRecord, version: Version, used: Sequence[Evaluation]) -> list[Day]:
    """Days of the evidence that are not news: the version or an ancestor may have trained on that day, on the same rows under another
    name, or (recorded) on another symbol of that date, which shares its market."""
    trained = list(_trained(state, version))
    keys, rows = {day.key for day in trained}, {day.rows for day in trained if day.rows}
    dates = {day.date for day in trained if not day.synthetic}
    found = {day.key: day for e in used for day in e.days}
    return [day for day in found.values() if day.key in keys or day.rows in rows or (not day.synthetic and day.date in dates)]


def _trained(state: OnRecord, version: Version) -> Iterator[Day]:
    """Days that the version or an ancestor may have trained on."""
    while True:
        yield from state.trials[version.trial].days
        if not version.parent:
            return
        version = state.versions[version.parent]


def _baselines(used: Sequence[Evaluation]) -> Iterator[Performance]:
    """Baselines that were run in every evaluation; an oracle is a bound, not a rival."""
    common = set.intersection(*({q.name for q in e.policies.values() if q.role == "baseline"} for e in used))
    for name in sorted(common - {"oracle"}):
        yield joined([e.performance(name) for e in used])


def _on_record(state: OnRecord, champion: Version, version: Version, candidate: Performance) -> Performance:
    """The champion on the candidate's episodes in the candidate's setting, as far as the record has them."""
    evaluations = [e for v in state.versions.values() for e in v.evaluations if champion.version in e.policies]
    parts = [e.performance(champion.version) for e in evaluations if e.setting == version.setting]
    if not parts:
        nothing = np.empty(0, np.int64)
        return Performance(champion.name, nothing, nothing, nothing.astype(np.int8), nothing.astype(float), nothing)
    whole = joined(parts)
    chosen = np.isin(whole.episode, candidate.episode)
    names = ("episode", "session", "regime", "pnl", "decisions")
    return Performance(champion.name, *(getattr(whole, name)[chosen] for name in names))
