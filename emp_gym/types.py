"""Every shared dtype, enum, dataclass and protocol, with units. Imports nothing of ours. One file, long as it is: what all rooms
agree on is read in one place.

Letters used in shapes everywhere: N lanes (environments), M instruments, L book levels a side, K order slots,
R rows (messages) of a tape, D features, A actions of a discrete menu.

Units, unless a name says otherwise:

==========  =====================================================================================================
price       int64, in ``Instrument.price_unit`` (1e-4 USD for LOBSTER)
quantity    int64 or int32, in lots (shares for LOBSTER)
cash, fees  int64, in 1e-8 of the currency
time        int64 nanoseconds after local midnight; a day's ``midnight_utc_ns`` (`DayInfo`, `View`) makes it UTC
side        +1 buy (bid), -1 sell (ask)
==========  =====================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
I8 = npt.NDArray[np.int8]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

BUY, SELL = 1, -1
CASH_UNITS = 100_000_000  # cash units (1e-8) in one unit of currency
EMPTY_BID, EMPTY_ASK = -9_999_999_999, 9_999_999_999  # price of a book level that holds nothing (LOBSTER's own)
NS = 1_000_000_000  # nanoseconds in a second


class EmpGymError(Exception):
    """Base of every error that this package raises on purpose: says what, expected, got, remedy."""


class DataError(EmpGymError):
    """Data from outside is not what its format promises."""


class ConfigError(EmpGymError, ValueError):
    """A parameter is unknown, impossible or contradicts another."""


class UnknownKeyword(ConfigError, TypeError):
    """A keyword argument that a constructor does not take: also the `TypeError` by which libraries that try keywords know it."""

    @classmethod
    def of(cls, key: str, known: Iterable[str], more: str = "") -> UnknownKeyword:
        """The error for `key`, worded as Python words it; names the nearest of `known`, and says `more`."""
        near = [name for name in get_close_matches(key, list(known), 2) if name != key]
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return cls(f"got an unexpected keyword argument {key!r}{hint}{more}")


class MessageType(IntEnum):
    """What a tape row or window event is. 1-7 are LOBSTER's own numbers."""

    NEW = 1
    REDUCE = 2  # partial cancel
    DELETE = 3
    EXECUTE = 4  # execution of a visible order
    EXECUTE_HIDDEN = 5
    CROSS = 6  # auction print
    HALT = 7
    ADOPT = 8  # a level enters the visible window with the given size
    EVICT = 9  # a level leaves the visible window with the given size


class OrderAck(IntEnum):
    """What a market did with one entry of `Orders` when it was sent."""

    NONE = 0
    ACCEPTED = 1
    NO_SLOT = 2  # refused: too many own orders
    MALFORMED = 3  # refused: quantity, side, tick, lot or id
    HALTED = 4  # refused: the market does not trade
    UNKNOWN = 5  # cancel or replace of an order that is not there (any more)
    PENDING = 6  # handed over, and nothing heard of it yet: one of `Reports` will answer


class TradingStatus(IntEnum):
    """Trading status after a row."""

    TRADING = 0
    HALTED = 1
    QUOTING = 2  # quotes resume, no matching yet
    CROSSING = 3  # the row is an auction print


class RequestType(IntEnum):
    """What an entry of `Orders` asks for."""

    NONE = 0
    LIMIT = 1
    MARKET = 2
    CANCEL = 3
    REPLACE = (
        4  # cancel `target` and, if it was still live, enter a new limit order that starts at the back of its queue
    )


class TruncationReason(IntEnum):
    """Why a gate ended an episode: ``info["truncated_by"]``."""

    NONE = 0
    CALL = 1  # the kill switch was closed by a call in this process,
    COMMAND = 2  # by the command,
    FILE = 3  # by something that somebody wrote into its state file,
    SIGNAL = 4  # by a signal to the process,
    DRAWDOWN = 5  # or by a rule: equity fell too far from its peak,
    STALENESS = 6  # the top of the book did not change for too long,
    LATENCY = 7  # the agent took too long to answer,
    RATE = 8  # too many messages in a window
    STATE = 9  # the kill switch's state is missing, unreadable, or at odds with the ledger
    STAGE = 10  # the policy's stage does not allow this venue, or cannot be told


