"""The overlay of own orders on a recorded book: what arrives, what is cancelled, and what the record does to the rest.

The recorded book does not change because we look at it. So a lane is a cursor, an account and at most K own orders. For each
resting order we know the next row that touches its price (from the tape's index by level) and the next row that crosses it;
nothing between such rows can concern us and is never read.
"""

from __future__ import annotations

import numpy as np

from emp_gym.data.tape.format import NEVER_BID, NO_ROW
from emp_gym.jit import hot
from emp_gym.market.public import FREE, IN_FLIGHT, LIVE, MARKET, TRADING
from emp_gym.market.queue import mid_before, pass_touches, rest, serve
from emp_gym.market.records import HIDDEN
from emp_gym.market.taking import take
from emp_gym.market.tape_cursor import crossing_price, find_cross, find_cross_beside_links


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
        slot = slots[k]
        slot["state"], slot["live"], slot["leaving"], slot["id"], slot["quantity"] = FREE, False, False, 0, 0
    lane["orders"] = kept


@hot
def drop(slot):
    slot["state"], slot["live"] = FREE, False


@hot
def land(lane, day, slots, taken, fills, tape, params, row, when_ns):
    """Lets what reaches the market after `row`, at `when_ns`, happen: oldest order first, its own cancel right behind it."""
    for k in range(lane["orders"]):
        slot = slots[k]
        if slot["state"] == IN_FLIGHT and slot["arrive_row"] == row and slot["arrive_ns"] == when_ns:
            arrive(lane, day, slots, k, taken, fills, tape, params)
        if slot["state"] == LIVE and slot["cancel_row"] == row and slot["cancel_ns"] == when_ns:
            drop(slot)
    sweep(lane, slots)


@hot
def arrive(lane, day, slots, k, taken, fills, tape, params):
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
    at = day["row0"] + row
    best, now = tape.book[at, 1 if slot["side"] > 0 else 0, 0], tape.rows[at]
    if now["status"] != TRADING or (whole and best["size"] <= 0 and now["mid2"] == 0):  # halted, or no price known yet
        lane["refused"] += 1
        drop(slot)
        return
    limit = np.int64(slot["side"]) * (1 << 60) if whole else slot["price"]
    if whole or (best["size"] > 0 and slot["side"] * (day["base"] + best["price"]) <= slot["side"] * limit):
        before = slot["quantity"]
        slot["quantity"] = take(
            lane, day, tape.rows, tape.book, taken, fills, params,
            slot["id"], slot["side"], limit, before, row, max(slot["arrive_ns"], now["time_ns"]), whole,
        )  # fmt: skip
        slot["filled"] += before - slot["quantity"]
        if slot["filled"] > 0:
            lane["hit"] += 1
    if slot["quantity"] == 0:
        drop(slot)
    else:
        rest(lane, day, slot, tape, row)
        if params["hidden_prints"]:  # the tape's links know nothing of them
            find_cross_beside_links(tape, day, slot, row)


# ------------------------------------------------------------------------------------------------------------------- a walk


@hot
def known_event(slot):
    """(row, phase, time) of the next known thing that may fill or remove the slot, executions at its own price aside.

    Phase 0 is the row's message; in phase 1 something of ours arrives after it, at that time.
    """
    if slot["state"] == LIVE:
        if slot["cancel_row"] < slot["cross_row"]:
            return slot["cancel_row"], 1, slot["cancel_ns"]
        return slot["cross_row"], 0, np.int64(0)
    return slot["arrive_row"], 1, slot["arrive_ns"]


