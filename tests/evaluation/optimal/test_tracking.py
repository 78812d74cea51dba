"""The tracking optimum against the closed form, a dense quadratic programme, moments and a plain simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emp_gym.evaluation.optimal import tracking
from emp_gym.evaluation.optimal.tracking import GarleanuPedersen
from emp_gym.types import ConfigError

REFERENCE = dict(cost=2.0, risk_aversion=1.0, discount=0.02, variance=0.04, loading=1.0, reversion=0.1)


def moments(problem: GarleanuPedersen, keep: float, slope: float) -> float:
    """Value of x' = keep x + slope f from the second moments of (x, f)."""
    phi, noise = 1 - problem.reversion, problem.factor_volatility**2
    ff, xf, xx, total = noise / (1 - phi**2), 0.0, 0.0, 0.0
    for step in range(problem.steps):
        held, shared = keep**2 * xx + 2 * keep * slope * xf + slope**2 * ff, keep * xf + slope * ff
        traded = (keep - 1) ** 2 * xx + 2 * (keep - 1) * slope * xf + slope**2 * ff
        gain = problem.loading * shared - problem.risk_aversion / 2 * problem.variance * held
        total += (1 - problem.discount) ** (step + 1) * gain
        total -= (1 - problem.discount) ** step * problem.cost * problem.variance / 2 * traded
        xx, xf, ff = held, phi * shared, phi**2 * ff + noise
    return total


def test_the_infinite_problem_has_the_constants_of_the_reference() -> None:
    problem = GarleanuPedersen(**REFERENCE)
    assert problem.rate() == pytest.approx(0.493259, abs=5e-7)
    assert problem.aim() == pytest.approx(22.755164, abs=5e-7)


def test_the_programme_far_from_its_end_is_the_closed_form() -> None:
    for cost in (0.5, 2.0, 10.0):
        problem = GarleanuPedersen(**(REFERENCE | {"cost": cost}), steps=3000)
        keep, slope = problem.gains()[0]
        assert 1 - keep == pytest.approx(problem.rate(), abs=1e-9)
        assert slope / (1 - keep) == pytest.approx(problem.aim(), abs=1e-6)


def test_the_first_trades_are_those_of_a_dense_quadratic_programme() -> None:
    """Noise of the signal does not change the actions: with f known to decay, maximise over all positions at once."""
    problem = GarleanuPedersen(steps=12)
    for x0, f0 in ((0.0, 0.2), (3.0, -0.1)):
        t = np.arange(12)
        early, late, step_cost = 0.98**t, 0.98 ** (t + 1), problem.cost * problem.variance
        difference = np.eye(12) - np.eye(12, k=-1)
        curve = np.diag(late * problem.variance) + step_cost * difference.T @ np.diag(early) @ difference
        pull = late * f0 * 0.9**t
        pull[0] += step_cost * x0
        path = np.linalg.solve(curve, pull)
        x, f = x0, f0
        for step in range(12):
            x = problem.optimal().policy(np.array([step]), np.array([[x, f]]))[0, 0]
            f *= 0.9
            assert x == pytest.approx(path[step], abs=1e-10)


@given(st.floats(-0.5, 1), st.floats(-5, 10))
@settings(max_examples=12)
def test_linear_policies_are_judged_exactly_and_none_beats_the_optimum(keep: float, slope: float) -> None:
    problem = GarleanuPedersen()
    value = problem.evaluate(problem.linear(keep, slope))
    assert value == pytest.approx(moments(problem, keep, slope), rel=1e-9, abs=1e-9)
    assert value <= problem.optimal().value


def test_the_optimal_policy_has_the_optimal_value() -> None:
    problem = GarleanuPedersen()
    assert problem.evaluate(problem.optimal().policy) == pytest.approx(problem.optimal().value, abs=1e-9)
    assert problem.score(problem.optimal().value) == 1 and problem.score(problem.base()[1]) == 0
    assert problem.base() == ("myopic", pytest.approx(9.985, abs=1e-3))
    assert problem.optimal().value - problem.base()[1] > 0.1 * problem.optimal().value


def test_a_bent_policy_is_judged_as_a_plain_simulation_judges_it() -> None:
    problem, rng, paths = GarleanuPedersen(), np.random.default_rng(2), 40_000

    def bent(step, state):
        return 5 * np.tanh(0.15 * state[:, :1] + 6 * state[:, 1:] + 0.02 * step[:, None])

    x, f, total = np.zeros(paths), rng.normal(size=paths) * problem.signal_deviation, np.zeros(paths)
    for step in range(problem.steps):
        new = bent(np.full(paths, step), np.stack((x, f), axis=1))[:, 0]
        total += 0.98 ** (step + 1) * (new * (f + 0.2 * rng.normal(size=paths)) - 0.02 * new**2)
        total -= 0.98**step * 0.2 * (new - x) ** 2
        x, f = new, 0.9 * f + problem.factor_volatility * rng.normal(size=paths)
    assert abs(problem.evaluate(bent) - total.mean()) < 4 * total.std() / math.sqrt(paths)
    assert problem.evaluate(bent) == pytest.approx(problem.evaluate(bent, points=161), abs=1e-3)


def test_the_position_limit_costs_next_to_nothing() -> None:
    problem = GarleanuPedersen()
    assert problem.position_limit > 4 * problem.position_deviation()
    assert 0 <= problem.limit_cost() < 2e-5 * problem.optimal().value
    tight = GarleanuPedersen(position_limit=2 * problem.position_deviation())
    assert tight.limit_cost() > 1e-3 * problem.optimal().value


def test_the_position_has_the_stationary_deviation_of_a_long_path() -> None:
    problem, rng = GarleanuPedersen(), np.random.default_rng(0)
    keep, slope = 1 - problem.rate(), problem.rate() * problem.aim()
    x, f = np.zeros(20_000), np.zeros(20_000)
    for _ in range(200):
        x = keep * x + slope * f
        f = 0.9 * f + problem.factor_volatility * rng.normal(size=len(f))
    assert (keep * x + slope * f).std() == pytest.approx(problem.position_deviation(), rel=0.03)


def test_kelly_has_the_constants_of_the_reference() -> None:
    best = tracking.kelly_fraction(0.6, 1.0)
    growth = tracking.kelly_growth(best, 0.6, 1.0)
    assert best == pytest.approx(0.2) and growth == pytest.approx(0.020136, abs=5e-7)
    assert tracking.kelly_growth(best / 2, 0.6, 1.0) / growth == pytest.approx(0.747, abs=5e-4)
    assert tracking.kelly_growth(2 * best, 0.6, 1.0) == pytest.approx(-0.0024, abs=5e-5)
    assert tracking.kelly_continuous(0.08, 0.02, 0.04) == pytest.approx(1.5)
    grid = np.linspace(0, 0.9, 901)
    assert grid[np.argmax([tracking.kelly_growth(x, 0.55, 2.0) for x in grid])] == pytest.approx(
        tracking.kelly_fraction(0.55, 2.0), abs=1e-3
    )


@pytest.mark.parametrize("wrong", [{"discount": 1.0}, {"reversion": 0.0}, {"variance": 0.0}, {"steps": -1}])
def test_impossible_parameters_are_refused_by_name(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        GarleanuPedersen(**wrong)
