"""Does it learn? An agent on every certificate, as a share of the way from the best naive policy to the known optimum.

The score is (J - J_naive) / (J_optimal - J_naive). J_optimal and J_naive are the exact dynamic programme's. J of the agent
is exact where its actions follow from what it sees and the states can be counted; elsewhere it is J_optimal plus the mean
difference between the agent's episodes and the optimal policy's on the same noise (common random numbers), with mean-zero
noise integrated out of both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from emp_gym.agents.base import Bound, Learner, traits
from emp_gym.agents.hyperparams import preset
from emp_gym.agents.optimal_policies import Optimal
from emp_gym.envs import CERTIFICATES, problem_of
from emp_gym.evaluation import optimal
from emp_gym.evaluation.intervals import Estimate
from emp_gym.evaluation.reliability import stratified_interval
from emp_gym.runs import backtest
from emp_gym.training.executors import Executor
from emp_gym.types import F32, F64, I64, ConfigError

EPISODES = 8192
"""Of a judgement that has to sample."""
PASS, PASS_LOW = 0.95, 0.90
"""Of the score and of its lower bound."""


@dataclass(frozen=True)
class CertificateResult:
    """One trained agent on one certificate."""

    score: float
    value: float  # J, in the problem's unit of reward
    error: float  # standard error of the score by sampling; 0 where J is exact
    turnover: float | None  # traded in a step; None where it was not looked at
    cost: float | None  # paid for trading in a step
    exact: bool


class Taken(NamedTuple):
    """What came of an attempt."""

    judgement: CertificateResult
    env_steps: int  # that it learned: whole rollouts go over the budget
    seconds: float


@dataclass(frozen=True)
class Certificate:
    """An agent on one certificate over several seeds."""

    env_id: str
    runs: tuple[CertificateResult, ...]
    score: Estimate  # interquartile mean over seeds with its stratified bootstrap interval
    env_steps: int  # of training, most of any seed
    seconds: float  # of training, mean over seeds
    passed: bool
    optimum: float
    base: tuple[str, float]
    abstention: bool  # holding is the optimum: passed by not trading

    def as_json(self) -> dict[str, Any]:
        """The record of ``check.py --certify --json``."""
        return {
            "score": self.score.mean, "low": self.score.low, "high": self.score.high, "seeds": len(self.runs),
            "env_steps": self.env_steps, "seconds": round(self.seconds, 1), "passed": self.passed,
            "abstention": self.abstention, "optimum": self.optimum, "base": list(self.base),
            "scores": [run.score for run in self.runs], "values": [run.value for run in self.runs],
            "turnover": [run.turnover for run in self.runs], "cost": [run.cost for run in self.runs],
            "sampling_error": max(run.error for run in self.runs), "exact": self.runs[0].exact,
        }  # fmt: skip


@dataclass(frozen=True)
class Attempt:
    """One training of one agent on one certificate, to be judged."""

    agent_name: str
    env_id: str
    seed: int
    budget: int  # steps of training
    parameters: Mapping[str, Any]
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)  # of what it learns in

    def __str__(self) -> str:
        return f"{self.agent_name} on {self.env_id}, seed {self.seed}"


def attempts(
    agent_name: str, env_id: str, seeds: Sequence[int], total_timesteps: int | None = None,
    config: Mapping[str, Any] | None = None, env_kwargs: Mapping[str, Any] | None = None,
) -> list[Attempt]:  # fmt: skip
    """One for each of `seeds`. The budget and the parameters are the agent's preset for this certificate, with those given
    on top. `env_kwargs` are of the environment that it learns in (another form of reward, say); it is judged on the certificate
    as it is."""
    if problem_of(env_id) is None:
        raise ConfigError(f"{env_id} is no certificate; they are {', '.join(CERTIFICATES)}")
    budget, parameters = preset(agent_name, env_id, config)
    parameters, budget = {**parameters, **(config or {})}, total_timesteps or budget
    return [Attempt(agent_name, env_id, seed, budget, parameters, env_kwargs or {}) for seed in seeds]


def attempt(one: Attempt, progress: Callable[[int, int], None] | None = None) -> Taken:
    """How good the agent has become, and what it took."""
    env = backtest.make_env(one.env_id, one.env_kwargs, 1)
    agent = backtest.build(one.agent_name, env, one.seed, one.parameters)
    env.close()
    began = time.perf_counter()
    if isinstance(agent, Learner):
        report = None if progress is None else (lambda steps, _: progress(one.seed, steps))
        agent.learn(backtest.training_env(one.env_id, one.env_kwargs), one.budget, report)
    seconds = time.perf_counter() - began
    return Taken(judge(agent, one.env_id), traits(agent).num_timesteps, seconds)


def certify(
    agent_name: str,
    env_id: str,
    seeds: Sequence[int],
    *,
    total_timesteps: int | None = None,
    config: Mapping[str, Any] | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Certificate:
    """Trains `agent_name` on `env_id` with each of `seeds` (an agent that does not learn is judged as it is).

    `progress(seed, steps)` is called while it learns; see `attempts` for the rest.
    """
    asked = attempts(agent_name, env_id, seeds, total_timesteps, config, env_kwargs)
    return certificate(asked, [attempt(one, progress) for one in asked])


def certify_all(asked: Sequence[Attempt], where: Executor) -> Iterator[Certificate]:
    """The certificates that `asked` makes up, as tasks of `where`: each as soon as its seeds are complete."""
    found: dict[int, Taken] = {}
    for index, result in where.map(attempt, asked):
        found[index] = result
        own = [at for at, one in enumerate(asked) if one.env_id == asked[index].env_id]
        if all(at in found for at in own):
            yield certificate([asked[at] for at in own], [found[at] for at in own])


def certificate(asked: Sequence[Attempt], found: Sequence[Taken]) -> Certificate:
    """What several seeds on one certificate amount to."""
    runs = tuple(one.judgement for one in found)
    problem = optimal.problem(str(problem_of(asked[0].env_id)))
    scores = np.array([run.score for run in runs])[:, None]
    estimate = stratified_interval(scores, np.random.default_rng(np.random.SeedSequence([17, len(runs)])))
    abstention = isinstance(problem, optimal.Rung) and problem.abstention
    return Certificate(
        asked[0].env_id, runs, estimate, max(one.env_steps for one in found), float(np.mean([one.seconds for one in found])),
        _passed(problem, runs, estimate, abstention), problem.optimal().value, problem.base(), abstention,
    )  # fmt: skip


def _passed(problem: Any, runs: Sequence[CertificateResult], score: Estimate, abstention: bool) -> bool:
    if abstention:
        return all(problem.passes(run.value, run.turnover, run.cost) for run in runs)
    return bool(score.mean >= PASS and (score.low is None or score.low >= PASS_LOW))


def judge(agent: Any, env_id: str, episodes: int = EPISODES, split: str = "test") -> CertificateResult:
    """How good `agent` is on `env_id`: exactly where that can be, else on `episodes` episodes of `split`."""
    env = backtest.make_env(env_id, {}, 1, split=split)
    problem: Any = env.unwrapped.problem
    memoryless = not traits(agent).stochastic and not isinstance(agent, Bound) and agent.initial_state(1) is None
    if memoryless and isinstance(problem, optimal.Rung):
        found = problem.judge(_policy(agent, env))
        value, error, turnover, cost = found.value, 0.0, found.turnover, found.cost
    elif memoryless and "inventory" in problem.state[0]:
        value, error, turnover, cost = problem.evaluate(_policy(agent, env)), 0.0, None, None
    else:
        memoryless = False
        mine, best = _episodes(agent, env_id, episodes, split), _optimal_episodes(env_id, episodes, split)
        ahead = mine["value"] - best["value"]
        value, steps = problem.optimal().value + float(ahead.mean()), mine["length"].mean()
        error = abs(problem.score(value - float(ahead.std() / len(ahead) ** 0.5)) - problem.score(value))
        turnover, cost = float(mine["turnover"].mean() / steps), float(mine["cost"].mean() / steps)
    env.close()
    return CertificateResult(problem.score(value), value, error, turnover, cost, memoryless)


def _policy(agent: Any, env: Any) -> Callable[[I64, F64], F64]:
    """The agent as a policy of the problem: it is shown the observation of each state."""

    def policy(step: I64, state: F64) -> F64:
        observation: F32 = env.unwrapped.observation_of(step, state)
        action, _ = agent.act(observation, None, None)
        return env.unwrapped.decode(action)

    return policy


def _episodes(agent: Any, env_id: str, episodes: int, split: str) -> dict[str, np.ndarray]:
    windows = [(number, 0) for number in range(episodes)]
    return dict(backtest.evaluate(agent, env_id, {}, windows, split=split).episodes)


_kept: dict[tuple[str, int, str], dict[str, np.ndarray]] = {}


def _optimal_episodes(env_id: str, episodes: int, split: str) -> dict[str, np.ndarray]:
    """Those of the optimal policy, played once."""
    if (env_id, episodes, split) not in _kept:
        env = backtest.make_env(env_id, {}, 1)
        best = Optimal(env.single_observation_space, env.single_action_space, env.spec)
        env.close()
        _kept[env_id, episodes, split] = _episodes(best, env_id, episodes, split)
    return _kept[env_id, episodes, split]
