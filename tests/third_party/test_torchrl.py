"""TorchRL's own classes on our environments: by id, around a scalar one, around a native vector one."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import emp_gym  # noqa: F401  registers the ids

pytest.importorskip("torchrl", reason='needs TorchRL: pip install "emp-gym[torchrl]"')

from torchrl.envs import GymEnv, GymWrapper
from torchrl.envs.utils import check_env_specs

IDS: dict[str, dict[str, Any]] = {
    "emp-lob-v0": {"episode": "5 decisions"},
    "emp-lob-market-making-v0": {"episode": "5 decisions"},
    "emp-ladder-trend-v0": {},
}
LANES, STEPS = 3, 12
pytestmark = pytest.mark.filterwarnings("ignore")


def replayed(env: gym.Env, seed: int, actions: np.ndarray) -> tuple[list[np.ndarray], list[float]]:
    """Observations after, and rewards of, `actions` in a scalar environment that is reset where it ends."""
    env.reset(seed=seed)
    observations, rewards = [], []
    for action in actions:
        observation, reward, terminated, truncated, _ = env.step(action)
        observations.append(observation)
        rewards.append(float(reward))
        if terminated or truncated:
            env.reset()
    return observations, rewards


def actions_of(rollout: Any) -> np.ndarray:
    """Actions [..., T] as the environment takes them: TorchRL has discrete ones as one-hot vectors."""
    action = rollout["action"]
    return action.numpy() if action.is_floating_point() else action.int().argmax(-1).numpy()


@pytest.mark.parametrize("name", sorted(name for name in gym.registry if name.startswith("emp-")))
def test_every_id_is_made_by_name(name: str) -> None:
    env = GymEnv(name)
    assert env.rand_step(env.reset())["next", "observation"].shape == env.observation_spec["observation"].shape


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("made", ["GymEnv", "GymWrapper"])
def test_a_rollout_is_what_gymnasium_gives(name: str, made: str) -> None:
    env = GymEnv(name, **IDS[name]) if made == "GymEnv" else GymWrapper(gym.make(name, **IDS[name]))
    check_env_specs(env, seed=0)
    env._env.reset(seed=4)  # TorchRL's own set_seed draws another one from it
    rollout = env.rollout(5)
    twin = gym.make(name, **IDS[name])
    twin.reset(seed=4)
    observations, rewards = [], []
    twin.reset()  # as the rollout's own reset
    for action in actions_of(rollout):
        observation, reward, *_ = twin.step(action)
        observations.append(observation)
        rewards.append(float(reward))
    assert np.array_equal(rollout["next", "observation"].numpy(), np.stack(observations))
    assert rollout["next", "reward"].squeeze(-1).numpy() == pytest.approx(np.array(rewards), rel=1e-6)


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("mode", ["Disabled", "SameStep"])
def test_a_vector_rollout_goes_through_episode_ends(name: str, mode: str) -> None:
    lanes = gym.make_vec(name, num_envs=LANES, autoreset_mode=mode, **IDS[name])
    env = GymWrapper(lanes)
    check_env_specs(env, seed=0)
    env.set_seed(7)
    seed = lanes.np_random_seed
    rollout = env.rollout(STEPS, break_when_any_done=False, auto_reset=True)
    actions = actions_of(rollout)
    assert seed == 7
    for lane in range(LANES):
        twin = gym.make_vec(name, num_envs=LANES, autoreset_mode="Disabled", **IDS[name])
        twin.reset(seed=7)
        twin.reset()  # the rollout's own
        for step in range(STEPS):
            observation, _, terminated, truncated, _ = twin.step(actions[:, step])
            got = rollout["next", "observation"][lane, step].numpy()
            assert np.array_equal(got, observation[lane]), f"{mode}, lane {lane}, step {step}"
            over = terminated | truncated
            assert bool(rollout["next", "done"][lane, step]) == over[lane]
            if over.any():
                twin.reset(options={"reset_mask": over})
            if over.all() and mode == "SameStep":
                twin.reset()  # TorchRL asks for another one where all lanes ended at once
    if IDS[name]:
        assert rollout["next", "done"].sum() == 2 * LANES


def test_the_mode_that_torchrl_does_not_know_is_refused_by_torchrl() -> None:
    with pytest.raises(RuntimeError, match="SAME_STEP or DISABLED"):
        GymWrapper(gym.make_vec("emp-lob-v0", num_envs=2))


def test_infos_of_a_vector_environment_become_tensors() -> None:
    import torch

    env = GymWrapper(gym.make_vec("emp-lob-v0", num_envs=LANES, autoreset_mode="SameStep", episode="5 decisions"))
    step = env.rand_step(env.reset())["next"]
    assert step["reason"].dtype == torch.int64 and step["reason"].shape[0] == LANES
    assert step["action_mask"].shape == (LANES, 11)


def test_our_wrappers_are_wrapped_too() -> None:
    from emp_gym.envs.wrappers import RiskVectorWrapper

    lanes = gym.make_vec("emp-lob-v0", num_envs=LANES, autoreset_mode="Disabled", episode="5 decisions")
    rollout = GymWrapper(RiskVectorWrapper(lanes, {})).rollout(STEPS, break_when_any_done=False)
    assert rollout["next", "done"].sum() == 2 * LANES
