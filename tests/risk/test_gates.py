"""The plainest gates: they see the orders, may shrink them, never enlarge them."""

from __future__ import annotations

import pytest

from emp_gym.risk.gates import CAPPED, CapQuantity
from emp_gym.types import ConfigError, Orders, RequestType


def orders_of(quantities: list[int], kind: RequestType = RequestType.LIMIT) -> Orders:
    orders = Orders.empty(1, len(quantities))
    orders.kind[:] = kind
    orders.quantity[0] = quantities
    return orders


def test_cap_cuts_only_what_is_too_large_and_says_so():
    orders = orders_of([50, 100, 101, 900])
    cut, verdicts = CapQuantity(100)(None, orders)
    assert cut.quantity.tolist() == [[50, 100, 100, 100]]
    assert verdicts.reason.tolist() == [[0, 0, int(CAPPED), int(CAPPED)]]
    assert verdicts.quantity_before.tolist() == [[50, 100, 101, 900]]
    assert orders.quantity.tolist() == [[50, 100, 101, 900]], "the task's own orders stay as they were"


def test_the_cap_is_100_lots_unless_said_and_at_least_1():
    assert CapQuantity().largest == 100 and CapQuantity(1).largest == 1
    with pytest.raises(ConfigError, match="largest must be a whole number from 1"):
        CapQuantity(0)


def test_cap_lets_cancels_pass():
    cut, verdicts = CapQuantity(1)(None, orders_of([900], RequestType.CANCEL))
    assert cut.quantity.tolist() == [[900]] and not verdicts.reason.any()
