"""EMP Gym: recorded and simulated markets as Gymnasium environments.

``import emp_gym`` registers the environment ids and loads nothing heavy (no torch, numba, pandas or stable-baselines3).
"""

from emp_gym.envs import register_all

__version__ = "0.1.0"

register_all()
