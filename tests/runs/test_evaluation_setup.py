"""One object says what is judged, and one environment answers for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from judged import KWARGS

from emp_gym.cli import evaluate
from emp_gym.runs import backtest
from emp_gym.runs.config import EvaluationConfig, RunConfig
from emp_gym.runs.evaluation_setup import EvaluationSetup


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every vector environment that is made, in turn."""
    make, found = gym.make_vec, list[Any]()

    def noted(*words: Any, **keywords: Any) -> Any:
        found.append(make(*words, **keywords))
        return found[-1]

    monkeypatch.setattr(gym, "make_vec", noted)
    return found


def setup(**more: Any) -> EvaluationSetup:
    config = RunConfig("emp-lob-v0", "hold", env=dict(KWARGS), evaluation=EvaluationConfig(episodes=3, baselines=("long",), resamples=50))
    return EvaluationSetup(config, **more)


def test_an_evaluation_with_its_report_asks_one_environment(made: list[Any], tmp_path: Path) -> None:
    """One to be asked, and one for each who plays: the agent, two baselines. Before, each question made another."""
    words = ["--env", "emp-lob-v0", "--agent", "symmetric", "--data", str(KWARGS["data"]), "--episodes", "2", "--report", str(tmp_path)]
    assert evaluate.main([*words, "--verify", "--set", "env.episode=20 decisions", "evaluation.baselines=[hold,long]"]) == 0
    assert [env.num_envs for env in made] == [1, 2, 2, 2] and all(env.unwrapped.closed for env in made)


def test_every_question_is_answered_by_the_same_environment(made: list[Any]) -> None:
    with setup() as one:
        assert one.windows == backtest.windows("emp-lob-v0", KWARGS, one.config.evaluation)
        made.clear()
        assert one.dates == [one.about.days.info[day].date for day, _ in one.windows] and one.env is one.env and not made
        env = one.env
    assert env.unwrapped.closed
    assert one.windows and one.env is not env, "closed, it can be asked again"
    one.close()


def test_windows_that_are_chosen_need_no_environment_and_are_those_that_are_played(made: list[Any]) -> None:
    one = setup()
    chosen = one.windows[:1]
    one.close()
    made.clear()
    other = setup(chosen=chosen)
    assert other.windows == chosen and not made
    with other:
        other.agents = [backtest.build("hold", other.env)]
        comparison, logs, _ = backtest.judge(other)
    assert comparison.windows == chosen and len(logs[0].episodes["pnl"]) == 1
