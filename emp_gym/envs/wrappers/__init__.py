"""Wrappers that install layers of the house into an environment."""

from emp_gym.envs.wrappers.governance import (
    KillSwitchVectorWrapper,
    KillSwitchWrapper,
    StageVectorWrapper,
    StageWrapper,
)
from emp_gym.envs.wrappers.risk import RiskVectorWrapper, RiskWrapper, SafetyAdapter, SafetyVectorAdapter

__all__ = [
    "KillSwitchVectorWrapper",
    "KillSwitchWrapper",
    "RiskVectorWrapper",
    "RiskWrapper",
    "SafetyAdapter",
    "SafetyVectorAdapter",
    "StageVectorWrapper",
    "StageWrapper",
]
