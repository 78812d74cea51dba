"""Tasks, rewards and feature sets of somebody else, in tens of lines, without an edit of ours."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest

import emp_gym  # noqa: F401
from emp_gym.envs import snapshot
from emp_gym.envs.about import about
from emp_gym.envs.conformance.suite import outcomes
from emp_gym.envs.tasks import MakeMarket, Reward, Task, TradeBook
from emp_gym.evaluation.intervals import OWN
from emp_gym.sensory.sets import FeatureSet
from emp_gym.types import (
    CASH_UNITS,
    F32,
    F64,
    I64,
    Action,
    Bool,
    ConfigError,
    Feature,
    Orders,
    RequestType,
    UnknownKeyword,
)

MODES = ["NextStep", "SameStep", "Disabled"]


@dataclass
class Position(Task):
    """Holds -2 to +2 clips: five actions, each a target."""

    actions = (Action("keep"), *(Action(f"hold {n:+d}", to=n, cancel=True) for n in range(-2, 3)))
    features = ("book", "flow", "clock", "account")
    rewards = ("pnl",)


@dataclass
class Growth(Reward):
    """Log growth of wealth, which begins at `capital` (currency)."""

    unit: ClassVar[str] = "basis points of log wealth"
    capital: float = 100_000.0

    def bind(self, world):
        super().bind(world)
        self.before = np.zeros(world.lanes)

    def begin(self, lanes):
        self.before[lanes] = 0.0

    def __call__(self, moved):
        now = 1e4 * np.log1p(self.world.view.equity2 / (2 * CASH_UNITS * self.capital))
        gained, self.before[moved] = now - self.before, now[moved]
        return gained


class Ticks(Reward):
    """`pnl`, written anew in numpy."""

    def bind(self, world):
        super().bind(world)
        self.before = np.zeros(world.lanes, np.int64)

    def begin(self, lanes):
        self.before[lanes] = 0

    def __call__(self, moved):
        view, now = self.world.view, self.world.view.equity2.copy()
        gained = (now - self.before) / (2 * view.price_to_cash[:, 0] * self.world.episodes["tick"] * self.world.clip)
        self.before[moved] = now[moved]
        return gained


class Skew(FeatureSet):
    """Which side of the visible book is deeper."""

    columns = (Feature("depth_skew", "share"),)

    def write(self, lanes, out):
        bids, asks = (size[lanes, 0].sum(axis=1) for size in (self.world.view.bid_size, self.world.view.ask_size))
        out[:, 0] = (bids - asks) / np.maximum(bids + asks, 1)


class Takes(Task):
    """Keep, buy or sell, and the best price back, as numpy: with a mask, a column and a number in the summary of its own."""

    actions = (Action("keep"), Action("in"), Action("out"))
    own_features = (Feature("held", "clips"),)
    features = ("book", "flow", "clock", "account")
    sent: np.ndarray

    def bind(self, world):
        super().bind(world)
        self.sent = np.zeros(world.lanes, np.int64)

    def begin(self, lanes):
        self.sent[lanes] = 0

    def mask(self, out: Bool) -> None:
        view, free = self.world.view, (self.world.view.order_id == 0).any(axis=1) & (self.world.view.status[:, 0] == 0)
        out[:, 1] = free & (view.position[:, 0] <= 0) & (view.ask_size[:, 0, 0] > 0)
        out[:, 2] = free & (view.position[:, 0] >= 0) & (view.bid_size[:, 0, 0] > 0)

    def request(self, actions, mask, out):
        super().request(actions, mask, out)
        self.sent += (out.kind != 0).sum(axis=1)

    def orders(self, actions: np.ndarray, out: Orders) -> None:
        for action, side in ((1, 1), (2, -1)):
            out.add(np.flatnonzero(actions == action), RequestType.MARKET, side=side, quantity=self.order_quantity)

    def observe(self, lanes: I64, out: F32) -> None:
        out[:, 0] = self.world.view.position[lanes, 0] / self.order_quantity

    def ends(self, late):
        return self.sent >= 6

    def summary(self, lanes):
        return {"sent": self.sent.copy()}


def trace(env: Any, steps: int, seed: int = 3) -> list[Any]:
    """All that an environment gives under random actions."""
    env.action_space.seed(seed)
    found: list[Any] = []
    for _ in range(steps):
        actions = env.action_space.sample()
        step = env.step(actions)
        found += [array.tobytes() for array in step[:4]] + [step[4]["action_mask"].tobytes()]
        if env.autoreset_mode.value == "Disabled" and (step[2] | step[3]).any():
            env.reset(options={"reset_mask": step[2] | step[3]})
    return found


def made(**keywords: Any) -> Any:
    return gym.make_vec("emp-lob-v0", **{"num_envs": 6, "episode": "12 decisions", "threads": 1} | keywords).unwrapped


def test_a_task_of_targets_trades_to_them_and_is_paid_by_a_reward_of_its_own():
    env = made(task=Position, reward=Growth, capital=50_000.0)
    known = about(env)
    assert known.menu == ("keep", "hold -2", "hold -1", "hold +0", "hold +1", "hold +2") and known.actions == Position.actions
    assert (known.reward, known.reward_unit, known.reward_parameters) == ("Growth", "basis points of log wealth", {"capital": 50_000.0})
    assert not any("live" in feature.name for feature in env.features)
    env.reset(seed=1)
    for action in (5, 1, 3, 4):
        _, _, _, _, info = env.step(np.full(6, action))
        assert (env.view.position[:, 0] == (action - 3) * 100).all() and info["action_mask"].all()
    paid = np.zeros(6)
    env.reset(seed=2)
    for _ in range(12):
        _, reward, _, cut, info = env.step(env.action_space.sample())
        paid += reward
    assert cut.all() and (env.view.position == 0).all()
    np.testing.assert_allclose(paid, 1e4 * np.log1p(info["summary"]["pnl"] / 50_000.0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(paid, info["summary"]["return"])


@pytest.mark.parametrize("mode", MODES)
def test_a_built_in_reward_written_anew_pays_the_same(mode):
    ours, anew = (made(reward=reward, autoreset_mode=mode) for reward in ("pnl", Ticks))
    told = [trace(env, 40) for env in (ours, anew) if env.reset(seed=4)]
    for n, (one, other) in enumerate(zip(*told, strict=True)):
        if n % 5 == 1:
            np.testing.assert_allclose(np.frombuffer(one), np.frombuffer(other), rtol=1e-12, atol=1e-12)
        else:
            assert one == other


EACH: list[dict[str, Any]] = [
    {"task": Position, "reward": Growth}, {"task": Takes, "reward": {"reward": Growth, "capital": 1e4}},
    {"reward": Ticks(), "features": ["account", Skew, "book"]}, {"task": Takes(order_quantity=50), "features": (Skew,)},
]  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("given", EACH, ids=["targets", "numpy", "sets", "objects"])
def test_copies_pickles_and_snapshots_continue_alike(given, mode, tmp_path: Path):
    env, file = made(**given, autoreset_mode=mode), tmp_path / "lanes.npz"
    env.reset(seed=5)
    trace(env, 9)
    snapshot.save(env, file)
    twins = [copy.deepcopy(env), pickle.loads(pickle.dumps(env)), made(**given, autoreset_mode=mode)]
    twins[2].reset(options={"state": str(file)})
    expected = trace(env, 30, 6)
    assert all(trace(twin, 30, 6) == expected for twin in twins)


def test_lanes_and_threads_do_not_change_what_they_get():
    few, many = made(task=Position, reward=Growth), made(task=Position, reward=Growth, num_envs=300, threads=2)
    for env in (few, many):
        env.reset(seed=7)
        for _ in range(15):
            seen, paid, *_ = env.step(np.full(env.num_envs, 4))
    assert np.array_equal(seen[:6], few._observation) and np.array_equal(many._observation[:6], few._observation)
    assert paid.shape == (300,)


def test_an_object_that_is_given_to_two_environments_belongs_to_neither():
    task = Takes(order_quantity=50)
    envs = [made(task=task), made(task=task, num_envs=2)]
    for env in envs:
        env.reset(seed=0)
        env.step(env.action_space.sample())
    assert not hasattr(task, "world") and [len(env.task.sent) for env in envs] == [6, 2] and envs[0].task.order_quantity == 50


def test_a_task_in_numpy_sends_masks_observes_and_ends_as_it_says():
    env = made(task=Takes, episode="200 decisions", autoreset_mode="Disabled")
    assert [feature.name for feature in env.features][-1] == "held"
    seen, info = env.reset(seed=0)
    for step in range(6):
        mask = env.lanes.mask.copy()
        allowed = mask[:, 1].all() and mask[:, 2].all() if step % 2 == 0 else not mask[:, 1].any() and mask[:, 2].all()
        assert allowed and seen[:, -1].any() != (step % 2 == 0)
        seen, _, done, _, info = env.step(np.full(6, 1 + step % 2))
    assert done.all() and (info["summary"]["sent"] == 6).all() and (info["summary"]["length"] == 6).all()
    env.reset(seed=0)
    for _ in range(3):
        env.step(np.full(6, 1))
    assert (env.lanes.episodes["masked"] == 2).all() and (env.view.position == 100).all()


class Table(Task):
    actions = (Action("keep"), Action("buy", take=1), Action("sell", take=-1), Action("cancel all", cancel=True))


class InNumpy(Table):
    """`Table` again, by hand."""

    def orders(self, actions, out):
        view = self.world.view
        for action, side in ((1, 1), (2, -1)):
            out.add(np.flatnonzero(actions == action), RequestType.MARKET, side=side, quantity=self.order_quantity)
        for k in range(view.order_id.shape[1]):
            lanes = np.flatnonzero((actions == 3) & (view.order_id[:, k] > 0) & ~view.order_leaving[:, k])
            out.add(lanes, RequestType.CANCEL, side=view.order_side[lanes, k], id=view.order_id[lanes, k])

    def mask(self, out):
        view, free = self.world.view, (self.world.view.order_id == 0).any(axis=1)
        for action, side, size in ((1, 1, view.ask_size), (2, -1, view.bid_size)):
            waiting = np.where(view.order_side == side, view.order_quantity, 0).sum(axis=1)
            room = self.max_position - side * view.position[:, 0] - waiting >= self.order_quantity
            out[:, action] = free & room & (view.status[:, 0] == 0) & (size[:, 0, 0] > 0)


class Careful(Table):
    """Takes one action from the table's mask while it holds something."""

    def mask(self, out):
        out[:, 1] &= self.world.view.position[:, 0] <= 0


