"""What the name of a LOBSTER file says: TICKER_DATE_STARTms_ENDms_message_LEVELS.csv, checked to be possible."""

from __future__ import annotations

import datetime
import re
from typing import NamedTuple

from emp_gym.types import DataError

_NAME = re.compile(
    r"(?P<symbol>.+)_(?P<date>\d{4}-\d{2}-\d{2})_(?P<start>\d+)_(?P<end>\d+)"
    r"_(?P<kind>message|orderbook)_(?P<levels>\d+)\.csv",
    re.I | re.A,
)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.A)
UNKNOWN_DATE = "1970-01-01"
DAY_MS = 86_400_000
FIRST_YEAR, LAST_YEAR = 1970, 2199  # nanoseconds after 1970 are int64: they end in 2262
_TOO_LARGE = 10**9  # stands for every number of more digits
_REMEDY = "rename both files of the day"


class Name(NamedTuple):
    """The parts of a name."""

    symbol: str
    date: str
    session_ns: tuple[int, int]
    kind: str  # "message" or "orderbook"
    levels: int

    @classmethod
    def of(cls, base: str, where: str) -> Name | None:
        """The parts of the file name `base`; None if it is no name of LOBSTER's. `DataError` if the date or the session
        cannot be. where: the file, for the message.
        """
        match = _NAME.fullmatch(base)
        if not match:
            return None
        stop_if_no_date(match["date"], where)
        start, end = _number(match["start"]), _number(match["end"])
        if not start < end <= DAY_MS:
            raise DataError(
                f"{where}: its name says a session from {match['start'][:20]} to {match['end'][:20]} ms, expected a start before "
                f"the end and both from 0 to {DAY_MS} ms after local midnight (34200000_57600000 is 9:30 to 16:00); {_REMEDY}"
            )
        session = (start * 1_000_000, end * 1_000_000)
        return cls(match["symbol"], match["date"], session, match["kind"].lower(), _number(match["levels"]))


def date_in(base: str) -> str:
    """What looks like a date in a file name; "" if nothing does."""
    match = _DATE.search(base)
    return match[0] if match else ""


def stop_if_no_date(date: str, where: str) -> None:
    """Raises DataError unless `date` (YYYY-MM-DD) is in the calendar, from `FIRST_YEAR` to `LAST_YEAR`."""
    try:
        possible = FIRST_YEAR <= datetime.date.fromisoformat(date).year <= LAST_YEAR
    except ValueError:
        possible = False
    if not possible:
        raise DataError(
            f"{where}: its name says the date {date}, which is not in the calendar of {FIRST_YEAR} to {LAST_YEAR}; expected "
            f"YEAR-MONTH-DAY; {_REMEDY}"
        )


def _number(digits: str) -> int:
    plain = digits.lstrip("0") or "0"
    return int(plain) if len(plain) < 10 else _TOO_LARGE
