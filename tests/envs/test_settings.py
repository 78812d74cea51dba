"""Every keyword of the environments against values that it cannot mean: one line that says name, expected and got."""

from __future__ import annotations

import itertools

import gymnasium as gym
import numpy as np
import pytest

import emp_gym  # noqa: F401
from emp_gym.envs import ENVIRONMENTS
from emp_gym.envs.making import ARGUMENTS, REWARD, REWARDS, TASK, TASKS
from emp_gym.market.replay import ReplayConfig
from emp_gym.plugins import parameters
from emp_gym.runs.config import RunConfig, assignments, override, validate
from emp_gym.settings import number, shown, whole, word
from emp_gym.types import ConfigError

NAN, INF = float("nan"), float("inf")
NO_NUMBER = [NAN, INF, -INF, True, False, "abc", "", [], {}, [1, 2, 3], {"a": 1}, object()]
NO_COUNT = [*NO_NUMBER, 0, -1, 1.5, 2e5, 2**63, 10**20, -(10**20), 10**400, 10**5000, 1e30]
NO_WORD = [NAN, True, 3, "abc", "", ["exact"], {}, object()]
NO_TIME = [NAN, True, 100, "abc", "0 messages", "1.5 messages", "9" * 30 + " messages", "9" * 5000 + " messages", "9" * 18 + " min", []]
PAIRS = [[NAN, 0], [0, True], [0, 1.5], [10**20, 0], [0, -1], ["1", 0], [0], [0, 0, 0]]

BAIT = {
    "data": [NAN, True, 3, [], [3], {}], "split": NO_WORD, "market": NO_WORD, "fills": NO_WORD, "hidden_prints": NO_WORD,
    "latency_ns": [bait for bait in NO_COUNT if bait is not False and bait != 0] + [False, *PAIRS],
    "impact": [*NO_WORD, "resilient 0 s", "resilient " + "9" * 30 + " ms", "resilient " + "9" * 18 + " min"],
    "every": NO_TIME, "episode": [bait.replace("messages", "decisions") if isinstance(bait, str) else bait for bait in NO_TIME],
    "levels": NO_COUNT, "gates": [NAN, True, 3, [3], [NAN], ["abc"], {"gate": "cap-quantity", "largest": NAN}],
    "info": NO_WORD, "threads": [*NO_COUNT, 65], "autoreset_mode": NO_WORD,
    **{name: [*NO_NUMBER, 10_001, -1e30, 1e30, 10**400] for name in ("maker_fee_bps", "taker_fee_bps")},
    **{name: [*NO_NUMBER, 1e-9, -1e30, 1e30, 10**400] for name in ("maker_fee_per_lot", "taker_fee_per_lot")},
    "instrument": [NAN, True, 3, [1], {"a": 1}, {"lot": 10**20}, {"lot": 2**63}, {"taker_fee_bps": 1e30}, {"tick": True},
                   {"ticks": [[10**20, 1]]}, {"session_end_ns": 10**20}],
    "render_mode": NO_WORD, "num_envs": NO_COUNT[:12] + [0, -1, 1.5, 2.0, 10**20, 10**400], "max_episode_steps": NO_COUNT,
    "order_quantity": NO_COUNT, "max_position": NO_COUNT, "reward": NO_WORD,
    "features": [NAN, 3, "abc", ["abc"], [3], {"features": "book", "depth": 3}, ["book", "book"]],
    "inventory_penalty": [*NO_NUMBER, -1, 1e30, 10**400], "damping": [*NO_NUMBER, -1, 1.5, 10**400],
    "parent": NO_COUNT, "max_offset": NO_COUNT,
}  # fmt: skip
OF_TASKS = {"trade": ("inventory_penalty", "damping"), "make": ("max_offset", "inventory_penalty", "damping"), "execute": ("parent",)}
OF_PYTHON = ("num_envs", "max_episode_steps", "render_mode")  # gym.make looks at these first, or has no such keyword
OF_RUNS = ("split", "num_envs", "autoreset_mode", "render_mode")  # a run sets them itself


def is_one_line(said: str, name: str) -> bool:
    return "\n" not in said and len(said) < 500 and name in said


def test_no_keyword_is_left_out_of_the_table():
    ours = [TASK.find(name) for name in TASKS] + [REWARD.find(name) for name in REWARDS]
    ours.append(ReplayConfig)
    assert set(BAIT) == {*ARGUMENTS, "reward", "features", *(name for each in ours for name in parameters(each))}


@pytest.mark.parametrize("name", BAIT)
def test_a_value_that_a_keyword_cannot_mean_is_one_line_in_both_faces(name):
    for bait, env_id in itertools.product(BAIT[name], ENVIRONMENTS):
        for make in (gym.make_vec, gym.make):
            if make is gym.make and name in OF_PYTHON:
                continue
            with pytest.raises(ConfigError) as raised:
                make(env_id, **({"num_envs": 1} if make is gym.make_vec else {}) | {name: bait})
            assert is_one_line(str(raised.value), name.split("_")[0].rstrip("s")), (bait, str(raised.value))


