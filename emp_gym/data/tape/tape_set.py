"""Tapes: recorded days as memory-mapped arrays, with everything that many environments would otherwise compute again.

A `TapeSet` holds one or more days; `emp_gym.data.tape.format` has the table of its arrays.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from emp_gym.data.huge_pages import in_large_pages
from emp_gym.data.tape.format import BLOCK, COLUMNS, DAY, OPTIONAL, Columns, DayInfo, of_planted, until_next
from emp_gym.printable import printable
from emp_gym.types import MESSAGE, ConfigError, DataError, RecordedDay

_READ_AT_RANDOM = ("rows", "messages", "book", "links", "touches", "first_touch", "cross")
LARGEST_IN_MEMORY = 1 << 30  # bytes of days that are copied into large pages; larger ones stay mapped


@dataclass(frozen=True)
class TapeSet(Columns):
    """One or more days in flat arrays (see the table of `emp_gym.data.tape.format`). A tape is a set of one day."""

    def one(self, day: int) -> TapeSet:
        """The set of this day alone; nearly all of its arrays are views."""
        if len(self.info) == 1:
            return self
        from emp_gym.data.tape import index

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
        parts["window"] = index.window_events(kind, side, price, size, book_price, book_size.astype(np.int32))
        parts["touches"] = self.touches[until_next(self.days, day, "touch0", len(self.touches))]
        parts["first_touch"] = self.first_touch[until_next(self.days, day, "first0", len(self.first_touch))]
        parts["far_touch"] = self.far_touch[until_next(self.days, day, "far0", len(self.far_touch))]
        return TapeSet(info=(self.info[day],), days=days, **parts)

    def save(self, folder: str | os.PathLike[str], *, replace: bool = False) -> Path:
        """Writes aside and renames, so that readers and racing writers only ever see a whole tape. Returns `folder`.

        The same tape that stands there is kept, one that is damaged is replaced. Another one is a `DataError` unless
        `replace`, and so is a folder that is no tape.
        """
        from emp_gym.data.tape import files

        return files.write(self, folder, replace)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> TapeSet:
        """Memory-maps a saved tape. `DataError` if the folder is not a whole tape of this format, or anything in it points
        outside of it or does not follow from its messages and book (`emp_gym.data.tape.check`)."""
        from emp_gym.data.tape import files

        return files.read(folder, cls)

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
        from emp_gym.data.tape import index

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
                records = np.concatenate([index.whole_records(np.ascontiguousarray(part)) for part in parts])
                joined[name] = records.view(dtype)
            else:
                joined[name] = np.concatenate(parts, axis=1 if name.startswith("cross") else 0)
        joined["days"] = days
        return cls(info=tuple(day for tape in tapes for day in tape.info), **joined)


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
    from emp_gym.data.duplicates import sample, shape
    from emp_gym.data.instrument_bounds import date_fault, instrument_fault
    from emp_gym.data.tape import index

    if len(day.time_ns) < 2:
        raise DataError(f"{day.instrument.symbol} {day.date}: {len(day.time_ns)} usable rows, expected at least 2")
    if fault := date_fault(day.date) or instrument_fault(day.instrument):
        raise DataError(f"{printable(day.instrument.symbol)} {printable(day.date)}: {fault}; give the day other rules")
    rows = len(day.time_ns)
    order, first_seen, birth = index.number_orders(day.kind, day.order_id)
    window = index.window_events(day.kind, day.side, day.price, day.size, day.book_price, day.book_size)
    messages = np.zeros(rows, MESSAGE)
    for name in ("time_ns", "price", "size", "kind", "side"):
        messages[name] = getattr(day, name)
    messages["order"] = order
    messages["birth"] = birth
    messages["status"] = index.statuses(day.kind, day.price)
    messages["slot"] = index.slots(messages, window)
    base = index.base_price(day.book_price, day.book_size)
    records = index.row_records(messages, day.book_price, day.book_size)
    levels = index.group_by_level(messages, window, first_seen, day.book_price, day.book_size, base)
    cross, cross_block = index.crossings(messages, BLOCK, base)
    book = index.book_records(day.book_price, day.book_size, base)
    days = np.zeros(1, DAY)
    tick = day.instrument.tick_at(int(np.median(records["mid2"])) // 2)
    days["rows"], days["tick"], days["base"] = rows, tick, base
    first_touch, days["stretch"], days["grid"], days["ticks"] = index.first_touches(levels, rows, tick)
    far_touch = index.far_touches(levels, tick, int(days[0]["grid"]), int(days[0]["ticks"]))
    days["fars"] = len(far_touch)
    source = {**day.source, "content": _content_hash(day), "sample": sample(day), "shape": shape(messages)}
    return TapeSet(
        info=of_planted([DayInfo(day.instrument, day.date, rows, day.book_price.shape[2], source)], day.signal),
        days=days,
        rows=records,
        messages=messages,
        window=window,
        book=book,
        links=index.link_records(book, base, levels, cross, cross_block),
        touches=levels.touches,
        first_touch=first_touch,
        far_touch=far_touch,
        cross=cross,
        cross_block=cross_block,
        signal=day.signal,
        regime=day.regime,
    )
