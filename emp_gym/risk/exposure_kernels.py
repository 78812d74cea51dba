"""Kernels of exposure: what is open, its worst case, and the checks that ask how much more of it there may be."""

from __future__ import annotations

import numpy as np

from emp_gym.jit import hot
from emp_gym.risk.compiled_limits import OFF
from emp_gym.risk.reasons import LOTS_MAX
from emp_gym.risk.state import FULL_SCALE, MISSING
from emp_gym.risk.watch_kernels import SMALL, UNKNOWN, amount, reference

OPEN_ORDERS, POSITION, GROSS_NET, SECTOR, LEVERAGE_CREDIT = (np.uint64(1 << b) for b in range(17, 22))
NO_BID, NO_ASK = 0, (1 << 63) - 1

WORK = np.dtype(
    [
        ("objected", "i8"),  # orders of all lanes that a check objected to
        ("touched", "i8"),  # those of the lane at hand
        ("unknown", "i8"),  # 1: open orders or a position are out of all bounds
        ("open", "i8"),  # orders
        ("open_amount", "i8"),
        ("buy_amount", "i8"),  # of open buys
        # of the order at hand
        ("cap", "i8"),  # lots that every check so far allows
        ("bits", "u8"),
        ("reducible", "i8"),  # lots of its side that only reduce the position
    ],
    align=True,
)
"""What is under way while one lane's orders are judged."""

EXPOSURE = np.dtype([("buys", "i8"), ("sells", "i8"), ("bid", "i8"), ("ask", "i8")], align=True)
"""Open lots of one instrument, those in flight, being cancelled or entered in this decision included, and the best prices
of the own orders that the view shows (NO_BID, NO_ASK without)."""


@hot
def expose(i, seen, work, exposure):
    """Sums the open orders of lane i: all of them, since until it has happened any of them may fill."""
    work["unknown"] = work["open"] = work["open_amount"] = work["buy_amount"] = 0
    for m in range(len(exposure)):
        exposure[m]["buys"], exposure[m]["sells"], exposure[m]["bid"], exposure[m]["ask"] = 0, 0, NO_BID, NO_ASK
        if seen.position[i, m] > LOTS_MAX or seen.position[i, m] < -LOTS_MAX:
            work["unknown"] = 1
    for k in range(seen.order_id.shape[1]):
        if seen.order_id[i, k] == 0:
            continue
        m, quantity, price = seen.order_instrument[i, k], seen.order_quantity[i, k], seen.order_price[i, k]
        if m < 0 or m >= len(exposure):
            work["unknown"] = 1
            continue
        own, side, ref = exposure[m], seen.order_side[i, k], reference(seen.mid2[i, m])
        own["bid"] = max(own["bid"], price if side > 0 else NO_BID)
        own["ask"] = min(own["ask"], min(price, NO_ASK - 1) if (price > 0) & (side <= 0) else NO_ASK)
        if quantity < 0 or quantity > LOTS_MAX:
            work["unknown"] = 1
            continue
        add_open(work, own, side, quantity, max(price, ref) if ref > 0 else 0)


@hot
def add_open(work, own, side, quantity, price):
    """Counts an open order."""
    value, buys = amount(quantity, price), side > 0
    work["open"] += 1
    work["open_amount"] = _sum(work["open_amount"], value)
    work["buy_amount"] = _sum(work["buy_amount"], value if buys else 0)
    own["buys"] += quantity if buys else 0
    own["sells"] += 0 if buys else quantity


@hot
def _sum(a, b):
    """a + b, UNKNOWN if one of them is. At most MAX_SLOTS amounts are added up, so that nothing overflows."""
    return UNKNOWN if (a == UNKNOWN) | (b == UNKNOWN) else a + b


@hot
def _others(i, m, seen, exposure, sector_of, sector):
    """Worst-case gross amount of the other instruments (of one sector unless it is OFF), UNKNOWN if one is not known."""
    total = 0
    for j in range(len(exposure)):
        if j == m or (sector != OFF and sector_of[j]["sector"] != sector):
            continue
        position = seen.position[i, j]
        worst = max(position + exposure[j]["buys"], exposure[j]["sells"] - position)
        total = _sum(total, amount(worst, reference(seen.mid2[i, j])))
    return total


@hot
def _net(i, m, seen, exposure, side):
    """(known, worst-case net amount of the other instruments in the direction of `side`)."""
    total = 0
    for j in range(len(exposure)):
        own = exposure[j]["buys"] if side > 0 else exposure[j]["sells"]
        lots = side * seen.position[i, j] + own
        worth = amount(abs(lots), reference(seen.mid2[i, j]))
        if worth == UNKNOWN:
            return False, 0
        if j != m:
            total += worth if lots > 0 else -worth
    return True, total


