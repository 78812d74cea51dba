"""PPO as an agent: acting, learning, files.

A model is ``model.json`` (parameters, spaces, hash of the features) and ``model.safetensors`` (weights, and what a baseline
measured); a checkpoint adds ``training.json`` and ``training.safetensors`` (Adam's moments, reward scale, generators, memory of the
lanes, step count).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces

from emp_gym import bounded
from emp_gym.agents.backbones import encoder
from emp_gym.agents.base import Arrays, BaseAgent, Callback, must_fit, read_arrays, read_json, write_arrays
from emp_gym.agents.ppo.config import ACTIVATIONS, PLAIN, PPOConfig, sequence_batch, whole_batch
from emp_gym.agents.ppo.policy import LanePolicy, PolicyInput, RunningFeatures
from emp_gym.agents.ppo.residual import PREFIX, Residual
from emp_gym.agents.ppo.rollout import LaneBuffer
from emp_gym.agents.ppo.training import Correction, LanePPO
from emp_gym.types import F32, Bool, ConfigError, DataError, MakeEnv


class PPO(BaseAgent):
    """PPO for `Discrete` and `Box` actions.

    State: None for a policy without memory; else a dict of arrays [N, ...], the encoder's and, below "base", the baseline's.
    `correct_values`, where it is set before `learn`, changes the values that enter the advantages: it is called with
    observations f4 [N, D], values f4 [N] and the scale by which rewards are divided, and gives values [N].
    """

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
        c = self.config
        self.residual: Residual | None = None
        if c.residual is not None:
            self.residual = Residual(
                c.residual, observation_space, action_space, spec, seed, c.residual_options, c.residual_scale
            )
        self.learns_first = self.residual is not None and self.residual.waits
        with _global_torch_seed(seed), _torch_threads(c.threads):  # orthogonal weights depend on their number in the last bits
            self.policy = LanePolicy(observation_space, action_space, lambda _: 0.0, **self._policy_arguments())
        if self.residual is not None:
            for parameter in self.policy.action_net.parameters():
                torch.nn.init.zeros_(parameter)
        self.stochastic = not c.deterministic
        self.correct_values: Correction | None = None
        self.num_timesteps = 0
        self._sampler = torch.Generator().manual_seed(seed)
        self._resumed: Arrays | None = None
        self._boundary: Arrays = {}  # training state after the last iteration, whatever a rollout under way has used up since
        self._trainer: LanePPO | None = None

    def _policy_arguments(self) -> dict[str, Any]:
        c = self.config
        layers = list(c.layers)
        width = math.prod(self.observation_space.shape or ())
        options = {"size": c.extractor_width, **c.extractor_options}
        made = partial(encoder, c.extractor, width, self.features or None, **options)
        return {
            "net_arch": {"pi": layers, "vf": layers},
            "log_std_init": math.log(c.deviation),
            "activation_fn": ACTIVATIONS[c.activation],
            "features_extractor_class": RunningFeatures,
            "features_extractor_kwargs": {"active": c.normalise_observation},
            "extractor": None if c.extractor == PLAIN else made,
            "shared": c.shared,
            "prior": 0.0 if c.residual is None else c.residual_prior,
        }

    # ---- acting

    def initial_state(self, lanes: int) -> Any:
        memory: dict[str, Any] = {
            name: tensor.numpy() for name, tensor in self.policy.initial_state(lanes, ("policy",)).items()
        }
        base = None if self.residual is None else self.residual.initial_state(lanes)
        return (memory if base is None else memory | {"base": base}) or None

    @torch.no_grad()
    def act(self, observation: F32, state: Any, mask: Bool | None = None) -> tuple[np.ndarray, Any]:
        self.policy.set_training_mode(False)
        memory = dict(state or {})
        before = memory.pop("base", None)
        base, after = None, None
        if self.residual is not None:
            base, after = self.residual.propose(observation, before, mask)
        menu = isinstance(self.action_space, spaces.Discrete)
        seen = PolicyInput(
            torch.as_tensor(observation, dtype=torch.float32),
            None if mask is None or not menu else torch.as_tensor(mask, dtype=torch.bool),
            torch.from_numpy(base) if menu and base is not None else None,
            {name: torch.from_numpy(array) for name, array in memory.items()} or None,
        )
        heads, tensors = self.policy.act(seen)
        following = {name: tensor.numpy() for name, tensor in tensors.items()}
        following = following if after is None else following | {"base": after}
        return self._taken(heads, base), following or None

    def _taken(self, heads: torch.Tensor, base: np.ndarray | None) -> np.ndarray:
        """Actions [N, ...] of what the policy gives [N, A]: the most probable, or drawn."""
        if isinstance(self.action_space, spaces.Discrete):
            if not self.config.deterministic:
                heads = heads - torch.empty_like(heads).exponential_(generator=self._sampler).log()
            return heads.argmax(dim=1).numpy() + int(self.action_space.start)
        assert isinstance(self.action_space, spaces.Box)
        if not self.config.deterministic:
            deviation = torch.ones_like(heads) * self.policy.log_std.exp()
            heads = heads + deviation * torch.randn(heads.shape, generator=self._sampler)
        action = heads.numpy().reshape(len(heads), *self.action_space.shape)
        if self.residual is not None and base is not None:
            return self.residual.perform(base, action)
        return np.clip(action, self.action_space.low, self.action_space.high)

    # ---- learning

    @property
    def rollout_steps(self) -> int:
        """Steps of a rollout over all lanes; `learn` ends with a whole one."""
        return self.config.num_envs * self.config.n_steps

    def learn(self, make_env: MakeEnv, total_timesteps: int, callback: Callback | None = None) -> None:
        """Trains until `total_timesteps` steps (summed over lanes) have been seen since the very first call.

        Training that was resumed goes on as if never stopped, to the bit, if the environment's first reset goes on in the
        middle of episodes (its info says ``continued``). Where it does not, lanes begin new episodes, seeded by the seed
        and the steps seen; all else goes on. A baseline that has to measure something does so first; its steps are not counted.
        """
        from emp_gym.envs.sb3 import NativeVecEnv

        if self.residual is not None:
            self.residual.calibrate(make_env)
        env = NativeVecEnv(make_env(num_envs=self.config.num_envs), stagger=True)
        with closing(env), _torch_threads(self.config.threads):
            self._trainer = self._make_trainer(env, total_timesteps, callback)
            self._trainer.learn(total_timesteps - self.num_timesteps, reset_num_timesteps=self.num_timesteps == 0)
            self.num_timesteps = self._trainer.num_timesteps

    def _make_trainer(self, env: Any, total_timesteps: int, callback: Callback | None) -> LanePPO:
        c = self.config
        batch = whole_batch(env.num_envs * c.n_steps, c.batch_size)
        if self.policy.recurrent:
            batch = sequence_batch(env.num_envs, c.n_steps, c.batch_size)
        with _global_torch_seed(self.seed):
            trainer = LanePPO(
                LanePolicy,
                env,
                learning_rate=lambda left: (  # the last rollout ends beyond the total, where `left` is below 0
                    c.final_learning_rate + max(0.0, left) * (c.learning_rate - c.final_learning_rate)
                ),
                n_steps=c.n_steps,
                batch_size=batch,
                n_epochs=c.n_epochs,
                gamma=c.gamma,
                gae_lambda=c.gae_lambda,
                clip_range=c.clip_range,
                ent_coef=c.ent_coef,
                vf_coef=c.vf_coef,
                max_grad_norm=c.max_grad_norm,
                target_kl=c.target_kl,
                rollout_buffer_class=LaneBuffer,
                policy_kwargs=self._policy_arguments(),
                device="cpu",
            )
        env.seed(int(np.random.SeedSequence([self.seed, self.num_timesteps]).generate_state(1)[0]))
        trainer.prepare(
            self.seed, c.normalise_reward, self._report(callback),
            masks=c.masks, residual=self.residual, correct=self.correct_values,
        )  # fmt: skip
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
        return self._weights() if self.residual is None else self._weights() | self.residual.arrays()

    def _weights(self) -> Arrays:
        return {name: tensor.detach().cpu().numpy() for name, tensor in self.policy.state_dict().items()}

    def restore(self, arrays: Arrays) -> None:
        if self.residual is not None:
            self.residual.restore(arrays)
        own = {name: array for name, array in arrays.items() if not name.startswith(PREFIX)}
        must_fit(own, self._weights(), "weights of ppo")
        self.policy.load_state_dict({name: torch.from_numpy(array) for name, array in own.items()})

    def checkpoint(self, folder: Path) -> None:
        """`save`, and what training needs to go on after its last iteration."""
        self.save(folder)
        if not self._boundary:
            raise ConfigError("nothing to checkpoint: learn() has not come to the end of an iteration")
        write_arrays(folder / "training.safetensors", self._boundary)
        state = {"num_timesteps": self.num_timesteps}
        bounded.write(folder / "training.json", json.dumps(state, indent=2) + "\n")

    def resume(self, folder: Path) -> None:
        """Reads a checkpoint; the next `learn` goes on from there."""
        self.load(folder)
        steps = read_json(folder / "training.json").get("num_timesteps")
        if type(steps) is not int or steps < 0:
            raise DataError(f"{folder / 'training.json'}: num_timesteps: expected a whole number, got {steps!r:.40}; the file is damaged")
        self.num_timesteps = steps
        self._resumed, self._trainer = read_arrays(folder / "training.safetensors"), None
        self._boundary = self._resumed


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _global_torch_seed(seed: int) -> Iterator[None]:
    """Weights are drawn from torch's global generator: seeded here, and left as it was found."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


__all__ = ["PPO"]
