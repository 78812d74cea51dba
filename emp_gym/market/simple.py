"""A small market: own orders, account, door and clock of one instrument in plain numpy. Only the price is left to write.

    class Mine(BaseMarket):
        Config = MineConfig

        def __init__(self, spec, config):
            super().__init__(spec, config, Instrument("MINE", tick=100))
            self.mid = np.zeros(spec.lanes, np.int64)  # what one decision leaves to the next is an array

        def begin(self, lanes): ...       # new episodes: set their price, then `show`
        def pass_time(self, lanes): ...   # one decision: move the price, `fill` what is `resting`, then `show`

Orders that cross the shown book and market orders are filled at once, at the prices and sizes that it shows, and what exceeds them
one tick beyond its last price (`Fills.beyond_depth`). A cancel takes effect at once. Chance comes from `noise` alone, which is a
function of the episode's start and the decision: so lanes, threads, copies and repeated runs agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from emp_gym.market.base import Market, MarketSpec
from emp_gym.market.day_rules import put_rules
from emp_gym.market.public import (
    CANCEL,
    CLOSING_ID,
    FREE,
    LIMIT,
    LIVE,
    MARKET,
    NONE,
    OPEN,
    QUOTE,
    REPLACE,
    RULES,
    SEEN,
    TRADING,
    allocate,
)  # fmt: skip
from emp_gym.market.starts import Numbers, mixed
from emp_gym.settings import whole
from emp_gym.types import EMPTY_ASK, EMPTY_BID, I64, Bool, ConfigError, Fills, Instrument, OrderAck, Orders

STEP = np.uint64(0x9E3779B97F4A7C15)
FILL = np.dtype([
    ("lane", "i4"), ("row", "i4"), ("time_ns", "i8"), ("id", "i8"), ("side", "i1"), ("price", "i8"), ("quantity", "i8"), ("fee", "i8"),
    ("maker", "?"), ("beyond_depth", "?"), ("mid2_lots", "i8"), ("instrument", "i4"),
])  # fmt: skip
"""One entry of `Fills`."""


class BaseMarket(Market):
    """Everything of a small market but the price; see the module. Its events are of one length and count as messages."""

    units: ClassVar[tuple[str, ...]] = ("event", "events", "message", "messages")
    momentary: ClassVar[tuple[str, ...]] = (*Market.momentary, "_log")
    levels: ClassVar[int] = 1  # L, of the book
    event_ns: ClassVar[int] = 1_000_000

    def __init__(self, spec: MarketSpec, config: Any, instrument: Instrument) -> None:
        super().__init__(spec, config)
        self.instruments, self.starts = (instrument,), Numbers(spec.split)
        self.events = self.clock.count or self.clock.ns // self.event_ns  # a decision
        if self.events * self.event_ns != (self.clock.ns or self.events * self.event_ns):
            raise ConfigError(f"every must be a multiple of {self.event_ns} ns, the length of an event, got {spec.every!r}")
        if spec.sums:
            raise ConfigError(f"{type(self).__name__} has no messages, and the features need running sums of them: {sorted(spec.sums)}")
        if spec.levels is not None:
            whole("levels", spec.levels, 1, self.levels, ", the depth of this market")
        rules = np.zeros(1, RULES)
        put_rules(rules[0], instrument, 0, instrument.symbol)
        self.public = allocate(spec.lanes, 1, self.most_orders, self.levels, len(spec.looks), rules)
        self._back = tuple(-(-look // self.events) for look in spec.looks)  # whole decisions
        self._ring = np.zeros((spec.lanes, max(self._back, default=0) + 1), SEEN)
        self._branch = np.array([1 << 62, 0])  # decision from which on there is other noise, and which
        self._log: list[np.ndarray] = []  # FILL [n] each, in order of time
        for name in ("price_to_cash", "least_tick"):
            self.public.quote[name] = rules[name][0]
        self.public.quote["tick"] = rules["first_tick"][0]

    # ------------------------------------------------------------------------------------------------- what is left to write

    def begin(self, lanes: I64) -> None:
        """New episodes in `lanes` [n], ascending."""
        raise NotImplementedError

    def pass_time(self, lanes: I64) -> None:
        """Lets the events of one decision happen in `lanes` [n], ascending."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------ what a small market calls

    def show(
        self, lanes: I64, bid: np.ndarray, bid_size: np.ndarray, ask: np.ndarray, ask_size: np.ndarray, *,
        bought: Any = 0, sold: Any = 0, flow: Any = 0, hidden: Any = 0, status: Any = TRADING,
    ) -> None:  # fmt: skip
        """The book of `lanes`, [n] or [n, L] each (size 0: nothing there), and what was traded since the decision before, [n]."""
        public, step = self.public, self.public.lane["decision"][lanes]
        for at, (price, size, empty) in enumerate(((bid, bid_size, EMPTY_BID), (ask, ask_size, EMPTY_ASK))):
            price, size = np.reshape(price, (len(lanes), -1)), np.reshape(size, (len(lanes), -1))
            public.book[lanes, 0, 2 * at], public.book[lanes, 0, 2 * at + 1] = np.where(size > 0, price, empty), size
        now, first = self._ring[lanes, (step - 1) % self._ring.shape[1]], step == 0
        bid, bids, ask, asks = public.book[lanes, 0, :, 0].T
        one_side = 2 * np.where(bids > 0, bid, np.where(asks > 0, ask, 0))  # where nothing was known before
        mid2 = np.where((bids > 0) & (asks > 0), bid + ask, np.where(first, one_side, now["mid2"]))
        quote = np.zeros(len(lanes), QUOTE)
        quote[:] = public.quote[lanes, 0]
        quote["mid2_before"], quote["mid2"] = np.where(first, mid2, now["mid2"]), mid2
        now["moves2"] += (mid2 - quote["mid2_before"]) ** 2
        now["mid2"], now["time_ns"], now["messages"] = mid2, public.lane["time_ns"][lanes], step * self.events
        for name, lots in (("bought", bought), ("sold", sold), ("flow", flow), ("hidden", hidden)):
            quote[name] = lots
            now[name] += quote[name]
        quote["status"] = status
        public.quote[lanes, 0], self._ring[lanes, step % self._ring.shape[1]], public.seen[lanes, 0, 0] = quote, now, now
        for look, back in enumerate(self._back, 1):
            public.seen[lanes, 0, look] = self._ring[lanes, (step - np.minimum(back, step)) % self._ring.shape[1]]

    def resting(self, lanes: I64, side: int) -> Iterator[tuple[I64, I64]]:
        """Own resting orders of `side` where trading goes on, the oldest first: (lane [n], slot [n]), no lane twice in one pair."""
        own, trading = self.public.open, self.public.quote["status"][lanes, 0] == TRADING
        for slot in range(self.most_orders):
            there = lanes[trading & (own["state"][lanes, slot] == LIVE) & (own["side"][lanes, slot] == side)]
            if len(there):
                yield there, np.full(len(there), slot)

    def fill(
        self, lane: I64, slot: I64, price: np.ndarray, quantity: np.ndarray, maker: bool, beyond: bool = False
    ) -> None:
        """Executes `quantity` [n] lots of the orders in (lane [n], slot [n]) at `price` [n]; no lane twice."""
        if not len(lane):
            return
        if (np.diff(lane) <= 0).any():
            raise ConfigError("fill takes each lane once, in ascending order; call it again for another order of the same lane")
        public = self.public
        own, account = public.open, public.lane
        side, mid2 = own["side"][lane, slot].astype(np.int64), public.quote["mid2"][lane, 0]
        fee = self.fee(price * quantity, quantity, maker)
        account["cash"][lane] -= side * price * quantity * public.quote["price_to_cash"][lane, 0] + fee
        account["fees"][lane] += fee
        public.quote["position"][lane, 0] += side * quantity
        position = abs(public.quote["position"][lane, 0])
        account["max_position"][lane] = np.maximum(account["max_position"][lane], position)
        account["hit"][lane] += (own["filled"][lane, slot] == 0) & (own["id"][lane, slot] != CLOSING_ID)
        account["filled"][lane] += quantity
        account["maker_filled"][lane] += quantity * maker
        account["beyond"][lane] += quantity * beyond
        account["captured2"][lane] += side * (mid2 - 2 * price) * quantity
        own["filled"][lane, slot] += quantity
        own["quantity"][lane, slot] -= quantity
        told = np.zeros(len(lane), FILL)
        told["lane"], told["row"], told["time_ns"], told["id"] = lane, account["row"][lane], account["time_ns"][lane], own["id"][lane, slot]
        told["side"], told["price"], told["quantity"], told["fee"] = side, price, quantity, fee
        told["maker"], told["beyond_depth"], told["mid2_lots"] = maker, beyond, mid2 * quantity
        self._log.append(told)

    def fee(self, amount: I64, quantity: I64, maker: bool) -> I64:
        """Cash units for `quantity` lots that come to `amount` = price * lots, rounded against us."""
        rules, who = self.public.rules[0], "maker" if maker else "taker"
        return -((-amount * rules[f"{who}_numerator"]) // rules[f"{who}_denominator"]) + quantity * rules[f"{who}_per_lot"]

    def noise(self, lanes: I64, count: int) -> np.ndarray:
        """u8 [n, count]: the numbers of the decision that has just passed (in `begin`: of the start), never of one to come."""
        lane = self.public.lane
        step = lane["decision"][lanes]
        salt = np.where(step >= self._branch[0], self._branch[1], 0).astype(np.uint64)
        with np.errstate(over="ignore"):
            key = mixed(mixed(lane["row"][lanes].astype(np.uint64) * STEP + step.astype(np.uint64)) ^ (salt << np.uint64(1)))
            return mixed(key[:, None] + np.arange(1, count + 1, dtype=np.uint64) * STEP)

    # -------------------------------------------------------------------------------------------- what the environment calls

    def reset(self, lanes: I64, day: I64, row: I64, end_row: I64) -> None:
        lane, quote = self.public.lane, self.public.quote
        for array in (lane, self._ring, self.public.seen, self.public.open):
            array[lanes] = np.zeros((), array.dtype)
        lane["day"][lanes], lane["end_row"][lanes] = day, end_row
        lane["row"][lanes] = lane["seen_row"][lanes] = lane["start_row"][lanes] = row
        lane["time_ns"][lanes] = self.instruments[0].session_start_ns
        quote["position"][lanes], self.progress[lanes], self.outcome[lanes] = 0, 0, OrderAck.NONE
        self._log = [told[~np.isin(told["lane"], lanes)] for told in self._log]
        self.begin(np.sort(lanes))

    def advance(self, orders: Orders) -> None:
        lanes, lane = np.flatnonzero(self.active), self.public.lane
        self._log = []
        if not len(lanes):
            return
        self._door(orders, lanes)
        lane["decision"][lanes] += 1
        lane["time_ns"][lanes] += self.events * self.event_ns
        self.pass_time(lanes)
        self._sweep(lanes)
        lane["position_sum"][lanes] += abs(self.public.quote["position"][lanes, 0])
        self.progress[lanes] = lane["decision"][lanes]

    def close(self, lanes: I64, target: I64) -> Bool:
        lanes, order = np.sort(lanes), np.argsort(lanes)
        self.public.open["state"][lanes] = FREE
        self._sweep(lanes)
        wanted = np.reshape(target, (len(lanes), -1))[order, 0] - self.public.quote["position"][lanes, 0]
        there, lots = lanes[wanted != 0], wanted[wanted != 0]
        own = np.zeros(len(there), OPEN)
        own["id"], own["side"], own["quantity"], own["kind"], own["state"] = CLOSING_ID, np.sign(lots), abs(lots), MARKET, LIVE
        self._take(there, self._put(there, own), self.public.book[:, 0, 1::2].copy())
        self._sweep(there)
        halted = (wanted != 0) & (self.public.quote["status"][lanes, 0] != TRADING)
        return halted[np.argsort(order)]

    def last_fills(self) -> Fills:
        told = np.concatenate([np.zeros(0, FILL), *self._log])
        told = told[np.argsort(told["lane"], kind="stable")]
        return Fills(**{name: told[name].copy() for name in FILL.names or ()})

    def branch(self, at: int, salt: int) -> None:
        self._branch[:] = at, salt

    # -------------------------------------------------------------------------------------------------------------- its own

    def _door(self, orders: Orders, lanes: I64) -> None:
        """Takes in the requests of one decision, one after the other, and fills what meets the shown book."""
        self.outcome[lanes] = OrderAck.NONE
        depth = self.public.book[:, 0, 1::2].copy()  # [N, 2, L] of bids and asks: what our own orders have left of it
        for k in range(orders.kind.shape[1]):
            lane = lanes[orders.kind[lanes, k] != NONE]
            if len(lane):
                self.outcome[lane, k] = self._enter(lane, orders.kind[lane, k], orders.records[lane, k], depth)

    def _enter(self, lane: I64, kind: np.ndarray, asked: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Does one request in each of `lane` [n]; its `OrderAck` [n]."""
        told, new = self._told(lane, kind, asked), kind != CANCEL
        taken = told == OrderAck.ACCEPTED
        self._drop(lane[taken & ~new], asked["id"][taken & ~new])
        self._drop(lane[taken & (kind == REPLACE)], asked["target"][taken & (kind == REPLACE)])
        self._count(lane, new, taken)
        lane, new = lane[new & taken], new & taken
        self._take(lane, self._put(lane, self._order(lane, kind[new], asked[new])), depth)
        self._sweep(lane)
        return told

    def _told(self, lane: I64, kind: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """`OrderAck` [n] of one request in each of `lane` [n] at the door."""
        public, new = self.public, kind != CANCEL
        told = np.full(len(lane), OrderAck.ACCEPTED, np.int8)
        (known, _), (there, _) = self._find(lane, asked["id"]), self._find(lane, asked["target"])
        for outcome, wrong in (
            (OrderAck.MALFORMED, new & (self._malformed(kind, asked) | known)),
            (OrderAck.UNKNOWN, np.where(new, (kind == REPLACE) & ~there, ~known)),
            (OrderAck.HALTED, new & (public.quote["status"][lane, 0] != TRADING)),
            (OrderAck.NO_SLOT, new & (public.lane["orders"][lane] >= self.most_orders)),
        ):
            told[(told == OrderAck.ACCEPTED) & wrong] = outcome
        return told

    def _count(self, lane: I64, new: Bool, taken: Bool) -> None:
        self.public.lane["refused"][lane] += new & ~taken
        self.public.lane["sent"][lane] += new & taken

    def _order(self, lane: I64, kind: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """OPEN [n] of new requests."""
        own = np.zeros(len(lane), OPEN)
        for name in ("id", "price", "quantity", "side"):
            own[name] = asked[name]
        own["kind"], own["target"] = np.where(kind == MARKET, MARKET, LIMIT), np.where(kind == REPLACE, asked["target"], 0)
        own["state"], own["live"], own["decision"] = LIVE, True, self.public.lane["decision"][lane]
        return own

    def _drop(self, lane: I64, order: I64) -> None:
        """Ends order `order` [n], which is open, in each of `lane` [n]."""
        if len(lane):
            self.public.open["state"][lane, self._find(lane, order)[1]] = FREE
            self._sweep(lane)

    def _malformed(self, kind: np.ndarray, asked: np.ndarray) -> Bool:
        """[n] of new orders."""
        rules, price = self.public.rules[0], asked["price"]
        step = np.searchsorted(rules["step_price"][: rules["steps"]], price, side="right")
        tick = np.concatenate([[rules["first_tick"]], rules["step_tick"]])[step]
        wrong = (kind < LIMIT) | (kind > REPLACE) | (asked["quantity"] <= 0) | (asked["quantity"] % rules["lot"] != 0)
        wrong |= (abs(asked["side"]) != 1) | (asked["id"] <= 0) | (asked["instrument"] != 0)
        return wrong | ((kind != MARKET) & ((price <= 0) | (price % tick != 0)))

    def _find(self, lane: I64, order: I64) -> tuple[Bool, I64]:
        """Whether order `order` [n] is open in `lane` [n], and in which slot."""
        own = self.public.open
        there = (own["id"][lane] == order[:, None]) & (own["state"][lane] != FREE)
        return there.any(axis=1), there.argmax(axis=1)

    def _put(self, lane: I64, own: np.ndarray) -> I64:
        """Puts orders `own` [n] into `lane` [n]; their slots."""
        slot = self.public.lane["orders"][lane].astype(np.int64)
        self.public.open[lane, slot] = own
        self.public.lane["orders"][lane] += 1
        return slot

    def _take(self, lane: I64, slot: I64, depth: np.ndarray) -> None:
        """Fills what of the orders in (lane [n], slot [n]) meets the shown book, of which `depth` [N, 2, L] is left. A market order's
        rest is filled beyond it."""
        book, own = self.public.book, self.public.open
        against = np.where(own["side"][lane, slot] > 0, 1, 0)
        for level in range(self.levels):
            price = book[lane, 0, 2 * against, level]
            reach = (own["kind"][lane, slot] == MARKET) | (own["side"][lane, slot] * (price - own["price"][lane, slot]) <= 0)
            lots = np.where(reach, np.minimum(own["quantity"][lane, slot], depth[lane, against, level]), 0)
            some = lots > 0
            depth[lane[some], against[some], level] -= lots[some]
            self.fill(lane[some], slot[some], price[some], lots[some], maker=False)
        rest = (own["kind"][lane, slot] == MARKET) & (own["quantity"][lane, slot] > 0)
        lane, slot = lane[rest], slot[rest]
        self.fill(lane, slot, self._price_beyond(lane, own["side"][lane, slot].astype(np.int64)), own["quantity"][lane, slot], False, True)

    def _price_beyond(self, lane: I64, side: I64) -> I64:
        """One tick past the last price that the book shows to orders of `side` [n]; past the last known mid where it shows none."""
        quote, against = self.public.quote[lane, 0], np.where(side > 0, 1, 0)
        shown = (self.public.book[lane, 0, 2 * against + 1] > 0).sum(axis=1)
        last = self.public.book[lane, 0, 2 * against, np.maximum(shown, 1) - 1]
        mid = side * -(-side * quote["mid2"] // (2 * quote["tick"])) * quote["tick"]
        return np.maximum(np.where(shown > 0, last, mid) + side * quote["tick"], quote["tick"])

    def _sweep(self, lanes: I64) -> None:
        """Frees the slots of orders of `lanes` [n] that are gone or filled; the others move up, in their order."""
        open_, used = self.public.open, self.public.lane["orders"]
        keep = (open_["state"][lanes] != FREE) & (open_["quantity"][lanes] > 0)
        some = keep.sum(axis=1) != used[lanes]
        if not some.any():
            return
        lanes, keep = lanes[some], keep[some]
        order = np.argsort(~keep, axis=1, kind="stable")
        own = np.take_along_axis(open_[lanes], order, 1)
        own[~np.take_along_axis(keep, order, 1)] = np.zeros((), OPEN)
        open_[lanes], used[lanes] = own, keep.sum(axis=1)
