"""Paired comparison: against scipy, against enumeration, and with effects that were planted."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from emp_gym.evaluation.comparison import by_day, compare, same_episodes, signed_rank
from emp_gym.types import ConfigError, RunLog


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_signed_rank_is_what_all_sign_changes_say() -> None:
    values = np.array([0.3, -1.1, 2.0, 2.4, 0.9, 3.1, -0.2])
    ranks = np.argsort(np.argsort(abs(values))) + 1
    seen = ranks[values > 0].sum()
    sums = np.array([ranks[np.array(signs)].sum() for signs in product([False, True], repeat=7)])
    expected = min(1.0, 2 * min((sums >= seen).mean(), (sums <= seen).mean()))
    assert signed_rank(values) == pytest.approx(expected)
    assert np.isnan(signed_rank(np.zeros(5))) and signed_rank(np.append(values, 0.0)) == signed_rank(values)


def test_improvement_is_mann_whitneys() -> None:
    first, second = rng(1).normal(size=30).round(1), rng(2).normal(0.3, 1, 30).round(1)
    found = compare(first, second, np.arange(30) // 3, rng())
    assert found.improvement.mean == pytest.approx(mannwhitneyu(first, second).statistic / 900)
    assert found.improvement.low is not None and found.improvement.low < found.improvement.mean
    assert found.difference.mean == pytest.approx((first - second).mean())


def test_a_small_edge_on_a_wild_market_is_seen_in_pairs_and_not_without() -> None:
    market = rng(3).normal(0, 100, 40)
    found = compare(market + 1 + rng(4).normal(0, 1, 40), market, np.arange(40), rng())
    assert found.p_value < 1e-4 and found.difference.clear and found.wins.mean > 0.7 and (found.wins.low or 0) > 0.5
    assert not found.improvement.low or found.improvement.low < 0.45
    assert abs(found.improvement.mean - 0.5) < 0.1


def test_windows_of_one_day_are_one_observation() -> None:
    days = np.repeat(np.arange(5), 20)
    edge = np.repeat([1.0, 1.2, 0.8, 1.1, 0.9], 20)
    assert compare(edge, 0 * edge, days, rng()).p_value == pytest.approx(2 / 2**5), "five days, all alike: no more than that"
    assert by_day(edge, days).tolist() == pytest.approx([1.0, 1.2, 0.8, 1.1, 0.9])
    assert compare(edge, 0 * edge, np.zeros(100), rng()).p_value < 1e-6


def test_without_a_difference_nothing_is_found_more_often_than_it_should() -> None:
    found = [compare(*rng(seed).normal(size=(2, 24)), np.arange(24), rng(), resamples=50).p_value for seed in range(400)]
    assert 0.02 < np.mean(np.array(found) < 0.05) < 0.085


def test_only_identical_episodes_are_paired() -> None:
    config = {"env": "e", "windows": [[3, 0], [4, 7]], "seed": 0, "split": "test", "data_hash": "a"}
    assert same_episodes(RunLog(config), RunLog(dict(config))).tolist() == [3, 4]
    with pytest.raises(ConfigError, match="differ in windows"):
        same_episodes(RunLog(config), RunLog(config | {"windows": [[3, 0], [4, 8]]}))
    with pytest.raises(ConfigError, match="same windows"):
        compare(np.zeros(3), np.zeros(4), np.zeros(3), rng())
