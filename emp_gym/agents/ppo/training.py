"""SB3's PPO for a thousand lanes: the same algorithm with rollouts that cost no Python per lane.

SB3's update runs as it is. Masks, memory and a baseline's choice reach it inside what it takes for observations (`PolicyInput`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO as SB3PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from emp_gym.agents.backbones import State
from emp_gym.agents.base import Arrays, must_fit
from emp_gym.agents.ppo.policy import LanePolicy, PolicyInput, RunningFeatures
from emp_gym.agents.ppo.residual import Residual
from emp_gym.agents.ppo.rollout import LaneBuffer, RewardScale

UNDER_WAY = ("lane_return", "lane_length", "discounted_return", "lane_fresh", "memory.", "baseline")
"""How arrays of a checkpoint begin that mean something only if the lanes go on where they stood."""
KEPT = "what ppo kept to go on from (training.safetensors)"

Report = Callable[[int, Mapping[str, float]], bool]
Correction = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
"""(observations f4 [N, D], values f4 [N], scale that divides rewards) -> values [N] that enter the advantages."""


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
    policy: LanePolicy

    _last_obs: np.ndarray
    _last_episode_starts: np.ndarray

    def prepare(
        self, seed: int, scale_rewards: bool, report: Report, *, masks: bool = True, residual: Residual | None = None,
        correct: Correction | None = None,
    ) -> None:  # fmt: skip
        """Own generators from `seed`; `report(steps, scalars)` is asked after every update whether to go on."""
        self.report, self.masks, self.residual, self.correct = report, masks, residual, correct
        self.scale = RewardScale(self.n_envs, self.gamma) if scale_rewards else None
        noise, shuffle = np.random.SeedSequence([seed, 1]).generate_state(2, np.uint64) >> np.uint64(1)
        self.noise = torch.Generator().manual_seed(int(noise))
        self.rollout_buffer.generator = torch.Generator().manual_seed(int(shuffle))
        self.log = _Collect()
        self.set_logger(Logger(None, [self.log]))
        self._go_on = True
        self._before: Arrays = {}  # of lanes that a checkpoint left in the middle of their episodes
        self._state: State = {}  # of the encoders
        self._base_state: Any = None  # None, or an array [N, ...]: what baselines remember

    def _setup_learn(self, *args: Any, **keywords: Any) -> tuple[int, BaseCallback]:
        """Where the environment went on in the middle of episodes, what is counted of these goes on too."""
        answer = super()._setup_learn(*args, **keywords)
        self._state = self.policy.initial_state(self.n_envs)
        self._base_state = None if self.residual is None else self.residual.initial_state(self.n_envs)
        before, self._before = self._before, {}
        if before and getattr(self.env, "continued", False):
            must_fit(before, {name: like for name, like in self.arrays().items() if name in before}, KEPT)
            self.env.restore(before)  # type: ignore[union-attr]
            if self.scale is not None and "discounted_return" in before:
                self.scale.returns = before["discounted_return"].copy()
            if "lane_fresh" in before:
                self._last_episode_starts = before["lane_fresh"].copy()
                self._state = {name: torch.from_numpy(before[f"memory.{name}"]) for name in self._state}
            if self._base_state is not None:
                self._base_state = before["baseline"]
        return answer

    # ---- rollout

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        if not self._go_on:
            return False
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        self.rollout_buffer.state = self._state
        callback.on_rollout_start()
        with torch.no_grad():
            for _ in range(n_rollout_steps):
                self._step(env, self.rollout_buffer)
                callback.update_locals(locals())
                if not callback.on_step():
                    return False
            values = self._values(self._last_obs, self._state)
        rollout_buffer.compute_returns_and_advantage(last_values=values, dones=self._last_episode_starts)
        callback.on_rollout_end()
        return True

    def _step(self, env: VecEnv, buffer: LaneBuffer) -> None:
        seen, base, base_state = self._look(env)
        actions, values, log_probs, state = self._sample(seen)
        buffer.put_beside(seen)
        observation, rewards, dones, infos = env.step(self._performed(actions, base))
        self.num_timesteps += env.num_envs
        values = self._corrected(self._last_obs, values)
        if self.scale is not None:
            rewards = self.scale(rewards, dones)
        ended = np.flatnonzero(dones)
        if len(ended):
            ends = [infos[lane] for lane in ended]
            self._update_info_buffer(ends, dones[ended])
            self._bootstrap(rewards, ended, ends, state)
        buffer.add(self._last_obs, actions, rewards, self._last_episode_starts, values, log_probs)
        self._last_obs, self._last_episode_starts = np.asarray(observation), dones
        self._state = self.policy.reset_state(state, torch.from_numpy(dones))
        if self.residual is not None:
            self._base_state = self.residual.reset_state(base_state, dones)

    def _look(self, env: VecEnv) -> tuple[PolicyInput, np.ndarray | None, Any]:
        """What the policy is shown, what the baseline would do [N, ...], and the baseline's next state."""
        published = getattr(env, "mask", None)
        base, base_state, choice = None, None, None
        if self.residual is not None:
            base, base_state = self.residual.propose(self._last_obs, self._base_state, published)
            choice = torch.from_numpy(base) if isinstance(self.action_space, spaces.Discrete) else None
        mask = torch.from_numpy(published) if self.masks and published is not None else None
        return PolicyInput(torch.from_numpy(self._last_obs), mask, choice, self._state or None), base, base_state

    def _sample(self, seen: PolicyInput) -> tuple[np.ndarray, Tensor, Tensor, State]:
        """Actions [N] or [N, A], values [N, 1], log-probabilities [N], drawn with our own generator; the next state."""
        heads, values, state = self.policy.decide(seen)
        if isinstance(self.action_space, spaces.Discrete):
            race = torch.empty_like(heads).exponential_(generator=self.noise).log_()
            chosen = (heads - race).argmax(dim=1, keepdim=True)  # exponential race: chosen with probability softmax
            return chosen.squeeze(1).numpy(), values, heads.gather(1, chosen).squeeze(1), state
        deviation = self.policy.log_std.exp()
        actions = heads + deviation * torch.randn(heads.shape, generator=self.noise)
        log_probs = torch.distributions.Normal(heads, deviation, validate_args=False).log_prob(actions).sum(dim=1)
        return actions.numpy(), values, log_probs, state

    def _performed(self, actions: np.ndarray, base: np.ndarray | None) -> np.ndarray:
        """What the environment is given for the policy's `actions`."""
        if isinstance(self.action_space, spaces.Discrete):
            return actions + self.action_space.start
        assert isinstance(self.action_space, spaces.Box)
        if self.residual is not None and base is not None:
            return self.residual.perform(base, actions)
        return np.clip(actions, self.action_space.low, self.action_space.high)

    def _values(self, observation: np.ndarray, state: State) -> Tensor:
        """Values [n, 1] as they enter the advantages."""
        return self._corrected(observation, self.policy.values(PolicyInput(torch.from_numpy(observation), state=state or None)))

    def _corrected(self, observation: np.ndarray, values: Tensor) -> Tensor:
        if self.correct is None:
            return values
        scale = 1.0 if self.scale is None else self.scale.deviation
        corrected = self.correct(observation, values.numpy().ravel(), scale)
        return torch.from_numpy(np.asarray(corrected, np.float32)).reshape(values.shape)

    def _bootstrap(self, rewards: np.ndarray, ended: np.ndarray, ends: list[dict[str, Any]], state: State) -> None:
        """Adds the value of where an episode was cut (not finished), for all such lanes in one call; `state` [N, ...] is that
        of the lanes before they forget."""
        cut = [i for i, info in enumerate(ends) if info.get("TimeLimit.truncated", False)]
        if cut:
            last = np.stack([ends[i]["terminal_observation"] for i in cut])
            lanes = torch.from_numpy(ended[cut])
            memory = {name: tensor.index_select(0, lanes) for name, tensor in state.items()}
            rewards[ended[cut]] += self.gamma * self._values(last, memory).numpy().ravel()

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
        if self._state:
            arrays["lane_fresh"] = self._last_episode_starts.copy()
            arrays |= {f"memory.{name}": tensor.numpy().copy() for name, tensor in self._state.items()}
        if self._base_state is not None:
            arrays["baseline"] = self._base_state.copy()
        if self.scale is not None:
            arrays["reward_scale"] = np.array([self.scale.mean, self.scale.variance, self.scale.count])
            arrays["discounted_return"] = self.scale.returns.copy()
        return arrays

    def restore(self, arrays: Arrays) -> None:
        """Takes over what `arrays` gave; of episodes under way only if the environment goes on with them."""
        self._before = {name: array for name, array in arrays.items() if name.startswith(UNDER_WAY)}
        before = arrays.get("episodes_ended", np.zeros((0, 2)))
        lasting = {name: array for name, array in arrays.items() if name not in self._before}
        like = {"episodes_ended": np.zeros((*before.shape[:1], 2)), "reward_scale": np.zeros(3)}
        like = {name: one for name, one in like.items() if name in lasting} | {"n_updates": np.zeros(1, np.int64)}
        like |= dict.fromkeys(("noise", "shuffle"), self.noise.get_state().numpy())
        for number, parameter in enumerate(self.policy.optimizer.param_groups[0]["params"]):
            moment = np.zeros(parameter.shape, np.float32)
            moments = {"step": np.zeros((), np.float32), "exp_avg": moment, "exp_avg_sq": moment}
            if any(f"adam.{number}.{name}" in lasting for name in moments):  # none before the first update
                like |= {f"adam.{number}.{name}": one for name, one in moments.items()}
        must_fit(lasting, like, KEPT)
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
