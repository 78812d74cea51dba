"""The stage guard: rules of stages, what a demotion does, and where nothing may be sent."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from governance.ledgers import Desk
from governance.views import asking, view_of

from emp_gym.governance.errors import UnregisteredPolicy
from emp_gym.governance.kill_switch.safe_orders import OWN
from emp_gym.governance.kill_switch.switch import KillSwitch
from emp_gym.governance.promotion.stages import DROPPED, ORDER, STAGES, LedgerStage, StageGate, StageRules, read_rules
from emp_gym.risk.gate import RiskGate
from emp_gym.risk.reasons import Check, Mode
from emp_gym.types import ConfigError, EmpGymError, RequestType, TruncationReason

LIMIT, CANCEL = RequestType.LIMIT, RequestType.CANCEL
SMALL = {"pilot": {"max_quantity": 5}, "live": {"max_quantity": 8}}


class Said:
    """A ledger's word that can be changed."""

    def __init__(self, stage: str) -> None:
        self.stage = stage

    def __call__(self) -> str:
        if self.stage == "broken":
            raise EmpGymError("the ledger cannot be read")
        return self.stage


def quantity(gate: StageGate, view=None) -> int:
    """Lots of an order of 10 that the gate lets pass."""
    sent, _ = gate(view_of() if view is None else view, asking(LIMIT))
    return sum(order["quantity"] for order in sent.asked(0))


def begin(gate: StageGate) -> None:
    gate.before_episode(view_of(), np.array([0]))


def test_orders_are_cut_to_the_size_of_the_stage_by_the_checks_of_risk():
    gate = StageGate("pilot", rules=SMALL)
    sent, verdicts = gate(view_of(), asking(LIMIT))
    assert sent.asked(0)[0]["quantity"] == 5 and verdicts.reason[0, 0] == 1 << Check.QUANTITY
    assert gate.counters()["quantity"] == 1


def test_the_position_of_the_stage_counts_open_orders():
    gate = StageGate("pilot", rules={"pilot": {"max_position": 12}})
    view = view_of(position=[[7]])
    assert quantity(gate, view) == 5


def test_the_smaller_of_profile_and_stage_holds():
    profile = {
        "order": {"max_quantity": 50},
        "instrument": {"max_position": 90},
        "instruments": {1: {"max_position": 20}},
    }
    rules = StageRules(("replay",), max_quantity=70, max_position=30)
    assert rules.bound().order.max_quantity == 70 and rules.bound().instrument.max_position == 30
    import emp_gym.governance.promotion.stages as stages

    loaded = stages.load
    try:
        stages.load = lambda source: loaded(profile if source == "profile" else source)
        bound = StageRules(("replay",), max_quantity=70, max_position=30, limits="profile").bound()
    finally:
        stages.load = loaded
    assert (bound.order.max_quantity, bound.instrument.max_position, bound.instruments[1].max_position) == (50, 30, 20)


def test_a_demotion_holds_from_the_next_episode_on_and_a_promotion_does_not():
    said = Said("live")
    gate = StageGate(said, rules=SMALL)
    assert quantity(gate) == 8
    said.stage = "pilot"
    assert quantity(gate) == 8, "the ledger is asked when an episode begins"
    begin(gate)
    assert quantity(gate) == 5 and gate.stage == "pilot"
    said.stage = "live"
    begin(gate)
    assert quantity(gate) == 5, "more is allowed only after a new start"


def test_what_risk_remembers_outlives_a_demotion():
    said = Said("live")
    gate = StageGate(said, rules=SMALL)
    quantity(gate, view_of(decision=[1]))
    said.stage = "pilot"
    begin(gate)
    sent, verdicts = gate(view_of(decision=[2]), asking(LIMIT))
    assert not sent.asked(0) and verdicts.reason[0, 0] & (1 << Check.DUPLICATE_ID), "the id was used before"


@pytest.mark.parametrize("word", ["broken", "lively"])
def test_a_stage_that_cannot_be_told_stops_everything_until_it_can(word):
    said = Said("live")
    gate = StageGate(said)
    gate.admit("replay", (gate,))
    said.stage = word
    begin(gate)
    view = view_of(order_id=[[7, 0, 0]])
    sent, verdicts = gate(view, asking(LIMIT, CANCEL))
    assert [(order["kind"], order["id"]) for order in sent.asked(0)] == [(CANCEL, 7)]
    assert verdicts.reason.tolist() == [[int(DROPPED | OWN), int(DROPPED), 0]]
    assert gate.stopped.tolist() == [TruncationReason.STAGE] and gate.trouble
    said.stage = "live"
    begin(gate)
    assert gate.stopped is None


def test_a_demotion_out_of_the_venue_stops_everything():
    said = Said("live")
    gate = StageGate(said, rules={"paper": {"venues": ["paper"]}})
    gate.admit("replay", (gate,))
    said.stage = "paper"
    begin(gate)
    assert gate.stopped.tolist() == [TruncationReason.STAGE] and quantity(gate) == 0


