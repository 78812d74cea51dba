"""Whether the figures of a strategy are good enough for its next stage: findings, one a rule, each with its remedy.

Pure functions of plain arrays: who ran the episodes, how many trials the record holds and which control was breached is
the caller's to read from the record, never the candidate's to declare. Rules that need no statistics (signers, expiry,
artefact hashes, a clean look-ahead check) belong to the ledger. What the statistics cannot see: `docs/overfitting.md`.

Units: P&L is net of costs, in the currency of the account. A *session* (a trading day) is the unit that counts as
independent; its P&L is the sum over its episodes, so sessions should have been covered by equally many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from emp_gym.evaluation.intervals import FEWEST, Estimate, paired, student_t
from emp_gym.evaluation.overfitting import (
    NORMAL,
    SharpeSample,
    backtest_overfitting,
    effective_trials,
    expected_maximum,
    one_strategy,
    probabilistic_sharpe,
    sharpe_sample,
    sharpe_score,
)
from emp_gym.types import F64, I8, I64, ConfigError, DataError, Regime

LONGEST = 10_000  # sessions, forty years: a remedy that asks for more is none


@dataclass(frozen=True)
class PromotionCriteria:
    """What must be shown before a strategy enters `stage`."""

    stage: str
    sessions: int  # at least, out of sample
    decisions: int  # at least, in those sessions
    regimes: int  # at least, each traded in `sessions_per_regime` sessions
    sessions_per_regime: int = 5
    deflated_sharpe: float = 0.95  # at least
    overfitting: float = 0.20  # at most
    level: float = 0.95  # of every lower bound, on its own side
    forward: bool = True  # the sessions came after the candidate was registered, so that no search has seen them

    def __post_init__(self) -> None:
        for name in ("deflated_sharpe", "overfitting", "level"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"{name} must be between 0 and 1, got {getattr(self, name)}")
        if self.level <= 0.5:
            raise ConfigError(f"level must be above 0.5 (it is the confidence of a lower bound), got {self.level}")
        if self.sessions_per_regime < 5:
            raise ConfigError(f"sessions_per_regime must be at least 5 for an interval, got {self.sessions_per_regime}")


GATES: Mapping[str, PromotionCriteria] = {
    "paper": PromotionCriteria("paper", sessions=10, decisions=500, regimes=2, overfitting=0.20, forward=False),
    "pilot": PromotionCriteria("pilot", sessions=20, decisions=1_000, regimes=4, overfitting=0.20),
    "live": PromotionCriteria("live", sessions=40, decisions=2_000, regimes=4, overfitting=0.10),
}
"""Defaults by the stage to be entered.

*Into paper*, evidence is recorded or simulated sessions. That they were held out is something only the searcher knows:
every look at a held-out block is a trial on it. So the Sharpe ratio is deflated by **all** trials in the record, as if
each had been judged on these very sessions: an upper bound of the damage, whoever looked at what. Sessions of the past
are cheap, and paper loses no money, so half of the pilot's sessions and regimes will do; the deflation is what makes a
wide search over few sessions fail (with 100 trials and 10 sessions the mean must be about 1.7 standard deviations of a
session). It fails wrongly where P&L has a long lower tail: over ten sessions the luckiest of many has met no loss yet,
and a ratio cannot tell. So PBO, which compares ranks, is held to the pilot's 0.20 here too: at 0.50 the guard let 15 %
of the searches over `promotion_study.skewed` noise through, at 0.20 less than 3 %.

