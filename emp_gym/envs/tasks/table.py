"""A table of actions, compiled once to the arrays that kernels read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from emp_gym.envs.tasks.actions import (
    ASK_THERE,
    BID_THERE,
    CONDITION,
    EXIT,
    FIRST,
    NOWHERE,
    ONE_FREE,
    OPEN_MARKET,
    QUOTE,
    ROW,
    TAKE,
    TWO_FREE,
)  # fmt: skip
from emp_gym.types import LEAVE, Action, ConfigError

FURTHEST = 1 << 20  # ticks behind the touch, and clips
MOST_CONDITIONS = 58


class ActionTable(NamedTuple):
    """Actions as kernels read them."""

    rows: np.ndarray  # ROW [A]
    conditions: np.ndarray  # CONDITION [C]
    needs: np.ndarray  # i8 [A] bits
    keep: int  # the first action that changes nothing


def compiled(actions: Sequence[Action], free: int, whole: bool) -> ActionTable:
    """The table of `actions`; market orders need `free` slots, and with `whole` all lots must fit. `ConfigError` where an action
    contradicts itself."""
    rows, needs, found = np.zeros(len(actions), ROW), np.zeros(len(actions), np.int64), dict[tuple[int, int, int], int]()

    def bit(what: int, side: int, size: int) -> int:
        number = found.setdefault((what, side, size), len(found))
        if number == MOST_CONDITIONS:
            raise ConfigError(f"actions may quote at, take and trade to at most {MOST_CONDITIONS} different places; got more")
        return 1 << FIRST + number

    for n, action in enumerate(actions):
        _check(action)
        to = NOWHERE if action.to is None else action.to
        rows[n] = (action.bid, action.ask, action.take, to, action.cancel)
        for side, depth in ((1, action.bid), (-1, action.ask)):
            if depth >= 0:
                needs[n] |= OPEN_MARKET | TWO_FREE | (BID_THERE if side > 0 else ASK_THERE)
                needs[n] |= bit(QUOTE, side, depth) if whole else 0
        if action.take:
            side = 1 if action.take > 0 else -1
            needs[n] |= OPEN_MARKET | (ONE_FREE if free == 1 else TWO_FREE) | (ASK_THERE if side > 0 else BID_THERE)
            needs[n] |= bit(TAKE, side, abs(action.take)) if whole else 0
        if action.to is not None:
            needs[n] |= OPEN_MARKET | ONE_FREE | bit(EXIT, 1, action.to)
    names = [action.name for action in actions]
    if len(set(names)) < len(names):
        raise ConfigError(f"actions must have different names, got {names}")
    keep = next((n for n, action in enumerate(actions) if action.keeps), -1)
    if names and keep < 0:
        raise ConfigError(f'actions must have one that changes nothing, Action("keep"), got {names}')
    return ActionTable(rows, np.array(list(found), np.int64).reshape(-1, 3).view(CONDITION).reshape(-1), needs, keep)


def _check(action: Action) -> None:
    if not isinstance(action, Action) or not isinstance(action.name, str):
        raise ConfigError(f"actions must be Action(name, ...) of emp_gym.types, got {action!r:.200}")
    depths, clips = {"bid": action.bid, "ask": action.ask}, {"take": action.take, "to": action.to or 0}
    for name, value in (depths | clips).items():
        least = LEAVE if name in depths else -FURTHEST
        if type(value) is not int or not least <= value <= FURTHEST:
            raise ConfigError(f"action {action.name!r}: {name} must be a whole number from {least:,} to {FURTHEST:,}, got {value!r}")
    quotes = action.bid != LEAVE or action.ask != LEAVE
    if quotes + (action.take != 0) + (action.to is not None) > 1 or (quotes and action.cancel):
        raise ConfigError(
            f"action {action.name!r} must do one of: quote (bid, ask), take, trade to a position; cancel goes with the last two (a side "
            "that is to have no order is WITHDRAW)"
        )
