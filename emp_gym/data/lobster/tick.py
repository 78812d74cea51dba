"""The tick of a LOBSTER day: one for all prices, or by price where a US stock trades below a dollar.

SEC rule 612: quotes of a dollar or more are a cent apart, quotes below it may be 0.0001 dollars apart. A stock that
crosses a dollar has both on one day.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from emp_gym.data.lobster.files import FileText, Half
from emp_gym.data.lobster.line_rules import Fault, Lines
from emp_gym.data.lobster.parser import Books, Messages
from emp_gym.jit import njit
from emp_gym.types import EMPTY_ASK, I8, I64, Bool, DataError, Instrument

TICKS = (1000, 500, 250, 200, 100, 50, 25, 20, 10, 5, 4, 2, 1)  # price units
USUAL_TICK = 100  # one cent: a larger tick needs many different prices as evidence
BOOK_ROWS = 10_000  # order book rows, spread over the day, whose prices are looked at; of messages all are
DOLLAR, FINEST = 10_000, 1  # price units; below a dollar quotes may be this far apart


def instrument_of(message: Half, messages: Messages, books: Books) -> tuple[Instrument, str]:
    """The instrument that the file's name and the prices of the whole day tell, and where its tick comes from."""
    rows = min(len(messages), len(books))
    visible = messages.price[messages.ok & (messages.kind <= 4)]
    spread = slice(0, rows, max(1, -(-rows // BOOK_ROWS)))
    levels = books.price[:rows][spread][books.ok[:rows][spread]].ravel()
    prices = np.concatenate([visible, levels[(levels > 0) & (levels < EMPTY_ASK)]])
    above = prices[prices >= DOLLAR]
    fields: dict[str, Any] = {"symbol": message.symbol}
    if len(above) and _below_a_dollar(
        messages.kind, messages.price, messages.ok, books.price, books.ok, tick_of(above)
    ):
        fields["ticks"] = ((0, FINEST), (DOLLAR, tick_of(above)))
        middle = np.median(visible) if len(visible) else DOLLAR
        fields["tick"] = FINEST if middle < DOLLAR else tick_of(above)
    else:
        fields["tick"] = tick_of(prices)
    if message.session_ns is not None:
        fields |= {"session_start_ns": message.session_ns[0], "session_end_ns": message.session_ns[1]}
    chosen = Instrument(**fields)
    return chosen, f"{told_ticks(chosen)} price units, from the visible prices of the day"


def tick_of(prices: I64) -> int:
    """The largest usual tick that all but 1 % of the prices are multiples of; above a cent only with 30 different
    prices.
    """
    allowed = most_off(len(prices))
    for tick in TICKS:
        if np.count_nonzero(prices % tick) <= allowed and (tick <= USUAL_TICK or len(np.unique(prices)) >= 30):
            return tick
    return 1


def most_off(prices: int) -> int:
    """How many of so many prices may be off the tick: they are damaged then, and it is not the tick that is wrong."""
    return max(prices // 100, int(prices >= 10))


def told_ticks(instrument: Instrument) -> str:
    """The instrument's ticks in words: "100", or "1 from 0, 100 from 10000"."""
    return ", ".join(f"{tick} from {least}" for least, tick in instrument.ticks) or str(instrument.tick)


def off_tick(price: int, instrument: Instrument) -> Fault:
    """Words for a visible price that is no multiple of its tick."""
    tick = instrument.tick_at(price)
    where = f" (at this price; {told_ticks(instrument)})" if instrument.ticks else ""
    return Fault("price", "off-tick", f"a multiple of the tick {tick}{where}", str(price))


def mark_off_tick(messages: Messages, instrument: Instrument) -> int:
    """Refuse visible messages (types 1-4) whose price is no multiple of its tick; returns how many."""
    return int(_mark(messages.kind, messages.price, messages.ok, *_table(instrument), True))


def stop_if_off_tick(file: FileText, messages: Messages, instrument: Instrument) -> None:
    """Raises DataError when the instrument that was given contradicts more prices than damage explains."""
    off = int(_mark(messages.kind, messages.price, messages.ok, *_table(instrument), False))
    rows = np.flatnonzero(messages.ok & (messages.kind <= 4))
    if off <= most_off(len(rows)):
        return
    row = next(row for row in rows.tolist() if messages.price[row] % instrument.tick_at(int(messages.price[row])))
    fault = off_tick(int(messages.price[row]), instrument)
    raise DataError(
        f"{file.name}: {off:,} of {len(rows):,} visible prices contradict the instrument that was given, first in line "
        f"{Lines(file).number(row)}, column price: expected {fault.expected}, got {fault.got}; the file's own tick is "
        f"{tick_of(messages.price[rows])}: give that one, or none and it is found"
    )


def _table(instrument: Instrument) -> tuple[I64, I64]:
    steps = ((-EMPTY_ASK, instrument.tick), *instrument.ticks)
    return np.array([least for least, _ in steps], np.int64), np.array([tick for _, tick in steps], np.int64)


@njit
def _mark(kind: I8, price: I64, ok: Bool, least: I64, ticks: I64, refuse: bool) -> int:
    """How many accepted visible messages are off the tick that holds at their price; refused here if `refuse`."""
    count = 0
    for row in range(len(kind)):
        if ok[row] and kind[row] <= 4:
            step = len(least) - 1
            while price[row] < least[step]:
                step -= 1
            if price[row] % ticks[step]:
                ok[row] = ok[row] and not refuse
                count += 1
    return count


@njit
def _below_a_dollar(kind: I8, price: I64, ok: Bool, book_price: I64, sound: Bool, tick: int) -> bool:
    """Whether a message below a dollar is off the tick and a level of the book at or before it has its price."""
    for row in range(min(len(kind), len(sound))):
        if not ok[row] or kind[row] > 4 or price[row] >= DOLLAR or price[row] % tick == 0:
            continue
        for book in range(max(0, row - 1), row + 1):
            if not sound[book]:
                continue
            for side in range(2):
                for level in range(book_price.shape[2]):
                    if book_price[book, side, level] == price[row]:
                        return True
    return False
