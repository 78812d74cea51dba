"""configs/honest.yaml: the recommended setting is one, wherever it is written, and the commands take it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from emp_gym.cli import evaluate, evolve
from emp_gym.data.clock import half_life_of
from emp_gym.evaluation.assumptions import HONEST, Assumptions, Fees, below_honest
from emp_gym.governance.ledger.record import Day
from emp_gym.governance.promotion import costs
from emp_gym.governance.promotion.costs import Costs
from emp_gym.governance.promotion.stages import STAGES, read_rules
from emp_gym.governed import evidence
from emp_gym.reports import fidelity
from emp_gym.runs import backtest
from emp_gym.runs.config import EvaluationConfig, RunConfig, override, read_yaml, validate
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
        assert set(said) == {"order_latency_ms", "feed_latency_ms", "fees", "impact", "half_life_ms", "maker_fee_bps", "taker_fee_bps"}


def test_it_says_why_each_value(honest: Path) -> None:
    lines = [line for line in honest.read_text().splitlines() if line.startswith("  ")]
    assert len(lines) == 10 and all(len(line.partition("#")[2]) > 20 for line in lines)


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
        ({"taker_fee_bps": "low"}, "expected basis points from -100 to 10,000, got 'low'"),
        ({"half_life_ms": float("nan")}, "expected milliseconds from 0"),
        ("zero", "evidence must be keys and values"),
    ],
)
def test_words_of_a_stage_are_checked(said: object, why: str, tmp_path: Path) -> None:
    (tmp_path / "paper.yaml").write_text(yaml.safe_dump({"evidence": said}))
    with pytest.raises(ConfigError, match=why) as raised:
        read_rules(tmp_path)
    assert "paper.yaml" in str(raised.value)


def test_a_word_of_a_stage_changes_only_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "paper.yaml").write_text("evidence: {fees: zero, order_latency_ms: 0.005, maker_fee_bps: -0.2, half_life_ms: 250}")
    rules = read_rules(tmp_path)
    said = Costs(order_latency_ns=5_000, fees="zero", maker_fee_bps_e4=-2_000, half_life_ns=250_000_000)
    assert rules["paper"].evidence == said and rules["pilot"].evidence == Costs()


def test_fees_are_the_settings_where_it_names_them_and_else_the_instruments() -> None:
    own = Fees.of(Instrument("A", maker_fee_bps=-0.2, taker_fee_bps=0.3, taker_fee_per_lot=0.003))
    assert Assumptions.of({}).fees(own) == own
    assert Assumptions.of({"taker_fee_bps": 2}).fees(own) == Fees(-0.2, 2.0, 0.0, 0.003)
    assert Assumptions.of({"taker_fee_per_lot": 0.0, "maker_fee_bps": 0.1}).fees(own) == Fees(0.1, 0.3, 0.0, 0.0)
    assert Assumptions.of({}).fees(None) is None and Assumptions.of({"taker_fee_bps": 2}).fees(None) is None
    assert Assumptions.of({"taker_fee_bps": 2, "maker_fee_bps": 0}).fees(None) == Fees(0.0, 2.0)


def test_fees_per_lot_are_weighed_at_the_price_of_a_lot() -> None:
    assert Fees(0.1, 0.2, 0.001, 0.003, price=100.0).in_bps == pytest.approx((0.2, 0.5))
    assert Fees(taker_per_lot=0.003, price=220.0).in_bps == pytest.approx((0.0, 0.136), abs=1e-3), "less than 0.3 bp of a dear share"
    assert Fees(0.0, 0.3, taker_per_lot=0.003).in_bps == (0.0, 0.3), "of an unknown price: at least as much as it is without"
    assert Fees(5.0, 5.0, maker_per_lot=-1e-9).in_bps == (float("-inf"), 5.0), "a rebate of an unknown price may be any"
    assert Fees(taker_per_lot=0.003, price=100.0).least(0.0, 0.3) and not Fees(taker_per_lot=0.00299, price=100.0).least(0.0, 0.3)


@pytest.mark.parametrize("impact", ["none", "permanent", "resilient", "resilient 250 ms", "resilient 1ns", "resilient 3 min"])
def test_the_half_life_is_the_one_that_the_market_takes(impact: str) -> None:
    assert Assumptions.of({"impact": impact}).half_life_ns == half_life_of(impact)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []), ({"taker_fee_bps": 5.0, "maker_fee_bps": 1.0, "latency_ns": [300_000, 10**7], "impact": "permanent"}, []),
        ({"taker_fee_bps": 0.0001}, ["taker fee 0.0001 bp where configs/honest.yaml charges 0.3"]),
        ({"maker_fee_bps": -8}, ["a maker's rebate of 8 bp where configs/honest.yaml counts on none"]),
        ({"taker_fee_bps": -0.1}, ["a taker's rebate of 0.1 bp where configs/honest.yaml charges 0.3"]),
        ({"taker_fee_bps": 0.0}, ["no fees"]),
        ({"latency_ns": 1}, [f"{one} latency 1e-06 ms where configs/honest.yaml has 0.2 ms" for one in ("order", "feed")]),
        ({"latency_ns": [200_000, 0]}, ["no feed latency"]), ({"latency_ns": 0}, ["no order latency"]),
        ({"impact": "resilient 1 ns"}, ["impact with a half-life of 1e-09 s where configs/honest.yaml has 1 s"]),
        ({"impact": "none"}, ["no impact"]), ({"fills": "touch"}, ["touch fills"]),
        ({"hidden_prints": "fill"}, ["fills by hidden prints where configs/honest.yaml ignores them"]),
    ],
)  # fmt: skip
def test_what_is_cheaper_than_honest_is_named_with_both_numbers(changes: dict[str, object], said: list[str]) -> None:
    assert below_honest(Assumptions.of({**HONEST, **changes}), [Fees()]) == said


def test_of_several_instruments_the_cheapest_counts() -> None:
    keywords = {name: value for name, value in HONEST.items() if not name.endswith("fee_bps")}
    own = [Fees(0.0, 3.0), Fees(0.0, 0.1), Fees(taker_per_lot=0.003, price=100.0)]
    assert below_honest(Assumptions.of(keywords), own) == ["taker fee 0.1 bp where configs/honest.yaml charges 0.3"]
    assert below_honest(Assumptions.of(keywords), own[2:]) == [] == below_honest(Assumptions.of(keywords), [None])


def test_fidelity_takes_no_cost_in_name_only_for_the_honest_one() -> None:
    (first, *_) = fidelity.settings({"latency_ns": 1, "impact": "resilient 1 ns", "taker_fee_bps": 1e-4, "maker_fee_bps": -8})
    assert first.keywords == dict(HONEST)


def test_evidence_notes_the_price_at_which_fees_per_lot_are_weighed() -> None:
    env = backtest.make_env("emp-lob-v0", {"data": "synthetic:rows=2000", "episode": "16 decisions"}, 1)
    tape, told = env.unwrapped.tape_set, evidence.day_of(env, 0)
    mids = sorted(int(mid2) for mid2 in tape.rows["mid2"][tape.day_slice(0)])
    middle = (mids[(len(mids) - 1) // 2] + mids[len(mids) // 2]) / 4 * 1e-4
    assert told["price_e8"] == round(middle * 1e8) and Day.of(told).fees == Fees(price=pytest.approx(middle))
    env.close()
