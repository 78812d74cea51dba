"""Views and orders made by hand."""

from __future__ import annotations

from typing import Any

from risk.worlds import calm_view

from emp_gym.types import CASH_UNITS, Orders, View


def view_of(lanes: int = 1, instruments: int = 1, slots: int = 3, **changes: Any) -> View:
    """The first decision in a calm market in which nothing is open; `changes` fill arrays."""
    view = calm_view(lanes, instruments, slots)
    view.decision[:] = 0
    for name, values in changes.items():
        getattr(view, name)[:] = values
    return view


def cash(currency: float) -> int:
    return round(currency * CASH_UNITS)


def asking(*kinds: int, lanes: int = 1) -> Orders:
    """The same requests in every lane: of kinds `kinds`, 10 lots to buy each, ids from 101 on."""
    orders = Orders.empty(lanes, len(kinds))
    for lane in range(lanes):
        for slot, kind in enumerate(kinds):
            if kind:
                orders.put(lane, slot, kind, side=1, price=1_000_000, quantity=10, id=101 + slot)
    return orders
