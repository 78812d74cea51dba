"""The verifier ends, whatever the file is: whole, not whole, or one line that says why it cannot be told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from emp_gym.governance import verify
from emp_gym.governance.errors import LogError
from emp_gym.governance.log.writer import DIARY
from emp_gym.governance.verify import NotALog, ReadingBudget, TooMuch
from tests.governance.hostile import DEEP, ENDLESS, HANDS, LOOK_WHOLE, damage
from tests.governance.logs import create, drafts, key, reopen
from tests.governance.tampering import content, opened


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """A whole ledger of 150 entries, with a witness, in a folder of its own."""
    folder = tmp_path_factory.mktemp("sound")
    with create(folder / "a.log", witness=folder / "w") as log:
        for first in range(0, 150, 30):
            log.append_many(drafts(30, first))
    return folder


@pytest.fixture
def log(sound, tmp_path) -> Path:
    shutil.copytree(sound, tmp_path / "copy")
    return tmp_path / "copy" / "a.log"


def told(capfd, *words: object) -> tuple[int, str, str]:
    status = verify.main([str(word) for word in words])
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    return status, out, err


def test_a_whole_log_is_whole(log, capfd):
    status, out, err = told(capfd, log, "--witness", log.parent / "w")
    assert (status, err) == (0, "") and out.startswith(f"{log}: whole\n")


@pytest.mark.parametrize("name", HANDS)
def test_a_hostile_file_is_judged_or_given_up_in_one_line(name, log, sound, capfd):
    HANDS[name](log)
    began = time.monotonic()
    status, out, err = told(capfd, log)
    assert time.monotonic() - began < 10
    if name in LOOK_WHOLE:
        assert status in (0, 1, 2)
        assert status != 0 or content(log) == content(sound / "a.log")
        return
    assert status in (1, 2), name
    assert not out.startswith(f"{log}: whole")
    assert (status == 2) == (err.count("\n") == 1 and err.startswith("verify: ")) and "\x1b" not in out + err


def test_an_entry_with_a_huge_number_is_found_and_named(log):
    HANDS["entry 2^62"](log)
    found = [str(finding) for finding in verify.verify(log).findings]
    assert any(f"an entry {1 << 62}" in text and "bytes may hold" in text for text in found)
    assert any(text.startswith("entry 149: expected an entry, got none") for text in found)


def test_tables_that_are_views_are_not_asked(log):
    HANDS["entries from an endless view"](log)
    (finding,) = verify.verify(log).findings
    assert finding.where == "schema" and "nothing else was looked at" in finding.got


@pytest.mark.parametrize("what", ["pipe", "device", "folder", "circle", "socket"])
def test_what_is_no_file_is_said_to_be_that(what, tmp_path, capfd):
    import socket

    path = tmp_path / "x"
    if what == "pipe":
        os.mkfifo(path)
    elif what == "device":
        path = Path("/dev/zero")
    elif what == "folder":
        path.mkdir()
    elif what == "circle":
        path.symlink_to(path)
    else:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    status, out, err = told(capfd, path)
    assert (status, out) == (2, "") and err.startswith("verify: ")
    assert {"circle": "x"}.get(what, what) in err


@pytest.mark.parametrize("what", ["pipe", "device", "deep", "long", "number", "folder"])
def test_a_hostile_file_in_a_witness_is_a_finding(what, log):
    path = log.parent / "w" / f"{verify.verify(log).log_id}-x.json"
    if what == "pipe":
        os.mkfifo(path)
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "folder":
        path.mkdir()
    else:
        path.write_text({"deep": DEEP[:60_000], "long": "1" * 100_000, "number": '{"head": {"size": 1e999}}'}[what])
    (finding,) = verify.verify(log, log.parent / "w").findings
    assert finding.where == f"witness {path.name}"


def test_an_entry_about_people_that_is_no_json_is_passed_over(tmp_path):
    with create(tmp_path / "a.log") as log:
        log.append("mallory", "revoke", payload=DEEP.encode())
        log.append("mallory", "revoke", payload=b'{"name": ' + b"9" * 5000 + b', "approvals": []}')
        log.append("mallory", "promote", payload=b"[1]")
    report = verify.verify(tmp_path / "a.log")
    assert report.whole and report.revoked == []


def test_what_a_ledger_says_of_keys_is_spelled_out(tmp_path):
    payload = {"name": "al\x1b[2Jice", "reason": "lost\nwhole", "approvals": [{"signer": "bo\u202eb"}], "ends": []}
    with create(tmp_path / "a.log") as log:
        log.append("mallory", "revoke", payload=payload)
    report = verify.verify(tmp_path / "a.log")
    assert report.whole and report.revoked == [r"entry 0: the key of al\x1b[2Jice is revoked by bo\u202eb: lost\nwhole"]


def test_a_journal_that_names_another_file_does_not_have_it_removed(log, capfd):
    """SQLite takes the name at a journal's end for that of a journal of several databases, and removes it after a rollback."""
    victim = log.parent / "victim"
    victim.write_bytes(b"")
    with closing(sqlite3.connect(log, isolation_level=None)) as db:
        db.execute("PRAGMA cache_size = 1")
        db.execute("BEGIN")
        db.execute("CREATE TABLE more (x)")
        db.execute("INSERT INTO more VALUES (zeroblob(200000))")
        shutil.copytree(log.parent, log.parent.parent / "crashed")
        db.execute("ROLLBACK")
    crashed = log.parent.parent / "crashed" / "a.log"
    journal = crashed.with_name("a.log-journal")
    assert journal.stat().st_size > 512
    assert told(capfd, crashed)[0] == 0, "as it is, the journal is rolled back in a copy"
    name = str(victim).encode()
    end = name + len(name).to_bytes(4, "big") + sum(name).to_bytes(4, "big") + verify.SUPER_JOURNAL
    with journal.open("ab") as stream:
        stream.write((1).to_bytes(4, "big") + end)
    status, _, err = told(capfd, crashed)
    assert status == 2 and "names another file" in err and victim.exists()
    with pytest.raises(LogError, match="names another file"):
        reopen(crashed)
    assert victim.exists()


