"""Reading a log: pages, what is missing or of another form, and proofs that there is nothing to make from."""

from __future__ import annotations

from hashlib import sha256

import pytest

from emp_gym.governance.errors import LogTampered
from emp_gym.governance.log.canonical import canonical
from emp_gym.governance.log.reader import PAGE, LogReader
from emp_gym.governance.log.writer import DIARY
from emp_gym.types import ConfigError
from tests.governance.logs import create, drafts, key
from tests.governance.tampering import opened

MANY = 2 * PAGE + 50


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    path = tmp_path_factory.mktemp("many") / "a.log"
    with create(path, profile=DIARY) as log:
        log.append_many(drafts(MANY))
    return path


def test_every_entry_is_read_once_in_order_over_pages(many):
    with LogReader(many) as reader:
        assert [entry.seq for entry in reader.entries()] == list(range(MANY))
        assert [entry.seq for entry in reader.entries(kind="decision")] == [i for i in range(MANY) if i % 4]
        for start, stop in ((0, PAGE), (1, PAGE + 1), (5, 2 * PAGE + 5), (PAGE, PAGE), (-3, 2), (MANY - 1, MANY + 9)):
            expected = list(range(max(start, 0), min(stop, MANY)))
            assert [entry.seq for entry in reader.entries(start, stop)] == expected


def test_a_missing_entry_is_noticed_by_whoever_reads_or_proves(tmp_path):
    with create(tmp_path / "a.log") as log:
        log.append_many(drafts(100))
    with opened(tmp_path / "a.log") as db:
        db.execute("DELETE FROM entry WHERE seq = 70")
        db.execute("DELETE FROM node WHERE level = 6")
    with LogReader(tmp_path / "a.log") as reader:
        with pytest.raises(LogTampered, match="entries are missing from 0 on"):
            list(reader.entries())
        with pytest.raises(LogTampered, match="node 2/17 needs 4 hashes, got 3"):
            reader.node(2, 17)
        with pytest.raises(LogTampered, match="node 6/0 needs 1 hashes, got 0"):
            reader.node(6, 0)


def test_a_damaged_file_is_said_to_be_one(tmp_path):
    with create(tmp_path / "a.log", profile=DIARY) as log:
        log.append_many(drafts(500))
        assert len(log.log_id) == 32 and int(log.log_id, 16) >= 0
    with LogReader(tmp_path / "a.log") as reader:
        with (tmp_path / "a.log").open("r+b") as file:
            size = file.seek(0, 2)
            file.seek(size // 4)
            file.write(b"\xff" * (size // 2))
        with pytest.raises(LogTampered, match="damaged"):
            list(reader.entries())


@pytest.mark.parametrize("body", [b"[1]", b"{}", b'{"seq":0}', b"text"])
def test_an_entry_of_another_form_is_refused_though_its_hash_fits(body, tmp_path):
    with create(tmp_path / "a.log") as log:
        log.append("a", "k")
    with opened(tmp_path / "a.log") as db:
        db.execute("UPDATE entry SET body = ?, leaf = ?", (body.decode(), sha256(b"\0" + body).digest()))
    with LogReader(tmp_path / "a.log") as reader, pytest.raises(LogTampered, match="entry 0 has another form"):
        reader.entry(0)


def test_an_entry_of_another_place_or_log_is_refused(tmp_path):
    with create(tmp_path / "a.log", log_id="log-for-tests") as log:
        entry = log.entry(log.append("a", "k").seq)
    fields = {
        name: getattr(entry, name)
        for name in ("log_id", "seq", "ts_ns", "actor", "kind", "subject_hash", "payload_hash")
    }
    for change in ({"seq": 1}, {"log_id": "another-log"}, {"payload_hash": "0" * 64}):
        body = canonical({**fields, "evidence": [], **change})
        with opened(tmp_path / "a.log") as db:
            db.execute("UPDATE entry SET body = ?, leaf = ?", (body.decode(), sha256(b"\0" + body).digest()))
        with LogReader(tmp_path / "a.log") as reader, pytest.raises(LogTampered, match="calls itself"):
            reader.entry(0)


def test_without_a_signed_head_there_is_nothing_to_prove(tmp_path):
    with create(tmp_path / "a.log", profile=DIARY) as log:
        assert log.head() is None and log.sign_head() is None
        with pytest.raises(ConfigError, match="no signed head yet"):
            log.prove_append_only(None)
        with pytest.raises(ConfigError, match="it covers 0 entries"):
            log.prove(0)
        log.append("a", "k")
        head = log.sign_head()
        assert log.prove(0).holds(key().public_key) and log.prove_append_only(head) == []
        for seq in (-1, 1):
            with pytest.raises(ConfigError, match="it covers 1 entries"):
                log.prove(seq)
