"""A torch module as CleanRL writes them as an agent.

``class MyAgent(TorchAgent): network = Agent`` is one, where ``Agent(envs)`` is built from ``envs.single_observation_space`` and
``envs.single_action_space`` and has ``get_value(x)`` and ``get_action_and_value(x, action=None)``, which gives action,
log-probability, entropy and value. It learns by PPO as in CleanRL's single files (Huang et al. 2022, "The 37 implementation
details"), with one difference: where an episode is cut rather than finished, the value of what was cut off is added.

Masked actions are executed as "keep" while it learns and get no chance when it acts. No memory: a module with an LSTM needs
an ``act`` and a ``learn`` of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import nn

from emp_gym.agents.adapters.foreign import Generators, Threads, foreign_weights, load_weights, weights_of
from emp_gym.agents.base import Arrays, BaseAgent, Callback
from emp_gym.types import F32, Bool, ConfigError, MakeEnv


class TorchPolicy(BaseAgent):
    """Acts with the module that `network` builds."""

    network: ClassVar[Callable[[Any], nn.Module] | None] = None

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        spec: Any = None,
        seed: int = 0,
        **config: Any,
    ) -> None:
        super().__init__(observation_space, action_space, spec, seed, **config)
        build = type(self).network
        if build is None:
            raise ConfigError(f"{type(self).__name__} needs a network: `network = YourModule` in the class")
        self.menu = int(action_space.n) if isinstance(action_space, spaces.Discrete) else 0
        envs = SimpleNamespace(single_observation_space=observation_space, single_action_space=action_space)
        self.generators = Generators(seed)
        with self.generators:
            try:
                self.module: Any = build(envs)
            except AttributeError as error:  # e.g. a network for menus asks a Box for its n
                raise ConfigError(f"{type(self).__name__} cannot be built for {action_space}: {error}") from error
        if not self.menu and type(self).mean is TorchPolicy.mean and not hasattr(self.module, "actor_mean"):
            raise ConfigError(f"{type(self).__name__}: the module has no actor_mean; define mean(self, x), actions [N, K]")

    # ---- acting

    @torch.no_grad()
    def act(self, observation: F32, state: Any, mask: Bool | None = None) -> tuple[np.ndarray, Any]:
        self.module.eval()
        x = torch.as_tensor(observation, dtype=torch.float32)
        if not self.menu:
            assert isinstance(self.action_space, spaces.Box)
            return np.clip(self.mean(x).numpy(), self.action_space.low, self.action_space.high), state
        scores = self.scores(x)
        if mask is not None:
            scores = scores.masked_fill(~torch.as_tensor(mask, dtype=torch.bool), -torch.inf)
        return scores.argmax(dim=1).numpy(), state

    def scores(self, x: torch.Tensor) -> torch.Tensor:
        """Scores [N, A] of a menu's actions: their log-probabilities, asked of the module one by one in one batch."""
        rows, actions = x.repeat_interleave(self.menu, dim=0), torch.arange(self.menu).repeat(len(x))
        with self.generators:
            return self.module.get_action_and_value(rows, actions)[1].reshape(len(x), self.menu)

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """Actions [N, K] without noise: the module's ``actor_mean``."""
        return self.module.actor_mean(x)

    # ---- files

    def arrays(self) -> Arrays:
        return weights_of(self.module)

    def restore(self, arrays: Arrays) -> None:
        load_weights(self.module, arrays, type(self).__name__)


@dataclass(frozen=True)
class TorchConfig:
    """Parameters of `TorchAgent`'s PPO, under CleanRL's names where it has one."""

    num_envs: int = 64  # lanes
    num_steps: int = 64  # decisions per lane and rollout
    num_minibatches: int = 4
    update_epochs: int = 4
    learning_rate: float = 2.5e-3
    anneal_lr: bool = True  # to 0, linearly
    gamma: float = 0.97
    gae_lambda: float = 0.9
    clip_coef: float = 0.2
    ent_coef: float = 0.002
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5


