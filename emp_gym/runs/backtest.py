"""Runs agents over identical windows and compares them.

Every window is one lane of a native vector environment that does not reset itself; the same windows, pinned by day and
row, serve every agent and every baseline, so differences are paired.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from emp_gym.agents import registry
from emp_gym.agents.base import Agent, Bound, Learner, MissingFeature, parameters
from emp_gym.envs.about import MARKET, about
from emp_gym.envs.base_env import Published
from emp_gym.evaluation import intervals
from emp_gym.evaluation.intervals import MOVE, Estimate
from emp_gym.evaluation.retaken import Retaken
from emp_gym.evaluation.runlog import PER_WINDOW
from emp_gym.governance.kill_switch.gate import raise_if_killed
from emp_gym.risk.gates import Gate
from emp_gym.runs import spans
from emp_gym.runs.config import EvaluationConfig
from emp_gym.runs.contract import broken
from emp_gym.runs.drift import Drift, Mids, drift_of
from emp_gym.runs.evaluation_setup import EvaluationSetup as EvaluationSetup
from emp_gym.runs.evaluation_setup import dates_of as dates_of
from emp_gym.runs.evaluation_setup import make_env as make_env
from emp_gym.runs.evaluation_setup import windows as windows
from emp_gym.runs.held_out import Proof, not_recorded
from emp_gym.runs.run_recorder import Decisions, RunRecorder, recorder
from emp_gym.runs.spans import Played, Window
from emp_gym.types import DataError, RunLog


def gates_of(env: Any) -> tuple[Gate, ...]:
    """The gates between `env` and its market; none for environments that are not ours."""
    inner = env.unwrapped
    return inner.gates if isinstance(inner, Published) else ()


def build(name: str, env: Any, seed: int = 0, config: Mapping[str, Any] | None = None) -> Any:
    """The agent called `name` for one lane of vector environment `env`."""
    cls, arguments = registry.configured(name, config)
    return cls(env.single_observation_space, env.single_action_space, env.spec, seed=seed, **arguments)


def evaluate(
    agent: Agent, env_id: str, env_kwargs: Mapping[str, Any], chosen: Sequence[Window], seed: int = 0, split: str = "test",
    watch: Callable[[Any, np.ndarray], None] | None = None, wrap: Callable[[Any], Any] | None = None,
    record: RunRecorder | Decisions | None = None,
) -> RunLog:  # fmt: skip
    """One episode of `agent` on each window of `chosen`; episodes hold the environment's summary, arrays [W].

    An agent that has `bind` is given the environment first. A kill switch that closes raises `Killed`: episodes that it cut
    are no result. `watch(env, running)` is called after each step with the lanes [W] that took part in it; `wrap` is put
    around the environment. `record` adds the tables of a run log: steps, orders, fills, verdicts.
    """
    env = make_env(env_id, env_kwargs, len(chosen), split=split, autoreset_mode="Disabled")
    env = env if wrap is None else wrap(env)
    if isinstance(agent, Bound):
        agent.bind(env)
    days = {"window_days": found} if (found := _days_of(env, chosen)) else {}
    if record is not None:
        record.begin(env)
    known = about(env)
    takes = None if known.kind != MARKET or known.days is None else env.unwrapped.attach(Retaken(known.days))
    mids = env.unwrapped.attach(Mids()) if known.simulated else None
    options = {"day": [day for day, _ in chosen], "start": [row for _, row in chosen]}
    observation, info = env.reset(seed=seed, options=options)
    state = agent.initial_state(len(chosen))
    running = np.ones(len(chosen), bool)
    episodes: dict[str, np.ndarray] = {}
    cut = np.zeros(len(chosen))
    while running.any():
        action, state = agent.act(observation, state, info.get("action_mask"))
        observation, rewards, terminated, truncated, info = env.step(action)
        raise_if_killed(gates_of(env))
        cut += np.where(running, info.get("cost", 0.0), 0.0)
        if watch is not None:
            watch(env, running)
        if isinstance(record, Decisions):
            record.step(running, action, rewards)
        ended = (terminated | truncated) & running
        if ended.any():
            if "summary" not in info:
                raise broken(env_id, ["has no info['summary'] at the end of an episode"])
            _note(episodes, info, ended)
            running &= ~ended
    if gates_of(env):
        episodes["cut"] = cut  # orders that a gate changed or refused
    if takes is not None:
        episodes["retaken"] = takes.lots()
    if mids is not None:
        episodes[MOVE] = mids.moves()
    objections: Counter[str] = Counter()
    for gate in gates_of(env):
        objections.update(gate.counters())
    dates = dates_of(env, chosen)
    env.close()
    config = {
        "env": env_id,
        "env_kwargs": dict(env_kwargs),
        "split": split,
        "seed": seed,
        "windows": [list(w) for w in chosen],
        "dates": dates,
        **days,
        **({"objections": dict(+objections)} if +objections else {}),  # what gates said of orders, by their names of it
    }
    if record is None:
        return RunLog(config, episodes)
    return RunLog(config | record.about(), episodes, record.tables())


def _note(episodes: dict[str, np.ndarray], info: Mapping[str, Any], ended: np.ndarray) -> None:
    """Copies the summaries of the lanes that `ended`."""
    for name, values in info["summary"].items():
        if name.startswith("_"):
            continue
        values = np.asarray(values, np.float64)
        episodes.setdefault(name, np.zeros(len(values)))[ended] = values[ended]


@dataclass
class AgentResult:
    """One agent's numbers on the windows. `episodes` arrays are [S, W]."""

    name: str
    episodes: Mapping[str, np.ndarray]
    pnl: Estimate  # currency per episode (or what else the comparison judges)
    reward: Estimate  # sum of rewards per episode
    rates: Mapping[str, float]
    ahead: Estimate | None = None  # the judged agent's pnl minus this one's, paired
    share: float | None = None  # of the way from hold to the oracle, or from the best naive policy to the optimum


