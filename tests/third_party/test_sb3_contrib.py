"""sb3-contrib's MaskablePPO, its evaluation and its callback, and SB3's own evaluation, on all that we give them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.callbacks import MaskableEvalCallback
from sb3_contrib.common.maskable.evaluation import evaluate_policy as evaluate_masked
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from emp_gym.envs.sb3 import NativeVecEnv
from emp_gym.envs.wrappers import RiskWrapper

SHORT = {"episode": "20 decisions"}
SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "device": "cpu", "seed": 0}


def scalar() -> gym.Env:
    return Monitor(gym.make("emp-lob-v0", **SHORT))


def several() -> Any:
    return make_vec_env("emp-lob-v0", 2, env_kwargs=SHORT)


def native() -> NativeVecEnv:
    return NativeVecEnv(gym.make_vec("emp-lob-v0", num_envs=4, autoreset_mode="SameStep", **SHORT))


MADE = {"gym.make": scalar, "make_vec_env": several, "NativeVecEnv": native}


@pytest.mark.parametrize("made", MADE)
def test_masks_are_there_before_the_first_reset(made: str) -> None:
    env = MADE[made]()
    assert is_masking_supported(env)
    masks = get_action_masks(env)
    assert masks.shape[-1] == 11 and masks.dtype == bool and masks.all()


@pytest.mark.parametrize("made", MADE)
def test_maskable_ppo_learns_and_is_judged_while_and_after(made: str, tmp_path: Path) -> None:
    callback = MaskableEvalCallback(MADE[made](), n_eval_episodes=4, eval_freq=8, verbose=0, log_path=str(tmp_path))
    model = MaskablePPO("MlpPolicy", MADE[made](), **SMALL).learn(32, callback)
    with np.load(tmp_path / "evaluations.npz") as kept:
        assert (kept["ep_lengths"] == 20).all() and kept["ep_lengths"].shape[1] == 4
    rewards, lengths = evaluate_masked(model, MADE[made](), n_eval_episodes=4, return_episode_rewards=True)
    assert lengths == [20] * 4 and len(rewards) == 4


def test_a_masked_action_is_never_played() -> None:
    env = native()
    model = MaskablePPO("MlpPolicy", env, **SMALL)
    refused: list[bool] = []

    def watched(self: Any, actions: np.ndarray) -> None:
        refused.append(not env.action_masks()[np.arange(4), actions].all())
        NativeVecEnv.step_async(self, actions)

    env.step_async = watched.__get__(env)  # type: ignore[method-assign]
    model.learn(128)
    assert len(refused) >= 32 and not any(refused)
    assert sum(info["masked"] for info in [env.env.unwrapped.lanes.summary(np.arange(4))])[0] == 0


def test_the_mask_of_a_scalar_environment_is_the_one_of_its_info() -> None:
    env = gym.make("emp-lob-v0", max_episode_steps=30)
    _, info = env.reset(seed=1)
    narrow = 0
    for _ in range(25):
        mask = env.get_wrapper_attr("action_masks")()
        assert np.array_equal(mask, info["action_mask"])
        narrow += int(not mask.all())
        mask[:] = False  # what is handed out is a copy
        *_, info = env.step(7)
    assert narrow > 10


def test_environments_without_a_menu_support_no_masks() -> None:
    for name in ("emp-lob-market-making-v0", "emp-ladder-trend-v0"):
        lanes = gym.make_vec(name, num_envs=2, autoreset_mode="SameStep")
        assert not is_masking_supported(gym.make(name)) and not is_masking_supported(NativeVecEnv(lanes))


def test_masks_of_a_risk_wrapper_are_its_own() -> None:
    env = RiskWrapper(gym.make("emp-lob-v0"), {"instrument": {"restricted": True}})
    env.reset(seed=0)
    env.step(0)
    assert np.array_equal(get_action_masks(env), env.unwrapped.action_masks()) and not get_action_masks(env)[7]


def test_sb3_judges_whole_episodes_from_the_first_one_on(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", native(), **SMALL)
    fresh = native()
    for _ in range(2):
        assert evaluate_policy(model, fresh, n_eval_episodes=8, return_episode_rewards=True)[1] == [20] * 8
    model.learn(64, EvalCallback(native(), n_eval_episodes=4, eval_freq=8, log_path=str(tmp_path), verbose=0))
    with np.load(tmp_path / "evaluations.npz") as kept:
        assert (kept["ep_lengths"] == 20).all()


def test_staggered_lanes_are_there_by_name_and_would_be_judged_on_cut_episodes() -> None:
    lanes = gym.make_vec("emp-lob-v0", num_envs=8, autoreset_mode="SameStep", **SHORT)
    env = NativeVecEnv(lanes, stagger=True)
    env.seed(0)
    lengths = evaluate_policy(PPO("MlpPolicy", env, **SMALL), env, n_eval_episodes=8, return_episode_rewards=True)[1]
    assert len(set(lengths)) > 3, "the fault that the default spares"
