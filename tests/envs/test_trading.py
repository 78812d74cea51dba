"""The faces: arguments, options, info, ends of episodes. What every id must hold is in the conformance suite."""

from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import emp_gym  # noqa: F401
from emp_gym.envs import ENVIRONMENTS
from emp_gym.envs.base_env import ResetNeeded
from emp_gym.types import ConfigError, DataError
from tests.inside import lanes_of, market_of

CASH = 100_000_000


@pytest.mark.parametrize("name", sorted(ENVIRONMENTS))
def test_spec_survives_json_and_names_every_feature(name):
    env = gym.make(name)
    spec = gym.envs.registration.EnvSpec.from_json(env.unwrapped.spec.to_json())
    assert spec.id == name and json.loads(env.unwrapped.spec.to_json())
    names = [feature.name for feature in env.spec.features]
    assert len(names) == len(set(names)) == env.observation_space.shape[0] >= 40
    assert env.spec.max_episode_steps is None


def test_unknown_argument_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'fills'"):
        gym.make("emp-lob-v0", fillz="exact")
    with pytest.raises(ConfigError, match="did you mean 'order_quantity'"):
        gym.make("emp-lob-v0", order_quantiti=3)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("fills", "maybe"), ("hidden_prints", "maybe"),
        ("every", "100"), ("every", "0 messages"), ("episode", "many"), ("impact", "resilient -1 s"),
        ("split", "tests"), ("market", "moon"), ("levels", 99), ("reward", "shortfall"), ("info", "fat"),
        ("max_position", 1), ("order_quantity", 0), ("latency_ns", -1), ("gates", "nobody"), ("data", []),
    ],
)  # fmt: skip
def test_impossible_arguments_are_refused_with_a_reason(argument, value):
    with pytest.raises(ConfigError, match=r"expected|must|unknown"):
        gym.make("emp-lob-v0", **{argument: value})


def test_missing_data_says_what_to_give():
    with pytest.raises(DataError, match="no such file"):
        gym.make("emp-lob-v0", data="/nowhere/day.zip")


def test_start_can_be_a_row_or_a_time_of_day():
    env = gym.make("emp-lob-v0")
    env.reset(seed=0, options={"day": 2, "start": "10:15:00"})
    state = market_of(env).public.lane[0]
    times = env.unwrapped.tape_set.rows["time_ns"][env.unwrapped.tape_set.day_slice(2)]
    assert state["day"] == 2 and times[state["row"]] <= 36_900 * 10**9 < times[state["row"] + 1]
    env.reset(options={"day": 3, "start": 1234})
    assert (state["day"], state["start_row"]) == (
        3,
        env.unwrapped.tape_set.rows["group_end"][env.unwrapped.tape_set.day_slice(3)][1234],
    )
    with pytest.raises(ConfigError, match="day must be"):
        env.reset(options={"day": 99})
    with pytest.raises(ConfigError, match="unknown reset option"):
        env.reset(options={"dya": 1})


def test_an_episode_has_its_length_and_ends_flat_with_the_cash_as_pnl():
    env = gym.make("emp-lob-v0", episode="64 decisions")
    env.reset(seed=5)
    total, steps, cut = 0.0, 0, False
    while not cut:
        _, reward, end, cut, info = env.step([1, 7, 3, 4, 0, 8][steps % 6])
        total, steps = total + reward, steps + 1
        assert not end
    core = lanes_of(env)
    assert steps == 64 == info["summary"]["length"]
    assert int(core.market.view.position[0, 0]) == 0
    assert info["summary"]["pnl"] == core.market.view.cash[0] / CASH
    tick_value = core.task.order_quantity * int(core.market.view.tick[0, 0]) * int(core.market.view.price_to_cash[0, 0]) / CASH
    assert total * tick_value == pytest.approx(info["summary"]["pnl"], abs=1e-9), (
        "rewards are the P&L in ticks per clip"
    )
    with pytest.raises(ResetNeeded):
        env.step(0)


def test_time_paced_decisions_stand_on_an_exact_grid():
    env = gym.make("emp-lob-v0", every="1 s", episode="20 decisions")
    env.reset(seed=2)
    start = int(env.unwrapped.view.time_ns[0])
    for step in range(1, 20):
        env.step(1)
        assert int(env.unwrapped.view.time_ns[0]) == start + step * 10**9


