"""Numbers of finished episodes: means with intervals that respect what is not independent. Pure functions of arrays.

Letters: S training seeds, W evaluation windows (episodes); the same windows for every seed and every baseline.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from emp_gym.types import F64, I64, ConfigError

FEWEST = 8
"""Blocks (dates, or windows of one date) below which no interval is given."""
LEVEL, RESAMPLES = 0.95, 1000
"""Below this level, or with fewer resamples, an interval is named as a weak one, and below this level no verdict rests on it."""


@dataclass(frozen=True)
class Estimate:
    """A mean and its interval; `low` and `high` are None where there are too few blocks, and `note` says so."""

    mean: float
    low: float | None = None
    high: float | None = None
    blocks: int = 0
    block: str = "date"  # or "window", of one date: the interval is within that day
    note: str = ""

    @property
    def clear(self) -> bool:
        """Whether the interval exists, holds its mean and excludes 0."""
        return self.low is not None and self.high is not None and self.low <= self.mean <= self.high and (self.low > 0 or self.high < 0)


def checked(level: float, resamples: int) -> None:
    """`ConfigError` where no interval is of this level, or of so few resamples."""
    if not 0 < level < 1:
        raise ConfigError(f"level must be between 0 and 1, the probability that an interval holds, e.g. 0.95; got {level!r}")
    if resamples < 1:
        raise ConfigError(f"resamples must be at least 1, got {resamples!r}")


def codes(names: Sequence[str]) -> I64:
    """A number for each of `names` [W], the same for equal ones, in the order in which they come: which windows are of one date."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], np.int64)


def few(count: int, block: str) -> str:
    """Why so many blocks give no interval."""
    return f"{count} {block}{'' if count == 1 else 's'}: too few for an interval"


def bootstrap(
    values: F64, days: I64, rng: np.random.Generator, *, level: float = 0.95, resamples: int = 2000
) -> Estimate:
    """Mean of `values` [W] or [S, W] with a block bootstrap interval; `days` [W] numbers the date of each window.

    Whole dates are drawn with replacement, all symbols of a date together, since they share its market; where there is one
    date, windows are, and the interval says nothing of other days. With several seeds, seeds are drawn too (crossed: every
    seed saw the same windows). The deviations from the mean are widened by sqrt(n / (n - 1)) t / z over n blocks, because
    the plain percentile interval is too narrow for few blocks (Hesterberg 2015, "What Teachers Should Know About the
    Bootstrap", section 4). Below `FEWEST` blocks there is no interval, nor where all blocks are exactly the same and not zero.
    """
    checked(level, resamples)
    table = np.atleast_2d(np.asarray(values, np.float64))
    names, numbers = np.unique(days, return_inverse=True)
    block = "date" if len(names) > 1 else "window"
    if block == "window":
        numbers = np.arange(table.shape[1])
    count = int(numbers.max()) + 1 if numbers.size else 0
    mean = float(table.mean()) if table.size else float("nan")
    if count < FEWEST:
        return Estimate(mean, blocks=count, block=block, note=few(count, block))
    sizes = np.bincount(numbers, minlength=count)
    sums = np.stack([np.bincount(numbers, row, minlength=count) for row in table])  # [S, blocks]
    if table.any() and np.all(sums / sizes == (sums / sizes)[:, :1]):
        return Estimate(mean, blocks=count, block=block, note="all blocks are the same: no interval")
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=resamples)  # [resamples, blocks]
    weights = np.full((resamples, len(table)), 1 / len(table))
    if len(table) > 1:
        weights = rng.multinomial(len(table), weights[0], size=resamples) / len(table)
    means = np.einsum("rs,sb,rb->r", weights, sums, drawn, optimize=True) / (drawn @ sizes)
    wider = _wider(count, level)
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    return Estimate(mean, mean + (low - mean) * wider, mean + (high - mean) * wider, count, block)


Statistic = Callable[[F64], F64]
"""What a bootstrap asks again and again: gives values [R] for weights [R, W], how often each window counts."""


