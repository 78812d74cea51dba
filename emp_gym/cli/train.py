"""``train.py``: trains an agent, judges it on the test split, leaves a run folder."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emp_gym.cli import executors, user_modules
from emp_gym.terminal import obstacles
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
from emp_gym.terminal.interrupts import Interrupts, Stopped, early_kill
from emp_gym.terminal.obstacles import unwritten_is_told_later, writing
from emp_gym.terminal.shell_commands import command, program
from emp_gym.types import ConfigError, DataError

if TYPE_CHECKING:
    from emp_gym.governance.ledger.record import Version
    from emp_gym.governed.run_hooks import Governed
    from emp_gym.runs.config import RunConfig
    from emp_gym.runs.run_folder import RunFolder
    from emp_gym.training.executors import Executor


def parser() -> Parser:
    p = Parser(
        prog="train.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Train an agent on an environment, judge it on the test split beside its baselines,\n"
        "write a report.",
        epilog="examples:\n"
        "  train.py --env emp-lob-v0 --config configs/quick.yaml     a look, in about a minute\n"
        "  train.py --env emp-lob-v0 --seeds 5 --set agent.gamma=0.99\n"
        "  train.py --env emp-lob-v0 --seeds 5 --engine processes    seeds at the same time\n"
        "  train.py --resume runs/emp-lob-v0-ppo-seed0               go on where it stopped\n\n"
        "Ctrl-C (or SIGTERM) stops after the rollout under way, saves, and says how to go on;\n"
        "a second one ends at once. Exit status: 0 done, 2 not as asked, 130 or 143 stopped.",
    )
    what = p.add_argument_group("what is trained")
    what.add_argument("--env", metavar="ID", help="environment id, e.g. emp-lob-v0 (or module:Id)")
    what.add_argument(
        "--agent", metavar="NAME", help="ppo, a name from an installed package, or module:Class (default: ppo)"
    )
    what.add_argument(
        "--data", nargs="+", metavar="PATH", help="LOBSTER files, folders, zips or tapes (default: the embedded days)"
    )
    what.add_argument(
        "--risk", type=Path, metavar="FILE", help="limits that every order must keep, e.g. configs/limits/default.yaml"
    )
    how = p.add_argument_group("how long, and how")
    how.add_argument(
        "--total-timesteps", type=whole_number, metavar="N", help="decisions in all lanes together (default: 4,000,000)"
    )
    how.add_argument(
        "--num-envs", type=whole_number, metavar="N", help="lanes: markets that run side by side (default: the agent's)"
    )
    how.add_argument("--seed", type=int, metavar="S", help="seed of the run (default: 0)")
    how.add_argument(
        "--seeds", type=whole_number, metavar="K", help="train K agents, seeds S to S+K-1, and judge them together"
    )
    how.add_argument("--config", type=Path, metavar="FILE", help="YAML with overrides, keys as for --set")
    how.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
                   help="agent.KEY, env.KEY, evaluation.KEY, or a key of the run, e.g. agent.n_epochs=2 checkpoints=8")  # fmt: skip
    where = p.add_argument_group("where it goes, and going on")
    where.add_argument(
        "--run-dir", type=Path, metavar="DIR", help="a new folder for the run (default: runs/ENV-AGENT-seedS)"
    )
    where.add_argument(
        "--resume", type=Path, metavar="DIR",
        help="go on with the run in DIR (or with its seeds) from the last checkpoint, as if it had never stopped; takes "
        "only --total-timesteps, --govern, --verify, --no-evaluation and --trust",
    )  # fmt: skip
    where.add_argument(
        "--govern", type=Path, metavar="LOGDIR",
        help="under the kill switch and the ledger of LOGDIR (made if there is none): the trial is noted, decisions are "
        "kept, the policy is registered and its evaluation entered",
    )  # fmt: skip
    where.add_argument("--verify", action="store_true", help="compare every column of the days with its hash before training")
    where.add_argument("--no-evaluation", action="store_true", help="train only, do not judge")
    trust_argument(p)
    executors.add_arguments(p, "seeds (of an agent that spreads one training itself: its own workers)")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 0, or 2 with one line on stderr for what cannot be done as asked, 128 + N after signal N."""
    return guarded(lambda: _heard(parser().parse_args(argv), argv), "train.py")


