"""Algorithms of Stable-Baselines3 and sb3-contrib are agents: the examples of the documentation conform, learn and travel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch

from emp_gym.agents import registry
from emp_gym.agents.check import conformance
from emp_gym.types import ConfigError, DataError

pytest.importorskip("sb3_contrib")
import sb3_contrib
import stable_baselines3 as sb3

from emp_gym.agents.adapters import SB3Agent, SB3Policy, SB3Zip

fakes.register()
EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"


@pytest.fixture(autouse=True)
def examples_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def lanes(n: int = 4, env_id: str = "fake-lob-v0") -> Any:
    import gymnasium as gym

    return gym.make_vec(env_id, num_envs=n, autoreset_mode="SameStep")


def built(cls: Any, seed: int = 0, env_id: str = "fake-lob-v0", **config: Any) -> Any:
    env = lanes(1, env_id)
    return cls(env.single_observation_space, env.single_action_space, env.spec, seed=seed, **config)


@pytest.mark.parametrize("name", ["A2C", "Recurrent", "Maskable", "QuantileDQN"])
def test_the_examples_conform(name: str) -> None:
    assert conformance(registry.find(f"sb3_agents:{name}"), "fake-lob-v0") == []


def test_levers_conform() -> None:
    assert conformance(registry.find("sb3_agents:A2C"), "fake-box-v0") == []


def test_an_algorithm_for_menus_refuses_levers() -> None:
    with pytest.raises(ConfigError, match="QRDQN cannot be built"):
        built(registry.find("sb3_agents:QuantileDQN"), env_id="fake-box-v0")


def test_a_recurrent_policy_acts_as_sb3_says() -> None:
    """SB3's own predict, with its state and episode starts, over an episode that ends in lane 1."""
    agent = built(registry.find("sb3_agents:Recurrent"), seed=5)
    rng = np.random.default_rng(0)
    state, theirs = agent.initial_state(3), None
    starts = np.ones(3, bool)
    for step in range(12):
        seen = rng.normal(size=(3, len(fakes.FEATURES))).astype(np.float32)
        mine, state = agent.act(seen, state)
        expected, theirs = agent.model.predict(seen, theirs, episode_start=starts, deterministic=True)
        assert np.array_equal(mine, expected)
        starts = np.array([False, step == 5, False])
        state = agent.reset_state(state, starts)
    assert state[0].shape == (3, 1, 16) and np.abs(state[0]).max() > 0


def test_it_learns_the_trend() -> None:
    from emp_gym.training.certify import Attempt, attempt

    judgement = attempt(Attempt("sb3_agents:A2C", "emp-ladder-trend-v0", 0, 60_000, {"learning_rate": 3e-3})).judgement
    assert judgement.score > 0.9


def test_what_it_learns_is_told_while_it_does() -> None:
    agent = built(registry.find("sb3_agents:A2C"), n_steps=16)
    told: list[tuple[int, dict[str, float]]] = []
    agent.learn(lambda num_envs=None, **_: lanes(num_envs), 16_000, lambda steps, scalars: told.append((steps, dict(scalars))))
    assert agent.num_timesteps == told[-1][0] == 16_384, "64 lanes, 16 steps: whole rollouts"
    assert "train/value_loss" in told[-1][1]
    assert [steps for steps, _ in told] == list(range(1024, 16_385, 1024))


def test_learning_is_decided_by_the_seed_and_stops_when_told() -> None:
    def learned(seed: int, stop: int) -> Any:
        agent = built(registry.find("sb3_agents:A2C"), seed=seed)
        agent.learn(lambda num_envs=None, **_: lanes(num_envs), 4096, lambda steps, _: steps < stop)
        return agent

    one, two, other = learned(1, 4096), learned(1, 4096), learned(2, 4096)
    assert all(np.array_equal(a, b) for a, b in zip(one.arrays().values(), two.arrays().values(), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one.arrays().values(), other.arrays().values(), strict=True))
    assert learned(1, 1024).num_timesteps < 4096


