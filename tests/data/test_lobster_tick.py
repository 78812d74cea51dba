"""The tick of a day: of all its rows, and by price where a stock crosses a dollar; tapes of such days judged."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import pytest

from emp_gym.data.lobster.reader import Reading, read
from emp_gym.data.tape.tape_set import build
from emp_gym.types import Instrument, MessageType, RecordedDay
from tests.data.test_lobster_damage import write
from tests.data.test_tape import levels_of
from tests.market.duel import Duel, Trader
from tests.reference_market import Day, Rules

DOLLAR = 10_000
BY_PRICE = ((0, 1), (DOLLAR, 100))


class Stock:
    """Orders come and go on both sides, as a LOBSTER day of two levels."""

    def __init__(self) -> None:
        self.book: dict[int, dict[int, int]] = {1: {}, -1: {}}
        self.messages: list[str] = []
        self.books: list[str] = []
        self.orders = 0
        self.clock = 34_200.0

    def event(self, kind: int, order: int, side: int, price: int, size: int) -> None:
        left = self.book[side].pop(price, 0) + (size if kind == 1 else -size)
        if left:
            self.book[side][price] = left
        self.clock += 0.25
        self.messages.append(f"{self.clock},{kind},{order},{size},{price},{side}")
        cells: list[int] = []
        asks, bids = sorted(self.book[-1].items())[:2], sorted(self.book[1].items(), reverse=True)[:2]
        for level in range(2):
            cells += asks[level] if level < len(asks) else (9_999_999_999, 0)
            cells += bids[level] if level < len(bids) else (-9_999_999_999, 0)
        self.books.append(",".join(map(str, cells)))

    def new(self, side: int, price: int, size: int) -> int:
        self.orders += 1
        self.event(1, self.orders, side, price, size)
        return self.orders

    def quote(self, side: int, price: int, times: int) -> None:
        """An order of 100 lots at the price that goes again, several times."""
        for _ in range(times):
            self.event(3, self.new(side, price, 100), side, price, 100)


def through_a_dollar(before: int, after: int) -> tuple[list[str], list[str]]:
    """A stock at 1.02 whose bids fall to 0.99 and are a hundredth of a cent apart there; asks stay above a dollar."""
    stock = Stock()
    high, far = stock.new(1, 10_100, 500), stock.new(1, 10_000, 400)
    stock.new(-1, 10_200, 500), stock.new(-1, 10_300, 500)
    stock.quote(1, 10_100, before)
    stock.event(4, high, 1, 10_100, 500), stock.event(3, far, 1, 10_000, 400)
    low = stock.new(1, 9_985, 700)
    for n in range(after):
        stock.quote(1, 9_986 + n % 7, 1)
        stock.quote(-1, 10_200 - 100 * (n % 2), 1)
    stock.event(4, low, 1, 9_985, 100)
    return stock.messages, stock.books


def one(folder, lines: tuple[list[str], list[str]], **options: Instrument) -> Reading:
    (reading,) = read(write(folder, *lines), **options)
    return reading


@pytest.mark.parametrize(("before", "after", "tick"), [(6_000, 60, 100), (30, 400, 100), (2, 2_000, 1)])
def test_a_stock_that_crosses_a_dollar_keeps_every_row(before, after, tick, tmp_path):
    reading = one(tmp_path, through_a_dollar(before, after))
    assert reading.rows_kept == reading.rows_in and reading.check.unexplained == 0
    instrument = reading.day.instrument
    assert instrument.ticks == BY_PRICE
    assert [instrument.tick_at(price) for price in (9_985, 9_999, 10_000, 10_200)] == [1, 1, 100, 100]
    assert reading.day.source["rules"]["tick"].startswith("1 from 0, 100 from 10000 price units")


def test_above_a_dollar_a_price_off_the_cent_is_still_refused(tmp_path):
    messages, books = through_a_dollar(300, 60)
    row = next(n for n, line in enumerate(messages) if n > 650 and line.split(",")[4] == "10200")
    cells = messages[row].split(",")
    messages[row] = ",".join([*cells[:4], "10250", cells[5]])
    reading = one(tmp_path, (messages, books))
    (entry,) = reading.quarantine.rows
    assert (entry.row, entry.column, entry.rule, entry.got) == (row + 1, "price", "off-tick", "10250")
    assert entry.expected == "a multiple of the tick 100 (at this price; 1 from 0, 100 from 10000)"


def test_a_digit_lost_from_a_price_makes_no_stock_of_less_than_a_dollar(tmp_path):
    stock = Stock()
    stock.new(1, 99_900, 500), stock.new(-1, 100_200, 500)
    stock.quote(1, 99_700, 300)
    cells = stock.messages[100].split(",")
    stock.messages[100] = ",".join([*cells[:4], "9977", cells[5]])
    reading = one(tmp_path, (stock.messages, stock.books))
    assert reading.day.instrument.ticks == () and reading.day.instrument.tick == 100
    assert [(entry.row, entry.rule) for entry in reading.quarantine.rows] == [(101, "off-tick")]


def test_bids_of_whole_cents_below_a_dollar_need_no_second_tick(tmp_path):
    stock = Stock()
    stock.new(1, 9_900, 500), stock.new(-1, 10_200, 500)
    stock.quote(1, 9_800, 200)
    reading = one(tmp_path, (stock.messages, stock.books))
    assert (reading.day.instrument.tick, reading.day.instrument.ticks) == (100, ())
    assert reading.rows_quarantined == 0


def test_the_tick_is_that_of_the_whole_day_and_not_of_its_beginning(tmp_path):
    stock = Stock()
    stock.new(1, 1_000_000, 500), stock.new(-1, 1_000_200, 500)
    stock.quote(1, 999_900, 5_600)
    for n in range(300):
        stock.quote(1, 999_950 - 50 * (n % 2), 2)
    reading = one(tmp_path, (stock.messages, stock.books))
    assert reading.rows_quarantined == 0 and reading.day.instrument.tick == 50


def test_the_ticks_of_an_instrument_that_is_given_are_kept(tmp_path):
    lines = through_a_dollar(30, 40)
    given = Instrument("PNNY", tick=100, ticks=((0, 1), (DOLLAR, 100)), taker_fee_bps=0.3)
    reading = one(tmp_path, lines, instrument=given)
    assert reading.day.instrument == given and reading.rows_quarantined == 0
    assert one(tmp_path, lines, instrument=Instrument("PNNY", tick=1)).rows_quarantined == 0


# ---- the tape of such a day ------------------------------------------------------------------------------------------


def crossing_day(tmp_path, before: int, after: int) -> RecordedDay:
    return one(tmp_path, through_a_dollar(before, after)).day


@pytest.mark.parametrize(("before", "after"), [(200, 40), (2, 150)])
def test_a_tape_finds_every_touch_of_every_level_on_both_sides_of_a_dollar(before, after, tmp_path):
    day = crossing_day(tmp_path, before, after)
    tape, expected = build(day), defaultdict(list)
    for r, row in enumerate(Day(day).rows):
        for event in row.events:
            expected[event.side, event.price].append((r, event.size, int(event.kind)))
    found = {
        level: [(int(t["row"]), int(t["size"]), int(t["kind"])) for t in touches]
        for level, touches in levels_of(tape).items()
    }
    assert found == dict(expected)
    assert {9_986, 9_992} <= {price for _, price in found} and {(-1, 10_100), (1, 10_100)} <= set(found)


@pytest.mark.parametrize(("before", "after"), [(60, 60), (2, 150)])
@pytest.mark.parametrize("fine", [False, True])
def test_own_orders_on_such_a_day_fare_as_the_judge_says(before, after, fine, tmp_path):
    day = crossing_day(tmp_path, before, after)
    if fine:
        day = replace(day, instrument=Instrument("PNNY", tick=1))
    rows = len(day.time_ns)
    duel, trader = Duel(day, Rules(), [3, rows // 3, rows // 2]), Trader(8)
    for _ in range(60):
        duel.step([trader.requests(judge) for judge in duel.judges])
    assert (day.kind == MessageType.EXECUTE).sum() == 2
