"""What a ledger believes of a clock: time goes forwards, and not by more than a year between two entries.

One entry under a clock 70 years ahead would else move the ledger's time for good: evidence expires by it, stages fall. A jump
that is meant (a ledger that nobody has written to for longer) is said in an entry of its own, kind ``clock``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from emp_gym.types import NS

DAYS = 366
MOST_AHEAD_NS = DAYS * 86_400 * NS  # after the last entry; a clock that is further ahead is not believed
BEHIND_NS = NS  # before the last entry; a clock that is further behind is spoken of
ACCEPTED = "clock"  # kind of the entry that accepts a jump


def jumped(now: int, last: int) -> bool:
    """Whether a clock is too far ahead of the last entry to be believed (ns)."""
    return now - last > MOST_AHEAD_NS


def said(ts_ns: int) -> str:
    """A time (ns UTC) in words."""
    try:
        return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=ts_ns // NS):%Y-%m-%d %H:%M:%S} UTC"
    except OverflowError:
        return f"{ts_ns} ns after 1970"


def ahead(now: int, last: int, entry: str) -> str:
    """What is wrong with a clock that has jumped."""
    days = (now - last) // (86_400 * NS)
    return (
        f"the clock jumped: it says {said(now)}, {days:,} days after {entry} ({said(last)}); expected at most {DAYS} days"
    )


def behind(now: int, last: int, entry: str) -> str:
    """What is wrong with a clock that is behind; "" where it is not, or by less than a second."""
    if last - now <= BEHIND_NS:
        return ""
    late = timedelta(seconds=(last - now) // NS)
    return f"the clock is behind: it says {said(now)}, {late} before {entry} ({said(last)})"
