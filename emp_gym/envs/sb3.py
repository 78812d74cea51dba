"""Stable-Baselines3's ``VecEnv`` over a native Gymnasium vector environment.

SB3 has no converter of its own. This one does no Python work per lane except for lanes whose episode ended, and hands
over what SB3 expects of ``Monitor`` and ``TimeLimit`` besides, so neither ``VecMonitor`` nor a wrapper per lane is
needed:

=======================  ==============================================================================================
``terminal_observation``  last observation of the episode that ended, float32 [D]
``TimeLimit.truncated``   True where the episode was cut rather than finished
``episode``               ``{"r": sum of rewards, "l": length, "t": seconds since this adapter was made}``
=======================  ==============================================================================================

It works for any ``VectorEnv`` in ``AutoresetMode.SAME_STEP``. ``MaskablePPO``, its evaluation and its callback find the
action masks of discrete environments.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from emp_gym.extras import told
from emp_gym.types import Bool, ConfigError

try:
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvStepReturn
except ModuleNotFoundError as error:
    raise told(error) or error from error

NOTHING: dict[str, Any] = {}
"""The info of a lane whose episode goes on: one empty dict for all, never written to."""


class NativeVecEnv(VecEnv):
    """`env` as SB3 sees it.

    `stagger` cuts every lane's first episode short by its own draw, so that lanes that learn do not all end at once. Leave it
    out where episodes are judged (``evaluate_policy``, ``EvalCallback``): those that were cut are not comparable.

    Rewards are float32 [N], dones bool [N]. Arrays handed out are never written to again: SB3 keeps references to them.
    Raises `ConfigError` where the environment does not reset in the same step.
    """

    def __init__(self, env: VectorEnv, *, stagger: bool = False) -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.SAME_STEP:
            raise ConfigError(
                f"SB3 needs an environment that resets in the same step, got autoreset_mode {mode}; "
                'make it with autoreset_mode="SameStep"'
            )
        self.env = env
        self._stagger = stagger
        self._seed: int | None = None
        self._started = time.perf_counter()
        self._actions = np.empty(0)
        self._mask: Bool | None = None  # [N, A] of the observation that SB3 holds now
        self._began = False  # whether it holds any
        self.continued = False  # whether the last reset went on in the middle of episodes
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, np.int64)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Sets the seed of the next reset; lanes derive their own from it, as the environment says."""
        self._seed = seed
        return [seed] * self.num_envs

    def set_options(self, options: list[dict[str, Any]] | dict[str, Any] | None = None) -> None:
        """Sets the options of the next reset: one dict for all lanes."""
        if isinstance(options, list):
            raise ConfigError("options differ per lane: give one dict whose values are lists, e.g. {'day': [0, 1, 2]}")
        self._options = [dict(options or {})]

    def reset(self) -> np.ndarray:
        """First observations [N, D]."""
        options = dict(self._options[0])
        if self._stagger:
            options.setdefault("stagger", True)
        observation, info = self.env.reset(seed=self._seed, options=options or None)
        self._seed, self._stagger = None, False
        self._options = [{}]
        self._returns[:] = 0
        self._lengths[:] = 0
        self.continued = bool(np.all(info.get("continued", False)))
        self._keep_mask(info)
        self._began = True
        return np.array(observation)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return and length so far of each lane's episode."""
        return {"lane_return": self._returns, "lane_length": self._lengths}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes over what `arrays` gave."""
        self._returns[:], self._lengths[:] = arrays["lane_return"], arrays["lane_length"]

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        observation, reward, terminated, truncated, info = self.env.step(self._actions)
        self._returns += reward
        self._lengths += 1
        done = terminated | truncated
        infos = [NOTHING] * self.num_envs
        if done.any():
            self._describe_ends(infos, np.flatnonzero(done), terminated, info)
        self._keep_mask(info)
        return np.array(observation), np.array(reward, np.float32), np.array(done, bool), infos

    def _describe_ends(
        self, infos: list[dict[str, Any]], ended: np.ndarray, terminated: Bool, info: dict[str, Any]
    ) -> None:
        seconds = round(time.perf_counter() - self._started, 6)
        last = info["final_obs"]
        for lane in ended.tolist():
            infos[lane] = {
                "terminal_observation": np.array(last[lane]),
                "TimeLimit.truncated": not terminated[lane],
                "episode": {"r": float(self._returns[lane]), "l": int(self._lengths[lane]), "t": seconds},
            }
        self._returns[ended] = 0
        self._lengths[ended] = 0

    def _keep_mask(self, info: dict[str, Any]) -> None:
        mask = info.get("action_mask")
        self._mask = None if mask is None else np.array(mask, bool)

    @property
    def mask(self) -> Bool | None:
        """Which actions are allowed now, bool [N, A], not to be written to; None where the environment publishes no mask."""
        return self._mask

    def action_masks(self) -> Bool:
        """Which actions are allowed now, bool [N, A]; raises AttributeError where the environment publishes no mask.

        Before the first reset an environment of ours says so by its own `action_masks`; of another one nothing is known then.
        """
        if self._mask is not None:
            return self._mask.copy()
        own = None if self._began else getattr(self.env.unwrapped, "action_masks", None)
        if own is None:
            raise AttributeError("this environment publishes no action mask")
        return np.array(own(), bool)

    def close(self) -> None:
        self.env.close()

    def _lanes(self, indices: VecEnvIndices) -> list[int]:
        return list(self._get_indices(indices))

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The environment's attribute, once per lane (lanes share it)."""
        lanes = self._lanes(indices)
        if attr_name == "action_masks":
            return list(self.action_masks()[lanes])
        target = self.env if hasattr(self.env, attr_name) else self.env.unwrapped
        return [getattr(target, attr_name)] * len(lanes)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Sets an attribute for all lanes at once."""
        if indices is not None and len(self._lanes(indices)) != self.num_envs:
            raise ConfigError(f"{attr_name}: lanes of one native environment share their attributes; set it for all")
        setattr(self.env.unwrapped, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Calls a method of the native environment once and gives its answer to each lane; `action_masks`: one row a
        lane."""
        lanes = self._lanes(indices)
        if method_name == "action_masks":
            return list(self.action_masks()[lanes])
        return [getattr(self.env.unwrapped, method_name)(*args, **kwargs)] * len(lanes)

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        """True for ``Monitor``, whose `episode` entries this adapter writes itself; otherwise False."""
        return [issubclass(wrapper_class, Monitor)] * len(self._lanes(indices))

    def get_images(self) -> Sequence[np.ndarray | None]:
        """The picture of each lane; None where the environment draws none."""
        frames: Any = self.env.render()
        return [None] * self.num_envs if frames is None else list(frames)
