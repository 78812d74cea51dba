"""Kill switch and stage guard as Gymnasium wrappers: each installs one gate, which does what `gates=` would make it do.

``info["truncated_by"]`` (`emp_gym.types.TruncationReason`, i8 [N] or a number) says why an episode was ended. Wrappers stack in any order:
the kill switch always comes last between agent and market.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.vector import VectorEnv

from emp_gym.envs.base_env import NativeWrapper
from emp_gym.envs.wrappers.risk import install
from emp_gym.governance.kill_switch.gate import KillGate
from emp_gym.governance.promotion.stages import StageGate

__all__ = ["KillSwitchVectorWrapper", "KillSwitchWrapper", "StageVectorWrapper", "StageWrapper"]


class KillSwitchWrapper(gym.Wrapper):
    """A scalar environment behind the kill switch of `folder`; `options` are those of `KillGate`."""

    def __init__(self, env: gym.Env, folder: str | Path | None = None, **options: Any) -> None:
        super().__init__(env)
        self.gate = install(env, KillGate(folder, **options))


class KillSwitchVectorWrapper(NativeWrapper):
    """`KillSwitchWrapper` for a native vector environment; one gate for all lanes."""

    def __init__(self, env: VectorEnv, folder: str | Path | None = None, **options: Any) -> None:
        super().__init__(env)
        self.gate = install(env, KillGate(folder, **options))


class StageWrapper(gym.Wrapper):
    """A scalar environment in which a policy may do what its `stage` allows; `options` are those of `StageGate`."""

    def __init__(self, env: gym.Env, stage: str | Callable[[], str] | None = None, **options: Any) -> None:
        super().__init__(env)
        self.gate = install(env, StageGate(stage, **options))


class StageVectorWrapper(NativeWrapper):
    """`StageWrapper` for a native vector environment; one gate for all lanes."""

    def __init__(self, env: VectorEnv, stage: str | Callable[[], str] | None = None, **options: Any) -> None:
        super().__init__(env)
        self.gate = install(env, StageGate(stage, **options))
