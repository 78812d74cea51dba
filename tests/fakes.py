"""A small native vector environment that honours the public contract of the real ones, for tests of agents and
experiments.

One random walk per day with a drift that the feature `ofi_long` shows with noise. Discrete(11) as `emp-lob-v0`
(passive actions do nothing) or a Box (target position). Numpy only, no kernels.
"""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

from emp_gym.data.tape.format import DayInfo
from emp_gym.envs.about import FOREIGN, EnvInfo
from emp_gym.envs.tasks import TradeBook
from emp_gym.types import Feature, Instrument

FEATURES = (
    Feature("ofi_long", "lots", 1.0, "signed_log"),
    Feature("imbalance_1", "1"),
    Feature("spread", "ticks", 10.0),
    Feature("volatility_short", "ticks", 1.0),
    Feature("volume_step", "lots", 1.0, "signed_log"),
    Feature("time_of_day", "1"),
    Feature("inventory", "fraction of max_position"),
    Feature("elapsed", "fraction of the episode"),
)
ROWS, EVERY, CLIP, LIMIT, TICK_CASH = 2000, 10, 10, 50, 0.01
SUMMARY = [
    "return",
    "length",
    "pnl",
    "fees",
    "filled",
    "maker_filled",
    "orders",
    "orders_filled",
    "spread_captured",
    "max_inventory",
    "mean_abs_inventory",
    "masked",
    "clipped",
    "day",
    "start",
]


