"""Which event of an order has the wrong id or the wrong type, where the events of a day do not follow from each other.

An event is accused only if it is the one that puts its order right: the order's events follow from each other without it
(its id belongs to another order), or with another of the types 2, 3 and 4 in its place, and with no other event left out
or changed. Where a level shows fewer lots than its orders have, an end of one of them stands under another id: the event
is named that completes an order of the level, if it is the only one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from emp_gym.data.lobster_bytes import Books, Messages
from emp_gym.data.lobster_lives import (
    AGAIN,
    CONTRADICTS,
    GONE,
    MORE,
    PRICE,
    SHORT,
    SIDE,
    Lives,
    lives_of,
)
from emp_gym.data.lobster_orders import Orders
from emp_gym.data.lobster_pairing import Pairing
from emp_gym.types import I64, Bool

MOST_REUSED = 0.01  # share of order ids that damage explains: beyond it the venue uses ids again
MOST_WRONG = 0.02  # events that do not follow, per order: beyond it the rules are not those of the venue
ROUNDS = 3  # what an accused event hid from view is looked at again
IN_ORDER = 0.9  # share of neighbours with rising ids from which an id tells when its order was entered
_NEAR = 50  # entries to each side that are such neighbours
_NEW, _PARTIAL, _DELETE, _EXECUTED = 1, 2, 3, 4
_BROKEN, _OPEN, _WHOLE = -1, 0, 1
_OTHERS = {_PARTIAL: (_DELETE, _EXECUTED), _DELETE: (_PARTIAL, _EXECUTED), _EXECUTED: (_PARTIAL, _DELETE)}
_OF_THE_ID = (PRICE, SIDE, AGAIN, GONE, MORE)


class Event(NamedTuple):
    """One event of an order."""

    row: int
    kind: int
    size: int
    price: int
    side: int
    visit: int
    behind: bool


@dataclass(frozen=True)
class OrderCheck:
    """Events of orders (types 1 to 4) held against their order's earlier events; checked = equal + explained + unexplained.

    first: those with nothing before them to be checked with (entries, and orders from out of sight).
    """

    checked: int
    equal: int
    explained: int  # deletions of fewer lots than were known, of orders that had been out of sight
    unexplained: int  # accused or not
    first: int


@dataclass
class Accused:
    """Message rows whose id or type is wrong, and what the day's orders look like without them."""

    ids: list[int]
    types: dict[int, str]  # row -> the types that fit, in words
    check: OrderCheck

    @property
    def rows(self) -> I64:
        return np.array(sorted({*self.ids, *self.types}), np.int64)


def accused_of(messages: Messages, books: Books, pairing: Pairing, trusted: Bool) -> Accused:
    """trusted [R]: rows that are accused of nothing else."""
    lives = lives_of(messages, books, pairing, trusted)
    ids: list[int] = []
    types: dict[int, str] = {}
    now = trusted
    for _ in range(ROUNDS if len(lives.wrong) else 0):
        suspicious = _Suspicious(messages, lives, now)
        if suspicious.reused:
            break
        more_types, more_ids = suspicious.found()
        if not more_types and not more_ids:
            break
        types |= more_types
        ids += more_ids
        now = now.copy()
        now[[*more_types, *more_ids]] = False
        lives = lives_of(messages, books, pairing, now)
    unexplained = lives.contradicts + len(ids) + len(types)
    check = OrderCheck(lives.fits + lives.cut + unexplained, lives.fits, lives.cut, unexplained, lives.first)
    return Accused(ids, types, check)


