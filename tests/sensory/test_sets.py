"""Feature sets: ours are cut at their borders and nowhere else, those of others stand behind them, finished alike."""

from __future__ import annotations

import copy
import itertools
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import emp_gym  # noqa: F401  (registers the ids)
from emp_gym.envs import snapshot
from emp_gym.sensory.lob import CLIP, LOOKS, features
from emp_gym.sensory.sets import FEATURES, FeatureSet
from emp_gym.types import ConfigError, Feature, MessageType, UnknownKeyword

NAMES = ("book", "flow", "clock", "account", "orders")
SETS = {name: 1 << n for n, name in enumerate(NAMES)}


def made(env_id: str = "emp-lob-v0", **keywords: Any) -> Any:
    usual = {"num_envs": 4, "episode": "10 decisions", "every": "300 messages", "threads": 1, "autoreset_mode": "SameStep"}
    return gym.make_vec(env_id, **(usual | keywords)).unwrapped


def observed(env: Any, steps: int = 25, seed: int = 3) -> np.ndarray:
    """Observations [steps + 1, N, D] under random actions, the same for every environment of the same actions."""
    env.action_space.seed(seed)
    rows = [env.reset(seed=seed)[0]]
    for _ in range(steps):
        rows.append(env.step(env.action_space.sample())[0].copy())
    return np.array(rows)


def names(env: Any) -> list[str]:
    return [feature.name for feature in env.features]


# ------------------------------------------------------------------------------------------------------------------------ ours


@pytest.mark.parametrize("env_id", ["emp-lob-v0", "emp-lob-market-making-v0", "emp-lob-execution-v0"])
def test_every_choice_of_our_sets_shows_the_columns_that_the_whole_has(env_id: str) -> None:
    whole = made(env_id)
    shown, columns = observed(whole), names(whole)
    task = columns[len(features(5)) :]
    for n in range(len(NAMES) + 1):
        for chosen in itertools.combinations(NAMES, n) if n < 2 or env_id == "emp-lob-v0" else ():
            env = made(env_id, features=list(chosen))
            bits = sum(SETS[name] for name in chosen)
            assert names(env) == [feature.name for feature in features(5, bits)] + task
            assert np.array_equal(observed(env), shown[..., [columns.index(name) for name in names(env)]])


def test_sets_have_one_order_whatever_the_order_of_their_names() -> None:
    for order in (["own", "clock", "flow", "book"], ("orders", "flow", "book", "account", "clock")):
        assert names(made(features=order)) == names(made())
    assert names(made(features="clock")) == ["time_of_day", "status"]


def test_sets_meet_at_the_borders_of_the_whole() -> None:
    whole = [feature.name for feature in features(7)]
    assert [feature.name for name in NAMES for feature in features(7, SETS[name])] == whole
    assert set(FEATURES) == {*NAMES, "own"}


@pytest.mark.parametrize("twice", [["book", "book"], ["own", "account"], ["orders", "own"]])
def test_a_set_that_is_named_twice_is_refused(twice: list[str]) -> None:
    with pytest.raises(ConfigError, match="a set is named twice"):
        made(features=twice)


def test_what_is_no_set_is_told() -> None:
    with pytest.raises(ConfigError, match=r"unknown features 'bok': expected one of .*; did you mean 'book'"):
        made(features=["bok"])
    with pytest.raises(ConfigError, match="TradeBook is not a feature set"):
        made(features=["emp_gym.envs.tasks:TradeBook"])
    with pytest.raises(ConfigError, match="features must be names"):
        made(features=3)
    with pytest.raises(UnknownKeyword, match="did you mean 'share'"):
        made(features=["book", Ewma], shair=0.5)


# ------------------------------------------------------------------------------------------------------------ somebody else's


def log(name: str, unit: str, scale: float) -> Feature:
    return Feature(name, unit, scale, "signed_log")


class Flow(FeatureSet):
    """Some columns of our own "flow", in numpy over the public arrays."""

    looks = LOOKS
    columns = tuple(
        column
        for window in ("short", "long")
        for column in (
            log(f"ofi_{window}", "lots", 4.0), Feature(f"trade_imbalance_{window}", "share"), log(f"return_{window}", "half ticks", 2.0),
            log(f"volatility_{window}", "half ticks", 2.0),
        )
    )  # fmt: skip

    def write(self, lanes: Any, out: Any) -> None:
        seen, tick = self.world.public.seen[lanes, 0], self.world.view.tick[lanes, 0].astype(np.float32)
        for n, look in enumerate(self.looks):
            then = seen[:, self.ago(look)]
            passed = {name: seen[name][:, 0] - then[name] for name in ("flow", "bought", "sold", "moves2")}
            traded = passed["bought"] + passed["sold"]
            out[:, 4 * n] = passed["flow"]
            out[:, 4 * n + 1] = (passed["bought"] - passed["sold"]) / np.maximum(traded, 1)
            out[:, 4 * n + 2] = np.where(then["mid2"] > 0, seen["mid2"][:, 0] - then["mid2"], 0) / tick
            out[:, 4 * n + 3] = np.sqrt(passed["moves2"]) / tick


