"""The door for what others bring: markets, tasks, rewards, feature sets, gates and agents. Nothing is loaded before it is asked for.

========================  =======================================================================================
a market                  `BaseMarket`, `Market`, `MarketSpec`, `Named`, `Instrument`
a task                    `Task`, `Action`, `LEAVE`, `WITHDRAW`, `RequestType`, `Orders`
a reward                  `Reward`, `CASH_UNITS`
a feature set             `FeatureSet`, `Feature`
a gate                    `Gate`, `passed`, `Verdicts`
an agent                  `BaseAgent`, `Menu`
what they all read        `View`, `World`, `TradingStatus`, `OrderAck`, `MessageType`; errors of theirs: `ConfigError`, `DataError`
in annotations            `Bool`, `F32`, `F64`, `I8`, `I64`
========================  =======================================================================================

A page for each: docs/own_market.md, own_task.md, own_reward.md, own_features.md, own_gate.md, own_agent.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from emp_gym import renamed

if TYPE_CHECKING:
    from emp_gym.agents.base import BaseAgent
    from emp_gym.agents.baselines.action_layouts import Menu
    from emp_gym.envs.tasks import Reward, Task
    from emp_gym.market.base import Market, MarketSpec, Named
    from emp_gym.market.simple import BaseMarket
    from emp_gym.plugins import World
    from emp_gym.risk.gates import Gate, passed
    from emp_gym.sensory.sets import FeatureSet
    from emp_gym.types import (
        CASH_UNITS,
        F32,
        F64,
        I8,
        I64,
        LEAVE,
        WITHDRAW,
        Action,
        Bool,
        ConfigError,
        DataError,
        Feature,
        Instrument,
        MessageType,
        OrderAck,
        Orders,
        RequestType,
        TradingStatus,
        Verdicts,
        View,
    )  # fmt: skip

_FROM = {
    "emp_gym.agents.base": ("BaseAgent",),
    "emp_gym.agents.baselines.action_layouts": ("Menu",),
    "emp_gym.envs.tasks": ("Reward", "Task"),
    "emp_gym.market.base": ("Market", "MarketSpec", "Named"),
    "emp_gym.market.simple": ("BaseMarket",),
    "emp_gym.plugins": ("World",),
    "emp_gym.risk.gates": ("Gate", "passed"),
    "emp_gym.sensory.sets": ("FeatureSet",),
    "emp_gym.types": (
        "Action", "Bool", "CASH_UNITS", "ConfigError", "DataError", "F32", "F64", "Feature", "I64", "I8", "Instrument",
        "MessageType", "LEAVE",
        "RequestType", "Orders", "OrderAck", "TradingStatus", "Verdicts", "View", "WITHDRAW",
    ),
}  # fmt: skip
_MODULE = {name: module for module, names in _FROM.items() for name in names}

__all__ = [
    "CASH_UNITS",
    "F32",
    "F64",
    "I8",
    "I64",
    "LEAVE",
    "WITHDRAW",
    "Action",
    "BaseAgent",
    "BaseMarket",
    "Bool",
    "ConfigError",
    "DataError",
    "Feature",
    "FeatureSet",
    "Gate",
    "Instrument",
    "Market",
    "MarketSpec",
    "Menu",
    "MessageType",
    "Named",
    "OrderAck",
    "Orders",
    "RequestType",
    "Reward",
    "Task",
    "TradingStatus",
    "Verdicts",
    "View",
    "World",
    "passed",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    name = renamed.extend_now(name)
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE[name]), name)


def __dir__() -> list[str]:
    return __all__
