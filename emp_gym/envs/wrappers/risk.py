"""The risk layer as Gymnasium wrappers. They install a gate between task and market; actions stay what the agent chose.

``info`` gets `risk_state` (`Latch` of each lane after the step), `risk_bits` (reason bits of the step's orders; see
`emp_gym.risk.checks`) and `cost` (orders that gates cut or dropped), arrays over N or, in the scalar wrapper, numbers. A
state limit that a step passes is in that step's `risk_state`; where SAME_STEP autoreset has already begun the next episode,
what the step did is in ``final_info``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from emp_gym.envs.base_env import NativeWrapper
from emp_gym.envs.trading import G, TradingEnv, TradingVectorEnv
from emp_gym.risk.gate import RiskGate
from emp_gym.risk.limits import Limits
from emp_gym.types import Bool, ConfigError

LimitsLike = str | Path | Mapping[str, Any] | Limits


def trading(env: Any, what: str) -> TradingEnv | TradingVectorEnv:
    """The order-book environment of ours inside `env`, which `what` needs."""
    inner = env.unwrapped
    if not isinstance(inner, TradingEnv | TradingVectorEnv):
        raise ConfigError(f"{what} an order-book environment of EMP Gym, got {type(inner).__name__}")
    return inner


def install(env: Any, gate: G) -> G:
    """`gate`, put between task and market of an environment of ours, behind the gates that are there."""
    return trading(env, "gates need").install(gate)


class _Installed:
    """A risk gate in the lanes of an environment of ours."""

    def __init__(self, env: Any, limits: LimitsLike, mode: str, masks: bool, penalty: float) -> None:
        if not penalty >= 0:
            raise ConfigError(f"penalty must be >= 0 for each order that is touched, got {penalty}")
        self.env = trading(env, "gates need")
        self.gate, self.penalty = self.env.install(RiskGate(limits, mode, masks)), float(penalty)

    def look(self) -> np.ndarray:
        """Latches [N] now, the last step's marks included."""
        self.gate.observe(self.env.view)
        return self.gate.latch

    def verdict(self) -> tuple[np.ndarray, np.ndarray]:
        """(orders touched f4 [N], reason bits i8 [N]) of the last step."""
        verdicts = self.env.verdicts_of(self.gate)
        if verdicts is None:
            n = len(self.env.view.time_ns)
            return np.zeros(n, np.float32), np.zeros(n, np.int64)
        reason = verdicts.reason
        return (reason != 0).sum(axis=1).astype(np.float32), np.bitwise_or.reduce(reason, axis=1).astype(np.int64)


class RiskWrapper(gym.Wrapper):
    """Guards a scalar environment; `penalty` is taken from the reward for each order that is cut or dropped."""

    def __init__(
        self, env: gym.Env, limits: LimitsLike, *, mode: str = "project", masks: bool = True, penalty: float = 0.0
    ) -> None:
        super().__init__(env)
        self._installed = _Installed(env, limits, mode, masks, penalty)

    @property
    def gate(self) -> RiskGate:
        """The gate that this wrapper has installed."""
        return self._installed.gate

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = super().reset(seed=seed, options=options)
        return observation, info | {"risk_state": int(self._installed.look()[0]), "risk_bits": 0}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        touched, bits = self._installed.verdict()
        info |= {"risk_state": int(self._installed.look()[0]), "risk_bits": int(bits[0])}
        if self._installed.penalty:
            reward = float(reward) - self._installed.penalty * float(touched[0])
        return observation, reward, terminated, truncated, info

    @property
    def action_masks(self) -> Callable[[], Bool]:
        """Which actions are allowed now [A], for learners that ask for it by this name: the environment's own."""
        return self._installed.env.action_masks


class RiskVectorWrapper(NativeWrapper):
    """Guards a native vector environment, in every autoreset mode; one gate for all lanes."""

    def __init__(
        self, env: VectorEnv, limits: LimitsLike, *, mode: str = "project", masks: bool = True, penalty: float = 0.0
    ) -> None:
        super().__init__(env)
        self._installed = _Installed(env, limits, mode, masks, penalty)

    @property
    def gate(self) -> RiskGate:
        """The gate that this wrapper has installed."""
        return self._installed.gate

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        return observation, self._told(info, self._installed.look(), np.zeros(self.num_envs, np.int64))

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(actions)
        (touched, bits), latch = self._installed.verdict(), self._installed.look()
        if "final_info" in info:
            self._told(info["final_info"], np.where(info["_final_info"], self.gate.last_latch, latch), bits)
            bits = np.where(info["_final_info"], 0, bits)
        self._told(info, latch, bits)
        if self._installed.penalty:
            reward = reward - self._installed.penalty * touched
        return observation, reward, terminated, truncated, info

    def _told(self, info: dict[str, Any], latch: np.ndarray, bits: np.ndarray) -> dict[str, Any]:
        everyone = np.ones(self.num_envs, np.bool_)
        info |= {
            "risk_state": latch.copy(),
            "_risk_state": everyone,
            "risk_bits": bits.copy(),
            "_risk_bits": everyone.copy(),
        }
        return info


class SafetyAdapter(gym.Wrapper):
    """Safety-Gymnasium's interface: ``step`` gives (observation, reward, cost, terminated, truncated, info)."""

    def step(self, action: Any) -> tuple[Any, Any, Any, bool, bool, dict[str, Any]]:  # type: ignore[override]
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, info["cost"], terminated, truncated, info


class SafetyVectorAdapter(NativeWrapper):
    """`SafetyAdapter` for a vector environment; the cost is f4 [N]."""

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, Any, dict[str, Any]]:  # type: ignore[override]
        observation, reward, terminated, truncated, info = super().step(actions)
        cost = info["cost"]
        if "final_info" in info:  # SAME_STEP: the cost of an episode's last step stands there
            cost = np.where(info["_final_info"], info["final_info"]["cost"], cost)
        return observation, reward, cost, terminated, truncated, info
