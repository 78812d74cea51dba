"""Kernels that judge orders: 24 checks in a fixed order, integers only. `checks.py` says what each of them asks."""

from __future__ import annotations

import numpy as np

from emp_gym.jit import hot
from emp_gym.risk.rules import LOTS_MAX, OFF, PRICE_MAX
from emp_gym.risk.state import FULL_SCALE, MISSING
from emp_gym.risk.watch_kernels import (
    HALTED,
    NORMAL,
    UNKNOWN,
    amount,
    mid_known,
    reference,
    time_known,
    watch_lane,
)

NONE, LIMIT, MARKET, CANCEL, REPLACE = 0, 1, 2, 3, 4  # OrderKind
TRADING = 0  # Status
OBSERVE, PROJECT, REJECT = 0, 1, 2
KILL, MALFORMED, RESTRICTED, HALT, STALE, TICK_LOT, QUANTITY, NOTIONAL = (np.uint64(1 << b) for b in range(8))
COLLAR, WINDOW_COLLAR, FAT_FINGER, DUPLICATE_ID, DUPLICATE_CONTENT = (np.uint64(1 << b) for b in range(8, 13))
SELF_TRADE, SUBMIT_RATE, MESSAGE_RATE, _, OPEN_ORDERS, POSITION = (np.uint64(1 << b) for b in range(13, 19))
GROSS_NET, SECTOR, LEVERAGE_CREDIT = (np.uint64(1 << b) for b in range(19, 22))
PASSED = np.uint64(0)
NO_BID, NO_ASK = 0, (1 << 63) - 1
AHEAD = 16  # lanes whose memory is asked for together
MEANINGLESS = -1  # worst price of an order that nothing can be asked of

WORK = np.dtype(
    [
        ("unknown", "i8"),  # 1: open orders or a position are out of all bounds
        ("open", "i8"),  # orders
        ("open_amount", "i8"),
        ("buy_amount", "i8"),  # of open buys
        ("highest_id", "i8"),
        ("submitted_ns", "i8"),
        ("messaged_ns", "i8"),
        ("messages", "i8"),
        # of the order at hand
        ("cap", "i8"),  # lots that every check so far allows
        ("bits", "u8"),
        ("reducible", "i8"),  # lots of its side that only reduce the position
        ("fetched", "i8"),  # scratch
    ],
    align=True,
)
"""What is under way while one lane's orders are judged."""

EXPOSURE = np.dtype([("buys", "i8"), ("sells", "i8"), ("bid", "i8"), ("ask", "i8")], align=True)
"""Open lots of one instrument, those in flight, being cancelled or entered in this decision included, and the best prices
of the own orders that the view shows (NO_BID, NO_ASK without)."""


# ------------------------------------------------------------------------------------------------------------- exposure


@hot
def _expose(i, seen, kept, work, exposure):
    """Sums the open orders of lane i: all of them, since until it has happened any of them may fill."""
    lane = kept.lane[i]
    work["unknown"] = work["open"] = work["open_amount"] = work["buy_amount"] = 0
    work["highest_id"], work["messages"] = lane["highest_id"], lane["messages"]
    work["submitted_ns"], work["messaged_ns"] = lane["submitted_ns"], lane["messaged_ns"]
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
        if price > 0 and side > 0:
            own["bid"] = max(own["bid"], price)
        elif price > 0:
            own["ask"] = min(own["ask"], min(price, NO_ASK - 1))
        if quantity < 0 or quantity > LOTS_MAX:
            work["unknown"] = 1
            continue
        _add(work, own, side, quantity, max(price, ref) if ref > 0 else 0)


@hot
def _add(work, own, side, quantity, price):
    """Counts an open order."""
    value = amount(quantity, price)
    work["open"] += 1
    work["open_amount"] = _sum(work["open_amount"], value)
    if side > 0:
        own["buys"] += quantity
        work["buy_amount"] = _sum(work["buy_amount"], value)
    else:
        own["sells"] += quantity


@hot
def _sum(a, b):
    """a + b, UNKNOWN if one of them is. At most MAX_SLOTS amounts are added up, so that nothing overflows."""
    return UNKNOWN if a == UNKNOWN or b == UNKNOWN else a + b


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
def _room(limit, others, worst, own, quantity, ref):
    """Lots, at most `quantity`, that may be added to `own` so that others + max(worst, own + lots) * ref <= limit."""
    if others == UNKNOWN or limit < others:
        return 0
    value = amount(max(worst, own + quantity), ref)
    if value != UNKNOWN and value <= limit - others:
        return quantity
    most = (limit - others) // ref
    return 0 if worst > most else max(0, min(quantity, most - own))


# --------------------------------------------------------------------------------------------------------- single checks


@hot
def _limit(work, bit, lots):
    """A check that allows `lots` of the order at hand."""
    work["cap"] = min(work["cap"], lots)
    work["bits"] |= bit


