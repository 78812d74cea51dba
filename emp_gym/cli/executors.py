"""``--engine``, ``--num-workers`` and ``--ray-address``, for every command that has independent work; and the training of one
seed as such work."""

from __future__ import annotations

import argparse
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from emp_gym import trust
from emp_gym.terminal.console import ProgressBar
from emp_gym.terminal.interrupts import Interrupts
from emp_gym.types import ConfigError

if TYPE_CHECKING:
    from emp_gym.runs.config import RunConfig
    from emp_gym.training.executors import Executor

NAMES = ("processes", "ray")


def add_arguments(parser: argparse.ArgumentParser, what: str) -> None:
    """The three flags; `what` is done at the same time."""
    group = parser.add_argument_group("where it runs")
    group.add_argument("--engine", choices=NAMES, help=f"{what} at the same time: in processes of this machine, or as Ray tasks on "
                       "a Ray started here or on a cluster (default: one after another)")  # fmt: skip
    group.add_argument("--num-workers", type=int, metavar="K", help="with --engine: how many (default: one for each core)")
    group.add_argument("--ray-address", metavar="HOST:PORT", help="with --engine ray: a running cluster (default: RAY_ADDRESS)")


def opened(a: argparse.Namespace) -> AbstractContextManager[Executor | None]:
    """The engine that the flags ask for, or nothing; raises `ConfigError` for flags without --engine."""
    if a.engine is None:
        for flag in ("num_workers", "ray_address"):
            if getattr(a, flag) is not None:
                raise ConfigError(f"--{flag.replace('_', '-')} belongs to --engine {' or '.join(NAMES)}")
        return nullcontext()
    from emp_gym.training.executors import engine

    return engine(a.engine, workers(a), a.ray_address)


def own_workers(agent_name: str) -> str:
    """The parameter in which an agent that spreads one training over workers of its own is told how many; "" for others."""
    from emp_gym.agents import registry
    from emp_gym.agents.base import traits

    return traits(registry.find(agent_name)).own_workers


def with_workers(config: RunConfig, a: argparse.Namespace) -> RunConfig:
    """`config` with --num-workers for an agent that has workers of its own."""
    parameter = own_workers(config.agent_name)
    if not parameter or a.engine is None or parameter in config.agent:
        return config
    if a.engine != "ray":
        raise ConfigError(f"{config.agent_name} has workers of its own, on Ray: --engine ray instead of --engine {a.engine}")
    return replace(config, agent={**config.agent, parameter: workers(a)})


def workers(a: argparse.Namespace) -> int:
    """How many: one for each core unless said otherwise."""
    return a.num_workers or os.cpu_count() or 1


@dataclass(frozen=True)
class Seed:
    """One training run of several."""

    config: RunConfig
    folder: Path
    resume: Path | None
    noted: trust.Noted = trust.NOTHING  # what the person has vouched for, as `trust.noted` tells it

    def __str__(self) -> str:
        return f"{self.config.agent_name} on {self.config.env_id}, seed {self.config.seed}"


def train_seed(seed: Seed) -> str | None:
    """Trains it into its folder; None when that is done, else what stopped it, with a checkpoint from which it goes on."""
    from emp_gym.training import train

    trust.take_over(seed.noted)
    label = f"training {seed.config.agent_name.rpartition(':')[2]} seed {seed.config.seed}"
    with (
        Interrupts(f"seed {seed.config.seed} stops after this rollout") as stop,
        ProgressBar(seed.config.total_timesteps, label, lines=True) as bar,
    ):
        try:
            train.train(seed.config, seed.folder, bar, seed.resume, stop=stop)
        except train.Interrupted as interrupted:
            return str(interrupted)
    return None
