"""Which events of orders are not kept: those whose id or type contradicts what the rows before them have established.

What later rows say of an earlier one is counted, and accuses nobody (see lobster_lives). Only whether the day's ids follow these
rules at all is asked of the whole day, as its tick is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emp_gym.data.lobster.alignment import Pairing
from emp_gym.data.lobster.line_rules import Fault
from emp_gym.data.lobster.lives import (
    AGAIN,
    ALL,
    BEHIND,
    CONTRADICTS,
    FIRST,
    GONE,
    MORE,
    PRICE,
    REST,
    SIDE,
    STRANGER,
    UNSURE,
    Lives,
    lives_of,
)
from emp_gym.data.lobster.parser import Books, Messages
from emp_gym.types import I64, Bool

MOST_WRONG = 50, 0.02  # contradictions of a day, and their share of its orders: beyond both the venue has other rules
_NEW = 1
_EXPECTED = {
    PRICE: "an id whose earlier messages have this price",
    SIDE: "an id whose earlier messages have this side",
    AGAIN: "an id that no earlier message has",
    GONE: "an id whose order has not ended",
    MORE: "an id whose order has these lots left",
    STRANGER: "an id of the orders that stand at this level: they have all of its lots",
    ALL: "3 or 4: all lots that are left are taken",
    REST: "2 or 4: the order has more lots left",
    BEHIND: "2 or 3: executions are at the best price",
}


@dataclass(frozen=True)
class OrderCheck:
    """Events of orders (types 1 to 4) held against their order's earlier events; checked = equal + explained + unexplained.

    first: those with nothing before them to be checked with (entries, and orders from out of sight).
    """

    checked: int
    equal: int
    explained: int  # deletions of fewer lots than were known, of orders that had been out of sight
    unexplained: int  # quarantined, or kept where an earlier event may be at fault and which one is not known
    first: int
    unexplained_rows: tuple[int, ...] = ()  # 1-based lines in the message file


@dataclass(frozen=True)
class Accused:
    """Message rows whose id or type contradicts the rows before them, and what is wrong with each."""

    rows: I64
    faults: dict[int, Fault]
    unexplained: I64  # rows: these, and those that contradict by the fault of an earlier one
    check: OrderCheck


def accused_of(messages: Messages, books: Books, pairing: Pairing, trusted: Bool) -> Accused:
    """trusted [R]: rows that are accused of nothing else."""
    lives = lives_of(messages, books, pairing, trusted)
    check = OrderCheck(lives.fits + lives.cut + lives.contradicts, lives.fits, lives.cut, lives.contradicts, lives.first)
    wrong = np.flatnonzero(lives.found >= CONTRADICTS)
    most, share = MOST_WRONG
    if len(wrong) == 0 or len(wrong) > max(most, lives.first * share):
        return Accused(wrong[:0], {}, wrong, check)
    entries = np.flatnonzero(messages.ok & trusted & (messages.kind == _NEW) & (lives.found == FIRST))
    rows = np.array([row for row in wrong.tolist() if _is_at_fault(messages, lives, entries, row)], np.int64)
    return Accused(rows, {row: _fault(messages, row, int(lives.found[row])) for row in rows.tolist()}, wrong, check)


def _is_at_fault(messages: Messages, lives: Lives, entries: I64, row: int) -> bool:
    """Whether the row itself is wrong, and not one before it. entries: rows in which orders entered, in order."""
    said = lives.found[row]
    if said != STRANGER:
        return said != UNSURE
    number, before = messages.order_id[row], entries[: np.searchsorted(entries, row)]
    ids = messages.order_id[before]
    here = np.flatnonzero(lives.visit[before] == lives.visit[row])
    after = np.append(ids[1:], np.iinfo(np.int64).max)[here]
    return not ((ids[here - 1] < number) & (number < after) | (here == 0)).any()  # none of them can be its entry


def _fault(messages: Messages, row: int, said: int) -> Fault:
    if said < ALL:
        return Fault("order id", "order-id", _EXPECTED[said], str(messages.order_id[row]))
    return Fault("type", "order-type", _EXPECTED[said], str(messages.kind[row]))
