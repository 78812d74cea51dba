"""MuZero as an agent: the protocol, files, resuming, and that it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fakes
import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from emp_gym.agents import registry
from emp_gym.agents.check import conformance
from emp_gym.agents.muzero.agent import MuZero
from emp_gym.agents.muzero.learning import Trainer
from emp_gym.types import ConfigError

SMALL: dict[str, Any] = {
    "num_envs": 8, "simulations": 4, "batch_size": 16, "latent": 8, "hidden": 16, "warmup": 64, "num_unroll_steps": 2, "iteration": 64,
    "samples": 4, "updates_per_step": 0.05, "replay_size": 2000, "num_chance_codes": 2,
}  # fmt: skip


def agent(seed: int = 0, env_id: str = "fake-lob-v0", **config: Any) -> MuZero:
    env = fakes.make_env(1, id=env_id)
    return MuZero(env.single_observation_space, env.single_action_space, env.spec, seed=seed, **{**SMALL, **config})


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_it_is_found_by_name() -> None:
    assert registry.find("muzero") is MuZero


@pytest.mark.parametrize("env_id", ["emp-ladder-trend-v0", "emp-cartea-jaimungal-v0"])
def test_it_conforms(env_id: str) -> None:
    config = {**SMALL, "num_envs": 64, "simulations": 2, "updates_per_step": 0.005, "iteration": 1000}
    assert [str(finding) for finding in conformance("muzero", env_id, **config)] == []


@pytest.mark.slow
def test_it_conforms_in_order_books() -> None:
    config = {**SMALL, "num_envs": 64, "simulations": 2, "updates_per_step": 0.005, "iteration": 1000}
    for env_id in ("emp-lob-v0", "emp-lob-market-making-v0", "emp-lob-execution-v0"):
        assert [str(finding) for finding in conformance("muzero", env_id, **config)] == []


@pytest.mark.parametrize("env_id", ["fake-lob-v0", "fake-box-v0"])
def test_resume_equals_going_on_but_for_lanes_in_flight(tmp_path: Path, env_id: str) -> None:
    """An agent stopped at N and told to learn on equals a new one resumed from N's files, bit for bit."""

    def make(num_envs: int | None = None, **keywords: Any) -> Any:
        return fakes.make_env(num_envs, id=env_id, **keywords)

    first = agent(1, env_id)

    def stop(steps: int, scalars: Any) -> bool:
        if steps < 256:
            return True
        first.checkpoint(tmp_path)
        return False

    first.learn(make, 640, stop)
    assert first.num_timesteps == 256
    second = agent(99, env_id)  # another seed: everything must come from the files
    second.seed = 1
    second.resume(tmp_path)
    for one in (first, second):
        one.learn(make, 640)
        assert one.num_timesteps == 640
    assert same(first.arrays(), second.arrays())
    assert isinstance(first._learner, Trainer) and isinstance(second._learner, Trainer)
    assert first._learner.updates == second._learner.updates > 20
    assert same(first._learner.arrays(), second._learner.arrays())


@pytest.mark.parametrize("average", [0, 5])
def test_a_resumed_run_ends_like_one_that_never_stopped(tmp_path: Path, average: int) -> None:
    """With lanes that go on in the middle of their episodes."""
    from emp_gym.envs import snapshot

    made: list[Any] = []

    def make(num_envs: int | None = None, **keywords: Any) -> Any:
        made.append(gym.make_vec("emp-cartea-jaimungal-v0", num_envs=num_envs, autoreset_mode="SameStep"))
        return made[-1]

    class GoesOn(gym.vector.VectorWrapper):
        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            return self.env.reset(seed=seed, options={"state": str(tmp_path / "lanes.npz")})

    def build(seed: int) -> MuZero:
        env = make(1)
        return MuZero(env.single_observation_space, env.single_action_space, env.spec, seed=seed, **{**SMALL, "weight_average": average})

    def note(steps: int, scalars: Any) -> None:
        if steps == 256:
            first.checkpoint(tmp_path / "at")
            snapshot.save(made[-1], tmp_path / "lanes.npz")

    first = build(1)
    first.learn(make, 640, note)
    second = build(1)
    second.resume(tmp_path / "at")
    second.learn(lambda num_envs=None: GoesOn(make(num_envs)), 640)
    assert same(first.arrays(), second.arrays())
    assert same(first._learner.arrays(), second._learner.arrays())  # type: ignore[union-attr]


