"""The terms of trade, written a second time from what markets promise: judges of requests, money, fees and fills, and a desk that sends
one request at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from emp_gym.envs.conformance.market_driver import MarketDriver, Moment
from emp_gym.market.public import CANCEL, CLOSING_ID, FREE, IN_FLIGHT, LIMIT, MARKET, REPLACE, TRADING
from emp_gym.types import I64, OrderAck, Orders

USED = "the id of an open order"
PATIENCE = 20  # decisions until an answer, or the end of a halt, must have come


def tick_of(rules: np.void, price: int) -> int:
    """The tick that holds at `price`."""
    tick = int(rules["first_tick"])
    for k in range(int(rules["steps"])):
        if price >= rules["step_price"][k]:
            tick = int(rules["step_tick"][k])
    return tick


def malformed(moment: Moment, lane: int, k: int) -> str:
    """What is wrong with a lane's `k`-th request, which is none to cancel; "" if nothing is."""
    market, kind, asked = moment.market, int(moment.asked.kind[lane, k]), moment.asked.records[lane, k]
    if not 0 <= asked["instrument"] < market.public.quote.shape[1]:
        return "an unknown instrument"
    rules = market.public.rules[moment.before.quote["rules"][lane, asked["instrument"]]]
    price, quantity = int(asked["price"]), int(asked["quantity"])
    if quantity <= 0 or quantity % int(rules["lot"]):
        return f"a quantity that is no multiple of {rules['lot']} above 0"
    if abs(int(asked["side"])) != 1:
        return "a side that is none"
    if asked["id"] <= 0:
        return "an id that is none"
    if kind != MARKET and (price <= 0 or price % tick_of(rules, price)):
        return "a price off the tick" if price > 0 else "a price that is none"
    if int(asked["id"]) in moment.ids_before[lane]:
        return USED
    return ""


def free(moment: Moment, lane: int, k: int) -> bool:
    """Whether nothing but a fault of its own can be in the way of a lane's `k`-th request."""
    sent = np.isin(moment.asked.kind[lane, :k], (LIMIT, MARKET, REPLACE)).sum()
    known = moment.asked.kind[lane, k] != REPLACE
    return known and moment.before.quote["status"][lane, 0] == TRADING and len(moment.ids_before[lane]) + sent < moment.market.most_orders


# ----------------------------------------------------------------------------------------------------------------- money


def wrong_money(moment: Moment) -> Iterator[str]:
    """Where cash, fees or position are not what the fills make of them."""
    now, fills = moment.now, moment.fills
    cash, fees, position = moment.before.lane["cash"].copy(), moment.before.lane["fees"].copy(), moment.before.quote["position"].copy()
    worth = moment.before.quote["price_to_cash"][fills.lane, fills.instrument]
    np.add.at(cash, fills.lane, -fills.side.astype(np.int64) * fills.price * fills.quantity * worth - fills.fee)
    np.add.at(fees, fills.lane, fills.fee)
    np.add.at(position, (fills.lane, fills.instrument), fills.side.astype(np.int64) * fills.quantity)
    both = (("cash", now.lane["cash"], cash), ("fees", now.lane["fees"], fees), ("position", now.quote["position"], position))
    for name, got, wanted in both:
        if (got != wanted).any():
            lane = int(np.flatnonzero((got != wanted).reshape(len(got), -1).any(axis=1))[0])
            when = "after closing" if moment.closed is not None else f"after decision {now.lane['decision'][lane]}"
            yield f"lane {lane}: {name} is {got[lane]} {when}; its fills make it {wanted[lane]}"


