"""An agent that learns: which way, and how far, a feature must lean before it takes a side."""

from dataclasses import dataclass

import numpy as np

from emp_gym.extend import BaseAgent, Menu

RULES = np.array([(threshold, way) for threshold in (0.0, 0.2, 0.4, 0.6) for way in (1, -1)], np.float32)


@dataclass(frozen=True)
class FollowConfig:
    """Parameters, each a ``--set agent.NAME=VALUE``."""

    feature: str = "imbalance_1"
    num_envs: int = 64  # lanes that try the rules side by side


class Follow(BaseAgent):
    """Takes the side to which a feature leans, or the other one, whichever has paid in training."""

    Config = FollowConfig

    def __init__(self, observation_space, action_space, spec=None, seed=0, **config):
        super().__init__(observation_space, action_space, spec, seed, **config)
        self.menu = Menu.of(spec)
        self.sides = np.array([self.menu.more(-1), self.menu.flatten, self.menu.more(1)])
        self.rule = RULES[:1]  # (threshold, way)

    def act(self, observation, state, mask=None):
        return self._actions(observation, self.rule, mask), state

    def _actions(self, observation, rule, mask):
        """Actions [N] of rules [N, 2], or of one for all."""
        lean = self.value(observation, self.config.feature)
        side = np.sign(lean) * (np.abs(lean) > rule[:, 0]) * rule[:, 1]
        return self.menu.allowed(self.sides[side.astype(np.int64) + 1], mask)

    def learn(self, make_env, total_timesteps, callback=None):
        env = make_env(num_envs=self.config.num_envs)
        which = np.arange(env.num_envs) % len(RULES)
        gained, steps = np.zeros(len(RULES)), 0
        observation, info = env.reset(seed=self.seed)
        while steps < total_timesteps:
            action = self._actions(observation, RULES[which], info.get("action_mask"))
            observation, reward, *_, info = env.step(action)
            gained += np.bincount(which, reward, len(RULES))
            steps += env.num_envs
            self.rule = RULES[[gained.argmax()]]
            if callback is not None and callback(steps, {"follow/best": float(gained.max())}) is False:
                break
        env.close()

    def arrays(self):
        return {"rule": self.rule}

    def restore(self, arrays):
        self.rule = arrays["rule"]
