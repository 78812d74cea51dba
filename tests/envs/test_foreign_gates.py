"""Gates of somebody else: what no gate may do is refused by name, and their reasons have names wherever reasons are shown."""

from __future__ import annotations

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest

import emp_gym  # noqa: F401
from emp_gym.envs import snapshot
from emp_gym.envs.conformance.subject import Subject
from emp_gym.envs.conformance.vector import lanes_equal_their_twins
from emp_gym.envs.foreign_gates import Foreign, is_foreign, reason_names
from emp_gym.envs.gates import resolve
from emp_gym.envs.wrappers.diary import describe
from emp_gym.envs.wrappers.risk import SafetyVectorAdapter
from emp_gym.risk.gates import AllowAll, CapQuantity, Gate, passed
from emp_gym.types import ConfigError, Orders, RequestType, Verdicts, View

OWN = np.uint64(1 << 32)
LIMIT, MARKET, CANCEL, REPLACE, NONE = RequestType.LIMIT, RequestType.MARKET, RequestType.CANCEL, RequestType.REPLACE, RequestType.NONE
VIEW: View = None  # type: ignore[assignment]  # what these gates do not look at


def asked() -> Orders:
    """Two lanes: (buy 100 @ 7, cancel 5, -) and (replace 9 by sell 200 @ 8, buy 300 at the market, -)."""
    orders = Orders.empty(2, 3)
    orders.records["price"][:, 2] = 77  # of no meaning where the kind is NONE
    orders.put(0, 0, LIMIT, side=1, price=7, quantity=100, id=1)
    orders.put(0, 1, CANCEL, id=5)
    orders.put(1, 0, REPLACE, side=-1, price=8, quantity=200, id=2, target=9)
    orders.put(1, 1, MARKET, side=1, quantity=300, id=3)
    return orders


class Does(Gate):
    """Copies what came in, and lets `how` change the copy and the reasons [N, K]."""

    def __init__(self, how, reason_names=()):
        self.how, self.reason_names = how, reason_names

    def __call__(self, view, orders):
        sent, reason = orders.copy(), np.zeros(orders.kind.shape, np.uint64)
        self.how(sent, reason)
        return sent, Verdicts(reason, orders.quantity.copy(), np.where(sent.kind == NONE, 0, sent.quantity))


def at(lane, entry, reason=OWN, **what):
    """A change of one entry."""

    def change(sent, why):
        why[lane, entry] = reason
        for name, value in what.items():
            (sent.kind if name == "kind" else sent.records[name])[lane, entry] = value

    return change


@pytest.mark.parametrize("change", [
    at(0, 0, quantity=99), at(0, 0, kind=NONE), at(1, 0, quantity=1), at(1, 0, kind=NONE), at(1, 1, kind=NONE, quantity=0, price=5),
    at(0, 0), at(0, 1), at(1, 1, OWN << np.uint64(30), quantity=299), lambda sent, reason: None,
])  # fmt: skip
def test_to_cut_to_drop_or_to_say_something_of_an_order_is_what_a_gate_may(change):
    before = asked()
    sent, verdicts = Foreign(Does(change))(VIEW, before)
    expected, reason = asked(), np.zeros((2, 3), np.uint64)
    change(expected, reason)
    assert (sent.kind == expected.kind).all() and (sent.records == expected.records).all() and (verdicts.reason == reason).all()
    assert (before.records == asked().records).all()


