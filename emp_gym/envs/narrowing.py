"""The gates' say in the action mask: what a gate would touch is not offered.

In lanes that are ``stopped`` only action 0, "keep", is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from emp_gym.envs import task_kernels
from emp_gym.risk.gates import Gate
from emp_gym.threads import run
from emp_gym.types import Orders

if TYPE_CHECKING:
    from emp_gym.envs.core import Lanes

_NO_LEVERS = np.zeros((1, 3), np.float32)


def narrow(lanes: Lanes) -> None:
    """Leaves in ``lanes.mask`` [N, A] the actions whose orders every gate with ``masks`` would let pass untouched."""
    if not lanes.task.menu:
        return
    for gate in lanes.gates:
        if gate.masks:
            _narrow(lanes, gate)
    stopped = lanes.row.stopped()
    if stopped is not None:
        lanes.mask[stopped > 0, 1:] = False


def _narrow(lanes: Lanes, gate: Gate) -> None:
    market, n = lanes.market, lanes.lanes
    wanted, everyone = Orders.empty(n, lanes.orders.kind.shape[1]), np.ones(n, np.bool_)
    candidates = Orders(wanted.kind[:, None], wanted.records[:, None])
    unmasked = np.ones_like(lanes.mask)  # so that no choice is executed as "keep" and counted as masked
    gate.observe(market.view)
    for action in range(len(lanes.task.menu)):
        if not lanes.mask[:, action].any():
            continue
        run(
            1, task_kernels.request_lanes, n, np.full(n, action), _NO_LEVERS, wanted.kind, wanted.records, *market.public,
            lanes.episodes, unmasked, everyone, lanes.setup,
        )  # fmt: skip
        lanes.mask[:, action] &= gate.allowed(market.view, candidates, observed=True)[:, 0]
