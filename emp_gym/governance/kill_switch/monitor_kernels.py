"""What the rules of the kill switch do for every lane at each step, compiled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emp_gym.jit import hot, prefetch
from emp_gym.types import TradingStatus, TruncationReason

TRADING = int(TradingStatus.TRADING)
DRAWDOWN, STALENESS, RATE = int(TruncationReason.DRAWDOWN), int(TruncationReason.STALENESS), int(TruncationReason.RATE)
OFF = -1
AHEAD = 16  # how many lanes ahead memory is asked for

LIMITS = np.dtype([("fall2", "i8"), ("stale_ns", "i8"), ("full_ns", "i8"), ("cost_ns", "i8")], align=True)
"""Fall of the equity in 1e-8 currency, doubled; age of the book; size of the bucket of messages and what one pours. OFF: no
such rule."""

LANE = np.dtype([("peak2", "i8"), ("level_ns", "i8"), ("asked_ns", "i8")], align=True)
"""Highest equity of the episode in 1e-8 currency, doubled; the bucket of messages, and when it was last looked at."""

BOOK = np.dtype([(name, "i8") for name in ("changed_ns", "bid", "bid_size", "ask", "ask_size")], align=True)
"""Top of an instrument's book as last seen, and when it changed."""


class MonitorArrays(NamedTuple):
    """The arrays of a View that the rules read."""

    time_ns: np.ndarray
    decision: np.ndarray
    status: np.ndarray
    bid_price: np.ndarray
    bid_size: np.ndarray
    ask_price: np.ndarray
    ask_size: np.ndarray
    cash: np.ndarray
    position: np.ndarray
    mid2: np.ndarray


@hot
def poured(level_ns, elapsed_ns, messages, cost_ns):
    """Level of a leaky bucket: what was in it runs out with time, each message pours `cost_ns`."""
    return max(level_ns - max(elapsed_ns, 0), 0) + messages * cost_ns


@hot
def _equity2(i, shown, price_to_cash):
    """(1e-8 currency, doubled; whether a position has no price)."""
    total, unpriced = 2 * shown.cash[i], False
    for m in range(shown.position.shape[1]):
        position, mid2 = shown.position[i, m], shown.mid2[i, m]
        total += position * mid2 * price_to_cash[i, m]
        unpriced |= (position != 0) & (mid2 <= 0)
    return total, unpriced


@hot
def _look_at_top(book, i, m, shown, now):
    """Notes when the top of the book has changed."""
    bid, ask = shown.bid_price[i, m, 0], shown.ask_price[i, m, 0]
    bid_size, ask_size = shown.bid_size[i, m, 0], shown.ask_size[i, m, 0]
    same = (book["bid"] == bid) & (book["ask"] == ask)
    same &= (book["bid_size"] == bid_size) & (book["ask_size"] == ask_size)
    book["changed_ns"] = book["changed_ns"] if same else now
    book["bid"], book["bid_size"], book["ask"], book["ask_size"] = bid, bid_size, ask, ask_size


@hot
def begin(i, shown, price_to_cash, lanes, books):
    """Starts anew in lane i."""
    lane, now = lanes[i], shown.time_ns[i]
    lane["peak2"], _ = _equity2(i, shown, price_to_cash)
    lane["level_ns"], lane["asked_ns"] = 0, now
    for m in range(books.shape[1]):
        _look_at_top(books[i, m], i, m, shown, now)
        books[i, m]["changed_ns"] = now


@hot
def _ask_for(i, shown, lanes, books):
    """Asks for the cache lines that lane i is judged by."""
    prefetch(shown.time_ns, i, 0)
    prefetch(shown.cash, i, 0)
    prefetch(shown.mid2, i, 0)
    prefetch(shown.bid_price, i, 0)
    prefetch(shown.bid_size, i, 0)
    prefetch(shown.ask_price, i, 0)
    prefetch(shown.ask_size, i, 0)
    prefetch(lanes, i, 0)
    prefetch(books, i, 0)


@hot
def ask(kinds, shown, price_to_cash, limits, lanes, books, everyone, found):
    """Before orders of `kinds` [N, K] are sent: starts anew lanes that are at the first decision of an episode (or
    `everyone`), and writes RATE into found [N] where there are too many messages."""
    rules = limits[0]
    for i in range(-AHEAD, len(found)):
        if i + AHEAD < len(found):
            prefetch(shown.time_ns, i + AHEAD, 0)
            prefetch(shown.decision, i + AHEAD, 0)
            prefetch(lanes, i + AHEAD, 0)
        if i < 0:
            continue
        if everyone or shown.decision[i] == 0:
            begin(i, shown, price_to_cash, lanes, books)
        if rules["full_ns"] == OFF:
            continue
        messages, lane, now = 0, lanes[i], shown.time_ns[i]
        for k in range(kinds.shape[1]):
            messages += kinds[i, k] != 0
        lane["level_ns"] = poured(lane["level_ns"], now - lane["asked_ns"], messages, rules["cost_ns"])
        lane["asked_ns"] = now
        if lane["level_ns"] > rules["full_ns"]:
            found[i] = RATE


@hot
def _old(i, shown, limit_ns, books):
    """Whether an instrument of lane i trades and its top has not changed for longer than `limit_ns`."""
    old, now = False, shown.time_ns[i]
    for m in range(books.shape[1]):
        _look_at_top(books[i, m], i, m, shown, now)
        old |= (now - books[i, m]["changed_ns"] > limit_ns) & (shown.status[i, m] == TRADING)
    return old


@hot
def watch(which, shown, price_to_cash, limits, lanes, books, found):
    """After the market has moved: writes STALENESS and DRAWDOWN into found [N] for lanes `which` [n]."""
    rules = limits[0]
    for j in range(-AHEAD, len(which)):
        if j + AHEAD < len(which):
            _ask_for(which[j + AHEAD], shown, lanes, books)
        if j < 0:
            continue
        i = which[j]
        running = shown.decision[i] > 0  # at decision 0 of an episode there is nothing to lose, and nothing old
        if rules["stale_ns"] != OFF:
            old = _old(i, shown, rules["stale_ns"], books)
            if running & old:
                found[i] = STALENESS
        if rules["fall2"] != OFF:
            equity2, unpriced = _equity2(i, shown, price_to_cash)
            lanes[i]["peak2"] = max(lanes[i]["peak2"], equity2)
            if running & (unpriced | (lanes[i]["peak2"] - equity2 > rules["fall2"])):
                found[i] = DRAWDOWN
