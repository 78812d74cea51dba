"""Kernels that compare an order with own ones: those it could trade with, and those it repeats."""

from __future__ import annotations

from emp_gym.jit import hot
from emp_gym.risk.exposure_kernels import NO_ASK, NO_BID
from emp_gym.risk.state import RING

NONE, LIMIT, MARKET, CANCEL, REPLACE = 0, 1, 2, 3, 4  # OrderKind


@hot
def _crosses(side, kind, price, other_side, other_kind, other_price):
    """Whether two own orders could trade with each other; of a market order nobody knows how far it reaches."""
    if other_side == side:
        return False
    if kind == MARKET:
        return other_kind != MARKET
    if other_kind == MARKET:
        return False
    return price >= other_price if side > 0 else price <= other_price


@hot
def _leaves(order, kinds, records, slot):
    """Whether an entry before `slot` cancels the order: a venue takes our messages in their order."""
    for k in range(slot):
        if kinds[k] == CANCEL and records[k]["id"] == order:
            return True
        if kinds[k] == REPLACE and records[k]["target"] == order:
            return True
    return False


@hot
def _meets(side, kind, price, own):
    """Whether the order crosses the best own price that the view shows."""
    if side > 0:
        return own["ask"] != NO_ASK and (kind == MARKET or price >= own["ask"])
    return own["bid"] != NO_BID and (kind == MARKET or price <= own["bid"])


@hot
def self_trade(i, slot, kind, request, seen, exposure, kinds, records):
    """Whether the order could trade with an own one, open or entered before it in this decision."""
    side, price, m = request["side"], request["price"], request["instrument"]
    shown = seen.order_id.shape[1] if _meets(side, kind, price, exposure[m]) else 0
    for k in range(shown):
        order = seen.order_id[i, k]
        if order == 0 or seen.order_instrument[i, k] != m or seen.order_price[i, k] <= 0:
            continue
        if _crosses(side, kind, price, seen.order_side[i, k], LIMIT, seen.order_price[i, k]):
            if not _leaves(order, kinds, records, slot) and not (kind == REPLACE and request["target"] == order):
                return True
    for k in range(slot):
        other = records[k]
        if kinds[k] == NONE or kinds[k] == CANCEL or other["instrument"] != m:
            continue
        if _crosses(side, kind, price, other["side"], kinds[k], other["price"]):
            return True
    return False


@hot
def content_code(kind, side, instrument):
    return (instrument * 8 + kind) * 2 + (1 if side > 0 else 0)


@hot
def same_sent(ring, sent, slot, code, price, quantity, now, same_ns, kinds, records):
    """Orders of the same content in the window, those before `slot` in this decision included."""
    found = 0
    for back in range(1, min(sent, RING) + 1):
        entry = ring[(sent - back) % RING]
        if entry["time_ns"] <= now - same_ns:
            break
        if entry["code"] == code and entry["price"] == price and entry["quantity"] == quantity:
            found += 1
    for k in range(slot):
        if kinds[k] == NONE or kinds[k] == CANCEL or records[k]["quantity"] != quantity:
            continue
        if content_code(kinds[k], records[k]["side"], records[k]["instrument"]) == code:
            if kinds[k] == MARKET or records[k]["price"] == price:
                found += 1
    return found
