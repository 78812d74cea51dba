"""Kernel against judge: the same requests to both, and everything that is public compared after every step."""

from __future__ import annotations

import random
import tempfile
from collections import defaultdict
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from emp_gym.data.lobster import reader
from emp_gym.data.synthetic import day as synthetic
from emp_gym.data.synthetic.day import DayConfig
from emp_gym.data.tape.tape_set import TapeSet, build
from emp_gym.market.replay import REQUESTS
from emp_gym.types import MessageType, Orders, RecordedDay, RequestType
from tests.market.on_tape import replaying
from tests.reference_market import Day, Judge, Rules

LIMIT, MARKET, CANCEL, REPLACE = RequestType.LIMIT, RequestType.MARKET, RequestType.CANCEL, RequestType.REPLACE
Request = tuple[int, int, int, int, int, int, int]
"""(kind, side, price, quantity, id, target, instrument)"""


@cache
def synthetic_day(config: DayConfig) -> RecordedDay:
    """A synthetic day, read back from its files."""
    with tempfile.TemporaryDirectory() as folder:
        written = synthetic.write_day(Path(folder), config)
        (reading,) = reader.read((written.message, written.orderbook))
        reading.day.signal, reading.day.regime = written.signal, written.regime
        return reading.day


def rows_of(day: RecordedDay, keep: np.ndarray) -> RecordedDay:
    """The day with only the rows `keep`: what the other messages did to the book is still there."""
    columns = ("time_ns", "kind", "order_id", "size", "price", "side", "book_price", "book_size")
    optional = {name: getattr(day, name)[keep] for name in ("signal", "regime") if getattr(day, name) is not None}
    return replace(day, **{name: getattr(day, name)[keep] for name in columns}, **optional)


def damaged(day: RecordedDay, seed: int) -> RecordedDay:
    """The day with rows missing, and with halts, crosses and quoting periods in the place of some messages."""
    rng = np.random.default_rng(seed)
    day = rows_of(day, np.flatnonzero(rng.random(len(day.time_ns)) > 0.04))
    kind, price = day.kind.copy(), day.price.copy()
    at = np.flatnonzero(rng.random(len(kind)) < 0.01)
    kind[at] = rng.choice([MessageType.HALT, MessageType.HALT, MessageType.CROSS, MessageType.EXECUTE_HIDDEN], len(at))
    halts = at[kind[at] == MessageType.HALT]
    price[halts] = rng.choice([-1, 0, 1, 1, 1], len(halts))
    return replace(day, kind=kind, price=price)


def read_only(made: TapeSet) -> TapeSet:
    """The same tape with arrays like those of a tape that was opened: one set of compiled kernels then serves both."""
    for array in vars(made).values():
        if isinstance(array, np.ndarray):
            array.setflags(write=False)
    return made


def tape_of(day: RecordedDay) -> TapeSet:
    """The day's tape, read-only."""
    return read_only(build(day))


def orders_of(requests: list[list[Request]]) -> Orders:
    """The requests of every lane as a market takes them."""
    orders = Orders.empty(len(requests), REQUESTS)
    for lane, own in enumerate(requests):
        for slot, (kind, *rest) in enumerate(own):
            orders.put(lane, slot, kind, **dict(zip(("side", "price", "quantity", "id", "target", "instrument"), rest)))
    return orders


class Duel:
    """Lanes of the real market beside as many judges."""

    def __init__(self, day: RecordedDay, rules: Rules, starts: list[int], end: int | None = None) -> None:
        end = len(day.time_ns) - 1 if end is None else end
        judged = Day(day)
        n = len(starts)
        self.tape = tape_of(day)
        self.market = replaying(self.tape, n, **asdict(rules))
        self.lanes = np.arange(n)
        self.market.reset(self.lanes, np.zeros(n, np.int64), np.array(starts), np.full(n, end))
        self.judges = [Judge(judged, rules, start, end) for start in starts]
        self.compare()

    def step(self, requests: list[list[Request]]) -> None:
        """One decision in every lane, compared."""
        self.market.advance(orders_of(requests))
        for i, judge in enumerate(self.judges):
            said = judge.step(requests[i])
            assert self.market.outcome[i, : len(said)].tolist() == said, (i, requests[i])
        self.compare()

    def close(self, target: int = 0) -> None:
        self.market.close(self.lanes, np.full(len(self.lanes), target))
        for judge in self.judges:
            judge.close(target)
        self.compare()

    def compare(self) -> None:
        fills: dict[int, list[tuple]] = defaultdict(list)
        log = self.market.last_fills()
        for lane, *entry in zip(*(getattr(log, name).tolist() for name in _FILL)):
            fills[lane].append(tuple(entry))
        for i, judge in enumerate(self.judges):
            state, slots = self.market.state[i], self.market.slots[i]
            assert {name: state[name].item() for name in _STATE} == {name: getattr(judge, name) for name in _STATE}, i
            assert (state["seen_row"], state["last_row"]) == (judge.seen, judge.seen_before), i
            held = [tuple(slot) for slot in slots[: state["orders"]][_OWN].tolist()]
            judged = [(own.id, own.side, own.price, own.quantity, own.live, own.ahead) for own in judge.orders]
            assert held == judged, i
            assert (slots["id"][state["orders"] :] == 0).all() and not slots["live"][state["orders"] :].any()
            assert sorted(fills[i]) == sorted(merged(judge)), i


