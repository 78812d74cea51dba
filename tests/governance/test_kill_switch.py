"""The kill switch as a latch: every way to close it, what survives, and the one way to open it."""

from __future__ import annotations

import copy
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from governance.logs import Ticks, create, key, reopen

from emp_gym.governance.errors import LogError
from emp_gym.governance.kill_switch import state
from emp_gym.governance.kill_switch.switch import KillSwitch, Rearm, RearmRefused
from emp_gym.governance.log.reader import LogReader
from emp_gym.governance.log.signed_tree_heads import KeyFile
from emp_gym.types import ConfigError, TruncationReason


def at(folder: Path, **options) -> KillSwitch:
    return KillSwitch.at(folder, **{"clock": Ticks(), "keys": [key().public_key], **options})


def restarted(folder: Path, **options) -> KillSwitch:
    """The switch as a new process finds it."""
    switch = KillSwitch._all.pop(folder.resolve(), None)
    if switch is not None:
        switch.finish()
    return at(folder, **options)


def order(switch: KillSwitch, signer=None, **changes) -> Rearm:
    fields = {"kill_id": switch.kill.kill_id, "who": "bob", "reason": "model replaced", "ts_ns": 7} | changes
    return Rearm.sign(signer or key(), fields.pop("kill_id"), **fields)


def entries(folder: Path) -> list[str]:
    with LogReader(folder / "ledger.log") as reader:
        return [entry.kind for entry in reader.entries()]


# ------------------------------------------------------------------------------------------------------------- closing it


def test_a_new_folder_is_armed_and_says_so(tmp_path):
    switch = at(tmp_path / "new")
    assert not switch.check() and switch.kill is None
    assert json.loads((tmp_path / "new" / "kill").read_text()) == {"state": "armed"}


def test_a_call_closes_it_at_once_for_good_and_on_disk(tmp_path):
    switch = at(tmp_path)
    kill = switch.trip("alice", "wrong model")
    assert switch.check() and (kill.who, kill.cause, kill.reason) == ("alice", TruncationReason.CALL, "wrong model")
    assert json.loads((tmp_path / "kill").read_text())["kill"]["kill_id"] == kill.kill_id
    assert switch.trip("bob", "again") == kill, "the first cause stands"
    assert restarted(tmp_path).kill == kill


def reasons(kills) -> list[tuple[str, str]]:
    return [(one.who, one.reason) for one in kills]


def test_a_second_reason_is_noted_beside_the_first_in_file_and_ledger(tmp_path):
    with create(tmp_path / "ledger.log") as log:
        switch = at(tmp_path, log=log)
        first = switch.trip("alice", "first")
        switch.trip("bob", "second"), switch.trip("bob", "second"), switch.trip_within("a rule", TruncationReason.RATE)
        assert KillSwitch.request(tmp_path, "carol", "third", 6) == first
        (tmp_path / "kill").chmod(0o600)  # whatever else happens to the file
        assert switch.check() and switch.kill == first
        wanted = [("bob", "second"), ("carol", "third")]
        assert reasons(switch.noted) == wanted
        switch.finish()
        assert sorted(reasons(KillSwitch.noted_in(tmp_path, first))) == wanted
        assert reasons(state.read(tmp_path / "kill")[1]) == wanted
        assert [(entry.kind, entry.actor) for entry in log.entries()] == [
            ("kill", "alice"), ("kill-noted", "bob"), ("kill-noted", "carol"),
        ]  # fmt: skip
        assert all(entry.value["stands"] == first.kill_id for entry in log.entries(kind="kill-noted"))
        switch.rearm(order(switch))
        assert not switch.check() and switch.noted == () and KillSwitch.noted_in(tmp_path, first)
    assert KillSwitch.seen(tmp_path) is None and not restarted(tmp_path).check()


def test_what_was_noted_without_a_ledger_reaches_its_next_writer(tmp_path):
    create(tmp_path / "ledger.log").close()
    first = KillSwitch.request(tmp_path, "alice", "first", 5)
    KillSwitch.request(tmp_path, "bob", "x" * 1000, 6)
    for _ in range(2):  # and only once
        with reopen(tmp_path / "ledger.log") as log:
            restarted(tmp_path, log=log).finish()
            assert [entry.kind for entry in log.entries()] == ["kill", "kill-noted"]
    assert KillSwitch.seen(tmp_path) == first
    assert reasons(KillSwitch.noted_in(tmp_path, first)) == [("bob", "x" * state.NOTED_TEXT)]