class TorchAgent(TorchPolicy):
    """Learns and acts with the module that `network` builds."""

    Config: ClassVar[type | None] = TorchConfig
    config: TorchConfig
    num_timesteps = 0

    @property
    def rollout_steps(self) -> int:
        """Steps of a rollout over all lanes; `learn` ends with a whole one."""
        return self.config.num_envs * self.config.num_steps

    def learn(self, make_env: MakeEnv, total_timesteps: int, callback: Callback | None = None) -> None:
        """Trains until `total_timesteps` steps over all lanes have been seen since the first call."""
        c = self.config
        env = make_env(num_envs=c.num_envs)
        self.module.train()
        optimiser = torch.optim.Adam(self.module.parameters(), lr=c.learning_rate, eps=1e-5)
        first = self.num_timesteps
        try:
            with self.generators, Threads():
                seed = int(np.random.SeedSequence([self.seed, first]).generate_state(1)[0])
                rollouts = self._rollouts(env, seed)
                while self.num_timesteps < total_timesteps:
                    if c.anneal_lr:
                        left = (total_timesteps - self.num_timesteps) / (total_timesteps - first)
                        optimiser.param_groups[0]["lr"] = c.learning_rate * left
                    scalars = self._update(optimiser, next(rollouts))
                    self.num_timesteps += c.num_steps * env.num_envs
                    if callback is not None and callback(self.num_timesteps, scalars) is False:
                        break
        finally:
            env.close()

    @torch.no_grad()
    def _rollouts(self, env: Any, seed: int) -> Iterator[dict[str, torch.Tensor]]:
        """Rollouts without end, arrays [T, N, ...]; the environment resets in the same step."""
        c = self.config
        observation = env.reset(seed=seed)[0]
        while True:
            columns: dict[str, list[torch.Tensor]] = {}
            for _ in range(c.num_steps):
                x = torch.from_numpy(np.array(observation, np.float32))
                action, log_prob, _, value = self.module.get_action_and_value(x)
                observation, reward, terminated, truncated, info = env.step(self._performed(action))
                reward, done = torch.from_numpy(np.array(reward, np.float32)), terminated | truncated
                cut = np.flatnonzero(truncated & ~terminated)
                if len(cut):
                    last = torch.from_numpy(np.stack([info["final_obs"][lane] for lane in cut]))
                    reward[cut] += c.gamma * self.module.get_value(last).reshape(-1)
                row = {"x": x, "action": action, "log_prob": log_prob, "value": value.reshape(-1), "reward": reward,
                       "goes_on": torch.from_numpy(~done).float()}  # fmt: skip
                for name, column in row.items():
                    columns.setdefault(name, []).append(column)
            after = self.module.get_value(torch.from_numpy(np.array(observation, np.float32))).reshape(-1)
            yield self._advantages({name: torch.stack(column) for name, column in columns.items()}, after)

    def _performed(self, action: torch.Tensor) -> np.ndarray:
        if self.menu:
            return action.numpy()
        assert isinstance(self.action_space, spaces.Box)
        return np.clip(action.numpy(), self.action_space.low, self.action_space.high)

    def _advantages(self, rollout: dict[str, torch.Tensor], after: torch.Tensor) -> dict[str, torch.Tensor]:
        """The rollout with advantages and returns (GAE, Schulman et al. 2016), flat [T*N, ...]."""
        c, value, advantage = self.config, rollout["value"], torch.zeros_like(rollout["value"])
        ahead = torch.zeros_like(after)
        for t in reversed(range(len(value))):
            following = after if t == len(value) - 1 else value[t + 1]
            delta = rollout["reward"][t] + c.gamma * following * rollout["goes_on"][t] - value[t]
            ahead = delta + c.gamma * c.gae_lambda * rollout["goes_on"][t] * ahead
            advantage[t] = ahead
        rollout = rollout | {"advantage": advantage, "return": advantage + value}
        return {name: column.flatten(0, 1) for name, column in rollout.items()}

    def _update(self, optimiser: torch.optim.Optimizer, rollout: dict[str, torch.Tensor]) -> dict[str, float]:
        """PPO's update on one rollout; what it was worth, as scalars."""
        c, told = self.config, []
        for _ in range(c.update_epochs):
            for rows in torch.randperm(len(rollout["x"])).chunk(c.num_minibatches):
                b = {name: column[rows] for name, column in rollout.items()}
                _, log_prob, entropy, value = self.module.get_action_and_value(b["x"], b["action"])
                ratio = (log_prob - b["log_prob"]).exp()
                advantage = (b["advantage"] - b["advantage"].mean()) / (b["advantage"].std() + 1e-8)
                clipped = ratio.clamp(1 - c.clip_coef, 1 + c.clip_coef)
                policy_loss = -torch.min(advantage * ratio, advantage * clipped).mean()
                value_loss = 0.5 * (value.reshape(-1) - b["return"]).square().mean()
                loss = policy_loss - c.ent_coef * entropy.mean() + c.vf_coef * value_loss
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.module.parameters(), c.max_grad_norm)
                optimiser.step()
                told.append([policy_loss.item(), value_loss.item(), entropy.mean().item()])
        names = ("train/policy_gradient_loss", "train/value_loss", "train/entropy")
        return dict(zip(names, np.mean(told, axis=0).tolist(), strict=True))

class TorchFile(TorchPolicy):
    """Acts with weights that another program saved (``torch.save(agent.state_dict(), path)``): a subclass says `network`,
    ``path`` and ``trusted=true`` are parameters."""

    def __init__(
        self, observation_space: spaces.Space, action_space: spaces.Space, spec: Any = None, seed: int = 0,
        *, path: str = "", trusted: bool = False,
    ) -> None:  # fmt: skip
        weights = foreign_weights(path, trusted)
        super().__init__(observation_space, action_space, spec, seed)
        load_weights(self.module, weights, str(Path(path)))


__all__ = ["TorchAgent", "TorchConfig", "TorchFile", "TorchPolicy"]