@dataclass
class Ewma(FeatureSet):
    """How far the mid is from its running mean, of which `share` is renewed at each decision."""

    columns = (log("from_mean", "ticks", 2.0),)
    share: float = 0.25

    def bind(self, world: Any) -> None:
        super().bind(world)
        self.mean = np.zeros(world.lanes)

    def begin(self, lanes: Any) -> None:
        self.mean[lanes] = self.world.view.mid2[lanes, 0]

    def step(self, moved: Any) -> None:
        self.mean += np.where(moved, self.share * (self.world.view.mid2[:, 0] - self.mean), 0.0)

    def write(self, lanes: Any, out: Any) -> None:
        out[:, 0] = (self.world.view.mid2[lanes, 0] - self.mean[lanes]) / (2 * self.world.view.tick[lanes, 0])


class Late(FeatureSet):
    """Looks back as far as nobody else does."""

    looks = (50,)
    columns = (Feature("messages_50", "events", 50.0),)

    def write(self, lanes: Any, out: Any) -> None:
        messages = self.world.public.seen["messages"][lanes, 0]
        out[:, 0] = messages[:, 0] - messages[:, self.ago(50)]


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_a_set_of_ours_written_anew_shows_the_same(mode: str) -> None:
    ours, theirs = (made(features=given, autoreset_mode=mode) for given in (["book", "flow"], ["book", Flow]))
    shown, again = observed(ours), observed(theirs)
    for column in Flow.columns:
        own, other = shown[..., names(ours).index(column.name)], again[..., names(theirs).index(column.name)]
        assert np.abs(own - other).max() < 1e-6 and len(np.unique(own)) > 20, column.name


def test_sets_of_others_stand_behind_ours_as_they_were_given_and_change_nothing_there() -> None:
    plain = observed(made())
    for others in ([Ewma], [Late, Ewma], [Ewma, Late]):
        env = made(features=["book", "flow", "clock", "own", *others])
        shown = observed(env)
        assert names(env)[len(plain[0, 0]) :] == [column.name for one in others for column in one.columns]
        assert np.array_equal(shown[..., : plain.shape[-1]], plain)
        for n, one in enumerate(others):
            column = shown[..., plain.shape[-1] + n]
            assert (column == 1.0).any() if one is Late else len(np.unique(column)) > 20


def test_look_backs_are_found_whatever_else_looks_back() -> None:
    """`Late` beside "flow" and alone: the arrays differ, the column does not."""
    beside, alone = observed(made(features=["flow", Late])), observed(made(features=[Late]))
    assert np.array_equal(beside[..., -1], alone[..., -1])


def test_without_columns_of_ours_an_environment_stands_on_those_of_others() -> None:
    env = made(features=[Ewma(share=0.5)])
    assert names(env) == ["from_mean"] and env.observation_space.shape == (4, 1)
    assert np.abs(observed(env)).max() <= CLIP


def test_what_a_set_remembers_begins_anew_with_the_episode_and_is_copied() -> None:
    env = made(features=["clock", Ewma], share=0.1)
    shown = observed(env)
    assert (shown[0, :, -1] == 0).all() and (shown[10, :, -1] == 0).all(), "the first moments of two episodes"
    assert (shown[1:10, :, -1] != 0).mean() > 0.9
    twin = copy.deepcopy(env)
    for actions in (np.zeros(4, np.int64), np.ones(4, np.int64)):
        told, again = env.step(actions)[0], twin.step(actions)[0]
        assert np.array_equal(told, again)
    assert twin.lanes.sets.others[0].mean is not env.lanes.sets.others[0].mean


