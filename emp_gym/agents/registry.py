"""Agents by name: the built-in ones, those that installed packages offer, and any ``module:Class``."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from emp_gym.agents.base import parameters
from emp_gym.agents.baselines import TABLE
from emp_gym.agents.names import nearest
from emp_gym.envs import CERTIFICATES, ENVIRONMENTS
from emp_gym.types import ConfigError

GROUP = "emp_gym.agents"
"""Entry-point group in which a package offers agents: ``name = module:Class``."""

BUILT_IN = {
    "ppo": "emp_gym.agents.ppo:PPO",
    "muzero": "emp_gym.agents.muzero.agent:MuZero",
    "rllib-ppo": "emp_gym.agents.adapters.rllib:RLlibPPO",
    "optimal": "emp_gym.agents.certified:Optimal",
    "naive": "emp_gym.agents.certified:Naive",
    **{row.name: f"{row.agent.__module__}:{row.agent.__qualname__}" for row in TABLE},
}

BASELINES = {
    env_id: tuple(row.name for row in TABLE if env_id in row.tasks) for env_id in ENVIRONMENTS
} | dict.fromkeys(CERTIFICATES, ("naive", "random", "optimal"))
"""What an evaluation compares with, by environment id."""


class UnknownAgent(ConfigError):
    """No agent of that name; the message names the nearest."""


class MissingPackage(ConfigError):
    """An agent needs a package that is not installed; the message has the pip line."""


def installed() -> dict[str, Any]:
    """Entry points of installed packages by name."""
    return {point.name: point for point in entry_points(group=GROUP)}


def names() -> list[str]:
    """Every agent that can be asked for by name."""
    return sorted({*BUILT_IN, *installed()})


def find(name: str) -> type:
    """The agent class called `name`: built in, offered by an installed package, or ``module:Class``.

    Raises `UnknownAgent` naming the nearest, `MissingPackage` with the pip line.
    """
    if name in BUILT_IN:
        return _import(name, BUILT_IN[name])
    point = installed().get(name)
    if point is not None:
        return _import(name, point.value)
    if ":" in name:
        return _import(name, name)
    raise UnknownAgent(f"no agent is called {name!r}; did you mean {nearest(name, names())}? (or module:Class)")


def configured(name: str, config: Mapping[str, Any] | None = None) -> tuple[type, dict[str, Any]]:
    """The class that `name` means with the parameters `config`, and the parameters that it takes.

    ``memory=faiss`` or ``memory=numpy`` makes any agent that learns one with a memory beside it (`emp_gym.agents.remembering`);
    ``memory=none`` says that there is none. An agent that has a parameter of that name keeps it.
    """
    cls, config = find(name), dict(config or {})
    if "memory" not in config or "memory" in (parameters(cls) or ()):
        return cls, config
    if config["memory"] in (None, "none"):
        return cls, {key: value for key, value in config.items() if key != "memory"}
    from emp_gym.agents.remembering import remembering

    return remembering(cls), config


def _import(name: str, path: str) -> type:
    module, _, attribute = path.partition(":")
    # Before torch is loaded: idle OpenMP threads should sleep instead of spin. On a busy machine torch's many small
    # parallel regions are else 20 times slower. The user's own setting wins.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not all(part.isidentifier() for part in module.split(".")):
        raise UnknownAgent(f"agent {name!r}: {module!r} is no module; expected module:Class, e.g. my_agents:DQN for a my_agents.py here")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if missing == module or module.startswith(missing + "."):
            raise UnknownAgent(f"agent {name!r}: there is no module {missing!r} on the path ({HERE})") from error
        package = PIP_NAMES.get(missing.split(".")[0], missing.split(".")[0])
        raise MissingPackage(f"agent {name!r} needs the package {missing!r}: pip install {package}") from error
    if not hasattr(found, attribute):
        classes = [key for key, value in vars(found).items() if isinstance(value, type)]
        raise UnknownAgent(
            f"agent {name!r}: {module} has no {attribute!r}; did you mean {nearest(attribute, classes)}?"
        )
    cls = getattr(found, attribute)
    if not isinstance(cls, type) or not callable(getattr(cls, "act", None)):
        raise UnknownAgent(f"agent {name!r}: {path} is not an agent class (it has no act method)")
    return cls


HERE = "one in the working folder is found when the command line names it; else say where: PYTHONPATH=FOLDER"

PIP_NAMES = {"stable_baselines3": "stable-baselines3", "sb3_contrib": "sb3-contrib", "ray": '"emp-gym[ray]"', "yaml": "pyyaml"}
"""Packages that pip knows under another name than Python."""


def baselines(env_id: str) -> tuple[str, ...]:
    """Names of the baselines that an evaluation on `env_id` compares with."""
    return BASELINES.get(env_id.rpartition(":")[2], ("hold", "random"))
