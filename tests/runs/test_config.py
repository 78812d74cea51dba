"""Configuration: defaults, YAML, --set; what is unknown names its nearest."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import fakes
import pytest

from emp_gym.runs import config as c
from emp_gym.runs import contract
from emp_gym.types import ConfigError

fakes.register()


def test_set_overrides_nested_keys_with_types() -> None:
    tree = c.assignments(
        ["agent.learning_rate=3e-4", "evaluation.episodes=8", "total_timesteps=1e6", "env.episode=8 decisions"]
    )
    config = c.override(c.RunConfig(), tree)
    assert config.agent == {"learning_rate": 3e-4} and config.evaluation.episodes == 8
    assert config.total_timesteps == 1_000_000 and isinstance(config.total_timesteps, int)
    assert config.env == {"episode": "8 decisions"}


def test_some_parameters_of_the_agent_need_no_agent_before_them() -> None:
    config = c.override(c.RunConfig(), c.assignments(["extractor=gru", "residual=twap", "agent.shared=true"]))
    assert config.agent == {"extractor": "gru", "residual": "twap", "shared": True}


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("total_timestep=1", "did you mean total_timesteps"),
        ("evaluation.episode=1", "did you mean evaluation.episodes"),
        ("agent.learning_rat=1", "did you mean agent.learning_rate"),
        ("env.episodes=3", "did you mean env.episode"),
        ("env.split=test", "env.split is set by"),
        ("total_timesteps=many", "expected int"),
        ("agent.n_epochs=few", "expected int"),
        ("agent=3", "expected keys below"),
        ("nonsense", "expected key=value"),
    ],
)
def test_what_is_wrong_is_said(pair: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        c.validate(c.override(c.RunConfig(env_id="fake-lob-v0"), c.assignments([pair])))


def test_unknown_environment_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean emp-lob-v0"):
        contract.environment("emp-lob-v1")


def test_yaml_then_set(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text("total_timesteps: 1000\nagent:\n  n_epochs: 2\n  gamma: 0.9\n")
    config = c.override(c.override(c.RunConfig(), c.read_yaml(path)), c.assignments(["agent.gamma=0.8"]))
    assert config.total_timesteps == 1000 and config.agent == {"n_epochs": 2, "gamma": 0.8}


def test_yaml_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "list.yaml"
    path.write_text("- 1\n")
    with pytest.raises(ConfigError, match="expected keys and values"):
        c.read_yaml(path)
    with pytest.raises(ConfigError, match="no such file"):
        c.read_yaml(tmp_path / "nowhere.yaml")


def test_shipped_configs_are_valid() -> None:
    folder = Path(__file__).parents[2] / "configs"
    for path in folder.glob("*.yaml"):
        c.validate(c.override(c.RunConfig(), c.read_yaml(path)))


def test_rules_of_instruments_are_set_like_any_other_argument_and_survive_json() -> None:
    pairs = ["env.instrument={AMZN: {lot: 100, ticks: [[0, 1], [10000, 100]]}}", "env.taker_fee_per_lot=0.0035"]
    config = c.override(c.RunConfig(), c.assignments(pairs))
    assert config.env["instrument"] == {"AMZN": {"lot": 100, "ticks": [[0, 1], [10_000, 100]]}}
    assert c.override(c.RunConfig(), json.loads(json.dumps(asdict(config)))) == config
    assert c.override(c.RunConfig(), c.assignments(["env.instrument.AMZN.lot=100"])).env == {"instrument": {"AMZN": {"lot": 100}}}


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("evaluation.level=0.05", "from 0.5 to below 1, got 0.05; did you mean 0.95"),
        ("evaluation.level=95", "got 95.0; did you mean 0.95"),
        ("evaluation.level=-0.9", "got -0.9"), ("evaluation.level=0", "got 0.0"), ("evaluation.level=1", "got 1.0"),
        ("evaluation.level=1.5", "got 1.5"), ("evaluation.level=.nan", "got nan"), ("evaluation.resamples=0", "at least 40 .*got 0"),
        ("evaluation.resamples=1", "at least 40 .*got 1"), ("evaluation.resamples=-3", "got -3"), ("evaluation.resamples=39", "got 39"),
        ("evaluation.seed=-1", r"from 0 up to 2\^63, got -1"),
        ("evaluation.episodes=0", "at least 1, got 0"), ("evaluation.episodes=-2", "got -2"),
    ],
)  # fmt: skip
def test_what_no_interval_can_be_made_of_is_refused(pair: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        c.override(c.RunConfig(), c.assignments([pair]))
    assert pair.partition("=")[0] in str(raised.value)


def test_a_higher_level_needs_more_resamples() -> None:
    assert c.EvaluationConfig(level=0.99, resamples=200).level == 0.99 and c.EvaluationConfig(resamples=40)
    with pytest.raises(ConfigError, match="at least 200"):
        c.EvaluationConfig(level=0.99, resamples=199)