def test_a_state_of_lanes_brings_back_what_a_set_remembers(tmp_path: Path) -> None:
    keywords: dict[str, Any] = {"features": ["clock", Ewma], "share": 0.1, "num_envs": 3}
    env = made(**keywords)
    observed(env, 6)
    snapshot.save(env, tmp_path / "lanes.npz")
    other = made(**keywords)
    again = other.reset(options={"state": str(tmp_path / "lanes.npz")})[0]
    assert np.array_equal(again[:, -1], env._observation[:, -1]) and (again[:, -1] != 0).any()
    for _ in range(8):
        assert np.array_equal(env.step(np.zeros(3, np.int64))[0], other.step(np.zeros(3, np.int64))[0])


class Nan(FeatureSet):
    columns = (Feature("fine", "1"), Feature("broken", "1"))

    def write(self, lanes: Any, out: Any) -> None:
        out[1, 1] = np.nan


def test_what_is_no_number_is_told_with_its_column_and_lane() -> None:
    with pytest.raises(ConfigError, match=r"feature set Nan wrote nan as 'broken' of lane 1; expected a finite number"):
        made(features=["book", Nan]).reset(seed=0)


class Trades(FeatureSet):
    """Lots that were executed so far today, and in the last 150 messages: a running sum of its own, by a function without a name."""

    columns = (log("executed", "lots", 4.0), log("executed_150", "lots", 4.0))
    looks, needs = (150,), ("executed",)
    sums = {"executed": lambda day: np.where(day.messages["kind"] == MessageType.EXECUTE, day.messages["size"], 0).astype(np.int64)}

    def write(self, lanes: Any, out: Any) -> None:
        so_far = self.world.named["executed"][lanes, 0]
        out[:, 0], out[:, 1] = so_far[:, 0], so_far[:, 0] - so_far[:, self.ago(150)]


def test_a_running_sum_that_a_set_brings_counts_what_was_shown() -> None:
    env = made(features=["clock", Trades, Flow], latency_ns=[0, 1_000_000])
    env.reset(seed=1)
    tape, lane = env.tape_set, env.lanes.market.public.lane
    for step in range(15):
        shown = env.step(env.action_space.sample())[0]
        for n in range(4):
            own = tape.messages[tape.day_slice(int(lane["day"][n]))][: int(lane["seen_row"][n]) + 1]
            lots = np.where(own["kind"] == MessageType.EXECUTE, own["size"], 0)
            wanted = np.log1p([lots.sum(), lots[max(len(own) - 150, 1) :].sum()]) / 4
            assert np.abs(shown[n, 2:4] - wanted).max() < 1e-5, (step, n)


def test_copies_of_a_set_with_a_running_sum_go_on() -> None:
    env = made(features=["clock", Trades])
    observed(env, 5)
    twins = [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]
    for _ in range(8):
        actions = env.action_space.sample()
        told = env.step(actions)[0]
        assert all(np.array_equal(told, twin.step(actions)[0]) for twin in twins)


def test_two_sums_of_one_name_are_refused() -> None:
    class Other(Trades):
        columns = (Feature("other", "1"),)
        sums = {"executed": lambda day: np.ones(len(day.messages), np.int64)}

    with pytest.raises(ConfigError, match="two sets bring different running sums called 'executed'"):
        made(features=[Trades, Other])


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (Feature("spread", "ticks"), "two columns of the observation are called 'spread'"),
        (Feature("wide", "ticks", 0.0), "feature 'wide': transform must be one of"),
        (Feature("wide", "ticks", transform="log"), "feature 'wide'"),
        (Feature("wide", "ticks", high=1.0), "feature 'wide'"),
        ("wide", "must be Feature, got 'wide'"),
    ],
)
def test_a_column_that_cannot_be_shown_is_refused(column: Any, says: str) -> None:
    class Own(Ewma):
        columns = (column,)

    with pytest.raises(ConfigError, match=says):
        made(features=["book", Own])


class Weather(FeatureSet):
    columns = (Feature("rain", "mm"),)
    needs = ("weather",)


def test_what_the_market_does_not_publish_is_told() -> None:
    with pytest.raises(ConfigError, match="'weather'"):
        made(features=["book", Weather])


def test_a_large_number_is_clipped_and_counted() -> None:
    class Large(FeatureSet):
        columns = (Feature("large", "1"),)

        def write(self, lanes: Any, out: Any) -> None:
            out[:, 0] = 1e6

    env = made(features=["clock", Large], num_envs=2, episode="5 decisions")
    env.reset(seed=0)
    for _ in range(5):
        shown, _, _, ended, info = env.step(np.zeros(2, np.int64))
    assert (shown[:, -1] == CLIP).all() and ended.all()
    assert info["final_info"]["summary"]["clipped"].tolist() == [6, 6], "the first moment and five decisions"
