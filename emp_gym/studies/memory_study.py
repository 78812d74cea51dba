"""Is a memory of patterns worth anything? An agent with and without it, and with memories whose answers are shuffled: anew at
each tick, so that they say nothing, or once, so that they are a lasting code of the situation that says nothing of its worth.

- **Area**: mean score over the first fifth of the budget, on markets that must be remembered. A score below 0, worse than the
  best simple policy, counts as 0. Each point is the agent as it is then, on the same test episodes.
- **Harm**: score at the end of the budget on markets where there is nothing to remember, beside that of the agent without a memory
  as it was certified.
- **Drift**: error of what the memory foretells while what is true moves, against a memory that drops the oldest.
- **Latency** of one query at 100,000 rows.

One cell (market, variant, seed) is one file, so that a study that was cut short goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from emp_gym import bounded
from emp_gym.agents.base import read_json
from emp_gym.agents.hyperparams import preset
from emp_gym.agents.memory_agent import Remembering
from emp_gym.envs import problem_of
from emp_gym.evaluation import optimal
from emp_gym.memory.encoder import Projection
from emp_gym.memory.episodic import EpisodicMemory, MemoryRules
from emp_gym.memory.index import BACKENDS
from emp_gym.runs import backtest, hardware
from emp_gym.runs.run_folder import commit
from emp_gym.types import F64

VARIANTS: dict[str, dict[str, Any]] = {
    "none": {},
    "memory": {"memory": "faiss"},
    "permuted": {"memory": "faiss", "memory_values": "permuted"},
    "coded": {"memory": "faiss", "memory_values": "coded"},
}
REMEMBERED = ("emp-ladder-memory-v0", "emp-ladder-returning-v0")
STATIONARY = (
    "emp-ladder-trend-v0", "emp-ladder-mean-reversion-v0", "emp-ladder-order-flow-v0", "emp-ladder-quote-v0",
    "emp-ladder-toxic-v0", "emp-ladder-noise-v0",
)  # fmt: skip


@dataclass(frozen=True)
class MemoryPlan:
    """What is run."""

    agent: str = "ppo"
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    early: float = 0.2  # of the budget, over which the area is taken
    harm_seeds: tuple[int, ...] = (0, 1)
    episodes: int = 256  # of each point of a curve
    more: tuple[tuple[str, Any], ...] = ()  # parameters of the agent


@dataclass(frozen=True)
class MemoryRun:
    """One training run."""

    env_id: str
    variant: str
    seed: int
    budget: int  # steps, by which the agent plans its learning rate
    until: int  # steps after which it is stopped

    @property
    def file(self) -> str:
        return f"{self.env_id}-{self.variant}-{self.seed}-{self.until}.json"


def cells(plan: MemoryPlan) -> list[MemoryRun]:
    """All runs, in the order in which they are done."""
    found = []
    for seed in plan.seeds:
        for env_id in REMEMBERED:
            budget, _ = preset(plan.agent, env_id)
            found += [MemoryRun(env_id, variant, seed, budget, int(plan.early * budget)) for variant in VARIANTS]
    for seed in plan.harm_seeds:
        for env_id in STATIONARY:
            budget, _ = preset(plan.agent, env_id)
            found.append(MemoryRun(env_id, "memory", seed, budget, budget))
    return found


def curve(cell: MemoryRun, plan: MemoryPlan) -> dict[str, Any]:
    """Steps and scores of one run, from the untrained agent on, and the score of the optimal policy on the same episodes."""
    _, parameters = preset(plan.agent, cell.env_id)
    problem = optimal.problem(str(problem_of(cell.env_id)))
    env = backtest.make_env(cell.env_id, {}, 1)
    agent = backtest.build(plan.agent, env, cell.seed, {**parameters, **dict(plan.more), **VARIANTS[cell.variant]})
    best = _score(backtest.build("optimal", env), cell, plan, problem)
    env.close()
    steps, scores = [0], [_score(agent, cell, plan, problem)]
    early = cell.until < cell.budget

    def look(seen: int, _: Mapping[str, float]) -> bool:
        if early or seen >= cell.until:  # of a run for its end, only the end
            steps.append(seen)
            scores.append(_score(agent, cell, plan, problem))
        return seen < cell.until

    agent.learn(backtest.training_env(cell.env_id, {}), cell.budget, look)
    rows = len(agent.memory) if isinstance(agent, Remembering) else 0
    return {"steps": steps, "scores": scores, "optimum": best, "rows": rows}


def _score(agent: Any, cell: MemoryRun, plan: MemoryPlan, problem: Any) -> float:
    chosen = [(number, 0) for number in range(plan.episodes)]
    return float(problem.score(backtest.evaluate(agent, cell.env_id, {}, chosen).episodes["value"].mean()))


def area(steps: Sequence[int], scores: Sequence[float], until: int) -> float:
    """Mean of the score, 0 where it is below, over the first `until` steps: straight lines between the points."""
    at = np.array([*(s for s in steps if s < until), until], np.float64)
    height = np.interp(at, steps, np.maximum(scores, 0.0))
    return float(np.trapezoid(height, at) / until)


def run(
    plan: MemoryPlan, folder: Path, certified: Mapping[str, Any], say: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """What came of the study; cells that `folder` holds are read, the others done and kept there.

    `certified` is the "certificates" of ``docs/evidence/certificates_ppo.json``: scores of the agent without a memory.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for cell in cells(plan):
        path = folder / cell.file
        if not path.exists():
            say(f"{cell.env_id}, {cell.variant}, seed {cell.seed}")
            told = {"cell": asdict(cell), "commit": commit(), **curve(cell, plan)}
            bounded.write(path, json.dumps(told) + "\n")
        found[cell] = read_json(path)
    return summary(plan, found, certified) | {"drift": drift(plan.seeds), "latency": latency()}


