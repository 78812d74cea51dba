"""What is left of a result once the search behind it is counted. Pure functions of arrays, numpy and the standard library.

Letters: T periods (sessions, say; a Sharpe ratio here is *per period*, never annualised), N strategies tried, S blocks,
B bootstrap resamples, C ways to choose half of the blocks.

None of these can see a look-ahead: an oracle passes them all. `docs/lookahead.md` comes first; `docs/overfitting.md`
says what each figure means and does not mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, islice
from statistics import NormalDist

import numpy as np

from emp_gym.types import F64, I64, ConfigError, DataError

NORMAL = NormalDist()
EULER = 0.5772156649015329  # Euler-Mascheroni
CHUNK = 1 << 15  # numbers held at once while blocks are combined: small enough for a cache


@dataclass(frozen=True)
class SharpeSample:
    """A Sharpe ratio per period and what its standard error needs."""

    ratio: float  # mean / standard deviation, per period
    observations: int  # T
    skew: float = 0.0
    kurtosis: float = 3.0  # raw: 3 for a normal, not "excess"

    def __post_init__(self) -> None:
        if self.observations < 2:
            raise ConfigError(f"a Sharpe ratio needs at least 2 observations, got {self.observations}")
        if not self.kurtosis >= 1 + self.skew**2 - 1e-9:
            raise ConfigError(
                f"raw kurtosis must be at least 1 + skew² = {1 + self.skew**2:.4g} (3 for a normal), got "
                f"{self.kurtosis:.4g}; add 3 to an excess kurtosis"
            )

    @property
    def spread(self) -> float:
        """Asymptotic standard deviation of the ratio times sqrt(T - 1), Mertens (2002): 1 at ratio 0."""
        return math.sqrt(max(0.0, 1 - self.skew * self.ratio + (self.kurtosis - 1) / 4 * self.ratio**2))


def sharpe_sample(returns: F64) -> SharpeSample:
    """Sharpe ratio and moments of `returns` [T], any unit; the deviation has T - 1 in its denominator.

    All zeros give ratio 0. Raises `DataError` on values that do not vary otherwise, or are not finite.
    """
    x = _table(returns, "returns", dimensions=1)
    if len(x) < 2:
        raise DataError(f"a Sharpe ratio needs at least 2 periods, got {len(x)}")
    if not x.any():
        return SharpeSample(0.0, len(x))
    centred = x - x.mean()
    variance = float(np.mean(centred**2))
    if variance <= (1e-12 * float(np.abs(x).max())) ** 2:
        raise DataError(f"{len(x)} returns are all {x[0]:.6g}: a Sharpe ratio needs some that differ")
    skew = float(np.mean(centred**3)) / variance**1.5
    kurtosis = float(np.mean(centred**4)) / variance**2
    return SharpeSample(float(x.mean() / x.std(ddof=1)), len(x), skew, max(kurtosis, 1 + skew**2))


def probabilistic_sharpe(sample: SharpeSample, benchmark: float = 0.0) -> float:
    """Probability that the true ratio per period is above `benchmark`, for one strategy that nobody selected.

    Bailey and López de Prado, "The Sharpe Ratio Efficient Frontier" (J. of Risk 2012), section 3:
    Φ((SR - SR*) sqrt(T - 1) / sqrt(1 - γ₃ SR + (γ₄ - 1) SR² / 4)). Assumes periods that do not depend on each other.
    """
    return NORMAL.cdf(_ratio((sample.ratio - benchmark) * math.sqrt(sample.observations - 1), sample.spread))


def minimum_track_record(sample: SharpeSample, benchmark: float = 0.0, *, level: float = 0.95) -> float:
    """Periods after which `probabilistic_sharpe` reaches `level` if the ratio stays as it is; inf if it is no better
    than `benchmark`.

    The same paper, on track record length: 1 + (1 - γ₃ SR + (γ₄ - 1) SR² / 4) (z / (SR - SR*))². `sample.observations` is not used.
    """
    _share(level, "level")
    if sample.ratio <= benchmark:
        return math.inf
    return 1 + (sample.spread * NORMAL.inv_cdf(level) / (sample.ratio - benchmark)) ** 2


def expected_maximum(trials: int, variance: float) -> float:
    """Sharpe ratio that the best of `trials` strategies without skill is expected to show; 0 for one trial.

    Bailey and López de Prado, "The Deflated Sharpe Ratio" (J. of Portfolio Management 2014), SR₀:
    sqrt(V) ((1 - γ) Φ⁻¹(1 - 1/N) + γ Φ⁻¹(1 - 1/(N e))). `variance` is that of the ratios across trials, per period.
    The formula is a limit: against the exact mean it is 8 % low at N = 2, 1 % high at 3, 3 % at 5, 1 % at 100.
    """
    if trials < 1:
        raise ConfigError(f"trials must be at least 1 (the strategy itself), got {trials}")
    if not (variance >= 0 and math.isfinite(variance)):
        raise ConfigError(f"variance across trials must be finite and at least 0, got {variance}")
    if trials == 1:
        return 0.0
    typical = (1 - EULER) * NORMAL.inv_cdf(1 - 1 / trials) + EULER * NORMAL.inv_cdf(1 - 1 / (trials * math.e))
    return math.sqrt(variance) * typical


def deflated_sharpe(sample: SharpeSample, *, trials: int, variance: float) -> float:
    """Probability that the true ratio is above what the best of `trials` lucky ones would show: the probabilistic
    Sharpe ratio against `expected_maximum`.

    The same paper's DSR. `trials` counts everything that was tried; independent trials are assumed, so clones make it
    stricter than need be. `variance`: see `expected_maximum`; a record padded with strategies that do nothing makes it
    too small, for which the caller must set a floor (1 / (T - 1) is what luck alone gives).
    """
    return probabilistic_sharpe(sample, expected_maximum(trials, variance))


def effective_trials(returns: F64) -> float:
    """Number of independent trials that `returns` [T, N] amount to, from 1 (clones) to N: ρ + (1 - ρ) N.

    ρ is the mean correlation of pairs, held to [0, 1] (the same paper, appendix on the number of trials). A figure to report beside
    the recorded number, not instead of it: it trusts that strategies are alike where they were alike in T periods.
    Strategies that never vary are left out.
    """
    table = _table(returns, "returns")
    moving = table[:, table.std(axis=0) > 0]
    count = moving.shape[1]
    if count < 2:
        return float(max(count, 1))
    correlation = np.corrcoef(moving, rowvar=False)
    mean = (correlation.sum() - count) / (count * (count - 1))
    mean = float(np.clip(mean, 0.0, 1.0))
    return mean + (1 - mean) * count


ONE = 1.5
"""Effective trials below which a search has one strategy: it rounds to 1."""


def one_strategy(returns: F64) -> bool:
    """Whether the trials of `returns` [T, N] are one strategy tried again (seeds of one recipe, say): all of them trade, and
    `effective_trials` is below `ONE`.

    Then there is no probability of backtest overfitting. Ranks among trials that move together are a toss of the noise between
    them, so PBO is about 0.5 (1 for exact copies, which tie) whether or not they have skill; and no selection took place that could
    have been lucky: the best of N trials that amount to 1.5 shows at most 0.43 standard errors more than one. That luck is
    smaller than what `deflated_sharpe` takes off for N trials. A trial that did nothing is another strategy, not a copy.
    """
    table = _table(returns, "returns")
    return table.shape[1] > 1 and bool((table.std(axis=0) > 0).all()) and effective_trials(table) < ONE


Score = Callable[[F64, F64], F64]
"""Performance from mean and standard deviation per period, arrays of one shape: what the search maximised."""


def sharpe_score(mean: F64, deviation: F64) -> F64:
    """Sharpe ratio per period; 0 for a strategy that did nothing, ±inf for a certain gain or loss."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((mean == 0) & (deviation == 0), 0.0, mean / deviation)


