"""What a tape is made of: the types of its columns, what is known of its days, and the columns together.

`Columns` hold one or more days in flat arrays; `DAY` records say where each day begins, so one kernel serves any number
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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from emp_gym.data.clock import midnight_utc_ns
from emp_gym.types import EMPTY_ASK, EMPTY_BID, MESSAGE, NS, WINDOW_EVENT, DataError, Instrument

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


def of_planted(info: Iterable[DayInfo], signal: np.ndarray | None) -> tuple[DayInfo, ...]:
    """`info`; of days with a planted truth, whose record says then that they are synthetic."""
    if signal is None:
        return tuple(info)
    return tuple(replace(day, source={**day.source, "synthetic": True}) for day in info)


def until_next(days: np.ndarray, day: int, name: str, end: int) -> slice:
    """From where column `name` of `days` says that `day` begins to where the next one does."""
    first = int(days[day][name])
    return slice(first, int(days[day + 1][name]) if day + 1 < len(days) else end)


def column_hash(array: np.ndarray) -> str:
    """SHA-256 over the type, the shape and the bytes of a column."""
    whole = np.ascontiguousarray(array)
    digest = hashlib.sha256(f"{np.lib.format.dtype_to_descr(whole.dtype)} {whole.shape} ".encode())
    digest.update(whole.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Columns:
    """One or more days in flat arrays (see the module's table)."""

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

    @property
    def described(self) -> str:
        """Symbol, date and what tells this tape from another of the same day."""
        day = self.info[0]
        session = f"{day.instrument.session_start_ns // NS}-{day.instrument.session_end_ns // NS} s"
        first = f"{day}, {session}, {day.levels} levels, {day.rows:,} rows, content {day.content[:8]}"
        return first if len(self.info) == 1 else f"{len(self.info)} days from {first}"

    def verify(self) -> bool:
        """Compares every column, as kernels see it, with the hash that it was written with. `DataError` names those that
        differ; False where the tape has no hashes: made in this process, or by an earlier version."""
        other = [name for name, told in self.hashes.items() if column_hash(getattr(self, name)) != told]
        if other:
            raise DataError(
                f"{self.path or self.described}: {', '.join(other)}: other bytes than were written (SHA-256 differs from meta.json); "
                "make the tape again with scripts/ingest.py, or remove it from the cache"
            )
        return bool(self.hashes)


Tape = TypeVar("Tape", bound=Columns)
