"""One training run and its judgement: plain data in, plain data out, so that it can be done anywhere.

What a policy is judged by (`Objectives`): its value, which is to be large, drawdown and turnover, which are to be small.

=============  ==========================================  ====================================  ===================================
environment    value                                       drawdown                              turnover
=============  ==========================================  ====================================  ===================================
with a market  P&L, currency an episode                    largest fall of equity, currency      value of all that was traded
certificate    score: 0 best naive policy, 1 the optimum   largest fall of wealth, its unit      traded an episode, its unit
=============  ==========================================  ====================================  ===================================

Drawdown and turnover are means over the episodes of the split that judges. A score is exact where the policy can be counted out.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import TypeAdapter

from emp_gym.agents.base import Learner, traits
from emp_gym.envs import problem_of
from emp_gym.envs.about import MARKET, about
from emp_gym.evaluation import performance
from emp_gym.runs import backtest
from emp_gym.runs.config import RunConfig, override
from emp_gym.runs.run_recorder import RunRecorder
from emp_gym.training import certify
from emp_gym.types import F64, Bool, ConfigError, DataError, EmpGymError, RunLog

SAMPLES = 2048
"""Episodes of a certificate's judgement that has to sample."""


@dataclass(frozen=True)
class Objectives:
    """What is measured of a policy, in this order."""

    value: str  # its name: "score" or "P&L"
    bar: float | None  # value of doing nothing (or of the best naive policy): what is below it breaks the constraint
    unit: str  # of drawdown and turnover

    directions: ClassVar[tuple[Literal["maximize", "minimize"], ...]] = ("maximize", "minimize", "minimize")
    signs: ClassVar[F64] = np.array([-1.0, 1.0, 1.0])  # values times signs are costs

    @property
    def names(self) -> tuple[str, str, str]:
        return self.value, "drawdown", "turnover"

    def violation(self, value: float) -> float:
        """By how much `value` is worse than doing nothing."""
        return 0.0 if self.bar is None else max(self.bar - value, 0.0)


def objectives(config: RunConfig) -> Objectives:
    """Those of an environment; raises `ConfigError` for one that shows neither a market nor a certificate's wealth."""
    if problem_of(config.env_id) is not None:
        for key in config.env.keys() - {"reward"}:  # the form of reward leaves the problem as it is
            raise ConfigError(f"{config.env_id} is searched as it is: with env.{key} it would be another problem")
        return Objectives("score", 0.0, "unit of the problem")
    env = backtest.make_env(config.env_id, config.env, 1, split="fit")
    known = about(env)
    env.close()
    if known.kind != MARKET:
        raise ConfigError(
            f"{config.env_id}: a search measures P&L, drawdown and turnover, which order books (emp-lob-...) and certificates "
            "tell; this environment tells neither"
        )
    return Objectives("P&L", None if known.reward == "shortfall" else 0.0, "currency")


@dataclass(frozen=True)
class TrainingJob:
    """One training run (`fit` is the split it learns on) and its judgement (`config.evaluation.split`)."""

    config: str  # a `RunConfig` as JSON, with seed and steps
    fit: str = "fit"

    @classmethod
    def of(cls, config: RunConfig, seed: int, steps: int, *, fit: str = "fit", judged: str = "validation") -> TrainingJob:
        config = replace(config, seed=seed, total_timesteps=steps, evaluation=replace(config.evaluation, split=judged))
        return cls(json.dumps(asdict(config), sort_keys=True), fit)

    def __str__(self) -> str:
        told = json.loads(self.config)
        return f"{told['agent_name']} on {told['env_id']}, seed {told['seed']}, {told['total_timesteps']:,} steps, {self.digest}"

    @property
    def digest(self) -> str:
        """Names what comes of it: the same for the same work."""
        return hashlib.sha256(f"{self.fit} {self.config}".encode()).hexdigest()[:24]


