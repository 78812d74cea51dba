"""``kill.py --status`` tells what a run that begins now would find, and touches nothing."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from emp_gym.cli import kill as command
from emp_gym.governance.errors import LogError, LogTampered
from emp_gym.governance.folder import GovernanceFolder
from emp_gym.governance.kill_switch import state
from emp_gym.governance.kill_switch.switch import KillSwitch, Rearm
from emp_gym.governance.log.signed_tree_heads import KeyFile
from tests.governance.bad_disk import BadDisk
from tests.governance.logs import START_NS, Ticks, create, drafts, key, reopen


@pytest.fixture
def folder(tmp_path) -> Path:
    """A governance folder with a few entries and a key that may re-arm."""
    with GovernanceFolder.create(tmp_path / "log", clock=Ticks()) as made:
        made.ledger.append_many(drafts(5))
        bob = KeyFile.generate(tmp_path / "bob.key").public_key
        (made.keys / "rearm.pub").write_text(f"{bob.hex()} bob\n")
    return tmp_path / "log"


def fresh(folder: Path) -> KillSwitch:
    """The switch of `folder` as a new process finds it."""
    KillSwitch._all.pop(folder.resolve(), None)
    return KillSwitch.at(folder)


def told(kill: state.Kill | None) -> str:
    """A kill by its id; one that nobody recorded, whose id follows from the file, by its cause."""
    return "open" if kill is None else kill.kill_id if kill.recorded else kill.cause.name


def as_a_run_finds_it(folder: Path) -> str:
    """What a run that begins now would find, in a copy: "open", the kill's id, or the error."""
    copy = folder.with_name(folder.name + "-run")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    try:
        with GovernanceFolder(copy, clock=Ticks(start_ns=START_NS + 10**12)) as made:
            KillSwitch._all.pop(copy.resolve(), None)
            switch = KillSwitch.at(copy, log=made.ledger)
            switch.check()
            switch.finish()
            return told(switch.kill)
    except LogError as error:
        return type(error).__name__


def status(folder: Path) -> str:
    before = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    try:
        found = told(KillSwitch.seen(folder))
    except LogError as error:
        found = type(error).__name__
    assert {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()} == before, "nothing is touched"
    return found


def killed(folder: Path, reason: str = "why") -> KillSwitch:
    with GovernanceFolder(folder, clock=Ticks()) as made:
        KillSwitch._all.pop(folder.resolve(), None)
        switch = KillSwitch.at(folder, log=made.ledger)
        switch.trip("alice", reason)
        switch.finish()
    return switch


def rearmed(folder: Path) -> None:
    with GovernanceFolder(folder, clock=Ticks()) as made:
        KillSwitch._all.pop(folder.resolve(), None)
        switch = KillSwitch.at(folder, log=made.ledger)
        bob = KeyFile(folder.parent / "bob.key")
        switch.rearm(Rearm.sign(bob, switch.kill.kill_id, who="bob", reason="fine", ts_ns=1))


def test_plain_cases_agree(folder):
    assert status(folder) == as_a_run_finds_it(folder) == "open"
    switch = killed(folder)
    assert status(folder) == as_a_run_finds_it(folder) == switch.kill.kill_id
    rearmed(folder)
    assert status(folder) == as_a_run_finds_it(folder) == "open"
    (folder / "kill").write_text("stop\n")
    assert status(folder) == as_a_run_finds_it(folder) != "open"
    (folder / "kill").unlink()
    assert status(folder) == as_a_run_finds_it(folder) == "open"


def test_an_order_by_an_unknown_key_is_judged_alike(folder, tmp_path):
    switch = killed(folder)
    other = KeyFile.generate(tmp_path / "mallory.key")
    order = Rearm.sign(other, switch.kill.kill_id, who="m", reason="x", ts_ns=1)
    state.keep(folder / "kill", state.ARMED | {"rearm": order.record})
    assert status(folder) == as_a_run_finds_it(folder) == switch.kill.kill_id
    for path in (folder / "ledger.log", *folder.glob("ledger.log-*")):
        path.unlink()
    found = KillSwitch.seen(folder)
    assert found is not None and found.cause is fresh(folder).kill.cause, "without a ledger, too"


def test_a_ledger_from_before_the_order_is_judged_alike(folder):
    """The ledger knows of the kill and not of its answer, which the file holds."""
    switch = killed(folder)
    shutil.copytree(folder, folder.with_name("old"))
    rearmed(folder)
    for name in ("ledger.log",):
        shutil.copy(folder.with_name("old") / name, folder / name)
    shutil.rmtree(folder / "witness")
    shutil.copytree(folder.with_name("old") / "witness", folder / "witness")
    assert status(folder) == as_a_run_finds_it(folder)
    assert switch.kill is not None


def test_a_ledger_that_is_older_than_its_witness_is_not_called_open(folder, capsys):
    shutil.copy(folder / "ledger.log", folder.with_name("old.log"))
    killed(folder)
    rearmed(folder)
    shutil.copy(folder.with_name("old.log"), folder / "ledger.log")
    assert status(folder) == as_a_run_finds_it(folder) == LogTampered.__name__
    assert command.main([str(folder), "--status"]) == 2
    assert "its end is missing" in capsys.readouterr().err


def test_a_commit_that_a_crash_left_half_done_is_judged_as_the_next_run_will(folder, tmp_path):
    """Of a kill in the ledger, at every moment of its commit."""
    agreed, halfway = 0, 0
    for cut_at in range(1, 60):
        here = tmp_path / f"cut{cut_at}" / "log"
        shutil.copytree(folder, here)
        signer = KeyFile(here / "keys" / "system.key")
        record = state.Kill("ab" * 16, "alice", state.TruncationReason.CALL, "why", 5).record
        flat = tmp_path / f"flat{cut_at}"
        flat.mkdir()
        shutil.copy(folder / "ledger.log", flat)
        with BadDisk(cut_at=cut_at) as disk:
            disk.adopt(flat)
            with suppress(LogError), reopen(flat / "ledger.log", signer=signer, vfs=disk.name) as log:
                log.append("alice", "kill", payload=record)
        for path in flat.glob("ledger.log*"):
            shutil.copy(path, here)
        halfway += (here / "ledger.log-journal").exists()
        assert status(here) == as_a_run_finds_it(here)
        agreed += 1
    assert agreed == 59 and halfway > 5


def test_the_end_of_a_log_is_judged_alike_by_reader_and_writer(tmp_path):
    from emp_gym.governance.log.reader import LogReader
    from emp_gym.governance.log.signed_tree_heads import Witness

    with create(tmp_path / "a.log", witness=tmp_path / "w") as log:
        log.append_many(drafts(9))
    with LogReader(tmp_path / "a.log") as reader:
        head, kept = reader.check_end(Witness(tmp_path / "w"))
        assert head is not None and kept is not None and head.size == kept.size == 9
        assert head.signed_by(key().public_key)


@pytest.mark.parametrize("put", [os.mkfifo, os.mkdir, lambda path: os.symlink("elsewhere", path)])
def test_a_lock_that_is_none_keeps_no_switch_open(put, folder, capsys):
    (folder / "ledger.log.lock").unlink(missing_ok=True)
    put(folder / "ledger.log.lock")
    assert command.main([str(folder), "--reason", "stop now"]) == 0
    told = capsys.readouterr().out
    assert "not in ledger.log yet" in told and "the lock of a log, a plain file" in told
    assert command.main([str(folder), "--status"]) == 1
