"""Certificates: the environments against the dynamic programmes, which were written from the models on their own."""

import os
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

import emp_gym  # noqa: F401
from emp_gym.agents.optimal_policies import Naive, Optimal
from emp_gym.envs import CERTIFICATES
from emp_gym.envs.conformance.suite import conformance
from emp_gym.types import ConfigError

EPISODES = 4096


def played(env_id, agent_class, episodes=EPISODES, **arguments):
    """(summary of `episodes` pinned test episodes, the problem)."""
    env = gym.make_vec(env_id, num_envs=episodes, split="test", autoreset_mode="Disabled", **arguments)
    agent = agent_class(env.single_observation_space, env.single_action_space, env.spec)
    agent.bind(env)
    observation, _ = env.reset(seed=0, options={"day": list(range(episodes))})
    done = np.zeros(episodes, bool)
    while not done.all():
        actions, _ = agent.act(observation, None)
        observation, _, terminated, truncated, info = env.step(actions)
        done = terminated | truncated
    return info["summary"], env.unwrapped.problem


def assert_mean(samples, expected):
    error = samples.std() / np.sqrt(len(samples))
    assert abs(samples.mean() - expected) <= 4.5 * error + 1e-6 * max(abs(expected), 1), (samples.mean(), error, expected)


@pytest.mark.parametrize("env_id", sorted(CERTIFICATES))
def test_the_optimal_policy_earns_in_the_environment_what_the_programme_says(env_id):
    summary, problem = played(env_id, Optimal)
    assert_mean(summary["return"], problem.optimal().value)
    assert_mean(summary["value"], problem.optimal().value)


@pytest.mark.parametrize("env_id", sorted(CERTIFICATES))
def test_the_best_naive_policy_earns_in_the_environment_what_the_programme_says(env_id):
    summary, problem = played(env_id, Naive)
    assert_mean(summary["return"], problem.base()[1])
    assert_mean(summary["value"], problem.base()[1])


def test_integrating_out_the_noise_leaves_the_mean_and_takes_the_variance():
    summary, _ = played("emp-almgren-chriss-v0", Optimal)
    assert summary["value"].std() < 1e-6 < summary["return"].std()


@pytest.mark.parametrize("fills", ["arrival", "poisson", "linear"])
@pytest.mark.parametrize("noise", ["gaussian", "binomial"])
def test_every_rule_of_fills_and_noise_is_the_programmes(fills, noise):
    for env_id in ("emp-cartea-jaimungal-v0", "emp-avellaneda-stoikov-v0"):
        summary, problem = played(env_id, Optimal, fills=fills, noise=noise, steps=50)
        assert_mean(summary["value"], problem.optimal().value)


@pytest.mark.parametrize("env_id", sorted(CERTIFICATES))
def test_every_certificate_conforms(env_id):
    assert conformance(env_id) == []


def test_two_policies_meet_the_same_noise_in_a_pinned_episode():
    env = gym.make_vec("emp-almgren-chriss-v0", num_envs=8, split="test", autoreset_mode="Disabled")
    seen = []
    for action in (-1.0, 1.0):
        env.reset(seed=int(action) + 5, options={"day": [7, 3, 3, 0, 1, 2, 5, 4]})
        moves = [env.step(np.full((8, 1), action, np.float32))[0][:, 2] for _ in range(4)]
        seen.append(np.array(moves))
    assert np.array_equal(seen[0], seen[1])
    assert np.array_equal(seen[0][:, 1], seen[0][:, 2])
    assert len(np.unique(seen[0][0])) == 7


def test_test_and_training_episodes_of_the_same_number_differ():
    first = {}
    for split in ("train", "test"):
        env = gym.make_vec("emp-garleanu-pedersen-v0", num_envs=2, split=split)
        first[split] = env.reset(seed=0, options={"day": [0, 1]})[0]
    assert not np.array_equal(first["train"], first["test"])


def test_actions_go_through_the_problems_units_and_back():
    rng = np.random.default_rng(3)
    for env_id in ("emp-glft-v0", "emp-garleanu-pedersen-v0", "emp-obizhaeva-wang-v0"):
        env = gym.make_vec(env_id, num_envs=5).unwrapped
        actions = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        assert np.allclose(env.encode(env.decode(actions)), actions, atol=1e-6)


@pytest.mark.parametrize("env_id", sorted(CERTIFICATES))
def test_what_is_seen_of_a_state_is_what_the_environment_shows_in_it(env_id):
    env = gym.make_vec(env_id, num_envs=16)
    env.reset(seed=1)
    env.action_space.seed(1)
    for _ in range(3):
        observation = env.step(env.action_space.sample())[0]
    rebuilt = env.unwrapped.observation_of(*env.unwrapped.truth())
    same = [i for i, feature in enumerate(env.unwrapped.features) if feature.name != "last_move"]
    assert np.array_equal(observation[:, same], rebuilt[:, same])


def test_a_staggered_first_episode_is_cut_not_finished():
    env = gym.make_vec("emp-cartea-jaimungal-v0", num_envs=64, autoreset_mode="SameStep")
    env.reset(seed=0, options={"stagger": True})
    ends = {"terminated": 0, "truncated": 0}
    for _ in range(99):
        _, _, terminated, truncated, _ = env.step(np.zeros((64, 2), np.float32))
        ends["terminated"] += terminated.sum()
        ends["truncated"] += truncated.sum()
    assert ends["terminated"] == 0
    assert ends["truncated"] >= 60


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"arival": 3.0}, "arrival"),
        ({"render_mode": "ansi"}, "nothing to draw"),
        ({"split": "all"}, "split"),
    ],
)
def test_what_cannot_be_is_refused_by_name(arguments, words):
    with pytest.raises(ConfigError, match=words):
        gym.make_vec("emp-cartea-jaimungal-v0", num_envs=2, **arguments).reset()


def test_a_day_of_none_is_no_pin():
    env = gym.make_vec("emp-cartea-jaimungal-v0", num_envs=2)
    assert env.reset(seed=0, options={"day": None, "start": None})[0].shape == (2, 3)


def test_the_kernels_are_plain_python():
    code = (
        "import gymnasium as gym, emp_gym\n"
        "from emp_gym.envs import CERTIFICATES\n"
        "for name in CERTIFICATES:\n"
        "    env = gym.make_vec(name, num_envs=3, autoreset_mode='SameStep')\n"
        "    env.reset(seed=0); env.action_space.seed(0)\n"
        "    print(name, [env.step(env.action_space.sample())[1].tolist() for _ in range(4)])\n"
    )
    said = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code], env=os.environ | {"NUMBA_DISABLE_JIT": off}, capture_output=True,
            text=True, check=True,
        ).stdout
        for off in ("0", "1")
    ]  # fmt: skip
    assert said[0] == said[1]
    assert len(said[0].splitlines()) == len(CERTIFICATES)


def test_reset_options_that_cannot_be_are_refused():
    env = gym.make_vec("emp-cartea-jaimungal-v0", num_envs=2)
    for options, words in (({"day": -1}, "day must be a whole number"), ({"start": 5}, "begin at 0"), ({"dya": 1}, "dya")):
        with pytest.raises(ConfigError, match=words):
            env.reset(options=options)