class TrendState(IntEnum):
    DOWN = 0
    FLAT = 1
    UP = 2


class Condition(IntEnum):
    """Volatility and liquidity together."""

    CALM = 0
    NORMAL = 1
    STRESSED = 2


class Regime(IntEnum):
    """The one taxonomy of market regimes: 3 * Condition + Trend."""

    CALM_DOWN = 0
    CALM_FLAT = 1
    CALM_UP = 2
    NORMAL_DOWN = 3
    NORMAL_FLAT = 4
    NORMAL_UP = 5
    STRESSED_DOWN = 6
    STRESSED_FLAT = 7
    STRESSED_UP = 8


MESSAGE = np.dtype(
    [
        ("time_ns", "i8"),  # after local midnight
        ("price", "i8"),  # price units; for HALT -1, 0 or 1 as in the file
        ("mid2", "i8"),  # best bid + best ask before this message, the last known one; 0 before the first
        ("size", "i4"),  # lots
        ("order", "i4"),  # dense order number by first appearance, -1 for none
        ("birth", "i4"),  # row of the order's visible NEW; -1: before the session, or while out of sight
        ("slot", "i4"),  # recycled number of a live tracked order, -1 for none
        ("kind", "i1"),  # Kind
        ("side", "i1"),  # side of the resting order
        ("status", "i1"),  # Status after this row
    ],
    align=True,
)
"""One recorded message (one row of a tape)."""

WINDOW_EVENT = np.dtype([("price", "i8"), ("row", "i4"), ("size", "i4"), ("kind", "i1"), ("side", "i1")], align=True)
"""ADOPT or EVICT: applied after the message of `row`, in file order."""


@dataclass(frozen=True)
class Instrument:
    """What is traded and under which rules."""

    symbol: str
    tick: int = 100  # price units
    price_unit: float = 1e-4  # currency
    lot: int = 1  # quantity multiple
    currency: str = "USD"
    maker_fee_bps: float = 0.0  # of notional, negative = rebate
    taker_fee_bps: float = 0.0
    session_start_ns: int = 34_200 * NS
    session_end_ns: int = 57_600 * NS
    timezone: str = "America/New_York"
    sector: int = 0
    maker_fee_per_lot: float = 0.0  # currency per lot, on top of `maker_fee_bps`; negative = rebate
    taker_fee_per_lot: float = 0.0
    ticks: tuple[tuple[int, int], ...] = ()  # (price from which, tick), ascending, where the tick depends on the price

    def tick_at(self, price: int) -> int:
        """The tick of an order at `price`, price units: `tick`, or what `ticks` says from the last entry not above it."""
        return next((tick for least, tick in reversed(self.ticks) if price >= least), self.tick)


@dataclass
class RecordedDay:
    """One instrument's day as a venue's reader gives it: clean rows only, before it becomes a tape."""

    instrument: Instrument
    date: str  # ISO, local to the venue
    time_ns: I64  # [R] never decreasing
    kind: I8  # [R] Kind
    order_id: I64  # [R] the venue's own ids
    size: I32  # [R] lots
    price: I64  # [R] price units
    side: I8  # [R] side of the resting order
    book_price: I64  # [R, 2, L] after the row; [:, 0] bids, [:, 1] asks, best first
    book_size: I32  # [R, 2, L]
    source: dict[str, Any] = field(default_factory=dict)  # file names, sha256, counts, rules that fired
    signal: F32 | None = None  # [R] planted truth of a synthetic day, for oracles only
    regime: I8 | None = None  # [R] planted Regime of a synthetic day


LEAVE, WITHDRAW = -2, -1


