"""Optimal quoting of two sides: Cartea and Jaimungal, Avellaneda and Stoikov, Guéant, Lehalle and Fernandez-Tapia.

One discrete model and one dynamic programme. State: inventory q, a whole number with ``|q| <= max_inventory``. Action: the
offsets (δ_bid, δ_ask) from the mid, each in [0, max_offset]. In a step of dt = horizon / steps

1. the running penalty, ``running_penalty * dt * q**2``, is paid on the inventory **before** the fills of this step;
2. each side fills at most one unit, independently of the other, with the probability that `fills` names; both may fill in one
   step. A side that would pass the bound on inventory is not quoted (its fill probability is 0);
3. a fill adds its offset to wealth, which is cash + q * mid marked at the mid (the mid has not moved yet);
4. the mid moves by ``volatility * sqrt(dt) * ξ``, mean zero, and the inventory **after** the fills earns it;
5. in the last step ``terminal_penalty * q**2`` is paid on the inventory after the fills.

| fills | probability that an offset δ is filled in one step |
|---|---|
| arrival | (1 - exp(-A dt)) exp(-k δ): an arrival, then its fill |
| poisson | 1 - exp(-A exp(-k δ) dt): exact thinning |
| linear | min(A exp(-k δ) dt, 1): the papers' intensity taken literally |

With utility u(w) = (1 - exp(-γ w)) / γ (or w for γ = 0) the value of a state is a certainty equivalent θ_t(q), and

    θ_t(q) = θ(q) + u⁻¹(E u(gain)) - penalty,    gain = 0 | δ_bid + θ(q+1) - θ(q) | δ_ask + θ(q-1) - θ(q) | δ_bid + δ_ask

where θ is θ_{t+1} less what the mid's move costs the inventory. The best offset of one side given the other maximises
p(δ) u(δ - c), c = certainty equivalent without the fill - with it, which has one top because p is log-concave. The pair may
have several; tests compare it with a grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from emp_gym.evaluation.optimal.base import Policy, Problem, Solution
from emp_gym.types import F64, I64, DataError

_FILLS = "arrival | poisson | linear"
_STARTS = 12  # offsets of the ask from which the best pair is sought, besides that of the step after


@dataclass(frozen=True)
class Quoting(Problem):
    """The model above; the papers' problems are subclasses that fix its risk or its penalties.

    Units: arrival in fills a time, decay in 1 / price, volatility in price / sqrt(time), risk_aversion in 1 / money.
    """

    state: ClassVar = ("inventory [units]",)
    action: ClassVar = ("bid offset [price]", "ask offset [price]")

    arrival: float = 10.0  # A (λ): fills of a quote at the mid per unit of time
    decay: float = 1.0  # k (κ)
    volatility: float = 0.1
    horizon: float = 1.0
    steps: int = 100
    fills: str = "arrival"
    noise: str = "gaussian"  # of the mid: gaussian | binomial
    max_offset: float = 4.0
    max_inventory: int = 10

    def __post_init__(self) -> None:
        self._check(arrival="positive", decay="positive", volatility="not negative", horizon="positive", steps="count")
        self._check(fills=_FILLS, noise="gaussian | binomial", max_offset="positive", max_inventory="count")

    @property
    def dt(self) -> float:
        """Length of a step."""
        return self.horizon / self.steps

    @property
    def aversion(self) -> float:
        """γ of the utility; 0 is none."""
        return 0.0

    @property
    def inventories(self) -> F64:
        """The states -max_inventory .. max_inventory."""
        return np.arange(-self.max_inventory, self.max_inventory + 1, dtype=np.float64)

    def fill_probability(self, offset: F64) -> F64:
        """Probability that a quote at `offset` is filled within a step."""
        reach = self.arrival * self.dt
        if self.fills == "arrival":
            return -np.expm1(-reach) * np.exp(-self.decay * offset)
        if self.fills == "poisson":
            return -np.expm1(-reach * np.exp(-self.decay * offset))
        return np.minimum(reach * np.exp(-self.decay * offset), 1.0)

    def certainty_equivalent(self, value: float) -> float:
        """-ln(1 - γ J) / γ. J loses digits as γ times the certainty equivalent passes 30; DataError where none are left."""
        gamma = self.aversion
        if gamma == 0:
            return value
        if not value < 1 / gamma:
            raise DataError(
                f"{type(self).__name__}: a sum of utilities must be below 1 / risk_aversion = {1 / gamma:g}, got {value!r}"
            )
        return -math.log1p(-gamma * value) / gamma

    def evaluate(self, policy: Policy) -> float:
        """Exact value of `policy` from a flat start, by backward recursion over the chain of inventories."""
        state = self.inventories[:, None]

        def offsets(step: int, _: F64, __: tuple[F64, F64]) -> tuple[F64, F64]:
            action = np.clip(policy(np.full(len(state), step), state), 0.0, self.max_offset)
            return action[:, 0], action[:, 1]

        worth = self._backward(offsets)[0]
        return self._value(worth[0, self.max_inventory])

    def worth(self) -> F64:
        """Certainty equivalents θ [steps + 1, 2 max_inventory + 1] of the optimum, from each step and inventory."""
        return _programme(self)[0]

    def quotes(self) -> F64:
        """Optimal offsets [steps, 2 max_inventory + 1, 2]; an unquoted side has max_offset."""
        return _programme(self)[1]

    def fixed(self, half_spread: float) -> Policy:
        """The policy that quotes the same offset on both sides."""
        return lambda step, state: np.full((len(state), 2), half_spread)

    def skewed(self, half_spread: float, skew: float) -> Policy:
        """The policy that quotes half_spread ± skew * q."""
        return lambda step, state: half_spread + skew * state[:, :1] * np.array([1.0, -1.0])

    def best_half_spread(self) -> float:
        """Half-spread of the best fixed policy, to 1e-6."""
        return _best_half_spread(self)

    def _simple(self) -> dict[str, Policy]:
        return {"fixed": self.fixed(self.best_half_spread()), "one-over-decay": self.fixed(1 / self.decay)}

    def _solve(self) -> Solution:
        worth, quotes = _programme(self)
        return Solution(self._value(worth[0, self.max_inventory]), _lookup(quotes, self.max_inventory))

    def _value(self, worth: float) -> float:
        """Expected sum of rewards from a certainty equivalent."""
        gamma = self.aversion
        return float(-math.expm1(-gamma * worth) / gamma if gamma else worth)

    def _running(self) -> F64:
        return np.zeros(2 * self.max_inventory + 1)

    def _terminal(self) -> F64:
        return np.zeros(2 * self.max_inventory + 1)

    def _backward(self, choose: Callable[[int, F64, tuple[F64, F64]], tuple[F64, F64]]) -> tuple[F64, F64]:
        """θ [steps + 1, 2Q + 1] and offsets [steps, 2Q + 1, 2] when `choose(step, θ, last offsets)` gives the offsets."""
        states = 2 * self.max_inventory + 1
        worth, quotes = np.zeros((self.steps + 1, states)), np.zeros((self.steps, states, 2))
        risk, running, terminal = self._noise_cost(), self._running(), self._terminal()
        last = (np.full(states, 1 / self.decay), np.full(states, 1 / self.decay))
        for step in range(self.steps - 1, -1, -1):
            after = worth[step + 1] - risk - (terminal if step == self.steps - 1 else 0.0)
            last = choose(step, after, last)
            quotes[step] = np.stack(last, axis=1)
            worth[step] = after + self._gain(after, *last) - running
        return worth, quotes

    def _noise_cost(self) -> F64:
        """What the mid's move costs an inventory in certainty equivalents, [2Q + 1]."""
        gamma, spread = self.aversion, self.volatility * math.sqrt(self.dt) * self.inventories
        if gamma == 0:
            return np.zeros_like(spread)
        if self.noise == "gaussian":
            return gamma * spread**2 / 2
        size = gamma * np.abs(spread)
        return (size + np.log1p(np.exp(-2 * size)) - math.log(2)) / gamma  # ln cosh without overflow

    def _sides(self, after: F64, bid: F64, ask: F64) -> tuple[F64, F64, F64, F64]:
        """Fill probabilities of both sides, and the gains of a fill of one side only."""
        hit, lifted = self.fill_probability(bid), self.fill_probability(ask)
        hit[..., -1], lifted[..., 0] = 0.0, 0.0
        step = np.diff(after)
        return hit, lifted, bid + np.append(step, 0.0), ask - np.insert(step, 0, 0.0)

    def _gain(self, after: F64, bid: F64, ask: F64) -> F64:
        """Certainty equivalent of a step's fills, [2Q + 1]."""
        hit, lifted, bought, sold = self._sides(after, bid, ask)
        return _certain(
            (hit * (1 - lifted), lifted * (1 - hit), hit * lifted, (1 - hit) * (1 - lifted)),
            (bought, sold, bid + ask, np.zeros_like(bid)),
            self.aversion,
        )

    def _best(self, _: int, after: F64, last: tuple[F64, F64]) -> tuple[F64, F64]:
        """The best offsets. Each side is optimised given the other, in turn; where fills are likely and risk is large there can
        be several pairs that neither side alone would leave, so this begins at many and goes on with the best."""
        states = np.arange(len(after))
        ask = np.vstack((last[1], np.linspace(0, self.max_offset, _STARTS)[:, None] + 0.0 * after))
        bid = np.broadcast_to(last[0], ask.shape)
        for _round in range(4):
            bid, ask = self._improve(after, bid, ask)
        top = self._gain(after, bid, ask).argmax(axis=0)
        bid, ask = bid[top, states], ask[top, states]
        for _round in range(500):
            before = bid, ask
            bid, ask = self._improve(after, bid, ask)
            if max(np.abs(bid - before[0]).max(), np.abs(ask - before[1]).max()) < 1e-13 * self.max_offset:
                return bid, ask
        raise DataError(f"{type(self).__name__}: no convergence of the two offsets in 500 rounds with {self}")

    def _improve(self, after: F64, bid: F64, ask: F64) -> tuple[F64, F64]:
        """The best bid given the ask, then the best ask given that bid, [..., 2Q + 1]."""
        gamma = self.aversion
        _hit, lifted, bought, sold = self._sides(after, bid, ask)
        unfilled = _either(lifted, sold, np.zeros_like(ask), gamma)
        bid = self._best_offset(unfilled - _either(lifted, ask, bought - bid, gamma))
        bid[..., -1] = self.max_offset
        hit, _lifted, bought, sold = self._sides(after, bid, ask)
        unfilled = _either(hit, bought, np.zeros_like(bid), gamma)
        ask = self._best_offset(unfilled - _either(hit, bid, sold - ask, gamma))
        ask[..., 0] = self.max_offset
        return bid, ask

    def _best_offset(self, reserve: F64) -> F64:
        """argmax of p(δ) u(δ - reserve) over [0, max_offset]."""
        gamma, k = self.aversion, self.decay
        best = reserve + _margin(1.0, k, gamma)
        if self.fills == "linear":
            best = np.maximum(best, math.log(self.arrival * self.dt) / k)  # nearer than this fills no more often
        elif self.fills == "poisson":
            best = self._poisson_offset(reserve, best)
        return np.clip(best, 0.0, self.max_offset)

    def _poisson_offset(self, reserve: F64, low: F64) -> F64:
        """Root of δ = reserve + ln(1 + γ / (k r)) / γ, r = x / (eˣ - 1), x = A dt exp(-k δ), not below `low`: Newton steps
        inside a shrinking bracket. Roots outside [0, max_offset] come back as its nearest end."""
        gamma, k = self.aversion, self.decay
        low, high = np.maximum(low, 0.0), np.full_like(reserve, self.max_offset)
        low = np.minimum(low, high)
        offset = low.copy()
        for _round in range(200):
            x = np.maximum(self.arrival * self.dt * np.exp(-k * offset), 1e-300)
            ratio = x / np.expm1(x)
            error = offset - reserve - _margin(ratio, k, gamma)
            slope = 1 + (x * np.exp(x) / np.expm1(x) - 1) / (ratio + gamma / k)
            low, high = np.where(error <= 0, offset, low), np.where(error >= 0, offset, high)
            new = offset - error / slope
            new = np.where((new < low) | (new > high), (low + high) / 2, new)
            if np.abs(new - offset).max() < 1e-14 * self.max_offset:
                return new
            offset = new
        raise DataError(f"{type(self).__name__}: no convergence of an offset in 200 rounds with {self}")


