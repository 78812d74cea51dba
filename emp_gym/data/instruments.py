"""Instruments as people write them: a mapping, a YAML or JSON file, ``--fees`` and ``--tick``; and days under other rules.

A file (or mapping) holds fields of `Instrument` for all days, or for each symbol its own, with or without ``instrument:``
around them:

    instrument:
      AMZN: {lot: 100, taker_fee_bps: 0.3}
      default: {taker_fee_per_lot: 0.0035}

``default`` is for the days of every other symbol. What is not named stays as the day's reader had it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from emp_gym import bounded
from emp_gym.data.clock import zone
from emp_gym.data.instrument_bounds import BOUNDS, instrument_fault
from emp_gym.data.tape.tape_set import TapeSet
from emp_gym.printable import printable
from emp_gym.settings import LARGEST, number, shown
from emp_gym.types import ConfigError, DataError, Instrument, MessageType, RecordedDay

Given = Mapping[str, Any] | str | Path | None
"""A mapping, the path of a file that holds one, or None: the days as they are."""
DEFAULT = "default"  # in place of a symbol: every other one
NUMBERS = {"int": int, "float": float, "str": str}
FIELDS = {field.name: str(field.type) for field in fields(Instrument) if field.name != "symbol"}
VISIBLE = (MessageType.NEW, MessageType.REDUCE, MessageType.DELETE, MessageType.EXECUTE)  # hidden orders may stand between two ticks


class Instruments:
    """What is said of instruments, by symbol."""

    def __init__(self, given: Given, where: str = "instrument") -> None:
        """Raises `ConfigError` for what is no field, names the nearest, and for values of another type."""
        if isinstance(given, (str, Path)):
            where, given = str(given), _read(Path(given).expanduser())
        self.where = where
        self.by_symbol: dict[str, dict[str, Any]] = {}
        if given is None:
            return
        if not isinstance(given, Mapping):
            raise ConfigError(f"{where}: expected fields of an instrument, or symbols with such fields, got {shown(given)}")
        if set(given) == {"instrument"} and isinstance(given["instrument"], Mapping):
            given = given["instrument"]
        keyed = [isinstance(value, Mapping) for value in given.values()]
        if any(keyed) and not all(keyed):
            raise ConfigError(f"{where}: fields and symbols stand side by side, got {list(given)}; put the fields under {DEFAULT!r}")
        entries = given if any(keyed) or not given else {DEFAULT: given}
        self.by_symbol = {str(symbol): _checked(entry, f"{where}: {symbol}") for symbol, entry in entries.items()}

    def add(self, more: Mapping[str, Any]) -> None:
        """Says the same of every symbol, over what was said before."""
        for symbol in {*self.by_symbol, DEFAULT}:
            self.by_symbol[symbol] = self.of(symbol) | _checked(more, self.where)

    def of(self, symbol: str) -> dict[str, Any]:
        """The fields that are said of `symbol`."""
        return self.by_symbol.get(symbol, self.by_symbol.get(DEFAULT, {}))

    def applied(self, own: Instrument) -> Instrument:
        """`own` with what is said of its symbol. `ConfigError` where that is impossible in itself."""
        changed = replace(own, **self.of(own.symbol))
        check(changed)
        return changed

    def stop_if_nobody(self, symbols: set[str]) -> None:
        """`ConfigError` if it is said of none of `symbols`."""
        if self.by_symbol and DEFAULT not in self.by_symbol and not symbols & set(self.by_symbol):
            near = get_close_matches(next(iter(self.by_symbol)), symbols, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(
                f"{self.where}: says something of {sorted(self.by_symbol)}, but the days are of {sorted(symbols)}{hint} "
                f"Use one of these symbols, or {DEFAULT!r} for all"
            )

    def before_reading(self, symbol: str, session_ns: tuple[int, int] | None) -> Instrument | None:
        """The instrument under whose tick a day is to be read; None: its reader finds the tick."""
        said = self.of(symbol)
        if not {"tick", "ticks"} & set(said):
            return None
        own = Instrument(symbol)
        if session_ns is not None:
            own = replace(own, session_start_ns=session_ns[0], session_end_ns=session_ns[1])
        return self.applied(own)


def changed(tape: TapeSet, given: Given) -> TapeSet:
    """The same days under the rules `given`. `ConfigError` where the recorded rows contradict them, with the row."""
    said = Instruments(given)
    if not said.by_symbol:
        return tape
    said.stop_if_nobody({day.instrument.symbol for day in tape.info})
    info = []
    for at, day in enumerate(tape.info):
        own = said.applied(day.instrument)
        first = tape.messages[int(tape.days[at]["row0"])]
        _stop_if_other_unit(str(day), day.instrument, own.price_unit, int(first["price"]), said.where)
        if (own.tick, own.ticks) != (day.instrument.tick, day.instrument.ticks):
            _refuse_off_tick(tape, at, own, said.where)
        info.append(replace(day, instrument=own))
    return replace(tape, info=tuple(info))


def check(own: Instrument) -> None:
    """`ConfigError` where a rule is impossible in itself: says which, and what is expected."""
    if min(own.tick, own.lot) < 1:
        raise ConfigError(f"{own.symbol}: tick and lot must be >= 1, got {own.tick} and {own.lot}")
    if not 0 <= own.session_start_ns < own.session_end_ns:
        raise ConfigError(
            f"{own.symbol}: the session must end after it starts, got {own.session_start_ns} to {own.session_end_ns} ns after midnight"
        )
    zone(own.timezone)
    if fault := instrument_fault(own):
        raise ConfigError(f"{printable(own.symbol)}: {fault}")
    before, tick = -1, own.tick
    for price, above in own.ticks:
        if price <= before or above < 1:
            raise ConfigError(f"{own.symbol}: ticks must be [price from which, tick >= 1], ascending, got {own.ticks}")
        if price % above or price % tick:
            raise ConfigError(
                f"{own.symbol}: ticks: {price} must be a multiple of the tick below it ({tick}) and of that from it on ({above})"
            )
        before, tick = price, above


def for_day(said: Instruments, day: RecordedDay) -> Instrument:
    """The instrument of a day that has just been read. `ConfigError` where its rows contradict what is said."""
    own = said.applied(day.instrument)
    _stop_if_other_unit(f"{own.symbol} {day.date}", day.instrument, own.price_unit, int(day.price[0]), said.where)
    return own


def _stop_if_other_unit(name: str, recorded: Instrument, unit: float, first: int, where: str) -> None:
    own = recorded.price_unit
    if unit != own:
        raise ConfigError(
            f"{where}: price_unit {unit:g} contradicts {name}, whose rows count prices in {own:g}: row 0 has price {first}, "
            f"which is {first * own:g} {recorded.currency}, not {first * unit:g}; leave price_unit out"
        )


def _refuse_off_tick(tape: TapeSet, number: int, own: Instrument, where: str) -> None:
    messages = tape.messages[tape.day_slice(number)]
    prices = np.ascontiguousarray(messages["price"])
    tick = ticks_at(own, prices)
    off = np.flatnonzero(np.isin(messages["kind"], VISIBLE) & (prices % tick != 0))
    if len(off):
        row = int(off[0])
        raise ConfigError(
            f"{where}: the tick {own.tick}{f' ({list(own.ticks)})' if own.ticks else ''} contradicts {len(off):,} rows of "
            f"{tape.info[number]}: row {row} has price {int(prices[row])}, which is no multiple of {int(tick[row])}; "
            f"the day was read with {tape.info[number].instrument.tick}"
        )


def ticks_at(own: Instrument, prices: np.ndarray) -> np.ndarray:
    """The tick at each of `prices`, as `Instrument.tick_at` has it."""
    ticks = np.array([own.tick, *(tick for _, tick in own.ticks)], np.int64)
    return ticks[np.searchsorted([price for price, _ in own.ticks], prices, side="right")]


# -------------------------------------------------------------------------------------------------------------- what is written


def _read(path: Path) -> Any:
    try:
        return bounded.loads(bounded.text(path, bounded.SMALL), path) if path.suffix == ".json" else bounded.read_yaml(path)
    except OSError as error:
        raise DataError(f"{path}: no readable file of instruments ({error}); give a YAML or JSON file, or a mapping") from error


def _checked(entry: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`entry` as fields of `Instrument`."""
    found = {}
    for name, value in entry.items():
        if name == "symbol":
            raise ConfigError(f"{where}: the symbol is the day's own; write SYMBOL: {{...}} for what holds for one symbol only")
        if name not in FIELDS:
            near = get_close_matches(str(name), FIELDS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{where}: an instrument has no field {name!r}{hint} (all: {', '.join(FIELDS)})")
        found[name] = _steps(value, where) if name == "ticks" else _value(name, value, where)
    return found


def _value(name: str, value: Any, where: str) -> Any:
    kind = NUMBERS[FIELDS[name]]
    fits = isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)
    if not fits or (kind is not str and not -LARGEST <= value <= LARGEST) or value == "":
        expected = {int: "an integer", float: "a number", str: "text"}[kind]
        raise ConfigError(f"{where}: {name} must be {expected}, got {shown(value)}")
    return checked_fee(name, value, f"{where}: ") if "_fee_" in name else kind(value)


