"""Around the ledger's door: entries of a holder of the log's key, other writers, clocks and a disk that fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from governance.ledgers import Desk, day, evaluation, sha

from emp_gym.governance.errors import LedgerError
from emp_gym.governance.ledger.signatures import approvals

FORGED_PAYLOADS: list[Any] = [
    b"\xff", b"[" * 100_000, b"null", b"{}", b'{"version": "\\ud800"}', [], {"version": 1},
    {"version": sha("x"), "from": "experiment", "to": "paper", "since": 0, "evaluations": [], "findings": [],
     "approvals": []},
]  # fmt: skip


@pytest.mark.parametrize("kind", ["signer", "trial", "register", "evaluation", "promote", "demote", "alias"])
def test_an_entry_of_another_shape_is_listed_and_stops_all_promotions(desk: Desk, kind: str) -> None:
    version = desk.version()
    desk.evaluate(version)
    for payload in FORGED_PAYLOADS:
        desk.forge(kind, payload)
    state = desk.reread().state
    assert len(state.invalid) == len(FORGED_PAYLOADS)
    with pytest.raises(LedgerError, match="whole ledger"):
        desk.promote(version, "paper", "alice")
    assert desk.stage(version) == "experiment"


def test_other_kinds_may_stand_in_the_ledger_and_move_nothing(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version)
    desk.forge("rearm", {"kill_id": "1"})
    desk.forge("note", b"\x00\x01")
    desk.promote(version, "paper", "alice")
    assert not desk.ledger.state.invalid


def test_a_promotion_with_right_form_but_poor_evidence_is_found(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version, edge=0.0)
    desk.forged_promotion(version, "paper")
    assert desk.reread().stage(version) == "experiment"
    assert "REFUSED deflated Sharpe ratio" in desk.reread().state.invalid[0].why


def test_a_day_listed_twice_does_not_double_its_episodes_nor_stop_a_reader(desk: Desk) -> None:
    version = desk.version()
    twice = evaluation(version, days=[day(1), day(2), day(1)])
    desk.forge("evaluation", twice, subject=version)
    assert "listed twice" in desk.reread().state.invalid[0].why
    assert not desk.ledger.examine(version).passed


def test_a_backdated_or_future_entry_gains_no_time(desk: Desk) -> None:
    version = desk.version()
    desk.wait(100)
    payload = evaluation(version)
    desk.forge("evaluation", payload, subject=version, ts_ns=desk.clock.now + 260 * 86_400 * 10**9)
    assert desk.ledger.now >= desk.clock.now + 259 * 86_400 * 10**9, "time never goes back: it is then"
    desk.promote(version, "paper", "alice")
    desk.wait(1)
    desk.forge(
        "demote", {"version": version, "from": "paper", "to": "experiment", "reason": "x"}, subject=version, ts_ns=0
    )
    assert desk.stage(version) == "experiment"


def test_a_promotion_cannot_be_backdated_into_the_life_of_its_evidence(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version)
    found, used = desk.ledger.find(version), desk.ledger.examine(version).used
    payload = {
        "version": version, "from": "experiment", "to": "paper", "since": found.since,
        "evaluations": [e.seq for e in used], "findings": [],
    }  # fmt: skip
    payload["approvals"] = approvals(desk.log.log_id, "promote", payload, [desk.people["alice"]])
    signed, proof = desk.clock.now, [e.payload_hash for e in used]
    desk.wait(100)
    desk.trial()
    desk.forge("promote", payload, subject=version, evidence=proof, ts_ns=signed)
    assert desk.stage(version) == "experiment" and desk.ledger.find(version).moves == ()
    assert "younger than 90 days" in desk.ledger.state.invalid[0].why or "all valid" in desk.ledger.state.invalid[0].why


def test_the_oldest_evaluation_says_when_a_stage_ends(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version)
    desk.wait(60)
    desk.evaluate(version, seed=1, offset=30)
    desk.promote(version, "paper", "alice")
    desk.wait(29)
    assert desk.stage(version) == "paper"
    desk.wait(2)
    assert desk.stage(version) == "experiment"


def test_an_entry_is_about_what_its_payload_is_about(desk: Desk) -> None:
    version = desk.version()
    desk.forge("evaluation", evaluation(version), subject=sha("another"))
    assert "its payload about" in desk.ledger.state.invalid[0].why and not desk.ledger.find(version).evaluations


def test_another_writer_of_the_same_log_may_come_between(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    version = desk.version()
    desk.evaluate(version)
    append = desk.log.append

    def between(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(desk.log, "append", append)
        append("rule", "kill", subject_hash=version, payload={"cause": "drawdown"})
        return append(*args, **options)

    monkeypatch.setattr(desk.log, "append", between)
    desk.promote(version, "paper", "alice")
    assert desk.ledger.state.size == desk.log.size and desk.stage(version) == "paper"
    assert [replace(m, ts_ns=0) for m in desk.ledger.find(version).moves] == [
        replace(m, ts_ns=0) for m in desk.reread().find(version).moves
    ]


def test_an_append_that_fails_leaves_the_state_of_the_log(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    version = desk.version()
    desk.evaluate(version)

    def broken(*args: Any, **options: Any) -> Any:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(desk.log, "append", broken)
        with pytest.raises(OSError):
            desk.promote(version, "paper", "alice")
    assert desk.stage(version) == "experiment"
    desk.promote(version, "paper", "alice")


def test_an_approval_signs_one_decision_in_one_ledger(desk: Desk, tmp_path: Path) -> None:
    payload = {"version": sha("v"), "from": "experiment", "to": "paper"}
    one = approvals("log-one", "promote", payload, [desk.people["alice"]])
    assert one != approvals("log-two", "promote", payload, [desk.people["alice"]])
    assert one != approvals("log-one", "demote", payload, [desk.people["alice"]])
