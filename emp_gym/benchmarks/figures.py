"""Figures of one run: name -> median, min, max and unit, with what proves them beside."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from emp_gym.threads import default_threads


@dataclass(frozen=True)
class Effort:
    """How much to measure."""

    repeats: int = 3
    seconds: float = 0.4  # at least, per repeat
    rows: int = 200_000  # of each synthetic day
    large_rows: int = 1_000_000  # of the day whose reading and memory are measured
    lanes: tuple[int, ...] = (1, 16, 256, 1024, 4096)
    messages: tuple[int, ...] = (1, 10, 100, 1000)  # between two decisions
    steps: int = 1_000_000  # env-steps over which nothing may grow
    timesteps: int = 400_000  # of a training run

    @property
    def many(self) -> int:
        """The number of lanes of the main figures."""
        return 1024 if 1024 in self.lanes else max(self.lanes)


SMALL = Effort(
    seconds=0.01, rows=4_000, large_rows=5_000, lanes=(1, 16), messages=(10, 100), steps=2_000, timesteps=2_048
)


@dataclass
class Figures:
    """Figures in the order in which they were measured; each is said on stderr as it comes."""

    values: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, samples: Sequence[float], unit: str) -> None:
        """A figure from its repeats."""
        self.values[name] = {"median": median(samples), "min": min(samples), "max": max(samples), "unit": unit}
        say(f"{name}: {shown(median(samples))} {unit}")

    def missing(self, name: str, why: str) -> None:
        """A figure that could not be measured here, and how it could."""
        self.values[name] = {"median": None, "min": None, "max": None, "unit": why}
        say(f"{name}: {why}")


def say(line: str) -> None:
    """Progress goes to stderr, so that stdout holds the figures alone."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def shown(value: float | None) -> str:
    """A figure with about three digits that matter."""
    if value is None:
        return "-"
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 or value == int(value) else f"{value:.3g}"


def rates(work: Callable[[], float], effort: Effort) -> list[float]:
    """Units of work a second, one sample a repeat. `work` does a portion and returns its size; warm it up first."""
    samples = []
    for _ in range(effort.repeats):
        done, took, begun = 0.0, 0.0, time.perf_counter()
        while took < effort.seconds or done == 0:
            done += work()
            took = time.perf_counter() - begun
        samples.append(done / took)
    return samples


def cores() -> int:
    """Cores that this process may use; no more than NUMBA_NUM_THREADS says."""
    return default_threads(1 << 20)


def thread_counts(lanes: int) -> list[int]:
    """One core, and all of them where that can help."""
    return [1, cores()] if cores() > 1 and lanes >= 256 else [1]


def core_word(threads: int) -> str:
    return "1 core" if threads == 1 else f"{threads} cores"


def resident_mb() -> float:
    """Memory of this process now, MB, mapped pages of tapes included; the peak where the system does not say."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
