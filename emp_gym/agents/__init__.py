"""Agents behind one small batched protocol (`emp_gym.agents.base`), found by name (`emp_gym.agents.registry`).

Importing this package loads no torch: learners are imported when they are asked for.
"""

from emp_gym.agents.registry import UnknownAgent, baselines, find, names

__all__ = ["UnknownAgent", "baselines", "find", "names"]
