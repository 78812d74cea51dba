"""What is looked at when a tape is opened: every index that a kernel follows, and whatever follows from messages and book.

    check(tape, where)     always, in one pass at the speed of memory; needs no hashes
    column_hash(array)     what `TapeSet.save` writes into meta.json for each column, and `TapeSet.verify` compares

Messages and book are not judged by each other here: that is the reader's work, and after it the hashes speak.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from emp_gym.data.instrument_bounds import date_fault, instrument_fault
from emp_gym.data.tape import check_kernels as kernels
from emp_gym.data.tape.format import BLOCK, NO_ROW, NO_TOUCH, Columns, DayInfo, until_next
from emp_gym.types import DataError, Instrument, Regime

AGAIN = "make the tape again with scripts/ingest.py"
SMALL_META, LARGEST_META = 4 << 20, 64 << 20  # bytes of meta.json beside few and beside many bytes of columns; a day takes some 12,000
META_SHARE = 16  # the bytes of the columns for each of meta.json, between them
MOST_HASHES = 1 << 12  # rows in a day's `sample` and in its `shape`; repeats writes 128 and 256
MOST_DEPTH = 1 << 10  # book levels a side

_WORDS = {  # rule: (array, field, what is expected)
    kernels.TIME: ("messages", "time_ns", "that of rows: {}"),
    kernels.TIME_RANGE: ("rows", "time_ns", "from {} on (that of the row before), below 48 hours"),
    kernels.GROUP: ("rows", "group_end", "{}, the last row of its time"),
    kernels.KIND: ("messages", "kind", "1 to {}"),
    kernels.SIDE: ("messages", "side", "-1 to {}"),
    kernels.SIZE: ("messages", "size", "at least {}"),
    kernels.PRICE: ("messages", "price", "at most {} from 0"),
    kernels.ORDER: ("messages", "order", "0 to {} of a visible order, -1 of others"),
    kernels.BIRTH: ("messages", "birth", "-1 to {}"),
    kernels.SLOT: ("messages", "slot", "-1 to {}"),
    kernels.STATUS: ("messages", "status", "{}, as halts and crosses say"),
    kernels.ROW_STATUS: ("rows", "status", "{}, as halts and crosses say"),
    kernels.MID_BEFORE: ("messages", "mid2", "{}, that of the row before"),
    kernels.MID: ("rows", "mid2", "{}, as the book says"),
    kernels.BOUGHT: ("rows", "bought", "{}, as the messages add up"),
    kernels.SOLD: ("rows", "sold", "{}, as the messages add up"),
    kernels.HIDDEN_SUM: ("rows", "hidden", "{}, as the messages add up"),
    kernels.FLOW: ("rows", "flow", "{}, as the book adds up"),
    kernels.MOVES: ("rows", "moves2", "{}, as the book adds up"),
    kernels.LEVEL_SIZE: ("book", "size", "at least {}"),
    kernels.LEVEL_GAP: ("book", "size", "{} behind an empty level"),
    kernels.LEVEL_PRICE: ("book", "price", "from {} to 2^31 - 2"),
    kernels.LEVEL_ORDER: ("book", "price", "worse than {}, the level before"),
    kernels.EMPTY_PRICE: ("book", "price", "{} of an empty level"),
    kernels.LINK_TOUCH: ("links", "touch", "-1 to {}"),
    kernels.LINK_CROSS: ("links", "cross", "a later row up to {}, or 2^31 - 1"),
    kernels.LINK_EMPTY: ("links", "touch", "{} of an empty level"),
    kernels.TOUCH_ROW: ("touches", "row", "0 to {}"),
    kernels.TOUCH_ORDER: ("touches", "row", "{} (that of the touch before) or later"),
    kernels.TOUCH_KIND: ("touches", "kind", "{}, as its message says, or ADOPT or EVICT"),
    kernels.TOUCH_STATUS: ("touches", "status", "{}, that of its row"),
    kernels.TOUCH_SIZE: ("touches", "size", "{}, as its message says"),
    kernels.TOUCH_VOLUME: ("touches", "volume", "{}, or more of a message"),
    kernels.TOUCH_BIRTH: ("touches", "birth", "{}, as its message says"),
    kernels.TOUCH_LAST: ("touches", "last", "0 or {}"),
    kernels.TOUCH_END: ("touches", "last", "{}, since the day's touches end here"),
    kernels.TOUCH_MID: ("touches", "mid2", "{}, as its row says"),
    kernels.CROSS_ROW: ("cross", "", "{}, as its message says"),
    kernels.CROSS_BLOCK: ("cross_block", "", "{}, as its rows say"),
    kernels.WINDOW_ROW: ("window", "row", "0 to {}"),
    kernels.WINDOW_KIND: ("window", "kind", "{} or 9"),
    kernels.WINDOW_SIDE: ("window", "side", "{} or -1"),
    kernels.WINDOW_SIZE: ("window", "size", "at least {}"),
    kernels.WINDOW_DAYS: ("window", "row", "the rows to begin anew for {} days at the most"),
}


def seal(meta: Mapping[str, Any]) -> str:
    """SHA-256 of all that meta.json says, its own seal aside."""
    told = {name: value for name, value in meta.items() if name != "seal"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def check_meta(days: Any, where: str) -> None:
    """`DataError` unless every entry of meta.json's `days` has the fields of a day, with values of their types."""
    if not isinstance(days, list) or not days:
        raise DataError(f"{where}: days: expected one or more, got {days!r:.60}; {AGAIN}")
    for number, day in enumerate(days):
        place = f"{where}: day {number}"
        _typed(day, {"instrument": dict, "date": str, "rows": int, "levels": int, "source": dict}, DayInfo, place)
        if not {"instrument", "date", "rows", "levels", "source"} <= set(day) or "symbol" not in day["instrument"]:
            raise DataError(f"{place}: expected instrument, date, rows, levels and source, got {sorted(day)}; {AGAIN}")
        types = {field.name: {"str": str, "int": int, "float": float}.get(str(field.type), list) for field in fields(Instrument)}
        _typed(day["instrument"], types, Instrument, f"{place}: instrument")
        if not all(isinstance(step, list) and [type(n) for n in step] == [int, int] for step in day["instrument"].get("ticks", ())):
            raise DataError(f"{place}: instrument: ticks: expected pairs of integers, got {day['instrument']['ticks']!r:.60}; {AGAIN}")
        for half in ("message", "orderbook"):
            if not isinstance(day["source"].get(half, {}), dict):
                raise DataError(f"{place}: source: {half}: expected an object, got {day['source'][half]!r:.60}; {AGAIN}")
        for sketch in ("sample", "shape"):
            value = day["source"].get(sketch, [])
            if not _is_sketch(value):
                raise DataError(
                    f"{place}: source: {sketch}: expected a list of at most {MOST_HASHES:,} unlike integers, got "
                    f"{f'{len(value):,}: ' if isinstance(value, list) else ''}{value!r:.60}; {AGAIN}"
                )
        fault = date_fault(day["date"]) or instrument_fault(Instrument(**day["instrument"]))
        if fault:
            raise DataError(f"{place}: {fault}; {AGAIN}")
        if not 2 <= day["rows"] < NO_ROW or not 1 <= day["levels"] <= MOST_DEPTH:
            raise DataError(f"{place}: rows and levels: got {day['rows']} and {day['levels']}; {AGAIN}")


