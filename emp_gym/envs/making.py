"""What an environment is made of: market, task, reward and feature sets, from its keywords."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

from emp_gym.envs.tasks import Reward, Task
from emp_gym.market.base import MARKETS, Market
from emp_gym.plugins import Part, Plugin, PluginKind, deal, parameters
from emp_gym.sensory import sets
from emp_gym.sensory.sets import FeatureSet
from emp_gym.settings import shown
from emp_gym.types import ConfigError

TASKS = {
    "trade": "emp_gym.envs.tasks.trade:TradeBook",
    "make": "emp_gym.envs.tasks.make:MakeMarket",
    "execute": "emp_gym.envs.tasks.execute:ExecuteParent",
}
REWARDS = {
    "pnl": "emp_gym.envs.tasks.rewards:Pnl",
    "inventory": "emp_gym.envs.tasks.rewards:Inventory",
    "damped": "emp_gym.envs.tasks.rewards:Damped",
    "shortfall": "emp_gym.envs.tasks.rewards:Shortfall",
}
TASK = PluginKind("task", "emp_gym.tasks", TASKS, lambda cls: issubclass(cls, Task), "a task: a class derived from emp_gym.envs.tasks.Task")
REWARD = PluginKind(
    "reward", "emp_gym.rewards", REWARDS, lambda cls: issubclass(cls, Reward), "a reward: a class derived from emp_gym.envs.tasks.Reward"
)
ARGUMENTS = (
    "split", "market", "every", "episode", "levels", "gates", "info", "threads", "autoreset_mode", "render_mode", "num_envs",
    "max_episode_steps",
)  # fmt: skip
"""Keywords of every environment, whatever it is made of."""
KEYWORDS = (*ARGUMENTS, "task", "reward", "features")


class Made(NamedTuple):
    """What one environment is made of, its own."""

    market: type[Market]
    config: Any  # of the market
    task: Task
    reward: Reward
    reward_name: str
    sets: tuple[FeatureSet, ...]


def put_together(market: Any, task: Any, reward: Any, features: Any, keywords: Mapping[str, Any]) -> Made:
    """Market, task, reward and feature sets: each a name, ``module:Class``, a mapping with parameters, a class or (but for a market) an
    object; None: what the task says. `keywords` are parameters of theirs: `UnknownKeyword` names the nearest where nobody takes one."""
    of_market, of_task = MARKETS.part(market), TASK.part(task)
    if of_market.made is not None:
        raise ConfigError(f"a market ({of_market.name}) is made for its lanes: give its class or name, and its parameters in a mapping")
    kind: type[Task] = of_task.cls
    of_reward = REWARD.part(kind.rewards[0] if reward is None else reward)
    _stop_if_of_another_task(of_task.name, kind, of_reward)
    of_sets = sets.parts(features, kind.features)
    parts = [of_market, of_task, of_reward, *of_sets]
    for part in parts:
        if taken := [name for name in part.takes if name in KEYWORDS]:
            raise ConfigError(f"{part.title} has a parameter {taken[0]!r}, which is a keyword of the environment itself: rename it")
    for key, value in keywords.items():
        users = [name for name, part in _ours() if key in part]
        if users and not any(key in part.takes for part in parts):
            raise ConfigError(
                f"{key} means nothing to the task {of_task.name!r}, only to {' and '.join(users)}, got {shown(value)}; leave it out"
            )
    deal(keywords, parts, KEYWORDS)
    config, own_task, own_reward, *own_sets = [copy.deepcopy(part.make()) if part.made is not None else part.make() for part in parts]
    return Made(of_market.cls, config, own_task, own_reward, of_reward.name, tuple(own_sets))


def _stop_if_of_another_task(name: str, kind: type[Task], reward: Part) -> None:
    """`ConfigError` for a reward of ours that does not fit."""
    fitting = [entry for entry in kind.rewards if isinstance(entry, str)]
    if reward.cls in [REWARD.find(ours) for ours in REWARDS if ours not in fitting]:
        raise ConfigError(
            f"reward must be one of {fitting} for the task {name!r}, or one of your own (module:Class), got {shown(reward.name)}"
        )


def _ours() -> list[tuple[str, set[str]]]:
    """Names of our tasks, and the parameters of each and of its rewards."""
    tasks: list[tuple[str, type[Task]]] = [(name, TASK.find(name)) for name in sorted(TASKS)]
    return [(name, {*parameters(cls), *(key for each in cls.rewards for key in parameters(REWARD.find(each)))}) for name, cls in tasks]


def described(plugin: Plugin) -> str:
    """Class and parameters of a plug-in: where they are the same, so is what its arrays mean."""
    kind = type(plugin)
    told: list[str] = [f"{each.name}={getattr(plugin, each.name)!r}" for each in fields(plugin)] if is_dataclass(plugin) else []
    return f"{kind.__module__}:{kind.__qualname__} {told}"
