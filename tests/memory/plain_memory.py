"""The slow, obvious episodic memory: a dict of rows, Python floats, one thing after the other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from emp_gym.memory.episodic import LUMP, MemoryRules


@dataclass
class Row:
    window: tuple[float, ...]
    key: tuple[float, ...]
    action: float
    mean: float
    evidence: float = 1.0
    variance: float = 0.0
    count: int = 1
    strength: float = 1.0
    touched: int = 0
    protected: bool = False


def distance(a: Any, b: Any) -> float:
    return sum((float(x) - float(y)) ** 2 for x, y in zip(a, b))


class PlainMemory:
    def __init__(self, rules: MemoryRules, encoder: Any) -> None:
        self.rules, self.encoder = rules, encoder
        self.rows: dict[int, Row] = {}
        self.next = self.now = 0
        self.mean = self.variance = self.weight = 0.0

    def key(self, window: Any) -> tuple[float, ...]:
        return tuple(self.encoder(np.asarray([window], np.float32))[0].tolist())

    def left(self, row: Row) -> float:
        return 2.0 ** ((row.touched - self.now) / self.rules.half_life)

    def strength(self, row: Row) -> float:
        sunk = row.strength * self.left(row)
        return max(sunk, self.rules.floor) if row.protected else sunk

    def near(self, key: Any) -> list[tuple[float, int]]:
        found = sorted((distance(key, row.key), number) for number, row in self.rows.items())
        return found[: self.rules.neighbours]

    def advance(self, now: int) -> None:
        self.weight *= 2.0 ** ((self.now - now) / self.rules.half_life)
        self.now = now

    def recall(self, window: Any) -> list[tuple[int, float, float, float]]:
        """(id, weight, action, return) of the rows nearest first."""
        told = []
        for apart, number in self.near(self.key(window)):
            row = self.rows[number]
            likeness = 1.0 / (1.0 + apart / self.rules.bandwidth**2) ** 2
            told.append((number, likeness * row.evidence * self.left(row), row.action, row.mean))
        return told

    def write(self, batch: list[tuple[Any, float, float]]) -> list[int]:
        reach, where = self.rules.merge**2, []
        for window, action, _ in batch:  # of the rows that were there before
            fits = [n for apart, n in self.near(self.key(window)) if apart <= reach and self.rows[n].action == action]
            where.append(fits[0] if fits else None)
        leaders: list[int] = []
        for place, (window, action, outcome) in enumerate(batch):
            key, joined = self.key(window), where[place]
            if joined is None:
                fits = [(distance(key, self.rows[n].key), n) for n in leaders if self.rows[n].action == action]
                joined = min((pair for pair in fits if pair[0] <= reach), default=(0.0, None))[1]
            if joined is None:
                joined = self.next
                self.rows[joined] = Row(tuple(window), key, action, outcome, touched=self.now)
                leaders.append(joined)
                self.next += 1
            else:
                self.join(self.rows[joined], outcome)
            where[place] = joined
        for _, _, outcome in batch:
            delta, total = outcome - self.mean, self.weight + 1
            self.variance = (self.variance * self.weight + delta**2 * self.weight / total) / total
            self.mean, self.weight = self.mean + delta / total, total
        self.evict()
        return [number for number in where if number is not None]

    def join(self, row: Row, outcome: float) -> None:
        left = self.left(row)
        weight, delta = row.evidence * left, outcome - row.mean
        row.mean += delta / (weight + 1)
        row.variance = (row.variance * weight + delta**2 * weight / (weight + 1)) / (weight + 1)
        row.evidence, row.count, row.strength, row.touched = weight + 1, row.count + 1, max(row.strength * left, 1.0), self.now

    def evict(self) -> None:
        most = self.rules.capacity
        if len(self.rows) > most:
            weakest = sorted(self.rows, key=lambda n: (self.strength(self.rows[n]) if self.rules.evict == "weakest" else 0.0, n))
            for number in weakest[: len(self.rows) - (most - most // LUMP)]:
                del self.rows[number]

    def reinforce(self, told: list[tuple[int, float, float, float]], prior: float, action: float, outcome: float) -> dict[int, float]:
        """What each row gains; to be added by `strengthen`."""
        n0 = self.rules.prior
        own = [(number, weight, value) for number, weight, a, value in told if a == action]
        size = sum(weight for _, weight, _ in own) + n0
        total = sum(weight * value for _, weight, value in own) + n0 * prior
        every = sum(weight for _, weight, _, _ in told)
        value = sum(weight * value for _, weight, _, value in told) / every if every > 0 else prior
        gains: dict[int, float] = {}
        for number, weight, mean in own:
            if weight <= 0 or size - weight <= 1e-12 or number not in self.rows:
                continue
            without = (total - weight * mean) / (size - weight)
            if abs(outcome - without) > abs(outcome - total / size):
                gain = abs(outcome - value) / max(math.sqrt(self.variance), 1e-12) * weight / size
                gains[number] = gain
        return gains

    def strengthen(self, gains: dict[int, float]) -> None:
        for number, gain in gains.items():
            row = self.rows[number]
            left = self.left(row)
            row.strength, row.evidence = min(row.strength * left + gain, self.rules.strongest), row.evidence * left
            row.touched = self.now

    def protect(self, numbers: list[int]) -> None:
        for number in numbers:
            if number in self.rows:
                self.rows[number].protected = True
        held = sorted(number for number, row in self.rows.items() if row.protected)
        for number in held[: max(len(held) - int(self.rules.floor_share * self.rules.capacity), 0)]:
            self.rows[number].protected = False

    def reembed(self, encoder: Any) -> None:
        self.encoder = encoder
        for row in self.rows.values():
            row.key = self.key(row.window)
