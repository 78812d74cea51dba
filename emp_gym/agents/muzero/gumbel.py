"""Kernels of the Gumbel rules: which visits are considered, completed q, what they add to a logit, which action follows.

Danihelka et al. 2022, with mctx's conventions. Arguments are of one node: prior f8[A], child i4[A] (NONE: never looked at),
visits i4[A], q f8[A].
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from emp_gym.jit import hot

NONE = -1
TINY = 1.1754944e-38  # the smallest prior probability: of a visited action none may be 0
LOWEST = -1e9  # of a score: an action that the prior rules out can still be the only one considered


class QTransform(NamedTuple):
    """sigma(q) = (visit_offset + most visits) * value_scale * q, q rescaled to [0, 1] by its spread, at least q_floor."""

    value_scale: float
    visit_offset: float
    q_floor: float


@lru_cache(maxsize=64)
def considered_visits(actions: int, simulations: int) -> tuple[int, ...]:
    """How often the action that simulation i visits has been visited before: sequential halving of `actions`."""
    if actions <= 1:
        return tuple(range(simulations))
    rounds = (actions - 1).bit_length()  # ceil(log2(actions))
    sequence: list[int] = []
    visits, considered = [0] * actions, actions
    while len(sequence) < simulations:
        for _ in range(max(1, simulations // (rounds * considered))):
            sequence += visits[:considered]
            visits[:considered] = [n + 1 for n in visits[:considered]]
        considered = max(2, considered // 2)
    return tuple(sequence[:simulations])


@lru_cache(maxsize=64)
def halving_table(most: int, simulations: int) -> Any:
    """i4[most + 1, simulations]: row m is the sequence of m considered actions."""
    table = np.array([considered_visits(m, simulations) for m in range(most + 1)], np.int32)
    return table.reshape(most + 1, simulations)


@hot
def complete(prior, child, visits, q, raw, out):
    """Fills out f8[A] with q, where there is none with the mixed value: what `raw`, the model's value of the node, and the
    visits say together (appendix D). Returns the most visits of an action."""
    total, most, mass, weighted = 0, 0, 0.0, 0.0
    for a in range(len(out)):
        if child[a] != NONE:
            total += visits[a]
            most = max(most, visits[a])
            mass += prior[a]
            weighted += prior[a] * q[a]
    mixed = raw if total == 0 else (raw + total * weighted / mass) / (1 + total)
    for a in range(len(out)):
        out[a] = mixed if child[a] == NONE else q[a]
    return most


@hot
def sigma(q, most, scale):
    """Turns completed q f8[A] into what is added to the logits, in place."""
    low = high = q[0]
    for a in range(1, len(q)):
        low, high = min(low, q[a]), max(high, q[a])
    factor = (scale.visit_offset + most) * scale.value_scale / max(high - low, scale.q_floor)
    for a in range(len(q)):
        q[a] = (q[a] - low) * factor


@hot
def choose_inside(prior, child, visits, q, raw, scale, work):
    """The action at a state below the root: visits come to be shared out as softmax(logit + sigma(q)) says."""
    most = complete(prior, child, visits, q, raw, work)
    sigma(work, most, scale)
    total, mass = 1, 0.0
    for a in range(len(work)):
        work[a] = prior[a] * np.exp(work[a])
        mass += work[a]
        total += visits[a]
    best, highest = 0, -np.inf
    for a in range(len(work)):
        score = work[a] / mass - visits[a] / total
        if score > highest:
            best, highest = a, score
    return best


@hot
def choose_considered(considered, score, mask, visits, added):
    """The allowed action with `considered` visits and the largest gumbel + logit (`score` f8[A]) + sigma(q) (`added`)."""
    best, highest = 0, -np.inf
    for a in range(len(visits)):
        if mask[a] and visits[a] == considered:
            sum_ = max(LOWEST, score[a] + added[a])
            if sum_ > highest:
                best, highest = a, sum_
    return best


@hot
def improve(logits, mask, added, out):
    """Fills out f4[A] with softmax(logits + sigma(q)) over the allowed actions."""
    peak, mass = -np.inf, 0.0
    for a in range(len(out)):
        if mask[a]:
            peak = max(peak, logits[a] + added[a])
    for a in range(len(out)):
        if mask[a]:
            mass += np.exp(logits[a] + added[a] - peak)
    for a in range(len(out)):
        out[a] = np.exp(logits[a] + added[a] - peak) / mass if mask[a] else 0.0