def _certain(probabilities: tuple[F64, ...], gains: tuple[F64, ...], gamma: float) -> F64:
    """Certainty equivalent of a lottery in every state: u⁻¹(Σ p u(gain)), without overflow."""
    chance, gain = np.stack(probabilities), np.stack(gains)
    if gamma == 0:
        return (chance * gain).sum(axis=0)
    gain = np.where(chance > 0, gain, np.inf)
    worst = gain.min(axis=0)
    loss = (chance * np.expm1(-gamma * (gain - worst))).sum(axis=0)
    rest = (chance * np.exp(-gamma * (gain - worst))).sum(axis=0)
    return (
        worst - np.where(loss > -0.5, np.log1p(np.maximum(loss, -0.5)), np.log(rest)) / gamma
    )  # each where it is exact


def _either(chance: F64, gain: F64, otherwise: F64, gamma: float) -> F64:
    return _certain((chance, 1 - chance), (gain, otherwise), gamma)


def _margin(ratio: F64 | float, decay: float, gamma: float) -> F64 | float:
    """ln(1 + γ / (k r)) / γ, or 1 / (k r) without risk aversion: what a monopolist adds to the reserve price."""
    return np.log1p(gamma / (decay * ratio)) / gamma if gamma else 1 / (decay * ratio)


