"""A ring of what the risk layer objected to: 64 bytes an order that was touched, enough to judge it again from the record."""

from __future__ import annotations

import numpy as np

from emp_gym.types import ConfigError, Orders, RequestType, Verdicts, View

AUDIT = np.dtype(
    [
        ("lane", "i4"),
        ("decision", "i4"),  # of the lane's episode, counted from 0
        ("bits", "u8"),  # reason bits, never 0
        ("price", "i8"),  # price units, as asked
        ("requested", "i8"),  # lots
        ("executed", "i8"),  # lots that were let through
        ("mid2", "i8"),  # twice the reference price, price units; 0: there was none
        ("limits", "u8"),  # the first 8 bytes of the digest of the limits
        ("instrument", "i4"),
        ("slot", "i2"),  # entry of the decision's orders
        ("kind", "i1"),  # OrderKind
        ("side", "i1"),
    ]
)
"""One order that was touched."""


class AuditRing:
    """Remembers the last `capacity` touched orders; `drain` hands them over, oldest first."""

    def __init__(self, capacity: int) -> None:
        if type(capacity) is not int or capacity < 1:
            raise ConfigError(f"audit must be the number of orders to remember, from 1 up, got {capacity!r}")
        self._rows = np.zeros(capacity, AUDIT)
        self._written = self._drained = 0

    def __len__(self) -> int:
        """Rows that `drain` would give."""
        return min(self._written - self._drained, len(self._rows))

    def note(self, view: View, asked: Orders, sent: Orders, verdicts: Verdicts, digest: str) -> None:
        """Writes a row for each order that has a reason. Nothing is allocated but indices of those."""
        lane, slot = np.nonzero(verdicts.reason)
        if not len(lane):
            return
        kept = min(len(lane), len(self._rows))
        self._written += len(lane)
        lane, slot = lane[-kept:], slot[-kept:]
        at = np.arange(self._written - kept, self._written) % len(self._rows)
        order, rows = asked.records[lane, slot], self._rows
        passed = sent.kind[lane, slot] == asked.kind[lane, slot]
        known = (order["instrument"] >= 0) & (order["instrument"] < view.mid2.shape[1])
        rows["lane"][at], rows["decision"][at], rows["slot"][at] = lane, view.decision[lane], slot
        rows["bits"][at], rows["kind"][at] = verdicts.reason[lane, slot], asked.kind[lane, slot]
        rows["price"][at], rows["side"][at] = order["price"], order["side"]
        rows["instrument"][at] = order["instrument"]
        rows["requested"][at] = np.where(asked.kind[lane, slot] == RequestType.CANCEL, 0, order["quantity"])
        rows["executed"][at] = np.where(passed, sent.quantity[lane, slot], 0)
        rows["mid2"][at] = np.where(known, view.mid2[lane, np.where(known, order["instrument"], 0)], 0)
        rows["limits"][at] = np.uint64(int(digest[:16], 16))

    def drain(self) -> tuple[np.ndarray, int]:
        """(AUDIT rows [n] since the last drain, oldest first, and how many older ones were written over)."""
        count, lost = len(self), max(0, self._written - self._drained - len(self._rows))
        at = np.arange(self._written - count, self._written) % len(self._rows)
        self._drained = self._written
        return self._rows[at], lost
