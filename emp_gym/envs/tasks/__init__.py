"""Tasks: what an action means, what is observed, what is rewarded, when an episode ends. A task knows no market's insides."""

from emp_gym.envs.tasks.base import Task
from emp_gym.envs.tasks.execute import ExecuteParent
from emp_gym.envs.tasks.make import MakeMarket
from emp_gym.envs.tasks.rewards import Reward
from emp_gym.envs.tasks.trade import TradeBook

__all__ = ["ExecuteParent", "MakeMarket", "Reward", "Task", "TradeBook"]
