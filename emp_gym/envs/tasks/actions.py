"""Kernels of a table of actions (`table.Table`): what each asks of the market, and when it is allowed.

There is a row an action for `request`; for the mask there are the conditions that actions share, each looked at once, with the
bits of those that an action needs.
"""

from __future__ import annotations

import numpy as np

from emp_gym.jit import hot
from emp_gym.market.public import CANCEL, LIMIT, MARKET, NONE, REPLACE, TRADING, ticks_away
from emp_gym.threads import region
from emp_gym.types import LEAVE, WITHDRAW

NO_QUOTE = 0
NOWHERE = -(1 << 40)  # `to` of an action that has none

ROW = np.dtype([("bid", "i8"), ("ask", "i8"), ("take", "i8"), ("to", "i8"), ("cancel", "i8")])
"""One action: fields of `types.Action`."""

QUOTE, TAKE, EXIT = 0, 1, 2
CONDITION = np.dtype([("what", "i8"), ("side", "i8"), ("size", "i8")])
"""QUOTE: there is room for `side` `size` ticks behind the touch. TAKE: there is room for `size` clips towards `side`. EXIT: who would
trade the position to `size` clips is there."""
OPEN_MARKET, ONE_FREE, TWO_FREE, BID_THERE, ASK_THERE, FIRST = 1, 2, 4, 8, 16, 5
"""Bits of what an action needs: trading, free slots, sides of the book (in a relative table BID is the parent's own); from FIRST on
conditions."""


# ------------------------------------------------------------------------------------------------------ action -> orders


@hot
def _ask(kinds, requests, n, lane, kind, side, price, quantity, target):
    """Writes one request; returns the number of requests so far."""
    request = requests[n]
    kinds[n] = kind
    request["side"], request["price"], request["quantity"] = side, price, quantity
    request["id"] = target if kind == CANCEL else lane["decision"] * 16 + n + 1
    request["target"] = target if kind == REPLACE else 0
    return n + 1


@hot
def _resting(slots, k, side):
    """Whether slot k is a limit order of that side which nobody has cancelled yet."""
    return slots[k]["kind"] == LIMIT and slots[k]["side"] == side and not slots[k]["leaving"]


@hot
def _kept(lane, slots, side, price):
    """The slot that already rests (or flies) at this price, -1 if none does."""
    for k in range(lane["orders"]):
        if _resting(slots, k, side) and slots[k]["price"] == price:
            return k
    return -1


@hot
def quote(kinds, requests, n, lane, slots, side, price, quantity):
    """Wants exactly one order of `side` at `price` (NO_QUOTE: none). What already stands there is not moved."""
    kept = _kept(lane, slots, side, price) if price != NO_QUOTE else -1
    moved = kept >= 0 or price == NO_QUOTE or quantity <= 0
    for k in range(lane["orders"]):
        if k == kept or not _resting(slots, k, side):
            continue
        if moved:
            n = _ask(kinds, requests, n, lane, CANCEL, side, 0, 0, slots[k]["id"])
        else:
            n = _ask(kinds, requests, n, lane, REPLACE, side, price, quantity, slots[k]["id"])
            moved = True
    if not moved:
        n = _ask(kinds, requests, n, lane, LIMIT, side, price, quantity, 0)
    return n


@hot
def _cancel_all(kinds, requests, n, lane, slots):
    for k in range(lane["orders"]):
        if not slots[k]["leaving"]:
            n = _ask(kinds, requests, n, lane, CANCEL, slots[k]["side"], 0, 0, slots[k]["id"])
    return n


@hot
def room(lane, shown, slots, side, setup, beside):
    """Lots that may be added to the position towards `side`, `beside` all open orders or instead of them: then, where cancels are
    `immediate`, only those whose cancel is on its way may still fill."""
    left = setup["limit"] - side * shown["position"]
    for k in range(lane["orders"]):
        if slots[k]["side"] == side and (beside or setup["immediate"] == 0 or slots[k]["leaving"]):
            left -= slots[k]["quantity"]
    return left


@hot
def _price(book, rules, side, depth):
    """`depth` ticks behind the touch of `side`; NO_QUOTE for WITHDRAW, and where no price is that low."""
    best = book[0, 0] if side > 0 else book[2, 0]
    if depth == WITHDRAW:
        return NO_QUOTE
    return max(ticks_away(rules, best, -side * depth), NO_QUOTE) if depth > 0 else best