def _is_sketch(value: Any) -> bool:
    fits = isinstance(value, list) and len(value) <= MOST_HASHES
    return fits and all(type(row) is int for row in value) and len(set(value)) == len(value)


def largest_meta(columns: int) -> int:
    """Bytes that meta.json may have beside columns of so many bytes."""
    return min(max(SMALL_META, columns // META_SHARE), LARGEST_META)


def stop_if_hollow(text: str) -> None:
    """`ValueError` where the text of a meta.json holds so many lists and objects that reading it takes a multiple of its size."""
    held, most = text.count("[") + text.count("{"), 1_024 + len(text) // 16
    if held > most:
        raise ValueError(f"{held:,} lists and objects in {len(text):,} letters, expected at most {most:,}")


def _typed(entry: Any, types: Mapping[str, type], record: type, place: str) -> None:
    names = {field.name for field in fields(record)}
    if not isinstance(entry, dict) or not set(entry) <= names:
        raise DataError(f"{place}: expected the fields {sorted(names)}, got {entry!r:.100}; {AGAIN}")
    for name, value in entry.items():
        right = (int, float) if types[name] is float else types[name]
        if not isinstance(value, right) or isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
            raise DataError(f"{place}: {name}: expected {types[name].__name__}, got {value!r:.60}; {AGAIN}")
        if isinstance(value, int) and abs(value) >= 1 << 62:
            raise DataError(f"{place}: {name}: expected less than 2^62, got {value!r:.60}; {AGAIN}")


def check(tape: Columns, where: str) -> None:
    """`DataError` that names array, place, field, expected and got where anything in `tape` points outside of it, or does not
    follow from its messages and book."""
    _lengths(tape, where)
    for day, own in enumerate(tape.info):
        _day_record(tape, day, where)
        if own.levels != tape.levels:
            raise DataError(f"{where}: day {day} has {own.levels} levels by meta.json, {tape.levels} in book; {AGAIN}")
    for day in range(len(tape.info)):
        _day(tape, day, where)
    found = kernels.window_fault(tape.window, max(day.rows for day in tape.info), len(tape.info))
    _refuse(found, f"{where}: ")
    touched = int(np.count_nonzero((tape.messages["kind"] >= kernels.NEW) & (tape.messages["kind"] <= kernels.EXECUTE)))
    if len(tape.touches) != touched + len(tape.window):
        raise DataError(
            f"{where}: touches: expected {touched + len(tape.window)} (messages of visible orders and window events), got "
            f"{len(tape.touches)}; {AGAIN}"
        )
    if tape.signal is not None and not np.isfinite(tape.signal).all():
        raise DataError(f"{where}: signal: expected finite numbers; {AGAIN}")
    if tape.regime is not None and not ((tape.regime >= 0) & (tape.regime < len(Regime))).all():
        raise DataError(f"{where}: regime: expected 0 to {len(Regime) - 1}; {AGAIN}")


def _lengths(tape: Columns, where: str) -> None:
    rows = sum(day.rows for day in tape.info)
    blocks = sum(-(-day.rows // BLOCK) for day in tape.info)
    depth = tape.book.shape[2]
    expected: dict[str, tuple[int, ...]] = {
        "days": (len(tape.info),), "rows": (rows,), "messages": (rows,), "book": (rows, 2, depth), "links": (rows, 2, depth),
        "cross": (2, rows), "cross_block": (2, blocks), "signal": (rows,), "regime": (rows,),
    }  # fmt: skip
    for name, shape in expected.items():
        array = getattr(tape, name)
        if array is not None and array.shape != shape:
            raise DataError(f"{where}: {name}: expected the shape {shape} of {len(tape.info)} days, got {array.shape}; {AGAIN}")


def _day_record(tape: Columns, day: int, where: str) -> None:
    """Of one entry of `days`: it begins where the one before ends."""
    now, rows = tape.days[day], tape.info[day].rows
    before = tape.days[day - 1] if day else None
    rule = tape.info[day].instrument
    start = dict.fromkeys(("row0", "block0", "first0", "far0"), 0) if before is None else _ends(before)
    expected: dict[str, Any] = start | {"rows": rows}
    for name, value in expected.items():
        if int(now[name]) != value:
            raise DataError(f"{where}: days[{day}].{name}: expected {value}, got {int(now[name])}; {AGAIN}")
    first = 0 if before is None else int(before["touch0"])
    bounds = {
        "touch0": (first, len(tape.touches) if before is not None else 0), "stretch": (1, 1 << 40), "ticks": (0, 1 << 31),
        "grid": (-kernels.FURTHEST, kernels.FURTHEST), "base": (-kernels.FURTHEST, kernels.FURTHEST),
        "fars": (0, len(tape.far_touch)),
    }  # fmt: skip
    for name, (low, high) in bounds.items():
        if not low <= int(now[name]) <= high:
            raise DataError(f"{where}: days[{day}].{name}: expected {low} to {high}, got {int(now[name])}; {AGAIN}")
    steps = {rule.tick, *(tick for _, tick in rule.ticks)}
    if int(now["tick"]) not in steps or min(steps) < 1:
        raise DataError(f"{where}: days[{day}].tick: expected one of the instrument's, {sorted(steps)}, got {int(now['tick'])}; {AGAIN}")
    if day == len(tape.days) - 1:
        ends = _ends(now)
        there = {"first0": len(tape.first_touch), "far0": len(tape.far_touch)}
        for name, array in (("first0", "first_touch"), ("far0", "far_touch")):
            if ends[name] != there[name]:
                raise DataError(f"{where}: {array}: expected {ends[name]} entries as days say, got {there[name]}; {AGAIN}")


def _ends(day: np.void) -> dict[str, int]:
    """Where the arrays of the day behind `day` begin."""
    rows = int(day["rows"])
    return {
        "row0": int(day["row0"]) + rows,
        "block0": int(day["block0"]) + -(-rows // BLOCK),
        "first0": int(day["first0"]) + 2 * int(day["ticks"]) * -(-rows // max(int(day["stretch"]), 1)),
        "far0": int(day["far0"]) + int(day["fars"]),
    }


def _day(tape: Columns, day: int, where: str) -> None:
    """Of all that belongs to one day."""
    now, own = tape.days[day], tape.day_slice(day)
    place, base = f"{where}: day {day}: ", int(now["base"])
    messages, book = tape.messages[own], tape.book[own]
    touches = tape.touches[until_next(tape.days, day, "touch0", len(tape.touches))]
    first = tape.first_touch[until_next(tape.days, day, "first0", len(tape.first_touch))]
    far = tape.far_touch[until_next(tape.days, day, "far0", len(tape.far_touch))]
    block0 = int(now["block0"])
    blocks = tape.cross_block[:, block0 : block0 + -(-len(messages) // BLOCK)]
    _refuse(kernels.book_fault(book, tape.links[own], len(touches)), place, "row")
    _refuse(kernels.row_fault(tape.rows[own], messages, book, base), place, "row")
    _refuse(kernels.touch_fault(touches, messages, base), place)
    _refuse(kernels.cross_fault(tape.cross[:, own], blocks, messages, base), place)
    if len(first) and not (first.min() >= NO_TOUCH and first.max() < len(touches)):
        raise DataError(f"{place}first_touch: expected -1 to {len(touches) - 1}, got {first.min()} to {first.max()}; {AGAIN}")
    if len(far):
        low, high = far["touch"].min(), far["touch"].max()
        if low < 0 or high >= len(touches):
            raise DataError(f"{place}far_touch.touch: expected 0 to {len(touches) - 1}, got {low} to {high}; {AGAIN}")
        if (np.diff(far["price"]) < 0).any() or not np.isin(far["side"], (1, -1)).all():
            raise DataError(f"{place}far_touch: expected ascending prices and sides of 1 and -1; {AGAIN}")


def _refuse(found: tuple[int, int, int, int], place: str, unit: str = "entry") -> None:
    rule, at, expected, got = (int(number) for number in found)
    if rule:
        array, field, words = _WORDS[rule]
        name = f"{array}{'.' if field else ''}{field}"
        raise DataError(f"{place}{name}, {unit} {at}: expected {words.format(expected)}, got {got}; {AGAIN}")
