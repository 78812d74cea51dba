"""Lanes that are put back where they stood go on as if nothing had been: observations, rewards, ends and infos, bit for bit."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

import emp_gym  # noqa: F401
from emp_gym.envs import snapshot
from emp_gym.envs.sb3 import NativeVecEnv
from emp_gym.market.replay import MOST_NOTES
from emp_gym.risk.gates import Gate, passed
from emp_gym.types import ConfigError, DataError

STRICT = {"gate": "risk", "limits": "configs/limits/strict.yaml"}
MASKING = {"gate": "risk", "limits": "configs/limits/default.yaml", "masks": True}
RULES = {"gate": "kill-switch", "scope": "lane", "drawdown": 0.2, "messages": {"count": 40, "window_ms": 1000}}
WORLDS = [
    ("emp-lob-v0", {"impact": "permanent", "order_quantity": 200}),
    ("emp-lob-v0", {"latency_ns": 200_000, "impact": "resilient", "gates": ["allow-all", STRICT]}),
    ("emp-lob-market-making-v0", {"impact": "permanent", "gates": [RULES]}),
    ("emp-lob-execution-v0", {"gates": [{"gate": "stage", "stage": "paper"}, MASKING]}),
]


def same(a, b) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, np.ndarray) and a.dtype == object:
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, np.ndarray) and a.dtype.names:  # but for the padding between fields
        return all(same(a[name].copy(), b[name].copy()) for name in a.dtype.names)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.tobytes() == b.tobytes()
    return a == b


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
@pytest.mark.parametrize(("name", "arguments"), WORLDS)
def test_lanes_go_on_to_the_bit_where_they_stood(name, arguments, mode, tmp_path, monkeypatch, root):
    monkeypatch.chdir(root)

    def make():
        return gym.make_vec(name, num_envs=6, autoreset_mode=mode, episode="24 decisions", info="full", **arguments)

    first, rng = make(), np.random.default_rng(1)
    first.action_space.seed(3)
    first.reset(seed=5, options={"stagger": True})
    for _ in range(40 + int(rng.integers(10))):
        first.step(first.action_space.sample())
    path = tmp_path / "lanes.npz"
    snapshot.save(first, path)
    second = make()
    observation, info = second.reset(seed=99, options={"state": str(path)})
    assert info["continued"].all() and same(observation, np.array(first.unwrapped._observation))
    again = tmp_path / "again.npz"
    snapshot.save(second, again)
    with np.load(path) as one, np.load(again) as other:
        assert same(dict(one), dict(other)), "looking at the lanes has changed nothing"
    ends = 0
    for _ in range(60):
        action = first.action_space.sample()
        one, other = first.step(action), second.step(action)
        for info in (one[4], other[4]):
            info["orders"][info["kind"] == 0] = 0  # no order stands there
            info.get("final_info", {}).pop("orders", None)
        assert all(same(x, y) for x, y in zip(one, other, strict=True))
        ends += int((one[2] | one[3]).sum())
    assert ends > 6


def test_lanes_go_on_where_there_are_other_cores(tmp_path, monkeypatch, root):
    monkeypatch.chdir(root)
    first = gym.make_vec("emp-lob-v0", num_envs=256, threads=2, gates=[STRICT])
    first.action_space.seed(0)
    first.reset(seed=0)
    for _ in range(20):
        first.step(first.action_space.sample())
    snapshot.save(first, tmp_path / "lanes.npz")
    second = gym.make_vec("emp-lob-v0", num_envs=256, threads=1, gates=[STRICT])
    second.reset(options={"state": str(tmp_path / "lanes.npz")})
    counts = [env.unwrapped.lanes.gates[0].counters() for env in (first, second)]
    assert counts[0] == counts[1] and sum(counts[0].values()) > 0
    action = first.action_space.sample()
    assert all(same(x, y) for x, y in zip(first.step(action), second.step(action), strict=True))


def test_a_state_of_other_lanes_or_another_task_is_refused(tmp_path):
    env = gym.make_vec("emp-lob-v0", num_envs=2)
    env.reset(seed=0)
    path = tmp_path / "lanes.npz"
    snapshot.save(env, path)
    for other in (gym.make_vec("emp-lob-v0", num_envs=3), gym.make_vec("emp-lob-v0", num_envs=2, order_quantity=200),
                  gym.make_vec("emp-lob-v0", num_envs=2, latency_ns=5)):  # fmt: skip
        with pytest.raises(DataError, match="another environment"):
            other.reset(options={"state": str(path)})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="not a state of lanes"):
        env.reset(options={"state": str(path)})
    with pytest.raises(ConfigError, match="leave out"):
        env.reset(options={"state": str(path), "day": 1})


def test_a_gate_that_cannot_tell_is_named(tmp_path):
    class Quiet:
        def __call__(self, view, orders):
            raise AssertionError

    env = gym.make_vec("emp-lob-v0", num_envs=2)
    env.reset(seed=0)
    env.unwrapped.lanes.gates = (Quiet(),)
    with pytest.raises(ConfigError, match="Quiet cannot say where it stands"):
        snapshot.save(env, tmp_path / "lanes.npz")


class Counting(Gate):
    """Counts what each lane has sent in its episode, in an array that it makes at the first episode; stops a lane at 25."""

    def __init__(self, most: int = 25) -> None:
        self.most, self.sent = most, None

    def before_episode(self, view, lanes):
        if self.sent is None:
            self.sent = np.zeros(len(view.time_ns), np.int32)
        self.sent[lanes] = 0

    def __call__(self, view, orders):
        self.sent += (orders.kind != 0).sum(axis=1, dtype=np.int32)
        return orders, passed(orders)

    @property
    def stopped(self):
        return np.where(self.sent >= self.most, 1, 0).astype(np.int8)


def test_the_arrays_of_a_gate_of_ones_own_go_on_too(tmp_path):
    def make():
        return gym.make_vec("emp-lob-v0", num_envs=3, autoreset_mode="SameStep", gates=[Counting()])

    first, path = make(), tmp_path / "lanes.npz"
    first.action_space.seed(4)
    first.reset(seed=5)
    for _ in range(7):
        first.step(first.action_space.sample())
    snapshot.save(first, path)
    second, stops = make(), 0
    second.reset(options={"state": str(path)})
    assert first.unwrapped.gates[0].sent.any()
    for _ in range(40):
        assert (first.unwrapped.gates[0].sent == second.unwrapped.gates[0].sent).all()
        action = first.action_space.sample()
        one, other = first.step(action), second.step(action)
        assert all(same(x, y) for x, y in zip(one, other, strict=True))
        stops += int(one[3].sum())
    assert stops > 3
    for name, change in (("sent", lambda a: a[:-4]), ("seen", lambda a: a)):
        with np.load(path) as stored:
            forged = dict(stored)
        forged[f"gate.0.{name}"] = change(forged.pop("gate.0.sent"))
        np.savez(tmp_path / "forged.npz", **forged)
        before = second.unwrapped.gates[0].sent.copy()
        with pytest.raises(DataError, match=rf"forged\.npz: .*{name}: "):
            second.reset(options={"state": str(tmp_path / "forged.npz")})
        assert (second.unwrapped.gates[0].sent == before).all()


@pytest.mark.parametrize("kept", [[1], {"lane": 2}, {3}])
def test_a_gate_that_remembers_in_something_else_than_arrays_is_named(kept, tmp_path):
    gate = Counting()
    gate.history = kept
    env = gym.make_vec("emp-lob-v0", num_envs=2, gates=[gate])
    env.reset(seed=0)
    with pytest.raises(ConfigError, match=rf"Counting cannot say where it stands: history is a {type(kept).__name__}"):
        snapshot.save(env, tmp_path / "lanes.npz")


def test_what_sb3_counts_of_an_episode_goes_on_too(tmp_path):
    def make():
        return NativeVecEnv(gym.make_vec("emp-lob-v0", num_envs=2, episode="9 decisions", autoreset_mode="SameStep"), stagger=False)

    first = make()
    first.seed(0), first.reset()
    assert not first.continued
    for _ in range(5):
        first.step(np.array([1, 7]))
    snapshot.save(first.env, tmp_path / "lanes.npz")
    second = make()
    second.set_options({"state": str(tmp_path / "lanes.npz")})
    second._stagger = False
    second.reset()
    assert second.continued
    second.restore(first.arrays())
    for _ in range(4):
        one, other = first.step(np.array([1, 7])), second.step(np.array([1, 7]))
    assert [info["episode"]["r"] for info in one[3]] == [info["episode"]["r"] for info in other[3]]
    assert [info["episode"]["l"] for info in other[3]] == [9, 9]


@pytest.mark.parametrize("name", sorted(name for name in gym.registry if name.startswith("emp-") and "lob" not in name))
def test_certificates_go_on_too(name, tmp_path):
    first, path = gym.make_vec(name, num_envs=4, autoreset_mode="SameStep"), tmp_path / "lanes.npz"
    first.action_space.seed(3)
    first.reset(seed=5)
    for _ in range(7):
        first.step(first.action_space.sample())
    snapshot.save(first, path)
    second = gym.make_vec(name, num_envs=4, autoreset_mode="SameStep")
    second.reset(seed=99, options={"state": str(path)})
    for _ in range(60):
        action = first.action_space.sample()
        one, other = first.step(action), second.step(action)
        assert all(same(x, y) for x, y in zip(one, other, strict=True))


def test_what_was_taken_at_many_prices_is_kept_whatever_room_the_other_lanes_have(tmp_path):
    def make():
        return gym.make_vec("emp-lob-v0", num_envs=5, impact="permanent", every="30 messages", episode="200 decisions")

    first = make()
    first.action_space.seed(2)
    first.reset(seed=4)
    market = first.unwrapped.lanes.market
    room = market.taken.shape[1]
    for _ in range(150):
        first.step(first.action_space.sample())
    taken, consumed = market.taken, market.state["consumed"]
    assert taken.shape[1] > room and consumed.max() > room
    for lane, count in enumerate(consumed):
        notes = taken[lane, :count]
        assert len({(int(note["side"]), int(note["price"])) for note in notes}) == count, "a note a price"
    snapshot.save(first, tmp_path / "lanes.npz")
    second = make()
    second.reset(seed=9, options={"state": str(tmp_path / "lanes.npz")})
    again = second.unwrapped.lanes.market
    used = consumed.max()
    assert (again.state["consumed"] == consumed).all() and (again.taken[:, :used] == market.taken[:, :used]).all()
    for _ in range(40):
        action = first.action_space.sample()
        assert all(same(one, other) for one, other in zip(first.step(action)[:4], second.step(action)[:4], strict=True))


def test_only_the_notes_in_use_are_kept_and_more_than_a_file_may_hold_are_refused_when_saved(tmp_path, monkeypatch):
    env = gym.make_vec("emp-lob-v0", num_envs=2, impact="permanent")
    env.reset(seed=0)
    market = env.unwrapped.lanes.market
    market.make_room(4 * MOST_NOTES)  # of an earlier episode
    snapshot.save(env, tmp_path / "lanes.npz")
    env.reset(options={"state": str(tmp_path / "lanes.npz")})
    market.state["consumed"][1] = MOST_NOTES + 1
    with pytest.raises(ConfigError, match=r"a lane remembers what it took at 8,193 prices, a file holds at most 8,192"):
        snapshot.save(env, tmp_path / "lanes.npz")


def test_a_state_whose_notes_had_another_form_is_refused(tmp_path, monkeypatch):
    env = gym.make_vec("emp-lob-v0", num_envs=2)
    env.reset(seed=0)
    snapshot.save(env, tmp_path / "lanes.npz")
    market = env.unwrapped.lanes.market
    earlier = np.dtype([("price", "i8"), ("quantity", "i8"), ("time_ns", "i8"), ("row", "i8"), ("side", "i8")])
    monkeypatch.setattr(market, "taken", np.zeros(market.taken.shape, earlier))
    with pytest.raises(DataError, match="the version of this package differ"):
        env.reset(options={"state": str(tmp_path / "lanes.npz")})
