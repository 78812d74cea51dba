"""The slow judge of the replay market: one lane in plain Python that looks at every recorded message, one by one.

No index, no skipping, no shared code: books are dicts, requests travel as mail, executions are shared out lot by lot.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

from emp_gym.types import (
    EMPTY_ASK,
    EMPTY_BID,
    Instrument,
    MessageType,
    OrderAck,
    RecordedDay,
    RequestType,
    TradingStatus,
)

BEYOND_WINDOW = -1  # volume ahead of an order whose place nobody knows
BEYOND_FILE = 2  # times the side of a book: what was taken beyond its file
OWN_ORDERS = 8


class Event(NamedTuple):
    """Something that happens to one level: a message (kinds 1-4) or the level entering or leaving the window."""

    kind: int
    side: int
    price: int
    size: int
    birth: int | None  # row of the order's visible birth, None if it was never seen
    first_mention: int


class Row(NamedTuple):
    time_ns: int
    kind: int
    side: int
    price: int
    size: int
    status: int
    events: list[Event]
    book: dict[int, dict[int, int]]  # side -> price -> lots, best first
    mid2: int
    bought: int
    sold: int


class Day:
    """One recorded day, row by row."""

    def __init__(self, day: RecordedDay) -> None:
        self.instrument = day.instrument
        self.levels = day.book_price.shape[2]
        self.side_told = day.date < "2014-07-14"  # from then on every hidden execution says "buy"
        self.rows: list[Row] = []
        births: dict[int, int] = {}
        mentions: dict[int, int] = {}
        book: dict[int, dict[int, int]] = {1: {}, -1: {}}
        trading, mid2, bought, sold = TradingStatus.TRADING, 0, 0, 0
        columns = (day.time_ns, day.kind, day.order_id, day.size, day.price, day.side, day.book_price, day.book_size)
        for r, (time_ns, kind, order, size, price, side, prices, sizes) in enumerate(
            zip(*(c.tolist() for c in columns))
        ):
            events = []
            before, book = book, {1: visible(prices[0], sizes[0]), -1: visible(prices[1], sizes[1])}
            if kind in (MessageType.NEW, MessageType.REDUCE, MessageType.DELETE, MessageType.EXECUTE):
                mentions.setdefault(order, r)
                if kind == MessageType.NEW:
                    births[order] = r
                events.append(Event(kind, side, price, size, births.get(order), mentions[order]))
            if kind == MessageType.HALT:
                trading = {-1: TradingStatus.HALTED, 0: TradingStatus.QUOTING}.get(price, TradingStatus.TRADING)
            if kind == MessageType.EXECUTE:
                bought, sold = bought + size * (side < 0), sold + size * (side > 0)
            for s in (1, -1):
                expected = message_applied(before[s], events[0]) if events and side == s else before[s]
                events += window_events(s, expected, book[s])
            if book[1] and book[-1]:
                mid2 = next(iter(book[1])) + next(iter(book[-1]))
            status = TradingStatus.CROSSING if kind == MessageType.CROSS and trading == TradingStatus.TRADING else trading
            self.rows.append(Row(time_ns, kind, side, price, size, status, events, book, mid2, bought, sold))

    def last_row_at(self, time_ns: int) -> int:
        """Last row with time <= time_ns, -1 if there is none."""
        return bisect_right(self.rows, time_ns, key=lambda row: row.time_ns) - 1

    def end_of_group(self, r: int) -> int:
        """Last row with the time of row r."""
        while r + 1 < len(self.rows) and self.rows[r + 1].time_ns == self.rows[r].time_ns:
            r += 1
        return r


def further(day: Day, side: int, origin: int, r: int) -> tuple[int, int]:
    """(price units between levels beyond `origin`, lots of each): what the visible levels of the last 16 looks were, 32 rows apart."""
    sizes, apart, spreads = [], [], []
    for row in (day.rows[at] for at in range(r, max(r - 16 * 32, -1), -32)):
        for book in row.book.values():
            sizes += book.values()
            apart += [abs(one - next_one) for one, next_one in zip(list(book), list(book)[1:])]
        if row.book[1] and row.book[-1]:
            spreads.append(min(row.book[-1]) - max(row.book[1]))
    wide = Fraction(3, 4) * Fraction(sum(apart), len(apart)) if apart else Fraction(sum(spreads), 5 * len(spreads)) if spreads else 0
    tick = tick_of(day.instrument, origin if side > 0 else max(origin - 1, 0))
    return max(math.ceil(wide), tick), max(sum(sizes) // max(len(sizes), 1), 1)


def tick_of(instrument: Instrument, price: int) -> int:
    """That of the last step not above `price`."""
    return next((tick for from_price, tick in reversed(instrument.ticks) if price >= from_price), instrument.tick)


def valid(instrument: Instrument, price: int) -> bool:
    """Whether an order may stand at `price`."""
    return price % tick_of(instrument, price) == 0


def visible(prices: list[int], sizes: list[int]) -> dict[int, int]:
    return {price: size for price, size in zip(prices, sizes) if price not in (EMPTY_BID, EMPTY_ASK)}


def message_applied(levels: dict[int, int], message: Event) -> dict[int, int]:
    after = dict(levels)
    if message.kind == MessageType.NEW:
        after[message.price] = after.get(message.price, 0) + message.size
    elif message.price in after:
        after[message.price] -= message.size
        if after[message.price] <= 0:
            del after[message.price]
    return after


def window_events(side: int, expected: dict[int, int], found: dict[int, int]) -> list[Event]:
    """What turns the expected levels of a side into those found, best price first."""
    events = []
    for price in sorted({*expected, *found}, reverse=side > 0):
        if price not in found:
            events.append(Event(MessageType.EVICT, side, price, expected[price], None, -1))
        elif expected.get(price) != found[price]:
            events.append(Event(MessageType.ADOPT, side, price, found[price], None, -1))
    return events


@dataclass(frozen=True)
class Rules:
    fills: str = "exact"
    hidden_prints: str = "ignore"
    order_latency_ns: int = 0
    feed_latency_ns: int = 0
    half_life_ns: int = 0
    every_rows: int = 10
    every_ns: int = 0
    maker_fee_bps: float = 0.0
    taker_fee_bps: float = 0.0
    maker_fee_per_lot: float = 0.0
    taker_fee_per_lot: float = 0.0


@dataclass
class Own:
    """One order of ours."""

    id: int
    side: int
    price: int
    quantity: int
    market: bool
    target: int
    decision: int
    live: bool = False
    gone: bool = False
    ahead: int = 0
    behind: int = 0
    born: int = -1
    level_left: int | None = None  # row in which its level last left the window, came back or changed without a message
    named: dict[int, int] = field(
        default_factory=dict
    )  # row of birth -> lots left of orders ahead that were born in sight
    nameless: int | None = (
        0  # lots ahead that can be of other orders, once the level was out of sight; None: any number
    )
    counted: int = 0  # lots of the real order whose place a ghost has taken, in the visible volume
    filled: int = 0


class Fill(NamedTuple):
    id: int
    side: int
    price: int
    quantity: int
    fee: int
    time_ns: int
    row: int
    maker: bool
    beyond: bool


@dataclass
class Letter:
    """A request on its way."""

    arrives_ns: int
    order: Own | None  # a new order, or
    cancels: int = 0  # the id of an order to cancel


@dataclass
class Judge:
    """One lane: `step` takes a decision's requests and walks to the next decision."""

    day: Day
    rules: Rules
    start: int
    end: int
    orders: list[Own] = field(default_factory=list)  # in order of age, in flight included
    mail: list[Letter] = field(default_factory=list)
    taken: list[tuple[int, int, Fraction, int, int]] = field(default_factory=list)  # side, price, lots, time, row of consumed depth
    cash: int = 0
    fees: int = 0
    position: int = 0
    decision: int = 0
    refused: int = 0
    sent: int = 0
    hit: int = 0
    beyond: int = 0
    captured2: int = 0
    unknown_place: int = 0

    def __post_init__(self) -> None:
        self.row = self.day.end_of_group(self.start)
        self.time_ns = self.day.rows[self.row].time_ns
        self.seen = self.seen_before = self.row
        if self.rules.feed_latency_ns:
            self.seen = self.seen_before = self._seen(0)
        self.fills: list[Fill] = []
        self.exhausted = False
        self.per_lot = round(self.day.instrument.price_unit * 10**8)

    def _seen(self, at_least: int) -> int:
        at = self.day.last_row_at(self.time_ns - self.rules.feed_latency_ns)
        return max(min(at, self.row), at_least, 0)

    # ---------------------------------------------------------------------------------------------------- a decision

    def step(self, requests: Iterable[tuple[int, int, int, int, int, int, int]]) -> list[int]:
        """Requests are (kind, side, price, quantity, id, target, instrument); returns an `OrderAck` for each."""
        self.fills = []
        outcomes = [self._send(*request) for request in requests]
        rows, rules = self.day.rows, self.rules
        if rules.every_rows:
            target = self.day.end_of_group(min(self.row + rules.every_rows, self.end))
            self.time_ns = rows[target].time_ns
        else:
            self.time_ns += rules.every_ns
            target = self.row
            while target + 1 < len(rows) and rows[target + 1].time_ns <= self.time_ns:
                target += 1
            target = min(target, self.day.end_of_group(self.end))
        self.exhausted = target >= self.end
        for r in range(self.row + 1, target + 1):
            self._deliver(before_ns=rows[r].time_ns, row=r - 1)
            self._happen(r)
        self._deliver(before_ns=self.time_ns + 1, row=target)
        self.row = target
        self.decision += 1
        self.seen_before = self.seen
        self.seen = self._seen(self.seen) if rules.feed_latency_ns else self.row
        return outcomes

    def _send(self, kind: int, side: int, price: int, quantity: int, order: int, target: int, instrument: int) -> int:
        arrives_ns = self.time_ns + self.rules.order_latency_ns
        known = {own.id for own in self.orders}
        if kind == RequestType.NONE:
            return OrderAck.NONE
        if kind == RequestType.CANCEL:
            if order not in known:
                return OrderAck.UNKNOWN
            self.mail.append(Letter(arrives_ns, None, order))
            return OrderAck.ACCEPTED
        whole = self.day.instrument
        malformed = (
            kind not in (RequestType.LIMIT, RequestType.MARKET, RequestType.REPLACE) or quantity <= 0 or quantity % whole.lot
        )
        malformed = malformed or side not in (1, -1) or instrument != 0 or order <= 0 or order in known
        malformed = malformed or (kind != RequestType.MARKET and (price <= 0 or not valid(whole, price)))
        outcome = OrderAck.ACCEPTED
        if malformed:
            outcome = OrderAck.MALFORMED
        elif kind == RequestType.REPLACE and target not in known:
            outcome = OrderAck.UNKNOWN
        elif self.day.rows[self.seen].status != TradingStatus.TRADING:
            outcome = OrderAck.HALTED
        elif len(self.orders) >= OWN_ORDERS:
            outcome = OrderAck.NO_SLOT
        if outcome != OrderAck.ACCEPTED:
            self.refused += 1
            return outcome
        target = target if kind == RequestType.REPLACE else 0
        own = Own(order, side, price, quantity, kind == RequestType.MARKET, target, self.decision)
        self.orders.append(own)
        self.mail.append(Letter(arrives_ns, own))
        self.sent += 1
        return outcome

    # ------------------------------------------------------------------------------------------------------ arrivals

    def _deliver(self, before_ns: int, row: int) -> None:
        """Everything that arrives before that time, in the order in which it was sent."""
        while self.mail and self.mail[0].arrives_ns < before_ns:
            letter = self.mail.pop(0)
            if letter.order is None:
                for own in self.orders:
                    own.gone |= own.live and own.id == letter.cancels
            else:
                self._arrive(letter.order, row, max(letter.arrives_ns, self.day.rows[row].time_ns))
            self._sweep()

    def _sweep(self) -> None:
        self.orders = [own for own in self.orders if not own.gone]

    def _arrive(self, own: Own, r: int, now_ns: int) -> None:
        row = self.day.rows[r]
        replaced = [other for other in self.orders if other.id == own.target and other.live and not other.gone]
        for other in replaced:
            other.gone = True
        nothing_to_take = own.market and not row.book[-own.side] and row.mid2 == 0
        if (own.target and not replaced) or row.status != TradingStatus.TRADING or nothing_to_take:
            self.refused += 1
            own.gone = True
            return
        wanted = own.quantity
        own.quantity = self.take(own.id, own.side, None if own.market else own.price, wanted, r, now_ns)
        own.filled += wanted - own.quantity
        self.hit += own.filled > 0
        own.gone = own.quantity == 0
        if own.gone:
            return
        own.live, own.born = True, r
        own.named = born_in_sight(self.day, own.side, own.price, r)
        levels = row.book[own.side]
        if own.price in levels:
            own.ahead = levels[own.price]
        elif len(levels) == self.day.levels and all(own.side * price > own.side * own.price for price in levels):
            own.ahead, own.nameless, own.level_left = BEYOND_WINDOW, None, r
            self.unknown_place += 1

    def take(self, order: int, side: int, limit: int | None, quantity: int, r: int, now_ns: int) -> int:
        """Takes from the visible book; a market order (limit None) is always done, at a worse price beyond it."""
        row = self.day.rows[r]
        reached = [price for price in row.book[-side] if limit is None or side * price <= side * limit]
        past = next((note[1] for note in self.taken if note[0] == -side * BEYOND_FILE), 0)
        gone = self._taken(-side * BEYOND_FILE, past, r, now_ns)
        nearest = [past] if gone else []
        for price in reached:
            there = max(row.book[-side][price] - self._taken(-side, price, r, now_ns), 0)
            if nearest and side * price > side * past:  # the file has come to show what was taken beyond it
                missing = min(gone, there)
                gone, there = gone - missing, there - missing
            part = min(quantity, there)
            if part > 0:
                self._book(order, side, price, part, now_ns, r, maker=False)
                self._note(-side, price, part, r, now_ns)
                quantity -= part
        if limit is None and quantity > 0:
            origin = reached[-1] if reached else self._empty_side(side, row)
            gone += self._out_of_sight(side, origin, gone, quantity, r, now_ns)
            self._book(order, side, self._beyond(side, origin, gone, quantity, r), quantity, now_ns, r, maker=False, beyond=True)
            self._note(-side * BEYOND_FILE, side * min(side * price for price in [*nearest, origin]), quantity, r, now_ns)
            self.beyond += quantity
            quantity = 0
        return quantity

    def _empty_side(self, side: int, row: Row) -> int:
        """The last known mid (half a unit goes against the taker), but beyond the other side's best price by a tick at the least."""
        mid = math.ceil(Fraction(row.mid2, 2)) if side > 0 else math.floor(Fraction(row.mid2, 2))
        if not row.book[side]:
            return mid
        best = max(side * price for price in row.book[side]) * side
        past = best + side * tick_of(self.day.instrument, best if side > 0 else best - 1)
        return max(side * max(side * mid, side * past), 0)

    def _out_of_sight(self, side: int, origin: int, gone: int, quantity: int, r: int, now_ns: int) -> int:
        """Lots taken at prices beyond `origin`: the nearest first, as long as the levels that it takes without those before reach them."""
        step, size = further(self.day, side, origin, r)
        notes = sorted((side * price, price) for noted, price, *_ in self.taken if noted == -side and side * price > side * origin)
        lots = Fraction(0)
        while notes:
            levels = math.ceil(Fraction(gone + self._whole(lots) + quantity, size))
            reached = [price for far, price in notes if far <= side * origin + levels * step]
            if not reached:
                break
            lots += sum(self._left(-side, price, r, now_ns) for price in reached)
            notes = notes[len(reached) :]
        return self._whole(lots)

    def _beyond(self, side: int, origin: int, gone: int, quantity: int, r: int) -> int:
        """The price of `quantity` lots of levels beyond `origin`, of which the first `gone` lots are not there: level by level."""
        own = self.day.instrument
        step, size = further(self.day, side, origin, r)
        end = 2 * origin if side > 0 else 1  # no level is further away
        while end < 1 or not valid(own, end):
            end += -side if end > 1 else 1
        paid, left, level = 0, quantity, 0
        while left:
            level += 1
            price = side * min(side * (origin + side * level * step), side * end)
            size = left + gone if price == end else size  # the last level has what is wanted
            missing = min(gone, size)
            part = min(left, size - missing)
            gone, left, paid = gone - missing, left - part, paid + part * price
        price = side * math.ceil(Fraction(side * paid, quantity))
        while side * price < side * end and not valid(own, price):
            price += side
        return side * min(side * price, side * end)

    @staticmethod
    def _whole(lots: Fraction) -> int:
        """The nearest number of lots; half a lot is one."""
        return math.floor(lots + Fraction(1, 2))

    def _taken(self, side: int, price: int, r: int, now_ns: int) -> int:
        return self._whole(self._left(side, price, r, now_ns))

    def _left(self, side: int, price: int, r: int, now_ns: int) -> Fraction:
        """Lots, in parts of 1/65,536, that have not come back; less than half a lot is nothing."""
        half_life = self.rules.half_life_ns
        for noted_side, noted_price, lots, noted_ns, noted_row in self.taken:
            if noted_side == side and (noted_price == price or abs(side) == BEYOND_FILE):
                if half_life < 0 or noted_row == r:
                    return lots
                parts = int(lots * 65_536 * 0.5 ** ((now_ns - noted_ns) / half_life)) if half_life else 0
                return Fraction(parts, 65_536) if 2 * parts >= 65_536 else Fraction(0)
        return Fraction(0)

    def _note(self, side: int, price: int, lots: int, r: int, now_ns: int) -> None:
        note = (side, price, lots + self._left(side, price, r, now_ns), now_ns, r)
        self.taken = [old for old in self.taken if old[0] != side or (old[1] != price and abs(side) != BEYOND_FILE)] + [note]

    def close(self, target: int) -> None:
        self.orders, self.mail = [], []
        wanted = target - self.position
        if wanted:
            self.take(-1, 1 if wanted > 0 else -1, None, abs(wanted), self.row, self.time_ns)

    # ------------------------------------------------------------------------------------------------------- a message

    def _happen(self, r: int) -> None:
        row = self.day.rows[r]
        resting = [own for own in self.orders if own.live]
        if not resting:
            return
        concerned = [
            (own, event)
            for event in row.events
            for own in resting
            if (own.side, own.price) == (event.side, event.price)
        ]
        if row.status == TradingStatus.TRADING:
            for own, event in concerned:
                look_at_front(own, event)
            self._fill(resting, r)
        for own, event in concerned:
            move(self.day, own, event, r)
        for own in resting:
            own.gone = own.quantity == 0
        self._sweep()

    def _fill(self, resting: list[Own], r: int) -> None:
        row, optimistic = self.day.rows[r], self.rules.fills == "optimistic"
        if optimistic and row.kind in (MessageType.NEW, MessageType.REDUCE, MessageType.DELETE, MessageType.EXECUTE):
            better = self.day.rows[r - 1].book[row.side]
            for own in resting:
                touched = (own.side, own.price) == (row.side, row.price)
                if touched and not any(own.side * price > own.side * own.price for price in better):
                    self._made(own, own.quantity, r)
        side = self._passive_side(r)
        line = [own for own in resting if own.side == side and side * own.price >= side * row.price and own.quantity]
        line.sort(key=lambda own: -side * own.price)  # stable: price, then age
        if optimistic:
            for own in line:
                self._made(own, own.quantity, r)
            return
        queued = row.kind == MessageType.EXECUTE and self.rules.fills == "exact"
        at_price = [own for own in line if own.price == row.price and queued]
        line = [own for own in line if own not in at_price or own.ahead != BEYOND_WINDOW]
        made: dict[int, int] = defaultdict(int)
        for _ in range(row.size):  # one lot at a time
            first = next((own for own in line if made[own.id] < own.quantity), None)
            if first is not None and (first not in at_price or first.ahead == 0):
                made[first.id] += 1
                continue
            for own in at_price:
                own.ahead = max(own.ahead - 1, 0) if own.ahead > 0 else own.ahead
        for own in line:
            if made[own.id]:
                self._made(own, made[own.id], r)

    def _passive_side(self, r: int) -> int:
        """The side whose resting orders the message of row r can fill, 0 for none."""
        row = self.day.rows[r]
        if row.kind == MessageType.NEW:
            return -row.side
        if row.kind == MessageType.EXECUTE_HIDDEN and self.rules.hidden_prints == "fill":
            bids, offers = self.day.rows[r - 1].book[1], self.day.rows[r - 1].book[-1]
            if not bids or not offers or not max(bids) < row.price < min(offers):
                return 0
            if self.day.side_told:
                return row.side
            from_bid, from_offer = row.price - max(bids), min(offers) - row.price
            return 0 if from_bid == from_offer else 1 if from_bid < from_offer else -1
        return row.side if row.kind == MessageType.EXECUTE else 0

    # --------------------------------------------------------------------------------------------------------- money

    def _made(self, own: Own, lots: int, r: int) -> None:
        if lots:
            self.hit += own.filled == 0
            own.filled += lots
            own.quantity -= lots
            self._book(own.id, own.side, own.price, lots, self.day.rows[r].time_ns, r, maker=True)

    def _book(
        self, order: int, side: int, price: int, lots: int, now_ns: int, r: int, *, maker: bool, beyond: bool = False
    ) -> None:
        bps = self.rules.maker_fee_bps if maker else self.rules.taker_fee_bps
        fee = math.ceil(price * lots * self.per_lot * Fraction(round(bps * 10_000), 10**8))
        fee += round((self.rules.maker_fee_per_lot if maker else self.rules.taker_fee_per_lot) * 10**8) * lots
        self.cash -= side * price * lots * self.per_lot + fee
        self.fees += fee
        self.position += side * lots
        self.captured2 += side * (self.day.rows[r - 1 if maker else r].mid2 - 2 * price) * lots
        self.fills.append(Fill(order, side, price, lots, fee, now_ns, r, maker, beyond))