def test_a_mask_of_ones_own_takes_from_that_of_the_table():
    free, careful = made(task=Table, max_position=200), made(task=Careful, max_position=200)
    for env in (free, careful):
        env.reset(seed=3)
        env.step(np.array([1, 0, 2, 2, 1, 0]))
        env.step(np.array([0, 0, 2, 2, 0, 0]))
    assert free.lanes.mask[:, 1].all() and careful.lanes.mask[:, 1].tolist() == [False, True, True, True, False, True]
    assert free.lanes.mask[:, 2].tolist() == careful.lanes.mask[:, 2].tolist() == [True, True, False, False, True, True]


GATES = [{"gate": "risk", "limits": {"instrument": {"max_position": 150}, "order": {"self_trade": "allow"}}, "masks": True}]


@pytest.mark.parametrize("given", [{}, {"gates": GATES}, {"latency_ns": 2_000_000_000}], ids=["plain", "narrowed", "late"])
def test_a_table_written_anew_in_numpy_does_the_same(given):
    told = []
    for task in (Table, InNumpy):
        env = made(task=task, num_envs=32, episode="40 decisions", **given)
        env.reset(seed=9)
        told.append((trace(env, 60), env.lanes.episodes["masked"].tolist()))
    assert told[0] == told[1] and sum(told[0][1]) > 0


