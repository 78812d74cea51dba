"""Views and orders made by hand or drawn with malice: what the risk layer's tests look at."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from emp_gym.risk.limits import Limits, load
from emp_gym.types import EMPTY_ASK, EMPTY_BID, ORDER, Orders, RequestType, View

MID2 = 2_000_000  # twice the mid of a calm view, price units
TICK = 100
PRICE_TO_CASH = 10_000
LEVELS = 3
BIG = (1 << 44, (1 << 44) + 1, 1 << 56, (1 << 63) - 1, -(1 << 63), 1 << 62, -1)


def strided(*shape: int, dtype: Any = np.int64) -> np.ndarray:
    """Zeros that are not contiguous, as the fields of a market's state are: one compiled kernel serves both."""
    return np.zeros((*shape, 2), dtype)[..., 0]


def calm_view(lanes: int = 1, instruments: int = 1, slots: int = 8) -> View:
    """A trading two-sided book, one tick wide, 1,000 lots a level; flat, no orders, decision 1 at 10:00."""
    n, m, k = lanes, instruments, slots
    view = View(
        time_ns=strided(n), status=strided(n, m, dtype=np.int8), bid_price=strided(n, m, LEVELS), bid_size=strided(n, m, LEVELS),
        ask_price=strided(n, m, LEVELS), ask_size=strided(n, m, LEVELS), bought=strided(n, m), sold=strided(n, m),
        cash=strided(n), fees=strided(n), position=strided(n, m), order_id=strided(n, k),
        order_live=strided(n, k, dtype=np.bool_), order_side=strided(n, k, dtype=np.int8), order_price=strided(n, k),
        order_quantity=strided(n, k), order_ahead=strided(n, k), decision=strided(n), mid2=strided(n, m), tick=strided(n, m),
        price_to_cash=strided(n, m), midnight_utc_ns=strided(n), order_instrument=strided(n, k, dtype=np.int32),
    )  # fmt: skip
    view.time_ns[:] = 36_000 * 10**9
    view.decision[:] = 1
    view.mid2[:] = MID2
    view.tick[:] = TICK
    view.price_to_cash[:] = PRICE_TO_CASH
    for level in range(LEVELS):
        view.bid_price[..., level] = MID2 // 2 - TICK * (level + 1)
        view.ask_price[..., level] = MID2 // 2 + TICK * (level + 1)
    view.bid_size[:] = view.ask_size[:] = 1000
    return view


def open_order(
    view: View, slot: int, side: int, price: int, quantity: int, *, id: int = 1, lane: int = 0, instrument: int = 0
) -> None:
    """Puts an own order into a view."""
    view.order_id[lane, slot], view.order_side[lane, slot], view.order_price[lane, slot] = id, side, price
    view.order_quantity[lane, slot], view.order_instrument[lane, slot] = quantity, instrument


