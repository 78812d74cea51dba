"""The governance folder: what it holds, that it opens again, and that one writer has it at a time."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from governance.logs import Ticks

from emp_gym.governance.errors import LogError, LogLocked
from emp_gym.governance.folder import GovernanceFolder
from emp_gym.governance.verify import verify
from emp_gym.types import ConfigError


def test_a_new_folder_holds_everything_and_opens_again(tmp_path: Path) -> None:
    with GovernanceFolder.open_or_create(tmp_path / "g", clock=Ticks()) as folder:
        folder.ledger.append("alice", "note", payload={"i": 1})
        folder.diary.append("alice", "decision")
    with GovernanceFolder.open_or_create(tmp_path / "g", clock=Ticks()) as folder:
        assert [entry.kind for entry in folder.ledger.entries()] == ["note"]
        assert (folder.ledger.profile, folder.diary.profile) == ("ledger", "diary")
        with folder.ledger_reader() as reader:
            assert reader.size == 1
    assert {p.name for p in (tmp_path / "g").iterdir()} >= {"ledger.log", "diary.log", "keys", "witness", "artefacts"}
    assert stat.S_IMODE((tmp_path / "g" / "keys").stat().st_mode) == 0o700
    for name in ("ledger.log", "diary.log"):
        assert not verify(tmp_path / "g" / name, tmp_path / "g" / "witness").findings


def test_the_second_writer_is_refused_and_a_reader_is_not(tmp_path: Path) -> None:
    with GovernanceFolder.create(tmp_path, clock=Ticks()) as folder:
        folder.ledger.append("alice", "note")
        other = GovernanceFolder(tmp_path, clock=Ticks())
        with pytest.raises(LogLocked, match=rf"in use by process {os.getpid()} \(.*scripts/kill.py {tmp_path}"):
            _ = other.ledger
        (tmp_path / "ledger.log.lock").write_text("no number\n")
        with pytest.raises(LogLocked, match="in use by another process"):
            _ = other.ledger
        with other.ledger_reader() as reader:
            assert reader.size == 1
    assert other.ledger.size == 1
    other.close()


def test_what_is_no_folder_and_what_is_one_already_are_said(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="not a governance folder"):
        GovernanceFolder(tmp_path, clock=Ticks())
    GovernanceFolder.create(tmp_path, clock=Ticks())
    with pytest.raises(ConfigError, match="already"):
        GovernanceFolder.create(tmp_path, clock=Ticks())


def test_a_crash_while_creating_is_mended_by_creating_again(tmp_path: Path) -> None:
    whole = GovernanceFolder.create(tmp_path, clock=Ticks())
    whole.ledger_path.unlink()
    key = whole.key.public_key
    assert GovernanceFolder.open_or_create(tmp_path, clock=Ticks()).ledger.public_key == key
