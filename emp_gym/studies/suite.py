"""The benchmark of agents: certificates, ladder and order books, several seeds, budgets of `emp_gym.agents.hyperparams`.

The suite is a list of *cells*, one training run (or one run of all baselines) each. A cell is kept as a small JSON file that
says what it is of, and is not done again; whatever was interrupted goes on where it stood.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from emp_gym import bounded
from emp_gym.agents import registry
from emp_gym.agents.base import Learner, read_json, traits
from emp_gym.agents.hyperparams import MOST, preset
from emp_gym.envs import CERTIFICATES, ENVIRONMENTS, problem_of
from emp_gym.evaluation import performance
from emp_gym.evaluation.intervals import Estimate
from emp_gym.evaluation.reliability import stratified_interval
from emp_gym.reports import leaderboard_view
from emp_gym.reports.blocks import Block, FactList, Heading, Table, Text
from emp_gym.reports.formatting import bare, number
from emp_gym.reports.leaderboard import Board, BoardEntry
from emp_gym.runs import backtest, hardware
from emp_gym.runs.config import EvaluationConfig, agent_parameters, variant
from emp_gym.runs.run_folder import commit
from emp_gym.runs.run_recorder import RunRecorder
from emp_gym.runs.spans import Window
from emp_gym.training import certify
from emp_gym.training.executors import Executor, Local
from emp_gym.types import ConfigError, DataError, RunLog

BASELINES = "baselines"
MARKETS = tuple(name for name in ENVIRONMENTS if name.startswith("emp-lob-"))
LADDER = "emp-ladder-"


@dataclass(frozen=True)
class SuitePlan:
    """What is to be run."""

    agents: tuple[str, ...]  # names, with parameters of their own in brackets: see `config.variant`
    seeds: int = 5
    first_seed: int = 0
    certificates: tuple[str, ...] = tuple(CERTIFICATES)
    markets: tuple[str, ...] = MARKETS
    days: tuple[str | None, ...] = (None,)  # of the markets: None are the embedded synthetic days, else a path
    budget: int | None = None  # training steps of every run; None: those of the agent's preset
    episodes: int | None = None  # windows of the test split; None: all

    def __post_init__(self) -> None:
        for label in self.agents:
            name, given = variant(label)
            agent_parameters(name, given)
        if self.seeds < 1:
            raise ConfigError(f"--seeds must be at least 1, got {self.seeds}")
        if self.budget is not None and self.budget < 1:
            raise ConfigError(f"--budget must be at least 1 step, got {self.budget}")


@dataclass(frozen=True)
class Cell:
    """One piece of work. Its file is named after what it is of, so another budget is another cell."""

    env: str
    agent: str
    seed: int
    budget: int
    data: str | None = None
    episodes: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return f"{self.agent} on {self.env}, seed {self.seed}"

    @property
    def file(self) -> str:
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True, default=str).encode()).hexdigest()[:10]
        name = re.sub(r"[^\w.-]+", ".", self.agent).strip(".")
        return f"{self.env}-{name}-seed{self.seed}-{digest}.json"


def cells(plan: SuitePlan) -> list[Cell]:
    """All cells of `plan`, cheap ones of an environment before dear ones."""
    found = []
    for env in plan.certificates:
        for agent in plan.agents:
            budget, parameters = _preset(plan, agent, env)
            for seed in _seeds(plan, agent):
                found.append(Cell(env, agent, seed, budget, parameters=parameters))
    for env in plan.markets:
        for data in plan.days:
            found.append(Cell(env, BASELINES, 0, 0, data, plan.episodes))
            for agent in plan.agents:
                budget, parameters = _preset(plan, agent, env)
                for seed in _seeds(plan, agent):
                    found.append(Cell(env, agent, seed, budget, data, plan.episodes, parameters))
    return found


def _preset(plan: SuitePlan, label: str, env: str) -> tuple[int, dict[str, Any]]:
    """(budget, parameters) of an agent as the plan names it: the preset, with its own on top."""
    name, given = variant(label)
    budget, parameters = preset(name, env, given)
    return budget if plan.budget is None else plan.budget, parameters | given


def _class(label: str) -> type:
    return registry.find(variant(label)[0])


def _seeds(plan: SuitePlan, agent: str) -> range:
    """What neither learns nor draws is the same for every seed."""
    cls = _class(agent)
    varies = _learns(cls) or traits(cls).stochastic
    return range(plan.first_seed, plan.first_seed + (plan.seeds if varies else 1))


def _learns(cls: type) -> bool:
    """Whether an agent is trained; a rule that measures something first is not."""
    return issubclass(cls, Learner) and not traits(cls).learns_first


def run(
    plan: SuitePlan, folder: Path, say: Callable[[str], None] = lambda line: None, where: Executor | None = None
) -> dict[Cell, dict[str, Any]]:
    """What came of every cell of `plan`; those that `folder` holds are read, the others done as tasks of `where` (default: one
    after another) and kept there."""
    folder.mkdir(parents=True, exist_ok=True)
    asked = cells(plan)
    todo = [cell for cell in asked if not (folder / cell.file).exists()]
    if todo:
        say(f"{len(asked) - len(todo)} of {len(asked)} cells are done; next: {todo[0]}")
    for count, (index, told) in enumerate((where or Local()).map(_timed, todo), len(asked) - len(todo) + 1):
        path = folder / todo[index].file
        bounded.write(path, json.dumps(told) + "\n")
        say(f"{count} of {len(asked)}: {todo[index]}, {told['wall_seconds']:.0f} s")
    return {cell: read_json(folder / cell.file) for cell in asked}


# ---- one cell


def _timed(cell: Cell) -> dict[str, Any]:
    """What is kept of one cell: what it gave, and what it took."""
    began = time.perf_counter()
    told = _done(cell) | {"cell": asdict(cell), "wall_seconds": round(time.perf_counter() - began, 1)}
    return told | {"machine": hardware.described(), "commit": commit()}


def _done(cell: Cell) -> dict[str, Any]:
    """Results of one cell; an agent that does not fit the environment leaves the reason under "skipped"."""
    kwargs = {} if cell.data is None else {"data": cell.data}
    env = backtest.make_env(cell.env, kwargs, 1, split="test")
    try:
        if cell.agent == BASELINES:
            return _baselines(cell, kwargs)
        try:
            agent = backtest.build(variant(cell.agent)[0], env, cell.seed, cell.parameters)
            if not _learns(type(agent)):  # a rule that measures something on the training days
                backtest.calibrate(agent, cell.env, kwargs)
        except (ConfigError, DataError) as error:
            return {"skipped": str(error)}
        return _market(cell, kwargs, agent) if problem_of(cell.env) is None else _certificate(cell)
    finally:
        env.close()


def _certificate(cell: Cell) -> dict[str, Any]:
    name, given = variant(cell.agent)
    one = certify.certify(name, cell.env, [cell.seed], total_timesteps=cell.budget, config=given)
    return {
        "score": one.runs[0].score, "exact": one.runs[0].exact, "passed": one.passed, "abstention": one.abstention,
        "env_steps": one.env_steps, "seconds": one.seconds,
    }  # fmt: skip


def _market(cell: Cell, kwargs: Mapping[str, Any], agent: Any) -> dict[str, Any]:
    began = time.perf_counter()
    learns = _learns(type(agent))
    if learns:
        agent.learn(backtest.training_env(cell.env, kwargs), cell.budget, None)
    seconds = time.perf_counter() - began
    log = backtest.evaluate(agent, cell.env, kwargs, _windows(cell, kwargs), record=RunRecorder())
    return {
        **_kept(log), "windows": log.config["windows"], "dates": log.config["dates"], "data_hash": log.config["data_hash"],
        "env_steps": (traits(agent).num_timesteps or cell.budget) if learns else 0, "seconds": seconds,
    }  # fmt: skip


def _baselines(cell: Cell, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    config = EvaluationConfig(episodes=cell.episodes)
    logs, skipped = backtest.run_baselines(cell.env, kwargs, _windows(cell, kwargs), config, record=True)
    return {"results": {name: _kept(log) for name, log in logs.items()}, "left_out": skipped}


def _windows(cell: Cell, kwargs: Mapping[str, Any]) -> list[Window]:
    return backtest.windows(cell.env, kwargs, EvaluationConfig(episodes=cell.episodes))


def _kept(log: RunLog) -> dict[str, Any]:
    """What the tables need of a log."""
    parts = performance.parts(log)
    return {
        "pnl": log.episodes["pnl"].tolist(),
        "drawdown": float(parts["max_drawdown_currency"].top.mean()),
        "turnover": float(parts["turnover_currency_per_episode"].top.mean()),
    }


# ---- tables


@dataclass(frozen=True)
class Score:
    """An agent on a certificate."""

    scores: tuple[float, ...]  # of each seed
    estimate: Estimate
    passed: bool
    abstention: bool


def scores(found: Mapping[Cell, Mapping[str, Any]]) -> dict[str, dict[str, Score]]:
    """Certificate -> agent -> score, of those that could be run."""
    table: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for cell, told in found.items():
        if "score" in told:
            table.setdefault(cell.env, {}).setdefault(cell.agent, []).append(told)
    return {env: {agent: _score(runs) for agent, runs in row.items()} for env, row in table.items()}


def _score(runs: Sequence[Mapping[str, Any]]) -> Score:
    own = tuple(float(run["score"]) for run in runs)
    estimate = stratified_interval(np.array(own), np.random.default_rng(np.random.SeedSequence([17, len(own)])))
    abstention = bool(runs[0]["abstention"])
    high_enough = estimate.mean >= certify.PASS and (estimate.low is None or estimate.low >= certify.PASS_LOW)
    return Score(own, estimate, all(run["passed"] for run in runs) if abstention else high_enough, abstention)


def boards(plan: SuitePlan, found: Mapping[Cell, Mapping[str, Any]]) -> list[Board]:
    """A board for each market and data, as the leaderboard has it."""
    made = []
    for env in plan.markets:
        for data in plan.days:
            mine = {c: told for c, told in found.items() if c.env == env and c.data == data and "skipped" not in told}
            own = {c: told for c, told in mine.items() if c.agent != BASELINES}
            if not own:
                continue
            base = next(told for c, told in mine.items() if c.agent == BASELINES)
            one = next(iter(own.values()))
            entries = tuple(_entry(agent, {c: t for c, t in own.items() if c.agent == agent}) for agent in plan.agents
                            if any(c.agent == agent for c in own))  # fmt: skip
            baselines = tuple(
                BoardEntry(
                    "",
                    name,
                    name,
                    np.atleast_2d(np.array(b["pnl"])),
                    (),
                    b["drawdown"],
                    b["turnover"],
                    None,
                    None,
                    None,
                )
                for name, b in base["results"].items()
                if name not in plan.agents
            )
            windows = tuple((int(day), int(row)) for day, row in one["windows"])
            dates = tuple(one.get("dates") or (f"day {day}" for day, _ in windows))  # a cell of an earlier version has none
            made.append(Board(env, {}, one["data_hash"], "test", windows, 0.95, entries, baselines, dates=dates))
    return made


def _entry(agent: str, own: Mapping[Cell, Mapping[str, Any]]) -> BoardEntry:
    told = list(own.values())
    trained = any(one["env_steps"] for one in told)
    return BoardEntry(
        "", agent, agent, np.array([one["pnl"] for one in told]), tuple(cell.seed for cell in own) if trained else (),
        float(np.mean([one["drawdown"] for one in told])), float(np.mean([one["turnover"] for one in told])),
        max(one["env_steps"] for one in told) or None,
        float(np.mean([one["seconds"] for one in told])) if trained else None, len(told) if trained else None,
    )  # fmt: skip


def document(plan: SuitePlan, found: Mapping[Cell, Mapping[str, Any]], folder: Path) -> list[Block]:
    """The tables that a README shows, with what made them."""
    blocks: list[Block] = []
    table = scores(found)
    if table:
        blocks += [Heading("Certificates and ladder: score against the known optimum"), _certificates(plan, table)]
        blocks.append(Text(_passes(plan, table)))
    for board in boards(plan, found):
        titles, rows = leaderboard_view.table(board)
        blocks += [Heading(leaderboard_view.title(board)), Table(titles, tuple(rows))]
    skipped = sorted({f"{c.agent} on {c.env}: {t['skipped']}" for c, t in found.items() if "skipped" in t})
    if skipped:
        blocks += [Heading("Not run"), FactList(tuple(skipped))]
    return [*blocks, Heading("How it was made"), FactList(_how(plan, found, folder))]


def _certificates(plan: SuitePlan, table: Mapping[str, Mapping[str, Score]]) -> Table:
    """Environments as rows, agents as columns; below them all that can be scored, together."""
    rows = []
    for env, row in table.items():
        name = env.removeprefix("emp-").removesuffix("-v0").replace("ladder-", "ladder: ")
        rows.append((name, *(_told(row.get(agent)) for agent in plan.agents)))
    whole = []
    for agent in plan.agents:
        own = [row[agent] for row in table.values() if agent in row and not row[agent].abstention]
        runs = min((len(score.scores) for score in own), default=0)
        matrix = np.array([score.scores[:runs] for score in own]).T
        rng = np.random.default_rng(np.random.SeedSequence([17, 0]))
        whole.append(bare(stratified_interval(matrix, rng), 3) if runs else "")
    rows.append(("**all that have a score, IQM**", *whole))
    return Table(("", *plan.agents), tuple(rows))


def _told(score: Score | None) -> str:
    if score is None:
        return "–"
    if score.abstention:
        return "abstains" if score.passed else "trades"
    return bare(score.estimate, 3) + (" ✓" if score.passed else "")


def _passes(plan: SuitePlan, table: Mapping[str, Mapping[str, Score]]) -> str:
    counted = [
        f"{agent} passes {sum(row[agent].passed for row in table.values() if agent in row)} of "
        f"{sum(agent in row for row in table.values())}"
        for agent in plan.agents
    ]
    return (
        f"{'; '.join(counted)}. Score 1 is the optimum, 0 the best naive policy; interquartile mean over seeds with its "
        "stratified bootstrap interval. ✓: at least 0.95 with a lower bound of 0.90; where the optimum is to hold, an agent passes "
        "by not trading. A feed-forward policy must fail the rung that asks for memory."
    )


def _how(plan: SuitePlan, found: Mapping[Cell, Mapping[str, Any]], folder: Path) -> tuple[str, ...]:
    """Machine, time, seeds, budgets, trials."""
    machines = sorted({str(told["machine"]) for told in found.values()})
    commits = sorted({str(told["commit"]) for told in found.values()})
    seconds = sum(float(told["wall_seconds"]) for told in found.values())
    kept = [read_json(path)["cell"] for path in sorted(folder.glob("*.json"))]
    trained = [c for c in kept if c["agent"] in plan.agents and _learns(_class(c["agent"]))]
    trials = [f"{agent} {count}" for agent in plan.agents if (count := sum(c["agent"] == agent for c in trained))]
    fewer = [f"at most {most:,} for {name}" for name, most in MOST.items() if name in {variant(a)[0] for a in plan.agents}]
    own = "; ".join(("each environment's own, the same for every agent", *fewer))
    budget = own if plan.budget is None else f"{plan.budget:,} for every agent"
    return (
        f"{plan.seeds} seed{'s' if plan.seeds > 1 else ''} from {plan.first_seed} on (one for what neither learns nor draws); "
        f"training steps: {budget}",
        f"{number(seconds / 60, 1)} minutes of wall clock in all on {'; '.join(machines)}; other programs included",
        f"training runs on record in this folder, those of other budgets included: {', '.join(trials) or 'none'}; parameters "
        "come from `emp_gym/agents/hyperparams.py`, and what was tried to find them is not counted",
        f"commit {', '.join(commits)}",
    )
