"""Own executions: what fills a resting order, and what an aggressive one takes from the recorded book."""

from __future__ import annotations

import numpy as np

from emp_gym.jit import hot
from emp_gym.market.account import book_fill
from emp_gym.market.ladder import continued, origin_of_empty, price_beyond
from emp_gym.market.records import BEYOND, PARTS


@hot
def log_fill(lane, fills, order, side, price, quantity, fee, mid2, time_ns, row, maker, beyond):
    """Adds to the step's fill log: one entry an order, price and kind of liquidity."""
    count = lane["fills"]
    for f in range(count):
        entry = fills[f]
        if entry["id"] == order and entry["price"] == price and entry["maker"] == maker and entry["beyond"] == beyond:
            entry["quantity"] += quantity
            entry["fee"] += fee
            entry["mid2_lots"] += mid2 * quantity
            entry["time_ns"], entry["row"] = time_ns, row
            return
    entry = fills[count]
    entry["id"], entry["side"], entry["price"], entry["quantity"] = order, side, price, quantity
    entry["fee"], entry["mid2_lots"], entry["time_ns"], entry["row"] = fee, mid2 * quantity, time_ns, row
    entry["maker"], entry["beyond"] = maker, beyond
    lane["fills"] = count + 1


@hot
def fill_maker(lane, day, slot, fills, quantity, row, mid2):
    """Fills a resting order at its price, because of the message of `row`; `mid2` stood before it.

    The log's time stays 0: it is that of the row, and whoever reads the log looks it up (a wait that a walk can do without).
    """
    fee = book_fill(lane, day, slot["side"], slot["price"], quantity, mid2, True)
    if slot["filled"] == 0:
        lane["hit"] += 1
    slot["filled"] += quantity
    slot["quantity"] -= quantity
    log_fill(lane, fills, slot["id"], slot["side"], slot["price"], quantity, fee, mid2, 0, row, 1, 0)


@hot
def _note_of(lane, taken, side, price):
    """Place of what is noted of a level (of what lies beyond the file: `side` times `BEYOND`), -1 if nothing is."""
    for j in range(lane["consumed"]):
        if taken[j]["side"] == side and (taken[j]["price"] == price or abs(side) == BEYOND):
            return j
    return -1


@hot
def _left(note, now_ns, row, half_life_ns):
    """Parts of lots of a note that have not come back; less than half a lot is nothing."""
    if half_life_ns < 0 or note["row"] == row:
        return note["parts"]
    if half_life_ns == 0:
        return 0
    parts = int(note["parts"] * 0.5 ** ((now_ns - note["time_ns"]) / half_life_ns))
    return parts if 2 * parts >= PARTS else 0


@hot
def _in_lots(parts):
    """The nearest number of lots."""
    return (np.int64(parts) + PARTS // 2) // PARTS


@hot
def taken_at(lane, taken, side, price, now_ns, row, half_life_ns):
    """Lots of a book level that we consumed and that have not come back."""
    at = _note_of(lane, taken, side, price)
    return _in_lots(_left(taken[at], now_ns, row, half_life_ns)) if at >= 0 else 0


@hot
def _gone_in_reach(lane, taken, side, origin, step, lots, gone, quantity, now_ns, row, half_life_ns):
    """`gone`, and what was consumed at prices beyond `origin` which the file does not show now: as far as the ladder has to reach,
    with these lots missing, to give `quantity`."""
    total = gone
    while True:
        furthest, parts = origin + side * step * -(-(total + quantity) // lots), np.int64(0)
        for j in range(lane["consumed"]):
            price = taken[j]["price"]
            if taken[j]["side"] == -side and side * origin < side * price <= side * furthest:
                parts += _left(taken[j], now_ns, row, half_life_ns)
        missing = gone + _in_lots(parts)
        if missing <= total:
            return total
        total = missing


@hot
def remember_taken(lane, taken, side, price, quantity, now_ns, row, half_life_ns):
    """Notes consumed depth, where a note has nothing left in its place. Nothing else is forgotten: `ReplayMarket` makes room."""
    at, parts = _note_of(lane, taken, side, price), np.int64(quantity) * PARTS
    if at >= 0:
        parts += _left(taken[at], now_ns, row, half_life_ns)
    else:
        count = at = lane["consumed"]
        if half_life_ns > 0:
            for j in range(count):
                if _left(taken[j], now_ns, row, half_life_ns) == 0:
                    at = j
                    break
        if at == count:
            lane["consumed"] = count + 1
    lane["consumed_row"] = row
    note = taken[at]
    note["side"], note["price"], note["parts"], note["time_ns"], note["row"] = side, price, parts, now_ns, row


@hot
def take(lane, day, rows, book, taken, fills, params, order, side, limit, quantity, row, now_ns, whole):
    """Takes from the recorded book after `row` up to `limit`; returns what remains.

    With `whole`, what the visible levels cannot give is filled beyond them, at one price (`emp_gym.market.ladder`). Lots that
    were taken beyond a price, and have not come back, are missing from the first ones past it, whether these are visible by now
    or not; those taken at prices that have left the file's window are missing from the ladder, as far as it has to reach.
    """
    at, s, half_life_ns = day["row0"] + row, 1 if side > 0 else 0, params["half_life_ns"]
    mid2 = rows[at]["mid2"]
    worst = np.int64(0)
    if half_life_ns == 0 and lane["consumed_row"] != row:
        lane["consumed"] = 0  # all of it is back
    past, gone = np.int64(side) * (1 << 60), np.int64(0)
    noted = _note_of(lane, taken, -side * BEYOND, 0)
    if noted >= 0:
        gone = _in_lots(_left(taken[noted], now_ns, row, half_life_ns))
        past = taken[noted]["price"] if gone > 0 else past
    for level in range(book.shape[2]):
        size, price = book[at, s, level]["size"], day["base"] + book[at, s, level]["price"]
        if size <= 0 or side * price > side * limit or quantity == 0:
            break
        worst = price
        left = size - taken_at(lane, taken, -side, price, now_ns, row, half_life_ns)
        if side * price > side * past and left > 0:
            missing = min(gone, left)
            gone -= missing
            left -= missing
        part = min(quantity, left)
        if part <= 0:
            continue
        fee = book_fill(lane, day, side, price, part, mid2, False)
        log_fill(lane, fills, order, side, price, part, fee, mid2, now_ns, row, 0, 0)
        remember_taken(lane, taken, -side, price, part, now_ns, row, half_life_ns)
        quantity -= part
    if whole and quantity > 0:
        if book[at, s, 0]["size"] <= 0:
            worst = origin_of_empty(day, book, at, side, mid2)
        step, lots = continued(day, book, row, side, worst)
        gone = _gone_in_reach(lane, taken, side, worst, step, lots, gone, quantity, now_ns, row, half_life_ns)
        price = price_beyond(day, side, worst, step, lots, gone, quantity)
        fee = book_fill(lane, day, side, price, quantity, mid2, False)
        log_fill(lane, fills, order, side, price, quantity, fee, mid2, now_ns, row, 0, 1)
        past = min(past, worst) if side > 0 else max(past, worst)
        remember_taken(lane, taken, -side * BEYOND, past, quantity, now_ns, row, half_life_ns)
        lane["beyond"] += quantity
        quantity = 0
    return quantity
