"""Stretches of recorded rows, or of the starts of a simulated market: those that a run was trained on, and those that episodes were
judged on.

A run keeps what it was trained on in its ``provenance.json`` (``trained_on``); `emp_gym.runs.held_out` compares.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from emp_gym.data.duplicates import rules_alone, shape_of
from emp_gym.envs.about import EnvInfo, about
from emp_gym.market.starts import Numbers
from emp_gym.types import DataError, Instrument

Window = tuple[int, int]


@dataclass(frozen=True)
class Span:
    """Rows of one day, first and last inclusive; of a simulated market numbers of its starts."""

    identity: str  # of the day, with the rules of its instrument
    content: str  # hash of the day's rows alone
    symbol: str
    date: str  # ISO
    first_row: int
    last_row: int
    split: str  # of the data, to which these rows belonged
    first_ns: int = 0  # after local midnight
    last_ns: int = 0
    synthetic: bool = False  # made by `emp_gym.data.synthetic.day`
    rules: str = ""  # hash of fees, lot, tick, ... alone; empty in records that are older
    shape: tuple[int, ...] = ()  # of the whole day (`emp_gym.data.duplicates.shape`); empty in records that are older
    simulated: str = ""  # "module:Class" of the market, whose rows these are; "" for days
    seeds: bool = False  # of a simulated market: each number has noise of its own

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, told: Mapping[str, Any], where: str) -> Span:
        """From a record; `DataError` where something is missing."""
        names = {entry.name for entry in fields(cls)}
        try:
            known = {key: value for key, value in told.items() if key in names}
            return cls(**known | {"shape": tuple(known.get("shape", ()))})
        except (AttributeError, TypeError) as error:
            raise DataError(
                f"{where}: an entry of trained_on is not whole ({error}); expected {sorted(names)}; train the run again"
            ) from error


@dataclass(frozen=True)
class Played:
    """The rows of one judged episode, and what its market did."""

    span: Span
    currency: str
    planted: bool  # a signal, in synthetic rows
    move: float  # of the mid over the window, currency a lot; NaN where there was no mid
    move_bps: float  # the same in basis points


def trained_spans(env: Any, split: str) -> list[Span]:
    """The stretches in which episodes of `env` (an environment on `split`) may lie; empty where that is not told."""
    known, found = about(env), []
    if (starts := known.starts) is None:
        return []
    if (tape := known.days) is None:
        return [_numbers(known, day, first, end, split) for day, first, _, end in starts.table.tolist()] if known.simulated else []
    for day, first, start, end in starts.table.tolist():  # a decision waits for the last message of its moment
        last = max(end, _last_row(tape, known.clock, known.episode, day, start))
        found.append(_span(tape, day, first, last, split))
    return found


def played_spans(env: Any, chosen: Sequence[Window], split: str) -> list[Played]:
    """The stretch of each window of `chosen`, an episode long; empty where that is not told. What a simulated market did is only known
    when it was played (`moved`)."""
    known, found = about(env), []
    if (starts := known.starts) is None:
        return []
    if (tape := known.days) is None:
        numbers = [_numbers(known, day, row, starts.pin(day, row)[2], split) for day, row in chosen if known.simulated]
        return [Played(span, known.instruments[0].currency, False, float("nan"), float("nan")) for span in numbers]
    for day, row in chosen:
        end = max((int(w[3]) for w in starts.table if w[0] == day and w[1] <= row <= w[3]), default=_rows(tape, day) - 1)
        last = min(_last_row(tape, known.clock, known.episode, day, row), end)
        span = _span(tape, day, row, last, split)
        planted = span.synthetic and (tape.signal is None or bool(np.any(tape.signal[tape.day_slice(day)])))
        found.append(Played(span, tape.info[day].instrument.currency, planted, *_moves(tape, span, day)))
    return found


def moved(played: Sequence[Played], by: np.ndarray) -> list[Played]:
    """`played` in a simulated market whose mid moved `by` [W], currency a lot."""
    return [replace(one, move=float(move)) for one, move in zip(played, by, strict=True)]


def _numbers(known: EnvInfo, day: int, first: int, last: int, split: str) -> Span:
    """A stretch of the starts of a simulated market."""
    name, symbol = known.market, known.instruments[0].symbol
    return Span(name, f"{name} {day}", symbol, "", first, last, split, simulated=name, seeds=isinstance(known.starts, Numbers))


def lot_price(tape: Any, day: int) -> float:
    """Currency a lot: the median mid of a day, at which fees per lot are weighed; 0 where it never had one."""
    mids = tape.rows["mid2"][tape.day_slice(day)]
    mids = mids[mids > 0]
    return float(np.median(mids)) / 2 * tape.info[day].instrument.price_unit if len(mids) else 0.0


def merged(parts: Iterable[Span]) -> list[Span]:
    """Each once, in the order in which they came."""
    return list(dict.fromkeys(parts))


def _rows(tape: Any, day: int) -> int:
    return int(tape.days[day]["rows"])


def _span(tape: Any, day: int, first: int, last: int, split: str) -> Span:
    info, times = tape.info[day], tape.rows["time_ns"][tape.day_slice(day)]
    return Span(
        info.identity, info.content, info.instrument.symbol, info.date, int(first), int(last), split, int(times[first]),
        int(times[last]), info.synthetic, _rules(info.instrument), shape_of(tape, day),
    )  # fmt: skip


def _rules(instrument: Instrument) -> str:
    return hashlib.sha256(json.dumps(rules_alone(instrument), sort_keys=True).encode()).hexdigest()[:16]


def _last_row(tape: Any, clock: Any, decisions: int, day: int, row: int) -> int:
    """The row at which an episode that starts at `row` has taken its last decision."""
    rows = tape.rows[tape.day_slice(day)]
    if clock.count:
        group = rows["group_end"]
        for _ in range(decisions):
            row = int(group[min(row + clock.count, len(group) - 1)])
        return row
    times = rows["time_ns"]
    return max(int(np.searchsorted(times, times[row] + clock.ns * decisions, side="right")) - 1, row)


def _moves(tape: Any, span: Span, day: int) -> tuple[float, float]:
    """By how much the mid moved, currency a lot and basis points."""
    mid2 = tape.rows["mid2"][tape.day_slice(day)]
    first, last = int(mid2[span.first_row]), int(mid2[span.last_row])
    if first <= 0 or last <= 0:
        return float("nan"), float("nan")
    return (last - first) / 2 * tape.info[day].instrument.price_unit, 1e4 * (last / first - 1)