def summary(plan: MemoryPlan, found: Mapping[MemoryRun, Mapping[str, Any]], certified: Mapping[str, Any]) -> dict[str, Any]:
    """Areas, ratios and ends of the runs, with 95 % intervals by the bootstrap over seeds."""
    early: dict[str, Any] = {}
    for env_id in REMEMBERED:
        areas = {
            variant: np.array([area(t["steps"], t["scores"], c.until) for c, t in found.items() if _is(c, env_id, variant)])
            for variant in VARIANTS
        }
        early[env_id] = {
            "area": {variant: values.tolist() for variant, values in areas.items()},
        } | {f"{variant}_against_none": compared(areas[variant], areas["none"]) for variant in VARIANTS if variant != "none"}
    harm = {}
    for env_id in STATIONARY:
        ends = [t["scores"][-1] - t["optimum"] + 1.0 for c, t in found.items() if _is(c, env_id, "memory")]
        without = certified[env_id]["scores"]
        harm[env_id] = {"memory": ends, "none": without, "ratio": float(np.mean(ends) / np.mean(without)) if ends else None}
    return {
        "plan": asdict(plan), "commit": sorted({str(told["commit"]) for told in found.values()}), "machine": hardware.described(),
        "early": early, "harm": harm,
    }  # fmt: skip


def _is(cell: MemoryRun, env_id: str, variant: str) -> bool:
    return (cell.env_id, cell.variant) == (env_id, variant)


def compared(ours: F64, others: F64, resamples: int = 4000) -> dict[str, Any]:
    """Difference and ratio of two means, of runs that are not paired, with intervals. There is no ratio where the other
    mean is below 0.01, and no end of its interval where it is that in the bootstrap."""
    rng = np.random.default_rng(np.random.SeedSequence([17, len(ours)]))
    mine = ours[rng.integers(len(ours), size=(resamples, len(ours)))].mean(axis=1)
    theirs = others[rng.integers(len(others), size=(resamples, len(others)))].mean(axis=1)

    def interval(values: F64) -> list[float | None]:
        return [float(v) if np.isfinite(v) else None for v in np.quantile(values, [0.025, 0.975], method="nearest")]

    known = others.mean() >= 0.01
    ratios = np.where(theirs >= 0.01, mine / np.maximum(theirs, 0.01), np.inf)
    return {
        "difference": float(ours.mean() - others.mean()), "difference_interval": interval(mine - theirs),
        "ratio": float(ours.mean() / others.mean()) if known else None,
        "ratio_interval": interval(ratios) if known else None,
        "at_least_1.3_times_interval": interval(mine - 1.3 * theirs),
    }  # fmt: skip


