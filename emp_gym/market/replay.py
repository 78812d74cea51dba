"""A recorded book replayed under own orders: the `Market` that environments of recorded and synthetic days use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from emp_gym.data.pages import zeros_in_large_pages
from emp_gym.data.tape import LARGEST_IN_MEMORY, NO_ROW, TapeSet
from emp_gym.jit import hot, inner, prefetch
from emp_gym.market import account
from emp_gym.market.account import FILL
from emp_gym.market.day_rules import market_days
from emp_gym.market.hidden import with_hidden_prints
from emp_gym.market.index import row_at, row_before
from emp_gym.market.liquidity import take
from emp_gym.market.overlay import arrive_at_once, drop, find_order, sweep, walk
from emp_gym.market.public import (
    CANCEL,
    FREE,
    IN_FLIGHT,
    LANE,
    LIMIT,
    MARKET,
    NONE,
    OPEN,
    QUOTE,
    REPLACE,
    RULES,
    SEEN,
    TRADING,
    Public,
    tick_at,
    view_of,
)
from emp_gym.market.records import (
    ACCEPTED,
    CURSOR,
    EXACT,
    MALFORMED,
    NO_SLOT,
    OPTIMISTIC,
    PARAMS,
    REFUSED_HALT,
    SLOT,
    TAKEN,
    TOUCHED,
    UNKNOWN_ORDER,
    Tape,
)
from emp_gym.threads import MOST, chunk_size, default_threads, fan_out, next_chunk, region, run
from emp_gym.types import EMPTY_ASK, EMPTY_BID, I64, Bool, ConfigError, Fills, Orders

FILL_RULES = {"exact": EXACT, "touch": TOUCHED, "optimistic": OPTIMISTIC}
HIDDEN_PRINTS = {"ignore": 0, "fill": 1}
SLOTS = 8  # own orders a lane, in flight included
REQUESTS = SLOTS + 2  # orders a lane may send in one decision
AHEAD = 32  # lanes that are walked together, and how many lanes ahead memory is asked for
MANY = 256  # lanes from which on it pays to use all cores, and to hold days and lanes in large memory pages
ENDLESS = 1 << 62
CLOSING_ID = -1  # id of the fills that close a position at the end of an episode


@dataclass(frozen=True)
class ReplayConfig:
    """The assumptions under which own orders meet a recorded book."""

    fills: str = (
        "exact"  # "exact" queue place; "touch": when the price trades; "optimistic": whole, when the price is touched
    )
    hidden_prints: str = "ignore"  # "fill": those inside the spread fill orders at their price or better, as a trade-through does
    order_latency_ns: int = 0  # from decision to the market
    feed_latency_ns: int = 0  # from the market to the view (own executions are reported at once)
    half_life_ns: int = 0  # of depth that we consumed: 0 = back at once, -1 = never back
    every_rows: int = 100  # messages a decision (0: by time); never splits messages with one timestamp
    every_ns: int = 0
    maker_fee_bps: float | None = None  # None: that of each day's instrument
    taker_fee_bps: float | None = None
    maker_fee_per_lot: float | None = None  # currency, likewise
    taker_fee_per_lot: float | None = None

    def __post_init__(self) -> None:
        if self.fills not in FILL_RULES:
            raise ConfigError(f"fills must be one of {sorted(FILL_RULES)}, got {self.fills!r}")
        if self.hidden_prints not in HIDDEN_PRINTS:
            raise ConfigError(f"hidden_prints must be one of {sorted(HIDDEN_PRINTS)}, got {self.hidden_prints!r}")
        if min(self.order_latency_ns, self.feed_latency_ns) < 0:
            raise ConfigError(f"latencies must be >= 0 ns, got {self.order_latency_ns} and {self.feed_latency_ns}")
        if (self.every_rows > 0) == (self.every_ns > 0) or min(self.every_rows, self.every_ns) < 0:
            raise ConfigError(
                f"a decision is every n messages or every n ns: exactly one must be > 0, got {self.every_rows} and {self.every_ns}"
            )
        if self.half_life_ns < -1:
            raise ConfigError(f"half_life_ns must be >= 0, or -1 for never, got {self.half_life_ns}")


class ReplayMarket:
    """N lanes on the days of a `TapeSet`, each with its own orders and account.

    `reset` puts lanes at a row, `advance` enters orders and walks every lane to its next decision, `close` trades lanes flat.
    All arrays are this object's own; `public` and `view` show them without copying, and `view` is valid until the next call.
    `looks`: rows that `public.seen` looks back.
    """

    def __init__(
        self, tape: TapeSet, lanes: int, config: ReplayConfig, threads: int | None = None, looks: Sequence[int] = ()
    ) -> None:
        self.lanes, self.config, self.looks = lanes, config, np.array(looks, np.int64)
        self.tape = tape = self._crossed(tape)
        self.threads = default_threads(lanes) if threads is None else int(threads)
        if not 1 <= self.threads <= MOST:
            raise ConfigError(f"threads must be 1 to {MOST}, got {threads}; None takes what suits the machine")
        self.params = _params(config)
        self.days = market_days(
            tape.days, tape.info, (config.maker_fee_bps, config.taker_fee_bps),
            (config.maker_fee_per_lot, config.taker_fee_per_lot),
        )  # fmt: skip
        zeros = self._zeros
        self.state = zeros(lanes, CURSOR)
        self.quote = zeros((lanes, 1), QUOTE)
        self.seen = zeros((lanes, 1, 1 + len(looks)), SEEN)
        self.state["midnight_utc_ns"] = self.days[0]["midnight_utc_ns"]  # gates look before the first episode begins
        self.quote["price_to_cash"] = self.days[0]["price_to_cash"]
        self.slots = zeros((lanes, SLOTS), SLOT)
        self.notes_of_a_row = 2 * (tape.levels + 1)  # both sides' levels, and what is beyond them
        self.taken = zeros((lanes, 2 * self.notes_of_a_row), TAKEN)  # twice: a state from a file may bring a row's notes along
        self.fills = zeros((lanes, SLOTS + (SLOTS + 1) * (tape.levels + 1)), FILL)
        self.book = zeros((lanes, 1, 4, tape.levels), np.int64)
        self.outcome = np.zeros((lanes, REQUESTS), np.int8)
        self.active = np.ones(lanes, np.bool_)  # lanes that `advance` moves
        self.progress = np.zeros(lanes, np.int64)  # decisions taken in the episode, ENDLESS once the tape is exhausted
        self._show_all()

    def _crossed(self, tape: TapeSet) -> TapeSet:
        return with_hidden_prints(tape) if self.config.hidden_prints == "fill" else tape

    @property
    def _tape_arrays(self) -> tuple[np.ndarray, ...]:
        t = self.tape
        return (
            self.days, t.rows, t.messages, t.book, t.links, t.touches, t.first_touch, t.far_touch,
            t.cross, t.cross_block,
        )  # fmt: skip

    def _show_all(self) -> None:
        """The public side of the arrays."""
        self.public = Public(
            self.state.view(LANE), self.quote, self.seen, self.book, self.slots.view(OPEN), self.days.view(RULES)
        )
        self.view = view_of(self.public)

    @property
    def _zeros(self) -> Any:
        return zeros_in_large_pages if self.lanes >= MANY else np.zeros

    def make_room(self, notes: int) -> None:
        """Room for at least `notes` notes of consumed depth in every lane."""
        there = self.taken.shape[1]
        if notes > there:
            larger = self._zeros((self.lanes, max(notes, 2 * there)), TAKEN)
            larger[:, :there] = self.taken
            self.taken = larger

    def _make_room_for(self, takers: int) -> None:
        """So that none of so many orders of a lane makes it forget what it took. Without impact one row's notes are enough."""
        if self.config.half_life_ns != 0:
            self.make_room(int(self.state["consumed"].max(initial=0)) + takers * (self.tape.levels + 1))

    def reset(self, lanes: I64, day: I64, row: I64, end_row: I64) -> None:
        """Puts `lanes` [n] at `row` of `day`, flat and without orders; no lane will pass the last row of `end_row`'s time."""
        self.progress[lanes] = 0
        _reset(
            lanes, day, row, end_row, self.state, self.quote, self.seen, self.slots, self.book, self.params, self.looks,
            self.days, self.tape.rows, self.tape.book,
        )  # fmt: skip

    def advance(self, orders: Orders) -> None:
        """Enters `orders` and walks every active lane to its next decision. `outcome` says what became of each order."""
        lanes, requests = orders.records.shape
        if lanes != self.lanes or requests > REQUESTS:
            raise ConfigError(
                f"orders must be [{self.lanes} lanes, at most {REQUESTS} requests], got [{lanes}, {requests}]"
            )
        self._make_room_for(SLOTS)
        arrays = self._tape_arrays
        own = (
            self.state, self.quote, self.seen, self.slots, self.taken, self.fills, self.book, self.outcome, self.active,
            self.progress, self.params, self.looks,
        )  # fmt: skip
        run(self.threads, _advance_lanes, self.lanes, orders.kind, orders.records, *own, *arrays)

    def close(self, lanes: I64, target: I64) -> Bool:
        """Cancels everything of `lanes` [n] and trades their positions to `target` [n] lots at once, at the stated price
        beyond visible depth. Returns [n]: whose position was traded while the market did not trade."""
        t, halted = self.tape, np.zeros(len(lanes), np.bool_)
        self._make_room_for(1)
        _close(
            lanes, target, halted, self.state, self.quote, self.slots, self.taken, self.fills, self.params, self.days, t.rows, t.book,
        )  # fmt: skip
        return halted

    def last_fills(self) -> Fills:
        """Own executions of the last step, by lane and then by time."""
        count = int(self.state["fills"].sum())
        lane, log = np.empty(count, np.int32), np.empty(count, FILL)
        account.gather_fills(self.state, self.fills, self.days, self.tape.rows, lane, log)
        return Fills(
            lane=lane, row=log["row"].copy(), time_ns=log["time_ns"].copy(), id=log["id"].copy(), side=log["side"].copy(),
            price=log["price"].copy(), quantity=log["quantity"].copy(), fee=log["fee"].copy(),
            maker=log["maker"].astype(bool), beyond_depth=log["beyond"].astype(bool),
            mid2_lots=log["mid2_lots"].copy(), instrument=np.zeros(count, np.int32),
        )  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        kept = self.__dict__ | {"view": None, "public": None}
        return kept if self.tape.path is None else kept | {"tape": self.tape.path, "info": self.tape.info}

    def __setstate__(self, state: dict[str, Any]) -> None:
        tape = state["tape"]
        self.config = state["config"]
        if not isinstance(tape, TapeSet):
            tape = replace(TapeSet.open(tape), info=state.pop("info"))
            tape = self._crossed(tape.in_memory(LARGEST_IN_MEMORY) if state["lanes"] >= MANY else tape)
        self.__dict__.update(state | {"tape": tape})
        self._show_all()

    def __deepcopy__(self, memo: dict[int, Any]) -> ReplayMarket:
        twin = object.__new__(type(self))
        for name, value in self.__dict__.items():
            twin.__dict__[name] = value.copy() if isinstance(value, np.ndarray) else value
        twin._show_all()
        return twin


