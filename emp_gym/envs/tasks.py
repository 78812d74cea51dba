"""Tasks: what an action means, what is observed, what is rewarded, when an episode ends. A task knows no market's insides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from emp_gym.settings import number, shown, whole, word
from emp_gym.types import ConfigError, Feature, UnknownKeyword

MOST_LOTS = 1 << 40  # of any quantity; what a day's money holds is less (`emp_gym.market.lots`)
MOST_TICKS = 1 << 20
MOST_PENALTY = 1e9
REWARDS = {"pnl": 0, "inventory": 1, "damped": 2, "shortfall": 3}


@dataclass(frozen=True)
class Task:
    """Parameters that all tasks share. Quantities are in lots, offsets in ticks."""

    code: ClassVar[int]
    rewards: ClassVar[tuple[str, ...]] = ("pnl", "inventory", "damped")
    menu: ClassVar[tuple[str, ...]] = ()
    unused: ClassVar[tuple[str, ...]] = ("parent", "max_offset")  # parameters that mean nothing here

    order_quantity: int = 100  # one clip
    max_position: int = 500
    reward: str = "pnl"
    inventory_penalty: float = 0.01  # ticks per clip of inventory and decision, for reward="inventory"
    damping: float = 0.5  # share of inventory gains taken away, for reward="damped"
    parent: int = 1000  # lots of the parent order (execution only)
    max_offset: int = 10  # ticks (market making only)

    def __post_init__(self) -> None:
        if self.reward not in self.rewards:
            raise ConfigError(f"reward must be one of {list(self.rewards)} for {type(self).__name__}, got {shown(self.reward)}")
        for name in ("order_quantity", "max_position", "parent", "max_offset"):
            whole(name, getattr(self, name), 1, MOST_TICKS if name == "max_offset" else MOST_LOTS)
        if self.max_position < self.order_quantity:
            raise ConfigError(
                f"max_position ({self.max_position}) must be at least order_quantity ({self.order_quantity})"
            )
        number("inventory_penalty", self.inventory_penalty, 0, MOST_PENALTY)
        number("damping", self.damping, 0, 1)

    @property
    def largest(self) -> tuple[str, int]:
        """The parameter that says how many lots may come together, in a position or an order, and that number."""
        return "max_position", self.max_position

    @property
    def action_space(self) -> spaces.Space:
        """Of one lane."""
        return spaces.Discrete(len(self.menu))

    @property
    def features(self) -> tuple[Feature, ...]:
        """What the task adds to the observation."""
        return ()


@dataclass(frozen=True)
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

    code: ClassVar[int] = 0
    menu: ClassVar[tuple[str, ...]] = (
        "keep", "quote both", "quote both deeper", "bid only", "ask only", "bid, ask deeper", "ask, bid deeper",
        "buy", "sell", "cancel all", "flatten",
    )  # fmt: skip


@dataclass(frozen=True)
class MakeMarket(Task):
    """Quote both sides continuously: action (half-spread, skew, size) in [-1, 1].

    half = (a0 + 1) / 2 * max_offset and skew = a1 * max_offset, in ticks; the bid stands round(half - skew) ticks below the
    best bid and the ask round(half + skew) ticks above the best ask (negative: inside the spread, but never crossing);
    the quantity is round((a2 + 1) / 2 * order_quantity) lots, 0 withdraws. A positive skew moves both quotes up. A side that
    would exceed max_position is cut or withdrawn. Reward and end as in `TradeBook`.
    """

    code: ClassVar[int] = 1
    unused: ClassVar[tuple[str, ...]] = ("parent",)

    @property
    def action_space(self) -> spaces.Space:
        return spaces.Box(-1.0, 1.0, (3,), np.float32)


@dataclass(frozen=True)
class ExecuteParent(Task):
    """Execute a parent order of `parent` lots, its side drawn per episode, before the last decision.

    Actions: 0 keep, 1 post one clip at the touch, 2 post one tick deeper, 3 take one clip, 4 take two clips, 5 cancel.
    Reward: basis points of the arrival mid on the parent's value, gained (+) or paid (-), fees included; the sum over an
    episode is minus the implementation shortfall (Perold 1988). What remains at the deadline is taken from the book, and
    from the ladder beyond it that `docs/market.md` states. The episode terminates when the parent is done or its time is up.
    """

    code: ClassVar[int] = 2
    rewards: ClassVar[tuple[str, ...]] = ("shortfall",)
    menu: ClassVar[tuple[str, ...]] = ("keep", "post", "post deeper", "take one", "take two", "cancel")
    unused: ClassVar[tuple[str, ...]] = ("max_offset", "inventory_penalty", "damping")

    reward: str = "shortfall"
    max_position: int = field(default=MOST_LOTS)

    @property
    def largest(self) -> tuple[str, int]:
        clips = 2 * self.order_quantity  # action 4
        return ("parent", self.parent) if self.parent >= clips else ("twice the order_quantity", clips)

    @property
    def features(self) -> tuple[Feature, ...]:
        return (
            Feature("parent_side", "+1 buy, -1 sell"),
            Feature("parent_left", "share of the parent"),
            Feature("behind_schedule", "share left - time left"),
        )


TASKS: dict[str, type[Task]] = {"trade": TradeBook, "make": MakeMarket, "execute": ExecuteParent}


def make_task(name: str, parameters: Mapping[str, Any], of_market: Iterable[str] = ()) -> Task:
    """The task of that name; `UnknownKeyword` names the nearest parameter when one is unknown, those `of_market` among them.
    `ConfigError` for one that means nothing to it."""
    task = TASKS[word("task", name, TASKS)]
    known = {entry.name for entry in fields(task)}
    for key in parameters:
        if key not in known:
            others = sorted({*ARGUMENTS, *of_market})
            raise UnknownKeyword.of(key, [*known, *others], f" (task: {sorted(known)}; market: {others})")
        if key in task.unused:
            users = " and ".join(sorted(other for other, cls in TASKS.items() if key not in cls.unused))
            raise ConfigError(f"{key} means nothing to the task {name!r}, only to {users}, got {shown(parameters[key])}; leave it out")
    return task(**parameters)


ARGUMENTS = (
    "split", "market", "every", "episode", "levels", "gates", "info", "threads", "autoreset_mode", "render_mode", "num_envs",
    "max_episode_steps",
)  # fmt: skip
"""Keywords of every environment, whatever its market and task."""
