"""Scores over seeds and tasks: against scipy and against plain loops that follow rliable line by line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, trim_mean

from emp_gym.evaluation import reliability
from emp_gym.evaluation.reliability import (
    improvement_interval,
    iqm,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    stratified_interval,
)
from emp_gym.types import ConfigError

SHAPES = st.tuples(st.integers(1, 7), st.integers(1, 6), st.integers(0, 999))


def scores(shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(shape[2]).normal(0.6, 0.5, shape[:2]).round(2)


@given(shape=SHAPES)
def test_the_interquartile_mean_is_scipys_trimmed_mean(shape: tuple[int, int, int]) -> None:
    table = scores(shape)
    assert iqm(table) == pytest.approx(trim_mean(table, 0.25, axis=None))


def test_by_hand() -> None:
    table = np.array([[0.0, 2.0], [1.0, 4.0]])
    assert iqm(table) == 1.5 and reliability.mean(table) == 1.75 and reliability.median(table) == 1.75
    assert optimality_gap(table) == pytest.approx(0.25), "what lies above the optimum does not make up"
    assert performance_profile(table, np.array([-1.0, 0.0, 1.0, 4.0])).tolist() == [1.0, 0.75, 0.5, 0.0]
    assert iqm(np.array([0.0, 0.0, 1.0, 100.0])) == 0.5, "one lucky run does not decide"


@given(shape=SHAPES)
def test_probability_of_improvement_is_mann_whitneys_task_by_task(shape: tuple[int, int, int]) -> None:
    first, second = scores(shape), scores((4, shape[1], shape[2] + 1))
    judge = np.mean([mannwhitneyu(first[:, t], second[:, t]).statistic / (4 * shape[0]) for t in range(shape[1])])
    assert probability_of_improvement(first, second) == pytest.approx(judge)
    assert probability_of_improvement(first, first) == pytest.approx(0.5)


def plain_interval(table: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """rliable's stratified bootstrap: for each replicate and each task, as many runs as there are, with replacement."""
    runs, tasks = table.shape
    found = []
    for _ in range(resamples):
        replicate = np.empty_like(table)
        for task in range(tasks):
            for run in range(runs):
                replicate[run, task] = table[rng.integers(runs), task]
        found.append(trim_mean(replicate, 0.25, axis=None))
    return np.quantile(found, [0.025, 0.975])


def test_the_interval_is_that_of_a_plain_stratified_bootstrap() -> None:
    table = scores((5, 4, 3))
    found = stratified_interval(table, np.random.default_rng(0), resamples=4000)
    judge = plain_interval(table, np.random.default_rng(1), 4000)
    assert (found.low, found.high) == pytest.approx(tuple(judge), abs=0.02)
    assert found.mean == iqm(table) and found.blocks == 5 and found.block == "run"


def test_tasks_of_different_difficulty_do_not_widen_the_interval() -> None:
    table = np.arange(6.0) * 100 + np.random.default_rng(0).normal(size=(5, 6))
    found = stratified_interval(table, np.random.default_rng(0), summary=reliability.mean)
    assert found.low is not None and found.high is not None and found.high - found.low < 3


def test_coverage_of_the_interval_is_near_its_level() -> None:
    draw = np.random.default_rng(5)
    hits = 0
    for _ in range(200):
        found = stratified_interval(draw.normal(size=(10, 5)), draw, resamples=200, summary=reliability.mean)
        assert found.low is not None and found.high is not None
        hits += found.low <= 0 <= found.high
    assert 0.86 < hits / 200 <= 0.99


def test_one_run_has_no_interval_and_wrong_scores_are_refused() -> None:
    one = stratified_interval(np.ones((1, 3)), np.random.default_rng(0))
    assert one.low is None and "one run" in one.note and one.mean == 1
    for wrong in (np.zeros((0, 2)), np.array([np.nan]), np.zeros((2, 2, 2))):
        with pytest.raises(ConfigError, match="finite numbers"):
            iqm(wrong)
    with pytest.raises(ConfigError, match="same tasks"):
        probability_of_improvement(np.ones((2, 3)), np.ones((2, 2)))


def test_a_better_agent_improves_surely() -> None:
    base = np.random.default_rng(0).normal(size=(5, 4))
    found = improvement_interval(base + 10, base, np.random.default_rng(1), resamples=200)
    assert found.mean == found.low == found.high == 1.0
    alike = improvement_interval(base, base[::-1], np.random.default_rng(1), resamples=500)
    assert alike.mean == 0.5 and alike.low is not None and alike.low < 0.5 < (alike.high or 0)