def test_weights_that_act_are_the_mean_of_those_that_learn() -> None:
    """Until `average` updates have passed, the plain mean; statistics are the last."""
    one, learned = agent(weight_average=1000), []
    update = Trainer._update

    def noted(learner: Trainer) -> None:
        update(learner)
        learned.append([p.detach().numpy().copy() for p in learner.networks.parameters()])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_update", noted)
        one.learn(fakes.make_env, 640)
    assert len(learned) > 5
    for number, mine in enumerate(one.networks.parameters()):
        assert np.allclose(mine.detach().numpy(), np.mean([each[number] for each in learned], axis=0), atol=1e-5)
    assert torch.equal(one.networks.normalise.mean, one._learner.networks.normalise.mean)  # type: ignore[union-attr]


def test_the_same_seed_learns_the_same_and_another_seed_does_not() -> None:
    def learned(seed: int) -> dict[str, np.ndarray]:
        torch.manual_seed(np.random.randint(1 << 30))  # the global generators must not matter
        one = agent(seed)
        one.learn(fakes.make_env, 320)
        return one.arrays()

    assert same(learned(0), learned(0))
    assert not same(learned(0), learned(1))


def test_global_generators_are_left_alone() -> None:
    torch.manual_seed(5)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    agent().learn(fakes.make_env, 128)
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])  # type: ignore[index]


def test_masked_actions_are_never_taken() -> None:
    observation = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    mask = np.zeros((50, 11), bool)
    mask[:, 4] = True
    assert (agent().act(observation, None, mask)[0] == 4).all()


def test_an_edge_may_correct_what_is_imagined() -> None:
    """An edge that pays for every code but 0 of action 3's afterstate changes the decision."""
    one = agent()
    observation = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)

    def edge(after: Any, code: Any, latent: Any, reward: Any, value: Any) -> Any:
        third = after[:, one.networks.private + 3].numpy() > 0  # the action stands in the afterstate as one-hot
        return reward + 5.0 * third, value

    before = one.act(observation, None)[0]
    one.edge = edge
    assert (before != 3).any() and (one.act(observation, None)[0] == 3).all()


@pytest.mark.parametrize(
    ("key", "value"), [("simulations", -1), ("td_steps", -1), ("td_steps", 0), ("reanalyze_ratio", 1.5), ("deviation", 3.0), ("num_env", 3)]
)
def test_impossible_parameters(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=key):
        agent(**{key: value})


def test_unbounded_actions_are_refused() -> None:
    box = spaces.Box(-1, 1, (3,), np.float32)
    with pytest.raises(ConfigError, match="bounded"):
        MuZero(box, spaces.Box(-np.inf, np.inf, (1,), np.float32))


def test_an_environment_that_resets_one_step_later_is_refused() -> None:
    with pytest.raises(ConfigError, match="SameStep"):
        agent().learn(lambda num_envs=None: fakes.make_env(num_envs, autoreset_mode="NextStep"), 64)


def cartpole(num_envs: int | None = None, **keywords: Any) -> Any:
    mode = keywords.get("mode", AutoresetMode.SAME_STEP)
    return gym.make_vec("CartPole-v1", num_envs or 8, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode})


def test_any_gymnasium_id_will_do(tmp_path: Path) -> None:
    env = cartpole(2)
    one = MuZero(env.single_observation_space, env.single_action_space, env.spec, **{**SMALL, "num_chance_codes": 1})
    one.learn(cartpole, 128)
    one.save(tmp_path)
    assert one.networks.shape.codes == 1 and one.networks.psi is None and one.networks.encoder is None
    assert env.action_space.contains(one.act(env.reset(seed=0)[0], None)[0].astype(np.int64))


@pytest.mark.slow
def test_it_learns_a_rung_of_the_ladder() -> None:
    """Trend: the last move says where the price goes. Judged exactly, as a share of the way to the optimum."""
    from emp_gym.runs import backtest
    from emp_gym.training.certify import judge

    env = backtest.make_env("emp-ladder-trend-v0", {}, 1)
    one = MuZero(env.single_observation_space, env.single_action_space, env.spec, seed=0, **LADDER)
    one.learn(backtest.training_env("emp-ladder-trend-v0", {}), 6000)
    assert judge(one, "emp-ladder-trend-v0").score > 0.9


LADDER: dict[str, Any] = {
    "num_envs": 32, "simulations": 4, "batch_size": 128, "latent": 16, "hidden": 32, "num_chance_codes": 3, "updates_per_step": 0.1,
    "gamma": 0.9,
}  # fmt: skip
