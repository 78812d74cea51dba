"""The conformance suite of markets: right ones conform, and each check finds the fault that is planted for it, and no other check does."""

from __future__ import annotations

import json

import pytest

from emp_gym.envs.check_market import CHECKS, market_conformance, market_outcomes
from emp_gym.envs.market_course import MarketSubject
from emp_gym.experiments.commands import check
from emp_gym.market.replay import ReplayMarket
from tests.faulty_markets import FAULTY, RIGHT, Late

SKIPPED = {"Walk": {"latency_is_kept", "nothing_trades_in_a_halt", "answers_come_once"}, "Halts": {"latency_is_kept", "answers_come_once"},
           "Late": {"nothing_trades_in_a_halt"},
           "ReplayMarket": {"nothing_trades_in_a_halt", "answers_come_once", "named_are_announced", "nothing_after_t"}}  # fmt: skip


@pytest.mark.parametrize("market", [*RIGHT, ReplayMarket], ids=lambda market: market.__name__)
def test_a_right_market_conforms(market):
    found = list(market_outcomes(market))
    assert [str(finding) for outcome in found for finding in outcome.findings] == []
    assert {outcome.check for outcome in found if outcome.skipped} == SKIPPED[market.__name__]
    assert [outcome.check for outcome in found] == [check.__name__ for check in CHECKS]


def test_latency_is_kept_by_one_that_takes_several_decisions():
    assert market_conformance(Late, latency_ns=70_000_000) == []
    assert market_conformance("replay", latency_ns=200_000) == []


@pytest.mark.parametrize("market", FAULTY, ids=lambda market: market.__name__)
def test_a_planted_fault_is_found_by_its_check(market):
    its = next(check for check in CHECKS if check.__name__ == market.found)
    assert list(its(MarketSubject.of(market)))


@pytest.mark.slow
@pytest.mark.parametrize("market", FAULTY, ids=lambda market: market.__name__)
def test_and_by_no_other(market):
    assert {finding.check for finding in market_conformance(market)} == {market.found}


def test_every_check_has_a_planted_fault():
    assert {market.found for market in FAULTY} == {check.__name__ for check in CHECKS}


def test_the_command_says_what_was_found_and_what_it_cannot_take(capsys):
    assert check.main(["--market", "tests.faulty_markets:OneTable", "--set", "spread=4", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["market"] == "tests.faulty_markets:OneTable" and not told["ok"]
    assert [one["check"] for one in told["checks"] if one["findings"]] == ["starts_keep_apart"]
    assert check.main(["--market", "tests.faulty_markets:Walk", "--set", "spraed=4"]) == 2
    assert "spraed" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        check.main(["--market", "tests.faulty_markets:Walk", "--only", "x"])
    assert "belong to --certify" in capsys.readouterr().err
    assert check.main(["--market", "emp_gym.types:Orders"]) == 2
    assert "derives from emp_gym.market.base:Market" in capsys.readouterr().err