@dataclass(frozen=True)
class JobResult:
    """What came of a unit."""

    objectives: tuple[float, ...]  # value, drawdown, turnover; empty where it failed
    pnl: tuple[float, ...]  # of each episode, in order of time
    env_steps: int  # of training
    seconds: float  # of wall clock, other programs included
    failed: str = ""  # why there is no result

    @property
    def figures(self) -> tuple[tuple[float, ...], tuple[float, ...], int, str]:
        """All that does not depend on the clock."""
        return self.objectives, self.pnl, self.env_steps, self.failed


def work(unit: TrainingJob) -> JobResult:
    """Trains and judges. A configuration that cannot be trained is an outcome, too: what it raised is the reason."""
    began, config = time.perf_counter(), override(RunConfig(), json.loads(unit.config))
    agent: Any = None
    try:
        env = backtest.make_env(config.env_id, config.env, 1, split=unit.fit)
        agent = backtest.build(config.agent_name, env, config.seed, config.agent)
        env.close()
        if isinstance(agent, Learner):
            make_env = partial(backtest.training_env(config.env_id, config.env), split=unit.fit)
            agent.learn(make_env, config.total_timesteps, None)
        values, pnl = judge(agent, config)
        failed = "" if np.isfinite(values).all() else f"its figures are not finite: {values}"
    except (EmpGymError, ValueError, ArithmeticError) as error:  # weights that went to NaN are a ValueError of torch
        values, pnl, failed = (), np.zeros(0), f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
    seconds = time.perf_counter() - began
    steps = traits(agent).num_timesteps
    return JobResult(() if failed else values, tuple(pnl.tolist()), steps, round(seconds, 3), failed)


def judge(agent: Any, config: RunConfig) -> tuple[tuple[float, ...], F64]:
    """(value, drawdown, turnover) and the P&L of each episode, on the split that `config.evaluation` names."""
    judged = config.evaluation
    chosen = backtest.windows(config.env_id, config.env, judged)
    if not problem_of(config.env_id) is not None:
        log = backtest.evaluate(agent, config.env_id, config.env, chosen, judged.seed, judged.split, record=RunRecorder())
        return (float(log.episodes["pnl"].mean()), *_risk_and_trading(log)), log.episodes["pnl"]
    fall = Fall()
    log = backtest.evaluate(agent, config.env_id, config.env, chosen, judged.seed, judged.split, watch=fall)
    score = certify.judge(agent, config.env_id, SAMPLES, judged.split).score
    return (score, fall.mean, float(log.episodes["turnover"].mean())), log.episodes["pnl"]


def _risk_and_trading(log: RunLog) -> tuple[float, float]:
    parts = performance.parts(log)
    return float(parts["max_drawdown_currency"].top.mean()), float(parts["turnover_currency_per_episode"].top.mean())


class Fall:
    """Watches how far each lane's wealth falls from its highest so far, beginning at 0."""

    def __init__(self) -> None:
        self._high: F64 | float = 0.0
        self._fall: F64 | float = 0.0

    def __call__(self, env: Any, running: Bool) -> None:
        wealth = env.unwrapped.wealth
        self._high = np.maximum(self._high, wealth)
        self._fall = np.maximum(self._fall, self._high - wealth)

    @property
    def mean(self) -> float:
        """Over lanes."""
        return float(np.mean(self._fall))


# ---- as files


def to_json(unit: TrainingJob, outcome: JobResult) -> str:
    return json.dumps({"unit": asdict(unit), "outcome": asdict(outcome)}) + "\n"


def from_json(told: Mapping[str, Any], where: str) -> tuple[TrainingJob, JobResult]:
    """What `to_json` wrote; raises `DataError` where it is something else."""
    try:
        unit, outcome = TypeAdapter(TrainingJob).validate_python(told["unit"]), TypeAdapter(JobResult).validate_python(told["outcome"])
        if len(outcome.objectives) not in (0, len(Objectives.directions)) or not 0 <= outcome.env_steps < 1 << 63:
            raise ValueError(f"{len(outcome.objectives)} objectives, {outcome.env_steps} steps")
        return unit, outcome
    except (KeyError, TypeError, ValueError, OverflowError) as error:  # ValueError: pydantic's is one
        why = " ".join(str(error).split())[:200]
        raise DataError(f"{where}: not the outcome of a unit of work ({why}); remove it, and it is done again") from error
