"""The strategy registry: immutable versions of policies, and the only door through which a governed run loads one.

A version is the SHA-256 of its files and of the commit that made them. Its row is an entry of the ledger; its files lie in
``artefacts/VERSION/`` and are compared with the row each time. A model is ``model.json`` and, where something was learned,
``model.safetensors``: nothing else is taken in, and nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from emp_gym import bounded
from emp_gym.governance.errors import UnregisteredPolicy
from emp_gym.governance.ledger.ledger import Ledger
from emp_gym.governance.ledger.record import Version, identity
from emp_gym.governance.log.signed_tree_heads import sync_folder
from emp_gym.types import DataError

FILES = ("config.json", "model.json", "model.safetensors")  # the last is absent where nothing is learned
RECORD = "provenance.json"
LARGEST_HEADER = 16 << 20  # bytes; a header of a network of ours has thousands


class Registry:
    """Versions of `ledger`, with their files below `artefacts`."""

    def __init__(self, ledger: Ledger, artefacts: Path) -> None:
        self.ledger, self.artefacts = ledger, artefacts

    def register(
        self, run: Path, *, trial: int, name: str, agent: str, setting: str, commit: str = "", parent: str = ""
    ) -> Version:
        """The version of the policy in folder `run`, its files copied and its row written unless they are there already.

        `trial` is the entry of the trial that made it. `DataError` for a file that is not what its name says.
        """
        files = hashes(run)
        version = identity(files, commit)
        self._keep(run, version, files)
        if version in self.ledger.state.versions:
            return self.ledger.find(version)
        return self.ledger.register(
            {
                "version": version, "name": name, "agent": agent, "trial": trial, "parent": parent, "files": files,
                "setting": setting, "commit": commit,
            }
        )  # fmt: skip

    def load(self, name: str) -> Path:
        """The folder of a version (by hash, alias or name) for ``Agent.load``, after a look at every byte of it.

        `UnregisteredPolicy` without a row, or where the files are not those of the row.
        """
        version = self.ledger.find(name)
        folder = self.artefacts / version.version
        try:
            found = hashes(folder)
        except DataError as error:
            raise UnregisteredPolicy(f"{version.name} cannot be loaded: {error}") from error
        if found != dict(version.files):
            wrong = [n for n in FILES if found.get(n) != version.files.get(n)]
            raise UnregisteredPolicy(
                f"{folder}: {', '.join(wrong)} differ from what was registered as {version.version[:12]} (entry "
                f"{version.seq}); restore the files, or register what is there as a version of its own"
            )
        return folder

    def keep(self, text: str) -> str:
        """Keeps a text (a configuration, a list of packages) by its content; returns its SHA-256, in hex."""
        data = text.encode()
        name = hashlib.sha256(data).hexdigest()
        path = self.artefacts / f"{name}.txt"
        if not path.exists():
            self.artefacts.mkdir(parents=True, exist_ok=True)
            _write(path.with_suffix(".new"), data)
            path.with_suffix(".new").rename(path)
            sync_folder(self.artefacts)
        return name

    def text(self, name: str) -> str:
        """A kept text; `DataError` where it is not what was kept."""
        path = self.artefacts / f"{name}.txt"
        if not path.is_file() or file_hash(path) != name:
            raise DataError(f"{path}: missing, or not what was kept; expected SHA-256 {name}; restore it from a copy")
        return bounded.text(path)

    def version_of(self, run: Path) -> Version:
        """The registered version whose files are those of folder `run`, whatever commit made them."""
        found = hashes(run)
        for version in self.ledger.state.versions.values():
            if dict(version.files) == found:
                return version
        raise UnregisteredPolicy(
            f"{run}: its policy has no row in {self.ledger.log.path}; only what train.py --govern made can be run under "
            "governance, so that its trials are counted"
        )

    def _keep(self, run: Path, version: str, files: Mapping[str, str]) -> None:
        """Copies the files durably: written aside, synced, renamed as a folder, made read-only."""
        folder = self.artefacts / version
        if folder.exists():
            return
        aside = self.artefacts / f".{version}.new"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for name, expected in files.items():
            data = bounded.read_bytes(run / name, bounded.HUGE)
            if hashlib.sha256(data).hexdigest() != expected:
                raise DataError(f"{run / name} changed while it was registered; train or register it again")
            _write(aside / name, data)
        if (run / RECORD).is_file():  # of what it was trained on, where it names its model by hash
            _write(aside / RECORD, bounded.read_bytes(run / RECORD))
        aside.rename(folder)
        sync_folder(self.artefacts)


def _write(path: Path, data: bytes) -> None:
    """A file that is on disk and read-only when this returns."""
    path.unlink(missing_ok=True)
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    path.chmod(0o444)


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a policy; `DataError` where one is missing or not of its kind."""
    found = {}
    for name in FILES:
        path = folder / name
        if path.is_file():
            _look(path)
            found[name] = file_hash(path)
        elif name != "model.safetensors":
            raise DataError(f"{path} is missing; expected the folder of a finished run")
    return found


def file_hash(path: Path) -> str:
    bounded.must_be_regular(path, bounded.HUGE)
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _look(path: Path) -> None:
    """That a file has the form that its name promises: JSON, or the header of safetensors. Reads no weights."""
    if path.suffix == ".safetensors":
        with path.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            data = stream.read(size) if size <= LARGEST_HEADER else b""
    else:
        data = bounded.read_bytes(path)
    try:
        if not isinstance(bounded.loads(data.decode("utf-8"), path), dict):
            raise ValueError("not an object")
    except (ValueError, DataError) as error:
        raise DataError(f"{path}: not a {path.suffix[1:]} file ({error}); other formats are not taken in") from error
