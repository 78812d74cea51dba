"""Kernels that judge orders: 24 checks in a fixed order, integers only. `checks.py` says what each of them asks."""

from __future__ import annotations

import numpy as np

from emp_gym.jit import hot
from emp_gym.risk.exposure_kernels import POSITION, add_open, check_portfolio, expose, limit, limit_risk
from emp_gym.risk.own_order_kernels import content_code, same_sent, self_trade
from emp_gym.risk.price_kernels import check_price, check_size, stale, worst_price
from emp_gym.risk.rules import LOTS_MAX, OFF, PRICE_MAX
from emp_gym.risk.state import MISSING
from emp_gym.risk.watch_kernels import HALTED, NORMAL, time_known, watch_lane

NONE, LIMIT, MARKET, CANCEL, REPLACE = 0, 1, 2, 3, 4  # OrderKind
TRADING = 0  # Status
OBSERVE, PROJECT, REJECT = 0, 1, 2  # Mode
KILL, MALFORMED, RESTRICTED, HALT, STALE = (np.uint64(1 << b) for b in range(5))
DUPLICATE_ID, DUPLICATE_CONTENT, SELF_TRADE, SUBMIT_RATE, MESSAGE_RATE = (np.uint64(1 << b) for b in range(11, 16))
DAILY_LOSS, DRAWDOWN = np.uint64(1 << 22), np.uint64(1 << 23)
PASSED = np.uint64(0)
MEANINGLESS = -1  # worst price of an order that nothing can be asked of


@hot
def _malformed(kind, request):
    if kind < LIMIT or kind > REPLACE or (request["side"] != 1 and request["side"] != -1):
        return True
    if request["quantity"] <= 0 or request["quantity"] > LOTS_MAX or request["id"] <= 0:
        return True
    if kind == REPLACE and request["target"] <= 0:
        return True
    return kind != MARKET and not 0 < request["price"] <= PRICE_MAX


@hot
def _check_latch(work, lane, rules, quantity):
    """Kill latch and what loss, drawdown and repeated executions have latched."""
    if lane["killed"] != 0:
        limit(work, KILL, 0)
    if lane["latch"] == HALTED:
        limit(work, lane["latch_bits"], 0)
    elif lane["latch"] != NORMAL:
        limit_risk(work, lane["latch_bits"], 0, quantity)
    if lane["equity2"] == MISSING:  # a loss that cannot be told may be above its limit
        if rules["loss_soft2"] != OFF or rules["loss_hard2"] != OFF:
            limit_risk(work, DAILY_LOSS, 0, quantity)
        if rules["fall_soft2"] != OFF or rules["fall_hard2"] != OFF:
            limit_risk(work, DRAWDOWN, 0, quantity)


@hot
def _judge(work, kind, request, i, slot, seen, kept, bound, exposure, kinds, records):
    """All checks that look at one order by itself or at exposure: leaves work's bits and cap. Returns its worst price,
    0 when there is no reference, MEANINGLESS when nothing can be asked of it."""
    m, lane, rules = request["instrument"], kept.lane[i], bound.portfolio[0]
    work["bits"], work["cap"], work["reducible"] = PASSED, request["quantity"], 0
    if lane["killed"] != 0:
        limit(work, KILL, 0)
    if _malformed(kind, request):
        limit(work, MALFORMED, 0)
        return MEANINGLESS
    if m < 0 or m >= len(exposure):
        limit(work, RESTRICTED, 0)
        return MEANINGLESS
    rule, side, now = bound.instruments[m], request["side"], seen.time_ns[i]
    open_lots = exposure[m]["buys"] if side > 0 else exposure[m]["sells"]
    if work["unknown"]:
        limit(work, POSITION, 0)
    else:
        work["reducible"] = max(0, -side * seen.position[i, m] - open_lots)
    if rule["restricted"]:
        limit(work, RESTRICTED, 0)
    if seen.status[i, m] != TRADING or (rule["open_ns"] != OFF and not rule["open_ns"] <= now < rule["close_ns"]):
        limit(work, HALT, 0)
    check_size(work, kind, request, i, m, seen, rules, rule)
    if request["id"] <= work["highest_id"]:
        limit(work, DUPLICATE_ID, 0)
    if rules["self_trade"] and self_trade(i, slot, kind, request, seen, exposure, kinds, records):
        limit(work, SELF_TRADE, 0)
    _check_latch(work, lane, rules, request["quantity"])
    if stale(i, m, kind, side, seen, kept, rule):
        limit(work, STALE, 0)
        return 0
    value = worst_price(kind, side, request, i, m, seen, rules["collar_bps"])
    check_price(work, kind, request, i, m, seen, kept, rules, value)
    if not work["unknown"]:
        check_portfolio(work, request, i, m, seen, kept, bound, exposure, value)
    return value