def one(kind: int = RequestType.LIMIT, *, slots: int = 6, **fields: int) -> Orders:
    """Orders of one lane that ask for one thing: by default to buy 10 at the mid as order 100."""
    orders = Orders.empty(1, slots)
    orders.put(0, 0, kind, **({"side": 1, "price": MID2 // 2, "quantity": 10, "id": 100} | fields))
    return orders


def copied(view: View) -> View:
    """A view of its own, strided as before."""
    twin = calm_view(len(view.time_ns), view.position.shape[1], view.order_id.shape[1])
    for name, value in vars(view).items():
        if isinstance(value, np.ndarray):
            getattr(twin, name)[...] = value
    return twin


def random_limits(rng: random.Random, instruments: int) -> Limits:
    """Limits of which each is there or not, at values that small orders meet."""
    share = rng.choice([0.15, 0.4, 0.7])

    def maybe(**values: Any) -> dict[str, Any]:
        return {name: value for name, value in values.items() if rng.random() < share}

    def rule() -> dict[str, Any]:
        return maybe(
            restricted=rng.random() < 0.1, max_quote_age_ms=rng.choice([1, 500, 60_000]), max_position=rng.choice([10, 99, 100, 250]),
            adv_lots=rng.choice([1000, 10_001]), max_top_multiple=rng.choice([1, 3]), session=("09:30:00", "16:00:00"),
        ) | {"sector": rng.randrange(3), "lot": rng.choice([1, 1, 1, 5, 10])}  # fmt: skip

    gross = rng.choice([20_000, 50_000, 1_000_000])
    window = maybe(
        submit={"count": rng.choice([2, 3, 7]), "window_ms": rng.choice([1, 1000])},
        executions={"count": rng.choice([1, 3]), "window_ms": 1000, "then": rng.choice(["reducing", "halted"])},
        collar={"bps": rng.choice([10, 60]), "window_ms": rng.choice([1, 1000])},
        duplicates={"count": rng.choice([1, 2]), "window_ms": rng.choice([1, 1000])},
        order_to_trade={"messages_per_execution": rng.choice([1, 5]), "free_messages": rng.choice([5, 10])},
    )
    if "submit" not in window:
        window |= maybe(messages={"count": rng.choice([2, 5, 9]), "window_ms": rng.choice([1, 1000])})
    portfolio = maybe(
        max_gross=gross, max_net=rng.choice([9_000, 19_999.99]), max_open_orders=rng.choice([1, 2, 4]),
        max_open_notional=rng.choice([60, 10_000, 30_000]), capital=rng.choice([10_000, 40_000]),
        daily_loss=rng.choice([{"soft": 100}, {"hard": 300}, {"soft": 100, "hard": 100}]),
        drawdown=rng.choice([{"soft": 100}, {"soft": 50, "hard": 200, "scaled": True}, {"hard": 200, "scaled": True}]),
    )  # fmt: skip
    if "capital" in portfolio:
        portfolio |= maybe(credit=rng.choice([0, 5_000]), max_leverage_pct=rng.choice([50, 150]))
    order = maybe(
        max_quantity=rng.choice([50, 100]), max_notional=rng.choice([60, 1_000, 9_999.99]), collar_bps=rng.choice([5, 50]),
        min_quantity=rng.choice([1, 3, 8]), self_trade=rng.choice(["allow", "cancel-new", "cancel-new"]),
    )  # fmt: skip
    return load(
        {
            "order": order, "instrument": rule(), "instruments": {m: rule() for m in range(instruments) if rng.random() < 0.4},
            "sectors": {s: {"max_gross": rng.choice([10_000, 20_000])} for s in range(3) if rng.random() < 0.4},
            "portfolio": portfolio, "window": window,
        }
    )  # fmt: skip


class Adversary:
    """Draws views and orders, most of them one step beside a limit, some of them absurd."""

    def __init__(
        self, rng: random.Random, limits: Limits, lanes: int, instruments: int, slots: int, open_slots: int
    ) -> None:
        self.rng, self.limits, self.slots = rng, limits, slots
        self.view = calm_view(lanes, instruments, open_slots)
        self.next_id = [1] * lanes
        quantities = {1, 3, 5, 10, 30, 50, 100, 250, 1000}
        quantities |= {limits.order.max_quantity or 7, limits.instrument.max_position or 20}
        self.quantities = sorted({max(0, q + d) for q in quantities for d in (-1, 0, 1)})
        self.view.decision[:] = 0
        self.last: Orders | None = None

    def move(self) -> None:
        """The next view of every lane."""
        rng, view = self.rng, self.view
        for i in range(len(view.time_ns)):
            if rng.random() < 0.03:
                view.decision[i], self.next_id[i] = 0, 1
            elif rng.random() < 0.9:
                view.decision[i] += 1
            step = rng.choice([0, 1, 10**6 - 1, 10**6, 10**6 + 1, 10**8, 10**9, 3 * 10**9, -5])
            known = 0 <= view.time_ns[i] < 1 << 59
            view.time_ns[i] = view.time_ns[i] + step if known else 36_000 * 10**9
            if rng.random() < 0.005:
                view.time_ns[i] = rng.choice([*BIG, 57_600 * 10**9, 57_600 * 10**9 - 1, 86_400 * 10**9])
            view.cash[i] = rng.choice(
                [0, 0, 10**9, 10**10, -(10**10), -(10**10) - 10**4, 3 * 10**10, -rng.randrange(10**11)]
            )
            if rng.random() < 0.004:
                view.cash[i] = rng.choice(BIG)
            for m in range(view.position.shape[1]):
                self._move_instrument(i, m)
            for k in range(view.order_id.shape[1]):
                self._move_order(i, k)

    def _move_instrument(self, i: int, m: int) -> None:
        rng, view = self.rng, self.view
        if rng.random() < 0.4:
            view.position[i, m] = rng.choice([0, 1, -1]) * rng.choice(self.quantities)
        if rng.random() < 0.004 or abs(int(view.position[i, m])) > 1 << 40:
            view.position[i, m] = rng.choice([*BIG, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        view.status[i, m] = rng.choice([1, 2, 3]) if rng.random() < 0.03 else 0
        view.tick[i, m] = rng.choice([0, -100, 1 << 62]) if rng.random() < 0.005 else TICK
        if rng.random() < 0.5:
            return
        mid = MID2 // 2 + TICK * rng.choice([0, 0, 1, -1, 30, -60])
        view.mid2[i, m] = 2 * mid + rng.choice([0, TICK, 1])
        for level in range(LEVELS):
            view.bid_price[i, m, level], view.ask_price[i, m, level] = mid - TICK * level, mid + TICK * (level + 1)
            view.bid_size[i, m, level] = rng.choice([1, 10, 33, 100])
            view.ask_size[i, m, level] = rng.choice([1, 10, 33, 100])
        if rng.random() < 0.06:
            empty = rng.randrange(LEVELS)
            view.bid_size[i, m, empty:], view.bid_price[i, m, empty:] = 0, EMPTY_BID
        if rng.random() < 0.06:
            empty = rng.randrange(LEVELS)
            view.ask_size[i, m, empty:], view.ask_price[i, m, empty:] = 0, EMPTY_ASK
        if rng.random() < 0.01:
            view.mid2[i, m] = rng.choice([0, *BIG])
        if rng.random() < 0.005:
            field = rng.choice([view.bid_size, view.ask_size, view.bid_price, view.ask_price])
            field[i, m, rng.randrange(LEVELS)] = rng.choice(BIG)

    def _move_order(self, i: int, k: int) -> None:
        rng, view = self.rng, self.view
        if rng.random() < 0.5:
            return
        view.order_id[i, k] = 0
        if rng.random() < 0.5:
            return
        m = rng.randrange(view.position.shape[1])
        price = MID2 // 2 + TICK * rng.choice([0, 1, -1, 2, -3]) if rng.random() < 0.9 else 0
        open_order(
            view,
            k,
            rng.choice([1, -1]),
            price,
            rng.choice([1, 5, 10, 20, 49]),
            id=rng.randrange(1, 30),
            lane=i,
            instrument=m,
        )
        if rng.random() < 0.004:
            view.order_quantity[i, k] = rng.choice(BIG)
        if rng.random() < 0.002:
            view.order_price[i, k] = rng.choice(BIG)
        if rng.random() < 0.002:
            view.order_instrument[i, k] = rng.choice([-1, 99])

    def ask(self) -> Orders:
        """Orders of every lane."""
        rng, view = self.rng, self.view
        orders = Orders.empty(len(view.time_ns), self.slots)
        self.last, last = orders, self.last
        for i in range(len(view.time_ns)):
            for k in range(self.slots):
                if rng.random() < 0.5:
                    self._entry(orders, i, k)
                if rng.random() < 0.15:
                    self._again(orders, last, i, k)
        return orders

    def _again(self, orders: Orders, last: Orders | None, i: int, k: int) -> None:
        """Repeats an entry of this decision or of the last one under a new id."""
        source = last if last is not None and self.rng.random() < 0.5 else orders
        slot = self.rng.randrange(self.slots)
        orders.kind[i, k] = source.kind[i, slot]
        orders.records[i, k] = source.records[i, slot]
        if orders.kind[i, k] != RequestType.CANCEL:
            orders.records[i, k]["id"] = self.next_id[i]
            self.next_id[i] += 1

    def _entry(self, orders: Orders, i: int, k: int) -> None:
        rng, view = self.rng, self.view
        kind = rng.choices([1, 2, 3, 4, 0, 5, -1, 127], [50, 25, 12, 15, 2, 1, 1, 1])[0]
        m = (
            rng.randrange(view.position.shape[1])
            if rng.random() < 0.98
            else rng.choice([-1, view.position.shape[1], 99])
        )
        side = rng.choice([1, -1]) if rng.random() < 0.99 else rng.choice([0, 2, -128])
        quantity = rng.choice(self.quantities) if rng.random() < 0.7 else rng.choice([1, 2, 5, 10, 20])
        known = 0 <= m < view.position.shape[1] and abs(int(view.position[i, m])) < 1 << 40
        if known and rng.random() < 0.15:  # exactly flat, and one beside it
            quantity = abs(int(view.position[i, m])) + rng.choice([-1, 0, 1])
        price = MID2 // 2 + TICK * rng.choice([0, 0, 1, -1, 2, 5, -5, 50, -50, 51, 60, -61, 200])
        if rng.random() < 0.03:
            price += rng.choice([1, -1, 50])
        order = self.next_id[i]
        if rng.random() < 0.03:
            order = rng.choice([0, -1, order - 1, rng.randrange(1, 30)])
        else:
            self.next_id[i] += 1
        if rng.random() < 0.01:
            quantity = rng.choice(BIG)
        if rng.random() < 0.01:
            price = rng.choice(BIG)
        if rng.random() < 0.001:
            order = (1 << 63) - 1
        target = rng.randrange(1, 30) if rng.random() < 0.95 else rng.choice([0, -1])
        if kind == RequestType.CANCEL:
            order = target
        orders.kind[i, k] = kind
        orders.records[i, k] = np.array((price, quantity, order, target, m, side), ORDER)
