"""Judged episodes on small synthetic days for tests of reports: made once a process, small, no training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from emp_gym.cli import evaluation as judging
from emp_gym.runs import backtest
from emp_gym.runs.backtest import Comparison
from emp_gym.runs.config import EvaluationConfig, RunConfig
from emp_gym.runs.evaluation_setup import EvaluationSetup
from emp_gym.types import RunLog

KWARGS = {"data": "synthetic:rows=6000", "episode": "50 decisions"}
EPISODES = 8


@dataclass(frozen=True)
class Judged:
    config: RunConfig
    agents: list[Any]
    comparison: Comparison
    runs: list[RunLog]
    baselines: dict[str, RunLog]


@cache
def judged(env_id: str = "emp-lob-v0", agent: str = "random", seeds: int = 1, episodes: int = EPISODES) -> Judged:
    """`agent` with so many seeds, and two baselines, recorded."""
    return judge(env_id, agent, seeds, episodes)


def judge(env_id: str, agent: str, seeds: int = 1, episodes: int = EPISODES, env: dict[str, Any] | None = None) -> Judged:
    """The same, with keywords of the environment."""
    rival = "twap" if env_id == "emp-lob-execution-v0" else "symmetric"
    evaluation = EvaluationConfig(episodes=episodes, baselines=("hold", rival), resamples=200)
    config = replace(RunConfig(), env_id=env_id, agent_name=agent, env={**KWARGS, **(env or {})}, evaluation=evaluation)
    made = backtest.make_env(env_id, config.env, 1, split="test")
    agents = [backtest.build(agent, made, seed) for seed in range(seeds)]
    made.close()
    return Judged(config, agents, *backtest.judge(EvaluationSetup(config, agents), record=True))


def left(one: Judged, folder: Path) -> Path:
    """`folder` with the report of `one`, as a command leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    judging.judge_into(EvaluationSetup(one.config, one.agents), folder)
    return folder
