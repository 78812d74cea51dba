"""The overlay of own orders on a recorded book: exact queue places, arrivals, takes. Plain kernels over flat arrays.

The recorded book does not change because we look at it. So a lane is a cursor, an account and at most K own orders. For each
resting order we know the next row that touches its price (from the tape's index by level) and the next row that crosses it;
nothing between such rows can concern us and is never read.

Volume ahead. At birth it is the visible volume at our price. An execution at our price eats the volume ahead, then us. A
cancel or deletion at our price shrinks the volume ahead if that order was born before ours (orders whose birth was never seen
count as earlier, unless our level was out of sight and they were first mentioned after it came back). After every touch the
volume ahead is at most (visible volume - what is known to be behind us).
"""

from __future__ import annotations

import numpy as np

from emp_gym.data.tape import BLOCK, NO_ROW
from emp_gym.jit import hot
from emp_gym.market.account import book_fill
from emp_gym.types import Kind, OrderKind, Outcome, Status

NEW, REDUCE, DELETE, EXECUTE = int(Kind.NEW), int(Kind.REDUCE), int(Kind.DELETE), int(Kind.EXECUTE)
ADOPT, EVICT = int(Kind.ADOPT), int(Kind.EVICT)
TRADING = int(Status.TRADING)
NONE, LIMIT, MARKET, CANCEL, REPLACE = (int(kind) for kind in OrderKind)
ACCEPTED, NO_SLOT, MALFORMED, REFUSED_HALT, UNKNOWN_ORDER = (int(outcome) for outcome in Outcome if outcome)
EXACT, TOUCHED, OPTIMISTIC = 0, 1, 2
FREE, IN_FLIGHT, LIVE = 0, 1, 2
HORIZON = 1024  # rows for which the next crossing is looked up at a time
UNKNOWN_PLACE = -1  # volume ahead of an order beyond the visible window

SLOT = np.dtype(
    [
        # what every walk reads, together
        ("price", "i8"),
        ("quantity", "i8"),  # lots that remain
        ("ahead", "i8"),  # lots ahead of us, UNKNOWN_PLACE while beyond the window
        ("behind", "i8"),  # lots known to be behind us
        ("touch", "i8"),  # next touch of our level (flat index)
        ("touch_row", "i4"),  # its row, NO_ROW if there is none
        ("exec_row", "i4"),  # next execution that reaches us, NO_ROW while not known
        ("cross_row", "i4"),  # next row that crosses us, or where to look again
        ("cancel_row", "i4"),  # cancel takes effect after this row, NO_ROW if none is on its way
        ("born_row", "i4"),
        ("spell_row", "i4"),  # last row in which our level left the window, -1 if never
        ("side", "i1"),
        ("state", "i1"),  # FREE, IN_FLIGHT, LIVE
        ("kind", "i1"),  # LIMIT or MARKET
        ("live", "?"),
        ("passed", "i1"),  # work mark: already served by the row at hand
        # the rest
        ("counted", "i4"),  # lots of ours that the recorded volume contains (a ghost's; else 0)
        ("id", "i8"),
        ("filled", "i8"),  # lots
        ("arrive_ns", "i8"),
        ("cancel_ns", "i8"),
        ("target", "i8"),  # the order that this one replaces, 0 for none
        ("arrive_row", "i4"),  # takes effect after this row
        ("decision", "i4"),  # decision in which it was sent
    ],
    align=True,
)
"""One own order."""

TAKEN = np.dtype([("price", "i8"), ("quantity", "i8"), ("time_ns", "i8"), ("row", "i8"), ("side", "i8")], align=True)
"""Depth that we consumed: `side` is that of the book level."""

PARAMS = np.dtype(
    [
        ("order_latency_ns", "i8"),
        ("feed_latency_ns", "i8"),
        ("half_life_ns", "i8"),  # of consumed depth: 0 = back at once, -1 = never back
        ("every_rows", "i8"),  # messages a decision, 0 if by time
        ("every_ns", "i8"),
        ("maker_numerator", "i8"),
        ("maker_denominator", "i8"),
        ("taker_numerator", "i8"),
        ("taker_denominator", "i8"),
        ("price_to_cash", "i8"),
        ("lot", "i8"),
        ("fills", "i8"),  # EXACT, TOUCHED, OPTIMISTIC
        ("births", "i8"),  # 1; 0 makes the mutant that ignores births
    ],
    align=True,
)
"""What does not change in an episode."""