def checked_fee(name: str, value: Any, where: str = "") -> float:
    """A fee (a field of `Instrument`) within its bounds."""
    least, most, unit = BOUNDS[name]
    return number(where + name, value, least, most, f"; {unit}{'' if name.endswith('bps') else ' a lot'}")


def _steps(value: Any, where: str) -> tuple[tuple[int, int], ...]:
    pairs: Any = value if isinstance(value, (list, tuple)) else [None]
    if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 and all(map(_is_whole, pair)) for pair in pairs):
        raise ConfigError(f"{where}: ticks must be a list of [price from which, tick], integers in price units, got {shown(value)}")
    return tuple((price, tick) for price, tick in pairs)


def _is_whole(value: Any) -> bool:
    return type(value) is int and abs(value) <= LARGEST


# ---------------------------------------------------------------------------------------------------------- on a command line


def parse_fees(text: str) -> dict[str, float]:
    """Fields of `Instrument` from ``"maker=-0.2bp,taker=0.3bp"`` or ``"taker=0.0035/share"`` (``/lot`` is the same)."""
    units = {"bps": "fee_bps", "bp": "fee_bps", "/share": "fee_per_lot", "/lot": "fee_per_lot"}
    found: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        side, _, amount = (piece.strip() for piece in part.partition("="))
        unit = next((unit for unit in units if amount.endswith(unit)), "")
        try:
            value = float(amount.removesuffix(unit))
        except ValueError:
            value = float("nan")
        if side not in ("maker", "taker") or not unit or not np.isfinite(value):
            raise ConfigError(
                f"--fees: {part!r} is no fee; expected maker= or taker= and so many bp (of notional) or currency/share, negative "
                "for a rebate, such as maker=-0.2bp,taker=0.3bp or taker=0.0035/share"
            )
        name = f"{side}_{units[unit]}"
        if name in found:
            raise ConfigError(f"--fees: {name} is given twice in {text!r}; give it once")
        found[name] = value
    return found


