"""One pure batched function on orders: `check(view, orders, state, rules)`, and `allowed` and `observe` beside it.

Nothing here reads a clock (time is ``view.time_ns``), draws a number or uses a float. For each entry of each lane, in the
order of their slots:

===  ==================  =============================================================================================
bit  check               objects to
===  ==================  =============================================================================================
0    kill                anything while the kill latch is closed
1    malformed           kind, side, quantity, price, id or target that make no sense or are beyond 2^44
2    restricted          an instrument that is not there or must not be traded
3    halt                a status other than TRADING, a time outside the session
4    stale               no reference price (mid), none on the side that a market order takes, or an old one
5    tick-lot            price off the tick, quantity off the lot (cut to a multiple)
6    quantity            less than the smallest, more than the largest (cut)
7    notional            quantity x worst price (cut)
8    collar              a price too far from the mid; of a market order, lots beyond the near depth (cut)
9    window-collar       the same, for every mid of the window
10   fat-finger          more than a share of the daily volume or a multiple of the top of the book (cut)
11   duplicate-id        an id not above every id sent before in the episode
12   duplicate-content   the same order again within the window
13   self-trade          a price that crosses an own order
14   submit-rate         no token for another new order
15   message-rate        no token for another message; too many messages for the executions
16   repeated-execution  too many executions in the window: latched
17   open-orders         their number; their value (cut)
18   position            worst-case position (cut)
19   gross-net           worst-case gross and net exposure (cut)
20   sector              worst-case gross exposure of the sector (cut)
21   leverage-credit     exposure against equity, purchases against funds (cut)
22   daily-loss          latched
23   drawdown            latched
===  ==================  =============================================================================================

The worst case counts every open order whole, in flight or being cancelled or not, and what was entered before in the same
decision. An order that a REPLACE leaves also still counts, with or without latency: with it the cancel can lose the race.
Checks 16 to 23 other than 17 are not asked of the lots that only reduce a position, up to flat, nor are floors: the smallest
quantity, whole lots, a notional (or, with nothing open, a value of open orders) below one lot. Bits 12, 14 and 15 are asked of
what the others leave.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emp_gym.risk import check_kernels, watch_kernels
from emp_gym.risk.compiled_limits import MAX_SLOTS, Rules
from emp_gym.risk.exposure_kernels import EXPOSURE, WORK
from emp_gym.risk.reasons import Check, Mode
from emp_gym.risk.state import LANE_STATE, RiskState
from emp_gym.risk.watch_kernels import RuleArrays, StateArrays, ViewArrays
from emp_gym.threads import run
from emp_gym.types import I32, I64, Bool, ConfigError, Orders, Verdicts, View

OBJECTIONS = len(Check) + 8  # columns of `CheckBuffers.objections`


@dataclass
class CheckBuffers:
    """Buffers that the checks write on, reused from call to call: what `check` gives back is valid until its next call.

    C is the number of threads; each has a row of its own, which shares no cache line.
    """

    threads: int
    orders: Orders
    reason: np.ndarray  # u8 [N, K]
    objections: np.ndarray  # i8 [C, 24 and more] orders that each check has objected to so far
    no_instrument: I32  # [N, open orders] zeros, for views of one instrument
    work: np.ndarray  # WORK [C, 1 and more]
    exposure: np.ndarray  # EXPOSURE [C, M and more]
    tried: Orders  # [1, K] for `allowed`, which must leave the last verdicts as they are
    tried_reason: np.ndarray  # u8 [1, K]
    tried_lane: np.ndarray  # LANE_STATE [1]

    @classmethod
    def of(cls, view: View, slots: int, threads: int = 1) -> CheckBuffers:
        """For orders of `slots` entries a lane, judged by `threads` threads."""
        lanes, open_slots = view.order_id.shape
        if slots > MAX_SLOTS or open_slots > MAX_SLOTS:
            raise ConfigError(
                f"the risk layer takes at most {MAX_SLOTS} orders a lane, got {slots} and {open_slots} open"
            )
        return cls(
            threads, Orders.empty(lanes, slots), np.zeros((lanes, slots), np.uint64),
            np.zeros((threads, OBJECTIONS), np.int64), np.zeros((lanes, open_slots), np.int32),
            np.zeros((threads, 2), WORK), np.zeros((threads, view.position.shape[1] + 2), EXPOSURE),
            Orders.empty(1, slots), np.zeros((1, slots), np.uint64), np.zeros(1, LANE_STATE),
        )  # fmt: skip

    @property
    def slots(self) -> int:
        return self.reason.shape[1]


def check(
    view: View, orders: Orders, state: RiskState, rules: Rules, *, mode: Mode = Mode.PROJECT, desk: CheckBuffers | None = None
) -> tuple[Orders, Verdicts]:
    """(orders that may be sent, verdicts). `orders` stays as it was; `state` counts what was let through.

    A lane whose ``view.decision`` is 0 starts a new episode. Without a `desk` the results are fresh arrays. They are the same
    for any number of threads.
    """
    desk = desk or CheckBuffers.of(view, orders.kind.shape[1])
    sent = desk.orders
    arrays = (
        orders.kind, orders.records, sent.kind, sent.records, desk.reason, _seen(view, desk), _kept(state), _bound(rules),
        desk.objections, desk.work, desk.exposure, int(mode),
    )  # fmt: skip
    desk.work["objected"] = 0
    run(desk.threads, check_kernels.check_lanes, len(orders.kind), *arrays)
    touched = bool(np.count_nonzero(desk.work["objected"]))
    return sent, Verdicts(desk.reason, orders.quantity, sent.quantity, touched)


def observe(view: View, state: RiskState, rules: Rules, *, lanes: I64 | None = None, desk: CheckBuffers | None = None) -> None:
    """Brings `state` up to what `view` shows: equity, quotes, executions, latches. Doing it again changes nothing. `lanes` [n]:
    only of those."""
    desk = desk or CheckBuffers.of(view, 1)
    arrays = _seen(view, desk), _kept(state), _bound(rules)
    if lanes is not None:
        watch_kernels.watch_some(lanes, *arrays)
    else:
        run(desk.threads, watch_kernels.watch_lanes, len(view.time_ns), *arrays)


def allowed(view: View, candidates: Orders, state: RiskState, rules: Rules, *, desk: CheckBuffers | None = None) -> Bool:
    """[N, A] which of the candidates [N, A, K] would pass untouched; `state` must have observed `view` and stays as it is."""
    lanes, menu, slots = candidates.kind.shape
    desk = desk or CheckBuffers.of(view, slots)
    out = np.empty((lanes, menu), np.bool_)
    row = desk.tried
    check_kernels.allow(
        candidates.kind, candidates.records, row.kind[0, :slots], row.records[0, :slots], desk.tried_reason[0, :slots], out,
        _seen(view, desk), _kept(state), _bound(rules), desk.tried_lane, desk.work, desk.exposure,
    )  # fmt: skip
    return out


def _seen(view: View, desk: CheckBuffers) -> ViewArrays:
    instrument = view.order_instrument
    if instrument is None:
        if view.position.shape[1] > 1:
            raise ConfigError(
                "a view of several instruments must say which one each open order is of: order_instrument"
            )
        instrument = desk.no_instrument
    tick = view.tick if view.least_tick is None else view.least_tick  # whether it is that of the order's price, the market knows
    return ViewArrays(
        view.time_ns, view.decision, view.status, view.bid_price, view.bid_size, view.ask_price, view.ask_size,
        view.cash, view.position, view.mid2, tick, view.order_id, view.order_side, view.order_price,
        view.order_quantity, instrument,
    )  # fmt: skip


def _kept(state: RiskState) -> StateArrays:
    return StateArrays(state.lane, state.instrument, state.ring)


def _bound(rules: Rules) -> RuleArrays:
    return RuleArrays(rules.portfolio, rules.instruments, rules.sectors)
