"""Statistics of training episodes: what finished ones gave, and what the risk layer objected to."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from emp_gym.data.array_files import loaded
from emp_gym.envs import snapshot
from emp_gym.evaluation.intervals import rates
from emp_gym.governance.kill_switch.gate import raise_if_killed
from emp_gym.risk.gates import Gate
from emp_gym.runs import backtest
from emp_gym.types import DataError

LOGGER = logging.getLogger("emp_gym.training.episode_statistics")


MARKET_TAGS = {
    "pnl": "pnl",  # currency per episode, position closed at its end
    "mean_abs_inventory": "inventory",  # lots
    "max_inventory": "max_inventory",  # lots
    "fill_rate": "fill_rate",  # orders that got any fill / orders sent
    "maker_share": "maker_share",  # lots filled while resting / lots filled
    "filled": "filled",  # lots per episode
    "spread_captured": "spread_captured",  # currency per episode
    "fees": "fees",  # currency per episode
    "masked_rate": "masked",  # masked actions / decisions
    "clipped": "clipped_features",  # per episode
}
"""Numbers of an episode's summary -> TensorBoard tag below ``market/``."""


class EpisodeStatistics:
    """Collects the summaries of finished episodes from one or more environments until they are drained."""

    def __init__(self) -> None:
        self._parts: list[dict[str, np.ndarray]] = []
        self._risk = RiskMeter()

    def watch(self, gates: Sequence[Gate]) -> None:
        """Gates whose counters are to be told, too."""
        self._risk.watch(gates)

    def add(self, summary: Mapping[str, Any], lanes: np.ndarray) -> None:
        """Episodes that ended in `lanes`; `summary` holds arrays [N]."""
        self._parts.append({k: np.asarray(v)[lanes] for k, v in summary.items() if not k.startswith("_")})

    def forget(self) -> None:
        """What gates have counted so far was told before."""
        self._parts = []
        self._risk.drain()

    def drain(self) -> dict[str, float]:
        """Scalars of the episodes since the last call, of none where none ended, and of the risk layer."""
        parts, self._parts = self._parts, []
        if not parts:
            return self._risk.drain()
        episodes = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        means = rates(episodes)
        scalars = {f"market/{tag}": means[name] for name, tag in MARKET_TAGS.items() if name in means}
        scalars["rollout/episodes"] = float(len(episodes["length"]))
        scalars["rollout/ep_rew_mean"], scalars["rollout/ep_len_mean"] = means["return"], means["length"]
        return scalars | self._risk.drain()


class RiskMeter:
    """Objections of the risk layer: ``risk/RULE`` since the last call, for rules that ever objected, and ``risk/latched``,
    the share of lanes that may only reduce or cancel now."""

    def __init__(self) -> None:
        self._gates: list[Gate] = []
        self._before: Counter[str] = Counter()

    def watch(self, gates: Sequence[Gate]) -> None:
        self._gates += [gate for gate in gates if gate.counters()]

    def drain(self) -> dict[str, float]:
        """Nothing where there is no risk layer."""
        if not self._gates:
            return {}
        totals: Counter[str] = Counter()
        for gate in self._gates:
            totals.update(gate.counters())
        since = {f"risk/{rule}": float(n - self._before[rule]) for rule, n in totals.items() if n}
        self._before = totals
        return since | {"risk/latched": float(np.mean([gate.latched for gate in self._gates]))}


class MeteredVectorEnv(VectorWrapper):
    """A vector environment whose finished episodes are counted by a `EpisodeStatistics`; nothing else changes. `Killed` ends it.

    Their return is the sum of the rewards that came out here, wrappers included: what the agent learns from. With `state` (a file
    of `emp_gym.envs.snapshot`) the first reset begins no episodes: lanes go on from there, and so do the returns in `RETURNS`
    beside it.
    """

    def __init__(self, env: VectorEnv, meter: EpisodeStatistics, state: Path | None = None, returns: Path | None = None) -> None:
        super().__init__(env)
        self._meter, self._gates, self._state, self._returns = meter, backtest.gates_of(env), state, returns
        meter.watch(self._gates)
        self._return, self._length = np.zeros(env.num_envs), np.zeros(env.num_envs, np.int64)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._return[:], self._length[:] = 0.0, 0
        if self._state is None:
            return self.env.reset(seed=seed, options=options)
        state, self._state = self._state, None
        native: Any = self.env.unwrapped
        if not snapshot.fits(native, state):
            LOGGER.warning("%s: of another environment, or another version of this package: new episodes begin", state)
            return self.env.reset(seed=seed, options=options)
        answer = self.env.reset(seed=seed, options={"state": str(state)})
        self._meter.forget()
        if self._returns is not None and self._returns.exists():
            self._return[:] = _finite(self._returns, self.env.num_envs)
        return answer

    def save_returns(self, path: Path) -> None:
        """Sums of rewards of the episodes under way."""
        np.save(path, self._return, allow_pickle=False)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(actions)
        raise_if_killed(self._gates)
        self._return += reward
        self._length += 1
        done = terminated | truncated
        if done.any():
            lanes = np.flatnonzero(done)
            summary = info.get("final_info", info).get("summary") or {"length": self._length}
            self._meter.add({**summary, "return": self._return}, lanes)
            self._return[lanes], self._length[lanes] = 0.0, 0
        return observation, reward, terminated, truncated, info


def _finite(path: Path, lanes: int) -> np.ndarray:
    """The sums that `save_returns` left; `DataError` for another number of them, or one that is no number."""
    returns = loaded(path, np.dtype(np.float64), (lanes,))
    if not np.isfinite(returns).all():
        lane = int(np.argmin(np.isfinite(returns)))
        raise DataError(f"{path}: lane {lane}: expected a finite sum of rewards, got {returns[lane]}; go on from an earlier checkpoint")
    return returns


__all__ = ["MARKET_TAGS", "EpisodeStatistics", "MeteredVectorEnv", "RiskMeter", "_finite"]
