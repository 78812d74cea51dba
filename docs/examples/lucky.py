"""An agent without skill: at the first decision of an episode it buys or sells one clip, by a coin that its seed tosses.

Forty of them on days where nothing can be predicted, and the best one looks like a discovery: docs/governance.md uses it
to show how a search is refused. ``--agent lucky:Lucky`` with this folder on ``PYTHONPATH``.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from emp_gym.agents.base import BaseAgent
from emp_gym.agents.baselines import Menu
from emp_gym.types import F32, Bool


class Lucky(BaseAgent):
    """State: decisions taken in the episode, int64 [N]."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._menu = Menu.of(self.spec)  # what the entries of the task's table do

    def initial_state(self, lanes: int) -> np.ndarray:
        return np.zeros(lanes, np.int64)

    def act(self, observation: F32, state: Any, mask: Bool | None = None) -> tuple[np.ndarray, Any]:
        coin = [hashlib.sha256(f"{self.seed}".encode() + row.tobytes()).digest()[0] & 1 for row in observation]
        menu = self._menu
        wanted = np.where(state == 0, np.where(coin, menu.one(1), menu.one(-1)), menu.keep)
        return menu.allowed(wanted, mask), state + 1
