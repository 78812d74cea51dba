"""Proximal policy optimisation: Stable-Baselines3's PPO with large-batch defaults for native vector environments.

The algorithm is SB3's (Schulman et al. 2017, arXiv 1707.06347). What is ours is around it: rollouts without Python work per
lane (`training`), minibatches of rows or of whole sequences (`rollout`), a network with an encoder by name, masks as in
MaskablePPO and actions around a baseline (`policy`, `residual`), own random generators, and files without pickles.
"""

from emp_gym.extras import told

try:
    from emp_gym.agents.ppo.agent import PPO
    from emp_gym.agents.ppo.config import PPOConfig
except ModuleNotFoundError as error:
    raise told(error) or error from error

__all__ = ["PPO", "PPOConfig"]
