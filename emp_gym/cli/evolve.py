"""``evolve.py``: a population of agents' configurations evolves on several objectives; its champion is judged on test time."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emp_gym.cli import executors, user_modules
from emp_gym.terminal.console import (
    ProgressBar,
    console,
    data_argument,
    guarded,
    say,
    trust_argument,
    vouched,
    whole_number,
)
from emp_gym.terminal.flags import Parser
from emp_gym.terminal.interrupts import Interrupts, Stopped
from emp_gym.terminal.obstacles import told, writing
from emp_gym.terminal.shell_commands import command, program
from emp_gym.types import ConfigError, DataError

if TYPE_CHECKING:
    from emp_gym.search.champion import Judged
    from emp_gym.search.driver import Record, Search
    from emp_gym.search.jobs import TrainingJob
    from emp_gym.search.plans import SearchPlan
    from emp_gym.search.space import FlatSpace

GIVEN = ("trials", "population", "halving", "budget", "seeds", "seed", "sampler", "episodes", "finalists")
FIXED = (
    "env", "agent", "population", "halving", "budget", "seeds", "seed", "sampler", "space", "config", "episodes", "finalists", "data",
    "out",
)  # fmt: skip
"""Flags that a study has been begun with."""
FINAL_SEEDS, SEEDS = "final_seeds", 5
"""Where a study keeps with how many fresh seeds its champion is judged on the test, and how many that is unless told otherwise."""


def parser() -> Parser:
    p = Parser(
        prog="evolve.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Evolve configurations of an agent (hyper-parameters, encoder, reward shaping, limits) with NSGA-II:\n"
        "large value, small drawdown, small turnover. Chosen on validation time, judged on test time.",
        epilog="examples:\n"
        "  evolve.py --env emp-almgren-chriss-v0 --budget 30000 --trials 32      a look, in a few minutes\n"
        "  evolve.py --env emp-lob-v0 --space configs/search/market.yaml --engine ray --num-workers 8\n"
        "  evolve.py --resume runs/evolve/emp-lob-v0-ppo --trials 96             more trials\n\n"
        "Ctrl-C stops at once; so may kill -9. What was running is done again by --resume, nothing is counted twice.\n"
        "Exit status: 0 done, 2 not as asked, 130 or 143 stopped.",
    )
    what = p.add_argument_group("what evolves")
    what.add_argument("--env", metavar="ID", help="environment id, e.g. emp-lob-v0 (or module:Id)")
    what.add_argument("--agent", metavar="NAME", help="ppo, a name from an installed package, or module:Class (default: ppo)")
    what.add_argument("--space", type=Path, metavar="FILE",
                      help="what may vary: YAML as in configs/search (default: hyper-parameters, reward shaping on books)")  # fmt: skip
    what.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
                      help="agent.KEY or env.KEY, the same in every trial")  # fmt: skip
    what.add_argument(
        "--config", type=Path, metavar="FILE", help="YAML with agent and env keys for every trial, e.g. configs/honest.yaml"
    )
    what.add_argument("--data", nargs="+", metavar="PATH", help="LOBSTER files, folders, zips or tapes (default: the embedded days)")
    how = p.add_argument_group("how")
    how.add_argument("--trials", type=int, metavar="N", help="trials that are begun, in all (default: 48)")
    how.add_argument("--population", type=int, metavar="P", help="parents, and trials that a generation completes (default: 8)")
    how.add_argument("--halving", type=int, metavar="K",
                     help="one in K goes on after a quarter of the budget, the others are pruned; 1: none is (default: 2)")  # fmt: skip
    how.add_argument("--budget", type=whole_number, metavar="STEPS", help="environment steps of a training run (default: 100,000)")
    how.add_argument("--seeds", type=int, metavar="S", help="training runs of a trial that goes on (default: 2)")
    how.add_argument("--sampler", metavar="NAME", help="nsga2, or random for comparison (default: nsga2)")
    how.add_argument("--seed", type=int, metavar="N", help="of the search (default: 0)")
    how.add_argument("--episodes", type=int, metavar="W", help="validation episodes that judge a trial (default: all)")
    how.add_argument("--finalists", type=int, metavar="F",
                     help="best trials that are trained with 6 more seeds before one is the champion; 0: none (default: 4)")  # fmt: skip
    how.add_argument("--final-seeds", type=int, metavar="S",
                     help="fresh training runs of the champion, judged on test time; 0: not now (default: 5, with --resume what the "
                     "study was last told)")  # fmt: skip
    where = p.add_argument_group("where")
    where.add_argument("--out", type=Path, metavar="DIR", help="a new folder for the study (default: runs/evolve/ENV-AGENT)")
    where.add_argument("--resume", type=Path, metavar="DIR", help="go on with the study in DIR; with --trials: for more")
    where.add_argument("--govern", type=Path, metavar="LOGDIR",
                       help="every training run is noted in the ledger of LOGDIR before it begins (made if there is none)")  # fmt: skip
    trust_argument(p)
    executors.add_arguments(p, "training runs")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 0, or 2 with one line on stderr for what cannot be done as asked, 128 + N after signal N."""
    return guarded(lambda: _heard(parser().parse_args(argv), argv), "evolve.py")


