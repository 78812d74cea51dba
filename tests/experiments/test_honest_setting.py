"""configs/honest.yaml: the recommended setting is one, wherever it is written, and the commands take it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from emp_gym.evaluation.assumptions import HONEST, Assumptions, Fees
from emp_gym.experiments import fidelity
from emp_gym.experiments.commands import evaluate, evolve
from emp_gym.experiments.config import EvaluationConfig, RunConfig, override, read_yaml, validate
from emp_gym.governance import costs
from emp_gym.governance.costs import Costs
from emp_gym.governance.stages import STAGES, read_rules
from emp_gym.types import ConfigError, Instrument


@pytest.fixture
def honest(root: Path) -> Path:
    return root / "configs" / "honest.yaml"


def test_file_fidelity_report_and_guard_mean_the_same_by_honest(honest: Path, root: Path) -> None:
    assert yaml.safe_load(honest.read_text())["env"] == dict(HONEST) == fidelity.settings({})[0].keywords
    assert all(finding.passed for finding in costs.findings(HONEST, [None], Costs()))
    assert all(rules.evidence == Costs() for rules in read_rules(root / "configs" / "stages").values())
    for stage in ("paper", "pilot", "live"):
        said = yaml.safe_load((root / "configs" / "stages" / f"{stage}.yaml").read_text())["evidence"]
        assert Costs.read(said, stage) == Costs() == STAGES[stage].evidence, "what stands in the file is what holds without it"
        assert set(said) == {"order_latency_ms", "feed_latency_ms", "fees", "impact"}


def test_it_says_why_each_value(honest: Path) -> None:
    lines = [line for line in honest.read_text().splitlines() if line.startswith("  ")]
    assert len(lines) == 9 and all(len(line.partition("#")[2]) > 20 for line in lines)


@pytest.mark.parametrize("env_id", ["emp-lob-v0", "emp-lob-market-making-v0", "emp-lob-execution-v0"])
def test_training_takes_it_for_every_order_book(env_id: str, honest: Path) -> None:
    config = validate(override(RunConfig(env_id=env_id), read_yaml(honest)))
    assert config.env == dict(HONEST) and config.evaluation == EvaluationConfig()


def test_evaluate_takes_it_and_set_stands_above_it(honest: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["--env", "emp-lob-v0", "--agent", "hold", "--data", "synthetic:rows=6000", "--config", str(honest)]
    words += ["--set", "env.episode=50 decisions", "env.taker_fee_bps=1.5", "evaluation.baselines=[random]"]
    assert evaluate.main([*words, "--episodes", "2", "--report", str(tmp_path), "--json"]) == 0
    capsys.readouterr()
    settings = json.loads((tmp_path / "evaluation.json").read_text())["run"]["settings"]
    assert settings == {**HONEST, "taker_fee_bps": 1.5, "episode": "50 decisions"}


def test_a_search_takes_it_and_refuses_what_it_would_ignore(honest: Path, tmp_path: Path) -> None:
    words = ["--env", "emp-lob-v0", "--data", "synthetic:rows=6000", "--out", str(tmp_path / "s")]
    plan, _ = evolve._plan(evolve.parser().parse_args([*words, "--config", str(honest)]))
    assert plan.env == {**HONEST, "data": "synthetic:rows=6000"}
    for text in ("evaluation: {episodes: 3}", "total_timesteps: 5", "seed: 4"):
        (tmp_path / "c.yaml").write_text(text)
        with pytest.raises(ConfigError, match="flags of its own"):
            evolve._plan(evolve.parser().parse_args([*words, "--config", str(tmp_path / "c.yaml")]))


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"fees": "free"}, r"fees must be one of \['stated', 'zero'\], got 'free'"),
        ({"impact": False}, "impact must be one of"),
        ({"latency_ms": 0.1}, "evidence.latency_ms is unknown; did you mean"),
        ({"order_latency_ms": -1}, "expected milliseconds from 0"),
        ({"order_latency_ms": "fast"}, "expected milliseconds from 0"),
        ({"order_latency_ms": True}, "expected milliseconds from 0"),
        ("zero", "evidence must be keys and values"),
    ],
)
def test_words_of_a_stage_are_checked(said: object, why: str, tmp_path: Path) -> None:
    (tmp_path / "paper.yaml").write_text(yaml.safe_dump({"evidence": said}))
    with pytest.raises(ConfigError, match=why) as raised:
        read_rules(tmp_path)
    assert "paper.yaml" in str(raised.value)


def test_a_word_of_a_stage_changes_only_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "paper.yaml").write_text("evidence: {fees: zero, order_latency_ms: 0.005}")
    rules = read_rules(tmp_path)
    assert rules["paper"].evidence == Costs(order_latency_ns=5_000, fees="zero") and rules["pilot"].evidence == Costs()


def test_fees_are_the_settings_where_it_names_them_and_else_the_instruments() -> None:
    own = Fees.of(Instrument("A", maker_fee_bps=-0.2, taker_fee_bps=0.3, taker_fee_per_lot=0.003))
    assert Assumptions.of({}).fees(own) == own
    assert Assumptions.of({"taker_fee_bps": 2}).fees(own) == Fees(-0.2, 2.0, 0.0, 0.003)
    assert Assumptions.of({"taker_fee_per_lot": 0.0, "maker_fee_bps": 0.1}).fees(own) == Fees(0.1, 0.3, 0.0, 0.0)
    assert Assumptions.of({}).fees(None) is None and Assumptions.of({"taker_fee_bps": 2}).fees(None) is None
    assert Assumptions.of({"taker_fee_bps": 2, "maker_fee_bps": 0}).fees(None) == Fees(0.0, 2.0)


@pytest.mark.parametrize(
    ("fees", "costs_something"),
    [
        (Fees(), False), (Fees(0.0, 0.3), True), (Fees(-0.2, 0.3), True), (Fees(-0.3, 0.3), False), (Fees(0.3, -0.2), True),
        (Fees(-0.5, 0.3), False), (Fees(taker_per_lot=0.003), True), (Fees(0.0, 0.3, maker_per_lot=-1.0), False),
    ],
)  # fmt: skip
def test_a_venue_that_pays_out_more_than_it_takes_is_no_cost(fees: Fees, costs_something: bool) -> None:
    assert fees.cost is costs_something
