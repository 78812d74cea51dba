"""Agents behind one small batched protocol (`emp_gym.agents.base`), found by name (`emp_gym.agents.registry`).
The rules to be measured against are in `emp_gym.agents.baselines`.

Importing this package loads no torch: learners are imported when they are asked for.
"""

from emp_gym.agents.registry import UnknownAgent, find

__all__ = ["UnknownAgent", "find"]
