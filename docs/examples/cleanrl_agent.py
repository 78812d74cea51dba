"""An agent of CleanRL's ppo.py, word for word, and the two lines that make it one here.

python scripts/train.py --env emp-lob-v0 --agent cleanrl_agent:CleanRL        (with this folder on PYTHONPATH)
"""

import numpy as np
import torch
from torch import nn
from torch.distributions.categorical import Categorical

from emp_gym.agents.adapters import TorchAgent, TorchFile


def layer_init(layer, std=np.sqrt(2), bias_const=0.0):  # noqa: B008
    torch.nn.init.orthogonal_(layer.weight, std)
    torch.nn.init.constant_(layer.bias, bias_const)
    return layer


class Agent(nn.Module):
    def __init__(self, envs):
        super().__init__()
        self.critic = nn.Sequential(
            layer_init(nn.Linear(np.array(envs.single_observation_space.shape).prod(), 64)),
            nn.Tanh(),
            layer_init(nn.Linear(64, 64)),
            nn.Tanh(),
            layer_init(nn.Linear(64, 1), std=1.0),
        )
        self.actor = nn.Sequential(
            layer_init(nn.Linear(np.array(envs.single_observation_space.shape).prod(), 64)),
            nn.Tanh(),
            layer_init(nn.Linear(64, 64)),
            nn.Tanh(),
            layer_init(nn.Linear(64, envs.single_action_space.n), std=0.01),
        )

    def get_value(self, x):
        return self.critic(x)

    def get_action_and_value(self, x, action=None):
        logits = self.actor(x)
        probs = Categorical(logits=logits)
        if action is None:
            action = probs.sample()
        return action, probs.log_prob(action), probs.entropy(), self.critic(x)


class CleanRL(TorchAgent):
    network = Agent


class CleanRLFile(TorchFile):
    """Acts with what ``torch.save(agent.state_dict(), path)`` left."""

    network = Agent
