"""Lanes of `ReplayMarket` under a fixed quoting policy."""

from __future__ import annotations

import numpy as np

from emp_gym.benchmarks.quote_kernels import quote
from emp_gym.data.tape.tape_set import LARGEST_IN_MEMORY, TapeSet
from emp_gym.market.base import MarketSpec
from emp_gym.market.public import ENDLESS
from emp_gym.market.replay import MANY, REQUESTS, ReplayConfig, ReplayMarket
from emp_gym.types import I64, Orders

_copies: dict[int, tuple[TapeSet, TapeSet]] = {}  # id of a tape -> itself and its copy


def _held(tape: TapeSet, lanes: int) -> TapeSet:
    """The tape as an environment of so many lanes would hold it."""
    if lanes < MANY:
        return tape
    if id(tape) not in _copies:
        _copies.clear()
        _copies[id(tape)] = tape, tape.in_memory(LARGEST_IN_MEMORY)
    return _copies[id(tape)][1]


class QuotingLanes:
    """`lanes` lanes that quote on `tape` from random places; a lane that reaches the end of its day starts anew."""

    def __init__(self, tape: TapeSet, lanes: int, messages: int, threads: int, seed: int = 0) -> None:
        self.tape, self.lanes = _held(tape, lanes), lanes
        self.market = ReplayMarket(MarketSpec(lanes, every=f"{messages} messages", threads=threads), ReplayConfig(), self.tape)
        self.orders = Orders.empty(lanes, REQUESTS)
        self.random = np.random.default_rng(seed)
        self.filled = 0
        self.ends = tape.days["rows"] - 1
        self.passed = np.zeros(lanes, np.int64)
        self.place(np.arange(lanes))

    def place(self, lanes: I64) -> None:
        """Puts `lanes` at random rows in the first nine tenths of random days."""
        day = self.random.integers(0, len(self.tape.info), len(lanes))
        row = (self.random.random(len(lanes)) * 0.9 * self.ends[day]).astype(np.int64)
        self.market.reset(lanes, day, row, self.ends[day])
        self.passed[lanes] = self.market.public.lane["row"][lanes]

    def step(self) -> float:
        """One decision in every lane; returns the messages that went by."""
        market, lane = self.market, self.market.public.lane
        quote(self.orders.kind, self.orders.records, lane, market.public.quote, market.public.book, market.public.open)
        market.advance(self.orders)
        messages = float((lane["row"] - self.passed).sum())
        self.passed = lane["row"].copy()
        over = np.flatnonzero(market.progress == ENDLESS)
        if len(over):
            self.filled += int(lane["filled"][over].sum())
            self.place(over)
        return messages

    @property
    def fills(self) -> int:
        """Lots filled so far."""
        return self.filled + int(self.market.public.lane["filled"].sum())