def resampled(
    statistic: Statistic, days: I64, rng: np.random.Generator, *, level: float = 0.95, resamples: int = 2000
) -> Estimate:
    """`statistic` of all windows (each counted once) with a block bootstrap interval; `days` [W] as in `bootstrap`.

    Whole dates are drawn, single windows where there is one date; widened and refused as there. Draws for which the statistic
    is not defined (NaN) are left out. For means `bootstrap` is the same and faster.
    """
    checked(level, resamples)
    names, numbers = np.unique(days, return_inverse=True)
    block = "date" if len(names) > 1 else "window"
    if block == "window":
        numbers = np.arange(len(days))
    count = int(numbers.max()) + 1 if numbers.size else 0
    point = float(statistic(np.ones((1, len(days))))[0]) if numbers.size else float("nan")
    if count < FEWEST:
        return Estimate(point, blocks=count, block=block, note=few(count, block))
    if not np.isfinite(point):
        return Estimate(point, blocks=count, block=block, note="not defined here")
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    values = statistic(drawn[:, numbers].astype(np.float64))
    low, high = np.nanquantile(values, [0.5 - level / 2, 0.5 + level / 2]).tolist()
    wider = _wider(count, level)
    return Estimate(point, point + (low - point) * wider, point + (high - point) * wider, count, block)


def ratio(top: F64, bottom: F64) -> Statistic:
    """Sum of `top` [W] over sum of `bottom` [W]: a rate over all windows together; NaN where the latter is 0."""

    def statistic(weights: F64) -> F64:
        whole = weights @ bottom
        return np.divide(weights @ top, whole, out=np.full(len(weights), np.nan), where=whole != 0)

    return statistic


def sharpe(values: F64) -> Statistic:
    """Mean over standard deviation (n - 1) of `values` [W], a window each: not annualised; NaN without variation."""
    middle = values.mean() if len(values) else 0.0
    centred = values - middle  # squares of large numbers that hardly differ would leave nothing

    def statistic(weights: F64) -> F64:
        n = weights.sum(axis=1)
        ahead = weights @ centred / n
        square = np.maximum(weights @ centred**2 / n - ahead**2, 0) * n / np.maximum(n - 1, 1)
        varied = square > 1e-24 * (1 + middle**2)
        return np.divide(ahead + middle, np.sqrt(square), out=np.full(len(n), np.nan), where=varied)

    return statistic


def sortino(values: F64) -> Statistic:
    """Mean over the root of the mean squared loss (target 0) of `values` [W]; NaN where nothing was lost."""

    def statistic(weights: F64) -> F64:
        n = weights.sum(axis=1)
        loss = np.sqrt(weights @ np.minimum(values, 0) ** 2 / n)
        return np.divide(weights @ values / n, loss, out=np.full(len(n), np.nan), where=loss > 0)

    return statistic


