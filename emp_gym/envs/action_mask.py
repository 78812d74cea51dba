"""The gates' say in the action mask: what a gate would touch is not offered.

In lanes that are ``stopped`` only the action that keeps everything as it is, is left.
"""

from __future__ import annotations

import numpy as np

from emp_gym.envs.gates import GateRow
from emp_gym.envs.tasks import Task
from emp_gym.risk.gates import Gate
from emp_gym.types import Bool, Orders, View


def narrow(mask: Bool, task: Task, view: View, requests: int, row: GateRow) -> None:
    """Leaves in `mask` [N, A] the actions whose orders, at most `requests`, every gate with ``masks`` would let pass untouched."""
    if not task.actions:
        return
    for gate in row.gates:
        if gate.masks:
            _narrow(mask, task, view, requests, gate)
    stopped = row.stopped()
    if stopped is not None:
        mask[stopped > 0] = np.arange(mask.shape[1]) == task.keep


def _narrow(mask: Bool, task: Task, view: View, requests: int, gate: Gate) -> None:
    wanted = Orders.empty(len(mask), requests)
    candidates = Orders(wanted.kind[:, None], wanted.records[:, None])
    gate.observe(view)
    for action in range(mask.shape[1]):
        if not mask[:, action].any():
            continue
        wanted.begin(view.decision)
        task.orders(np.full(len(mask), action), wanted)
        mask[:, action] &= gate.allowed(view, candidates, observed=True)[:, 0]
