"""The deeper file of a day judges the queue in a shallower one.

What happens at a level that a file does not show is known to a deeper file of the same day. So orders of one lot join the
touch at random moments of both, through the kernel that the environments use: the shallow file must never fill one earlier.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emp_gym.data.tape.format import NO_ROW
from emp_gym.data.tape.tape_set import TapeSet
from emp_gym.jit import njit
from emp_gym.market.account import FILL
from emp_gym.market.day_rules import market_days
from emp_gym.market.overlay import walk
from emp_gym.market.queue import rest
from emp_gym.market.records import CURSOR, PARAMS, SLOT, TAKEN, Tape
from emp_gym.types import I64, NS, ConfigError, DataError, TradingStatus

NEVER = -1  # fill time of an order that is not filled
ALIKE = 0.99  # share of the moments at which two files of one day must show the same first levels


@dataclass(frozen=True)
class JoiningOrders:
    """One-lot orders that join the touch [n]."""

    time_ns: I64  # they arrive after every message up to this time
    until_ns: I64  # and are cancelled after every message up to this one
    side: I64
    touch: I64  # best price of their side
    price: I64


@dataclass(frozen=True)
class DepthComparison:
    """How many orders a shallow file fills earlier than a deeper one, at the same time, later, or alone."""

    levels: int
    deeper_levels: int
    orders: int
    filled: int  # in the deeper file
    neither: int  # of `same`: filled in neither file
    out_of_sight_later: int  # of `out_of_sight`: filled later, or in the deeper file only
    out_of_sight: int  # orders whose level was beyond the shallow file's window at some time before their end in it
    earlier: int
    same: int
    later: int
    only_shallow: int
    only_deeper: int


def sampled(
    tape: TapeSet, deeper: TapeSet, count: int, hold_ns: int, seed: int, day: tuple[int, int] = (0, 0), level: int = 1
) -> JoiningOrders:
    """`count` moments at random, each a row of the deeper file after which both sides are quoted and trading is on.

    Orders join the touch, or the `level`-th best price of the deeper file.
    """
    rows, book = deeper.rows[deeper.day_slice(day[1])], deeper.book[deeper.day_slice(day[1])]
    group = np.flatnonzero(rows["group_end"] == np.arange(len(rows)))
    first = tape.rows[tape.day_slice(day[0])]["time_ns"][0]
    usable = (
        (rows["time_ns"] >= first)
        & (rows["time_ns"] + hold_ns <= rows["time_ns"][-1])
        & (rows["status"] == TradingStatus.TRADING)
    )
    usable &= (book[:, 0, level - 1]["size"] > 0) & (book[:, 1, level - 1]["size"] > 0)
    group = group[usable[group]]
    if len(group) == 0:
        raise ConfigError(
            f"{deeper.info[day[1]]}: no moment at which an order can be held for {hold_ns / NS:g} s; hold it shorter"
        )
    rng = np.random.default_rng(seed)
    at = rng.choice(group, count)
    side = rng.choice(np.array([1, -1]), count)
    own = np.where(side > 0, 0, 1)
    base, time_ns = deeper.days[day[1]]["base"], rows["time_ns"][at]
    return JoiningOrders(
        time_ns, time_ns + hold_ns, side, base + book[at, own, 0]["price"], base + book[at, own, level - 1]["price"]
    )


def first_fills(tape: TapeSet, orders: JoiningOrders, day: int = 0, *, births: int = 1) -> tuple[I64, np.ndarray]:
    """(time of each order's fill or NEVER [n], whether its level was out of sight before its end [n]).

    `births` other than 1 runs a mutant of the kernel (`records.PARAMS`), which a test shows to fill too early.
    """
    rows = tape.rows[tape.day_slice(day)]["time_ns"]
    arrive = np.searchsorted(rows, orders.time_ns, side="right") - 1
    until = np.searchsorted(rows, orders.until_ns, side="right") - 1
    book = tape.book[tape.day_slice(day)]
    best = book[arrive, np.where(orders.side > 0, 0, 1), 0]
    wrong = np.flatnonzero(
        (arrive < 0) | (best["size"] <= 0) | (best["price"] + tape.days[day]["base"] != orders.touch)
    )
    if len(wrong):
        i = wrong[0]
        found = int(best["price"][i] + tape.days[day]["base"])
        raise DataError(
            f"{tape.described}: the touch at {orders.time_ns[i]} ns is {found}, expected {orders.touch[i]} as in the other file: "
            "give two files of the same day and session"
        )
    params = np.zeros(1, PARAMS)
    params["births"] = births
    own = market_days(tape.days[day : day + 1], tape.info[day : day + 1], bps=(0.0, 0.0), per_lot=(0.0, 0.0))
    own["price_to_cash"] = 1
    out, hidden = np.full(len(arrive), NEVER, np.int64), np.zeros(len(arrive), np.bool_)
    _first_fills(
        arrive, until, orders.side, orders.price, out, hidden, np.zeros(1, CURSOR), np.zeros(1, SLOT), np.zeros(1, TAKEN),
        np.zeros(64, FILL), params, own, tape.rows, tape.messages, tape.book, tape.links, tape.touches, tape.first_touch,
        tape.far_touch, tape.cross, tape.cross_block,
    )  # fmt: skip
    return out, hidden


def compare(
    tape: TapeSet, deeper: TapeSet, orders: JoiningOrders, day: tuple[int, int] = (0, 0), *, births: int = 1
) -> DepthComparison:
    """What the shallow tape says of `orders` against what the deeper one says. `DataError` where they are not of the same book."""
    _same_book(tape, deeper, day)
    mine, hidden = first_fills(tape, orders, day[0], births=births)
    theirs, _ = first_fills(deeper, orders, day[1])
    both = (mine != NEVER) & (theirs != NEVER)
    later = (theirs != NEVER) & ((mine > theirs) | (mine == NEVER))
    return DepthComparison(
        levels=tape.levels,
        deeper_levels=deeper.levels,
        orders=len(mine),
        filled=int((theirs != NEVER).sum()),
        neither=int(((mine == NEVER) & (theirs == NEVER)).sum()),
        out_of_sight_later=int((hidden & later).sum()),
        out_of_sight=int(hidden.sum()),
        earlier=int((both & (mine < theirs)).sum()),
        same=int((mine == theirs).sum()),
        later=int((both & (mine > theirs)).sum()),
        only_shallow=int(((mine != NEVER) & (theirs == NEVER)).sum()),
        only_deeper=int(((mine == NEVER) & (theirs != NEVER)).sum()),
    )


def _same_book(tape: TapeSet, deeper: TapeSet, day: tuple[int, int]) -> None:
    """`DataError` unless the deeper file's first levels are those of the shallow one, at nearly every moment that both have."""
    rows, theirs = tape.rows[tape.day_slice(day[0])], deeper.rows[deeper.day_slice(day[1])]["time_ns"]
    ends = np.flatnonzero(rows["group_end"] == np.arange(len(rows)))
    ends = ends[(rows["time_ns"][ends] >= theirs[0]) & (rows["time_ns"][ends] <= theirs[-1])]
    at = np.searchsorted(theirs, rows["time_ns"][ends], side="right") - 1
    price, size = tape.book_at(ends, day[0])
    deep_price, deep_size = (array[:, :, : tape.levels] for array in deeper.book_at(at, day[1]))
    wrong = np.flatnonzero(((price != deep_price) | (size != deep_size)).any(axis=(1, 2)))
    if len(ends) == 0 or len(wrong) > (1 - ALIKE) * len(ends):
        found = f"another book at {len(wrong):,} of {len(ends):,} moments" + (
            f", first at {int(rows['time_ns'][ends[wrong[0]]]):,} ns" if len(wrong) else ""
        )
        raise DataError(f"{deeper.described}: {found} than {tape.described}; give two files of the same day and stock")


@njit
def _first_fills(
    arrive, until, side, price, out, hidden, state, slots, taken, fills, params, days, rows, messages, book, links,
    touches, first_touch, far_touch, cross, cross_block,
):  # fmt: skip
    tape = Tape(rows, messages, book, links, touches, first_touch, far_touch, cross, cross_block)
    lane, slot, day, setup = state[0], slots[0], days[0], params[0]
    for k in range(len(arrive)):
        lane["orders"], lane["fills"], lane["next_row"] = 1, 0, NO_ROW
        slot["id"], slot["price"], slot["side"], slot["kind"] = 1, price[k], side[k], 1
        slot["quantity"], slot["filled"], slot["cancel_row"] = 1, 0, NO_ROW
        rest(lane, day, slot, tape, arrive[k])
        walk(lane, day, slots, taken, fills, tape, setup, until[k], 0)
        last = until[k]
        if lane["fills"] > 0:
            last = fills[0]["row"]
            out[k] = rows[day["row0"] + last]["time_ns"]
        hidden[k] = _left_the_window(day, book, side[k], price[k], arrive[k], last)


@njit
def _left_the_window(day, book, side, price, first, last):
    """Whether a price is beyond the visible levels after a row from `first` to before `last`."""
    own, deepest = 0 if side > 0 else 1, book.shape[2] - 1
    for row in range(first, last):
        worst = book[day["row0"] + row, own, deepest]
        if worst["size"] > 0 and side * (day["base"] + worst["price"]) > side * price:
            return True
    return False
