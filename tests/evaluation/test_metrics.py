"""Intervals cover what they claim, know their blocks, and say when there are too few."""

from __future__ import annotations

import numpy as np
import pytest

from emp_gym.evaluation import intervals
from emp_gym.types import ConfigError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_too_few_windows_of_one_day_give_no_interval() -> None:
    estimate = intervals.bootstrap(np.arange(7.0), np.zeros(7, int), rng())
    assert estimate.low is None and "too few for an interval" in estimate.note and estimate.mean == 3.0


def test_eight_windows_of_one_day_do() -> None:
    estimate = intervals.bootstrap(np.arange(8.0), np.zeros(8, int), rng())
    assert estimate.block == "window" and estimate.low is not None and estimate.low < 3.5 < estimate.high


def test_days_are_the_blocks_when_there_are_several() -> None:
    days = np.repeat(np.arange(8), 50)
    effect = rng().normal(size=8)[days]  # windows of a day are identical: 400 windows hold 8 numbers
    estimate = intervals.bootstrap(effect, days, rng())
    by_window = intervals.bootstrap(effect, np.zeros(400, int), rng())
    assert estimate.blocks == 8 and estimate.block == "date"
    assert estimate.high - estimate.low > 4 * (by_window.high - by_window.low)


@pytest.mark.parametrize("days", [8, 20])
def test_intervals_cover(days: int) -> None:
    draw = rng(1)
    hits, trials = 0, 600
    for _ in range(trials):
        values = draw.normal(size=days)[np.repeat(np.arange(days), 2)] + draw.normal(size=2 * days) * 0.5
        estimate = intervals.bootstrap(values, np.repeat(np.arange(days), 2), draw, resamples=400)
        hits += estimate.low <= 0 <= estimate.high
    assert 0.92 <= hits / trials <= 0.98


def test_students_t() -> None:
    assert intervals.student_t(0.95, 7) == pytest.approx(2.3646, rel=2e-3)
    assert intervals.student_t(0.95, 30) == pytest.approx(2.0423, rel=1e-4)
    assert intervals.student_t(0.90, 4) == pytest.approx(2.1318, rel=1e-3)


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [(0, 1000, 0.0, 1 - 0.05**0.001), (10, 10, 0.05**0.1, 1.0), (5, 100, 0.019906, 0.102253), (1, 1, 0.05, 1.0)],
)
def test_bounds_of_a_probability(hits: int, trials: int, low: float, high: float) -> None:
    assert intervals.binomial_bounds(hits, trials) == pytest.approx((low, high), abs=1e-6)


def test_bounds_of_a_probability_are_beta_quantiles() -> None:
    stats = pytest.importorskip("scipy.stats")
    for hits, trials in ((3, 17), (160, 200), (50, 1000), (999, 1000)):
        judge = stats.beta.ppf(0.05, hits, trials - hits + 1), stats.beta.ppf(0.95, hits + 1, trials - hits)
        assert intervals.binomial_bounds(hits, trials) == pytest.approx(judge, rel=1e-8)


def test_seeds_widen_the_interval() -> None:
    days = np.repeat(np.arange(10), 3)
    noise = rng(2).normal(size=(5, 30)) * 0.1
    luck = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])[:, None]
    calm, lucky = intervals.bootstrap(noise, days, rng()), intervals.bootstrap(noise + luck, days, rng())
    assert calm.mean == pytest.approx(lucky.mean)
    assert lucky.high - lucky.low > 5 * (calm.high - calm.low)


def test_pairing_removes_what_both_share() -> None:
    market = rng(3).normal(size=40) * 100
    days = np.arange(40) // 4
    estimate = intervals.paired(market + np.linspace(0.9, 1.1, 40), market, days, rng())
    assert estimate.mean == pytest.approx(1.0) and estimate.clear


def test_the_same_seed_gives_the_same_interval() -> None:
    values, days = rng(4).normal(size=30), np.arange(30) // 3
    assert intervals.bootstrap(values, days, rng(9)) == intervals.bootstrap(values, days, rng(9))


def test_oracle_share() -> None:
    assert intervals.oracle_share(5.0, 0.0, 10.0) == 0.5
    assert intervals.oracle_share(5.0, 0.0, -1.0) is None


