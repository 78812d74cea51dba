"""A replay market on days that a test holds, its assumptions in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from emp_gym.data.tape.tape_set import TapeSet
from emp_gym.market.base import MarketSpec
from emp_gym.market.replay import ReplayConfig, ReplayMarket


def replaying(
    tape: TapeSet, lanes: int, *, threads: int | None = 1, looks: Sequence[int] = (), every_rows: int = 100, every_ns: int = 0,
    order_latency_ns: int = 0, feed_latency_ns: int = 0, half_life_ns: int = 0, **words: Any,
) -> ReplayMarket:  # fmt: skip
    """`words`: what else `ReplayConfig` takes."""
    assert (every_rows > 0) != (every_ns > 0)
    impact = {0: "none", -1: "permanent"}.get(half_life_ns, f"resilient {half_life_ns} ns")
    config = ReplayConfig(latency_ns=(order_latency_ns, feed_latency_ns), impact=impact, **words)
    every = f"{every_rows} messages" if every_rows else f"{every_ns} ns"
    return ReplayMarket(MarketSpec(lanes, every=every, threads=threads, looks=tuple(looks)), config, tape)