class FakeLob(VectorEnv):
    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}
    render_mode = None

    def __init__(
        self,
        num_envs: int = 1,
        data: Any = None,
        split: str = "train",
        episode: str = "16 decisions",
        autoreset_mode: str = "NextStep",
        strength: float = 0.6,
        box: bool = False,
        days: int = 12,
        max_position: int = LIMIT,
        render_mode: str | None = None,
        threads: int = 1,
    ) -> None:
        self.num_envs = num_envs
        self.mode = AutoresetMode(autoreset_mode)
        self.metadata = {**type(self).metadata, "autoreset_mode": self.mode}
        self.episode = int(episode.split()[0])
        self.limit = max_position
        self.features = FEATURES
        self.single_observation_space = spaces.Box(-10, 10, (len(FEATURES),), np.float32)
        self.observation_space = spaces.Box(-10, 10, (num_envs, len(FEATURES)), np.float32)
        self.box = box
        self.single_action_space = spaces.Box(-1, 1, (1,), np.float32) if box else spaces.Discrete(11)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)
        held = max(1, days // 5)
        self.days = {"train": range(days - held), "test": range(days - held, days), "all": range(days)}[split]
        self._make_days(days, strength)
        self._seed = 0
        self._rngs = [np.random.default_rng([0, i]) for i in range(num_envs)]
        self._spec: Any = None
        self._day, self._row, self._start = (np.zeros(num_envs, np.int64) for _ in range(3))
        self._end = np.zeros(num_envs, np.int64)
        self._position, self._cash = np.zeros(num_envs, np.int64), np.zeros(num_envs)
        self._sums = {name: np.zeros(num_envs) for name in SUMMARY}
        self._over = np.zeros(num_envs, bool)

    @property
    def spec(self) -> Any:
        return self._spec

    @spec.setter
    def spec(self, value: Any) -> None:
        self._spec = copy.copy(value)
        self._spec.features = FEATURES
        actions = () if self.box else TradeBook.actions
        self._spec.about = EnvInfo(FOREIGN, value.id, FEATURES, actions=actions, episode=self.episode)

    def _make_days(self, days: int, strength: float) -> None:
        rng = np.random.default_rng(7)
        noise = rng.normal(size=(days, ROWS))
        signal = np.zeros((days, ROWS))
        for row in range(1, ROWS):
            signal[:, row] = 0.97 * signal[:, row - 1] + 0.24 * noise[:, row]
        signal = np.tanh(signal)
        steps = strength * signal + rng.normal(size=(days, ROWS)) * 0.5
        self.mid = 1000 + np.cumsum(np.concatenate([np.zeros((days, 1)), steps[:, :-1]], 1), 1)  # ticks
        self.signal = (signal if strength else 0 * signal).astype(np.float32)
        self.shown = signal * (strength > 0) * 3 + rng.normal(size=(days, ROWS))
        info = [
            DayInfo(Instrument("FAKE"), f"2030-01-{d + 1:02d}", ROWS, 1, {"message": {"sha256": f"{d:064d}"}})
            for d in range(days)
        ]
        self.tape_set = SimpleNamespace(info=info, signal=self.signal.ravel())

    def windows(self, n: int | None = None) -> list[tuple[int, int]]:
        span = self.episode * EVERY
        every = [(day, start) for day in self.days for start in range(0, ROWS - span - EVERY, span)]
        return every if n is None else [every[i] for i in np.linspace(0, len(every) - 1, n).astype(int)]

    def truth(self) -> tuple[np.ndarray, np.ndarray]:
        return self.signal[self._day, self._row].copy(), np.zeros(self.num_envs, np.int8)

    def _begin(self, lanes: np.ndarray, options: dict[str, Any]) -> None:
        span = self.episode * EVERY
        for lane in lanes:
            rng = self._rngs[lane]
            day, start = rng.choice(self.days), rng.integers(0, ROWS - span - EVERY)
            cut = rng.integers(1, self.episode + 1) if options.get("stagger") else self.episode
            self._day[lane] = np.broadcast_to(options.get("day", day), self.num_envs)[lane]
            self._row[lane] = self._start[lane] = np.broadcast_to(options.get("start", start), self.num_envs)[lane]
            self._end[lane] = cut
        for name in SUMMARY:
            self._sums[name][lanes] = 0
        self._position[lanes], self._cash[lanes], self._over[lanes] = 0, 0.0, False

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        if seed is not None:
            seeds = [[s, 0] for s in seed] if isinstance(seed, list) else [[seed, i] for i in range(self.num_envs)]
            self._rngs = [np.random.default_rng(s) for s in seeds]
        self._begin(np.arange(self.num_envs), dict(options or {}))
        return self._observe(), self._info()

    def _observe(self) -> np.ndarray:
        at = (self._day, self._row)
        back = self.mid[self._day, np.maximum(self._row - EVERY, 0)]
        shown = self.shown[at]
        columns = [
            np.sign(shown) * np.log1p(np.abs(shown)),
            np.tanh(shown),
            np.full(self.num_envs, 0.1),
            np.abs(self.mid[at] - back),
            np.full(self.num_envs, 1.0),
            self._row / ROWS,
            self._position / self.limit,
            self._sums["length"] / self.episode,
        ]
        return np.clip(np.stack(columns, 1), -10, 10).astype(np.float32)

    def _info(self) -> dict[str, Any]:
        every = np.ones(self.num_envs, bool)
        info = {"cost": np.zeros(self.num_envs, np.float32), "_cost": every.copy()}
        if not self.box:
            info |= {"action_mask": self._allowed(), "_action_mask": every.copy()}
        return info

    def _allowed(self) -> np.ndarray:
        mask = np.ones((self.num_envs, 11), bool)
        mask[:, 7] = self._position < self.limit
        mask[:, 8] = self._position > -self.limit
        return mask

    def _trade(self, wanted: np.ndarray) -> None:
        self._position += wanted
        mid = self.mid[self._day, self._row]
        self._cash -= (wanted * mid + np.abs(wanted) * 0.5) * TICK_CASH
        self._sums["filled"] += np.abs(wanted)
        self._sums["orders"] += wanted != 0
        self._sums["orders_filled"] += wanted != 0
        self._sums["spread_captured"] -= np.abs(wanted) * 0.5 * TICK_CASH

    def _wanted(self, actions: np.ndarray) -> np.ndarray:
        if self.box:
            return np.rint(np.asarray(actions).reshape(self.num_envs) * 5).astype(np.int64) * CLIP - self._position
        actions = np.asarray(actions)
        masked = ~self._allowed()[np.arange(self.num_envs), actions]
        self._sums["masked"] += masked
        actions = np.where(masked, 0, actions)
        return CLIP * (actions == 7) - CLIP * (actions == 8) - np.where(actions == 10, self._position, 0)

    def _equity(self) -> np.ndarray:
        return self._cash + self._position * self.mid[self._day, self._row] * TICK_CASH

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        n = self.num_envs
        fresh = self._over.copy()
        if self.mode is AutoresetMode.NEXT_STEP and fresh.any():
            self._begin(np.flatnonzero(fresh), {})
        before = self._equity()
        self._trade(np.where(fresh, 0, self._wanted(actions)))
        self._row = np.where(fresh, self._row, self._row + EVERY)
        self._sums["length"] += ~fresh
        cut = (self._sums["length"] >= self._end) & ~fresh
        if cut.any():
            self._trade(np.where(cut, -self._position, 0))
        reward = np.where(fresh, 0.0, self._equity() - before)
        self._sums["return"] += reward
        self._sums["pnl"] = self._equity()
        size = np.abs(self._position)
        self._sums["max_inventory"] = np.maximum(self._sums["max_inventory"], size)
        self._sums["mean_abs_inventory"] += (size - self._sums["mean_abs_inventory"]) / np.maximum(
            self._sums["length"], 1
        )
        self._sums["day"], self._sums["start"] = self._day.copy(), self._start.copy()
        self._over = cut.copy()
        return self._finish(reward, cut, np.zeros(n, bool))

    def _finish(self, reward: np.ndarray, cut: np.ndarray, end: np.ndarray) -> tuple[Any, ...]:
        extra: dict[str, Any] = {}
        summary = {name: values.copy() for name, values in self._sums.items()}
        if cut.any() and self.mode is AutoresetMode.SAME_STEP:
            extra = {
                "final_obs": self._observe(),
                "_final_obs": cut.copy(),
                "final_info": {"summary": summary, "_summary": cut.copy()},
                "_final_info": cut.copy(),
            }
            self._begin(np.flatnonzero(cut), {})
        elif cut.any():
            extra = {"summary": summary, "_summary": cut.copy()}
        return self._observe(), reward, end, cut, {**self._info(), **extra}

    def render(self) -> None:
        return None


def register() -> None:
    for name, keywords in (("fake-lob-v0", {}), ("fake-box-v0", {"box": True})):
        if name not in gym.registry:
            gym.register(name, entry_point=None, vector_entry_point=FakeLob, kwargs=keywords)


def make_env(num_envs: int | None = None, **keywords: Any) -> VectorEnv:
    register()
    name = keywords.pop("id", "fake-lob-v0")
    return gym.make_vec(name, num_envs=num_envs or 8, **{"autoreset_mode": "SameStep", **keywords})


class Rule:
    """All that an agent must have, without a base class: nothing to learn and nothing to save."""

    def __init__(self, observation_space: Any, action_space: Any, spec: Any, seed: int = 0) -> None: ...

    def initial_state(self, lanes: int) -> None: ...

    def act(self, observation: Any, state: Any, mask: Any = None) -> Any:
        return np.zeros(len(observation), np.int64), state

    def reset_state(self, state: Any, done: Any) -> Any:
        return state
