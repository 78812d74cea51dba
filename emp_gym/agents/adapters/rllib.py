"""RLlib: its PPO on our native vector environments with K sampling actors, and its modules as agents.

``rllib-ppo`` learns with RLlib's new API stack: `num_env_runners` Ray actors sample, each from its own native environment of
`num_envs` lanes, and the learner of this process updates; with 0 of them this process samples, too. RLlib steps environments
that reset in the *next* step, which ours do when asked (another mode would be wrong in silence). Its Python work per lane and
step bounds the speed, not the environment.

Actors sample in processes of their own: what is wrapped around an environment here (a kill switch, a diary) is not there.
Masked actions are executed as "keep" while it learns and get no chance when it acts. Modules with a memory are refused.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.rl_module import RLModule
from ray.tune.registry import register_env

import emp_gym  # noqa: F401  (an actor that imports this module has the environments' ids)
from emp_gym.agents.adapters import cluster
from emp_gym.agents.adapters.foreign import Generators, Threads
from emp_gym.agents.base import Arrays, BaseAgent, Callback
from emp_gym.types import F32, Bool, ConfigError, DataError, MakeEnv

HOME = "emp-gym"
"""What RLlib calls the environment."""
MARKET = "market"
"""Key of the metrics that an episode's summary leaves."""


@dataclass(frozen=True)
class RLlibConfig:
    """Parameters of `RLlibPPO`."""

    num_env_runners: int = 0  # Ray actors that sample; 0: this process does
    num_envs: int = 64  # lanes of each
    n_steps: int = 64  # decisions per lane and rollout
    batch_size: int = 1024
    n_epochs: int = 4
    learning_rate: float = 1e-3
    gamma: float = 0.97
    gae_lambda: float = 0.9
    clip_range: float = 0.2
    ent_coef: float = 0.002
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    layers: tuple[int, ...] = (64, 64)  # of the policy and of the value network, which share nothing

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(int(width) for width in self.layers))
        if self.num_env_runners < 0:
            raise ConfigError(f"num_env_runners: expected at least 0, got {self.num_env_runners}")


class RLlibPolicy(BaseAgent):
    """Acts with an `RLModule` of torch that says the inputs of its action distribution: those of a menu, or of a Gaussian."""

    module: Any

    @classmethod
    def wrap(cls, module: RLModule, spec: Any = None, seed: int = 0) -> RLlibPolicy:
        """An agent that acts as `module` does; `spec` is the environment's."""
        assert module.observation_space is not None and module.action_space is not None
        agent = RLlibPolicy(module.observation_space, module.action_space, spec, seed)
        agent.module = remembers_nothing(module)
        return agent

    @torch.no_grad()
    def act(self, observation: F32, state: Any, mask: Bool | None = None) -> tuple[np.ndarray, Any]:
        self.module.eval()
        batch = {"obs": torch.as_tensor(observation, dtype=torch.float32)}
        inputs = self.module.forward_inference(batch)["action_dist_inputs"]
        if isinstance(self.action_space, spaces.Discrete):
            if mask is not None:
                inputs = inputs.masked_fill(~torch.as_tensor(mask, dtype=torch.bool), -torch.inf)
            return inputs.argmax(dim=1).numpy() + int(self.action_space.start), state
        assert isinstance(self.action_space, spaces.Box)
        low, high = self.action_space.low, self.action_space.high
        mean = inputs.chunk(2, dim=1)[0].numpy().reshape(-1, *self.action_space.shape)
        return np.clip(low + (mean + 1.0) * (high - low) / 2.0, low, high).astype(np.float32), state  # as RLlib unsquashes

    def arrays(self) -> Arrays:
        return {name: np.array(value) for name, value in self.module.get_state().items()}

    def restore(self, arrays: Arrays) -> None:
        try:
            self.module.set_state(dict(arrays))
        except RuntimeError as error:
            raise DataError(f"the weights are not those of this module ({' '.join(str(error).split())[:300]})") from error


