"""Kernels of our feature sets: an order book under own orders, as one flat float32 vector.

Every window looks back from what is shown now, so nothing later can enter. Kernels write each quantity in
its unit; `finish` then gives it the transform, scale and bounds that `features` publishes. Heavy-tailed integers (lots, half
ticks) pass through a signed logarithm; nothing is normalised by statistics of a day.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from emp_gym.jit import fused, hot, njit
from emp_gym.market.public import IN_FLIGHT, LIMIT, LIVE
from emp_gym.types import F32, Feature

BOOK, FLOW, CLOCK, ACCOUNT, ORDERS = 1, 2, 4, 8, 16
"""Sets of columns, in the order in which they stand."""
EVERY = BOOK | FLOW | CLOCK | ACCOUNT | ORDERS
LOOKS = (200, 1000)  # messages of the short and the long window of FLOW: the first look-backs of the market
CLIP = 10.0
MICRO = np.float32(8.0)  # microprice - mid = lean * half_ticks / 4 ticks, times 32
NOTHING = np.float32(1e30)  # distance of an empty level: the upper bound, and no clipping
HALF_TICKS, LOTS = "half ticks", "lots"


def features(levels: int, sets: int = EVERY) -> tuple[Feature, ...]:
    """The columns of `sets` that `observe` writes, in order, for `levels` book levels."""

    def log(name: str, unit: str, scale: float) -> Feature:
        return Feature(name, unit, scale, "signed_log", -CLIP, CLIP)

    columns: list[Feature] = []
    if sets & BOOK:
        for side in ("bid", "ask"):
            columns += [log(f"{side}_distance_{level + 1}", HALF_TICKS, 2.0) for level in range(levels)]
            columns += [log(f"{side}_size_{level + 1}", LOTS, 4.0) for level in range(levels)]
        columns += [
            Feature("imbalance_1", "share"),
            Feature(f"imbalance_{levels}" if levels > 1 else "imbalance_all", "share"),
            log("microprice", "1/32 ticks from mid", 2.0),
            log("spread", HALF_TICKS, 2.0),
        ]
    if sets & FLOW:
        for window in ("step", "short", "long"):
            columns += [
                log(f"ofi_{window}", LOTS, 4.0),
                Feature(f"trade_imbalance_{window}", "share"),
                log(f"return_{window}", HALF_TICKS, 2.0),
                log(f"hidden_{window}", f"{LOTS} above the mid - below", 4.0),
            ]
        columns += [
            log("volume_step", LOTS, 4.0),
            log("volatility_short", f"{HALF_TICKS}, root of summed squares", 2.0),
            log("volatility_long", f"{HALF_TICKS}, root of summed squares", 2.0),
            log("rate", "messages per second", 4.0),
        ]
    if sets & CLOCK:
        columns += [Feature("time_of_day", "share of the session"), Feature("status", "Status / 3", 3.0)]
    if sets & ACCOUNT:
        columns += [
            Feature("inventory", "share of max_position"),
            log("equity", "half ticks per clip since the start", 2.0),
            Feature("elapsed", "share of the episode"),
            Feature("in_flight", "orders / 8", 8.0),
        ]
    if sets & ORDERS:
        for side in ("bid", "ask"):
            columns += [
                Feature(f"{side}_live", "1 resting, 0.5 in flight, 0 none"),
                log(f"{side}_offset", f"{HALF_TICKS} behind the touch", 2.0),
                Feature(f"{side}_quantity", "clips"),
                log(f"{side}_ahead", f"{LOTS} ahead in the queue, -1 unknown", 4.0),
                log(f"{side}_age", "decisions", 2.0),
            ]
    return tuple(columns)


VECTOR = 16  # float32 numbers in the widest vector register


def transforms(columns: Sequence[Feature]) -> F32:
    """What `finish` needs of each column [2, D and up to a multiple of VECTOR]: 1 if it passes through the logarithm, and
    1 / scale. Columns that do not exist stay 0; with them no column is left over for slow single steps."""
    table = np.zeros((2, -(-len(columns) // VECTOR) * VECTOR), np.float32)
    table[0, : len(columns)] = [column.transform == "signed_log" for column in columns]
    table[1, : len(columns)] = [1 / column.scale for column in columns]
    return table


ZERO, HALF, ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
ROOT_HALF = np.float32(0.70710678)
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
# ln(1 + x) - x + x^2 / 2 over x^3 for sqrt(1/2) <= 1 + x < sqrt(2): the polynomial of the Cephes library's logf (Moshier)
P0, P1, P2 = np.float32(7.0376836292e-2), np.float32(-1.1514610310e-1), np.float32(1.1676998740e-1)
P3, P4, P5 = np.float32(-1.2420140846e-1), np.float32(1.4249322787e-1), np.float32(-1.6668057665e-1)
P6, P7, P8 = np.float32(2.0000714765e-1), np.float32(-2.4999993993e-1), np.float32(3.3333331174e-1)
MANTISSA, HALF_BITS = np.int32(0x7FFFFF), np.int32(0x3F000000)


@fused
def log1p(x):
    """ln(1 + x) of a float32 x >= 0, without branches, so that a row of features takes a few vector instructions."""
    bits = np.float32(x + ONE).view(np.int32)
    exponent = np.float32((bits >> 23) - 126)
    m = np.int32((bits & MANTISSA) | HALF_BITS).view(np.float32)
    low = m < ROOT_HALF
    exponent = exponent - ONE if low else exponent
    m = m + m - ONE if low else m - ONE
    square = m * m
    fourth = square * square  # pairs first (Estrin): a shorter chain than Horner's
    high = (P4 + P3 * m) + (P2 + P1 * m) * square + P0 * fourth
    series = ((P8 + P7 * m) + (P6 + P5 * m) * square + high * fourth) * m * square
    return m + (series + exponent * LN2_LOW - HALF * square) + exponent * LN2_HIGH


@hot
def finish(raw, out, transform):
    """Transforms, scales and clips the quantities `raw` into `out`; returns how many were clipped.

    `raw` and `transform` are longer than `out`, see `transforms`.
    """
    low, high, changed = np.float32(-CLIP), np.float32(CLIP), np.int32(0)  # 32 bits each: as many fit a register
    for j in range(transform.shape[1]):
        x = raw[j]
        size = abs(x)
        log = log1p(size)
        log = -log if x < ZERO else log
        value = (log if transform[0, j] > ZERO else x) * transform[1, j]
        changed = np.int32(changed + np.int32(((value > high) | (value < low)) & (size < NOTHING)))
        raw[j] = min(max(value, low), high)
    for j in range(len(out)):
        out[j] = raw[j]
    return changed


@hot
def share(a, b):
    """(a - b) / (a + b), 0 when both are."""
    return np.float32(a - b) / np.float32(a + b) if a + b > 0 else ZERO


@hot
def observe_window(out, at, flow, bought, sold, mid2, mid2_then, hidden, per_tick):
    """Writes what has passed in a window from column `at`; returns the next column."""
    out[at] = flow
    out[at + 1] = share(bought, sold)
    out[at + 2] = np.float32(mid2 - mid2_then) * per_tick if mid2_then > 0 else ZERO
    out[at + 3] = hidden
    return at + 4


@hot
def observe_book(out, at, seen, book, levels, per_tick):
    """Writes what rests in the book from column `at`; returns the next column."""
    mid2 = seen[0]["mid2"]
    for s in range(2):
        sign = 1 - 2 * s
        for j in range(levels):
            size = book[2 * s + 1, j]
            out[at + j] = np.float32(sign * (mid2 - 2 * book[2 * s, j])) * per_tick if size > 0 else NOTHING
            out[at + levels + j] = size
        at += 2 * levels
    bids = asks = 0
    for j in range(levels):
        bids += book[1, j]
        asks += book[3, j]
    first_bid, first_ask = book[1, 0], book[3, 0]
    both = first_bid > 0 and first_ask > 0
    half_ticks = np.float32(2 * (book[2, 0] - book[0, 0])) * per_tick if both else ZERO
    lean = share(first_bid, first_ask)
    out[at] = lean
    out[at + 1] = share(bids, asks)
    out[at + 2] = MICRO * lean * half_ticks
    out[at + 3] = half_ticks
    return at + 4


@hot
def observe_flow(out, at, quote, seen, per_tick):
    """Writes what has passed, in three windows, from column `at`; returns the next column."""
    now, short, long = seen[0], seen[1], seen[2]
    mid2 = now["mid2"]
    at = observe_window(
        out, at, quote["flow"], quote["bought"], quote["sold"], mid2, quote["mid2_before"], quote["hidden"], per_tick
    )
    for w in range(2):
        then = seen[1 + w]
        at = observe_window(
            out, at, now["flow"] - then["flow"], now["bought"] - then["bought"], now["sold"] - then["sold"],
            mid2, then["mid2"], now["hidden"] - then["hidden"], per_tick,
        )  # fmt: skip
    out[at] = quote["bought"] + quote["sold"]
    out[at + 1] = math.sqrt(np.float32(now["moves2"] - short["moves2"])) * per_tick
    out[at + 2] = math.sqrt(np.float32(now["moves2"] - long["moves2"])) * per_tick
    steps, elapsed_ns = now["messages"] - short["messages"], max(now["time_ns"] - short["time_ns"], 1)
    out[at + 3] = min(1e9 * steps / elapsed_ns, 1e9)
    return at + 4


@hot
def observe_own(out, at, sets, lane, quote, slots, book, clip_lots, max_position, elapsed, per_tick):
    """Writes own account and own orders, those that `sets` has, from column `at`; returns the next column."""
    bid = ask = -1
    flying = 0
    for k in range(lane["orders"]):
        slot = slots[k]
        flying += slot["state"] == IN_FLIGHT
        if slot["kind"] != LIMIT:
            continue
        if slot["side"] > 0:
            if bid < 0 or slot["price"] > slots[bid]["price"]:
                bid = k
        elif ask < 0 or slot["price"] < slots[ask]["price"]:
            ask = k
    if sets & ACCOUNT:
        price_to_cash = quote["price_to_cash"]
        equity2 = 2 * lane["cash"] + quote["position"] * quote["mid2"] * price_to_cash
        out[at] = quote["position"] / max_position
        out[at + 1] = equity2 / (price_to_cash * quote["tick"] * clip_lots)
        out[at + 2] = elapsed
        out[at + 3] = flying
        at += 4
    if not sets & ORDERS:
        return at
    per_clip = np.float32(1.0 / clip_lots)
    for s in range(2):
        k = bid if s == 0 else ask
        if k < 0:
            for j in range(5):
                out[at + j] = 0.0
        else:
            slot = slots[k]
            behind = slot["side"] * (book[2 * s, 0] - slot["price"]) if book[2 * s + 1, 0] > 0 else 0
            out[at] = 1.0 if slot["state"] == LIVE else 0.5
            out[at + 1] = np.float32(2 * behind) * per_tick
            out[at + 2] = np.float32(slot["quantity"]) * per_clip
            out[at + 3] = slot["ahead"]
            out[at + 4] = lane["decision"] - slot["decision"]
        at += 5
    return at


@hot
def observe(out, sets, lane, quote, seen, book, slots, rules, levels, clip_lots, max_position, elapsed):
    """Writes the columns of `sets` from column 0; returns the next column."""
    at, per_tick = 0, np.float32(1.0 / quote["tick"])
    if sets & BOOK:
        at = observe_book(out, at, seen, book, levels, per_tick)
    if sets & FLOW:
        at = observe_flow(out, at, quote, seen, per_tick)
    if sets & CLOCK:
        out[at] = (lane["time_ns"] - rules["session_start_ns"]) / rules["session_ns"]
        out[at + 1] = quote["status"]
        at += 2
    if sets & (ACCOUNT | ORDERS):
        at = observe_own(out, at, sets, lane, quote, slots, book, clip_lots, max_position, elapsed, per_tick)
    return at


@njit
def finish_others(lanes, raw, out, first, transform, clipped):
    """`finish` of other columns: rows of `raw` [n, D'] into those of `lanes` in `out` [N, D] from column `first`; adds to `clipped` [N]."""
    for j in range(len(lanes)):
        clipped[lanes[j]] += finish(raw[j], out[lanes[j], first:], transform)
