"""Trading with a menu."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from emp_gym.envs.tasks.base import Task
from emp_gym.types import WITHDRAW, Action


@dataclass
class TradeBook(Task):
    """Trade the book with a menu.

    ======  ====================================================================
    action  meaning
    ======  ====================================================================
    0       keep: change nothing
    1       quote one clip on both sides at the touch
    2       quote both sides one tick deeper
    3       bid at the touch, no ask
    4       ask at the touch, no bid
    5       bid at the touch, ask one tick deeper
    6       ask at the touch, bid one tick deeper
    7       buy one clip at the market
    8       sell one clip at the market
    9       cancel all
    10      flatten: cancel all and close the position at the market
    ======  ====================================================================

    An order that already stands where it is wanted is not moved and keeps its place. Actions that the inventory limit, a
    halt or an empty side forbid are masked; a masked action is executed as "keep" and counted. Reward: change of equity
    (marked at mid) in ticks per clip. The episode is truncated after its last decision, when the position is closed at the
    book's prices, so that the last reward pays for it.
    """

    actions: ClassVar[tuple[Action, ...]] = (
        Action("keep"),
        Action("quote both", 0, 0),
        Action("quote both deeper", 1, 1),
        Action("bid only", 0, WITHDRAW),
        Action("ask only", WITHDRAW, 0),
        Action("bid, ask deeper", 0, 1),
        Action("ask, bid deeper", 1, 0),
        Action("buy", take=1),
        Action("sell", take=-1),
        Action("cancel all", cancel=True),
        Action("flatten", to=0, cancel=True),
    )
