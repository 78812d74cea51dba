"""Gates sit between task and market: how they are found, ordered and told of what happens."""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import pytest

import emp_gym  # noqa: F401
from emp_gym.envs.gates import resolve
from emp_gym.risk.gates import CAPPED, AllowAll, CapQuantity, Gate, passed
from emp_gym.types import ConfigError, TruncationReason


def test_gates_are_found_by_name_mapping_and_module():
    by_name, by_mapping, by_module = resolve(
        ["allow-all", {"gate": "cap-quantity", "largest": 7}, "emp_gym.risk.gates:AllowAll"]
    )
    assert isinstance(by_name, AllowAll) and isinstance(by_module, AllowAll)
    assert isinstance(by_mapping, CapQuantity) and by_mapping.largest == 7
    assert resolve(None) == ()


def test_unknown_gate_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'cap-quantity'"):
        resolve("cap-quantiti")


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_gate_in_the_environment_changes_what_reaches_the_market(lanes):
    env = gym.make_vec("emp-lob-v0", num_envs=lanes, gates=[{"gate": "cap-quantity", "largest": 10}])
    env.reset(seed=1)
    _, _, _, _, info = env.step(np.full(lanes, 7))
    assert (env.unwrapped.view.position[:, 0] == 10).all(), "a clip of 100 was cut to 10"
    assert (info["cost"] == 1).all() and (info["reason"] == CAPPED).all()


def test_a_slack_gate_changes_no_byte():
    free, gated = (gym.make("emp-lob-v0", gates=gates) for gates in (None, ["allow-all"]))
    seen = []
    for env in (free, gated):
        observation, _ = env.reset(seed=4)
        env.action_space.seed(4)
        trace = [observation.tobytes()]
        for _ in range(300):
            observation, reward, end, cut, _ = env.step(env.action_space.sample())
            trace.append(observation.tobytes() + np.float64(reward).tobytes())
            if end or cut:
                env.reset()
        seen.append(trace)
    assert seen[0] == seen[1]


class Told(Gate):
    """A gate that writes down what it is asked for, and stops lane 1 at its third call."""

    def __init__(self, name: str, last: bool = False) -> None:
        self.name, self.last, self.told, self.calls = name, last, [], 0

    def __call__(self, view, orders):
        self.calls += 1
        self.told.append("asked")
        return orders, passed(orders)

    def before_episode(self, view, lanes):
        self.told.append(f"begin {lanes.tolist()}")

    def after_market(self, view):
        self.told.append("sent")

    @property
    def stopped(self):
        return np.array([0, TruncationReason.CALL], np.int8) if self.calls == 3 else None


def test_gates_are_told_of_episodes_and_of_what_is_sent():
    gate = Told("one")
    env = gym.make_vec("emp-lob-v0", num_envs=2, gates=[gate], autoreset_mode="SameStep")
    env.reset(seed=0)
    for _ in range(2):
        *_, info = env.step(np.zeros(2, int))
        assert (info["truncated_by"] == 0).all() and info["_truncated_by"].all()
    assert gate.told == ["begin [0, 1]", "asked", "sent", "asked", "sent"]
    _, _, _, truncated, info = env.step(np.zeros(2, int))
    assert truncated.tolist() == [False, True] and info["truncated_by"].tolist() == [0, 0], "lane 1 has begun anew"
    assert info["final_info"]["truncated_by"].tolist() == [0, TruncationReason.CALL]
    assert info["final_info"]["summary"]["length"].tolist() == [0, 3]
    assert gate.told[-3:] == ["asked", "sent", "begin [1]"]


def test_a_gate_that_is_last_stays_last():
    first, last = Told("first"), Told("last", last=True)
    env = gym.make("emp-lob-v0", gates=[last, first, "allow-all"]).unwrapped
    assert env.lanes.gates[-1] is last
    env.lanes.gates = (*env.lanes.gates, CapQuantity(5))
    assert env.lanes.gates[-1] is last and isinstance(env.lanes.gates[-2], CapQuantity)


def test_a_gate_that_fails_is_told_that_the_step_is_over():
    class Failing:
        def __call__(self, view, orders):
            raise ConfigError("no")

    gate = Told("one")
    env = gym.make("emp-lob-v0", gates=[gate, Failing()])
    env.reset(seed=0)
    with pytest.raises(ConfigError, match="no"):
        env.step(0)
    assert gate.told[-2:] == ["asked", "sent"]


def test_info_has_no_reason_where_nobody_may_stop_a_lane():
    env = gym.make("emp-lob-v0", gates=["allow-all"])
    _, info = env.reset(seed=0)
    assert "truncated_by" not in info and "truncated_by" not in env.step(0)[4]


