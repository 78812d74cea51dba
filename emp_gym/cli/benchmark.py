"""``benchmark``: speed of reading, replay, environments (beside busy processes too), training, the log, the risk layer, the diary,
the certificates and the planner, with what proves it; what agents are worth."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from emp_gym.benchmarks.figures import SMALL, Effort, Figures, shown
from emp_gym.cli import executors, user_modules
from emp_gym.terminal.console import guarded
from emp_gym.terminal.flags import Parser
from emp_gym.terminal.obstacles import writing

NAMES = ("parse", "replay", "env", "busy", "train", "log", "risk", "diary", "certificates", "planning", "backbones", "agents")
OF_AGENTS = ("agents", "seeds", "seed", "budget", "only", "out", "engine")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``scripts/benchmark.py``; returns the exit code (2: what was asked for could not be done)."""
    return guarded(lambda: _run(_arguments(argv)), "benchmark")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, where what is said goes together."""
    parser = Parser(prog="benchmark", description=__doc__)
    parser.add_argument("name", choices=NAMES, help="what to measure")
    parser.add_argument("--json", action="store_true", help="print one flat JSON object on stdout and nothing else")
    parser.add_argument("--data", nargs="+", metavar="DAY", help="LOBSTER days or .tape folders (default: synthetic)")
    parser.add_argument("--repeats", type=int, metavar="N", help="samples a figure (default: 3)")
    parser.add_argument("--seconds", type=float, metavar="S", help="at least, per sample (default: 0.4)")
    parser.add_argument("--small", action="store_true", help="a few seconds: shows that it runs, not how fast")
    parser.add_argument("--long", action="store_true", help="env: watch memory over ten million steps")
    parser.add_argument("--agents", nargs="+", metavar="NAME", help="agents: who takes part, with parameters in "
                        "brackets where wanted: 'ppo[memory=faiss]' (default: ppo hold random)")  # fmt: skip
    parser.add_argument("--seeds", type=int, metavar="K", help="agents: training runs each (default: 5)")
    parser.add_argument("--seed", type=int, metavar="N", help="agents: the first of them (default: 0)")
    parser.add_argument("--budget", type=int, metavar="N", help="agents: training steps of every run (default: the "
                        "agent's own, see emp_gym/agents/hyperparams.py)")  # fmt: skip
    parser.add_argument("--only", nargs="+", metavar="ID", help="agents: on these environments (default: all)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="agents: where cells and table are kept and found again "
                        "(default: runs/benchmark-agents)")  # fmt: skip
    executors.add_arguments(parser, "agents: cells")
    arguments = parser.parse_args(argv)
    if arguments.long and arguments.name != "env":
        parser.error("--long belongs to env")
    for name in OF_AGENTS:
        if getattr(arguments, name) is not None and arguments.name != "agents":
            parser.error(f"--{name} belongs to agents")
    return arguments


def _run(arguments: argparse.Namespace) -> int:
    user_modules.admit(arguments)
    with writing(arguments.out or Path("runs/benchmark-agents")):
        figures = _measure(arguments)
    if arguments.json:
        sys.stdout.write(json.dumps(figures.values) + "\n")
    else:
        _show(arguments.name, figures)
    return 0


def _measure(arguments: argparse.Namespace) -> Figures:
    effort: Effort = SMALL if arguments.small else Effort()
    if arguments.repeats is not None:
        effort = replace(effort, repeats=max(1, arguments.repeats))
    if arguments.seconds is not None:
        effort = replace(effort, seconds=arguments.seconds)
    figures = Figures()
    module = importlib.import_module(f"emp_gym.benchmarks.{arguments.name}")
    options: dict[str, Any] = {"long": arguments.long} if arguments.name == "env" else {}
    if arguments.name == "agents":
        chosen = [name for name in OF_AGENTS if name != "engine"]
        options = {name: value for name in chosen if (value := getattr(arguments, name)) is not None}
        with executors.opened(arguments) as where:
            module.measure(figures, effort, arguments.data, where=where, **options)
        return figures
    module.measure(figures, effort, arguments.data, **options)
    return figures


def _show(name: str, figures: Figures) -> None:
    from emp_gym.terminal import tables
    from emp_gym.terminal.console import console

    out = console()
    rows = [
        (figure, *(shown(value[column]) for column in ("median", "min", "max")), value["unit"])
        for figure, value in figures.values.items()
    ]
    out.print(tables.table(
        f"benchmark {name}", ("figure", "median", "min", "max", "unit"), rows, out.width,
        spare=("max", "min"), elsewhere="--json", texts=("unit",), strong=False,
    ))  # fmt: skip