def _heard(arguments: argparse.Namespace, argv: Sequence[str] | None) -> int:
    """The command with an ear for signals."""
    listen = early_kill() if arguments.govern is not None else _deaf
    with Interrupts("stopping after this rollout; once more ends it at once, without saving") as stop:
        status = guarded(lambda: vouched(arguments, lambda a: _run(a, stop, listen)), "train.py", argv)
    return stop.status if stop() and status else status


def _deaf(_switch: Any) -> None:
    """Nobody listens."""


@dataclass(frozen=True)
class SeedRun:
    """One run of the command: of one seed."""

    config: RunConfig
    folder: Path
    resume: Path | None = None  # `folder`, where the run is to go on


def _run(a: argparse.Namespace, stop: Interrupts, listen: Callable[[Any], None]) -> int:
    user_modules.admit(a)
    if a.engine is not None and a.govern is not None:
        raise ConfigError("--govern keeps one ledger and trains in this process, one seed after another; leave out --engine")
    if a.resume is not None:
        from emp_gym.data.store import NoSuchData

        try:
            return _train_and_judge(_parts_to_resume(a), a.resume, a, stop, listen)
        except NoSuchData as error:
            raise DataError(f"{a.resume}: the run's data are not there any more: put them back at {error.name}") from error
    from emp_gym.runs.config import validate
    from emp_gym.runs.run_folder import SEEDS, RunFolder

    if not a.env and a.config is None:
        raise ConfigError("--env is missing: which environment? e.g. --env emp-lob-v0")
    config = validate(executors.with_workers(_configuration(a), a))
    root = a.run_dir or RunFolder.free(Path("runs"), config)
    if a.seeds is None or a.seeds == 1:
        return _train_and_judge([SeedRun(config, root)], root, a, stop, listen)
    if (root / SEEDS).exists():
        raise ConfigError(f"{root} already holds runs of seeds; take another --run-dir, or go on with --resume {shlex.quote(str(root))}")
    parts = [SeedRun(one, root / f"seed-{one.seed}") for one in (replace(config, seed=config.seed + i) for i in range(a.seeds))]
    return _train_and_judge(parts, root, a, stop, listen)


def _configuration(a: argparse.Namespace) -> Any:
    """Defaults (the agent's preset for the environment, where it has one), then the YAML file, ``--set``, the flags."""
    from emp_gym.agents.hyperparams import preset
    from emp_gym.runs.config import RunConfig, assignments, override, read_yaml, with_risk

    flags = {
        "env_id": a.env,
        "agent_name": a.agent,
        "total_timesteps": a.total_timesteps,
        "num_envs": a.num_envs,
        "seed": a.seed,
    }

    def said(config: RunConfig) -> RunConfig:
        if a.config is not None:
            config = override(config, read_yaml(a.config))
        config = override(config, assignments(a.set))
        return replace(config, **{key: value for key, value in flags.items() if value is not None})

    config = said(RunConfig())
    budget, parameters = preset(config.agent_name, config.env_id, config.agent)
    config = said(RunConfig(total_timesteps=budget, agent=parameters))
    return with_risk(replace(config, env={**config.env, **data_argument(a.data)}), a.risk)


def _parts_to_resume(a: argparse.Namespace) -> list[SeedRun]:
    from emp_gym.runs.config import validate
    from emp_gym.runs.run_folder import SEEDS, RunFolder

    for flag in ("env", "agent", "data", "num_envs", "seed", "seeds", "run_dir", "risk", "config"):
        if getattr(a, flag) is not None:
            raise ConfigError(
                f"--{flag.replace('_', '-')} cannot be changed by --resume: the run's own configuration holds"
            )
    if a.set:
        raise ConfigError("--set cannot be combined with --resume: the run's own configuration holds")
    if (a.resume / SEEDS).exists():
        found = [(config, a.resume / f"seed-{config.seed}") for config in RunFolder(a.resume).series]
    else:
        found = [(RunFolder.open(a.resume).config, a.resume)]
    parts = []
    for config, folder in found:
        begun = (folder / "config.json").exists()
        where = RunFolder(folder).governance.get("folder", "LOGDIR") if begun and RunFolder(folder).governance else ""
        if a.govern is None and where:
            raise ConfigError(f"{folder} began under governance and goes on under it: add --govern {shlex.quote(where)}")
        if begun:
            _as_it_was(RunFolder(folder))
        if a.total_timesteps is not None:
            config = replace(config, total_timesteps=a.total_timesteps)
        parts.append(SeedRun(validate(config), folder, folder if begun else None))
    return parts


