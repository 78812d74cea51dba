"""Algorithms of Stable-Baselines3 and sb3-contrib, each an agent in a few lines.

python scripts/train.py --env emp-lob-v0 --agent sb3_agents:A2C        (with this folder on PYTHONPATH)
"""

import sb3_contrib
import stable_baselines3 as sb3

from emp_gym.agents.adapters import SB3Agent


class A2C(SB3Agent):
    algorithm = sb3.A2C
    num_envs = 64
    parameters = {"n_steps": 16, "gamma": 0.97, "policy_kwargs": {"net_arch": [32, 32]}}


class Recurrent(SB3Agent):
    """Its LSTM state is the agent's state, lanes first; it starts afresh where an episode ends."""

    algorithm = sb3_contrib.RecurrentPPO
    policy = "MlpLstmPolicy"
    num_envs = 32
    parameters = {"n_steps": 64, "batch_size": 512, "n_epochs": 2, "policy_kwargs": {"lstm_hidden_size": 16}}


class Maskable(SB3Agent):
    """Learns with the action masks of menus."""

    algorithm = sb3_contrib.MaskablePPO
    num_envs = 32
    parameters = {"n_steps": 64, "batch_size": 512, "n_epochs": 2}


class QuantileDQN(SB3Agent):
    """Off-policy: a replay buffer, exploration by chance while it learns, none when it acts."""

    algorithm = sb3_contrib.QRDQN
    parameters = {"buffer_size": 20_000, "learning_starts": 500, "train_freq": 4, "batch_size": 64}
