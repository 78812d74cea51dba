"""Proximal policy optimisation: Stable-Baselines3's PPO with large-batch defaults for native vector environments.

The algorithm is SB3's (Schulman et al. 2017, arXiv 1707.06347). What is ours is the plumbing around it: rollouts
without Python work per lane, one value call for all lanes that were cut, own random generators, a running scale of
rewards, and files without pickles. A model is ``model.json`` (parameters, spaces, hash of the features) and
``model.safetensors`` (weights); a checkpoint adds ``training.json`` and ``training.safetensors`` (Adam's moments,
reward scale, generators, step count).

Masks: SB3's PPO samples without them, so a masked action is executed as "keep" by the environment while training; `act`
gives masked actions no probability.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from emp_gym.agents.base import Arrays, BaseAgent, Callback, read_arrays, read_json, write_arrays
from emp_gym.agents.ppo_training import LaneBuffer, LanePolicy, LanePPO, RunningFeatures
from emp_gym.types import F32, Bool, ConfigError, MakeEnv

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU}


@dataclass(frozen=True)
class PPOConfig:
    """Parameters of `PPO`. Steps count over all lanes."""

    num_envs: int = 1024  # lanes
    n_steps: int = 32  # decisions per lane and rollout
    batch_size: int = 2048
    n_epochs: int = 4
    learning_rate: float = 3e-3
    final_learning_rate: float = 1e-4  # reached linearly at the end of training
    gamma: float = 0.97  # per decision: looks about 30 decisions ahead
    gae_lambda: float = 0.9
    clip_range: float = 0.2
    entropy: float = 0.002
    value: float = 0.5
    max_grad_norm: float = 0.5
    target_kl: float | None = None
    layers: tuple[int, ...] = (64, 64)  # of the policy and of the value network, which share nothing
    deviation: float = 1.0  # of Gaussian actions at the beginning, in units of the action
    activation: str = "relu"  # tanh costs a third of the speed and learns no better here
    normalise_observation: bool = True  # running mean and variance, frozen outside of learn()
    normalise_reward: bool = True  # divided by the running deviation of the discounted return
    threads: int = 2  # torch threads while learning
    deterministic: bool = True  # act() takes the most probable action

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ConfigError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {self.activation!r}")
        object.__setattr__(self, "layers", tuple(int(width) for width in self.layers))
        for name in ("num_envs", "n_steps", "batch_size", "n_epochs", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, got {getattr(self, name)}")


class PPO(BaseAgent):
    """PPO for `Discrete` and `Box` actions. State: none (the policy has no memory)."""

    Config: ClassVar[type | None] = PPOConfig
    config: PPOConfig

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        spec: Any = None,
        seed: int = 0,
        **config: Any,
    ) -> None:
        super().__init__(observation_space, action_space, spec, seed, **config)
        if not isinstance(action_space, spaces.Discrete | spaces.Box) or not isinstance(observation_space, spaces.Box):
            raise ConfigError(
                f"PPO takes Box observations and Discrete or Box actions, got {observation_space} and {action_space}; "
                "flatten them with a gymnasium wrapper"
            )
        with _global_torch_seed(seed):
            self.policy: ActorCriticPolicy = LanePolicy(
                observation_space, action_space, lambda _: 0.0, **self._policy_arguments()
            )
        self.stochastic = not self.config.deterministic
        self.num_timesteps = 0
        self._sampler = torch.Generator().manual_seed(seed)
        self._resumed: Arrays | None = None
        self._boundary: Arrays = {}  # training state after the last iteration, whatever a rollout under way has used up since
        self._trainer: LanePPO | None = None

    def _policy_arguments(self) -> dict[str, Any]:
        layers = list(self.config.layers)
        return {
            "net_arch": {"pi": layers, "vf": layers},
            "log_std_init": math.log(self.config.deviation),
            "activation_fn": ACTIVATIONS[self.config.activation],
            "features_extractor_class": RunningFeatures,
            "features_extractor_kwargs": {"active": self.config.normalise_observation},
        }

    # ---- acting

    @torch.no_grad()
    def act(self, observation: F32, state: Any, mask: Bool | None = None) -> tuple[np.ndarray, Any]:
        self.policy.set_training_mode(False)
        distribution: Any = self.policy.get_distribution(torch.as_tensor(observation, dtype=torch.float32))
        if isinstance(self.action_space, spaces.Discrete):
            logits = distribution.distribution.logits
            if mask is not None:
                logits = logits.masked_fill(~torch.as_tensor(mask, dtype=torch.bool), -torch.inf)
            if not self.config.deterministic:
                logits = logits - torch.empty_like(logits).exponential_(generator=self._sampler).log()
            return logits.argmax(dim=1).numpy() + int(self.action_space.start), state
        assert isinstance(self.action_space, spaces.Box)
        normal = distribution.distribution
        action = normal.mean
        if not self.config.deterministic:
            action = action + normal.stddev * torch.randn(action.shape, generator=self._sampler)
        return np.clip(action.numpy(), self.action_space.low, self.action_space.high), state

    # ---- learning

    def learn(self, make_env: MakeEnv, total_timesteps: int, callback: Callback | None = None) -> None:
        """Trains until `total_timesteps` steps (summed over lanes) have been seen since the very first call.

        Training that was resumed goes on as if never stopped, to the bit, if the environment's first reset goes on in the
        middle of episodes (its info says ``continued``). Where it does not, lanes begin new episodes, seeded by the seed
        and the steps seen; all else goes on.
        """
        from emp_gym.envs.sb3 import NativeVecEnv

        threads = torch.get_num_threads()
        torch.set_num_threads(self.config.threads)
        env = NativeVecEnv(make_env(num_envs=self.config.num_envs))
        try:
            self._trainer = self._make_trainer(env, total_timesteps, callback)
            self._trainer.learn(total_timesteps - self.num_timesteps, reset_num_timesteps=self.num_timesteps == 0)
            self.num_timesteps = self._trainer.num_timesteps
        finally:
            env.close()
            torch.set_num_threads(threads)

    def _make_trainer(self, env: Any, total_timesteps: int, callback: Callback | None) -> LanePPO:
        c = self.config
        size = env.num_envs * c.n_steps
        with _global_torch_seed(self.seed):
            trainer = LanePPO(
                LanePolicy,
                env,
                learning_rate=lambda left: c.final_learning_rate + left * (c.learning_rate - c.final_learning_rate),
                n_steps=c.n_steps,
                batch_size=whole_batch(size, c.batch_size),
                n_epochs=c.n_epochs,
                gamma=c.gamma,
                gae_lambda=c.gae_lambda,
                clip_range=c.clip_range,
                ent_coef=c.entropy,
                vf_coef=c.value,
                max_grad_norm=c.max_grad_norm,
                target_kl=c.target_kl,
                rollout_buffer_class=LaneBuffer,
                policy_kwargs=self._policy_arguments(),
                device="cpu",
            )
        env.seed(int(np.random.SeedSequence([self.seed, self.num_timesteps]).generate_state(1)[0]))
        trainer.prepare(self.seed, c.normalise_reward, self._report(callback))
        trainer.policy.load_state_dict(self.policy.state_dict())
        self.policy = trainer.policy
        trainer.num_timesteps = self.num_timesteps
        before = self._resumed if self._trainer is None else self._boundary
        if before:
            trainer.restore(before)
            self._resumed = None
        self._boundary = before or {}
        return trainer

    def _report(self, callback: Callback | None) -> Callable[[int, Mapping[str, float]], bool]:
        def report(steps: int, scalars: Mapping[str, float]) -> bool:
            assert self._trainer is not None
            self.num_timesteps, self._boundary = steps, self._trainer.arrays()
            return callback is None or callback(steps, scalars) is not False

        return report

    # ---- files

    def arrays(self) -> Arrays:
        return {name: tensor.detach().cpu().numpy() for name, tensor in self.policy.state_dict().items()}

    def restore(self, arrays: Arrays) -> None:
        self.policy.load_state_dict({name: torch.from_numpy(value) for name, value in arrays.items()})

    def checkpoint(self, folder: Path) -> None:
        """`save`, and what training needs to go on after its last iteration."""
        self.save(folder)
        if not self._boundary:
            raise ConfigError("nothing to checkpoint: learn() has not come to the end of an iteration")
        write_arrays(folder / "training.safetensors", self._boundary)
        state = {"num_timesteps": self.num_timesteps}
        (folder / "training.json").write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")

    def resume(self, folder: Path) -> None:
        """Reads a checkpoint; the next `learn` goes on from there."""
        self.load(folder)
        state = read_json(folder / "training.json")
        self.num_timesteps = int(state["num_timesteps"])
        self._resumed, self._trainer = read_arrays(folder / "training.safetensors"), None
        self._boundary = self._resumed


def whole_batch(size: int, wanted: int) -> int:
    """The largest batch up to `wanted` that divides a rollout of `size` steps evenly."""
    count = -(-size // wanted)
    while size % count:
        count += 1
    return size // count


@contextmanager
def _global_torch_seed(seed: int) -> Iterator[None]:
    """Weights are drawn from torch's global generator: seeded here, and left as it was found."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


__all__ = ["PPO", "PPOConfig", "whole_batch"]
