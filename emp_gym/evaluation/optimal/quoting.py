"""The quoting problems of three papers, with their closed forms, and the tables of Avellaneda and Stoikov."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from emp_gym.evaluation.optimal.base import Policy
from emp_gym.evaluation.optimal.quoting_model import Quoting
from emp_gym.types import F64, I64


@dataclass(frozen=True)
class CarteaJaimungal(Quoting):
    """Quoting without risk aversion but with a price on inventory.

    Cartea, Jaimungal and Penalva, "Algorithmic and High-Frequency Trading" (2015), section 10.2. Reward: change of wealth
    - running_penalty * dt * q² (q **before** the fills of the step) - in the last step terminal_penalty * q² (after them).
    A step with a fill on both sides earns both offsets and keeps q. Defaults: the task of mbt_gym's PPO notebook.
    """

    running_penalty: float = 0.5  # φ, price / (units² time)
    terminal_penalty: float = 0.001  # α, price / units²

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check(running_penalty="not negative", terminal_penalty="not negative")

    def _running(self) -> F64:
        return self.running_penalty * self.dt * self.inventories**2

    def _terminal(self) -> F64:
        return self.terminal_penalty * self.inventories**2

    def continuous_worth(self, time: float, *, bound: int | None = None) -> F64:
        """h(time, q) [2 bound + 1] of the continuous problem, q = -bound .. bound (default max_inventory): h = ln ω / κ,
        ω = exp(A (T - t)) z (section 10.2, (10.11) in the count of mbt_gym)."""
        bound = self.max_inventory if bound is None else bound
        q = np.arange(-bound, bound + 1, dtype=np.float64)
        matrix = _tridiagonal(-self.running_penalty * self.decay * q**2, self.arrival / math.e)
        start = np.exp(-self.terminal_penalty * self.decay * q**2)
        return _log_exponential(matrix, self.horizon - time, start) / self.decay

    def continuous_quotes(self, time: float, *, bound: int | None = None) -> F64:
        """Optimal offsets [2 bound + 1, 2] of the continuous problem: δ_bid = 1/κ - h(q+1) + h(q), δ_ask = 1/κ - h(q-1)
        + h(q) (section 10.2); infinite where a side is not quoted."""
        return _quotes(self.continuous_worth(time, bound=bound), 1 / self.decay)


def _tridiagonal(diagonal: F64, beside: float) -> F64:
    n = len(diagonal)
    return np.diag(diagonal) + beside * (np.eye(n, k=1) + np.eye(n, k=-1))


def _log_exponential(matrix: F64, time: float, start: F64) -> F64:
    """ln(exp(matrix * time) start) for a matrix without negative entries beside its diagonal and a positive start.

    Taylor series of short stretches after a shift that makes every entry positive: nothing cancels, however small an entry.
    """
    shift = float(matrix.diagonal().min())
    positive = matrix - shift * np.eye(len(matrix))
    stretches = max(1, math.ceil(float(positive.sum(axis=1).max()) * time))
    scaled = positive * (time / stretches)
    vector, log_scale = start.copy(), shift * time
    for _ in range(stretches):
        term = vector
        for order in range(1, 25):  # 1 / 24! of what there is: below rounding
            term = scaled @ term / order
            vector = vector + term
        size = float(vector.max())
        vector, log_scale = vector / size, log_scale + math.log(size)
    return np.log(vector) + log_scale


def _quotes(worth: F64, margin: float) -> F64:
    step = np.diff(worth)
    bid, ask = np.append(margin - step, np.inf), np.insert(margin + step, 0, np.inf)
    return np.stack((bid, ask), axis=1)


@dataclass(frozen=True)
class Averse(Quoting):
    """Quoting with constant absolute risk aversion: reward U(W') - U(W), U(w) = (1 - exp(-γ w)) / γ, W = cash + q * mid marked
    at the mid, 0 at the start; so that an episode's sum is U(W_T). No penalties."""

    risk_aversion: float = 0.1  # γ, 1 / price

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check(risk_aversion="positive")

    @property
    def aversion(self) -> float:
        return self.risk_aversion

    def margin(self) -> float:
        """ln(1 + γ/k) / γ: the half-spread of a risk-averse dealer without inventory risk."""
        return math.log1p(self.risk_aversion / self.decay) / self.risk_aversion


@dataclass(frozen=True)
class AvellanedaStoikov(Averse):
    """The dealer of Avellaneda and Stoikov, "High-frequency trading in a limit order book" (Quantitative Finance 8(3), 2008).

    Defaults: section 3.3's simulation at γ = 0.1, whose mid moves ±volatility * sqrt(dt) with equal chance, with 200 steps.
    The paper's quotes are an approximation (linear in q, `published`); the optimum here is the dynamic programme's.
    """

    arrival: float = 140.0
    decay: float = 1.5
    volatility: float = 2.0
    steps: int = 200
    fills: str = "linear"
    noise: str = "binomial"
    max_offset: float = 4.0
    max_inventory: int = 20

    def reservation_shift(self, time: float | F64, inventory: F64) -> F64:
        """Reservation price less the mid, -q γ σ² (T - t): section 3.2."""
        return -inventory * self.risk_aversion * self.volatility**2 * (self.horizon - time)

    def spread(self, time: float | F64) -> float | F64:
        """Distance of the quotes, γ σ² (T - t) + (2/γ) ln(1 + γ/k): section 3.2."""
        return self.risk_aversion * self.volatility**2 * (self.horizon - time) + 2 * self.margin()

    def average_spread(self) -> float:
        """Mean of `spread` over the horizon: what the paper's table calls spread, and its symmetric strategy quotes."""
        return float(self.spread(self.horizon / 2))

    def published(self) -> dict[str, Policy]:
        """The paper's two strategies: "avellaneda-stoikov" (its inventory strategy) and "symmetric"."""

        def inventory(step: I64, state: F64) -> F64:
            time: F64 = step * np.float64(self.dt)
            half, shift = self.spread(time) / 2, self.reservation_shift(time, state[:, 0])
            return np.stack((half - shift, half + shift), axis=1)

        return {"avellaneda-stoikov": inventory, "symmetric": self.fixed(self.average_spread() / 2)}


@dataclass(frozen=True)
class Glft(Averse):
    """Guéant, Lehalle and Fernandez-Tapia, "Dealing with the inventory risk" (Mathematics and Financial Economics 7, 2013).

    Defaults: the paper's numerical example, one step a second for ten minutes. max_inventory is the paper's Q, part of the problem.
    """

    arrival: float = 0.9
    decay: float = 0.3
    volatility: float = 0.3
    horizon: float = 600.0
    steps: int = 600
    fills: str = "poisson"
    max_offset: float = 12.0
    max_inventory: int = 30
    risk_aversion: float = 0.01

    @property
    def intensity(self) -> float:
        """η = A (1 + γ/k)^-(1 + k/γ)."""
        ratio = self.risk_aversion / self.decay
        return self.arrival * (1 + ratio) ** -(1 + 1 / ratio)

    def continuous_worth(self, time: float) -> F64:
        """Certainty equivalents ln(v_q(time)) / k [2 max_inventory + 1] of the continuous problem: theorem 1, v' = M v,
        v(T) = 1, M_qq = α q², M_q,q±1 = -η, α = k γ σ² / 2."""
        alpha = self.decay * self.risk_aversion * self.volatility**2 / 2
        matrix = _tridiagonal(-alpha * self.inventories**2, self.intensity)
        return _log_exponential(matrix, self.horizon - time, np.ones(len(matrix))) / self.decay

    def continuous_quotes(self, time: float) -> F64:
        """Optimal offsets [2 max_inventory + 1, 2]: δ_bid = ln(v_q / v_q+1) / k + ln(1 + γ/k) / γ (theorem 2); infinite where
        a side is not quoted."""
        return _quotes(self.continuous_worth(time), self.margin())

    def asymptotic_quotes(self) -> F64:
        """Offsets far from the horizon, in closed form [2 max_inventory + 1, 2]: c1 + (2q + 1) c2 / 2 for the bid, c1 - (2q - 1)
        c2 / 2 for the ask (the paper's section 4), c2 = sqrt(σ² γ (1 + γ/k)^(1 + k/γ) / (2 k A))."""
        first, second = self.asymptotic_constants()
        q = self.inventories
        return np.stack((first + (2 * q + 1) * second / 2, first - (2 * q - 1) * second / 2), axis=1)

    def asymptotic_constants(self) -> tuple[float, float]:
        """(c1, c2) of `asymptotic_quotes`."""
        slope = self.volatility**2 * self.risk_aversion / (2 * self.decay * self.intensity)
        return self.margin(), math.sqrt(slope)

    def published(self) -> dict[str, Policy]:
        """The closed-form approximation, whatever the time: "glft-asymptotic"."""
        quotes, bound = self.asymptotic_quotes(), self.max_inventory

        def asymptotic(step: I64, state: F64) -> F64:
            return quotes[np.clip(np.rint(state[:, 0]).astype(np.int64), -bound, bound) + bound]

        return {"glft-asymptotic": asymptotic}


@dataclass(frozen=True)
class TableRow:
    """One line of the paper's tables, in price units and units of stock."""

    risk_aversion: float
    strategy: str  # inventory | symmetric
    fills: str
    spread: float
    profit: float  # mean of terminal wealth
    error: float  # its standard error
    profit_deviation: float
    inventory: float  # mean
    inventory_deviation: float


def avellaneda_stoikov_table(
    rng: np.random.Generator,
    paths: int,
    *,
    risk_aversion: Sequence[float] = (0.1, 0.01, 1.0),
    fills: Sequence[str] = ("linear", "poisson"),
) -> list[TableRow]:
    """Tables 1 to 3 of Avellaneda and Stoikov (2008), simulated: every γ, both strategies, under each fill probability.

    As in the paper an offset may be negative and inventory has no bound; both strategies see the same random numbers.
    """
    rows = []
    for gamma in risk_aversion:
        problem = AvellanedaStoikov(risk_aversion=gamma)
        for rule in fills:
            model, seed = replace(problem, fills=rule), int(rng.integers(2**63))
            for name, policy in zip(("inventory", "symmetric"), problem.published().values()):
                wealth, inventory = _simulate(model, policy, paths, np.random.default_rng(seed))
                spread, deviation = problem.average_spread(), float(wealth.std(ddof=1))
                held = (float(inventory.mean()), float(inventory.std(ddof=1)))
                error = deviation / math.sqrt(paths)
                rows.append(TableRow(gamma, name, rule, spread, float(wealth.mean()), error, deviation, *held))
    return rows


def _simulate(model: Quoting, policy: Policy, paths: int, rng: np.random.Generator) -> tuple[F64, F64]:
    """Terminal wealth and inventory [paths] without a bound on either."""
    mid, cash, inventory = np.zeros(paths), np.zeros(paths), np.zeros(paths)
    jump = model.volatility * math.sqrt(model.dt)
    for step in range(model.steps):
        offset = policy(np.full(paths, step), inventory[:, None])
        chance = rng.random((paths, 2))
        bought, sold = (chance < model.fill_probability(offset)).T
        cash += sold * (mid + offset[:, 1]) - bought * (mid - offset[:, 0])
        inventory += bought.astype(np.float64) - sold
        mid += jump * rng.choice((-1.0, 1.0), size=paths)
    return cash + inventory * mid, inventory
