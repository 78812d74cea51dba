"""A recorded book replayed under own orders: the `Market` that environments of recorded and synthetic days use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from emp_gym.data import instruments, store
from emp_gym.data.array_bounds import typed
from emp_gym.data.clock import UNITS, half_life_of
from emp_gym.data.huge_pages import zeros_in_large_pages
from emp_gym.data.tape.tape_set import LARGEST_IN_MEMORY, TapeSet
from emp_gym.market import account, replay_check, replay_kernels
from emp_gym.market.account import FILL
from emp_gym.market.base import Market, MarketSpec, Recorded, RunningSum
from emp_gym.market.clock import Clock
from emp_gym.market.day_rules import market_days
from emp_gym.market.day_starts import DayStarts, split_days
from emp_gym.market.hidden import with_hidden_prints
from emp_gym.market.lots import stop_if_money_wraps
from emp_gym.market.public import LANE, OPEN, QUOTE, RULES, SEEN, Public, view_of
from emp_gym.market.records import CURSOR, EXACT, OPTIMISTIC, PARAMS, SLOT, TAKEN, TOUCHED
from emp_gym.settings import shown, whole, word
from emp_gym.threads import BoundRegion
from emp_gym.types import F32, I8, I64, Bool, ConfigError, DataError, Fills, Orders

FILL_RULES = {"exact": EXACT, "touch": TOUCHED, "optimistic": OPTIMISTIC}
HIDDEN_PRINTS = {"ignore": 0, "fill": 1}
SLOTS = 8  # own orders a lane, in flight included
REQUESTS = SLOTS + 2  # orders a lane may send in one decision
MANY = 256  # lanes from which on it pays to use all cores, and to hold days and lanes in large memory pages
MOST_LATENCY_NS = 24 * 60 * UNITS["min"]
MOST_NOTES = 1 << 13  # of consumed depth that a lane may have in a file: prices at which it took
FEES = ("maker_fee_bps", "taker_fee_bps", "maker_fee_per_lot", "taker_fee_per_lot")


@dataclass(frozen=True)
class ReplayConfig:
    """The recorded days, and the assumptions under which own orders meet them."""

    data: store.Data = None  # as `emp_gym.data.store.tapes` takes it
    fills: str = "exact"  # "exact" queue place; "touch": when the price trades; "optimistic": whole, when the price is touched
    hidden_prints: str = "ignore"  # "fill": those inside the spread fill orders at their price or better, as a trade-through does
    latency_ns: int | Sequence[int] = 0  # from decision to the market and from the market to the view: one number, or [order, feed]
    impact: str = "none"  # how depth that we consumed comes back; see `half_life_of`. Own executions are reported at once
    maker_fee_bps: float | None = None  # None: that of each day's instrument
    taker_fee_bps: float | None = None
    maker_fee_per_lot: float | None = None  # currency, likewise
    taker_fee_per_lot: float | None = None
    instrument: instruments.Given = None  # other rules for the days

    def __post_init__(self) -> None:
        word("fills", self.fills, FILL_RULES)
        word("hidden_prints", self.hidden_prints, HIDDEN_PRINTS)
        for name in FEES:
            if (fee := getattr(self, name)) is not None:
                object.__setattr__(self, name, instruments.checked_fee(name, fee))
        _ = self.latencies, self.half_life_ns

    @property
    def latencies(self) -> tuple[int, int]:
        """(order, feed) latency in ns."""
        several = isinstance(self.latency_ns, (list, tuple, np.ndarray))
        pair: Any = list(self.latency_ns) if several else [self.latency_ns, self.latency_ns]  # type: ignore[arg-type]
        if len(pair) != 2:
            raise ConfigError(f"latency_ns must be a whole number of nanoseconds or [order, feed], got {shown(self.latency_ns)}")
        more = ", nanoseconds or [order, feed]"
        where = f" in {shown(self.latency_ns)}{more}" if several else more
        order, feed = (whole("latency_ns", ns, 0, MOST_LATENCY_NS, where) for ns in pair)
        return order, feed

    @cached_property
    def half_life_ns(self) -> int:
        """Of depth that we consumed: 0 = back at once, -1 = never back."""
        half_life = half_life_of(self.impact)
        if half_life is None:
            raise ConfigError(f"impact must be 'none', 'resilient', 'resilient 250 ms' or 'permanent', got {shown(self.impact)}")
        return half_life


class ReplayMarket(Market):
    """N lanes on the days of a `TapeSet`, each with its own orders and account.

    `reset` puts lanes at a row, `advance` enters orders and walks every lane to its next decision, `close` trades lanes flat.
    All arrays are this object's own; `public` and `view` show them without copying, and `view` is valid until the next call.
    `tape`: the days, for who holds them already.
    """

    Config = ReplayConfig
    config: ReplayConfig
    data: TapeSet
    venue = "replay"
    units = ("message", "messages")
    most_orders, requests = SLOTS, REQUESTS

    def __init__(self, spec: MarketSpec, config: ReplayConfig, tape: TapeSet | None = None) -> None:
        super().__init__(spec, config)
        lanes, self.looks = spec.lanes, np.array(spec.looks, np.int64)
        order_ns, _ = config.latencies
        self.immediate = order_ns == 0
        if tape is None:
            tape = instruments.changed(store.tapes(config.data, in_memory=lanes >= MANY), config.instrument)
        self.data = tape = self._crossed(tape)
        self.instruments = tuple(day.instrument for day in tape.info)
        self.params = _params(config, self.clock)
        self.days = market_days(
            tape.days, tape.info, (config.maker_fee_bps, config.taker_fee_bps),
            (config.maker_fee_per_lot, config.taker_fee_per_lot),
        )  # fmt: skip
        zeros = self._zeros
        self.state = zeros(lanes, CURSOR)
        self.quote = zeros((lanes, 1), QUOTE)
        self.seen = zeros((lanes, 1, 1 + len(spec.looks)), SEEN)
        self.state["midnight_utc_ns"] = self.days[0]["midnight_utc_ns"]  # gates look before the first episode begins
        self.quote["price_to_cash"] = self.days[0]["price_to_cash"]
        self.slots = zeros((lanes, SLOTS), SLOT)
        self.notes_of_a_row = 2 * (tape.levels + 1)  # both sides' levels, and what is beyond them
        self.taken = zeros((lanes, 2 * self.notes_of_a_row), TAKEN)  # twice: a state from a file may bring a row's notes along
        self.fills = zeros((lanes, SLOTS + (SLOTS + 1) * (tape.levels + 1)), FILL)
        self.book = zeros((lanes, 1, 4, tape.levels), np.int64)
        self._sums = {name: self._summed(name, each) for name, each in spec.sums.items()}
        for name in spec.sums:
            self.named[name] = np.zeros((lanes, 1, 1 + len(spec.looks)), np.int64)
        self._show_all()

    def _crossed(self, tape: TapeSet) -> TapeSet:
        return with_hidden_prints(tape) if self.config.hidden_prints == "fill" else tape

    @cached_property
    def starts(self) -> DayStarts:  # type: ignore[override]
        return split_days(self.data, self.spec.split, self.clock, self.spec.episode)

    @property
    def assumes(self) -> Mapping[str, Any]:  # type: ignore[override]
        told = self.config
        impact = {0: "none", -1: "permanent"}.get(told.half_life_ns, f"resilient {told.half_life_ns} ns")
        return {"fills": told.fills, "hidden_prints": told.hidden_prints, "latency_ns": told.latencies, "impact": impact} | {
            name: getattr(told, name) for name in FEES
        }

    def _show_all(self) -> None:
        """The public side of the arrays."""
        self.public = Public(
            self.state.view(LANE), self.quote, self.seen, self.book, self.slots.view(OPEN), self.days.view(RULES)
        )
        self.view = view_of(self.public, self.named)
        self._bind()

    def _bind(self) -> None:
        """The walk over the arrays that are there now."""
        t = self.data
        self._walk = BoundRegion(
            self.threads, replay_kernels.advance_lanes, self.lanes, self.state, self.quote, self.seen, self.slots, self.taken,
            self.fills, self.book, self.outcome, self.active, self.progress, self.params, self.looks, self.days, t.rows, t.messages,
            t.book, t.links, t.touches, t.first_touch, t.far_touch, t.cross, t.cross_block,
        )  # fmt: skip

    def _summed(self, name: str, increments: RunningSum) -> I64:
        """The sum [R] up to each row of the tape, since its day began."""
        total = np.zeros(len(self.data.rows), np.int64)
        for day in range(len(self.data.info)):
            rows = self.data.day_slice(day)
            each = np.asarray(increments(Recorded(self.data.messages[rows], self.data.rows[rows], self.data.book[rows])))
            if each.dtype.kind not in "iu" or each.shape != total[rows].shape:
                wanted = f"whole numbers [{rows.stop - rows.start}], one for each row of the day"
                raise ConfigError(f"running sum {name!r} must give {wanted}, got {each.dtype} {list(each.shape)}")
            total[rows] = np.cumsum(each)
        return total

    def _sum(self, lanes: Any) -> None:
        """Publishes the sums at the shown row of `lanes` and at its look-backs."""
        state = self.state[lanes]
        back = np.maximum(state["seen_row"][:, None] - np.append(0, self.looks), 0) + self.days["row0"][state["day"]][:, None]
        for name, total in self._sums.items():
            self.named[name][lanes, 0] = total[back]

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
            self._bind()

    def _make_room_for(self, takers: int) -> None:
        """So that none of so many orders of a lane makes it forget what it took. Without impact one row's notes are enough."""
        if self.config.half_life_ns != 0:
            self.make_room(int(self.state["consumed"].max(initial=0)) + takers * (self.data.levels + 1))

    def reset(self, lanes: I64, day: I64, row: I64, end_row: I64) -> None:
        """Puts `lanes` [n] at `row` of `day`, flat and without orders; no lane will pass the last row of `end_row`'s time."""
        self.progress[lanes] = 0
        replay_kernels.reset(
            lanes, day, row, end_row, self.state, self.quote, self.seen, self.slots, self.book, self.params, self.looks,
            self.days, self.data.rows, self.data.book,
        )  # fmt: skip
        if self._sums:
            self._sum(lanes)

    def advance(self, orders: Orders) -> None:
        """Enters `orders` and walks every active lane to its next decision. `outcome` says what became of each order."""
        lanes, requests = orders.records.shape
        if lanes != self.lanes or requests > REQUESTS:
            raise ConfigError(
                f"orders must be [{self.lanes} lanes, at most {REQUESTS} requests], got [{lanes}, {requests}]"
            )
        self._make_room_for(SLOTS)
        self._walk(orders.kind, orders.records)
        if self._sums:
            self._sum(self.active)

    def close(self, lanes: I64, target: I64) -> Bool:
        """Cancels everything of `lanes` [n] and trades their positions to `target` [n, 1] (or [n]) lots at once, at the stated price
        beyond visible depth. Returns [n]: whose position was traded while the market did not trade."""
        t, halted = self.data, np.zeros(len(lanes), np.bool_)
        self._make_room_for(1)
        replay_kernels.close(
            lanes, target.reshape(-1), halted, self.state, self.quote, self.slots, self.taken, self.fills, self.params, self.days,
            t.rows, t.book,
        )  # fmt: skip
        return halted

    def last_fills(self) -> Fills:
        """Own executions of the last step, by lane and then by time."""
        count = int(self.state["fills"].sum())
        lane, log = np.empty(count, np.int32), np.empty(count, FILL)
        account.gather_fills(self.state, self.fills, self.days, self.data.rows, lane, log)
        return Fills(
            lane=lane, row=log["row"].copy(), time_ns=log["time_ns"].copy(), id=log["id"].copy(), side=log["side"].copy(),
            price=log["price"].copy(), quantity=log["quantity"].copy(), fee=log["fee"].copy(),
            maker=log["maker"].astype(bool), beyond_depth=log["beyond"].astype(bool),
            mid2_lots=log["mid2_lots"].copy(), instrument=np.zeros(count, np.int32),
        )  # fmt: skip

    def check_quantity(self, lots: int, name: str) -> int:
        return stop_if_money_wraps(lots, name, self.data, self.days)

    def truth(self) -> tuple[F32, I8]:
        """(signal f4 [N], regime i1 [N]) planted at the lanes' rows. Synthetic days only, for oracles only."""
        if self.data.signal is None or self.data.regime is None:
            raise DataError("recorded days have no planted signal; an oracle needs synthetic days (data=None)")
        at = self.days["row0"][self.state["day"]] + self.state["row"]
        return self.data.signal[at], self.data.regime[at]

    def describe(self) -> dict[str, Any]:
        """JSON: the days by their hash, and the assumptions."""
        told = {"market": self.foreign or "replay", "data": self.data.hash, "every": str(self.clock)} | dict(self.assumes)
        own = {each.name: getattr(self.config, each.name) for each in fields(self.config) if each.name != "data"}
        return told | ({"config": own} if self.foreign else {})

    # ------------------------------------------------------------------------------------------------- copies and snapshots

    @property
    def layout(self) -> str:
        return " ".join([self.data.hash, *(array.tobytes().hex() for array in (self.params, self.looks, self.days)), *self._sums])

    def arrays(self) -> dict[str, np.ndarray]:
        own = ("state", "slots", "taken", "fills", "outcome", "active", "progress")
        public = {"public.quote": self.quote, "public.seen": self.seen, "public.book": self.book}
        return {name: getattr(self, name) for name in own} | public

    def kept(self, where: str) -> dict[str, np.ndarray]:
        used = int(self.state["consumed"].max(initial=0))
        if used > MOST_NOTES:
            raise ConfigError(
                f"{where}: a lane remembers what it took at {used:,} prices, a file holds at most {MOST_NOTES:,}; use shorter episodes"
            )
        as_bytes = self.taken.view(np.uint8).reshape(self.lanes, -1)  # a copy of records would not have what lies between their fields
        return self.arrays() | {"taken": as_bytes[:, : used * TAKEN.itemsize]}

    def room(self) -> dict[str, int]:
        return super().room() | {"taken": MOST_NOTES * self.lanes * TAKEN.itemsize}

    def checked(self, saved: Mapping[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
        saved = replay_check.with_notes(self, saved)  # which may make other arrays
        found = typed(self.arrays(), saved, where)
        replay_check.check(self, found, where)
        return found

    def restore(self, found: Mapping[str, np.ndarray]) -> None:
        super().restore(found)
        self._sum(slice(None))

    def __getstate__(self) -> dict[str, Any]:
        """The days travel by name where they have one; their sums do, what made them does not."""
        spec = replace(self.spec, sums=dict.fromkeys(self.spec.sums, _unknown))
        kept = self.__dict__ | {"view": None, "public": None, "spec": spec}
        kept.pop("starts", None)
        return kept if self.data.path is None else kept | {"data": self.data.path, "info": self.data.info}

    def __setstate__(self, state: dict[str, Any]) -> None:
        tape = state["data"]
        self.config = state["config"]
        if not isinstance(tape, TapeSet):
            tape = replace(TapeSet.open(tape), info=state.pop("info"))
            tape = self._crossed(tape.in_memory(LARGEST_IN_MEMORY) if state["lanes"] >= MANY else tape)
        self.__dict__.update(state | {"data": tape})
        self._show_all()

    def __deepcopy__(self, memo: dict[int, Any]) -> ReplayMarket:
        twin = object.__new__(type(self))
        for name, value in self.__dict__.items():
            twin.__dict__[name] = value.copy() if isinstance(value, np.ndarray) else value
        twin.named = {name: array.copy() for name, array in self.named.items()}
        twin._show_all()
        return twin


def _unknown(day: Recorded) -> I64:
    raise NotImplementedError(f"a copy has the sums, and not what made them ({len(day.rows)} rows)")


def _params(config: ReplayConfig, clock: Clock) -> np.ndarray:
    params = np.zeros(1, PARAMS)
    params["order_latency_ns"], params["feed_latency_ns"] = config.latencies
    params["half_life_ns"], params["fills"], params["births"] = config.half_life_ns, FILL_RULES[config.fills], 1
    params["hidden_prints"] = HIDDEN_PRINTS[config.hidden_prints]
    params["every_rows"], params["every_ns"] = clock.count, clock.ns
    return params
