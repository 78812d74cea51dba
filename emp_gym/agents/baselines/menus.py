"""How the actions of the order-book tasks are laid out, as far as the baselines use them."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from emp_gym.types import F32, F64, Bool, ConfigError

TRADE, MAKE, EXECUTE = "emp-lob-v0", "emp-lob-market-making-v0", "emp-lob-execution-v0"

KEEP, QUOTE_BOTH, BUY, SELL, CANCEL_ALL, FLATTEN = 0, 1, 7, 8, 9, 10
"""Entries of the menu of ``emp-lob-v0``."""
POST, TAKE_ONE, TAKE_TWO = 1, 3, 4
"""Entries of the menu of ``emp-lob-execution-v0``, whose entry 0 is KEEP, too."""
NO_SIZE = np.array([-1.0, 0.0, -1.0], np.float32)
AT_TOUCH = np.array([-1.0, 0.0, 1.0], np.float32)
BID_ONLY = np.array([0.0, 0.5, 1.0], np.float32)
ASK_ONLY = np.array([0.0, -0.5, 1.0], np.float32)
"""Actions (half-spread, skew, size) of ``emp-lob-market-making-v0``: nothing quoted; both sides at the touch, full size; one
side at the touch and the other `max_offset` ticks away, as far as that leaves the first where it is."""

DEFAULTS = {"max_offset": 10, "order_quantity": 100, "max_position": 500, "parent": 1000, "episode": "256 decisions"}
"""What the environments take where nothing else is asked for (a test holds them equal): ticks, lots, lots, lots."""

_NONE = 2.0  # ticks behind the touch from which on the menu has nothing nearer than no quote (halfway counts as deeper)
_QUOTES = np.array(
    [[3, 0, _NONE], [4, _NONE, 0], [5, 0, 1], [6, 1, 0], [1, 0, 0], [2, 1, 1], [CANCEL_ALL, _NONE, _NONE]]
)  # entry, ticks behind the touch of the bid, of the ask; one-sided first: ties go to what changes the inventory


def parameter(spec: Any, name: str) -> float:
    """What the environment was made with, else its documented default; ``"64 decisions"`` is 64."""
    value = getattr(spec, "kwargs", {}).get(name, DEFAULTS[name])
    return float(value.split()[0] if isinstance(value, str) else value)


def task(agent: Any) -> str | None:
    """Id of the order-book task whose actions and features `agent` was built for, None if it is none of them."""
    space, names = agent.action_space, {feature.name for feature in agent.features}
    if isinstance(space, spaces.Discrete) and space.start == 0:
        if "parent_left" in names:
            return EXECUTE if space.n == 6 else None
        return TRADE if space.n == 11 else None
    return MAKE if isinstance(space, spaces.Box) and space.shape == AT_TOUCH.shape else None


def require(agent: Any, *tasks: str) -> str:
    """The task of `agent`; raises `ConfigError` where it is none of `tasks`."""
    found = task(agent)
    if found not in tasks:
        raise ConfigError(
            f"{type(agent).__name__} acts on {' and '.join(tasks)}, got the action space {agent.action_space}"
        )
    return str(found)


def allowed(wanted: np.ndarray, mask: Bool | None) -> np.ndarray:
    """`wanted` [N] where `mask` [N, A] allows it, else KEEP."""
    if mask is None:
        return wanted
    return np.where(mask[np.arange(len(wanted)), wanted], wanted, KEEP)


def quotes_in_box(bid: F64, ask: F64, max_offset: float) -> F32:
    """Quotes [N], in ticks behind the touch (negative: inside the spread), as (half-spread, skew, size) [N, 3].

    The box cannot quote inside the spread on both sides at once: such quotes are moved back to the touch together.
    """
    action = np.empty((len(bid), 3), np.float32)
    action[:, 0] = np.clip((bid + ask) / max_offset - 1.0, -1.0, 1.0)
    action[:, 1] = np.clip(0.5 * (ask - bid) / max_offset, -1.0, 1.0)
    action[:, 2] = 1.0
    return action


def quotes_in_menu(bid: F64, ask: F64, mask: Bool | None) -> np.ndarray:
    """The allowed entries [N] of the menu of ``emp-lob-v0`` nearest to quotes [N] in ticks behind the touch.

    The menu has the touch, one tick deeper and no quote. A side more than 1.5 ticks behind counts as no quote, one inside
    the spread as the touch; nearest is the smallest sum of distances. KEEP only where no entry is allowed.
    """
    apart = sum(
        np.abs(np.clip(side, 0.0, _NONE)[:, None] - _QUOTES[None, :, 1 + column])
        for column, side in enumerate((bid, ask))
    )
    entries = _QUOTES[:, 0].astype(np.int64)
    if mask is not None:
        apart = np.where(mask[:, entries], apart, np.inf)
    best = np.argmin(apart, axis=1)
    return np.where(np.isfinite(np.min(apart, axis=1)), entries[best], KEEP)
