"""SB3's PPO for a thousand lanes: the same algorithm with rollouts and minibatches that cost no Python per lane."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO as SB3PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, RolloutBufferSamples
from stable_baselines3.common.vec_env import VecEnv

from emp_gym.agents.base import Arrays

UNDER_WAY = ("lane_return", "lane_length", "discounted_return")
"""Arrays of a checkpoint that mean something only if the lanes go on where they stood."""

Report = Callable[[int, Mapping[str, float]], bool]


class RunningFeatures(BaseFeaturesExtractor):
    """Flat observations, brought to mean 0 and deviation 1 by statistics that change only in `absorb`, between updates.

    Being buffers of the policy, they are saved with its weights and are frozen at evaluation.
    """

    mean: torch.Tensor
    variance: torch.Tensor
    inverse: torch.Tensor
    count: torch.Tensor

    def __init__(self, observation_space: spaces.Box, active: bool = True) -> None:
        size = int(np.prod(observation_space.shape))
        super().__init__(observation_space, size)
        self.active = active
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.flatten = torch.nn.Flatten()
        self._refresh()

    def _refresh(self) -> None:
        self._shift = self.mean.float()
        self._inverse = torch.rsqrt(self.variance + 1e-4).float()

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._refresh()

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        flat = self.flatten(observation)
        if not self.active:
            return flat
        return ((flat - self._shift) * self._inverse).clamp_(-10.0, 10.0)

    def absorb(self, observations: np.ndarray) -> None:
        """Counts a rollout [T, N, D] into mean and variance (Chan et al. 1979, parallel form)."""
        if not self.active:
            return
        rows = torch.from_numpy(observations.reshape(-1, self.features_dim)) - self._shift
        count = rows.shape[0]
        ones = torch.ones(
            count
        )  # column sums as matrix-vector products: torch's var_mean over rows is ten times slower
        first, second = (rows.T @ ones).double() / count, (rows.square().T @ ones).double() / count
        mean, variance = first + self._shift.double(), second - first**2
        delta = mean - self.mean
        total = self.count + count
        spread = self.variance * self.count + variance * count + delta**2 * (self.count * count / total)
        self.mean += delta * (count / total)
        self.variance.copy_(spread / total)
        self.count.copy_(total)
        self._refresh()


class LanePolicy(ActorCriticPolicy):
    """SB3's policy with the three numbers that PPO's update needs computed directly for menus.

    The same values as SB3's, without building a `Categorical` (which normalises twice): a tenth of the update's time.
    """

    def evaluate_actions(
        self, obs: PyTorchObs, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Values [B, 1], log-probabilities [B] and entropies [B]."""
        if not isinstance(self.action_space, spaces.Discrete):
            return super().evaluate_actions(obs, actions)
        latent_policy, latent_value = self.mlp_extractor(self.extract_features(obs))
        logs = torch.log_softmax(self.action_net(latent_policy), dim=1)
        chosen = logs.gather(1, actions.long().reshape(-1, 1)).squeeze(1)
        return self.value_net(latent_value), chosen, -(logs.exp() * logs).sum(dim=1)


class RewardScale:
    """Divides rewards by the running deviation of each lane's discounted return, so that the value loss has one size
    whatever the unit of reward. [Engstrom et al. 2020, arXiv 2005.12729, detail 2]"""

    def __init__(self, lanes: int, gamma: float) -> None:
        self.gamma = gamma
        self.returns = np.zeros(lanes)
        self.mean, self.variance, self.count = 0.0, 1.0, 1e-4

    def __call__(self, rewards: np.ndarray, done: np.ndarray) -> np.ndarray:
        """Scaled rewards [N], float32, clipped to +-10 deviations."""
        self.returns = self.returns * self.gamma + rewards
        count = len(rewards)
        mean, variance = float(self.returns.mean()), float(self.returns.var())
        total, delta = self.count + count, mean - self.mean
        self.variance = (self.variance * self.count + variance * count + delta**2 * self.count * count / total) / total
        self.mean += delta * count / total
        self.count = total
        self.returns[done] = 0.0
        return np.clip(rewards / np.sqrt(self.variance + 1e-12), -10.0, 10.0).astype(np.float32)


