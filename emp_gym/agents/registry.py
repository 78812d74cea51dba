"""Agents by name: the built-in ones, those that installed packages offer, and any ``module:Class``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from emp_gym import renamed
from emp_gym.agents.base import parameters
from emp_gym.agents.baselines import TABLE, Menu, suited
from emp_gym.envs import CERTIFICATES, ENVIRONMENTS
from emp_gym.plugins import PluginKind
from emp_gym.trust import MissingPackage as MissingPackage
from emp_gym.types import ConfigError

BUILT_IN = {
    "ppo": "emp_gym.agents.ppo:PPO",
    "muzero": "emp_gym.agents.muzero.agent:MuZero",
    "rllib-ppo": "emp_gym.agents.adapters.rllib:RLlibPPO",
    "optimal": "emp_gym.agents.optimal_policies:Optimal",
    "naive": "emp_gym.agents.optimal_policies:Naive",
    **{row.name: f"{row.agent.__module__}:{row.agent.__qualname__}" for row in TABLE},
}

BASELINES: dict[str, tuple[str, ...]] = dict.fromkeys(CERTIFICATES, ("naive", "random", "optimal"))
"""What an evaluation compares with, by environment id; of an order book it follows from what the task's actions do."""
HOMES = (*ENVIRONMENTS, *BASELINES)


class UnknownAgent(ConfigError):
    """No agent of that name; the message names the nearest."""


AGENTS = PluginKind(
    "agent", "emp_gym.agents", BUILT_IN, lambda cls: callable(getattr(cls, "act", None)), "an agent class (it has no act method)",
    unknown=UnknownAgent,
)  # fmt: skip
"""How agents are found; every one that can be asked for by name: ``AGENTS.names()``."""


def find(name: str) -> type:
    """The agent class called `name`: built in, offered by an installed package, or ``module:Class``.

    Raises `UnknownAgent` naming the nearest, `MissingPackage` with the pip line.
    """
    # Before torch is loaded: idle OpenMP threads should sleep instead of spin. On a busy machine torch's many small
    # parallel regions are else 20 times slower. The user's own setting wins.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return AGENTS.find(name)


def configured(name: str, config: Mapping[str, Any] | None = None) -> tuple[type, dict[str, Any]]:
    """The class that `name` means with the parameters `config`, and the parameters that it takes.

    ``memory=faiss`` or ``memory=numpy`` makes any agent that learns one with a memory beside it (`emp_gym.agents.memory_agent`);
    ``memory=none`` says that there is none. An agent that has a parameter of that name keeps it.
    """
    cls = find(name)
    config = renamed.parameters(config or {}, parameters(cls) or ())
    if "memory" not in config or "memory" in (parameters(cls) or ()):
        return cls, config
    if config["memory"] in (None, "none"):
        return cls, {key: value for key, value in config.items() if key != "memory"}
    from emp_gym.agents.memory_agent import remembering

    return remembering(cls), config


def baselines(env_id: str, keywords: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """Names of the baselines that an evaluation on `env_id`, made with `keywords`, compares with."""
    name = env_id.rpartition(":")[2]
    return BASELINES[name] if name in BASELINES else suited(_menu(name, keywords or {}))


def unsuited(env_id: str, keywords: Mapping[str, Any]) -> dict[str, str]:
    """Baselines of `env_id` that cannot act where it is made with `keywords`, by name: why."""
    there, usual = baselines(env_id, keywords), baselines(env_id)
    left = [row for row in TABLE if row.name in usual and row.name not in there]
    return {row.name: f"for actions that {row.agent.able.says}" for row in left}


def _menu(name: str, keywords: Mapping[str, Any]) -> Menu:
    """Of an environment's task; of one that is not ours nothing is known before it is made."""
    from emp_gym.envs.making import TASK

    spec = gym.registry.get(name)
    task = None if spec is None else {**spec.kwargs, **keywords}.get("task")
    if spec is None or task is None or not str(spec.vector_entry_point).startswith("emp_gym.envs.trading:"):
        return Menu()
    cls: Any = TASK.part(task).cls
    return Menu(cls.actions, cls.relative, cls.levers)