@pytest.mark.parametrize(("said", "change"), [
    ("adds an order: lane 0, entry 2: given NONE, sent MARKET quantity 5 side 1", at(0, 2, kind=MARKET, side=1, quantity=5)),
    ("drops a cancel: lane 0, entry 1: given CANCEL", at(0, 1, kind=NONE)),
    ("makes an order of another kind", at(0, 0, kind=MARKET)),
    ("makes an order of another kind", at(0, 1, kind=MARKET, side=1, quantity=1)),
    ("makes an order of another kind", at(1, 0, kind=LIMIT)),
    ("changes the side", at(0, 0, side=-1)),
    ("changes the price", at(0, 0, price=8)),
    ("changes the id", at(0, 1, id=6)),
    ("changes the target", at(1, 0, target=4)),
    ("changes the instrument", at(1, 1, instrument=1)),
    ("enlarges an order: lane 0, entry 0: given LIMIT quantity 100 .* sent LIMIT quantity 101", at(0, 0, quantity=101)),
    ("enlarges an order", at(1, 0, quantity=201)),
    ("enlarges an order", at(1, 1, 0, quantity=301)),
    ("leaves an order of no lots", at(0, 0, quantity=0)),
    ("leaves an order of no lots", at(1, 1, quantity=-300)),
    ("gives no reason for an order that it changed", at(0, 0, 0, quantity=99)),
    ("gives no reason for an order that it changed", at(1, 1, 0, kind=NONE)),
    *[(rf"gives a reason that is not its own: .* reason {1 << bit:#x}\.", at(0, 0, 1 << bit, quantity=1)) for bit in (0, 6, 23, 31, 63)],
    ("gives a reason where there is no order", at(0, 2)),
])  # fmt: skip
def test_what_no_gate_may_do_is_refused_by_its_name(said, change):
    with pytest.raises(ConfigError, match=rf"gate {__name__}:Does {said}.*docs/own_gate.md"):
        Foreign(Does(change))(VIEW, asked())


def test_a_gate_that_changes_what_came_in_is_refused():
    def scribble(view, orders):
        orders.quantity[0, 0] = 50
        return orders, passed(orders)

    def behind_a_copy(view, orders):
        sent = orders.copy()
        orders.kind[1, 1] = NONE
        return sent, passed(sent)

    for gate in resolve([scribble, behind_a_copy]):
        with pytest.raises(ConfigError, match="writes into the orders that it was given"):
            Foreign(gate)(VIEW, asked())


@pytest.mark.parametrize(("wrong", "said"), [
    (lambda o, r: (Orders.empty(2, 4), Verdicts(r, o.quantity, o.quantity)), r"orders: expected whole .* \(2, 3\), got int8 \(2, 4\)"),
    (lambda o, r: (o, Verdicts(r[:, :1], o.quantity, o.quantity)), r"reason: expected unsigned .* got uint64 \(2, 1\)"),
    (lambda o, r: (o, Verdicts(r.astype(np.int64), o.quantity, o.quantity)), r"reason: expected unsigned whole numbers"),
    (lambda o, r: (o, Verdicts(r, 0, o.quantity)), "quantity_before: expected whole numbers of .* got int$"),
    (lambda o, r: (o, Verdicts(r + OWN, o.quantity, o.quantity, touched=False)), "gives a reason where there is no order"),
    (lambda o, r: (o, Verdicts(r + OWN * (o.kind != NONE), o.quantity, o.quantity, touched=False)), "says that nothing was touched"),
    (lambda o, r: (o, Verdicts(r + OWN * (o.kind == LIMIT), o.quantity, 0 * o.quantity)), "tells other lots, before and after"),
    (lambda o, r: (o, Verdicts(r + OWN * (o.kind == LIMIT), 2 * o.quantity, o.quantity)), "tells other lots, before and after"),
])  # fmt: skip
def test_verdicts_must_be_those_of_the_orders(wrong, said):
    (gate,) = resolve([lambda view, orders: wrong(orders, np.zeros(orders.kind.shape, np.uint64))])
    with pytest.raises(ConfigError, match=said.replace("int$", "int;")):
        Foreign(gate)(VIEW, asked())


class Derived(CapQuantity):
    """One of ours with other parameters."""


class Own(CapQuantity):
    def __call__(self, view, orders):
        return super().__call__(view, orders)


def test_ours_are_not_looked_at_unless_their_call_is_somebody_elses():
    assert [is_foreign(gate) for gate in (AllowAll(), CapQuantity(), Derived(), Own(), resolve([lambda v, o: None])[0])] == [
        False, False, False, True, True
    ]  # fmt: skip
    env = gym.make_vec("emp-lob-v0", num_envs=2, gates=["allow-all", Own(10)])
    assert env.unwrapped.lanes.row.asked[0] is env.unwrapped.gates[0], "asked without more ado"
    env.reset(seed=0)
    with pytest.raises(ConfigError, match=r"Own gives a reason that is not its own: .* reason 0x40\."):
        env.step(np.full(2, 7))


