"""The one door by which tests look inside an environment of ours: where its insides move, this file changes and no test."""

from __future__ import annotations

from typing import Any

import numpy as np

from emp_gym.envs import snapshot
from emp_gym.envs.trading_core import Lanes
from emp_gym.market.replay import ReplayMarket


def lanes_of(env: Any) -> Lanes:
    """The lanes behind a scalar or vector environment."""
    return env.unwrapped.lanes


def kept_of(env: Any) -> dict[str, np.ndarray]:
    """Every array, gates apart, that a snapshot of a vector environment holds, under its name there; not copies."""
    face = env.unwrapped
    market = getattr(face.lanes, "market", None)
    return face.kept() | ({} if market is None else {snapshot.MARKET + name: array for name, array in market.arrays().items()})


def market_of(env: Any) -> ReplayMarket:
    """The market behind an environment, or behind lanes."""
    return (env if isinstance(env, Lanes) else lanes_of(env)).market