def mean_score(mean: F64, deviation: F64) -> F64:
    """Mean per period."""
    return mean


@dataclass(frozen=True)
class Overfitting:
    """What combinatorially symmetric cross-validation says about a search. Arrays have one entry a choice, C of them."""

    probability: float  # of backtest overfitting (PBO): the winner in sample is in the lower half out of sample
    loss: float  # how often the winner in sample scores below 0 out of sample
    logits: F64  # [C] ln(ω / (1 - ω)), ω = relative rank out of sample of the winner in sample
    in_sample: F64  # [C] score of the winner
    out_of_sample: F64  # [C] score of the same strategy on the other half


def backtest_overfitting(returns: F64, *, blocks: int = 16, score: Score = sharpe_score) -> Overfitting:
    """Probability that picking the best of N strategies in one half of `returns` [T, N] gives less than the median in
    the other, over all C(S, S/2) halves.

    Bailey, Borwein, López de Prado and Zhu, "The Probability of Backtest Overfitting" (J. of Computational Finance
    2017), section 2.2; PBO = share of logits at most 0. About 0.5 when nothing has skill, near 0 when the winner does.
    `blocks` S is even; blocks are stretches of T / S periods (lengths differ by at most one; no period is dropped).
    Ties take mid ranks. Sums per block are made once, so a choice costs S additions a strategy instead of T.
    """
    table = _table(returns, "returns")
    periods, strategies = table.shape
    if strategies < 2:
        raise ConfigError(f"nothing was selected: expected at least 2 strategies in returns [T, N], got {strategies}")
    if blocks < 2 or blocks % 2 or blocks > periods:
        raise ConfigError(f"blocks must be even, from 2 to the number of periods ({periods}), got {blocks}")
    sums = _block_sums(table, blocks)
    halves = [_winners(sums, chosen, score) for chosen in _choices(blocks, max(1, CHUNK // strategies))]
    rank, inside, outside = np.concatenate(halves, axis=1)
    share = rank / (strategies + 1)
    logits = np.log(share / (1 - share))
    return Overfitting(float(np.mean(logits <= 0)), float(np.mean(outside < 0)), logits, inside, outside)


@dataclass(frozen=True)
class _Sums:
    """Sums by block, of deviations from each strategy's own mean: squares of large means would eat the digits."""

    count: F64  # [S]
    total: F64  # [S, N]
    squares: F64  # [S, N]
    mean: F64  # [N]


def _block_sums(table: F64, blocks: int) -> _Sums:
    mean = table.mean(axis=0)
    centred = table - mean
    size = np.abs(table).max(axis=0)
    centred[:, np.abs(centred).max(axis=0) <= 1e-12 * size] = 0.0  # constant but for rounding
    edges = np.linspace(0, len(table), blocks + 1).astype(np.int64)
    total = np.add.reduceat(centred, edges[:-1], axis=0)
    squares = np.add.reduceat(centred**2, edges[:-1], axis=0)
    return _Sums(np.diff(edges).astype(np.float64), total, squares, mean)


def _choices(blocks: int, size: int) -> Iterator[F64]:
    """All choices of half of the blocks with block 0 among them, as 0-1 rows, `size` at a time; the others are their
    complements."""
    rest = combinations(range(1, blocks), blocks // 2 - 1)
    while batch := list(islice(rest, size)):
        chosen = np.zeros((len(batch), blocks))
        chosen[:, 0] = 1.0
        np.put_along_axis(chosen, np.array(batch, np.int64).reshape(len(batch), -1), 1.0, axis=1)
        yield chosen


def _winners(sums: _Sums, chosen: F64, score: Score) -> F64:
    """Mid rank (1 = worst) out of sample, score in sample and score out of sample of the winner in sample, [3, 2 C']:
    `chosen` [C', S] as the sample, then its complement."""
    one, other = _scores(sums, chosen, score), _scores(sums, 1 - chosen, score)
    parts = []
    for inside, outside in ((one, other), (other, one)):
        best = inside.argmax(axis=1)[:, None]
        there = np.take_along_axis(outside, best, axis=1)
        below, equal = (outside < there).sum(axis=1), (outside == there).sum(axis=1)
        parts.append((below + (equal + 1) / 2, np.take_along_axis(inside, best, axis=1)[:, 0], there[:, 0]))
    return np.concatenate([np.stack(part) for part in parts], axis=1)


def _scores(sums: _Sums, chosen: F64, score: Score) -> F64:
    """Score of every strategy on every choice, [C', N]."""
    count = (chosen @ sums.count)[:, None]
    total = chosen @ sums.total
    variance = (chosen @ sums.squares - total**2 / count) / np.maximum(count - 1, 1)
    return score(total / count + sums.mean, np.sqrt(np.maximum(variance, 0.0)))


@dataclass(frozen=True)
class PValues:
    """P-values of "no strategy is better than the benchmark" under three readings of how bad the bad ones are."""

    lower: float  # whoever did worse is as bad as seen: too liberal
    consistent: float  # whoever did clearly worse is left out: the one to quote
    upper: float  # all are exactly as good as the benchmark: too strict when many poor ones were tried


def superior_ability(
    differences: F64, rng: np.random.Generator, *, block: float | None = None, resamples: int = 2000
) -> PValues:
    """P-values of Hansen's test that the best of N strategies beats the benchmark by luck alone.

    `differences` [T, N] = P&L of the strategy - P&L of the benchmark, any unit. Hansen, "A Test for Superior Predictive
    Ability" (J. of Business and Economic Statistics 2005): statistic max(0, max_k sqrt(T) d̄_k / ω_k) with
    ω_k of the stationary bootstrap, fixed over resamples. `block` is the expected block length, sqrt(T) by default. A
    p-value of 0 means less than 1 / `resamples`. (`arch.bootstrap.SPA` 8.0 does not divide by ω_k; White's test is equal.)
    """
    table, length = _differences(differences, block)
    drawn = stationary_bootstrap(len(table), length, resamples, rng)
    return _snooping(table, drawn, length, studentise=True)


def reality_check(
    differences: F64, rng: np.random.Generator, *, block: float | None = None, resamples: int = 2000
) -> float:
    """P-value of White's test that the best of N strategies beats the benchmark by luck alone.

    White, "A Reality Check for Data Snooping" (Econometrica 2000): statistic max_k sqrt(T) d̄_k, not
    studentised. Arguments as in `superior_ability`, which has more power when poor or noisy strategies were tried.
    """
    table, length = _differences(differences, block)
    drawn = stationary_bootstrap(len(table), length, resamples, rng)
    return _snooping(table, drawn, length, studentise=False).upper


def stationary_bootstrap(periods: int, block: float, resamples: int, rng: np.random.Generator) -> I64:
    """Row numbers [B, T] of resamples made of stretches with geometric lengths of mean `block`, wrapped at the end.

    Politis and Romano, "The Stationary Bootstrap" (JASA 1994).
    """
    if not 1 <= block <= periods:
        raise ConfigError(f"block must be from 1 to the number of periods ({periods}), got {block}")
    if resamples < 1:
        raise ConfigError(f"resamples must be at least 1, got {resamples}")
    fresh = rng.random((resamples, periods)) < 1 / block
    start = rng.integers(periods, size=(resamples, periods))
    place = np.arange(periods)
    begun = np.maximum.accumulate(np.where(fresh, place, 0), axis=1)
    return (np.take_along_axis(start, begun, axis=1) + place - begun) % periods


def _differences(differences: F64, block: float | None) -> tuple[F64, float]:
    table = _table(differences, "differences")
    if len(table) < 4:
        raise DataError(f"expected at least 4 periods, got {len(table)}")
    idle = table.std(axis=0) <= 1e-12 * np.abs(table).max(axis=0)
    if (idle & table.any(axis=0)).any():
        column = int(np.flatnonzero(idle & table.any(axis=0))[0])
        raise DataError(f"differences[:, {column}] are all {table[0, column]:.6g}: a bootstrap needs some that differ")
    return table, math.sqrt(len(table)) if block is None else float(block)


def _snooping(table: F64, drawn: I64, block: float, *, studentise: bool) -> PValues:
    """P-values from resamples given by their row numbers [B, T]."""
    periods = len(table)
    mean, error = table.mean(axis=0), long_run_deviation(table, block) / math.sqrt(periods)
    scale = np.where(error > 0, error, np.inf) if studentise else np.ones(table.shape[1])
    best = float((mean / scale).max())
    flat = drawn + periods * np.arange(len(drawn))[:, None]
    counts = np.bincount(flat.ravel(), minlength=drawn.size).reshape(drawn.shape)
    means = counts @ table / periods  # [B, N]
    credible = mean >= -error * math.sqrt(2 * math.log(math.log(periods)))  # Hansen's bar

    def p_value(centre: F64) -> float:
        lucky = ((means - centre) / scale).max(axis=1)
        return float(np.mean((np.maximum(lucky, 0.0) if studentise else lucky) >= best))

    return PValues(p_value(np.maximum(mean, 0.0)), p_value(np.where(credible, mean, 0.0)), p_value(mean))


def long_run_deviation(table: F64, block: float) -> F64:
    """Standard deviation [N] of sqrt(T) times the mean of `table` [T, N] under the stationary bootstrap, exactly.

    Politis and Romano (1994), lemma 1: autocovariances weighted by (1 - i/T)(1 - q)^i + (i/T)(1 - q)^(T - i), q = 1/block.
    """
    periods = len(table)
    spectrum = np.fft.rfft(table - table.mean(axis=0), 2 * periods, axis=0)
    covariance = np.fft.irfft(np.abs(spectrum) ** 2, 2 * periods, axis=0)[:periods] / periods
    lag = np.arange(periods)
    keep = 1 - 1 / block
    weight = (1 - lag / periods) * keep**lag + lag / periods * keep ** (periods - lag)
    variance = covariance[0] + 2 * weight[1:] @ covariance[1:]
    return np.sqrt(np.where(table.any(axis=0), np.maximum(variance, 0.0), 0.0))


def _table(values: F64, name: str, *, dimensions: int = 2) -> F64:
    """`values` as finite float64 of the right rank."""
    table = np.asarray(values, np.float64)
    if table.ndim != dimensions or not table.size:
        raise DataError(f"{name} must be {'[T, N]' if dimensions == 2 else '[T]'} and not empty, got {table.shape}")
    if not np.isfinite(table).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(table))[0])
        raise DataError(
            f"{name}{list(place)} is {table[place]}: expected finite numbers; leave the period out or say 0"
        )
    return table


def _share(value: float, name: str) -> None:
    if not 0 < value < 1:
        raise ConfigError(f"{name} must be between 0 and 1, got {value}")


def _ratio(part: float, whole: float) -> float:
    """part / whole, with 0 / 0 = 0 and x / 0 = ±inf."""
    return part / whole if whole else math.copysign(math.inf, part) if part else 0.0