class Half(Gate):
    """Cuts every new order to `most` lots, and drops market orders of lane 1."""

    reason_names = ("too-large", "not-here")

    def __init__(self, most: int = 50) -> None:
        self.most = most

    def __call__(self, view, orders):
        new = (orders.kind != NONE) & (orders.kind != CANCEL)
        large, drop = new & (orders.quantity > self.most), orders.kind == MARKET
        drop[np.arange(len(drop)) != 1] = False
        sent = orders.copy()
        sent.quantity[large] = self.most
        sent.kind[drop] = NONE
        reason = np.where(large, OWN, np.uint64(0)) | np.where(drop, OWN << np.uint64(1), np.uint64(0))
        return sent, Verdicts(reason, orders.quantity.copy(), np.where(drop, 0, sent.quantity))


class Smaller(Half):
    """Cuts only: the same in every lane."""

    def __call__(self, view, orders):
        sent, reason = orders.copy(), np.zeros(orders.kind.shape, np.uint64)
        large = (orders.kind != NONE) & (orders.kind != CANCEL) & (orders.quantity > self.most)
        sent.quantity[large], reason[large] = self.most, OWN
        return sent, Verdicts(reason, orders.quantity.copy(), sent.quantity.copy())


def test_reasons_have_names_in_counts_and_in_what_a_diary_keeps():
    env = gym.make_vec("emp-lob-v0", num_envs=2, gates=[Half(), "cap-quantity"], autoreset_mode="SameStep")
    env.reset(seed=0)
    half, ours = env.unwrapped.gates
    assert half.counters() == {"too-large": 0, "not-here": 0}
    for _ in range(3):
        env.step(np.full(2, 7))
    assert half.counters() == {"too-large": 6, "not-here": 3}
    assert reason_names(half) == [*("",) * 32, "too-large", "not-here"] and reason_names(ours) == []
    assert describe(env)["gates"][0]["reasons"][32:] == ["too-large", "not-here"]


@pytest.mark.parametrize("again", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_copies_count_on(again):
    env = gym.make_vec("emp-lob-v0", num_envs=2, gates=[Half()])
    env.reset(seed=0)
    env.step(np.full(2, 7))
    twin = again(env)
    twin.step(np.full(2, 7))
    assert twin.unwrapped.gates[0].counters() == {"too-large": 4, "not-here": 2}
    assert env.unwrapped.gates[0].counters() == {"too-large": 2, "not-here": 1}


def test_counts_are_kept_with_the_lanes(tmp_path):
    first, second = (gym.make_vec("emp-lob-v0", num_envs=2, gates=[Half()]) for _ in range(2))
    first.reset(seed=0)
    first.step(np.full(2, 7))
    snapshot.save(first, tmp_path / "lanes.npz")
    second.reset(options={"state": str(tmp_path / "lanes.npz")})
    assert second.unwrapped.gates[0].counters() == {"too-large": 2, "not-here": 1}


@pytest.mark.parametrize("names", ["lunch", ("two words",), ("",), (3,), ["lunch"], ("x",) * 32])
def test_names_that_cannot_be_shown_are_refused(names):
    with pytest.raises(ConfigError, match=r"reason_names must be a tuple of at most 31 words, those of its reason bits from 32 on, got"):
        gym.make("emp-lob-v0", gates=[Does(at(0, 0), names)])


def test_the_info_of_a_lane_that_resets_in_the_same_step_is_that_of_the_reset():
    lane_rule = {"gate": "kill-switch", "scope": "lane", "drawdown": 5}
    gates = [{"gate": f"{__name__}:Smaller", "most": 30}, lane_rule]
    assert [*lanes_equal_their_twins(Subject.of("emp-lob-v0", gates=gates))] == []


def test_what_the_last_step_cost_stands_in_its_final_info():
    env = SafetyVectorAdapter(gym.make_vec("emp-lob-v0", num_envs=2, episode="2 decisions", gates=[Half()], autoreset_mode="SameStep"))
    env.reset(seed=0)
    for step in range(1, 5):
        _, _, cost, _, cut, info = env.step(np.full(2, 7))
        assert (cost == 1).all() and cut.all() == (step % 2 == 0)
        told = info["final_info"] if cut.all() else info
        assert told["cost"].tolist() == [1, 1] and told["reason"].tolist() == [1 << 32, 3 << 32]
        assert info["cost"].any() != cut.all() and info["reason"].any() != cut.all()