def parse_tick(text: str, price_unit: float = 1e-4) -> dict[str, Any]:
    """Fields of `Instrument` from a tick, or from ``"0.0001,1.00:0.01"``: another tick from a price on. Whole numbers are
    price units, those with a point currency."""
    first, *later = (part.strip() for part in text.split(","))
    steps = [part.partition(":") for part in later]
    if not all(colon for _, colon, _ in steps):
        raise ConfigError(f"--tick: expected TICK or TICK,PRICE:TICK,..., got {text!r}")

    def units(number: str) -> int:
        try:
            value = float(number) / price_unit if "." in number else float(int(number))
        except ValueError as error:
            raise ConfigError(f"--tick: {number!r} is no number; a tick is such as 0.01 (currency) or 100 (price units)") from error
        if not np.isfinite(value) or abs(value - round(value)) > 1e-6 or round(value) < 1:
            raise ConfigError(f"--tick: {number} is no multiple of the price unit {price_unit:g}; give at least one")
        return round(value)

    return {"tick": units(first), "ticks": tuple((units(price), units(tick)) for price, _, tick in steps)}


def from_options(tick: str | None, fees: str | None, file: Given, price_unit: float = 1e-4) -> Instruments:
    """What ``--tick``, ``--fees`` and ``--instrument`` say together; the first two over the file."""
    said = Instruments(file, "--instrument")
    if tick is not None:
        said.add(parse_tick(tick, price_unit))
    if fees is not None:
        said.add(parse_fees(fees))
    return said

