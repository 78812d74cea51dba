"""How large a position may be for a target volatility: GARCH(1,1) blended with realised volatility, regimes, a scale.

Everything is causal: the scale after return t depends on returns up to t only. Floats live here and end in integer basis
points, which `RiskGate.scale` applies to position limits (never above them). Budgets that shrink with the drawdown are part
of the gate itself: ``portfolio.drawdown.scaled`` in the limits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emp_gym.risk.state import FULL_SCALE
from emp_gym.types import F64, I8, I64, Condition, ConfigError


@dataclass(frozen=True)
class Garch:
    """h[t+1] = omega + alpha * r[t]^2 + beta * h[t] (Bollerslev 1986, eq. 1 with p = q = 1); zero mean."""

    omega: float
    alpha: float
    beta: float

    def __post_init__(self) -> None:
        if not (self.omega > 0 and self.alpha >= 0 and self.beta >= 0 and self.alpha + self.beta < 1):
            raise ConfigError(f"GARCH needs omega > 0, alpha, beta >= 0 and alpha + beta < 1, got {self}")

    @property
    def variance(self) -> float:
        """The long-run variance of one return."""
        return self.omega / (1 - self.alpha - self.beta)

    def simulate(self, steps: int, paths: int, random: np.random.Generator) -> F64:
        """Returns [steps, paths] with normal innovations, started at the long-run variance."""
        shocks = random.standard_normal((steps, paths))
        returns, h = np.empty_like(shocks), np.full(paths, self.variance)
        for t in range(steps):
            returns[t] = np.sqrt(h) * shocks[t]
            h = self.omega + self.alpha * returns[t] ** 2 + self.beta * h
        return returns


def fit_garch(returns: F64) -> Garch:
    """GARCH(1,1) by Gaussian quasi-maximum likelihood (Bollerslev and Wooldridge 1992); `returns` [T] of the past, T >= 100."""
    try:
        from scipy.optimize import minimize  # type: ignore[import-untyped]
        from scipy.signal import lfilter  # type: ignore[import-untyped]
    except ImportError as error:
        raise ConfigError("fitting GARCH needs scipy (pip install scipy); without it leave garch=None: EWMA") from error
    returns = np.asarray(returns, float)
    unit = float(np.sqrt(np.mean(returns**2))) if returns.size else 0.0
    if returns.ndim != 1 or len(returns) < 100 or not np.isfinite(unit) or unit == 0:
        raise ConfigError(f"fitting GARCH needs at least 100 finite returns that are not all 0, got {returns.shape}")
    squares = (returns / unit) ** 2

    def negative(parameters: F64) -> float:
        omega, alpha, beta = _from_free(parameters)
        first = np.array([beta])  # h[0] = 1, the sample variance
        h, _ = lfilter([1.0], [1.0, -beta], omega + alpha * squares[:-1], zi=first)
        h = np.maximum(np.concatenate([[1.0], h]), 1e-12)
        return 0.5 * float(np.mean(np.log(h) + squares / h))

    starts = [_to_free(0.05, 0.95, 0.05), _to_free(0.02, 0.98, 0.1), _to_free(0.3, 0.7, 0.3)]
    best = min((minimize(negative, start, method="L-BFGS-B") for start in starts), key=lambda found: float(found.fun))
    omega, alpha, beta = _from_free(best.x)
    return Garch(omega * unit**2, alpha, beta)


def _to_free(omega: float, persistence: float, share: float) -> F64:
    return np.array([np.log(omega), np.log(persistence / (1 - persistence)), np.log(share / (1 - share))])


def _from_free(free: F64) -> tuple[float, float, float]:
    """(omega, alpha, beta) of three unbounded numbers: log omega, logit of alpha + beta, logit of alpha's share of it."""
    omega, persistence, share = np.exp(free[0]), 0.9999 / (1 + np.exp(-free[1])), 1 / (1 + np.exp(-free[2]))
    return float(omega), float(persistence * share), float(persistence * (1 - share))


