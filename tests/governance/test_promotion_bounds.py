"""The promotion guard at its borders: the smallest samples that it takes, and its formulas by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from emp_gym.evaluation.intervals import FEWEST
from emp_gym.evaluation.overfitting import SharpeSample, backtest_overfitting, expected_maximum, sharpe_sample
from emp_gym.governance.promotion import guard
from emp_gym.governance.promotion.guard import Evidence, Performance, PromotionCriteria
from emp_gym.types import ConfigError


def performance(pnl: np.ndarray, name: str = "candidate") -> Performance:
    number = np.arange(len(pnl))
    return Performance(name, number, number, (number % 2).astype(np.int8), pnl, np.full(len(pnl), 100))


def test_a_gate_asks_for_these_when_it_is_not_told():
    gate = PromotionCriteria("any", sessions=1, decisions=1, regimes=1)
    got = (gate.sessions_per_regime, gate.deflated_sharpe, gate.overfitting, gate.level, gate.forward)
    assert got == (5, 0.95, 0.20, 0.95, True)
    for change in (
        {"level": 0.5},
        {"level": 1.0},
        {"deflated_sharpe": 0.0},
        {"overfitting": 1.0},
        {"sessions_per_regime": 4},
    ):
        with pytest.raises(ConfigError):
            replace(gate, **change)
    assert replace(gate, level=0.51).level == 0.51


def test_luck_and_the_spread_of_trials_by_hand():
    assert guard._luck(10, 5, 0.0) == pytest.approx(expected_maximum(5, 1 / 9))
    assert guard._luck(10, 5, 0.5) == pytest.approx(expected_maximum(5, 0.5))
    table = np.array([[1.0, 4.0, 2.0], [3.0, 5.0, -1.0]])
    ratios = table.mean(axis=0) / table.std(axis=0, ddof=1)
    assert guard._variance_across(table) == pytest.approx(ratios.var(ddof=1))
    assert guard._variance_across(table[:1]) == guard._variance_across(table[:, :1]) == 0.0
    assert guard._variance_across(None) == 0.0


def test_three_sessions_are_the_fewest_of_a_ratio_and_of_a_forecast():
    assert guard._strict_sample(np.array([1.0, 2.0, 3.5])) is not None
    assert guard._strict_sample(np.array([1.0, 2.0])) is None
    light = guard._strict_sample(np.array([1.0, 2.0] * 10))
    assert (light.skew, light.kurtosis) == (0.0, 3.0), "light tails are not counted in its favour"
    best = SharpeSample(50.0, 20, 0.0, 3.0)
    assert guard._sessions_needed(best, 1, 0.0, 0.95) == 3
    worst = replace(sharpe_sample(np.array([1.0, -1.0, 1.5, -1.5])), ratio=-1.0)
    assert guard._sessions_needed(worst, 1, 0.0, 0.95) is None


@pytest.mark.parametrize(("sessions", "blocks"), [(FEWEST, FEWEST // 2 * 2), (13, 12), (40, 16)])
def test_overfitting_is_that_of_as_many_even_blocks_as_there_are_up_to_sixteen(sessions, blocks):
    table = np.random.default_rng(3).normal(size=(sessions, 6))
    evidence = Evidence(performance(table[:, 0]), trials=6, breaches=0, trial_pnl=table)
    (found,) = guard.search_overfits(evidence, guard.GATES["pilot"], np.random.default_rng(0))
    expected = backtest_overfitting(table, blocks=blocks).probability
    assert found.got.startswith(f"{expected:.3f} (6 trials over {sessions} sessions")
    few = replace(evidence, trial_pnl=table[: FEWEST - 1])
    (found,) = guard.search_overfits(few, guard.GATES["pilot"], np.random.default_rng(0))
    assert not found.passed and found.got == f"{FEWEST - 1} sessions of trials, fewer than {FEWEST}"


def test_a_comparison_needs_the_fewest_sessions_and_no_more():
    rng = np.random.default_rng(1)
    for sessions, judged in ((FEWEST - 1, False), (FEWEST, True)):
        ours = rng.normal(10, 1, sessions)
        evidence = Evidence(
            performance(ours), 1, 0, champion=performance(ours - 5 - rng.normal(0, 0.1, sessions), "old")
        )
        assert len(evidence.fitted) == 0
        (found,) = guard.beats_champion(evidence, guard.GATES["pilot"], rng)
        assert found.passed is judged
        assert judged or (found.got, found.remedy) == (f"{sessions} sessions", f"run at least {FEWEST} sessions")