@hot
def _limit_risk(work, bit, lots, quantity):
    """A check that orders which only reduce a position need not pass."""
    lots = max(lots, work["reducible"])
    if lots < quantity:
        _limit(work, bit, lots)


@hot
def _near(price, low2, high2, bps):
    """Whether a price is within `bps` of every mid between low2 / 2 and high2 / 2."""
    scaled = 2 * price * FULL_SCALE
    return high2 * (FULL_SCALE - bps) <= scaled <= low2 * (FULL_SCALE + bps)


@hot
def _depth(prices, sizes, low2, high2, bps):
    """Visible lots of a side whose prices are near."""
    total = 0
    for level in range(len(prices)):
        if sizes[level] <= 0:
            continue
        if sizes[level] > LOTS_MAX or not 0 < prices[level] <= PRICE_MAX or not _near(prices[level], low2, high2, bps):
            break
        total += sizes[level]
    return total


@hot
def _check_collar(work, bit, kind, side, request, i, m, seen, low2, high2, bps):
    """A limit order's price, or the depth that a market order would take, must be near."""
    if kind != MARKET:
        if not _near(request["price"], low2, high2, bps):
            _limit(work, bit, 0)
        return
    if side > 0:
        depth = _depth(seen.ask_price[i, m], seen.ask_size[i, m], low2, high2, bps)
    else:
        depth = _depth(seen.bid_price[i, m], seen.bid_size[i, m], low2, high2, bps)
    if depth < request["quantity"]:
        _limit(work, bit, depth)


