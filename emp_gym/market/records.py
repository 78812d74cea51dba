"""What the kernels of the replay market work on: own orders, consumed depth, rules, and the tape as they see it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emp_gym.market.public import LANE, within
from emp_gym.types import I32, MessageType, OrderAck

NEW, REDUCE, DELETE, EXECUTE = int(MessageType.NEW), int(MessageType.REDUCE), int(MessageType.DELETE), int(MessageType.EXECUTE)
HIDDEN, ADOPT, EVICT = int(MessageType.EXECUTE_HIDDEN), int(MessageType.ADOPT), int(MessageType.EVICT)
ACCEPTED, NO_SLOT, MALFORMED, REFUSED_HALT, UNKNOWN_ORDER = (
    int(told) for told in OrderAck if told not in (OrderAck.NONE, OrderAck.PENDING)
)
EXACT, TOUCHED, OPTIMISTIC = 0, 1, 2
KEPT = 2  # `births` of the mutant that keeps what stood behind an order while its level is out of sight
UNKNOWN_PLACE = -1  # volume ahead of an order beyond the visible window


class Tape(NamedTuple):
    """The flat arrays of a `TapeSet` that kernels read; `emp_gym.data.tape.tape_set` says what they hold."""

    rows: np.ndarray  # ROW [R]
    messages: np.ndarray  # MESSAGE [R]
    book: np.ndarray  # LEVEL [R, 2, L]
    links: np.ndarray  # LINK [R, 2, L]
    touches: np.ndarray  # TOUCH [E]
    first_touch: I32  # [F]
    far_touch: np.ndarray  # FAR [G]
    cross: I32  # [2, R]
    cross_block: I32  # [2, B]


CURSOR = within(
    LANE,
    [
        ("position", "i8"),  # lots; `QUOTE` has it from decision to decision
        ("next_row", "i8"),  # nothing of ours can happen before this row
        ("target", "i8"),  # row of the next decision, while the lane walks to it
        ("last_row", "i8"),  # seen_row of the decision before
        ("fills", "i4"),  # entries in the fill log of this step
        ("consumed", "i4"),  # used entries of consumed depth
        ("consumed_row", "i4"),  # row of the last of them
        ("exhausted", "i1"),  # the tape (or the split) ends here
    ],
)
"""One lane of the replay market, orders aside: a `LANE` entry, and in its room what only this market knows (rows count from the
day's first)."""

SLOT = np.dtype(
    [
        # what every walk reads, together
        ("price", "i8"),
        ("quantity", "i8"),  # lots that remain
        ("ahead", "i8"),  # lots ahead of us, UNKNOWN_PLACE while beyond the window
        ("behind", "i8"),  # lots known to be behind us
        ("touch", "i8"),  # next touch of our level, or an earlier one until it is looked at (flat index)
        ("touch_row", "i4"),  # its row, or an earlier one while it was not looked at; NO_ROW if there is none
        ("exec_row", "i4"),  # next execution that reaches us, NO_ROW while not known
        ("cross_row", "i4"),  # next row that crosses us, or where to look again
        ("cancel_row", "i4"),  # cancel takes effect after this row, NO_ROW if none is on its way
        ("born_row", "i4"),
        (
            "spell_row",
            "i4",
        ),  # last row in which our level left the window (ours, if it was out of it then); -1 if never
        ("side", "i1"),
        ("state", "i1"),  # FREE, IN_FLIGHT, LIVE
        ("kind", "i1"),  # LIMIT or MARKET
        ("live", "?"),
        ("passed", "i1"),  # work mark: already served by the row at hand
        ("leaving", "?"),  # `cancel_row` is known
        ("instrument", "i2"),
        # the rest
        ("counted", "i4"),  # lots of ours that the recorded volume contains (a ghost's; else 0)
        ("nameless", "i4"),  # of `ahead` after a spell: lots that can be of orders whose birth was not seen
        ("id", "i8"),
        ("filled", "i8"),  # lots
        ("arrive_ns", "i8"),
        ("cancel_ns", "i8"),
        ("target", "i8"),  # the order that this one replaces, 0 for none
        ("arrive_row", "i4"),  # takes effect after this row
        ("decision", "i4"),  # decision in which it was sent
    ],
    align=True,
)
"""One own order: the bytes of an `OPEN` entry, all of them named."""

BEYOND = 2  # times the side: what was taken beyond the file
PARTS = 1 << 16  # of a lot: what comes back by and by is kept in them, so that looking at it often does not bring it back sooner
TAKEN = np.dtype([("price", "i8"), ("parts", "i8"), ("time_ns", "i8"), ("row", "i4"), ("side", "i1")], align=True)
"""Depth that we consumed: `side` is that of the book level. Of what was taken beyond the file it is `BEYOND` times that, and `price` the
nearest one past which it was taken."""

PARAMS = np.dtype(
    [
        ("order_latency_ns", "i8"),
        ("feed_latency_ns", "i8"),
        ("half_life_ns", "i8"),  # of consumed depth: 0 = back at once, -1 = never back
        ("every_rows", "i8"),  # messages a decision, 0 if by time
        ("every_ns", "i8"),
        ("fills", "i8"),  # EXACT, TOUCHED, OPTIMISTIC
        ("hidden_prints", "i8"),  # 1: they fill, and `Tape.cross` holds them
        ("births", "i8"),  # 1; 0 makes the mutant that ignores births, KEPT that of the earlier rule
    ],
    align=True,
)
"""What is the same in every episode, whatever its day."""