def _heard(arguments: argparse.Namespace, argv: Sequence[str] | None) -> int:
    """The command with an ear for signals."""
    with Interrupts("stopping") as stop:
        status = guarded(lambda: vouched(arguments, lambda a: _run(a, stop)), "evolve.py", argv)
    return stop.status if stop() and status else status


def _run(a: argparse.Namespace, stop: Interrupts) -> int:
    from emp_gym.search import store
    from emp_gym.search.driver import Search
    from emp_gym.training.executors import engine

    user_modules.admit(a)
    if a.final_seeds is not None and a.final_seeds < 0:
        raise ConfigError(f"--final-seeds: expected at least 0, got {a.final_seeds}")
    with ExitStack() as stack:  # what may be refused is refused before a study is begun
        if a.resume is not None:
            _nothing_fixed(a)
            store.load(a.resume)
            folder = a.resume
            where = stack.enter_context(executors.opened(a)) or engine("local")
            stack.enter_context(store.driving(folder))
            search = Search.load(folder, trials=a.trials)
        else:
            plan, space = _plan(a)
            folder = a.out or _free(plan)
            where = stack.enter_context(executors.opened(a)) or engine("local")
            stack.enter_context(store.driving(folder))
            search = Search.create(folder, plan, space)
        _note_final_seeds(search, a)
        say(f"{search.study.study_name}: {search.plan.trials} trials, {_steps(search)}; in {folder}")
        try:
            with stop.at_once(), writing(folder):
                judged = _search_and_judge(search, where, a)
        except OSError as error:
            raise DataError(f"{told(error)}; what was done is kept in {folder}; to go on: {_again(folder, a)}") from error
        except Stopped as stopped:
            raise Stopped(f"{stopped}; what was done is kept in {folder}; to go on: {_again(folder, a)}") from stopped
    _show(search, judged)
    return 0


