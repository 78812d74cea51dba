"""The day as a shallower file of it would show it: the messages that touch its first levels, with their columns.

A LOBSTER file of fewer levels is such a sub-sequence of the deeper file of the same day. So a deep day can be made shallow, and
then judge what is done with the shallow one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from emp_gym.data.tape.tape_set import TapeSet, build
from emp_gym.types import Bool, ConfigError, MessageType, RecordedDay


def shallow(day: RecordedDay, levels: int) -> RecordedDay:
    """The day in `levels` levels: rows that touch them, and those that touch no level (hidden executions, auctions, halts)."""
    deep = day.book_price.shape[2]
    if not 1 <= levels < deep:
        raise ConfigError(
            f"{day.instrument.symbol} {day.date}: levels must be 1 to {deep - 1}, fewer than the day's own, got {levels}"
        )
    keep = _touching(day, levels)
    rows = ("time_ns", "kind", "order_id", "size", "price", "side", "signal", "regime")
    kept: dict[str, Any] = {name: None if getattr(day, name) is None else getattr(day, name)[keep] for name in rows}
    book: dict[str, Any] = {name: np.ascontiguousarray(getattr(day, name)[keep][:, :, :levels]) for name in ("book_price", "book_size")}
    return replace(day, **kept, **book, source={**day.source, "levels_of": deep})


def shallow_tape(tape: TapeSet, levels: int, day: int = 0) -> TapeSet:
    """The tape (in memory) of one day of a set in `levels` levels."""
    return build(shallow(recorded(tape, day), levels))


def recorded(tape: TapeSet, day: int = 0) -> RecordedDay:
    """One day of a set as its reader gave it, except that orders have numbers in the place of the venue's ids."""
    rows, info = tape.day_slice(day), tape.info[day]
    messages = tape.messages[rows]
    columns: dict[str, Any] = {name: messages[name].copy() for name in ("time_ns", "kind", "size", "price", "side")}
    book_price, book_size = tape.book_at(slice(None), day)
    planted: dict[str, Any] = {
        name: None if array is None else array[rows]
        for name, array in (("signal", tape.signal), ("regime", tape.regime))
    }
    return RecordedDay(
        info.instrument, info.date, **columns, order_id=messages["order"].astype(np.int64), book_price=book_price,
        book_size=book_size.astype(np.int32), source=dict(info.source), **planted,
    )  # fmt: skip


def _touching(day: RecordedDay, levels: int) -> Bool:
    """Rows whose message is at one of the first levels before or after it, or changes them, or is at no level at all."""
    price, size = day.book_price[:, :, :levels], day.book_size[:, :, :levels]
    own = np.arange(len(price)), np.where(day.side > 0, 0, 1)
    after = ((price[own] == day.price[:, None]) & (size[own] > 0)).any(axis=1)
    before, keep = np.zeros(len(after), bool), np.zeros(len(after), bool)
    earlier = own[0][:-1], own[1][1:]
    before[1:] = ((price[earlier] == day.price[1:, None]) & (size[earlier] > 0)).any(axis=1)
    keep[0] = True
    keep[1:] = (price[1:] != price[:-1]).any(axis=(1, 2)) | (size[1:] != size[:-1]).any(axis=(1, 2))
    return keep | after | before | (day.kind < MessageType.NEW) | (day.kind > MessageType.EXECUTE)
