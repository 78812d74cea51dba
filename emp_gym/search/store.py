"""Where a study lives: a folder with Optuna's journal (every trial, whatever became of it) and a file for each unit of work.

==================  ==================================================================================================
``journal.log``     the study; ``optuna-dashboard DIR/journal.log`` shows it, also while it runs
``cells/``          one JSON file a unit of work, named by what it is of; written aside and renamed
``driver.lock``     held by the process that drives the study
==================  ==================================================================================================

A process may be killed at any moment: a line that it did not finish is cut off when the study is opened again, and a lock of the journal
that it left is removed.
"""

from __future__ import annotations

import os
import shlex
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages.journal import JournalFileBackend, JournalStorage

from emp_gym import bounded
from emp_gym.agents.base import read_json
from emp_gym.file_lock import exclusive
from emp_gym.search import jobs
from emp_gym.search.jobs import JobResult, TrainingJob
from emp_gym.types import ConfigError, DataError

JOURNAL, CELLS, LOCK = "journal.log", "cells", "driver.lock"
Direction = Literal["minimize", "maximize"]
LARGEST = 2 << 30
"""Bytes of a journal, at most."""
PATIENCE = 1.0
"""Seconds for which another program (the dashboard) may hold the journal's lock: it does so for milliseconds."""


@contextmanager
def driving(folder: Path) -> Iterator[None]:
    """This process, and no other, drives the study in `folder`, whose journal is then whole."""
    folder.mkdir(parents=True, exist_ok=True)
    with bounded.unlinked(folder / LOCK).open("a") as file:
        try:
            exclusive(file.fileno())
        except BlockingIOError as error:
            raise ConfigError(f"{folder} is being driven by another process; wait for it, or stop it") from error
        _mend(folder / JOURNAL)
        yield


def _mend(journal: Path) -> None:
    """Removes what a killed process left: a lock, half a line at the end."""
    left = journal.with_name(journal.name + ".lock")
    until = time.monotonic() + PATIENCE
    while left.is_symlink() and time.monotonic() < until:
        time.sleep(0.01)
    left.unlink(missing_ok=True)
    if not os.path.lexists(journal):
        return
    _must_be_own(journal)
    with journal.open("r+b") as file:
        data = file.read()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            file.truncate(whole)


def create(folder: Path, name: str, measures: Mapping[str, Direction], attributes: Mapping[str, Any]) -> optuna.Study:
    """A new study in `folder`, there whole or not at all; raises `ConfigError` where one is already.

    `measures`: name of each objective -> its direction. `attributes` are kept with the study.
    """
    if (folder / JOURNAL).exists():
        raise ConfigError(f"{folder} already holds a study; take another --out, or go on with --resume {shlex.quote(str(folder))}")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    aside = folder / (JOURNAL + ".new")
    aside.unlink(missing_ok=True)
    study = optuna.create_study(
        study_name=name, storage=_storage(aside), directions=list(measures.values()), sampler=optuna.samplers.RandomSampler(seed=0)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(measures))
    for key, value in attributes.items():
        study.set_user_attr(key, value)
    aside.replace(folder / JOURNAL)
    return load(folder)


def load(folder: Path) -> optuna.Study:
    """The study in `folder`; raises `DataError` where there is none."""
    path = folder / JOURNAL
    if not path.exists():
        raise DataError(f"{folder} holds no study: it has no {JOURNAL}; begin one with --env and --out {shlex.quote(str(folder))}")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    _must_be_own(path)
    try:
        storage = _storage(path)
        (summary,) = optuna.get_all_study_summaries(storage)
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError) as error:  # what Optuna meets in it
        raise DataError(f"{path}: not the journal of one study ({type(error).__name__}: {str(error)[:200]})") from error
    study = optuna.load_study(study_name=summary.study_name, storage=storage, sampler=optuna.samplers.RandomSampler(seed=0))
    if not isinstance(study.user_attrs.get("plan"), dict):
        raise DataError(f"{path}: a study of somebody else: it has no plan")
    return study


def _must_be_own(journal: Path) -> None:
    """`DataError` where `journal`, which will be written to, leads elsewhere, or is no file."""
    if journal.is_symlink():
        raise DataError(f"{journal}: a link; expected the journal itself; name the folder in which that lies")
    bounded.must_be_regular(journal, LARGEST)


def _storage(path: Path) -> JournalStorage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return JournalStorage(JournalFileBackend(str(path)))


class ResultStore:
    """What came of units of work, by digest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / CELLS
        self._folder.mkdir(parents=True, exist_ok=True)
        self._kept: dict[str, JobResult] = {}
        for path in sorted(self._folder.glob("*.json")):
            unit, outcome = jobs.from_json(read_json(path), str(path))
            if unit.digest != path.stem:
                raise DataError(f"{path}: its name is not that of the unit it tells of ({unit.digest}); remove it, and it is done again")
            self._kept[path.stem] = outcome

    def __contains__(self, unit: TrainingJob) -> bool:
        return unit.digest in self._kept

    def __getitem__(self, unit: TrainingJob) -> JobResult:
        return self._kept[unit.digest]

    @property
    def env_steps(self) -> int:
        """Of all training runs that are kept."""
        return sum(outcome.env_steps for outcome in self._kept.values())

    def add(self, unit: TrainingJob, outcome: JobResult) -> None:
        """Keeps an outcome: on disk first, so that nothing is told that a crash could take back."""
        path = self._folder / f"{unit.digest}.json"
        bounded.write(path, jobs.to_json(unit, outcome))
        self._kept[unit.digest] = outcome
