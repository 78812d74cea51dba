"""Other futures of a LOBSTER day: rows up to a cut byte for byte, then an order flow of our own on the same book.

The continuation is a small seeded simulation that starts from the last kept book row and from the orders that are alive
there, and writes message and book rows that verify: message i applied to book row i-1 gives book row i.
"""

from __future__ import annotations

import tempfile
import zipfile
from bisect import bisect_left, insort
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from emp_gym.types import EMPTY_ASK, EMPTY_BID, DataError

RETOLD, MAGNIFIED, STRETCHED, SHORTENED = "retold", "magnified", "stretched", "shortened"
BUSY = 20_000  # rows of order flow after the cut; later rows are hidden executions, which are quick to write
_NOTHING = {1: EMPTY_BID, -1: EMPTY_ASK}


@dataclass(frozen=True)
class LobsterDay:
    """One day as message and order book file.

    retold: as many rows at the same times, other orders. magnified: the same, sizes ten times as large, a strong trend.
    stretched: other times too. shortened: half of the rows after the cut, so that the day ends early.
    """

    message: Path
    orderbook: Path
    rewrites: tuple[str, ...] = (RETOLD, MAGNIFIED, STRETCHED, SHORTENED)
    steady: tuple[str, ...] = (RETOLD, MAGNIFIED)
    lines: tuple[list[bytes], list[bytes]] = field(init=False, repr=False, compare=False)
    time_ns: np.ndarray = field(init=False, repr=False, compare=False)  # i8[R]
    scratch: tempfile.TemporaryDirectory | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        lines = tuple(path.read_bytes().splitlines(keepends=True) for path in (self.message, self.orderbook))
        if len(lines[0]) != len(lines[1]) or len(lines[0]) < 100:
            raise DataError(f"{self.message}: {len(lines[0])} and {len(lines[1])} rows; expected two equal halves")
        object.__setattr__(self, "lines", lines)
        times = [_ns(line.split(b",", 1)[0]) for line in lines[0]]
        object.__setattr__(self, "time_ns", np.array(times, np.int64))

    @classmethod
    def of(cls, path: Path) -> LobsterDay:
        """The first day of a folder, a zip or a message file."""
        scratch = None
        if path.suffix == ".zip":
            scratch = tempfile.TemporaryDirectory(prefix="emp_gym-")
            with zipfile.ZipFile(path) as archive:
                archive.extractall(scratch.name)
            path = Path(scratch.name)
        found = sorted(path.rglob("*_message_*.csv")) if path.is_dir() else [path]
        if not found:
            raise DataError(f"{path}: no LOBSTER message file (..._message_LEVELS.csv) in it")
        book = found[0].with_name(found[0].name.replace("_message_", "_orderbook_"))
        if not book.exists():
            raise DataError(f"{found[0]}: its order book file {book.name} is not beside it")
        return cls(found[0], book, scratch=scratch)

    @property
    def rows(self) -> int:
        return len(self.time_ns)

    def original(self) -> Path:
        return self.message

    def row_of(self, clock: int) -> int:
        """Last row not after `clock` ns."""
        return int(np.searchsorted(self.time_ns, clock, side="right")) - 1

    def future(self, how: str, cut: int, random: np.random.Generator, folder: Path) -> Path:
        """Writes the day with another future after row `cut`, which must be the last row of its time stamp."""
        count = self.rows - cut - 1
        if count < 1 or self.time_ns[cut + 1] == self.time_ns[cut]:
            raise DataError(f"cannot cut after row {cut}: rows with one time stamp belong together")
        gaps = np.diff(self.time_ns[cut:])
        if how == STRETCHED:
            gaps = np.rint(gaps * 0.3).astype(np.int64) + random.integers(1, 2_000, count)
        times = self.time_ns[cut] + np.cumsum(gaps)
        if how == SHORTENED:
            times = times[: max(1, count // 2)]
        flow = _Flow(self.lines[0][: cut + 1], self.lines[1][: cut + 1], random, scale=10 if how == MAGNIFIED else 1)
        flow.trend = float(random.choice((-1, 1))) * (0.8 if how == MAGNIFIED else 0.4)
        messages, books = [*self.lines[0][: cut + 1]], [*self.lines[1][: cut + 1]]
        for i, time in enumerate(times.tolist()):
            message, book = flow.step() if i < BUSY or flow.pending else flow.quiet()
            messages.append(b"%d.%09d,%s\n" % (time // 10**9, time % 10**9, message))
            books.append(book)
        (folder / self.message.name).write_bytes(b"".join(messages))
        (folder / self.orderbook.name).write_bytes(b"".join(books))
        return folder / self.message.name


def _ns(text: bytes) -> int:
    """Nanoseconds of a LOBSTER time, exactly."""
    seconds, _, fraction = text.partition(b".")
    return int(seconds) * 10**9 + int(fraction[:9].ljust(9, b"0") or 0)


class _Flow:
    """A book that goes on from the kept rows under random orders; levels below the visible ones are made up."""

    def __init__(self, messages: list[bytes], books: list[bytes], random: np.random.Generator, scale: int):
        self.random, self.scale, self.trend = random, scale, 0.0
        row = [int(x) for x in books[-1].split(b",")]
        self.levels = len(row) // 4
        self.sizes: dict[int, dict[int, int]] = {1: {}, -1: {}}
        for i in range(self.levels):
            for side, at in ((-1, 4 * i), (1, 4 * i + 2)):
                if row[at] != _NOTHING[side]:
                    self.sizes[side][row[at]] = row[at + 1]
        self.prices = {side: sorted(-side * p for p in self.sizes[side]) for side in (1, -1)}  # -side * price
        self.deep = {side: len(self.sizes[side]) == self.levels for side in (1, -1)}  # may the file hide more below?
        self.tick = _tick(books[-200:])
        queues, last = _alive(messages)
        self.queues = {(side, price): _fitting(queues.get((side, price), []), self.sizes[side][price])
                       for side in (1, -1) for price in self.sizes[side]}
        self.next_id = last + 1
        self.pending: list[bytes] = []
        self.last: tuple[bytes, bytes] | None = None

    def step(self) -> tuple[bytes, bytes]:
        """The next message (without its time) and the book row after it."""
        message = self.pending.pop(0) if self.pending else self._message()
        return message, self._row()

    def quiet(self) -> tuple[bytes, bytes]:
        """A hidden execution of one lot at the best bid, and the book that it leaves as it was."""
        if self.last is None:
            self.last = (b"5,0,1,%d,1" % -self.prices[1][0], self._row())
        return self.last

    def _message(self) -> bytes:
        u = self.random.random(4)
        if u[0] < 0.0005:  # a halt, quotes, trading again: the book does not change
            self.pending = [b"7,0,0,0,-1", b"7,0,0,1,-1"]
            return b"7,0,0,-1,-1"
        side = 1 if u[1] < 0.5 + 0.3 * self.trend else -1
        if u[0] < 0.02:
            best = -side * self.prices[side][0]
            return b"5,0,%d,%d,1" % (self._size(), best + side * self.tick // 2)
        if u[0] < 0.25 and self._count(-side) > 2:
            return self._execute(-side, u[2])
        if u[0] < 0.5 and self._count(-side) > 2:
            message = self._cancel(-side, u[2])
            if message:
                return message
        return self._add(side, u[2])

    def _count(self, side: int) -> int:
        return min(len(self.prices[side]), self.levels)

    def _size(self) -> int:
        return int(self.random.integers(1, 200)) * self.scale

    def _add(self, side: int, u: float) -> bytes:
        """A new order at a visible level, or inside the spread."""
        best, other = -side * self.prices[side][0], side * self.prices[-side][0]
        if u < 0.3 and (other - best) * side > self.tick:
            price = best + side * self.tick
        else:
            price = -side * self.prices[side][int(self.random.integers(0, self._count(side)))]
        size = self._size()
        self._change(side, price, size)
        self.queues.setdefault((side, price), []).append([self.next_id, size])
        self.next_id += 1
        return b"1,%d,%d,%d,%d" % (self.next_id - 1, size, price, side)

    def _execute(self, side: int, u: float) -> bytes:
        """The first order of the best level, in part or whole; unknown older orders come first."""
        price = -side * self.prices[side][0]
        order, size = self._first(side, price)
        taken = max(1, int(size * u * 1.5)) if u < 0.66 else size
        self._change(side, price, -taken)
        self._shrink(side, price, order, taken)
        return b"4,%d,%d,%d,%d" % (order, taken, price, side)

    def _cancel(self, side: int, u: float) -> bytes:
        """A known order of a visible level, in part (2) or whole (3); empty bytes where none is known."""
        price = -side * self.prices[side][int(self.random.integers(0, self._count(side)))]
        queue = self.queues.get((side, price))
        if not queue:
            return b""
        order, size = queue[int(self.random.integers(0, len(queue)))]
        size = min(size, self.sizes[side][price])
        taken = max(1, size // 2) if u < 0.3 and size > 1 else size
        self._change(side, price, -taken)
        self._shrink(side, price, order, taken)
        return b"%d,%d,%d,%d,%d" % (3 if taken == size else 2, order, taken, price, side)

    def _first(self, side: int, price: int) -> tuple[int, int]:
        """Who is executed next at a price: (order id, size); what no known order accounts for gets an id of its own."""
        queue = self.queues.get((side, price), [])
        unknown = self.sizes[side][price] - sum(size for _, size in queue)
        if unknown > 0:
            self.next_id += 1
            return self.next_id - 1, unknown
        order, size = queue[0]
        return order, min(size, self.sizes[side][price])

    def _shrink(self, side: int, price: int, order: int, taken: int) -> None:
        queue = self.queues.get((side, price), [])
        for entry in queue:
            if entry[0] == order:
                entry[1] -= taken
        self.queues[side, price] = [entry for entry in queue if entry[1] > 0]

    def _change(self, side: int, price: int, size: int) -> None:
        """Adds volume at a price; an emptied level goes, and a deeper one comes into sight where there may be one."""
        sizes, prices = self.sizes[side], self.prices[side]
        if price not in sizes:
            insort(prices, -side * price)
        sizes[price] = sizes.get(price, 0) + size
        if sizes[price] > 0:
            return
        del sizes[price]
        prices.pop(bisect_left(prices, -side * price))
        self.queues.pop((side, price), None)
        while self.deep[side] and len(prices) < self.levels:
            seen = max(prices[-1], -side * price)  # what the file showed, the emptied level with it
            worst = -side * (seen + self.tick * int(self.random.integers(1, 4)))
            if worst <= 0:
                break
            prices.append(-side * worst)
            sizes[worst] = self._size()
            self.queues.pop((side, worst), None)

    def _row(self) -> bytes:
        numbers = []
        for i in range(self.levels):
            for side in (-1, 1):
                if i < len(self.prices[side]):
                    price = -side * self.prices[side][i]
                    numbers += [price, self.sizes[side][price]]
                else:
                    numbers += [_NOTHING[side], 0]
        return ",".join(map(str, numbers)).encode() + b"\n"


def _tick(books: list[bytes]) -> int:
    """Greatest common divisor of the prices seen, in price units."""
    prices = {int(x) for line in books for x in line.split(b",")[::2]} - {EMPTY_BID, EMPTY_ASK}
    return int(np.gcd.reduce(np.array(sorted(prices), np.int64))) or 1


def _fitting(queue: list[list[int]], size: int) -> list[list[int]]:
    """The youngest orders of a queue that have no more lots than the level shows: older ones were cut while out of sight."""
    fitting: list[list[int]] = []
    for order, lots in reversed(queue):
        size -= lots
        if size < 0:
            break
        fitting.insert(0, [order, lots])
    return fitting


def _alive(messages: list[bytes]) -> tuple[dict[tuple[int, int], list[list[int]]], int]:
    """Orders alive after the kept rows, oldest first: (side, price) -> [[id, size]...]; and the greatest id seen."""
    orders: dict[int, list[int]] = {}
    last = 0
    for line in messages:
        kind, number, size, price, side = (int(x) for x in line.split(b",")[1:6])
        last = max(last, number)
        if kind == 1:
            orders[number] = [size, price, side]
        elif kind in (2, 3, 4) and number in orders:
            orders[number][0] -= size
            if orders[number][0] <= 0 or kind == 3:
                del orders[number]
    queues: dict[tuple[int, int], list[list[int]]] = {}
    for number, (size, price, side) in orders.items():
        queues.setdefault((side, price), []).append([number, size])
    return queues, last
