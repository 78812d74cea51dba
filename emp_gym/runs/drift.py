"""What a simulated market drifted by while agents were judged, and what of a P&L is more than that.

Nobody recorded such prices, so their drift is its author's and no skill. Over episodes w let m be how far the mid moved (currency a lot)
and p the agent's P&L. Who holds b lots all the time has p = b m but for costs; b is found by least squares, and p - b m is what is left.
A position that depends on the price or the clock (take-profit, holding only while it drifts) earns drift that this does not find.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emp_gym.evaluation import intervals
from emp_gym.evaluation.intervals import Estimate, Statistic
from emp_gym.evaluation.observers import Began, Observer, Settled
from emp_gym.types import CASH_UNITS, F64, I64


class Mids(Observer):
    """Notes how far the mid moves in lanes that are one episode each; then `moves`."""

    def began(self, now: Began) -> None:
        self._first, self._last = now.view.mid2[:, 0].copy(), now.view.mid2[:, 0].copy()
        self._unit = now.view.price_to_cash[:, 0] / (2 * CASH_UNITS)

    def settled(self, now: Settled) -> None:
        self._last[now.moved] = now.view.mid2[now.moved, 0]

    def moves(self) -> F64:
        """Currency a lot [N]; NaN where there was no mid."""
        known = (self._first > 0) & (self._last > 0)
        return np.where(known, (self._last - self._first) * self._unit, np.nan)


@dataclass(frozen=True)
class Drift:
    """What the drift was worth in the judged episodes."""

    limit: int  # lots that may be held
    constant: float  # what holding so many long made, costs aside: currency per episode; so many short, the same with a minus
    lots: float  # held all the time they do as the agent's P&L did with the market
    rest: Estimate  # of the agent's P&L, without them


def drift_of(
    pnl: F64, moves: F64, limit: int, dates: I64, rng: np.random.Generator, *, level: float, resamples: int
) -> Drift | None:  # fmt: skip
    """The drift behind `pnl` [W], where the mid moved `moves` [W]; None where a mid was missing."""
    if not np.isfinite(moves).all():
        return None
    lots = float(_held(pnl, moves, limit)(np.ones((1, len(pnl))))[0])
    rest = intervals.resampled(_rest(pnl, moves, limit), dates, rng, level=level, resamples=resamples)
    return Drift(limit, limit * float(moves.mean()), lots, rest)


def _held(pnl: F64, moves: F64, limit: int) -> Statistic:
    """Lots [R] that explain most of `pnl`; where all moves are the same, as many as may be held and would have made money."""

    def statistic(weights: F64) -> F64:
        n = weights.sum(axis=1)
        move = weights @ moves / n
        varied = weights @ moves**2 / n - move**2
        together = weights @ (pnl * moves) / n - weights @ pnl / n * move
        there = varied > 1e-12 * (move**2 + 1e-12)
        return np.clip(np.divide(together, varied, out=limit * np.sign(move), where=there), -limit, limit)

    return statistic


def _rest(pnl: F64, moves: F64, limit: int) -> Statistic:
    """What is left of the mean of `pnl` [R] without them."""
    held = _held(pnl, moves, limit)
    return lambda weights: (weights @ pnl - held(weights) * (weights @ moves)) / weights.sum(axis=1)
