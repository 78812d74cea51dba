"""Own executions: what fills a resting order, and what an aggressive one takes from the recorded book."""

from __future__ import annotations

from emp_gym.jit import hot
from emp_gym.market.account import book_fill
from emp_gym.market.day_rules import on_tick, tick_at, ticks_away


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
    lane["consumed_row"] = row
    entry = taken[at]
    entry["side"], entry["price"], entry["quantity"], entry["time_ns"], entry["row"] = side, price, left, now_ns, row


@hot
def _beyond(day, side, first, worst):
    """The price of what the visible levels from `first` to `worst` could not give."""
    if day["steps"] == 0:
        return max(worst + side * max(day["first_tick"], abs(worst - first)), day["first_tick"])
    price, next_tick = worst + side * abs(worst - first), ticks_away(day, worst, side)
    price = max(price, next_tick) if side > 0 else min(price, next_tick)
    return max(on_tick(day, price, side), tick_at(day, 0))


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
    if params["half_life_ns"] == 0 and lane["consumed_row"] != row:
        lane["consumed"] = 0  # all of it is back
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
        fee = book_fill(lane, day, side, price, part, mid2, False)
        log_fill(lane, fills, order, side, price, part, fee, mid2, now_ns, row, 0, 0)
        remember_taken(lane, taken, -side, price, part, now_ns, row, params["half_life_ns"])
        quantity -= part
    if whole and quantity > 0:
        price = _beyond(day, side, first, worst) if seen else mid2 // 2
        fee = book_fill(lane, day, side, price, quantity, mid2, False)
        log_fill(lane, fills, order, side, price, quantity, fee, mid2, now_ns, row, 0, 1)
        lane["beyond"] += quantity
        quantity = 0
    return quantity
