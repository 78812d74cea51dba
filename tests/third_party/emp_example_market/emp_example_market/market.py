"""A random walk with a constant spread, traded in the environments of EMP Gym."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from emp_gym.extend import I64, BaseMarket, Instrument, MarketSpec, Named


@dataclass(frozen=True)
class WalkConfig:
    """What can be chosen."""

    spread: int = 2  # ticks, even
    tick: int = 100  # price units
    price: int = 1_000_000  # at which it begins
    fee_per_lot: float = 0.003  # the taker's, currency


class Walk(BaseMarket):
    """The mid moves one tick up or down at each event. A resting order fills whole when the other side reaches its price."""

    Config = WalkConfig
    published: ClassVar[Mapping[str, Named]] = {"path": Named("i8", "N M E", "price units", "mid after each event of the last decision")}
    constant_features = (
        "bid_distance_1", "ask_distance_1", "spread", "status", "volatility_short", "volatility_long", "rate", "bid_ahead", "ask_ahead",
        *(f"{sum_}_{back}" for sum_ in ("ofi", "hidden") for back in ("step", "short", "long")),
    )  # fmt: skip

    def __init__(self, spec: MarketSpec, config: WalkConfig) -> None:
        super().__init__(spec, config, Instrument("WALK", tick=config.tick, taker_fee_per_lot=config.fee_per_lot))
        self.half = config.spread * config.tick // 2
        self.mid = np.zeros(spec.lanes, np.int64)
        self.named["path"] = np.zeros((spec.lanes, 1, self.events), np.int64)

    def begin(self, lanes: I64) -> None:
        self.mid[lanes], self.named["path"][lanes] = self.config.price, self.config.price
        self._show(lanes)

    def pass_time(self, lanes: I64) -> None:
        noise = self.noise(lanes, self.events)
        path = self.mid[lanes, None] + self.config.tick * np.cumsum((noise & 1).astype(np.int64) * 2 - 1, axis=1)
        for side, reach in ((1, path.min(axis=1) + self.half), (-1, path.max(axis=1) - self.half)):
            for lane, slot in self.resting(lanes, side):
                price, lots = self.public.open["price"][lane, slot], self.public.open["quantity"][lane, slot]
                there = side * price >= side * reach[np.searchsorted(lanes, lane)]
                self.fill(lane[there], slot[there], price[there], lots[there], maker=True)
        self.mid[lanes], self.named["path"][lanes, 0] = path[:, -1], path
        self._show(lanes, bought=noise[:, -1] >> 9 & 255, sold=noise[:, -1] >> 17 & 255)

    def _show(self, lanes: I64, **flows: np.ndarray) -> None:
        size = 100 + (self.noise(lanes, 2) >> 33 & 511).astype(np.int64)
        self.show(lanes, self.mid[lanes] - self.half, size[:, 0], self.mid[lanes] + self.half, size[:, 1], **flows)
