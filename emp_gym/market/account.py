"""One lane's account: cash, position and fees in integers, conserved exactly after every fill."""

from __future__ import annotations

import numpy as np

from emp_gym.jit import hot

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
