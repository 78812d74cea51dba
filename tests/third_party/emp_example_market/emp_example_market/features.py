from dataclasses import dataclass

import numpy as np

from emp_gym.extend import Feature, FeatureSet


@dataclass
class Skew(FeatureSet):
    """Which side of the visible book is deeper, and where the mid went, the newest decisions counting most."""

    columns = (Feature("depth_skew", "share"), Feature("drift", "ticks a decision"))

    memory: float = 0.9  # share of the drift that is kept from decision to decision

    def bind(self, world):
        super().bind(world)
        self.mid2, self.drift = np.zeros(world.lanes), np.zeros(world.lanes)

    def begin(self, lanes):
        self.mid2[lanes], self.drift[lanes] = self.world.view.mid2[lanes, 0], 0.0

    def step(self, moved):
        view = self.world.view
        gone = (view.mid2[:, 0] - self.mid2) / (2 * view.tick[:, 0])
        self.drift[moved] += (1 - self.memory) * (gone - self.drift)[moved]
        self.mid2[moved] = view.mid2[moved, 0]

    def write(self, lanes, out):
        view = self.world.view
        bids, asks = view.bid_size[lanes, 0].sum(axis=1), view.ask_size[lanes, 0].sum(axis=1)
        out[:, 0] = (bids - asks) / np.maximum(bids + asks, 1)
        out[:, 1] = self.drift[lanes]