# ---------------------------------------------------------------------------------------------------------------- time


@hot
def row_at(rows, day, row, time_ns):
    """Last row of the day with time <= time_ns, not before `row` (galloping search)."""
    base, last = day["row0"], day["rows"] - 1
    step, low = 1, row
    while low + step <= last and rows[base + low + step]["time_ns"] <= time_ns:
        low += step
        step *= 2
    high = min(low + step, last + 1)
    while high - low > 1:
        middle = (low + high) // 2
        if rows[base + middle]["time_ns"] <= time_ns:
            low = middle
        else:
            high = middle
    return low


@hot
def row_before(rows, day, row, time_ns):
    """Last row of the day with time <= time_ns, not after `row`."""
    base, high, step = day["row0"], row, 1
    if rows[base + high]["time_ns"] <= time_ns:
        return high
    while high - step >= 0 and rows[base + high - step]["time_ns"] > time_ns:
        high -= step
        step *= 2
    low = max(high - step, 0)
    while high - low > 1:
        middle = (low + high) // 2
        if rows[base + middle]["time_ns"] <= time_ns:
            low = middle
        else:
            high = middle
    return low


# --------------------------------------------------------------------------------------------------------- the tape's index


@hot
def find_touch(touches, touch_row, level_price, level_start, day, slot, row):
    """Points the slot at the first touch of its level after `row`."""
    low, high = (day["level0"], day["level1"]) if slot["side"] > 0 else (day["level1"], day["level2"])
    price, end = slot["price"], high
    while low < high:
        middle = (low + high) // 2
        if level_price[middle] < price:
            low = middle + 1
        else:
            high = middle
    if low >= end or level_price[low] != price:
        slot["touch_row"] = slot["exec_row"] = NO_ROW
        return
    at = day["start0"] + low - day["level0"]
    first, stop = day["touch0"] + level_start[at], day["touch0"] + level_start[at + 1]
    last = stop
    while first < last:
        middle = (first + last) // 2
        if touch_row[middle] <= row:
            first = middle + 1
        else:
            last = middle
    point_at(slot, touches, first, first < stop)


@hot
def point_at(slot, touches, at, there):
    """Makes touch `at` the slot's next one, if it is there."""
    slot["touch"] = at
    slot["touch_row"] = touches[at]["row"] if there else NO_ROW
    slot["exec_row"] = NO_ROW


