"""Fronts, crowding, the order of a population and hypervolume, against plain judges and against Optuna."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from optuna.samplers.nsgaii._elite_population_selection_strategy import NSGAIIElitePopulationSelectionStrategy

from emp_gym.search import pareto

COSTS = st.tuples(st.integers(1, 9), st.integers(1, 3)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(0, 4).map(float))
)


def beats(a: np.ndarray, b: np.ndarray) -> bool:
    return all(x <= y for x, y in zip(a, b)) and any(x < y for x, y in zip(a, b))


def peeled(costs: np.ndarray) -> list[int]:
    """Fronts one after another, by hand."""
    rank, left, level = [-1] * len(costs), set(range(len(costs))), 0
    while left:
        front = {i for i in left if not any(beats(costs[j], costs[i]) for j in left)}
        for i in front:
            rank[i] = level
        left -= front
        level += 1
    return rank


@given(COSTS)
def test_fronts_are_what_peeling_by_hand_gives(costs: np.ndarray) -> None:
    assert pareto.fronts(costs, np.zeros(len(costs))).tolist() == peeled(costs)


@given(COSTS, st.integers(0, 10**6))
def test_feasible_points_come_before_infeasible_ones_and_those_by_their_violation(costs: np.ndarray, seed: int) -> None:
    violation = np.random.default_rng(seed).integers(0, 3, len(costs)).astype(float)
    ordered = violation[pareto.order(costs, violation)]
    assert (np.diff(ordered) >= 0).all()


def test_crowding_by_hand() -> None:
    costs = np.array([[0.0, 4.0], [1.0, 2.0], [3.0, 1.0], [4.0, 0.0]])
    assert pareto.crowding(costs).tolist() == [np.inf, 3 / 4 + 3 / 4, 3 / 4 + 2 / 4, np.inf]
    assert pareto.order(costs, np.zeros(4)).tolist() == [0, 3, 1, 2], "ends first, then those with most room"


@pytest.mark.parametrize("seed", range(4))
def test_the_elite_is_optunas(seed: int) -> None:
    rng = np.random.default_rng(seed)
    study = optuna.create_study(directions=["minimize"] * 3)
    for _ in range(30):
        study.add_trial(optuna.trial.create_trial(values=rng.random(3).tolist()))
    theirs = NSGAIIElitePopulationSelectionStrategy(population_size=8)(study, study.trials)
    costs = np.array([trial.values for trial in study.trials])
    assert set(pareto.order(costs, np.zeros(30))[:8].tolist()) == {trial.number for trial in theirs}


@given(COSTS)
def test_hypervolume_of_a_grid_is_the_number_of_its_cells_that_are_dominated(costs: np.ndarray) -> None:
    reference = np.full(costs.shape[1], 4.0)
    cells = np.stack(np.meshgrid(*[np.arange(4)] * costs.shape[1], indexing="ij"), axis=-1).reshape(-1, costs.shape[1])
    counted = sum(any((point <= cell).all() for point in costs) for cell in cells)
    assert pareto.hypervolume(costs, reference) == counted


def test_a_point_that_is_no_better_than_the_reference_adds_nothing() -> None:
    assert pareto.hypervolume(np.array([[1.0, 5.0], [2.0, 2.0]]), np.array([2.0, 3.0])) == 0.0
    assert pareto.hypervolume(np.array([[1.0, 1.0], [0.0, 5.0]]), np.array([2.0, 3.0])) == 2.0
