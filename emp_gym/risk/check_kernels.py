"""Kernels that judge orders: 24 checks in a fixed order, integers only. `checks.py` says what each of them asks."""

from __future__ import annotations

import numpy as np

from emp_gym.jit import hot, prefetch
from emp_gym.risk.compiled_limits import OFF, PRICE_MAX
from emp_gym.risk.exposure_kernels import POSITION, add_open, check_portfolio, expose, limit, limit_risk
from emp_gym.risk.price_kernels import check_price, check_size, stale, worst_price
from emp_gym.risk.reasons import LOTS_MAX
from emp_gym.risk.self_trade_kernels import content_code, same_sent, self_trade
from emp_gym.risk.state import MISSING, RING
from emp_gym.risk.watch_kernels import HALTED, NORMAL, time_known, watch_lane
from emp_gym.threads import region

NONE, LIMIT, MARKET, CANCEL, REPLACE = 0, 1, 2, 3, 4  # OrderKind
TRADING = 0  # Status
OBSERVE, PROJECT, REJECT = 0, 1, 2  # Mode
KILL, MALFORMED, RESTRICTED, HALT, STALE = (np.uint64(1 << b) for b in range(5))
DUPLICATE_ID, DUPLICATE_CONTENT, SELF_TRADE, SUBMIT_RATE, MESSAGE_RATE = (np.uint64(1 << b) for b in range(11, 16))
DAILY_LOSS, DRAWDOWN = np.uint64(1 << 22), np.uint64(1 << 23)
PASSED = np.uint64(0)
CHECKS = 24
AHEAD = 16  # how many lanes ahead memory is asked for
MEANINGLESS = -1  # worst price of an order that nothing can be asked of


@hot
def _malformed(kind, request):
    strange = (kind < LIMIT) | (kind > REPLACE) | ((request["side"] != 1) & (request["side"] != -1))
    strange |= (request["quantity"] <= 0) | (request["quantity"] > LOTS_MAX) | (request["id"] <= 0)
    strange |= (kind == REPLACE) & (request["target"] <= 0)
    return strange | (kind != MARKET) & ((request["price"] <= 0) | (request["price"] > PRICE_MAX))


@hot
def _check_latch(work, lane, rules, quantity):
    """What loss, drawdown and repeated executions have latched."""
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
def _judge(work, kind, request, i, slot, seen, kept, lane, bound, exposure, kinds, records):
    """All checks that look at one order by itself or at exposure: leaves work's bits and cap. Returns its worst price,
    0 when there is no reference, MEANINGLESS when nothing can be asked of it."""
    m, rules = request["instrument"], bound.portfolio[0]
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
    if request["id"] <= lane["highest_id"]:
        limit(work, DUPLICATE_ID, 0)
    if rules["self_trade"] and self_trade(i, slot, kind, request, seen, exposure, kinds, records):
        limit(work, SELF_TRADE, 0)
    _check_latch(work, lane, rules, request["quantity"])
    if stale(i, m, kind, side, seen, kept, rule):
        limit(work, STALE, 0)
        return 0
    value = worst_price(kind, side, request, i, m, seen, rules["collar_bps"])
    check_price(work, kind, request, i, m, seen, kept, rules, rule, value)
    if not work["unknown"]:
        check_portfolio(work, request, i, m, seen, kept, lane, bound, exposure, value)
    return value


@hot
def _check_traffic(work, kind, request, quantity, i, slot, seen, kept, lane, bound, kinds, records):
    """What is left of an order must not repeat others and must find its tokens. Returns the reason bits."""
    bits, rules, reduces = PASSED, bound.portfolio[0], quantity <= work["reducible"]
    if rules["same"] != OFF and time_known(seen.time_ns[i]):
        code = content_code(kind, request["side"], request["instrument"])
        price = 0 if kind == MARKET else request["price"]
        ring, sent, now = kept.ring[i], lane["sent"], seen.time_ns[i]
        if same_sent(ring, sent, slot, code, price, quantity, now, rules["same_ns"], kinds, records) >= rules["same"]:
            bits |= DUPLICATE_CONTENT
    if rules["submit_cost"] != OFF:
        full = rules["submit_full"] if reduces else rules["submit_share"]
        if lane["submitted_ns"] + rules["submit_cost"] > full:
            bits |= SUBMIT_RATE
    if rules["message_cost"] != OFF:
        full = rules["message_full"] if reduces else rules["message_share"]
        if lane["messaged_ns"] + rules["message_cost"] > full:
            bits |= MESSAGE_RATE
    if rules["ratio"] != OFF:
        most = rules["free"] + rules["ratio"] * lane["executions"]
        if not reduces:
            most = most * 8 // 10
        if lane["messages"] >= most:
            bits |= MESSAGE_RATE
    return bits


