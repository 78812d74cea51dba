"""The vector face gives its arrays away: what a caller does to them is never seen again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from emp_gym.envs import snapshot

LANES, STEPS = 4, 7
IDS = {"emp-lob-v0": {"episode": "5 decisions"}, "emp-cartea-jaimungal-v0": {"steps": 5}, "emp-ladder-trend-v0": {}}
MODES = ("Disabled", "NextStep", "SameStep")


def played(env_id: str, mode: str, *, spoil: bool) -> tuple[Any, list[np.ndarray]]:
    """An environment in the middle of its episodes, and copies of what it gave; with `spoil` the caller writes into all
    that it got."""
    env = gym.make_vec(env_id, num_envs=LANES, autoreset_mode=mode, **IDS[env_id])
    rng = np.random.default_rng(3)
    observation, _ = env.reset(seed=2)
    given = [observation.copy()]
    if spoil:
        observation[...] = 777.0
    for _ in range(STEPS):
        actions = rng.integers(0, 3, LANES) if isinstance(env.single_action_space, gym.spaces.Discrete) else rng.uniform(
            -1, 1, env.action_space.shape)  # fmt: skip
        observation, rewards, terminated, truncated, _ = env.step(actions)
        given += [observation.copy(), rewards.copy(), terminated.copy(), truncated.copy()]
        if spoil:
            observation[...], rewards[...], terminated[...], truncated[...] = 777.0, 777.0, True, True
    return env, given


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", IDS)
def test_what_a_caller_writes_into_an_observation_is_not_seen_after_a_partial_reset(env_id: str, mode: str) -> None:
    (clean, expected), (spoilt, got) = (played(env_id, mode, spoil=spoil) for spoil in (False, True))
    assert all(map(np.array_equal, got, expected))
    mask = np.array([False, True, False, False])
    for _ in range(2):
        there, here = (env.reset(options={"reset_mask": mask})[0] for env in (clean, spoilt))
        assert np.array_equal(here, there)
        here[...] = 777.0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", IDS)
def test_what_a_caller_writes_into_an_observation_is_not_kept_in_a_snapshot(env_id: str, mode: str, tmp_path: Path) -> None:
    kept = []
    for spoil in (False, True):
        env, _ = played(env_id, mode, spoil=spoil)
        path = tmp_path / f"{spoil}.npz"
        snapshot.save(env, path)
        other = gym.make_vec(env_id, num_envs=LANES, autoreset_mode=mode, **IDS[env_id])
        kept.append(other.reset(options={"state": str(path)})[0])
    assert np.array_equal(*kept) and not (kept[0] == 777.0).any()
