"""Days written by hand, row by row, and one lane that trades them: the tools of cases computed by hand.

Prices are small integers: the tick is 1, one price unit is a cent, so one price unit and lot is 1,000,000 cash units.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from emp_gym.market.replay import REQUESTS
from emp_gym.types import EMPTY_ASK, EMPTY_BID, NS, Instrument, MessageType, OrderAck, Orders, RecordedDay, RequestType
from tests.market.duel import tape_of
from tests.market.on_tape import replaying

CASH = 1_000_000  # cash units per price unit and lot
CENT = Instrument("HAND", tick=1, price_unit=0.01)


class Hand:
    """A day that keeps its own book. Row 0 shows the opening book; later rows come a second after the one before."""

    def __init__(
        self, bids: dict[int, int], asks: dict[int, int], levels: int = 5, instrument: Instrument = CENT, date: str = "2030-01-07"
    ) -> None:
        self.book = {1: dict(bids), -1: dict(asks)}
        self.levels, self.instrument, self.date = levels, instrument, date
        self.rows: list[tuple[int, ...]] = []
        self.books: list[np.ndarray] = []
        self.now_ns = 34_200 * NS
        self.quiet()

    def new(self, side: int, price: int, size: int, order: int, **when: Any) -> Hand:
        self.book[side][price] = self.book[side].get(price, 0) + size
        return self._row(MessageType.NEW, side, price, size, order, **when)

    def _less(self, kind: MessageType, side: int, price: int, size: int, order: int, **when: Any) -> Hand:
        self.book[side][price] -= size
        if not self.book[side][price]:
            del self.book[side][price]
        return self._row(kind, side, price, size, order, **when)

    def reduce(self, side: int, price: int, size: int, order: int, **when: Any) -> Hand:
        return self._less(MessageType.REDUCE, side, price, size, order, **when)

    def delete(self, side: int, price: int, size: int, order: int, **when: Any) -> Hand:
        return self._less(MessageType.DELETE, side, price, size, order, **when)

    def execute(self, side: int, price: int, size: int, order: int = 900, **when: Any) -> Hand:
        """`side` is that of the resting order."""
        return self._less(MessageType.EXECUTE, side, price, size, order, **when)

    def hidden(self, price: int, size: int, side: int = 1, **when: Any) -> Hand:
        return self._row(MessageType.EXECUTE_HIDDEN, side, price, size, 0, **when)

    def cross(self, price: int, size: int) -> Hand:
        return self._row(MessageType.CROSS, -1, price, size, -1)

    def halt(self, code: int = -1) -> Hand:
        """-1 halts, 0 resumes quotes, 1 resumes trading."""
        return self._row(MessageType.HALT, -1, code, 0, 0)

    def quiet(self, times: int = 1, **when: Any) -> Hand:
        """Rows that change nothing: hidden prints far away."""
        for _ in range(times):
            self.hidden(1, 1, **when)
        return self

    def out_of_sight(self, side: int, price: int, size: int) -> Hand:
        """The true book changes where the file does not show it: no row."""
        self.book[side][price] = size
        return self

    def _row(self, kind: MessageType, side: int, price: int, size: int, order: int, seconds: float = 1) -> Hand:
        if self.rows:
            self.now_ns += round(seconds * NS)
        self.rows.append((self.now_ns, kind, order, size, price, side))
        book = np.zeros((2, 2, self.levels), np.int64)  # price or size, side, level
        book[0, 0], book[0, 1] = EMPTY_BID, EMPTY_ASK
        for s, sign in enumerate((1, -1)):
            for level, at in enumerate(sorted(self.book[sign], reverse=sign > 0)[: self.levels]):
                book[:, s, level] = at, self.book[sign][at]
        self.books.append(book)
        return self

    def day(self) -> RecordedDay:
        time_ns, kind, order, size, price, side = (np.array(column, np.int64) for column in zip(*self.rows))
        books = np.stack(self.books)
        return RecordedDay(
            instrument=self.instrument, date=self.date, time_ns=time_ns, kind=kind.astype(np.int8), order_id=order,
            size=size.astype(np.int32), price=price, side=side.astype(np.int8), book_price=books[:, 0],
            book_size=books[:, 1].astype(np.int32),
        )  # fmt: skip


class Lane:
    """One lane of the replay market from row 0 of a day, a decision after every message unless told otherwise."""

    def __init__(self, hand: Hand, **rules: Any) -> None:
        day = hand.quiet().day()
        rules = rules if "every_ns" in rules else {"every_rows": 1} | rules
        self.market = replaying(tape_of(day), 1, **{"every_rows": 0} | rules)
        zero = np.zeros(1, np.int64)
        self.market.reset(zero, zero, zero, np.array([len(day.time_ns) - 1]))
        self.waiting: list[tuple[int, ...]] = []
        self.fills: list[tuple[int, int, int]] = []  # (id, price, quantity) of all steps
        self.next_id = 1

    def _ask(self, kind: RequestType, side: int, price: int, quantity: int, target: int = 0) -> int:
        self.waiting.append((price, quantity, self.next_id, target, 0, kind, side))
        self.next_id += 1
        return self.next_id - 1

    def bid(self, price: int, quantity: int) -> int:
        return self._ask(RequestType.LIMIT, 1, price, quantity)

    def offer(self, price: int, quantity: int) -> int:
        return self._ask(RequestType.LIMIT, -1, price, quantity)

    def buy(self, quantity: int) -> int:
        return self._ask(RequestType.MARKET, 1, 0, quantity)

    def sell(self, quantity: int) -> int:
        return self._ask(RequestType.MARKET, -1, 0, quantity)

    def replace(self, target: int, side: int, price: int, quantity: int) -> int:
        return self._ask(RequestType.REPLACE, side, price, quantity, target)

    def cancel(self, order: int) -> None:
        self.waiting.append((0, 0, order, 0, 0, RequestType.CANCEL, 0))

    def step(self, times: int = 1) -> list[OrderAck]:
        """Sends what waits and walks; returns the outcomes of what was sent."""
        orders = Orders.empty(1, REQUESTS)
        sent = len(self.waiting)
        for k, request in enumerate(self.waiting):
            price, quantity, order, target, instrument, kind, side = request
            orders.put(
                0, k, kind, side=side, price=price, quantity=quantity, id=order, target=target, instrument=instrument
            )
        self.waiting = []
        self.market.advance(orders)
        said = [OrderAck(code) for code in self.market.outcome[0, :sent].tolist()]
        log = self.market.last_fills()
        self.fills += list(zip(log.id.tolist(), log.price.tolist(), log.quantity.tolist()))
        if times > 1:
            self.step(times - 1)
        return said

    def filled(self, order: int) -> int:
        return sum(quantity for own, _, quantity in self.fills if own == order)

    def ahead(self, order: int) -> int:
        view = self.market.view
        return int(view.order_ahead[0, view.order_id[0].tolist().index(order)])

    @property
    def resting(self) -> dict[int, int]:
        """id -> lots of own orders at the market."""
        view = self.market.view
        return dict(
            zip(view.order_id[0][view.order_live[0]].tolist(), view.order_quantity[0][view.order_live[0]].tolist())
        )

    @property
    def position(self) -> int:
        return int(self.market.view.position[0, 0])

    @property
    def cash(self) -> float:
        """In price units times lots, fees included."""
        return int(self.market.view.cash[0]) / CASH