_FILL = ("lane", "id", "side", "price", "quantity", "fee", "time_ns", "row", "maker", "beyond_depth")
_STATE = (
    "row", "time_ns", "decision", "exhausted", "cash", "fees", "position", "sent", "hit", "refused", "beyond",
    "captured2", "unknown_place",
)  # fmt: skip
_OWN = ["id", "side", "price", "quantity", "live", "ahead"]


def merged(judge: Judge) -> list[tuple]:
    """The judge's fills as the log shows them: an entry an order, price and kind of liquidity, timed by its last."""
    entries: dict[tuple, list] = {}
    for fill in judge.fills:
        entry = entries.setdefault((fill.id, fill.price, fill.maker, fill.beyond), [fill.side, 0, 0, 0, 0])
        entry[1:] = entry[1] + fill.quantity, entry[2] + fill.fee, fill.time_ns, fill.row
    return [(k[0], e[0], k[1], e[1], e[2], e[3], e[4], k[2], k[3]) for k, e in entries.items()]


class Trader:
    """Seeded random requests, most of them sensible, some absurd."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.next_id = 1

    def requests(self, judge: Judge) -> list[Request]:
        how_many = self.random.choice((0, 0, 0, 1, 1, 2, 3))
        return [self._one(judge) for _ in range(how_many)]

    def _one(self, judge: Judge) -> Request:
        rng, own = self.random, judge.day.instrument
        tick = min([own.tick, *(tick for _, tick in own.ticks)])
        kind = rng.choice((LIMIT,) * 10 + (MARKET,) * 2 + (CANCEL,) * 3 + (REPLACE,) * 3)
        known = [own.id for own in judge.orders] + list(range(max(1, self.next_id - 2), self.next_id)) or [7]
        if kind == CANCEL:
            return kind, 0, 0, 0, rng.choice(known), 0, 0
        side, price = rng.choice((1, -1)), self._price(judge, tick)
        quantity = rng.choice((1, 3, 10, 40, 200, 200, 900))
        target = rng.choice(known) if kind == REPLACE else 0
        order, instrument = self.next_id, 0
        self.next_id += 1
        match rng.randrange(60):  # now and then an absurd one
            case 0:
                price += 1
            case 1:
                quantity = -quantity
            case 2:
                side = 0
            case 3:
                order = rng.choice(known)
            case 4:
                instrument = 1
            case 5:
                kind = 9
            case 6:
                price = -price
        return int(kind), side, price, quantity, order, target, instrument

    def _price(self, judge: Judge, tick: int) -> int:
        """Near the touch on either side, at a level, beside one of our own orders, or far away."""
        rng, book = self.random, judge.day.rows[judge.seen].book
        levels = list(rng.choice((book[1], book[-1]))) or list(book[1]) or list(book[-1]) or [100 * tick]
        near = rng.choice((levels[0], levels[0], rng.choice(levels), levels[-1]))
        if judge.orders and rng.random() < 0.3:
            near = rng.choice(judge.orders).price or near
        if rng.random() < 0.05:
            return max(tick, near + rng.randint(-60, 60) * tick)
        return max(tick, near + rng.choice((-2, -1, 0, 0, 0, 1, 2)) * tick)


class Taker(Trader):
    """Market orders of all sizes, and limit orders that cross the touch."""

    def _one(self, judge: Judge) -> Request:
        rng, self.next_id = self.random, self.next_id + 1
        side, quantity = rng.choice((1, -1)), rng.choice((1, 40, 40, 300, 2_000, 70_000))
        best = list(judge.day.rows[judge.seen].book[-side])[:1]
        if best and rng.random() < 0.4:
            return int(LIMIT), side, best[0], quantity, self.next_id, 0, 0
        return int(MARKET), side, 0, quantity, self.next_id, 0, 0


def walk(
    day: RecordedDay, rules: Rules, *, lanes: int, steps: int, seed: int, end: int | None = None, trader: type[Trader] = Trader
) -> Any:  # fmt: skip
    """Random lanes for so many steps each, from random starts; lanes at the end of the day close and start again."""
    rng = random.Random(seed)
    last = len(day.time_ns) - 1 if end is None else end
    duel = Duel(day, rules, [rng.randrange(0, last // 2) for _ in range(lanes)], last)
    traders = [trader(seed * 1000 + i) for i in range(lanes)]
    for _ in range(steps):
        duel.step([trader.requests(judge) for trader, judge in zip(traders, duel.judges)])
        yield duel
        if any(judge.exhausted for judge in duel.judges):
            break
    duel.close(rng.choice((0, 0, 50)))
    yield duel