*Into pilot* and *live*, evidence is sessions that came after the candidate was registered, which no search can have
seen. What can still be lucky there is the choice among the strategies that ran in those sessions: the ratio is deflated
by their number, `Evidence.rivals`, or by all trials where it is not given. PBO is still that of the search. *Live* asks
for twice the sessions of pilot, still fewer than fit into the 90 days after which evidence expires.
"""


@dataclass(frozen=True)
class Performance:
    """Net results of one strategy, one entry an episode, E of them; order is free."""

    name: str
    episode: I64  # [E] what was drawn: equal numbers mean the same seed, day and window
    session: I64  # [E] which session (day) it belongs to
    regime: I8  # [E] Regime, labelled causally
    pnl: F64  # [E] net, currency
    decisions: I64  # [E]

    def __post_init__(self) -> None:
        shapes = {f: np.shape(getattr(self, f)) for f in ("episode", "session", "regime", "pnl", "decisions")}
        if len(set(shapes.values())) != 1 or len(shapes["pnl"]) != 1:
            raise DataError(f"{self.name}: all columns must be [E] with one length, got {shapes}")
        if not np.isfinite(self.pnl).all():
            raise DataError(f"{self.name}: P&L of episode {self.episode[~np.isfinite(self.pnl)][0]} is not finite")
        if len(np.unique(self.episode)) != len(self.episode):
            raise DataError(f"{self.name}: an episode is listed twice; give each seed and window a number of its own")
        unknown = set(np.unique(self.regime).tolist()) - set(map(int, Regime))
        if unknown:
            raise DataError(
                f"{self.name}: regimes must be {min(Regime)} to {max(Regime)} (types.Regime), got {unknown}"
            )

    def totals(self, regime: int | None = None) -> F64:
        """P&L of each session, all episodes or those of one regime; sessions without such an episode are left out."""
        chosen = slice(None) if regime is None else self.regime == regime
        _, code = np.unique(self.session[chosen], return_inverse=True)
        return np.bincount(code, self.pnl[chosen]).astype(np.float64)


@dataclass(frozen=True)
class Evidence:
    """What the record holds about a candidate."""

    candidate: Performance
    trials: int  # strategies tried by the search behind the candidate, itself included, from the record
    breaches: int  # of control limits by the candidate, from the record
    rivals: int | None = None  # strategies that ran in the candidate's sessions, itself included; see `GATES`
    trial_pnl: F64 | None = None  # [T, N] net P&L by session of every trial on the sessions it was selected on
    champion: Performance | None = None  # the strategy now at the stage to be entered, on the same episodes
    baselines: tuple[Performance, ...] = ()  # on the same episodes
    fitted: I64 = field(default_factory=lambda: np.empty(0, np.int64))  # sessions used for training, tuning


@dataclass(frozen=True)
class RuleFinding:
    """One rule and what it found, in words for a reviewer."""

    rule: str
    passed: bool
    expected: str
    got: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{'passed ' if self.passed else 'REFUSED'} {self.rule}: expected {self.expected}, got {self.got}"
        return text if self.passed or not self.remedy else f"{text}. {self.remedy}"


@dataclass(frozen=True)
class Judgement:
    """All findings, and the regimes for which the evidence speaks: elsewhere the strategy is untried."""

    stage: str
    findings: tuple[RuleFinding, ...]
    regimes: tuple[Regime, ...]

    @property
    def passed(self) -> bool:
        return all(finding.passed for finding in self.findings)

    def __str__(self) -> str:
        refused = sum(not finding.passed for finding in self.findings)
        head = f"{self.stage}: " + (f"{refused} of {len(self.findings)} rules refuse" if refused else "all rules pass")
        return "\n".join((head, *map(str, self.findings)))


Rule = Callable[[Evidence, PromotionCriteria, np.random.Generator], list[RuleFinding]]


def judge(
    evidence: Evidence, gate: PromotionCriteria, rng: np.random.Generator, *, rules: tuple[Rule, ...] | None = None
) -> Judgement:
    """Every rule (`RULES` by default) applied to `evidence`, refusals and passes alike. `rng` draws the bootstraps of
    paired comparisons."""
    findings = [finding for rule in (RULES if rules is None else rules) for finding in rule(evidence, gate, rng)]
    return Judgement(gate.stage, tuple(findings), covered(evidence.candidate, gate))


def volume(evidence: Evidence, gate: PromotionCriteria, rng: np.random.Generator) -> list[RuleFinding]:
    """Enough sessions and decisions."""
    sessions, decisions = len(np.unique(evidence.candidate.session)), int(np.sum(evidence.candidate.decisions))
    return [
        RuleFinding(
            "sessions", sessions >= gate.sessions, f"at least {gate.sessions}", f"{sessions}",
            f"run {gate.sessions - sessions} more sessions; more episodes of the same sessions do not count",
        ),
        RuleFinding(
            "decisions", decisions >= gate.decisions, f"at least {gate.decisions:,}", f"{decisions:,}",
            "run more sessions, or check that the strategy acts at all",
        ),
    ]  # fmt: skip


def out_of_sample(evidence: Evidence, gate: PromotionCriteria, rng: np.random.Generator) -> list[RuleFinding]:
    """No session of the evidence was used to train or tune."""
    seen = np.intersect1d(evidence.candidate.session, evidence.fitted)
    got = f"{len(seen)} that were fitted on" + (f", the first being {seen[0]}" if len(seen) else "")
    remedy = "leave these sessions out of the evidence, or train again without them"
    return [RuleFinding("out of sample", not len(seen), "no session used for training or tuning", got, remedy)]


def controls(evidence: Evidence, gate: PromotionCriteria, rng: np.random.Generator) -> list[RuleFinding]:
    """No control limit was breached."""
    remedy = "find the cause in the diary; the count starts again with a new version"
    return [RuleFinding("control breaches", evidence.breaches == 0, "0", str(evidence.breaches), remedy)]


def covered(performance: Performance, gate: PromotionCriteria) -> tuple[Regime, ...]:
    """Regimes traded in at least `gate.sessions_per_regime` sessions. A session without gain or loss was not traded:
    staying out of a regime is allowed, but shows nothing about it."""
    return tuple(r for r in Regime if np.count_nonzero(performance.totals(r)) >= gate.sessions_per_regime)


def regime_coverage(evidence: Evidence, gate: PromotionCriteria, rng: np.random.Generator) -> list[RuleFinding]:
    """Enough regimes with enough sessions."""
    known = covered(evidence.candidate, gate)
    counts = {r: int(np.count_nonzero(evidence.candidate.totals(r))) for r in Regime}
    thin = [f"{r.name} {counts[r]}" for r in Regime if counts[r] > 0 and r not in known]
    got = f"{len(known)}" + (f"; too thin to judge (sessions): {', '.join(thin)}" if thin else "")
    missing = ", ".join(r.name for r in Regime if r not in known)
    return [
        RuleFinding(
            "regime coverage", len(known) >= gate.regimes,
            f"at least {gate.regimes} regimes traded in {gate.sessions_per_regime} sessions each", got,
            f"add sessions of {missing}",
        )
    ]  # fmt: skip


def regime_profit(evidence: Evidence, gate: PromotionCriteria, rng: np.random.Generator) -> list[RuleFinding]:
    """Mean net P&L a session is above 0 in every covered regime, by Student's lower bound over sessions.

    All bounds must hold at once, so the chance of passing a strategy that loses in some regime is at most 1 - level
    without a correction for their number (intersection-union test, Berger 1982); power falls with each regime instead.
    Student's bound is too kind to rare large losses in few sessions.
    """
    return [_profit(regime, evidence.candidate.totals(regime), gate) for regime in covered(evidence.candidate, gate)]


def _profit(regime: Regime, totals: F64, gate: PromotionCriteria) -> RuleFinding:
    count, mean, deviation = len(totals), float(totals.mean()), float(totals.std(ddof=1))
    quantile = student_t(2 * gate.level - 1, count - 1)
    low = mean - quantile * deviation / math.sqrt(count)
    remedy = "it loses there: teach it, or let its stage keep it out of this regime"
    if mean > 0:
        needed = max(count + 1, math.ceil((quantile * deviation / mean) ** 2))
        remedy = f"about {needed:,} sessions of this regime would show it, if it stays as good"
    got = f"{low:,.2f} (mean {mean:,.2f} ± {deviation:,.2f} over {count} sessions)"
    return RuleFinding(f"profit in {regime.name}", low > 0, f"lower {gate.level:.0%} bound above 0", got, remedy)


def deflated(evidence: Evidence, gate: PromotionCriteria, rng: np.random.Generator) -> list[RuleFinding]:
    """Deflated Sharpe ratio of session P&L, read strictly.

    Skew and kurtosis are counted only where they widen the error, since a dozen sessions estimate them badly; the
    variance across trials is at least what luck gives in so many sessions, since idle trials would dilute it.
    """
    trials, expected = _tried(evidence, gate), f"at least {gate.deflated_sharpe}"
    sample = _strict_sample(evidence.candidate.totals())
    if sample is None:
        got, remedy = "session P&L that does not vary", "check that the strategy trades and that sessions differ"
        return [RuleFinding("deflated Sharpe ratio", False, expected, got, remedy)]
    across = _variance_across(evidence.trial_pnl)
    luck = _luck(sample.observations, trials, across)
    value = probabilistic_sharpe(sample, luck)
    got = (
        f"{value:.3f} (Sharpe ratio a session {sample.ratio:.3f} over {sample.observations}; "
        f"the luckiest of {trials:,} without skill: {luck:.3f})"
    )
    needed = _sessions_needed(sample, trials, across, gate.deflated_sharpe)
    remedy = (
        f"about {needed:,} sessions would show it, if it stays as good; every further trial raises the bar"
        if needed
        else _why_never(sample.ratio, trials)
    )
    return [RuleFinding("deflated Sharpe ratio", value >= gate.deflated_sharpe, expected, got, remedy)]


def _why_never(ratio: float, trials: int) -> str:
    if ratio <= 0:
        return f"it loses ({ratio:.3f} a session): more sessions would only show it better; train another strategy"
    why = "the search explains this ratio" if trials > 1 else "the ratio is too small"
    return f"no record of up to {LONGEST:,} sessions would do: {why}"


def _tried(evidence: Evidence, gate: PromotionCriteria) -> int:
    """Strategies whose luck the candidate's ratio must beat."""
    tried = evidence.rivals if gate.forward and evidence.rivals is not None else evidence.trials
    if min(tried, evidence.trials) < 1:
        raise ConfigError(f"trials and rivals count the candidate itself: at least 1, got {tried}; read the record")
    return tried


