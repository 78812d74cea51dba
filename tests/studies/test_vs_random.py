"""Search against random search: equal steps, the same reference, pairs; the long experiment itself is run by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from searchable import Formula

from emp_gym.search.driver import Record
from emp_gym.search.jobs import Objectives
from emp_gym.search.plans import SearchPlan
from emp_gym.studies import vs_random
from emp_gym.studies.vs_random import Contest, SearchCurve

MEASURED = Objectives("score", 0.0, "lots")
TABLE = {f"agent.{name}": {"low": 0.0, "high": 1.0} for name in "abcdef"}


def record(number: int, objectives: tuple[float, ...], env_steps: int = 10, state: str = "complete") -> Record:
    return Record(number, state, {"a": 1}, objectives, objectives[:1], 10, env_steps, "")


def test_only_trials_within_the_equal_steps_count() -> None:
    records = [record(0, (0.1, 1, 1)), record(1, (), 5, "failed"), record(2, (0.9, 1, 1)), record(3, (1.0, 1, 1), 0)]
    assert [one.number for one in vs_random.within(records, 25)] == [0, 2, 3], "one that was done before costs nothing"
    assert [one.number for one in vs_random.within(records, 24)] == [0]


def test_figures_by_hand() -> None:
    """An objective that never varies is left out; what is above the reference in score and below in drawdown spans the volume."""
    good = SearchCurve((record(0, (1.0, 0.0, 7.0)),), 10, 0.9)
    poor = SearchCurve(tuple(record(i, (-1.0, 2.0, 7.0)) for i in range(9)), 90, -0.5)
    found = vs_random.figures([{"nsga2": good, "random": poor}] * 3, MEASURED)
    score, drawdown, turnover = found["reference"]
    assert score == 0.0, "the best naive policy, since the lower quartile is below it"
    assert drawdown == pytest.approx(2.0) and turnover == 7.0
    assert found["hypervolume"]["nsga2"] == pytest.approx([1.0] * 3) and found["hypervolume"]["random"] == [0.0] * 3
    ahead = found["held_out_score"]["difference"]
    assert ahead["mean"] == pytest.approx(1.4)
    assert (ahead["pairs"], ahead["ahead"], ahead["probability_of_improvement"]) == (3, 3, 1.0)
    swapped = vs_random.figures([{"nsga2": poor, "random": good}] * 3, MEASURED)
    assert swapped["hypervolume"]["difference"]["mean"] == pytest.approx(-1.0)


def test_a_contest_runs_both_and_goes_on_where_it_was(tmp_path: Path) -> None:
    plan = SearchPlan("emp-almgren-chriss-v0", "searchable:Six", 24, 4, halving=1, budget=100, seeds=1, table=TABLE)
    first = vs_random.compare(Contest(plan, (0,), 2), tmp_path, Formula())
    both = vs_random.compare(Contest(plan, (0, 1), 2), tmp_path, Formula())
    json.dumps(both)
    assert both["held_out_score"]["nsga2"][0] == first["held_out_score"]["nsga2"][0]
    steps = np.array(list(both["env_steps"].values()))
    assert (steps > 2100).all() and (steps <= 2400).all() and (np.ptp(steps, axis=0) <= 100).all(), "equal but for a trial"
    for arm in vs_random.ARMS:
        assert both["best_score_in_search"][arm] == pytest.approx(both["held_out_score"][arm]), "a formula has no seeds"
    again = vs_random.compare(Contest(replace(plan, sampler="random"), (0, 1), 2), tmp_path, Formula())
    assert again["hypervolume"] == both["hypervolume"] and np.isfinite(again["hypervolume"]["nsga2"]).all()