@hot
def _count_message(lane, rules):
    lane["messages"] += 1
    if rules["message_cost"] != OFF:
        lane["messaged_ns"] = min(lane["messaged_ns"] + rules["message_cost"], rules["message_full"])


@hot
def _let_through(work, request, quantity, value, own, lane, rules):
    """Counts an order that is sent as open from now on."""
    lane["highest_id"] = max(lane["highest_id"], request["id"])
    if rules["submit_cost"] != OFF:
        lane["submitted_ns"] = min(lane["submitted_ns"] + rules["submit_cost"], rules["submit_full"])
    add_open(work, own, request["side"], quantity, value)


@hot
def _judge_entry(slot, i, kinds, records, out_kinds, out_records, seen, kept, lane, bound, work, exposure, mode):
    """Judges one entry that asks for something and writes what is sent. Returns the reason bits."""
    kind, request, rules, sent = kinds[slot], records[slot], bound.portfolio[0], out_records[slot]
    out_kinds[slot], out_records[slot] = kind, request
    if kind == CANCEL:
        _count_message(lane, rules)
        return PASSED
    value = _judge(work, kind, request, i, slot, seen, kept, lane, bound, exposure, out_kinds, out_records)
    bits, quantity = work["bits"], request["quantity"]
    if value == MEANINGLESS or (mode == REJECT and bits != PASSED):
        quantity = 0
    elif mode == PROJECT and bits != PASSED:
        lot = bound.instruments[request["instrument"]]["lot"]
        quantity = work["cap"] // lot * lot
        if quantity < rules["min_quantity"]:  # which is 1 at least
            quantity = min(work["cap"], work["reducible"])
    if quantity > 0:
        traffic = _check_traffic(
            work, kind, request, quantity, i, slot, seen, kept, lane, bound, out_kinds, out_records
        )
        bits |= traffic
        if traffic != PASSED and mode != OBSERVE:
            quantity = 0
    if mode == OBSERVE:
        _count_message(lane, rules)
        if quantity > 0 and not work["unknown"]:
            _let_through(work, request, quantity, value, exposure[request["instrument"]], lane, rules)
        return bits
    sent["quantity"] = quantity
    if quantity > 0:
        _count_message(lane, rules)
        _let_through(work, request, quantity, value, exposure[request["instrument"]], lane, rules)
    elif kind == REPLACE and request["target"] > 0:  # its cancel passes whatever becomes of its new order
        out_kinds[slot] = CANCEL
        sent["id"], sent["target"], sent["price"] = request["target"], 0, 0
        _count_message(lane, rules)
    else:
        out_kinds[slot] = NONE
    return bits


@hot
def judge_lane(i, kinds, records, out_kinds, out_records, reasons, seen, kept, lane, bound, work, exposure, mode):
    """Judges the entries of lane i in their order and counts in `lane`, its state or a copy of it. Returns how many entries
    there are to look at; work says how many of them were touched."""
    entries, exposed = 0, False
    work["touched"] = 0
    for k in range(len(kinds)):
        out_kinds[k], reasons[k] = NONE, PASSED
        if kinds[k] == NONE:
            continue
        entries = k + 1
        if not exposed and kinds[k] != CANCEL:
            expose(i, seen, work, exposure)
            exposed = True
        reasons[k] = _judge_entry(
            k, i, kinds, records, out_kinds, out_records, seen, kept, lane, bound, work, exposure, mode
        )
        work["touched"] += reasons[k] != PASSED
    return entries


