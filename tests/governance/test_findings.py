"""What the verifier says, word by word: where, what was expected, what is there, and how much more there is."""

from __future__ import annotations

import pytest

from emp_gym.governance import verify
from tests.governance.logs import create, drafts, key
from tests.governance.tampering import opened


@pytest.fixture
def log(tmp_path):
    with create(tmp_path / "a.log") as log:
        log.append_many(drafts(100))
    return tmp_path / "a.log"


def found(log) -> list[verify.Misfit]:
    return verify.verify(log).findings


def test_the_first_twenty_findings_are_kept_and_the_others_counted(log, capsys):
    with opened(log) as db:
        db.execute("UPDATE entry SET body = replace(body, 'actor-1', 'actor-x') WHERE seq % 2 AND seq < 46")
    report = verify.verify(log)
    assert len(report.findings) == 20 and report.more_findings == 3 and not report.whole
    assert verify.main([str(log)]) == 1 and "  ! and 3 more\n" in capsys.readouterr().out
    with opened(log) as db:
        db.execute("UPDATE entry SET body = replace(body, 'actor-x', 'actor-1') WHERE seq > 40")
    report = verify.verify(log)
    assert len(report.findings) == 20 and report.more_findings == 0
    assert verify.main([str(log)]) == 1 and "more" not in capsys.readouterr().out


def test_a_head_with_another_signature_is_said_to_be_one(log):
    with opened(log) as db:
        db.execute("UPDATE head SET signature = zeroblob(64)")
    first = found(log)[0]
    assert (first.where, first.expected) == ("head of 100 entries", "a signature by the log's key")
    assert first.got == "00" * 64


def test_a_log_that_says_nothing_of_itself_is_said_to_be_one(log):
    with opened(log) as db:
        db.execute("UPDATE log SET about = '{}'")
    first = found(log)[0]
    assert (first.where, first.expected) == ("log", "one row of at most 65536 bytes with what the log says of itself")
    assert str(first).startswith("log: expected one row of at most") and "{}" in first.got


def test_after_a_lost_entry_nothing_is_said_of_what_cannot_be_known(log):
    with opened(log) as db:
        db.execute("DELETE FROM entry WHERE seq = 70")
    (only,) = found(log)
    assert (only.where, only.expected, only.got) == ("entry 70", "an entry", "none; the next is 71")


def test_heads_and_nodes_of_what_is_not_there_are_left_over(log):
    with opened(log) as db:
        db.execute("DELETE FROM entry WHERE seq >= 60")
    places = [finding.where for finding in found(log)]
    assert places == ["head of 100 entries", "node 6/0", "head"]


def test_a_connection_is_careful(log):
    db = verify._connected(log, "ro", verify.ReadingBudget([log]))
    got = [db.execute(f"PRAGMA {name}").fetchone() for name in ("trusted_schema", "cell_size_check", "mmap_size")]
    assert got[:2] == [(0,), (1,)] and got[2] in (None, (0,))
    db.close()
    assert verify.verify(log, public_key=key().public_key.hex().upper() + "\n").whole
