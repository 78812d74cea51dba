"""The fidelity report: one assumption at a time, on the same windows; what takes does not care about queues."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from judged import KWARGS, judged

from emp_gym.cli import evaluate, evaluation
from emp_gym.evaluation.intervals import Estimate
from emp_gym.reports import fidelity
from emp_gym.reports.fidelity import HONEST, KEYS, OPTIMISTIC, Fidelity, Setting, SettingResult
from emp_gym.reports.formatting import interval
from emp_gym.runs.evaluation_setup import EvaluationSetup
from emp_gym.types import ConfigError


@cache
def replayed(agent: str, env_id: str = "emp-lob-v0") -> Fidelity:
    one = judged(env_id, agent)
    return fidelity.replay(EvaluationSetup(one.config, one.agents))


def outcome(found: Fidelity, name: str) -> SettingResult:
    return next(one for one in found.outcomes if one.setting.name.startswith(name))


def test_settings_turn_one_dial_at_a_time_and_name_every_one() -> None:
    honest, *others = fidelity.settings({})
    dials = {"fills": {"fills", "hidden_prints"}, "latency": {"latency_ns"}, "impact": {"impact"},
             "fees": {f"{side}_fee_{unit}" for side in ("maker", "taker") for unit in ("bps", "per_lot")}}  # fmt: skip
    assert dict(honest.keywords) == HONEST and honest.name.startswith("honest: exact queue, 0.2 ms, resilient")
    assert len({one.name for one in others}) == len(others) == len({str(sorted(one.keywords.items(), key=str)) for one in others})
    for one in others:
        turned = {key for key in KEYS if one.keywords[key] != HONEST[key]}
        assert one.dial == "all" or (turned and turned <= dials[one.dial]), one.name
    assert dict(others[-1].keywords) == OPTIMISTIC
    every = {key: {one.keywords[key] for one in (honest, *others)} for key in ("fills", "hidden_prints", "impact")}
    assert every == {
        "fills": {"exact", "touch", "optimistic"}, "hidden_prints": {"ignore", "fill"}, "impact": {"none", "resilient", "permanent"},
    }  # fmt: skip


def test_what_a_run_assumed_more_strictly_is_the_honest_setting() -> None:
    own = {"latency_ns": [5_000_000, 300_000], "impact": "permanent", "taker_fee_bps": 2.0, "maker_fee_bps": 1.0}
    honest = fidelity.settings(own)[0]
    given = {"fills": "exact", "hidden_prints": "ignore", "maker_fee_per_lot": None, "taker_fee_per_lot": None}
    assert dict(honest.keywords) == given | own
    assert honest.name == "honest: exact queue, 5 ms + 0.3 ms, permanent, fees 1/2 bp"
    per_share = fidelity.settings({"taker_fee_per_lot": 0.0035})
    assert per_share[0].name == "honest: exact queue, 0.2 ms, resilient, the instrument's fees and –/0.0035 a lot"
    free = next(one for one in per_share if one.name == "no fees")
    assert free.keywords["taker_fee_per_lot"] == free.keywords["taker_fee_bps"] == 0.0, "a fee per share is one of the fees"
    assert fidelity.settings({"fills": "optimistic"})[0].keywords["fills"] == "exact", "that is what is in question"
    hidden = fidelity.settings({**HONEST, "hidden_prints": "fill"})
    assert hidden[0].keywords["hidden_prints"] == "ignore", "and that"
    assert [one.name for one in hidden if one.keywords["hidden_prints"] == "fill"] == ["hidden prints fill"]


def test_a_policy_that_only_takes_does_not_care_about_queues() -> None:
    found = replayed("ofi-taker")
    assert outcome(found, "honest").lots > 0 and outcome(found, "honest").maker_share == 0
    for name in ("fills touch", "fills optimistic"):
        assert np.array_equal(outcome(found, name).episodes, found.honest.episodes)
        assert outcome(found, name).gap.mean == 0 and np.isnan(outcome(found, name).p_value)
    assert (outcome(found, "no fees").episodes >= found.honest.episodes).all()
    assert outcome(found, "no fees").gap.mean > 0


def test_a_policy_that_quotes_is_filled_more_by_an_optimist_and_more_still_in_the_optimistic_corner() -> None:
    for env_id in ("emp-lob-v0", "emp-lob-market-making-v0"):
        found = replayed("symmetric", env_id)
        exact, touch, optimistic = (outcome(found, name) for name in ("honest", "fills touch", "fills optimistic"))
        assert exact.lots < touch.lots < optimistic.lots
        assert optimistic.pnl.mean > exact.pnl.mean and found.optimistic.pnl.mean > exact.pnl.mean
        assert (outcome(found, "fees with a maker's rebate").gap.mean) > 0


def test_gaps_are_paired_with_the_honest_setting_on_the_same_windows() -> None:
    found = replayed("symmetric")
    for one in found.outcomes:
        assert one.gap.mean == pytest.approx((one.episodes - found.honest.episodes).mean())
        assert one.pnl.mean == pytest.approx(one.episodes.mean())
    judged_again = outcome(found, "as the run was judged").episodes
    assert np.array_equal(judged_again, judged("emp-lob-v0", "symmetric").comparison.agent.episodes["pnl"])


def test_the_reading_says_when_a_profit_is_an_assumption() -> None:
    found = replayed("symmetric")
    said = fidelity.reading(found)
    claim, left, gap = found.optimistic.pnl.mean, found.honest.pnl.mean, found.optimistic.gap
    assert ("The profit is an assumption." in said) == (claim > 0 >= left and gap.clear)
    assert ("matters most" in said) == any(one.gap.clear for one in found.outcomes if one.setting.dial not in ("", "all"))


def with_gaps(**gaps: Estimate) -> Fidelity:
    """Outcomes by setting; the first stands for the honest one, the last for the optimistic corner, whose claim is 10."""
    zero = Estimate(-1.0, -2.0, -0.5, blocks=8)
    made = np.zeros((1, 8))
    parts = [SettingResult(Setting(name, "fills", {}), zero, gap, 0.1, 1.0, 0.5, made) for name, gap in gaps.items()]
    honest = SettingResult(Setting("honest", "", {}), zero, Estimate(0.0, 0.0, 0.0, blocks=8), 1.0, 1.0, 0.5, made)
    corner = SettingResult(Setting("all optimistic", "all", {}), Estimate(10.0, 5.0, 15.0, 8), list(gaps.values())[-1], 0.1, 1.0, 0.5, made)
    return Fidelity("emp-lob-v0", "me", (honest, *parts, corner), ((0, 0),), 8, 1, 0.95)


def test_what_matters_most_is_said_only_where_its_interval_excludes_zero() -> None:
    large, small = Estimate(95.0, -10.0, 200.0, blocks=8), Estimate(25.0, 5.0, 45.0, blocks=8)
    said = fidelity.reading(with_gaps(touch=large, latency=small))
    assert "latency matters most: 25.00 [5.00, 45.00]" in said and "The profit is an assumption." in said
    said = fidelity.reading(with_gaps(touch=large))
    assert "matters most" not in said and "assumption." not in said and "No single assumption makes a difference" in said


def test_of_one_window_nothing_matters() -> None:
    one = Estimate(95.0, note="1 window: too few for an interval", blocks=1)
    found = with_gaps(touch=one)
    honest = replace(found.honest, pnl=one, gap=replace(one, mean=0.0))
    said = fidelity.reading(replace(found, outcomes=(honest, *found.outcomes[1:])))
    assert "matters most" not in said and "assumption." not in said and "cannot be said from so few windows" in said


def test_report_and_json_agree_and_the_page_is_whole(tmp_path: Path) -> None:
    found = replayed("symmetric")
    text = fidelity.write(found, tmp_path).read_text()
    told = json.loads((tmp_path / "fidelity.json").read_text())
    assert list(told["settings"]) == [one.setting.name for one in found.outcomes]
    for one in found.outcomes:
        assert f"| {' | '.join(fidelity.cells(one))} |" in text
        assert np.array_equal(told["settings"][one.setting.name]["pnl_by_window"], one.episodes)
    assert "data:image/png;base64," in (tmp_path / "fidelity.html").read_text()


@pytest.mark.parametrize("width", [80, 120])
def test_on_a_terminal_every_setting_stands_on_one_line_with_its_numbers(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    found = replayed("symmetric")
    evaluation.show_fidelity(found)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    for one in found.outcomes:
        (line,) = [line for line in lines if line.startswith(f"{fidelity.in_short(one.setting)} ") and "│" in line]
        assert interval(one.pnl) in line and (one is found.honest or interval(one.gap) in line)
        assert (f"{one.lots:,.0f}" in line) == (width == 120)
        assert fidelity.in_short(one.setting) == one.setting.name or one.setting.name in lines
    assert ("No room for Wilcoxon p, lots, maker; see --json or --report DIR." in lines) == (width == 80)


def test_without_a_book_there_is_nothing_to_assume() -> None:
    one = judged()
    from dataclasses import replace

    config = replace(one.config, env_id="emp-cartea-jaimungal-v0", env={})
    with pytest.raises(ConfigError, match="no order book, in which fills would be an assumption"):
        fidelity.replay(EvaluationSetup(config, one.agents))


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--env", "emp-lob-v0", "--agent", "ofi-taker", "--data", str(KWARGS["data"]), "--episodes", "2", "--fidelity"]
    words += ["--set", "env.episode=20 decisions", "evaluation.baselines=[hold]"]
    assert evaluate.main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["agent"] == "ofi-taker" and "all optimistic" in told["fidelity"]["settings"]
    assert evaluate.main([*words, "--walk-forward", "2"]) == 2
    assert "does not go with --fidelity" in capsys.readouterr().err
