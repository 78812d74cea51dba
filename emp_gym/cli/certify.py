"""``check.py --certify``: trains an agent on every certificate and shows how near it came to the known optimum."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from emp_gym.cli import executors
from emp_gym.terminal import tables
from emp_gym.terminal.console import ProgressBar, console, say
from emp_gym.types import ConfigError

if TYPE_CHECKING:
    from emp_gym.runs.config import RunConfig
    from emp_gym.training.executors import Executor

HEAD = ("certificate", "score", "95 % interval", "verdict", "J of optimum", "base", "steps a seed", "s a seed")
SPARE = ("s a seed", "steps a seed", "base", "J of optimum")
"""Columns that a narrow terminal may do without, the least important one first."""


def run(arguments: argparse.Namespace) -> int:
    """0 where every certificate was passed, 1 otherwise."""
    from emp_gym.agents import registry
    from emp_gym.agents.suggest import nearest
    from emp_gym.envs import CERTIFICATES, problem_of
    from emp_gym.training.certify import Certificate

    registry.find(arguments.agent)  # an unknown name is one line, before anything is trained
    chosen = arguments.only or list(CERTIFICATES)
    for name in chosen:
        if problem_of(name) is None:
            raise ConfigError(f"{name!r} is no certificate; did you mean {nearest(name, CERTIFICATES)}?")
        _settings(arguments, name)
    found: list[Certificate] = []
    with executors.opened(arguments) as where:
        for certificate in _each(arguments, chosen) if where is None else _together(arguments, chosen, where):
            found.append(certificate)
            if not arguments.json:
                say(one_line(certificate))
    found.sort(key=lambda certificate: chosen.index(certificate.env_id))
    if arguments.json:
        sys.stdout.write(json.dumps({certificate.env_id: certificate.as_json() for certificate in found}) + "\n")
    else:
        out = console()
        out.print(_table(arguments.agent, found, out.width))
        out.print(reading(found), highlight=False)
    return int(not all(certificate.passed for certificate in found))


def _each(arguments: argparse.Namespace, chosen: Sequence[str]) -> Iterator[Any]:
    return (_one(arguments, env_id) for env_id in chosen)


def _together(arguments: argparse.Namespace, chosen: Sequence[str], where: Executor) -> Iterator[Any]:
    from emp_gym.training.certify import attempts, certify_all

    seeds, asked = range(arguments.seed, arguments.seed + arguments.seeds), []
    for env_id in chosen:
        settings = _settings(arguments, env_id)
        asked += attempts(arguments.agent, env_id, seeds, arguments.total_timesteps, settings.agent, settings.env)
    return certify_all(asked, where)


def _one(arguments: argparse.Namespace, env_id: str) -> Any:
    """One certificate, with a bar over all seeds together."""
    from emp_gym.agents.hyperparams import preset
    from emp_gym.training.certify import certify

    asked = _settings(arguments, env_id)
    budget = arguments.total_timesteps or preset(arguments.agent, env_id, asked.agent)[0]
    first, began = arguments.seed, time.monotonic()
    with ProgressBar(budget * arguments.seeds, env_id.removeprefix("emp-").removesuffix("-v0")) as bar:

        def progress(seed: int, steps: int) -> None:
            done = (seed - first) * budget + min(steps, budget)
            bar.update(done, {"time/fps": done / max(time.monotonic() - began, 1e-9)})

        return certify(
            arguments.agent, env_id, range(first, first + arguments.seeds), total_timesteps=budget, config=asked.agent,
            env_kwargs=asked.env, progress=progress,
        )  # fmt: skip


def _settings(arguments: argparse.Namespace, env_id: str) -> RunConfig:
    """Parameters of the agent, and of the environment that it learns in, from ``--set``; `ConfigError` for what they do not
    have, or what belongs to a run."""
    from emp_gym.runs.config import RunConfig, assignments, override, validate

    tree = assignments(arguments.set)
    for key in tree:
        if key not in ("agent", "env"):
            raise ConfigError(f"--set {key}: a certificate takes agent.KEY and env.KEY only, e.g. --set agent.gamma=0.9")
    return validate(override(RunConfig(env_id=env_id, agent_name=arguments.agent), tree))


def one_line(c: Any) -> str:
    """``cartea-jaimungal 0.97 [0.96, 0.98] passed``."""
    return " ".join(
        (c.env_id.removeprefix("emp-").removesuffix("-v0"), f"{c.score.mean:.3f}", _interval(c), verdict(c))
    )


def verdict(c: Any) -> str:
    """In one word; an optimum that is to hold is passed by trading nothing."""
    if c.abstention:
        return "abstains" if c.passed else "trades"
    return "passed" if c.passed else "not passed"


def _interval(c: Any) -> str:
    return "" if c.score.low is None else f"[{c.score.low:.3f}, {c.score.high:.3f}]"


def cells(c: Any) -> list[str]:
    """A row of the table."""
    name, value = c.base
    return [
        c.env_id.removeprefix("emp-").removesuffix("-v0"), f"{c.score.mean:.3f}", _interval(c), verdict(c),
        f"{c.optimum:.4g}", f"{name} {value:.4g}", f"{c.env_steps:,}", f"{c.seconds:.0f}",
    ]  # fmt: skip


def _table(agent: str, found: Sequence[Any], width: int) -> Any:
    runs = len(found[0].runs)
    return tables.table(
        f"{agent}: {runs} seed{'s' if runs > 1 else ''}", HEAD, [cells(certificate) for certificate in found], width,
        spare=SPARE, elsewhere="--json", texts=("verdict", "base"), strong=False,
    )  # fmt: skip


def reading(found: Sequence[Any]) -> str:
    """What the numbers mean."""
    passed = sum(c.passed for c in found)
    exact = all(run.exact for c in found for run in c.runs)
    sampled = "" if exact else ", or by common random numbers where states cannot be counted"
    return (
        f"{passed} of {len(found)} passed. Score = (J - J_base) / (J_optimum - J_base), interquartile mean over seeds with "
        f"its stratified bootstrap interval; the base is the best naive policy. J is exact{sampled}. Passed: score >= 0.95 "
        "with a lower bound >= 0.90; where the optimum is to hold, at most 0.01 lots a step in every seed."
    )
