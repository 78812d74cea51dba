"""What governance adds to a run: the trial is noted before it begins, its version registered after it, its evaluation entered.

Whatever becomes of a run, its trial counts: a search cannot forget its failures.
"""

from __future__ import annotations

import hashlib
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from gymnasium.vector import VectorEnv

from emp_gym import bounded
from emp_gym.agents.base import Shown
from emp_gym.envs.wrappers.diary import DiaryVectorWrapper
from emp_gym.envs.wrappers.governance import KillSwitchVectorWrapper, StageVectorWrapper
from emp_gym.governance.diary.diary import Diary
from emp_gym.governance.errors import UnregisteredPolicy
from emp_gym.governance.folder import GovernanceFolder
from emp_gym.governance.kill_switch.gate import Killed, KillGate
from emp_gym.governance.kill_switch.switch import KillSwitch
from emp_gym.governance.ledger.ledger import Ledger
from emp_gym.governance.ledger.record import Version, setting
from emp_gym.governance.ledger.registry import Registry, hashes
from emp_gym.governance.log.reader import Entry
from emp_gym.governance.log.writer import Receipt
from emp_gym.governed import checkpoint_signatures, evidence
from emp_gym.runs.backtest import gates_of
from emp_gym.runs.config import RunConfig
from emp_gym.runs.learned_from import trained_on
from emp_gym.runs.run_folder import RunFolder, commit


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
        self.story = ""  # for people: from where the run under way goes on
        self._trial = -1  # entry of the trial under way
        self._parent = ""  # version from which it goes on
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
        return f"--govern {shlex.quote(str(self.folder.path))}"

    @property
    def metadata(self) -> dict[str, Any]:
        """What stands in the run's folder: it goes on here, or not at all."""
        return {"folder": str(self.folder.path.resolve()), "log_id": self.ledger.log.log_id, "trial": self._trial}

    def begin(self, config: RunConfig, resume: Path | None = None) -> int:
        """Notes a trial; returns its entry. A run that was cut goes on as the trial that it was, with other `config` it is another.

        It must have begun here, its checkpoint must be its own, and nothing is noted of one that cannot begin at all.
        """
        run = None if resume is None else RunFolder.open(resume)
        if run is not None:
            self._began_here(run)
        self.must_be_open()
        payload = evidence.trial_payload(self.registry, config)
        if run is None:
            self._trial, self._parent, self.story = self.ledger.note_trial(payload).seq, "", ""
        else:
            self._go_on(run, payload)
        self._end_diaries()
        self._policy = version_name(config, self._trial), ""
        return self._trial

    def must_be_open(self) -> None:
        """`Killed` while the kill switch is closed: nothing may be played, for evidence or to be looked at."""
        if self.switch.check():
            noted = "".join(f"; noted while closed: {one}" for one in self.switch.noted)
            raise Killed(
                f"stopped by the kill switch before it began: {self.switch.kill}{noted}; to go on, open it with "
                f"scripts/kill.py {shlex.quote(str(self.folder.path))} --rearm --key FILE --reason TEXT"
            )

    def _go_on(self, run: RunFolder, payload: dict[str, Any]) -> None:
        """Takes up the trial of `run`, or notes another one that goes on from it."""
        before, last = int(run.governance["trial"]), run.last_checkpoint()
        steps = 0 if last is None else int(last.name)
        versions = [v for v in self.ledger.state.versions.values() if v.trial == before]
        origin = versions[-1].version if versions else self._parent_of(before)
        where = f"goes on at step {steps:,} of trial {before}"
        if payload == self._entry("trial", before).value:
            self._trial, self._parent = before, self._parent_of(before)
            self.story = "" if versions else f"{where}, which was cut; it stays the same trial"
            if versions:
                return  # it is done
        else:
            self._trial, self._parent = self.ledger.note_trial(payload).seq, origin
            made = f"made from version {origin[:12]}" if origin else "without a parent, since no version of it was registered"
            self.story = f"{where}, as trial {self._trial}: what it gives will be {made}"
        seal = "" if last is None else checkpoint_signatures.checkpoint_hash(last)
        self._tell("resumed", seal, {"from": before, "parent": self._parent, "steps": steps})

    def _tell(self, kind: str, checkpoint: str, more: dict[str, Any]) -> None:
        """An entry about the trial under way that moves nothing."""
        told = {"checkpoint": checkpoint, "trial": self._trial, **more}
        self.folder.ledger.append("emp-gym", kind, payload=told, evidence=[checkpoint] if checkpoint else [])

    def _entry(self, kind: str, seq: int) -> Entry:
        (entry,) = self.ledger.log.entries(seq, seq + 1, kind=kind)
        return entry

    def _resumed(self, trial: int) -> list[dict[str, Any]]:
        """What was told when `trial` went on, or was begun from another one."""
        told = [entry.value for entry in self.ledger.log.entries(kind="resumed")]
        return [value for value in told if value["trial"] == trial]

    def _line(self, trial: int) -> set[int]:
        """`trial` and those from which it went on."""
        line, new = {trial}, {trial}
        while new:
            new = {int(told["from"]) for one in new for told in self._resumed(one)} - line
            line |= new
        return line

    def _parent_of(self, trial: int) -> str:
        return "".join(value["parent"] for value in self._resumed(trial)[-1:])

    def given(self, run: RunFolder) -> Version | None:
        """The version that the trial under way gave before, if its files are those of `run`."""
        if not (run.path / "model.json").exists():
            return None
        files = hashes(run.path)
        found = [v for v in self.ledger.state.versions.values() if v.trial == self._trial and dict(v.files) == files]
        return found[-1] if found else None

    def produced(self, run: RunFolder) -> bool:
        """Whether the model in the folder of `run` is what the trial under way gave: any other has no seal."""
        return self.given(run) is not None

    def register(self, run: RunFolder) -> Version:
        """The version that the trial under way gave; the same one where it is done already."""
        config, given = run.config, self.given(run)
        if given is not None:
            return given
        self._as_noted(run)
        return self.registry.register(
            run.path, trial=self._trial, name=version_name(config, self._trial), agent=config.agent_name,
            setting=setting(config.env_id, config.env), commit=commit() or "", parent=self._parent,
        )  # fmt: skip

    def _as_noted(self, run: RunFolder) -> None:
        """That what the run says to have learned from are days of the trial under way; `UnregisteredPolicy` names others."""
        noted = {(day.symbol, day.date) for day in self.ledger.state.trials[self._trial].days}
        others = [f"{symbol} {date}" for symbol, date in trained_on(run.path) if (symbol, date) not in noted]
        if others:
            raise UnregisteredPolicy(
                f"{run.path}: it was trained on {', '.join(others[:3])}, which trial {self._trial} did not note; expected days of the "
                "trial only, or its evidence could be on what it has seen; train it anew with --govern"
            )

    def seal(self, folder: Path, steps: int) -> None:
        """Binds a checkpoint to the trial under way."""
        checkpoint_signatures.seal(folder, steps, trial=self._trial, log_id=self.ledger.log.log_id, key=self.folder.key)

    def lanes(self, path: Path) -> Path:
        """The state of lanes as an artefact, under its SHA-256: the diary names it, and a replay begins from it."""
        data = path.read_bytes()
        kept = self.folder.artefacts.resolve() / f"{hashlib.sha256(data).hexdigest()}{path.suffix}"
        if not kept.exists():
            bounded.write(kept, data)
        return kept

    def interrupted(self, run: RunFolder, steps: int) -> None:
        """Tells the ledger that the trial under way was interrupted, and which checkpoint it left."""
        last = run.last_checkpoint()
        self._tell("interrupted", "" if last is None else checkpoint_signatures.checkpoint_hash(last), {"steps": steps})

    def evaluate(
        self, versions: Sequence[Version], config: RunConfig, pause: Callable[[], None] = lambda: None
    ) -> list[Receipt]:
        """Executes an evaluation of each version and enters it as evidence. `pause` is called before each policy plays."""

        def wrap(env: VectorEnv, version: str) -> VectorEnv:
            pause()
            self.switch.subject = version  # whom a kill takes down a stage
            return self._kept(env, (self.ledger.state.versions[version].name, version))

        execution = evidence.Execution(self.registry, config, wrap=wrap)
        return [self.ledger.enter(version.version, execution) for version in versions]

    def _began_here(self, run: RunFolder) -> None:
        """That the run's word of where it began is this ledger's own trial, and its last checkpoint of that trial."""
        told, log = run.governance, self.ledger.log
        trials = {entry.seq for entry in log.entries(kind="trial")}
        if told.get("log_id") != log.log_id or told.get("trial") not in trials:
            raise UnregisteredPolicy(
                f"{run.path}: this run did not begin under {self.folder.path}, so nobody knows how often it was tried; "
                "train it anew with --govern"
            )
        last = run.last_checkpoint()
        if last is not None:
            names = {trial: f"trial {trial} of {self.folder.path}" for trial in sorted(self._line(told["trial"]))}
            checkpoint_signatures.check(last, trials=names, log_id=log.log_id, public_key=log.public_key)

    def _end_diaries(self) -> None:
        """What an agent did not close itself: closing twice does nothing."""
        for diary in self._diaries:
            diary.close()
        self._diaries = []

    def close(self) -> None:
        """Ends the diaries and waits until the ledger knows of a kill."""
        try:
            self._end_diaries()
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
    arrays = agent.arrays() if isinstance(agent, Shown) else {}
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()