@dataclass(frozen=True)
class SizingConfig:
    """Volatilities are standard deviations of one return, in the returns' own unit (per decision)."""

    target: float  # volatility of a position at full limit x scale
    window: int = 64  # returns in the realised volatility
    decay: float = 0.94  # of the EWMA that stands in for GARCH
    blend: float = 0.7  # share of GARCH (or EWMA) variance, the rest is realised
    calm: float = 0.7  # below this multiple of the long-run volatility it is calm
    storm: float = 1.6  # above this one it is a storm
    hysteresis: float = 0.1  # a regime is left only this share beyond its border
    storm_scale: float = 1.0  # extra cut in storms; 1 keeps the target

    def __post_init__(self) -> None:
        if not (self.target > 0 and self.window >= 2 and 0 < self.decay < 1 and 0 <= self.blend <= 1):
            raise ConfigError(f"sizing needs target > 0, window >= 2, 0 < decay < 1 and 0 <= blend <= 1, got {self}")
        if not (0 < self.calm < self.storm and 0 <= self.hysteresis < 1 and 0 < self.storm_scale <= 1):
            raise ConfigError(f"sizing needs 0 < calm < storm, 0 <= hysteresis < 1, 0 < storm_scale <= 1, got {self}")


class Sizer:
    """Scales position limits to a target volatility, for any shape of lanes and instruments.

    `garch` is fitted to the past (`fit_garch`); None uses an EWMA. Until `window` returns have been seen, the realised part
    is the mean of those there are, and before the first the long-run variance (without GARCH: nothing is known, scale 0).
    """

    def __init__(self, config: SizingConfig, shape: tuple[int, ...], garch: Garch | None = None) -> None:
        self.config, self.garch, self.shape = config, garch, shape
        self._squares = np.zeros((config.window, *shape))
        self._model = np.full(shape, garch.variance if garch else np.nan)  # variance of the next return
        self._long = np.full(shape, garch.variance if garch else np.nan)
        self._seen = 0
        self.regime = np.full(shape, int(Condition.NORMAL), np.int8)

    def update(self, returns: F64, condition: I8 | None = None) -> I64:
        """Takes the latest returns, of the sizer's shape, and gives the scales for the next ones, basis points.

        `condition` is the project's own label (`Condition`, from `sensory.regime`): it then says what a storm is. Without it
        the sizer goes by volatility alone.
        """
        returns = np.asarray(returns, float)
        if returns.shape != self.shape or not np.isfinite(returns).all():
            raise ConfigError(f"returns must be finite and of shape {self.shape}, got shape {returns.shape}")
        if condition is not None and (
            np.shape(condition) != self.shape or not np.isin(condition, list(Condition)).all()
        ):
            raise ConfigError(f"condition must be values of Condition of shape {self.shape}, got {condition!r}")
        square = returns**2
        self._squares[self._seen % self.config.window] = square
        self._seen += 1
        if self.garch is not None:
            self._model = self.garch.omega + self.garch.alpha * square + self.garch.beta * self._model
        else:
            decay = self.config.decay
            self._model = np.where(np.isnan(self._model), square, decay * self._model + (1 - decay) * square)
            self._long = np.where(np.isnan(self._long), square, self._long + (square - self._long) / self._seen)
        if condition is None:
            self._turn()
        else:
            self.regime = np.array(condition, np.int8)
        return self.scale_bps

    @property
    def volatility(self) -> F64:
        """Forecast of the next return's volatility; NaN when nothing is known."""
        if self._seen == 0:
            return np.sqrt(self._model)
        realised = self._squares[: min(self._seen, self.config.window)].mean(axis=0)
        return np.sqrt(self.config.blend * self._model + (1 - self.config.blend) * realised)

    @property
    def scale_bps(self) -> I64:
        """Share of the position limit, basis points, at most all of it; 0 when the volatility is not known."""
        volatility = self.volatility
        known = np.isfinite(volatility)
        share = np.where(known, self.config.target / np.maximum(np.where(known, volatility, 1.0), 1e-300), 0.0)
        share = np.where(self.regime == Condition.STRESSED, share * self.config.storm_scale, share)
        return np.floor(np.minimum(share, 1.0) * FULL_SCALE).astype(np.int64)

    def _turn(self) -> None:
        """Moves between calm, normal and storm by volatility alone; a border is wider on the way back."""
        config, ratio = self.config, self.volatility / np.sqrt(np.maximum(self._long, 1e-300))
        calm, storm = self.regime == Condition.CALM, self.regime == Condition.STRESSED
        stays_calm = ratio < np.where(calm, config.calm * (1 + config.hysteresis), config.calm)
        stays_storm = ratio > np.where(storm, config.storm * (1 - config.hysteresis), config.storm)
        turned = np.where(
            stays_storm, int(Condition.STRESSED), np.where(stays_calm, int(Condition.CALM), int(Condition.NORMAL))
        )
        self.regime = turned.astype(np.int8)
