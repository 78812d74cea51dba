"""The parts of a judgement as tasks of an engine: every training seed and every baseline on the same windows, each by itself.

A task says where its agent comes from (a run folder, or a name), so agents do not travel. Windows are not divided: what a
lane draws follows from its place among the lanes, and the result must be that of one process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emp_gym import trust
from emp_gym.agents import registry
from emp_gym.agents.base import traits
from emp_gym.runs import backtest
from emp_gym.runs.backtest import Comparison
from emp_gym.runs.config import RunConfig
from emp_gym.runs.evaluation_setup import EvaluationSetup
from emp_gym.runs.run_folder import RunFolder
from emp_gym.runs.spans import Window
from emp_gym.training import train
from emp_gym.training.executors import Executor
from emp_gym.types import RunLog

Judge = Callable[..., tuple[Comparison, list[RunLog], dict[str, RunLog]]]
"""``backtest.judge``, or what does the same elsewhere."""


@dataclass(frozen=True)
class Contestant:
    """Somebody who plays the windows: the agent of a finished `run`, else a `baseline`, else the agent that `config` names."""

    config: RunConfig
    chosen: tuple[Window, ...]
    record: bool
    run: Path | None = None
    baseline: str | None = None
    noted: trust.Noted = trust.NOTHING  # what the person has vouched for, as `trust.noted` tells it

    def __str__(self) -> str:
        return f"{self.run or self.baseline or self.config.agent_name} on {self.config.env_id}"


def judging(where: Executor) -> Judge:
    """`backtest.judge` on `where`, of the agents in the runs; where there are none, of the agent that the config names."""

    def judge(evaluation: EvaluationSetup, *, record: bool = False) -> tuple[Comparison, list[RunLog], dict[str, RunLog]]:
        config = evaluation.config
        judged = Contestant(config, tuple(evaluation.windows), record, noted=trust.noted())
        own = [replace(judged, run=run.path.resolve()) for run in evaluation.runs] or [judged]
        wanted = config.evaluation.baselines
        names = registry.baselines(config.env_id, config.env) if wanted is None else wanted
        tasks = [*own, *(replace(judged, baseline=name) for name in names)]
        found = dict(where.map(play, tasks))
        logs = [log for index in range(len(own)) for log in found[index][0].values()]
        baselines, skipped = dict[str, RunLog](), dict[str, str]()
        for index in range(len(own), len(tasks)):
            baselines |= found[index][0]
            skipped |= found[index][1]
        return backtest.conclude(evaluation, logs, baselines, skipped), logs, backtest.without(baselines, config.agent_name)

    return judge


def play(one: Contestant) -> tuple[dict[str, RunLog], dict[str, str]]:
    """The log of `one` by name, or why it was left out by name."""
    trust.take_over(one.noted)
    config, judged = one.config, one.config.evaluation
    if one.baseline is not None:
        only = replace(judged, baselines=(one.baseline,))
        return backtest.run_baselines(config.env_id, config.env, one.chosen, only, record=one.record)
    agent = named(config) if one.run is None else train.load(RunFolder.open(one.run), config.env_id, config.env, judged.split)
    with EvaluationSetup(config, chosen=one.chosen) as evaluation:
        return {config.agent_name: backtest.played(evaluation, agent, record=one.record)}, {}


def named(config: RunConfig, asked: Any = None) -> Any:
    """The agent that `config` names, which is not trained; one that measures something first has done so. `asked`: an environment
    like those that it will act in; without one, one is made."""
    env = backtest.make_env(config.env_id, config.env, 1, split=config.evaluation.split) if asked is None else asked
    agent = backtest.build(config.agent_name, env, config.seed, config.agent)
    if asked is None:
        env.close()
    if traits(agent).learns_first:
        backtest.calibrate(agent, config.env_id, config.env)
    return agent
