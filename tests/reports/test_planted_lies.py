"""A report is a claim: what claims too much is refused, or given away in the first lines of terminal and report."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from lies import LIES, Lie, Told

from emp_gym.evaluation.intervals import FEWEST, Estimate
from emp_gym.reports.verdict import verdict
from emp_gym.runs.backtest import AgentResult, Comparison
from emp_gym.types import EmpGymError


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.name)
def test_a_planted_lie_is_refused_or_given_away_in_the_first_lines(lie: Lie, tmp_path: Path) -> None:
    try:
        told = lie.make(tmp_path)
    except EmpGymError:
        assert lie.refused
        return
    for text in told.first_lines:
        assert re.search(lie.given_away_by, text), text


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.name)
def test_its_honest_twin_is_not_accused(lie: Lie, tmp_path: Path) -> None:
    for text in lie.honest(tmp_path).first_lines:
        assert not re.search(lie.given_away_by, text), text


def test_what_is_not_proved_is_nowhere_called_held_out(tmp_path: Path) -> None:
    unproved = [lie for lie in LIES if "HELD OUT" in lie.given_away_by]
    assert len(unproved) >= 8
    for number, lie in enumerate(unproved):
        try:
            told: Told = lie.make(tmp_path / str(number))
        except EmpGymError:
            assert lie.refused
            continue
        for text in (told.terminal, told.text):
            assert "held-out" not in text, lie.name


def test_money_of_two_currencies_is_in_no_sum(tmp_path: Path) -> None:
    lie = next(lie for lie in LIES if lie.name == "currencies summed")
    told = lie.make(tmp_path)
    assert "5,050" not in told.terminal + told.text, "the mean over both currencies"


def comparison(level: float, low: float, high: float) -> Comparison:
    made, held = Estimate(10.0, low, high, FEWEST), Estimate(0.0, 0.0, 0.0, FEWEST)
    episodes = {"pnl": np.full((1, FEWEST), 10.0)}
    rows = [AgentResult("ppo", episodes, made, made, {}), AgentResult("hold", episodes, held, held, {}, made)]
    return Comparison("emp-lob-v0", rows, [(i, 0) for i in range(FEWEST)], ["2031-03-03"] * FEWEST, level)


@pytest.mark.parametrize(
    ("level", "low", "high", "doubt"),
    [(0.9, 9.0, 11.0, "an interval of 90% only"), (0.95, 11.0, 12.0, "outside of its own"), (0.95, 8.0, 9.0, "outside of its own")],
)
def test_no_verdict_rests_on_an_interval_of_a_low_level_or_without_its_mean(level: float, low: float, high: float, doubt: str) -> None:
    said = verdict(comparison(level, low, high))
    assert "makes money" not in said and "is ahead" not in said and "by more than the interval" not in said.replace("not by more", "")
    assert said.count(doubt) == 2
    loss = comparison(level, low, high)
    loss.rows[0].pnl = Estimate(-10.0, -high, -low, FEWEST)
    assert "loses money" not in verdict(loss) and "lost money here" in verdict(loss)
    assert "makes money" in verdict(comparison(0.95, 9.0, 11.0)) and "is ahead" in verdict(comparison(0.99, 9.0, 11.0))
