"""The planner's speed is measured by a function that runs small, too."""

from __future__ import annotations

import torch

from emp_gym.benchmarks import planning
from emp_gym.benchmarks.figures import SMALL, Figures


def test_planning_is_measured_with_chance_and_without_and_leaves_torch_as_it_was():
    threads, figures = torch.get_num_threads(), Figures()
    planning.measure(figures, SMALL)
    assert torch.get_num_threads() == threads
    assert all(figure["median"] > 0 for figure in figures.values.values())
    kinds = ("12 codes, root expanded", "12 codes, root not expanded", "no chance")
    for kind in kinds:
        assert f"planning, 1 lanes, 16 simulations, 9 actions, {kind}, 1 core: speed" in figures.values
    after = "planning, 1 lanes, 16 simulations, 9 actions, 12 codes, root expanded, 1 core: speed after the root"
    assert after in figures.values and after.replace("expanded", "not expanded") not in figures.values
