"""Walk-forward judgement: an agent is trained on the past and judged on the days that follow, again and again.

Dates are the samples, as in every split of two dates or more (`emp_gym.market.day_starts`): an episode never leaves its day, so
a fold that cuts between dates has nothing to purge, and `embargo` leaves out days before each test. The folds' training runs go
through `training.train` like any other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from emp_gym.agents import registry
from emp_gym.agents.base import Learner
from emp_gym.data import store
from emp_gym.data.tape.files import write_meta
from emp_gym.data.tape.tape_set import TapeSet
from emp_gym.evaluation import runlog
from emp_gym.evaluation.splits import walk_forward
from emp_gym.market import day_starts
from emp_gym.reports.preface import introduce, proven
from emp_gym.runs import backtest
from emp_gym.runs.backtest import Comparison
from emp_gym.runs.config import RunConfig
from emp_gym.runs.evaluation_setup import EvaluationSetup
from emp_gym.runs.held_out import Proof, Standing
from emp_gym.runs.run_folder import RunFolder
from emp_gym.runs.spans import Played, Window
from emp_gym.training import train as training
from emp_gym.training.callbacks import Progress
from emp_gym.types import ConfigError, RunLog

Showing = Callable[[str], AbstractContextManager[Progress]]
"""Gives a progress display for what has that label."""


@dataclass(frozen=True)
class Fold:
    """Numbers of days, ascending, as in the data."""

    train: tuple[int, ...]
    test: tuple[int, ...]


@dataclass(frozen=True)
class Walk:
    """What came of it. The logs hold the episodes of all folds, one after the other."""

    folds: list[Fold]
    comparison: Comparison
    agent: RunLog
    baselines: dict[str, RunLog]


def folds_of(tape: TapeSet, count: int, embargo: int = 0) -> list[Fold]:
    """`count` folds in order of date; training expands. Days of one date (several symbols) stay together.

    `embargo` calendar days between the last day of training and the first of a test are left out. `ConfigError` for too few dates.
    """
    known = np.array([date.fromisoformat(day).toordinal() for day in day_starts.dates(tape)])
    if len(known) <= count:
        raise ConfigError(
            f"--walk-forward {count} needs at least {count + 1} dates, the data has {len(known)}; take fewer folds, or "
            "more days"
        )
    splits = walk_forward(known, known, folds=count, gap=embargo)

    def days(which: np.ndarray) -> tuple[int, ...]:
        chosen = {date.fromordinal(int(day)).isoformat() for day in known[which]}
        return tuple(number for number, day in enumerate(tape.info) if day.date in chosen)

    return [Fold(days(split.train), days(split.test)) for split in splits]


def fold_tape(tape: TapeSet, fold: Fold, folder: Path) -> Path:
    """A tape at `folder` that trains on the fold's days only: all others are marked as held out. Arrays are links: hard ones
    where the disk allows them, which stay when the cache or the user's tape goes."""
    if tape.path is None:
        raise ConfigError("walk-forward needs days that are kept in files, got a tape in memory; save it first")
    folder.mkdir(parents=True)
    for file in sorted(tape.path.glob("*.npy")):
        try:
            os.link(file.resolve(), folder / file.name)
        except OSError:  # another disk, or somebody else's file
            (folder / file.name).symlink_to(file.resolve())
    info = tuple(
        replace(day, source={**day.source, "held_out": number not in fold.train}) for number, day in enumerate(tape.info)
    )
    write_meta(folder, info, tape.hashes)
    return folder


