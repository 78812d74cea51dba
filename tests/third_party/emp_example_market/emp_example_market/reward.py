"""A reward: what wealth has grown by."""

from dataclasses import dataclass

import numpy as np

from emp_gym.extend import CASH_UNITS, Reward


@dataclass
class Growth(Reward):
    """Log growth of wealth, which begins each episode with `capital`."""

    unit = "basis points of wealth"

    capital: float = 100_000.0  # currency

    def bind(self, world):
        super().bind(world)
        self.before = np.zeros(world.lanes)

    def begin(self, lanes):
        self.before[lanes] = 0.0

    def __call__(self, moved):
        now = 1e4 * np.log1p(self.world.view.equity2 / (2 * CASH_UNITS * self.capital))
        gained = now - self.before
        self.before[moved] = now[moved]
        return gained