@dataclass(frozen=True)
class InSymbol:
    """The judged agent in one symbol."""

    symbol: str
    currency: str
    windows: int
    dates: int
    move_bps: float  # of the mid, mean over windows
    pnl: Estimate
    others: Mapping[str, float]  # of those who only hold: mean P&L


@dataclass
class Comparison:
    """An agent beside its baselines on identical windows; `rows[0]` is the agent."""

    env_id: str
    rows: list[AgentResult]
    windows: list[Window]
    days: list[str]  # date of each window
    level: float
    seeds: int = 1
    skipped: dict[str, str] = field(default_factory=dict)  # baseline -> why it is not there
    judged: str = "pnl"  # or "value": the sum of rewards without their noise, of problems whose optimum is known
    played: list[Played] = field(default_factory=list)  # what each window is of; empty where the environment does not tell
    objections: dict[str, int] = field(default_factory=dict)  # of gates to orders of the agent, by their names of reasons
    drift: Drift | None = None  # of a simulated market; None where it is not known
    by_symbol: list[InSymbol] = field(default_factory=list)  # where there are several
    proof: Proof = field(default_factory=lambda: not_recorded("test", "nobody looked it up"))
    by_currency: dict[str, Comparison] = field(default_factory=dict)  # where there are several; then no figure here adds them
    preface: Any = None  # `preface.Preface`: what was judged, for the first lines

    @property
    def agent(self) -> AgentResult:
        return self.rows[0]

    @property
    def simulated(self) -> str:
        """The simulated market that was played in; "" where it was recorded days, or no market."""
        return self.played[0].span.simulated if self.played else ""

    @property
    def recorded(self) -> bool:
        """Whether its windows are of days."""
        return bool(self.played) and not self.simulated

    def row(self, name: str) -> AgentResult | None:
        return next((row for row in self.rows[1:] if row.name == name), None)


def judge(evaluation: EvaluationSetup, *, record: bool = False) -> tuple[Comparison, list[RunLog], dict[str, RunLog]]:
    """Its agents and the baselines on the same windows: (comparison, logs of the agents, logs of the baselines); with `record` the
    logs have tables."""
    config = evaluation.config
    runs = [played(evaluation, agent, record=record) for agent in evaluation.agents]
    baselines, skipped = run_baselines(
        config.env_id, config.env, evaluation.windows, config.evaluation, record=record, asked=evaluation.env
    )
    return conclude(evaluation, runs, baselines, skipped), runs, without(baselines, config.agent_name)


def played(evaluation: EvaluationSetup, agent: Agent, *, record: bool = False) -> RunLog:
    """The episodes of `agent` on the windows of `evaluation`; with `record` the log has tables."""
    config, judged = evaluation.config, evaluation.config.evaluation
    noting = recorder(evaluation.env) if record else None
    return evaluate(agent, config.env_id, config.env, evaluation.windows, judged.seed, judged.split, record=noting)


