"""What is found in judged episodes: every number that a report shows, once, for text, page, pictures and JSON alike.

S seeds and W windows; where there are several seeds, a number is taken over all of them, and its interval is that over dates
(windows where there is one date) with the seeds as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from emp_gym.evaluation import comparison as pairs
from emp_gym.evaluation import intervals
from emp_gym.evaluation import performance as measures
from emp_gym.evaluation.attribution import ONE_TICK, TERMS, UNKNOWN, attribute, per_regime_decisions, spread_ticks
from emp_gym.evaluation.comparison import Paired
from emp_gym.evaluation.intervals import Estimate, Statistic
from emp_gym.evaluation.performance import Figure
from emp_gym.evaluation.runlog import dates
from emp_gym.runs.backtest import Comparison
from emp_gym.runs.config import EvaluationConfig
from emp_gym.types import CASH_UNITS, F64, I64, Regime, RunLog

Terms = Mapping[str, Estimate]
"""spread, impact, adverse, drift, fees and pnl: currency per episode."""
RISK = {"sharpe_per_episode": intervals.sharpe, "sortino_per_episode": intervals.sortino, "cvar5_currency": intervals.cvar}
PNL = "pnl_currency_per_episode"
KNOWING = ("oracle", "optimal")
"""Agents that know what nobody can know, or the best policy: marks to aim at, not baselines to be beaten."""


@dataclass(frozen=True)
class InRegime:
    """What was won while the market was in one regime (or the tick in one)."""

    name: str
    share: float  # of decisions (of episodes, for tick regimes)
    terms: Mapping[str, float]  # currency per episode of the whole evaluation (of such an episode, for tick regimes)
    pnl: Estimate
    spread_ticks: float | None = None  # mean; tick regimes only


@dataclass(frozen=True)
class Optimum:
    """An agent on a problem whose optimum is known; scores are 1 at the optimum and 0 at the best naive policy."""

    score: Estimate  # interquartile mean over seeds
    scores: tuple[float, ...]  # of each seed
    optimum: float
    base: tuple[str, float]  # the best naive policy and its value
    exact: bool  # no sampling


@dataclass(frozen=True)
class Findings:
    """Everything besides the comparison itself; empty where nothing was recorded."""

    pairs: Mapping[str, Paired]  # baseline -> the agent against it
    adjusted: Mapping[str, float]  # baseline -> p-value after Benjamini and Hochberg over all baselines
    measures: Mapping[str, Mapping[str, Figure]] = field(default_factory=dict)  # agent -> measure -> figure
    attribution: Mapping[str, Terms] = field(default_factory=dict)  # agent -> terms
    regimes: Sequence[InRegime] = ()
    ticks: Sequence[InRegime] = ()
    optimum: Optimum | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain numbers; NaN becomes null."""
        return _plain(asdict(self))


def find(
    comparison: Comparison, runs: Sequence[RunLog], baselines: Mapping[str, RunLog], config: EvaluationConfig,
    optimum: Optimum | None = None,
) -> Findings:  # fmt: skip
    """The findings of logs that `backtest.judge` gave, with tables (``record=True``) or without."""
    days = intervals.codes(comparison.days)
    options: dict[str, Any] = {"level": config.level, "resamples": config.resamples}

    def rng() -> np.random.Generator:  # the draws of `backtest.compare`: what is shown twice has one interval
        return np.random.default_rng(np.random.SeedSequence([config.seed, 17]))

    if comparison.by_currency:  # sums over currencies are no figures
        return Findings({}, {}, optimum=optimum)
    mine = comparison.agent.episodes[comparison.judged].mean(axis=0)
    against = {}
    for row in comparison.rows[1:]:
        pair = pairs.compare(mine, row.episodes[comparison.judged].mean(axis=0), days, rng(), **options)
        difference = pair.difference if row.ahead is None else row.ahead
        against[row.name] = replace(
            pair, difference=difference, improvement=clipped(pair.improvement), wins=clipped(pair.wins)
        )
    adjusted = benjamini_hochberg({name: pair.p_value for name, pair in against.items() if name not in KNOWING})
    if not all("accounts" in log.tables for log in [*runs, *baselines.values()]):
        return Findings(against, adjusted, optimum=optimum)
    logs = {comparison.agent.name: list(runs), **{name: [log] for name, log in baselines.items()}}
    pnl = {row.name: row.pnl for row in comparison.rows}
    return Findings(
        against,
        adjusted,
        {name: measured(own, rng(), pnl[name], **options) for name, own in logs.items()},
        {name: attributed(own, days, rng, **options) for name, own in logs.items()},
        by_regime(runs, days, rng, **options),
        by_tick(runs, days, rng, **options),
        optimum,
    )