class RLlibPPO(RLlibPolicy):
    """RLlib's PPO. Called again, `learn` goes on with the weights; optimiser and environments begin anew."""

    Config: ClassVar[type | None] = RLlibConfig
    config: RLlibConfig
    own_workers: ClassVar[str] = "num_env_runners"
    """The parameter that ``--num-workers`` sets: the agent spreads one training over workers of its own."""

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
            raise ConfigError(f"RLlibPPO takes Box observations and Discrete or Box actions, got {observation_space}, {action_space}")
        for name in ("ray.rllib", "ray._common.deprecation"):  # it warns that its default is its default, and of its own calls
            logging.getLogger(name).setLevel(logging.ERROR)
        self.generators = Generators(seed)
        self.num_timesteps = 0
        with self.generators:
            self.module = DefaultPPOTorchRLModule(
                observation_space=observation_space, action_space=action_space, model_config=asdict(self._network())
            )  # fmt: skip

    def _network(self) -> DefaultModelConfig:
        return DefaultModelConfig(fcnet_hiddens=list(self.config.layers), vf_share_layers=False)

    def learn(self, make_env: MakeEnv, total_timesteps: int, callback: Callback | None = None) -> None:
        """Trains until `total_timesteps` steps over all lanes have been seen since the first call.

        Environments are made where they are stepped, from the spec of the one that `make_env` makes.
        """
        env = make_env(num_envs=1, autoreset_mode=AutoresetMode.NEXT_STEP.value)
        creator = partial(next_step_env, *recipe(env))
        env.close()
        mine = cluster.start(max(self.config.num_env_runners, 1))
        try:
            register_env(HOME, creator)
            with self.generators, Threads():
                self._learn(total_timesteps, callback)
        finally:
            if mine:
                cluster.package().shutdown()

    def _learn(self, total_timesteps: int, callback: Callback | None) -> None:
        first = self.num_timesteps
        algorithm: Any = self._settings().build_algo()
        try:
            algorithm.learner_group.set_weights({DEFAULT_MODULE_ID: self.module.get_state()})
            algorithm.env_runner_group.sync_weights(from_worker_or_learner_group=algorithm.learner_group, inference_only=True)
            while self.num_timesteps < total_timesteps:
                result = algorithm.train()
                self.num_timesteps = first + int(result["env_runners"]["num_env_steps_sampled_lifetime"])
                self.module.set_state(algorithm.learner_group.get_weights()[DEFAULT_MODULE_ID])
                if callback is not None and callback(self.num_timesteps, scalars(result)) is False:
                    return
        finally:
            algorithm.stop()
            shutil.rmtree(algorithm.logdir, ignore_errors=True)  # an empty folder in the home folder

    def _settings(self) -> PPOConfig:
        c = self.config
        seed = int(np.random.SeedSequence([self.seed, self.num_timesteps]).generate_state(1)[0] >> 1)
        return (  # fmt: skip
            PPOConfig()
            .environment(env=HOME, observation_space=self.observation_space, action_space=self.action_space)
            .env_runners(
                num_env_runners=c.num_env_runners, num_envs_per_env_runner=c.num_envs, rollout_fragment_length=c.n_steps,
                gym_env_vectorize_mode="vector_entry_point", create_env_on_local_worker=False,
            )
            .learners(num_learners=0)
            .training(
                train_batch_size_per_learner=c.n_steps * c.num_envs * max(c.num_env_runners, 1), minibatch_size=c.batch_size,
                num_epochs=c.n_epochs, lr=c.learning_rate, gamma=c.gamma, lambda_=c.gae_lambda, clip_param=c.clip_range,
                entropy_coeff=c.ent_coef, vf_loss_coeff=c.vf_coef, vf_clip_param=float("inf"), use_kl_loss=False,
                grad_clip=c.max_grad_norm, grad_clip_by="global_norm",
            )
            .rl_module(model_config=self._network())
            .callbacks(Summaries)
            .debugging(seed=seed, log_level="ERROR")
        )


