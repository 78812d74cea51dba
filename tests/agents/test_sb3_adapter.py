"""The native vector environment as SB3 sees it."""

from __future__ import annotations

import fakes
import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.monitor import Monitor

from emp_gym.envs.sb3 import NOTHING, NativeVecEnv
from emp_gym.types import ConfigError


def adapter(lanes: int = 8, **keywords: object) -> NativeVecEnv:
    return NativeVecEnv(fakes.make_env(lanes), **({"stagger": True} | keywords))  # type: ignore[arg-type]


def test_other_autoreset_modes_are_refused() -> None:
    with pytest.raises(ConfigError, match="SameStep"):
        NativeVecEnv(fakes.make_env(2, autoreset_mode="NextStep"))


def test_ends_are_described_and_nothing_else() -> None:
    env, twin = adapter(), fakes.make_env(8)
    env.seed(5)
    env.reset()
    twin.reset(seed=5, options={"stagger": True})
    returns, lengths, ends = np.zeros(8), np.zeros(8, int), 0
    rng = np.random.default_rng(0)
    for _ in range(60):
        actions = rng.integers(0, 11, 8)
        observation, reward, done, infos = env.step(actions)
        expected, r, terminated, truncated, info = twin.step(actions)
        returns += r
        lengths += 1
        assert np.array_equal(observation, expected) and reward.dtype == np.float32
        for lane in range(8):
            if not done[lane]:
                assert infos[lane] is NOTHING
                continue
            ends += 1
            assert np.array_equal(infos[lane]["terminal_observation"], info["final_obs"][lane])
            assert infos[lane]["TimeLimit.truncated"] is True
            assert (
                infos[lane]["episode"]["r"] == pytest.approx(returns[lane])
                and infos[lane]["episode"]["l"] == lengths[lane]
            )
            returns[lane], lengths[lane] = 0, 0
    assert ends > 20 and NOTHING == {}


def test_first_episodes_are_staggered_and_later_ones_are_not() -> None:
    env = adapter(64)
    env.seed(0)
    env.reset()
    lengths: list[list[int]] = [[] for _ in range(64)]
    for _ in range(50):
        for lane, info in enumerate(env.step(np.zeros(64, int))[3]):
            if info:
                lengths[lane].append(info["episode"]["l"])
    assert len({episodes[0] for episodes in lengths}) > 8
    assert {episodes[1] for episodes in lengths} == {16}


def test_masks_for_maskable_algorithms() -> None:
    env = adapter()
    env.reset()
    for _ in range(6):
        env.step(np.full(8, 7))
    assert env.has_attr("action_masks")
    masks = np.stack(env.env_method("action_masks"))
    assert masks.shape == (8, 11) and masks.dtype == bool
    masks[:] = False
    assert env.action_masks().any(), "what is handed out is a copy"
    assert len(env.env_method("action_masks", indices=[1, 3])) == 2


def test_no_mask_means_no_attribute() -> None:
    env = NativeVecEnv(fakes.make_env(2, id="fake-box-v0"))
    env.reset()
    assert not env.has_attr("action_masks")


def test_what_sb3_asks_for() -> None:
    env = adapter(3)
    assert env.get_attr("render_mode") == [None] * 3
    assert env.env_is_wrapped(Monitor) == [True] * 3
    assert env.get_attr("limit", indices=0) == [50]
    with pytest.raises(ConfigError, match="share their attributes"):
        env.set_attr("limit", 3, indices=0)


def test_arrays_handed_out_are_never_written_again() -> None:
    env = adapter()
    seen = [env.reset()]
    kept = [seen[0].copy()]
    for _ in range(20):
        observation, reward, done, _ = env.step(np.zeros(8, int))
        seen += [observation, reward, done]
        kept += [observation.copy(), reward.copy(), done.copy()]
    assert all(np.array_equal(a, b) for a, b in zip(seen, kept, strict=True))


def test_sb3_trains_on_a_foreign_vector_environment() -> None:
    from stable_baselines3 import PPO

    foreign = gym.vector.SyncVectorEnv(
        [lambda: gym.make("CartPole-v1") for _ in range(4)], autoreset_mode=gym.vector.AutoresetMode.SAME_STEP
    )
    model = PPO(
        "MlpPolicy", NativeVecEnv(foreign, stagger=False), n_steps=64, batch_size=32, n_epochs=1, device="cpu", seed=0
    )
    model.learn(256)
    assert model.num_timesteps == 256 and len(model.ep_info_buffer or ()) > 4
