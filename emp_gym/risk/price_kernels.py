"""Kernels of prices and sizes: what one order may be by itself, against the mid, the book and its limits."""

from __future__ import annotations

import numpy as np

from emp_gym.jit import hot
from emp_gym.risk.compiled_limits import OFF, PRICE_MAX
from emp_gym.risk.exposure_kernels import limit, limit_risk, smallest
from emp_gym.risk.reasons import LOTS_MAX
from emp_gym.risk.state import FULL_SCALE, MISSING
from emp_gym.risk.watch_kernels import UNKNOWN, amount, mid_known, reference, time_known

MARKET = 2  # OrderKind
TICK_LOT, QUANTITY, NOTIONAL, COLLAR, WINDOW_COLLAR, FAT_FINGER = (np.uint64(1 << b) for b in range(5, 11))


@hot
def _near(price, low2, high2, bps):
    """Whether a price is within `bps` of every mid between low2 / 2 and high2 / 2."""
    scaled = 2 * price * FULL_SCALE
    return high2 * (FULL_SCALE - bps) <= scaled <= low2 * (FULL_SCALE + bps)


@hot
def _depth(prices, sizes, low2, high2, bps, enough):
    """Visible lots of a side whose prices are near; not counted on once there are `enough`."""
    total = 0
    for level in range(len(prices)):
        if sizes[level] <= 0:
            continue
        if sizes[level] > LOTS_MAX or not 0 < prices[level] <= PRICE_MAX or not _near(prices[level], low2, high2, bps):
            break
        total += sizes[level]
        if total >= enough:
            break
    return total


@hot
def _check_collar(work, bit, kind, side, request, i, m, seen, low2, high2, bps):
    """A limit order's price, or the depth that a market order would take, must be near."""
    if kind != MARKET:
        if not _near(request["price"], low2, high2, bps):
            limit(work, bit, 0)
        return
    if side > 0:
        depth = _depth(seen.ask_price[i, m], seen.ask_size[i, m], low2, high2, bps, request["quantity"])
    else:
        depth = _depth(seen.bid_price[i, m], seen.bid_size[i, m], low2, high2, bps, request["quantity"])
    if depth < request["quantity"]:
        limit(work, bit, depth)


@hot
def worst_price(kind, side, request, i, m, seen, bps):
    """The highest price at which the order can be worth anything: its limit, the worst visible one, or the collar's end."""
    mid2 = seen.mid2[i, m]
    ref = reference(mid2)
    if kind != MARKET:
        return max(ref, request["price"])
    if side < 0:
        return ref
    worst = ref if bps == OFF else max(ref, mid2 * (FULL_SCALE + bps) // (2 * FULL_SCALE))
    for level in range(seen.ask_price.shape[2]):
        price = seen.ask_price[i, m, level]
        worst = max(worst, price if (seen.ask_size[i, m, level] > 0) & (price <= PRICE_MAX) else 0)
    return worst


@hot
def stale(i, m, kind, side, seen, kept, rule):
    """Whether there is no price to judge by: none at all, none on the side that a market order takes, or an old one."""
    now, quote_ns = seen.time_ns[i], kept.instrument[i, m]["quote_ns"]
    if not time_known(now) or not mid_known(seen.mid2[i, m]):
        return True
    if kind == MARKET and (seen.ask_size[i, m, 0] if side > 0 else seen.bid_size[i, m, 0]) <= 0:
        return True
    if rule["max_age_ns"] == OFF:
        return False
    return quote_ns == MISSING or now - quote_ns > rule["max_age_ns"]


@hot
def check_size(work, kind, request, i, m, seen, rules, rule):
    """Tick and lot, quantity, fat finger. Lots that only reduce need not be whole lots, nor as many as the smallest order."""
    quantity, tick, lot = request["quantity"], seen.tick[i, m], rule["lot"]
    if kind != MARKET and (tick <= 0 or request["price"] % tick != 0):
        limit(work, TICK_LOT, 0)
    if lot > 1 and quantity % lot != 0:
        limit_risk(work, TICK_LOT, quantity // lot * lot, quantity)
    if quantity < rules["min_quantity"]:
        limit_risk(work, QUANTITY, 0, quantity)
    if quantity > rules["max_quantity"]:
        limit(work, QUANTITY, rules["max_quantity"])
    if rule["largest"] != OFF and quantity > rule["largest"]:
        limit(work, FAT_FINGER, rule["largest"])
    if rule["top_multiple"] != OFF:
        top = min(LOTS_MAX, max(0, max(seen.bid_size[i, m, 0], seen.ask_size[i, m, 0])))
        if quantity > top * rule["top_multiple"]:
            limit(work, FAT_FINGER, top * rule["top_multiple"])


@hot
def check_price(work, kind, request, i, m, seen, kept, rules, rule, value):
    """Notional and both collars. A notional below one lot lets one pass that only reduces."""
    quantity, mid2, side = request["quantity"], seen.mid2[i, m], request["side"]
    if rules["max_notional"] != OFF:
        worth = amount(quantity, value)
        if worth == UNKNOWN or worth > rules["max_notional"]:
            lots = max(rules["max_notional"] // value, smallest(work, rule))
            if lots < quantity:
                limit(work, NOTIONAL, lots)
    if rules["collar_bps"] != OFF:
        _check_collar(work, COLLAR, kind, side, request, i, m, seen, mid2, mid2, rules["collar_bps"])
    if rules["window_bps"] != OFF:
        own = kept.instrument[i, m]
        low2, high2 = min(own["low2"], own["low2_before"]), max(own["high2"], own["high2_before"])
        _check_collar(work, WINDOW_COLLAR, kind, side, request, i, m, seen, low2, high2, rules["window_bps"])
