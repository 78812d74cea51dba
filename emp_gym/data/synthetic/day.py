"""Synthetic days: a seeded order flow around a latent value, written as LOBSTER files (docs/synthetic_days.md).

Without a planted signal the market is fair: at the end of every burst of equal timestamps the value, a martingale, lies
between the best quotes, and a resting order is executed only when the value has reached its price. No strategy can then
expect to earn anything. With a signal the value drifts with a latent state that also tilts the order flow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emp_gym.data.synthetic import flow
from emp_gym.data.synthetic.book import (
    CONDITION,
    HEADING,
    MASK,
    NEXT_ID,
    ONE,
    SIGNAL,
    SLOTS,
    SPARE,
    TIME,
    TRUE_CONDITION,
    TRUE_SIGNAL,
    VALUE,
    WORDS,
    WrittenRows,
    below,
    new_book,
    new_rows,
    rand32,
)
from emp_gym.data.synthetic.text import book_text, message_text, wall_times
from emp_gym.types import EMPTY_ASK, F32, I8, I64, NS, Condition, ConfigError, TrendState

TICK_REGIMES = ("one", "wide")
VERSION = 1  # raised when the same config gives other bytes, so that nothing cached is served for it
SESSION = (34_200_000, 57_600_000)  # ms after midnight
HALT_NS = 300 * NS  # from a halt to the row in which quotes resume
PERSISTENCE = 2_000  # rows, mean time between two draws of the condition
_ACTIVITY = (22, 14, 11, 9, 8, 7, 6, 6, 7, 8, 10, 12, 19)  # messages by half hour, U-shaped
_VOLATILITY = (140, 118, 105, 98, 94, 90, 86, 86, 90, 94, 98, 105, 118)  # step pace by half hour, percent
_CHUNK = 1 << 16  # rows formatted at a time


@dataclass(frozen=True)
class DayConfig:
    """One synthetic day. The same config gives the same bytes. Errors: `ConfigError` names the field."""

    seed: int = 0
    rows: int = 60_000  # rows of the files
    levels: int = 5  # visible levels a side
    tick_regime: str = "one"  # "one": spread of one tick, deep queues; "wide": spread of many ticks, thin levels
    signal: float = 1.0  # planted predictability: scales drift and tilt; 0 = a fair market
    drift: float = 0.8  # drift of the value over 1,000 rows at full signal, in standard deviations of its noise
    tilt: float = 0.06  # lean of the flow at full signal: P(the bid side gains) = 1/2 + tilt
    holding: int = 3_000  # rows, mean time for which the signal keeps its sign
    volatility: float = 1.0  # scales the steps of the value
    calm: float = 0.35  # share of rows in calm conditions
    stressed: float = 0.15  # share of rows in stressed conditions
    thin: bool = False  # stressed books so thin that some of the visible levels are empty
    halts: int = 0  # trading halts of 5 minutes
    hidden_side: bool = False  # hidden executions: True = true side, as before 14 July 2014; False = always 1
    symbol: str = "SYNA"
    date: str = "2030-01-07"  # ISO
    held_out: bool = False  # belongs to the test split of the embedded days

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value, kind = getattr(self, name), type(getattr(type(self), name))
            if isinstance(value, bool) or not isinstance(value, int if kind is int else int | float):
                raise ConfigError(f"DayConfig.{name} must be of type {kind.__name__}, got {value!r}")
            if not low <= value <= high:
                raise ConfigError(f"DayConfig.{name} must be in [{low}, {high}], got {value!r}")
        if self.tick_regime not in TICK_REGIMES:
            raise ConfigError(f"DayConfig.tick_regime must be one of {TICK_REGIMES}, got {self.tick_regime!r}")
        if self.calm + self.stressed > 1:
            raise ConfigError(f"DayConfig.calm + stressed must not exceed 1, got {self.calm} + {self.stressed}")
        if not self.symbol.isalnum():
            raise ConfigError(f"DayConfig.symbol must be letters and digits, got {self.symbol!r}")
        try:
            date.fromisoformat(self.date)
        except ValueError as error:
            raise ConfigError(f"DayConfig.date must be an ISO date such as 2030-01-07, got {self.date!r}") from error


_LIMITS = {
    "seed": (0, 2**63 - 1), "rows": (1_000, 10_000_000), "levels": (1, 50), "signal": (0, 1), "drift": (0, 4),
    "tilt": (0, 0.15), "holding": (50, 10**9), "volatility": (0.25, 4), "calm": (0, 1), "stressed": (0, 1),
    "halts": (0, 3),
}  # fmt: skip


class WrittenDay(NamedTuple):
    """The files of a day and the truth behind them."""

    message: Path
    orderbook: Path
    signal: F32  # [R] planted drift in [-1, 1]: latent state times signal strength
    regime: I8  # [R] planted Regime: condition of the market, trend of the planted drift


class Truth(NamedTuple):
    """Everything that a simulated day knows, for tests and calibration."""

    rows: WrittenRows
    time_ns: I64  # [R] after midnight
    signal: F32  # [R]
    regime: I8  # [R]


def write_day(folder: Path, config: DayConfig) -> WrittenDay:
    """Simulates a day and writes its LOBSTER message and order book files into `folder`, which is made if absent."""
    truth = simulate_day(config)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{config.symbol}_{config.date}_{SESSION[0]}_{SESSION[1]}"
    message = folder / f"{stem}_message_{config.levels}.csv"
    orderbook = folder / f"{stem}_orderbook_{config.levels}.csv"
    text = np.empty(_CHUNK * max(90, config.levels * 48), np.uint8)
    rows, time_ns = truth.rows, truth.time_ns
    with message.open("wb") as message_file, orderbook.open("wb") as book_file:
        for first in range(0, config.rows, _CHUNK):
            last = min(first + _CHUNK, config.rows)
            message_file.write(text[: message_text(rows.message, time_ns, first, last, text)].data)
            book_file.write(text[: book_text(rows.book, first, last, EMPTY_ASK, text)].data)
    return WrittenDay(message, orderbook, truth.signal, truth.regime)


def simulate_day(config: DayConfig) -> Truth:
    """The day in memory, with the latent value of every row."""
    params = _params(config)
    rng = _generators(config.seed)
    rows = new_rows(config.rows, config.levels)
    flow.simulate(params, new_book(), _opening_state(rng, config), rng, rows)
    time_ns = np.empty(config.rows, np.int64)
    total = int(rows.message[-1, TIME]) + 1
    activity = params.by_half_hour[flow.ACTIVITY]
    bounds = _ints(total * int(part) // int(activity[-1]) for part in activity)
    wall_times(rows.message, bounds, SESSION[0] * 10**6, SESSION[1] * 10**6, HALT_NS, time_ns)
    signal = (rows.message[:, TRUE_SIGNAL] * (config.signal / ONE)).astype(np.float32)
    trend = np.full(config.rows, int(TrendState.FLAT))
    trend[signal > 1 / 3], trend[signal < -1 / 3] = int(TrendState.UP), int(TrendState.DOWN)
    return Truth(rows, time_ns, signal, (3 * rows.message[:, TRUE_CONDITION] + trend).astype(np.int8))


def _generators(seed: int) -> I64:
    """One sfc32 generator a stream [4, 4], seeded and warmed up as its author says."""
    low, high = seed & MASK, seed >> 32
    rng = np.array([[low, high, stream + 1, 1] for stream in range(4)], np.int64)
    for r in rng:
        for _ in range(15):
            rand32(r)
    return rng


def _opening_state(rng: I64, config: DayConfig) -> I64:
    s = np.zeros(WORDS, np.int64)
    s[VALUE] = (3_000 if config.tick_regime == "one" else 22_000) * flow.SUB + flow.SUB // 2
    s[SPARE], s[NEXT_ID], s[CONDITION] = SLOTS, 10_000_000, int(Condition.NORMAL)
    s[HEADING] = 1 if below(rng[flow.R_SIGNAL], 2) else -1
    s[SIGNAL] = s[HEADING] * ONE
    return s


def _params(config: DayConfig) -> flow.Params:
    """The kernel's whole numbers. IEEE arithmetic and square roots only, so they do not depend on the platform."""
    one = config.tick_regime == "one"
    pace = 0.11 if one else 0.9  # value steps a row
    step = [max(1, round(size * config.volatility)) for size in ((3, 4, 6) if one else (8, 11, 17))]
    # Steps are uniform on 1..2m-1, so their mean square is m^2 + (m^2 - m) / 3.
    noise = [math.sqrt(1_000 * pace * (m * m + (m * m - m) / 3)) for m in step]
    drift = [round(config.signal * config.drift * sigma / (1_000 * pace) * 2**24) for sigma in noise]
    target = [60, 50, 28] if one else [30, 24, 14]
    if config.thin:
        target[2] = 5
    inner, near, reach = ((0, 0, 0), (0, 0, 0), (1, 1, 1)) if one else ((3, 3, 5), (6, 7, 9), (8, 9, 13))
    paces = [round(pace * v * v / 10_000 * ONE) for v in _VOLATILITY]
    return flow.Params(
        by_condition=np.array([step, drift, target, inner, near, reach], np.int64),
        by_half_hour=np.array([[*paces, 0], [0, *np.cumsum(_ACTIVITY)]], np.int64),
        halt_rows=_ints(config.rows * (2 * i + 1) // (2 * config.halts) for i in range(config.halts)),
        cross_row=6,
        front=round((0.40 if one else 0.45) * ONE),
        spacing=3 if one else 20,
        size=50 if one else 25,
        size_cap=40 if one else 20,
        rest=ONE if one else ONE // 8,
        tilt=round(config.signal * config.tilt * ONE),
        flip=2**32 // config.holding,
        smooth=max(1, config.holding // 10),
        redraw=2**32 // PERSISTENCE,
        calm=round(config.calm * ONE),
        not_stressed=round((1 - config.stressed) * ONE),
        true_side=int(config.hidden_side),
    )


def _ints(values: Iterable[Any]) -> I64:
    return np.array([int(value) for value in values], np.int64)


def _embedded() -> tuple[DayConfig, ...]:
    """Business days from 2030-01-07: both tick regimes in turn, mixed conditions, some with halts or thin books."""
    days, when = [], date(2030, 1, 7)
    for i in range(24):
        days.append(
            DayConfig(
                seed=2030_0000 + i,
                rows=57_000 + 1_500 * (i % 5),
                tick_regime=TICK_REGIMES[i % 2],
                calm=(0.45, 0.35, 0.2)[i % 3],
                stressed=(0.05, 0.15, 0.35)[i % 3],
                thin=i % 6 in (2, 5),
                halts=1 if i % 8 in (3, 6) else 0,
                hidden_side=i % 4 >= 2,
                symbol=("SYNA", "SYNB")[i % 2],
                date=when.isoformat(),
                held_out=i >= 16,
            )
        )
        when += timedelta(days=3 if when.weekday() == 4 else 1)
    return tuple(days)


EMBEDDED: tuple[DayConfig, ...] = _embedded()
"""The default data set: 16 training days, then 8 held-out days."""


def parse_overrides(text: str) -> dict[str, Any]:
    """Values by field from ``"signal=0,rows=5000"``.

    Errors: `ConfigError` for an unknown field, which names the nearest, and for a value of the wrong type.
    """
    kinds = {field.name: type(field.default) for field in fields(DayConfig)}
    found: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name not in kinds:
            nearest = get_close_matches(name, kinds, n=1, cutoff=0)
            raise ConfigError(
                f"a synthetic day has no field {name!r}; did you mean {nearest[0]!r}? All: {', '.join(kinds)}"
            )
        if not equals:
            raise ConfigError(f"expected {name}=VALUE, got {part!r}")
        found[name] = _value(name, kinds[name], value)
    return found


def _value(name: str, kind: type, text: str) -> Any:
    try:
        if kind is bool:
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
        return kind(text)
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{name} of a synthetic day must be a {kind.__name__}, got {text!r}") from error


def with_overrides(days: Iterable[DayConfig], overrides: Mapping[str, Any]) -> tuple[DayConfig, ...]:
    """The same days with some fields replaced."""
    return tuple(replace(day, **overrides) for day in days)
