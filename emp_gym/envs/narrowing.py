"""The gates' say in the action mask: what a gate would touch is not offered.

In lanes that are ``stopped`` only the action that keeps everything as it is, is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from emp_gym.risk.gates import Gate
from emp_gym.types import Orders

if TYPE_CHECKING:
    from emp_gym.envs.core import Lanes


def narrow(lanes: Lanes) -> None:
    """Leaves in ``lanes.mask`` [N, A] the actions whose orders every gate with ``masks`` would let pass untouched."""
    if not lanes.task.actions:
        return
    for gate in lanes.gates:
        if gate.masks:
            _narrow(lanes, gate)
    stopped = lanes.row.stopped()
    if stopped is not None:
        lanes.mask[stopped > 0] = np.arange(lanes.mask.shape[1]) == lanes.task.keep


def _narrow(lanes: Lanes, gate: Gate) -> None:
    market, n = lanes.market, lanes.lanes
    wanted = Orders.empty(n, lanes.orders.kind.shape[1])
    candidates = Orders(wanted.kind[:, None], wanted.records[:, None])
    gate.observe(market.view)
    for action in range(len(lanes.task.actions)):
        if not lanes.mask[:, action].any():
            continue
        wanted.begin(market.view.decision)
        lanes.task.orders(np.full(n, action), wanted)
        lanes.mask[:, action] &= gate.allowed(market.view, candidates, observed=True)[:, 0]
