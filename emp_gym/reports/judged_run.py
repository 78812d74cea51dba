"""Runs as they lie on disk, for the leaderboard: those that were judged, and what lies beside them.

Of a judged run ``evaluation.json`` is read, which says where the judged model comes from (`runs.origin`). The folders around are
a second source: of evaluations of earlier versions, and of other seeds that lie there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from emp_gym.agents.base import read_json
from emp_gym.reports.report import SCHEMA
from emp_gym.runs import schemas
from emp_gym.runs.learned_from import trained_on
from emp_gym.runs.origin import likeness, replaced
from emp_gym.runs.run_folder import CONFIG, EVALUATION, PROVENANCE, SEEDS, RunFolder
from emp_gym.runs.run_metadata import learning_time
from emp_gym.terminal.shell_commands import command, program
from emp_gym.types import DataError

STUDIES = {
    "walk_forward.json": (
        "a walk-forward: each fold is another model on other days, so it is no row of a table",
        "what each fold made stands in its walk_forward.json; for a row, train one run and judge it",
    ),
    "search.json": (
        "a search of evolve.py",
        "its report.md has what its trials and its champion made",
    ),
}  # fmt: skip
"""What lies in a folder that is not a run -> what it is, and where its figures are."""


@dataclass(frozen=True)
class JudgedRun:
    """One evaluation. `told` is its ``evaluation.json``; of several currencies there is one for each, with its windows only."""

    folder: Path
    told: Mapping[str, Any]
    trained_on: tuple[str, ...] = ()  # symbols, where the run's record names them
    seeds: frozenset[int] = frozenset()  # training seeds of this agent that lie there, judged or not
    currency: str = ""
    replaced: bool = False  # another model lies here than the one that was judged
    edited: bool = False  # its ``evaluation.json`` is not as it was written

    @property
    def run(self) -> Mapping[str, Any]:
        """What was run."""
        return self.told["run"]


@dataclass(frozen=True)
class Beside:
    """A folder that is in no table, and why."""

    folder: Path
    why: str
    instead: str = ""  # what to look at, of what no command judges

    @property
    def remedy(self) -> str:
        """The command that judges it, or what to look at."""
        return self.instead or command(*program("evaluate"), "--run", self.folder, "--report", self.folder)


@dataclass
class Shelf:
    """What some folders hold."""

    judged: list[JudgedRun] = field(default_factory=list)
    beside: list[Beside] = field(default_factory=list)


def shelf(paths: Iterable[Path]) -> Shelf:
    """The runs in `paths` (run folders, or folders of them). `DataError` where nothing in them was judged."""
    found, paths = Shelf(), list(paths)
    folders = list(dict.fromkeys(folder for path in paths for folder in outermost(path)))
    studies = [one for path in paths for one in _studies(path)]
    left = [
        folder for folder in dict.fromkeys(folder for path in paths for folder in _not_judged(path, folders))
        if not any(one.folder in (folder, *folder.parents) for one in studies)
    ]  # fmt: skip
    found.beside += studies
    found.beside += [Beside(folder, why) for path in paths for folder, why in _broken(path) if folder not in folders]
    for folder in folders:
        told = _read(folder)
        if isinstance(told, Beside):
            found.beside.append(told)
            continue
        try:
            found.judged += _parts(folder, told)
        except DataError as error:
            found.beside.append(Beside(folder, str(error)))
    found.judged = _with_seeds(found.judged, left)
    found.beside += [Beside(folder, "not judged yet") for folder in left if folder not in {one.folder for one in found.beside}]
    if not found.judged:
        listed = "; ".join(f"{one.folder} ({one.why}): {one.remedy}" for one in found.beside)
        where = ", ".join(map(str, paths))
        first = paths[0] if paths else "DIR"
        hint = listed or f"no {EVALUATION}; judge the run: {command(*program('evaluate'), '--run', first, '--report', first)}"
        raise DataError(f"{where}: nothing was judged here ({hint})")
    return found


def outermost(path: Path) -> list[Path]:
    """Folders with an evaluation at or below `path`, without those of seeds whose series has one: it stands for theirs."""
    found = sorted(file.parent for file in path.rglob(EVALUATION))
    return [folder for folder in found if not _in_series(folder, found)]


def _in_series(folder: Path, judged: Iterable[Path]) -> bool:
    return folder.name.startswith("seed-") and folder.parent in judged


def _studies(path: Path) -> list[Beside]:
    """Folders of commands that leave figures of their own."""
    return [Beside(file.parent, why, instead) for name, (why, instead) in STUDIES.items() for file in sorted(path.rglob(name))]


def _not_judged(path: Path, judged: list[Path]) -> Iterator[Path]:
    """Run folders at or below `path` without an evaluation; a series of seeds is one."""
    series = [file.parent for file in sorted(path.rglob(SEEDS))]
    alone = [file.parent for file in sorted(path.rglob(CONFIG)) if _config(file.parent)]
    for folder in dict.fromkeys([*series, *alone]):
        if folder not in judged and not _in_series(folder, judged) and not any(other in folder.parents for other in series):
            yield folder


def _broken(path: Path) -> Iterator[tuple[Path, str]]:
    """Folders whose settings or record are not those of a run, and why."""
    for folder in dict.fromkeys(file.parent for name in (CONFIG, SEEDS, PROVENANCE) for file in sorted(path.rglob(name))):
        try:
            _ = RunFolder(folder).settings, RunFolder(folder).seeds
        except DataError as error:
            yield folder, str(error)


def _config(folder: Path) -> Mapping[str, Any]:
    """The configuration of a run; empty where the folder has none that can be read (see `_broken`)."""
    try:
        told = RunFolder(folder).settings
    except DataError:
        return {}
    return told if {"env_id", "agent_name", "seed"} <= told.keys() else {}


def _series(folder: Path) -> Mapping[str, Any]:
    """Seeds and configuration of a series of runs; empty likewise."""
    try:
        return RunFolder(folder).seeds
    except DataError:
        return {}


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
        schemas.evaluation(told, folder / EVALUATION)
    except DataError as error:
        return Beside(folder, str(error))
    seeds = told["run"]["training_seeds"]
    return Beside(folder, f"its {EVALUATION} counts one seed as several: {seeds}") if len(set(seeds)) < len(seeds) else told


def _parts(folder: Path, told: Mapping[str, Any]) -> list[JudgedRun]:
    """The evaluation, once for each currency of its windows."""
    origin = told["run"].get("trained") or {}
    one = JudgedRun(
        folder, told, tuple(origin.get("symbols") or _trained_on(folder)), _seeds(folder, told), replaced=_replaced(folder, told),
        edited=schemas.edited(told),
    )  # fmt: skip
    currencies = told.get("currencies") or []
    names = list(dict.fromkeys(currencies))
    if len(names) < 2:
        return [replace(one, currency=names[0] if names else "")]
    return [replace(one, told=_only(told, [each == name for each in currencies]), currency=name) for name in names]


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


def is_stale(folder: Path) -> bool:
    """Whether an evaluation lies in `folder` whose model does not lie there any more."""
    told = _read(folder) if (folder / EVALUATION).exists() else {}
    return bool(told) and not isinstance(told, Beside) and _replaced(folder, told)


def _replaced(folder: Path, told: Mapping[str, Any]) -> bool:
    """Whether another model lies in `folder` than was judged. An evaluation of an earlier version has no hashes: of one, whether the
    run that lies here is of another agent, or has gone on."""
    run = told["run"]
    if run.get("trained"):
        return replaced(folder, run)
    config, learned = _config(folder), learning_time(folder / "curves.csv")
    other = bool(config) and config["agent_name"] != told["agent"]
    return other or (learned is not None and run["total_timesteps"] not in (None, learned[0]))


def _seeds(folder: Path, told: Mapping[str, Any]) -> frozenset[int]:
    """Training seeds of the agent that was judged: those of its series, as its evaluation says and as the folders say."""
    run = told["run"]
    found = set((run.get("trained") or {}).get("series") or ())
    if not run["training_seeds"]:  # a rule
        return frozenset()
    for root in (folder, folder.parent):
        if root == folder or _in_series(folder, [root]):
            found.update(_series(root).get("seeds", ()))
    return frozenset(found.union(one["seed"] for one in _own(folder, told)))


def _own(folder: Path, told: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Configurations in `folder`, of the agent that was judged."""
    return [one for one in map(_config, _members(folder)) if one and one["agent_name"] == told["agent"]]


def _with_seeds(judged: list[JudgedRun], left: Iterable[Path]) -> list[JudgedRun]:
    """Each with all seeds of it that lie on the shelf: of what differs in the seed only, judged or not, however it was judged."""
    families: dict[str, set[int]] = {}
    for one in judged:
        for name in _alike(one):
            families.setdefault(name, set()).update(one.seeds, one.run["training_seeds"])
    for folder in left:
        if told := _series(folder):
            families.setdefault(likeness(told["config"]), set()).update(told["seeds"])
        elif config := _config(folder):
            families.setdefault(likeness(config), set()).add(config["seed"])
    return [replace(one, seeds=one.seeds.union(*(families[name] for name in _alike(one)))) for one in judged]


def _alike(one: JudgedRun) -> list[str]:
    """What the run has in common with those that differ in the seed only; nothing where it is not known."""
    if not one.run["training_seeds"]:
        return []
    told = (one.run.get("trained") or {}).get("alike")
    return [told] if told else list(dict.fromkeys(likeness(config) for config in _own(one.folder, one.told)))
