"""The cheapest schedule against the papers' figures, a quadratic programme, a grid and a plain simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emp_gym.evaluation.optimal.liquidation import AlmgrenChriss, ObizhaevaWang
from emp_gym.types import ConfigError


def schedule(problem, policy) -> np.ndarray:
    """Shares sold at each step when `policy` is followed from the start, worked out again."""
    left, displacement, sold = problem.shares, 0.0, []
    for step in range(problem.decisions):
        state = [left / problem.shares] + ([displacement] if isinstance(problem, ObizhaevaWang) else [])
        fraction = 1.0 if step == problem.decisions - 1 else policy(np.array([step]), np.array([state]))[0, 0]
        n = left * fraction
        if isinstance(problem, ObizhaevaWang):
            displacement = math.exp(-problem.resilience * problem.horizon / problem.intervals) * (
                displacement + n / problem.depth
            )
        left -= n
        sold.append(n)
    return np.array(sold)


def fractions(values: np.ndarray):
    return lambda step, state: values[step][:, None] * np.ones((len(state), 1))


# --- Almgren and Chriss --------------------------------------------------------------------------------------------

PRINTED = [  # risk aversion, kappa, holdings in thousands, E, sqrt V, U
    (1e-6, 0.6071, [542.0, 289.9, 147.9, 62.1, 0], 911_227, 603_431, 1_275_356),
    (2e-6, 0.8463, [428.6, 182.9, 76.3, 27.6, 0], 1_140_715, 449_368, 1_544_578),
]


@pytest.mark.parametrize(("aversion", "kappa", "holdings", "cost", "deviation", "total"), PRINTED)
def test_almgren_and_chriss_have_the_figures_of_the_reference(
    aversion, kappa, holdings, cost, deviation, total
) -> None:
    problem = AlmgrenChriss(risk_aversion=aversion)
    held = problem.closed_form_holdings()
    assert problem.urgency() == pytest.approx(kappa, abs=5e-5)
    np.testing.assert_allclose(held[1:] / 1000, holdings, atol=0.051)
    assert problem.expected_cost(held) == pytest.approx(cost, abs=0.6)
    assert math.sqrt(problem.variance(held)) == pytest.approx(deviation, abs=0.6)
    assert problem.total_cost(held) == pytest.approx(total, abs=0.6)
    assert -problem.optimal().value == pytest.approx(problem.basis_points(problem.total_cost(held)), rel=1e-12)


@pytest.mark.parametrize(("aversion", "twap", "name"), [(1e-6, 1_745_500, "twap"), (2e-6, 2_828_500, "immediate")])
def test_the_simple_schedules_cost_what_the_reference_says(aversion: float, twap: float, name: str) -> None:
    problem = AlmgrenChriss(risk_aversion=aversion)
    naive = {
        key: -problem.evaluate(policy) * problem.shares * problem.price / 1e4 for key, policy in problem.naive().items()
    }
    assert naive == pytest.approx({"twap": twap, "immediate": 2_562_500})
    assert problem.base()[0] == name
    even = problem.shares * (1 - np.arange(6) / 5)
    assert problem.expected_cost(even) == pytest.approx(662_500)


positive = st.floats(0.1, 10)


@given(st.integers(1, 12), positive, positive, st.floats(0, 1.8), positive, positive)
def test_the_programme_equals_the_closed_form(steps, horizon, volatility, permanent, temporary, aversion) -> None:
    tau = horizon / steps
    problem = AlmgrenChriss(
        shares=1.0, price=1.0, steps=steps, horizon=horizon, volatility=volatility, half_spread=0.3,
        permanent=permanent * temporary / tau, temporary=temporary, risk_aversion=aversion,
    )  # fmt: skip
    held = problem.closed_form_holdings()
    np.testing.assert_allclose(schedule(problem, problem.optimal().policy), -np.diff(held), atol=1e-9)
    assert -problem.optimal().value == pytest.approx(1e4 * problem.total_cost(held), rel=1e-9)


@given(st.lists(st.floats(0, 1), min_size=5, max_size=5))
def test_permanent_impact_step_by_step_is_the_papers_expected_cost(values: list[float]) -> None:
    problem = AlmgrenChriss()
    policy = fractions(np.array(values))
    held = problem.shares - np.concatenate(([0.0], np.cumsum(schedule(problem, policy))))
    held[-1] = 0.0
    assert -problem.evaluate(policy) == pytest.approx(problem.basis_points(problem.total_cost(held)), rel=1e-9)
    assert problem.evaluate(policy) <= problem.optimal().value + 1e-9


def test_a_simulation_with_noise_costs_what_the_value_says() -> None:
    problem, rng, paths = AlmgrenChriss(), np.random.default_rng(5), 40_000
    sold = schedule(problem, problem.optimal().policy)
    left, total = problem.shares, np.zeros(paths)
    for n in sold:
        left -= n
        drift = -0.95 * rng.normal(size=paths) + 2.5e-7 * n  # of the price, at once and for good
        total += drift * left + n * (0.0625 + 2.5e-6 * n) + 1e-6 * 0.95**2 * left**2
    reward = -total / 5e7 * 1e4
    assert abs(reward.mean() - problem.optimal().value) < 4 * reward.std() / math.sqrt(paths)


def test_without_risk_aversion_equal_slices_are_best() -> None:
    problem = AlmgrenChriss(risk_aversion=0.0)
    np.testing.assert_allclose(schedule(problem, problem.optimal().policy), 2e5)
    np.testing.assert_allclose(-np.diff(problem.closed_form_holdings()), 2e5)


def test_impact_that_would_pay_for_trading_is_refused() -> None:
    with pytest.raises(ConfigError, match="temporary must be above permanent"):
        AlmgrenChriss(permanent=5e-6)


# --- Obizhaeva and Wang --------------------------------------------------------------------------------------------


def test_obizhaeva_and_wang_have_the_figures_of_the_reference() -> None:
    problem = ObizhaevaWang()
    trades = problem.closed_form_trades()
    assert trades[0] == trades[-1] == pytest.approx(26_318, abs=0.5)
    np.testing.assert_allclose(trades[1:-1], 5_262.7, atol=0.05)
    money = {name: -problem.evaluate(policy) * 1e3 for name, policy in problem.naive().items()}
    assert problem.cost(trades) == pytest.approx(473_732, abs=0.5)
    assert money == pytest.approx({"equal slices": 516_053, "block": 1_000_000}, abs=0.5)
    assert -problem.optimal().value * 1e3 == pytest.approx(problem.cost(trades), rel=1e-12)
    np.testing.assert_allclose(schedule(problem, problem.optimal().policy), trades, rtol=1e-9)


@given(st.integers(1, 15), st.floats(0.05, 20), positive)
def test_the_programme_equals_the_quadratic_programme(intervals: int, resilience: float, depth: float) -> None:
    problem = ObizhaevaWang(shares=1.0, price=1.0, intervals=intervals, depth=depth, resilience=resilience)
    a, n = math.exp(-resilience / intervals), intervals + 1
    decay = a ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    kkt = np.block([[decay / depth, -np.ones((n, 1))], [np.ones((1, n)), np.zeros((1, 1))]])
    best = np.linalg.solve(kkt, np.append(np.zeros(n), 1.0))[:n]
    np.testing.assert_allclose(schedule(problem, problem.optimal().policy), best, atol=1e-8)
    assert -problem.optimal().value / 1e4 == pytest.approx(best @ decay @ best / (2 * depth), rel=1e-9)


@given(st.lists(st.floats(0, 1), min_size=11, max_size=11))
def test_no_schedule_is_cheaper(values: list[float]) -> None:
    problem = ObizhaevaWang()
    policy = fractions(np.array(values))
    assert problem.evaluate(policy) <= problem.optimal().value + 1e-9
    assert -problem.evaluate(policy) == pytest.approx(problem.basis_points(problem.cost(schedule(problem, policy))))


def test_three_trades_on_a_grid() -> None:
    problem = ObizhaevaWang(shares=1.0, price=1.0, intervals=2, depth=3.0, resilience=1.0)
    a, grid = math.exp(-0.5), np.linspace(0, 1, 401)
    first, second = np.meshgrid(grid, grid)
    last = 1 - first - second
    d1 = a * first / 3
    d2 = a * (d1 + second / 3)
    cost = first**2 / 6 + second * d1 + second**2 / 6 + last * d2 + last**2 / 6
    best = cost[last >= 0].min() * 1e4
    assert best >= -problem.optimal().value
    assert best == pytest.approx(-problem.optimal().value, rel=1e-5)


@pytest.mark.parametrize("problem", [AlmgrenChriss(), AlmgrenChriss(risk_aversion=2e-6), ObizhaevaWang()], ids=str)
def test_the_optimal_policy_has_the_optimal_value(problem) -> None:
    assert problem.evaluate(problem.optimal().policy) == pytest.approx(problem.optimal().value, abs=1e-9)
    assert problem.score(problem.optimal().value) == 1 and problem.score(problem.base()[1]) == 0


def test_policies_answer_many_lanes_at_different_steps() -> None:
    problem = ObizhaevaWang()
    step, state = np.array([0, 3, 10, 4]), np.array([[1.0, 0.0], [0.5, 3.0], [0.1, 1.0], [0.0, 2.0]])
    together = problem.optimal().policy(step, state)
    assert together.shape == (4, 1) and (together >= 0).all() and (together <= 1).all()
    for i in range(4):
        assert problem.optimal().policy(step[i : i + 1], state[i : i + 1])[0, 0] == together[i, 0]
