"""Under which rules a day trades: fees, lot, tick by price, worth of a price unit and session of its own instrument.

Kernels read them from the day's record: `MARKET_DAY` is `RULES` with the tape's `DAY` in its room.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import numpy as np

from emp_gym.data.instruments import check
from emp_gym.data.tape.format import DAY, DayInfo
from emp_gym.market.public import MOST_STEPS, RULES, within
from emp_gym.types import CASH_UNITS, ConfigError, Instrument

MARKET_DAY = within(RULES, DAY.descr)
"""Under which rules a day trades, and where it lies in the tape's arrays."""

Fees = tuple[float | None, float | None]
"""(maker, taker); None: the instrument's."""


def market_days(days: np.ndarray, info: Sequence[DayInfo], bps: Fees = (None, None), per_lot: Fees = (None, None)) -> np.ndarray:
    """MARKET_DAY of each of `days`, with the rules of `info` or, instead of its instrument's, the fees given."""
    table = np.zeros(len(days), MARKET_DAY)
    for name in DAY.names or ():
        table[name] = days[name]
    for row, day in zip(table, info, strict=True):
        put_rules(row, day.instrument, day.midnight_utc_ns, str(day), bps, per_lot)
    return table


def put_rules(
    row: np.void, own: Instrument, midnight_utc_ns: int, where: str, bps: Fees = (None, None), per_lot: Fees = (None, None)
) -> None:
    """Writes the rules of `own`, which `where` names in errors, into a record with the fields of RULES."""
    to_cash = _price_to_cash(own, where)
    row["price_to_cash"], row["lot"] = to_cash, own.lot
    for side, rate, lots in (
        ("maker", own.maker_fee_bps if bps[0] is None else bps[0], own.maker_fee_per_lot if per_lot[0] is None else per_lot[0]),
        ("taker", own.taker_fee_bps if bps[1] is None else bps[1], own.taker_fee_per_lot if per_lot[1] is None else per_lot[1]),
    ):  # fmt: skip
        row[f"{side}_numerator"], row[f"{side}_denominator"] = fee_fraction(rate, to_cash)
        row[f"{side}_per_lot"] = _cash_units(f"{side}_fee_per_lot", lots, own, where)
    row["session_start_ns"], row["session_ns"] = own.session_start_ns, own.session_end_ns - own.session_start_ns
    row["midnight_utc_ns"] = midnight_utc_ns
    _put_ticks(row, own, where)


def fee_fraction(bps: float, price_to_cash: int) -> tuple[int, int]:
    """(numerator, denominator) of the fee in cash units for each (price unit x lot). `bps` counts to 1e-4 of a basis point."""
    rate = round(bps * 10_000)  # in 1e-8 of notional
    numerator, denominator = price_to_cash * rate, CASH_UNITS
    common = gcd(numerator, denominator)
    return numerator // common, denominator // common


def _price_to_cash(own: Instrument, where: str) -> int:
    unit = own.price_unit
    to_cash = round(unit * CASH_UNITS)
    if to_cash < 1 or abs(to_cash - unit * CASH_UNITS) > 1e-6:
        raise ConfigError(f"{where}: price_unit must be a multiple of 1e-8 currency, got {unit}")
    return to_cash


def _cash_units(name: str, fee: float, own: Instrument, where: str) -> int:
    units = round(fee * CASH_UNITS)
    if abs(units - fee * CASH_UNITS) > 1e-4:
        raise ConfigError(f"{where}: {name} must be a multiple of 1e-8 {own.currency}, got {fee}")
    return units


def _put_ticks(row: np.void, own: Instrument, where: str) -> None:
    steps = own.ticks
    if len(steps) > MOST_STEPS:
        raise ConfigError(f"{where}: ticks by price may have at most {MOST_STEPS} entries, got {len(steps)}")
    check(own)
    row["first_tick"], row["steps"] = own.tick, len(steps)
    row["least_tick"] = min([own.tick, *(tick for _, tick in steps)])
    for k, (price, tick) in enumerate(steps):
        row["step_price"][k], row["step_tick"][k] = price, tick