def test_a_hundred_reasons_leave_a_file_that_can_be_read(tmp_path):
    first = KillSwitch.request(tmp_path, "alice", "first", 5)
    for i in range(100):
        assert KillSwitch.request(tmp_path, "bob", f"{i} " + "\u00e9" * 5000, 6 + i) == first
    assert (tmp_path / "kill").stat().st_size < state.LONGEST
    kept = KillSwitch.noted_in(tmp_path, first)
    assert [one.reason.split()[0] for one in kept] == [str(i) for i in range(100 - state.NOTED, 100)], "the last"


def test_what_is_scribbled_over_a_kill_is_one_more_reason(tmp_path):
    with create(tmp_path / "ledger.log") as log:
        switch = at(tmp_path, log=log)
        kill = switch.trip("alice", "first")
        (tmp_path / "kill").write_text("stop!\n")
        assert switch.check() and switch.check() and switch.kill == kill
        switch.finish()
        assert [entry.value["reason"] for entry in log.entries(kind="kill-noted")] == ["stop!"]


def test_a_kill_by_file_says_which_when_and_what(tmp_path):
    switch = at(tmp_path)
    (tmp_path / "kill").write_text("stop now,\nplease\n")
    os.utime(tmp_path / "kill", ns=(7, 1_700_000_000_000_000_123))
    assert switch.check() and switch.kill.ts_ns == 1_700_000_000_000_000_123
    assert str(switch.kill).endswith(f"by file {tmp_path / 'kill'}: stop now, please")
    found = switch.kill
    assert KillSwitch.request(tmp_path, "bob", "too", 5) == found, "and it keeps its name when a reason is noted"
    assert switch.check() and switch.kill == found and reasons(switch.noted) == [("bob", "too")]
    assert KillSwitch.seen(tmp_path) == found == restarted(tmp_path).kill