def cvar(values: F64, share: float = 0.05) -> Statistic:
    """Mean of the worst `share` of `values` [W] (the last window counts in part): expected shortfall as a gain, mostly < 0.

    Acerbi and Tasche (2002), "On the coherence of expected shortfall", definition 2.6 with the sign of a gain.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"share must be in (0, 1], got {share}")
    order = np.argsort(values, kind="stable")
    worst = values[order]

    def statistic(weights: F64) -> F64:
        counted = weights[:, order]
        tail = share * counted.sum(axis=1, keepdims=True)
        before = np.cumsum(counted, axis=1) - counted
        return np.clip(tail - before, 0, counted) @ worst / tail[:, 0]

    return statistic


def _wider(count: int, level: float) -> float:
    """By how much the deviations of a percentile interval over `count` blocks are widened; see `bootstrap`."""
    return math.sqrt(count / (count - 1)) * student_t(level, count - 1) / NormalDist().inv_cdf(0.5 + level / 2)


def student_t(level: float, freedom: int) -> float:
    """Two-sided quantile of Student's t, by the Cornish-Fisher series (Abramowitz and Stegun 26.7.5): within
    0.1 % from 4 degrees up at level 0.90, from 7 up at 0.95."""
    z = NormalDist().inv_cdf(0.5 + level / 2)
    n = freedom
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )


def binomial_bounds(hits: int, trials: int, *, level: float = 0.95) -> tuple[float, float]:
    """Lower and upper bound of a probability of which `hits` of `trials` were seen; each holds with `level` on its own.

    Clopper and Pearson (1934), exact: the probabilities at which as many hits or more, and as few or fewer, have
    probability 1 - level. No hit in n gives an upper bound of about 3 / n.
    """
    if not 0 <= hits <= trials or trials < 1:
        raise ConfigError(f"expected 0 <= hits <= trials and at least one trial, got {hits} of {trials}")
    low = 0.0 if hits == 0 else _solve(lambda p: 1 - _at_most(hits - 1, trials, p), 1 - level)
    high = 1.0 if hits == trials else 1 - _solve(lambda q: _at_most(hits, trials, 1 - q), 1 - level)
    return low, high


def _at_most(hits: int, trials: int, p: float) -> float:
    """P(X <= hits) of a binomial, 0 < p < 1."""
    k = range(hits + 1)
    ways = (math.lgamma(trials + 1) - math.lgamma(i + 1) - math.lgamma(trials - i + 1) for i in k)
    return math.fsum(math.exp(w + i * math.log(p) + (trials - i) * math.log1p(-p)) for i, w in zip(k, ways))


def _solve(rising: Callable[[float], float], value: float) -> float:
    """Where a rising function on (0, 1) reaches `value`, by halving."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < value else (low, middle)
    return (low + high) / 2


def paired(
    values: F64, baseline: F64, days: I64, rng: np.random.Generator, *, level: float = 0.95, resamples: int = 2000
) -> Estimate:
    """Mean of ``values - baseline`` on identical windows, with its interval. `values` [W] or [S, W], `baseline` [W]."""
    return bootstrap(np.atleast_2d(values) - np.asarray(baseline), days, rng, level=level, resamples=resamples)


def oracle_share(value: float, hold: float, oracle: float) -> float | None:
    """Which part of the way from `hold` to `oracle` `value` went; None where the oracle is no better than holding."""
    return (value - hold) / (oracle - hold) if oracle > hold else None


DERIVED = {
    "beyond_share": ("beyond_depth", "taken"),
    "retaken_share": ("retaken", "taken"),
    "fill_rate": ("orders_filled", "orders"),
    "maker_share": ("maker_filled", "filled"),
    "masked_rate": ("masked", "length"),
    "pnl_per_lot": ("pnl", "filled"),
}
"""What `rates` makes of summaries: (part, whole)."""
VALUE, MOVE = "value", "market_move"
"""In the summary of an episode: what is judged instead of "pnl", where the optimum is known; how far the mid moved in a simulated market,
currency a lot."""
OWN = frozenset({VALUE, MOVE, "cut", "retaken", "taken", "ahead", "oracle_share", "pnl_by_window", *DERIVED})
"""Names beside those of an environment's summary that mean something in a report: nobody else's number may have one."""


def rates(episodes: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Per-episode means of the trade's numbers from summaries (arrays of any shape, one entry an episode).

    ``fill_rate`` = orders that got any fill / orders sent; ``maker_share`` = lots filled while resting / lots filled;
    ``masked_rate`` = masked actions / decisions; ``pnl_per_lot`` = currency won per lot traded; ``beyond_share`` and ``retaken_share`` =
    lots taken beyond the file, and more often than it showed them (`evaluation.retaken`) / lots taken.
    """

    def ratio(part: str, whole: str) -> float:
        total = float(np.sum(episodes[whole])) if whole in episodes else 0.0
        return float(np.sum(episodes[part])) / total if total else 0.0

    means = {name: float(np.mean(values)) for name, values in episodes.items() if name not in ("day", "start")}
    if {"filled", "maker_filled"} <= episodes.keys():
        episodes = {**episodes, "taken": np.asarray(episodes["filled"]) - episodes["maker_filled"]}
    return means | {name: ratio(*pair) for name, pair in DERIVED.items() if pair[0] in episodes}
