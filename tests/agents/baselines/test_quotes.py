"""Quotes of market makers: published constants, a slow plain solution, and what agents make of them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from by_hand import BOX, MENU, build, rows
from hypothesis import given
from hypothesis import strategies as st

from emp_gym.agents.baselines import GLFT, AvellanedaStoikovQuotes, CarteaJaimungalQuotes
from emp_gym.agents.baselines.quotes import avellaneda_stoikov, cartea_jaimungal, depths, glft
from emp_gym.types import ConfigError, Feature

FEATURES = [
    Feature("inventory", "share of max_position"),
    Feature("elapsed", "share"),
    Feature("spread", "half ticks"),
    Feature("return_step", "half ticks"),
    Feature("bid_live", ""),
    Feature("ask_live", ""),
]
KNOWN = {"volatility": 2.0, "intensity": 1.2, "decay": 1.5}
MAKERS = [
    (AvellanedaStoikovQuotes, KNOWN),
    (GLFT, KNOWN),
    (CarteaJaimungalQuotes, KNOWN | {"half_spread": 0.5}),
]


def one(x: float) -> np.ndarray:
    return np.array([x])


def seen(inventory: float, elapsed: float = 0.5, spread: float = 2.0) -> np.ndarray:
    return rows([inventory, elapsed, spread, 0.0, 0.0, 0.0])


@pytest.mark.parametrize(("gamma", "spread"), [(0.1, 1.49), (0.01, 1.35), (1.0, 3.02)])
def test_avellaneda_stoikov_quote_the_spreads_of_their_tables(gamma: float, spread: float) -> None:
    """Tables 1 to 3 give the mean over the session: that at half time."""
    bid, ask = avellaneda_stoikov(one(0.0), one(0.5), one(gamma), one(2.0), one(1.5))
    assert float((bid + ask)[0]) == pytest.approx(spread, abs=0.006)


def test_avellaneda_stoikov_by_hand() -> None:
    """gamma 0.1, k 1.5, sigma 2 ticks, 1 of 2 decisions left, 2 clips: reservation price 2 * 0.1 * 4 * 1 below mid."""
    agent = build(
        AvellanedaStoikovQuotes, BOX, FEATURES, {"episode": "2 decisions"}, risk_aversion=0.1, **KNOWN
    )  # max_position 500, clip 100
    action, _ = agent.act(seen(0.4), None)
    half = 0.5 * 0.1 * 4 * 1 + np.log(1 + 0.1 / 1.5) / 0.1
    assert action[0, 0] == pytest.approx(2 * (half - 0.5) / 10 - 1, abs=1e-6)
    assert action[0, 1] == pytest.approx(-2 * 0.1 * 4 * 1 / 10, abs=1e-6)
    assert action[0, 2] == 1


def test_glft_has_the_constants_of_the_papers_example() -> None:
    q = np.array([-5.0, 0.0, 5.0])
    bid, ask = glft(q, *(np.full(3, x) for x in (0.01, 0.3, 0.9, 0.3)))
    assert bid == pytest.approx([2.9736, 3.3129, 3.6522], abs=1e-4)
    assert ask == pytest.approx(bid[::-1], abs=1e-12)


def test_glft_is_near_the_exact_quotes_far_from_the_end() -> None:
    """The linear system of proposition 1, integrated plainly."""
    gamma, sigma, intensity, k, limit, end = 0.01, 0.3, 0.9, 0.3, 30, 600.0
    alpha, eta = k / 2 * gamma * sigma**2, intensity * (1 + gamma / k) ** -(1 + k / gamma)
    q = np.arange(-limit, limit + 1.0)

    def slope(v: np.ndarray) -> np.ndarray:  # backwards in time
        padded = np.concatenate([[0.0], v, [0.0]])
        return -alpha * q**2 * v + eta * (padded[:-2] + padded[2:])

    v, dt = np.ones(len(q)), 0.05
    for _ in range(round(end / dt)):
        v = runge_kutta(slope, v, dt)
        v /= v.max()
    exact = np.log(v[:-1] / v[1:]) / k + np.log(1 + gamma / k) / gamma
    at = [limit - 5, limit, limit + 5]
    assert exact[at] == pytest.approx([2.9725, 3.3130, 3.6535], abs=1e-4)
    approximate, _ = glft(q, *(np.full(len(q), x) for x in (gamma, sigma, intensity, k)))
    assert np.abs(approximate[at] - exact[at]).max() < 2e-3


def runge_kutta(slope: Any, y: np.ndarray, dt: float) -> np.ndarray:
    a = slope(y)
    b = slope(y + dt / 2 * a)
    c = slope(y + dt / 2 * b)
    d = slope(y + dt * c)
    return y + dt / 6 * (a + 2 * b + 2 * c + d)


@pytest.mark.parametrize(
    ("rate", "kappa", "end", "value"),
    [(140, 1.5, 1.0, 68.2558), (100, 1.0, 1.0, 73.2259), (50, 2.0, 1.0, 18.2193), (140, 1.5, 2.0, None)],
)
def test_cartea_jaimungal_have_the_published_values(rate: float, kappa: float, end: float, value: float | None) -> None:
    h = cartea_jaimungal(rate, kappa, 0.01, 0.001, 100, 200, end / 200)
    if value is not None:
        assert h[-1, 100] == pytest.approx(value, abs=5e-5)
    assert np.isfinite(h).all()


def test_cartea_jaimungal_quote_as_in_the_learning_task() -> None:
    """lambda 10, kappa 1, phi 0.5, alpha 0.001, T 1; at t = 0.5."""
    bid, ask = depths(cartea_jaimungal(10, 1, 0.5, 0.001, 10, 100, 0.01), 1.0)
    assert bid[50, 10:14] == pytest.approx([1.1679, 1.5003, 1.8228, 2.1305], abs=1e-4)
    assert ask[50, 10:14] == pytest.approx([1.1679, 0.8321, 0.4997, 0.1772], abs=1e-4)


def test_cartea_jaimungal_solve_their_equation() -> None:
    """dh/dt of eq. 10.6 with the best quotes put in, integrated plainly, inventory limit included."""
    rate, kappa, phi, alpha, limit = 3.0, 0.8, 0.05, 0.2, 3
    q = np.arange(-limit, limit + 1.0)

    def slope(h: np.ndarray) -> np.ndarray:
        buy = np.append(np.exp(kappa * (h[1:] - h[:-1])), 0.0)
        sell = np.insert(np.exp(kappa * (h[:-1] - h[1:])), 0, 0.0)
        return -phi * q**2 + rate * np.exp(-1) / kappa * (buy + sell)

    h = -alpha * q**2
    for _ in range(4000):
        h = runge_kutta(slope, h, 5.0 / 4000)
    assert cartea_jaimungal(rate, kappa, phi, alpha, limit, 5)[-1] == pytest.approx(h, abs=1e-8)


def test_cartea_jaimungal_do_not_overflow_over_long_sessions() -> None:
    assert np.isfinite(cartea_jaimungal(50.0, 1.0, 0.01, 0.1, 5, 5000)).all()


@cache
def maker(which: int) -> Any:
    cls, known = MAKERS[which]
    return build(cls, BOX, FEATURES, {"episode": "50 decisions", "max_offset": 40}, **known)


@pytest.mark.parametrize("which", range(len(MAKERS)))
@given(low=st.floats(-0.99, 0.95), more=st.floats(0.01, 1.0), elapsed=st.floats(0, 0.99))
def test_makers_skew_against_inventory(which: int, low: float, more: float, elapsed: float) -> None:
    """The more they hold, the lower both quotes, never the higher."""
    seen_twice = np.concatenate([seen(low, elapsed), seen(min(low + more, 0.99), elapsed)])
    action, _ = maker(which).act(seen_twice, None)
    half, skew = (action[:, 0] + 1) * 20, action[:, 1] * 40
    bid, ask = half - skew, half + skew
    assert bid[1] >= bid[0] - 1e-3 and ask[1] <= ask[0] + 1e-3
    assert (bid[1], ask[1]) != pytest.approx((bid[0], ask[0]), abs=1e-6)


@pytest.mark.parametrize(("cls", "known"), MAKERS)
def test_makers_on_the_menu_offer_what_they_hold(cls: Any, known: Any) -> None:
    agent = build(cls, MENU, FEATURES, {"episode": "50 decisions"}, **(known | {"decay": 4.0, "risk": 6.0}))
    bid_nearer, ask_nearer = {3, 5}, {4, 6}
    short, long = agent.act(np.concatenate([seen(-0.8), seen(0.8)]), None)[0].tolist()
    assert short in bid_nearer and long in ask_nearer


def test_cartea_jaimungal_interpolate_between_clips() -> None:
    agent = build(CarteaJaimungalQuotes, BOX, FEATURES, {"episode": "50 decisions"}, **MAKERS[2][1])
    q, group = np.array([1.0, 1.5, 2.0]), np.zeros(3, int)
    bid, ask = agent.quotes(q, np.full(3, 20.0), group)
    table, _ = depths(cartea_jaimungal(1.2, 1.5, 0.5 / 30 * 1.5 * 4, 0.5, 5, 50), 1.5)
    assert bid[[0, 2]] == pytest.approx(table[20, [6, 7]], abs=1e-12)
    assert bid[1] == pytest.approx((bid[0] + bid[2]) / 2) and ask[1] == pytest.approx((ask[0] + ask[2]) / 2)


@pytest.mark.parametrize(("cls", "known"), MAKERS)
def test_makers_do_not_act_on_numbers_that_nobody_measured(cls: Any, known: Any) -> None:
    agent = build(cls, BOX, FEATURES)
    with pytest.raises(ConfigError, match=r"not been calibrated: volatility.*learn on training"):
        agent.act(seen(0.0), None)
    agent = build(cls, BOX, FEATURES, **known)
    agent.act(seen(0.0), None)


def test_wide_and_narrow_books_have_their_own_numbers() -> None:
    agent = build(GLFT, BOX, FEATURES, {"max_offset": 100})
    measured = {"volatility": [1.0, 6.0], "intensity": [1.2, 0.9], "decay": [1.5, 0.2], "half_spread": [0.5, 4.0]}
    counts = {"exposure": np.zeros((2, 64)), "hits": np.zeros((2, 64))}
    agent.restore({name: np.array(values) for name, values in (measured | counts).items()})
    action, _ = agent.act(np.concatenate([seen(0.0, spread=2.0), seen(0.0, spread=12.0)]), None)
    half = (action[:, 0] + 1) * 50
    for g, touch in ((0, 0.5), (1, 3.0)):
        numbers = (measured[name][g] for name in ("volatility", "intensity", "decay"))
        bid, _ = glft(one(0.0), one(measured["decay"][g] / 30), *map(one, numbers))
        assert half[g] == pytest.approx(bid[0] - touch, abs=1e-4)
