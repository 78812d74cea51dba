"""The one causal labeller of market regimes: `Regime` = 3 x condition (volatility and liquidity) + trend, for each row.

The book is sampled at the ticks of a fixed clock (every `grid_ns` after midnight). A tick is closed by the first row that is later;
its sample is the last row at or before it, so the label at a row rests on earlier rows of the same day only. From the samples:

    volatility    mean of |r|, r the change of mid2 between samples        half-life `move_half_life_ns`
    spread, depth means of best ask - best bid and of the lots in view     half-life `book_half_life_ns`
    reference     means of the same three                                  half-life `reference_half_life_ns`
    stress        w_v ln(volatility / reference) + w_s ln(spread / reference) - w_d ln(depth / reference)
    drift         t = mean(r) / sqrt(mean(r^2) a / (2 - a)), a the gain of that mean: its standard error without a drift

All means are exponential and begin as plain means, so a day needs nothing from the day before. Logarithms are cut at
+-ln(CUT). Condition and trend each turn when stress and t pass a border, turn back only at a nearer one, and stay for `dwell_ns` at
least. Until `warm_ns` of samples have been taken the label is NORMAL_FLAT.

A tick without a two-sided, uncrossed market in continuous trading (halt, cross, a side empty) takes no sample: everything
stands still, the label too. The change of mid2 across such a gap is one r. What is measured: `docs/regimes.md`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from emp_gym.data.tape.tape_set import TapeSet
from emp_gym.jit import hot, njit
from emp_gym.types import I8, I64, NS, Condition, ConfigError, DataError, Regime, TradingStatus, TrendState, View

CALM, NORMAL, STRESSED = (int(condition) for condition in Condition)
DOWN, FLAT, UP = (int(trend) for trend in TrendState)
TRADING = int(TradingStatus.TRADING)
CUT = 4.0  # a quantity counts as at most this many times its reference, and as at least the inverse
LONGEST = 100_000  # ticks that one gap of a feed is worth; nothing is left of older samples then


@dataclass(frozen=True)
class RegimeConfig:
    """Constants of the labeller, fixed in advance: chosen on the 16 embedded training days (`docs/regimes.md`)."""

    grid_ns: int = 10 * NS  # time between samples
    move_half_life_ns: int = 300 * NS  # of volatility and drift
    book_half_life_ns: int = 90 * NS  # of spread and depth
    reference_half_life_ns: int = 7_200 * NS  # of what is usual today
    warm_ns: int = 600 * NS  # of samples before the first label
    dwell_ns: int = 60 * NS  # a condition or trend stays at least so long
    volatility_weight: float = 0.2
    spread_weight: float = 0.4
    depth_weight: float = 0.4
    calm: float = -0.2  # stress below this is calm
    stressed: float = 0.15  # stress above this is stressed
    hysteresis: float = 0.08  # the way back is so much longer
    trend: float = 1.0  # |t| above this is a trend
    trend_left: float = 0.25  # |t| below this is none any more

    def __post_init__(self) -> None:
        names = [name for name in vars(self) if name.endswith("_ns")]
        wrong = {name: vars(self)[name] for name in names if int(vars(self)[name]) < self.grid_ns or self.grid_ns < 1}
        if wrong:
            raise ConfigError(f"times of a RegimeConfig must be at least its grid_ns, 1 or more ns, got {wrong}")
        weights = (self.volatility_weight, self.spread_weight, self.depth_weight)
        if not (all(weight >= 0 for weight in weights) and 0 < sum(weights) < math.inf):
            raise ConfigError(f"weights of a RegimeConfig must be >= 0 and not all 0, got {weights}")
        if not (self.hysteresis >= 0 and self.calm + self.hysteresis < self.stressed - self.hysteresis):
            raise ConfigError(
                f"a RegimeConfig needs hysteresis >= 0 and calm + hysteresis < stressed - hysteresis, got {self}"
            )
        if not 0 <= self.trend_left <= self.trend < math.inf:
            raise ConfigError(f"a RegimeConfig needs 0 <= trend_left <= trend, got {self.trend_left} and {self.trend}")


DEFAULT = RegimeConfig()

PARAMS = np.dtype(
    [("grid_ns", "i8"), ("warm", "i8"), ("dwell", "i8")]  # the last two in samples
    + [(name, "f8") for name in ("move_gain", "book_gain", "reference_gain")]
    + [(name, "f8") for name in ("volatility_weight", "spread_weight", "depth_weight")]
    + [(name, "f8") for name in ("calm", "stressed", "hysteresis", "trend", "trend_left")]
)
"""`RegimeConfig` as the kernel reads it."""

STATE = np.dtype(
    [("fed", "i8"), ("time_ns", "i8"), ("mid2", "i8"), ("spread", "i8"), ("depth", "i8")]  # the last row fed
    + [("tick_ns", "i8"), ("samples", "i8"), ("sampled_mid2", "i8")]
    + [(name, "f8") for name in ("move", "wide", "deep")]  # fast means
    + [(name, "f8") for name in ("usual_move", "usual_wide", "usual_deep")]  # slow means
    + [(name, "f8") for name in ("drift", "square")]
    + [(name, "i8") for name in ("condition", "condition_age", "trend", "trend_age")]  # ages in samples
)
"""What the labeller remembers of one market."""


def _params(config: RegimeConfig) -> np.ndarray:
    params = np.zeros(1, PARAMS)
    for name in set(PARAMS.names or ()) & set(vars(config)):
        params[name] = getattr(config, name)
    for name in ("warm", "dwell"):
        params[name] = -(-getattr(config, f"{name}_ns") // config.grid_ns)
    for name in ("move", "book", "reference"):
        params[f"{name}_gain"] = 1 - 0.5 ** (config.grid_ns / getattr(config, f"{name}_half_life_ns"))
    return params


START = np.zeros(1, STATE)
"""What it remembers when a day begins."""
START["condition"], START["trend"], START["condition_age"], START["trend_age"] = NORMAL, FLAT, LONGEST, LONGEST


@hot
def log_ratio(value, usual):
    """ln(value / usual), cut; 0 while nothing is usual yet."""
    if usual <= 0.0:
        return 0.0
    return math.log(min(max(value / usual, 1.0 / CUT), CUT))


@hot
def average(old, value, samples, gain):
    """The exponential mean after one more value, of which there are `samples`: a plain mean until the gain is reached."""
    return old + max(1.0 / samples, gain) * (value - old)


@hot
def sample(state, params):
    """Takes the last row fed as one sample and turns condition and trend."""
    n = state["samples"]
    state["samples"] = n + 1
    book, slow = params["book_gain"], params["reference_gain"]
    state["wide"] = average(state["wide"], state["spread"], n + 1, book)
    state["deep"] = average(state["deep"], state["depth"], n + 1, book)
    state["usual_wide"] = average(state["usual_wide"], state["spread"], n + 1, slow)
    state["usual_deep"] = average(state["usual_deep"], state["depth"], n + 1, slow)
    if n > 0:
        r, gain = float(state["mid2"] - state["sampled_mid2"]), params["move_gain"]
        state["move"] = average(state["move"], abs(r), n, gain)
        state["usual_move"] = average(state["usual_move"], abs(r), n, slow)
        state["drift"] = average(state["drift"], r, n, gain)
        state["square"] = average(state["square"], r * r, n, gain)
    state["sampled_mid2"] = state["mid2"]
    if n >= params["warm"]:
        turn_condition(state, params)
        turn_trend(state, params)


@hot
def turn_condition(state, params):
    stress = (
        params["volatility_weight"] * log_ratio(state["move"], state["usual_move"])
        + params["spread_weight"] * log_ratio(state["wide"], state["usual_wide"])
        - params["depth_weight"] * log_ratio(state["deep"], state["usual_deep"])
    )
    now, slack = state["condition"], params["hysteresis"]
    calm = params["calm"] + (slack if now == CALM else 0.0)
    stressed = params["stressed"] - (slack if now == STRESSED else 0.0)
    turned = STRESSED if stress > stressed else CALM if stress < calm else NORMAL
    state["condition_age"] += 1
    if turned != now and state["condition_age"] >= params["dwell"]:
        state["condition"], state["condition_age"] = turned, 0


@hot
def turn_trend(state, params):
    error = math.sqrt(state["square"] * params["move_gain"] / (2.0 - params["move_gain"]))
    t = state["drift"] / error if error > 0.0 else 0.0
    now = state["trend"]
    up = params["trend_left"] if now == UP else params["trend"]
    down = params["trend_left"] if now == DOWN else params["trend"]
    turned = UP if t > up else DOWN if t < -down else FLAT
    state["trend_age"] += 1
    if turned != now and state["trend_age"] >= params["dwell"]:
        state["trend"], state["trend_age"] = turned, 0


@hot
def feed(state, params, time_ns, mid2, spread, depth):
    """Closes the ticks before `time_ns` with what was fed before, keeps what is fed now, and gives the label."""
    grid = params["grid_ns"]
    if state["fed"] == 0:
        state["fed"], state["tick_ns"] = 1, -(-time_ns // grid) * grid
    elif state["tick_ns"] < time_ns:
        passed = -(-(time_ns - state["tick_ns"]) // grid)
        if state["spread"] > 0 and state["depth"] > 0:
            for _ in range(min(passed, LONGEST)):
                sample(state, params)
        state["tick_ns"] += passed * grid
    state["time_ns"], state["mid2"], state["spread"], state["depth"] = time_ns, mid2, spread, depth
    return 3 * state["condition"] + state["trend"]


@njit
def _label(rows, book, params, state, out):
    for r in range(len(rows)):
        row, bid, ask = rows[r], book[r, 0, 0], book[r, 1, 0]
        spread = depth = 0
        if bid["size"] > 0 and ask["size"] > 0 and row["status"] == TRADING:
            spread = ask["price"] - bid["price"]
            for j in range(book.shape[2]):
                depth += book[r, 0, j]["size"] + book[r, 1, j]["size"]
        out[r] = feed(state[0], params[0], row["time_ns"], row["mid2"], spread, depth)


@njit
def _update(state, params, quotes, out):
    for i in range(len(state)):
        out[i] = feed(state[i], params[0], quotes[0, i], quotes[1, i], quotes[2, i], quotes[3, i])


def label(tape: TapeSet, config: RegimeConfig = DEFAULT) -> I8:
    """The `Regime` of every row of every day [R], from earlier rows of that day only; NORMAL_FLAT until warm."""
    out = np.empty(len(tape.rows), np.int8)
    params = _params(config)
    for day in range(len(tape.days)):
        own = tape.day_slice(day)
        _label(tape.rows[own], tape.book[own], params, START.copy(), out[own])
    return out


class Labeller:
    """The same labels while a market runs, for N lanes that know nothing of each other (one by default).

    Fed with every row it gives exactly what `label` gives; fed at decisions only, each tick is sampled with the last
    decision before it.
    """

    def __init__(self, lanes: int = 1, config: RegimeConfig = DEFAULT) -> None:
        self.config = config
        self._params = _params(config)
        self._state = np.repeat(START, lanes)

    def reset(self, lanes: Any = None) -> None:
        """A new day begins in `lanes` (numbers or a mask), by default in all."""
        self._state[slice(None) if lanes is None else lanes] = START

    @property
    def labels(self) -> I8:
        """The `Regime` of each lane now [N]."""
        return (3 * self._state["condition"] + self._state["trend"]).astype(np.int8)

    def update(self, time_ns: Any, mid2: Any, spread: Any, depth: Any) -> I8:
        """Takes what each lane shows now ([N] integers, or one for all) and gives its `Regime` [N].

        `depth` is the lots in view on both sides. Whatever must not be sampled (halt, empty side) comes with spread 0.
        Raises `DataError` when a lane's time goes backwards, `ConfigError` for other shapes or floats.
        """
        quotes = np.empty((4, len(self._state)), np.int64)
        for i, (name, given) in enumerate(dict(time_ns=time_ns, mid2=mid2, spread=spread, depth=depth).items()):
            values = np.asarray(given)
            if values.dtype.kind not in "iu" or values.shape not in ((), quotes[i].shape):
                raise ConfigError(
                    f"{name} of a Labeller must be integers of shape {quotes[i].shape}, got {values.dtype} {values.shape}"
                )
            quotes[i] = values
        back = np.flatnonzero((self._state["fed"] > 0) & (quotes[0] < self._state["time_ns"]))
        if len(back):
            then, now = self._state["time_ns"][back[0]], quotes[0, back[0]]
            raise DataError(f"lane {back[0]}: time {now} ns after {then} ns; call reset(lanes) where a new day begins")
        out = np.empty(len(self._state), np.int8)
        _update(self._state, self._params, quotes, out)
        return out

    def update_view(self, view: View, instrument: int = 0) -> I8:
        """`update` with what `view` shows of one instrument."""
        bids, asks = view.bid_size[:, instrument], view.ask_size[:, instrument]
        usable = (bids[:, 0] > 0) & (asks[:, 0] > 0) & (view.status[:, instrument] == TRADING)
        spread = np.where(usable, view.spread[:, instrument], 0)
        return self.update(view.time_ns, view.mid2[:, instrument], spread, bids.sum(axis=1) + asks.sum(axis=1))


def shares(labels: I8) -> dict[str, float]:
    """Share of rows by the name of their `Regime`, all nine."""
    counts: I64 = np.bincount(labels, minlength=len(Regime))
    return {regime.name: float(counts[regime] / max(len(labels), 1)) for regime in Regime}
