"""How the file under a log is opened, and the lock of its one writer."""

from __future__ import annotations

import os

import apsw
import pytest

from emp_gym.governance.errors import LogError, LogLocked
from emp_gym.governance.log import store


def test_every_connection_is_careful_and_a_reader_cannot_write(tmp_path):
    path = tmp_path / "a.log"
    for write in (True, False):
        db = store.connect(path, write=write)
        got = [
            db.execute(f"PRAGMA {name}").get
            for name in ("mmap_size", "trusted_schema", "cell_size_check", "busy_timeout")
        ]
        assert got[1:] == [0, 1, store.BUSY_MS] and not got[0]
        assert db.readonly("main") is not write
        if write:
            db.execute("CREATE TABLE t (x)")
        db.close()
    with pytest.raises(LogError, match="cannot be opened"):
        store.connect(tmp_path / "nowhere" / "a.log", write=True)
    with pytest.raises(LogError, match="cannot be opened"):
        store.connect(tmp_path / "missing.log", write=False)


@pytest.mark.parametrize("profile", store.PROFILES.values(), ids=store.PROFILES)
def test_a_profile_is_set_as_it_says(profile, tmp_path):
    db = store.connect(tmp_path / "a.log", write=True)
    store.prepare(db, profile)
    assert db.execute("PRAGMA journal_mode").get == profile.journal_mode.lower()
    assert db.execute("PRAGMA synchronous").get == {"FULL": 2, "EXTRA": 3}[profile.synchronous]
    assert db.execute("PRAGMA journal_size_limit").get == 64 << 20
    with db:
        store.create_tables(db, b"{}", bytes(64))
    assert db.execute("PRAGMA application_id").get == store.APPLICATION_ID == int.from_bytes(b"EMPL", "big")
    assert db.execute("SELECT * FROM log").fetchall() == [(0, "{}", bytes(64))]
    db.close()


def test_what_a_writer_left_in_the_write_ahead_log_is_moved_into_the_file_before_the_next_one_writes(tmp_path):
    path = tmp_path / "a.log"
    first = store.connect(path, write=True)
    store.prepare(first, store.DIARY)
    first.execute("CREATE TABLE t (x)")
    wal = tmp_path / "a.log-wal"
    before = path.stat().st_size
    assert wal.stat().st_size > 0
    second = store.connect(path, write=True)
    store.prepare(second, store.DIARY)
    assert path.stat().st_size > before
    second.close()
    first.close()


def test_a_memory_database_cannot_have_a_write_ahead_log():
    with pytest.raises(LogError, match="journal"):
        store.prepare(apsw.Connection(":memory:"), store.DIARY)


def test_the_lock_names_its_holder_ends_with_release_and_is_no_part_of_the_log(tmp_path):
    log = tmp_path / "a.log"
    lock = store.WriterLock(log)
    assert lock.path == tmp_path / "a.log.lock" and lock.path.read_text() == f"{os.getpid()}\n"
    with pytest.raises(LogLocked, match=f"process {os.getpid()}"):
        store.WriterLock(log)
    lock.release()
    lock.release()
    again = store.WriterLock(log)
    again.release()
    lock.path.write_text("99999999999999999\n")
    held = store.WriterLock(log)
    assert lock.path.read_text() == f"{os.getpid()}\n", "what stood there before is gone"
    held.release()
