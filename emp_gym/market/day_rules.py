"""Under which rules a day trades: fees, lot, tick by price, worth of a price unit and session of its own instrument.

Kernels read them from the day's record: `MARKET_DAY` is the tape's `DAY` and the rules behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import numpy as np

from emp_gym.data.instruments import check
from emp_gym.data.tape import DAY, DayInfo
from emp_gym.jit import hot
from emp_gym.types import CASH_UNITS, ConfigError, Instrument

MOST_STEPS = 24  # prices from which another tick holds (the European tick size table has 19 bands)

RULES: list[tuple] = [
    ("price_to_cash", "i8"),  # cash units (1e-8 currency) of a price unit and lot
    ("maker_numerator", "i8"),  # fee in cash units of a price unit and lot, as a fraction
    ("maker_denominator", "i8"),
    ("taker_numerator", "i8"),
    ("taker_denominator", "i8"),
    ("maker_per_lot", "i8"),  # cash units a lot, on top; negative = rebate
    ("taker_per_lot", "i8"),
    ("lot", "i8"),  # quantity multiple
    ("session_start_ns", "i8"),
    ("session_ns", "i8"),
    ("midnight_utc_ns", "i8"),
    ("first_tick", "i8"),  # tick below the first step, and everywhere where there are none; price units
    ("least_tick", "i8"),  # the smallest of all
    ("steps", "i8"),  # used entries of the two arrays below
    ("step_price", "i8", (MOST_STEPS,)),  # from which price, ascending
    ("step_tick", "i8", (MOST_STEPS,)),  # another tick holds
]
MARKET_DAY = np.dtype([*DAY.descr, *RULES], align=True)
"""Where a day lies in the tape's arrays, and under which rules it trades."""

Fees = tuple[float | None, float | None]
"""(maker, taker); None: the instrument's."""


def market_days(days: np.ndarray, info: Sequence[DayInfo], bps: Fees = (None, None), per_lot: Fees = (None, None)) -> np.ndarray:
    """MARKET_DAY of each of `days`, with the rules of `info` or, instead of its instrument's, the fees given."""
    table = np.zeros(len(days), MARKET_DAY)
    for name in DAY.names or ():
        table[name] = days[name]
    for row, day in zip(table, info, strict=True):
        own = day.instrument
        to_cash = _price_to_cash(day)
        row["price_to_cash"], row["lot"] = to_cash, own.lot
        for side, rate, lots in (
            ("maker", own.maker_fee_bps if bps[0] is None else bps[0], own.maker_fee_per_lot if per_lot[0] is None else per_lot[0]),
            ("taker", own.taker_fee_bps if bps[1] is None else bps[1], own.taker_fee_per_lot if per_lot[1] is None else per_lot[1]),
        ):  # fmt: skip
            row[f"{side}_numerator"], row[f"{side}_denominator"] = fee_fraction(rate, to_cash)
            row[f"{side}_per_lot"] = _cash_units(f"{side}_fee_per_lot", lots, day)
        row["session_start_ns"], row["session_ns"] = own.session_start_ns, own.session_end_ns - own.session_start_ns
        row["midnight_utc_ns"] = day.midnight_utc_ns
        _put_ticks(row, own, day)
    return table


def fee_fraction(bps: float, price_to_cash: int) -> tuple[int, int]:
    """(numerator, denominator) of the fee in cash units for each (price unit x lot). `bps` counts to 1e-4 of a basis point."""
    rate = round(bps * 10_000)  # in 1e-8 of notional
    numerator, denominator = price_to_cash * rate, CASH_UNITS
    common = gcd(numerator, denominator)
    return numerator // common, denominator // common


def _price_to_cash(day: DayInfo) -> int:
    unit = day.instrument.price_unit
    to_cash = round(unit * CASH_UNITS)
    if to_cash < 1 or abs(to_cash - unit * CASH_UNITS) > 1e-6:
        raise ConfigError(f"{day}: price_unit must be a multiple of 1e-8 currency, got {unit}")
    return to_cash


def _cash_units(name: str, fee: float, day: DayInfo) -> int:
    units = round(fee * CASH_UNITS)
    if abs(units - fee * CASH_UNITS) > 1e-4:
        raise ConfigError(f"{day}: {name} must be a multiple of 1e-8 {day.instrument.currency}, got {fee}")
    return units


def _put_ticks(row: np.void, own: Instrument, day: DayInfo) -> None:
    steps = own.ticks
    if len(steps) > MOST_STEPS:
        raise ConfigError(f"{day}: ticks by price may have at most {MOST_STEPS} entries, got {len(steps)}")
    check(own)
    row["first_tick"], row["steps"] = own.tick, len(steps)
    row["least_tick"] = min([own.tick, *(tick for _, tick in steps)])
    for k, (price, tick) in enumerate(steps):
        row["step_price"][k], row["step_tick"][k] = price, tick


# --------------------------------------------------------------------------------------------------------------- kernels


@hot
def tick_at(day, price):
    """The tick of an order at `price`, price units."""
    tick = day["first_tick"]
    for k in range(day["steps"]):
        if price < day["step_price"][k]:
            break
        tick = day["step_tick"][k]
    return tick


@hot
def ticks_away(day, price, ticks):
    """The price so many ticks above `price`, below it where `ticks` is negative; each tick is that of the price it starts
    from, or leads down to."""
    if day["steps"] == 0:
        return price + ticks * day["first_tick"]
    for _ in range(ticks):
        price += tick_at(day, price)
    for _ in range(-ticks):
        price -= tick_at(day, price - 1)
    return price


@hot
def on_tick(day, price, side):
    """`price` itself if it is on its tick, else the next one that is: above it for `side` +1, below for -1."""
    tick = tick_at(day, price)
    over = price % tick
    if over == 0:
        return price
    return price - over + tick if side > 0 else price - over
