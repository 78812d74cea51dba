"""A report is a claim: what claims too much is refused, or given away in the first lines of terminal and report."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lies import LIES, Lie, Told

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
