"""Any agent that learns can have a memory, and what it then does survives files, stops and other lanes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fakes
import gymnasium as gym
import numpy as np
import pytest

from emp_gym.agents import registry
from emp_gym.agents.base import BaseAgent, parameters
from emp_gym.agents.check import conformance
from emp_gym.agents.memory_agent import Extremes, remembering
from emp_gym.agents.memory_wrapper import RememberingLanes
from emp_gym.runs import backtest
from emp_gym.runs.config import RunConfig, assignments, override, validate
from emp_gym.training.certify import certify
from emp_gym.types import ConfigError, DataError

fakes.register()
SMALL: dict[str, Any] = {
    "num_envs": 16, "n_steps": 16, "batch_size": 64, "n_epochs": 1, "layers": (8,), "threads": 1, "memory": "numpy",
    "memory_capacity": 200, "memory_neighbours": 8, "memory_lanes": 8,
}  # fmt: skip
RETURNING = "emp-ladder-returning-v0"


class Recorder(BaseAgent):
    """Learns nothing; plays at random and keeps what it was shown."""

    def act(self, observation, state, mask=None):
        return np.zeros(len(observation), np.int64), state

    def learn(self, make_env, total_timesteps, callback=None):
        env = make_env(num_envs=4)
        rng = np.random.default_rng(self.seed)
        self.seen = [env.reset(seed=self.seed)[0]]
        self.rewards, self.infos = [], []
        for _ in range(total_timesteps // 4):
            observation, reward, *_, info = env.step(rng.integers(0, env.single_action_space.n, 4))
            self.seen.append(observation)
            self.rewards.append(reward)
            self.infos.append(info)

    def arrays(self):
        return {"nothing": np.zeros(1)}

    def restore(self, arrays):
        pass


def built(env_id: str = RETURNING, name: str = "ppo", seed: int = 0, **more: Any) -> Any:
    env = backtest.make_env(env_id, {}, 1)
    return backtest.build(name, env, seed, {**SMALL, **more} if name == "ppo" else {"memory": "numpy", **more})


def trained(steps: int = 1024, **more: Any) -> Any:
    agent = built(**more)
    agent.learn(backtest.training_env(RETURNING, {}), steps)
    return agent


@pytest.mark.parametrize("env_id", ["fake-lob-v0", RETURNING])
def test_ppo_with_a_memory_conforms(env_id: str) -> None:
    cls, config = registry.configured("ppo", SMALL)
    assert conformance(cls, env_id, **config) == []


def test_continuous_actions_are_remembered_too() -> None:
    cls, config = registry.configured("ppo", SMALL)
    assert conformance(cls, "emp-garleanu-pedersen-v0", **config) == []


def test_every_door_understands_the_parameter() -> None:
    config = validate(override(RunConfig(env_id=RETURNING), assignments(["memory=numpy", "agent.memory_steps=2"])))
    assert config.agent == {"memory": "numpy", "memory_steps": 2}
    assert "memory_steps" in (backtest.registry_parameters("ppo", config.agent) or [])
    assert validate(override(RunConfig(), assignments(["memory=none"]))).agent == {}
    for wrong, near in (("agent.memory_step=1", "agent.memory_steps"), ("agent.learning_rat=1", "agent.learning_rate")):
        with pytest.raises(ConfigError, match=f"did you mean {near}"):
            validate(override(RunConfig(), assignments(["memory=faiss", wrong])))
    with pytest.raises(ConfigError, match=r"agent\.memory_steps"):
        validate(override(RunConfig(), assignments(["agent.memory_steps=3"])))
    with pytest.raises(ConfigError, match="expected one of faiss, numpy, got 'redis'"):
        built(memory="redis")
    with pytest.raises(ConfigError, match="does not learn"):
        built(name="hold")


def test_an_agent_that_has_such_a_parameter_keeps_it() -> None:
    class Own(Recorder):
        def __init__(self, observation_space, action_space, spec=None, seed=0, memory="short"):
            super().__init__(observation_space, action_space, spec, seed)

    from unittest.mock import patch

    with patch.object(registry, "find", lambda name: Own):
        assert registry.configured("own", {"memory": "long"}) == (Own, {"memory": "long"})


def test_certify_takes_the_parameter() -> None:
    found = certify("ppo", RETURNING, [0], total_timesteps=512, config=SMALL)
    assert not found.runs[0].exact, "an agent that remembers is judged by its episodes"


def test_parameters_of_both_are_checked_together() -> None:
    known = parameters(remembering(registry.find("ppo")))
    assert known is not None and {"learning_rate", "memory", "memory_half_life"} < set(known)
    assert remembering(Recorder).Config().memory == "faiss"  # type: ignore[attr-defined]


def test_observations_are_followed_by_what_is_recalled_and_the_last_ones_too() -> None:
    cls = remembering(Recorder)
    env = backtest.make_env(RETURNING, {}, 1)
    agent = cls(env.single_observation_space, env.single_action_space, env.spec, memory="numpy")
    agent.learn(backtest.training_env(RETURNING, {}), 4 * 200)
    seen, plain = np.stack(agent.inner.seen), agent.width
    assert seen.shape[2] == plain + 5 == agent.inner.observation_space.shape[0]
    assert [f.name for f in agent.inner.features][plain:] == [
        "recall_action_0", "recall_action_1", "recall_action_2", "recall_value", "recall_trust",
    ]  # fmt: skip
    assert not seen[0, :, plain:].any() and (seen[-1, :, -1] > 0.5).all(), "nothing is known at first, much in the end"
    ends = [info for info in agent.inner.infos if "final_obs" in info]
    assert ends and all(agent.inner.observation_space.contains(info["final_obs"][0]) for info in ends)


def test_acting_gives_what_learning_was_shown() -> None:
    """The columns in `act` are those of the lanes, for one memory and one history."""
    agent = trained()
    env = RememberingLanes(backtest.make_env(RETURNING, {}, 5, autoreset_mode="Disabled"), agent)
    plain = backtest.make_env(RETURNING, {}, 5, autoreset_mode="Disabled")
    shown, observation, state = env.reset(seed=3)[0], plain.reset(seed=3)[0], agent.initial_state(5)
    frozen = agent.memory.arrays()
    for _ in range(6):
        agent.memory.restore(frozen)  # the lanes write, acting does not
        told: list[np.ndarray] = []
        act = agent.inner.act
        agent.inner.act = lambda seen, *rest, act=act, told=told: (told.append(seen), act(seen, *rest))[1]
        action, state = agent.act(observation, state)
        agent.inner.act = act
        assert np.array_equal(told[0], shown)
        agent.memory.now = 0  # as it was recalled before the tick
        agent.memory.restore(frozen)
        observation, shown = plain.step(action)[0], env.step(action)[0]


def test_an_evaluation_leaves_the_memory_alone_and_one_online_writes() -> None:
    agent = trained()
    before = agent.arrays()
    chosen = [(number, 0) for number in range(8)]
    first, second = (backtest.evaluate(agent, RETURNING, {}, chosen).episodes["return"] for _ in range(2))
    assert np.array_equal(first, second)
    assert all(np.array_equal(array, before[name]) for name, array in agent.arrays().items())
    backtest.evaluate(agent, RETURNING, {}, chosen, wrap=agent.online)
    assert agent.memory.outcomes == before["memory.counts"][1] + 8 * 64, "each decision of each episode, once"


def test_lanes_that_reset_in_the_next_step_are_refused() -> None:
    with pytest.raises(ConfigError, match="SameStep"):
        RememberingLanes(gym.make_vec(RETURNING, num_envs=2), built())


def test_the_same_seed_gives_the_same_memory_with_either_backend() -> None:
    one, other = trained().arrays(), trained(memory="faiss").arrays()
    assert all(np.array_equal(array, other[name]) for name, array in one.items())


def test_a_run_that_stopped_goes_on_to_the_bit(tmp_path: Path) -> None:
    from emp_gym.runs.run_folder import RunFolder
    from emp_gym.training import train

    class Quiet:
        def update(self, steps, scalars):
            pass

    config = RunConfig(RETURNING, "ppo", 2048, None, 0, 1, dict(SMALL))
    whole = train.train(config, tmp_path / "whole", Quiet())[1]
    asked = iter([False, False, True])
    with pytest.raises(train.Interrupted, match="at 768 of 2,048 steps"):
        train.train(config, tmp_path / "half", Quiet(), stop=lambda: next(asked))
    half = RunFolder.open(tmp_path / "half")
    assert all(path.is_file() for path in (half.last_checkpoint() or tmp_path).iterdir()), "files only: they are sealed"
    went_on = train.train(config, half.path, Quiet(), resume=half.path)[1]
    assert went_on.num_timesteps == whole.num_timesteps == 2048
    other = went_on.arrays()
    assert all(np.array_equal(array, other[name]) for name, array in whole.arrays().items())
    loaded = train.load(RunFolder.open(tmp_path / "half"), RETURNING, {}, "test")
    assert np.array_equal(loaded.memory.ids, went_on.memory.ids)


def test_a_model_without_memory_is_refused(tmp_path: Path) -> None:
    env = backtest.make_env(RETURNING, {}, 1)
    plain = backtest.build("ppo", env, 0, {"layers": (8,)})
    plain.save(tmp_path)
    with pytest.raises(DataError, match="saved by an agent without memory"):
        built().load(tmp_path)


def test_values_are_corrected_where_the_agent_lets_them() -> None:
    class Correcting(Recorder):
        correct_values = None

    cls = remembering(Correcting)
    env = backtest.make_env(RETURNING, {}, 1)
    agent = cls(env.single_observation_space, env.single_action_space, env.spec, memory="numpy", memory_correct=True)
    agent.memory.mean, agent.memory.variance = 10.0, 4.0
    seen = np.zeros((2, agent.width + 5), np.float32)
    seen[0, -2:] = 1.5, 0.25  # 1.5 deviations of 2 above 10
    corrected = agent.inner.correct_values(seen, np.array([1.0, 1.0], np.float32), 2.0)
    assert corrected.tolist() == pytest.approx([0.75 * 1.0 + 0.25 * (13.0 / 2.0), 1.0])
    off = cls(env.single_observation_space, env.single_action_space, env.spec, memory="numpy")
    assert off.inner.correct_values is None


def test_an_extreme_episode_is_one_far_from_those_before() -> None:
    extremes, rng = Extremes(), np.random.default_rng(0)
    assert not any(extremes.add(value) for value in (*rng.standard_normal(31), 50.0)), "too few to tell"
    for value in rng.standard_normal(500):
        extremes.add(float(value))
    assert extremes.add(40.0) and not extremes.add(1.0)


def test_memory_makes_a_returning_market_profitable_soon() -> None:
    """A small run of what docs/evidence/memory.json holds: 16 lanes, 25,000 steps."""
    config = {"num_envs": 64, "n_steps": 32, "batch_size": 512, "n_epochs": 4, "layers": (32,)}
    chosen = [(number, 0) for number in range(64)]
    scores = {}
    for values in ("kept", "permuted"):
        agent = built(**config, memory_values=values, memory_capacity=1024, memory_neighbours=32)
        agent.learn(backtest.training_env(RETURNING, {}), 40_000)
        scores[values] = backtest.evaluate(agent, RETURNING, {}, chosen).episodes["value"].mean() / 64.0
    assert scores["kept"] > 0.35 > 0.15 > scores["permuted"], scores
