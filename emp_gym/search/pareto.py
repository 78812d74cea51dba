"""Dominance: fronts, crowding, the order of a population, hypervolume. Pure functions.

Letters: N points, M objectives. `costs` [N, M] are all to be minimised; `violation` [N] >= 0 says by how much a point breaks the
constraints, 0 for a feasible one.
"""

from __future__ import annotations

import numpy as np

from emp_gym.types import F64, I64, Bool


def dominated(costs: F64, violation: F64) -> Bool:
    """[N, N]: whether point j dominates point i. A feasible point dominates an infeasible one, and of two infeasible ones that
    which violates less; two feasible ones are compared by their costs (Deb et al. 2002, section VI)."""
    better = (costs[None] <= costs[:, None]).all(axis=2) & (costs[None] < costs[:, None]).any(axis=2)
    both = (violation[:, None] == 0) & (violation[None] == 0)
    return np.where(both, better, violation[None] < violation[:, None])


def fronts(costs: F64, violation: F64) -> I64:
    """Rank [N]: 0 for points that nobody dominates, 1 for those that only they dominate, and so on."""
    worse = dominated(costs, violation)
    rank = np.full(len(costs), -1, np.int64)
    level = 0
    while (rank < 0).any():
        left = rank < 0
        free = left & ~worse[:, left].any(axis=1)
        rank[free] = level
        level += 1
    return rank


def crowding(costs: F64) -> F64:
    """How far the neighbours of each point are [N], summed over objectives in units of their range; inf at the ends (Deb et
    al. 2002, section III B)."""
    distance = np.zeros(len(costs))
    for values in costs.T:
        order = np.argsort(values, kind="stable")
        sorted_values = values[order]
        span = sorted_values[-1] - sorted_values[0]
        distance[order[[0, -1]]] = np.inf
        if span > 0:
            distance[order[1:-1]] += (sorted_values[2:] - sorted_values[:-2]) / span
    return distance


def order(costs: F64, violation: F64) -> I64:
    """Numbers of the points, best first: by front, within a front by crowding, then by number."""
    rank = fronts(costs, violation)
    room = np.zeros(len(costs))
    for level in range(rank.max(initial=-1) + 1):
        room[rank == level] = crowding(costs[rank == level])
    return np.lexsort((np.arange(len(costs)), -room, rank))


def hypervolume(costs: F64, reference: F64) -> float:
    """Volume between `reference` [M] and the points that are below it in every objective.

    By slices along the last objective: exact, exponential in M, quick for the few points and objectives of a search.
    """
    points = costs[(costs < reference).all(axis=1)]
    if not len(points):
        return 0.0
    if points.shape[1] == 1:
        return float(reference[0] - points.min())
    points = points[np.argsort(points[:, -1], kind="stable")]
    tops = np.append(points[1:, -1], reference[-1])
    volume = 0.0
    for i, (point, top) in enumerate(zip(points, tops)):
        if top > point[-1]:
            volume += (top - point[-1]) * hypervolume(points[: i + 1, :-1], reference[:-1])
    return float(volume)