def walk(
    config: RunConfig, count: int, root: Path, showing: Showing, *, embargo: int = 0, record: bool = False
) -> Walk:  # fmt: skip
    """Trains the agent of `config` on each of `count` folds below `root` (agents that do not learn are only built), and
    judges it and the baselines on the fold's test days; baselines that learn do so on the fold's training days. A baseline that
    some fold is without is left out of the comparison.
    """
    if config.evaluation.split != "test":
        raise ConfigError(f"--walk-forward makes its own test days; leave evaluation.split={config.evaluation.split!r} out")
    if (root / "walk_forward.json").exists() or list(root.glob("fold-*")):
        raise ConfigError(f"{root} already holds a walk; take another --run-dir")
    tape = store.tapes(config.env.get("data"))
    folds = folds_of(tape, count, embargo)
    agents: list[RunLog] = []
    baselines: list[dict[str, RunLog]] = []
    skipped: list[dict[str, str]] = []
    proofs: list[Proof] = []
    played: list[Played] = []
    for number, fold in enumerate(folds):
        path = root / f"fold-{number}"
        data = fold_tape(tape, fold, path / "days.tape")
        own = replace(config, env={**config.env, "data": str(data.resolve())})
        agent = _agent(own, path, showing, f"fold {number + 1} of {count}: {len(fold.train)} days")
        with EvaluationSetup(own, [agent], chosen=_windows(own, fold)) as evaluation:
            part, runs, others = backtest.judge(evaluation, record=record)
        agents.append(runs[0])
        baselines.append(others)
        skipped.append(part.skipped)
        trained = [RunFolder(path / "run")] if (path / "run").exists() else []
        proofs.append(proven(part, own, trained))
        played += part.played
    left_out = missing(skipped)
    agent_log = _joined(config, agents)
    logs = {name: _joined(config, [b[name] for b in baselines]) for name in baselines[0] if name not in left_out}
    dates = [tape.info[day].date for day, _ in agent_log.config["windows"]]
    comparison = backtest.compare(config.agent_name, [agent_log], logs, dates, config.evaluation, left_out, played=played)
    with EvaluationSetup(config) as evaluation:
        comparison = introduce(comparison, evaluation, next((proof for proof in proofs if not proof.held_out), proofs[0]))
    if comparison.preface is not None and comparison.proof.standing is not Standing.RULE:
        story = f"the dates before each of {count} folds, expanding: walk_forward.json names them"
        comparison = replace(comparison, preface=replace(comparison.preface, trained=story))
    results = [{config.agent_name: agent, **others} for agent, others in zip(agents, baselines)]
    RunFolder(root).write_json("walk_forward.json", _described(config, tape, folds, embargo, results, skipped))
    return Walk(folds, comparison, agent_log, logs)


def missing(skipped: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Baselines that some fold was without (`skipped`: of each fold, name -> why), and why: nothing is compared with them."""
    found = {}
    for name in dict.fromkeys(name for fold in skipped for name in fold):
        why = {number: fold[name] for number, fold in enumerate(skipped, 1) if name in fold}
        whole = len(why) == len(skipped) and len(set(why.values())) == 1
        found[name] = why[1] if whole else "; ".join(f"in fold {n} of {len(skipped)}: {text}" for n, text in why.items())
    return found


def _agent(config: RunConfig, path: Path, showing: Showing, label: str) -> Any:
    """The agent as it leaves its training."""
    if issubclass(registry.find(config.agent_name), Learner):
        with showing(label) as progress:
            return training.train(config, path / "run", progress)[1]
    env = backtest.make_env(config.env_id, config.env, 1, split="test")
    agent = backtest.build(config.agent_name, env, config.seed, config.agent)
    env.close()
    return agent


def _windows(config: RunConfig, fold: Fold) -> list[Window]:
    """Windows of the fold's own test days; `episodes` of the config picks so many a fold, evenly."""
    every = replace(config.evaluation, episodes=None)
    own = [window for window in backtest.windows(config.env_id, config.env, every) if window[0] in fold.test]
    n = config.evaluation.episodes
    return own if n is None or n >= len(own) else [own[i * len(own) // n] for i in range(n)]


def _joined(config: RunConfig, logs: Sequence[RunLog]) -> RunLog:
    log = runlog.join(logs)
    return replace(log, config={**log.config, "env_kwargs": dict(config.env)})


def _described(
    config: RunConfig, tape: TapeSet, folds: Sequence[Fold], embargo: int, played: Sequence[Mapping[str, RunLog]],
    skipped: Sequence[Mapping[str, str]],
) -> dict[str, Any]:  # fmt: skip
    """The folds by date, what everybody made in each, and who was left out of it and why."""
    return {
        "config": asdict(config),
        "embargo_days": embargo,
        "data_hash": tape.hash,
        "folds": [
            {
                "train": [tape.info[day].date for day in fold.train],
                "test": [tape.info[day].date for day in fold.test],
                "episodes": len(logs[config.agent_name].config["windows"]),
                "pnl_currency_per_episode": {name: float(log.episodes["pnl"].mean()) for name, log in logs.items()},
                "left_out": dict(left_out),
            }
            for fold, logs, left_out in zip(folds, played, skipped)
        ],
    }