@dataclass(frozen=True)
class Action:
    """What one entry of a task's table does. A clip is the task's `order_quantity`; the touch is the best price of the side.

    `bid` and `ask` say where one clip shall stand: ticks behind the touch, WITHDRAW: nowhere, LEAVE: as it is. An order that stands
    there already is not moved. In a table that is relative to a parent order, `bid` is its own side, and `take` and `to` count
    towards it. An action whose fields are all at their defaults keeps everything as it is.
    """

    name: str
    bid: int = LEAVE
    ask: int = LEAVE
    take: int = 0  # clips at the market, + buys
    to: int | None = None  # trades the position to so many clips at the market, market orders under way counted
    cancel: bool = False  # cancels everything first

    @property
    def keeps(self) -> bool:
        """Whether it changes nothing."""
        return self == Action(self.name)


@dataclass(frozen=True)
class Feature:
    """One entry of an observation: ``value = transform(quantity in unit) / scale``, clipped to [low, high]."""

    name: str
    unit: str
    scale: float = 1.0
    transform: str = "linear"  # "linear" or "signed_log": sign(x) * log(1 + |x|)
    low: float = -10.0
    high: float = 10.0


ORDER = np.dtype(
    [
        ("price", "i8"),  # price units; ignored for MARKET and CANCEL
        ("quantity", "i8"),  # lots; ignored for CANCEL
        (
            "id",
            "i8",
        ),  # LIMIT, MARKET, REPLACE: the new order's id (> 0, unique in the episode); CANCEL: the order to cancel
        ("target", "i8"),  # REPLACE: the order to replace
        ("instrument", "i4"),
        ("side", "i1"),
    ],
    align=True,
)
"""One request to a market, its kind aside."""


@dataclass
class Orders:
    """What a task asks of the market for one decision: K requests a lane, entered in the order of their slots."""

    kind: I8  # [N, K] OrderKind, apart: most entries are NONE, and whoever looks for the others reads little
    records: np.ndarray  # ORDER [N, K]; of no meaning where the kind is NONE
    _first_id: I64 = field(default_factory=lambda: np.zeros(0, np.int64), init=False, repr=False, compare=False)  # [N], see `begin`

    @classmethod
    def empty(cls, lanes: int, slots: int) -> Orders:
        """All-NONE orders of shape [lanes, slots]."""
        return cls(np.zeros((lanes, slots), np.int8), np.zeros((lanes, slots), ORDER))

    def begin(self, decision: I64) -> None:
        """Empties all entries; what `add` enters from now on is numbered by `decision` [N], that of the view."""
        self.kind[...] = RequestType.NONE
        self._first_id = decision * 16 + 1

    def add(
        self, lanes: I64, kind: int, *, side: Any = 0, price: Any = 0, quantity: Any = 0, id: Any = 0, target: Any = 0,
        instrument: Any = 0,
    ) -> None:  # fmt: skip
        """Enters one request for each of `lanes` [n] (places, none twice), behind those that it has; the others are numbers or [n].

        `id`: the order that a CANCEL means; every other kind gets a number of its own.
        """
        slot = (self.kind[lanes] != RequestType.NONE).sum(axis=1)
        if slot.max(initial=0) >= self.kind.shape[1]:
            raise ConfigError(
                f"a task may ask for at most {self.kind.shape[1]} requests a lane and decision, lane {lanes[int(slot.argmax())]} got "
                "one more; a REPLACE moves an order with one request"
            )
        self.kind[lanes, slot] = kind
        records = np.zeros(len(lanes), ORDER)
        for name, value in (("side", side), ("price", price), ("quantity", quantity), ("target", target), ("instrument", instrument)):
            records[name] = value
        records["id"] = id if kind == RequestType.CANCEL else self._first_id[lanes] + slot
        self.records[lanes, slot] = records

    def put(
        self, lane: int, slot: int, kind: int, *, side: int = 0, price: int = 0, quantity: int = 0, id: int = 0,
        target: int = 0, instrument: int = 0,
    ) -> None:  # fmt: skip
        """Writes one request."""
        self.kind[lane, slot] = kind
        self.records[lane, slot] = (price, quantity, id, target, instrument, side)

    def asked(self, lane: int) -> list[dict[str, int]]:
        """What a lane asks for, as dictionaries; entries of kind NONE are left out."""
        names = ORDER.names or ()
        return [
            {"kind": int(self.kind[lane, slot])} | {name: int(self.records[lane, slot][name]) for name in names}
            for slot in np.flatnonzero(self.kind[lane])
        ]

    @property
    def instrument(self) -> I32:
        """[N, K]; a view, as are the others."""
        return self.records["instrument"]

    @property
    def side(self) -> I8:
        return self.records["side"]

    @property
    def price(self) -> I64:
        return self.records["price"]

    @property
    def quantity(self) -> I64:
        return self.records["quantity"]

    @property
    def id(self) -> I64:
        return self.records["id"]

    @property
    def target(self) -> I64:
        return self.records["target"]

    def copy(self) -> Orders:
        return Orders(self.kind.copy(), self.records.copy())


