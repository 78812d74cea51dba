"""What the messages of one order say of each other: a NEW of some lots, then executions and reductions of the same id.

They share price and side, take no more than the NEW gave, and a deletion takes the rest where the order was born in
sight. This tells whether a message or the order book is wrong where the two differ. A word for a message is weighed
only where the files disagree: real days have orders that were cut while out of sight.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np

from emp_gym.data.lobster_bytes import Messages
from emp_gym.data.lobster_check import ADD
from emp_gym.jit import njit
from emp_gym.types import I64, Bool

WHOLE, AGREES, SILENT, CONTRADICTS = 2, 1, 0, -1
_NEW, _DELETE, _VISIBLE = 1, 3, 4
MOST_REUSED = 0.01  # share of order ids that damage explains


class Orders:
    """The rows of each order id, looked up when the first is asked for."""

    def __init__(self, messages: Messages) -> None:
        self.messages = messages

    @cached_property
    def _by_id(self) -> tuple[I64, I64]:
        rows = np.flatnonzero(self.messages.ok & (self.messages.kind <= _VISIBLE))
        order = np.argsort(self.messages.order_id[rows], kind="stable")
        return self.messages.order_id[rows][order], rows[order]

    def rows_of(self, row: int) -> I64:
        """Rows of the same order as that of message `row`, itself among them."""
        ids, rows = self._by_id
        number = self.messages.order_id[row]
        return rows[np.searchsorted(ids, number) : np.searchsorted(ids, number, side="right")]

    def word_for(self, row: int, change: tuple[int, int, int, int] | None = None) -> int:
        """What the order's other messages say of message `row`, as it stands or as if it were `change`.

        WHOLE: the order's life is in the file from entry to end and adds up. AGREES: side and price are theirs, and no
        more is taken than was there. SILENT: there are no others. CONTRADICTS: anything else.
        """
        x = self.messages
        if x.kind[row] > _VISIBLE or not x.ok[row]:
            return SILENT
        rows = self.rows_of(row)
        if len(rows) < 2:
            return SILENT
        at = int(np.searchsorted(rows, row))
        kind, size = x.kind[rows].astype(np.int64), x.size[rows].astype(np.int64)
        price, side = x.price[rows].copy(), x.side[rows].copy()
        if change is not None:
            direction, side[at], price[at], size[at] = change
            if direction == ADD:
                kind[at] = _NEW
            elif kind[at] == _NEW:
                kind[at] = _DELETE if at == len(rows) - 1 else 2
        others = np.arange(len(rows)) != at
        if (price[others] != price[at]).any() or (side[others] != side[at]).any() or (kind[1:] == _NEW).any():
            return CONTRADICTS
        if kind[0] != _NEW:
            return CONTRADICTS if (kind[:-1] == _DELETE).any() else AGREES
        left = size[0] - size[1:].sum()
        if left < 0 or (kind[:-1] == _DELETE).any():
            return CONTRADICTS
        if left == 0:
            return WHOLE
        return SILENT if kind[-1] == _DELETE else AGREES


def foreign_rows(messages: Messages, trusted: Bool) -> I64:
    """Message rows whose order id belongs to another order: without them, and only without them, that order's messages
    go together. trusted [R]: rows that are accused of nothing else.

    Nothing is returned where more than 1 % of the ids do not go together: the venue uses them again.
    """
    orders = Orders(replace(messages, ok=messages.ok & trusted))
    suspects, ids = _suspects(
        messages.kind, messages.order_id, messages.size, messages.price, messages.side, orders.messages.ok
    )
    if len(suspects) > max(10, ids * MOST_REUSED):
        return np.empty(0, np.int64)
    found = [_foreign(orders.messages, orders.rows_of(row)) for row in suspects.tolist()]
    return np.array(sorted(row for row in found if row >= 0), np.int64)


def _foreign(x: Messages, rows: I64) -> int:
    """The one of an order's rows without which the others go together; -1 if it is none or several."""
    alone = [row for row in rows.tolist() if _go_together(x, rows[rows != row])]
    return alone[0] if len(alone) == 1 else -1


def _go_together(x: Messages, rows: I64) -> bool:
    """Whether these can be the messages of one order."""
    suspects, _ = _suspects(x.kind[rows], x.order_id[rows], x.size[rows], x.price[rows], x.side[rows], x.ok[rows])
    return not len(suspects)


@njit
def _suspects(kind, order_id, size, price, side, ok):
    """A row of each order whose messages do not go together (price, side, lots, order of events); number of orders."""
    slots = 16
    while slots < 2 * len(kind):
        slots *= 2
    first = np.full(slots, -1, np.int32)  # row of the first message of the order that has the slot
    left = np.full(slots, -1, np.int64)  # lots that the order still has; -1: not known
    bad = np.zeros(slots, np.bool_)
    over = np.zeros(slots, np.bool_)
    out = np.empty(len(kind), np.int64)
    found = ids = 0
    for row in range(len(kind)):
        if not ok[row] or kind[row] > _VISIBLE:
            continue
        at = (order_id[row] * np.int64(-7046029254386353131) >> 20) & (slots - 1)
        while first[at] >= 0 and order_id[first[at]] != order_id[row]:
            at = (at + 1) & (slots - 1)
        if first[at] < 0:
            first[at], ids = row, ids + 1
            left[at] = size[row] if kind[row] == _NEW else -1
        else:
            wrong = price[row] != price[first[at]] or side[row] != side[first[at]] or kind[row] == _NEW or over[at]
            if left[at] >= 0:
                wrong = wrong or size[row] > left[at]
                left[at] -= min(left[at], np.int64(size[row]))
            if wrong and not bad[at]:
                bad[at] = True
                out[found], found = row, found + 1
        over[at] = over[at] or kind[row] == _DELETE or left[at] == 0
    return out[:found], ids
