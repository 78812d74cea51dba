"""What the files of a run must hold before anything is made of them: they may be anybody's."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from emp_gym.types import DataError


def _bounded(value: float) -> float:
    if math.isinf(value):
        raise ValueError("Input should be finite, or NaN where nothing is known")
    return value


SEAL = "seal"
"""Key of ``provenance.json`` and ``evaluation.json``."""
Number = Annotated[float, AfterValidator(_bounded)]
Whole = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
Count = Annotated[int, Field(ge=0, lt=1 << 63)]
Pair = Annotated[list[Whole], Field(min_length=2, max_length=2)]
WINDOWS = ("days", "symbols", "currencies", "market_moves")
"""Lists with an entry for each window, or none at all."""


class _Form(BaseModel):
    model_config = ConfigDict(strict=True)


F = TypeVar("F", bound=_Form)


class _Result(_Form):
    pnl_by_window: list[list[Number]] | list[Number]
    filled: Number | None = None
    fees: Number = 0.0


class _Trained(_Form):
    symbols: list[str] = []
    series: list[Count] | None = None
    alike: str = ""
    models: list[dict[str, str]] = []


class _RunForm(_Form):
    settings: dict[str, Any]
    market: dict[str, Any] | None = None
    baselines: list[str] | None = None
    agent_config: dict[str, Any]
    data_hash: str | None
    split: str
    training_seeds: list[Whole]
    trained: _Trained | None = None
    total_timesteps: Whole | None
    train_seconds: Number | None
    trials: Whole | None
    machine: str


class _Proof(_Form):
    standing: str
    reason: str


class _Preface(_Form):
    data: str = ""
    below: list[str] | None = None
    cautions: list[str] = []


class _Mean(_Form):
    mean: Number | None


class _Measure(_Form):
    estimate: _Mean


class _Optimum(_Form):
    scores: list[Number]


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
    market_moves: list[Number | None] | None = None
    proof: _Proof | None = None
    preface: _Preface | None = None
    skipped: dict[str, str]
    results: dict[str, _Result]
    findings: _Findings | None
    run: _RunForm


class _Config(_Form):
    env_id: str = ""
    agent_name: str = ""
    seed: Count = 0
    env: dict[str, Any] = {}
    agent: dict[str, Any] = {}


class _Span(_Form):
    symbol: str
    date: str
    identity: str = ""
    content: str = ""
    split: str = ""
    first_row: Whole = 0
    last_row: Whole = 0
    first_ns: Whole = 0
    last_ns: Whole = 0
    synthetic: bool = False
    rules: str = ""
    shape: list[Whole] = []
    simulated: str = ""
    seeds: bool = False


class _Record(_Form):
    model: dict[str, str] = {}
    checkpoints: dict[str, dict[str, str]] = {}
    trained_as: _Config = _Config()
    series: list[Count] | None = None
    trained_on: list[_Span] = []
    unproved: str = ""


class _Series(_Form):
    seeds: Annotated[list[Count], Field(min_length=1, max_length=10_000)]
    config: _Config


def record(told: Mapping[str, Any], where: object) -> None:
    """`DataError` where `told` is no ``provenance.json`` of a run."""
    _fit(_Record, told, where, "the record of a run", "put back the run's own, or train again")


def settings(told: Mapping[str, Any], where: object) -> None:
    """`DataError` where `told` cannot be the ``config.json`` of a run; whether its parts are right is `config.read`'s to say."""
    _fit(_Config, told, where, "the configuration of a run", "put back the run's own")


def series(told: Mapping[str, Any], where: object) -> None:
    """`DataError` where `told` is no ``seeds.json`` of a series of runs."""
    what, remedy = 'a series of seeds, {"seeds": [0, 1, ...], "config": {...}}', "put back the run's own"
    seeds = _fit(_Series, told, where, what, remedy).seeds
    if len(set(seeds)) < len(seeds):
        raise DataError(f"{where}: not {what}: a seed is there twice, got {str(seeds)[:200]}; {remedy}")


def evaluation(told: Mapping[str, Any], where: object) -> None:
    """`DataError` where `told` is no evaluation: the first place that does not fit, and why."""
    form = _fit(_Evaluation, told, where, "an evaluation", "judge the run again")
    count = len(form.windows)
    lengths = {name: len(getattr(form, name) or ()) for name in WINDOWS}
    lengths |= {f"results.{name}.pnl_by_window": length for name, one in form.results.items() for length in _lengths(one)}
    off = next((name for name, length in lengths.items() if length != count and (length or name not in WINDOWS[1:])), None)
    if off is not None:
        raise DataError(f"{where}: not an evaluation: {off} has {lengths[off]:,} entries for {count:,} windows; judge the run again")
    if form.agent not in form.results:
        raise DataError(f"{where}: not an evaluation: it has no results of its agent {form.agent[:80]!r}; judge the run again")


def seal(told: Mapping[str, Any]) -> str:
    """SHA-256 of all that `told` says, its own seal aside. Finds edits by hand; who edits can seal anew."""
    rest = {name: value for name, value in told.items() if name != SEAL}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def edited(told: Mapping[str, Any]) -> bool:
    """Whether `told` has a seal (files of earlier versions have none) that is not its own."""
    return SEAL in told and told[SEAL] != seal(told)


def _fit(form: type[F], told: Mapping[str, Any], where: object, what: str, remedy: str) -> F:
    """`told` as a form; the first place that does not fit, and why, in a `DataError`."""
    try:
        return form.model_validate(told)
    except (ValidationError, OverflowError) as error:  # OverflowError: of a whole number that is none of floating point
        raise DataError(f"{where}: not {what}: {_first(error)}; {remedy}") from error


def _lengths(result: _Result) -> list[int]:
    seeds = result.pnl_by_window
    return [len(seed) for seed in seeds if isinstance(seed, list)] or [len(seeds)]


def _first(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    found = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, found['loc']))[:200]}: {found['msg']}, got {json.dumps(found['input'], default=str)[:80]}"
