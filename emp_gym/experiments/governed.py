"""What governance adds to a run: the trial is noted before it begins, its version registered after it, its evaluation entered.

Whatever becomes of a run, its trial counts: a search cannot forget its failures.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Self

from gymnasium.vector import VectorEnv

from emp_gym.experiments import evidence
from emp_gym.experiments.config import RunConfig
from emp_gym.experiments.runs import RunFolder, commit
from emp_gym.governance.errors import UnregisteredPolicy
from emp_gym.governance.folder import GovernanceFolder
from emp_gym.governance.ledger import Ledger
from emp_gym.governance.log import Receipt
from emp_gym.governance.record import Version, setting
from emp_gym.governance.registry import Registry


def governed_env(env: VectorEnv, folder: GovernanceFolder) -> VectorEnv:
    """`env` as it may be used under governance: the one place where diary, kill switch and stage guard are put around a
    training environment."""
    return env


class Governed:
    """Runs under governance, in one folder. Holds the ledger's lock until it is closed."""

    def __init__(self, path: Path, *, create: bool = False, clock: Callable[[], int] = time.time_ns) -> None:
        """The governance folder at `path`, made if `create` and there is none."""
        make = GovernanceFolder.open_or_create if create else GovernanceFolder
        self.folder = make(path, clock=clock)
        self.ledger = Ledger(self.folder.ledger, clock=clock)
        self.registry = Registry(self.ledger, self.folder.artefacts)

    def wrap(self, env: VectorEnv) -> VectorEnv:
        return governed_env(env, self.folder)

    def begin(self, config: RunConfig, resume: Path | None = None) -> int:
        """Notes a trial; returns its entry. A run that goes on must have begun here."""
        if resume is not None:
            self._began_here(RunFolder.open(resume))
        return self.ledger.note_trial(evidence.trial_payload(self.registry, config)).seq

    def register(self, run: RunFolder, trial: int, parent: str = "") -> Version:
        """The version that a trial gave."""
        config = run.config
        return self.registry.register(
            run.path, trial=trial, name=f"{config.agent_name.rpartition(':')[2].lower()}-{trial}",
            agent=config.agent_name, setting=setting(config.env_id, config.env), commit=commit() or "", parent=parent,
        )  # fmt: skip

    def evaluate(self, versions: Sequence[Version], config: RunConfig) -> list[Receipt]:
        """Executes an evaluation of each version and enters it as evidence."""
        execution = evidence.Execution(self.registry, config)
        return [self.ledger.enter(version.version, execution) for version in versions]

    def parent(self, resume: Path | None) -> str:
        """The version from which a resumed run goes on, "" where there is none."""
        if resume is None or not (resume / "model.json").exists():
            return ""
        return self.registry.version_of(resume).version

    def _began_here(self, run: RunFolder) -> None:
        mine = run.config
        for trial in self.ledger.log.entries(kind="trial"):
            noted = json.loads(self.registry.text(trial.value["config"]))
            if {**noted, "total_timesteps": 0} == {**json.loads(json.dumps(asdict(mine))), "total_timesteps": 0}:
                return
        raise UnregisteredPolicy(
            f"{run.path}: this run did not begin under this governance folder, so nobody knows how often it was tried; "
            "train it anew with --govern"
        )

    def close(self) -> None:
        self.folder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