@hot
def _request(kinds, requests, lane, shown, slots, book, row, rules, setup, lead):
    """The requests of one action; `lead` is the side that its `bid` means."""
    n, clip = 0, setup["clip"]
    if row["cancel"] != 0:
        n = _cancel_all(kinds, requests, n, lane, slots)
    for s in range(2):
        depth = row["bid"] if s == 0 else row["ask"]
        if depth == LEAVE:
            continue
        side = lead if s == 0 else -lead
        quantity = clip if setup["whole"] else min(clip, room(lane, shown, slots, side, setup, False))
        n = quote(kinds, requests, n, lane, slots, side, _price(book, rules, side, depth), quantity)
    side, quantity = 1, 0
    if row["take"] != 0:
        side, quantity = lead if row["take"] > 0 else -lead, abs(row["take"]) * clip
        if not setup["whole"]:
            quantity = min(quantity, room(lane, shown, slots, side, setup, row["cancel"] == 0))
    elif row["to"] != NOWHERE:
        beyond = shown["position"] - lead * row["to"] * clip
        for k in range(lane["orders"]):
            if slots[k]["kind"] == MARKET:
                beyond += slots[k]["side"] * slots[k]["quantity"]
        side = -1 if beyond > 0 else 1
        quantity = min(abs(beyond), room(lane, shown, slots, side, setup, row["cancel"] == 0))
    if quantity > 0:
        _ask(kinds, requests, n, lane, MARKET, side, 0, quantity, 0)


@region
def request_lanes(
    low, high, place, choices, kinds, requests, mask, active, state, quotes, seen, books, slots, rules, episodes, rows, setup
):  # fmt: skip
    """Turns the actions of lanes [low, high) into orders. A masked one keeps everything as it is and is counted."""
    own = setup[0]
    for i in range(low, high):
        for n in range(kinds.shape[1]):
            kinds[i, n] = NONE
        if not active[i]:
            continue
        action = choices[i]
        if not mask[i, action]:
            episodes[i]["masked"] += 1
            continue
        shown = quotes[i, 0]
        lead = episodes[i]["parent_side"] if own["relative"] else 1
        _request(kinds[i], requests[i], state[i], shown, slots[i], books[i, 0], rows[action], rules[shown["rules"]], own, lead)


# ----------------------------------------------------------------------------------------------------------------- masks


@hot
def write_mask(mask, lane, shown, slots, book, rules, conditions, needs, setup, lead):
    """Which actions are allowed now."""
    have, free = np.int64(0), slots.shape[0] - lane["orders"]
    if shown["status"] == TRADING:
        bids, asks = np.int64(book[1, 0] > 0), np.int64(book[3, 0] > 0)
        own, other = (bids, asks) if lead > 0 else (asks, bids)
        have = OPEN_MARKET + ONE_FREE * np.int64(free >= 1) + TWO_FREE * np.int64(free >= 2) + BID_THERE * own + ASK_THERE * other
        if len(conditions) > 0:
            have |= _conditions(lane, shown, slots, book, rules, conditions, setup, lead) << FIRST
    for a in range(len(needs)):
        mask[a] = (have & needs[a]) == needs[a]


@hot
def _conditions(lane, shown, slots, book, rules, conditions, setup, lead):
    """A bit for each condition that holds."""
    open_buy = open_sell = leaving_buy = leaving_sell = np.int64(0)
    for k in range(lane["orders"]):
        lots = slots[k]["quantity"]
        gone = lots if slots[k]["leaving"] else 0
        if slots[k]["side"] > 0:
            open_buy += lots
            leaving_buy += gone
        else:
            open_sell += lots
            leaving_sell += gone
    clip, position = setup["clip"], shown["position"]
    buy_left, sell_left = setup["limit"] - position, setup["limit"] + position
    buy_room = buy_left - (leaving_buy if setup["immediate"] else open_buy)
    sell_room = sell_left - (leaving_sell if setup["immediate"] else open_sell)
    have = np.int64(0)
    for c in range(len(conditions)):
        what, side, size = conditions[c]["what"], lead * conditions[c]["side"], conditions[c]["size"]
        if what == QUOTE:
            price = _price(book, rules, side, size)
            ok = price != NO_QUOTE and ((buy_room if side > 0 else sell_room) >= clip or _kept(lane, slots, side, price) >= 0)
        elif what == TAKE:
            ok = (buy_left - open_buy if side > 0 else sell_left - open_sell) >= size * clip
        else:
            beyond = position - lead * size * clip
            ok = beyond == 0 or (book[1, 0] if beyond > 0 else book[3, 0]) > 0
        have |= np.int64(ok) << c
    return have