def test_there_is_one_switch_a_folder_and_a_copy_is_the_switch(tmp_path, monkeypatch):
    switch = at(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert at(Path(".")) is switch is copy.deepcopy(switch) is pickle.loads(pickle.dumps(switch))


WRITINGS = ["stop", "", "{", "[]", "null", '"armed"', '{"state": "open"}', '{"state": "armed", "rearm": 7}',
            '{"state": "tripped"}', '{"state": "tripped", "kill": {"kill_id": 1}}', "[" * 60_000, "\0\xff"]  # fmt: skip


@pytest.mark.parametrize("text", WRITINGS, ids=range(len(WRITINGS)))
def test_whatever_is_written_into_the_file_closes_it(tmp_path, text):
    switch = at(tmp_path)
    assert not switch.check()
    (tmp_path / "kill").write_text(text, encoding="latin-1")
    assert switch.check() and switch.kill.cause is TruncationReason.FILE
    assert restarted(tmp_path).kill == switch.kill, "every process names it alike"


def test_a_file_that_is_taken_away_or_cannot_be_read_closes_it(tmp_path):
    gone = at(tmp_path / "gone")
    (tmp_path / "gone" / "kill").unlink()
    assert gone.check() and gone.kill.cause is TruncationReason.STATE
    gone.finish()
    assert restarted(tmp_path / "gone").kill == gone.kill, "it was written again, closed"
    folder = at(tmp_path / "folder")
    (tmp_path / "folder" / "kill").unlink()
    (tmp_path / "folder" / "kill").mkdir()
    assert folder.check() and folder.kill.cause is TruncationReason.STATE
    pipe = at(tmp_path / "pipe")
    (tmp_path / "pipe" / "kill").unlink()
    os.mkfifo(tmp_path / "pipe" / "kill")
    assert pipe.check(), "and nobody waits for the other end of the pipe"


def test_a_folder_that_is_taken_away_closes_it(tmp_path):
    switch = at(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    assert switch.check() and switch.kill.cause is TruncationReason.STATE
    switch.finish()
    assert "not on disk" in switch.trouble and switch.check()


def test_a_folder_in_which_no_state_can_be_kept_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="nothing may run without one"):
        at(tmp_path / "file" / "below")


def test_touching_the_armed_file_closes_nothing(tmp_path):
    switch = at(tmp_path)
    os.utime(tmp_path / "kill", ns=(1, 1))
    assert not switch.check()


def test_a_signal_closes_it_at_the_next_look(tmp_path):
    switch, before = at(tmp_path), signal.getsignal(signal.SIGUSR1)
    try:
        switch.listen()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert switch.kill is None, "the handler sets a flag only"
        assert switch.check() and switch.kill.cause is TruncationReason.SIGNAL and "SIGUSR1" in switch.kill.reason
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_request_from_outside_needs_the_folder_and_nothing_else(tmp_path):
    switch = at(tmp_path)
    kill = KillSwitch.request(tmp_path, "carol", "by hand", 5)
    assert switch.check() and switch.kill == kill and kill.cause is TruncationReason.COMMAND
    assert KillSwitch.request(tmp_path, "dave", "again", 6) == kill == KillSwitch.seen(tmp_path)
    with pytest.raises(ConfigError, match="nothing was stopped"):
        KillSwitch.request(tmp_path / "typo", "carol", "by hand", 5)


def test_text_that_no_file_can_hold_closes_it_all_the_same(tmp_path):
    switch = at(tmp_path)
    switch.trip("a\udce4", "\ud800" * 3)
    assert restarted(tmp_path).kill == switch.kill


# --------------------------------------------------------------------------------------------------------- disk and ledger


def test_the_ledger_is_told_after_the_disk(tmp_path):
    log = create(tmp_path / "ledger.log")
    switch = at(tmp_path, log=log)
    switch.subject = "ab" * 32
    kill = switch.trip("alice", "why")
    switch.finish()
    (entry,) = log.entries(kind="kill")
    assert entry.value == kill.record and entry.actor == "alice" and entry.subject_hash == "ab" * 32
    assert kill.record["cause"] == "call"


def test_removing_or_overwriting_the_file_does_not_open_what_the_ledger_says_is_closed(tmp_path):
    with create(tmp_path / "ledger.log") as log:
        kill = at(tmp_path, log=log).trip("alice", "why")
        at(tmp_path).finish()
    for tamper in (lambda path: path.unlink(), lambda path: path.write_text('{"state": "armed"}')):
        tamper(tmp_path / "kill")
        switch = restarted(tmp_path)
        assert switch.check() and switch.kill == kill == KillSwitch.seen(tmp_path)
        switch.finish()
        assert json.loads((tmp_path / "kill").read_text())["state"] == "tripped", "and the file says so again"


def test_a_forged_order_in_the_file_opens_nothing(tmp_path):
    switch = at(tmp_path)
    switch.trip("alice", "why")
    stranger = KeyFile.generate(tmp_path / "stranger.key")
    for forged in (order(switch, stranger), order(switch, kill_id="00" * 16), order(switch)):
        record = forged.record
        if forged.public_key == key().public_key:
            record |= {"who": "mallory"}  # signed for somebody else
        (tmp_path / "kill").write_text(json.dumps({"state": "armed", "rearm": record}))
        assert switch.check()
        switch.finish()
    assert KillSwitch.seen(tmp_path) == switch.kill, "it was written over"


def test_a_ledger_that_cannot_be_written_stops_no_kill(tmp_path, monkeypatch, caplog):
    log = create(tmp_path / "ledger.log")
    switch = at(tmp_path, log=log)
    monkeypatch.setattr(log, "append", lambda *a, **k: (_ for _ in ()).throw(LogError("disk full")))
    switch.trip("alice", "why")
    switch.finish()
    assert switch.check() and restarted(tmp_path).check()
    assert "not in the ledger: disk full" in switch.trouble and "disk full" in caplog.text
    log.close()
    with reopen(tmp_path / "ledger.log") as again:
        told = restarted(tmp_path, log=again)
        told.finish()
        assert [entry.value["kill_id"] for entry in again.entries(kind="kill")] == [switch.kill.kill_id]


def test_a_slow_ledger_or_disk_holds_nobody_up(tmp_path, monkeypatch):
    log, release = create(tmp_path / "ledger.log"), threading.Event()
    switch = at(tmp_path, log=log)
    append, keep = log.append, state.keep
    monkeypatch.setattr(log, "append", lambda *a, **k: (release.wait(), append(*a, **k)))
    began = time.monotonic()
    switch.trip("alice", "slow ledger")
    assert time.monotonic() - began < 0.5 and switch.check()
    release.set()
    switch.finish()
    slow = at(tmp_path / "disk")
    release.clear()
    monkeypatch.setattr(state, "keep", lambda *a: (release.wait(), keep(*a)))
    began = time.monotonic()
    slow.trip_within("a rule", TruncationReason.RATE)
    assert time.monotonic() - began < 0.5 and slow.check()
    release.set()
    slow.finish()
    assert restarted(tmp_path / "disk").kill == slow.kill


def test_a_full_disk_leaves_a_file_that_means_closed(tmp_path, monkeypatch):
    switch = at(tmp_path)
    real = Path.open

    def full(self, mode="r", *args, **kwargs):
        if "w" in mode:
            raise OSError(28, "No space left on device")
        return real(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full)
    switch.trip("alice", "why")
    switch.finish()
    assert switch.check() and (tmp_path / "kill").read_bytes() == b""
    monkeypatch.undo()
    assert restarted(tmp_path).check()


def test_a_ledger_that_cannot_be_read_lets_nobody_start(tmp_path):
    (tmp_path / "ledger.log").write_text("this is no log")
    with pytest.raises(LogError):
        at(tmp_path)


def test_a_kill_entry_of_another_form_is_a_kill(tmp_path):
    with create(tmp_path / "ledger.log") as log:
        log.append("somebody", "kill")
        log.append("somebody", "rearm", payload={"please": True})
    assert restarted(tmp_path).kill.cause is TruncationReason.STATE


# ------------------------------------------------------------------------------------------------------------- opening it


def test_a_signed_order_opens_it_and_stands_in_the_ledger(tmp_path):
    log = create(tmp_path / "ledger.log")
    switch = at(tmp_path, log=log)
    switch.trip("alice", "why")
    switch.rearm(order(switch))
    assert not switch.check() and [entry.kind for entry in log.entries()] == ["kill", "rearm"]
    log.close()
    again = restarted(tmp_path)
    assert not again.check() and KillSwitch.seen(tmp_path) is None
    again.log = None
    again.trip("carol", "another day")
    with pytest.raises(RearmRefused, match=r"ledger\.log is not open"):
        again.rearm(order(again))


def test_an_old_order_does_not_open_a_new_kill(tmp_path):
    switch = at(tmp_path)
    switch.trip("alice", "first")
    first = order(switch)
    switch.rearm(first)
    switch.trip("alice", "second")
    with pytest.raises(RearmRefused, match="the order is for kill"):
        switch.rearm(first)
    switch.finish()
    (tmp_path / "kill").write_text(json.dumps({"state": "armed", "rearm": first.record}))
    assert switch.check(), "nor does the old file"


def test_only_a_key_that_may_opens_it(tmp_path):
    switch = at(tmp_path)
    with pytest.raises(RearmRefused, match="nothing to re-arm"):
        switch.rearm(Rearm.sign(key(), "00" * 16, who="bob", reason="x", ts_ns=1))
    switch.trip("alice", "why")
    stranger = KeyFile.generate(tmp_path / "stranger.key")
    with pytest.raises(RearmRefused, match="not signed by a key that may"):
        switch.rearm(order(switch, stranger))
    good = order(switch)
    for field, value in (("who", "eve"), ("reason", "because"), ("ts_ns", 8)):
        forged = Rearm.read(good.record | {field: value})
        with pytest.raises(RearmRefused, match="not signed"):
            switch.rearm(forged)
    switch.keys = ()
    with pytest.raises(RearmRefused, match="no key may re-arm"):
        switch.rearm(good)
    with pytest.raises(ConfigError, match="who and why"):
        order(switch, reason=" ")
    assert switch.check()


def test_it_stays_closed_where_the_order_cannot_be_recorded(tmp_path, monkeypatch):
    log = create(tmp_path / "ledger.log")
    switch = at(tmp_path, log=log)
    switch.trip("alice", "why")
    switch.finish()
    for target, name, error in ((log, "append", LogError("full")), (state, "keep", OSError("full"))):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, lambda *a, error=error, **k: (_ for _ in ()).throw(error))
            with pytest.raises(RearmRefused, match="could not be recorded"):
                switch.rearm(order(switch))
        assert switch.check()


