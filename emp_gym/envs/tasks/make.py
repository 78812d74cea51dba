"""Making a market with levers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from emp_gym.envs.tasks.base import Task
from emp_gym.envs.tasks.levers import request_lanes
from emp_gym.plugins import World
from emp_gym.settings import whole
from emp_gym.threads import BoundRegion
from emp_gym.types import Bool, Orders

MOST_TICKS = 1 << 20


@dataclass
class MakeMarket(Task):
    """Quote both sides continuously: action (half-spread, skew, size) in [-1, 1].

    half = (a0 + 1) / 2 * max_offset and skew = a1 * max_offset, in ticks; the bid stands round(half - skew) ticks below the
    best bid and the ask round(half + skew) ticks above the best ask (negative: inside the spread, but never crossing);
    the quantity is round((a2 + 1) / 2 * order_quantity) lots, 0 withdraws. A positive skew moves both quotes up. A side that
    would exceed max_position is cut or withdrawn. Reward and end as in `TradeBook`.
    """

    levers: ClassVar[tuple[str, ...]] = ("half-spread", "skew", "size")

    max_offset: int = 10  # ticks

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("max_offset", self.max_offset, 1, MOST_TICKS)

    def set_up(self, setup: np.ndarray) -> None:
        super().set_up(setup)
        setup["max_offset"] = self.max_offset

    def bind(self, world: World) -> None:
        super().bind(world)
        self._tabled = BoundRegion(world.threads, request_lanes, world.lanes, *world.kernels.public, world.kernels.setup)

    def request(self, actions: np.ndarray, mask: Bool, out: Orders) -> None:
        self._tabled(actions, out.kind, out.records, self.world.kernels.active)

    def orders(self, actions: np.ndarray, out: Orders) -> None:
        self._tabled(actions, out.kind, out.records, np.ones(self.world.lanes, np.bool_))
