"""Scores of several runs (seeds) on several tasks, summed up so that one lucky run does not decide. Pure functions.

Agarwal, Schwarzer, Castro, Courville, Bellemare (2021), "Deep Reinforcement Learning at the Edge of the Statistical
Precipice", and their package rliable, which these follow. Letters: S runs, T tasks; every run has a score on every task.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from emp_gym.evaluation.intervals import Estimate, checked
from emp_gym.types import F64, ConfigError

FEWEST_RUNS = 4
"""Runs below which a leaderboard shows no interval over them: of three, the same one is drawn three times with probability 1/27, more
than the 2.5 % beyond an end, so that the ends of a 95 % interval are the lowest run and the highest."""

Summary = Callable[[F64], float]
"""One number for scores [S, T]."""


def iqm(scores: F64) -> float:
    """Interquartile mean of all `scores` [S, T] together: the mean without the lowest and the highest quarter.

    floor(n / 4) scores are left out at either end, as scipy.stats.trim_mean does.
    """
    ordered = np.sort(_checked(scores), axis=None)
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def mean(scores: F64) -> float:
    """Mean over tasks of the mean over runs."""
    return float(_checked(scores).mean())


def median(scores: F64) -> float:
    """Median over tasks of the mean over runs."""
    return float(np.median(_checked(scores).mean(axis=0)))


def optimality_gap(scores: F64, optimum: float = 1.0) -> float:
    """By how much `scores` [S, T] fail `optimum` on average; what lies above it does not make up for it."""
    return float(optimum - np.minimum(_checked(scores), optimum).mean())


def stratified_interval(
    scores: F64, rng: np.random.Generator, level: float = 0.95, resamples: int = 2000, summary: Summary = iqm
) -> Estimate:
    """`summary` of `scores` [S, T] with its stratified bootstrap interval: runs are drawn anew for each task on its own.

    The percentile interval, without correction: with few runs it is too narrow (rliable's authors saw coverage a little below
    nominal for 5 runs and more for 3). Two runs are the least for which there is one.
    """
    checked(level, resamples)
    scores = _checked(scores)
    runs, tasks = scores.shape
    point = summary(scores)
    if runs < 2:
        return Estimate(point, blocks=runs, block="run", note="one run: no interval")
    drawn = rng.integers(runs, size=(resamples, runs, tasks))
    values = [summary(scores[rows, np.arange(tasks)]) for rows in drawn]
    low, high = np.quantile(values, [0.5 - level / 2, 0.5 + level / 2])
    return Estimate(point, float(low), float(high), runs, "run")


def probability_of_improvement(scores: F64, others: F64) -> float:
    """Probability that a run of `scores` [S, T] beats one of `others` [R, T] on a task drawn at random; ties count half.

    Mann and Whitney's U over S x R for each task, then the mean over tasks.
    """
    scores, others = _checked(scores), _checked(others)
    if scores.shape[1] != others.shape[1]:
        raise ConfigError(f"both need the same tasks, got {scores.shape[1]} and {others.shape[1]}")
    ahead = scores[:, None] > others[None]
    level = scores[:, None] == others[None]
    return float((ahead + 0.5 * level).mean())


def improvement_interval(
    scores: F64, others: F64, rng: np.random.Generator, level: float = 0.95, resamples: int = 2000
) -> Estimate:
    """`probability_of_improvement` with its stratified bootstrap interval: the runs of both are drawn, for each task."""
    checked(level, resamples)
    scores, others = _checked(scores), _checked(others)
    point, tasks = probability_of_improvement(scores, others), np.arange(scores.shape[1])
    runs = min(len(scores), len(others))
    if runs < 2:
        return Estimate(point, blocks=runs, block="run", note="one run: no interval")

    def drawn(table: F64) -> F64:
        return table[rng.integers(len(table), size=table.shape), tasks]

    values = [probability_of_improvement(drawn(scores), drawn(others)) for _ in range(resamples)]
    low, high = np.quantile(values, [0.5 - level / 2, 0.5 + level / 2])
    return Estimate(point, float(low), float(high), runs, "run")


def performance_profile(scores: F64, thresholds: F64) -> F64:
    """Share of all `scores` [S, T] above each of `thresholds` [K], every task counting the same: values [K]."""
    return (_checked(scores)[None] > np.asarray(thresholds)[:, None, None]).mean(axis=(1, 2))


def _checked(scores: F64) -> F64:
    scores = np.asarray(scores, np.float64)
    if scores.ndim == 1:
        scores = scores[:, None]
    if scores.ndim != 2 or not scores.size or not np.isfinite(scores).all():
        raise ConfigError(f"scores must be finite numbers [runs, tasks], not empty, got shape {scores.shape}")
    return scores
