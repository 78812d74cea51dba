"""Kernels that watch: what a view says about equity, quotes and executions, and the latches that follow from it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emp_gym.jit import hot
from emp_gym.risk.compiled_limits import AMOUNT_MAX, OFF, PRICE_MAX, TIME_MAX
from emp_gym.risk.reasons import LOTS_MAX
from emp_gym.risk.state import FULL_SCALE, MISSING
from emp_gym.threads import region

NORMAL, REDUCING, HALTED = 0, 1, 2
REPEATED_BIT, LOSS_BIT, FALL_BIT = np.uint64(1 << 16), np.uint64(1 << 22), np.uint64(1 << 23)
DAY_NS = 86_400_000_000_000
SMALL = 1 << 28  # products of two smaller numbers are below AMOUNT_MAX
UNKNOWN = -1  # an amount that cannot be told, or is above AMOUNT_MAX
CASH_MAX = 1 << 60


class ViewArrays(NamedTuple):
    """The arrays of a View that checks read, with the instrument of each open order."""

    time_ns: np.ndarray
    decision: np.ndarray
    status: np.ndarray
    bid_price: np.ndarray
    bid_size: np.ndarray
    ask_price: np.ndarray
    ask_size: np.ndarray
    cash: np.ndarray
    position: np.ndarray
    mid2: np.ndarray
    tick: np.ndarray
    order_id: np.ndarray
    order_side: np.ndarray
    order_price: np.ndarray
    order_quantity: np.ndarray
    order_instrument: np.ndarray


class StateArrays(NamedTuple):
    """The arrays of a RiskState."""

    lane: np.ndarray
    instrument: np.ndarray
    ring: np.ndarray


class RuleArrays(NamedTuple):
    """The arrays of Rules."""

    portfolio: np.ndarray
    instruments: np.ndarray
    sectors: np.ndarray


@hot
def amount(lots, price):
    """lots * price for lots >= 0; UNKNOWN when the price is, or the product is above AMOUNT_MAX."""
    if lots == 0:
        return 0
    if price <= 0:
        return UNKNOWN
    if (lots >= SMALL or price >= SMALL) and lots > AMOUNT_MAX // price:
        return UNKNOWN
    return lots * price


@hot
def mid_known(mid2):
    return 0 < mid2 <= 2 * PRICE_MAX


@hot
def time_known(now):
    return 0 <= now <= TIME_MAX


@hot
def reference(mid2):
    """The price at which exposure is valued: the mid, rounded up; 0 when not known."""
    return (mid2 + 1) // 2 if mid_known(mid2) else 0


@hot
def begin_lane(i, seen, kept):
    """Starts an episode: everything but the kill latch and the position scale is as new."""
    lane = kept.lane[i]
    lane["begun"], lane["latch"], lane["latch_bits"] = 1, NORMAL, np.uint64(0)
    lane["cash2"] = lane["equity2"] = lane["start2"] = lane["peak2"] = MISSING
    lane["overshoot2"], lane["day"], lane["budget_bps"], lane["time_ns"] = 0, MISSING, FULL_SCALE, MISSING
    lane["submitted_ns"] = lane["messaged_ns"] = lane["executed_ns"] = 0
    lane["messages"] = lane["executions"] = lane["highest_id"] = lane["sent"] = lane["touched"] = 0
    for m in range(kept.instrument.shape[1]):
        own = kept.instrument[i, m]
        own["position"], own["quote_ns"], own["window_ns"] = seen.position[i, m], MISSING, MISSING
        own["bid"] = own["ask"] = own["bid_size"] = own["ask_size"] = 0
        own["low2"] = own["high2"] = own["low2_before"] = own["high2_before"] = 0


@hot
def _watch_quote(own, i, m, seen, now):
    """Notes when the two-sided top of the book last changed."""
    bid, ask = seen.bid_price[i, m, 0], seen.ask_price[i, m, 0]
    bid_size, ask_size = seen.bid_size[i, m, 0], seen.ask_size[i, m, 0]
    if bid_size <= 0 or ask_size <= 0:
        return
    same = (own["bid"] == bid) & (own["ask"] == ask) & (own["bid_size"] == bid_size) & (own["ask_size"] == ask_size)
    own["quote_ns"] = own["quote_ns"] if same & (own["quote_ns"] != MISSING) else now
    own["bid"], own["ask"], own["bid_size"], own["ask_size"] = bid, ask, bid_size, ask_size


@hot
def _watch_window(own, mid2, now, window_ns):
    """Keeps the lowest and highest mid of the window under way and of the one before."""
    age = now - own["window_ns"]
    if own["window_ns"] == MISSING or age >= 2 * window_ns or age < 0:
        own["window_ns"] = now
        own["low2"] = own["high2"] = own["low2_before"] = own["high2_before"] = mid2
        return
    if age >= window_ns:
        own["low2_before"], own["high2_before"] = own["low2"], own["high2"]
        own["low2"] = own["high2"] = mid2
        own["window_ns"] += window_ns
    own["low2"], own["high2"] = min(own["low2"], mid2), max(own["high2"], mid2)


@hot
def _equity2(i, seen, cash2):
    """Twice the equity as an amount, MISSING when it cannot be told."""
    if cash2 == MISSING:
        return MISSING
    total = cash2
    for m in range(seen.position.shape[1]):
        position, mid2 = seen.position[i, m], seen.mid2[i, m]
        if 0 < mid2 < SMALL and -SMALL < position < SMALL:
            total += position * mid2
            continue
        if position == 0:
            continue
        if position > LOTS_MAX or position < -LOTS_MAX or not mid_known(mid2):
            return MISSING
        worth = amount(abs(position), mid2)
        if worth == UNKNOWN:
            return MISSING
        total += worth if position > 0 else -worth
    return total


@hot
def _close_latch(lane, loss2, soft2, hard2, bit):
    """Tightens the latch when a loss is above its limit; the first time it notes by how much."""
    limit2, to = OFF, NORMAL
    if hard2 != OFF and loss2 > hard2:
        limit2, to = hard2, HALTED
    elif soft2 != OFF and loss2 > soft2:
        limit2, to = soft2, REDUCING
    if to == NORMAL:
        return
    if to > lane["latch"] or not lane["latch_bits"] & bit:
        lane["overshoot2"] = max(lane["overshoot2"], loss2 - limit2)
    lane["latch"] = max(lane["latch"], to)
    lane["latch_bits"] |= bit


@hot
def _watch_equity(lane, i, seen, rules, now):
    cash = seen.cash[i]
    lane["cash2"] = MISSING
    if -CASH_MAX <= cash <= CASH_MAX:
        lane["cash2"] = 2 * cash // rules["price_to_cash"]
    lane["equity2"] = _equity2(i, seen, lane["cash2"])
    if lane["equity2"] == MISSING:
        return
    if lane["start2"] == MISSING or now // DAY_NS != lane["day"]:
        lane["start2"], lane["day"] = lane["equity2"], now // DAY_NS
    if lane["peak2"] == MISSING:
        lane["peak2"] = lane["equity2"]
    lane["peak2"] = max(lane["peak2"], lane["equity2"])
    fall2 = lane["peak2"] - lane["equity2"]
    _close_latch(lane, lane["start2"] - lane["equity2"], rules["loss_soft2"], rules["loss_hard2"], LOSS_BIT)
    _close_latch(lane, fall2, rules["fall_soft2"], rules["fall_hard2"], FALL_BIT)
    if rules["scaled"]:
        used = fall2 // max(1, rules["fall_hard2"] // FULL_SCALE)
        lane["budget_bps"] = max(0, FULL_SCALE - used)


@hot
def _empty_buckets(lane, now):
    """Lets run out what time has let run out."""
    if lane["time_ns"] != MISSING and now > lane["time_ns"]:
        elapsed = now - lane["time_ns"]
        lane["submitted_ns"] = max(0, lane["submitted_ns"] - elapsed)
        lane["messaged_ns"] = max(0, lane["messaged_ns"] - elapsed)
        lane["executed_ns"] = max(0, lane["executed_ns"] - elapsed)
    lane["time_ns"] = max(lane["time_ns"], now)


@hot
def _count_executions(lane, moved, rules):
    lane["executions"] += moved
    if rules["execution_cost"] == OFF:
        return
    level_ns = min(lane["executed_ns"] + rules["execution_cost"], 2 * rules["execution_full"])
    lane["executed_ns"] = level_ns if moved else lane["executed_ns"]
    if moved & (level_ns > rules["execution_full"]):
        lane["latch"] = max(lane["latch"], rules["execution_latch"])
        lane["latch_bits"] |= REPEATED_BIT


@hot
def watch_lane(i, seen, kept, bound):
    """Brings lane i's state up to what the view shows. Doing it twice for one view changes nothing more."""
    lane, rules, now = kept.lane[i], bound.portfolio[0], seen.time_ns[i]
    if lane["begun"] == 0 or seen.decision[i] == 0:
        begin_lane(i, seen, kept)
    moved = False
    for m in range(kept.instrument.shape[1]):
        own = kept.instrument[i, m]
        moved |= own["position"] != seen.position[i, m]
        own["position"] = seen.position[i, m]
        if not time_known(now):
            continue
        _watch_quote(own, i, m, seen, now)
        if rules["window_bps"] != OFF and mid_known(seen.mid2[i, m]):
            _watch_window(own, seen.mid2[i, m], now, rules["window_ns"])
    if time_known(now):
        _empty_buckets(lane, now)
        _watch_equity(lane, i, seen, rules, now)
    _count_executions(lane, moved, rules)


@region
def watch_lanes(low, high, place, seen, kept, bound):
    """`watch_lane` for lanes [low, high)."""
    for i in range(low, high):
        watch_lane(i, seen, kept, bound)


@hot
def watch_some(lanes, seen, kept, bound):
    """`watch_lane` for `lanes` [n]."""
    for i in lanes:
        watch_lane(i, seen, kept, bound)
