"""Replay speed: `ReplayMarket` under a fixed quoting policy, exact queue places, no observation and no reward.

The policy asks for one lot on each side at the touch at every decision. An order that already stands there is not moved
and keeps its place; one that stands elsewhere is cancelled and replaced. Messages a second are lanes x rows passed /
seconds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from emp_gym.data.tape import LARGEST_IN_MEMORY, TapeSet
from emp_gym.experiments.benchmark import days, peers
from emp_gym.experiments.benchmark.figures import Effort, Figures, core_word, thread_counts
from emp_gym.jit import hot
from emp_gym.market.base import MarketSpec
from emp_gym.market.public import CANCEL, ENDLESS, LIMIT, NONE, REPLACE, TRADING
from emp_gym.market.replay import MANY, REQUESTS, ReplayConfig, ReplayMarket
from emp_gym.types import I64, Orders

QUANTITY = 1  # lots of a quote


@hot
def quote(kinds, requests, state, quotes, book, slots):
    """Writes the orders of the quoting policy for every lane into kinds and requests [N, K]."""
    for i in range(len(state)):
        lane, n = state[i], 0
        for k in range(kinds.shape[1]):
            kinds[i, k] = NONE
        for s in range(2):
            side = 1 if s == 0 else -1
            there = quotes[i, 0]["status"] == TRADING and book[i, 0, 2 * s + 1, 0] > 0
            wanted = book[i, 0, 2 * s, 0] if there else 0
            n = _quote_side(kinds[i], requests[i], n, lane, slots[i], side, wanted)


@hot
def _quote_side(kinds, requests, n, lane, slots, side, wanted):
    stands, old = wanted == 0, 0
    for k in range(lane["orders"]):
        slot = slots[k]
        if slot["side"] != side or slot["leaving"]:
            continue
        if slot["price"] == wanted:
            stands = True
        else:
            old = slot["id"]
    if stands and old == 0:
        return n
    request = requests[n]
    request["side"], request["price"], request["quantity"] = side, wanted, QUANTITY
    request["id"], request["target"] = lane["decision"] * 4 + n + 1, old
    kinds[n] = REPLACE if old > 0 else LIMIT
    if stands:
        kinds[n], request["id"] = CANCEL, old
    return n + 1


_copies: dict[int, tuple[TapeSet, TapeSet]] = {}  # id of a tape -> itself and its copy


def _held(tape: TapeSet, lanes: int) -> TapeSet:
    """The tape as an environment of so many lanes would hold it."""
    if lanes < MANY:
        return tape
    if id(tape) not in _copies:
        _copies.clear()
        _copies[id(tape)] = tape, tape.in_memory(LARGEST_IN_MEMORY)
    return _copies[id(tape)][1]


class Quoting:
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


def speed(tape: TapeSet, lanes: int, messages: int, threads: int, effort: Effort) -> tuple[list[float], int]:
    """(messages a second by repeat, lots filled while measuring)."""
    run = Quoting(tape, lanes, messages, threads)
    for _ in range(3):
        run.step()
    samples = []
    for _ in range(effort.repeats):
        done, took, begun = 0.0, 0.0, time.perf_counter()
        while took < effort.seconds:
            done += run.step()
            took = time.perf_counter() - begun
        samples.append(done / took)
    return samples, run.fills


def measure(figures: Figures, effort: Effort, data: Sequence[str] | None = None) -> None:
    """Adds every replay figure."""
    tape = days.chosen(data, "mixed", effort.rows)
    for messages in effort.messages:
        for lanes in effort.lanes:
            for threads in thread_counts(lanes):
                samples, fills = speed(tape, lanes, messages, threads, effort)
                name = f"replay {lanes} lanes, {messages} messages, {core_word(threads)}"
                figures.add(name, samples, f"messages/s ({fills:,} lots filled)")
    for regime in () if data else days.REGIMES[1:]:
        for threads in thread_counts(effort.many):
            samples, fills = speed(days.chosen(None, regime, effort.rows), effort.many, 100, threads, effort)
            name = f"replay {effort.many} lanes, 100 messages, {core_word(threads)}, {regime} days"
            figures.add(name, samples, f"messages/s ({fills:,} lots filled)")
    peers.measure(figures, effort, tape)
