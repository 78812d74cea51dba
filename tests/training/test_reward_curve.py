"""The learning curve shows the reward that the agent got, whatever is wrapped around its environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import VectorWrapper
from lies import config

from emp_gym.runs import backtest
from emp_gym.training.callbacks import RETURNS
from emp_gym.training.episode_statistics import EpisodeStatistics, MeteredVectorEnv

LANES = 4


class Halved(VectorWrapper):
    """Half of the reward, and a price for each step."""

    def step(self, actions: Any) -> Any:
        observation, reward, *rest = self.env.step(actions)
        return observation, reward / 2 - 0.25, *rest


def played(wrap: Any, steps: int = 48) -> tuple[dict[str, float], list[float]]:
    """What the meter tells, and the returns of the episodes that ended, summed here."""
    asked = config()
    meter = EpisodeStatistics()
    env = MeteredVectorEnv(wrap(backtest.make_env(asked.env_id, asked.env, LANES, split="train", autoreset_mode="SameStep")), meter)
    env.reset(seed=1)
    sums, ended = np.zeros(LANES), []
    for step in range(steps):
        _, reward, terminated, truncated, _ = env.step(np.full(LANES, 7 if step % 5 else 10))
        sums += reward
        for lane in np.flatnonzero(terminated | truncated):
            ended.append(float(sums[lane]))
            sums[lane] = 0.0
    env.close()
    return meter.drain(), ended


def test_the_return_is_the_reward_that_came_out_of_the_wrapper() -> None:
    told, ended = played(Halved)
    assert told["rollout/episodes"] == len(ended) >= LANES
    assert told["rollout/ep_rew_mean"] == pytest.approx(np.mean(ended))
    plain, _ = played(lambda env: env)
    assert told["market/pnl"] == plain["market/pnl"] != told["rollout/ep_rew_mean"], "money is money, whatever is learned from"


def test_without_a_wrapper_it_is_the_summary_s_return_to_the_bit() -> None:
    told, ended = played(lambda env: env)
    assert told["rollout/ep_rew_mean"] == pytest.approx(np.mean(ended), abs=0)


def test_sums_of_episodes_under_way_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    asked = config()

    def make(**more: Any) -> MeteredVectorEnv:
        plain = backtest.make_env(asked.env_id, asked.env, LANES, split="train", autoreset_mode="SameStep")
        return MeteredVectorEnv(Halved(plain), EpisodeStatistics(), **more)

    from emp_gym.envs import snapshot

    env = make()
    env.reset(seed=1)
    for _ in range(5):
        env.step(np.full(LANES, 7))
    snapshot.save(env, tmp_path / "lanes.npz")
    env.save_returns(tmp_path / RETURNS)
    other = make(state=tmp_path / "lanes.npz", returns=tmp_path / RETURNS)
    other.reset()
    assert np.array_equal(other._return, env._return) and env._return.any()
