"""Does evolution beat random search at equal environment steps? ``python -m emp_gym.studies.vs_random --out DIR --json FILE``.

For each environment and each seed of a search, NSGA-II and random search have the same space, budget and seeds a trial, and as many
trials as the same environment steps allow; neither is given a first trial. With ``--halving 1`` nothing but the sampler differs; with
more, NSGA-II prunes as it does in ``evolve.py``, and random search does not. Of each pair only the trials are compared that fit into
the environment steps of the one that used fewer. Compared are, by pairs:

- the **score with fresh seeds** of the champion (of the finalists, which either arm trains with as many more seeds): its
  configuration trained anew with seeds that no trial had, mean over them;
- the best score in the search itself (what it thinks of itself);
- the **hypervolume** of score, drawdown and turnover between the front and a reference, which is the same for all searches of an
  environment: the lower quartile of all scores (0, the best naive policy, if that is higher), the 90 % quantiles of drawdown and
  turnover. Each objective is in units of its distance from the reference to the best ever seen; one that never varies is left out.

It may be killed and started again with the same ``--out``: it goes on.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from emp_gym.evaluation import reliability
from emp_gym.runs import hardware
from emp_gym.runs.config import RunConfig, read_yaml
from emp_gym.runs.run_folder import commit
from emp_gym.search import pareto, store
from emp_gym.search.champion import FRESH
from emp_gym.search.driver import Record, Search, Silent
from emp_gym.search.jobs import Objectives, TrainingJob
from emp_gym.search.plans import SearchPlan
from emp_gym.search.space import default_table
from emp_gym.terminal.console import say
from emp_gym.terminal.flags import Parser
from emp_gym.training.executors import Executor, engine
from emp_gym.types import F64

ARMS = ("nsga2", "random")


@dataclass(frozen=True)
class Contest:
    """What is compared on one environment."""

    plan: SearchPlan  # its sampler and seed are replaced
    seeds: tuple[int, ...]  # of the searches
    fresh: int = 3  # training runs of each winner, with seeds that no trial had


@dataclass(frozen=True)
class SearchCurve:
    """One search as far as it is compared."""

    records: tuple[Record, ...]  # complete trials within the equal steps
    env_steps: int
    held_out: float  # mean score of the winner's fresh training runs


def compare(contest: Contest, folder: Path, where: Executor) -> dict[str, Any]:
    """Runs what `folder` does not hold yet; all figures of one environment."""
    pairs: list[dict[str, SearchCurve]] = []
    measured: Objectives | None = None
    for seed in contest.seeds:
        searches = {arm: _searched(contest, arm, seed, folder, where) for arm in ARMS}
        measured = searches[ARMS[0]].objectives
        steps = min(sum(one.env_steps for one in search.records()) for search in searches.values())
        pairs.append({arm: _judged(search, steps, contest.fresh, where) for arm, search in searches.items()})
        say(f"{contest.plan.env_id} seed {seed}: " + ", ".join(f"{arm} {one.held_out:.4f}" for arm, one in pairs[-1].items()))
    assert measured is not None
    return figures(pairs, measured) | {"plan": asdict(contest.plan), "seeds": list(contest.seeds), "fresh": contest.fresh}


def _searched(contest: Contest, arm: str, seed: int, folder: Path, where: Executor) -> Search:
    plan = replace(contest.plan, sampler=arm, seed=seed)
    if arm == "random":  # which prunes nothing, and has the same environment steps
        plan = replace(plan, halving=1, trials=-(-contest.plan.trial_steps // (plan.budget * plan.seeds)))
    own = folder / plan.env_id / f"{arm}-{seed}"
    with store.driving(own):
        search = Search.load(own) if (own / store.JOURNAL).exists() else Search.create(own, plan)
        search.run(where, Silent())
    return search


def _judged(search: Search, steps: int, fresh: int, where: Executor) -> SearchCurve:
    records = within(search.records(), steps)
    finalists = search.finalists(records)  # of the equal steps, not of all that was tried
    deque(search.play([unit for one in finalists for unit in search.final_units(one)], where, Silent()), maxlen=0)
    winner = search.config(search.trial(max(finalists, key=search.final_value).number))
    units = [TrainingJob.of(winner, seed, search.plan.budget, fit="train", judged="test") for seed in range(FRESH, FRESH + fresh)]
    deque(search.play(units, where, Silent()), maxlen=0)
    held_out = float(np.mean([search.cells[unit].objectives[0] for unit in units]))
    return SearchCurve(tuple(records), sum(one.env_steps for one in records), held_out)


def within(records: Sequence[Record], steps: int) -> list[Record]:
    """The complete trials among the first ones that together used at most `steps`."""
    used = np.cumsum([one.env_steps for one in records])
    return [one for one, upto in zip(records, used) if upto <= steps and one.state == "complete"]


def figures(pairs: Sequence[Mapping[str, SearchCurve]], measured: Objectives) -> dict[str, Any]:
    """The comparison of searches with the same seeds, as plain numbers."""
    costs = {arm: [np.array([one.objectives for one in pair[arm].records]) * measured.signs for pair in pairs] for arm in ARMS}
    reference, scale = reference_of(np.concatenate([table for tables in costs.values() for table in tables]), measured)
    told = {
        "held_out_score": {arm: [pair[arm].held_out for pair in pairs] for arm in ARMS},
        "best_score_in_search": {arm: [max(one.objectives[0] for one in pair[arm].records) for pair in pairs] for arm in ARMS},
        "hypervolume": {
            arm: [pareto.hypervolume((table / scale)[:, scale < np.inf], (reference / scale)[scale < np.inf]) for table in tables]
            for arm, tables in costs.items()
        },
    }
    return {
        "env_steps": {arm: [pair[arm].env_steps for pair in pairs] for arm in ARMS},
        "complete_trials": {arm: [len(pair[arm].records) for pair in pairs] for arm in ARMS},
        "reference": (reference * measured.signs).tolist(),
        **{name: {**each, "difference": _difference(each)} for name, each in told.items()},
    }


def reference_of(costs: F64, measured: Objectives) -> tuple[F64, F64]:
    """(reference [M], unit of each objective [M], inf for one that never varies) from all points [N, M] of an environment."""
    reference = np.quantile(costs, 0.9, axis=0)
    reference[0] = np.quantile(costs[:, 0], 0.75)
    if measured.bar is not None:
        reference[0] = min(reference[0], -measured.bar) if costs[:, 0].min() < -measured.bar else reference[0]
    span = reference - costs.min(axis=0)
    varies = np.ptp(costs, axis=0) > 1e-9 * np.abs(costs).max(axis=0)
    return reference, np.where(varies & (span > 0), span, np.inf)


def _difference(each: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """NSGA-II minus random, by pairs."""
    ahead = np.array(each["nsga2"]) - np.array(each["random"])
    rng = np.random.default_rng(np.random.SeedSequence([17, len(ahead)]))
    estimate = reliability.stratified_interval(ahead[:, None], rng, summary=reliability.mean)
    return {
        "mean": estimate.mean, "low": estimate.low, "high": estimate.high, "pairs": len(ahead), "ahead": int((ahead > 0).sum()),
        "probability_of_improvement": reliability.probability_of_improvement(
            np.array(each["nsga2"])[:, None], np.array(each["random"])[:, None]
        ),
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """The long experiment: see the module."""
    p = Parser(prog="versus", description="NSGA-II against random search at equal environment steps")
    p.add_argument("--envs", nargs="+", default=["emp-obizhaeva-wang-v0", "emp-almgren-chriss-v0"])
    p.add_argument("--agent", default="ppo")
    p.add_argument("--space", type=Path, help="default: the agent's own")
    p.add_argument("--budget", type=int, default=20_000)
    p.add_argument("--trials", type=int, default=32)
    p.add_argument("--population", type=int, default=8)
    p.add_argument("--halving", type=int, default=1)
    p.add_argument("--trial-seeds", type=int, default=1, help="training runs of a trial")
    p.add_argument("--seeds", type=int, nargs="+", default=list(range(3)), help="of the searches")
    p.add_argument("--fresh", type=int, default=3)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--json", type=Path, required=True)
    a = p.parse_args(argv)
    began, told = time.perf_counter(), {}
    with engine("local") as where:
        for env_id in a.envs:
            table = read_yaml(a.space) if a.space else default_table(RunConfig(env_id, a.agent))
            plan = SearchPlan(
                env_id, a.agent, a.trials, a.population, a.halving, a.budget, a.trial_seeds, episodes=64, start=False, table=dict(table)
            )  # fmt: skip
            told[env_id] = compare(Contest(plan, tuple(a.seeds), a.fresh), a.out, where)
            found = {
                "command": "python -m emp_gym.studies.vs_random " + " ".join(argv or sys.argv[1:]),
                "commit": commit(), "machine": hardware.described(), "wall_seconds": round(time.perf_counter() - began),
                "environments": told,
            }  # fmt: skip
            a.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
