"""Tapes: recorded days as memory-mapped arrays, with everything that many environments would otherwise compute again.

A `TapeSet` holds one or more days in flat arrays; `DAY` records say where each day begins, so one kernel serves any number
of days. Indices inside the arrays (rows, births, touches) count from the day's own first; prices in 32 bits from its `base`.

===============  =====================  ==============================================================================
array            shape                  meaning
===============  =====================  ==============================================================================
rows             ROW [R]                what a decision needs of a row: one cache line
messages         MESSAGE [R]            the recorded message
window           WINDOW_EVENT [W]       levels that enter or leave the visible window (after the message of their row)
book             LEVEL [R, 2, L]        the L best levels after the row; [:, 0] bids, [:, 1] asks, best first
links            LINK [R, 2, L]         where an order that rests at that level after the row has to look next
touches          TOUCH [E]              messages and window events grouped by level, in order of time
first_touch      i4 [F]                 per day [stretches, 2, ticks]: a price's first touch in or after a stretch of rows
far_touch        FAR [G]                per day, by price: the first touch of levels that are not on that grid
cross            i4 [2, R]              [0] lowest bid price that the row crosses, [1] highest ask price that it crosses
cross_block      i4 [2, B]              the same over blocks of `BLOCK` rows
===============  =====================  ==============================================================================
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from emp_gym.data.clock import midnight_utc_ns
from emp_gym.data.pages import in_large_pages
from emp_gym.printable import printable
from emp_gym.types import (
    EMPTY_ASK,
    EMPTY_BID,
    MESSAGE,
    NS,
    WINDOW_EVENT,
    ConfigError,
    DataError,
    Instrument,
    RecordedDay,
)

FORMAT = 6
BLOCK = 64  # rows in a block of `cross_block`
NEVER_BID, NEVER_ASK = (1 << 31) - 1, -(1 << 31) + 1  # `cross` of a row that crosses nothing

NO_ROW = (1 << 31) - 1  # a row that does not come
NO_TOUCH = -1  # of a level that is not touched again
ELSEWHERE = -(1 << 31)  # `TOUCH.mid2` where 32 bits do not hold it, or there was none yet: the message has it

LEVEL = np.dtype(
    [
        ("price", "i4"),  # price units above the day's `base`; 0 where the level is empty
        ("size", "i4"),  # lots, 0 where the level is empty
    ],
    align=True,
)
"""One book level after a row."""

LINK = np.dtype(
    [
        ("touch", "i4"),  # next touch of this level after the row, from the day's first; NO_TOUCH if there is none
        ("cross", "i4"),  # next row that crosses an own order resting at this price, NO_ROW if none does
    ],
    align=True,
)
"""What will concern an order that rests at a book level."""

ROW = np.dtype(
    [
        ("time_ns", "i8"),  # after local midnight
        ("mid2", "i8"),  # best bid + best ask, price units; the last known one while a side is empty
        ("bought", "i8"),  # cumulative lots taken by aggressive buyers (visible executions)
        ("sold", "i8"),  # cumulative lots hit by aggressive sellers
        ("flow", "i8"),  # cumulative order-flow imbalance of the best levels, lots (Cont, Kukanov, Stoikov 2014, eq. 4)
        ("hidden", "i8"),  # cumulative lots of hidden executions above the mid minus those below it
        ("moves2", "i8"),  # cumulative squared change of mid2, price units squared
        ("group_end", "i4"),  # last row with this row's time
        ("status", "i1"),  # Status
    ],
    align=True,
)
"""What a decision needs to know of a row. Cumulative fields make any trailing window a difference of two rows."""

TOUCH = np.dtype(
    [
        ("row", "i4"),
        ("size", "i4"),  # lots of the message; for ADOPT the size the level enters with
        ("volume", "i4"),  # visible lots at the level after the event, 0 when out of sight
        ("birth", "i4"),  # row of the order's NEW if seen, else -1 - (row in which the order was first mentioned)
        ("mid2", "i4"),  # best bid + best ask before the row, above 2 `base`; or ELSEWHERE
        ("kind", "i1"),  # Kind
        ("status", "i1"),  # Status of the row
        ("last", "i1"),  # 1 for the level's last touch of the day
    ],
    align=True,
)
"""One event at one level."""

FAR = np.dtype([("price", "i8"), ("touch", "i4"), ("side", "i4")], align=True)
"""The first touch of the day of a level far from where the day trades, or off the tick."""

DAY = np.dtype(
    [
        ("row0", "i8"),  # first row in the flat arrays
        ("rows", "i8"),
        ("touch0", "i8"),
        ("block0", "i8"),
        ("first0", "i8"),  # first entry in first_touch
        ("stretch", "i8"),  # rows of a stretch of first_touch
        ("grid", "i8"),  # lowest price of first_touch, price units
        ("ticks", "i8"),  # prices of first_touch, one every tick from `grid`
        ("far0", "i8"),  # first entry in far_touch
        ("fars", "i8"),  # number of entries
        ("tick", "i8"),  # between the prices of first_touch: the instrument's tick where the day trades
        ("base", "i8"),  # price units that `LEVEL.price` counts from
    ],
    align=True,
)
"""Where a day lies in the flat arrays."""

_LATER = ("maker_fee_per_lot", "taker_fee_per_lot", "ticks")  # fields of `Instrument` that earlier tapes are without
_NOT_HASHED = ("folder", "sample", "orders", "shape", "synthetic")
"""Of `DayInfo.source`: where the files lay, and what follows from the rows."""
_READ_AT_RANDOM = ("rows", "messages", "book", "links", "touches", "first_touch", "cross")
LARGEST_IN_MEMORY = 1 << 30  # bytes of days that are copied into large pages; larger ones stay mapped
_I4 = np.dtype(np.int32)
COLUMNS: dict[str, tuple[np.dtype, tuple[int | None, ...]]] = {
    "days": (DAY, (None,)), "rows": (ROW, (None,)), "messages": (MESSAGE, (None,)), "window": (WINDOW_EVENT, (None,)),
    "book": (LEVEL, (None, 2, None)), "links": (LINK, (None, 2, None)), "touches": (TOUCH, (None,)), "first_touch": (_I4, (None,)),
    "far_touch": (FAR, (None,)), "cross": (_I4, (2, None)), "cross_block": (_I4, (2, None)),
}  # fmt: skip
"""Type and shape of every array (None: any number)."""
OPTIONAL: dict[str, tuple[np.dtype, tuple[int | None, ...]]] = {
    "signal": (np.dtype(np.float32), (None,)), "regime": (np.dtype(np.int8), (None,)),
}  # fmt: skip


@dataclass(frozen=True)
class DayInfo:
    """What is known of a day besides its arrays."""

    instrument: Instrument
    date: str
    rows: int
    levels: int
    source: dict[str, Any] = field(default_factory=dict)

    @property
    def content(self) -> str:
        """SHA-256 of the rows alone: the same for the same rows under any file name, symbol or date."""
        return str(self.source.get("content", ""))

    @property
    def identity(self) -> str:
        """SHA-256 of all that identifies a day: symbol, date, session, depth, both files, the rows kept of them, and the
        instrument's rules."""
        files = [self.source.get(half, {}).get("sha256", "") for half in ("message", "orderbook")]
        what = [self.date, self.levels, files, self.content, rules_of(self.instrument)]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    @property
    def synthetic(self) -> bool:
        """Whether the day was made, with a planted truth, and not recorded. Stays where the truth itself is left out."""
        return bool(self.source.get("synthetic", False))

    @property
    def midnight_utc_ns(self) -> int:
        """Local midnight at the day's beginning, in nanoseconds after 1970 in UTC: with it a time of the day becomes UTC.

        Times are elapsed time since that midnight. On the day of a clock change that is not what the clock on the wall says.
        """
        return midnight_utc_ns(self.date, self.instrument.timezone)

    def __str__(self) -> str:
        return f"{self.instrument.symbol} {self.date}"


