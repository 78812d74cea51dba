"""A run folder: what was run, with what, and what came of it. Nothing in it is a pickle.

========================  ==============================================================================================
``config.json``           `RunConfig`
``provenance.json``       data hashes, git commit, versions of the packages that matter, steps done
``model.json``,           the agent (`BaseAgent.save`)
``model.safetensors``
``checkpoints/N/``        agent and training state after N steps, for ``--resume``
``curves.csv``            one row per iteration: steps, and every scalar
``events.out.tfevents*``  the same for TensorBoard
``report.md``, ``*.png``  the evaluation
``evaluation.json``       its numbers
``governed.json``         of a run under governance: the folder, the ledger and the trial under which it began
========================  ==============================================================================================
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from emp_gym.agents.base import read_json
from emp_gym.experiments.config import RunConfig, override
from emp_gym.types import ConfigError, DataError

GOVERNED = "governed.json"
PACKAGES = ("emp-gym", "gymnasium", "stable-baselines3", "torch", "numpy", "numba")


class RunFolder:
    """The files of one run below `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, config: RunConfig) -> RunFolder:
        """A new run at `path`; raises `ConfigError` where one is already."""
        if (path / "config.json").exists():
            raise ConfigError(f"{path} already holds a run; take another --run-dir, or go on with --resume {path}")
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path)
        run.write_json("config.json", asdict(config))
        return run

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
        if not (path / "config.json").exists():
            seeds = sorted(p.parent.name for p in path.glob("seed-*/config.json"))
            hint = f"; it has runs below: {', '.join(seeds)}" if seeds else ""
            raise DataError(f"{path} is not a run folder: it has no config.json{hint}")
        return cls(path)

    @property
    def config(self) -> RunConfig:
        return override(RunConfig(), read_json(self.path / "config.json"))

    @property
    def governance(self) -> dict[str, Any]:
        """Where the run began (`folder`, `log_id`, `trial`); empty for one that is not governed."""
        return read_json(self.path / GOVERNED) if (self.path / GOVERNED).exists() else {}

    def write_json(self, name: str, value: Any) -> None:
        """Writes `value` aside and renames, so that a reader never meets half a file."""
        aside = self.path / (name + ".tmp")
        aside.write_text(json.dumps(value, indent=2, default=_plain) + "\n", encoding="utf-8")
        aside.replace(self.path / name)

    # ---- checkpoints

    def checkpoint(self, agent: Any, steps: int) -> None:
        """The agent after `steps` steps: with its training state where it can (`checkpoint`), else just `save`."""
        final = self.path / "checkpoints" / f"{steps:012d}"
        aside = final.with_name(final.name + ".tmp")
        if aside.exists():
            shutil.rmtree(aside)
        getattr(agent, "checkpoint", agent.save)(aside)
        if final.exists():
            shutil.rmtree(final)
        aside.rename(final)

    def last_checkpoint(self) -> Path:
        """The newest complete checkpoint; raises `DataError` where there is none."""
        found = sorted(p for p in (self.path / "checkpoints").glob("*") if p.is_dir() and p.suffix != ".tmp")
        if not found:
            raise DataError(f"{self.path} has no checkpoint to go on from; start the run again without --resume")
        return found[-1]


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
    tapes = getattr(env.unwrapped, "tape_set", None)
    return [] if tapes is None else [_day(day) for day in tapes.info]


def _day(day: Any) -> dict[str, Any]:
    files = [day.source[half]["sha256"] for half in ("message", "orderbook") if "sha256" in day.source.get(half, {})]
    return {"symbol": day.instrument.symbol, "date": day.date, "rows": int(day.rows), "sha256": files}


def commit() -> str | None:
    """The git commit of this package's checkout, with "+" where files differ from it; None outside of one."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        state = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
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
