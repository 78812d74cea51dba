"""Orders of lanes that are stopped: nothing of what was asked, a cancel for all that is open, and, if wanted, the way to flat."""

from __future__ import annotations

import numpy as np

from emp_gym.risk.reasons import Check
from emp_gym.types import Bool, Orders, RequestType, Verdicts, View

DROPPED = np.uint64(1)  # reason bit 0: the kill latch; see emp_gym.risk.reasons.Check.KILL
OWN = np.uint64(1 << 32)  # reason bit: an order of the gate's own, a cancel or the way to flat
REASON_NAMES = (*(check.name.lower().replace("_", "-") for check in Check), *("?",) * (32 - len(Check)), "stand-down", "stage")
"""Of the reason bits of gates that stand lanes down, in order."""
OWN_ID = 1 << 40  # ids of own orders begin here, above those of any task


def stand_down(
    view: View, orders: Orders, stopped: Bool, *, flatten: bool, bit: np.uint64 = DROPPED
) -> tuple[Orders, Verdicts]:
    """(orders, verdicts) in which the lanes `stopped` [N] ask for nothing but cancels of every open order and, with
    `flatten`, a market order of each position that no own order already closes. `orders` stays as it was.

    What was asked in those lanes has reason `bit`, what is sent instead `OWN`. Where an entry of `orders` is wanting, more
    are made, so that every cancel goes out in this decision.
    """
    sent = _wide(orders, view.order_id.shape[1] + (view.position.shape[1] if flatten else 0))
    reason = np.zeros(sent.kind.shape, np.uint64)
    before = _wide(orders, sent.kind.shape[1]).quantity
    reason[stopped[:, None] & (sent.kind != RequestType.NONE)] = bit
    sent.kind[stopped] = RequestType.NONE
    open_ = stopped[:, None] & (view.order_id > 0) & (view.order_id < OWN_ID)
    lane, slot = np.nonzero(open_)
    entry = (np.cumsum(open_, axis=1) - 1)[lane, slot]
    sent.kind[lane, entry] = RequestType.CANCEL
    sent.id[lane, entry], sent.side[lane, entry] = view.order_id[lane, slot], view.order_side[lane, slot]
    sent.quantity[lane, entry] = sent.price[lane, entry] = sent.target[lane, entry] = 0
    sent.instrument[lane, entry] = 0 if view.order_instrument is None else view.order_instrument[lane, slot]
    reason[lane, entry] |= OWN
    if flatten:
        _flatten(view, sent, reason, stopped, open_.sum(axis=1))
    return sent, Verdicts(reason, before, np.where(sent.kind == RequestType.NONE, 0, sent.quantity))


def _flatten(view: View, sent: Orders, reason: np.ndarray, stopped: Bool, used: np.ndarray) -> None:
    """Adds market orders that close positions, behind the `used` [N] entries of each lane."""
    own = view.order_id >= OWN_ID
    for m in range(view.position.shape[1]):
        mine = own if view.order_instrument is None else own & (view.order_instrument == m)
        lane = np.flatnonzero(stopped & (view.position[:, m] != 0) & ~mine.any(axis=1))
        entry, position = used[lane], view.position[lane, m]
        sent.kind[lane, entry] = RequestType.MARKET
        sent.side[lane, entry], sent.quantity[lane, entry] = -np.sign(position), np.abs(position)
        sent.id[lane, entry] = OWN_ID + view.decision[lane] * view.position.shape[1] + m
        sent.price[lane, entry] = sent.target[lane, entry] = 0
        sent.instrument[lane, entry] = m
        reason[lane, entry] |= OWN
        used[lane] += 1


def _wide(orders: Orders, entries: int) -> Orders:
    """A copy with at least `entries` entries a lane."""
    if orders.kind.shape[1] >= entries:
        return orders.copy()
    wide = Orders.empty(len(orders.kind), entries)
    wide.kind[:, : orders.kind.shape[1]], wide.records[:, : orders.kind.shape[1]] = orders.kind, orders.records
    return wide
