"""Spaces: what may be searched, what a genome means, and errors that say where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from searchable import DIAL, TABLE

from emp_gym.runs.config import RunConfig, read_yaml
from emp_gym.search.space import FlatSpace, default_table, shaping, single_threaded
from emp_gym.types import ConfigError

BASE = RunConfig("emp-almgren-chriss-v0", DIAL)
LOB = RunConfig("emp-lob-v0", "ppo")


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.chdir(root)


def drawn(space: FlatSpace, seed: int = 0) -> Any:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return space.suggest(study.ask())


def test_a_genome_is_json_within_its_bounds_and_builds_the_same_configuration_again() -> None:
    space = FlatSpace(BASE, TABLE)
    for seed in range(20):
        genome = drawn(space, seed)
        assert -1 <= genome["agent.share"] <= 1 and 0.01 <= genome["agent.noise"] <= 1
        assert genome["agent.layers"] in ([8], [8, 8]) and isinstance(genome["agent.wild"], bool)
        assert space.build(genome) == space.build(dict(genome)) and drawn(space, seed) == genome
        assert space.build(genome).agent["share"] == genome["agent.share"]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({}, "nothing to search"),
        ({"share": [1, 2]}, "expected agent.KEY, env.KEY or risk"),
        ({"agent.share": {"low": 0.0}}, "low and high"),
        ({"agent.share": {"low": 1.0, "high": 0.0}}, "low < high"),
        ({"agent.share": {"low": 0.0, "high": 1.0, "log": True}}, "low > 0"),
        ({"agent.share": {"low": "a", "high": "b"}}, "low and high"),
        ({"agent.shar": [0.1]}, "did you mean agent.share"),
        ({"agent.share": [0.1, "x"]}, "agent.share = 'x'"),
        ({"env.shares": [1, 2]}, "another market or problem"),
        ({"risk": ["configs/limits/default.yaml"]}, "no orders that limits could hold back"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(table: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        space = FlatSpace(BASE, table)
        space.build(drawn(space))


def test_numbers_that_yaml_takes_for_text_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("agent.learning_rate: {low: 1e-4, high: 1e-2, log: true}\nagent.n_steps: {low: 8, high: 32}\n")
    rate, steps = FlatSpace(replace(BASE, agent_name="ppo"), read_yaml(path)).genes
    assert (rate.low, rate.high, rate.log, rate.whole) == (1e-4, 1e-2, True, False)
    assert (steps.low, steps.high, steps.whole) == (8, 32, True)


def test_limits_are_part_of_the_configuration_and_a_file_that_is_not_there_is_told() -> None:
    space = FlatSpace(LOB, {"risk": [None, "configs/limits/default.yaml"]})
    assert "gates" not in space.build({"risk": None}).env
    (gate,) = space.build({"risk": "configs/limits/default.yaml"}).env["gates"]
    assert gate["gate"] == "risk" and gate["limits"]["portfolio"]
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        FlatSpace(LOB, {"risk": ["nowhere.yaml"]})


def test_the_task_may_be_shaped_and_the_market_may_not() -> None:
    assert {"reward", "inventory_penalty", "damping", "max_position"} <= set(shaping(LOB)) and shaping(BASE) == ["reward"]
    FlatSpace(LOB, {"env.inventory_penalty": {"low": 0.001, "high": 0.1}})
    for key in ("env.fills", "env.episode", "env.parent", "env.latency_ns"):
        with pytest.raises(ConfigError, match="may not be searched"):
            FlatSpace(LOB, {key: [1, 2]})


@pytest.mark.parametrize("env_id", ["emp-lob-v0", "emp-lob-market-making-v0", "emp-lob-execution-v0", "emp-glft-v0", "emp-ladder-trend-v0"])
def test_ppo_has_a_space_everywhere(env_id: str) -> None:
    config = single_threaded(RunConfig(env_id, "ppo"))
    table = default_table(config)
    space = FlatSpace(config, table)
    assert ("env.reward" in table) == (env_id in ("emp-lob-v0", "emp-lob-market-making-v0"))
    assert space.build(drawn(space)).agent["threads"] == 1


def test_a_search_starts_with_what_is_set_or_the_own_values_or_the_nearest_in_range() -> None:
    base = RunConfig("emp-lob-v0", "ppo", agent={"learning_rate": 1e-3, "n_steps": 500}, env={"damping": 0.25})
    table = {
        "agent.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "agent.n_steps": {"low": 8, "high": 64},
        "agent.n_epochs": {"low": 1, "high": 8}, "agent.layers": [[32], [64, 64]], "env.reward": ["inventory", "pnl"],
        "env.damping": {"low": 0.0, "high": 1.0}, "risk": [None, "configs/limits/default.yaml"],
    }  # fmt: skip
    space = FlatSpace(base, table)
    assert space.start() == {
        "agent.learning_rate": 1e-3, "agent.n_steps": 64, "agent.n_epochs": 4, "agent.layers": "[64, 64]",
        "env.reward": "pnl", "env.damping": 0.25, "risk": "null",
    }  # fmt: skip
    told = dict(space.describe())
    assert told["agent.n_steps"].endswith("outside is 500, what it is without a search (nearest: 64)")
    assert not [key for key, text in told.items() if "outside" in text and key != "agent.n_steps"]


def test_choices_have_a_nearest_only_where_they_are_numbers() -> None:
    base = RunConfig("emp-lob-v0", "ppo", agent={"n_steps": 500, "layers": [16]})
    space = FlatSpace(base, {"agent.n_steps": [8, 128, 32], "agent.layers": [[32], [64, 64]]})
    assert space.start() == {"agent.n_steps": "128"}
    assert "outside is [16], what it is without a search (nothing comes near)" in dict(space.describe())["agent.layers"]


def test_muzero_has_a_space_too() -> None:
    config = RunConfig("emp-ladder-trend-v0", "muzero")
    FlatSpace(config, default_table(config))


def test_an_agent_may_publish_its_space_and_one_without_needs_a_file() -> None:
    assert set(default_table(BASE)) == {"agent.share", "agent.noise"}
    with pytest.raises(ConfigError, match="there is a space for"):
        default_table(RunConfig("emp-lob-v0", "hold"))


@pytest.mark.parametrize("name", ["certificate", "market", "encoder"])
def test_the_spaces_that_we_give_can_be_built(name: str) -> None:
    config = replace(LOB, env_id="emp-lob-v0" if name == "market" else "emp-glft-v0")
    space = FlatSpace(config, read_yaml(Path(f"configs/search/{name}.yaml")))
    for seed in range(3):
        space.build(drawn(space, seed))


def test_the_example_learns_in_its_steps_and_publishes_its_space(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    from emp_gym.search.jobs import TrainingJob, work

    monkeypatch.syspath_prepend(str(root / "docs/examples"))
    config = RunConfig("emp-obizhaeva-wang-v0", "cross_entropy:CrossEntropy", agent={"population": 24, "rollouts": 1})
    space = FlatSpace(config, default_table(config))
    assert space.build(drawn(space)).agent["degree"] in (1, 2, 3)
    before, after = (work(TrainingJob.of(config, 0, steps)) for steps in (1, 20_000))
    assert not before.failed and before.env_steps == 24 * 11 and 20_000 <= after.env_steps < 20_000 + 24 * 11
    assert after.objectives[0] > before.objectives[0] + 0.5
