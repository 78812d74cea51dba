"""Selling a parent order at least cost: Almgren and Chriss (temporary impact, risk), Obizhaeva and Wang (a book that refills).

Rewards are in basis points of shares * price, so a value is minus a cost. An action is the fraction in [0, 1] of what
remains; in the last step everything that remains is sold, whatever the action.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from emp_gym.evaluation.optimal.base import Policy, Problem, Solution
from emp_gym.types import F64, I64, ConfigError


@dataclass(frozen=True)
class _Liquidation(Problem):
    """What both problems share: a parent order, its yardstick and the two simplest ways to sell it."""

    shares: float
    price: float

    def basis_points(self, money: float) -> float:
        """`money` in basis points of the parent's value at the arrival price."""
        return float(money) / (self.shares * self.price) * 1e4

    def even(self) -> Policy:
        """Equal slices: 1 / (trades left) of what remains."""
        return lambda step, state: 1.0 / (self.decisions - step)[:, None]

    def at_once(self) -> Policy:
        """All in the first step."""
        return lambda step, state: np.ones((len(state), 1))

    def sold(self, policy: Policy, step: int, state: F64) -> float:
        """Fraction of the remainder that `policy` sells at `step` in the one state [1, S], in [0, 1]; 1 in the last step."""
        if step == self.decisions - 1:
            return 1.0
        return float(np.clip(policy(np.array([step], np.int64), state), 0.0, 1.0)[0, 0])


@dataclass(frozen=True)
class AlmgrenChriss(_Liquidation):
    """Selling with linear permanent and temporary impact and a price on variance.

    Almgren and Chriss, "Optimal execution of portfolio transactions" (J. of Risk 3, 2000), whose example the defaults are. State:
    remaining share x/X. Selling n that leaves x costs

        shortfall = (-σ sqrt(τ) ξ + permanent n) x + n (half_spread + temporary n / τ),    τ = horizon / steps

    with ξ of mean zero, and the reward is -(shortfall + risk_aversion τ σ² x²) in basis points: J = -(E + λ V).
    """

    state: ClassVar = ("remaining share of the parent order [1]",)
    action: ClassVar = ("fraction of what remains, sold now [1]",)

    shares: float = 1e6  # X
    price: float = 50.0
    steps: int = 5  # N
    horizon: float = 5.0  # T, days
    volatility: float = 0.95  # σ, price / sqrt(day)
    half_spread: float = 0.0625  # ε, price
    permanent: float = 2.5e-7  # γ, price / share
    temporary: float = 2.5e-6  # η, price / (share / day)
    risk_aversion: float = 1e-6  # λ, 1 / price

    def __post_init__(self) -> None:
        self._check(shares="positive", price="positive", steps="count", horizon="positive", volatility="not negative")
        self._check(
            half_spread="not negative", permanent="not negative", temporary="positive", risk_aversion="not negative"
        )
        if self.effective_temporary <= 0:
            raise ConfigError(
                f"AlmgrenChriss: temporary must be above permanent * tau / 2 = {self.permanent * self.tau / 2:g}, got "
                f"{self.temporary:g}: else it pays to trade without end; take more steps or a smaller permanent impact"
            )

    @property
    def tau(self) -> float:
        """Length of a step."""
        return self.horizon / self.steps

    @property
    def effective_temporary(self) -> float:
        """η̃ = η - γ τ / 2 (equation 10)."""
        return self.temporary - self.permanent * self.tau / 2

    def evaluate(self, policy: Policy) -> float:
        share, cost = 1.0, 0.0
        for step in range(self.steps):
            sold = share * self.sold(policy, step, np.array([[share]]))
            share = 0.0 if step == self.steps - 1 else share - sold
            cost += self._step_cost(sold * self.shares, share * self.shares)
        return -self.basis_points(cost)

    def _step_cost(self, sold: float, left: float) -> float:
        """Expected shortfall + λ variance of a step, in money."""
        impact = self.permanent * sold * left + sold * (self.half_spread + self.temporary * sold / self.tau)
        return impact + self.risk_aversion * self.tau * self.volatility**2 * left**2

    def _simple(self) -> dict[str, Policy]:
        return {"twap": self.even(), "immediate": self.at_once()}

    def _solve(self) -> Solution:
        """Backward: the cost of selling x from step k on is ε x + c_k x², so the best fraction does not depend on x."""
        curve = self.temporary / self.tau
        cost, fractions = curve, np.ones(self.steps)
        for step in range(self.steps - 2, -1, -1):
            left = self.risk_aversion * self.tau * self.volatility**2 + cost  # of each share² that is left
            fractions[step] = (left - self.permanent / 2) / (curve - self.permanent + left)  # inside [0, 1] as η̃ > 0
            f = fractions[step]
            cost = self.permanent * f * (1 - f) + curve * f**2 + left * (1 - f) ** 2
        total = self.half_spread * self.shares + cost * self.shares**2

        def policy(step: I64, state: F64) -> F64:
            return fractions[step][:, None]

        return Solution(-self.basis_points(total), policy)

    def urgency(self) -> float:
        """κ = arccosh(1 + λ σ² τ² / (2 η̃)) / τ (from equation 19's difference equation)."""
        bend = self.risk_aversion * self.volatility**2 * self.tau**2 / (2 * self.effective_temporary)
        return math.acosh(1 + bend) / self.tau

    def closed_form_holdings(self) -> F64:
        """Shares held [steps + 1] before the first trade and after each: X sinh(κ (T - t)) / sinh(κ T)."""
        left = self.horizon - self.tau * np.arange(self.steps + 1, dtype=np.float64)
        kappa = self.urgency()
        if kappa == 0:
            return self.shares * left / self.horizon
        past = np.exp(-kappa * (self.horizon - left))  # sinh(a) / sinh(b) without overflow
        holdings: F64 = self.shares * past * np.expm1(-2 * kappa * left) / math.expm1(-2 * kappa * self.horizon)
        return holdings

    def expected_cost(self, holdings: F64) -> float:
        """E = γ X² / 2 + ε Σ|n| + (η̃ / τ) Σ n², in money, of a schedule of holdings [steps + 1]."""
        sold = -np.diff(holdings)
        impact = self.effective_temporary / self.tau * float((sold**2).sum())
        return self.permanent * self.shares**2 / 2 + self.half_spread * float(np.abs(sold).sum()) + impact

    def variance(self, holdings: F64) -> float:
        """V = σ² τ Σ x_j², in money², of a schedule of holdings [steps + 1]; x_j is held after trade j."""
        return self.volatility**2 * self.tau * float((holdings[1:] ** 2).sum())

    def total_cost(self, holdings: F64) -> float:
        """U = E + λ V, in money."""
        return self.expected_cost(holdings) + self.risk_aversion * self.variance(holdings)


