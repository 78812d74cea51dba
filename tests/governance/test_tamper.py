"""Tampering is found and placed; what only a witness can tell is found with one, and looks whole without, as we say."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from emp_gym.governance.errors import LogTampered
from emp_gym.governance.log.signed_tree_heads import KeyFile
from emp_gym.governance.log.writer import DIARY
from emp_gym.governance.verify import NotALog, verify
from tests.governance.logs import create, drafts, findings, key, reopen
from tests.governance.tampering import HANDS, SIZE, content, opened, rehash, sound


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A sound log, its witness, and an older copy of it."""
    return sound(tmp_path_factory.mktemp("sound"))


def is_whole(path: Path, witness: Path | None = None) -> bool:
    try:
        return verify(path, witness).whole
    except NotALog:
        return False


def attack(originals: tuple[Path, Path, Path], folder: Path, rounds: int, seed: int) -> Counter[str]:
    """Random hands on copies of a sound log; returns how often each changed something, all of it found."""
    log, witness, old = originals
    shutil.copy(old, folder / "old.log")
    random, changed, path, before = Random(seed), Counter[str](), folder / "a.log", content(log)
    for number in range(rounds):
        hand = HANDS[number % len(HANDS)]
        shutil.copy(log, path)
        needs_witness = hand(path, random)
        if (
            content(path) == before
        ):  # an unused byte of the file, two equal values, or structure that only the verifier reads
            continue
        changed[hand.__name__] += 1
        assert not is_whole(path, witness), f"round {number}, {hand.__name__}: not found with the witness"
        assert is_whole(path) == needs_witness, f"round {number}, {hand.__name__}: without the witness"
    return changed


def test_the_originals_are_whole(originals):
    log, witness, old = originals
    assert findings(log, witness) == [] == findings(old)


def test_random_tampering_is_found(originals, tmp_path):
    changed = attack(originals, tmp_path, rounds=260, seed=0)
    assert set(changed) == {hand.__name__ for hand in HANDS}


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_ten_thousand_times_tampering_is_found(originals, tmp_path, evidence):
    changed = attack(originals, tmp_path, rounds=13_000, seed=4)
    evidence(
        "tampering",
        n=sum(changed.values()),
        seed=4,
        unfound=0,
        by_hand=dict(changed),
        harmless=13_000 - sum(changed.values()),
    )
    assert sum(changed.values()) >= 10_000


@pytest.fixture
def copy(originals, tmp_path):
    return Path(shutil.copy(originals[0], tmp_path / "a.log"))


def test_a_changed_entry_is_named(copy):
    with opened(copy) as db:
        db.execute("UPDATE entry SET body = replace(body, 'actor-1', 'actor-0') WHERE seq = 37")
    (finding,) = findings(copy)
    assert finding.startswith("entry 37: expected leaf hash ") and '"seq":37' in finding


def test_a_changed_payload_is_named(copy):
    with opened(copy) as db:
        db.execute("UPDATE entry SET payload = x'00' WHERE seq = 40")
    (finding,) = findings(copy)
    assert finding.startswith("entry 40 or its payload: expected ")


def test_an_entry_with_a_new_leaf_hash_is_placed_by_its_block_and_by_the_heads_around_it(copy):
    with opened(copy) as db:
        db.execute("UPDATE entry SET leaf = zeroblob(32), body = replace(body, 'actor-1', 'actor-0') WHERE seq = 37")
        nodes = db.execute("SELECT level, position, hash FROM node").fetchall()
        rehash(db)
        db.execute("DELETE FROM node")
        db.executemany("INSERT INTO node VALUES (?, ?, ?)", nodes)
    found = findings(copy)
    assert found[0].startswith("head, after 48 entries (the last good head is at 32): expected root ")
    assert any(line.startswith("node over entries 0 to 63: expected ") for line in found)


def test_a_missing_entry_is_named(copy):
    with opened(copy) as db:
        db.execute("DELETE FROM entry WHERE seq = 70")
    assert findings(copy)[0] == "entry 70: expected an entry, got none; the next is 71"


def test_a_cut_tail_is_named_by_the_heads_that_speak_of_it(copy):
    with opened(copy) as db:
        db.execute("DELETE FROM entry WHERE seq >= 100")
    assert any(
        f"head of {SIZE} entries: expected at least {SIZE} entries, got 100: cut off" in line for line in findings(copy)
    )


def test_a_forged_head_is_named(copy):
    with opened(copy) as db:
        db.execute("UPDATE head SET body = replace(body, '\"ts_ns\":1', '\"ts_ns\":2') WHERE size = 90")
    assert findings(copy)[0].startswith("head of 90 entries: expected a signature by the log's key")


def test_a_ledger_without_its_last_head_is_found_and_not_continued(tmp_path):
    with create(tmp_path / "a.log") as log:
        for draft in drafts(5):
            log.append_many([draft])
    with opened(tmp_path / "a.log") as db:
        db.execute("DELETE FROM head WHERE size = 5")
    assert findings(tmp_path / "a.log") == ["head: expected one after entry 4, got the last covers 4"]
    with pytest.raises(LogTampered, match="the last 1 of 5 entries are under no signed head"):
        reopen(tmp_path / "a.log")


def test_a_diary_must_have_its_first_head_and_one_at_each_multiple_of_256(tmp_path):
    with create(tmp_path / "a.log", profile=replace(DIARY, journal_mode="DELETE")) as log:
        log.append_many(drafts(600))
    with opened(tmp_path / "a.log") as db:
        db.execute("DELETE FROM head WHERE size IN (256, 600)")
    assert findings(tmp_path / "a.log") == ["head of 256 entries: expected a signed head, got none"]
    with opened(tmp_path / "a.log") as db:
        db.execute("DELETE FROM head")
    assert findings(tmp_path / "a.log")[0] == "head: expected one after entry 0, got the last covers 0"
    with pytest.raises(LogTampered, match="the last 600 of 600 entries are under no signed head"):
        reopen(tmp_path / "a.log", profile=replace(DIARY, journal_mode="DELETE"))


def test_missing_triggers_are_noticed(copy):
    with closing(sqlite3.connect(copy)) as db:
        db.execute("DROP TRIGGER entry_no_update")
    assert findings(copy)[0].startswith("schema: expected tables and triggers")


def test_another_log_in_the_place_of_this_one_is_noticed_by_the_witness_or_the_key(originals, tmp_path):
    with create(tmp_path / "a.log", signer=KeyFile.generate(tmp_path / "other.key")) as log:
        log.append("a", "k")
    assert findings(tmp_path / "a.log") == []
    assert findings(tmp_path / "a.log", originals[1])[0].startswith("witness: expected at least one head of log")
    found = verify(tmp_path / "a.log", public_key=key().public_key.hex()).findings
    assert [finding.where for finding in found] == ["log"]
