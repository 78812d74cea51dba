"""What the messages of one order say of each other: a NEW of some lots, then executions and reductions of the same id.

They share price and side, take no more than the NEW gave, and a deletion takes the rest where the order was born in
sight. This tells whether a message or the order book is wrong where the two differ. A word for a message is weighed
only where the files disagree: real days have orders that were cut while out of sight.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from emp_gym.data.lobster.check import ADD
from emp_gym.data.lobster.parser import Messages
from emp_gym.types import I64

WHOLE, AGREES, SILENT, CONTRADICTS = 2, 1, 0, -1
_NEW, _DELETE, _VISIBLE = 1, 3, 4
MOST_EVENTS = 1 << 14  # of one order, of which each is weighed against all others


class OrderRows:
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
        more is taken than was there. SILENT: there are no others, or too many. CONTRADICTS: anything else.
        """
        x = self.messages
        if x.kind[row] > _VISIBLE or not x.ok[row]:
            return SILENT
        rows = self.rows_of(row)
        if not 2 <= len(rows) <= MOST_EVENTS:
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