def _params(config: ReplayConfig) -> np.ndarray:
    params = np.zeros(1, PARAMS)
    params["order_latency_ns"], params["feed_latency_ns"] = config.order_latency_ns, config.feed_latency_ns
    params["half_life_ns"], params["fills"], params["births"] = config.half_life_ns, FILL_RULES[config.fills], 1
    params["hidden_prints"] = HIDDEN_PRINTS[config.hidden_prints]
    params["every_rows"], params["every_ns"] = config.every_rows, config.every_ns
    return params


# --------------------------------------------------------------------------------------------------------------- kernels


@hot
def _show(lane, quote, seen, shown, day, rows, book, looks, params):
    """Shows the seen row: its book, the sums up to it and to each look-back, and what has passed since the decision before."""
    lane["last_row"] = lane["seen_row"]
    at_row = lane["row"]
    if params["feed_latency_ns"] > 0:
        at_row = max(row_before(rows, day, at_row, lane["time_ns"] - params["feed_latency_ns"]), lane["last_row"])
    lane["seen_row"] = at_row
    at, base = day["row0"] + at_row, day["base"]
    for j in range(book.shape[2]):
        bid, ask = book[at, 0, j], book[at, 1, j]
        shown[0, j] = base + bid["price"] if bid["size"] > 0 else EMPTY_BID
        shown[1, j] = bid["size"]
        shown[2, j] = base + ask["price"] if ask["size"] > 0 else EMPTY_ASK
        shown[3, j] = ask["size"]
    row, now = rows[at], seen[0]
    quote["bought"], quote["sold"] = row["bought"] - now["bought"], row["sold"] - now["sold"]
    quote["flow"], quote["hidden"] = row["flow"] - now["flow"], row["hidden"] - now["hidden"]
    quote["mid2_before"], quote["mid2"], quote["status"] = now["mid2"], row["mid2"], row["status"]
    quote["position"] = lane["position"]
    _note_row(now, row, at_row)
    for w in range(len(looks)):
        back = min(looks[w], at_row)
        _note_row(seen[1 + w], rows[at - back], at_row - back)
    if day["steps"] > 0:
        quote["tick"] = tick_at(day, quote["mid2"] // 2)


@hot
def _note_row(seen, row, number):
    """Writes the sums up to a row, which is the day's `number`-th."""
    time_ns, mid2, bought, sold, flow, hidden, moves2 = (
        row["time_ns"], row["mid2"], row["bought"], row["sold"], row["flow"], row["hidden"], row["moves2"],
    )  # fmt: skip
    seen["time_ns"], seen["mid2"], seen["bought"], seen["sold"] = time_ns, mid2, bought, sold
    seen["flow"], seen["hidden"], seen["moves2"], seen["messages"] = flow, hidden, moves2, number


@hot
def _reset(lanes, day_of, row_of, end_row_of, state, quotes, seen, slots, shown, params, looks, days, rows, book):
    for j in range(len(lanes)):
        i = lanes[j]
        lane, quote, day = state[i], quotes[i, 0], days[day_of[j]]
        for k in range(slots.shape[1]):
            slot = slots[i, k]
            slot["state"], slot["live"], slot["leaving"], slot["id"] = FREE, False, False, 0
            slot["quantity"], slot["price"], slot["side"], slot["kind"] = 0, 0, 0, 0
            slot["ahead"], slot["filled"], slot["target"], slot["decision"] = 0, 0, 0, 0
        row = rows[day["row0"] + row_of[j]]["group_end"]
        lane["day"], lane["row"], lane["start_row"], lane["end_row"] = day_of[j], row, row, end_row_of[j]
        lane["seen_row"] = lane["last_row"] = row
        lane["time_ns"] = rows[day["row0"] + row]["time_ns"]
        lane["decision"], lane["next_row"], lane["orders"], lane["consumed"], lane["fills"] = 0, NO_ROW, 0, 0, 0
        lane["exhausted"], lane["midnight_utc_ns"] = 0, day["midnight_utc_ns"]
        quote["rules"], quote["price_to_cash"] = day_of[j], day["price_to_cash"]
        quote["tick"], quote["least_tick"] = day["first_tick"], day["least_tick"]
        lane["cash"] = lane["fees"] = lane["position"] = 0
        lane["sent"] = lane["hit"] = lane["filled"] = lane["maker_filled"] = lane["captured2"] = 0
        lane["refused"] = lane["beyond"] = lane["unknown_place"] = lane["max_position"] = lane["position_sum"] = 0
        if params[0]["feed_latency_ns"] > 0:
            early = row_before(rows, day, row, lane["time_ns"] - params[0]["feed_latency_ns"])
            lane["seen_row"] = lane["last_row"] = early
        _note_row(seen[i, 0, 0], rows[day["row0"] + lane["seen_row"]], lane["seen_row"])
        _show(lane, quote, seen[i, 0], shown[i, 0], day, rows, book, looks, params[0])


@hot
def _enter(lane, quote, day, slots, kinds, requests, outcome, rows, params):
    """Takes the requests of one decision into slots, in flight until they arrive."""
    arrive_ns = lane["time_ns"] + params["order_latency_ns"]
    arrive_row = lane["row"]
    if params["order_latency_ns"] > 0:
        arrive_row = row_at(rows, day, lane["row"], arrive_ns)
    entered = False
    for k in range(requests.shape[0]):
        request = requests[k]
        kind = kinds[k]
        outcome[k] = 0
        if kind == NONE:
            continue
        if kind == CANCEL:
            at = find_order(lane, slots, request["id"])
            if at < 0:
                outcome[k] = UNKNOWN_ORDER
                continue
            if arrive_row < slots[at]["cancel_row"] and not _replaced(lane, slots, request["id"], arrive_ns):
                slots[at]["cancel_row"], slots[at]["cancel_ns"] = arrive_row, arrive_ns
                slots[at]["leaving"] = True
            outcome[k] = ACCEPTED
            entered = True
            continue
        outcome[k] = _refusal(lane, quote, day, slots, kind, request)
        if outcome[k] != ACCEPTED:
            lane["refused"] += 1
            continue
        slot = slots[lane["orders"]]
        lane["orders"] += 1
        slot["id"], slot["price"], slot["quantity"] = request["id"], request["price"], request["quantity"]
        slot["side"], slot["kind"] = request["side"], MARKET if kind == MARKET else LIMIT
        slot["target"] = request["target"] if kind == REPLACE else 0
        slot["filled"], slot["ahead"], slot["behind"], slot["counted"] = 0, 0, 0, 0
        slot["arrive_ns"], slot["arrive_row"] = arrive_ns, arrive_row
        slot["cancel_row"], slot["leaving"], slot["instrument"] = NO_ROW, False, 0
        slot["state"], slot["live"], slot["decision"] = IN_FLIGHT, False, lane["decision"]
        lane["sent"] += 1
        entered = True
    if entered:
        lane["next_row"] = min(lane["next_row"], arrive_row)


@hot
def _replaced(lane, slots, order, arrive_ns):
    """Whether a replacement that was sent before arrives at the same time: then a cancel finds nothing left to cancel."""
    for k in range(lane["orders"]):
        if slots[k]["state"] == IN_FLIGHT and slots[k]["target"] == order and slots[k]["arrive_ns"] == arrive_ns:
            return True
    return False


@hot
def _refusal(lane, quote, day, slots, kind, request):
    """The outcome of a new order at the door."""
    quantity, side = request["quantity"], request["side"]
    if kind < LIMIT or kind > REPLACE or quantity <= 0 or quantity % day["lot"] != 0 or (side != 1 and side != -1):
        return MALFORMED
    if request["instrument"] != 0 or request["id"] <= 0 or find_order(lane, slots, request["id"]) >= 0:
        return MALFORMED
    if kind != MARKET and (request["price"] <= 0 or request["price"] % tick_at(day, request["price"]) != 0):
        return MALFORMED
    if kind == REPLACE and find_order(lane, slots, request["target"]) < 0:
        return UNKNOWN_ORDER
    if quote["status"] != TRADING:
        return REFUSED_HALT
    if lane["orders"] >= slots.shape[0]:
        return NO_SLOT
    return ACCEPTED


@hot
def _ask_for_start(lane, kinds, requests, day, tape, params):
    """Asks for the cache lines that the lane reads first: its next decision's row, and its place for what is sent now."""
    now, then = day["row0"] + lane["row"], day["row0"] + min(lane["row"] + params["every_rows"], lane["end_row"])
    prefetch(tape.rows, then, 0)
    prefetch(tape.rows, now, 0)
    for k in range(len(kinds)):
        if kinds[k] == NONE or kinds[k] == CANCEL:
            continue
        side, half = requests[k]["side"], 8 * tape.book.shape[2]  # bytes of one side of the book
        if kinds[k] == MARKET:
            prefetch(tape.book, now, half if side > 0 else 0)
        else:
            prefetch(tape.book, now, 0)
            prefetch(tape.book, now, 64)
            prefetch(tape.links, now, 0 if side > 0 else half)


@hot
def _ask_for_walk(lane, slots, day, tape, looks, target):
    """Asks for the cache lines that a walk to row `target`, and what is shown there, read first."""
    base = day["row0"]
    prefetch(tape.rows, base + target, 0)
    for w in range(len(looks)):
        prefetch(tape.rows, base + target - min(looks[w], target), 0)
    prefetch(tape.book, base + target, 0)
    prefetch(tape.book, base + target, 64)
    for k in range(lane["orders"]):
        slot = slots[k]
        if slot["touch_row"] <= target:
            for line in range(4):
                prefetch(tape.touches, slot["touch"], 64 * line)
        if slot["cross_row"] <= target:
            prefetch(tape.messages, base + slot["cross_row"], 0)
            prefetch(tape.messages, base + slot["cross_row"], tape.messages.itemsize - 1)
            prefetch(tape.cross[0 if slot["side"] > 0 else 1], base + slot["cross_row"], 0)


@hot
def _set_target(lane, rows, day, params):
    """Notes the lane's next decision: its row and time, and whether the tape ends there. Rows with one time stay together."""
    base, end = day["row0"], lane["end_row"]
    if params["every_rows"] > 0:
        target = np.int64(rows[base + min(lane["row"] + params["every_rows"], end)]["group_end"])
        exhausted = target >= end
    else:
        target = np.int64(row_at(rows, day, lane["row"], lane["time_ns"] + params["every_ns"]))
        exhausted = target >= end
        target = min(target, np.int64(rows[base + end]["group_end"]))
    lane["target"], lane["exhausted"] = target, exhausted


@hot
def _target_ns(lane, day, rows, params):
    """Time of the decision that the lane walks to."""
    if params["every_rows"] > 0:
        return rows[day["row0"] + lane["target"]]["time_ns"]
    return lane["time_ns"] + params["every_ns"]


@hot
def _decide(lane, quote, seen, shown, day, rows, book, looks, params):
    """Stands the lane at its next decision."""
    lane["time_ns"] = _target_ns(lane, day, rows, params)
    lane["row"] = lane["target"]
    lane["decision"] += 1
    lane["position_sum"] += abs(lane["position"])
    _show(lane, quote, seen, shown, day, rows, book, looks, params)


@inner
def _advance(
    low, high, kinds, requests, state, quotes, seen, slots, taken, fills, shown, outcome, active, progress, params, looks,
    days, rows, messages, book, links, touches, first_touch, far_touch, cross, cross_block,
):  # fmt: skip
    """A step of lanes [low, high).

    A lane's next rows lie anywhere on a tape that no cache holds, and waiting for one after the other would be most of a
    step. So lanes go in groups: what is sent enters in all of a group before time passes in any, and each asks for what it
    will read while others work.
    """
    tape = Tape(rows, messages, book, links, touches, first_touch, far_touch, cross, cross_block)
    setup = params[0]
    for first in range(low - AHEAD, high, AHEAD):
        for stage in range(2):
            for i in range(first, min(first + AHEAD, high)):
                if stage == 0 and i + AHEAD < high:
                    j = i + AHEAD
                    _ask_for_start(state[j], kinds[j], requests[j], days[state[j]["day"]], tape, setup)
                if i < low:
                    continue
                lane = state[i]
                if stage == 0:
                    lane["fills"] = 0
                if not active[i]:
                    continue
                day = days[lane["day"]]
                upto = lane["row"] if stage == 0 else lane["target"]
                until_ns = lane["time_ns"] if stage == 0 else _target_ns(lane, day, rows, setup)
                if stage == 0:
                    _enter(lane, quotes[i, 0], day, slots[i], kinds[i], requests[i], outcome[i], rows, setup)
                if stage == 0 and setup["order_latency_ns"] == 0:
                    if lane["next_row"] <= upto and lane["orders"] > 0:
                        arrive_at_once(lane, day, slots[i], taken[i], fills[i], tape, setup)
                elif lane["next_row"] <= upto and lane["orders"] > 0:
                    walk(lane, day, slots[i], taken[i], fills[i], tape, setup, upto, until_ns)
                if stage == 0:
                    _set_target(lane, rows, day, setup)
                    _ask_for_walk(lane, slots[i], day, tape, looks, lane["target"])
                else:
                    _decide(lane, quotes[i, 0], seen[i, 0], shown[i, 0], day, rows, book, looks, setup)
                    progress[i] = ENDLESS if lane["exhausted"] else lane["decision"]


@region
def _advance_lanes(call, words, lanes, *arrays):
    """`_advance` for all lanes, see `threads.run`."""
    fan_out(call, words)
    step = chunk_size(call, words, lanes)
    first = next_chunk(call, words, -step, step)
    while first < lanes:
        _advance(first, min(first + step, lanes), *arrays)
        first = next_chunk(call, words, first, step)


@hot
def _close(lanes, target, halted, state, quotes, slots, taken, fills, params, days, rows, book):
    for j in range(len(lanes)):
        i = lanes[j]
        lane, day = state[i], days[state[i]["day"]]
        for k in range(lane["orders"]):
            drop(slots[i, k])
        sweep(lane, slots[i])
        wanted = target[j] - lane["position"]
        if wanted != 0:
            side = 1 if wanted > 0 else -1
            halted[j] = rows[day["row0"] + lane["row"]]["status"] != TRADING
            take(
                lane, day, rows, book, taken[i], fills[i], params[0],
                CLOSING_ID, side, side * (1 << 60), abs(wanted), lane["row"], lane["time_ns"], True,
            )  # fmt: skip
        quotes[i, 0]["position"] = lane["position"]
