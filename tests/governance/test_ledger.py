"""The policy ledger: stages in order, evidence that counts, people who sign, time that expires, and what a forger cannot do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from governance.ledgers import OTHER, Desk, day, evaluation, register, sha

from emp_gym.governance.errors import LedgerError, UnregisteredPolicy
from emp_gym.governance.evidence import count_trials, trials_behind
from emp_gym.governance.heads import KeyFile
from emp_gym.governance.ledger import Ledger
from emp_gym.governance.reader import LogReader
from emp_gym.governance.signatures import Approver, approvals
from emp_gym.types import ConfigError


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def findings(desk: Desk, version: str, to: str | None = None) -> dict[str, bool]:
    return {f.rule: f.passed for f in desk.ledger.examine(version, to).findings}


def forward_days(desk: Desk, count: int) -> list[dict[str, Any]]:
    """Lets `count` days pass and names them: sessions that came after what was registered before."""
    from emp_gym.governance.record import DAY_NS

    found = []
    for i in range(count):
        desk.wait(1)
        found.append(day(500 + i, date=_date(desk.clock.now // DAY_NS)))
    return found


def _date(days: int) -> str:
    from datetime import date, timedelta

    return (date(1970, 1, 1) + timedelta(days=days)).isoformat()


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


# --- what counts as evidence


def test_evaluations_cannot_be_picked(desk: Desk) -> None:
    version = desk.version()
    good = desk.evaluate(version, seed=1)
    desk.evaluate(version, seed=2, edge=-1.0, offset=40)
    assert len(desk.ledger.examine(version).used) == 2 and not desk.ledger.examine(version).passed
    desk.forged_promotion(version, "paper", evaluations=[good])
    assert desk.stage(version) == "experiment" and "all valid evaluations" in desk.ledger.state.invalid[-1].why


def test_an_evaluation_in_another_setting_does_not_count(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version, where=OTHER)
    assert desk.ledger.examine(version).used == () and not findings(desk, version)["evidence"]


def test_a_breach_counts_whatever_the_setting(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version)
    desk.evaluate(version, where=OTHER, breaches=1, offset=40)
    assert not findings(desk, version)["control breaches"]


def test_sessions_before_the_registration_do_not_count_for_pilot(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version)
    desk.promote(version, "paper", "alice")
    desk.evaluate(version, days=[day(700 + i, date=f"2001-01-{1 + i:02d}") for i in range(24)])
    assert desk.ledger.examine(version, "pilot").used == ()


def test_an_oracle_is_no_rival(desk: Desk) -> None:
    version = desk.version()
    payload = evaluation(version)
    best = payload["policies"][0] | {"name": "oracle", "role": "baseline"}
    best["pnl_e8"] = [x + 10**12 for x in best["pnl_e8"]]
    desk.ledger.enter(version, lambda _: payload | {"policies": [*payload["policies"], best]})
    assert desk.ledger.examine(version).passed


def test_optimistic_fills_are_refused(desk: Desk) -> None:
    from emp_gym.governance.record import setting

    where = setting("emp-lob-v0", {"fills": "optimistic"})
    version = desk.version(where=where)
    desk.evaluate(version, where=where)
    assert not findings(desk, version)["fill model"]


def test_sessions_that_were_trained_on_are_refused_also_those_of_an_ancestor(desk: Desk) -> None:
    parent = desk.version(trial=desk.trial([day(5)]))
    child = desk.version(trial=desk.trial([day(200)]), parent=parent)
    desk.evaluate(child)
    assert not findings(desk, child)["out of sample"]
    assert count_trials(desk.ledger.state, desk.ledger.find(child)) == 2, "the ancestor saw a day of the evidence"


def test_a_changed_byte_does_not_make_another_recorded_day(desk: Desk) -> None:
    real = [day(i, symbol="AMZN", synthetic=False) for i in range(20)]
    edited = [day(i, symbol="AMZN", synthetic=False, content=f"edited {i}") for i in range(20)]
    first = desk.version(trial=desk.trial(real[:2]))
    other = desk.version(trial=desk.trial([day(300)]))
    desk.evaluate(other, days=edited)
    assert count_trials(desk.ledger.state, desk.ledger.find(other)) == 2
    desk.evaluate(first, days=edited[2:])
    assert findings(desk, first)["out of sample"]
    fresh = desk.version(trial=desk.trial([day(i, symbol="MSFT", synthetic=False) for i in range(3)]))
    assert count_trials(desk.ledger.state, desk.ledger.find(fresh)) == 1, "no day in common"


def test_failed_trials_count_and_further_versions_of_one_trial_too(desk: Desk) -> None:
    for _ in range(3):
        desk.trial()  # nothing came of them
    trial = desk.trial()
    version = desk.version("a", trial)
    desk.version("b", trial)
    assert count_trials(desk.ledger.state, desk.ledger.find(version)) == 5
    assert len(trials_behind(desk.ledger.state, desk.ledger.find(version))) == 4
    for i, name in enumerate(("a", "b")):
        desk.evaluate(desk.ledger.find(name).version, seed=i)
    said = {f.rule: f.got for f in desk.ledger.examine(version).findings}
    assert "(5 trials over 24 sessions" in said["backtest overfitting"], "a trial that broke off has zeros"


def test_synthetic_days_of_one_date_are_as_many_as_their_contents(desk: Desk) -> None:
    first = desk.version(trial=desk.trial([day(1, content="one world")]))
    desk.version(trial=desk.trial([day(1, content="another world")]))
    assert count_trials(desk.ledger.state, desk.ledger.find(first)) == 1


def test_a_search_whose_failures_were_not_evaluated_is_refused(desk: Desk) -> None:
    hidden = desk.version()
    version = desk.version()
    desk.evaluate(version)
    assert not findings(desk, version)["whole search"]
    desk.evaluate(hidden, seed=5, edge=0.0)
    assert findings(desk, version)["whole search"]


def test_the_champion_must_be_beaten_on_the_same_episodes(desk: Desk) -> None:
    champion = desk.version()
    desk.evaluate(champion, edge=2.0)
    desk.promote(champion, "paper", "alice")
    challenger = desk.version()
    desk.evaluate(challenger, edge=2.0, seed=1)
    assert desk.ledger.state.pointers(desk.ledger.now)["champion"] == champion
    assert not findings(desk, challenger)[f"champion {desk.ledger.find(champion).name}"], "no better than the champion"
    desk.evaluate(
        challenger, edge=0.0, seed=3, offset=30, champions={champion: 2.0}
    )  # so that it does not rank as well
    desk.evaluate(champion, edge=2.0, seed=4, offset=30)
    better = desk.version()
    desk.evaluate(better, edge=6.0, seed=2, champions={champion: 2.0})
    assert findings(desk, better)[f"champion {desk.ledger.find(champion).name}"]
    desk.promote(better, "paper", "bob")
    assert desk.ledger.find("champion").version == desk.ledger.find("paper").version == better
    desk.ledger.demote(better, "no")
    assert desk.ledger.find("champion").version == champion


# --- rows, people, names


def test_a_version_is_the_hash_of_its_files_and_never_changes(desk: Desk) -> None:
    trial = desk.trial()
    payload = register("x", trial)
    desk.ledger.register(payload)
    with pytest.raises(LedgerError, match="registered already"):
        desk.ledger.register(payload | {"name": "y"})
    with pytest.raises(LedgerError, match="not the hash"):
        desk.ledger.register(register("z", trial) | {"commit": "other"})
    with pytest.raises(LedgerError, match="is no trial"):
        desk.ledger.register(register("z", 0))
    with pytest.raises(LedgerError, match="parent"):
        desk.ledger.register(register("z", trial, parent=sha("nobody")))


def test_people_have_a_key_of_their_own_and_somebody_vouches_for_them(desk: Desk) -> None:
    with pytest.raises(LedgerError, match="on record already"):
        desk.person("alice")
    same = Approver("alias", desk.people["alice"].key)
    with pytest.raises(LedgerError, match="this key is that of alice"):
        desk.ledger.add_signer(same, ("paper",), [desk.people["bob"]])
    with pytest.raises(LedgerError, match="that of the log itself"):
        desk.ledger.add_signer(Approver("system", desk.log._signer), ("paper",), [desk.people["bob"]])
    with pytest.raises(LedgerError, match="must vouch for mallory"):
        desk.person("mallory", vouchers=())
    stranger = Approver("bob", KeyFile.generate(desk.folder / "s.key"))
    with pytest.raises(LedgerError, match="not by the key on record"):
        desk.ledger.add_signer(Approver("eve", KeyFile.generate(desk.folder / "e.key")), ("paper",), [stranger])
    with pytest.raises(LedgerError, match="roles must be"):
        desk.person("carol", roles=("boss",))


def test_nobody_is_put_on_record_without_having_the_key(desk: Desk) -> None:
    key = KeyFile.generate(desk.folder / "carol.key")
    payload = {"name": "carol", "public_key": key.public_key.hex(), "roles": ["paper"]}
    signed = approvals(desk.log.log_id, "signer", payload, [desk.people["alice"]])
    desk.forge("signer", payload | {"approvals": signed})
    assert "carol" not in desk.ledger.state.people
    assert "must sign that the key is at hand" in desk.ledger.state.invalid[0].why


def test_somebody_elses_key_signs_nothing(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version)
    stranger = KeyFile.generate(desk.folder / "x.key")
    with pytest.raises(LedgerError, match="not by the key on record"):
        desk.ledger.promote(version, "paper", [Approver("alice", stranger)])
    with pytest.raises(LedgerError, match="nobody is not on record"):
        desk.ledger.promote(version, "paper", [Approver("nobody", stranger)])


def test_names_find_versions_and_say_what_there_is(desk: Desk) -> None:
    version = desk.version("ppo-a")
    for name in (version, version[:8], "ppo-a", "challenger"):
        assert desk.ledger.find(name).version == version
    desk.ledger.set_alias("night-shift", version)
    assert desk.reread().find("night-shift").version == version
    for alias in ("champion", "paper", "A B", ""):
        with pytest.raises(LedgerError, match="alias must match"):
            desk.ledger.set_alias(alias, version)
    with pytest.raises(UnregisteredPolicy, match="expected one of"):
        desk.ledger.find("nope")


def test_a_reader_cannot_write(desk: Desk) -> None:
    with LogReader(desk.log.path) as reader, pytest.raises(ConfigError, match="opened to read"):
        Ledger(reader, clock=desk.clock).demote(desk.version(), "x")


# --- around the door


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
    desk.forge("evaluation", payload, subject=version, ts_ns=desk.clock.now + 400 * 86_400 * 10**9)
    assert desk.ledger.now >= desk.clock.now + 399 * 86_400 * 10**9, "time never goes back: it is then"
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
