"""PPO: the plumbing around SB3's algorithm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch

from emp_gym.agents.base import read_arrays, write_arrays
from emp_gym.agents.ppo import PPO
from emp_gym.agents.ppo.config import sequence_batch, whole_batch
from emp_gym.agents.ppo.policy import RunningFeatures
from emp_gym.agents.ppo.rollout import RewardScale
from emp_gym.types import ConfigError, DataError

SMALL: dict[str, Any] = {"num_envs": 16, "n_steps": 16, "batch_size": 64, "n_epochs": 2, "layers": (16,), "threads": 1}
ROLLOUT = 256


def agent(seed: int = 0, env_id: str = "fake-lob-v0", **config: Any) -> PPO:
    env = fakes.make_env(1, id=env_id)
    return PPO(env.single_observation_space, env.single_action_space, env.spec, seed=seed, **{**SMALL, **config})


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


class Stop:
    """Saves a checkpoint at `at` steps and stops there."""

    def __init__(self, learner: PPO, folder: Path, at: int) -> None:
        self.learner, self.folder, self.at = learner, folder, at

    def __call__(self, steps: int, scalars: Any) -> bool:
        if steps < self.at:
            return True
        self.learner.checkpoint(self.folder)
        return False


FORGED = [
    ("training", "noise", lambda a: a[:-8]), ("training", "noise", None), ("training", "adam.0.exp_avg", lambda a: a[:1]),
    ("training", "adam.1.step", None), ("training", "adam.0.exp_avg", lambda a: a * np.nan), ("training", "adam.99.step", np.ones_like),
    ("training", "reward_scale", lambda a: a.astype(np.float32)),
    ("training", "episodes_ended", lambda a: np.zeros((2, 3))), ("model", "value_net.weight", lambda a: a * np.nan),
    ("model", "value_net.weight", lambda a: a.T), ("model", "value_net.weight", None), ("model", "another", np.ones_like),
]  # fmt: skip


@pytest.mark.parametrize(("file", "name", "how"), FORGED)
def test_a_checkpoint_that_does_not_fit_is_refused_by_name(file: str, name: str, how: Any, tmp_path: Path) -> None:
    first, second = agent(1), agent(1)
    first.learn(fakes.make_env, 2 * ROLLOUT, Stop(first, tmp_path, 2 * ROLLOUT))
    path = tmp_path / f"{file}.safetensors"
    arrays = read_arrays(path)
    found = arrays.pop(name, np.zeros(3, np.float32))
    write_arrays(path, arrays if how is None else arrays | {name: how(found)})
    with pytest.raises(DataError, match=rf"{name}: expected"):
        second.resume(tmp_path)
        second.learn(fakes.make_env, 3 * ROLLOUT, None)


@pytest.mark.parametrize("env_id", ["fake-lob-v0", "fake-box-v0"])
def test_resume_equals_going_on_but_for_lanes_in_flight(tmp_path: Path, env_id: str) -> None:
    """An agent stopped at N and told to learn on equals a new one resumed from N's files, bit for bit: weights, Adam's
    moments, normalisers, generators, schedule. (A run that was never stopped differs in one thing: its episodes were
    not begun anew.)"""

    def make(num_envs: int | None = None, **keywords: Any) -> Any:
        return fakes.make_env(num_envs, id=env_id, **keywords)

    first = agent(1, env_id)
    first.learn(make, 6 * ROLLOUT, Stop(first, tmp_path / "at", 3 * ROLLOUT))
    assert first.num_timesteps == 3 * ROLLOUT
    second = agent(99, env_id)  # another seed: everything must come from the files
    second.seed = 1
    second.resume(tmp_path / "at")
    assert same(first.arrays(), second.arrays())
    first.learn(make, 6 * ROLLOUT)
    second.learn(make, 6 * ROLLOUT)
    assert first.num_timesteps == second.num_timesteps == 6 * ROLLOUT
    assert same(first.arrays(), second.arrays())
    assert same(first._trainer.arrays(), second._trainer.arrays())  # type: ignore[union-attr]


def test_the_same_seed_learns_the_same_and_another_seed_does_not() -> None:
    def learned(seed: int) -> dict[str, np.ndarray]:
        torch.manual_seed(np.random.randint(1 << 30))  # the global generators must not matter
        one = agent(seed)
        one.learn(fakes.make_env, 2 * ROLLOUT)
        return one.arrays()

    assert same(learned(0), learned(0))
    assert not same(learned(0), learned(1))


def test_weights_do_not_depend_on_how_many_threads_torch_happens_to_have() -> None:
    """A worker begins with one, a command with as many as there are cores."""

    def drawn(threads: int) -> dict[str, np.ndarray]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return agent(layers=(256, 256), threads=2).arrays()
        finally:
            torch.set_num_threads(before)

    assert same(drawn(1), drawn(2))


def test_global_generators_are_left_alone() -> None:
    torch.manual_seed(5)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    one = agent()
    one.learn(fakes.make_env, ROLLOUT)
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])  # type: ignore[index]


def test_masked_actions_are_never_taken() -> None:
    one = agent()
    observation = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    mask = np.zeros((200, 11), bool)
    mask[:, 4] = True
    assert (one.act(observation, None, mask)[0] == 4).all()


def test_stochastic_acting_follows_the_probabilities() -> None:
    one = agent(deterministic=False)
    observation = np.zeros((20_000, 8), np.float32)
    counts = np.bincount(one.act(observation, None)[0], minlength=11) / 20_000
    with torch.no_grad():
        expected = one.policy.get_distribution(torch.zeros(1, 8)).distribution.probs[0].numpy()  # type: ignore[union-attr]
    assert np.abs(counts - expected).max() < 0.02


def test_a_model_for_other_features_is_refused(tmp_path: Path) -> None:
    agent().save(tmp_path)
    description = json.loads((tmp_path / "model.json").read_text())
    description["features_sha256"] = "0"
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(DataError, match="features_sha256"):
        agent().load(tmp_path)


def test_a_truncated_model_file_is_refused(tmp_path: Path) -> None:
    agent().save(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match="safetensors"):
        agent().load(tmp_path)


def test_zero_dimensional_arrays_survive_the_file(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a.safetensors", {"x": np.array(3.0)})
    assert read_arrays(tmp_path / "a.safetensors")["x"].shape == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("activation", "rectifier"), ("n_epochs", 0), ("num_env", 3), ("extractor", "gruu"), ("extractor_width", 0),
        ("extractor_options", {"layers": 2}), ("residual", "glf"), ("residual_scale", 0.0),
    ],
)  # fmt: skip
def test_impossible_parameters(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=key):
        agent(**{key: value})


def test_batches_divide_the_rollout() -> None:
    assert whole_batch(32_768, 16_384) == 16_384
    assert whole_batch(1_000, 300) == 250
    assert whole_batch(100, 300) == 100
    assert whole_batch(7, 4) == 1
    assert sequence_batch(16, 32, 128) == 128 and sequence_batch(16, 32, 5) == 32 and sequence_batch(12, 32, 5 * 32) == 128


def test_running_statistics_equal_those_of_all_rows() -> None:
    from gymnasium import spaces

    running = RunningFeatures(spaces.Box(-10, 10, (3,), np.float32))
    parts = [np.random.default_rng(i).normal(i, 1 + i, size=(5, 7, 3)).astype(np.float32) for i in range(4)]
    for part in parts:
        running.absorb(part)
    rows = np.concatenate([part.reshape(-1, 3) for part in parts])
    assert np.allclose(running.mean, rows.mean(0), atol=1e-5) and np.allclose(running.variance, rows.var(0), rtol=1e-5)


@pytest.mark.parametrize("env_id", ["fake-lob-v0", "fake-box-v0"])
def test_the_update_sees_the_same_numbers_as_sb3s_own_policy(env_id: str) -> None:
    from stable_baselines3.common.policies import ActorCriticPolicy

    one = agent(2, env_id)
    observation = torch.randn(50, 8)
    actions = torch.as_tensor(np.stack([one.action_space.sample() for _ in range(50)]))
    ours = one.policy.evaluate_actions(observation, actions)
    theirs = ActorCriticPolicy.evaluate_actions(one.policy, observation, actions)
    for a, b in zip(ours, theirs, strict=True):
        assert a is not None and b is not None and torch.allclose(a, b, atol=1e-6)


def test_rewards_are_scaled_to_unit_returns() -> None:
    scale, rng = RewardScale(64, 0.9), np.random.default_rng(0)
    scaled = [scale(rng.normal(size=64) * 250.0, np.zeros(64, bool)) for _ in range(400)]
    assert np.std(scaled[-100:]) == pytest.approx(np.sqrt(1 - 0.9**2), rel=0.1)


def test_the_value_of_a_cut_episode_is_added_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our batched bootstrap equals SB3's lane by lane."""
    one = agent(normalise_reward=False)
    one.learn(fakes.make_env, ROLLOUT)
    trainer = one._trainer
    assert trainer is not None
    rng = np.random.default_rng(0)
    last = rng.normal(size=(4, 8)).astype(np.float32)
    infos = [{"terminal_observation": last[i], "TimeLimit.truncated": i != 2, "episode": {}} for i in range(4)]
    rewards, lanes = np.zeros(16, np.float32), np.array([1, 5, 8, 11])
    with torch.no_grad():
        trainer._bootstrap(rewards, lanes, infos, {})
        for i, lane in enumerate(lanes):
            expected = trainer.gamma * float(trainer.policy.predict_values(torch.from_numpy(last[i : i + 1])))
            assert rewards[lane] == pytest.approx(0.0 if i == 2 else expected, rel=1e-5)
    assert (np.delete(rewards, lanes) == 0).all()