def test_execution_reward_is_minus_the_shortfall_and_the_parent_is_always_done():
    env = gym.make("emp-lob-execution-v0", parent=1000, episode="32 decisions")
    for seed, action in ((0, 0), (1, 1), (2, 3)):
        env.reset(seed=seed)
        core, total, over = lanes_of(env), 0.0, False
        arrival2, side = int(core.episodes[0]["arrival2"]), int(core.episodes[0]["parent_side"])
        while not over:
            _, reward, over, cut, info = env.step(action)
            assert not cut
            total += reward
        view = core.market.view
        assert view.position[0, 0] * side == 1000
        average = abs(int(view.cash[0])) / (1000 * int(core.market.view.price_to_cash[0, 0]))  # price units, no fees here
        shortfall_bps = side * 1e4 * (average - arrival2 / 2) / (arrival2 / 2)
        assert total == pytest.approx(-shortfall_bps, rel=1e-9)


def test_full_info_shows_orders_outcomes_and_fills():
    env = gym.make("emp-lob-v0", info="full")
    env.reset(seed=1)
    _, _, _, _, info = env.step(7)
    assert info["fill_quantity"].sum() == 100 and not info["fill_maker"].any()
    assert info["outcome"][0] == 1 and info["orders"]["quantity"][0] == 100


def test_disabled_mode_freezes_ended_lanes_until_their_reset():
    env = gym.make_vec("emp-lob-v0", num_envs=3, episode="5 decisions", autoreset_mode="Disabled")
    env.reset(seed=1)
    for _ in range(5):
        _, _, _, cut, _ = env.step(np.zeros(3, np.int64))
    assert cut.all()
    before, rewards, _, cut, _ = env.step(np.full(3, 7))
    assert cut.all() and (rewards == 0).all() and (env.unwrapped.view.position == 0).all()
    after, _ = env.reset(options={"reset_mask": np.array([False, True, False])})
    assert np.array_equal(before[[0, 2]], after[[0, 2]]) and not np.array_equal(before[1], after[1])
    _, _, _, cut, _ = env.step(np.zeros(3, np.int64))
    assert cut.tolist() == [True, False, True]


def test_stagger_shortens_first_episodes_only():
    env = gym.make_vec("emp-lob-v0", num_envs=64, episode="40 decisions", autoreset_mode=AutoresetMode.SAME_STEP)
    env.reset(seed=1, options={"stagger": True})
    lengths: list[list[int]] = [[] for _ in range(64)]
    for _ in range(90):
        infos = env.step(np.zeros(64, np.int64))[-1]
        if "final_info" in infos:
            for lane in np.flatnonzero(infos["_final_info"]):
                lengths[lane].append(int(infos["final_info"]["summary"]["length"][lane]))
    assert len({own[0] for own in lengths}) > 20
    assert {length for own in lengths for length in own[1:]} == {40}


def test_nearby_seeds_share_no_lane():
    a, b = (gym.make_vec("emp-lob-v0", num_envs=8) for _ in range(2))
    first, _ = a.reset(seed=10)
    second, _ = b.reset(seed=11)
    assert not any(np.array_equal(x, y) for x in first for y in second)


def test_windows_are_disjoint_and_whole():
    env = gym.make("emp-lob-v0", split="test").unwrapped
    windows = env.windows()
    assert len(windows) >= 8
    held_out = {i for i, day in enumerate(env.tape_set.info) if day.source.get("held_out")}
    assert {day for day, _ in windows} <= held_out and len(held_out) == 8
    by_day: dict[int, int] = {}
    for day, start in windows:
        env.reset(seed=0, options={"day": day, "start": start})
        assert int(env.lanes.market.public.lane[0]["row"]) >= by_day.get(day, 0), "starts before the last window's end"
        cut = False
        steps = 0
        while not cut:
            _, _, _, cut, _ = env.step(0)
            steps += 1
        assert steps == 256
        by_day[day] = int(env.lanes.market.public.lane[0]["row"])
