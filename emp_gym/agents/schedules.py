"""Execution schedules for ``emp-lob-execution-v0``: sell or buy a parent order along a curve known in advance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from emp_gym.agents.base import Arrays, BaseAgent, Callback
from emp_gym.agents.baselines import allowed, parameter
from emp_gym.types import F32, F64, Bool, ConfigError, MakeEnv

KEEP, POST, TAKE_ONE, TAKE_TWO = 0, 1, 3, 4
"""Entries of the menu of ``emp-lob-execution-v0`` that the schedules use."""
PARENT, CLIP = 1000, 100
"""Lots of the parent order and of one clip; the environment's defaults (a test holds them equal)."""


@dataclass(frozen=True)
class ScheduleConfig:
    """Parameters of `TWAP`."""

    patience: float = 0.0  # share of a clip that may be behind the curve before the rest is taken
    passive: bool = False  # True: rests at the touch while on schedule; False: takes what is due and nothing else


class TWAP(BaseAgent):
    """Time-weighted average price: executes in proportion to the time gone (Almgren and Chriss 2000 with no risk
    aversion).

    Takes a clip whenever the share left exceeds what the curve says. State: none.
    """

    Config: ClassVar[type | None] = ScheduleConfig
    config: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(self.action_space, spaces.Discrete):
            raise ConfigError(
                f"a schedule needs the execution menu, got {self.action_space}; use it on emp-lob-execution-v0"
            )
        self._left, self._elapsed = self.column("parent_left"), self.column("elapsed")
        self._clip = parameter(self.spec, "order_quantity", CLIP) / parameter(self.spec, "parent", PARENT)

    def target(self, observation: F32) -> F64:
        """Share of the parent [N] that should be done when this decision has been carried out."""
        elapsed = observation[:, self._elapsed].astype(np.float64)
        return np.minimum(elapsed + self._clip, 1.0)

    def act(self, observation: F32, state: Any, mask: Bool | None = None) -> tuple[np.ndarray, Any]:
        done = 1.0 - observation[:, self._left].astype(np.float64)
        behind = (self.target(observation) - done) / self._clip  # clips
        due = 1.0 + self.config.patience - 1e-6
        rest = POST if self.config.passive else KEEP
        wanted = np.where(behind >= due + 1.0, TAKE_TWO, np.where(behind >= due, TAKE_ONE, rest))
        return allowed(wanted, mask), state


@dataclass(frozen=True)
class VWAPConfig(ScheduleConfig):
    """Parameters of `VWAP`."""

    buckets: int = 4  # parts of the session, each with its own curve
    points: int = 64  # of the curve over an episode
    lanes: int = 64  # that watch the training days
    steps: int = 65_536  # decisions watched, over all lanes


class VWAP(TWAP):
    """Volume-weighted average price: executes along the volume curve of the *training* days, which `learn` watches
    without trading (Berkowitz, Logue and Noser 1988 for the benchmark). Until then the curve is TWAP's.
    """

    Config: ClassVar[type | None] = VWAPConfig
    config: VWAPConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._time, self._volume = self.column("time_of_day"), self.column("volume_step")
        self._curve = np.tile(np.linspace(0.0, 1.0, self.config.points + 1), (self.config.buckets, 1))

    def initial_state(self, lanes: int) -> np.ndarray:
        """Part of the session in which the episode began, int64 [N], -1 before its first decision."""
        return np.full(lanes, -1, np.int64)

    def act(self, observation: F32, state: Any, mask: Bool | None = None) -> tuple[np.ndarray, Any]:
        bucket = np.where(state < 0, self._bucket(observation), state)
        self._now = bucket
        action, _ = super().act(observation, bucket, mask)
        return action, bucket

    def _bucket(self, observation: F32) -> np.ndarray:
        return np.clip(observation[:, self._time] * self.config.buckets, 0, self.config.buckets - 1).astype(np.int64)

    def target(self, observation: F32) -> F64:
        place = observation[:, self._elapsed].astype(np.float64) * self.config.points
        before = np.clip(place.astype(np.int64), 0, self.config.points - 1)
        low, high = self._curve[self._now, before], self._curve[self._now, before + 1]
        return np.minimum(low + (place - before) * (high - low) + self._clip, 1.0)

    def learn(self, make_env: MakeEnv, total_timesteps: int, callback: Callback | None = None) -> None:
        """Watches up to ``config.steps`` (at most `total_timesteps`) decisions of the training days and keeps their
        curve."""
        env = make_env(num_envs=self.config.lanes)
        sums = np.zeros((self.config.buckets, self.config.points))
        observation, _ = env.reset(seed=self.seed)
        bucket = self._bucket(observation)
        idle = np.zeros(env.num_envs, np.int64)
        for step in range(max(1, min(self.config.steps, total_timesteps) // env.num_envs)):
            place = observation[:, self._elapsed] * self.config.points
            observation, _, terminated, truncated, _ = env.step(idle)
            done = terminated | truncated
            point = np.clip(place.astype(np.int64), 0, self.config.points - 1)
            volume = np.where(done, 0.0, self.value(observation, "volume_step"))
            np.add.at(sums, (bucket, point), volume)
            bucket = np.where(done, self._bucket(observation), bucket)
            if callback is not None and callback((step + 1) * env.num_envs, {}) is False:
                break
        env.close()
        self._curve = curves(sums)

    def arrays(self) -> Arrays:
        return {"curve": self._curve}

    def restore(self, arrays: Arrays) -> None:
        self._curve = arrays["curve"]


def curves(volume: F64) -> F64:
    """Running shares [B, P + 1] of volumes [B, P], from 0 to 1; a part of the session without volume gets the mean
    curve."""
    whole = volume.sum(axis=0)
    filled = np.where(volume.sum(axis=1, keepdims=True) > 0, volume, whole)
    filled = filled + 1e-3 * max(filled.mean(), 1e-12)
    running = np.cumsum(filled, axis=1) / filled.sum(axis=1, keepdims=True)
    return np.concatenate([np.zeros((len(volume), 1)), running], axis=1)