# ---- the place of a resting order -----------------------------------------------------------------------------------


def born_in_sight(day: Day, side: int, price: int, r: int) -> dict[int, int]:
    """Row of birth -> lots left after row r, of orders born since the level came into sight."""
    orders: dict[int, int] = {}
    for at, row in enumerate(day.rows[: r + 1]):
        for event in row.events:
            if (event.side, event.price) == (side, price):
                if event.kind == MessageType.NEW:
                    orders[at] = event.size
                elif event.kind in (MessageType.ADOPT, MessageType.EVICT):
                    orders = {}
                elif event.birth in orders:
                    orders[event.birth] -= event.size
                if price not in row.book[side]:
                    orders = {}
    return orders


def look_at_front(own: Own, event: Event) -> None:
    """Who is executed stood first. If he came after us, nobody is ahead of us any more."""
    if event.kind != MessageType.EXECUTE or own.level_left is None:
        return
    if event.birth is not None:
        younger = event.birth > own.born
    else:  # born out of sight after us, if he has more than all such orders ahead of us can have
        younger = event.first_mention > own.born and own.nameless is not None and event.size > own.nameless
    if younger:
        own.ahead = own.nameless = 0


def move(day: Day, own: Own, event: Event, r: int) -> None:
    """What a message or window event at its level does to the place of a resting order; executions are shared out already."""
    before = own.level_left
    if event.kind in (MessageType.ADOPT, MessageType.EVICT):
        if before is None:
            own.nameless = max(
                own.ahead - sum(lots for birth, lots in own.named.items() if birth < own.born + (not own.counted)), 0
            )
        own.level_left, own.behind, own.counted = r, 0, min(own.counted, 1)
        if event.kind == MessageType.EVICT:
            return
        if own.ahead and was_empty(day, own, max(own.born, -1 if before is None else before), r):
            own.ahead = own.nameless = 0
        elif own.ahead == BEYOND_WINDOW:
            own.ahead = own.nameless = event.size
    elif event.kind == MessageType.NEW:
        own.behind += event.size
        if own.ahead == BEYOND_WINDOW:
            own.ahead = own.nameless = 0  # the level was empty when it came into sight
    elif event.birth == own.born and own.counted:
        own.counted = max(own.counted - event.size, 0)
    else:
        leave(own, event, traded=event.kind == MessageType.EXECUTE and day.rows[r].status == TradingStatus.TRADING)
    if own.ahead > 0:
        seen = event.size if event.kind == MessageType.ADOPT else day.rows[r].book[own.side].get(own.price, 0)
        own.ahead = min(own.ahead, max(seen - own.counted - own.behind, 0))
    if own.ahead != BEYOND_WINDOW and own.nameless is not None:
        own.nameless = min(own.nameless, own.ahead)


