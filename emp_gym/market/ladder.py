"""The book beyond the file: where further levels are assumed to stand, and what an order pays that reaches them.

Behind the worst visible price there is a level every `step` price units, with `lots` lots each. Both go on from what was visible: `lots`
is the mean size of the visible levels of both sides, `step` three quarters of the mean distance between neighbours, or one fifth of the
spread where no two levels of a side were visible; means over the row and 15 earlier ones, 32 rows apart. The two shares are
calibrated: the deeper file of a day is asked what the shallower one could not show (docs/market.md, *Taking*).
"""

from __future__ import annotations

import numpy as np

from emp_gym.jit import hot
from emp_gym.market.public import on_tick, tick_at

LOOKS, APART = 16, 32  # rows whose levels are looked at, the row itself and earlier ones, and how far they are apart
OF_DISTANCE = 3, 4  # share of the mean distance between neighbouring visible levels
OF_SPREAD = 1, 5  # share of the spread, where there are no neighbours


@hot
def continued(day, book, row, side, origin):
    """(step in price units, lots) of the levels beyond `origin`, from what was visible in `row` and before it."""
    levels = lots = gaps = distance = spreads = spread = np.int64(0)
    for look in range(LOOKS):
        if look * APART > row:
            break
        at = day["row0"] + row - look * APART
        for s in range(2):
            shown = np.int64(0)
            while shown < book.shape[2] and book[at, s, shown]["size"] > 0:
                lots += book[at, s, shown]["size"]
                shown += 1
            levels += shown
            if shown > 1:
                gaps += shown - 1
                distance += abs(np.int64(book[at, s, shown - 1]["price"]) - book[at, s, 0]["price"])
        if book[at, 0, 0]["size"] > 0 and book[at, 1, 0]["size"] > 0:
            spreads += 1
            spread += np.int64(book[at, 1, 0]["price"]) - book[at, 0, 0]["price"]
    step = tick_at(day, origin if side > 0 else max(origin - 1, np.int64(0)))
    if gaps > 0:
        step = max(step, -((-OF_DISTANCE[0] * distance) // (OF_DISTANCE[1] * gaps)))
    elif spreads > 0:
        step = max(step, -((-OF_SPREAD[0] * spread) // (OF_SPREAD[1] * spreads)))
    return step, max(lots // max(levels, np.int64(1)), np.int64(1))


@hot
def origin_of_empty(day, book, at, side, mid2):
    """Where the ladder begins on an empty side: at the last known mid (0: none yet), rounded against us, and never nearer to us than
    a tick past the best price of the other side."""
    origin = (mid2 + 1) // 2 if side > 0 else mid2 // 2
    other = book[at, 0 if side > 0 else 1, 0]
    if other["size"] > 0:
        price = day["base"] + np.int64(other["price"])
        edge = price + side * tick_at(day, price if side > 0 else price - 1)
        origin = max(origin, edge) if side > 0 else min(origin, edge)
    return max(origin, np.int64(0))


@hot
def price_beyond(day, side, origin, step, lots, gone, quantity):
    """The one price at which `quantity` lots are taken beyond `origin`, where `gone` lots were taken before.

    That is the mean price of the lots, rounded against us to a valid one. No level is further away than twice `origin` (a buy) or
    one tick (a sell).
    """
    tick = tick_at(day, 0)
    end = max(on_tick(day, 2 * origin, -1), tick) if side > 0 else tick
    reach = max(side * (end - origin), np.int64(0))
    away = _distance(step, lots, reach, gone + quantity) - _distance(step, lots, reach, gone)
    return max(on_tick(day, origin + side * -(-away // quantity), side), tick)


@hot
def _distance(step, lots, reach, quantity):
    """Sum over the first `quantity` lots of their distance from where the ladder begins; none is further away than `reach`."""
    full = min(quantity // lots, reach // step)  # levels that are taken whole and stand within reach
    return step * lots * (full * (full + 1) // 2) + (quantity - full * lots) * min((full + 1) * step, reach)