@hot
def _worst_price(kind, side, request, i, m, seen, bps):
    """The highest price at which the order can be worth anything: its limit, the worst visible one, or the collar's end."""
    mid2 = seen.mid2[i, m]
    ref = reference(mid2)
    if kind != MARKET:
        return max(ref, request["price"])
    if side < 0:
        return ref
    worst = ref if bps == OFF else max(ref, mid2 * (FULL_SCALE + bps) // (2 * FULL_SCALE))
    for level in range(seen.ask_price.shape[2]):
        if seen.ask_size[i, m, level] > 0 and seen.ask_price[i, m, level] <= PRICE_MAX:
            worst = max(worst, seen.ask_price[i, m, level])
    return worst


@hot
def _stale(i, m, kind, side, seen, kept, rule):
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
def _self_trade(i, slot, kind, request, seen, exposure, kinds, records):
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
def _code(kind, side, instrument):
    return (instrument * 8 + kind) * 2 + (1 if side > 0 else 0)


@hot
def _same_sent(i, slot, code, price, quantity, now, same_ns, kept, kinds, records):
    """Orders of the same content in the window, those before `slot` in this decision included."""
    found = 0
    ring, sent = kept.ring[i], kept.lane[i]["sent"]
    for back in range(1, min(sent, len(ring)) + 1):
        entry = ring[(sent - back) % len(ring)]
        if entry["time_ns"] <= now - same_ns:
            break
        if entry["code"] == code and entry["price"] == price and entry["quantity"] == quantity:
            found += 1
    for k in range(slot):
        if kinds[k] == NONE or kinds[k] == CANCEL or records[k]["quantity"] != quantity:
            continue
        if _code(kinds[k], records[k]["side"], records[k]["instrument"]) == code:
            if kinds[k] == MARKET or records[k]["price"] == price:
                found += 1
    return found


# -------------------------------------------------------------------------------------------------------- groups of checks


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
def _check_size(work, kind, request, i, m, seen, rules, rule):
    """Tick and lot, quantity, fat finger."""
    quantity, tick, lot = request["quantity"], seen.tick[i, m], rule["lot"]
    if kind != MARKET and (tick <= 0 or request["price"] % tick != 0):
        _limit(work, TICK_LOT, 0)
    if lot > 1 and quantity % lot != 0:
        _limit(work, TICK_LOT, quantity // lot * lot)
    if quantity < rules["min_quantity"]:
        _limit(work, QUANTITY, 0)
    if quantity > rules["max_quantity"]:
        _limit(work, QUANTITY, rules["max_quantity"])
    if rule["largest"] != OFF and quantity > rule["largest"]:
        _limit(work, FAT_FINGER, rule["largest"])
    if rule["top_multiple"] != OFF:
        top = min(LOTS_MAX, max(0, max(seen.bid_size[i, m, 0], seen.ask_size[i, m, 0])))
        if quantity > top * rule["top_multiple"]:
            _limit(work, FAT_FINGER, top * rule["top_multiple"])


@hot
def _check_price(work, kind, request, i, m, seen, kept, rules, value):
    """Notional and both collars."""
    quantity, mid2, side = request["quantity"], seen.mid2[i, m], request["side"]
    if rules["max_notional"] != OFF:
        worth = amount(quantity, value)
        if worth == UNKNOWN or worth > rules["max_notional"]:
            _limit(work, NOTIONAL, rules["max_notional"] // value)
    if rules["collar_bps"] != OFF:
        _check_collar(work, COLLAR, kind, side, request, i, m, seen, mid2, mid2, rules["collar_bps"])
    if rules["window_bps"] != OFF:
        own = kept.instrument[i, m]
        low2, high2 = min(own["low2"], own["low2_before"]), max(own["high2"], own["high2_before"])
        _check_collar(work, WINDOW_COLLAR, kind, side, request, i, m, seen, low2, high2, rules["window_bps"])


@hot
def _check_portfolio(work, request, i, m, seen, kept, bound, exposure, value):
    """Open orders, position, gross and net, sector, leverage and credit, the worst case of each."""
    rules, rule, lane, quantity = bound.portfolio[0], bound.instruments[m], kept.lane[i], request["quantity"]
    side, ref, position = request["side"], reference(seen.mid2[i, m]), seen.position[i, m]
    long, short = position + exposure[m]["buys"], exposure[m]["sells"] - position
    own, worst = (long if side > 0 else short), max(long, short)
    if rules["max_open"] != OFF and work["open"] >= rules["max_open"]:
        _limit(work, OPEN_ORDERS, 0)
    if rules["max_open_amount"] != OFF:
        lots = _room(rules["max_open_amount"], work["open_amount"], 0, 0, quantity, value)
        if lots < quantity:
            _limit(work, OPEN_ORDERS, lots)
    if rule["max_position"] != OFF:
        most = rule["max_position"] * kept.instrument[i, m]["scale_bps"] // FULL_SCALE * lane["budget_bps"] // FULL_SCALE
        _limit_risk(work, POSITION, max(0, min(quantity, most - own)), quantity)
    gross_on = rules["max_gross"] != OFF or rules["leverage_pct"] != OFF
    others = _others(i, m, seen, exposure, bound.instruments, OFF) if gross_on else 0
    if rules["max_gross"] != OFF:
        _limit_risk(work, GROSS_NET, _room(rules["max_gross"], others, worst, own, quantity, ref), quantity)
    if rules["max_net"] != OFF:
        known, net = _net(i, m, seen, exposure, side)
        lots = max(0, min(quantity, (rules["max_net"] - net) // ref - own)) if known else 0
        _limit_risk(work, GROSS_NET, lots, quantity)
    most = bound.sectors[rule["sector"]]
    if most != OFF:
        sector = _others(i, m, seen, exposure, bound.instruments, rule["sector"])
        _limit_risk(work, SECTOR, _room(most, sector, worst, own, quantity, ref), quantity)
    if rules["leverage_pct"] != OFF:
        lots = 0
        if lane["equity2"] != MISSING:
            equity = (rules["capital2"] + lane["equity2"]) // 200
            most = amount(equity, rules["leverage_pct"]) if equity > 0 else 0
            lots = _room(most, others, worst, own, quantity, ref)  # UNKNOWN: so rich that nothing is known; fails closed
        _limit_risk(work, LEVERAGE_CREDIT, lots, quantity)
    if rules["credit"] != OFF and side > 0:
        lots = 0
        if lane["cash2"] != MISSING:
            funds = (rules["capital2"] + lane["cash2"]) // 2 + rules["credit"]
            lots = _room(funds, work["buy_amount"], 0, 0, quantity, value)
        _limit_risk(work, LEVERAGE_CREDIT, lots, quantity)


@hot
def _check_latch(work, lane, rules, quantity):
    """Kill latch and what loss, drawdown and repeated executions have latched."""
    if lane["killed"] != 0:
        _limit(work, KILL, 0)
    if lane["latch"] == HALTED:
        _limit(work, lane["latch_bits"], 0)
    elif lane["latch"] != NORMAL:
        _limit_risk(work, lane["latch_bits"], 0, quantity)
    if lane["equity2"] == MISSING:  # a loss that cannot be told may be above its limit
        if rules["loss_soft2"] != OFF or rules["loss_hard2"] != OFF:
            _limit_risk(work, np.uint64(1 << 22), 0, quantity)
        if rules["fall_soft2"] != OFF or rules["fall_hard2"] != OFF:
            _limit_risk(work, np.uint64(1 << 23), 0, quantity)


@hot
def _judge(work, kind, request, i, slot, seen, kept, bound, exposure, kinds, records):
    """All checks that look at one order by itself or at exposure: leaves work's bits and cap. Returns its worst price,
    0 when there is no reference, MEANINGLESS when nothing can be asked of it."""
    m, lane, rules = request["instrument"], kept.lane[i], bound.portfolio[0]
    work["bits"], work["cap"], work["reducible"] = PASSED, request["quantity"], 0
    if lane["killed"] != 0:
        _limit(work, KILL, 0)
    if _malformed(kind, request):
        _limit(work, MALFORMED, 0)
        return MEANINGLESS
    if m < 0 or m >= len(exposure):
        _limit(work, RESTRICTED, 0)
        return MEANINGLESS
    rule, side, now = bound.instruments[m], request["side"], seen.time_ns[i]
    open_lots = exposure[m]["buys"] if side > 0 else exposure[m]["sells"]
    if work["unknown"]:
        _limit(work, POSITION, 0)
    else:
        work["reducible"] = max(0, -side * seen.position[i, m] - open_lots)
    if rule["restricted"]:
        _limit(work, RESTRICTED, 0)
    if seen.status[i, m] != TRADING or (rule["open_ns"] != OFF and not rule["open_ns"] <= now < rule["close_ns"]):
        _limit(work, HALT, 0)
    _check_size(work, kind, request, i, m, seen, rules, rule)
    if request["id"] <= work["highest_id"]:
        _limit(work, DUPLICATE_ID, 0)
    if rules["self_trade"] and _self_trade(i, slot, kind, request, seen, exposure, kinds, records):
        _limit(work, SELF_TRADE, 0)
    _check_latch(work, lane, rules, request["quantity"])
    if _stale(i, m, kind, side, seen, kept, rule):
        _limit(work, STALE, 0)
        return 0
    value = _worst_price(kind, side, request, i, m, seen, rules["collar_bps"])
    _check_price(work, kind, request, i, m, seen, kept, rules, value)
    if not work["unknown"]:
        _check_portfolio(work, request, i, m, seen, kept, bound, exposure, value)
    return value


@hot
def _check_traffic(work, kind, request, quantity, i, slot, seen, kept, bound, kinds, records):
    """What is left of an order must not repeat others and must find its tokens. Returns the reason bits."""
    bits, rules, reduces = PASSED, bound.portfolio[0], quantity <= work["reducible"]
    if rules["same"] != OFF and time_known(seen.time_ns[i]):
        code = _code(kind, request["side"], request["instrument"])
        price = 0 if kind == MARKET else request["price"]
        now = seen.time_ns[i]
        if _same_sent(i, slot, code, price, quantity, now, rules["same_ns"], kept, kinds, records) >= rules["same"]:
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
    _add(work, own, request["side"], quantity, value)


# ----------------------------------------------------------------------------------------------------------------- lanes


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
        traffic = _check_traffic(
            work, kind, request, quantity, i, slot, seen, kept, bound, out_kinds, out_records
        )
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
    _expose(i, seen, kept, work, exposure)
    for k in range(len(kinds)):
        if kinds[k] == NONE:
            continue
        reasons[k] = _judge_entry(
            k, i, kinds, records, out_kinds, out_records, seen, kept, bound, work, exposure, mode
        )
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
        entry["code"] = _code(kind, order["side"], order["instrument"])
        lane["sent"] += 1


@hot
def _asked(kinds):
    """Whether any entry asks for something."""
    for k in range(len(kinds)):
        if kinds[k] != NONE:
            return True
    return False


@hot
def _fetch(low, high, kinds, records, out_records, seen, kept, work):
    """Reads one word of each cache line that lanes [low, high) will need, so that their memory waits overlap."""
    words = 0
    for i in range(low, high):
        words += kept.lane[i]["begun"] + kept.lane[i]["messages"] + kept.instrument[i, 0]["position"]
        if not _asked(kinds[i]):
            continue
        for k in range(seen.order_id.shape[1]):
            words += seen.order_id[i, k]
        ring = kept.ring[i]
        words += ring[kept.lane[i]["sent"] % len(ring)]["code"] + ring[(kept.lane[i]["sent"] - 1) % len(ring)]["code"]
        words += records[i, 0]["id"] + out_records[i, 0]["id"]
    work["fetched"] = words  # so that the reads are not optimised away


@hot
def check(low, high, kinds, records, out_kinds, out_records, reasons, counts, seen, kept, bound, work, exposure, mode):
    """Watches and judges lanes [low, high); counts [24] counts the orders that each check objected to."""
    ring_on = bound.portfolio[0]["same"] != OFF
    for i in range(low, high):
        if (i - low) % AHEAD == 0:
            _fetch(i, min(i + AHEAD, high), kinds, records, out_records, seen, kept, work[0])
        watch_lane(i, seen, kept, bound)
        touched = judge_lane(
            i, kinds[i], records[i], out_kinds[i], out_records[i], reasons[i], seen, kept, bound, work[0], exposure, mode
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
                i, kinds[i, a], records[i, a], out_kinds, out_records, reasons, seen, kept, bound, work[0], exposure, REJECT
            )
            allowed[i, a] = touched <= 0