@hot
def _check_traffic(work, kind, request, quantity, i, slot, seen, kept, bound, kinds, records):
    """What is left of an order must not repeat others and must find its tokens. Returns the reason bits."""
    bits, rules, reduces = PASSED, bound.portfolio[0], quantity <= work["reducible"]
    if rules["same"] != OFF and time_known(seen.time_ns[i]):
        code = content_code(kind, request["side"], request["instrument"])
        price = 0 if kind == MARKET else request["price"]
        now = seen.time_ns[i]
        if same_sent(i, slot, code, price, quantity, now, rules["same_ns"], kept, kinds, records) >= rules["same"]:
            bits |= DUPLICATE_CONTENT
    if rules["submit_cost"] != OFF:
        full = rules["submit_full"] if reduces else rules["submit_share"]
        if work["submitted_ns"] + rules["submit_cost"] > full:
            bits |= SUBMIT_RATE
    if rules["message_cost"] != OFF:
        full = rules["message_full"] if reduces else rules["message_share"]
        if work["messaged_ns"] + rules["message_cost"] > full:
            bits |= MESSAGE_RATE
    if rules["ratio"] != OFF:
        most = rules["free"] + rules["ratio"] * kept.lane[i]["executions"]
        if not reduces:
            most = most * 8 // 10
        if work["messages"] >= most:
            bits |= MESSAGE_RATE
    return bits


@hot
def _count_message(work, rules):
    work["messages"] += 1
    if rules["message_cost"] != OFF:
        work["messaged_ns"] = min(work["messaged_ns"] + rules["message_cost"], rules["message_full"])


@hot
def _let_through(work, kind, request, quantity, value, own, rules):
    """Counts an order that is sent as open from now on."""
    work["highest_id"] = max(work["highest_id"], request["id"])
    if rules["submit_cost"] != OFF:
        work["submitted_ns"] = min(work["submitted_ns"] + rules["submit_cost"], rules["submit_full"])
    add_open(work, own, request["side"], quantity, value)


@hot
def _judge_entry(slot, i, kinds, records, out_kinds, out_records, seen, kept, bound, work, exposure, mode):
    """Judges one entry that asks for something and writes what is sent. Returns the reason bits."""
    kind, request, rules, sent = kinds[slot], records[slot], bound.portfolio[0], out_records[slot]
    out_kinds[slot], out_records[slot] = kind, request
    if kind == CANCEL:
        _count_message(work, rules)
        return PASSED
    value = _judge(work, kind, request, i, slot, seen, kept, bound, exposure, out_kinds, out_records)
    bits, quantity = work["bits"], request["quantity"]
    if value == MEANINGLESS or (mode == REJECT and bits != PASSED):
        quantity = 0
    elif mode == PROJECT and bits != PASSED:
        lot = bound.instruments[request["instrument"]]["lot"]
        quantity = work["cap"] // lot * lot
        if quantity < rules["min_quantity"]:
            quantity = 0
    if quantity > 0:
        traffic = _check_traffic(work, kind, request, quantity, i, slot, seen, kept, bound, out_kinds, out_records)
        bits |= traffic
        if traffic != PASSED and mode != OBSERVE:
            quantity = 0
    if mode == OBSERVE:
        _count_message(work, rules)
        if quantity > 0 and not work["unknown"]:
            _let_through(work, kind, request, quantity, value, exposure[request["instrument"]], rules)
        return bits
    sent["quantity"] = quantity
    if quantity > 0:
        _count_message(work, rules)
        _let_through(work, kind, request, quantity, value, exposure[request["instrument"]], rules)
    elif kind == REPLACE and request["target"] > 0:  # its cancel passes whatever becomes of its new order
        out_kinds[slot] = CANCEL
        sent["id"], sent["target"], sent["price"] = request["target"], 0, 0
        _count_message(work, rules)
    else:
        out_kinds[slot] = NONE
    return bits


