"""One lane's account: cash, position and fees in integers, conserved exactly after every fill."""

from __future__ import annotations

import numpy as np

from emp_gym.jit import hot

SEEN = np.dtype([(name, "i8") for name in ("time_ns", "mid2", "bought", "sold", "flow", "hidden", "moves2")])
"""What a lane keeps of the row that its view shows; fields as in `ROW`."""

LANE = np.dtype(
    [
        # where the lane stands on its tape (rows count from the day's first)
        ("day", "i8"),
        ("row", "i8"),  # row of the decision: the last one that has happened
        ("seen_row", "i8"),  # row that the view shows (earlier than `row` under feed latency)
        ("last_row", "i8"),  # seen_row of the decision before
        ("start_row", "i8"),
        ("target", "i8"),  # row of the next decision, while the lane walks to it
        ("end_row", "i8"),  # last row that this episode may reach
        ("time_ns", "i8"),  # time of the decision
        ("decision", "i8"),  # decisions taken
        ("next_row", "i8"),  # nothing of ours can happen before this row
        ("orders", "i4"),  # used order slots
        ("consumed", "i4"),  # used entries of consumed depth
        ("fills", "i4"),  # entries in the fill log of this step
        ("consumed_row", "i4"),  # row of the last of them
        ("status", "i1"),
        ("exhausted", "i1"),  # the tape (or the split) ends here
        # account
        ("cash", "i8"),  # 1e-8 currency
        ("fees", "i8"),
        ("position", "i8"),  # lots
        # the row that the view shows, and what has passed since the decision before
        ("now", SEEN),
        ("bought", "i8"),
        ("sold", "i8"),
        ("flow", "i8"),
        ("hidden", "i8"),
        ("mid2_before", "i8"),
        ("tick", "i8"),  # price units; at the mid, where it depends on the price
        ("mid2", "i8"),  # last known best bid + best ask of the seen row
        # counters of the episode
        ("sent", "i8"),  # orders accepted
        ("hit", "i8"),  # orders with at least one fill
        ("filled", "i8"),  # lots
        ("maker_filled", "i8"),  # lots
        ("captured2", "i8"),  # sum of side * (mid2 - 2 price) * lots: twice the spread captured, price units
        ("refused", "i8"),  # orders refused
        ("beyond", "i8"),  # lots taken beyond the visible book
        ("unknown_place", "i8"),  # orders posted beyond the visible window
        ("max_position", "i8"),  # largest |position|, lots
        ("position_sum", "i8"),  # sum over decisions of |position|
        # of the day
        ("price_to_cash", "i8"),
        ("least_tick", "i8"),  # the smallest tick that any price has
        ("midnight_utc_ns", "i8"),
    ],
    align=True,
)
"""One lane of the replay market, orders aside."""

FILL = np.dtype(
    [
        ("id", "i8"),
        ("price", "i8"),
        ("quantity", "i8"),
        ("fee", "i8"),
        ("mid2_lots", "i8"),  # sum over its parts of (best bid + best ask) x lots
        ("time_ns", "i8"),  # of a taker; 0 for resting orders: theirs is that of the row
        ("row", "i4"),
        ("side", "i1"),
        ("maker", "i1"),
        ("beyond", "i1"),
    ],
    align=True,
)
"""Own executions of one order at one price within one step; row and time are those of the last part."""


@hot
def fee_of(amount, numerator, denominator):
    """Fee for `amount` = price * lots, rounded against us (a rebate is a negative fee)."""
    return -((-amount * numerator) // denominator)


@hot
def book_fill(lane, day, side, price, quantity, mid2, maker):
    """Books one execution at the fees of the lane's day; returns its fee in cash units."""
    amount = price * quantity
    if maker:
        fee = fee_of(amount, day["maker_numerator"], day["maker_denominator"]) + quantity * day["maker_per_lot"]
    else:
        fee = fee_of(amount, day["taker_numerator"], day["taker_denominator"]) + quantity * day["taker_per_lot"]
    lane["cash"] -= side * amount * day["price_to_cash"] + fee
    lane["fees"] += fee
    lane["position"] += side * quantity
    lane["filled"] += quantity
    lane["captured2"] += side * (mid2 - 2 * price) * quantity
    if maker:
        lane["maker_filled"] += quantity
    if abs(lane["position"]) > lane["max_position"]:
        lane["max_position"] = abs(lane["position"])
    return fee


@hot
def gather_fills(state, fills, days, rows, lane_of, out):
    """Writes the fill logs of all lanes into lane_of and out [F], by lane and then by time."""
    n = 0
    for i in range(len(state)):
        first, row0 = n, days[state[i]["day"]]["row0"]
        for k in range(state[i]["fills"]):
            entry = fills[i, k]
            time_ns = entry["time_ns"]
            if entry["maker"] == 1:  # a resting order's time is that of its row
                time_ns = rows[row0 + entry["row"]]["time_ns"]
            at = n
            while at > first and out[at - 1]["time_ns"] > time_ns:
                out[at] = out[at - 1]
                at -= 1
            out[at] = entry
            out[at]["time_ns"] = time_ns
            lane_of[n] = i
            n += 1