class _Suspicious:
    """The orders of a day that do not add up."""

    def __init__(self, messages: Messages, lives: Lives, trusted: Bool) -> None:
        self.messages, self.lives = replace(messages, ok=messages.ok & trusted), lives
        self.orders = Orders(self.messages)
        wrong = lives.wrong
        said = lives.found[wrong]
        self.short = wrong[said >= SHORT].tolist()
        mixed = wrong[np.isin(np.where(said >= SHORT, said - SHORT, said), _OF_THE_ID)]
        numbers = np.unique(messages.order_id[mixed])
        self.reused = len(numbers) > max(10, lives.orders * MOST_REUSED) or len(wrong) > max(50, lives.orders * MOST_WRONG)
        plain = wrong[(said < SHORT) | (said - SHORT >= CONTRADICTS)]
        first = np.unique(messages.order_id[plain], return_index=True)[1]
        self.apart = plain[np.sort(first)].tolist()  # a row of each order whose own events do not go together

    def found(self) -> tuple[dict[int, str], list[int]]:
        """(row -> types that fit, rows with a wrong id)."""
        types: dict[int, str] = {}
        ids: set[int] = set()
        for row in self.short:
            culprit = self._hidden_end(row)
            if culprit >= 0:
                ids.add(culprit)
        for row in self.apart:
            rows = self.orders.rows_of(row).tolist()
            if ids & set(rows):
                continue  # looked at again without it
            events = [self._event(at) for at in rows]
            wrong, fitting = _wrong_type(events)
            if wrong >= 0:
                types[wrong] = fitting
                continue
            alone = [event.row for event in events if _follow([other for other in events if other is not event]) != _BROKEN]
            if len(alone) == 1:
                ids.add(alone[0])
        return types, sorted(ids - set(types))

    def _event(self, row: int) -> Event:
        x, lives = self.messages, self.lives
        kind, size, price, side, visit = (
            int(column[row]) for column in (x.kind, x.size, x.price, x.side, lives.visit)
        )
        return Event(row, kind, size, price, side, visit, bool(lives.behind[row]))

    def _life(self, row: int) -> list[Event]:
        return [self._event(at) for at in self.orders.rows_of(row).tolist()]

    def _hidden_end(self, row: int) -> int:
        """The event with the wrong id that makes the level of `row` show fewer lots than its orders have; -1: not known."""
        x = self.messages
        here = np.flatnonzero(self.lives.visit == self.lives.visit[row])
        here = here[x.ok[here]]
        entered = here[x.kind[here] == _NEW].tolist()
        own = set(x.order_id[entered].tolist())
        others = [at for at in here.tolist() if int(x.order_id[at]) not in own]
        culprits: set[int] = set()
        sure: set[int] = set()  # entries whose place in the flow of ids is that of the end's id
        for entry in entered:
            life = self._life(entry)
            if life[0].row != entry or _follow(life) == _WHOLE:
                continue
            for end in others:
                if _follow(sorted([*life, self._event(end)])) == _WHOLE:
                    culprit = self._one_of_two(entry, end) if len(life) == 1 and self._lonely(end) else end
                    (sure if culprit == entry else culprits).add(culprit)
            for end in others if len(life) == 1 else ():
                stranger = self._life(end)
                if len(stranger) > 1 and stranger[0].kind != _NEW and _follow([life[0], *stranger]) == _WHOLE:
                    culprits.add(entry)
        culprits = sure or culprits
        return culprits.pop() if len(culprits) == 1 else -1

    def _lonely(self, row: int) -> bool:
        return len(self.orders.rows_of(row)) == 1

    def _one_of_two(self, entry: int, end: int) -> int:
        """An entry and an end that belong together, each alone under its id: the one whose id does not fit the flow of ids."""
        x = self.messages
        entries = np.flatnonzero(x.ok & (x.kind == _NEW))
        place = int(np.searchsorted(entries, entry))
        near = x.order_id[entries[max(0, place - _NEAR) : place + _NEAR + 1]]
        if not 0 < place < len(entries) - 1 or np.mean(near[1:] > near[:-1]) < IN_ORDER:
            return -1
        before, after = x.order_id[entries[place - 1]], x.order_id[entries[place + 1]]
        entry_fits, end_fits = before < x.order_id[entry] < after, before < x.order_id[end] < after
        if entry_fits == end_fits:
            return -1
        return end if entry_fits else entry


def _wrong_type(events: list[Event]) -> tuple[int, str]:
    """The one event of types 2 to 4 with which another of these types puts the order right: (row, types that fit); (-1, "")."""
    found: dict[int, list[int]] = {}
    for at, event in enumerate(events):
        for kind in _OTHERS.get(event.kind, ()):
            result = _follow([*events[:at], event._replace(kind=kind), *events[at + 1 :]])
            if result == _WHOLE or (result == _OPEN and at < len(events) - 1):
                found.setdefault(event.row, []).append(kind)
    if len(found) != 1:
        return -1, ""
    ((row, kinds),) = found.items()
    return row, " or ".join(str(kind) for kind in sorted(kinds))


def _follow(events: list[Event]) -> int:
    """Whether events can be those of one order: no, yes, or yes and from its entry to its last lot."""
    if not events:
        return _OPEN
    first = events[0]
    left = first.size if first.kind == _NEW else -1
    over = first.kind == _DELETE
    if first.kind == _EXECUTED and first.behind:
        return _BROKEN
    for event in events[1:]:
        if over or event.kind == _NEW or (event.price, event.side) != (first.price, first.side):
            return _BROKEN
        if event.kind == _EXECUTED and event.behind:
            return _BROKEN
        over = event.kind == _DELETE
        if left < 0:
            continue
        sure = first.visit >= 0 and event.visit == first.visit
        if event.size > left or (event.kind == _PARTIAL and event.size == left):
            return _BROKEN
        if event.kind == _DELETE and sure and event.size < left:
            return _BROKEN
        left -= event.size
        over = over or left == 0
    return _WHOLE if left == 0 else _OPEN
