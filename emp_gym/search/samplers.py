"""Who draws the genomes of a generation, by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from emp_gym.search import pareto


def _nsga2(population: int, seed: int) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.NSGAIISampler(
            population_size=population,
            crossover=optuna.samplers.nsgaii.BLXAlphaCrossover(),
            mutation=optuna.samplers.nsgaii.PolynomialMutation(eta=5.0),
            elite_population_selection_strategy=lambda study, pool: _elite(pool, study.directions, population),
            seed=seed,
        )


def _elite(
    pool: Sequence[FrozenTrial], directions: Sequence[optuna.study.StudyDirection], count: int
) -> list[FrozenTrial]:
    """The best `count` of `pool`, by number: whether Optuna has them from here or from its cache makes no difference."""
    signs = np.array([-1.0 if direction == optuna.study.StudyDirection.MAXIMIZE else 1.0 for direction in directions])
    costs = np.array([trial.values for trial in pool]) * signs
    violation = np.array([sum(max(value, 0.0) for value in trial.constraints.values()) for trial in pool])
    return sorted((pool[place] for place in pareto.order(costs, violation)[:count]), key=lambda trial: trial.number)


def _random(population: int, seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)


SAMPLERS: Mapping[str, Callable[[int, int], optuna.samplers.BaseSampler]] = {"nsga2": _nsga2, "random": _random}
"""Name -> (population, seed) -> sampler."""