@hot
def find_cross(cross, cross_block, day, slot, row):
    """Looks for the first row after `row` that crosses the slot, at most HORIZON rows ahead."""
    s = 0 if slot["side"] > 0 else 1
    sign, price, base = slot["side"], slot["price"], day["row0"]
    stop = min(row + HORIZON, day["rows"] - 1)
    i = row + 1
    while i <= stop:
        if (
            i % BLOCK == 0
            and i + BLOCK - 1 <= stop
            and sign * cross_block[s, day["block0"] + i // BLOCK] > sign * price
        ):
            i += BLOCK
            continue
        if sign * cross[s, base + i] <= sign * price:
            slot["cross_row"] = i
            return
        i += 1
    slot["cross_row"] = stop if stop < day["rows"] - 1 else NO_ROW


# ----------------------------------------------------------------------------------------------------------------- fills


@hot
def log_fill(lane, fills, order, side, price, quantity, fee, time_ns, row, maker, beyond):
    """Adds to the step's fill log: one entry an order, price and kind of liquidity."""
    count = lane["fills"]
    for f in range(count):
        entry = fills[f]
        if entry["id"] == order and entry["price"] == price and entry["maker"] == maker and entry["beyond"] == beyond:
            entry["quantity"] += quantity
            entry["fee"] += fee
            entry["time_ns"], entry["row"] = time_ns, row
            return
    entry = fills[count]
    entry["id"], entry["side"], entry["price"], entry["quantity"] = order, side, price, quantity
    entry["fee"], entry["time_ns"], entry["row"] = fee, time_ns, row
    entry["maker"], entry["beyond"] = maker, beyond
    lane["fills"] = count + 1


@hot
def fill_maker(lane, slot, fills, quantity, row, message, params):
    """Fills a resting order at its price, because of `message`."""
    fee = book_fill(
        lane, slot["side"], slot["price"], quantity, message["mid2"], True,
        params["maker_numerator"], params["maker_denominator"], params["price_to_cash"],
    )  # fmt: skip
    if slot["filled"] == 0:
        lane["hit"] += 1
    slot["filled"] += quantity
    slot["quantity"] -= quantity
    log_fill(lane, fills, slot["id"], slot["side"], slot["price"], quantity, fee, message["time_ns"], row, 1, 0)


@hot
def taken_at(lane, taken, side, price, now_ns, row, half_life_ns):
    """Lots of a book level that we consumed and that have not come back."""
    for j in range(lane["consumed"]):
        entry = taken[j]
        if entry["side"] == side and entry["price"] == price:
            if half_life_ns < 0 or entry["row"] == row:
                return entry["quantity"]
            if half_life_ns == 0:
                return 0
            return int(entry["quantity"] * 0.5 ** ((now_ns - entry["time_ns"]) / half_life_ns))
    return 0


@hot
def remember_taken(lane, taken, side, price, quantity, now_ns, row, half_life_ns):
    """Notes consumed depth; when the notes are full the oldest goes."""
    left = taken_at(lane, taken, side, price, now_ns, row, half_life_ns) + quantity
    count, at = lane["consumed"], -1
    for j in range(count):
        if taken[j]["side"] == side and taken[j]["price"] == price:
            at = j
    if at < 0:
        if count < len(taken):
            at = count
            lane["consumed"] = count + 1
        else:
            at = 0
            for j in range(1, count):
                if taken[j]["time_ns"] < taken[at]["time_ns"]:
                    at = j
    entry = taken[at]
    entry["side"], entry["price"], entry["quantity"], entry["time_ns"], entry["row"] = side, price, left, now_ns, row


@hot
def take(lane, day, rows, book, taken, fills, params, order, side, limit, quantity, row, now_ns, whole):
    """Takes from the recorded book after `row` up to `limit`; returns what remains.

    With `whole`, what the visible levels cannot give is filled at one price beyond them: the worst visible price, plus its
    distance from the best one (at least a tick) in our disfavour, never below one tick; at the last known mid if that side
    is empty.
    """
    at, s = day["row0"] + row, 1 if side > 0 else 0
    mid2 = rows[at]["mid2"]
    first, worst = limit, limit
    seen = False
    for level in range(book.shape[2]):
        size, price = book[at, s, level]["size"], day["base"] + book[at, s, level]["price"]
        if size <= 0 or side * price > side * limit or quantity == 0:
            break
        if not seen:
            first, seen = price, True
        worst = price
        part = min(quantity, size - taken_at(lane, taken, -side, price, now_ns, row, params["half_life_ns"]))
        if part <= 0:
            continue
        fee = book_fill(
            lane, side, price, part, mid2, False,
            params["taker_numerator"], params["taker_denominator"], params["price_to_cash"],
        )  # fmt: skip
        log_fill(lane, fills, order, side, price, part, fee, now_ns, row, 0, 0)
        remember_taken(lane, taken, -side, price, part, now_ns, row, params["half_life_ns"])
        quantity -= part
    if whole and quantity > 0:
        price = max(worst + side * max(day["tick"], abs(worst - first)), day["tick"]) if seen else mid2 // 2
        fee = book_fill(
            lane, side, price, quantity, mid2, False,
            params["taker_numerator"], params["taker_denominator"], params["price_to_cash"],
        )  # fmt: skip
        log_fill(lane, fills, order, side, price, quantity, fee, now_ns, row, 0, 1)
        lane["beyond"] += quantity
        quantity = 0
    return quantity


# ---------------------------------------------------------------------------------------------------- the queue of an order


@hot
def rest(lane, day, slot, book, touches, touch_row, level_price, level_start, cross, cross_block, row):
    """Puts an order into the book after `row`: its place is behind the visible volume at its price."""
    at, s = day["row0"] + row, 0 if slot["side"] > 0 else 1
    levels, price = book.shape[2], slot["price"] - day["base"]
    slot["behind"], slot["counted"], slot["spell_row"] = 0, 0, -1
    slot["state"], slot["live"], slot["born_row"] = LIVE, True, row
    inside, better = book[at, s, levels - 1]["size"] == 0, -1
    for j in range(levels):
        level = book[at, s, j]
        if level["size"] <= 0:
            break
        if level["price"] == price:
            slot["ahead"] = level["size"]
            touch = day["touch0"] + level["touch"]
            point_at(slot, touches, touch + 1, touches[touch]["last"] == 0)
            slot["cross_row"] = level["cross"]
            return
        if slot["side"] * level["price"] < slot["side"] * price:
            inside = True
            break
        better = j
    slot["ahead"] = 0
    if not inside:
        slot["ahead"] = UNKNOWN_PLACE
        lane["unknown_place"] += 1
    find_touch(touches, touch_row, level_price, level_start, day, slot, row)
    if better >= 0:
        slot["cross_row"] = book[at, s, better][
            "cross"
        ]  # nothing crosses us before it crosses a better level: look then
    else:
        find_cross(cross, cross_block, day, slot, row)


@hot
def pass_touches(slot, touches, upto, served, params):
    """Moves the slot's volume ahead over its touches up to and including row `upto`.

    Stops before an execution that reaches us and notes its row as `exec_row`: `serve_row` has to share it out. What the
    message of row `served` took from the volume ahead is done already.
    """
    births, mode = params["births"], params["fills"]
    i, ahead, behind = slot["touch"], slot["ahead"], slot["behind"]
    born, spell, counted = slot["born_row"], slot["spell_row"], slot["counted"]
    reached, there = False, True
    while there:
        touch = touches[i]
        row, kind, size, birth = touch["row"], touch["kind"], touch["size"], touch["birth"]
        if row > upto:
            break
        if row != served and touch["status"] == TRADING:
            if mode == OPTIMISTIC:
                reached = kind <= EXECUTE
            elif kind == EXECUTE and ahead != UNKNOWN_PLACE:
                reached = size > ahead or mode == TOUCHED
            if reached:
                break
            if kind == EXECUTE and ahead > 0:
                ahead -= size
        if kind == NEW:
            behind += size
            if ahead == UNKNOWN_PLACE:
                ahead = 0  # the level was empty when it came into sight
        elif kind == EVICT:
            spell = row
        elif kind == ADOPT:
            if ahead == UNKNOWN_PLACE:
                ahead = size
        elif birth == born and counted > 0:
            counted = max(counted - size, 0)  # the real order whose place a ghost has taken
        elif birth > born and births == 1:
            behind = max(behind - size, 0)
        elif birth < 0 and spell >= 0 and -1 - birth > spell and births == 1:
            pass  # first mentioned after our level came back: behind us, and not in `behind`
        elif kind != EXECUTE and ahead != UNKNOWN_PLACE:
            ahead = max(ahead - size, 0)
        if kind != EVICT and ahead > 0:
            ahead = min(ahead, max(touch["volume"] - counted - behind, 0))
        i += 1
        there = touch["last"] == 0
    slot["ahead"], slot["behind"] = ahead, behind
    slot["spell_row"], slot["counted"] = spell, counted
    point_at(slot, touches, i, there)
    if reached:
        slot["exec_row"] = slot["touch_row"]


@hot
def serve_row(lane, day, slots, fills, rows, messages, book, params, row):
    """Lets the message of `row` fill own resting orders, best price first, then oldest; its size is shared among them."""
    base = day["row0"]
    message = messages[base + row]
    kind, price = message["kind"], message["price"]
    if message["status"] != TRADING:
        return
    if kind == EXECUTE:
        side = message["side"]
    elif kind == NEW:
        side = -message["side"]
    else:
        side = 0
    mode, count, eaten = params["fills"], lane["orders"], 0
    left = message["size"]
    if mode == OPTIMISTIC:
        fill_touched(lane, day, slots, fills, rows, messages, book, params, row)
    if side == 0:
        return
    for k in range(count):
        slots[k]["passed"] = 0
    for _ in range(count):
        best = -1
        for k in range(count):
            slot = slots[k]
            if slot["state"] != LIVE or slot["passed"] == 1 or slot["side"] != side or slot["quantity"] == 0:
                continue
            if side * slot["price"] < side * price:
                continue
            if best < 0 or side * slot["price"] > side * slots[best]["price"]:
                best = k
        if best < 0:
            return
        slot = slots[best]
        slot["passed"] = 1
        if kind == EXECUTE and slot["price"] == price:
            if mode == EXACT:
                if slot["ahead"] == UNKNOWN_PLACE:
                    continue
                if slot["touch_row"] > row:  # it has passed the row already, not reached: nor is anybody behind it
                    eaten, left = eaten + left, 0
                    continue
                queue = min(left, max(slot["ahead"] - eaten, 0))
                left -= queue
                eaten += queue
                slot["ahead"] = max(slot["ahead"] - eaten, 0)
        part = slot["quantity"] if mode == OPTIMISTIC else min(left, slot["quantity"])
        if part > 0:
            fill_maker(lane, slot, fills, part, row, message, params)
            left = max(left - part, 0)


@hot
def fill_touched(lane, day, slots, fills, rows, messages, book, params, row):
    """The optimistic rule: an order fills whole at the first message at its price while that price is the best."""
    base = day["row0"]
    message = messages[base + row]
    if message["kind"] < NEW or message["kind"] > EXECUTE:
        return
    for k in range(lane["orders"]):
        slot = slots[k]
        if slot["state"] != LIVE or slot["quantity"] == 0:
            continue
        if slot["side"] != message["side"] or slot["price"] != message["price"]:
            continue
        best = book[base + max(row - 1, 0), 0 if slot["side"] > 0 else 1, 0]
        if best["size"] <= 0 or slot["side"] * (day["base"] + best["price"]) <= slot["side"] * slot["price"]:
            fill_maker(lane, slot, fills, slot["quantity"], row, message, params)


# ------------------------------------------------------------------------------------------------------- arrivals, removals


@hot
def find_order(lane, slots, order):
    """Slot index of an own order by id, -1 if it is not there."""
    for k in range(lane["orders"]):
        if slots[k]["id"] == order and slots[k]["state"] != FREE:
            return k
    return -1


@hot
def sweep(lane, slots):
    """Closes the gaps that finished orders left; slots stay in order of age."""
    kept = 0
    for k in range(lane["orders"]):
        if slots[k]["state"] != FREE:
            if kept != k:
                slots[kept] = slots[k]
            kept += 1
    for k in range(kept, lane["orders"]):
        slots[k]["state"], slots[k]["live"], slots[k]["id"], slots[k]["quantity"] = FREE, False, 0, 0
    lane["orders"] = kept


@hot
def drop(slot):
    slot["state"], slot["live"] = FREE, False


@hot
def arrive(
    lane, day, slots, k, taken, fills, rows, book, touches, touch_row, level_price, level_start, cross, cross_block, params
):  # fmt: skip
    """The order in slot k reaches the market."""
    slot = slots[k]
    row = slot["arrive_row"]
    if slot["target"] > 0:
        old = find_order(lane, slots, slot["target"])
        if old < 0 or slots[old]["state"] != LIVE:
            lane["refused"] += 1  # what it should have replaced is gone: the venue refuses the replacement
            drop(slot)
            return
        drop(slots[old])
    whole = slot["kind"] == MARKET
    s = 1 if slot["side"] > 0 else 0
    best, now = book[day["row0"] + row, s, 0], rows[day["row0"] + row]
    if now["status"] != TRADING or (whole and best["size"] <= 0 and now["mid2"] == 0):  # halted, or no price known yet
        lane["refused"] += 1
        drop(slot)
        return
    limit = np.int64(slot["side"]) * (1 << 60) if whole else slot["price"]
    if whole or (best["size"] > 0 and slot["side"] * (day["base"] + best["price"]) <= slot["side"] * limit):
        before = slot["quantity"]
        slot["quantity"] = take(
            lane, day, rows, book, taken, fills, params,
            slot["id"], slot["side"], limit, before, row, max(slot["arrive_ns"], rows[day["row0"] + row]["time_ns"]), whole,
        )  # fmt: skip
        slot["filled"] += before - slot["quantity"]
        if slot["filled"] > 0:
            lane["hit"] += 1
    if slot["quantity"] == 0:
        drop(slot)
    else:
        rest(lane, day, slot, book, touches, touch_row, level_price, level_start, cross, cross_block, row)


# ------------------------------------------------------------------------------------------------------------------- a walk


@hot
def known_event(slot):
    """(row, phase) of the next known thing that may fill or remove the slot, executions at its own price aside.

    Phase 0 is the row's message; in phase 1 something of ours arrives after it.
    """
    if slot["state"] == LIVE:
        if slot["cancel_row"] < slot["cross_row"]:
            return slot["cancel_row"], 1
        return slot["cross_row"], 0
    return slot["arrive_row"], 1


@hot
def walk(
    lane, day, slots, taken, fills, rows, messages, book, touches, touch_row, level_price, level_start, cross, cross_block, params, target
):  # fmt: skip
    """Lets everything up to and including row `target` happen to the lane's own orders."""
    while True:
        row, phase, at, when = np.int64(NO_ROW), 2, -1, np.int64(0)
        for k in range(lane["orders"]):
            slot_row, slot_phase = known_event(slots[k])
            if slot_row > row or slot_row > target:
                continue
            slot_when = np.int64(0)
            if slot_phase == 1:
                slot_when = slots[k]["arrive_ns"] if slots[k]["state"] == IN_FLIGHT else slots[k]["cancel_ns"]
            if slot_row < row or slot_phase < phase or (slot_phase == phase and slot_when < when):
                row, phase, at, when = np.int64(slot_row), slot_phase, k, slot_when
        upto = target if at < 0 else row - 1 + phase
        for k in range(lane["orders"]):  # an older order of the same price comes first, so `upto` is never passed
            slot = slots[k]
            if slot["state"] == LIVE and slot["touch_row"] <= upto:
                pass_touches(slot, touches, upto, -1, params)
                if slot["exec_row"] <= upto:
                    row, phase, at, upto = np.int64(slot["exec_row"]), 0, k, slot["exec_row"] - 1
        if at < 0:
            break
        if phase == 0:
            happen(lane, day, slots, fills, rows, messages, book, touches, cross, cross_block, params, row)
        elif slots[at]["state"] == IN_FLIGHT:
            arrive(
                lane, day, slots, at, taken, fills, rows, book, touches, touch_row, level_price, level_start, cross, cross_block, params
            )  # fmt: skip
            sweep(lane, slots)
        else:
            drop(slots[at])
            sweep(lane, slots)
    soonest = NO_ROW
    for k in range(lane["orders"]):
        slot = slots[k]
        row, phase = known_event(slot)
        soonest = min(soonest, row)
        if slot["state"] == LIVE:
            soonest = min(soonest, slot["touch_row"])
    lane["next_row"] = soonest


@hot
def happen(lane, day, slots, fills, rows, messages, book, touches, cross, cross_block, params, row):
    """The message of `row` meets own orders (their queues stand just before it): it fills, they look for what comes next."""
    serve_row(lane, day, slots, fills, rows, messages, book, params, row)
    gone = False
    for k in range(lane["orders"]):
        slot = slots[k]
        if slot["state"] != LIVE:
            continue
        if slot["quantity"] == 0:
            drop(slot)
            gone = True
            continue
        if slot["touch_row"] <= row:
            pass_touches(slot, touches, row, row, params)
        if slot["cross_row"] <= row:
            find_cross(cross, cross_block, day, slot, row)
    if gone:
        sweep(lane, slots)
