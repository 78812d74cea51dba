"""What governance adds to a run: the trial is noted before it begins, its version registered after it, its evaluation entered.

Whatever becomes of a run, its trial counts: a search cannot forget its failures.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from gymnasium.vector import VectorEnv

from emp_gym.envs.wrappers.diary import DiaryVectorWrapper
from emp_gym.envs.wrappers.governance import KillSwitchVectorWrapper, StageVectorWrapper
from emp_gym.experiments import evidence
from emp_gym.experiments.backtest import gates_of
from emp_gym.experiments.config import RunConfig
from emp_gym.experiments.runs import GOVERNED, RunFolder, commit
from emp_gym.governance.diary import Diary
from emp_gym.governance.errors import UnregisteredPolicy
from emp_gym.governance.folder import GovernanceFolder
from emp_gym.governance.kill_gate import Killed, KillGate
from emp_gym.governance.kill_switch import KillSwitch
from emp_gym.governance.ledger import Ledger
from emp_gym.governance.log import Receipt
from emp_gym.governance.record import Version, setting
from emp_gym.governance.registry import Registry


class Governed:
    """Runs under governance, in one folder. Holds the locks of ledger and diary until it is closed.

    Every environment that an agent learns in, or plays in for evidence, stands behind the kill switch, and every decision
    goes into the diary; to learn is what the stage "experiment" allows.
    """

    def __init__(self, path: Path, *, create: bool = False, clock: Callable[[], int] = time.time_ns) -> None:
        """The governance folder at `path`, made if `create` and there is none."""
        make = GovernanceFolder.open_or_create if create else GovernanceFolder
        self.folder = make(path, clock=clock)
        self.ledger = Ledger(self.folder.ledger, clock=clock)
        self.registry = Registry(self.ledger, self.folder.artefacts)
        self.switch = KillSwitch.at(path, log=self.folder.ledger, clock=clock)
        self._trial = -1  # entry of the trial under way
        self._policy = ("", "")  # who decides: name, SHA-256 of the weights
        self._diaries: list[Diary] = []  # of the environments of the trial under way

    def wrap(self, env: VectorEnv) -> VectorEnv:
        """`env` as an agent may learn in it."""
        return self._kept(StageVectorWrapper(env, "experiment", mode="observe"), self._policy)

    def learned(self, agent: Any) -> None:
        """From here on these weights decide."""
        self._policy = (self._policy[0], weights_hash(agent))
        for diary in self._diaries:
            diary.policy(*self._policy)

    def _kept(self, env: VectorEnv, policy: tuple[str, str]) -> VectorEnv:
        """`env` behind the kill switch (with the rules of its own kill gate, if it has one), its decisions in the diary."""
        if not any(isinstance(gate, KillGate) and gate.switch is self.switch for gate in gates_of(env)):
            env = KillSwitchVectorWrapper(env, self.folder.path)
        kept = DiaryVectorWrapper(env, self.folder.diary, policy=policy, regime=evidence.regimes)
        self._diaries.append(kept.diary)
        return kept

    @property
    def flags(self) -> str:
        return f"--govern {self.folder.path}"

    def begin(self, config: RunConfig, resume: Path | None = None) -> int:
        """Notes a trial; returns its entry. A run that goes on must have begun here, and nothing is noted of one that cannot
        begin at all."""
        if resume is not None:
            run = RunFolder.open(resume)
            self._began_here(run)
            run.last_checkpoint()
            self.parent(resume)
        if self.switch.check():
            raise Killed(
                f"stopped by the kill switch before it began: {self.switch.kill}; to go on, open it with "
                f"scripts/kill.py {self.folder.path} --rearm --key FILE --reason TEXT"
            )
        self._trial = self.ledger.note_trial(evidence.trial_payload(self.registry, config)).seq
        self._policy, self._diaries = (version_name(config, self._trial), ""), []
        return self._trial

    def began(self, run: RunFolder) -> None:
        """Leaves word in the run's folder: it goes on here, or not at all."""
        where = {"folder": str(self.folder.path.resolve()), "log_id": self.ledger.log.log_id, "trial": self._trial}
        run.write_json(GOVERNED, where)

    def register(self, run: RunFolder, trial: int, parent: str = "") -> Version:
        """The version that a trial gave."""
        config = run.config
        return self.registry.register(
            run.path, trial=trial, name=version_name(config, trial), agent=config.agent_name,
            setting=setting(config.env_id, config.env), commit=commit() or "", parent=parent,
        )  # fmt: skip

    def evaluate(self, versions: Sequence[Version], config: RunConfig) -> list[Receipt]:
        """Executes an evaluation of each version and enters it as evidence."""

        def wrap(env: VectorEnv, version: str) -> VectorEnv:
            self.switch.subject = version  # whom a kill takes down a stage
            return self._kept(env, (self.ledger.state.versions[version].name, version))

        execution = evidence.Execution(self.registry, config, wrap=wrap)
        return [self.ledger.enter(version.version, execution) for version in versions]

    def parent(self, resume: Path | None) -> str:
        """The version from which a resumed run goes on, "" where there is none."""
        if resume is None or not (resume / "model.json").exists():
            return ""
        return self.registry.version_of(resume).version

    def _began_here(self, run: RunFolder) -> None:
        """That the run's word of where it began is this ledger's own trial. A file can be copied: what was trained in between
        without governance is not seen here, but its decisions are missing in the diary."""
        told = run.governance
        trials = {entry.seq for entry in self.ledger.log.entries(kind="trial")}
        if told.get("log_id") != self.ledger.log.log_id or told.get("trial") not in trials:
            raise UnregisteredPolicy(
                f"{run.path}: this run did not begin under {self.folder.path}, so nobody knows how often it was tried; "
                "train it anew with --govern"
            )

    def close(self) -> None:
        """Ends the diaries and waits until the ledger knows of a kill."""
        try:
            for diary in self._diaries:
                diary.close()
            self.switch.finish()
        finally:
            self.folder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def version_name(config: RunConfig, trial: int) -> str:
    """What people call the version that a trial gives."""
    return f"{config.agent_name.rpartition(':')[2].lower()}-{trial}"


def weights_hash(agent: Any) -> str:
    """SHA-256 over an agent's arrays (`BaseAgent.arrays`), by name; of nothing where it does not show them."""
    digest = hashlib.sha256()
    arrays = agent.arrays() if hasattr(agent, "arrays") else {}
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()
