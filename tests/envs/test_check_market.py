"""The conformance suite of markets: right ones conform, and each check finds the fault that is planted for it, and no other check does."""

from __future__ import annotations

import json

import pytest

from emp_gym.cli import check
from emp_gym.envs.conformance.market import CHECKS, market_conformance, market_outcomes
from emp_gym.envs.conformance.market_driver import MarketSubject
from emp_gym.envs.conformance.market_orders import money_is_conserved
from emp_gym.market.replay import ReplayMarket
from tests.faulty_markets import FAULTY, RIGHT, Late, Walk

SKIPPED = {"Walk": {"latency_is_kept", "nothing_trades_in_a_halt", "answers_come_once"}, "Halts": {"latency_is_kept", "answers_come_once"},
           "Late": {"nothing_trades_in_a_halt"},
           "ReplayMarket": {"nothing_trades_in_a_halt", "answers_come_once", "named_are_announced", "nothing_after_t"}}  # fmt: skip


SHORT = 120  # decisions


@pytest.mark.parametrize("market", [*RIGHT, ReplayMarket], ids=lambda market: market.__name__)
def test_a_right_market_conforms(market):
    found = list(market_outcomes(MarketSubject.of(market).on(0, SHORT)))
    assert [str(finding) for outcome in found for finding in outcome.findings] == []
    assert {outcome.check for outcome in found if outcome.skipped} == SKIPPED[market.__name__]
    assert [outcome.check for outcome in found] == [check.__name__ for check in CHECKS]


def test_latency_is_kept_by_one_that_takes_several_decisions():
    assert market_conformance(Late, latency_ns=70_000_000) == []
    assert market_conformance("replay", latency_ns=200_000) == []


@pytest.mark.parametrize("market", FAULTY, ids=lambda market: market.__name__)
def test_a_planted_fault_is_found_by_its_check(market):
    its = next(check for check in CHECKS if check.__name__ == market.found)
    assert list(its(MarketSubject.of(market).on(0, SHORT)))


@pytest.mark.slow
@pytest.mark.parametrize("market", FAULTY, ids=lambda market: market.__name__)
def test_and_by_no_other(market):
    assert {finding.check for finding in market_conformance(market)} == {market.found}


class PaysLate(Walk):
    """Ten dollars a decision, from the 201st of an episode on."""

    def pass_time(self, lanes):
        super().pass_time(lanes)
        self.public.lane["cash"][lanes] += 10**9 * (self.public.lane["decision"][lanes] > 200)


class PaysForMany(Walk):
    """Ten dollars for an order of more than 5,000 lots."""

    def fill(self, lane, slot, price, quantity, maker, beyond=False):
        many = self.public.open["quantity"][lane, slot] > 5_000
        super().fill(lane, slot, price, quantity, maker, beyond)
        self.public.lane["cash"][lane] += 10**9 * many


@pytest.mark.parametrize("market", [PaysLate, PaysForMany], ids=lambda market: market.__name__)
def test_the_course_is_as_long_and_its_orders_as_large_as_an_episode_may_have_them(market):
    assert list(money_is_conserved(MarketSubject.of(market)))


class Raises(Walk):
    def pass_time(self, lanes):
        raise RuntimeError("no quotes today")


def test_one_fault_that_stops_every_check_is_said_once():
    found = list(market_outcomes(Raises))
    told = [finding.what for outcome in found for finding in outcome.findings]
    assert len(told) == 1 and told[0].startswith("RuntimeError: no quotes today (test_check_market.py, line ")
    because = "not run to its end, because of the RuntimeError that arrays_are_as_promised has met"
    assert sum(outcome.skipped == because for outcome in found) >= 15


def test_every_check_has_a_planted_fault():
    assert {market.found for market in FAULTY} == {check.__name__ for check in CHECKS}


def test_the_command_says_what_was_found_and_what_it_cannot_take(capsys):
    assert check.main(["--market", "tests.faulty_markets:OneTable", "--set", "spread=4", "--json", "--decisions", "64", "--seed", "5"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["market"] == "tests.faulty_markets:OneTable" and not told["ok"]
    assert [one["check"] for one in told["checks"] if one["findings"]] == ["starts_keep_apart"]
    assert check.main(["--market", "tests.faulty_markets:Walk", "--set", "spraed=4"]) == 2
    assert "spraed" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        check.main(["--market", "tests.faulty_markets:Walk", "--only", "x"])
    assert "belong to --certify" in capsys.readouterr().err
    assert check.main(["--market", "tests.faulty_markets:Walk", "--decisions", "3"]) == 2
    assert "decisions must be" in capsys.readouterr().err
    assert check.main(["--market", "emp_gym.types:Orders"]) == 2
    assert "derives from emp_gym.market.base:Market" in capsys.readouterr().err
