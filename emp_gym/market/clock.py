"""How far a decision goes, and how many an episode has: "100 messages", "250 ms", "1 bar"; "256 decisions"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from emp_gym.data.clock import UNITS
from emp_gym.settings import LARGEST, shown
from emp_gym.types import ConfigError


@dataclass(frozen=True)
class Clock:
    """So many events of the market, or nanoseconds, from decision to decision (one of both is 0)."""

    count: int
    ns: int
    unit: str = "message"  # what is counted, one of them

    @classmethod
    def parse(cls, text: Any, units: Sequence[str] = ("message", "messages")) -> Clock:
        """'100 messages', '250 ms', '1 bar'; `units` are the market's words for its events."""
        match = re.fullmatch(r"\s*(\d{1,18})\s*([a-z]+)\s*", text) if isinstance(text, str) else None
        if match and int(match[1]) > 0:
            count, unit = int(match[1]), match[2]
            if unit in units:
                return cls(count, 0, unit.removesuffix("s"))
            if unit in UNITS and count * UNITS[unit] <= LARGEST:
                return cls(0, count * UNITS[unit])
        raise ConfigError(f"every must be like '100 {units[-1]}', '250 ms' or '1 s', got {shown(text)}")

    def __str__(self) -> str:
        """As `parse` reads it, times in the largest unit that is exact."""
        if self.count:
            return f"{self.count} {self.unit}{'s' if self.count > 1 else ''}"
        unit = next(unit for unit in reversed(UNITS) if self.ns % UNITS[unit] == 0)
        return f"{self.ns // UNITS[unit]} {unit}"


def parse_episode(text: Any) -> int:
    """'256 decisions' -> 256."""
    match = re.fullmatch(r"\s*(\d{1,18})\s*decisions?\s*", text) if isinstance(text, str) else None
    if not match or int(match[1]) < 1:
        raise ConfigError(f"episode must be like '256 decisions', got {shown(text)}")
    return int(match[1])
