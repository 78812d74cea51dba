"""The days that benchmarks run on: synthetic ones of any length, made once, or the user's own."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path

from emp_gym.benchmarks.figures import say
from emp_gym.data import store
from emp_gym.data.lobster import reader
from emp_gym.data.synthetic import day as synthetic
from emp_gym.data.tape.format import BLOCK, DAY, FAR, FORMAT, LEVEL, LINK, ROW, TOUCH
from emp_gym.data.tape.tape_set import TapeSet, build
from emp_gym.paths import home
from emp_gym.types import MESSAGE, WINDOW_EVENT

REGIMES = ("mixed", "one-tick", "wide-tick")
DAYS = 8


def configs(regime: str, rows: int, count: int = DAYS) -> tuple[synthetic.DayConfig, ...]:
    """`count` days of `rows` messages: one-tick, wide-tick or both in turn; some stressed, some with a halt."""
    days = []
    for i in range(count):
        tick = synthetic.TICK_REGIMES[i % 2] if regime == "mixed" else {"one-tick": "one", "wide-tick": "wide"}[regime]
        halts, when = 1 if i % 4 == 3 else 0, (date(2030, 1, 7) + timedelta(days=i)).isoformat()
        days.append(synthetic.DayConfig(seed=7_000 + i, rows=rows, tick_regime=tick, halts=halts, thin=i % 4 == 2, date=when))
    return tuple(days)


def tape_set(days: Sequence[synthetic.DayConfig]) -> TapeSet:
    """The tape of these days, memory-mapped from the cache."""
    folder = home() / "benchmark" / f"{_key(days)}.tape"
    if not (folder / "meta.json").exists():
        say(f"making {len(days)} synthetic day(s) of {days[0].rows:,} messages (once; kept in {folder})")
        TapeSet.concatenate([_tape(day) for day in days]).save(folder)
    return TapeSet.open(folder)


def chosen(data: Sequence[str] | None, regime: str, rows: int) -> TapeSet:
    """The user's days if there are any, else eight synthetic ones."""
    return store.tapes(list(data)) if data else tape_set(configs(regime, rows))


def _key(days: Sequence[synthetic.DayConfig]) -> str:
    layout = [kind.descr for kind in (DAY, ROW, LEVEL, LINK, TOUCH, FAR, MESSAGE, WINDOW_EVENT)]
    described = json.dumps([FORMAT, BLOCK, synthetic.VERSION, layout, [asdict(day) for day in days]], default=str)
    return hashlib.sha256(described.encode()).hexdigest()[:24]


def _tape(config: synthetic.DayConfig) -> TapeSet:
    scratch = Path(tempfile.mkdtemp(prefix="emp_gym-"))
    try:
        written = synthetic.write_day(scratch, config)
        (reading,) = reader.read((written.message, written.orderbook))
        return build(reading.day)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