@dataclass
class Verdicts:
    """What a gate did with orders. All arrays [N, K]."""

    reason: npt.NDArray[np.uint64]  # reason bits, 0 = passed untouched
    quantity_before: I64
    quantity_after: I64
    touched: bool = True  # False: every reason is 0, and nobody needs to look


@dataclass(frozen=True)
class Fills:
    """Own executions of the last step, in order of time. All arrays [F]."""

    lane: I32
    row: I32  # tape row whose message caused it (for a taker: the row whose book it took from)
    time_ns: I64
    id: I64
    side: I8
    price: I64
    quantity: I64
    fee: I64  # 1e-8 currency, negative = rebate
    maker: Bool
    beyond_depth: Bool  # taken beyond the visible book, at the stated price rule
    mid2_lots: I64  # sum of (best bid + best ask) x lots over its parts: before their messages (maker), of the book (taker)
    instrument: I32  # 0 .. M - 1

    def __repr__(self) -> str:
        """Short, whatever the number of lanes: counts, and the first execution."""
        if not len(self.lane):
            return "Fills(none)"
        side = "bought" if self.side[0] > 0 else "sold"
        first = f"lane {self.lane[0]} {side} {self.quantity[0]} @ {self.price[0]} ({'maker' if self.maker[0] else 'taker'})"
        return f"Fills({len(self.lane)} in {len(set(self.lane.tolist()))} lanes, {self.quantity.sum()} lots; first: {first})"


@dataclass(frozen=True)
class Reports:
    """What a venue said in the last step of requests that were `OrderAck.PENDING`, in order of time. All arrays [E]."""

    lane: I32
    time_ns: I64
    id: I64  # of the request: that of the new order, or of the order to cancel
    outcome: I8  # `OrderAck`
    code: I64  # the venue's own reason, 0 for none

    @classmethod
    def none(cls) -> Reports:
        """Nothing was said."""
        return cls(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int8), np.zeros(0, np.int64))


