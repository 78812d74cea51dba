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
TABLE = 4096
LOG = np.log1p(np.arange(TABLE))
HALF_TICKS, LOTS = "half ticks", "lots"


def features(levels: int) -> tuple[Feature, ...]:
    """The columns that `observe_book` and `observe_own` write, in order, for `levels` book levels."""

    def log(name: str, unit: str, scale: float) -> Feature:
        return Feature(name, unit, scale, "signed_log", -CLIP, CLIP)

    book = []
    for side in ("bid", "ask"):
        book += [log(f"{side}_distance_{level + 1}", HALF_TICKS, 2.0) for level in range(levels)]
        book += [log(f"{side}_size_{level + 1}", LOTS, 4.0) for level in range(levels)]
    book += [
        Feature("imbalance_1", "share"),
        Feature(f"imbalance_{levels}" if levels > 1 else "imbalance_all", "share"),
    ]
    book += [log("microprice", "1/32 ticks from mid", 2.0), log("spread", HALF_TICKS, 2.0)]
    for window in ("step", "short", "long"):
        book += [
            log(f"ofi_{window}", LOTS, 4.0),
            Feature(f"trade_imbalance_{window}", "share"),
            log(f"return_{window}", HALF_TICKS, 2.0),
            log(f"hidden_{window}", f"{LOTS} above the mid - below", 4.0),
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
    magnitude = x if x >= 0 else -x
    value = 0.0
    while magnitude >= TABLE:
        magnitude >>= 1
        value += LN2
    value += LOG[magnitude]
    return value if x >= 0 else -value


@hot
def whole(x):
    """The nearest integer of a float that is one up to rounding."""
    return np.int64(x + 0.5) if x >= 0.0 else np.int64(x - 0.5)


@hot
def share(a, b):
    """(a - b) / (a + b), 0 when both are."""
    return (a - b) / (a + b) if a + b > 0 else 0.0


@hot
def clip(out, columns):
    """Clips the first `columns` features to [-CLIP, CLIP]; returns how many that changed."""
    low, high = np.float32(-CLIP), np.float32(CLIP)
    changed = 0
    for j in range(columns):
        value = out[j]
        changed += (value > high) | (value < low)
        out[j] = min(max(value, low), high)
    return changed


@hot
def observe_book(out, lane, book, day, rows, levels, session_start_ns, session_ns):
    """Writes the market's own features from column 0; returns the next column."""
    base, seen = day["row0"], lane["seen_row"]
    per_tick = 1.0 / day["tick"]
    now = rows[base + seen]
    mid2 = now["mid2"]
    at = 0
    for s in range(2):
        sign = 1 - 2 * s
        for j in range(levels):
            size = book[2 * s + 1, j]
            gap = whole(sign * (mid2 - 2 * book[2 * s, j]) * per_tick) if size > 0 else 0
            out[at + j] = 0.5 * signed_log(gap) if size > 0 else CLIP
            out[at + levels + j] = 0.25 * signed_log(size)
        at += 2 * levels
    bids = asks = 0
    for j in range(levels):
        bids += book[1, j]
        asks += book[3, j]
    first_bid, first_ask = book[1, 0], book[3, 0]
    both = first_bid > 0 and first_ask > 0
    half_ticks = whole(2 * (book[2, 0] - book[0, 0]) * per_tick) if both else 0
    lean = share(first_bid, first_ask)
    out[at] = lean
    out[at + 1] = share(bids, asks)
    out[at + 2] = 0.5 * signed_log(np.int64(8.0 * lean * half_ticks))
    out[at + 3] = 0.5 * signed_log(half_ticks)
    at += 4
    steps = (seen - lane["last_row"], min(SHORT, seen), min(LONG, seen))
    for w in range(3):
        then = rows[base + seen - steps[w]]
        out[at] = 0.25 * signed_log(now["flow"] - then["flow"])
        out[at + 1] = share(now["bought"] - then["bought"], now["sold"] - then["sold"])
        out[at + 2] = 0.5 * signed_log(whole((mid2 - then["mid2"]) * per_tick) if then["mid2"] > 0 else 0)
        out[at + 3] = 0.25 * signed_log(now["hidden"] - then["hidden"])
        at += 4
    short, long = rows[base + seen - steps[1]], rows[base + seen - steps[2]]
    out[at] = 0.25 * signed_log(lane["bought"] + lane["sold"])
    out[at + 1] = 0.5 * signed_log(np.int64(math.sqrt(now["moves2"] - short["moves2"]) * per_tick))
    out[at + 2] = 0.5 * signed_log(np.int64(math.sqrt(now["moves2"] - long["moves2"]) * per_tick))
    elapsed_ns = max(now["time_ns"] - short["time_ns"], 1)
    out[at + 3] = 0.25 * signed_log(np.int64(min(1e9 * steps[1] / elapsed_ns, 1e9)))
    out[at + 4] = (lane["time_ns"] - session_start_ns) / session_ns
    out[at + 5] = lane["status"] / 3.0
    return at + 6


@hot
def observe_own(out, at, lane, slots, book, tick, clip_lots, max_position, elapsed, price_to_cash):
    """Writes the features of own account and orders from column `at`; returns the next column."""
    equity2 = 2 * lane["cash"] + lane["position"] * lane["mid2"] * price_to_cash
    out[at] = lane["position"] / max_position
    out[at + 1] = 0.5 * signed_log(np.int64(equity2 / (price_to_cash * tick * clip_lots)))
    out[at + 2] = elapsed
    bid = ask = -1
    flying = 0
    for k in range(lane["orders"]):
        slot = slots[k]
        flying += slot["state"] == 1
        if slot["kind"] != 1:
            continue
        if slot["side"] > 0:
            if bid < 0 or slot["price"] > slots[bid]["price"]:
                bid = k
        elif ask < 0 or slot["price"] < slots[ask]["price"]:
            ask = k
    out[at + 3] = flying / 8.0
    at += 4
    per_tick, per_clip = 1.0 / tick, 1.0 / clip_lots
    for s in range(2):
        k = bid if s == 0 else ask
        if k < 0:
            for j in range(5):
                out[at + j] = 0.0
        else:
            slot = slots[k]
            behind = slot["side"] * (book[2 * s, 0] - slot["price"]) if book[2 * s + 1, 0] > 0 else 0
            out[at] = 1.0 if slot["state"] == 2 else 0.5
            out[at + 1] = 0.5 * signed_log(whole(2 * behind * per_tick))
            out[at + 2] = slot["quantity"] * per_clip
            out[at + 3] = 0.25 * signed_log(slot["ahead"])
            out[at + 4] = 0.5 * signed_log(lane["decision"] - slot["decision"])
        at += 5
    return at
