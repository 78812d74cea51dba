"""``train.py``: trains an agent, judges it on held-out time, leaves a run folder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from emp_gym.experiments.commands.terminal import Bar, console, data_argument, guarded, say
from emp_gym.types import ConfigError


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="train.py",
        description="Train an agent on an environment, judge it on held-out time beside its baselines, write a report.",
    )
    p.add_argument("--env", metavar="ID", help="environment id, e.g. emp-lob-v0 (or module:Id)")
    p.add_argument(
        "--agent", metavar="NAME", help="ppo, a name from an installed package, or module:Class (default: ppo)"
    )
    p.add_argument(
        "--data", nargs="+", metavar="PATH", help="LOBSTER files, folders, zips or tapes (default: the embedded days)"
    )
    p.add_argument("--total-timesteps", type=_count, metavar="N", help="steps over all lanes")
    p.add_argument("--num-envs", type=_count, metavar="N", help="lanes")
    p.add_argument("--seed", type=int, metavar="S", help="seed of the run (default: 0)")
    p.add_argument(
        "--seeds", type=_count, metavar="K", help="train K agents, seeds S to S+K-1, and judge them together"
    )
    p.add_argument("--run-dir", type=Path, metavar="DIR", help="where the run goes (default: runs/ENV-AGENT-seedS)")
    p.add_argument("--resume", type=Path, metavar="DIR", help="go on with the run in DIR from its last checkpoint")
    p.add_argument(
        "--risk", type=Path, metavar="FILE", help="limits that every order must keep, e.g. configs/limits/default.yaml"
    )
    p.add_argument("--config", type=Path, metavar="FILE", help="YAML with overrides, keys as for --set")
    p.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
                   help="agent.KEY, env.KEY, evaluation.KEY, or a key of the run, e.g. agent.n_epochs=2")  # fmt: skip
    p.add_argument(
        "--govern",
        type=Path,
        metavar="LOGDIR",
        help="note the trial, register the policy and enter its evaluation there",
    )
    p.add_argument("--no-evaluation", action="store_true", help="stop after training")
    return p


def _count(text: str) -> int:
    value = float(text)
    if value < 1 or value != int(value):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 up, got {text}")
    return int(value)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 0, or 2 with one line on stderr for what cannot be done as asked."""
    arguments = parser().parse_args(argv)
    return guarded(lambda: _run(arguments), "train.py")


def _run(a: argparse.Namespace) -> int:
    if a.resume is not None:
        return _resume(a)
    from emp_gym.experiments.config import validate
    from emp_gym.experiments.runs import RunFolder

    if not a.env and a.config is None:
        raise ConfigError("--env is missing: which environment? e.g. --env emp-lob-v0")
    config = validate(_configuration(a))
    root = a.run_dir or RunFolder.free(Path("runs"), config)
    if a.seeds is None or a.seeds == 1:
        return _train_and_judge([config], [root], root, a)
    configs = [replace(config, seed=config.seed + i) for i in range(a.seeds)]
    return _train_and_judge(configs, [root / f"seed-{c.seed}" for c in configs], root, a)


def _configuration(a: argparse.Namespace) -> Any:
    """Defaults, then the YAML file, then ``--set``, then the flags."""
    from emp_gym.experiments.config import RunConfig, assignments, override, read_yaml, with_risk

    config = RunConfig()
    if a.config is not None:
        config = override(config, read_yaml(a.config))
    config = override(config, assignments(a.set))
    flags = {
        "env_id": a.env,
        "agent_name": a.agent,
        "total_timesteps": a.total_timesteps,
        "num_envs": a.num_envs,
        "seed": a.seed,
    }
    config = replace(config, **{key: value for key, value in flags.items() if value is not None})
    return with_risk(replace(config, env={**config.env, **data_argument(a.data)}), a.risk)


def _resume(a: argparse.Namespace) -> int:
    from emp_gym.experiments.config import validate
    from emp_gym.experiments.runs import RunFolder

    for flag in ("env", "agent", "data", "num_envs", "seed", "seeds", "run_dir", "risk", "config"):
        if getattr(a, flag) is not None:
            raise ConfigError(
                f"--{flag.replace('_', '-')} cannot be changed by --resume: the run's own configuration holds"
            )
    if a.set:
        raise ConfigError("--set cannot be combined with --resume: the run's own configuration holds")
    run = RunFolder.open(a.resume)
    if a.govern is None and run.governance:
        raise ConfigError(
            f"{a.resume} began under governance and goes on under it: add --govern {run.governance.get('folder', 'LOGDIR')}"
        )
    config = run.config
    if a.total_timesteps is not None:
        config = replace(config, total_timesteps=a.total_timesteps)
    return _train_and_judge([validate(config)], [a.resume], a.resume, a, resume=a.resume)


def _train_and_judge(
    configs: list[Any], folders: list[Path], root: Path, a: argparse.Namespace, resume: Path | None = None
) -> int:
    from emp_gym.experiments import training
    from emp_gym.experiments.commands.judging import enter_evidence, governance, judge_and_report

    runs, agents, versions = [], [], []
    say("preparing data and kernels (the first use on a machine makes the embedded days and compiles: about a minute)")
    with governance(a.govern, create=True) as governed:
        if governed:
            governed.switch.listen()
        for config, folder in zip(configs, folders, strict=True):
            trial = governed.begin(config, resume) if governed else 0
            parent = governed.parent(resume) if governed else ""
            label = f"training {config.agent_name}" + (f" seed {config.seed}" if len(configs) > 1 else "")
            with Bar(config.total_timesteps, label) as bar:
                run, agent = training.train(config, folder, bar, resume, governed)
            runs.append(run)
            agents.append(agent)
            if governed:
                versions.append(governed.register(run, trial, parent))
        if not a.no_evaluation:
            say("judging on held-out time")
            judge_and_report(configs[0], runs, agents, root)
            if governed:
                enter_evidence(governed, versions, configs[0])
    out = console()
    out.print(f"Run folder: {root}", soft_wrap=True, highlight=False)
    out.print(f"Curves:     tensorboard --logdir {root}", soft_wrap=True, highlight=False)
    return 0