class RLlibCheckpoint(RLlibPolicy):
    """Acts with the module of an RLlib checkpoint: ``path`` of an algorithm's, or of its ``rl_module/default_policy`` folder, and
    ``trusted=true``."""

    def __init__(
        self, observation_space: spaces.Space, action_space: spaces.Space, spec: Any = None, seed: int = 0,
        *, path: str = "", trusted: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(observation_space, action_space, spec, seed, path=path, trusted=trusted)
        folder = Path(path).resolve()
        inner = folder / "learner_group" / "learner" / "rl_module" / DEFAULT_MODULE_ID
        folder = inner if inner.is_dir() else folder
        if not (folder / "class_and_ctor_args.pkl").is_file():
            raise DataError(f"{folder}: no RLlib checkpoint of a module")
        if not trusted:
            raise ConfigError(
                f"{folder} holds pickles, which can run anything when RLlib opens them: open none that you did not make or "
                "get from one you trust; then say trusted=true"
            )
        self.module = remembers_nothing(RLModule.from_checkpoint(folder))
        for name, own in (("observation_space", observation_space), ("action_space", action_space)):
            if getattr(self.module, name) != own:
                raise ConfigError(f"{folder}: made for {name} {getattr(self.module, name)}, but the environment's is {own}")


def remembers_nothing(module: Any) -> Any:
    """`module`; raises `ConfigError` where it has a state."""
    if module.get_initial_state():
        raise ConfigError(f"{type(module).__name__} has a memory; give it an act(observation, state, mask) of your own")
    return module


# ---- what runs in the actors

GIVEN = ("num_envs", "vectorization_mode")
"""Keywords in a spec that are not the environment's."""


def recipe(env: VectorEnv) -> tuple[str, dict[str, Any]]:
    """Id and keywords from which another process makes such an environment; `ConfigError` where it does not say."""
    spec = env.unwrapped.spec
    if spec is None or env.metadata.get("autoreset_mode") is not AutoresetMode.NEXT_STEP:
        raise ConfigError("RLlib needs an environment with a spec that resets in the next step (autoreset_mode NextStep)")
    return spec.id, {name: value for name, value in spec.kwargs.items() if name not in GIVEN}


def next_step_env(env_id: str, keywords: Mapping[str, Any], context: Mapping[str, Any]) -> VectorEnv:
    """The native environment of one sampling worker, of ``context["num_envs"]`` lanes."""
    env = gym.make_vec(env_id, num_envs=int(context.get("num_envs", 1)), **keywords)
    return OnlySummaries(env)


class OnlySummaries(VectorWrapper):
    """Infos hold the summary of episodes that ended and nothing else: RLlib makes a dict a lane of the rest, every step."""

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self.env.reset(seed=seed, options=options)[0], {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        *rest, info = self.env.step(actions)
        kept = {name: info[name] for name in ("summary", "_summary") if name in info}
        return (*rest, kept)


class Summaries(RLlibCallback):
    """Logs the numbers of every finished episode."""

    def on_episode_end(self, *, episode: Any, metrics_logger: Any = None, **_: Any) -> None:
        for name, value in (episode.get_infos(-1) or {}).get("summary", {}).items():
            if not name.startswith("_"):
                metrics_logger.log_value((MARKET, name), float(value), reduce="mean", clear_on_reduce=True)


def scalars(result: Mapping[str, Any]) -> dict[str, float]:
    """What our curves show of RLlib's result of one iteration.

    Return and length come from the environment's own summary where there is one: RLlib lengthens episodes by a step while it
    learns, which it then counts if they go on in the next rollout.
    """
    runners, learner = result["env_runners"], result.get("learners", {}).get(DEFAULT_MODULE_ID, {})
    summary = runners.get(MARKET, {})
    told = {f"train/{name}": value for name, value in learner.items()}
    told |= {f"{MARKET}/{name}": value for name, value in summary.items() if name not in ("return", "length", "day", "start")}
    told["rollout/episodes"] = runners.get("num_episodes", 0.0)
    told["rollout/ep_rew_mean"] = summary.get("return", runners.get("episode_return_mean"))
    told["rollout/ep_len_mean"] = summary.get("length", runners.get("episode_len_mean"))
    numbers = {name: float(value) for name, value in told.items() if isinstance(value, int | float | np.number)}
    return {name: value for name, value in numbers.items() if np.isfinite(value)}


__all__ = ["RLlibCheckpoint", "RLlibPPO", "RLlibPolicy"]
