"""The strategy registry: rows and files that fit each other, and no policy without a row."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from governance.ledgers import SETTING, Desk

from emp_gym.agents.base import write_arrays
from emp_gym.governance.errors import LedgerError, UnregisteredPolicy
from emp_gym.governance.ledger.record import Version
from emp_gym.governance.ledger.registry import Registry
from emp_gym.types import DataError


class Shelf:
    """A registry, and run folders to put into it."""

    def __init__(self, path: Path) -> None:
        self.path, self.desk = path, Desk(path)
        self.registry = Registry(self.desk.ledger, path / "artefacts")

    def run(self, name: str, weight: float = 1.0) -> Path:
        folder = self.path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"seed": 1}))
        (folder / "model.json").write_text(json.dumps({"agent": name}))
        write_arrays(folder / "model.safetensors", {"w": np.full(3, weight, np.float32)})
        return folder

    def register(self, run: Path, commit: str = "abc") -> Version:
        trial = self.desk.trial()
        return self.registry.register(run, trial=trial, name=run.name, agent="ppo", setting=SETTING, commit=commit)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_what_is_registered_is_loaded_byte_for_byte(shelf: Shelf) -> None:
    run = shelf.run("one")
    version = shelf.register(run)
    for name in (version.version, "one", "challenger", version.version[:9]):
        folder = shelf.registry.load(name)
        assert all((folder / f).read_bytes() == (run / f).read_bytes() for f in version.files)
    assert shelf.registry.version_of(run).version == version.version


def test_no_orphan_policy(shelf: Shelf) -> None:
    """A policy without a row, and a row without its files, cannot be loaded."""
    orphan = shelf.run("orphan")
    with pytest.raises(UnregisteredPolicy, match="has no row"):
        shelf.registry.version_of(orphan)
    with pytest.raises(UnregisteredPolicy, match="is no registered version"):
        shelf.registry.load("orphan")
    version = shelf.register(shelf.run("one"))
    unlisted = shelf.registry.artefacts / ("0" * 64)
    unlisted.mkdir()
    with pytest.raises(UnregisteredPolicy):
        shelf.registry.load("0" * 64)
    (shelf.registry.artefacts / version.version).rename(shelf.path / "elsewhere")
    with pytest.raises(UnregisteredPolicy, match="is missing"):
        shelf.registry.load("one")


@pytest.mark.parametrize("name", ["config.json", "model.json", "model.safetensors"])
def test_one_changed_byte_is_seen_when_it_is_loaded(shelf: Shelf, name: str) -> None:
    version = shelf.register(shelf.run("one"))
    path = shelf.registry.artefacts / version.version / name
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(data))
    with pytest.raises(UnregisteredPolicy, match=r"differ from what was registered|is not|not a"):
        shelf.registry.load("one")


def test_the_same_files_are_one_version_and_other_weights_or_code_another(shelf: Shelf) -> None:
    one = shelf.register(shelf.run("one"))
    size = shelf.desk.log.size
    assert shelf.register(shelf.path / "one").version == one.version
    assert shelf.desk.log.size == size + 1, "a second trial, no second row"
    assert shelf.register(shelf.path / "one", commit="def").version != one.version
    other = shelf.run("two", weight=2.0)
    (other / "model.json").write_bytes((shelf.path / "one" / "model.json").read_bytes())
    assert shelf.register(other).version != one.version


def test_weights_that_are_a_pickle_are_not_taken_in(shelf: Shelf) -> None:
    run = shelf.run("bad")
    (run / "model.safetensors").write_bytes(pickle.dumps({"w": [1.0]}))
    with pytest.raises(DataError, match="not a safetensors file"):
        shelf.register(run)
    (run / "model.safetensors").unlink()
    (run / "model.json").write_text("[1]")
    with pytest.raises(DataError, match="not a json file"):
        shelf.register(run)
    (run / "model.json").unlink()
    (run / "model.pkl").write_bytes(b"x")
    with pytest.raises(DataError, match="is missing"):
        shelf.register(run)


def test_a_version_needs_a_trial(shelf: Shelf) -> None:
    with pytest.raises(LedgerError, match="is no trial"):
        shelf.registry.register(shelf.run("x"), trial=0, name="x", agent="ppo", setting=SETTING)


def test_a_kept_text_is_what_was_kept(shelf: Shelf) -> None:
    name = shelf.registry.keep("a==1\n")
    assert shelf.registry.keep("a==1\n") == name and shelf.registry.text(name) == "a==1\n"
    path = shelf.registry.artefacts / f"{name}.txt"
    path.chmod(0o644)
    path.write_text("a==2\n")
    with pytest.raises(DataError, match="not what was kept"):
        shelf.registry.text(name)
