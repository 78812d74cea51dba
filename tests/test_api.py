"""The Python API: every name of it is called, on small synthetic days."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import emp_gym
from emp_gym import api
from emp_gym.training.train import Interrupted
from emp_gym.types import ConfigError

ENV, DAYS = "emp-lob-v0", {"data": "synthetic:rows=2000", "episode": "16 decisions"}
CERTIFICATE, SMALL = "emp-ladder-trend-v0", {"num_envs": 8, "total_timesteps": 256}


def test_all_of_it_is_exported_and_typed_without_any() -> None:
    assert tuple(api.__all__) == emp_gym.API and all(getattr(emp_gym, name) is getattr(api, name) for name in emp_gym.API)
    assert not hasattr(emp_gym, "nothing_of_the_kind")
    for name in api.__all__:
        owner = getattr(api, name)
        members = [owner] if inspect.isfunction(owner) else [value for value in vars(owner).values() if inspect.isfunction(value)]
        assert not [one for one in members if "Any" in str(inspect.signature(one)) and not one.__name__.startswith("__")], name


def test_an_agent_by_name_is_judged_and_shown() -> None:
    found = emp_gym.evaluate("symmetric", ENV, episodes=3, baselines=["hold", "long"], env_kwargs=DAYS)
    frame = found.to_pandas()
    assert list(frame.columns) == ["symmetric", "hold", "long"] and (frame["hold"] == 0).all() and len(frame) == 3
    assert frame["symmetric"].mean() == pytest.approx(found.comparison.agent.pnl.mean)
    page = found._repr_html_()
    assert found.verdict[:20] in page and page.count("<tr>") == 4 and "SYNTHETIC days" in page
    log = emp_gym.backtest("symmetric", ENV, episodes=3, env_kwargs=DAYS)
    assert (log.episodes["pnl"] == found.logs[0].episodes["pnl"]).all() and len(log.tables["steps"])


def test_a_run_is_trained_loaded_and_judged(tmp_path: Path) -> None:
    told: list[int] = []
    run = emp_gym.train(CERTIFICATE, folder=tmp_path / "run", callback=lambda steps, _: told.append(steps), **SMALL)
    assert told and told == [row["steps"] for row in run.curves] == list(run.to_pandas().index)
    again = emp_gym.load_run(tmp_path / "run")
    assert again == run and again.config.total_timesteps == 256 and hasattr(again.agent, "act")
    assert emp_gym.evaluate(again, episodes=4).comparison.agent.name == "ppo"


def test_a_callback_that_says_no_ends_training_with_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        emp_gym.train(CERTIFICATE, folder=tmp_path, num_envs=8, total_timesteps=1 << 20, callback=lambda *_: False)
    assert list((tmp_path / "checkpoints").iterdir())


def test_environments_and_certificates() -> None:
    assert emp_gym.make(ENV, **DAYS).unwrapped.spec is not None and emp_gym.make_vec(ENV, 3, **DAYS).num_envs == 3
    assert emp_gym.certify("random", CERTIFICATE).score.mean < 0.5


def test_what_cannot_be_judged_is_told() -> None:
    with pytest.raises(ConfigError, match="env is missing"):
        emp_gym.evaluate("symmetric")
    with pytest.raises(ConfigError, match="has learned nothing yet"):
        emp_gym.evaluate("ppo", ENV, env_kwargs=DAYS)


def test_the_page_calls_everything_that_is_there() -> None:
    page = (Path(__file__).parent.parent / "docs" / "python_api.md").read_text()
    assert [name for name in api.__all__ if inspect.isfunction(getattr(api, name)) and f"emp_gym.{name}" not in page] == []
    shown = {"verdict", "to_pandas", "config", "agent"}
    assert all(f".{name}" in page for name in shown)
