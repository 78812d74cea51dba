"""A gate: nothing new between two times of day."""

import numpy as np

from emp_gym.extend import Gate, RequestType, Verdicts, passed

HOUR = 3_600_000_000_000  # ns
REASON = np.uint64(1 << 32)


class Lunch(Gate):
    """Lets nothing but cancels through from `begin` to `end`, hours of local time."""

    reason_names = ("lunch",)  # of bit 32, and on

    def __init__(self, begin: float = 12.0, end: float = 13.0) -> None:
        self.begin_ns, self.end_ns = int(begin * HOUR), int(end * HOUR)

    def __call__(self, view, orders):
        closed = (self.begin_ns <= view.time_ns) & (view.time_ns < self.end_ns)
        drop = closed[:, None] & (orders.kind != RequestType.NONE) & (orders.kind != RequestType.CANCEL)
        if not drop.any():
            return orders, passed(orders)
        sent = orders.copy()
        sent.kind[drop], sent.quantity[drop] = RequestType.NONE, 0
        return sent, Verdicts(np.where(drop, REASON, np.uint64(0)), orders.quantity.copy(), sent.quantity.copy())
