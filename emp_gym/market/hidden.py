"""Hidden executions among what fills own orders: the tape of ``hidden_prints="fill"``."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from emp_gym.data.tape.format import BLOCK
from emp_gym.data.tape.tape_set import TapeSet
from emp_gym.jit import njit
from emp_gym.market.public import TRADING
from emp_gym.market.records import HIDDEN

SIDE_UNTOLD_FROM = "2014-07-14"
"""ISO date from which NASDAQ's trade message says "buy" of every hidden order (ITCH 5.0), and so does LOBSTER's direction."""


def with_hidden_prints(tape: TapeSet) -> TapeSet:
    """`tape`, with hidden executions among its crossings: one fills own orders of its passive side at its price or better.

    Only those strictly inside the displayed spread while trading: before a hidden order its side's displayed ones at that price
    or better have to go, and own orders behind them cannot have been reached either. The passive side is the direction told;
    from `SIDE_UNTOLD_FROM` on it is the touch that is nearer, and a print in the middle fills nobody.
    """
    told = np.array([day.date < SIDE_UNTOLD_FROM for day in tape.info])
    cross, cross_block = tape.cross.copy(), tape.cross_block.copy()
    _add_prints(cross, cross_block, told, tape.days, tape.messages, tape.book)
    for array, own in ((cross, tape.cross), (cross_block, tape.cross_block)):
        array.setflags(write=own.flags.writeable)  # kernels are compiled for one of both
    return replace(tape, cross=cross, cross_block=cross_block)


@njit
def _add_prints(cross, cross_block, told, days, messages, book):
    for d in range(len(days)):
        day = days[d]
        for row in range(1, day["rows"]):
            at, block = day["row0"] + row, day["block0"] + row // BLOCK
            message, bid, ask = messages[at], book[at - 1, 0, 0], book[at - 1, 1, 0]
            if message["kind"] != HIDDEN or message["status"] != TRADING or bid["size"] <= 0 or ask["size"] <= 0:
                continue
            price, low, high = message["price"] - day["base"], np.int64(bid["price"]), np.int64(ask["price"])
            if not low < price < high:
                continue
            side = np.int64(message["side"]) if told[d] else low + high - 2 * price
            if side > 0:
                cross[0, at], cross_block[0, block] = price, min(cross_block[0, block], price)
            elif side < 0:
                cross[1, at], cross_block[1, block] = price, max(cross_block[1, block], price)
