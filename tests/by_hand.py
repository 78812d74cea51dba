"""Agents built for observations that are written by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from gymnasium import spaces

from emp_gym.types import Feature

MENU, BOX, EXECUTION = spaces.Discrete(11), spaces.Box(-1.0, 1.0, (3,), np.float32), spaces.Discrete(6)


def build(
    cls: Any, action_space: Any, features: list[Feature], spec: dict[str, Any] | None = None, **config: Any
) -> Any:
    """An agent of class `cls` whose environment was made with the keywords `spec`."""
    made = SimpleNamespace(id="by-hand-v0", features=tuple(features), kwargs=spec or {})
    return cls(spaces.Box(-10, 10, (len(features),), np.float32), action_space, made, seed=0, **config)


def rows(*values: list[float]) -> np.ndarray:
    """Observations [N, D]."""
    return np.array(values, np.float32)