def test_a_venue_that_the_stage_does_not_allow_is_refused():
    with pytest.raises(ConfigError, match=r"stage paper may trade .*not live; promote"):
        StageGate("paper").admit("live", ())
    for stage in ("pilot", "live"):
        StageGate(stage).admit("live", ())


def test_only_an_experiment_may_look_on():
    tight = {"order": {"max_quantity": 1}}
    StageGate("experiment", mode="observe").admit("replay", (RiskGate(tight, mode="observe"),))
    for stage in ORDER[1:]:
        with pytest.raises(ConfigError, match="must project or reject"):
            StageGate(stage, mode="observe").admit("replay", ())
        with pytest.raises(ConfigError, match="must project or reject"):
            StageGate(stage).admit("replay", (RiskGate(tight, mode="observe"),))
        StageGate(stage, mode="reject").admit("replay", (RiskGate(tight),))
    assert StageGate("paper", mode="reject").risk.mode is Mode.REJECT


def test_the_shipped_rules_are_read_and_tighten_towards_the_pilot(root):
    rules = read_rules(root / "configs" / "stages")
    assert list(rules) == list(ORDER)
    assert rules["pilot"].bound().order.max_quantity == 100 < rules["live"].bound().order.max_quantity
    assert rules["experiment"].observe and not any(rules[stage].observe for stage in ORDER[1:])
    assert [stage for stage in ORDER if "live" in rules[stage].venues] == ["pilot", "live"]
    assert {stage: rules[stage].venues for stage in ORDER} == {stage: STAGES[stage].venues for stage in ORDER}
    assert rules["paper"].bound().portfolio.max_gross is not None, "the profile's limits are there"


WRONG = [
    ({"stage": "papre"}, "did you mean 'paper'"), ({"stage": "paper", "rules": {"papre": {}}}, "did you mean 'paper'"),
    ({"stage": "paper", "rules": {"paper": {"max_qty": 1}}}, "max_qty is unknown"),
    ({"stage": "paper", "rules": {"paper": {"max_quantity": 0}}}, "max_quantity must be"),
    ({"stage": "paper", "rules": {"paper": {"max_position": "many"}}}, "max_position must be"),
    ({"stage": "paper", "rules": {"paper": {"venues": ["moon"]}}}, "venues must be"),
    ({"stage": "paper", "rules": {"paper": {"venues": "paper"}}}, "venues must be a list"),
    ({"stage": "paper", "rules": {"paper": 7}}, "expected keys and values"),
    ({"stage": "paper", "rules": {"paper": {"observe": "no"}}}, "observe must be"),
    ({"stage": "paper", "rules": "nowhere"}, "no rules of stages"), ({}, "either a stage, or a policy"),
    ({"stage": "paper", "policy": "x"}, "either a stage"), ({"policy": "x"}, "the folder of its ledger"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "said"), WRONG, ids=range(len(WRONG)))
def test_wrong_rules_are_refused_by_name(options, said):
    with pytest.raises(ConfigError, match=said):
        StageGate(**options)


def test_the_ledger_is_read_again_only_when_it_has_changed_or_a_minute_has_gone(tmp_path, monkeypatch):
    desk, reads, read = Desk(tmp_path), [], LedgerStage._read
    version = desk.version("momentum")
    monkeypatch.setattr(LedgerStage, "_read", lambda self: (reads.append(1), read(self))[1])
    stage = LedgerStage(tmp_path, "momentum", clock=desk.clock)
    assert [stage(), stage()] == ["experiment"] * 2 and len(reads) == 1
    desk.evaluate(version)
    desk.promote(version, "paper", "alice")
    assert stage() == "paper" and len(reads) == 2
    desk.wait(1 / 1440)
    assert stage() == "paper" and len(reads) == 3


def test_a_kill_by_drawdown_takes_the_policy_down_and_its_gate_with_it(tmp_path):
    desk = Desk(tmp_path)
    version = desk.version("momentum")
    desk.evaluate(version)
    desk.promote(version, "paper", "alice")
    gate = StageGate(LedgerStage(tmp_path, "momentum", clock=desk.clock), rules={"experiment": {"max_quantity": 3}})
    assert gate.stage == "paper" and quantity(gate) == 10
    switch = KillSwitch.at(tmp_path, log=desk.log, clock=desk.clock)
    switch.subject = version
    switch.trip("rule", "too deep", TruncationReason.DRAWDOWN)
    switch.finish()
    begin(gate)
    assert gate.stage == "experiment" == desk.stage(version) and quantity(gate, view_of(decision=[0])) == 3


def test_a_policy_without_a_row_in_the_ledger_is_refused(tmp_path):
    Desk(tmp_path)
    with pytest.raises(UnregisteredPolicy):
        StageGate(policy="momentum", folder=tmp_path)


def test_a_gate_is_copied_and_pickled_with_what_it_remembers():
    gate = StageGate("pilot", rules=SMALL)
    assert quantity(gate) == 5
    for twin in (copy.deepcopy(gate), pickle.loads(pickle.dumps(gate))):
        assert twin.stage == "pilot" and quantity(twin, view_of(decision=[1])) == 0, "the id was used before"