@pytest.mark.parametrize("text", [
    "latency_ns=2e5", "latency_ns=nan", "latency_ns=99999999999999999999", "latency_ns=[0, true]", "taker_fee_bps=.nan",
    "taker_fee_bps=inf", "taker_fee_bps=abc", "taker_fee_bps=1e30", "maker_fee_per_lot=nan", "threads=nan", "threads=1.5",
    "order_quantity=true", "parent=1000",
    "levels=1.5", "every=100", "episode=64", "max_position=1e3", "fills=[exact]", "instrument={lot: 99999999999999999999}",
])  # fmt: skip
def test_the_same_holds_for_what_a_command_line_sets(text):
    tree = assignments([f"env.{text}"])
    config = validate(override(RunConfig(), tree))
    with pytest.raises(ConfigError) as raised:
        gym.make_vec(config.env_id, num_envs=2, **config.env)
    assert is_one_line(str(raised.value), text.partition("=")[0])


def test_a_float_that_is_whole_is_refused_with_the_number_to_write():
    with pytest.raises(ConfigError, match=r"latency_ns must be a whole number from 0 to 86,400,000,000,000, got 200000\.0; write 200000, "):
        gym.make("emp-lob-v0", latency_ns=2e5)


def test_a_parameter_of_another_task_is_refused_with_the_tasks_that_use_it():
    for env_id, arguments in ENVIRONMENTS.items():
        for name, value in {"parent": 1000, "max_offset": 10, "inventory_penalty": 0.01, "damping": 0.5}.items():
            if name not in OF_TASKS[arguments["task"]]:
                with pytest.raises(ConfigError, match=f"{name} means nothing to the task .* leave it out"):
                    gym.make(env_id, **{name: value})
    with pytest.raises(ConfigError, match="parent means nothing to the task 'trade', only to execute, got 1,000"):
        gym.make("emp-lob-v0", parent=1_000)


def test_numbers_of_numpy_are_numbers():
    env = gym.make_vec(
        "emp-lob-v0", num_envs=np.int64(2), latency_ns=(np.int64(5), np.int32(7)), levels=np.int8(3), order_quantity=np.int64(10),
        taker_fee_bps=np.float32(0.5), threads=np.int16(1), max_episode_steps=np.int64(4),
    )  # fmt: skip
    config = env.unwrapped.lanes.market.config
    assert (config.latencies, config.taker_fee_bps) == ((5, 7), 0.5) and env.num_envs == 2


@pytest.mark.parametrize("seed", [NAN, 1.5, -1, True, "abc", {}, [1.5, 0], [0, -1], [True, 0], [0], 1 << 128])
def test_a_seed_that_is_none_is_one_line(seed):
    lanes, alone = gym.make_vec("emp-lob-v0", num_envs=2), gym.make("emp-lob-v0").unwrapped
    for env in (lanes, alone):
        with pytest.raises(ConfigError) as raised:
            env.reset(seed=seed)
        assert is_one_line(str(raised.value), "seed")


@pytest.mark.parametrize("env_id", ["emp-lob-v0", "emp-glft-v0"])
@pytest.mark.parametrize(("name", "value"), [
    ("day", NAN), ("day", 0.5), ("day", True), ("day", -1), ("day", 10**20), ("day", "abc"),
    ("start", NAN), ("start", 10**20), ("start", "abc"),
])  # fmt: skip
def test_a_reset_option_that_is_none_is_one_line(env_id, name, value):
    with pytest.raises(ConfigError) as raised:
        gym.make(env_id).unwrapped.reset(seed=0, options={name: value})
    assert is_one_line(str(raised.value), name)


@pytest.mark.parametrize("value", [NAN, INF, True, "abc", [], 10**20, 10**400])
@pytest.mark.parametrize(("env_id", "name"), [
    ("emp-almgren-chriss-v0", "steps"), ("emp-almgren-chriss-v0", "price"), ("emp-glft-v0", "max_inventory"), ("emp-glft-v0", "split"),
    ("emp-glft-v0", "reward"), ("emp-glft-v0", "problem"),
])  # fmt: skip
def test_a_parameter_of_a_certificate_that_is_none_is_one_line(env_id, name, value):
    with pytest.raises(ConfigError) as raised:
        gym.make_vec(env_id, num_envs=1, **{name: value})
    assert is_one_line(str(raised.value), name)


def test_what_is_shown_of_a_value_is_one_short_line():
    assert shown(1_000) == "1,000" and shown(10**5000) == "a number of 16,610 bits" and "\n" not in shown(np.zeros((9, 9)))
    assert shown([10**5000]) == "list with a number of thousands of digits" and len(shown("x" * 500)) == 80


def test_bounds_are_inclusive():
    assert (whole("n", 1, 1, 3), whole("n", 3, 1, 3), number("x", 1, 0, 1), word("w", "a", ("a", "b"))) == (1, 3, 1.0, "a")
    for wrong in (0, 4):
        with pytest.raises(ConfigError, match="n must be"):
            whole("n", wrong, 1, 3)