def wrong_fees(moment: Moment) -> Iterator[str]:
    """Fills whose fee is not that of the rules."""
    fills, rules_of = moment.fills, moment.market.public.rules
    for i in range(len(fills.lane)):
        rules, who = rules_of[moment.before.quote["rules"][fills.lane[i], fills.instrument[i]]], "maker" if fills.maker[i] else "taker"
        amount, lots = int(fills.price[i]) * int(fills.quantity[i]), int(fills.quantity[i])
        due = -(-amount * int(rules[f"{who}_numerator"]) // int(rules[f"{who}_denominator"])) + lots * int(rules[f"{who}_per_lot"])
        if int(fills.fee[i]) != due:
            yield f"{lots} lots at {fills.price[i]} ({who}) cost a fee of {fills.fee[i]}, by the rules {due}"


# ----------------------------------------------------------------------------------------------------------------- fills


def wrong_fills(moment: Moment) -> Iterator[str]:
    """Fills that do not fit the order they are of, or the book that was shown."""
    if moment.closed is not None:
        return
    fills, shown = moment.fills, Counter[tuple[int, int]]()
    orders = _orders(moment)
    left = {key: int(order["quantity"]) for key, order in orders.items()}
    for i in np.flatnonzero(fills.id != CLOSING_ID):
        lane, key, price, lots = int(fills.lane[i]), (int(fills.lane[i]), int(fills.id[i])), int(fills.price[i]), int(fills.quantity[i])
        what = f"lane {lane}: {lots} lots of order {fills.id[i]} at {price}"
        if key not in orders:
            yield f"{what}: there is no such order"
            continue
        order, side = orders[key], int(fills.side[i])
        left[key] -= lots
        if lots <= 0 or left[key] < 0 or side != order["side"]:
            yield f"{what}, side {side}: the order is {order['quantity']} lots, side {order['side']}"
        if fills.maker[i] and (order["kind"] == MARKET or price != order["price"]):
            yield f"{what} as a maker: the order stands at {order['price']}"
        elif order["kind"] != MARKET and side * (price - int(order["price"])) > 0:
            yield f"{what}: worse than its limit {order['price']}"
        if moment.market.immediate and not fills.maker[i] and not fills.beyond_depth[i]:
            book = moment.before.book[lane, fills.instrument[i]]
            prices, sizes = book[2:] if side > 0 else book[:2]
            shown[lane, price] += lots
            there = int(sizes[prices == price].sum())
            if shown[lane, price] > there:
                yield f"{what} as a taker: the book shows {there} lots there, and the fill is not said to be beyond it"


def _orders(moment: Moment) -> dict[tuple[int, int], dict[str, int]]:
    """Kind, side, price and quantity left of all orders that may be filled in the decision, by (lane, id)."""
    found = {}
    for lane, slot in np.argwhere(moment.before.open["state"] != FREE):
        own = moment.before.open[lane, slot]
        found[int(lane), int(own["id"])] = {name: int(own[name]) for name in ("kind", "side", "price", "quantity")}
    for lane, k, kind, asked in moment.entries:
        if kind != CANCEL and moment.outcome[lane, k] in (OrderAck.ACCEPTED, OrderAck.PENDING):
            found[lane, int(asked["id"])] = {"kind": kind, **{name: int(asked[name]) for name in ("side", "price", "quantity")}}
    return found


Sent = dict[tuple[int, int], int]
"""Time at which an order was sent, by (lane, id)."""


def with_sent(walk: Iterable[Moment]) -> Iterator[tuple[Moment, Sent]]:
    """The decisions of a walk, each with the orders of the episodes under way."""
    sent: Sent = {}
    for moment in walk:
        if moment.closed is not None:
            sent = {(lane, order): when for (lane, order), when in sent.items() if lane not in moment.closed}
            continue
        for lane, _, kind, asked in moment.entries:
            if kind != CANCEL:
                sent.setdefault((lane, int(asked["id"])), int(moment.before.lane["time_ns"][lane]))
        yield moment, sent


def too_early(moment: Moment, sent: Sent, latency: int) -> Iterator[str]:
    """What happened to orders less than `latency` ns after they were sent."""
    fills, now = moment.fills, moment.now
    for lane, order, when in zip(fills.lane.tolist(), fills.id.tolist(), fills.time_ns.tolist()):
        if order != CLOSING_ID and when - sent[lane, order] < latency:
            yield f"lane {lane}: order {order} was filled {when - sent[lane, order]} ns after it was sent, with a latency of {latency} ns"
    for lane, slot in np.argwhere(now.open["live"] & (now.open["state"] != FREE)):
        gone = int(now.lane["time_ns"][lane]) - sent[int(lane), int(now.open["id"][lane, slot])]
        if gone < latency:
            yield f"lane {lane}: order {now.open['id'][lane, slot]} rests {gone} ns after it was sent, with a latency of {latency} ns"


# ------------------------------------------------------------------------------------------------------------------ desk


class RequestDriver:
    """Sends the same kind of request to every lane, and waits until it has come to rest."""

    def __init__(self, course: MarketDriver) -> None:
        self.course, self.market, self.public = course, course.market, course.market.public
        self._number = 1_000

    def send(self, orders: Orders, at: int = 0) -> np.ndarray:
        """`OrderAck` [n] of the `at`-th requests, those that were answered later included."""
        self._until(lambda: bool((self.public.quote["status"] == TRADING).all()))
        self.course.step(orders)
        told = self.market.outcome[:, at].copy()
        for _ in range(PATIENCE):
            if not (told == OrderAck.PENDING).any():
                break
            self.course.step()
            reports = self.market.last_reports()
            for lane, order, outcome in zip(reports.lane, reports.id, reports.outcome):
                if order == orders.id[lane, at] and told[lane] == OrderAck.PENDING:
                    told[lane] = outcome
        return told

    def wait(self) -> None:
        """One decision, and as many more as it takes until nothing is on its way."""
        self.course.step()
        self._until(lambda: not ((self.public.open["state"] == IN_FLIGHT) | self.public.open["leaving"]).any())

    def _until(self, done: Callable[[], bool]) -> None:
        for _ in range(PATIENCE):
            if done():
                return
            self.course.step()

    def open_ids(self) -> np.ndarray:
        """Numbers [n, K] of what is open, the oldest first; 0 where nothing is."""
        return np.where(self.public.open["state"] != FREE, self.public.open["id"], 0)

    def far(self, k: int) -> Orders:
        """To buy a lot so far away that it only rests; `k` ticks further."""
        return self._new(LIMIT, self._far_price(k), self._lot)

    def market_order(self) -> Orders:
        return self._new(MARKET, self._none, self._lot)

    def crossing(self) -> Orders:
        """To buy ten lots more than the best ask has, at its price."""
        book = self.public.book[:, 0]
        return self._new(LIMIT, book[:, 2, 0], book[:, 3, 0] // self._lot * self._lot + 10 * self._lot)

    def cancel(self, ids: I64) -> Orders:
        orders = self._new(CANCEL, self._none, self._none)
        orders.records["id"][:, 0] = ids
        return orders

    def replace(self, ids: I64, k: int) -> Orders:
        """To have `far(k)` instead."""
        orders = self._new(REPLACE, self._far_price(k), self._lot)
        orders.records["target"][:, 0] = ids
        return orders

    def gone(self, ids: I64, why: str) -> Iterator[str]:
        """Orders of numbers `ids` [n] that are open all the same."""
        for lane in np.flatnonzero((self.open_ids() == ids[:, None]).any(axis=1)):
            yield f"lane {lane}: order {ids[lane]} {why} and is open all the same"

    @property
    def _none(self) -> I64:
        return np.zeros(self.market.lanes, np.int64)

    @property
    def _lot(self) -> I64:
        return self.public.rules["lot"][self.public.quote["rules"][:, 0]]

    def _far_price(self, k: int) -> I64:
        found = self._none
        for lane in range(self.market.lanes):
            rules, about = self.public.rules[self.public.quote["rules"][lane, 0]], int(self.public.quote["mid2"][lane, 0]) // 4
            tick = tick_of(rules, about)
            found[lane] = (about // tick - k) * tick
        return found

    def _new(self, kind: int, price: I64, quantity: I64) -> Orders:
        orders = Orders.empty(self.market.lanes, self.market.requests)
        self._number += 1
        orders.kind[:, 0], record = kind, orders.records[:, 0]
        record["id"], record["price"], record["quantity"], record["side"] = self._number, price, quantity, 1
        return orders


def told(outcome: np.ndarray, wanted: OrderAck, what: str) -> Iterator[str]:
    """Where `what` had another outcome [n] than `wanted`."""
    for lane in np.flatnonzero(outcome != wanted)[:1]:
        yield f"{what} is {OrderAck(int(outcome[lane])).name}, expected {wanted.name}"
