"""PPO with an encoder: rows and sequences see the same, memory survives a checkpoint, evaluation changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fakes
import gymnasium as gym
import numpy as np
import pytest
import torch

import emp_gym
from emp_gym.agents.base import read_arrays
from emp_gym.agents.check import conformance
from emp_gym.agents.ppo import PPO
from emp_gym.agents.ppo.policy import PolicyInput
from emp_gym.envs import snapshot

SMALL: dict[str, Any] = {"num_envs": 8, "n_steps": 16, "batch_size": 64, "n_epochs": 2, "layers": (8,), "threads": 1,
                         "extractor_width": 16}  # fmt: skip
ROLLOUT = 128
RECURRENT = ("gru", "mamba2", "mamba3")
LOB, MENU, BOX, MEMORY = "emp-lob-v0", "fake-lob-v0", "fake-box-v0", "emp-ladder-memory-v0"
assert emp_gym


def make(env_id: str) -> Any:
    fakes.register()

    def make_env(num_envs: int | None = None, **keywords: Any) -> Any:
        return gym.make_vec(env_id, num_envs=num_envs or 8, **{"autoreset_mode": "SameStep", **keywords})

    return make_env


def agent(extractor: str, env_id: str = MEMORY, seed: int = 0, **config: Any) -> PPO:
    env = make(env_id)(1)
    config = {**SMALL, "extractor": extractor, **config}
    return PPO(env.single_observation_space, env.single_action_space, env.spec, seed=seed, **config)


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("extractor", "env_id"),
    [
        ("gru", MENU), ("mamba3", BOX),
        *(pytest.param(name, home, marks=pytest.mark.slow) for name, home in (("gru", BOX), ("mamba2", BOX), ("cnn", LOB))),
    ],
)  # fmt: skip
def test_ppo_conforms_with_every_extractor(extractor: str, env_id: str) -> None:
    fakes.register()
    wide = {"num_envs": 128, "batch_size": 2048, "n_epochs": 1}  # few updates
    assert conformance("ppo", env_id, **{**SMALL, "extractor": extractor, **wide}) == []


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("extractor", ["mlp", "cnn", *RECURRENT])
def test_the_first_minibatch_is_of_the_very_policy_that_acted(
    extractor: str, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first change of weights, log-probabilities and values of the update are those of the rollout: whole sequences
    from the kept state, with episode begins inside, say what single steps said. In the second rollout the state kept is
    one in the middle of episodes."""
    one = agent(extractor, LOB if extractor == "cnn" else MEMORY, shared=shared, learning_rate=0.0, final_learning_rate=0.0)
    worst: list[float] = []
    evaluate = type(one.policy).evaluate_actions

    def judged(self: Any, seen: PolicyInput, actions: Any) -> Any:
        answer = evaluate(self, seen, actions)
        buffer = one._trainer.rollout_buffer  # type: ignore[union-attr]
        if isinstance(seen, PolicyInput) and seen.fresh is not None:
            assert seen.fresh.shape[0] == 16 and seen.state is not None
            seen.fresh.any(dim=1).sum() > 1 or pytest.fail("no episode begins inside")
        found = torch.sort(answer[1].detach())[0]
        worst.append(float((torch.sort(torch.from_numpy(buffer.log_probs).ravel())[0] - found).abs().max()))
        worst.append(float(np.abs(np.sort(buffer.values.ravel()) - np.sort(answer[0].detach().numpy().ravel())).max()))
        return answer

    monkeypatch.setattr(type(one.policy), "evaluate_actions", judged)
    one.config.__dict__["batch_size"] = ROLLOUT  # one minibatch: all that the buffer holds
    one.config.__dict__["normalise_observation"] = True
    frozen = one.policy.features_extractor.absorb
    monkeypatch.setattr(type(one.policy.features_extractor), "absorb", lambda self, rows: None)
    one.learn(make(LOB if extractor == "cnn" else MEMORY), 3 * ROLLOUT)
    assert frozen and len(worst) == 3 * 2 * SMALL["n_epochs"]
    assert max(worst) < 2e-5