@pytest.mark.parametrize("given", EACH[:3], ids=["targets", "numpy", "sets"])
def test_they_conform(given):
    left_out = {"sb3_accepts", "forked_workers_survive", "python_threads_do_not_meet"}
    told = [one for one in outcomes("emp-lob-v0", **given) if one.check not in left_out]
    assert [finding for one in told for finding in one.findings] == []
    assert {one.check for one in told if not one.skipped} >= {"seeds_decide_everything", "copies_continue_alike", "lanes_equal_their_twins"}


class NotFinite(Reward):
    def __call__(self, moved: Bool) -> F64:
        return np.full(self.world.lanes, np.nan)


class Wide(Task):
    actions = (Action("keep"), Action("many"))

    def orders(self, actions, out):
        for _ in range(11):
            out.add(np.arange(self.world.lanes), RequestType.MARKET, side=1, quantity=100)


def test_what_is_wrong_with_them_is_said():
    env = made(reward=NotFinite)
    env.reset(seed=0)
    with pytest.raises(ConfigError, match="the reward NotFinite must be finite numbers of shape"):
        env.step(np.zeros(6, np.int64))
    env = made(task=Wide)
    env.reset(seed=0)
    with pytest.raises(ConfigError, match="at most 10 requests a lane and decision"):
        env.step(np.ones(6, np.int64))
    with pytest.raises(ConfigError, match=r"reward must be one of .* for the task 'Position', or one of your own .*, got 'inventory'"):
        made(task=Position, reward="inventory")
    with pytest.raises(UnknownKeyword, match="did you mean 'capital'"):
        made(task=Position, reward=Growth, capitall=3.0)
    with pytest.raises(UnknownKeyword, match="unexpected keyword argument 'deep'"):
        made(task={"task": Position, "deep": 3})
    with pytest.raises(ConfigError, match=r"unknown task 'trad'.*did you mean 'trade'"):
        made(task="trad")
    with pytest.raises(ConfigError, match="expected one of"):
        made(task=MakeMarket, reward=TradeBook)


