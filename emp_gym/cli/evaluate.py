"""``evaluate.py``: judges a finished run, or an agent by name, beside its baselines on identical windows."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from emp_gym import trust
from emp_gym.cli import executors, user_modules
from emp_gym.terminal.console import data_argument, guarded, say, trust_argument, vouched
from emp_gym.terminal.flags import Parser
from emp_gym.terminal.obstacles import unwritten_is_told_later, writing
from emp_gym.terminal.shell_commands import command
from emp_gym.types import ConfigError, DataError

if TYPE_CHECKING:
    from emp_gym.runs.evaluation_setup import EvaluationSetup


def parser() -> Parser:
    p = Parser(
        prog="evaluate.py", description="Judge an agent and its baselines on identical, disjoint windows of one split of the data."
    )
    p.add_argument("--env", metavar="ID", help="environment id (default: that of --run)")
    who = p.add_mutually_exclusive_group(required=True)
    who.add_argument("--run", type=Path, metavar="DIR", help="folder of a finished run (or of several seeds)")
    who.add_argument("--agent", metavar="NAME", help="an agent that needs no training: a name, or module:Class")
    who.add_argument("--policy", metavar="NAME", help="with --govern: a registered version, by hash, alias or name")
    p.add_argument(
        "--govern",
        type=Path,
        metavar="LOGDIR",
        help="take registered policies only, and enter the evaluation as evidence",
    )
    p.add_argument("--data", nargs="+", metavar="PATH", help="other data than the run's")
    p.add_argument("--risk", type=Path, metavar="FILE", help="limits that every order must keep, instead of the run's")
    p.add_argument("--config", type=Path, metavar="FILE", help="YAML with overrides, keys as for --set, e.g. configs/honest.yaml")
    p.add_argument("--episodes", type=int, metavar="N", help="windows, spread evenly over the split (default: all)")
    p.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
                   help="env.KEY, evaluation.KEY (e.g. evaluation.split=all) or agent.KEY")  # fmt: skip
    p.add_argument("--report", type=Path, metavar="DIR", help="also write report.md, report.html and pictures there")
    p.add_argument("--html", type=Path, metavar="FILE", help="also write the report as one page that needs nothing else")
    p.add_argument("--fidelity", action="store_true",
                   help="also replay under every assumption about fills, latency, impact and fees: what an optimistic "
                   "backtest would have claimed, and what is left (with --report: fidelity.md, .html, .png, .json, too)")  # fmt: skip
    p.add_argument("--log", type=Path, metavar="DIR",
                   help="also leave a run log of every agent and baseline below it: steps, orders, fills, verdicts")  # fmt: skip
    p.add_argument("--walk-forward", type=int, metavar="K",
                   help="train on the past and judge on the days that follow, K times over the data's dates")  # fmt: skip
    p.add_argument("--embargo", type=int, default=0, metavar="DAYS",
                   help="with --walk-forward: calendar days left out before each test (default: 0)")  # fmt: skip
    p.add_argument("--run-dir", type=Path, metavar="DIR",
                   help="with --walk-forward: where the folds' runs go (default: runs/ENV-AGENT-walkK)")  # fmt: skip
    p.add_argument("--verify", action="store_true", help="compare every column of the days with its hash before anything is judged")
    p.add_argument("--json", action="store_true", help="print one JSON object and nothing else on stdout")
    trust_argument(p)
    executors.add_arguments(p, "the seeds of --run and the baselines")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 0, or 2 with one line on stderr for what cannot be done as asked."""
    return guarded(lambda: vouched(parser().parse_args(argv), _run), "evaluate.py", argv)


def _run(a: argparse.Namespace) -> int:
    from emp_gym.cli import evaluation
    from emp_gym.runs.data_check import verify

    user_modules.admit(a)
    if a.policy is not None and a.govern is None:
        raise ConfigError("--policy names a registered version; say in which folder: --govern LOGDIR")
    if a.agent is not None and a.govern is not None:
        raise ConfigError("--govern takes registered policies only: --policy NAME, or --run DIR of a governed run")
    _check(a)
    if a.walk_forward is not None:
        return _walk(a)
    with evaluation.governance(a.govern) as governed:
        if governed:
            governed.must_be_open()
        if governed and a.policy is not None:
            a.run = governed.registry.load(a.policy)
        with _from_run(a) if a.run is not None else _from_name(a) as judged:
            _nobody_elses(a, judged.runs)
            if a.verify:
                say(verify(judged.env) or f"{judged.config.env_id} has no days to verify")
            versions = [governed.registry.version_of(run.path) for run in judged.runs] if governed else []
            with unwritten_is_told_later() as later:
                _judge(judged, a)
        if governed:
            evaluation.enter_evidence(governed, versions, judged.config)
        later()
    return 0


