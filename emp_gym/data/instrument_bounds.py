"""Bounds of the fields of an instrument and of a date, which no venue exceeds: beyond them a file is damaged or forged.

They are wide (shares below a cent, coins of 1e-8, contracts of a million, fees of some and rebates), and so narrow that cash in units of
1e-8 currency stays within 64 bits when a fee or a price is told in it.
"""

from __future__ import annotations

import datetime
import re
from typing import NamedTuple

from emp_gym.data.lobster.name import FIRST_YEAR, LAST_YEAR
from emp_gym.printable import printable
from emp_gym.types import NS, Instrument

MOST_STEPS_OF_TICKS = 64
_INT32_MAX = 2**31 - 1
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.A)


class FieldBounds(NamedTuple):
    """From `least` to `most`: of a number itself, of a text its letters."""

    least: float
    most: float
    unit: str


BOUNDS = {
    "symbol": FieldBounds(1, 255, "printable letters"),
    "currency": FieldBounds(1, 32, "printable letters"),
    "timezone": FieldBounds(1, 64, "printable letters"),
    "tick": FieldBounds(1, _INT32_MAX, "price units"),
    "lot": FieldBounds(1, _INT32_MAX, "lots"),
    "price_unit": FieldBounds(1e-8, 100, "currency"),
    "maker_fee_bps": FieldBounds(-1_000, 1_000, "bp of notional"),
    "taker_fee_bps": FieldBounds(-1_000, 1_000, "bp of notional"),
    "maker_fee_per_lot": FieldBounds(-1e6, 1e6, "currency"),
    "taker_fee_per_lot": FieldBounds(-1e6, 1e6, "currency"),
    "session_start_ns": FieldBounds(0, 48 * 3600 * NS, "ns after midnight"),
    "session_end_ns": FieldBounds(0, 48 * 3600 * NS, "ns after midnight"),
    "sector": FieldBounds(0, _INT32_MAX, ""),
    "ticks": FieldBounds(0, _INT32_MAX, "price units"),
}
"""Of every field of `Instrument`."""


def instrument_fault(own: Instrument) -> str:
    """The first field of `own` beyond its bounds: which, what is expected and what stands there; "" if none is."""
    for name, (least, most, unit) in BOUNDS.items():
        value = getattr(own, name)
        if name == "ticks":
            fault = _ticks_fault(value)
            if fault:
                return fault
        elif isinstance(value, str):
            if not least <= len(value) <= most or printable(value) != value:
                return f"{name}: expected {least:g} to {most:g} {unit}, got {value!a:.60}"
        elif not least <= value <= most:
            return f"{name}: expected {least:,} to {most:,} {unit}".rstrip() + f", got {value!r:.60}"
    return ""


def _ticks_fault(ticks: tuple[tuple[int, int], ...]) -> str:
    if len(ticks) > MOST_STEPS_OF_TICKS:
        return f"ticks: expected {MOST_STEPS_OF_TICKS} entries at most, got {len(ticks):,}"
    for price, tick in ticks:
        if not 0 <= price <= _INT32_MAX or not 1 <= tick <= _INT32_MAX:
            return f"ticks: expected prices from 0 and ticks from 1 to {_INT32_MAX:,} price units, got {[price, tick]!r:.60}"
    return ""


def date_fault(date: str) -> str:
    """Why `date` is none: what is expected and what stands there; "" if it is one."""
    try:
        if _DATE.fullmatch(date) and FIRST_YEAR <= datetime.date.fromisoformat(date).year <= LAST_YEAR:
            return ""
    except ValueError:  # not in the calendar
        pass
    return f"date: expected YEAR-MONTH-DAY in the calendar of {FIRST_YEAR} to {LAST_YEAR}, got {date!a:.60}"