def _strict_sample(totals: F64) -> SharpeSample | None:
    if len(totals) < 3 or np.ptp(totals) <= 1e-9 * np.abs(totals).max():
        return None
    sample = sharpe_sample(totals)
    skew = min(sample.skew, 0.0) if sample.ratio > 0 else max(sample.skew, 0.0)
    return SharpeSample(sample.ratio, sample.observations, skew, max(sample.kurtosis, 3.0, 1 + skew**2))


def _variance_across(trial_pnl: F64 | None) -> float:
    """Variance of the trials' Sharpe ratios a session; 0 where there are no two to compare."""
    table = np.asarray(trial_pnl if trial_pnl is not None else np.empty((0, 0)), np.float64)
    if len(table) < 2 or table.shape[1] < 2:
        return 0.0
    ratios = sharpe_score(table.mean(axis=0), table.std(axis=0, ddof=1))
    ratios = ratios[np.isfinite(ratios)]
    return float(ratios.var(ddof=1)) if len(ratios) > 1 else 0.0


def _luck(sessions: int, trials: int, across: float) -> float:
    return expected_maximum(trials, max(across, 1 / (sessions - 1)))


def _sessions_needed(sample: SharpeSample, trials: int, across: float, level: float) -> int | None:
    """Sessions after which the deflated ratio reaches `level` with ratio and trials as they are; None beyond `LONGEST`."""
    counts = np.arange(3, LONGEST + 1)
    typical = expected_maximum(trials, 1.0)
    luck = typical * np.sqrt(np.maximum(across, 1 / (counts - 1)))
    enough = (sample.ratio - luck) * np.sqrt(counts - 1) >= NORMAL.inv_cdf(level) * sample.spread
    return int(counts[enough.argmax()]) if enough.any() else None


