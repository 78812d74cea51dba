"""Runs as they lie on disk, for the leaderboard: those that were judged, and what lies beside them.

Of a judged run ``evaluation.json`` is read; of its folder, if it is the run's own, what the model was trained on and whether other seeds
of it were trained, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emp_gym.agents.base import read_json
from emp_gym.experiments import evaluation_form
from emp_gym.experiments.learned_from import trained_on
from emp_gym.experiments.printed import command, program
from emp_gym.experiments.report import SCHEMA
from emp_gym.types import DataError

EVALUATION, CONFIG, SEEDS, PROVENANCE = "evaluation.json", "config.json", "seeds.json", "provenance.json"


@dataclass(frozen=True)
class JudgedRun:
    """One evaluation. `told` is its ``evaluation.json``; of several currencies there is one for each, with its windows only."""

    folder: Path
    told: Mapping[str, Any]
    trained_on: tuple[str, ...] = ()  # symbols, where the run's record names them
    seeds: frozenset[int] = frozenset()  # training seeds of this agent that lie there, judged or not
    currency: str = ""

    @property
    def run(self) -> Mapping[str, Any]:
        """What was run."""
        return self.told["run"]


@dataclass(frozen=True)
class Beside:
    """A folder that is in no table, and why."""

    folder: Path
    why: str

    @property
    def remedy(self) -> str:
        """The command that judges it."""
        return command(*program("evaluate"), "--run", self.folder, "--report", self.folder)


@dataclass
class Shelf:
    """What some folders hold."""

    judged: list[JudgedRun] = field(default_factory=list)
    beside: list[Beside] = field(default_factory=list)


def shelf(paths: Iterable[Path]) -> Shelf:
    """The runs in `paths` (run folders, or folders of them). `DataError` where nothing in them was judged."""
    found, paths = Shelf(), list(paths)
    for path in paths:
        judged = outermost(path)
        left = list(_not_judged(path, judged))
        found.beside += [Beside(folder, why) for folder, why in _broken(path) if folder not in judged]
        for folder in judged:
            if folder in {run.folder for run in found.judged} | {one.folder for one in found.beside}:
                continue
            told = _read(folder)
            if isinstance(told, Beside):
                found.beside.append(told)
            else:
                found.judged += _parts(folder, told, left)
        found.beside += [Beside(folder, "not judged yet") for folder in left if folder not in {one.folder for one in found.beside}]
    if not found.judged:
        listed = "; ".join(f"{one.folder} ({one.why}): {one.remedy}" for one in found.beside)
        where = ", ".join(map(str, paths))
        first = paths[0] if paths else "DIR"
        hint = listed or f"no {EVALUATION}; judge the run: {command(*program('evaluate'), '--run', first, '--report', first)}"
        raise DataError(f"{where}: nothing was judged here ({hint})")
    return found


def outermost(path: Path) -> list[Path]:
    """Folders with an evaluation at or below `path`, without those inside another: an evaluation of all seeds stands for theirs."""
    below = [path] if (path / EVALUATION).exists() else sorted(file.parent for file in path.rglob(EVALUATION))
    return [folder for folder in below if not any(other in folder.parents for other in below)]


def _not_judged(path: Path, judged: list[Path]) -> Iterator[Path]:
    """Run folders at or below `path` without an evaluation; a series of seeds is one."""
    series = [file.parent for file in sorted(path.rglob(SEEDS))]
    alone = [file.parent for file in sorted(path.rglob(CONFIG)) if _config(file.parent)]
    for folder in dict.fromkeys([*series, *alone]):
        inside = [*folder.parents, folder]
        if not any(other in inside for other in judged) and not any(other in folder.parents for other in series):
            yield folder


def _broken(path: Path) -> Iterator[tuple[Path, str]]:
    """Folders whose configuration cannot be read, and why."""
    for file in sorted(path.rglob(CONFIG)):
        try:
            read_json(file)
        except DataError as error:
            yield file.parent, str(error)


def _config(folder: Path) -> Mapping[str, Any]:
    """The configuration of a run; empty where the folder has none that can be read (see `_broken`)."""
    try:
        told = read_json(folder / CONFIG) if (folder / CONFIG).exists() else {}
    except DataError:
        return {}
    return told if {"env_id", "agent_name", "seed"} <= told.keys() else {}


def _read(folder: Path) -> Mapping[str, Any] | Beside:
    try:
        told = read_json(folder / EVALUATION)
    except DataError as error:
        return Beside(folder, str(error))
    if told.get("schema") != SCHEMA or not told.get("run"):
        return Beside(folder, f"its {EVALUATION} is of another version: schema {told.get('schema')}, expected {SCHEMA}")
    missing = [name for name in ("env", "agent", "judged", "level", "windows", "days", "skipped", "results") if name not in told]
    if missing:
        return Beside(folder, f"its {EVALUATION} is not whole: {', '.join(missing)} missing")
    try:
        evaluation_form.check(told, folder / EVALUATION)
    except DataError as error:
        return Beside(folder, str(error))
    return told


def _parts(folder: Path, told: Mapping[str, Any], left: list[Path]) -> list[JudgedRun]:
    """The evaluation, once for each currency of its windows."""
    trained, seeds = _trained_on(folder), _seeds(folder, left)
    currencies = told.get("currencies") or []
    names = list(dict.fromkeys(currencies))
    if len(names) < 2:
        return [JudgedRun(folder, told, trained, seeds, names[0] if names else "")]
    return [JudgedRun(folder, _only(told, [one == name for one in currencies]), trained, seeds, name) for name in names]


def _only(told: Mapping[str, Any], mine: list[bool]) -> dict[str, Any]:
    """`told` of some of its windows; sums over others are left out."""

    def chosen(values: Any) -> Any:
        return [value for value, own in zip(values, mine, strict=True) if own]

    results = {
        name: {**one, "pnl_by_window": [chosen(seed) for seed in one["pnl_by_window"]]} for name, one in told["results"].items()
    }
    columns = {name: chosen(told[name]) for name in ("windows", "days", "symbols", "currencies", "market_moves") if told.get(name)}
    return {**told, **columns, "results": results, "findings": None}


def _members(folder: Path) -> list[Path]:
    """The run of a folder, or its seeds."""
    own = any((folder / name).exists() for name in (CONFIG, PROVENANCE))
    return [folder] if own else sorted(path.parent for path in folder.glob(f"seed-*/{CONFIG}"))


def _trained_on(folder: Path) -> tuple[str, ...]:
    """Symbols that the model was trained on, as the record of the run says it."""
    return tuple(dict.fromkeys(symbol for member in _members(folder) for symbol, _ in trained_on(member)))


def _seeds(folder: Path, left: list[Path]) -> frozenset[int]:
    """Training seeds of the agent in `folder`: those of its series, and of runs that were not judged and are like it but for the seed."""
    found: set[int] = set()
    for root in (folder, folder.parent):
        if (root / SEEDS).exists():
            found |= _numbers(read_json(root / SEEDS).get("seeds"), root / SEEDS)
    own = [_config(member) for member in _members(folder)]
    found |= _numbers([one["seed"] for one in own if one], folder)
    alike = {_but_for_the_seed(one) for one in own if one}
    return frozenset(found | _numbers([one["seed"] for one in map(_config, left) if one and _but_for_the_seed(one) in alike], folder))


def _numbers(seeds: Any, where: Path) -> set[int]:
    if not isinstance(seeds, list) or not all(type(seed) is int for seed in seeds):
        raise DataError(f"{where}: expected training seeds as whole numbers, got {str(seeds)[:200]}")
    return set(seeds)


def _but_for_the_seed(config: Mapping[str, Any]) -> str:
    kept = ("env_id", "agent_name", "total_timesteps", "num_envs", "agent", "env")
    return json.dumps({name: config.get(name) for name in kept}, sort_keys=True, default=str)
