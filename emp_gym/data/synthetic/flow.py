"""Order flow around a latent value: what happens to the book of a synthetic day (docs/synthetic_days.md).

The value moves in 1/`SUB` tick, probabilities are in 1/65536, and every pass of `simulate` is one burst of messages
with one timestamp. Side index k: 0 bids, 1 asks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emp_gym.data.synthetic.book import (
    BEST,
    BUSY,
    CLOCK,
    CONDITION,
    COUNT,
    CREDIT,
    DEPTH,
    EDGE,
    GRID,
    HALTS,
    HEAD,
    HEADING,
    LIVE,
    LOTS,
    NEXT_ID,
    ONE,
    PAUSES,
    PHASE,
    RESUME,
    ROWS,
    SIGNAL,
    TICK,
    TRUE_CONDITION,
    TRUE_SIGNAL,
    TRUE_VALUE,
    VALUE,
    below,
    cut,
    enter,
    exponential,
    heavy_size,
    rand32,
    record,
    show_side,
)
from emp_gym.jit import njit
from emp_gym.types import I64

SUB = 16  # value steps in a tick
MARGIN = 512  # ticks at either end of the grid that the value never enters
BINS = 13  # half hours of the session

STEP, DRIFT, TARGET, INNER, NEAR, REACH = range(6)  # rows of `Params.by_condition`
PACE, ACTIVITY = range(2)  # rows of `Params.by_half_hour`

# Streams of random numbers. The value has its own, so nothing in the flow can know its next step.
R_VALUE, R_SIGNAL, R_FLOW, R_TIME = range(4)

TRADING, HALTED, QUOTING, REOPENED = range(4)  # phases
REDUCE, DELETE, EXECUTE, HIDDEN, CROSS, HALT = range(2, 8)  # LOBSTER's types; 1 is written by `enter`


class Params(NamedTuple):
    """What does not change during a day. Tables, because every array is many arguments to the compiler."""

    by_condition: I64  # [6, 3] calm, normal, stressed:
    # STEP    mean size of a value step, 1/SUB tick
    # DRIFT   planted drift of a step at full signal, 2**-24 of 1/SUB tick
    # TARGET  live orders a side that the book tends to
    # INNER   closest distance from the value at which new orders rest, ticks
    # NEAR    width of the band in which `front` of the new orders rest, ticks
    # REACH   distance from the value beyond which a best quote is improved at once, ticks
    by_half_hour: I64  # [2, BINS + 1]
    # PACE      value steps per written row, 1/65536
    # ACTIVITY  business time up to the start of the half hour, in parts
    halt_rows: I64  # [H] rows at which trading halts
    cross_row: int  # row of the opening cross
    front: int  # share of new orders near the touch, 1/65536
    spacing: int  # mean distance of the other ones beyond the band, ticks
    size: int  # smallest typical order, lots
    size_cap: int  # largest order in units of `size`
    rest: int  # share of sweeps whose remainder rests at the swept price, 1/65536
    tilt: int  # lean of the flow at full signal, 1/65536
    flip: int  # chance of a new heading per row, 2**-32
    smooth: int  # rows that the signal takes to follow its heading
    redraw: int  # chance of a new condition per row, 2**-32
    calm: int  # share of calm rows, 1/65536
    not_stressed: int  # share of calm and normal rows, 1/65536
    true_side: int  # 1: hidden executions carry the true side of the resting order, 0: always 1


# ---- the value and what it does to the book -------------------------------------------------------------------------


@njit
def move_value(p, s, r):
    """One step of the value: up by `up` or down by `down`, with the chances of a martingale plus the planted drift.

    A step stops at a best quote that it would cross: the value first touches a level and only then goes through.
    """
    value = s[VALUE]
    to_bid, to_ask = value - s[BEST] * SUB, s[BEST + 1] * SUB - value
    size = 1 + below(r, 2 * p.by_condition[STEP, s[CONDITION]] - 1)
    up = min(size, to_ask) if to_ask > 0 else size
    down = min(size, to_bid) if to_bid > 0 else size
    chance = (down << 20) + ((p.by_condition[DRIFT, s[CONDITION]] * s[SIGNAL]) >> 20)
    value += up if below(r, (up + down) << 20) < chance else -down
    if MARGIN * SUB <= value <= (GRID - MARGIN) * SUB:  # at the end of the grid it stands still
        s[VALUE] = value


@njit
def sweep(p, book, s, r, out, k):
    """Aggressive orders against side k in one burst: part of a level that the value touches, all that it went through.

    What went through is executed first, in order of the queue; the rest of it is deleted.
    """
    sign, swept = 1 - 2 * k, -1
    while s[LIVE + k] > 0:
        price = s[BEST + k]
        through = sign * (price * SUB - s[VALUE])
        if through < 0:
            break
        lots, u = book.level[price, DEPTH], below(r, 256)
        take = max(1, (lots * u * u * u) >> 24) if through == 0 else max(1, lots * u >> 8)
        if below(r, 8) < (1 if through == 0 else 3):
            take = lots
        while book.level[price, COUNT] > 0 and (take > 0 or through > 0):
            slot = book.level[price, HEAD]
            executed = take > 0
            part = min(take, book.order[slot, LOTS]) if executed else book.order[slot, LOTS]
            cut(book, s, out, k, slot, part, EXECUTE if executed else DELETE)
            take -= part if executed else 0
        if through == 0:
            break
        swept = price
    if swept >= 0 and below(r, ONE) < p.rest:
        enter(book, s, out, 1 - k, swept, heavy_size(r, p.size, p.size_cap), next_id(s, r))


@njit
def next_id(s, r):
    """The next order id: they grow, with gaps."""
    s[NEXT_ID] += 1 + below(r, 7)
    return s[NEXT_ID]


# ---- order flow around the value ------------------------------------------------------------------------------------


@njit
def place_order(p, book, s, r, out, k, urgent):
    """A new limit order of side k: in the band near the touch (`urgent`: in its better half), or further away."""
    near = p.by_condition[NEAR, s[CONDITION]]
    if urgent:
        distance = below(r, near // 2 + 1)
    elif below(r, ONE) < p.front:
        distance = below(r, near + 1)
    else:
        distance = near + 1 + exponential(r, p.spacing)
    distance += p.by_condition[INNER, s[CONDITION]]
    if k == 0:  # never through the other side's quote
        price = max(min(s[VALUE] // SUB - distance, s[BEST + 1] - 1), 1)
    else:
        price = min(max(-(-s[VALUE] // SUB) + distance, s[BEST] + 1), GRID - 2)
    enter(book, s, out, k, price, heavy_size(r, p.size, p.size_cap), next_id(s, r))


@njit
def withdraw_order(book, s, r, out, k, partly):
    """Cancels an order of side k, any with equal chance, or part of it; never the last one."""
    if s[LIVE + k] > 1:
        slot = np.int64(book.slots[k, below(r, s[LIVE + k])])
        lots = book.order[slot, LOTS]
        partly = partly and lots > 1
        cut(book, s, out, k, slot, 1 + below(r, lots - 1) if partly else lots, REDUCE if partly else DELETE)


@njit
def hidden_print(p, s, r, out, lean):
    """An execution of a hidden order strictly inside the spread, on quarter ticks; a buyer's in the upper half."""
    half = (s[BEST + 1] - s[BEST]) * TICK // 2
    aggressor = 1 if below(r, ONE) < ONE // 2 + 3 * lean else -1
    price = s[BEST] * TICK + half + aggressor * 25 * below(r, half // 25)
    record(s, out, HIDDEN, 0, heavy_size(r, p.size, p.size_cap), price, -aggressor if p.true_side else 1)


@njit
def flow_event(p, book, s, r, out):
    """One event of the background flow: new, cancel, partial cancel or hidden print; at most one row."""
    lean = (p.tilt * s[SIGNAL]) >> 16
    live, target = s[LIVE] + s[LIVE + 1], 2 * p.by_condition[TARGET, s[CONDITION]]
    balance = ONE // 4 * (s[LIVE + 1] - s[LIVE]) // live  # what keeps the two sides near the same depth
    reach = p.by_condition[REACH, s[CONDITION]] * SUB
    bid_far, ask_far = s[VALUE] - s[BEST] * SUB >= reach, s[BEST + 1] * SUB - s[VALUE] >= reach
    bids_gain = below(r, ONE) < ONE // 2 + lean + balance  # a bid comes or an ask goes
    dice = below(r, 1_000)
    if dice < 20:
        hidden_print(p, s, r, out, lean)
        return
    urgent = (bid_far or ask_far) and dice < 750
    grow = ONE // 2 + ONE // 2 * (target - live) // target
    if urgent or below(r, ONE) < min(max(grow, ONE // 10), ONE - ONE // 10):
        bid = bids_gain if bid_far == ask_far or not urgent else bid_far
        place_order(p, book, s, r, out, 0 if bid else 1, urgent)
    else:
        withdraw_order(book, s, r, out, 1 if bids_gain else 0, dice >= 940)


# ---- the day --------------------------------------------------------------------------------------------------------


@njit
def open_book(p, book, s, r, out):
    """Orders from before the open: in the book, in no message."""
    s[EDGE], s[EDGE + 1] = 2 * GRID, -2 * GRID  # nothing is in sight yet
    s[BEST], s[BEST + 1] = 0, GRID - 1
    # A literal argument would be compiled apart, here and below: `i < 0` is False and `k >= 0` True.
    for i in range(2 * p.by_condition[TARGET, s[CONDITION]]):
        place_order(p, book, s, r, out, i & 1, i < 0)
    for k in range(2):
        show_side(book, s, 0, k, out)


@njit
def special_event(p, s, out):
    """A cross or a row of a halt (halt, quotes resume, trading resumes, cross) if it is due; True if it was written."""
    row, last = s[ROWS], len(out.message) - 1
    kind, order_id, size, price, side = CROSS, -1, 50_000, -(-s[VALUE] // SUB) * TICK, 1
    if s[PHASE] == REOPENED:
        order_id, size = -3, 20_000
        s[PHASE] = TRADING
    elif row == last:
        order_id, size = -2, 100_000
    elif row != p.cross_row:
        kind, order_id, size, price, side = HALT, 0, 0, -1, -1
        if s[PHASE] == HALTED:
            price = 0
            s[PAUSES] += 1
            s[PHASE], s[RESUME] = QUOTING, row + 40
        elif s[PHASE] == QUOTING and row >= s[RESUME]:
            price = 1
            s[PHASE] = REOPENED
        elif s[PHASE] == TRADING and s[HALTS] < len(p.halt_rows) and row >= p.halt_rows[s[HALTS]]:
            s[HALTS] += 1
            s[PHASE] = HALTED
        else:
            return False
    record(s, out, kind, order_id, size, price, side)
    return True


@njit
def advance_truth(p, s, r, out, first):
    """Writes the truth behind the rows from `first` on, then moves signal and condition; value steps fall due."""
    rows, all_rows = s[ROWS] - first, len(out.message)
    for row in range(first, s[ROWS]):
        message = out.message[row]
        message[TRUE_VALUE], message[TRUE_SIGNAL], message[TRUE_CONDITION] = s[VALUE], s[SIGNAL], s[CONDITION]
        if rand32(r) < p.flip:
            s[HEADING] = -s[HEADING]
        if rand32(r) < p.redraw:
            dice = below(r, ONE)
            s[CONDITION] = 0 if dice < p.calm else 1 if dice < p.not_stressed else 2
    s[SIGNAL] += (s[HEADING] * ONE - s[SIGNAL]) * min(rows, p.smooth) // p.smooth
    parts, half_hour = p.by_half_hour[ACTIVITY], 0
    while half_hour < BINS - 1 and s[ROWS] * parts[BINS] >= parts[half_hour + 1] * all_rows:
        half_hour += 1
    s[CREDIT] = min(s[CREDIT] + rows * p.by_half_hour[PACE, half_hour], 32 * ONE)


@njit
def tick_clock(s, r, quiet):
    """Business time of the next burst: exponential gaps, short ones in clusters; `quiet` for a step of the value."""
    mean = 1 << 10
    if not quiet:
        s[BUSY] = 1 if below(r, 16) < (15 if s[BUSY] else 4) else 0
        mean = 1 << 11 if s[BUSY] else 1 << 18
    s[CLOCK] += 1 + exponential(r, mean)


@njit
def simulate(p, book, s, rng, out):
    """One day of `len(out.message)` rows into `out`; every pass of the loop is one burst with one timestamp."""
    last, r = len(out.message) - 1, rng[R_FLOW]
    open_book(p, book, s, r, out)
    while s[ROWS] <= last:
        first, room = s[ROWS], last - s[ROWS]
        # A burst writes at most two rows an order and one more: near the end the value stands still, so the rows fit.
        step = s[PHASE] == TRADING and s[CREDIT] >= ONE and room > 2 * max(s[LIVE], s[LIVE + 1]) + 8
        tick_clock(s, rng[R_TIME], step)
        more = not special_event(p, s, out)
        if more and step:
            s[CREDIT] -= ONE
            more = False
            move_value(p, s, rng[R_VALUE])
            to_bid, to_ask = s[VALUE] - s[BEST] * SUB, s[BEST + 1] * SUB - s[VALUE]
            if to_bid <= 0 or to_ask <= 0:
                sweep(p, book, s, r, out, 0 if to_bid <= 0 else 1)
        while more:
            flow_event(p, book, s, r, out)
            more = below(r, 16) == 0 and s[ROWS] < last
        for k in range(2):
            if s[LIVE + k] == 0:
                s[BEST + k] = 0 if k == 0 else GRID - 1
                place_order(p, book, s, r, out, k, k >= 0)
        if s[ROWS] > first:
            advance_truth(p, s, rng[R_SIGNAL], out, first)