@hot
def walk(lane, day, slots, taken, fills, tape, params, target, until_ns):
    """Lets everything up to and including row `target` happen to the lane's own orders, and what arrives by `until_ns`.

    An order may be due after row `target` and yet later than `until_ns`: no message came in between. It has to wait, or its
    early arrival would tell that none will come.
    """
    while True:
        row, phase, when, reached = np.int64(NO_ROW), 2, np.int64(0), -1
        for k in range(lane["orders"]):
            slot_row, slot_phase, slot_when = known_event(slots[k])
            if slot_row > row or slot_row > target or (slot_phase == 1 and slot_when > until_ns):
                continue
            if slot_row < row or slot_phase < phase or (slot_phase == phase and slot_when < when):
                row, phase, when = np.int64(slot_row), slot_phase, slot_when
        upto = target if phase == 2 else row - 1 + phase
        for k in range(lane["orders"]):  # an older order of the same price comes first, so `upto` is never passed
            slot = slots[k]
            if slot["state"] == LIVE and slot["touch_row"] <= upto:
                pass_touches(day, slot, tape, upto, -1, params)
                if slot["exec_row"] <= upto:
                    row, phase, reached, upto = np.int64(slot["exec_row"]), 0, k, slot["exec_row"] - 1
        if phase == 0:
            happen(lane, day, slots, fills, tape, params, row, reached)
        elif phase == 1:
            land(lane, day, slots, taken, fills, tape, params, row, when)
        else:
            break
    note_next(lane, slots)


@hot
def note_next(lane, slots):
    """Notes the next row that may concern the lane."""
    soonest = NO_ROW
    for k in range(lane["orders"]):
        slot = slots[k]
        row, _, _ = known_event(slot)
        soonest = min(soonest, row)
        if slot["state"] == LIVE:
            soonest = min(soonest, slot["touch_row"])
    lane["next_row"] = soonest


@hot
def arrive_at_once(lane, day, slots, taken, fills, tape, params):
    """What `walk` comes to where no order takes time to arrive and only what was sent now is due: all of it, now."""
    land(lane, day, slots, taken, fills, tape, params, lane["row"], lane["time_ns"])
    note_next(lane, slots)


@hot
def crossed(lane, day, slots, tape, row):
    """Whether the message of `row` crosses any own order, or it was only time to look further."""
    at = day["row0"] + row
    for k in range(lane["orders"]):
        slot = slots[k]
        if slot["state"] == LIVE and slot["cross_row"] == row:
            if slot["side"] * tape.cross[0 if slot["side"] > 0 else 1, at] <= slot["side"] * crossing_price(day, slot):
                return True
    return False


@hot
def look_further(lane, day, slots, tape, row):
    """Finds the next crossing of orders whose last known one was `row`."""
    for k in range(lane["orders"]):
        if slots[k]["state"] == LIVE and slots[k]["cross_row"] <= row:
            find_cross(tape, day, slots[k], row)


@hot
def happen(lane, day, slots, fills, tape, params, row, reached):
    """The message of `row` meets own orders (their queues stand just before it): it fills, they look for what comes next.

    Slot `reached` (-1: none) stands before a touch that is this message, which saves a look at the message itself.
    """
    if reached >= 0:
        slot, touch = slots[reached], tape.touches[slots[reached]["touch"]]
        kind, side, price, size = touch["kind"], slot["side"], slot["price"], touch["size"]
        serve(lane, day, slots, fills, tape, params, row, kind, side, price, size, mid_before(day, tape, touch))
    elif crossed(lane, day, slots, tape, row):
        message = tape.messages[day["row0"] + row]
        kind, side, price, size = message["kind"], message["side"], message["price"], message["size"]
        if kind == HIDDEN:  # its direction need not be told: see `market.hidden`
            side = np.int8(1 if tape.cross[0, day["row0"] + row] < NEVER_BID else -1)
        serve(lane, day, slots, fills, tape, params, row, kind, side, price, size, message["mid2"])
    else:  # it was only time to look further: what the message is to queues comes up in its turn
        look_further(lane, day, slots, tape, row)
        return
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
            pass_touches(day, slot, tape, row, row, params)
    if gone:
        sweep(lane, slots)
    look_further(lane, day, slots, tape, row)