def hash_of(days: Sequence[DayInfo]) -> str:
    """`TapeSet.hash` of a set of these days."""
    what: list[Any] = [FORMAT]
    for day in days:
        source = {name: value for name, value in day.source.items() if name not in _NOT_HASHED}
        what.append([rules_of(day.instrument), day.date, day.rows, source])
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def rules_of(instrument: Instrument) -> dict[str, Any]:
    """What a hash knows of an instrument: its fields, without those that came later and are not used. So hashes stay."""
    return {name: value for name, value in asdict(instrument).items() if name not in _LATER or value}


@dataclass(frozen=True)
class TapeSet:
    """One or more days in flat arrays (see the module's table). A tape is a set of one day."""

    info: tuple[DayInfo, ...]
    days: np.ndarray
    rows: np.ndarray
    messages: np.ndarray
    window: np.ndarray
    book: np.ndarray
    links: np.ndarray
    touches: np.ndarray
    first_touch: np.ndarray
    far_touch: np.ndarray
    cross: np.ndarray
    cross_block: np.ndarray
    signal: np.ndarray | None = None
    regime: np.ndarray | None = None
    path: Path | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)  # of each column as it was written; empty: none are known

    @property
    def levels(self) -> int:
        """L, book levels a side."""
        return int(self.book.shape[2])

    @property
    def hash(self) -> str:
        """Provenance: hash of format, sources (with the content of their rows) and instruments of all days."""
        return hash_of(self.info)

    def day_slice(self, day: int) -> slice:
        """Rows of `day` in the flat row arrays."""
        first = int(self.days[day]["row0"])
        return slice(first, first + int(self.days[day]["rows"]))

    def book_at(self, rows: Any, day: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """(price i8 [..., 2, L], size i8 [..., 2, L]) after `rows` of `day`; empty levels as in LOBSTER's files."""
        levels = self.book[self.day_slice(day)][rows]
        size = levels["size"].astype(np.int64)
        empty = np.array([EMPTY_BID, EMPTY_ASK])[:, None]
        return np.where(size > 0, levels["price"] + self.days[day]["base"], empty), size

    def one(self, day: int) -> TapeSet:
        """The set of this day alone; nearly all of its arrays are views."""
        if len(self.info) == 1:
            return self
        from emp_gym.data import tape_index

        own, first = self.day_slice(day), self.days[day]
        blocks = -(-int(first["rows"]) // BLOCK)
        days = self.days[day : day + 1].copy()
        for name in ("row0", "touch0", "block0", "first0", "far0"):
            days[name] = 0
        parts: dict[str, Any] = {name: getattr(self, name)[own] for name in ("rows", "messages", "book", "links")}
        for name in OPTIONAL:
            array = getattr(self, name)
            parts[name] = None if array is None else array[own]
        parts["cross"] = self.cross[:, own]
        parts["cross_block"] = self.cross_block[:, int(first["block0"]) : int(first["block0"]) + blocks]
        kind, side, price, size = (np.ascontiguousarray(parts["messages"][name]) for name in ("kind", "side", "price", "size"))
        book_price, book_size = self.book_at(slice(None), day)
        parts["window"] = tape_index.window_events(kind, side, price, size, book_price, book_size.astype(np.int32))
        parts["touches"] = self.touches[until_next(self.days, day, "touch0", len(self.touches))]
        parts["first_touch"] = self.first_touch[until_next(self.days, day, "first0", len(self.first_touch))]
        parts["far_touch"] = self.far_touch[until_next(self.days, day, "far0", len(self.far_touch))]
        return TapeSet(info=(self.info[day],), days=days, **parts)

    def save(self, folder: str | os.PathLike[str], *, replace: bool = False) -> Path:
        """Writes aside and renames, so that readers and racing writers only ever see a whole tape. Returns `folder`.

        The same tape that stands there is kept, one that is damaged is replaced. Another one is a `DataError` unless
        `replace`, and so is a folder that is no tape.
        """
        from emp_gym.data import tape_files

        return tape_files.write(self, folder, replace)

    @property
    def described(self) -> str:
        """Symbol, date and what tells this tape from another of the same day."""
        day = self.info[0]
        session = f"{day.instrument.session_start_ns // NS}-{day.instrument.session_end_ns // NS} s"
        first = f"{day}, {session}, {day.levels} levels, {day.rows:,} rows, content {day.content[:8]}"
        return first if len(self.info) == 1 else f"{len(self.info)} days from {first}"

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> TapeSet:
        """Memory-maps a saved tape. `DataError` if the folder is not a whole tape of this format, or anything in it points
        outside of it or does not follow from its messages and book (`emp_gym.data.tape_check`)."""
        from emp_gym.data import tape_files

        return tape_files.read(folder)

    def verify(self) -> bool:
        """Compares every column, as kernels see it, with the hash that it was written with. `DataError` names those that
        differ; False where the tape has no hashes: made in this process, or by an earlier version."""
        from emp_gym.data import tape_check

        other = [name for name, told in self.hashes.items() if tape_check.column_hash(getattr(self, name)) != told]
        if other:
            raise DataError(
                f"{self.path or self.described}: {', '.join(other)}: other bytes than were written (SHA-256 differs from meta.json); "
                "make the tape again with scripts/ingest.py, or remove it from the cache"
            )
        return bool(self.hashes)

    def in_memory(self, largest: int) -> TapeSet:
        """The same days with what kernels read at random copied into large pages, if that is at most `largest` bytes.

        A map of small pages costs a look at the page table for nearly every row that a lane visits.
        """
        arrays: dict[str, Any] = {name: getattr(self, name) for name in _READ_AT_RANDOM}
        if sum(array.nbytes for array in arrays.values()) > largest:
            return self
        copies: dict[str, Any] = {name: in_large_pages(array) for name, array in arrays.items()}
        return replace(self, **copies)

    @classmethod
    def concatenate(cls, tapes: Sequence[TapeSet]) -> TapeSet:
        """One set of all days of `tapes`, in order (copies). All must have the same number of levels."""
        from emp_gym.data import tape_index

        if len({tape.levels for tape in tapes}) != 1:
            found = sorted({tape.levels for tape in tapes})
            raise ConfigError(
                f"days of one set need the same number of book levels, got {found}; use days of one depth"
            )
        days = np.concatenate([tape.days for tape in tapes])
        row0 = touch0 = first0 = far0 = block0 = i = 0
        for tape in tapes:
            for _ in tape.days:
                days[i]["row0"] += row0
                days[i]["touch0"] += touch0
                days[i]["first0"] += first0
                days[i]["far0"] += far0
                days[i]["block0"] += block0
                i += 1
            row0 += len(tape.rows)
            touch0 += len(tape.touches)
            first0 += len(tape.first_touch)
            far0 += len(tape.far_touch)
            block0 += tape.cross_block.shape[1]
        joined: dict[str, Any] = {}
        for name, (dtype, _) in {**COLUMNS, **OPTIONAL}.items():
            parts = [getattr(tape, name) for tape in tapes]
            if not all(part is not None for part in parts):
                continue
            if dtype.names:
                records = np.concatenate([tape_index.whole_records(np.ascontiguousarray(part)) for part in parts])
                joined[name] = records.view(dtype)
            else:
                joined[name] = np.concatenate(parts, axis=1 if name.startswith("cross") else 0)
        joined["days"] = days
        return cls(info=tuple(day for tape in tapes for day in tape.info), **joined)


def of_planted(info: Iterable[DayInfo], signal: np.ndarray | None) -> tuple[DayInfo, ...]:
    """`info`; of days with a planted truth, whose record says then that they are synthetic."""
    if signal is None:
        return tuple(info)
    return tuple(replace(day, source={**day.source, "synthetic": True}) for day in info)


def until_next(days: np.ndarray, day: int, name: str, end: int) -> slice:
    """From where column `name` of `days` says that `day` begins to where the next one does."""
    first = int(days[day][name])
    return slice(first, int(days[day + 1][name]) if day + 1 < len(days) else end)


def _content_hash(day: RecordedDay) -> str:
    """Hash of everything that a tape is made from."""
    digest = hashlib.sha256()
    columns: list[Any] = [
        day.time_ns,
        day.kind,
        day.order_id,
        day.size,
        day.price,
        day.side,
        day.book_price,
        day.book_size,
    ]
    for column in [*columns, day.signal, day.regime]:
        if column is not None:
            digest.update(f"{column.dtype} {column.shape}".encode())
            digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()


def build(day: RecordedDay) -> TapeSet:
    """The tape of one recorded day (in memory). `DataError` if the day has fewer than two rows, or a rule or date beyond its bounds."""
    from emp_gym.data import tape_index
    from emp_gym.data.instrument_bounds import date_fault, instrument_fault
    from emp_gym.data.repeats import sample, shape

    if len(day.time_ns) < 2:
        raise DataError(f"{day.instrument.symbol} {day.date}: {len(day.time_ns)} usable rows, expected at least 2")
    if fault := date_fault(day.date) or instrument_fault(day.instrument):
        raise DataError(f"{printable(day.instrument.symbol)} {printable(day.date)}: {fault}; give the day other rules")
    rows = len(day.time_ns)
    order, first_seen, birth = tape_index.number_orders(day.kind, day.order_id)
    window = tape_index.window_events(day.kind, day.side, day.price, day.size, day.book_price, day.book_size)
    messages = np.zeros(rows, MESSAGE)
    for name in ("time_ns", "price", "size", "kind", "side"):
        messages[name] = getattr(day, name)
    messages["order"] = order
    messages["birth"] = birth
    messages["status"] = tape_index.statuses(day.kind, day.price)
    messages["slot"] = tape_index.slots(messages, window)
    base = tape_index.base_price(day.book_price, day.book_size)
    records = tape_index.row_records(messages, day.book_price, day.book_size)
    levels = tape_index.group_by_level(messages, window, first_seen, day.book_price, day.book_size, base)
    cross, cross_block = tape_index.crossings(messages, BLOCK, base)
    book = tape_index.book_records(day.book_price, day.book_size, base)
    days = np.zeros(1, DAY)
    tick = day.instrument.tick_at(int(np.median(records["mid2"])) // 2)
    days["rows"], days["tick"], days["base"] = rows, tick, base
    first_touch, days["stretch"], days["grid"], days["ticks"] = tape_index.first_touches(levels, rows, tick)
    far_touch = tape_index.far_touches(levels, tick, int(days[0]["grid"]), int(days[0]["ticks"]))
    days["fars"] = len(far_touch)
    source = {**day.source, "content": _content_hash(day), "sample": sample(day), "shape": shape(messages)}
    return TapeSet(
        info=of_planted([DayInfo(day.instrument, day.date, rows, day.book_price.shape[2], source)], day.signal),
        days=days,
        rows=records,
        messages=messages,
        window=window,
        book=book,
        links=tape_index.link_records(book, base, levels, cross, cross_block),
        touches=levels.touches,
        first_touch=first_touch,
        far_touch=far_touch,
        cross=cross,
        cross_block=cross_block,
        signal=day.signal,
        regime=day.regime,
    )