def test_keys_come_from_the_folder(tmp_path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "rearm.pub").write_text(f"# people\n{key().public_key.hex()} bob\n\n")
    switch = KillSwitch.at(tmp_path)
    assert switch.keys == (key().public_key,)
    (tmp_path / "keys" / "rearm.pub").write_text("bob\n")
    with pytest.raises(ConfigError, match="64 hex digits"):
        restarted(tmp_path, keys=None)


def test_an_order_in_the_file_opens_other_processes_too(tmp_path):
    """Two switches of one folder stand for two processes."""
    here = at(tmp_path)
    there = restarted(tmp_path)
    here.trip("alice", "why")
    assert there.check() and there.kill == here.kill
    here.rearm(order(here))
    assert not there.check()


def test_two_processes_that_close_it_at_once_end_with_one_name_for_it(tmp_path):
    here = at(tmp_path)
    there = restarted(tmp_path)
    here._close(here._new("one", "x", TruncationReason.CALL)), there._close(there._new("two", "y", TruncationReason.CALL))
    here.finish(), there.finish()
    assert here.check() and there.check()
    assert here.kill == there.kill == state.load(tmp_path / "kill")


# -------------------------------------------------------------------------------------------------------------- the command


def command(*arguments: object, root: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "scripts/kill.py", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(root)}  # this checkout, whatever is installed
    return subprocess.run(line, cwd=root, env=environment, capture_output=True, text=True)


