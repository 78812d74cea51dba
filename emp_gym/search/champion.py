"""The chosen trial: built again, written down for `train.py`, and judged on test time that no trial saw."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from emp_gym import bounded
from emp_gym.agents.base import read_json
from emp_gym.evaluation.intervals import Estimate
from emp_gym.evaluation.reliability import stratified_interval
from emp_gym.printable import printable
from emp_gym.runs.config import RunConfig
from emp_gym.search.driver import Listener, Record, Search
from emp_gym.search.jobs import JobResult, TrainingJob, work
from emp_gym.training.executors import Executor
from emp_gym.types import DataError

FRESH = 1_000
"""Training seeds of the last judgement begin here: no trial has had them."""
CHAMPION, FINAL = "champion.yaml", "final.json"


def rebuild(search: Search, number: int) -> list[tuple[JobResult, JobResult]]:
    """Trial `number` done again from what the study keeps of it: (as it was, as it is now) for each of its training runs.

    `JobResult.figures` of both are the same to the bit on the same machine with the same packages.
    """
    trial = search.trial(number)
    if "genome" not in trial.user_attrs:
        raise DataError(f"{search.folder}: trial {number} has no genome; it was cut while it was drawn")
    units = [unit for rung in search.plan.rungs for unit in search.units(trial, rung) if unit in search.cells]
    return [(search.cells[unit], work(unit)) for unit in units]


def write(search: Search, record: Record) -> Path:
    """``champion.yaml``: for ``train.py --config``, which trains on all training time."""
    config = search.config(search.trial(record.number))
    told = {
        "env_id": config.env_id, "agent_name": config.agent_name, "total_timesteps": search.plan.budget,
        "agent": config.agent, "env": config.env,
    }  # fmt: skip
    path = search.folder / CHAMPION
    title = f"# trial {record.number} of {printable(search.study.study_name)}\n"
    bounded.write(path, title + yaml.safe_dump(_plain(told), sort_keys=False))
    return path


def _plain(value: Any) -> Any:
    """Without tuples, which YAML would mark as Python's."""
    return json.loads(json.dumps(value))


@dataclass(frozen=True)
class Judged:
    """A configuration trained with fresh seeds on all training time, judged on the test split."""

    name: str
    outcomes: tuple[JobResult, ...]

    def estimate(self, which: int) -> Estimate:
        """Interquartile mean over seeds of objective `which`, with its interval."""
        values = np.array([one.objectives[which] for one in self.outcomes if not one.failed])[:, None]
        return stratified_interval(values, np.random.default_rng(np.random.SeedSequence([17, len(values)])))

    @property
    def sound(self) -> bool:
        return not any(one.failed for one in self.outcomes)


def final(search: Search, record: Record, engine: Executor, hear: Listener, seeds: int) -> list[Judged]:
    """The champion and what the search began with, each with `seeds` fresh seeds.

    Test time is looked at here only. What was judged before is read; another champion, after more trials, or another number of
    seeds is another look, and ``final.json`` keeps count of them.
    """
    rivals = {f"trial {record.number}": search.config(search.trial(record.number)), "starting point": search.beginning}
    units = {name: _units(config, search.plan.budget, seeds) for name, config in rivals.items()}
    _note_look(search, Look(record.number, seeds))
    deque(search.play([unit for some in units.values() for unit in some], engine, hear), maxlen=0)
    return [Judged(name, tuple(search.cells[unit] for unit in some)) for name, some in units.items()]


def _units(config: RunConfig, steps: int, seeds: int) -> list[TrainingJob]:
    config = replace(config, evaluation=replace(config.evaluation, episodes=None))
    return [TrainingJob.of(config, seed, steps, fit="train", judged="test") for seed in range(FRESH, FRESH + seeds)]


class Look(NamedTuple):
    """A judgement on test time."""

    trial: int
    seeds: int

    def __str__(self) -> str:
        return f"trial {self.trial} with {self.seeds} seed{'' if self.seeds == 1 else 's'}"


def _note_look(search: Search, look: Look) -> None:
    """Says in ``final.json`` that this trial is judged on the test with so many seeds, before it is."""
    seen = looks(search.folder)
    if look not in seen:
        path = search.folder / FINAL
        bounded.write(path, json.dumps({"looks": [one._asdict() for one in [*seen, look]]}) + "\n")


def looks(folder: Path) -> list[Look]:
    """What was judged on the test, in order; `DataError` for a file that does not say so."""
    path = folder / FINAL
    try:
        return [Look(**one) for one in read_json(path)["looks"]] if path.exists() else []
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{path}: expected {{\"looks\": [{{\"trial\": N, \"seeds\": K}}, ...]}} ({error}); studies of before noted no seeds: write "
            "each look as that, and it is counted"
        ) from error


def as_json(judged: Sequence[Judged]) -> Mapping[str, Any]:
    """For ``search.json``."""
    return {one.name: [asdict(outcome) for outcome in one.outcomes] for one in judged}