@dataclass
class View:
    """What may be known now. Read-only; valid until the next step (copy to keep).

    Own orders include those in flight (`order_live` False) since they count as exposure.
    """

    time_ns: I64  # [N] time of the decision
    status: I8  # [N, M] Status
    bid_price: I64  # [N, M, L], EMPTY_BID where the level is empty
    bid_size: I64  # [N, M, L]
    ask_price: I64  # [N, M, L], EMPTY_ASK where the level is empty
    ask_size: I64  # [N, M, L]
    bought: I64  # [N, M] lots that aggressive buyers took since the last decision
    sold: I64  # [N, M] lots that aggressive sellers hit since the last decision
    cash: I64  # [N] 1e-8 currency, since the start of the episode, fees included
    fees: I64  # [N] 1e-8 currency paid so far
    position: I64  # [N, M] lots
    order_id: I64  # [N, K] 0 = empty slot
    order_live: Bool  # [N, K] True = resting at the market, False = empty or in flight
    order_side: I8  # [N, K]
    order_price: I64  # [N, K]
    order_quantity: I64  # [N, K] what remains
    order_ahead: I64  # [N, K] volume ahead in the queue (at the most, once its level was out of sight), -1 = unknown
    decision: I64  # [N] decisions taken in this episode
    mid2: I64  # [N, M] best bid + best ask: twice the mid; the last known one while a side is empty
    tick: I64  # [N, M] price units; where the tick depends on the price, that at the mid
    price_to_cash: I64  # [N, M] cash units per price unit and lot
    midnight_utc_ns: I64  # [N] local midnight of the lane's day, nanoseconds after 1970 in UTC
    order_instrument: npt.NDArray[np.signedinteger[Any]] | None = None  # [N, K]; None: all of instrument 0
    least_tick: I64 | None = None  # [N, M] the smallest tick that any price has; None: `tick` holds at every price
    order_kind: I8 | None = None  # [N, K] LIMIT or MARKET, of no meaning in an empty slot; None, here and below: not told
    order_leaving: Bool | None = None  # [N, K] its cancel is on its way
    order_decision: I32 | None = None  # [N, K] decision in which it was sent
    named: Mapping[str, np.ndarray] = field(default_factory=dict)  # [N, M, ...] what else the market publishes, by name

    def __repr__(self) -> str:
        """Short, whatever the number of lanes: the shape, and lane 0."""
        lanes, instruments, levels = self.bid_price.shape
        if not lanes:
            return f"View(0 lanes, {instruments} instruments, {levels} levels)"
        quote = f"{self.bid_size[0, 0, 0]} x {self.bid_price[0, 0, 0]} / {self.ask_price[0, 0, 0]} x {self.ask_size[0, 0, 0]}"
        own = f"position {self.position[0, 0]}, {int((self.order_id[0] != 0).sum())} open orders"
        return f"View({lanes} lanes, {instruments} instruments, {levels} levels; lane 0: {quote}, {own})"

    @property
    def spread(self) -> I64:
        """Best ask - best bid [N, M], price units."""
        return self.ask_price[..., 0] - self.bid_price[..., 0]

    @property
    def equity2(self) -> I64:
        """Twice the equity [N], in 1e-8 of the currency of the lane's day: 2 cash + position * (bid + ask)."""
        return 2 * self.cash + (self.position * self.mid2 * self.price_to_cash).sum(axis=-1)

    @property
    def time_utc_ns(self) -> I64:
        """Time of the decision [N], nanoseconds after 1970 in UTC."""
        return self.midnight_utc_ns + self.time_ns


MakeEnv = Callable[..., Any]


@dataclass
class RunLog:
    """Numbers of finished episodes, one row each, with what is needed to run them again.

    `tables` hold what happened inside them, where it was recorded: steps, orders, fills, verdicts, accounts. What their
    columns mean, and how a log is saved and read: `emp_gym.evaluation.runlog`.
    """

    config: Mapping[str, Any]
    episodes: Mapping[str, np.ndarray] = field(default_factory=dict)  # [W] each
    tables: Mapping[str, np.ndarray] = field(default_factory=dict)  # structured arrays

    def table(self, name: str) -> np.ndarray:
        """One of `tables`; `DataError` where the run was not recorded."""
        if name not in self.tables:
            raise DataError(
                f"the run log has no table {name!r} (it has {sorted(self.tables)}); record the run: "
                "backtest.evaluate(..., record=Recorder()) or evaluate.py --log FOLDER"
            )
        return self.tables[name]

    @property
    def steps(self) -> np.ndarray:
        return self.table("steps")

    @property
    def orders(self) -> np.ndarray:
        return self.table("orders")

    @property
    def fills(self) -> np.ndarray:
        return self.table("fills")

    @property
    def verdicts(self) -> np.ndarray:
        return self.table("verdicts")

    @property
    def accounts(self) -> np.ndarray:
        return self.table("accounts")