@pytest.mark.parametrize("task", ["trade", TradeBook, {"task": "trade", "order_quantity": 100}, TradeBook(max_position=500)])
def test_a_name_a_class_a_mapping_and_an_object_are_the_same_task(task):
    envs = [made(task=task), made()]
    assert np.array_equal(*(env.reset(seed=8)[0] for env in envs)) and trace(envs[0], 14) == trace(envs[1], 14)


@pytest.mark.parametrize("name", ["pnl", *sorted(OWN)])
def test_a_task_cannot_tell_figures_of_the_environment_or_of_a_report_by_its_own(name):
    class Boast(Table):
        def summary(self, lanes):
            return {name: np.full(self.world.lanes, 1e6)}

    env = gym.make_vec("emp-lob-v0", num_envs=2, task=Boast, episode="2 decisions", autoreset_mode="SameStep")
    env.reset(seed=0)
    with pytest.raises(ConfigError, match=rf"Boast may not have \['{name}'\]"):
        for _ in range(3):
            env.step(np.zeros(2, np.int64))


class Held(Table):
    """Keeps what it has when an episode ends."""

    def target(self, lanes, stopped):
        return self.world.view.position[lanes, 0].copy()


def test_what_is_held_at_the_end_is_worth_the_last_mid():
    env = gym.make_vec("emp-lob-v0", num_envs=4, task=Held, episode="9 decisions", autoreset_mode="Disabled").unwrapped
    env.reset(seed=0)
    for _ in range(9):
        *_, info = env.step(np.full(4, Held().menu.index("buy")))
    assert (env.view.position[:, 0] > 0).all()
    assert np.array_equal(np.rint(info["summary"]["pnl"] * 2e8), env.view.equity2)