def test_a_writer_that_holds_the_file_is_no_damage(log, monkeypatch):
    monkeypatch.setattr(verify, "BUSY_S", 0.05)
    with closing(sqlite3.connect(log, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        with pytest.raises(NotALog, match="a writer holds it"):
            verify.verify(log)
        db.execute("ROLLBACK")
    assert verify.verify(log).whole


def test_sqlite_is_interrupted_where_it_does_not_get_on(log, monkeypatch):
    monkeypatch.setattr(verify, "STALL_S", 0.05)
    watch = ReadingBudget([log])
    with closing(verify._connected(log, "ro", watch)) as db, pytest.raises(sqlite3.OperationalError, match="interrupted") as stopped:
        db.execute(f"{ENDLESS}x FROM n WHERE x < 0").fetchall()
    assert "given up" in verify._not_the_files_fault(stopped.value)


def test_more_rows_than_a_file_holds_are_not_read(log):
    watch = ReadingBudget([log])
    with closing(sqlite3.connect(":memory:")) as db:
        with pytest.raises(TooMuch, match="rows or more"):
            for _ in watch.rows(db, f"{ENDLESS}x FROM n", least=verify.LEAST_ENTRY):
                pass
        with pytest.raises(TooMuch):
            for _ in watch.rows(db, f"{ENDLESS}zeroblob(100000) FROM n"):
                pass
        assert len(list(ReadingBudget([log]).rows(db, "SELECT 1 UNION SELECT 2"))) == 2


def test_a_process_that_does_not_get_on_is_ended_by_the_system(log):
    story = (
        f"import sys; sys.path.insert(0, {str(Path(verify.__file__).parent)!r})\n"
        "import verify\n"
        "verify.ReadingBudget.alone, verify.STALL_S = True, -0.8\n"
        f"verify.ReadingBudget([verify.Path({str(log)!r})])\n"
        "while True: pass\n"
    )
    assert subprocess.run([sys.executable, "-c", story], timeout=60).returncode == -signal.SIGALRM


@pytest.mark.parametrize(
    ("story", "says"),
    [
        ("while True: pass", "not judged in time"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "status -11"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGALRM)", "nothing could be read or checked"),
        ("raise RecursionError('so \\x1b[2J deep')", "RecursionError: so \\x1b[2J deep"),
        ("print('whole')", "cannot be read"),
        ("print('[0, 1')", "cannot be read"),
    ],
)
def test_a_worker_that_dies_or_stalls_is_exit_status_2(story, says, log, tmp_path, monkeypatch, capfd):
    worker = tmp_path / "worker.py"
    worker.write_text(story)
    monkeypatch.setattr(verify, "__file__", str(worker))
    monkeypatch.setattr(verify, "STALL_S", -1.5)
    monkeypatch.setattr(verify, "SLOWEST", 10**12)
    if "not judged" not in says:
        monkeypatch.setattr(verify, "STALL_S", 7.0)
    status, out, err = told(capfd, log)
    assert (status, out) == (2, "") and says in err and err.count("\n") == 1


def test_long_payloads_are_read_in_pages_that_fit_memory(tmp_path, monkeypatch):
    with create(tmp_path / "a.log", profile=DIARY) as log:
        for i in range(40):
            log.append("a", "k", payload=bytes([i]) * 10_000)
    monkeypatch.setattr(verify, "PAGE_BYTES", 25_000)
    report = verify.verify(tmp_path / "a.log")
    assert report.whole and report.entries == 40
    with opened(tmp_path / "a.log") as db:
        db.execute("UPDATE entry SET payload = zeroblob(10000) WHERE seq = 33")
    assert [finding.where for finding in verify.verify(tmp_path / "a.log").findings] == ["entry 33 or its payload"]


def outcomes(sound: Path, folder: Path, count: int, seed: int) -> tuple[dict[str, int], float]:
    """Damages `count` copies and verifies each; returns how often each outcome came, and the longest time, s."""
    before, random, slowest = content(sound / "a.log"), Random(seed), 0.0
    found = {"whole": 0, "found": 0, "given up": 0}
    for number in range(count):
        here = folder / str(number)
        here.mkdir()
        shutil.copy(sound / "a.log", here / "a.log")
        damage(here / "a.log", random)
        began = time.monotonic()
        try:
            report = verify.verify(here / "a.log")
        except NotALog:
            found["given up"] += 1
        else:
            found["whole" if report.whole else "found"] += 1
            assert not report.whole or content(here / "a.log") in (before, None), f"damage {number} of seed {seed}"
        slowest = max(slowest, time.monotonic() - began)
        shutil.rmtree(here)
    return found, slowest


def test_random_damage_is_found_or_changes_nothing(sound, tmp_path):
    found, _ = outcomes(sound, tmp_path, 150, seed=3)
    assert found["found"] > 20 and found["given up"] > 5


@pytest.mark.long
@pytest.mark.timeout(600)
def test_thousands_of_damaged_logs_end_in_time(sound, tmp_path, evidence):
    found, slowest = outcomes(sound, tmp_path, 10_000, seed=77)
    assert slowest < 10
    evidence("damaged logs", n=10_000, seed=77, slowest_s=round(slowest, 2), wrong_whole=0, other_ends=0, **found)


def test_json_says_the_same(log, capfd):
    HANDS["entry 2^62"](log)
    status, out, _ = told(capfd, log, "--json", "--public-key", key().public_key.hex())
    assert status == 1 and json.loads(out)["whole"] is False