def _check(a: argparse.Namespace) -> None:
    """Refuses what does not go together, before anything is run."""
    if a.walk_forward is None and (a.embargo or a.run_dir is not None):
        raise ConfigError("--embargo and --run-dir belong to --walk-forward K")
    if a.walk_forward is not None:
        for flag in ("govern", "report", "html", "fidelity", "engine"):
            if getattr(a, flag):
                raise ConfigError(f"--walk-forward trains agents of its own and does not go with --{flag}")
        if a.walk_forward < 1 or a.embargo < 0:
            raise ConfigError(f"expected --walk-forward >= 1 and --embargo >= 0, got {a.walk_forward} and {a.embargo}")
    if a.html is not None and not a.html.parent.is_dir():
        raise ConfigError(f"--html {a.html}: there is no folder {a.html.parent}; make it first")
    if a.log is not None and list(a.log.glob("*/runlog.json")):
        raise ConfigError(f"--log {a.log}: it holds run logs already; take another folder")


def _nobody_elses(a: argparse.Namespace, runs: Sequence[Any]) -> None:
    """Refuses to leave the report of `runs` in the folder of another run, whose own it would hide."""
    from emp_gym.runs.origin import model_files, owner
    from emp_gym.runs.run_folder import RunFolder

    if a.report is None or (a.run is not None and a.report.resolve() == a.run.resolve()) or not (whose := owner(a.report)):
        return
    if len(runs) == 1 and model_files(runs[0]) == model_files(RunFolder(a.report)):  # a registered policy, or a copy
        return
    judged = f"of {a.run}" if a.run is not None else f"of the agent {a.agent}"
    own = "" if a.run is None else f"{command('--report', a.run)}, or "
    raise ConfigError(
        f"{command('--report', a.report)}: this folder is that of {whose}; the report {judged} would stand there as theirs; "
        f"take {own}a folder of its own"
    )


def _walk(a: argparse.Namespace) -> int:
    from emp_gym.cli import evaluation
    from emp_gym.runs.data_check import verify_for
    from emp_gym.runs.run_folder import RunFolder
    from emp_gym.studies import walk_forward
    from emp_gym.terminal.console import ProgressBar

    if a.run is not None:
        folders = _folders(a.run)
        config = _adapted(RunFolder.open(folders[0]).config, a)
    else:
        config = _named(a)
    if a.verify:
        say(verify_for(config) or f"{config.env_id} has no days to verify")
    root = a.run_dir or Path("runs") / f"{config.env_id}-{config.agent_name.rpartition(':')[2].lower()}-walk{a.walk_forward}"
    found = walk_forward.walk(
        config, a.walk_forward, root, lambda label: ProgressBar(config.total_timesteps, label), embargo=a.embargo,
        record=a.log is not None,
    )  # fmt: skip
    if a.log is not None:
        evaluation.save_logs(a.log, config.agent_name, [found.agent], found.baselines)
    _show(found.comparison, a)
    return 0


def _show(comparison: Any, a: argparse.Namespace, found: Any = None, assumed: Any = None) -> None:
    """The result on stdout: one JSON object, or tables. `found`: what a report was made of; `assumed`: the fidelity report."""
    from emp_gym.cli import evaluation
    from emp_gym.reports.report import as_json

    if a.json:
        told = as_json(comparison, found)
        print(json.dumps(told if assumed is None else told | {"fidelity": assumed.as_json()}))
        return
    evaluation.show(comparison, found)
    if assumed is not None:
        evaluation.show_fidelity(assumed)
    if a.report is not None:
        evaluation.told_where(a.report)


def _judge(evaluation: EvaluationSetup, a: argparse.Namespace) -> None:
    from emp_gym.reports import fidelity
    from emp_gym.runs import backtest
    from emp_gym.training import distributed

    judged: list[Any] = []
    try:
        with executors.opened(a) as where, writing(a.report or a.html or a.log or Path()):
            judge = backtest.judge if where is None else distributed.judging(where)
            comparison, found = _compared(evaluation, a, judge, judged)
    except OSError:
        if judged:  # the files are missing, the result is not
            _show(judged[0], argparse.Namespace(**{**vars(a), "report": None}), *judged[1:])
        raise
    assumed = None
    if a.fidelity:
        assumed = fidelity.replay(evaluation, progress=lambda name: say(f"replaying: {name}"), preface=comparison.preface)
        if a.report is not None:
            with writing(a.report):
                fidelity.write(assumed, a.report)
    _show(comparison, a, found, assumed)


