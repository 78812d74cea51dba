"""What agents are worth: scores against known optima, P&L on the test split beside the baselines; see `emp_gym.studies.suite`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from emp_gym import bounded
from emp_gym.benchmarks.figures import SMALL, Effort, Figures, say
from emp_gym.reports import leaderboard_view
from emp_gym.reports.blocks import markdown
from emp_gym.studies import suite
from emp_gym.studies.suite import SuitePlan
from emp_gym.training.executors import Executor
from emp_gym.types import ConfigError

TABLE = "agents.md"
SMALL_PLAN = {
    "seeds": 2, "certificates": ("emp-almgren-chriss-v0", "emp-ladder-trend-v0"), "markets": ("emp-lob-v0",),
    "budget": 2048, "episodes": 2,
}  # fmt: skip
"""Shows in about a minute that it runs, not how good anybody is."""


def measure(
    figures: Figures, effort: Effort, data: Sequence[str] | None = None, *, agents: Sequence[str] = ("ppo", "hold", "random"),
    seeds: int | None = None, seed: int = 0, budget: int | None = None, only: Sequence[str] | None = None,
    out: Path = Path("runs/benchmark-agents"), where: Executor | None = None,
) -> None:  # fmt: skip
    """Runs what of the suite `out` does not hold yet, leaves ``agents.md`` there, and adds a figure for each agent and
    environment: over seeds, the score or the mean P&L on the test split. `data`: real days, besides the synthetic ones. Training
    seeds count from `seed` on, for `budget` steps (default: those of each environment) on `only` these environments. Cells are tasks
    of `where`."""
    plan = SuitePlan(tuple(agents), first_seed=seed)
    if effort is SMALL:
        plan = replace(plan, **SMALL_PLAN)  # type: ignore[arg-type]
    if seeds is not None:
        plan = replace(plan, seeds=seeds)
    if budget is not None:
        plan = replace(plan, budget=budget)
    if only:
        known = [*plan.certificates, *plan.markets]
        unknown = sorted(set(only) - set(known))
        if unknown:
            raise ConfigError(f"{unknown[0]} is not among the environments of this benchmark: {', '.join(known)}")
        kept = {kind: tuple(name for name in getattr(plan, kind) if name in only) for kind in ("certificates", "markets")}
        plan = replace(plan, **kept)  # type: ignore[arg-type]
    if data:
        plan = replace(plan, days=(None, *(str(Path(path).resolve()) for path in data)))
    found = suite.run(plan, out / "cells", say, where)
    for env, row in suite.scores(found).items():
        for agent, score in row.items():
            figures.add(f"{env}, {agent}", score.scores, "score, 1 = optimum; over seeds")
    for board in suite.boards(plan, found):
        for entry in (*board.entries, *board.baselines):
            figures.add(
                f"{leaderboard_view.title(board)}, {entry.agent}",
                entry.pnl.mean(axis=1).tolist(),
                "currency per episode; over seeds",
            )
    path = out / TABLE
    bounded.write(path, markdown(suite.document(plan, found, out / "cells")))
    say(f"table: {path}")
