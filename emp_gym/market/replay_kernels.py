"""The step of the replay market: requests at the door, the walk to the next decision, what is shown there, and closing."""

from __future__ import annotations

import numpy as np

from emp_gym.data.tape.format import NO_ROW
from emp_gym.jit import hot, prefetch
from emp_gym.market.overlay import arrive_at_once, drop, find_order, sweep, walk
from emp_gym.market.public import (
    CANCEL,
    CLOSING_ID,
    ENDLESS,
    FREE,
    IN_FLIGHT,
    LIMIT,
    MARKET,
    NONE,
    REPLACE,
    TRADING,
    tick_at,
)
from emp_gym.market.records import ACCEPTED, MALFORMED, NO_SLOT, REFUSED_HALT, UNKNOWN_ORDER, Tape
from emp_gym.market.taking import take
from emp_gym.market.tape_cursor import row_at, row_before
from emp_gym.threads import region
from emp_gym.types import EMPTY_ASK, EMPTY_BID

AHEAD = 32  # lanes that are walked together, and how many lanes ahead memory is asked for


@hot
def _show(lane, quote, seen, shown, day, rows, book, looks, params):
    """Shows the seen row: its book, the sums up to it and to each look-back, and what has passed since the decision before."""
    lane["last_row"] = lane["seen_row"]
    at_row = lane["row"]
    if params["feed_latency_ns"] > 0:
        at_row = max(row_before(rows, day, at_row, lane["time_ns"] - params["feed_latency_ns"]), lane["last_row"])
    lane["seen_row"] = at_row
    at, base = day["row0"] + at_row, day["base"]
    for j in range(book.shape[2]):
        bid, ask = book[at, 0, j], book[at, 1, j]
        shown[0, j] = base + bid["price"] if bid["size"] > 0 else EMPTY_BID
        shown[1, j] = bid["size"]
        shown[2, j] = base + ask["price"] if ask["size"] > 0 else EMPTY_ASK
        shown[3, j] = ask["size"]
    row, now = rows[at], seen[0]
    quote["bought"], quote["sold"] = row["bought"] - now["bought"], row["sold"] - now["sold"]
    quote["flow"], quote["hidden"] = row["flow"] - now["flow"], row["hidden"] - now["hidden"]
    quote["mid2_before"], quote["mid2"], quote["status"] = now["mid2"], row["mid2"], row["status"]
    quote["position"] = lane["position"]
    _note_row(now, row, at_row)
    for w in range(len(looks)):
        back = min(looks[w], at_row)
        _note_row(seen[1 + w], rows[at - back], at_row - back)
    if day["steps"] > 0:
        quote["tick"] = tick_at(day, quote["mid2"] // 2)


@hot
def _note_row(seen, row, number):
    """Writes the sums up to a row, which is the day's `number`-th."""
    time_ns, mid2, bought, sold, flow, hidden, moves2 = (
        row["time_ns"], row["mid2"], row["bought"], row["sold"], row["flow"], row["hidden"], row["moves2"],
    )  # fmt: skip
    seen["time_ns"], seen["mid2"], seen["bought"], seen["sold"] = time_ns, mid2, bought, sold
    seen["flow"], seen["hidden"], seen["moves2"], seen["messages"] = flow, hidden, moves2, number


@hot
def reset(lanes, day_of, row_of, end_row_of, state, quotes, seen, slots, shown, params, looks, days, rows, book):
    for j in range(len(lanes)):
        i = lanes[j]
        lane, quote, day = state[i], quotes[i, 0], days[day_of[j]]
        for k in range(slots.shape[1]):
            slot = slots[i, k]
            slot["state"], slot["live"], slot["leaving"], slot["id"] = FREE, False, False, 0
            slot["quantity"], slot["price"], slot["side"], slot["kind"] = 0, 0, 0, 0
            slot["ahead"], slot["filled"], slot["target"], slot["decision"] = 0, 0, 0, 0
        row = rows[day["row0"] + row_of[j]]["group_end"]
        lane["day"], lane["row"], lane["start_row"], lane["end_row"] = day_of[j], row, row, end_row_of[j]
        lane["seen_row"] = lane["last_row"] = row
        lane["time_ns"] = rows[day["row0"] + row]["time_ns"]
        lane["decision"], lane["next_row"], lane["orders"], lane["consumed"], lane["fills"] = 0, NO_ROW, 0, 0, 0
        lane["exhausted"], lane["midnight_utc_ns"] = 0, day["midnight_utc_ns"]
        quote["rules"], quote["price_to_cash"] = day_of[j], day["price_to_cash"]
        quote["tick"], quote["least_tick"] = day["first_tick"], day["least_tick"]
        lane["cash"] = lane["fees"] = lane["position"] = 0
        lane["sent"] = lane["hit"] = lane["filled"] = lane["maker_filled"] = lane["captured2"] = 0
        lane["refused"] = lane["beyond"] = lane["unknown_place"] = lane["max_position"] = lane["position_sum"] = 0
        if params[0]["feed_latency_ns"] > 0:
            early = row_before(rows, day, row, lane["time_ns"] - params[0]["feed_latency_ns"])
            lane["seen_row"] = lane["last_row"] = early
        _note_row(seen[i, 0, 0], rows[day["row0"] + lane["seen_row"]], lane["seen_row"])
        _show(lane, quote, seen[i, 0], shown[i, 0], day, rows, book, looks, params[0])


@hot
def _enter(lane, quote, day, slots, kinds, requests, outcome, rows, params):
    """Takes the requests of one decision into slots, in flight until they arrive."""
    arrive_ns = lane["time_ns"] + params["order_latency_ns"]
    arrive_row = lane["row"]
    if params["order_latency_ns"] > 0:
        arrive_row = row_at(rows, day, lane["row"], arrive_ns)
    entered = False
    for k in range(requests.shape[0]):
        request = requests[k]
        kind = kinds[k]
        outcome[k] = 0
        if kind == NONE:
            continue
        if kind == CANCEL:
            at = find_order(lane, slots, request["id"])
            if at < 0:
                outcome[k] = UNKNOWN_ORDER
                continue
            if arrive_row < slots[at]["cancel_row"] and not _replaced(lane, slots, request["id"], arrive_ns):
                slots[at]["cancel_row"], slots[at]["cancel_ns"] = arrive_row, arrive_ns
                slots[at]["leaving"] = True
            outcome[k] = ACCEPTED
            entered = True
            continue
        outcome[k] = _refusal(lane, quote, day, slots, kind, request)
        if outcome[k] != ACCEPTED:
            lane["refused"] += 1
            continue
        slot = slots[lane["orders"]]
        lane["orders"] += 1
        slot["id"], slot["price"], slot["quantity"] = request["id"], request["price"], request["quantity"]
        slot["side"], slot["kind"] = request["side"], MARKET if kind == MARKET else LIMIT
        slot["target"] = request["target"] if kind == REPLACE else 0
        slot["filled"], slot["ahead"], slot["behind"], slot["counted"] = 0, 0, 0, 0
        slot["arrive_ns"], slot["arrive_row"] = arrive_ns, arrive_row
        slot["cancel_row"], slot["leaving"], slot["instrument"] = NO_ROW, False, 0
        slot["state"], slot["live"], slot["decision"] = IN_FLIGHT, False, lane["decision"]
        lane["sent"] += 1
        entered = True
    if entered:
        lane["next_row"] = min(lane["next_row"], arrive_row)


@hot
def _replaced(lane, slots, order, arrive_ns):
    """Whether a replacement that was sent before arrives at the same time: then a cancel finds nothing left to cancel."""
    for k in range(lane["orders"]):
        if slots[k]["state"] == IN_FLIGHT and slots[k]["target"] == order and slots[k]["arrive_ns"] == arrive_ns:
            return True
    return False


@hot
def _refusal(lane, quote, day, slots, kind, request):
    """The outcome of a new order at the door."""
    quantity, side = request["quantity"], request["side"]
    if kind < LIMIT or kind > REPLACE or quantity <= 0 or quantity % day["lot"] != 0 or (side != 1 and side != -1):
        return MALFORMED
    if request["instrument"] != 0 or request["id"] <= 0 or find_order(lane, slots, request["id"]) >= 0:
        return MALFORMED
    if kind != MARKET and (request["price"] <= 0 or request["price"] % tick_at(day, request["price"]) != 0):
        return MALFORMED
    if kind == REPLACE and find_order(lane, slots, request["target"]) < 0:
        return UNKNOWN_ORDER
    if quote["status"] != TRADING:
        return REFUSED_HALT
    if lane["orders"] >= slots.shape[0]:
        return NO_SLOT
    return ACCEPTED


@hot
def _ask_for_start(lane, kinds, requests, day, tape, params):
    """Asks for the cache lines that the lane reads first: its next decision's row, and its place for what is sent now."""
    now, then = day["row0"] + lane["row"], day["row0"] + min(lane["row"] + params["every_rows"], lane["end_row"])
    prefetch(tape.rows, then, 0)
    prefetch(tape.rows, now, 0)
    for k in range(len(kinds)):
        if kinds[k] == NONE or kinds[k] == CANCEL:
            continue
        side, half = requests[k]["side"], 8 * tape.book.shape[2]  # bytes of one side of the book
        if kinds[k] == MARKET:
            prefetch(tape.book, now, half if side > 0 else 0)
        else:
            prefetch(tape.book, now, 0)
            prefetch(tape.book, now, 64)
            prefetch(tape.links, now, 0 if side > 0 else half)


@hot
def _ask_for_walk(lane, slots, day, tape, looks, target):
    """Asks for the cache lines that a walk to row `target`, and what is shown there, read first."""
    base = day["row0"]
    prefetch(tape.rows, base + target, 0)
    for w in range(len(looks)):
        prefetch(tape.rows, base + target - min(looks[w], target), 0)
    prefetch(tape.book, base + target, 0)
    prefetch(tape.book, base + target, 64)
    for k in range(lane["orders"]):
        slot = slots[k]
        if slot["touch_row"] <= target:
            for line in range(4):
                prefetch(tape.touches, slot["touch"], 64 * line)
        if slot["cross_row"] <= target:
            prefetch(tape.messages, base + slot["cross_row"], 0)
            prefetch(tape.messages, base + slot["cross_row"], tape.messages.itemsize - 1)
            prefetch(tape.cross[0 if slot["side"] > 0 else 1], base + slot["cross_row"], 0)


@hot
def _set_target(lane, rows, day, params):
    """Notes the lane's next decision: its row and time, and whether the tape ends there. Rows with one time stay together."""
    base, end = day["row0"], lane["end_row"]
    if params["every_rows"] > 0:
        target = np.int64(rows[base + min(lane["row"] + params["every_rows"], end)]["group_end"])
        exhausted = target >= end
    else:
        target = np.int64(row_at(rows, day, lane["row"], lane["time_ns"] + params["every_ns"]))
        exhausted = target >= end
        target = min(target, np.int64(rows[base + end]["group_end"]))
    lane["target"], lane["exhausted"] = target, exhausted


@hot
def _target_ns(lane, day, rows, params):
    """Time of the decision that the lane walks to."""
    if params["every_rows"] > 0:
        return rows[day["row0"] + lane["target"]]["time_ns"]
    return lane["time_ns"] + params["every_ns"]


@hot
def _decide(lane, quote, seen, shown, day, rows, book, looks, params):
    """Stands the lane at its next decision."""
    lane["time_ns"] = _target_ns(lane, day, rows, params)
    lane["row"] = lane["target"]
    lane["decision"] += 1
    lane["position_sum"] += abs(lane["position"])
    _show(lane, quote, seen, shown, day, rows, book, looks, params)


@region
def advance_lanes(
    low, high, place, kinds, requests, state, quotes, seen, slots, taken, fills, shown, outcome, active, progress, params, looks,
    days, rows, messages, book, links, touches, first_touch, far_touch, cross, cross_block,
):  # fmt: skip
    """A step of lanes [low, high).

    A lane's next rows lie anywhere on a tape that no cache holds, and waiting for one after the other would be most of a
    step. So lanes go in groups: what is sent enters in all of a group before time passes in any, and each asks for what it
    will read while others work.
    """
    tape = Tape(rows, messages, book, links, touches, first_touch, far_touch, cross, cross_block)
    setup = params[0]
    for first in range(low - AHEAD, high, AHEAD):
        for stage in range(2):
            for i in range(first, min(first + AHEAD, high)):
                if stage == 0 and i + AHEAD < high:
                    j = i + AHEAD
                    _ask_for_start(state[j], kinds[j], requests[j], days[state[j]["day"]], tape, setup)
                if i < low:
                    continue
                lane = state[i]
                if stage == 0:
                    lane["fills"] = 0
                if not active[i]:
                    continue
                day = days[lane["day"]]
                upto = lane["row"] if stage == 0 else lane["target"]
                until_ns = lane["time_ns"] if stage == 0 else _target_ns(lane, day, rows, setup)
                if stage == 0:
                    _enter(lane, quotes[i, 0], day, slots[i], kinds[i], requests[i], outcome[i], rows, setup)
                if stage == 0 and setup["order_latency_ns"] == 0:
                    if lane["next_row"] <= upto and lane["orders"] > 0:
                        arrive_at_once(lane, day, slots[i], taken[i], fills[i], tape, setup)
                elif lane["next_row"] <= upto and lane["orders"] > 0:
                    walk(lane, day, slots[i], taken[i], fills[i], tape, setup, upto, until_ns)
                if stage == 0:
                    _set_target(lane, rows, day, setup)
                    _ask_for_walk(lane, slots[i], day, tape, looks, lane["target"])
                else:
                    _decide(lane, quotes[i, 0], seen[i, 0], shown[i, 0], day, rows, book, looks, setup)
                    progress[i] = ENDLESS if lane["exhausted"] else lane["decision"]


@hot
def close(lanes, target, halted, state, quotes, slots, taken, fills, params, days, rows, book):
    for j in range(len(lanes)):
        i = lanes[j]
        lane, day = state[i], days[state[i]["day"]]
        for k in range(lane["orders"]):
            drop(slots[i, k])
        sweep(lane, slots[i])
        wanted = target[j] - lane["position"]
        if wanted != 0:
            side = 1 if wanted > 0 else -1
            halted[j] = rows[day["row0"] + lane["row"]]["status"] != TRADING
            take(
                lane, day, rows, book, taken[i], fills[i], params[0],
                CLOSING_ID, side, side * (1 << 60), abs(wanted), lane["row"], lane["time_ns"], True,
            )  # fmt: skip
        quotes[i, 0]["position"] = lane["position"]
