"""A search under governance: the ledger is told of every training run before it begins, so that a search cannot forget its failures.

Runs learn in processes of their own, without diary and without a switch around their environments: to promote a champion, train it with
``train.py --govern``. While the kill switch is closed no run begins.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Self

from emp_gym.governed import evidence
from emp_gym.governed.run_hooks import Governed
from emp_gym.runs.config import RunConfig, override
from emp_gym.search.jobs import TrainingJob


class Notes:
    """Notes in the ledger of a governance folder (made if there is none). Inside ``with``."""

    def __init__(self, folder: Path) -> None:
        self._governed = Governed(folder, create=True)
        self._known = [entry.value for entry in self._governed.ledger.log.entries(kind="trial")]

    def note(self, unit: TrainingJob) -> None:
        """A trial, unless the very same run stands there: one that was noted and then cut is not another. `Killed` while the
        kill switch is closed, `ConfigError` where there is no market."""
        self._governed.must_be_open()
        payload = evidence.trial_payload(self._governed.registry, override(RunConfig(), json.loads(unit.config)))
        if payload not in self._known:
            self._governed.ledger.note_trial(payload)
            self._known.append(payload)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._governed.close()