# ---- drift


def drift(seeds: Sequence[int], ticks: int = 900, batch: int = 8, capacities: Sequence[int] = (256, 1024, 4096)) -> dict[str, Any]:
    """Mean squared error of what memories foretell of 64 situations in the last third of `ticks`, while the return of each walks at
    random (0.05 a tick) and is seen with noise of deviation 0.5. Half of what is written is of situations that never come again.

    Against a memory without decay that drops the oldest: by capacity, of which a tick uses up 16 rows.
    """
    found = {}
    for capacity in capacities:
        rules = MemoryRules(backend="numpy", capacity=capacity, neighbours=16, merge=0.0, half_life=30)
        kinds = {"decay": rules, "oldest_out": replace(rules, evict="oldest", half_life=1 << 40)}
        errors = {name: np.array([_foretold(kind, seed, ticks, batch) for seed in seeds]) for name, kind in kinds.items()}
        found[str(capacity)] = {name: values.tolist() for name, values in errors.items()} | {
            "oldest_out_against_decay": compared(errors["oldest_out"], errors["decay"])
        }
    return found


def _foretold(rules: MemoryRules, seed: int, ticks: int, batch: int) -> float:
    rng = np.random.default_rng(np.random.SeedSequence([seed, 29]))
    places = rng.standard_normal((64, 4)).astype(np.float32) * 2.0
    worth, squares = rng.standard_normal(64), []
    memory = EpisodicMemory(rules, Projection(np.zeros(4, np.float32), np.ones(4, np.float32), np.zeros((0, 0), np.float32)), 4)
    for tick in range(ticks):
        memory.advance(tick)
        worth += 0.05 * rng.standard_normal(64)
        seen = rng.integers(64, size=batch)
        near = places[seen] + 0.1 * rng.standard_normal((batch, 4)).astype(np.float32)
        recalled = memory.recall(near)
        if tick >= ticks * 2 // 3:
            squares.append(float(np.square(recalled.value()[0] - worth[seen]).mean()))
        came = worth[seen] + 0.5 * rng.standard_normal(batch)
        elsewhere = 20.0 * rng.standard_normal((batch, 4)).astype(np.float32)
        memory.write(np.concatenate((near, elsewhere)), np.zeros((2 * batch, 1)), np.concatenate((came, rng.standard_normal(batch))))
        memory.reinforce(recalled, np.zeros((batch, 1)), came)
    return float(np.mean(squares))


# ---- latency


def latency(rows: int = 100_000, dimensions: Sequence[int] = (16, 32), queries: int = 2000, k: int = 32) -> dict[str, Any]:
    """Milliseconds of one query with FAISS, keys and queries standard normal (no structure that would help), one thread; on the wall
    clock, which other programs lengthen, and of the processor; and of one of 64 queries asked together."""
    found = {}
    for dimension in dimensions:
        rng = np.random.default_rng(np.random.SeedSequence([dimension, 31]))
        index = BACKENDS["faiss"](dimension)
        index.add(np.arange(rows), rng.standard_normal((rows, dimension)).astype(np.float32))
        asked = rng.standard_normal((queries, 1, dimension)).astype(np.float32)
        wall, processor = np.empty(queries), np.empty(queries)
        for at, query in enumerate(asked):
            began, busy = time.perf_counter(), time.thread_time()
            index.search(query, k)
            wall[at], processor[at] = time.perf_counter() - began, time.thread_time() - busy
        busy = time.thread_time()
        index.search(asked[:64, 0], k)
        together = (time.thread_time() - busy) / 64
        found[f"dimension {dimension}"] = {
            name: {"p50": float(np.quantile(took, 0.5) * 1e3), "p99": float(np.quantile(took, 0.99) * 1e3)}
            for name, took in (("wall", wall), ("processor", processor))
        } | {"processor, one of 64 together": together * 1e3}
    return {"rows": rows, "k": k, "queries": queries, "milliseconds": found}


__all__ = ["MemoryPlan", "MemoryRun", "area", "cells", "compared", "curve", "drift", "latency", "run", "summary"]
