"""Replay speed: `ReplayMarket` under a fixed quoting policy, exact queue places, no observation and no reward.

Messages a second are lanes x rows passed / seconds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from emp_gym.benchmarks import days, peers
from emp_gym.benchmarks.figures import Effort, Figures, core_word, thread_counts
from emp_gym.benchmarks.quoting import QuotingLanes
from emp_gym.data.tape.tape_set import TapeSet


def speed(tape: TapeSet, lanes: int, messages: int, threads: int, effort: Effort) -> tuple[list[float], int]:
    """(messages a second by repeat, lots filled while measuring)."""
    run = QuotingLanes(tape, lanes, messages, threads)
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