def test_the_command_closes_shows_and_opens(tmp_path, root):
    (tmp_path / "keys").mkdir(mode=0o700)
    KeyFile.generate(tmp_path / "keys" / "system.key")
    bob = KeyFile.generate(tmp_path / "bob.key")
    (tmp_path / "keys" / "rearm.pub").write_text(bob.public_key.hex() + " bob\n")
    create(tmp_path / "ledger.log", signer=KeyFile(tmp_path / "keys" / "system.key")).close()
    switch = restarted(tmp_path, keys=None)
    assert command(tmp_path, "--status", root=root).returncode == 0
    closed = command(tmp_path, "--who", "alice", "--reason", "test", root=root)
    assert closed.returncode == 0 and "closed: kill" in closed.stdout and "entered in" in closed.stdout, closed.stderr
    assert switch.check() and switch.kill.cause is TruncationReason.COMMAND and switch.kill.reason == "test"
    again = command(tmp_path, "--who", "carol", "--reason", "too", root=root)
    assert again.returncode == 0 and "closed already: kill" in again.stdout, again.stderr
    assert "noted beside it: carol: too" in again.stdout
    shown = command(tmp_path, "--status", root=root)
    assert "noted while closed: kill" in shown.stdout and "by carol (command): too" in shown.stdout
    assert shown.returncode == 1 and "by alice (command): test" in shown.stdout
    refused = command(tmp_path, "--rearm", "--reason", "ok", root=root)
    assert refused.returncode == 2 and "--key" in refused.stderr
    wrong = command(tmp_path, "--rearm", "--reason", "ok", "--key", tmp_path / "keys" / "system.key", root=root)
    assert wrong.returncode == 1 and "not signed by a key that may" in wrong.stderr
    opened = command(tmp_path, "--rearm", "--reason", "ok", "--key", tmp_path / "bob.key", root=root)
    assert opened.returncode == 0, opened.stderr
    assert "by alice (command): test" in opened.stdout and "by carol (command): too" in opened.stdout
    assert not switch.check() and entries(tmp_path) == ["kill", "kill-noted", "rearm"]
    file = command(tmp_path / "ledger.log", root=root)
    assert file.returncode == 2 and f"name {tmp_path}, which it lies in" in file.stderr
    typo = command(tmp_path / "typo", root=root)
    assert typo.returncode == 2 and "no such folder" in typo.stderr


def test_the_command_closes_it_while_a_run_holds_the_ledger(tmp_path, root):
    (tmp_path / "keys").mkdir(mode=0o700)
    signer = KeyFile.generate(tmp_path / "keys" / "system.key")
    with create(tmp_path / "ledger.log", signer=signer) as log:
        switch = restarted(tmp_path, log=log)
        closed = command(tmp_path, "--reason", "test", root=root)
        assert closed.returncode == 0 and "its next writer, enters it" in closed.stdout, closed.stderr
        sign = ("--rearm", "--reason", "ok", "--key", tmp_path / "keys" / "system.key")
        held = command(tmp_path, *sign, root=root)
        assert held.returncode == 2 and f"in use by process {os.getpid()} (" in held.stderr
        assert switch.check()
        switch.finish()
        assert [entry.kind for entry in log.entries()] == ["kill"], "the run enters it"


def test_what_stood_before_a_process_began_is_no_news_and_what_comes_later_is(tmp_path, caplog):
    at(tmp_path).trip("alice", "wrong model")
    KillSwitch.request(tmp_path, "bob", "spread is gone, too", 8)
    caplog.clear()
    switch = restarted(tmp_path)
    assert switch.check() and [one.who for one in switch.noted] == ["bob"] and not caplog.records
    KillSwitch.request(tmp_path, "carol", "and mine", 9)
    assert switch.check() and len(switch.noted) == 2
    assert [record.getMessage().count("and mine") for record in caplog.records] == [1]