def clipped(estimate: Estimate, low: float = 0.0, high: float = 1.0) -> Estimate:
    """An interval within the range of what it is of: widening for few days may have led it out."""
    if estimate.low is None or estimate.high is None:
        return estimate
    return replace(estimate, low=max(estimate.low, low), high=min(estimate.high, high))


def benjamini_hochberg(p_values: Mapping[str, float]) -> dict[str, float]:
    """Each p-value as the false discovery rate at which it would just be a discovery; NaN (nothing differs) stays.

    Benjamini and Hochberg (1995), "Controlling the false discovery rate".
    """
    names = sorted((name for name, p in p_values.items() if np.isfinite(p)), key=lambda name: p_values[name])
    adjusted, least = dict(p_values), 1.0
    for rank in range(len(names), 0, -1):
        least = min(least, p_values[names[rank - 1]] * len(names) / rank)
        adjusted[names[rank - 1]] = least
    return adjusted


def measured(
    logs: Sequence[RunLog], rng: np.random.Generator, pnl: Estimate, *, level: float = 0.95, resamples: int = 2000
) -> dict[str, Figure]:  # fmt: skip
    """`measures.figures` of one log; of several seeds: rates over all of them, Sharpe and its like as the mean of theirs.

    `pnl`, which is known already, is taken as it is.
    """
    found = measures.figures(logs[0], rng, level=level, resamples=resamples)
    if len(logs) > 1:
        parts = [measures.parts(log) for log in logs]
        won = [log.episodes["pnl"] for log in logs]
        days = dates(logs[0])
        for name, stream in zip(list(found), rng.spawn(len(found))):
            if name in RISK:
                statistic = _mean_of([RISK[name](values) for values in won])
            else:
                tops, bottoms = (np.sum([getattr(p[name], half) for p in parts], axis=0) for half in ("top", "bottom"))
                statistic = intervals.ratio(tops, bottoms)
            estimate = intervals.resampled(statistic, days, stream, level=level, resamples=resamples)
            found[name] = replace(found[name], estimate=estimate)
    for name, figure in found.items():
        if "share" in figure.unit:
            found[name] = replace(figure, estimate=clipped(figure.estimate))
    found[PNL] = replace(found[PNL], estimate=pnl)
    return found


def _mean_of(statistics: Sequence[Statistic]) -> Statistic:
    return lambda weights: np.mean([statistic(weights) for statistic in statistics], axis=0)


# ---- where the P&L came from


def attributed(logs: Sequence[RunLog], days: I64, rng: Any, **options: Any) -> dict[str, Estimate]:
    """Each term and the P&L, currency per episode, with intervals."""
    terms = [attribute(log).currency() for log in logs]
    return {name: intervals.bootstrap(np.stack([t[name] for t in terms]), days, rng(), **options) for name in terms[0]}


def by_regime(runs: Sequence[RunLog], days: I64, rng: Any, **options: Any) -> list[InRegime]:
    """One row for each regime that occurred; their terms add up to those of the whole, their P&L to the P&L."""
    by = np.stack([attribute(log).by_regime for log in runs])  # [S, W, 10]
    decisions = np.sum([per_regime_decisions(log) for log in runs], axis=0)
    found = []
    for number in range(UNKNOWN + 1):
        own = by[:, :, number]
        if not decisions[number] and not any(own[name].any() for name in TERMS):
            continue
        money = {name[:-1]: own[name] / (2 * CASH_UNITS) for name in TERMS}
        pnl = intervals.bootstrap(np.sum(list(money.values()), axis=0), days, rng(), **options)
        name = "not labelled" if number == UNKNOWN else Regime(number).name.lower().replace("_", ", ")
        share = float(decisions[number] / max(decisions.sum(), 1))
        found.append(InRegime(name, share, {key: float(value.mean()) for key, value in money.items()}, pnl))
    return found


def by_tick(runs: Sequence[RunLog], days: I64, rng: Any, **options: Any) -> list[InRegime]:
    """Days whose spread is about one tick, and days on which it is wider; either only where there are such days."""
    ticks = spread_ticks(runs[0])
    terms = [attribute(log).currency() for log in runs]
    found = []
    for name, mine in ((f"spread up to {ONE_TICK} ticks", ticks <= ONE_TICK), ("wider spread", ticks > ONE_TICK)):
        if not mine.any():
            continue
        money: dict[str, F64] = {key: np.stack([t[key][mine] for t in terms]) for key in terms[0]}
        pnl = intervals.bootstrap(money.pop("pnl"), days[mine], rng(), **options)
        means = {key: float(value.mean()) for key, value in money.items()}
        found.append(InRegime(name, float(mine.mean()), means, pnl, float(np.nanmean(ticks[mine]))))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


__all__ = ["Findings", "InRegime", "Optimum", "benjamini_hochberg", "clipped", "find", "measured"]
