"""A feature set with a running sum of its own over messages."""

import numpy as np

from emp_gym.extend import Feature, FeatureSet, MessageType


def large_trades(day):
    executed = np.isin(day.messages["kind"], (MessageType.EXECUTE, MessageType.EXECUTE_HIDDEN))
    return (executed & (day.messages["size"] >= 500)).astype(np.int64)


class LargeTrades(FeatureSet):
    """How many executions of 500 lots and more the last 200 messages hold."""

    columns = (Feature("large_trades", "in 200 messages", 8.0),)
    constant = ("large_trades",)
    looks, needs, sums = (200,), ("large_trades",), {"large_trades": large_trades}

    def write(self, lanes, out):
        so_far = self.world.named["large_trades"][lanes, 0]
        out[:, 0] = so_far[:, 0] - so_far[:, self.ago(200)]
