"""Two agents on identical episodes: by how much, how surely, how often. Pure functions of their values a window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emp_gym.evaluation.intervals import Estimate, bootstrap, paired, resampled
from emp_gym.evaluation.runlog import dates
from emp_gym.extras import need
from emp_gym.types import F64, I64, ConfigError, RunLog


@dataclass(frozen=True)
class Paired:
    """What two agents' values on the same W windows say; positive means that the first is ahead."""

    difference: Estimate  # mean of first - second, block bootstrap over dates
    p_value: float  # Wilcoxon's signed-rank test, two-sided, over blocks; NaN where nothing differs
    improvement: Estimate  # probability that a window of the first beats any one of the second; 0.5 = alike
    wins: Estimate  # probability that it beats the second in the same window; ties count half


def compare(
    first: F64, second: F64, days: I64, rng: np.random.Generator, *, level: float = 0.95, resamples: int = 2000
) -> Paired:
    """`first` against `second` [W], window by window; `days` [W] says which windows belong together.

    The signed-rank test (Wilcoxon 1945) takes the mean difference of each date as one observation, or of each window where
    there is one date: windows of one date share its market. It needs differences that are independent and symmetric, and at
    least 6 of them to reach 0.05. The probability of improvement is Mann and Whitney's, unpaired as in rliable
    (`reliability.probability_of_improvement`): over all pairs of windows, ties half, both sides drawn on their own; `wins`
    is the paired one.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if not (first.shape == second.shape == np.shape(days)) or first.ndim != 1 or not len(first):
        raise ConfigError(f"expected values [W] of the same windows, got {first.shape}, {second.shape}, {np.shape(days)}")
    ahead = np.sign(first[:, None] - second[None]) / 2 + 0.5

    def improvement(weights: F64) -> F64:
        others = np.roll(weights, 1, axis=0)  # another draw
        return ((weights @ ahead) * others).sum(axis=1) / (weights.sum(axis=1) * others.sum(axis=1))

    return Paired(
        paired(first, second, days, rng, level=level, resamples=resamples),
        signed_rank(by_day(first - second, days)),
        resampled(improvement, days, rng, level=level, resamples=resamples),
        bootstrap(np.diag(ahead), days, rng, level=level, resamples=resamples),
    )


def by_day(values: F64, days: I64) -> F64:
    """Mean of `values` [W] of each day; `values` themselves where there is one day."""
    names, codes = np.unique(days, return_inverse=True)
    return values if len(names) < 2 else np.bincount(codes, values) / np.bincount(codes)


def signed_rank(differences: F64) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test that `differences` are symmetric about 0; zeros are left out.

    Exact up to 50 without ties, else by the normal approximation (scipy's rule).
    """
    need("scipy")
    from scipy.stats import wilcoxon  # type: ignore[import-untyped]

    moved = differences[differences != 0]
    return float(wilcoxon(moved).pvalue) if len(moved) else float("nan")


def same_episodes(first: RunLog, second: RunLog) -> I64:
    """A number for the date of each window [W] of two logs; `ConfigError` where they are not of the same episodes."""
    for name in ("env", "windows", "seed", "split", "data_hash"):
        if first.config.get(name) != second.config.get(name):
            raise ConfigError(
                f"the runs differ in {name}: {first.config.get(name)!r:.80} and {second.config.get(name)!r:.80}; a paired "
                "comparison needs identical episodes"
            )
    return dates(first)
