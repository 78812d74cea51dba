"""The end of a run: judge agents beside their baselines, print the table, write the report and its pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emp_gym.envs.about import MARKET
from emp_gym.printable import printable
from emp_gym.reports import episode_plot, plots, report, report_data
from emp_gym.reports.formatting import left_out
from emp_gym.reports.preface import introduce
from emp_gym.reports.report_data import Findings, Optimum
from emp_gym.runs import backtest
from emp_gym.runs.backtest import Comparison
from emp_gym.runs.config import RunConfig
from emp_gym.runs.evaluation_setup import EvaluationSetup
from emp_gym.runs.run_folder import RunFolder, provenance
from emp_gym.runs.run_metadata import gather
from emp_gym.terminal import tables
from emp_gym.terminal.console import console, say
from emp_gym.training.distributed import Judge
from emp_gym.types import RunLog

if TYPE_CHECKING:
    from emp_gym.governance.ledger.record import Version
    from emp_gym.governed.run_hooks import Governed
    from emp_gym.reports.fidelity import Fidelity


def judge_and_report(evaluation: EvaluationSetup, root: Path, judge: Judge = backtest.judge) -> Comparison:
    """As `judge_into`, with table and verdict on stdout."""
    comparison, _ = judge_into(evaluation, root, judge=judge, told=lambda compared, found: show(compared, found, "the report"))
    told_where(root)
    return comparison


def judge_into(
    evaluation: EvaluationSetup, root: Path, log: Path | None = None, judge: Judge = backtest.judge,
    told: Callable[[Comparison, Findings], None] = lambda _compared, _found: None,
) -> tuple[Comparison, Findings]:  # fmt: skip
    """Leaves report and pictures in `root`, and run logs below `log`. `told` hears what was found before
    anything is written, which may fail."""
    began = time.perf_counter()
    config, runs = evaluation.config, evaluation.runs
    record = log is not None or evaluation.about.kind == MARKET
    comparison, logs, baselines = judge(evaluation, record=record)
    comparison = introduce(comparison, evaluation)
    facts = gather(config, runs, provenance(evaluation.env), evaluation.env, time.perf_counter() - began)
    found = report_data.find(comparison, logs, baselines, config.evaluation, optimum(config, evaluation.agents))
    told(comparison, found)
    if log is not None:
        save_logs(log, config.agent_name, logs, baselines)
    drawn = draw(config, [run.path / "curves.csv" for run in runs], comparison, logs, baselines, found, root)
    report.write(RunFolder(root), comparison, found, facts, drawn)
    return comparison, found


def told_where(root: Path) -> None:
    """Where the report is, on stdout."""
    console().print(printable(f"Report:     {root / 'report.md'} and report.html"), soft_wrap=True, highlight=False, markup=False)


def optimum(config: RunConfig, agents: Sequence[Any]) -> Optimum | None:
    """How `agents` stand to the known optimum of a certificate; None for every other environment."""
    from emp_gym.envs import problem_of

    name = problem_of(config.env_id)
    if name is None or config.env:
        return None
    from emp_gym.evaluation import optimal
    from emp_gym.evaluation.reliability import stratified_interval
    from emp_gym.training import certify

    judged = [certify.judge(agent, config.env_id) for agent in agents]
    scores = np.array([one.score for one in judged])
    rng = np.random.default_rng(np.random.SeedSequence([config.evaluation.seed, len(scores)]))
    problem = optimal.problem(name)
    estimate = stratified_interval(scores, rng, level=config.evaluation.level)
    exact = all(one.exact for one in judged)
    return Optimum(estimate, tuple(scores.tolist()), problem.optimal().value, problem.base(), exact)


def save_logs(folder: Path, name: str, runs: Sequence[RunLog], baselines: Mapping[str, RunLog]) -> None:
    """One run log a folder: the agent's (a number behind it if there are several seeds), and the baselines'."""
    from emp_gym.evaluation import runlog

    names = labels(name, len(runs), list(baselines))
    for label, log in [*zip(names, runs), *baselines.items()]:
        runlog.save(log, folder / label)
    say(f"run logs: {', '.join([*names, *baselines])} below {folder}")


def labels(name: str, seeds: int, baselines: Sequence[str]) -> list[str]:
    """What the logs of the agent called `name` are called, one a seed: never what one of a baseline is."""
    own = name.rpartition(":")[2].lower()
    names = [own] if seeds == 1 else [f"{own}-{i}" for i in range(seeds)]
    taken = {baseline.lower() for baseline in baselines}
    while taken & set(names):
        names = [f"{label}-judged" for label in names]
    return names


def governance(path: Path | None, *, create: bool = False) -> AbstractContextManager[Governed | None]:
    """What ``--govern`` asks for, or nothing."""
    if path is None:
        return nullcontext()
    from emp_gym.governed.run_hooks import Governed

    return Governed(path, create=create)


def enter_evidence(
    governed: Governed, versions: Sequence[Version], config: RunConfig, pause: Callable[[], None] = lambda: None
) -> None:
    """Executes the evaluation of `config` again, from the registered files, and enters it in the ledger. `pause`: see
    `Governed.evaluate`."""
    for version, receipt in zip(versions, governed.evaluate(versions, config, pause), strict=True):
        say(f"{version.name} ({version.version[:12]}): evaluation entered as evidence, entry {receipt.seq}")


def draw(
    config: RunConfig, curves: Sequence[Path], comparison: Comparison, logs: Sequence[RunLog],
    baselines: Mapping[str, RunLog], found: Findings, root: Path,
) -> dict[str, str]:  # fmt: skip
    """Draws what there is to draw; returns what -> file name."""
    if comparison.by_currency:  # no axis carries two currencies
        return {}
    name, each = f"{config.agent_name} on {config.env_id}", comparison.proof.adjective
    drawn = {"comparison": "comparison.png"}
    plots.comparison_chart(comparison, root / "comparison.png")
    recorded = [plots.read_curves(path) for path in curves if path.exists()]
    if plots.learning_curve(recorded, f"{name}: learning", root / "learning_curve.png"):
        drawn["learning"] = "learning_curve.png"
    if not found.attribution:
        return drawn
    plots.equity_curve(comparison, logs, baselines, f"{name}: {each}equity", root / "equity.png")
    plots.attribution_bars(found.attribution, f"{name}: where the P&L came from", root / "attribution.png")
    at = episode_plot.median_window(comparison)
    episode_plot.draw(logs[0], at, f"{name}: {episode_plot.called(comparison)}", root / "episode.png")
    return drawn | {"equity": "equity.png", "attribution": "attribution.png", "episode": "episode.png"}


def show(comparison: Comparison, found: Findings | None = None, elsewhere: str = report.ELSEWHERE) -> None:
    """On stdout what was judged, the verdict, and the table of results; `elsewhere` has what a narrow terminal has no room for."""
    out = console()
    out.print()
    for label, text in () if comparison.preface is None else comparison.preface.lines:
        line = printable(f"{label}: {text}")
        out.print(line, style="bold" if label == "careful" else None, highlight=False, markup=False)
    out.print(printable(report.verdict(comparison, None if found is None else found.optimum)), highlight=False, markup=False)
    out.print()
    out.print(report.terminal_table(comparison, out.width, elsewhere))
    for told in left_out(comparison.skipped):
        out.print(printable(f"Left out: {told}."), highlight=False, markup=False)


def show_fidelity(fidelity: Fidelity) -> None:
    """The fidelity report on stdout."""
    from emp_gym.reports.fidelity import SPARE, TITLES, cells, in_short, reading

    out = console()
    rows = [(in_short(one.setting), *cells(one)[1:]) for one in fidelity.outcomes]
    out.print()
    out.print(tables.table("What the P&L assumes", TITLES, rows, out.width, spare=SPARE, elsewhere=report.ELSEWHERE))
    for one in fidelity.outcomes:
        if in_short(one.setting) != one.setting.name:
            out.print(printable(one.setting.name), highlight=False, markup=False)
    out.print()
    out.print(printable(reading(fidelity)), highlight=False, markup=False)
