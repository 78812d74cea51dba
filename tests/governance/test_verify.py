"""The verifier as a program: exit codes, what it says of what it cannot see, and that it stands alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import apsw
import pytest

from emp_gym.governance import verify
from emp_gym.governance.errors import LogError
from emp_gym.governance.log.store import SCHEMA
from emp_gym.governance.log.writer import DIARY, LEDGER
from tests.governance.bad_disk import BadDisk
from tests.governance.logs import create, drafts, key, reopen
from tests.governance.tampering import opened, rehash

ALONE = """
import runpy, sys
for name in ("emp_gym", "apsw", "numpy", "gymnasium"):
    sys.modules[name] = None  # an import of it fails
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(script: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a script where emp_gym and what it needs cannot be imported."""
    command = [sys.executable, "-I", "-c", ALONE, str(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd="/")


@pytest.fixture
def log(tmp_path):
    with create(tmp_path / "a.log", witness=tmp_path / "w") as log:
        log.append_many(drafts(30))
    return tmp_path / "a.log"


def test_the_door_needs_nothing_of_ours(root, log):
    told = run(
        root / "scripts" / "verify.py", log, "--witness", log.parent / "w", "--public-key", key().public_key.hex()
    )
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith(f"{log}: whole\n")
    assert "30 entries, 30 of them under 1 signed heads" in told.stdout


def test_the_one_file_may_be_carried_away(root, log, tmp_path):
    carried = shutil.copy(root / "emp_gym" / "governance" / "verify.py", tmp_path / "carried.py")
    assert run(Path(carried), log).returncode == 0


def test_exit_code_1_says_where(root, log):
    with opened(log) as db:
        db.execute("UPDATE entry SET body = replace(body, 'actor-1', 'actor-0') WHERE seq = 7")
    told = run(root / "scripts" / "verify.py", log)
    assert told.returncode == 1
    assert "TAMPERED WITH OR DAMAGED" in told.stdout and "! entry 7: expected leaf hash" in told.stdout


def test_exit_code_2_says_that_there_is_no_log(root, tmp_path, log):
    (tmp_path / "text").write_text("no database at all, " * 100)
    apsw.Connection(str(tmp_path / "other.db")).execute("CREATE TABLE t (x)")
    (tmp_path / "empty").touch()
    for name in ("text", "other.db", "missing", "empty"):
        told = run(root / "scripts" / "verify.py", tmp_path / name)
        assert (told.returncode, told.stdout) == (2, ""), name
        assert told.stderr.startswith("verify: ")
    assert run(root / "scripts" / "verify.py", log, "--witness", tmp_path / "nowhere").returncode == 2


def test_json_is_one_object_and_nothing_else(root, log):
    told = run(root / "scripts" / "verify.py", log, "--json")
    report = json.loads(told.stdout)
    assert (report["whole"], report["entries"], report["signed"], report["findings"]) == (True, 30, 30, [])
    assert report["public_key"] == key().public_key.hex()


def test_what_cannot_be_seen_is_said(log):
    alone = verify.verify(log).limits
    assert any("older copy" in line and "--witness" in line for line in alone)
    assert any("--public-key" in line for line in alone)
    (limit,) = verify.verify(log, log.parent / "w", key().public_key.hex()).limits
    assert "after the witness's last head" in limit


def test_entries_after_the_last_head_are_counted_and_accidents_in_them_are_found(tmp_path):
    with create(tmp_path / "a.log", profile=replace(DIARY, journal_mode="DELETE")) as log:
        log.append_many(drafts(10))
        log.append_many(drafts(10, 10))
        shutil.copy(tmp_path / "a.log", tmp_path / "crashed.log")
    report = verify.verify(tmp_path / "crashed.log")
    assert report.whole and (report.entries, report.signed) == (20, 10)
    assert report.limits[0].startswith("Entries 10 to 19 are not yet under a signed head")
    with opened(tmp_path / "crashed.log") as db:
        db.execute("UPDATE entry SET body = replace(body, 'actor-1', 'actor-0') WHERE seq = 15")
    assert [f.where for f in verify.verify(tmp_path / "crashed.log").findings] == ["entry 15"]
    with opened(tmp_path / "crashed.log") as db:
        rehash(db)  # on purpose, and without the key: this is what the limit speaks of
    assert verify.verify(tmp_path / "crashed.log").whole


@pytest.mark.parametrize("profile", [LEDGER, DIARY], ids=lambda profile: profile.name)
def test_a_log_can_be_verified_while_it_grows(profile, tmp_path):
    with create(tmp_path / "a.log", profile=profile) as log:
        for first in range(0, 200, 20):
            log.append_many(drafts(20, first))
            report = verify.verify(tmp_path / "a.log")
            assert report.whole and report.entries == first + 20


def test_a_crash_before_the_first_copy_to_the_witness_is_no_tampering(tmp_path):
    with create(tmp_path / "a.log", witness=tmp_path / "w") as log:
        assert verify.verify(tmp_path / "a.log", tmp_path / "w").whole, "a new log"
        log.append("a", "k")
    (tmp_path / "w" / f"{log.log_id}-{1:020d}.json").unlink()
    assert verify.verify(tmp_path / "a.log", tmp_path / "w").whole


def test_a_commit_that_a_crash_left_half_done_is_rolled_back_in_a_copy(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    with create(folder / "a.log") as log:
        log.append_many(drafts(30))
    halfway = None
    for cut_at in range(1, 60):
        with BadDisk(cut_at=cut_at) as disk:
            here = tmp_path / str(cut_at)
            shutil.copytree(folder, here)
            disk.adopt(here)
            with suppress(LogError), reopen(here / "a.log", vfs=disk.name) as log:
                log.append_many(drafts(30, 30))
        if (here / "a.log-journal").exists() and (here / "a.log").read_bytes() != (folder / "a.log").read_bytes():
            halfway = here / "a.log"
    assert halfway is not None
    left = {path.name: path.read_bytes() for path in halfway.parent.iterdir()}
    report = verify.verify(halfway)
    assert report.whole and report.entries == 30
    assert {path.name: path.read_bytes() for path in halfway.parent.iterdir()} == left, "evidence stays as it was found"


def test_the_verifier_knows_the_schema_that_the_writer_makes():
    db = apsw.Connection(":memory:")
    for statement in SCHEMA:
        db.execute(statement)
    rows = db.execute("SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type, name")
    assert sha256("\n".join(" ".join(row) for row in rows).encode()).hexdigest() == verify.SCHEMA_SHA256


def test_a_folder_and_a_key_that_is_none_are_said_to_be_that(tmp_path, capsys):
    from emp_gym.governance import verify

    (tmp_path / "ledger.log").write_bytes(b"")
    assert verify.main([str(tmp_path)]) == 2
    assert "its logs are ledger.log" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        verify.main([str(tmp_path / "ledger.log"), "--public-key", "abcd"])
    assert ended.value.code == 2 and "64 hexadecimal digits" in capsys.readouterr().err
