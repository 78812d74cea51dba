"""Base of tasks: what an action means, what it observes besides the market, what it pays for, when an episode ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from emp_gym.envs.tasks.actions import request_lanes
from emp_gym.envs.tasks.rewards import Reward
from emp_gym.envs.tasks.table import ActionTable, compiled
from emp_gym.plugins import Plugin, World
from emp_gym.settings import whole
from emp_gym.threads import BoundRegion
from emp_gym.types import F32, I64, Action, Bool, ConfigError, Feature, Orders

MOST_LOTS = 1 << 40  # of any quantity; what a day's money holds is less (`emp_gym.market.lots`)
LAST, ARRIVAL = "last", "arrival"
OF_PARENT = (
    Feature("parent_side", "+1 buy, -1 sell"),
    Feature("parent_left", "share of the parent"),
    Feature("behind_schedule", "share left - time left"),
)
"""Columns of a task that is `relative`, which the kernel writes."""


@dataclass
class Task(Plugin):
    """A task says in ``actions`` what can be done (`types.Action`), and our kernels send and mask it; or it says what it sends itself, in
    `orders`, and `mask`, in plain numpy over ``self.world.view``: then ``actions`` are but names, or ``levers`` those of numbers.

    Its parameters are its dataclass fields. Quantities are in lots. Tables act on the first instrument.
    """

    actions: ClassVar[tuple[Action, ...]] = ()  # of a discrete task; one of them changes nothing
    levers: ClassVar[tuple[str, ...]] = ()  # or: names of the numbers in [-1, 1] that an action is
    whole: ClassVar[bool] = True  # an action is masked unless all of its lots fit the limit; False: it is cut to what fits
    relative: ClassVar[bool] = False  # `actions` speak of a parent order's side, see `execute.ExecuteParent`
    free: ClassVar[int] = 1  # free slots that a market order needs
    mark: ClassVar[str] = LAST  # what is held at the end is valued at the LAST mid, or at that of the ARRIVAL
    features: ClassVar[tuple[Any, ...]] = ("book", "flow", "clock", "own")  # feature sets, where nobody asks for others
    own_features: ClassVar[tuple[Feature, ...]] = ()  # columns that `observe` writes
    rewards: ClassVar[tuple[Any, ...]] = ("pnl", "inventory", "damped")  # ours that fit; the first is the default: a name or class
    lots: ClassVar[tuple[str, ...]] = ("order_quantity",)  # parameters that must be multiples of the lot

    order_quantity: int = 100  # one clip
    max_position: int = 500

    def __post_init__(self) -> None:
        for name in ("order_quantity", "max_position"):
            whole(name, getattr(self, name), 1, MOST_LOTS)
        if self.max_position < self.order_quantity:
            raise ConfigError(f"max_position ({self.max_position}) must be at least order_quantity ({self.order_quantity})")

    # ---- what an environment asks once

    @property
    def menu(self) -> tuple[str, ...]:
        """Names of `actions`."""
        return tuple(action.name for action in self.actions)

    @property
    def action_space(self) -> spaces.Space:
        """Of one lane."""
        if self.levers:
            return spaces.Box(-1.0, 1.0, (len(self.levers),), np.float32)
        return spaces.Discrete(len(self.actions))

    @property
    def largest(self) -> tuple[str, int]:
        """The parameter that says how many lots may come together, in a position or an order, and that number."""
        return "max_position", self.max_position

    @property
    def limit(self) -> int:
        """Lots that the position may have."""
        return self.max_position

    def set_up(self, setup: np.ndarray) -> None:
        """Writes into `episode.SETUP` what kernels read."""
        setup["clip"], setup["max_position"] = self.order_quantity, self.max_position
        setup["limit"] = setup["parent"] = self.limit
        setup["whole"], setup["relative"], setup["arrival"] = self.whole, self.relative, self.mark == ARRIVAL

    @property
    def table(self) -> ActionTable:
        """`actions` as kernels read them; those of a task with `orders` of its own need nothing."""
        if bool(self.actions) == bool(self.levers) or (self.levers and not self.own_orders):
            raise ConfigError(f"{type(self).__name__} must have either a table of actions, or levers and orders of its own")
        table = compiled(self.actions, self.free, self.whole)
        return ActionTable(table.rows, table.conditions[:0], table.needs * 0, table.keep) if self.own_orders else table

    @property
    def own_orders(self) -> bool:
        """Whether it says itself what it sends."""
        return type(self).orders is not Task.orders

    @property
    def keep(self) -> int:
        """The action that changes nothing."""
        return self._table.keep

    def bind(self, world: World) -> None:
        super().bind(world)
        self._table = self.table
        written = world.kernels
        self._tabled = BoundRegion(
            world.threads, request_lanes, world.lanes, *written.public, written.episodes, self._table.rows, written.setup
        )  # fmt: skip

    # ---- what an environment asks at every decision

    def request(self, actions: np.ndarray, mask: Bool, out: Orders) -> None:
        """What the active lanes send goes to `out`; a masked action keeps everything as it is and is counted."""
        world = self.world
        if not self.own_orders:
            self._tabled(actions, out.kind, out.records, mask, world.kernels.active)
            return
        out.begin(world.view.decision)
        if self.actions:
            refused = ~mask[np.arange(world.lanes), actions] & world.active
            world.kernels.episodes["masked"] += refused
            actions = np.where(refused, self._table.keep, actions)
        self.orders(actions, out)
        out.kind[~world.active] = 0

    def orders(self, actions: np.ndarray, out: Orders) -> None:
        """What `actions` ([N], or [N, levers]) send, whatever the mask: ``out.add(lanes, kind, ...)``. It changes nothing else."""
        world = self.world
        unmasked = np.ones((world.lanes, len(self.actions)), np.bool_)
        self._tabled(actions, out.kind, out.records, unmasked, np.ones(world.lanes, np.bool_))

    def mask(self, out: Bool) -> None:
        """Takes from `out` [N, A] what is not allowed now; it holds what the table allows, everything where `orders` are its own."""

    def observe(self, lanes: I64, out: F32) -> None:
        """`own_features` of `lanes` [n] into `out` [n, d], raw, in their units. It changes nothing else."""
        raise NotImplementedError(f"{type(self).__qualname__} has own_features and must define observe(lanes, out)")

    # ---- how an episode ends

    def ends(self, late: Bool) -> Bool | None:
        """Lanes [N] whose task is done or lost, so that their episode is terminated; in those of `late` its time is up, and it is
        truncated unless it is terminated."""
        return None

    def target(self, lanes: I64, stopped: Bool) -> I64:
        """Position [n] that is left when the episodes of `lanes` [n] end; a gate has ended those of `stopped` [n]."""
        return np.zeros(len(lanes), np.int64)

    def summary(self, lanes: I64) -> dict[str, np.ndarray]:
        """More numbers [N] for ``info["summary"]`` of `lanes` [n], by name."""
        return {}


__all__ = ["ARRIVAL", "LAST", "MOST_LOTS", "Reward", "Task"]