def _lookup(quotes: F64, bound: int) -> Policy:
    """The policy of a table of offsets [steps, 2 bound + 1, 2]."""

    def policy(step: I64, state: F64) -> F64:
        place = np.clip(np.rint(state[:, 0]).astype(np.int64), -bound, bound) + bound
        return quotes[step, place]

    return policy


@lru_cache(maxsize=64)
def _programme(problem: Quoting) -> tuple[F64, F64]:
    worth, quotes = problem._backward(problem._best)
    worth.flags.writeable = quotes.flags.writeable = False
    return worth, quotes


@lru_cache(maxsize=64)
def _best_half_spread(problem: Quoting) -> float:
    """Golden section between the best two of a grid: the value is smooth and has one top in the half-spread."""

    def value(offset: float) -> float:
        return problem.certainty_equivalent(problem.evaluate(problem.fixed(offset)))

    grid = np.linspace(0, problem.max_offset, 17)
    top = int(np.argmax([value(x) for x in grid]))
    low, high = float(grid[max(top - 1, 0)]), float(grid[min(top + 1, 16)])
    share = (math.sqrt(5) - 1) / 2
    inner, outer = high - share * (high - low), low + share * (high - low)
    at_inner, at_outer = value(inner), value(outer)
    while high - low > 1e-6:
        if at_inner >= at_outer:
            high, outer, at_outer = outer, inner, at_inner
            inner = high - share * (high - low)
            at_inner = value(inner)
        else:
            low, inner, at_inner = inner, outer, at_outer
            outer = low + share * (high - low)
            at_outer = value(outer)
    return (low + high) / 2
