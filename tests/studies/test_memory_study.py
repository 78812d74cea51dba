"""What the study of the memory computes, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from emp_gym.studies import memory_study as study

EVIDENCE = Path(__file__).resolve().parents[2] / "docs" / "evidence" / "memory.json"


def test_the_area_is_the_mean_height_of_the_curve_and_losses_count_nothing() -> None:
    assert study.area([0, 10], [-3.0, 1.0], 10) == pytest.approx(0.5)
    assert study.area([0, 10, 20], [0.0, 1.0, 1.0], 15) == pytest.approx((5.0 + 5.0) / 15)
    assert study.area([0, 10, 20], [-1.0, -1.0, -1.0], 20) == 0.0


def test_a_ratio_to_nothing_is_not_told() -> None:
    told = study.compared(np.array([0.3, 0.4, 0.5]), np.zeros(3))
    assert told["ratio"] is None is told["ratio_interval"]
    assert told["difference"] == pytest.approx(0.4) and told["difference_interval"][0] > 0.29
    told = study.compared(np.array([0.4, 0.4]), np.array([0.2, 0.2]))
    assert told["ratio"] == pytest.approx(2.0) == pytest.approx(told["ratio_interval"][1])
    assert told["at_least_1.3_times_interval"][0] == pytest.approx(0.4 - 0.26)


def test_every_variant_meets_every_market_that_must_be_remembered_with_every_seed() -> None:
    cells = study.cells(study.MemoryPlan(seeds=(3, 4), harm_seeds=(0,)))
    early = {(c.env_id, c.variant, c.seed) for c in cells if c.until < c.budget}
    assert len(early) == 2 * len(study.REMEMBERED) * len(study.VARIANTS)
    assert {c.env_id for c in cells if c.until == c.budget} == set(study.STATIONARY)
    assert len({c.file for c in cells}) == len(cells)


def test_under_drift_a_large_memory_needs_decay() -> None:
    found = study.drift((0,), ticks=450, capacities=(4096,))["4096"]
    assert found["decay"][0] < 0.8 * found["oldest_out"][0]


def test_the_evidence_says_what_the_docs_promise() -> None:
    told = json.loads(EVIDENCE.read_text())["early"]
    for env_id in study.REMEMBERED:
        assert told[env_id]["memory_against_none"]["at_least_1.3_times_interval"][0] > 0, "1.3 times, and more"
        assert told[env_id]["permuted_against_none"]["difference"] <= 0, "permuted values erase the gain"