def test_values_may_be_corrected_before_they_enter_the_advantages() -> None:
    """A correction that changes nothing leaves every weight; another is heard of with observations, values and the scale
    of rewards, in the rollout, at cuts and at its end."""
    plain, same_values, corrected = agent(), agent(), agent()
    same_values.correct_values = lambda observation, values, scale: values
    heard: list[tuple[int, float]] = []

    def doubled(observation: np.ndarray, values: np.ndarray, scale: float) -> np.ndarray:
        assert observation.shape == (len(values), 8) and values.ndim == 1
        heard.append((len(values), float(scale)))
        return 2.0 * values + 1.0

    corrected.correct_values = doubled
    for one in (plain, same_values, corrected):
        one.learn(fakes.make_env, 2 * ROLLOUT)
    assert same(plain.arrays(), same_values.arrays())
    assert not same(plain.arrays(), corrected.arrays())
    whole = [n for n, _ in heard if n == 16]
    assert len(whole) >= 2 * 17 and len(whole) < len(heard), "16 decisions and the end of each rollout; and cuts of few lanes"
    assert corrected._trainer is not None and corrected._trainer.scale is not None
    assert heard[-1][1] == pytest.approx(corrected._trainer.scale.deviation)
    before = agent(normalise_reward=False)
    before.correct_values = doubled
    heard.clear()
    before.learn(fakes.make_env, ROLLOUT)
    assert {scale for _, scale in heard} == {1.0}


def test_the_rollout_that_ends_beyond_the_total_does_not_learn_backwards() -> None:
    rates: list[float] = []
    learner = agent(learning_rate=1e-2, final_learning_rate=1e-4)
    learner.learn(fakes.make_env, 2 * ROLLOUT + 1, lambda steps, scalars: bool(rates.append(scalars["train/learning_rate"]) or True))
    assert learner.num_timesteps == 3 * ROLLOUT, "a rollout that has begun is finished"
    assert rates[0] > rates[1] > rates[2] == pytest.approx(1e-4)
