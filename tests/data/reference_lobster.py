"""Slow and obvious judges of the LOBSTER reader, and a small market that writes days with everything in them."""

from __future__ import annotations

import random
from decimal import Decimal

EMPTY = {1: -9_999_999_999, -1: 9_999_999_999}  # by side
Levels = list[tuple[int, int]]  # (price, size), best first, empty levels left out


def time_ns(text: str) -> int:
    """Decimal seconds to ns, exactly; digits behind the ninth rounded."""
    return int((Decimal(text) * 10**9).to_integral_value())


def sides(line: str) -> dict[int, Levels]:
    """Both sides of an order book line."""
    cells = [int(cell) for cell in line.split(",")]
    found: dict[int, Levels] = {}
    for side, at in ((-1, 0), (1, 2)):
        pairs = zip(cells[at::4], cells[at + 1 :: 4])
        found[side] = [(price, size) for price, size in pairs if price != EMPTY[side]]
    return found


def judge(before: str, message: str, after: str) -> str:
    """ "equal", "explained" or "unexplained" for a message line between two order book lines, with plain dicts."""
    _, kind_text, _, *rest = message.split(",")
    kind, (size, price, side) = int(kind_text), (int(cell) for cell in rest)
    levels = (before.count(",") + 1) // 4
    old, new = sides(before), sides(after)
    if kind >= 5:
        return "equal" if old == new else "unexplained"
    if old[-side] != new[-side]:
        return "unexplained"
    book = dict(old[side])
    full = len(old[side]) == levels
    worst = old[side][-1][0] if old[side] else EMPTY[side]
    if full and price * side < worst * side:
        return "unexplained"  # outside the window
    if kind == 1:
        book[price] = book.get(price, 0) + size
    elif book.get(price, 0) < size:
        return "unexplained"
    else:
        book[price] -= size
    expected = sorted(((p, s) for p, s in book.items() if s), key=lambda level: -side * level[0])[:levels]
    if new[side] == expected:
        return "equal"
    moved_in = new[side][len(expected) :]
    known = new[side][: len(expected)] == expected
    if full and known and len(moved_in) == 1 and moved_in[0][0] * side < worst * side:
        return "explained"
    return "unexplained"


class Market:
    """Random orders on a grid; writes what happens inside the best `levels` levels as LOBSTER would.

    Orders deeper than the window come and go unseen, so levels move in with sizes nobody was told. Hidden executions,
    crosses and halts are mixed in; the book may become empty.
    """

    def __init__(self, seed: int, levels: int, *, orders: int = 30, tick: int = 100) -> None:
        self.random = random.Random(seed)
        self.levels, self.tick, self.most = levels, tick, orders
        self.orders: dict[int, list[int]] = {}  # id -> [side, price, size]
        self.number = 100
        self.clock = 34_200 * 10**9
        self.messages: list[str] = []
        self.books: list[str] = []

    def side(self, side: int) -> Levels:
        book: dict[int, int] = {}
        for mine, price, size in self.orders.values():
            if mine == side:
                book[price] = book.get(price, 0) + size
        return sorted(book.items(), key=lambda level: -side * level[0])

    def visible(self, side: int, price: int) -> bool:
        shown = self.side(side)[: self.levels]
        return len(shown) < self.levels or price * side >= shown[-1][0] * side

    def line(self) -> str:
        cells = []
        both = {side: (self.side(side) + [(EMPTY[side], 0)] * self.levels)[: self.levels] for side in (1, -1)}
        for ask, bid in zip(both[-1], both[1]):
            cells += [*ask, *bid]
        return ",".join(map(str, cells))

    def write(self, kind: int, number: int, size: int, price: int, side: int) -> None:
        self.clock += self.random.choice((0, 1, 1_000, 250_000_000))
        whole, rest = divmod(self.clock, 10**9)
        clock = f"{whole}.{rest:09d}".rstrip("0").rstrip(".")
        self.messages.append(f"{clock},{kind},{number},{size},{price},{side}")
        self.books.append(self.line())

    def step(self) -> None:
        chance = self.random.random()
        if chance < 0.03:
            self.write(5, 0, self.random.randint(1, 50), 1_000_000 + self.random.randint(-300, 300), 1)
        elif chance < 0.04:
            self.write(6, -self.random.randint(1, 4), self.random.randint(0, 500), 1_000_000, -1)
        elif chance < 0.05:
            self.write(7, 0, 0, self.random.choice((-1, 0, 1)), -1)
        elif (chance < 0.5 and len(self.orders) < self.most) or not self.orders:
            self.enter()
        else:
            self.change()

    def enter(self) -> None:
        side = self.random.choice((1, -1))
        price = 1_000_000 - side * self.tick * self.random.randint(0 if side == 1 else 1, 12)
        self.number += 1
        self.orders[self.number] = [side, price, self.random.randint(1, 9) * 10]
        if self.visible(side, price):
            self.write(1, self.number, self.orders[self.number][2], price, side)

    def change(self) -> None:
        number = self.random.choice(list(self.orders))
        side, price, size = self.orders[number]
        seen = self.visible(side, price)
        best = self.side(side)[0][0] == price
        part = self.random.randint(1, size)
        kind = 4 if best and self.random.random() < 0.5 else 3 if part == size or self.random.random() < 0.6 else 2
        part = size if kind == 3 else part
        self.orders[number][2] -= part
        if not self.orders[number][2]:
            del self.orders[number]
        if seen:
            self.write(kind, number, part, price, side)


def day(seed: int, rows: int, levels: int, *, orders: int = 30) -> tuple[list[str], list[str]]:
    """A generated day of `rows` rows: (message lines, order book lines)."""
    market = Market(seed, levels, orders=orders)
    while len(market.messages) < rows:
        market.step()
    return market.messages[:rows], market.books[:rows]