def conclude(
    evaluation: EvaluationSetup, runs: Sequence[RunLog], baselines: Mapping[str, RunLog], skipped: Mapping[str, str]
) -> Comparison:
    """The comparison of the agent's `runs` (one per training seed) with `baselines` on the same windows."""
    config, judged, known = evaluation.config, evaluation.config.evaluation, evaluation.about
    chosen: list[Window] = [(int(day), int(row)) for day, row in runs[0].config["windows"]]
    played = spans.played_spans(evaluation.env, chosen, judged.split)
    if known.simulated:  # what it does where nobody trades, if that was played
        quiet = [baselines["hold"]] if "hold" in baselines else runs
        played = spans.moved(played, np.mean([log.episodes[MOVE] for log in quiet], axis=0))
    if judged.baselines is None:
        skipped = registry.unsuited(config.env_id, config.env) | dict(skipped)
    rivals, limit = without(baselines, config.agent_name), known.task.limit if known.simulated else 0
    return compare(config.agent_name, runs, rivals, runs[0].config["dates"], judged, skipped, known.problem, played, limit)


def without(baselines: Mapping[str, RunLog], name: str) -> dict[str, RunLog]:
    """`baselines` but for the one that is judged itself."""
    return {label: log for label, log in baselines.items() if label != name}


def run_baselines(
    env_id: str, env_kwargs: Mapping[str, Any], chosen: Sequence[Window], config: EvaluationConfig, *, record: bool = False,
    asked: Any = None,
) -> tuple[dict[str, RunLog], dict[str, str]]:  # fmt: skip
    """Episodes of every baseline on the windows, and why any was left out; with `record` their logs have tables. `asked`: an
    environment of the split that answers what it is; without one, one is made.

    A baseline that learns (VWAP's volume curve) does so on the training split first.
    """
    env = make_env(env_id, env_kwargs, 1, split=config.split) if asked is None else asked
    names = registry.baselines(env_id, env_kwargs) if config.baselines is None else config.baselines
    logs, skipped = {}, {}
    for name in names:
        if name == "oracle" and not about(env).truth:
            skipped[name] = f"{'recorded days have' if about(env).days is not None else 'the market has'} no planted signal"
            continue
        try:
            agent = build(name, env, config.seed)
            calibrate(agent, env_id, env_kwargs)
        except (DataError, MissingFeature) as error:
            skipped[name] = str(error).partition("; did you mean")[0]
            continue
        noting = recorder(env) if record else None
        logs[name] = evaluate(agent, env_id, env_kwargs, chosen, config.seed, config.split, record=noting)
    if asked is None:
        env.close()
    return logs, skipped


def calibrate(agent: Agent, env_id: str, env_kwargs: Mapping[str, Any]) -> None:
    """Lets a baseline that measures something on the training split do so; `DataError` where it cannot."""
    if isinstance(agent, Learner):
        agent.learn(training_env(env_id, env_kwargs), 1 << 20)


def training_env(env_id: str, env_kwargs: Mapping[str, Any]) -> Any:
    """``make_env`` as agents get it in `learn`: the training split, resetting in the same step."""

    def make(num_envs: int | None = None, **keywords: Any) -> Any:
        return make_env(
            env_id, env_kwargs, num_envs or 64, **{"split": "train", "autoreset_mode": "SameStep", **keywords}
        )

    return make


