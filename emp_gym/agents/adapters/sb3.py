"""Algorithms and policies of Stable-Baselines3 and sb3-contrib as agents.

``class MyAgent(SB3Agent): algorithm = sb3.A2C`` is an agent; class attributes say the rest, and ``--set agent.NAME=VALUE``
the parameters of the algorithm's constructor. `SB3Policy.wrap(model)` makes one of a trained model in memory, `SB3Zip` of a
file that SB3 saved.

Recurrent policies keep their LSTM state in the agent's state, lanes first. Menus are masked: MaskablePPO learns with the
mask, others learn without it (a masked action is executed as "keep") and give masked actions no chance when they act.
Agents act without exploration. Files are ours: weights as safetensors, parameters as JSON; nothing is unpickled.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvStepReturn

from emp_gym.agents.adapters.foreign import (
    Generators,
    Threads,
    foreign_weights,
    load_weights,
    named,
    spelled,
    weights_of,
)
from emp_gym.agents.base import Arrays, BaseAgent, Callback
from emp_gym.agents.suggest import nearest
from emp_gym.types import F32, Bool, ConfigError, MakeEnv

OURS = ("policy", "env", "seed", "device", "verbose", "tensorboard_log", "_init_setup_model")
"""Constructor parameters that the adapter sets."""
REPORTS = 200
"""Reports of a `learn`, at most."""


class SB3Policy(BaseAgent):
    """Acts with the policy of an SB3 algorithm. A subclass says which: in `algorithm`, `policy` and `parameters`."""

    algorithm: ClassVar[Any] = None  # class of the algorithm, or "module:Class"
    policy: ClassVar[Any] = "MlpPolicy"  # its policy: a name of SB3's, or a class
    parameters: ClassVar[Mapping[str, Any]] = {}  # of the constructor; config wins
    num_envs: ClassVar[int] = 16  # lanes that it learns in

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        spec: Any = None,
        seed: int = 0,
        **config: Any,
    ) -> None:
        super().__init__(observation_space, action_space, spec, seed, **config)
        options = {**self.parameters, **config}
        chosen = options.pop("algorithm", self.algorithm)
        if chosen is None:
            raise ConfigError(f"{type(self).__name__} needs an algorithm, e.g. agent.algorithm=stable_baselines3:A2C")
        self._class: Any = named(chosen, BaseAlgorithm, "algorithm") if isinstance(chosen, str) else chosen
        policy = options.pop("policy", self.policy)
        self._policy = named(policy, BasePolicy, "policy") if isinstance(policy, str) and ":" in policy else policy
        self.lanes = int(options.pop("num_envs", self.num_envs))
        self._options = self._checked(options)
        self.generators = Generators(seed)
        self.num_timesteps = 0
        self.model: BaseAlgorithm = self._build(Nowhere(self.lanes, observation_space, action_space), seed)

    def _checked(self, options: dict[str, Any]) -> dict[str, Any]:
        known = [name for name in inspect.signature(self._class).parameters if name not in OURS]
        for key in options:
            if key not in known:
                raise ConfigError(f"{self._class.__name__} has no parameter {key!r}; did you mean {nearest(key, known)}?")
        kwargs = options.get("policy_kwargs")
        if kwargs is None:
            return options
        classes = {k: named(v, (torch.nn.Module, torch.optim.Optimizer), k) for k, v in kwargs.items() if isinstance(v, str) and ":" in v}
        return {**options, "policy_kwargs": {**kwargs, **classes}}

    def _build(self, env: VecEnv, seed: int) -> BaseAlgorithm:
        with self.generators:
            try:
                return self._class(self._policy, env, seed=seed, device="cpu", verbose=0, **self._options)
            except AssertionError as error:  # how SB3 says that spaces do not fit
                raise ConfigError(f"{self._class.__name__} cannot be built: {' '.join(str(error).split())}") from error

    @classmethod
    def wrap(cls, model: BaseAlgorithm, spec: Any = None, seed: int = 0) -> SB3Policy:
        """An agent that acts as `model` does, from a copy of its policy; `spec` is the environment's.

        Raises `ConfigError` where observations were normalised by `VecNormalize` (they are not here), or where the policy was
        built from what JSON cannot say.
        """
        if model.get_vec_normalize_env() is not None:
            raise ConfigError("the model saw observations normalised by VecNormalize, which stays behind; train without it")
        config: dict[str, Any] = {"algorithm": spelled(type(model)), "policy": spelled(model.policy_class)}
        if model.policy_kwargs:
            config["policy_kwargs"] = spelled(model.policy_kwargs)
        if model.use_sde:
            config["use_sde"] = True
        for name in ("buffer_size", "n_steps"):  # only so that buffers, which are not used, are not larger
            if isinstance(getattr(model, name, None), int):
                config[name] = getattr(model, name)
        agent = SB3Policy(model.observation_space, model.action_space, spec, seed, num_envs=1, **config)
        agent.restore(weights_of(model.policy))
        return agent

    # ---- acting

    def initial_state(self, lanes: int) -> Any:
        """Hidden and cell state [N, layers, H] of a recurrent policy; None of one without memory."""
        lstm = getattr(self.model.policy, "lstm_actor", None)
        if lstm is None:
            return None
        shape = (lanes, lstm.num_layers, lstm.hidden_size)
        return np.zeros(shape, np.float32), np.zeros(shape, np.float32)

    @torch.no_grad()
    def act(self, observation: F32, state: Any, mask: Bool | None = None) -> tuple[np.ndarray, Any]:
        policy: Any = self.model.policy
        policy.set_training_mode(False)
        if not isinstance(self.action_space, spaces.Discrete):
            return self._levers(observation, state)
        scores, state = self._scores(policy, torch.as_tensor(observation, dtype=torch.float32), state)
        if mask is not None:
            scores = scores.masked_fill(~torch.as_tensor(mask, dtype=torch.bool), -torch.inf)
        return scores.argmax(dim=1).numpy(), state

    def _levers(self, observation: F32, state: Any) -> tuple[np.ndarray, Any]:
        before = None if state is None else tuple(part.swapaxes(0, 1).copy() for part in state)
        action, after = self.model.predict(np.array(observation), before, deterministic=True)
        return action, None if state is None else tuple(part.swapaxes(0, 1).copy() for part in after or ())

    def _scores(self, policy: Any, observation: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """Scores [N, A], of which the largest is chosen, and the next state."""
        if state is not None:
            before = tuple(torch.from_numpy(part.swapaxes(0, 1).copy()) for part in state)
            distribution, after = policy.get_distribution(observation, before, torch.zeros(len(observation)))
            return distribution.distribution.logits, tuple(part.swapaxes(0, 1).numpy().copy() for part in after)
        if isinstance(policy, ActorCriticPolicy) or hasattr(policy, "get_distribution"):  # contrib's maskable one is its own
            return policy.get_distribution(observation).distribution.logits, None
        if hasattr(policy, "quantile_net"):
            return policy.quantile_net(observation).mean(dim=1), None
        if hasattr(policy, "q_net"):
            return policy.q_net(observation), None
        raise ConfigError(f"{type(policy).__name__} says no scores of a menu's actions; override _scores(policy, observation, state)")

    # ---- files

    def arrays(self) -> Arrays:
        return weights_of(self.model.policy)

    def restore(self, arrays: Arrays) -> None:
        load_weights(self.model.policy, arrays, type(self).__name__)

    def describe(self) -> dict[str, Any]:
        told = {"algorithm": self._class, "policy": self._policy, **self.parameters, **self.config}
        return super().describe() | {"config": spelled(told)}


class SB3Agent(SB3Policy):
    """Learns with an SB3 algorithm in `num_envs` lanes, and acts with what it has learned.

    ``learn`` may be called again and goes on with the weights; the algorithm's buffers and generators begin anew.
    """

    @property
    def rollout_steps(self) -> int:
        """Steps of a rollout over all lanes, where the algorithm learns from those; `learn` ends with a whole one."""
        return self.lanes * self.model.n_steps if isinstance(self.model, OnPolicyAlgorithm) else 1

    def learn(self, make_env: MakeEnv, total_timesteps: int, callback: Callback | None = None) -> None:
        """Trains until `total_timesteps` steps over all lanes have been seen since the first call."""
        from emp_gym.envs.sb3 import NativeVecEnv

        left = total_timesteps - self.num_timesteps
        if left <= 0:
            return
        env = NativeVecEnv(make_env(num_envs=self.lanes), stagger=True)
        try:
            before, seed = self.model.get_parameters(), np.random.SeedSequence([self.seed, self.num_timesteps])
            self.model = self._build(env, int(seed.generate_state(1)[0]))
            with self.generators, Threads():
                self.model.set_parameters(before, device="cpu")  # type: ignore[arg-type]
                self.model.num_timesteps = self.num_timesteps
                self.model.set_logger(Logger(None, []))
                hearing = _Hearing(callback, max(left // REPORTS, 1))
                self.model.learn(left, hearing, reset_num_timesteps=False)
            self.num_timesteps = self.model.num_timesteps
            hearing.close()
        finally:
            env.close()


class SB3Zip(SB3Policy):
    """Acts with a model that SB3 saved: ``path``, its ``algorithm``, and ``trusted=true``.

    Only the weights are read. A network that is not the default needs its ``policy_kwargs``.
    """

    def __init__(
        self, observation_space: spaces.Space, action_space: spaces.Space, spec: Any = None, seed: int = 0,
        *, path: str = "", trusted: bool = False, **config: Any,
    ) -> None:  # fmt: skip
        weights = foreign_weights(path, trusted, "policy.pth")
        super().__init__(observation_space, action_space, spec, seed, num_envs=1, **config)
        load_weights(self.model.policy, weights, str(Path(path)))


class _Hearing(BaseCallback):
    """Tells our callback what SB3 logs, after a rollout, every `every` steps."""

    def __init__(self, callback: Callback | None, every: int) -> None:
        super().__init__()
        self._callback, self._every = callback, every
        self._last, self._go_on = 0, True

    def _on_training_start(self) -> None:
        self._last = self.num_timesteps

    def _on_step(self) -> bool:
        return self._go_on

    def _on_rollout_end(self) -> None:
        if self.num_timesteps - self._last >= self._every:
            self._tell()

    def close(self) -> None:
        """What came last is told, too."""
        if self._go_on and self.num_timesteps != self._last:
            self._tell()

    def _tell(self) -> None:
        self._last = self.num_timesteps
        values = self.logger.name_to_value.items()
        scalars = {name: float(value) for name, value in values if isinstance(value, int | float | np.number)}
        if self._callback is not None:
            self._go_on = self._callback(self.num_timesteps, scalars) is not False


class Nowhere(VecEnv):
    """Spaces without an environment: an SB3 algorithm is built for something."""

    def __init__(self, lanes: int, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        self.render_mode = None
        super().__init__(lanes, observation_space, action_space)

    def _nobody(self, *_: Any, **__: Any) -> Any:
        raise ConfigError("there is no environment behind these spaces")

    reset = step_async = set_attr = env_method = _nobody

    def step_wait(self) -> VecEnvStepReturn:
        return self._nobody()

    def close(self) -> None:
        """Nothing to close."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        return [getattr(self, attr_name)] * len(list(self._get_indices(indices)))

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        return [True] * len(list(self._get_indices(indices)))


__all__ = ["SB3Agent", "SB3Policy", "SB3Zip"]