@dataclass(frozen=True)
class ObizhaevaWang(_Liquidation):
    """Selling into a block-shaped book that refills exponentially, without aversion to risk.

    Obizhaeva and Wang, "Optimal trading strategy and supply/demand dynamics" (J. of Financial Markets 16, 2013). State: remaining share
    x/X, displacement D of the price. Of intervals + 1 trades each costs ``n D + n² / (2 depth)`` and leaves
    ``D' = a (D + n / depth)``, a = exp(-resilience * horizon / intervals). The price noise ``x σ sqrt(dt) ξ`` has mean zero. The
    reward is -(cost + noise) in basis points. The optimum is exact from the start (D = 0). The policy is the optimum without the
    bounds on n, clipped into them: where a state off the optimal path makes a bound bind, later steps may know better.
    """

    state: ClassVar = ("remaining share of the parent order [1]", "displacement of the price [price]")
    action: ClassVar = ("fraction of what remains, sold now [1]",)

    shares: float = 1e5  # X
    price: float = 100.0
    intervals: int = 10  # N
    horizon: float = 1.0  # T
    depth: float = 5000.0  # q, shares / price
    resilience: float = 2.231  # ρ, 1 / time
    volatility: float = 1.0  # price / sqrt(time)

    def __post_init__(self) -> None:
        self._check(shares="positive", price="positive", intervals="count", horizon="positive", depth="positive")
        self._check(resilience="not negative", volatility="not negative")

    @property
    def steps(self) -> int:
        """Trades of an episode: one at each end of every interval."""
        return self.intervals + 1

    @property
    def remains(self) -> float:
        """a: what is left of a displacement after one interval."""
        return math.exp(-self.resilience * self.horizon / self.intervals)

    def evaluate(self, policy: Policy) -> float:
        share, displacement, cost = 1.0, 0.0, 0.0
        for step in range(self.decisions):
            sold = share * self.sold(policy, step, np.array([[share, displacement]])) * self.shares
            share -= sold / self.shares
            cost += sold * displacement + sold**2 / (2 * self.depth)
            displacement = self.remains * (displacement + sold / self.depth)
        return -self.basis_points(cost)

    def _simple(self) -> dict[str, Policy]:
        return {"equal slices": self.even(), "block": self.at_once()}

    def _solve(self) -> Solution:
        """Backward: the cost of selling x at displacement D is A x² + B x D + C D², the best n is u x + w D."""
        q, a = self.depth, self.remains
        held, cross, own = 1 / (2 * q), 1.0, 0.0  # A, B, C of the last trade, which sells all
        sizes = np.empty((self.decisions, 2))
        sizes[-1] = 1.0, 0.0
        for step in range(self.decisions - 2, -1, -1):
            # n D + n²/2q + A (x - n)² + a B (x - n) (D + n/q) + a² C (D + n/q)²  =  bend n² + (tilt_x x + tilt_d D) n + the rest
            bend = 1 / (2 * q) + held - a * cross / q + a * a * own / q**2
            tilt_x, tilt_d = a * cross / q - 2 * held, 1 - a * cross + 2 * a * a * own / q
            sizes[step] = -tilt_x / (2 * bend), -tilt_d / (2 * bend)
            held, cross, own = (
                held - tilt_x**2 / (4 * bend),
                a * cross - tilt_x * tilt_d / (2 * bend),
                a * a * own - tilt_d**2 / (4 * bend),
            )

        def policy(step: I64, state: F64) -> F64:
            share, size = state[:, 0], sizes[step]
            wanted = size[:, 0] * share + size[:, 1] * state[:, 1] / self.shares
            left = np.maximum(share, 1e-300)
            return np.where(share > 0, np.clip(wanted / left, 0.0, 1.0), 1.0)[:, None]

        return Solution(-self.basis_points(held * self.shares**2), policy)

    def closed_form_trades(self) -> F64:
        """Shares sold [intervals + 1]: X / ((N - 1)(1 - a) + 2) at both ends, (1 - a) of that between. Alfonsi, Fruth and Schied,
        "Optimal execution strategies in limit order books with general shape functions" (Quantitative Finance 10, 2010),
        for the block-shaped book."""
        end = self.shares / ((self.intervals - 1) * (1 - self.remains) + 2)
        trades = np.full(self.decisions, end * (1 - self.remains))
        trades[[0, -1]] = end
        return trades

    def cost(self, trades: F64) -> float:
        """Cost in money of a schedule of trades [intervals + 1], by its quadratic form Σ n_i n_j a^|i-j| / (2 depth)."""
        order = np.arange(len(trades))
        decay = self.remains ** np.abs(order[:, None] - order)
        return float(trades @ decay @ trades) / (2 * self.depth)