def test_what_remains_of_a_parent_order_is_not_taken_once_a_gate_has_stopped_the_lane():
    gate = Told("one")
    env = gym.make_vec("emp-lob-execution-v0", num_envs=2, gates=[gate], autoreset_mode="Disabled")
    env.reset(seed=0)
    for _ in range(3):
        *_, truncated, info = env.step(np.zeros(2, int))
    assert truncated.tolist() == [False, True]
    assert (env.unwrapped.view.position == 0).all(), "a stop is no reason to trade"
    assert info["summary"]["filled"][1] == 0


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "README.md"])
def test_who_looks_for_gates_is_sent_to_the_page(root, page):
    assert "docs/own_gate.md" in (root / page).read_text()


@pytest.mark.parametrize(("give", "got"), [
    (lambda orders: orders, "Orders"), (lambda orders: None, "NoneType"), (lambda orders: (orders,), r"\(Orders\)"),
    (lambda orders: (orders, None), r"\(Orders, NoneType\)"), (lambda orders: (passed(orders), orders), r"\(Verdicts, Orders\)"),
    (lambda orders: [orders, passed(orders)], "list"),
])  # fmt: skip
def test_a_gate_that_gives_back_something_else_is_named(give, got):
    class Careless:
        def __call__(self, view, orders):
            return give(orders)

    env = gym.make("emp-lob-v0", gates=[Careless()])
    env.reset(seed=0)
    with pytest.raises(ConfigError, match=rf"Careless: expected \(orders, verdicts\), .*, got {got}; docs/own_gate.md"):
        env.step(0)


def nothing_from_noon(view, orders):
    return orders, passed(orders)


class Plain:
    def __call__(self, view, orders):
        return orders, passed(orders)


@pytest.mark.parametrize("gate", [nothing_from_noon, Plain(), lambda view, orders: (orders, passed(orders))])
def test_a_plain_callable_is_a_gate_named_by_its_place(gate):
    env = gym.make("emp-lob-v0", gates=[gate]).unwrapped
    env.reset(seed=0)
    env.step(7)
    (own,) = env.gates
    assert isinstance(own, Gate) and own.title == f"{__name__}:{getattr(gate, '__qualname__', 'Plain')}"
    assert own.described() is None and env.verdicts_of(own) is env.last_verdicts[0]


@pytest.mark.parametrize(("name", "value"), [
    ("stopped", None), ("last", True), ("counts_money", "currency"), ("before_episode", lambda view, lanes: None), ("masks", False),
])  # fmt: skip
def test_what_only_a_gate_is_asked_for_is_refused_of_anything_else(name, value):
    pretender = type("Pretender", (Plain,), {name: value})()
    with pytest.raises(ConfigError, match=rf"Pretender has {name}, and nobody .*: derive it from emp_gym.risk.gates.Gate"):
        gym.make("emp-lob-v0", gates=[pretender])
    lanes = gym.make("emp-lob-v0").unwrapped.lanes
    with pytest.raises(ConfigError, match="derive it from"):
        lanes.gates = (pretender,)
    assert lanes.gates == ()


@pytest.mark.parametrize("cls", [Plain, AllowAll])
def test_a_class_in_the_place_of_a_gate_is_refused(cls):
    with pytest.raises(ConfigError, match=rf"{cls.__name__} is a class: give an object of it, {cls.__name__}\(\.\.\.\)"):
        resolve([cls])


def test_a_gate_that_masks_must_say_what_it_would_let_pass():
    class Vague(AllowAll):
        masks = True

    with pytest.raises(ConfigError, match=r"has masks=True, but no allowed\("):
        gym.make("emp-lob-v0", gates=[Vague()])


def test_a_gate_without_a_call_says_what_is_missing():
    env = gym.make("emp-lob-v0", gates=[type("Empty", (Gate,), {})()])
    env.reset(seed=0)
    with pytest.raises(NotImplementedError, match=r"Empty must define __call__\(view, orders\)"):
        env.step(0)


@dataclass(frozen=True)
class Frozen(AllowAll):
    width: int = 3


def test_a_gate_says_of_what_it_is_made_wherever_it_stands(tmp_path):
    cap, kill = {"gate": "cap-quantity", "largest": 7}, {"gate": "kill-switch", "scope": "lane", "drawdown": 5}
    last, first, own, risk = resolve([kill, cap, {"gate": f"{__name__}:Frozen", "width": 2}, {"gate": "risk", "limits": {}}])
    assert first.described() == cap and first.title == "cap-quantity"
    assert last.described() is None and last.title == "kill-switch", "it listens to the world"
    assert own.described() == {"gate": f"{__name__}:Frozen", "width": 2} and own.width == 2
    assert risk.described().keys() == {"gate", "limits", "mode", "masks"} and resolve([risk.described()])[0].limits == risk.limits
    env = gym.make("emp-lob-v0", gates=[kill, cap])
    assert [gate.described() for gate in env.unwrapped.gates] == [cap, None], "the kill switch stands last, whatever the order"
