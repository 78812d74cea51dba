"""Units and lengths of time, and when a day begins: its local midnight in UTC, clock changes included."""

from __future__ import annotations

import re
from datetime import datetime
from difflib import get_close_matches
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from emp_gym.settings import LARGEST
from emp_gym.types import NS, DataError

UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": NS, "min": 60 * NS}
"""Nanoseconds of the units in which settings say times, the smallest first."""


def half_life_of(impact: Any) -> int | None:
    """Half-life of consumed depth in ns: 'none' -> 0, 'permanent' -> -1, 'resilient' -> 1 s, 'resilient 250 ms'; else None."""
    if not isinstance(impact, str):
        return None
    if (known := {"none": 0, "permanent": -1, "resilient": NS}.get(impact)) is not None:
        return known
    match = re.fullmatch(r"resilient\s+(\d{1,18})\s*(ns|us|ms|s|min)", impact)
    half_life = int(match[1]) * UNITS[match[2]] if match else 0
    return half_life if 0 < half_life <= LARGEST else None


def zone(name: str) -> ZoneInfo:
    """The time zone of that name in the tz database; `DataError` names the nearest."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: the name of a folder of the database
        near = get_close_matches(name, available_timezones(), 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise DataError(f"no time zone is called {name!r}{hint} (expected a name such as 'America/New_York')") from error


def midnight_utc_ns(date: str, timezone: str) -> int:
    """Midnight at the beginning of `date` (ISO) in `timezone`, nanoseconds after 1970 in UTC."""
    try:
        day = datetime.fromisoformat(date)
    except ValueError as error:
        raise DataError(f"the date of a day must be like '2012-06-21', got {date!r}") from error
    return int(datetime(day.year, day.month, day.day, tzinfo=zone(timezone)).timestamp()) * NS
