"""The end of a run: judge agents beside their baselines, print the table, write the report and its pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emp_gym.experiments import backtest, pictures, report
from emp_gym.experiments.backtest import Comparison
from emp_gym.experiments.commands.terminal import console, say
from emp_gym.experiments.config import RunConfig
from emp_gym.experiments.runs import RunFolder, provenance

if TYPE_CHECKING:
    from emp_gym.experiments.governed import Governed
    from emp_gym.governance.record import Version


def judge_and_report(config: RunConfig, runs: Sequence[RunFolder], agents: Sequence[Any], root: Path) -> Comparison:
    """Leaves report and pictures in `root` and the table on stdout. `runs` and `agents`: one per training seed."""
    comparison, _, _ = backtest.judge(config, agents)
    drawn = draw(config, [run.path / "curves.csv" for run in runs], agents[0], comparison, root)
    env = backtest.make_env(config.env_id, config.env, 1, split=config.evaluation.split)
    reward = getattr(getattr(env.unwrapped, "task", None), "reward", None)
    text = report.report_text(comparison, config, provenance(env), drawn, reward)
    env.close()
    path = report.write(RunFolder(root), comparison, text)
    show(comparison)
    console().print(f"Report:     {path}", soft_wrap=True, highlight=False)
    return comparison


def governance(path: Path | None, *, create: bool = False) -> AbstractContextManager[Governed | None]:
    """What ``--govern`` asks for, or nothing."""
    if path is None:
        return nullcontext()
    from emp_gym.experiments.governed import Governed

    return Governed(path, create=create)


def enter_evidence(
    governed: Governed, versions: Sequence[Version], config: RunConfig, pause: Callable[[], None] = lambda: None
) -> None:
    """Executes the evaluation of `config` again, from the registered files, and enters it in the ledger. `pause`: see
    `Governed.evaluate`."""
    for version, receipt in zip(versions, governed.evaluate(versions, config, pause), strict=True):
        say(f"{version.name} ({version.version[:12]}): evaluation entered as evidence, entry {receipt.seq}")


def draw(config: RunConfig, curves: Sequence[Path], agent: Any, comparison: Comparison, root: Path) -> dict[str, str]:
    """Draws what there is to draw; returns title -> file name, in the order of the report."""
    drawn = {"Held-out P&L beside the baselines": "comparison.png"}
    pictures.comparison_chart(comparison, root / "comparison.png")
    name = f"{config.agent_name} on {config.env_id}"
    recorded = [pictures.read_curves(path) for path in curves if path.exists()]
    if pictures.learning_curve(recorded, f"{name}: learning", root / "learning_curve.png"):
        drawn["Learning curve"] = "learning_curve.png"
    at = pictures.median_window(comparison)
    split = config.evaluation.split
    seen = pictures.trace(agent, config.env_id, config.env, comparison.windows[at], split, comparison.days[at])
    if seen is not None:
        pictures.episode(seen, f"{name}: the held-out episode of median P&L", root / "episode.png")
        drawn["One held-out episode, that of median P&L"] = "episode.png"
    return drawn


def show(comparison: Comparison) -> None:
    """The table of results and its reading in one sentence, on stdout."""
    out = console()
    out.print()
    out.print(report.terminal_table(comparison, out.width))
    out.print()
    out.print(report.verdict(comparison), highlight=False)
    for name, why in comparison.skipped.items():
        out.print(f"Left out: {name} ({why}).", highlight=False)
