"""Execution schedules: a parent order along a curve of time, or of the volume seen so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from emp_gym.agents.base import Arrays, BaseAgent, Callback
from emp_gym.agents.baselines.action_layouts import EXECUTES, Able, parameter, require
from emp_gym.agents.baselines.calibration import Calibrated, fit_impact, half_ticks, sweep_costs, training_steps
from emp_gym.types import F32, F64, Bool, MakeEnv


@dataclass(frozen=True)
class ScheduleConfig:
    """What schedules share."""

    patience: float = 0.0  # share of a clip that may be behind the curve before the rest is taken
    passive: bool = False  # True: rests at the touch while on schedule; False: takes what is due and nothing else


@dataclass(frozen=True)
class WatchingConfig(ScheduleConfig):
    """What schedules share that watch the training days first."""

    lanes: int = 64  # that watch
    steps: int = 65_536  # decisions watched, over all lanes


ROUNDING = 2e-7
"""Of float32 shares as they are observed."""


class Schedule(BaseAgent):
    """Takes a clip (or all that is left, if less) whenever the parent is one behind `curve`; two when two behind.

    A schedule that is `ahead` takes a clip when its turn begins, not when it is over.
    """

    able: ClassVar[Able] = EXECUTES
    ahead: ClassVar[bool] = True
    config: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._menu = require(self)
        self._left, self._elapsed = self.column("parent_left"), self.column("elapsed")
        self._parent = parameter(self, "parent")  # lots
        self._clip = parameter(self, "order_quantity") / self._parent  # share of the parent
        self._episode = parameter(self, "episode")  # decisions

    def curve(self, observation: F32, state: Any) -> F64:
        """Share of the parent [N] that should be done by now."""
        raise NotImplementedError(f"{type(self).__name__} must define curve(observation, state)")

    def advanced(self, observation: F32, state: Any) -> Any:
        """The state with this observation taken in: what `curve` is then given, and the next decision."""
        return state

    def act(self, observation: F32, state: Any, mask: Bool | None = None) -> tuple[np.ndarray, Any]:
        state = self.advanced(observation, state)
        left = observation[:, self._left].astype(np.float64)
        turn = 0.0 if self.ahead else np.minimum(left / self._clip, 1.0)  # clips; the last one may be a part
        late = (self.curve(observation, state) - (1.0 - left)) / self._clip - turn - self.config.patience
        late = late + ROUNDING / self._clip
        menu = self._menu
        rest = menu.find(bid=0) if self.config.passive else menu.keep
        wanted = np.where(late >= 1.0, menu.find(take=2), np.where(late >= 0.0, menu.find(take=1), rest))
        wanted = np.where(left > 0.0, wanted, menu.keep)
        return menu.allowed(wanted, mask), state

    def idle(self, observation: F32, mask: Any) -> np.ndarray:
        """Nothing is done, in any lane [N]."""
        return np.full(len(observation), self._menu.keep, np.int64)

    def gone(self, observation: F32) -> F64:
        """Share of the episode [N] that is over."""
        return observation[:, self._elapsed].astype(np.float64)


class TWAP(Schedule):
    """Time-weighted average price: executes in proportion to the time gone (Almgren and Chriss 2001 without risk
    aversion: equal parts)."""

    Config: ClassVar[type | None] = ScheduleConfig

    def curve(self, observation: F32, state: Any) -> F64:
        return self.gone(observation)


@dataclass(frozen=True)
class VWAPConfig(WatchingConfig):
    """Parameters of `VWAP`."""

    buckets: int = 4  # parts of the session, each with its own curve
    points: int = 64  # of the curve over an episode


class VWAP(Calibrated, Schedule):
    """Volume-weighted average price: executes along the volume curve of the training days, which `learn` watches
    without trading (the benchmark: Berkowitz, Logue and Noser, J. of Finance 1988; executing along the expected curve:
    Konishi, "Optimal slice of a VWAP trade", J. of Financial Markets 2002). State: part of the session in which the
    episode began, int64 [N], -1 before its first decision.
    """

    Config: ClassVar[type | None] = VWAPConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._time = self.column("time_of_day")
        self.column("volume_step")
        self._curve: F64 | None = None  # [buckets, points + 1]

    def missing(self) -> list[str]:
        return ["the volume curve"] if self._curve is None else []

    def initial_state(self, lanes: int) -> np.ndarray:
        return np.full(lanes, -1, np.int64)

    def advanced(self, observation: F32, state: Any) -> Any:
        return np.where(state < 0, self._bucket(observation), state)

    def _bucket(self, observation: F32) -> np.ndarray:
        return np.clip(observation[:, self._time] * self.config.buckets, 0, self.config.buckets - 1).astype(np.int64)

    def _point(self, observation: F32) -> tuple[F64, np.ndarray]:
        """Place on the curve [N], and the point before it [N]."""
        place = self.gone(observation) * self.config.points
        return place, np.clip(place.astype(np.int64), 0, self.config.points - 1)

    def curve(self, observation: F32, state: Any) -> F64:
        self.ready()
        assert self._curve is not None
        place, before = self._point(observation)
        low, high = self._curve[state, before], self._curve[state, before + 1]
        return low + (place - before) * (high - low)

    def learn(self, make_env: MakeEnv, total_timesteps: int, callback: Callback | None = None) -> None:
        """Watches the training days and keeps their curve."""
        sums = np.zeros((self.config.buckets, self.config.points))
        bucket = None
        for step in training_steps(self, make_env, total_timesteps, callback, self.idle):
            bucket = self._bucket(step.before) if bucket is None else bucket
            volume = np.where(step.done, 0.0, self.value(step.after, "volume_step"))
            np.add.at(sums, (bucket, self._point(step.before)[1]), volume)
            bucket = np.where(step.done, self._bucket(step.after), bucket)
        self._curve = curves(sums)

    def arrays(self) -> Arrays:
        return {} if self._curve is None else {"curve": self._curve}

    def restore(self, arrays: Arrays) -> None:
        self._curve = arrays.get("curve")


def curves(volume: F64) -> F64:
    """Running shares [B, P + 1] of volumes [B, P], from 0 to 1; a part of the session without volume gets the mean
    curve."""
    whole = volume.sum(axis=0)
    filled = np.where(volume.sum(axis=1, keepdims=True) > 0, volume, whole)
    filled = filled + 1e-3 * max(filled.mean(), 1e-12)
    running = np.cumsum(filled, axis=1) / filled.sum(axis=1, keepdims=True)
    return np.concatenate([np.zeros((len(volume), 1)), running], axis=1)


@dataclass(frozen=True)
class POVConfig(WatchingConfig):
    """Parameters of `POV`."""

    rate: float | None = None  # share of the volume; None: the parent over an episode's mean volume on training days


class POV(Calibrated, Schedule):
    """Percentage of volume: has executed `rate` times the volume that has traded since the episode began, to within one
    clip below, and never looks ahead (Kissell and Glantz, "Optimal Trading Strategies", 2003). The deadline comes first:
    as soon as one clip a decision is only just enough for what is left, it takes one a decision.

    The volume is that of the tape, own executions not in it. State: lots traded since the episode began, float64 [N].
    """

    Config: ClassVar[type | None] = POVConfig
    ahead = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.column("volume_step")
        self._rate: float | None = self.config.rate

    def missing(self) -> list[str]:
        return ["rate"] if self._rate is None else []

    def initial_state(self, lanes: int) -> np.ndarray:
        return np.zeros(lanes)

    def advanced(self, observation: F32, state: Any) -> Any:
        return state + self.value(observation, "volume_step")

    def curve(self, observation: F32, state: Any) -> F64:
        self.ready()
        assert self._rate is not None
        decisions = np.rint((1.0 - self.gone(observation)) * self._episode)  # left, this one included
        must = 1.0 - self._clip * (decisions - 1.0)
        return np.minimum(np.maximum(self._rate * state / self._parent, must), 1.0)

    def learn(self, make_env: MakeEnv, total_timesteps: int, callback: Callback | None = None) -> None:
        """Watches the volume of the training days; a rate that was given stays."""
        volume = decisions = 0.0
        for step in training_steps(self, make_env, total_timesteps, callback, self.idle):
            volume += float(self.value(step.after, "volume_step")[~step.done].sum())
            decisions += float((~step.done).sum())
        if self.config.rate is None and volume > 0:
            self._rate = self._parent / (volume / decisions * self._episode)
        self.ready()

    def arrays(self) -> Arrays:
        return {} if self._rate is None else {"rate": np.array([self._rate])}

    def restore(self, arrays: Arrays) -> None:
        if self.config.rate is None and "rate" in arrays:
            self._rate = float(arrays["rate"][0])


@dataclass(frozen=True)
class AlmgrenChrissConfig(WatchingConfig):
    """Parameters of `AlmgrenChrissSchedule`."""

    risk_aversion: float | None = None  # lambda, per tick and clip; None: the one at which kappa T is `urgency`
    urgency: float = 3.0  # kappa T; that of the paper's example at lambda = 1e-6 is 0.607 * 5
    volatility: float | None = None  # sigma, ticks per root decision; None: measured on training days
    impact: float | None = None  # eta, ticks per clip and decision; None: measured on training days


class AlmgrenChrissSchedule(Calibrated, Schedule):
    """The schedule that minimises expected cost plus lambda times variance (Almgren and Chriss, "Optimal execution of
    portfolio transactions", J. of Risk 2001): holdings sinh(kappa (T - t)) / sinh(kappa T) (eq. 17), with
    2 (cosh kappa - 1) = lambda sigma^2 / eta for one-decision steps (eqs. 15, 16) and no permanent impact. `learn`
    measures sigma, and eta from what taking 1 to 5 clips at once costs beyond the touch. State: none.
    """

    Config: ClassVar[type | None] = AlmgrenChrissConfig
    MOST_CLIPS: ClassVar[int] = 5

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._levels = sum(feature.name.startswith("bid_size_") for feature in self.features)
        self._volatility, self._impact = self.config.volatility, self.config.impact

    def missing(self) -> list[str]:
        if self.config.risk_aversion is None:
            return []
        return [name for name in ("volatility", "impact") if getattr(self, f"_{name}") is None]

    def kappa(self) -> float:
        """Per decision."""
        self.ready()
        if self.config.risk_aversion is None:
            return self.config.urgency / self._episode
        return ac_kappa(self.config.risk_aversion, self._volatility, self._impact)

    def curve(self, observation: F32, state: Any) -> F64:
        return 1.0 - ac_holdings(self.gone(observation), self.kappa() * self._episode)

    def learn(self, make_env: MakeEnv, total_timesteps: int, callback: Callback | None = None) -> None:
        """Measures what was not given."""
        moved2 = decisions = 0.0
        costs, counts = np.zeros(self.MOST_CLIPS), np.zeros(self.MOST_CLIPS)
        clip = self._clip * self._parent
        for step in training_steps(self, make_env, total_timesteps, callback, self.idle):
            moves = 0.5 * half_ticks(self, step.after, "return_step")[~step.done]
            moved2, decisions = moved2 + float((moves**2).sum()), decisions + len(moves)
            more = sweep_costs(self, step.before, self._levels, clip, self.MOST_CLIPS)
            costs, counts = costs + more[0], counts + more[1]
        if self.config.volatility is None:
            self._volatility = float(np.sqrt(moved2 / decisions))
        if self.config.impact is None:
            self._impact = fit_impact(costs, counts)

    def arrays(self) -> Arrays:
        known = {"volatility": self._volatility, "impact": self._impact}
        return {name: np.array([value]) for name, value in known.items() if value is not None}

    def restore(self, arrays: Arrays) -> None:
        for name, value in arrays.items():
            if getattr(self.config, name) is None:
                setattr(self, f"_{name}", float(value[0]))


def ac_kappa(risk_aversion: float, volatility: float, impact: float) -> float:
    """kappa of unit steps: arccosh(1 + lambda sigma^2 / (2 eta)), with eta the temporary impact less half the permanent."""
    return float(np.arccosh(1.0 + 0.5 * risk_aversion * volatility**2 / impact))


def ac_holdings(gone: F64, kappa_t: float) -> F64:
    """Share still held when the share `gone` of the time is over: sinh(kappa T (1 - gone)) / sinh(kappa T); its limit
    1 - gone without risk aversion. Written with exponentials that cannot overflow."""
    if kappa_t < 1e-6:
        return 1.0 - gone
    return np.exp(-kappa_t * gone) * np.expm1(-2.0 * kappa_t * (1.0 - gone)) / np.expm1(-2.0 * kappa_t)
