"""Features of an order book under own orders: what an agent may know at a decision, as one flat float32 vector.

Every window looks back from the last row that the view shows, so nothing later can enter. Heavy-tailed integers (lots,
half ticks) pass through a signed logarithm; nothing is normalised by statistics of a day.
"""

from __future__ import annotations

import math

import numpy as np

from emp_gym.jit import hot
from emp_gym.types import Feature

SHORT, LONG = 200, 1000  # rows of the trailing windows
CLIP = 10.0
LN2 = math.log(2.0)
LOG = np.log1p(np.arange(4096)).astype(np.float32)
HALF_TICKS, LOTS = "half ticks", "lots"


def features(levels: int) -> tuple[Feature, ...]:
    """The columns that `observe_book` and `observe_own` write, in order, for `levels` book levels."""

    def log(name: str, unit: str, scale: float) -> Feature:
        return Feature(name, unit, scale, "signed_log", -CLIP, CLIP)

    book = []
    for side in ("bid", "ask"):
        book += [log(f"{side}_distance_{level + 1}", HALF_TICKS, 2.0) for level in range(levels)]
        book += [log(f"{side}_size_{level + 1}", LOTS, 4.0) for level in range(levels)]
    book += [Feature("imbalance_1", "share"), Feature(f"imbalance_{levels}", "share")]
    book += [log("microprice", "1/16 half ticks from mid", 2.0), log("spread", HALF_TICKS, 2.0)]
    for window in ("step", "short", "long"):
        book += [
            log(f"ofi_{window}", LOTS, 4.0),
            Feature(f"trade_imbalance_{window}", "share"),
            log(f"return_{window}", HALF_TICKS, 2.0),
        ]
    book += [
        log("volume_step", LOTS, 4.0),
        log("volatility_short", f"{HALF_TICKS}, root of summed squares", 2.0),
        log("volatility_long", f"{HALF_TICKS}, root of summed squares", 2.0),
        log("rate", "messages per second", 4.0),
        Feature("time_of_day", "share of the session"),
        Feature("status", "Status / 3", 3.0),
    ]
    own = [
        Feature("inventory", "share of max_position"),
        log("equity", "half ticks per clip since the start", 2.0),
        Feature("elapsed", "share of the episode"),
        Feature("in_flight", "orders / 8", 8.0),
    ]
    for side in ("bid", "ask"):
        own += [
            Feature(f"{side}_live", "1 resting, 0.5 in flight, 0 none"),
            log(f"{side}_offset", f"{HALF_TICKS} behind the touch", 2.0),
            Feature(f"{side}_quantity", "clips"),
            log(f"{side}_ahead", f"{LOTS} ahead in the queue, -1 unknown", 4.0),
            log(f"{side}_age", "decisions", 2.0),
        ]
    return tuple(book + own)


@hot
def signed_log(x):
    """sign(x) * ln(1 + |x|) of an integer, from a table (beyond it halves and adds ln 2: within 1e-3)."""
    magnitude, halvings = abs(x), 0
    while magnitude >= 4096:
        magnitude >>= 1
        halvings += 1
    value = LOG[magnitude] + halvings * LN2
    return value if x >= 0 else -value


@hot
def put(out, at, value, episode):
    """Writes a clipped feature; counts in `episode` when clipping changed it. Returns the next column."""
    if value > CLIP:
        value = CLIP
        episode["clipped"] += 1
    elif value < -CLIP:
        value = -CLIP
        episode["clipped"] += 1
    out[at] = value
    return at + 1


@hot
def share(a, b):
    """(a - b) / (a + b), 0 when both are."""
    return (a - b) / (a + b) if a + b > 0 else 0.0


