"""Where on the tape a time stands, and which row concerns a price next."""

from __future__ import annotations

import numpy as np

from emp_gym.data.tape.format import BLOCK, NEVER_ASK, NEVER_BID, NO_ROW, NO_TOUCH
from emp_gym.jit import hot, rare

HORIZON = 1024  # rows for which the next crossing is looked up at a time


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


@hot
def _far_touch(tape, day, slot):
    """The day's first touch of a level that is not on the grid, NO_TOUCH if there is none."""
    low, high = day["far0"], day["far0"] + day["fars"]
    while low < high:
        middle = (low + high) // 2
        if tape.far_touch[middle]["price"] < slot["price"]:
            low = middle + 1
        else:
            high = middle
    while low < day["far0"] + day["fars"] and tape.far_touch[low]["price"] == slot["price"]:
        if tape.far_touch[low]["side"] == slot["side"]:
            return np.int64(tape.far_touch[low]["touch"])
        low += 1
    return np.int64(NO_TOUCH)


@hot
def find_touch(tape, day, slot, row):
    """Points the slot at a touch of its level that is not later than the first one after `row`, at most a stretch earlier.

    `pass_touches` skips what was there before the order: by then somebody has asked for that memory.
    """
    above = slot["price"] - day["grid"]
    price = above // day["tick"]
    if 0 <= price < day["ticks"] and above % day["tick"] == 0:
        stretch, s = max(row, 0) // day["stretch"], 0 if slot["side"] > 0 else 1
        at = np.int64(tape.first_touch[day["first0"] + (2 * stretch + s) * day["ticks"] + price])
    else:
        at = _far_touch(tape, day, slot)
    slot["touch"] = day["touch0"] + max(at, 0)
    slot["touch_row"] = NO_ROW if at == NO_TOUCH else row + 1
    slot["exec_row"] = NO_ROW


@hot
def point_at(slot, touches, at, there):
    """Makes touch `at` the slot's next one, if it is there."""
    slot["touch"] = at
    slot["touch_row"] = touches[at]["row"] if there else NO_ROW
    slot["exec_row"] = NO_ROW


@hot
def crossing_price(day, slot):
    """The slot's price as `cross` counts prices, and short of those that stand for "crosses nothing"."""
    return min(max(slot["price"] - day["base"], NEVER_ASK + 1), NEVER_BID - 1)


@hot
def find_cross(tape, day, slot, row):
    """Looks for the first row after `row` that crosses the slot, at most HORIZON rows ahead."""
    s = 0 if slot["side"] > 0 else 1
    sign, price, base = slot["side"], crossing_price(day, slot), day["row0"]
    stop = min(row + HORIZON, day["rows"] - 1)
    i = row + 1
    while i <= stop:
        block = i // BLOCK
        end = min((block + 1) * BLOCK - 1, stop)
        if sign * tape.cross_block[s, day["block0"] + block] <= sign * price:  # rows before i are of the block too: look
            for j in range(i, end + 1):
                if sign * tape.cross[s, base + j] <= sign * price:
                    slot["cross_row"] = j
                    return
        i = end + 1
    slot["cross_row"] = stop if stop < day["rows"] - 1 else NO_ROW


@rare
def find_cross_beside_links(tape, day, slot, row):
    """`find_cross`, where the tape's links do not know of all crossings."""
    find_cross(tape, day, slot, row)