@hot
def _room(limit, others, worst, own, quantity, ref, whole):
    """Lots, at most `quantity`, that may be added to `own` so that others + max(worst, own + lots) * ref <= limit; `whole` is
    the amount max(worst, own + quantity) * ref."""
    if others == UNKNOWN or limit < others:
        return 0
    if whole != UNKNOWN and whole <= limit - others:
        return quantity
    most = (limit - others) // ref
    return 0 if worst > most else max(0, min(quantity, most - own))


@hot
def _net_room(limit, net, own, quantity, ref):
    """Lots, at most `quantity`, that may be added to `own` so that net + (own + lots) * ref <= limit."""
    more = own + quantity
    if 0 <= more < SMALL and ref < SMALL and net + more * ref <= limit:
        return quantity
    return max(0, min(quantity, (limit - net) // ref - own))


@hot
def limit(work, bit, lots):
    """A check that allows `lots` of the order at hand."""
    work["cap"] = min(work["cap"], lots)
    work["bits"] |= bit


@hot
def limit_risk(work, bit, lots, quantity):
    """A check that orders which only reduce a position need not pass."""
    lots = max(lots, work["reducible"])
    if lots < quantity:
        limit(work, bit, lots)


@hot
def smallest(work, rule):
    """Lots, one lot at most, that a limit in money lets pass however low it is, since they only reduce."""
    return min(rule["lot"], work["reducible"])


@hot
def check_portfolio(work, request, i, m, seen, kept, lane, bound, exposure, value):
    """Open orders, position, gross and net, sector, leverage and credit, the worst case of each."""
    rules, rule, quantity = bound.portfolio[0], bound.instruments[m], request["quantity"]
    side, ref, position = request["side"], reference(seen.mid2[i, m]), seen.position[i, m]
    long, short = position + exposure[m]["buys"], exposure[m]["sells"] - position
    own, worst = (long if side > 0 else short), max(long, short)
    if rules["max_open"] != OFF and work["open"] >= rules["max_open"]:
        limit(work, OPEN_ORDERS, 0)
    cost = amount(quantity, value)
    if rules["max_open_amount"] != OFF:
        lots = _room(rules["max_open_amount"], work["open_amount"], 0, 0, quantity, value, cost)
        if work["open"] == 0:
            lots = max(lots, smallest(work, rule))
        if lots < quantity:
            limit(work, OPEN_ORDERS, lots)
    if rule["max_position"] != OFF:
        most = (
            rule["max_position"] * kept.instrument[i, m]["scale_bps"] // FULL_SCALE * lane["budget_bps"] // FULL_SCALE
        )
        limit_risk(work, POSITION, max(0, min(quantity, most - own)), quantity)
    gross_on = rules["max_gross"] != OFF or rules["leverage_pct"] != OFF
    others = _others(i, m, seen, exposure, bound.instruments, OFF) if gross_on else 0
    whole = amount(max(worst, own + quantity), ref)
    if rules["max_gross"] != OFF:
        limit_risk(work, GROSS_NET, _room(rules["max_gross"], others, worst, own, quantity, ref, whole), quantity)
    if rules["max_net"] != OFF:
        known, net = _net(i, m, seen, exposure, side)
        lots = _net_room(rules["max_net"], net, own, quantity, ref) if known else 0
        limit_risk(work, GROSS_NET, lots, quantity)
    most = bound.sectors[rule["sector"]]
    if most != OFF:
        sector = _others(i, m, seen, exposure, bound.instruments, rule["sector"])
        limit_risk(work, SECTOR, _room(most, sector, worst, own, quantity, ref, whole), quantity)
    if rules["leverage_pct"] != OFF:
        lots = 0
        if lane["equity2"] != MISSING:
            equity = (rules["capital2"] + lane["equity2"]) // 200
            most = amount(equity, rules["leverage_pct"]) if equity > 0 else 0  # UNKNOWN: too rich to tell; fails closed
            lots = _room(most, others, worst, own, quantity, ref, whole)
        limit_risk(work, LEVERAGE_CREDIT, lots, quantity)
    if rules["credit"] != OFF and side > 0:
        lots = 0
        if lane["cash2"] != MISSING:
            funds = (rules["capital2"] + lane["cash2"]) // 2 + rules["credit"]
            lots = _room(funds, work["buy_amount"], 0, 0, quantity, value, cost)
        limit_risk(work, LEVERAGE_CREDIT, lots, quantity)
