"""What all problems share: names, parameters, batches, scores."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from emp_gym.evaluation.optimal import PROBLEMS, RUNGS, problem
from emp_gym.types import ConfigError, DataError

QUICK = {"glft": {"horizon": 60.0, "steps": 60}}


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_problem_answers_everything(name: str) -> None:
    subject = problem(name, **QUICK.get(name, {}))
    best, (base, value) = subject.optimal(), subject.base()
    assert best.value > value and base in subject.naive()
    assert subject.optimal() is problem(name, **QUICK.get(name, {})).optimal(), "solved once"
    assert subject.evaluate(best.policy) == pytest.approx(best.value, abs=1e-9)
    assert subject.score(best.value) == 1 and subject.score(value) == 0
    assert isinstance(subject.decisions, int) and subject.decisions == subject.steps
    step, state = np.zeros(5, np.int64), np.zeros((5, len(subject.state)))
    assert best.policy(step, state).shape == (5, len(subject.action))
    assert type(subject)(**json.loads(json.dumps(asdict(subject)))) == subject


def test_the_ladder_is_among_the_problems() -> None:
    assert set(RUNGS) < set(PROBLEMS)


def test_unknown_names_and_parameters_are_told_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'almgren-chriss'"):
        problem("almgren-chris")
    with pytest.raises(ConfigError, match="did you mean 'risk_aversion'"):
        problem("glft", risk_aversoin=0.1)
    with pytest.raises(ConfigError, match="known: almgren-chriss"):
        problem("")


def test_a_problem_without_anything_to_learn_has_no_score() -> None:
    flat = problem("almgren-chriss", risk_aversion=0.0)
    with pytest.raises(DataError, match="no better than 'twap'"):
        flat.score(0.0)