def test_a_second_learn_goes_on_from_the_first() -> None:
    agent = built(registry.find("sb3_agents:A2C"))
    make = lambda num_envs=None, **_: lanes(num_envs)  # noqa: E731
    agent.learn(make, 1024)
    before = agent.arrays()
    agent.learn(make, 1024)
    assert all(np.array_equal(a, b) for a, b in zip(before.values(), agent.arrays().values(), strict=True))
    agent.learn(make, 2048)
    assert agent.num_timesteps == 2048
    assert not np.array_equal(before["action_net.weight"], agent.arrays()["action_net.weight"])


def test_a_trained_model_is_wrapped_saved_and_read_from_json_alone(tmp_path: Path) -> None:
    env = lanes(4)
    from emp_gym.envs.sb3 import NativeVecEnv

    kwargs = {"net_arch": [16], "activation_fn": torch.nn.ReLU}
    model = sb3.A2C("MlpPolicy", NativeVecEnv(env), policy_kwargs=kwargs, seed=3, device="cpu").learn(200)
    agent = SB3Agent.wrap(model, env.spec)
    agent.save(tmp_path)
    told = json.loads((tmp_path / "model.json").read_text())["config"]
    assert told["algorithm"] == "stable_baselines3.a2c.a2c:A2C"
    again = built(SB3Policy, num_envs=1, **{key: value for key, value in told.items() if key != "num_envs"})
    again.load(tmp_path)
    seen = np.random.default_rng(1).normal(size=(64, len(fakes.FEATURES))).astype(np.float32)
    expected, _ = model.predict(seen, deterministic=True)
    assert np.array_equal(agent.act(seen, None)[0], expected)
    assert np.array_equal(again.act(seen, None)[0], expected)


def test_a_file_of_sb3_is_read_only_when_trusted_and_without_unpickling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from emp_gym.envs.sb3 import NativeVecEnv

    model = sb3_contrib.QRDQN("MlpPolicy", NativeVecEnv(lanes(2)), buffer_size=100, seed=1, device="cpu")
    model.save(tmp_path / "theirs.zip")
    config = {"path": str(tmp_path / "theirs.zip"), "algorithm": "sb3_contrib:QRDQN", "buffer_size": 1}
    with pytest.raises(ConfigError, match=r"pickles.*trusted=true"):
        built(SB3Zip, **config)
    monkeypatch.setattr("cloudpickle.loads", lambda *_, **__: pytest.fail("something was unpickled"))
    agent = built(SB3Zip, trusted=True, **config)
    seen = np.random.default_rng(1).normal(size=(64, len(fakes.FEATURES))).astype(np.float32)
    assert np.array_equal(agent.act(seen, None)[0], model.predict(seen, deterministic=True)[0])
    with pytest.raises(DataError, match="not those of this network"):
        built(SB3Zip, trusted=True, policy_kwargs={"net_arch": [7]}, **config)


def test_observations_normalised_elsewhere_are_not_forgotten_in_silence() -> None:
    from stable_baselines3.common.vec_env import VecNormalize

    from emp_gym.envs.sb3 import NativeVecEnv

    model = sb3.A2C("MlpPolicy", VecNormalize(NativeVecEnv(lanes(2))), device="cpu")
    with pytest.raises(ConfigError, match="VecNormalize"):
        SB3Agent.wrap(model)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"gama": 0.9}, "did you mean gamma"),
        ({"algorithm": "stable_baselines3:NoSuch"}, "stable_baselines3 has no 'NoSuch'"),
        ({"algorithm": "no_such_package:A"}, "no module 'no_such_package'"),
        ({"policy_kwargs": {"activation_fn": "os:system"}}, "only a class is taken"),
    ],
)
def test_what_cannot_be_built_says_why(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        built(registry.find("sb3_agents:A2C"), **config)


def test_an_algorithm_by_name_needs_no_class() -> None:
    agent = built(SB3Agent, algorithm="stable_baselines3:A2C", gamma=0.9)
    assert agent.model.gamma == 0.9
    with pytest.raises(ConfigError, match="needs an algorithm"):
        built(SB3Agent)