@hot
def judge_lane(i, kinds, records, out_kinds, out_records, reasons, seen, kept, bound, work, exposure, mode):
    """Judges the entries of lane i in their order. Returns how many were touched, -1 if nothing was asked."""
    touched = 0
    for k in range(len(kinds)):
        out_kinds[k], reasons[k] = NONE, PASSED
    if not _asked(kinds):
        return -1
    expose(i, seen, kept, work, exposure)
    for k in range(len(kinds)):
        if kinds[k] == NONE:
            continue
        reasons[k] = _judge_entry(k, i, kinds, records, out_kinds, out_records, seen, kept, bound, work, exposure, mode)
        touched += reasons[k] != PASSED
    return touched


@hot
def _remember(i, out_kinds, out_records, touched, seen, kept, work, ring_on):
    """Writes into lane i's state what was let through."""
    lane = kept.lane[i]
    lane["highest_id"], lane["messages"] = work["highest_id"], work["messages"]
    lane["submitted_ns"], lane["messaged_ns"] = work["submitted_ns"], work["messaged_ns"]
    lane["touched"] += touched
    for k in range(len(out_kinds)):
        kind = out_kinds[k]
        if kind == NONE or kind == CANCEL:
            continue
        if not ring_on:
            lane["sent"] += 1
            continue
        entry, order = kept.ring[i, lane["sent"] % kept.ring.shape[1]], out_records[k]
        entry["time_ns"], entry["quantity"] = seen.time_ns[i], order["quantity"]
        entry["price"] = 0 if kind == MARKET else order["price"]
        entry["code"] = content_code(kind, order["side"], order["instrument"])
        lane["sent"] += 1


@hot
def _asked(kinds):
    """Whether any entry asks for something."""
    found = False
    for k in range(len(kinds)):
        found = found or kinds[k] != NONE
    return found


@hot
def check(low, high, kinds, records, out_kinds, out_records, reasons, counts, seen, kept, bound, work, exposure, mode):
    """Watches and judges lanes [low, high); counts [24] counts the orders that each check objected to."""
    ring_on = bound.portfolio[0]["same"] != OFF
    for i in range(low, high):
        watch_lane(i, seen, kept, bound)
        touched = judge_lane(
            i,
            kinds[i],
            records[i],
            out_kinds[i],
            out_records[i],
            reasons[i],
            seen,
            kept,
            bound,
            work[0],
            exposure,
            mode,
        )
        if touched >= 0:
            _remember(i, out_kinds[i], out_records[i], touched, seen, kept, work[0], ring_on)
        if touched > 0:
            _count(reasons[i], counts)


@hot
def _count(reasons, counts):
    for k in range(len(reasons)):
        if reasons[k] == PASSED:
            continue
        for bit in range(len(counts)):
            if reasons[k] & np.uint64(1 << bit):
                counts[bit] += 1


@hot
def allow(low, high, kinds, records, out_kinds, out_records, reasons, allowed, seen, kept, bound, work, exposure):
    """Says which entries [N, A, K] would pass untouched. Judges by the state as it was last watched and leaves it so."""
    for i in range(low, high):
        for a in range(kinds.shape[1]):
            touched = judge_lane(
                i,
                kinds[i, a],
                records[i, a],
                out_kinds,
                out_records,
                reasons,
                seen,
                kept,
                bound,
                work[0],
                exposure,
                REJECT,
            )
            allowed[i, a] = touched <= 0