def _as_it_was(run: RunFolder) -> None:
    """Refuses to go on with a run whose configuration was edited: a model of two settings would be called one of the last."""
    from emp_gym.runs.origin import differences

    trained = run.as_trained
    changed = differences(replace(run.config, total_timesteps=trained.total_timesteps), trained)
    if changed:
        raise ConfigError(
            f"{run.path / 'config.json'} was edited since the run began: {'; '.join(changed)}; put it back, or train anew with another "
            "--run-dir (evaluate.py judges under other settings: --config, --set)"
        )


def _train_and_judge(
    parts: list[SeedRun], root: Path, a: argparse.Namespace, stop: Interrupts, listen: Callable[[Any], None]
) -> int:
    from emp_gym.cli.evaluation import enter_evidence, governance, judge_and_report
    from emp_gym.envs.about import FOREIGN, kind_of
    from emp_gym.jit import kernels_are_new
    from emp_gym.runs import backtest
    from emp_gym.runs.data_check import verify_for
    from emp_gym.runs.evaluation_setup import EvaluationSetup
    from emp_gym.runs.held_out import spoken
    from emp_gym.runs.run_folder import RunFolder
    from emp_gym.training import distributed

    again, config = _again(f"--resume {shlex.quote(str(root))}", a), parts[0].config
    if not a.no_evaluation and kind_of(config.env_id) == FOREIGN:
        backtest.windows(config.env_id, config.env, config.evaluation)  # where there are none, nothing is trained in vain
    with governance(a.govern, create=True) as governed, executors.opened(a) as where:
        if governed:
            listen(governed.switch)
        if len(parts) > 1:
            with writing(root):
                RunFolder(root).write_series([part.config for part in parts])
        if kernels_are_new():
            say("preparing data and kernels (about a minute, once)")
        if a.verify:
            say(verify_for(parts[0].config) or f"{parts[0].config.env_id} has no days to verify")
        if where is None or executors.own_workers(parts[0].config.agent_name):
            done = [_train(part, parts, governed, stop, again) for part in parts]
        else:
            done = _train_together(parts, where, stop, again)
        runs, agents = [run for run, _, _ in done], [agent for _, agent, _ in done]
        for folder in dict.fromkeys([root, root.absolute().parent, *(part.folder for part in parts)]):
            _say_of_report(folder)
        if not a.no_evaluation:
            say(f"judging on the {spoken(parts[0].config.evaluation.split)}")
            judge = backtest.judge if where is None else distributed.judging(where)
            try:
                with (
                    stop.at_once(), unwritten_is_told_later() as later, writing(root),
                    EvaluationSetup(parts[0].config, agents, runs) as evaluation,
                ):  # fmt: skip
                    judge_and_report(evaluation, root, judge)
                if governed:
                    versions = [version for _, _, version in done if version]
                    enter_evidence(governed, versions, parts[0].config, stop.pause)
                later()
            except Stopped as stopped:
                raise Stopped(f"{stopped}: trained and saved in {root}, not judged to the end; to judge: {again}") from stopped
    out = console()
    out.print(f"Run folder: {root}", soft_wrap=True, highlight=False, markup=False)
    out.print(f"Curves:     {command('tensorboard', '--logdir', root)}", soft_wrap=True, highlight=False, markup=False)
    return 0


def _say_of_report(folder: Path) -> None:
    """That the report in `folder` is of a model that is not there any more, on the terminal and in the report."""
    from emp_gym.reports.judged_run import is_stale
    from emp_gym.reports.report import disown

    if is_stale(folder):
        again = command(*program("evaluate"), "--run", folder, "--report", folder)
        say(f"the report and evaluation.json in {folder} are of an earlier model; judge again: {again}")
        with writing(folder):
            disown(folder, again)


