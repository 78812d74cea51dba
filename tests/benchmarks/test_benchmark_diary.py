"""The diary's cost is measured by a function that runs small, too."""

from __future__ import annotations

import pytest

from emp_gym.benchmarks import diary
from emp_gym.benchmarks.figures import SMALL, Figures


@pytest.mark.slow
def test_steps_rows_and_training_are_measured_with_and_without():
    figures = Figures()
    diary.measure(figures, SMALL)
    assert len(figures.values) == 8
    assert figures.values["diary, 16 lanes, random actions: block"]["median"] < 100  # bytes a decision
