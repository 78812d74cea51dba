"""Wrappers that install layers of the house into an environment."""

from emp_gym.envs.wrappers.risk import RiskVectorWrapper, RiskWrapper, SafetyAdapter, SafetyVectorAdapter

__all__ = ["RiskVectorWrapper", "RiskWrapper", "SafetyAdapter", "SafetyVectorAdapter"]
