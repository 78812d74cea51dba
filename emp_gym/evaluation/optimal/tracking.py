"""Following a signal that decays while trading costs: Gârleanu and Pedersen. And what to stake: Kelly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from emp_gym.evaluation.optimal.base import Policy, Problem, Solution
from emp_gym.types import F64, I64, ConfigError


@dataclass(frozen=True)
class GarleanuPedersen(Problem):
    """Trading one asset on one mean-reverting signal at quadratic cost.

    Gârleanu and Pedersen, "Dynamic trading with predictable returns and transaction costs" (J. of Finance 68, 2013), cut off after
    `steps`. State: position x before the trade, signal f. Action: the position x' after it. With r = loading * f + u, u of variance
    `variance`, discount ρ, and Λ = cost * variance, the reward of step t is

        (1-ρ)^(t+1) (x' r - γ/2 variance x'²) - (1-ρ)^t Λ/2 (x' - x)²

    and then f' = (1 - reversion) f + factor_volatility * ξ. x starts at 0, f at its stationary law; after the last step
    nothing counts. The optimum has no bound on the position; environments clip to ±position_limit, whose price
    `limit_cost` measures. `factor_volatility` only scales positions (values with its square): the default makes the signal's
    stationary deviation 0.2, that of the noise u, so that a learner hears it.
    """

    state: ClassVar = ("position before the trade [units]", "signal [return]")
    action: ClassVar = ("position after the trade [units]",)

    risk_aversion: float = 1.0  # γ
    cost: float = 10.0  # λ
    discount: float = 0.02  # ρ
    variance: float = 0.04  # Σ, of u
    loading: float = 1.0  # B
    reversion: float = 0.1  # Φ
    factor_volatility: float = 0.0872
    steps: int = 100
    position_limit: float = 14.0

    def __post_init__(self) -> None:
        self._check(
            risk_aversion="positive", cost="positive", discount="share", variance="positive", loading="positive"
        )
        self._check(reversion="share", factor_volatility="positive", steps="count", position_limit="positive")
        if self.discount == 1 or self.reversion == 0:
            raise ConfigError(
                f"GarleanuPedersen: discount must be below 1 and reversion above 0, got {self.discount} and {self.reversion}"
            )

    @property
    def patience(self) -> float:
        """1 - ρ."""
        return 1 - self.discount

    @property
    def signal_deviation(self) -> float:
        """Stationary standard deviation of the signal."""
        return self.factor_volatility / math.sqrt(1 - (1 - self.reversion) ** 2)

    def rate(self) -> float:
        """a / λ: the share of the way to the aim that is traded in each step of the infinite problem (proposition 2)."""
        weight = self.risk_aversion * self.patience + self.cost * self.discount
        root = math.sqrt(weight**2 + 4 * self.risk_aversion * self.cost * self.patience**2)
        return (root - weight) / (2 * self.patience) / self.cost

    def aim(self) -> float:
        """Aim per unit of signal of the infinite problem, (γΣ)⁻¹ B / (1 + Φ a / γ) (proposition 3)."""
        pull = 1 + self.reversion * self.rate() * self.cost / self.risk_aversion
        return self.markowitz_slope() / pull

    def markowitz_slope(self) -> float:
        """Position per unit of signal without costs: B / (γΣ)."""
        return self.loading / (self.risk_aversion * self.variance)

    def linear(self, keep: float, slope: float) -> Policy:
        """The policy x' = keep * x + slope * f."""
        return lambda step, state: (keep * state[:, :1] + slope * state[:, 1:]).astype(np.float64)

    def _simple(self) -> dict[str, Policy]:
        """Never trade; the Markowitz position in each step; the optimum of the step alone."""
        step_cost = self.cost * self.variance
        curve = self.patience * self.risk_aversion * self.variance + step_cost
        return {
            "hold": self.linear(1.0, 0.0),
            "markowitz": self.linear(0.0, self.markowitz_slope()),
            "myopic": self.linear(step_cost / curve, self.patience * self.loading / curve),
        }

    def gains(self) -> F64:
        """(keep, slope) [steps, 2] of the optimal policy x' = keep x + slope f of each step."""
        return _riccati(self)[0]

    def _solve(self) -> Solution:
        gains, (_, _, square, constant) = _riccati(self)

        def policy(step: I64, state: F64) -> F64:
            return (gains[step] * state).sum(axis=1, keepdims=True)

        return Solution(square / 2 * self.signal_deviation**2 + constant, policy)

    def limited(self, policy: Policy) -> Policy:
        """`policy` with its positions clipped to ±position_limit, as an environment does it."""
        return lambda step, state: np.clip(policy(step, state), -self.position_limit, self.position_limit)

    def limit_cost(self) -> float:
        """Value that clipping the optimal policy costs: an upper bound of what the limit costs."""
        optimum = self.optimal()
        return optimum.value - self.evaluate(self.limited(optimum.policy))

    def position_deviation(self) -> float:
        """Stationary standard deviation of the position under the infinite problem's policy."""
        keep, phi = 1 - self.rate(), 1 - self.reversion
        slope, signal = self.rate() * self.aim(), self.signal_deviation**2
        shared = slope * signal / (1 - keep * phi)  # E x' f of the same step
        return math.sqrt((2 * keep * slope * phi * shared + slope**2 * signal) / (1 - keep**2))

    def evaluate(self, policy: Policy, *, points: int = 61) -> float:
        """Value of `policy` by backward quadrature.

        On a grid of `points` positions within 1.25 position_limit and of `points` signals within 6 deviations, expectations by
        16 Gauss-Hermite nodes, cubic interpolation. Linear policies without a limit make everything quadratic: exact to
        rounding. For smooth ones the error is small and falls with the grid (compare 61 and 121 points), for policies
        that jump it is a few per cent. (At 64 points and more some BLAS libraries begin to use threads, which costs more.)
        """
        grid = _grid(self, points)
        later = np.zeros((points, points))  # value from the next step on, [x, f], undiscounted
        for step in range(self.steps - 1, -1, -1):
            target = policy(np.full(points * points, step, np.int64), grid.states)[:, 0].reshape(points, points)
            later = self._reward(target, grid.x[:, None], grid.f) + self.patience * _cubic(
                grid.x, later @ grid.expect.T, target
            )
        return float(grid.start_x @ later @ grid.start_f)

    def _reward(self, target: F64, before: F64, signal: F64) -> F64:
        """Expected reward of a step, less its discount (1-ρ)^t."""
        gain = target * self.loading * signal - self.risk_aversion / 2 * self.variance * target**2
        return self.patience * gain - self.cost * self.variance / 2 * (target - before) ** 2


@lru_cache(maxsize=64)
def _riccati(problem: GarleanuPedersen) -> tuple[F64, tuple[float, float, float, float]]:
    """Gains [steps, 2], and (P, Q, R, S) of the first step's value -P x²/2 + Q x f + R f²/2 + S (less its discount)."""
    keep, cost = 1 - problem.reversion, problem.cost * problem.variance
    risk, noise = problem.risk_aversion * problem.variance, problem.factor_volatility**2
    gains = np.empty((problem.steps, 2))
    p = q = r = s = 0.0
    for step in range(problem.steps - 1, -1, -1):
        curve = problem.patience * (risk + p) + cost
        push = problem.patience * (problem.loading + q * keep)
        gains[step] = cost / curve, push / curve
        s = problem.patience * (s + r * noise / 2)
        r = problem.patience * r * keep**2 + push**2 / curve
        q, p = cost * push / curve, cost - cost**2 / curve
    gains.flags.writeable = False
    return gains, (p, q, r, s)


@dataclass(frozen=True)
class _Grid:
    """Where `evaluate` knows the value, and the linear maps that it needs."""

    x: F64  # [X] positions
    f: F64  # [F] signals
    states: F64  # [X * F, 2]
    expect: F64  # [F, F]: values at the signals -> their expectations one step later
    start_x: F64  # [X]: interpolates at a flat start
    start_f: F64  # [F]: expectation under the stationary law


@lru_cache(maxsize=8)
def _grid(problem: GarleanuPedersen, points: int) -> _Grid:
    if points < 8:
        raise ConfigError(f"points must be at least 8, got {points}")
    node, weight = np.polynomial.hermite_e.hermegauss(16)
    weight = weight / weight.sum()
    x = np.linspace(-1.25, 1.25, points) * problem.position_limit
    f = np.linspace(-6, 6, points) * problem.signal_deviation
    later = (1 - problem.reversion) * f[:, None] + problem.factor_volatility * node
    expect = np.tensordot(_cubic_weights(f, later), weight, axes=(1, 0))  # [F, F]
    start = weight @ _cubic_weights(f, problem.signal_deviation * node)
    states = np.stack(np.meshgrid(x, f, indexing="ij"), axis=-1).reshape(-1, 2)
    return _Grid(x, f, states, expect, _cubic_weights(x, np.zeros(1))[0], start)


def _four(knots: F64, at: F64) -> tuple[I64, F64]:
    """The first of four neighbouring equidistant knots [...] and their Lagrange weights [..., 4]; a cubic is exact anywhere."""
    place = (at - knots[0]) / (knots[1] - knots[0])
    first = np.clip(np.floor(place).astype(np.int64) - 1, 0, len(knots) - 4)
    t = place - first
    weights = np.stack(
        (
            -(t - 1) * (t - 2) * (t - 3) / 6,
            t * (t - 2) * (t - 3) / 2,
            -t * (t - 1) * (t - 3) / 2,
            t * (t - 1) * (t - 2) / 6,
        ),
        axis=-1,
    )
    return first, weights


def _cubic_weights(knots: F64, at: F64) -> F64:
    """Weights [..., K] of the values at all knots."""
    first, weights = _four(knots, at)
    full = np.zeros((*at.shape, len(knots)))
    np.put_along_axis(full, first[..., None] + np.arange(4), weights, axis=-1)
    return full


def _cubic(knots: F64, values: F64, at: F64) -> F64:
    """`values` [X, F] along their first axis at `at` [X, F]: each column at its own places."""
    first, weights = _four(knots, at)
    near = np.stack([np.take_along_axis(values, first + i, axis=0) for i in range(4)], axis=-1)
    return (near * weights).sum(axis=-1)


def kelly_fraction(chance: float, odds: float) -> float:
    """Share of wealth to stake on a bet that wins `odds` times the stake with probability `chance`: p - (1 - p) / b.

    Kelly, "A new interpretation of information rate" (Bell System Technical J. 35, 1956). Negative: do not bet.
    """
    return chance - (1 - chance) / odds


def kelly_growth(fraction: float, chance: float, odds: float) -> float:
    """Expected growth of log wealth a bet: p ln(1 + b f) + (1 - p) ln(1 - f)."""
    return chance * math.log1p(odds * fraction) + (1 - chance) * math.log1p(-fraction)


def kelly_continuous(drift: float, riskless: float, variance: float) -> float:
    """Share of wealth to hold in a lognormal asset: (μ - r) / σ²."""
    return (drift - riskless) / variance
