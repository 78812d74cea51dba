"""The table of baselines is what is registered, refused, documented."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import emp_gym  # noqa: F401  (registers the ids)
from emp_gym.agents import registry
from emp_gym.agents.base import parameters
from emp_gym.agents.baselines import TABLE
from emp_gym.envs import CERTIFICATES, ENVIRONMENTS
from emp_gym.types import ConfigError


@cache
def env(env_id: str) -> Any:
    return gym.make_vec(env_id, num_envs=1)


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_baseline_accepts_its_tasks_and_refuses_the_others(row: Any, env_id: str) -> None:
    made = env(env_id)
    if row.name in registry.baselines(env_id):
        row.agent(made.single_observation_space, made.single_action_space, made.spec)
    else:
        with pytest.raises(ConfigError, match="acts where actions"):
            row.agent(made.single_observation_space, made.single_action_space, made.spec)


def test_every_order_book_task_has_baselines() -> None:
    assert all({"hold", "random"} < set(registry.baselines(env_id)) for env_id in ENVIRONMENTS)
    learners = {"ppo", "muzero", "rllib-ppo"}
    assert [name for name in registry.BUILT_IN if name not in learners | {"optimal", "naive"}] == [row.name for row in TABLE]


def test_every_certificate_is_judged_beside_its_two_ends() -> None:
    assert all({"naive", "optimal"} < set(registry.baselines(env_id)) for env_id in CERTIFICATES)


def test_of_an_environment_that_says_nothing_of_its_actions_two_baselines_are_known() -> None:
    assert registry.baselines("CartPole-v1") == registry.baselines("nobody:knows-v0") == ("hold", "random")


def test_another_task_brings_its_own_baselines() -> None:
    assert registry.baselines("emp-lob-v0", {"task": "execute"}) == registry.baselines("emp-lob-execution-v0")


def test_the_page_names_every_baseline_its_source_and_its_parameters(root: Path) -> None:
    page = (root / "docs" / "baselines.md").read_text(encoding="utf-8")
    for row in TABLE:
        line = next((line for line in page.splitlines() if line.startswith(f"| `{row.name}` |")), "")
        assert line, f"docs/baselines.md has no row for {row.name}"
        assert row.source in line, f"docs/baselines.md cites another source than the table for {row.name}"
        missing = [name for name in parameters(row.agent) or [] if f"`{name}" not in line]
        shared = {"lanes", "steps", "patience", "passive", "volatility", "intensity", "decay"}
        assert not set(missing) - shared, f"docs/baselines.md does not name {missing} of {row.name}"
    for name in ("lanes", "steps", "patience", "passive"):
        assert f"`{name}`" in page


def test_every_parameter_has_a_default() -> None:
    for row in TABLE:
        schema = getattr(row.agent, "Config", None)
        if schema is not None:
            assert schema() is not None and fields(schema)
