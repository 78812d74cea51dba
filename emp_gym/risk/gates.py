"""The plainest gates. How gates are found by name: `emp_gym.envs.gates`.

A gate is called between task and market as ``gate(view, orders) -> (orders, verdicts)``; it may shrink or drop orders but
must not enlarge them.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from emp_gym.settings import whole
from emp_gym.types import OrderKind, Orders, Verdicts, View

CAPPED = np.uint64(1 << 6)  # reason bit: above the largest quantity


@lru_cache(maxsize=16)
def _no_reason(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros that nobody may write, so that all may share them."""
    return np.broadcast_to(np.uint64(0), shape)


def passed(orders: Orders) -> Verdicts:
    """Verdicts that say that nothing was touched."""
    quantity = orders.quantity
    return Verdicts(_no_reason(quantity.shape), quantity, quantity, touched=False)


class AllowAll:
    """Lets every order pass: the seam without a rule."""

    def __call__(self, view: View, orders: Orders) -> tuple[Orders, Verdicts]:
        return orders, passed(orders)


class CapQuantity:
    """Cuts every new order to at most `largest` lots."""

    def __init__(self, largest: int = 100) -> None:
        self.largest = whole("gate 'cap-quantity': largest", largest, 1)

    def __call__(self, view: View, orders: Orders) -> tuple[Orders, Verdicts]:
        too_large = (orders.kind != OrderKind.CANCEL) & (orders.quantity > self.largest)
        if not too_large.any():
            return orders, passed(orders)
        cut = orders.copy()
        cut.quantity[too_large] = self.largest
        reason = np.where(too_large, CAPPED, np.uint64(0))
        return cut, Verdicts(reason, orders.quantity.copy(), cut.quantity.copy())