def leave(own: Own, event: Event, traded: bool) -> None:
    """Lots of an order at our level go."""
    sure = own.level_left is None
    if event.birth is not None and event.birth > own.born:
        if sure or event.birth > own.level_left:
            own.behind = max(own.behind - event.size, 0)
        return
    if event.birth is None and event.first_mention > own.born and not sure:  # ahead of us or behind, who knows
        if traded and own.nameless is not None:
            own.nameless = max(own.nameless - event.size, 0)
        return
    if event.kind != MessageType.EXECUTE and own.ahead > 0:
        own.ahead = max(own.ahead - event.size, 0)
    if event.birth in own.named:
        own.named[event.birth] -= event.size
        if traded and not sure:  # who was older has gone
            self_too = own.born + (not own.counted)
            remain = sum(lots for birth, lots in own.named.items() if event.birth <= birth < self_too)
            own.ahead, own.nameless = min(own.ahead, remain), 0
    elif event.birth is None and not sure and own.nameless is not None:
        own.nameless = max(own.nameless - event.size, 0)


def was_empty(day: Day, own: Own, since: int, r: int) -> bool:
    """Whether a row after `since`, of the last 64 before row r, shows that nobody stands at our price."""
    for at in range(max(since + 1, r - 63), r):
        levels = day.rows[at].book[own.side]
        past = len(levels) < day.levels or any(own.side * price < own.side * own.price for price in levels)
        if past and own.price not in levels:
            return True
    return False