@hot
def _remember(i, entries, out_kinds, out_records, seen, kept, ring_on):
    """Writes into lane i's state which orders were let through."""
    lane = kept.lane[i]
    for k in range(entries):
        kind = out_kinds[k]
        if kind == NONE or kind == CANCEL:
            continue
        if ring_on:
            entry, order = kept.ring[i, lane["sent"] % RING], out_records[k]
            entry["time_ns"], entry["quantity"] = seen.time_ns[i], order["quantity"]
            entry["price"] = 0 if kind == MARKET else order["price"]
            entry["code"] = content_code(kind, order["side"], order["instrument"])
        lane["sent"] += 1


@hot
def _ask_for(i, seen, kept, records, out_records):
    """Asks for the cache lines that judging lane i reads first."""
    prefetch(seen.time_ns, i, 0)
    prefetch(seen.cash, i, 0)
    prefetch(seen.mid2, i, 0)
    prefetch(seen.bid_price, i, 0)
    prefetch(seen.ask_price, i, 0)
    prefetch(seen.bid_size, i, 0)
    prefetch(seen.ask_size, i, 0)
    for k in range(seen.order_id.shape[1]):
        prefetch(seen.order_id, i, k * seen.order_id.strides[1])
    for line in range(3):
        prefetch(kept.lane, i, 64 * line)
    prefetch(kept.instrument, i, 0)
    prefetch(kept.instrument, i, 64)
    prefetch(records, i, 0)
    prefetch(out_records, i, 0)


@hot
def _ask_for_ring(i, kept):
    """Asks for the cache line of the order that lane i sent last."""
    prefetch(kept.ring, i, kept.ring.itemsize * ((kept.lane[i]["sent"] - 1) % RING))


@region
def check_lanes(
    low, high, place, kinds, records, out_kinds, out_records, reasons, seen, kept, bound, counts, work, exposure, mode
):  # fmt: skip
    """Watches and judges lanes [low, high); row `place` of counts [C, 24] and of work [C, 1] count the orders that were
    objected to, by check and all, and rows `place` of work and exposure [C, M] are room to work in. Rows may be longer."""
    own, books, ring_on = work[place, 0], exposure[place, : kept.instrument.shape[1]], bound.portfolio[0]["same"] != OFF
    objected = 0
    for i in range(low - AHEAD, high):
        if i + AHEAD < high:
            _ask_for(i + AHEAD, seen, kept, records, out_records)
        if ring_on and low <= i + AHEAD // 2 < high:
            _ask_for_ring(i + AHEAD // 2, kept)
        if i < low:
            continue
        watch_lane(i, seen, kept, bound)
        lane = kept.lane[i]
        entries = judge_lane(
            i, kinds[i], records[i], out_kinds[i], out_records[i], reasons[i], seen, kept, lane, bound, own, books, mode
        )  # fmt: skip
        _remember(i, entries, out_kinds[i], out_records[i], seen, kept, ring_on)
        if own["touched"] > 0:
            lane["touched"] += own["touched"]
            objected += own["touched"]
            _count(reasons[i], counts[place])
    own["objected"] += objected


@hot
def _count(reasons, counts):
    for k in range(len(reasons)):
        if reasons[k] == PASSED:
            continue
        for bit in range(CHECKS):
            if reasons[k] & np.uint64(1 << bit):
                counts[bit] += 1


@hot
def allow(kinds, records, out_kinds, out_records, reasons, allowed, seen, kept, bound, tried, work, exposure):
    """Says which entries [N, A, K] would pass untouched. Judges by the state as it was last watched and leaves it so."""
    own, books = work[0, 0], exposure[0, : kept.instrument.shape[1]]
    for i in range(len(kinds)):
        for a in range(kinds.shape[1]):
            tried[0] = kept.lane[i]
            judge_lane(
                i, kinds[i, a], records[i, a], out_kinds, out_records, reasons, seen, kept, tried[0], bound, own, books,
                REJECT,
            )  # fmt: skip
            allowed[i, a] = own["touched"] == 0
