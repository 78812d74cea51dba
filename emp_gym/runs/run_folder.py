"""A run folder: what was run, with what, and what came of it. Nothing in it is a pickle.

========================  ==============================================================================================
``config.json``           `RunConfig`
``provenance.json``       data hashes, git commit, versions of the packages that matter; ``trained_on``: the rows that were
                          learned from; ``model`` and ``checkpoints``: hashes of the agent's files; ``unproved``: why nobody
                          knows what the model learned from; ``trained_as``: `RunConfig` as it was when training began;
                          ``series``: the seeds that were trained together
``model.json``,           the agent (`BaseAgent.save`)
``model.safetensors``
``checkpoints/N/``        after N steps, for ``--resume``: the agent, its training state, where the lanes stand (``lanes.npz``)
                          and, of a governed run, what it belongs to (``seal.json``)
``curves.csv``            one row per iteration: steps, and every scalar
``events.out.tfevents*``  the same for TensorBoard
``report.md``, ``*.png``  the evaluation
``evaluation.json``       its numbers
``governed.json``         of a run under governance: the folder, the ledger and the trial under which it began
========================  ==============================================================================================

``config.json`` is written last: a folder that has it is a run, which can go on from its last checkpoint, or from step 0.
Runs of several seeds lie in ``seed-S/`` below one folder, whose ``seeds.json`` names them all.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from emp_gym import bounded, trust
from emp_gym.agents.base import read_json
from emp_gym.data.array_files import sync
from emp_gym.envs.about import about
from emp_gym.runs import schemas
from emp_gym.runs.config import RunConfig, parsed, question, remember
from emp_gym.runs.spans import Span, merged
from emp_gym.types import ConfigError, DataError

CONFIG, GOVERNED, LANES, SEEDS = "config.json", "governed.json", "lanes.npz", "seeds.json"
PROVENANCE, EVALUATION = "provenance.json", "evaluation.json"
SEALED = (PROVENANCE, EVALUATION)
EDITED = "the record was edited after the run wrote it (its seal does not fit), so what the model was trained on is not known"
PACKAGES = ("emp-gym", "gymnasium", "stable-baselines3", "torch", "numpy", "numba")


class RunFolder:
    """The files of one run below `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, config: RunConfig, governance: Mapping[str, Any] | None = None) -> RunFolder:
        """A new run at `path`; raises `ConfigError` where one is already. `governance` says where it began, if it is governed."""
        if (path / CONFIG).exists() or (path / "checkpoints").exists():
            raise ConfigError(f"{path} already holds a run; take another --run-dir, or go on with --resume {shlex.quote(str(path))}")
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path)
        (path / GOVERNED).unlink(missing_ok=True)  # of one that was cut before it had begun
        if governance is not None:
            run.write_json(GOVERNED, governance)
        run._tell(config)
        return run

    def go_on(self, config: RunConfig, governance: Mapping[str, Any] | None = None) -> None:
        """The run goes on, as `config` says and under `governance`."""
        self._tell(config)
        if (told := self.record).get("trained_as"):
            self.write_json(PROVENANCE, told | {"trained_as": told["trained_as"] | {"total_timesteps": config.total_timesteps}})
        if governance is not None:
            self.write_json(GOVERNED, governance)

    @classmethod
    def free(cls, root: Path, config: RunConfig) -> Path:
        """The first unused ``root/ENV-AGENT-seedS[-n]``: no clock in the name."""
        env, agent = config.env_id.rpartition(":")[2], config.agent_name.rpartition(":")[2]
        stem = f"{env}-{agent.lower()}-seed{config.seed}"
        number = 1
        while (path := root / (stem if number == 1 else f"{stem}-{number}")).exists():
            number += 1
        return path

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The run at `path`; raises `DataError` where there is none."""
        if not (path / CONFIG).exists():
            seeds = sorted(p.parent.name for p in path.glob("seed-*/config.json"))
            hint = f"; it has runs below: {', '.join(seeds)}" if seeds else ""
            raise DataError(f"{path} is not a run folder: it has no config.json{hint}")
        return cls(path)

    @property
    def config(self) -> RunConfig:
        """How the run was made; `Untrusted` where the folder names code that nobody has vouched for."""
        trust.ask_all(self.questions())
        return self._parsed()

    def _tell(self, config: RunConfig) -> None:
        """``config.json``, by the program that makes the run: who reads it again here is not asked about what it names."""
        remember(config, self.path / CONFIG)
        self.write_json(CONFIG, asdict(config))

    @property
    def as_trained(self) -> RunConfig:
        """As it was trained, whatever ``config.json`` says by now; as that says where the record is older and does not know."""
        trust.ask_all(self.questions())
        return self._parsed(self.record.get("trained_as", {}))

    def _parsed(self, known: Mapping[str, Any] = MappingProxyType({})) -> RunConfig:
        return parsed({**_settings(self.path / CONFIG), **known}, self.path / (PROVENANCE if known else CONFIG))

    def questions(self) -> list[trust.Question]:
        """Of all that is named here, in ``config.json`` and in the record."""
        found = [question(self._parsed(), self.path / CONFIG)]
        known = self.record.get("trained_as", {})
        return found + ([question(self._parsed(known), self.path / PROVENANCE)] if known else [])

    @property
    def governance(self) -> dict[str, Any]:
        """Where the run began (`folder`, `log_id`, `trial`); empty for one that is not governed."""
        path = self.path / GOVERNED
        told = read_json(path) if path.exists() else {}
        if told and (not isinstance(told.get("folder"), str) or type(told.get("trial")) is not int):
            raise DataError(f'{path}: expected {{"folder": PATH, "log_id": ID, "trial": N}}')
        return told

    @property
    def series(self) -> list[RunConfig]:
        """The configurations of the runs of several seeds below this folder."""
        path = self.path / SEEDS
        told = _settings(path)
        schemas.series(told, path)
        config = parsed(told["config"], path)
        below = [RunFolder(self.path / f"seed-{seed}") for seed in told["seeds"]]
        asked = [one for run in below if (run.path / CONFIG).exists() for one in run.questions()]
        trust.ask_all([question(config, path), *asked])
        return [replace(config, seed=seed) for seed in told["seeds"]]

    def write_series(self, configs: Sequence[RunConfig]) -> None:
        """Says which runs lie, or will lie, below this folder: alike but for their seeds."""
        self.path.mkdir(parents=True, exist_ok=True)
        remember(configs[0], self.path / SEEDS)
        self.write_json(SEEDS, {"seeds": [config.seed for config in configs], "config": asdict(configs[0])})

    def write_json(self, name: str, value: Any) -> None:
        """Writes `value` aside and renames, so that a reader never meets half a file."""
        if name == PROVENANCE:
            value = self._bound(value) | value | ({"unproved": EDITED} if schemas.edited(self.record) else {})
        if name in SEALED:
            value = json.loads(json.dumps(value, default=_plain))
            value[schemas.SEAL] = schemas.seal(value)
        bounded.write(self.path / name, json.dumps(value, indent=2, default=_plain) + "\n")

    def _bound(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """How the run is trained, for the record `value`: kept from its first writing on, since ``config.json`` can be edited and the
        folder be moved out of its series. Nothing where a model is older than that."""
        told = self.record
        if "trained_as" in told or "model" in told or "unproved" in value or not (self.path / CONFIG).exists():
            return {name: told[name] for name in ("trained_as", "series") if name in told}
        config = read_json(self.path / CONFIG)
        return {"trained_as": config, "series": RunFolder(self.path.parent).seeds.get("seeds", [config["seed"]])}

    # ---- what was learned from

    @property
    def record(self) -> dict[str, Any]:
        """``provenance.json``; empty where there is none."""
        return _told(self.path / PROVENANCE, schemas.record)

    @property
    def settings(self) -> dict[str, Any]:
        """``config.json``, with what the record knows better of how the run was trained, as it stands there: for who builds nothing of
        it. Empty where there is none."""
        return _told(self.path / CONFIG, schemas.settings) | self.record.get("trained_as", {})

    @property
    def seeds(self) -> dict[str, Any]:
        """``seeds.json``, in the same way."""
        return _told(self.path / SEEDS, schemas.series)

    def noted(self) -> list[Span]:
        """The rows that the run has learned from so far, as far as its record says; empty without one."""
        return self._spans(self.record.get("trained_on", []))

    def note_trained(self, found: Sequence[Span]) -> None:
        """Adds stretches of rows to those that the run learns from."""
        before, told = self.noted(), self.record
        if set(found) - set(before):
            self.write_json(PROVENANCE, told | {"trained_on": [span.as_json() for span in merged([*before, *found])]})

    def keep_model(self, save: Callable[[Path], None]) -> None:
        """Keeps what `save` writes into a folder, whatever its files are called, and their hashes: another model here is then seen.

        ``model.json`` comes last: without it the run has no model yet.
        """
        aside = self.path / "model.tmp"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        try:
            save(aside)
            self.write_json(PROVENANCE, self.record | {"model": hashes_of(aside)})
            for path in sorted(aside.iterdir(), key=lambda path: (path.name == "model.json", path.name)):
                final = self.path / path.name
                if final.is_dir():
                    shutil.rmtree(final)
                path.replace(final)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def note_unproved(self, reason: str) -> None:
        """What the model learned from cannot be known any more."""
        self.write_json(PROVENANCE, self.record | {"unproved": reason})

    def trained_on(self) -> list[Span]:
        """The rows that the model in this folder learned from; `DataError` where the record does not prove it."""
        path = self.path / PROVENANCE
        if not path.exists():
            raise DataError(f"{self.path} has no {PROVENANCE}, which says what its model was trained on")
        told = self.record
        if "trained_on" not in told or "model" not in told:
            raise DataError(f"{path} is of an earlier version and does not say what the model was trained on; train the run again")
        if schemas.edited(told):
            raise DataError(f"{path}: {EDITED}")
        if "unproved" in told:
            raise DataError(f"{path}: {told['unproved']}")
        self.check_model()
        return self._spans(told["trained_on"])

    def _spans(self, entries: list[dict[str, Any]]) -> list[Span]:
        return [Span.read(entry, str(self.path / PROVENANCE)) for entry in entries]

    def check_model(self) -> bool:
        """Whether the record knows the model in this folder; `DataError` where it knows another one."""
        told = self.record.get("model")
        if told is None:
            return False
        more = [path.name for path in self.path.glob("model*") if path.is_file() and not path.name.endswith(".tmp")]
        found = {name: hash_of(self.path / name) for name in {*told, *more}}
        self._compare(f"the model in {self.path} is not the one that this run gave", told, found, self.path)
        return True

    def check_checkpoint(self, folder: Path) -> bool:
        """Whether the record knows the checkpoint `folder`; `DataError` where it knows another one."""
        known = self.record.get("checkpoints")
        if known is None:
            return False
        what = f"the checkpoint {folder} is not one that this run made"
        self._compare(what, known.get(folder.name, {}), hashes_of(folder), folder)
        return True

    def _compare(self, what: str, told: Mapping[str, str], found: Mapping[str, str], where: Path) -> None:
        name = next((name for name in sorted({*told, *found}) if told.get(name) != found.get(name)), None)
        if name is not None:
            raise DataError(
                f"{what}: {where / name} has SHA-256 {found.get(name) or 'none (no such file)'}, expected "
                f"{told.get(name) or 'no such file'} ({self.path / PROVENANCE}); put the run's own files back, or train again with "
                "another --run-dir"
            )

    # ---- checkpoints

    def checkpoint(self, steps: int, fill: Callable[[Path], None]) -> None:
        """Keeps the run after `steps` steps: `fill` writes into a folder aside, which is put on disk and then gets its name. What
        is kept of these steps already stays."""
        final = self.path / "checkpoints" / f"{steps:012d}"
        if final.exists():
            return
        aside = final.with_name(final.name + ".tmp")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        try:
            fill(aside)
            for path in (*aside.rglob("*"), aside):
                sync(path)
            told = self.record
            if "checkpoints" in told:  # not in a run that was begun by an earlier version
                self.write_json(PROVENANCE, told | {"checkpoints": told["checkpoints"] | {final.name: hashes_of(aside)}})
                sync(self.path / PROVENANCE)
                sync(self.path)
            aside.rename(final)
        finally:
            shutil.rmtree(aside, ignore_errors=True)  # on a full disk half a checkpoint takes the room of a whole one
        sync(final.parent)

    def last_checkpoint(self) -> Path | None:
        """The newest complete checkpoint; None where there is none yet."""
        found = [p for p in (self.path / "checkpoints").glob("*") if p.is_dir() and p.name.isdigit()]
        return max(found, default=None)


def _settings(path: Path) -> dict[str, Any]:
    """The settings in `path`, which may be somebody else's; `DataError` where there are none."""
    try:
        return bounded.read_object(path, bounded.SMALL, numbers=True)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; is this the folder of a finished run?") from error


def _told(path: Path, check: Callable[[Mapping[str, Any], object], None]) -> dict[str, Any]:
    """What stands in `path`, if anything does, once `check` has nothing against its form."""
    if not path.exists():
        return {}
    told = read_json(path)
    check(told, path)
    return told


def hashes_of(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder`, by its name from there."""
    return {path.relative_to(folder).as_posix(): hash_of(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def hash_of(path: Path) -> str:
    """SHA-256 of a file; empty where there is none."""
    if not path.is_file():
        return ""
    bounded.must_be_regular(path, bounded.HUGE)
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def provenance(env: Any) -> dict[str, Any]:
    """Where results on `env` come from: data hashes, commit, versions."""
    return {"data": data_hashes(env), "commit": commit(), "versions": versions()}


def data_hashes(env: Any) -> list[dict[str, Any]]:
    """Symbol, date, rows and sha256 of the files of every day that `env` can visit; empty for environments without
    tapes."""
    tapes = about(env).days
    return [] if tapes is None else [_day(day) for day in tapes.info]


def _day(day: Any) -> dict[str, Any]:
    files = [day.source[half]["sha256"] for half in ("message", "orderbook") if "sha256" in day.source.get(half, {})]
    told = {"symbol": day.instrument.symbol, "date": day.date, "rows": int(day.rows), "sha256": files}
    return told | {"content": day.content, "identity": day.identity}


def data_differs(run: RunFolder, env: Any) -> list[str]:
    """In what the data of `env` are not those that the record of `run` names, a sentence each; empty where they are the same,
    or where the run kept no record."""
    path = run.path / PROVENANCE
    recorded = (read_json(path).get("data") or []) if path.exists() else []
    if not recorded:
        return []
    known = {"symbol", "date", "rows", "sha256"}
    if not isinstance(recorded, list) or not all(isinstance(day, dict) and known <= day.keys() for day in recorded):
        raise DataError(f"{path}: expected data as a list of days with symbol, date, rows and sha256")
    then, now = _without_common(recorded, data_hashes(env))
    told = []
    for old in list(then):
        new = next((day for day in now if _called(day) == _called(old)), None)
        if new is not None:
            then.remove(old)
            now.remove(new)
            told.append(f"{_called(old)} is not the day that the run knew: {_difference(old, new)}")
    if then:
        told.append(f"{_several(then)} of the run's record {'is' if len(then) == 1 else 'are'} not among the data")
    if now:
        told.append(f"{_several(now)} of the data {'is' if len(now) == 1 else 'are'} not in the run's record")
    return told


def _without_common(then: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]) -> tuple[list[Any], list[Any]]:
    """What is left of both when days that are the same are taken away."""
    left = list(now)
    gone = []
    for old in then:
        same = next((day for day in left if _same_day(old, day)), None)
        if same is None:
            gone.append(old)
        else:
            left.remove(same)
    return gone, left


def _same_day(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    if "identity" in old:
        return bool(old["identity"] == new["identity"])
    return all(old.get(name) == new[name] for name in ("symbol", "date", "rows", "sha256"))  # a run of an earlier version


def _called(day: Mapping[str, Any]) -> str:
    return f"{day['symbol']} {day['date']}"


def _several(days: Sequence[Mapping[str, Any]]) -> str:
    return _called(days[0]) if len(days) == 1 else f"{len(days)} days ({_called(days[0])} to {_called(days[-1])})"


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    if old["rows"] != new["rows"]:
        return f"{old['rows']:,} rows then, {new['rows']:,} now"
    if old.get("content", new["content"]) != new["content"]:
        return "as many rows, with other content"
    if old["sha256"] != new["sha256"]:
        return "the same rows from other files"
    return "the same rows under other rules of the instrument, or another depth"


def commit() -> str | None:
    """The git commit of this package's checkout, with "+" where files differ from it; None outside of one."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        state = subprocess.run([*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):  # no git, or no commit yet
        return None
    return head.stdout.strip() + ("+" if state.stdout.strip() else "")


def versions() -> Mapping[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
