"""Evaluation: identical windows, paired differences, baselines that learn only from the training split."""

from __future__ import annotations

from typing import Any

import fakes
import numpy as np
import pytest

from emp_gym.agents import registry
from emp_gym.runs import backtest
from emp_gym.runs.config import EvaluationConfig

fakes.register()
CONFIG = EvaluationConfig(baselines=("hold", "random", "oracle"))


def log_of(name: str, chosen: Any, seed: int = 0) -> Any:
    env = backtest.make_env("fake-lob-v0", {}, 1)
    return backtest.evaluate(backtest.build(name, env), "fake-lob-v0", {}, chosen, seed)


def test_every_window_is_played_once_where_it_was_asked_for() -> None:
    chosen = backtest.windows("fake-lob-v0", {}, CONFIG)
    log = log_of("random", chosen)
    assert np.array_equal(log.episodes["day"], [day for day, _ in chosen])
    assert np.array_equal(log.episodes["start"], [row for _, row in chosen])
    assert (log.episodes["length"] == 16).all() and set(log.episodes["day"]) == {10, 11}


def test_a_window_does_not_depend_on_the_others() -> None:
    chosen = backtest.windows("fake-lob-v0", {}, CONFIG)
    whole, few = log_of("oracle", chosen), log_of("oracle", chosen[5:9])
    assert np.array_equal(whole.episodes["pnl"][5:9], few.episodes["pnl"])


def test_comparison_is_paired_and_shares_the_oracle() -> None:
    chosen = backtest.windows("fake-lob-v0", {"days": 50}, CONFIG)
    logs, skipped = backtest.run_baselines("fake-lob-v0", {"days": 50}, chosen, CONFIG)
    assert not skipped
    oracle = logs["oracle"]
    comparison = backtest.compare("me", [oracle, oracle], logs, ["d"] * len(chosen), CONFIG)
    assert comparison.agent.share == pytest.approx(1.0)
    row = comparison.row("oracle")
    assert row is not None and row.ahead is not None and row.ahead.mean == row.ahead.low == 0
    hold = comparison.row("hold")
    assert hold is not None and hold.share == 0 and hold.ahead is not None and hold.ahead.clear


def test_without_a_planted_signal_there_is_no_oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fakes.FakeLob, "tape_set", property(lambda self: None, lambda self, value: None), raising=False)
    chosen = [(10, 0), (10, 160)]
    logs, skipped = backtest.run_baselines("fake-lob-v0", {}, chosen, CONFIG)
    assert "oracle" not in logs and "no planted signal" in skipped["oracle"]


class Watcher:
    """Notes which split its learning environments come from."""

    seen: list[str] = []

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def initial_state(self, lanes: int) -> None:
        return None

    def act(self, observation: Any, state: Any, mask: Any = None) -> Any:
        return np.zeros(len(observation), int), state

    def learn(self, make_env: Any, total_timesteps: int, callback: Any = None) -> None:
        env = make_env(num_envs=4)
        Watcher.seen += [str(day) for day in env.unwrapped.days]


def test_baselines_learn_from_the_training_days_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.BUILT_IN, "watcher", "unused")
    monkeypatch.setattr(registry, "find", lambda name: Watcher)
    backtest.run_baselines("fake-lob-v0", {}, [(10, 0)], EvaluationConfig(baselines=("watcher",)))
    assert set(Watcher.seen) == {str(day) for day in range(10)}
