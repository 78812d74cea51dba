"""Agents built for observations that are written by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from gymnasium import spaces

from emp_gym.envs.about import MARKET, EnvInfo
from emp_gym.envs.tasks import ExecuteParent, MakeMarket, TradeBook
from emp_gym.types import Feature

MENU, BOX, EXECUTION = TradeBook, MakeMarket, ExecuteParent
KEEP, QUOTE_BOTH, BUY, SELL, FLATTEN = 0, 1, 7, 8, 10  # entries of MENU's table, as its docstring has them
TAKE_ONE, TAKE_TWO = 3, 4  # and of EXECUTION's


def build(
    cls: Any, task: Any, features: list[Feature], spec: dict[str, Any] | None = None, **config: Any
) -> Any:
    """An agent of class `cls` whose environment has `task` and was made with the keywords `spec`; `task` may be a space, of whose
    actions nothing is known."""
    made, space = SimpleNamespace(id="by-hand-v0", features=tuple(features)), task
    if not isinstance(task, spaces.Space):
        keywords = {"episode": "256 decisions"} | (spec or {})
        episode = int(keywords.pop("episode").split()[0])
        own = task(**keywords)
        made.about = EnvInfo(
            MARKET, made.id, made.features, own, episode=episode, actions=own.actions, relative=own.relative, levers=own.levers
        )  # fmt: skip
        space = own.action_space
    return cls(spaces.Box(-10, 10, (len(features),), np.float32), space, made, seed=0, **config)


def rows(*values: list[float]) -> np.ndarray:
    """Observations [N, D]."""
    return np.array(values, np.float32)