def test_rates_by_hand() -> None:
    episodes = {
        "pnl": np.array([1.0, 3.0]), "filled": np.array([10, 30]), "maker_filled": np.array([10, 10]),
        "orders": np.array([4, 0]), "orders_filled": np.array([1, 0]), "masked": np.array([1, 1]),
        "length": np.array([10, 30]),
    }  # fmt: skip
    found = intervals.rates(episodes)
    assert found["fill_rate"] == 0.25 and found["maker_share"] == 0.5
    assert found["masked_rate"] == 0.05 and found["pnl_per_lot"] == 0.1 and found["pnl"] == 2.0


def test_resampled_means_have_the_interval_of_the_mean() -> None:
    values, days = np.random.default_rng(3).normal(size=60), np.repeat(np.arange(12), 5)
    plain = intervals.bootstrap(values, days, rng(1), resamples=500)
    as_ratio = intervals.resampled(intervals.ratio(values, np.ones(60)), days, rng(1), resamples=500)
    assert (as_ratio.mean, as_ratio.low, as_ratio.high) == pytest.approx((plain.mean, plain.low, plain.high))
    assert (as_ratio.blocks, as_ratio.block) == (12, "date")


def test_statistics_of_weights_are_those_of_repeated_windows() -> None:
    draw = np.random.default_rng(0)
    values, bottom = draw.normal(size=23), draw.uniform(1, 2, 23)
    weights = draw.integers(0, 4, (5, 23)).astype(float)
    for counts in weights:
        own = np.repeat(values, counts.astype(int))
        whole = np.repeat(bottom, counts.astype(int))
        n = len(own)
        tail = np.sort(own)
        full, part = divmod(0.2 * n, 1)
        worst = (tail[: int(full)].sum() + part * tail[int(full)]) / (0.2 * n)
        expected = {
            intervals.ratio(values, bottom): own.sum() / whole.sum(),
            intervals.sharpe(values): own.mean() / own.std(ddof=1),
            intervals.sortino(values): own.mean() / np.sqrt((np.minimum(own, 0) ** 2).mean()),
            intervals.cvar(values, 0.2): worst,
        }
        for statistic, value in expected.items():
            assert statistic(counts[None])[0] == pytest.approx(value)


def test_what_is_not_defined_is_said() -> None:
    flat = intervals.resampled(intervals.sharpe(np.full(20, 3.0)), np.arange(20), rng())
    assert np.isnan(flat.mean) and flat.low is None and flat.note == "not defined here"
    few = intervals.resampled(intervals.cvar(np.arange(5.0)), np.arange(5), rng())
    assert few.mean == 0.0 and few.low is None and "too few" in few.note
    with pytest.raises(ConfigError, match="share"):
        intervals.cvar(np.zeros(3), 0.0)


def test_dates_that_are_all_the_same_give_no_interval_and_one_that_differs_gives_one() -> None:
    days = np.repeat(np.arange(9), 2)
    for values in (np.tile([3.0, -1.0], 9), np.tile([[3.0, -1.0], [7.0, 0.5]], (1, 9))):  # one seed, two seeds
        found = intervals.bootstrap(values, days, np.random.default_rng(0))
        assert (found.mean, found.low, found.high, found.blocks) == (values.mean(), None, None, 9)
        assert found.note == "all blocks are the same: no interval" and not found.clear
        values[..., 0] += 1e-6
        assert intervals.bootstrap(values, days, np.random.default_rng(0)).low is not None
    idle = intervals.bootstrap(np.zeros(18), days, np.random.default_rng(0))
    assert (idle.low, idle.high) == (0.0, 0.0), "nothing was done on any date: that is known"


def test_shares_of_depth_are_of_all_lots_that_were_taken() -> None:
    episodes = {"filled": [[10.0, 30.0]], "maker_filled": [[0.0, 10.0]], "beyond_depth": [[6.0, 0.0]], "retaken": [[0.0, 3.0]]}
    found = intervals.rates({name: np.array(values) for name, values in episodes.items()})
    assert (found["beyond_share"], found["retaken_share"]) == (6 / 30, 3 / 30)
    nothing = intervals.rates({name: np.zeros((1, 2)) for name in episodes})
    assert (nothing["beyond_share"], nothing["retaken_share"]) == (0.0, 0.0)