class LaneBuffer(RolloutBuffer):
    """SB3's rollout buffer, allocated once, shuffled by its own generator, handed out without a transposed copy."""

    generator: torch.Generator

    def reset(self) -> None:
        if self.pos == 0 and not hasattr(self, "observations"):
            super().reset()
        self.pos, self.full = 0, False

    def get(self, batch_size: int | None = None) -> Iterator[RolloutBufferSamples]:  # type: ignore[override]
        count = self.buffer_size * self.n_envs
        columns = {
            name: torch.from_numpy(getattr(self, name).reshape(count, -1)) for name in ("observations", "actions")
        } | {
            name: torch.from_numpy(getattr(self, name).reshape(count))
            for name in ("values", "log_probs", "advantages", "returns")
        }
        order = torch.randperm(count, generator=self.generator)
        for rows in order.split(batch_size or count):
            chosen = {name: column.index_select(0, rows) for name, column in columns.items()}
            yield RolloutBufferSamples(
                chosen["observations"].reshape(-1, *self.obs_shape),
                chosen["actions"],
                chosen["values"],
                chosen["log_probs"],
                chosen["advantages"],
                chosen["returns"],
            )


class _Collect(KVWriter):
    """SB3's logged values, kept for the report of the iteration."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        self.values = {
            key: float(value)
            for key, value in key_values.items()
            if "tensorboard" not in (key_excluded.get(key) or ()) and isinstance(value, int | float | np.number)
        }

    def close(self) -> None:
        pass


class LanePPO(SB3PPO):
    """SB3's PPO whose rollouts are batched over lanes; `prepare` must be called before `learn`."""

    rollout_buffer: LaneBuffer

    _last_obs: np.ndarray
    _last_episode_starts: np.ndarray

    def prepare(self, seed: int, scale_rewards: bool, report: Report) -> None:
        """Own generators from `seed`; `report(steps, scalars)` is asked after every update whether to go on."""
        self.report = report
        self.scale = RewardScale(self.n_envs, self.gamma) if scale_rewards else None
        noise, shuffle = np.random.SeedSequence([seed, 1]).generate_state(2, np.uint64) >> np.uint64(1)
        self.noise = torch.Generator().manual_seed(int(noise))
        self.rollout_buffer.generator = torch.Generator().manual_seed(int(shuffle))
        self.log = _Collect()
        self.set_logger(Logger(None, [self.log]))
        self._go_on = True
        self._before: Arrays = {}  # of lanes that a checkpoint left in the middle of their episodes

    def _setup_learn(self, *args: Any, **keywords: Any) -> tuple[int, BaseCallback]:
        """Where the environment went on in the middle of episodes, what is counted of these goes on too."""
        answer = super()._setup_learn(*args, **keywords)
        before, self._before = self._before, {}
        if before and getattr(self.env, "continued", False):
            self.env.restore(before)  # type: ignore[union-attr]
            if self.scale is not None and "discounted_return" in before:
                self.scale.returns = before["discounted_return"].copy()
        return answer

    # ---- rollout

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        if not self._go_on:
            return False
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        callback.on_rollout_start()
        with torch.no_grad():
            for _ in range(n_rollout_steps):
                self._step(env, rollout_buffer)
                callback.update_locals(locals())
                if not callback.on_step():
                    return False
            values = self.policy.predict_values(torch.from_numpy(self._last_obs))
        rollout_buffer.compute_returns_and_advantage(last_values=values, dones=self._last_episode_starts)
        callback.on_rollout_end()
        return True

    def _step(self, env: VecEnv, buffer: RolloutBuffer) -> None:
        actions, values, log_probs = self._sample(torch.from_numpy(self._last_obs))
        performed = actions
        if isinstance(self.action_space, spaces.Box):
            performed = np.clip(actions, self.action_space.low, self.action_space.high)
        elif isinstance(self.action_space, spaces.Discrete):
            performed = actions + self.action_space.start
        observation, rewards, dones, infos = env.step(performed)
        self.num_timesteps += env.num_envs
        if self.scale is not None:
            rewards = self.scale(rewards, dones)
        ended = np.flatnonzero(dones)
        if len(ended):
            ends = [infos[lane] for lane in ended]
            self._update_info_buffer(ends, dones[ended])
            self._bootstrap(rewards, ended, ends)
        buffer.add(self._last_obs, actions, rewards, self._last_episode_starts, values, log_probs)
        self._last_obs, self._last_episode_starts = np.asarray(observation), dones

    def _sample(self, observation: torch.Tensor) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
        """Actions [N] or [N, A], values [N, 1] and log-probabilities [N], drawn with our own generator."""
        features = self.policy.extract_features(observation)
        latent_policy, latent_value = self.policy.mlp_extractor(features)
        values = self.policy.value_net(latent_value)
        parameters = self.policy.action_net(latent_policy)
        if isinstance(self.action_space, spaces.Discrete):
            logits = torch.log_softmax(parameters, dim=1)
            race = torch.empty_like(logits).exponential_(generator=self.noise).log_()
            chosen = (logits - race).argmax(dim=1, keepdim=True)  # exponential race: chosen with probability softmax
            return chosen.squeeze(1).numpy(), values, logits.gather(1, chosen).squeeze(1)
        deviation = self.policy.log_std.exp()
        actions = parameters + deviation * torch.randn(parameters.shape, generator=self.noise)
        log_probs = torch.distributions.Normal(parameters, deviation, validate_args=False).log_prob(actions).sum(dim=1)
        return actions.numpy(), values, log_probs

    def _bootstrap(self, rewards: np.ndarray, ended: np.ndarray, ends: list[dict[str, Any]]) -> None:
        """Adds the value of where an episode was cut (not finished), for all such lanes in one call."""
        cut = [i for i, info in enumerate(ends) if info.get("TimeLimit.truncated", False)]
        if cut:
            last = np.stack([ends[i]["terminal_observation"] for i in cut])
            rewards[ended[cut]] += self.gamma * self.policy.predict_values(torch.from_numpy(last)).numpy().ravel()

    # ---- update

    def train(self) -> None:
        super().train()
        extractor = self.policy.features_extractor
        assert isinstance(extractor, RunningFeatures)
        extractor.absorb(self.rollout_buffer.observations)
        if self.scale is not None:
            self.logger.record("train/reward_scale", float(np.sqrt(self.scale.variance)))
        super().dump_logs(self.num_timesteps // (self.n_envs * self.n_steps))
        self._go_on = self.report(self.num_timesteps, self.log.values)

    def dump_logs(self, iteration: int = 0) -> None:
        """SB3 logs before it updates; here an iteration is reported after its update, with all that belongs to it."""

    # ---- state between runs

    def arrays(self) -> Arrays:
        """Adam's moments, the reward scale, the generators, and what is counted of episodes under way."""
        ended = [[float(episode["r"]), float(episode["l"])] for episode in self.ep_info_buffer or ()]
        arrays: Arrays = {
            "noise": self.noise.get_state().numpy(),
            "shuffle": self.rollout_buffer.generator.get_state().numpy(),
            "n_updates": np.array([self._n_updates]),
            "episodes_ended": np.array(ended, np.float64).reshape(-1, 2),
            **{name: array.copy() for name, array in self.env.arrays().items()},  # type: ignore[union-attr]
        }
        for index, state in self.policy.optimizer.state_dict()["state"].items():
            for name, value in state.items():
                arrays[f"adam.{index}.{name}"] = value.numpy() if torch.is_tensor(value) else np.asarray(value)
        if self.scale is not None:
            arrays["reward_scale"] = np.array([self.scale.mean, self.scale.variance, self.scale.count])
            arrays["discounted_return"] = self.scale.returns.copy()
        return arrays

    def restore(self, arrays: Arrays) -> None:
        """Takes over what `arrays` gave; of episodes under way only if the environment goes on with them."""
        self._before = {name: arrays[name] for name in UNDER_WAY if name in arrays}
        before = arrays.get("episodes_ended", np.zeros((0, 2)))
        ended = [{"r": r, "l": int(length), "t": 0.0} for r, length in before]
        self.ep_info_buffer = deque(ended, maxlen=self._stats_window_size)
        self.ep_success_buffer = deque(maxlen=self._stats_window_size)
        self.noise.set_state(torch.from_numpy(arrays["noise"]))
        self.rollout_buffer.generator.set_state(torch.from_numpy(arrays["shuffle"]))
        self._n_updates = int(arrays["n_updates"][0])
        if self.scale is not None and "reward_scale" in arrays:
            self.scale.mean, self.scale.variance, self.scale.count = arrays["reward_scale"].tolist()
        optimiser = self.policy.optimizer
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in arrays.items():
            kind, _, rest = key.partition(".")
            if kind == "adam":
                index, _, name = rest.partition(".")
                state.setdefault(int(index), {})[name] = torch.from_numpy(value)
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