def _train(
    part: SeedRun, parts: Sequence[SeedRun], governed: Governed | None, stop: Interrupts, again: str
) -> tuple[RunFolder, Any, Version | None]:
    """One run, its agent and, under governance, the version that it gave."""
    from emp_gym.agents.base import Learner
    from emp_gym.training import train

    config = part.config
    try:
        stop.pause()
        if governed:
            governed.begin(config, part.resume)
            if governed.story:
                say(governed.story)
        label = f"training {config.agent_name.rpartition(':')[2]}" + (f" seed {config.seed}" if len(parts) > 1 else "")
        with ProgressBar(config.total_timesteps, label) as bar, writing(part.folder):
            run, agent = train.train(config, part.folder, bar, part.resume, governed, stop)
    except OSError as error:
        raise DataError(_broken_off(error, parts, part, again)) from error
    except (train.Interrupted, Stopped) as error:
        if len(parts) == 1 and not (part.folder / "config.json").exists():
            raise Stopped(f"{error} before anything was begun; start it again") from error
        raise Stopped(f"{error}{_seeds(parts, part)}; to go on: {again}") from error
    if not bar.moved and isinstance(agent, Learner):
        say(f"{part.folder} is done ({config.total_timesteps:,} steps): nothing to train; for more: --total-timesteps N")
    return run, agent, governed.register(run) if governed else None


def _broken_off(error: OSError, parts: Sequence[SeedRun], part: SeedRun, again: str) -> str:
    """What the operating system refused, what stands of the run, and how it goes on."""
    from emp_gym.runs.run_folder import RunFolder

    why = obstacles.told(error)
    if len(parts) == 1 and not (part.folder / "config.json").exists():
        return f"{why}; nothing was begun"
    last = RunFolder(part.folder).last_checkpoint()
    stands = "no checkpoint yet, it goes on from step 0" if last is None else f"the last checkpoint, of {int(last.name):,} steps, stands"
    return f"{why}{_seeds(parts, part)}; {stands}; to go on: {again}"


def _train_together(
    parts: Sequence[SeedRun], where: Executor, stop: Interrupts, again: str
) -> list[tuple[RunFolder, Any, Version | None]]:
    """As `_train`, all parts as tasks of `where`."""
    from emp_gym import trust
    from emp_gym.runs import backtest
    from emp_gym.runs.config import remember
    from emp_gym.runs.run_folder import RunFolder
    from emp_gym.training import train
    from emp_gym.training.executors import TaskFailed

    config = parts[0].config
    backtest.make_env(config.env_id, config.env, 1, split="train").close()  # data and kernels are made once, not by all
    for part in parts:
        remember(part.config, part.folder)  # a worker on another machine cannot
    tasks = [executors.Seed(p.config, p.folder.resolve(), p.resume and p.resume.resolve(), trust.noted()) for p in parts]
    done: list[int] = []
    try:
        for index, stopped in where.map(executors.train_seed, tasks, stop=stop):
            if stopped is None:
                done.append(index)
                say(f"seed {parts[index].config.seed} is trained ({len(done)} of {len(parts)})")
    except TaskFailed as failed:
        raise TaskFailed(failed.index, failed.task, failed.kind, f"{failed.what}; to go on: {again}") from failed
    if len(done) < len(parts):
        seeds = ", ".join(str(parts[index].config.seed) for index in sorted(done)) or "none"
        raise Stopped(f"stopped by {stop.name} (seeds done: {seeds}; the others go on where they stood); to go on: {again}")
    missing = [part.folder for part in parts if not (part.folder / "model.json").exists()]
    if missing:
        raise DataError(f"{missing[0]} was written on another machine: put --run-dir on a disk that all of them share")
    return [
        (run, train.load(run, config.env_id, config.env, "train"), None) for run in (RunFolder.open(p.folder) for p in parts)
    ]


def _seeds(parts: Sequence[SeedRun], at: SeedRun) -> str:
    """Which seeds are done, where there are several."""
    if len(parts) == 1:
        return ""
    seeds = [part.config.seed for part in parts]
    now = seeds.index(at.config.seed)
    done, left = (", ".join(map(str, some)) or "none" for some in (seeds[:now], seeds[now + 1 :]))
    return f" (seed {seeds[now]}; seeds done: {done}; not begun: {left})"


def _again(what: str, a: argparse.Namespace) -> str:
    """The command that goes on."""
    govern = f" --govern {shlex.quote(str(a.govern))}" if a.govern is not None else ""
    where = f" --engine {a.engine} --num-workers {executors.workers(a)}" if a.engine is not None else ""
    return f"{command(*program('train'))} {what}{govern}{where}{' --no-evaluation' if a.no_evaluation else ''}"
