"""Agents of other libraries as agents here: Stable-Baselines3 and sb3-contrib, torch modules as CleanRL writes them, RLlib.

Each library is imported when its adapter is: ``from emp_gym.agents.adapters import SB3Agent`` needs SB3 only.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from emp_gym.extras import told

if TYPE_CHECKING:
    from emp_gym.agents.adapters.rllib import RLlibCheckpoint as RLlibCheckpoint
    from emp_gym.agents.adapters.rllib import RLlibPPO as RLlibPPO
    from emp_gym.agents.adapters.sb3 import SB3Agent as SB3Agent
    from emp_gym.agents.adapters.sb3 import SB3Policy as SB3Policy
    from emp_gym.agents.adapters.sb3 import SB3Zip as SB3Zip
    from emp_gym.agents.adapters.torch import TorchAgent as TorchAgent
    from emp_gym.agents.adapters.torch import TorchFile as TorchFile

HOME = {
    "SB3Agent": "sb3", "SB3Policy": "sb3", "SB3Zip": "sb3", "TorchAgent": "torch", "TorchFile": "torch",
    "RLlibPPO": "rllib", "RLlibPolicy": "rllib", "RLlibCheckpoint": "rllib",
}  # fmt: skip
"""Adapter -> the module that it lives in."""


def __getattr__(name: str) -> Any:
    if name in HOME:
        try:
            return getattr(importlib.import_module(f"{__name__}.{HOME[name]}"), name)
        except ModuleNotFoundError as error:
            raise told(error) or error from error
    raise AttributeError(f"{__name__} has no adapter {name!r}; it has {', '.join(HOME)}")


__all__ = ["RLlibCheckpoint", "RLlibPPO", "SB3Agent", "SB3Policy", "SB3Zip", "TorchAgent", "TorchFile"]
