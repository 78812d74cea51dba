"""What the slow judge of the risk layer reads and remembers: one lane in plain Python integers."""

from __future__ import annotations

from dataclasses import dataclass, field

from emp_gym.types import Orders, View

BOUND = 2**44  # lots and prices above it are absurd
AMOUNT_BOUND = 2**56
TIME_BOUND = 2**60
DAY = 86_400 * 10**9
RING = 16


@dataclass(frozen=True)
class Seen:
    """One lane of a view."""

    time: int
    decision: int
    status: list[int]
    bids: list[list[tuple[int, int]]]  # instrument -> (price, size), best first
    asks: list[list[tuple[int, int]]]
    cash: int
    position: list[int]
    mid2: list[int]
    tick: list[int]
    orders: list[tuple[int, int, int, int, int]]  # id, side, price, quantity, instrument

    @property
    def time_known(self) -> bool:
        return 0 <= self.time <= TIME_BOUND

    def mid_known(self, m: int) -> bool:
        return 0 < self.mid2[m] <= 2 * BOUND

    def reference(self, m: int) -> int | None:
        return -(-self.mid2[m] // 2) if self.mid_known(m) else None


def lanes_of(view: View) -> list[Seen]:
    """Every lane of a view."""
    m = range(view.position.shape[1])
    columns = [array.tolist() for array in (
        view.bid_price, view.bid_size, view.ask_price, view.ask_size, view.order_id, view.order_side, view.order_price,
        view.order_quantity, view.order_instrument, view.status, view.position, view.mid2, view.tick,
    )]  # fmt: skip
    times, decisions, cash = view.time_ns.tolist(), view.decision.tolist(), view.cash.tolist()
    lanes = []
    for i in range(len(times)):
        bp, bs, ap, az, ids, sides, prices, quantities, instruments, status, position, mid2, tick = (
            c[i] for c in columns
        )
        bids, asks = [list(zip(bp[j], bs[j])) for j in m], [list(zip(ap[j], az[j])) for j in m]
        orders = [entry for entry in zip(ids, sides, prices, quantities, instruments) if entry[0] != 0]
        lanes.append(Seen(times[i], decisions[i], status, bids, asks, cash[i], position, mid2, tick, orders))
    return lanes


@dataclass
class Entry:
    """One request."""

    kind: int
    side: int
    price: int
    quantity: int
    id: int
    target: int
    instrument: int


def entries_of(orders: Orders) -> list[list[Entry]]:
    """Requests of every lane, by slot."""
    kinds, records = orders.kind.tolist(), orders.records.tolist()
    return [
        [Entry(kind, r[5], r[0], r[1], r[2], r[3], r[4]) for kind, r in zip(row, rows)]
        for row, rows in zip(kinds, records)
    ]


class Unknown(Exception):
    """A sum that cannot be told."""


def times(lots: int, price: int | None) -> int:
    if lots == 0:
        return 0
    if price is None or price <= 0 or lots * price > AMOUNT_BOUND:
        raise Unknown
    return lots * price


@dataclass
class Memory:
    """What the judge remembers of the episode."""

    position: list[int]
    latch: int = 0
    latch_bits: set[int] = field(default_factory=set)
    start2: int | None = None
    peak2: int | None = None
    equity2: int | None = None
    cash2: int | None = None
    day: int | None = None
    budget: int = 10_000
    time: int | None = None
    buckets: dict[str, int] = field(default_factory=lambda: {"submit": 0, "messages": 0, "executions": 0})
    messages: int = 0
    executions: int = 0
    highest: int = 0
    sent: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)  # time, content
    quotes: dict[int, tuple[int, tuple[int, ...]]] = field(default_factory=dict)  # time of the last change, top
    windows: dict[int, list[tuple[int, list[int]]]] = field(default_factory=dict)  # start, mids
