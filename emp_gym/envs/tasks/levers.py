"""Kernel of market making: levers into quotes."""

from __future__ import annotations

import numpy as np

from emp_gym.envs.tasks.actions import NO_QUOTE, quote, room
from emp_gym.jit import hot
from emp_gym.market.public import NONE, TRADING, ticks_away
from emp_gym.threads import region


@hot
def _quotes(kinds, requests, lane, shown, slots, book, action, rules, setup):
    """(half-spread, skew, size) in [-1, 1]; see `make.MakeMarket`."""
    if shown["status"] != TRADING or book[1, 0] == 0 or book[3, 0] == 0:
        return
    half = 0.5 * (action[0] + 1.0) * setup["max_offset"]
    skew = action[1] * setup["max_offset"]
    clips = 0.5 * (action[2] + 1.0) * setup["clip"] / rules["lot"]
    quantity = int(np.rint(clips)) * rules["lot"]
    bid = min(ticks_away(rules, book[0, 0], -int(np.rint(half - skew))), ticks_away(rules, book[2, 0], -1))
    ask = max(ticks_away(rules, book[2, 0], int(np.rint(half + skew))), ticks_away(rules, book[0, 0], 1))
    if ask <= bid:
        ask = ticks_away(rules, bid, 1)
    buy = min(quantity, room(lane, shown, slots, 1, setup, False))
    sell = min(quantity, room(lane, shown, slots, -1, setup, False))
    n = quote(kinds, requests, 0, lane, slots, 1, bid if buy > 0 and bid > 0 else NO_QUOTE, buy)
    quote(kinds, requests, n, lane, slots, -1, ask if sell > 0 else NO_QUOTE, sell)


@region
def request_lanes(low, high, place, levers, kinds, requests, active, state, quotes, seen, books, slots, rules, setup):
    """Turns the actions of lanes [low, high) into orders."""
    for i in range(low, high):
        for n in range(kinds.shape[1]):
            kinds[i, n] = NONE
        if active[i]:
            shown = quotes[i, 0]
            _quotes(kinds[i], requests[i], state[i], shown, slots[i], books[i, 0], levers[i], rules[shown["rules"]], setup[0])