def _steps(search: Search) -> str:
    """How many environment steps there will be: a training run ends with its last rollout, which may go far over a small budget."""
    plan, final = search.plan, 2 * search.study.user_attrs[FINAL_SEEDS]
    asked = plan.steps + final * plan.budget
    largest = _rollout(plan)
    text = f"{asked:,} environment steps if none fails" + (" (the test of the champion included)" if final else "")
    if largest is None:
        return text + ", more where a training run ends with a longer rollout"
    most = plan.steps_by(largest) + final * -(-plan.budget // largest) * largest
    if most <= 1.1 * asked:
        return text
    return f"{text}; up to {most:,}, since a training run ends with its last rollout, of at most {largest:,} (num_envs x n_steps)"


def _rollout(plan: SearchPlan) -> int | None:
    """The longest rollout that a trial may have; None for an agent that does not say it in these words."""
    from emp_gym.agents import registry
    from emp_gym.agents.base import traits

    cls, given = registry.configured(plan.agent_name, plan.agent)
    schema = traits(cls).Config
    found = 1
    for name in ("num_envs", "n_steps"):
        varied = plan.table.get(f"agent.{name}")
        choices = [varied.get("high")] if isinstance(varied, Mapping) else varied if isinstance(varied, list) else []
        known = [value for value in choices or [given.get(name, getattr(schema, name, None))] if isinstance(value, int)]
        if not known:
            return None
        found *= max(known)
    return found


def _plan(a: argparse.Namespace) -> tuple[SearchPlan, FlatSpace]:
    from emp_gym.agents.hyperparams import preset
    from emp_gym.runs.config import EvaluationConfig, RunConfig, assignments, override, read_yaml, validate
    from emp_gym.search.jobs import objectives
    from emp_gym.search.plans import SearchPlan
    from emp_gym.search.space import FlatSpace, default_table

    if not a.env:
        raise ConfigError("--env is missing: which environment? e.g. --env emp-lob-v0")
    told = assignments(a.set)
    for key in told:
        if key not in ("agent", "env"):
            raise ConfigError(f"--set {key}: a search takes agent.KEY and env.KEY; the rest has flags of its own")
    agent = a.agent or "ppo"
    begun = RunConfig(env_id=a.env, agent_name=agent, agent=preset(agent, a.env)[1])
    filed = begun if a.config is None else override(begun, read_yaml(a.config))
    if replace(filed, agent=begun.agent, env=begun.env, evaluation=EvaluationConfig()) != begun or filed.evaluation != EvaluationConfig():
        raise ConfigError(f"--config {a.config}: a search takes agent and env keys; the rest has flags of its own")
    config = validate(override(filed, told))
    if objectives(config).value == "score" and a.govern is not None:
        raise ConfigError(f"{a.env} has no recorded days, so there is nothing to govern; leave --govern out")
    table = default_table(config) if a.space is None else read_yaml(a.space)
    if isinstance(table.get("risk"), list):  # a study can be taken up from anywhere
        table["risk"] = [str(Path(path).resolve()) if isinstance(path, str) else path for path in table["risk"]]
    given = {name: getattr(a, name) for name in GIVEN}
    plan = SearchPlan(
        config.env_id, config.agent_name, agent=config.agent, env={**config.env, **data_argument(a.data)}, table=table,
        **{name: value for name, value in given.items() if value is not None},
    )  # fmt: skip
    return plan, FlatSpace(plan.base, table, str(a.space or "--space"))


def _free(plan: SearchPlan) -> Path:
    """The first unused ``runs/evolve/ENV-AGENT[-n]``."""
    stem = f"{plan.env_id.rpartition(':')[2]}-{plan.agent_name.rpartition(':')[2].lower()}"
    number = 1
    while (path := Path("runs/evolve") / (stem if number == 1 else f"{stem}-{number}")).exists():
        number += 1
    return path


def _nothing_fixed(a: argparse.Namespace) -> None:
    for flag in FIXED:
        if getattr(a, flag) is not None:
            raise ConfigError(f"--{flag} cannot be changed by --resume: the study goes on as it was begun")
    if a.set:
        raise ConfigError("--set cannot be combined with --resume: the study goes on as it was begun")


def _note_final_seeds(search: Search, a: argparse.Namespace) -> None:
    """Keeps with how many seeds the champion is judged on the test: a study that was told not to look does not look when it goes on."""
    known = search.study.user_attrs.get(FINAL_SEEDS)
    if a.final_seeds is not None:
        seeds = a.final_seeds
    elif known is not None:
        seeds = known
    else:
        seeds = SEEDS if a.resume is None else 0
        if not seeds:
            say("the study does not say whether the champion is to be judged on test time, so it is not; to do it: --final-seeds N")
    if seeds != known:
        search.study.set_user_attr(FINAL_SEEDS, seeds)


def _search_and_judge(search: Search, where: Any, a: argparse.Namespace) -> Sequence[Judged]:
    from emp_gym.search import champion, report
    from emp_gym.search.trial_registration import Notes

    judged: Sequence[Judged] = ()
    with nullcontext(None) if a.govern is None else Notes(a.govern) as notes:
        done = sum(record.env_steps for record in search.records())
        with ProgressBar(search.plan.steps, "evolving") as bar:
            search.run(where, _Voice(search, bar, notes, search.plan.steps, done))
        seeds = search.study.user_attrs[FINAL_SEEDS]
        if seeds and search.complete():
            best = search.champion()
            say(f"judging trial {best.number} on test time, with {seeds} fresh seeds")
            steps = 2 * seeds * search.plan.budget
            with ProgressBar(steps, "champion") as bar:
                judged = champion.final(search, best, where, _Voice(search, bar, notes, steps), seeds)
    report.write(search, judged)
    if search.complete():
        champion.write(search, search.champion())
    return judged


class _Voice:
    """Tells how a search goes: a bar, and a row for each trial that is decided."""

    def __init__(self, search: Search, bar: ProgressBar, notes: Any, total: int, done: int = 0) -> None:
        self._search, self._bar, self._notes = search, bar, notes
        self._total, self._before, self._steps = total, done, done
        self._began, self._headed = time.monotonic(), False

    def begins(self, unit: TrainingJob) -> None:
        if self._notes is not None:
            self._notes.note(unit)

    def did(self, env_steps: int) -> None:
        self._steps += env_steps
        rate = (self._steps - self._before) / max(time.monotonic() - self._began, 1e-9)
        self._bar.update(min(self._steps, self._total - 1), {"time/fps": rate})  # a rollout may go over the budget

    def told(self, record: Record) -> None:
        from emp_gym.search.report import head, trial_cells

        if not self._headed:
            self._headed = True
            say(_row(head(self._search)))
        say(_row(trial_cells(self._search, record)))

    def chose(self, finalists: Sequence[Record]) -> None:
        if finalists and not all(unit in self._search.cells for one in finalists for unit in self._search.final_units(one)):
            names = ", ".join(str(one.number) for one in finalists)
            say(f"all trials are decided; the best ({names}) are trained with {self._search.plan.more_seeds} more seeds each")


WIDTHS = (5, 8, 10, 10, 10, 16, 9, 0)
EACH_SEED = 5
"""The column that a narrow terminal goes without."""


def _row(cells: Sequence[str]) -> str:
    """A trial as one line of the terminal; what does not fit stands in the report."""
    width = shutil.get_terminal_size().columns if sys.stderr.isatty() else 0
    columns = [place for place in range(len(WIDTHS)) if width == 0 or width >= 120 or place != EACH_SEED]
    line = "  ".join(cells[place].rjust(WIDTHS[place]) for place in columns).rstrip()
    return line if width == 0 or len(line) <= width else line[: width - 1] + "…"


def _again(folder: Path, a: argparse.Namespace) -> str:
    """The command that goes on."""
    words: list[object] = [*program("evolve"), "--resume", folder]
    for name in ("engine", "num_workers", "ray_address", "govern"):
        words += [f"--{name.replace('_', '-')}", getattr(a, name)] if getattr(a, name) else []
    return command(*words)


def _dashboard(journal: Path) -> str:
    """The command that shows a study in a browser, and how to get it where it is not installed."""
    there = shutil.which("optuna-dashboard") or shutil.which("optuna-dashboard", path=str(Path(sys.executable).parent))
    return command("optuna-dashboard", journal) + ("" if there else '   (pip install -c constraints.txt -e ".[dashboard]" first)')


def _show(search: Search, judged: Sequence[Judged]) -> None:
    """Front and champion on stdout, and where everything is."""
    from emp_gym.reports.report import told_columns
    from emp_gym.search.champion import CHAMPION
    from emp_gym.search.report import head, summary, trial_cells
    from emp_gym.terminal import tables as columns

    out = console()
    records = search.records()
    if search.complete():
        rows = [trial_cells(search, one) for one in search.front()]
        titles, cells = told_columns(head(search), rows)
        out.print(columns.table("Front, best value first; what they are stands in the report", titles, cells, out.width, texts=("state",)))
    out.print(summary(search, records, judged).replace("**", ""), highlight=False)
    lines = {"Report": search.folder / "report.html", "Dashboard": _dashboard(search.folder / "journal.log")}
    if search.complete():
        lines["Champion"] = command(*program("train"), "--config", search.folder / CHAMPION)
    for name, line in lines.items():
        out.print(f"{name + ':':11}{line}", soft_wrap=True, highlight=False, markup=False)