@hot
def observe_book(out, at, lane, book, day, rows, levels, session_start_ns, session_ns, episode):
    """Writes the market's own features from column `at`; returns the next column."""
    tick, base = day["tick"], day["row0"]
    seen = lane["seen_row"]
    now = rows[base + seen]
    mid2 = now["mid2"]
    for s in range(2):
        sign = 1 if s == 0 else -1
        for level in range(levels):
            size = book[2 * s + 1, level]
            gap = sign * (mid2 - 2 * book[2 * s, level]) // tick
            at = put(out, at, signed_log(gap) / 2.0 if size > 0 else CLIP, episode)
        for level in range(levels):
            at = put(out, at, signed_log(book[2 * s + 1, level]) / 4.0, episode)
    bids = asks = 0
    for level in range(levels):
        bids += book[1, level]
        asks += book[3, level]
    first_bid, first_ask = book[1, 0], book[3, 0]
    at = put(out, at, share(first_bid, first_ask), episode)
    at = put(out, at, share(bids, asks), episode)
    both = first_bid > 0 and first_ask > 0
    spread = book[2, 0] - book[0, 0] if both else 0
    micro = 16 * share(first_bid, first_ask) * spread / tick if both else 0.0
    at = put(out, at, signed_log(int(micro)) / 2.0, episode)
    at = put(out, at, signed_log(2 * spread // tick) / 2.0, episode)
    steps = (seen - lane["last_row"], min(SHORT, seen), min(LONG, seen))
    for w in range(3):
        then = rows[base + seen - steps[w]]
        at = put(out, at, signed_log(now["flow"] - then["flow"]) / 4.0, episode)
        at = put(out, at, share(now["bought"] - then["bought"], now["sold"] - then["sold"]), episode)
        at = put(out, at, signed_log((mid2 - then["mid2"]) // tick if then["mid2"] > 0 else 0) / 2.0, episode)
    at = put(out, at, signed_log(lane["bought"] + lane["sold"]) / 4.0, episode)
    for w in range(1, 3):
        then = rows[base + seen - steps[w]]
        at = put(out, at, signed_log(int(math.sqrt(now["moves2"] - then["moves2"]) / tick)) / 2.0, episode)
    then = rows[base + seen - steps[1]]
    seconds = max(now["time_ns"] - then["time_ns"], 1) / 1e9
    at = put(out, at, signed_log(int(min(steps[1] / seconds, 1e9))) / 4.0, episode)
    at = put(out, at, (lane["time_ns"] - session_start_ns) / session_ns, episode)
    return put(out, at, lane["status"] / 3.0, episode)


@hot
def observe_own(out, at, lane, slots, book, tick, clip, max_position, elapsed, price_to_cash, episode):
    """Writes the features of own account and orders from column `at`; returns the next column."""
    at = put(out, at, lane["position"] / max_position, episode)
    equity2 = 2 * lane["cash"] + lane["position"] * lane["mid2"] * price_to_cash
    at = put(out, at, signed_log(equity2 // (price_to_cash * tick * clip)) / 2.0, episode)
    at = put(out, at, elapsed, episode)
    flying = 0
    best = (-1, -1)
    for k in range(lane["orders"]):
        slot = slots[k]
        flying += slot["state"] == 1
        if slot["kind"] != 1:
            continue
        if slot["side"] > 0:
            if best[0] < 0 or slot["price"] > slots[best[0]]["price"]:
                best = (k, best[1])
        elif best[1] < 0 or slot["price"] < slots[best[1]]["price"]:
            best = (best[0], k)
    at = put(out, at, flying / 8.0, episode)
    for s in range(2):
        k = best[s]
        if k < 0:
            for j in range(5):
                out[at + j] = 0.0
            at += 5
            continue
        slot = slots[k]
        sign = slot["side"]
        at = put(out, at, 1.0 if slot["state"] == 2 else 0.5, episode)
        behind = sign * (book[2 * s, 0] - slot["price"]) if book[2 * s + 1, 0] > 0 else 0
        at = put(out, at, signed_log(2 * behind // tick) / 2.0, episode)
        at = put(out, at, slot["quantity"] / clip, episode)
        at = put(out, at, signed_log(slot["ahead"]) / 4.0, episode)
        at = put(out, at, signed_log(lane["decision"] - slot["decision"]) / 2.0, episode)
    return at
