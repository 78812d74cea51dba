"""What an ``evaluation.json`` must hold before anything is made of it: it may be anybody's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emp_gym.types import DataError

Whole = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
Pair = Annotated[list[Whole], Field(min_length=2, max_length=2)]
WINDOWS = ("days", "symbols", "currencies", "market_moves")
"""Lists with an entry for each window, or none at all."""


class _Form(BaseModel):
    model_config = ConfigDict(strict=True)


class _Result(_Form):
    pnl_by_window: list[list[float]] | list[float]
    filled: float | None = None
    fees: float = 0.0


class _Run(_Form):
    settings: dict[str, Any]
    agent_config: dict[str, Any]
    data_hash: str | None
    split: str
    training_seeds: list[Whole]
    total_timesteps: Whole | None
    train_seconds: float | None
    trials: Whole | None
    machine: str


class _Proof(_Form):
    standing: str
    reason: str


class _Preface(_Form):
    data: str = ""


class _Mean(_Form):
    mean: float | None


class _Measure(_Form):
    estimate: _Mean


class _Optimum(_Form):
    scores: list[float]


class _Findings(_Form):
    optimum: _Optimum | None = None
    measures: dict[str, dict[str, _Measure]] = {}


class _Evaluation(_Form):
    env: str
    agent: str
    judged: str
    level: Annotated[float, Field(gt=0, lt=1)]
    windows: Annotated[list[Pair], Field(min_length=1)]
    days: list[str | Whole]
    symbols: list[str] | None = None
    currencies: list[str] | None = None
    market_moves: list[float | None] | None = None
    proof: _Proof | None = None
    preface: _Preface | None = None
    skipped: dict[str, str]
    results: dict[str, _Result]
    findings: _Findings | None
    run: _Run


def check(told: Mapping[str, Any], where: object) -> None:
    """`DataError` where `told` is no evaluation: the first place that does not fit, and why."""
    try:
        form = _Evaluation.model_validate(told)
    except (ValidationError, OverflowError) as error:  # OverflowError: of a whole number that is none of floating point
        raise DataError(f"{where}: not an evaluation: {_first(error)}; judge the run again") from error
    count = len(form.windows)
    lengths = {name: len(getattr(form, name) or ()) for name in WINDOWS}
    lengths |= {f"results.{name}.pnl_by_window": length for name, one in form.results.items() for length in _lengths(one)}
    off = next((name for name, length in lengths.items() if length != count and (length or name not in WINDOWS[1:])), None)
    if off is not None:
        raise DataError(f"{where}: not an evaluation: {off} has {lengths[off]:,} entries for {count:,} windows; judge the run again")
    if form.agent not in form.results:
        raise DataError(f"{where}: not an evaluation: it has no results of its agent {form.agent[:80]!r}; judge the run again")


def _lengths(result: _Result) -> list[int]:
    seeds = result.pnl_by_window
    return [len(seed) for seed in seeds if isinstance(seed, list)] or [len(seeds)]


def _first(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    found = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, found['loc']))[:200]}: {found['msg']}, got {json.dumps(found['input'], default=str)[:80]}"
