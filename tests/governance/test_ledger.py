"""The policy ledger's stages: up in order, on evidence, by people who sign; down by time, breaches, kills and word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from governance.ledgers import Desk, findings, forward_days, sha

from emp_gym.governance.errors import LedgerError
from emp_gym.governance.ledger.ledger import Ledger
from emp_gym.governance.log.reader import LogReader
from emp_gym.governance.promotion.evidence import count_trials
from emp_gym.types import ConfigError

# --- the way up


def test_a_strategy_with_an_edge_goes_to_paper_and_the_reader_agrees(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version)
    assert desk.stage(version) == "experiment"
    seq = desk.promote(version, "paper", "alice")
    assert desk.stage(version) == desk.reread().stage(version) == "paper"
    assert desk.log.entry(seq).actor == "alice" and not desk.reread().state.invalid
    with LogReader(desk.log.path) as reader:
        assert Ledger(reader, clock=desk.clock).stage(version) == "paper"


def test_a_strategy_without_an_edge_is_refused_with_reasons(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version, edge=0.0)
    with pytest.raises(LedgerError, match=r"REFUSED deflated Sharpe ratio.*expected at least 0.95"):
        desk.promote(version, "paper", "alice")
    assert desk.stage(version) == "experiment" and desk.log.entry(desk.log.size - 1).kind == "evaluation"


def test_the_best_of_forty_lucky_ones_is_refused_by_the_number_of_trials_on_record(desk: Desk) -> None:
    made = []
    for i in range(40):
        version = desk.version()
        desk.evaluate(version, seed=i, sessions=10, edge=0.0)
        totals = list(desk.ledger.find(version).evaluations[0].totals(version).values())
        made.append((np.mean(totals) / np.std(totals), version))
    best = max(made)[1]
    assert count_trials(desk.ledger.state, desk.ledger.find(best)) == 40
    said = {f.rule: f for f in desk.ledger.examine(best).findings}
    assert "the luckiest of 40 without skill" in said["deflated Sharpe ratio"].got
    assert not said["deflated Sharpe ratio"].passed and not said["backtest overfitting"].passed
    (desk.folder / "alone").mkdir()
    alone = Desk(desk.folder / "alone", people=())  # the same winner in a ledger that knows of no search
    version = alone.version()
    alone.evaluate(version, seed=[v for _, v in made].index(best), sessions=10, edge=0.0)
    told = {f.rule: f.got for f in alone.ledger.examine(version).findings}["deflated Sharpe ratio"]
    assert "the luckiest of 1 without skill" in told
    assert float(told.split()[0]) > 0.9 > 0.3 > float(said["deflated Sharpe ratio"].got.split()[0])


def test_no_stage_is_skipped(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version)
    for stage in ("pilot", "live"):
        with pytest.raises(LedgerError, match="next stage"):
            desk.promote(version, stage, "alice", "bob")
    with pytest.raises(ConfigError, match="paper, pilot, live"):
        desk.promote(version, "experiment", "alice")


def test_pilot_wants_sessions_after_registration_and_two_people(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version)
    desk.promote(version, "paper", "alice")
    assert not findings(desk, version)["evidence"], "sessions of 2030 were not lived through after the registration"
    desk.evaluate(version, days=forward_days(desk, 30), seed=1)
    assert all(findings(desk, version).values())
    with pytest.raises(LedgerError, match="signatures: expected 2 different people"):
        desk.promote(version, "pilot", "alice")
    with pytest.raises(LedgerError, match="signatures: expected 2 different people"):
        desk.promote(version, "pilot", "alice", "alice")
    desk.promote(version, "pilot", "alice", "bob")
    assert desk.stage(version) == desk.reread().stage(version) == "pilot"


def test_live_cannot_be_signed_by_keys_that_do_not_have_the_role(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version)
    desk.promote(version, "paper", "alice")
    desk.evaluate(version, days=forward_days(desk, 60), seed=1)
    desk.promote(version, "pilot", "alice", "bob")
    with pytest.raises(LedgerError, match="alice has no role live; bob has no role live"):
        desk.promote(version, "live", "alice", "bob")
    with pytest.raises(LedgerError, match="nobody has them all; they can never be had"):
        desk.person("carol", roles=("live",))


def test_a_ledger_whose_first_person_may_let_into_live_can_reach_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path, people=())
    for name in ("alice", "bob"):
        desk.person(name, roles=("paper", "pilot", "live"))
    version = desk.version()
    desk.evaluate(version)
    desk.promote(version, "paper", "alice")
    desk.evaluate(version, days=forward_days(desk, 60), seed=1)
    desk.promote(version, "pilot", "alice", "bob")
    desk.promote(version, "live", "alice", "bob")
    assert desk.reread().stage(version) == "live"


# --- the way down


def test_evidence_expires_and_takes_the_stage_with_it_one_step_at_a_time(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version)
    desk.promote(version, "paper", "alice")
    desk.wait(80)
    desk.evaluate(version, days=forward_days(desk, 30), seed=1)  # the first evaluation is 110 days old by now
    assert desk.stage(version) == "experiment"
    desk.promote(version, "paper", "alice")
    desk.promote(version, "pilot", "alice", "bob")
    desk.wait(89)
    assert desk.stage(version) == "pilot"
    desk.wait(2)
    assert desk.stage(version) == desk.reread().stage(version) == "paper"
    desk.wait(90)
    assert desk.stage(version) == "experiment"
    assert not findings(desk, version)["evidence"]


def test_a_stage_can_be_renewed_with_fresh_evidence(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version)
    desk.promote(version, "paper", "alice")
    desk.wait(60)
    desk.evaluate(version, seed=1, offset=30)
    desk.wait(29)
    before = desk.ledger.find(version).until_ns
    desk.wait(2)
    assert desk.stage(version) == "experiment"
    desk.promote(version, "paper", "alice")
    assert desk.ledger.find(version).until_ns > before
    desk.wait(1)
    desk.promote(version, "paper", "alice")
    assert [m.to for m in desk.ledger.find(version).moves] == ["paper"] * 3


def test_a_breached_control_demotes_by_itself(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version)
    desk.promote(version, "paper", "alice")
    desk.evaluate(version, breaches=1, offset=40)
    assert desk.stage(version) == desk.reread().stage(version) == "experiment"
    assert desk.ledger.find(version).moves[-1].why == "a control limit was breached"
    assert not findings(desk, version)["control breaches"]


def test_a_kill_by_drawdown_demotes_and_other_kills_do_not(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version)
    desk.promote(version, "paper", "alice")
    desk.log.append("rule", "kill", subject_hash=version, payload={"cause": "staleness"})
    desk.log.append("rule", "kill", subject_hash=sha("somebody else"), payload={"cause": "drawdown"})
    assert desk.stage(version) == "paper"
    desk.log.append("rule", "kill", subject_hash=version, payload={"cause": "drawdown", "who": "rule"})
    assert desk.stage(version) == "experiment" and not desk.ledger.state.invalid


def test_demotion_needs_neither_evidence_nor_signature_and_takes_one_step(desk: Desk) -> None:
    version = desk.version()
    with pytest.raises(LedgerError, match="is in experiment"):
        desk.ledger.demote(version, "no reason")
    desk.evaluate(version)
    desk.promote(version, "paper", "alice")
    desk.ledger.demote(version, "the venue changed its fees")
    assert desk.reread().stage(version) == "experiment"


def test_a_signature_does_not_survive_a_demotion(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version)
    seq = desk.promote(version, "paper", "alice")
    desk.ledger.demote(version, "bad fills")
    old = desk.log.entry(seq)
    desk.forge("promote", old.payload, subject=version, evidence=old.evidence)
    assert desk.stage(version) == "experiment"
    assert "as of entry" in desk.ledger.state.invalid[0].why