def compare(
    name: str,
    runs: Sequence[RunLog],
    baselines: Mapping[str, RunLog],
    dates: Sequence[str],
    config: EvaluationConfig,
    skipped: Mapping[str, str] | None = None,
    problem: Any = None,
    played: Sequence[Played] = (),
    limit: int = 0,
) -> Comparison:
    """Numbers, intervals and paired differences of `runs` (one per training seed, same windows) against `baselines`;
    `problem` is the environment's where its optimum is known, `limit` the lots that may be held. Windows of one date are one block.
    Of several currencies there is a comparison each, and none of all."""
    chosen: list[Window] = [(int(day), int(row)) for day, row in runs[0].config["windows"]]
    judged = intervals.VALUE if problem is not None and intervals.VALUE in runs[0].episodes else "pnl"
    currencies = list(dict.fromkeys(one.currency for one in played))
    blocks = intervals.codes(dates)

    def estimate(values: np.ndarray) -> Estimate:
        if len(currencies) > 1:
            return Estimate(float("nan"), note="several currencies are not added")
        rng = np.random.default_rng(np.random.SeedSequence([config.seed, 17]))  # the same draws for every row
        return intervals.bootstrap(values, blocks, rng, level=config.level, resamples=config.resamples)

    def row(label: str, logs: Sequence[RunLog]) -> AgentResult:
        episodes = {key: np.stack([log.episodes[key] for log in logs]) for key in logs[0].episodes}
        return AgentResult(label, episodes, estimate(episodes[judged]), estimate(episodes["return"]), intervals.rates(episodes))

    rows = [row(name, runs), *(row(label, [log]) for label, log in baselines.items())]
    comparison = Comparison(
        runs[0].config["env"],
        rows,
        chosen,
        list(dates),
        config.level,
        len(runs),
        dict(skipped or {}),
        judged,
        list(played),
        dict(sum((Counter(run.config.get("objections", {})) for run in runs), Counter())),
        proof=not_recorded(config.split, "nobody looked it up"),
    )
    mine = rows[0].episodes[judged]
    for other in rows[1:]:
        other.ahead = estimate(mine - other.episodes[judged])
    if comparison.simulated:
        moves, rng = np.array([one.move for one in played]), np.random.default_rng(np.random.SeedSequence([config.seed, 17]))
        comparison.drift = drift_of(mine.mean(axis=0), moves, limit, blocks, rng, level=config.level, resamples=config.resamples)
    hold, oracle = comparison.row("hold"), comparison.row("oracle")
    for each in rows:
        if problem is not None:
            each.share = problem.score(each.pnl.mean)
        elif hold is not None and oracle is not None:
            each.share = intervals.oracle_share(each.pnl.mean, hold.pnl.mean, oracle.pnl.mean)
    comparison.by_symbol = _by_symbol(comparison, config)
    if len(currencies) > 1:
        for currency in currencies:
            own = np.array([one.currency == currency for one in played])
            comparison.by_currency[currency] = compare(
                name, [part(log, own) for log in runs], {label: part(log, own) for label, log in baselines.items()},
                [date for date, mine in zip(dates, own) if mine], config, skipped, problem,
                [one for one, mine in zip(played, own) if mine],
            )  # fmt: skip
    return comparison


def _by_symbol(comparison: Comparison, config: EvaluationConfig) -> list[InSymbol]:
    """A row for each symbol, where there are several."""
    symbols = [one.span.symbol for one in comparison.played]
    found = []
    for symbol in dict.fromkeys(symbols) if len(set(symbols)) > 1 else ():
        own = np.array([name == symbol for name in symbols])
        played = [one for one, mine in zip(comparison.played, own) if mine]
        rng = np.random.default_rng(np.random.SeedSequence([config.seed, 17]))
        pnl = intervals.bootstrap(
            comparison.agent.episodes[comparison.judged][:, own], intervals.codes([one.span.date for one in played]), rng,
            level=config.level, resamples=config.resamples,
        )  # fmt: skip
        others = {row.name: float(row.episodes[comparison.judged][:, own].mean()) for row in comparison.rows[1:]}
        moved = float(np.mean([one.move_bps for one in played]))
        found.append(InSymbol(symbol, played[0].currency, len(played), len({one.span.date for one in played}), moved, pnl, others))
    return found


def part(log: RunLog, own: np.ndarray) -> RunLog:
    """The episodes `own` [W] of `log`, without its tables."""
    lists = [name for name in PER_WINDOW if name in log.config]
    chosen = {name: [value for value, mine in zip(log.config[name], own, strict=True) if mine] for name in lists}
    return RunLog({**log.config, **chosen}, {name: values[own] for name, values in log.episodes.items()})


def window_days(
    env_id: str, env_kwargs: Mapping[str, Any], chosen: Sequence[Window], split: str
) -> list[dict[str, str]]:
    """Symbol, date and currency of each window; empty where the environment has no days. What is paid in several currencies is
    never added up."""
    env = make_env(env_id, env_kwargs, 1, split=split)
    found = _days_of(env, chosen)
    env.close()
    return found


def _days_of(env: Any, chosen: Sequence[Window]) -> list[dict[str, str]]:
    tapes = about(env).days
    days = [] if tapes is None else [tapes.info[day] for day, _ in chosen]
    return [
        {"symbol": day.instrument.symbol, "date": day.date, "currency": day.instrument.currency} for day in days
    ]


def registry_parameters(name: str, config: Mapping[str, Any] | None = None) -> list[str] | None:
    """Names of the parameters of the agent called `name`, as `config` makes it; None where it takes anything."""
    return parameters(registry.configured(name, config)[0])
