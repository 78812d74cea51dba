"""Rewards: what a step is worth. Ours are formulas of the fused kernel (`settle`), others are called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from emp_gym.envs.tasks.settle import DAMPED, INVENTORY, OUTSIDE, PNL, SHORTFALL
from emp_gym.plugins import Plugin
from emp_gym.settings import number
from emp_gym.types import F64, Bool

MOST_PENALTY = 1e9


class Reward(Plugin):
    """A reward of one's own: derive from it and write ``__call__``; keep what it compares with in arrays [N], see `Plugin`."""

    code: ClassVar[int] = OUTSIDE
    unit: ClassVar[str] = ""  # in words

    def __call__(self, moved: Bool) -> F64:
        """Rewards [N] of the step that just ended, from ``self.world.view``, in which a closing at an episode's end is done and no
        lane has begun anew; those of lanes that did not move, ``~moved``, do not count."""
        raise NotImplementedError(f"{type(self).__qualname__} must define __call__(moved)")

    def set_up(self, setup: np.ndarray) -> None:
        """Writes into `episode.SETUP` what the kernel reads."""
        setup["reward"] = self.kernel

    @property
    def kernel(self) -> int:
        """The kernel's formula, OUTSIDE where this one is called."""
        return self.code if type(self).__call__ is Reward.__call__ else OUTSIDE


@dataclass
class Pnl(Reward):
    """Change of equity, marked at the mid, in ticks per clip. Its parameters are those of the two below, so that one may stand for the
    other."""

    code: ClassVar[int] = PNL
    unit: ClassVar[str] = "ticks per clip"

    inventory_penalty: float = 0.01  # ticks per clip of inventory and decision
    damping: float = 0.5  # share of inventory gains taken away

    def __post_init__(self) -> None:
        number("inventory_penalty", self.inventory_penalty, 0, MOST_PENALTY)
        number("damping", self.damping, 0, 1)

    def set_up(self, setup: np.ndarray) -> None:
        super().set_up(setup)
        setup["inventory_penalty"], setup["damping"] = self.inventory_penalty, self.damping


class Inventory(Pnl):
    """`Pnl` less `inventory_penalty` ticks per clip that is held."""

    code: ClassVar[int] = INVENTORY


class Damped(Pnl):
    """`Pnl` less `damping` of what the inventory gained by the mid's move."""

    code: ClassVar[int] = DAMPED


class Shortfall(Reward):
    """Basis points of the arrival mid on the parent's value, gained (+) or paid (-), fees included."""

    code: ClassVar[int] = SHORTFALL
    unit: ClassVar[str] = "basis points of the arrival price, paid is negative"