def _compared(evaluation: EvaluationSetup, a: argparse.Namespace, judge: Any, judged: list[Any]) -> tuple[Any, Any]:
    """The comparison by `judge` and, where there is a report, what it was made of; leaves the files that were asked for. Both stand
    in `judged` before these are written."""
    from emp_gym.cli.evaluation import judge_into, save_logs
    from emp_gym.reports.preface import introduce

    if a.report is not None or a.html is not None:
        with nullcontext(a.report) if a.report is not None else TemporaryDirectory() as folder:
            root = Path(folder)
            root.mkdir(parents=True, exist_ok=True)
            comparison, found = judge_into(evaluation, root, a.log, judge, lambda *both: judged.extend(both))
            if a.html is not None:
                a.html.write_bytes((root / "report.html").read_bytes())
        return comparison, found
    comparison, logs, baselines = judge(evaluation, record=a.log is not None)
    comparison = introduce(comparison, evaluation)
    judged.append(comparison)
    if a.log is not None:
        save_logs(a.log, evaluation.config.agent_name, logs, baselines)
    return comparison, None


def _adapted(config: Any, a: argparse.Namespace) -> Any:
    """`config` with what the command line changes."""
    from emp_gym.runs.config import assignments, override, read_yaml, validate, with_risk

    if a.config is not None:
        config = override(config, read_yaml(a.config))
    config = override(config, assignments(a.set))
    if a.env is not None:
        config = replace(config, env_id=a.env)
    config = with_risk(replace(config, env={**config.env, **data_argument(a.data)}), a.risk)
    if a.episodes is not None:
        if a.episodes < 1:
            raise ConfigError(f"--episodes: expected at least 1, got {a.episodes}")
        config = replace(config, evaluation=replace(config.evaluation, episodes=a.episodes))
    return validate(config)


def _folders(run: Path) -> list[Path]:
    """The folder of a run, or those of all seeds of a series; `DataError` where one is missing."""
    from emp_gym.runs.run_folder import SEEDS, RunFolder

    if not (run / SEEDS).exists():
        return sorted(path.parent for path in run.glob("seed-*/config.json")) or [run]
    folders = [run / f"seed-{config.seed}" for config in RunFolder(run).series]
    missing = [folder.name for folder in folders if not (folder / "model.json").exists()]
    if missing:
        again = command("train.py", "--resume", run)
        raise DataError(f"{run}: {', '.join(missing)} of {len(folders)} seeds have no model yet; go on with {again}")
    return folders


def _from_run(a: argparse.Namespace) -> EvaluationSetup:
    """What ``--run`` asks for: one run, or the seeds below it."""
    from emp_gym.data.store import NoSuchData
    from emp_gym.runs.evaluation_setup import EvaluationSetup
    from emp_gym.runs.origin import distinct
    from emp_gym.runs.run_folder import RunFolder
    from emp_gym.training import train

    folders = _folders(a.run)
    runs = [RunFolder.open(folder) for folder in folders]
    trust.ask_all(one for run in runs for one in run.questions())
    distinct(runs)
    if not (folders[0] / "model.json").exists():
        raise DataError(f"{folders[0]} holds no model yet; finish it with {command('train.py', '--resume', folders[0])}")
    say("loading the run and its data")
    try:
        config = _adapted(runs[0].config, a)
        agents = [train.load(run, config.env_id, config.env, config.evaluation.split) for run in runs]
        evaluation = EvaluationSetup(config, agents, runs)
        _say_of_data(evaluation)
    except NoSuchData as error:
        if a.data is not None:
            raise
        raise DataError(
            f"{a.policy or a.run}: the run's data are not there any more ({error.name}); say where they are now: --data NEW_PLACE"
        ) from error
    return evaluation


def _say_of_data(evaluation: EvaluationSetup) -> None:
    """In what the data are not those on which its runs were made."""
    from emp_gym.runs.run_folder import data_differs

    for line in dict.fromkeys(line for run in evaluation.runs for line in data_differs(run, evaluation.env)):
        say(f"warning: the data are not those of the run's record: {line}")


def _named(a: argparse.Namespace) -> Any:
    """The configuration for ``--agent``."""
    from emp_gym.runs.config import RunConfig

    if a.env is None:
        raise ConfigError("--env is missing: which environment? e.g. --env emp-lob-v0")
    return _adapted(replace(RunConfig(), agent_name=a.agent), a)


def _from_name(a: argparse.Namespace) -> EvaluationSetup:
    from emp_gym.agents.base import Learner, traits
    from emp_gym.runs.evaluation_setup import EvaluationSetup
    from emp_gym.training import distributed

    evaluation = EvaluationSetup(_named(a))
    agent = distributed.named(evaluation.config, evaluation.env)
    if isinstance(agent, Learner) and not traits(agent).learns_first:
        raise ConfigError(
            f"{a.agent} has learned nothing yet: train it with "
            f"{command('train.py', '--env', a.env, '--agent', a.agent)}, then evaluate.py --run DIR"
        )
    evaluation.agents = [agent]
    return evaluation