@pytest.mark.parametrize("extractor", RECURRENT)
def test_a_forgotten_begin_of_an_episode_is_seen_by_the_test_above(extractor: str) -> None:
    """The fault: sequences read without their `fresh`."""
    torch.manual_seed(0)
    one = agent(extractor)
    rows = torch.randn(16, 8, 3)
    fresh = torch.zeros(16, 8, dtype=torch.bool)
    fresh[5, 2] = True
    state = one.policy.initial_state(8)
    whole = one.policy.decide(PolicyInput(rows, state=state, fresh=fresh))[0]
    faulty = one.policy.decide(PolicyInput(rows, state=state, fresh=torch.zeros_like(fresh)))[0]
    assert not torch.allclose(whole, faulty, atol=1e-6)
    assert torch.allclose(whole.reshape(16, 8, -1)[:5], faulty.reshape(16, 8, -1)[:5], atol=1e-6)


class Continued:
    """Makes environments; the first one goes on where the file says, as training does after a resume."""

    def __init__(self, env_id: str, state: Path | None = None) -> None:
        self._make, self._state, self.env = make(env_id), state, None

    def __call__(self, num_envs: int | None = None, **keywords: Any) -> Any:
        self.env = env = self._make(num_envs, **keywords)
        if self._state is not None:
            reset = env.reset
            env.reset = lambda **_: reset(options={"state": str(self._state)})
        return env


@pytest.mark.parametrize("extractor", RECURRENT)
def test_a_resumed_run_with_memory_is_one_that_never_stopped(tmp_path: Path, extractor: str) -> None:
    """Bit for bit: weights, Adam's moments, generators, and what each lane remembers in the middle of its episode."""
    whole = agent(extractor, seed=1)
    whole.learn(make(MEMORY), 5 * ROLLOUT)
    first, environments = agent(extractor, seed=1), Continued(MEMORY)

    def stop(steps: int, scalars: Any) -> bool:
        if steps < 2 * ROLLOUT:
            return True
        first.checkpoint(tmp_path)
        snapshot.save(environments.env, tmp_path / "lanes.npz")
        return False

    first.learn(environments, 5 * ROLLOUT, stop)
    kept = read_arrays(tmp_path / "training.safetensors")
    assert any(name.startswith("memory.") and np.abs(array).max() > 0 for name, array in kept.items())
    assert 0 < kept["lane_fresh"].sum() < 8 or not kept["lane_fresh"].all()
    second = agent(extractor, seed=1)
    second.resume(tmp_path)
    second.learn(Continued(MEMORY, tmp_path / "lanes.npz"), 5 * ROLLOUT)
    assert same(whole.arrays(), second.arrays())
    assert same(whole._trainer.arrays(), second._trainer.arrays())  # type: ignore[union-attr]


@pytest.mark.parametrize("extractor", ["mlp", "cnn", *RECURRENT])
def test_evaluation_changes_neither_weights_nor_what_observations_are_divided_by(extractor: str) -> None:
    one = agent(extractor, LOB)
    one.learn(make(LOB), ROLLOUT)
    before = {name: array.copy() for name, array in one.arrays().items()}
    assert before["features_extractor.count"] > 0
    state = one.initial_state(8)
    for _ in range(5):
        observation = (50.0 * np.random.default_rng(0).normal(size=(8, *one.observation_space.shape))).astype(np.float32)
        _, state = one.act(observation, state)
    assert same(before, one.arrays())


def test_a_unit_that_is_to_keep_keeps() -> None:
    """What is left of a cue after 24 empty decisions, of torch's own units and of those that begin as memories."""

    def left(**options: Any) -> float:
        one = agent("gru", **options)
        encoder = one.policy.encoders["policy"]
        state = encoder.initial_state(1)
        states = [encoder.step(torch.tensor([[0.0, cue, 0.0]]), state)[1] for cue in (-1.0, 1.0)]
        first = (states[0]["hidden"] - states[1]["hidden"]).norm()
        for _ in range(24):
            states = [encoder.step(torch.zeros(1, 3), each)[1] for each in states]
        return float(((states[0]["hidden"] - states[1]["hidden"]).norm() / first).detach())

    assert left() < 0.01 < 0.2 < left(extractor_options={"keeps": 64})


def test_policy_and_value_share_an_encoder_only_when_asked() -> None:
    apart, together = agent("gru"), agent("gru", shared=True)
    assert set(apart.policy.encoders) == {"policy", "value"} and set(together.policy.encoders) == {"policy"}
    assert set(apart.initial_state(3)) == {"policy.hidden"} and apart.policy.initial_state(3).keys() > {"value.hidden"}
    assert agent("mlp").initial_state(3) is None and agent("cnn", LOB).initial_state(3) is None
