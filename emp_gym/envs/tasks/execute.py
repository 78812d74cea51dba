"""Executing a parent order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from emp_gym.envs.tasks.base import ARRIVAL, MOST_LOTS, Task
from emp_gym.settings import whole
from emp_gym.types import I64, Action, Bool


@dataclass
class ExecuteParent(Task):
    """Execute a parent order of `parent` lots, its side drawn per episode, before the last decision.

    Actions: 0 keep, 1 post one clip at the touch, 2 post one tick deeper, 3 take one clip, 4 take two clips, 5 cancel.
    Reward: basis points of the arrival mid on the parent's value, gained (+) or paid (-), fees included; the sum over an
    episode is minus the implementation shortfall (Perold 1988). What remains at the deadline is taken from the book, and
    from the ladder beyond it that `docs/market.md` states. The episode terminates when the parent is done or its time is up.

    A task derived from it may have another table: `bid` is the parent's own side, `take` and `to` count towards it, and what would
    go beyond the parent is cut.
    """

    actions: ClassVar[tuple[Action, ...]] = (
        Action("keep"),
        Action("post", bid=0),
        Action("post deeper", bid=1),
        Action("take one", take=1, cancel=True),
        Action("take two", take=2, cancel=True),
        Action("cancel", cancel=True),
    )
    whole: ClassVar[bool] = False
    relative: ClassVar[bool] = True
    free: ClassVar[int] = 2
    mark: ClassVar[str] = ARRIVAL
    rewards: ClassVar[tuple[Any, ...]] = ("shortfall",)
    lots: ClassVar[tuple[str, ...]] = ("order_quantity", "parent")

    max_position: int = MOST_LOTS
    parent: int = 1000  # lots of the parent order

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("parent", self.parent, 1, MOST_LOTS)

    @property
    def largest(self) -> tuple[str, int]:
        clips = 2 * self.order_quantity  # "take two"
        return ("parent", self.parent) if self.parent >= clips else ("twice the order_quantity", clips)

    @property
    def limit(self) -> int:
        return self.parent

    def ends(self, late: Bool) -> Bool:
        world = self.world
        return (world.view.position[:, 0] * world.episodes["parent_side"] >= self.parent) | late

    def target(self, lanes: I64, stopped: Bool) -> I64:
        world = self.world
        return np.where(stopped, world.view.position[lanes, 0], world.episodes["parent_side"][lanes] * self.parent)
