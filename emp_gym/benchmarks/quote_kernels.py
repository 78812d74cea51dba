"""The orders of a fixed quoting policy: one lot on each side at the touch, at every decision.

An order that already stands there is not moved and keeps its place; one that stands elsewhere is cancelled and replaced.
"""

from __future__ import annotations

from emp_gym.jit import hot
from emp_gym.market.public import CANCEL, LIMIT, NONE, REPLACE, TRADING

QUANTITY = 1  # lots of a quote


@hot
def quote(kinds, requests, state, quotes, book, slots):
    """Writes the orders of the quoting policy for every lane into kinds and requests [N, K]."""
    for i in range(len(state)):
        lane, n = state[i], 0
        for k in range(kinds.shape[1]):
            kinds[i, k] = NONE
        for s in range(2):
            side = 1 if s == 0 else -1
            there = quotes[i, 0]["status"] == TRADING and book[i, 0, 2 * s + 1, 0] > 0
            wanted = book[i, 0, 2 * s, 0] if there else 0
            n = _quote_side(kinds[i], requests[i], n, lane, slots[i], side, wanted)


@hot
def _quote_side(kinds, requests, n, lane, slots, side, wanted):
    stands, old = wanted == 0, 0
    for k in range(lane["orders"]):
        slot = slots[k]
        if slot["side"] != side or slot["leaving"]:
            continue
        if slot["price"] == wanted:
            stands = True
        else:
            old = slot["id"]
    if stands and old == 0:
        return n
    request = requests[n]
    request["side"], request["price"], request["quantity"] = side, wanted, QUANTITY
    request["id"], request["target"] = lane["decision"] * 4 + n + 1, old
    kinds[n] = REPLACE if old > 0 else LIMIT
    if stands:
        kinds[n], request["id"] = CANCEL, old
    return n + 1
