"""A governance folder: the ledger, the diary, the kill switch's state, keys, copies of heads and artefacts, in one place.

===============  =======================================================================================================
``ledger.log``   `Log`, profile LEDGER: signers, trials, versions, evaluations, promotions, kills
``diary.log``    `Log`, profile DIARY: decisions
``kill``         the state of the kill switch
``keys/``        private keys, mode 0600 in a folder of mode 0700; ``system.key`` signs the heads of both logs
``witness/``     copies of the heads; a witness is worth more on another host: make it a link or a mount
``artefacts/``   weights and configurations of registered versions, by content hash
===============  =======================================================================================================
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Self

from emp_gym import bounded
from emp_gym.governance.errors import LogError, LogLocked
from emp_gym.governance.log.reader import LogReader
from emp_gym.governance.log.signed_tree_heads import KeyFile, sync_folder
from emp_gym.governance.log.writer import DIARY, LEDGER, Log
from emp_gym.types import ConfigError, DataError


class GovernanceFolder:
    """The parts of a governance folder. A log is opened, and locked against other writers, when it is first asked for."""

    def __init__(self, path: str | Path, *, clock: Callable[[], int]) -> None:
        """An existing folder; `clock` gives the time (ns UTC) of what is written. `LogError` if there is none."""
        self.path, self.clock = Path(path), clock
        if not self.ledger_path.is_file():
            if self.path.is_file() and (self.path.parent / "ledger.log").is_file():
                raise LogError(f"{path}: a file of a governance folder; give the folder itself, {self.path.parent}")
            raise LogError(f"{path}: not a governance folder (no ledger.log); make one with train.py --govern {shlex.quote(str(path))}")

    @classmethod
    def create(cls, path: str | Path, *, clock: Callable[[], int]) -> Self:
        """A new folder with a new system key and two empty logs. `ConfigError` where there is one already."""
        path = Path(path)
        if (path / "ledger.log").exists():
            raise ConfigError(f"{path}: a governance folder is there already; open it (GovernanceFolder)")
        try:
            for name in ("witness", "artefacts"):
                (path / name).mkdir(parents=True, exist_ok=True)
            (path / "keys").mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{path}: no governance folder can be made here ({error.strerror}); name one that can be written"
            ) from error
        system = path / "keys" / "system.key"
        key = KeyFile(system) if system.exists() else KeyFile.generate(system)  # a crash may have left the key
        for name, profile in (
            ("diary.log", DIARY),
            ("ledger.log", LEDGER),
        ):  # the ledger last: with it the folder exists
            if not (path / name).exists():
                Log.create(path / name, signer=key, clock=clock, profile=profile, witness=path / "witness").close()
        sync_folder(path)
        return cls(path, clock=clock)

    @classmethod
    def open_or_create(cls, path: str | Path, *, clock: Callable[[], int]) -> Self:
        """The folder at `path`, made where there is none."""
        return cls(path, clock=clock) if (Path(path) / "ledger.log").is_file() else cls.create(path, clock=clock)

    @property
    def ledger_path(self) -> Path:
        return self.path / "ledger.log"

    @property
    def diary_path(self) -> Path:
        return self.path / "diary.log"

    @property
    def kill_path(self) -> Path:
        """State file of the kill switch; it may be absent."""
        return self.path / "kill"

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def witness(self) -> Path:
        return self.path / "witness"

    @property
    def artefacts(self) -> Path:
        return self.path / "artefacts"

    @cached_property
    def key(self) -> KeyFile:
        """Signs heads; not a person's key."""
        return KeyFile(self.keys / "system.key")

    @cached_property
    def ledger(self) -> Log:
        """The ledger's log, to append to; `LogLocked` while another process has it."""
        return self._open(self.ledger_path)

    @cached_property
    def diary(self) -> Log:
        """The diary's log, to append to; `LogLocked` while another process has it."""
        return self._open(self.diary_path)

    def _open(self, path: Path) -> Log:
        try:
            return Log.open(path, signer=self.key, clock=self.clock, witness=self.witness)
        except LogLocked as error:
            raise LogLocked(in_use(self.path, path.name)) from error

    def ledger_reader(self) -> LogReader:
        """The ledger's log, to read; also while another process writes. The caller closes it."""
        return LogReader(self.ledger_path)

    def close(self) -> None:
        """Closes the logs that were opened."""
        for name in ("ledger", "diary"):
            log = self.__dict__.pop(name, None)
            if log is not None:
                log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def in_use(folder: Path, log: str) -> str:
    """Who writes to a log of `folder` now, and what one may do about it: for people, and for this machine."""
    try:
        pid = int(bounded.text(folder / f"{log}.lock", 100))
        words = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace").split("\0")
        who = f"process {pid} ({' '.join(words).strip()[:120]})"
    except (OSError, ValueError, DataError):
        who = "another process"
    return (
        f"{folder}: in use by {who}; one at a time may write here. Wait until it is done, or stop the run: "
        f"scripts/kill.py {shlex.quote(str(folder))} --reason TEXT; then try again. To look (promote.py without --to, diary.py, "
        "kill.py --status) nobody has to wait"
    )
