"""A market from outside under our environments: the three tasks run on it unchanged, and go on from copies and files to the bit."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import emp_gym  # noqa: F401
from emp_gym import trust
from emp_gym.envs import ENVIRONMENTS, snapshot
from emp_gym.envs.about import about
from emp_gym.evaluation.observers import Began, Decision, Observer, Settled
from emp_gym.market.base import Market
from emp_gym.types import ConfigError, DataError, OrderAck
from tests.faulty_markets import Late

WALK = "emp_example_market.market:Walk"
SHORT = {"episode": "20 decisions"}


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """As if it were installed."""
    monkeypatch.syspath_prepend(str(root / "tests" / "third_party" / "emp_example_market"))


def same(one: tuple, other: tuple) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one[:4], other[:4], strict=True))


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_the_three_tasks_run_and_go_on_from_copies_and_files(env_id: str, mode: str, tmp_path: Path) -> None:
    env = gym.make_vec(env_id, num_envs=4, market=WALK, spread=4, autoreset_mode=mode, **SHORT)
    env.action_space.seed(0)
    env.reset(seed=3)
    fills = 0
    for _ in range(45):
        observation, reward, *_ = env.step(env.action_space.sample())
        fills += len(env.unwrapped.last_fills.lane)
        assert np.isfinite(observation).all() and np.isfinite(reward).all()
    assert fills > 20
    path = tmp_path / "lanes.npz"
    snapshot.save(env, path)
    other = gym.make_vec(env_id, num_envs=4, market={"market": WALK, "spread": 4}, autoreset_mode=mode, **SHORT)
    other.reset(options={"state": str(path)})
    twins = [copy.deepcopy(env.unwrapped), pickle.loads(pickle.dumps(env.unwrapped)), other]
    for _ in range(30):
        action = env.action_space.sample()
        told = env.step(action)
        assert all(same(told, twin.step(action)) for twin in twins)
    with pytest.raises(DataError, match="another environment"):
        gym.make_vec(env_id, num_envs=4, market=WALK, autoreset_mode=mode, **SHORT).reset(options={"state": str(path)})


def test_what_an_environment_says_of_itself_is_what_its_market_says() -> None:
    env = gym.make("emp-lob-v0", market=WALK)
    known = about(env)
    assert (known.days, known.assumes, str(known.clock)) == (None, None, "100 messages") and known.starts is not None
    assert {"status", "in_flight", "spread", "rate"} <= set(known.constant_features)
    assert len(env.unwrapped.windows()) == 256 and len(set(env.unwrapped.windows(5))) == 5
    train, test = (set(gym.make("emp-lob-v0", market=WALK, split=split).unwrapped.windows()) for split in ("train", "test"))
    assert not train & test
    with pytest.raises(DataError, match="no planted signal"):
        env.unwrapped.truth()


def test_a_pinned_start_is_the_same_episode_whatever_the_seed() -> None:
    episodes = []
    for seed in (1, 2):
        env = gym.make("emp-lob-v0", market=WALK)
        observation, _ = env.reset(seed=seed, options={"day": 0, "start": 77})
        episodes.append([observation, *(env.step(1)[0] for _ in range(5))])
    assert all(np.array_equal(one, other) for one, other in zip(*episodes))
    with pytest.raises(ConfigError, match="start must be a number in a simulated market"):
        env.reset(options={"start": "10:15:00"})


@pytest.mark.parametrize("mode", ["ansi", "rgb_array"])
def test_a_market_without_days_is_drawn(mode: str) -> None:
    env = gym.make("emp-lob-v0", market=WALK, render_mode=mode)
    env.reset(seed=1)
    env.step(1)
    drawn = env.render()
    assert drawn.startswith("WALK 09:30:00.100  trading  decision 1/256") if mode == "ansi" else drawn.shape == (600, 1100, 3)


@pytest.mark.parametrize(("keywords", "said"), [
    ({"market": "wlak"}, r"unknown market 'wlak': expected one of .*'replay'"),
    ({"market": WALK, "spraed": 4}, "did you mean 'spread'"),
    ({"market": {"market": WALK, "spraed": 4}}, "did you mean 'spread'"),
    ({"market": WALK, "fills": "touch"}, "got an unexpected keyword argument 'fills'"),
    ({"market": WALK, "levels": 5}, "levels must be at most 1, got 5"),
    ({"market": WALK, "every": "1 bar"}, "every must be like '100 messages'"),
    ({"market": "emp_gym.types:Orders"}, "derives from emp_gym.market.base:Market"),
    ({"market": WALK, "max_position": 1 << 40}, "max_position must be at most .* on WALK"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused_by_name(keywords: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        gym.make("emp-lob-v0", **keywords)


def test_a_market_is_named_by_its_class_and_never_by_an_object() -> None:
    kind = trust.resolve(WALK, "market", lambda cls: issubclass(cls, Market), "a market")
    assert gym.make("emp-lob-v0", market=kind).unwrapped.lanes.market.config == kind.Config()
    with pytest.raises(ConfigError, match="is made for its lanes: give its class or name"):
        gym.make("emp-lob-v0", market=gym.make("emp-lob-v0", market=kind).unwrapped.lanes.market)


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_tasks_and_gates_hold_their_limits_where_answers_come_a_decision_late(env_id: str) -> None:
    heard = Answers()
    limits = {"gate": "risk", "limits": "configs/limits/default.yaml"}
    env = gym.make_vec(env_id, num_envs=8, market=Late, gates=limits, autoreset_mode="SameStep", **SHORT)
    env.action_space.seed(1)
    env.unwrapped.attach(heard)
    env.reset(seed=5)
    limit = about(env).task.limit
    for _ in range(60):
        env.step(env.action_space.sample())
        assert (abs(env.unwrapped.view.position) <= limit).all()
    assert heard.answered > 50 and heard.unasked == 0


class Answers(Observer):
    """Counts reports, and those of orders that nobody waits for."""

    def __init__(self) -> None:
        self.waiting: set[tuple[int, int]] = set()
        self.answered = self.unasked = 0

    def began(self, now: Began) -> None:
        self.waiting = {(lane, order) for lane, order in self.waiting if lane not in now.lanes}

    def decided(self, now: Decision) -> None:
        self.ids = now.sent.records["id"].copy()

    def settled(self, now: Settled) -> None:
        for told in zip(now.reports.lane.tolist(), now.reports.id.tolist(), strict=True):
            self.unasked += told not in self.waiting
            self.waiting.discard(told)
            self.answered += 1
        self.waiting |= {(lane, int(self.ids[lane, k])) for lane, k in np.argwhere(now.outcome == OrderAck.PENDING).tolist()}