def search_overfits(evidence: Evidence, gate: PromotionCriteria, rng: np.random.Generator) -> list[RuleFinding]:
    """Probability of backtest overfitting of the search, over all of its trials."""
    rule, expected = "backtest overfitting", f"at most {gate.overfitting:.2f}"
    if evidence.trials == 1 and evidence.trial_pnl is None:
        return [RuleFinding(rule, True, expected, "one trial: nothing was selected")]
    if evidence.trial_pnl is None:
        remedy = "take net P&L by session of every trial from the record"
        return [RuleFinding(rule, False, expected, f"no P&L of the {evidence.trials:,} trials", remedy)]
    table = np.asarray(evidence.trial_pnl, np.float64)
    sessions, known = table.shape
    if known != evidence.trials:
        got = f"P&L of {known:,} trials, while the record counts {evidence.trials:,}"
        remedy = "give all of them, or the figure is that of another search; a trial that broke off did nothing: zeros"
        return [RuleFinding(rule, False, expected, got, remedy)]
    if known == 1:
        return [RuleFinding(rule, True, expected, "one trial: nothing was selected")]
    if sessions < FEWEST:
        remedy = "search on more sessions"
        return [RuleFinding(rule, False, expected, f"{sessions} sessions of trials, fewer than {FEWEST}", remedy)]
    if one_strategy(table):
        got = (
            f"not defined: {known:,} trials as different as {effective_trials(table):.1f} are one strategy tried again, and ranks "
            "among them say nothing; the deflated Sharpe ratio counts them all"
        )
        return [RuleFinding(rule, True, expected, got)]
    found = backtest_overfitting(table, blocks=min(16, sessions // 2 * 2))
    got = (
        f"{found.probability:.3f} ({known:,} trials over {sessions} sessions, as different as "
        f"{effective_trials(table):.0f}; the winner loses out of sample in {found.loss:.0%} of cuts)"
    )
    remedy = (
        "the best in one half of the sessions is often below the median in the other: search less, or longer history"
    )
    return [RuleFinding(rule, found.probability <= gate.overfitting, expected, got, remedy)]


def beats_champion(evidence: Evidence, gate: PromotionCriteria, rng: np.random.Generator) -> list[RuleFinding]:
    """Better than the champion on identical episodes, where there is one."""
    if evidence.champion is None:
        return [RuleFinding("champion", True, "better on identical seeds", f"no champion at {gate.stage}")]
    return [_comparison("champion", evidence.candidate, evidence.champion, gate, rng)]


def beats_baselines(evidence: Evidence, gate: PromotionCriteria, rng: np.random.Generator) -> list[RuleFinding]:
    """Better than every baseline on identical episodes; a result without baselines is none."""
    if not evidence.baselines:
        remedy = "run the baselines (doing nothing among them) on the candidate's episodes"
        return [RuleFinding("baselines", False, "at least one", "none", remedy)]
    return [_comparison("baseline", evidence.candidate, other, gate, rng) for other in evidence.baselines]


def _comparison(role: str, ours: Performance, other: Performance, gate: PromotionCriteria, rng: np.random.Generator) -> RuleFinding:
    rule, expected = f"{role} {other.name}", f"lower {gate.level:.0%} bound of the difference above 0"
    mine, theirs = np.argsort(ours.episode), np.argsort(other.episode)
    if not np.array_equal(ours.episode[mine], other.episode[theirs]):
        common = len(np.intersect1d(ours.episode, other.episode))
        got = f"{common} episodes in common of {len(ours.episode)} and {len(other.episode)}"
        return RuleFinding(
            rule, False, expected, got, f"run {other.name} on the candidate's seeds and windows, all of them"
        )
    if not np.array_equal(ours.session[mine], other.session[theirs]):
        return RuleFinding(
            rule, False, expected, "the same episodes in other sessions", "give equal episodes equal sessions"
        )
    estimate = _difference(ours.pnl[mine], other.pnl[theirs], ours.session[mine], gate, rng)
    if estimate.low is None and estimate.blocks >= FEWEST:
        return RuleFinding(rule, False, expected, estimate.note, "give sessions that differ: equal ones are one, counted often")
    if estimate.low is None:
        return RuleFinding(rule, False, expected, f"{estimate.blocks} sessions", f"run at least {FEWEST} sessions")
    got = f"{estimate.low:,.2f} an episode (mean {estimate.mean:,.2f} over {estimate.blocks} sessions)"
    remedy = f"it is not clearly better than {other.name}: more sessions if the mean is above 0, else keep {other.name}"
    return RuleFinding(rule, bool(estimate.low > 0), expected, got, remedy)


def _difference(ours: F64, other: F64, session: I64, gate: PromotionCriteria, rng: np.random.Generator) -> Estimate:
    """Paired difference an episode with its block bootstrap; blocks are sessions even if there is only one."""
    if len(np.unique(session)) < FEWEST:
        return Estimate(float(np.mean(ours - other)), blocks=len(np.unique(session)), block="session")
    return paired(ours, other, session, rng, level=2 * gate.level - 1)


RULES: tuple[Rule, ...] = (
    volume, out_of_sample, controls, regime_coverage, regime_profit, deflated, search_overfits, beats_champion,
    beats_baselines,
)  # fmt: skip
"""In the order in which a reviewer would read them."""
