"""What an append-only log promises its writers and readers."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import threading
from hashlib import sha256

import apsw
import pytest

from emp_gym.governance.errors import LogError, LogLocked, LogTampered, LogValueError
from emp_gym.governance.log import merkle, store
from emp_gym.governance.log.canonical import canonical
from emp_gym.governance.log.group_commit import Group
from emp_gym.governance.log.reader import LogReader
from emp_gym.governance.log.signed_tree_heads import KeyFile, Witness
from emp_gym.governance.log.writer import DIARY, LEDGER, Draft
from emp_gym.types import ConfigError
from tests.governance.logs import START_NS, Ticks, create, drafts, findings, reopen

PROFILES = pytest.mark.parametrize("profile", [LEDGER, DIARY], ids=lambda profile: profile.name)


@PROFILES
def test_what_is_appended_reads_back_as_it_was(profile, tmp_path):
    path, wanted = tmp_path / "a.log", list(drafts(200))
    with create(path, profile=profile) as log:
        receipts = [
            log.append(d.actor, d.kind, subject_hash=d.subject_hash, payload=d.payload, evidence=d.evidence)
            for d in wanted[:50]
        ]
        receipts += log.append_many(wanted[50:])
    with LogReader(path) as reader:
        entries = list(reader.entries())
        assert [entry.seq for entry in entries] == list(range(200)) == [receipt.seq for receipt in receipts]
        for draft, entry, receipt in zip(wanted, entries, receipts):
            assert (entry.actor, entry.kind, entry.subject_hash) == draft[:3]
            assert entry.evidence == tuple(draft.evidence)
            stored = draft.payload if isinstance(draft.payload, bytes | None) else canonical(draft.payload)
            assert entry.payload == stored
            assert entry.payload_hash == ("" if stored is None else sha256(stored).hexdigest())
            assert (receipt.leaf, receipt.ts_ns, receipt.log_id) == (entry.leaf, entry.ts_ns, entry.log_id)
        assert entries[3].value == {"i": 3, "why": "spread ≥ 2"}
    assert findings(path) == []


def test_an_entry_is_canonical_json_of_its_eight_fields_and_its_leaf_is_their_hash(tmp_path):
    with create(tmp_path / "a.log", log_id="log-for-tests") as log:
        receipt = log.append('a "quoted" näme', "kind\n", payload={"x": 1}, ts_ns=5)
        ((body,),) = log._db.execute("SELECT body FROM entry")
    fields = json.loads(body)
    assert body.encode() == canonical(fields)
    assert receipt.leaf == sha256(b"\0" + body.encode()).digest()
    assert fields == {
        "actor": 'a "quoted" näme', "evidence": [], "kind": "kind\n", "log_id": "log-for-tests",
        "payload_hash": sha256(b'{"x":1}').hexdigest(), "seq": 0, "subject_hash": "", "ts_ns": 5,
    }  # fmt: skip


def test_time_comes_from_the_clock_or_the_draft(tmp_path):
    with create(tmp_path / "a.log", clock=lambda: START_NS) as log:
        assert log.append("a", "k").ts_ns == START_NS
        assert log.append("a", "k", ts_ns=7).ts_ns == 7


BAD = [
    ({"payload": {"x": 0.5}}, "payload.x is the float"),
    ({"subject_hash": "ABC"}, "SHA-256 in lower-case hex"),
    ({"evidence": [""]}, "SHA-256 in lower-case hex"),
    ({"actor": ""}, "not empty"),
    ({"actor": "\ud800"}, "not Unicode"),
    ({"kind": 3}, "must be text"),
    ({"ts_ns": 0.5}, "ts_ns must be an int"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=[message for _, message in BAD])
def test_a_bad_value_is_refused_before_anything_is_written(change, message, tmp_path):
    fields = {"actor": "a", "kind": "k", **change}
    with create(tmp_path / "a.log") as log:
        with pytest.raises(LogValueError, match=message):
            log.append_many([Draft("a", "k"), Draft(**fields)])
        assert log.size == 0
        assert log.append("a", "k").seq == 0


def test_readers_filter_and_see_what_was_acknowledged_while_the_writer_appends(tmp_path):
    with create(tmp_path / "a.log", profile=DIARY) as log, LogReader(tmp_path / "a.log") as reader:
        log.append_many(drafts(3000))
        assert reader.size == 3000
        assert [e.seq for e in reader.entries(10, 20)] == list(range(10, 20))
        assert [e.seq for e in reader.entries(kind="note", actor="actor-0")] == list(range(0, 3000, 4))
        assert [e.seq for e in reader.entries(subject_hash=f"{77:064x}")] == [77]
        assert reader.entry(2999).seq == 2999
        with pytest.raises(LogError, match="no entry 3000; expected 0 to 2999"):
            reader.entry(3000)


def test_a_reader_cannot_write_and_nobody_can_change_what_stands(tmp_path):
    path = tmp_path / "a.log"
    with create(path) as log:
        log.append_many(drafts(100))
    with LogReader(path) as reader, pytest.raises(apsw.ReadOnlyError):
        reader._db.execute("INSERT INTO entry VALUES (100, 'x', zeroblob(32), NULL)")
    db = apsw.Connection(str(path))
    for statement in (
        "UPDATE entry SET body = 'x' WHERE seq = 3",
        "DELETE FROM entry WHERE seq = 99",
        "UPDATE head SET signature = zeroblob(64)",
        "DELETE FROM head",
        "DELETE FROM node",
        "UPDATE log SET about = 'x'",
        "INSERT OR REPLACE INTO entry VALUES (3, 'x', zeroblob(32), NULL)",
        "INSERT INTO entry VALUES (200, 'x', zeroblob(32), NULL)",
        "INSERT INTO head VALUES (7, 'x', zeroblob(64))",
    ):
        with pytest.raises(apsw.ConstraintError, match="append-only"):
            db.execute(statement)
    assert findings(path) == []


# --- heads and proofs


def test_a_ledger_signs_every_commit_and_a_diary_each_256_entries_or_second(tmp_path):
    with create(tmp_path / "l.log") as log:
        log.append("a", "k")
        log.append_many(drafts(5))
        assert [head.size for head in log.heads()] == [1, 6]
    with create(tmp_path / "d.log", profile=DIARY, clock=Ticks(step_ns=300_000_000)) as log:
        for draft in drafts(9):
            log.append_many([draft])
        assert [head.size for head in log.heads()] == [1, 5, 9]
        log.append_many(drafts(600))
        assert [head.size for head in log.heads()] == [1, 5, 9, 256, 512]
    with LogReader(tmp_path / "d.log") as reader:
        heads = list(reader.heads())
        assert [head.size for head in heads] == [1, 5, 9, 256, 512, 609], "closing signs the rest"
        assert all(head.signed_by(reader.public_key) and head.root == reader.root(head.size) for head in heads)


def test_a_writer_that_pauses_signs_when_it_wants(tmp_path):
    with create(tmp_path / "a.log", profile=DIARY) as log:
        assert log.sign_head() is None
        log.append_many(drafts(10))
        log.append_many(drafts(10))
        assert log.sign_head().size == 20
        log.sign_head()
        assert [head.size for head in log.heads()] == [10, 20]


def test_proofs_hold_for_every_entry_and_only_for_it(tmp_path):
    with create(tmp_path / "a.log", profile=DIARY) as log:
        log.append_many(drafts(300))
    with LogReader(tmp_path / "a.log") as reader:
        bodies = [body.encode() for (body,) in reader._db.execute("SELECT body FROM entry ORDER BY seq")]
        for head in reader.heads():
            for seq in (0, 1, 63, 64, 127, 200, head.size - 1):
                proof = reader.prove(seq, head)
                assert proof.leaf == merkle.leaf_hash(bodies[seq])
                assert proof.holds(reader.public_key)
                assert not proof.holds(bytes(32))
                assert not dataclasses.replace(proof, seq=seq + 1).holds(reader.public_key)
                assert not dataclasses.replace(proof, leaf=bytes(32)).holds(reader.public_key)
                forged = dataclasses.replace(head, size=head.size + 1)
                assert not dataclasses.replace(proof, head=forged).holds(reader.public_key)
        old, new = next(reader.heads()), reader.head()
        path = reader.prove_append_only(old)
        assert merkle.verify_consistency(old.size, new.size, path, old.root, new.root)
        with pytest.raises(ConfigError, match="not under a signed head"):
            reader.prove(300)


def test_a_head_of_one_log_is_no_head_of_another_with_the_same_key(tmp_path):
    for name in ("first-log", "second-log"):
        with create(tmp_path / name, log_id=name) as log:
            log.append("a", "k", ts_ns=1)
    with LogReader(tmp_path / "first-log") as first, LogReader(tmp_path / "second-log") as second:
        assert first.head().log_id != second.head().log_id
        moved = dataclasses.replace(first.head(), log_id=second.log_id)
        assert not moved.signed_by(second.public_key)


# --- one writer


def test_the_second_writer_is_told_who_has_the_log(tmp_path):
    with create(tmp_path / "a.log") as log:
        with pytest.raises(LogLocked, match=rf"process {os.getpid()}.*LogReader"):
            reopen(tmp_path / "a.log")
        log.append("a", "k")
    with reopen(tmp_path / "a.log") as log:
        assert log.append("a", "k").seq == 1


def test_threads_may_share_a_writer(tmp_path):
    with create(tmp_path / "a.log", profile=DIARY) as log:
        workers = [threading.Thread(target=lambda: [log.append("a", "k") for _ in range(50)]) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert log.size == 200
    assert findings(tmp_path / "a.log") == []


def test_a_forked_child_cannot_use_its_parents_writer(tmp_path):
    with create(tmp_path / "a.log") as log:
        child = os.fork()
        if child == 0:
            try:
                log.append("a", "k")
            except LogError:
                log.close()
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        log.append("a", "k")
    assert findings(tmp_path / "a.log") == []


# --- opening


def test_a_log_is_not_made_over_something_and_not_opened_from_nothing(tmp_path):
    create(tmp_path / "a.log").close()
    with pytest.raises(ConfigError, match="already"):
        create(tmp_path / "a.log")
    with pytest.raises(LogError, match="no such log"):
        reopen(tmp_path / "b.log")
    (tmp_path / "c.log").write_text("not a database, but long enough to be read as one" * 30)
    for opened in (reopen, LogReader):
        with pytest.raises(LogError, match="not a log"):
            opened(tmp_path / "c.log")
    with pytest.raises(LogError, match="not a log"):
        reopen(tmp_path / "c.log")  # a failed opening leaves no lock behind


def test_an_interrupted_creation_may_be_repeated(tmp_path):
    (tmp_path / "a.log").touch()
    with create(tmp_path / "a.log") as log:
        log.append("a", "k")
    assert findings(tmp_path / "a.log") == []


def test_another_key_is_refused(tmp_path):
    create(tmp_path / "a.log").close()
    with pytest.raises(ConfigError, match="use the key that it was created with"):
        reopen(tmp_path / "a.log", signer=KeyFile.generate(tmp_path / "other.key"))


def test_a_closed_log_takes_nothing_more(tmp_path):
    log = create(tmp_path / "a.log")
    log.close()
    log.close()
    with pytest.raises(LogError, match="it is closed"):
        log.append("a", "k")


def test_an_old_sqlite_is_refused_for_the_write_ahead_log():
    store.refuse_old_sqlite("3.51.3", "WAL")
    store.refuse_old_sqlite("3.40.1", "DELETE")
    with pytest.raises(ConfigError, match=r"SQLite 3\.51\.2 can corrupt.*apsw"):
        store.refuse_old_sqlite("3.51.2", "WAL")


@PROFILES
def test_the_writer_runs_with_the_settings_of_its_profile(profile, tmp_path):
    with create(tmp_path / "a.log", profile=profile) as log:
        got = {name: log._db.execute(f"PRAGMA {name}").get for name in ("journal_mode", "synchronous", "mmap_size")}
    wanted = {"DELETE": ("delete", 3), "WAL": ("wal", 2)}[profile.journal_mode]
    assert (got["journal_mode"], got["synchronous"], got["mmap_size"]) == (*wanted, 0)


# --- keys and witnesses


def test_a_key_file_is_its_owners_alone(tmp_path):
    made = KeyFile.generate(tmp_path / "a.key")
    assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600
    assert KeyFile(tmp_path / "a.key").public_key == made.public_key
    with pytest.raises(ConfigError, match="there already"):
        KeyFile.generate(tmp_path / "a.key")
    (tmp_path / "a.key").chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        KeyFile(tmp_path / "a.key")
    with pytest.raises(ConfigError, match="cannot be read"):
        KeyFile(tmp_path / "b.key")
    (tmp_path / "c.key").write_text("no key")
    (tmp_path / "c.key").chmod(0o600)
    with pytest.raises(ConfigError, match="expected an unencrypted Ed25519 key"):
        KeyFile(tmp_path / "c.key")


def test_the_witness_keeps_a_copy_of_each_commits_last_head(tmp_path):
    with create(tmp_path / "a.log", witness=tmp_path / "w") as log:
        for draft in drafts(3):
            log.append_many([draft])
        kept = sorted(path.name for path in (tmp_path / "w").iterdir())
        assert kept == [f"{log.log_id}-{size:020d}.json" for size in (0, 1, 2, 3)]
        assert Witness(tmp_path / "w").latest(log.log_id) == log.head()
    assert findings(tmp_path / "a.log", tmp_path / "w") == []


def test_a_head_that_a_crash_kept_from_the_witness_is_copied_at_the_next_opening(tmp_path):
    with create(tmp_path / "a.log") as log:
        log.append("a", "k")
    with reopen(tmp_path / "a.log", witness=tmp_path / "w") as log:
        assert Witness(tmp_path / "w").latest(log.log_id).size == 1


def test_a_log_put_back_to_an_older_copy_is_not_continued(tmp_path):
    path = tmp_path / "a.log"
    with create(path, witness=tmp_path / "w") as log:
        log.append("a", "k")
    old = path.read_bytes()
    with reopen(path, witness=tmp_path / "w") as log:
        log.append("a", "k")
    path.write_bytes(old)
    with pytest.raises(LogTampered, match="the witness has 2 entries, the log 1"):
        reopen(path, witness=tmp_path / "w")
    with reopen(path) as log:  # without a witness nobody can know
        log.append("another", "k")
    with pytest.raises(LogTampered, match="the witness says that 2 entries have root"):
        reopen(path, witness=tmp_path / "w")


def test_a_witness_that_cannot_be_written_stops_the_log(tmp_path):
    (tmp_path / "w").mkdir()
    log = create(tmp_path / "a.log", witness=tmp_path / "w")
    (tmp_path / "w").rename(tmp_path / "gone")
    with pytest.raises(LogError, match="could not be copied to the witness"):
        log.append("a", "k")
    with pytest.raises(LogError, match="open the log again"):
        log.append("a", "k")
    log.close()
    assert findings(tmp_path / "a.log") == []


# --- group commit


def test_a_group_commits_when_full_when_old_and_when_asked(tmp_path):
    clock = Ticks(step_ns=1_000_000)
    with create(tmp_path / "a.log", profile=DIARY) as log, Group(log, clock, rows=4, wait_ns=5_000_000) as group:
        sizes = [len(group.add(draft)) for draft in drafts(4)]
        assert sizes == [0, 0, 0, 4]
        assert group.add(Draft("a", "k")) == []
        clock.now += 5_000_000
        assert [receipt.seq for receipt in group.add(Draft("a", "k"))] == [4, 5]
        group.add(Draft("a", "late"))
        assert log.size == 6
        assert [receipt.seq for receipt in group.flush()] == [6]
        group.add(Draft("a", "at the end"))
    assert findings(tmp_path / "a.log") == []
    with LogReader(tmp_path / "a.log") as reader:
        assert reader.entry(7).kind == "at the end"
