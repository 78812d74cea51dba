"""What counts as evidence for a stage, which trials stand behind a version, and whom it must beat."""

from __future__ import annotations

from typing import Any

import pytest
from governance.ledgers import OTHER, Desk, day, evaluation, findings, sha

from emp_gym.evaluation.assumptions import HONEST
from emp_gym.governance.errors import LedgerError
from emp_gym.governance.ledger.record import setting
from emp_gym.governance.promotion.costs import Costs
from emp_gym.governance.promotion.evidence import count_trials, session_totals, trials_behind


def refused(desk: Desk, version: str) -> set[str]:
    """Rules that object."""
    return {rule for rule, passed in findings(desk, version).items() if not passed}


def test_evaluations_cannot_be_picked(desk: Desk) -> None:
    version = desk.version()
    good = desk.evaluate(version, seed=1)
    desk.evaluate(version, seed=2, edge=-1.0, offset=40)
    assert len(desk.ledger.examine(version).used) == 2 and not desk.ledger.examine(version).passed
    desk.forged_promotion(version, "paper", evaluations=[good])
    assert desk.stage(version) == "experiment" and "all valid evaluations" in desk.ledger.state.invalid[-1].why


def test_an_evaluation_in_another_setting_does_not_count(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version, where=OTHER)
    assert desk.ledger.examine(version).used == () and not findings(desk, version)["evidence"]


def test_a_breach_counts_whatever_the_setting(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version)
    desk.evaluate(version, where=OTHER, breaches=1, offset=40)
    assert not findings(desk, version)["control breaches"]


def test_sessions_before_the_registration_do_not_count_for_pilot(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version)
    desk.promote(version, "paper", "alice")
    desk.evaluate(version, days=[day(700 + i, date=f"2001-01-{1 + i:02d}") for i in range(24)])
    case = desk.ledger.examine(version, "pilot")
    assert case.used == ()
    (told,) = [finding for finding in case.findings if finding.rule == "evidence"]
    days = sorted({each.date for e in desk.ledger.state.versions[version].evaluations for each in e.days})
    assert told.got == f"0 of 2 evaluations, 0 sessions; those on record are of days from {days[0]} to {days[-1]}"
    assert "each dated after" in told.remedy and "not after the day of the evaluation" in told.remedy


def test_an_oracle_is_no_rival(desk: Desk) -> None:
    version = desk.version()
    payload = evaluation(version)
    best = payload["policies"][0] | {"name": "oracle", "role": "baseline"}
    best["pnl_e8"] = [x + 10**12 for x in best["pnl_e8"]]
    desk.ledger.enter(version, lambda _: payload | {"policies": [*payload["policies"], best]})
    assert desk.ledger.examine(version).passed


@pytest.mark.parametrize("change", [{"fills": "optimistic"}, {"hidden_prints": "fill"}])
def test_optimistic_fills_are_refused(change: dict[str, str], desk: Desk) -> None:
    where = setting("emp-lob-v0", {**HONEST, **change})
    version = desk.version(where=where)
    desk.evaluate(version, where=where)
    assert refused(desk, version) == {"fill model"}


def test_a_setting_of_before_there_were_hidden_prints_is_the_same_with_the_default() -> None:
    before = {name: value for name, value in HONEST.items() if name != "hidden_prints"}
    assert setting("emp-lob-v0", HONEST) == setting("emp-lob-v0", before)
    assert "fill" in setting("emp-lob-v0", {"hidden_prints": "fill"})


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"latency_ns": 0}, "latency"), ({"latency_ns": None}, "latency"), ({"latency_ns": 199_999}, "latency"),
        ({"latency_ns": [200_000, 0]}, "latency"), ({"latency_ns": [0, 200_000]}, "latency"), ({"latency_ns": "fast"}, "latency"),
        ({"latency_ns": [5]}, "latency"), ({"impact": "none"}, "impact"), ({"impact": None}, "impact"),
        ({"impact": "resilient 1 ns"}, "impact"), ({"impact": "resilient 999 ms"}, "impact"), ({"impact": "soft"}, "impact"),
        ({"taker_fee_bps": 0.0}, "fees"), ({"taker_fee_bps": None}, "fees"), ({"taker_fee_bps": 0.3, "maker_fee_bps": -0.3}, "fees"),
        ({"taker_fee_bps": 1e-12}, "fees"), ({"taker_fee_bps": 5.0000001, "maker_fee_bps": -5}, "fees"),
        ({"taker_fee_bps": 0.299}, "fees"), ({"maker_fee_per_lot": -1e-6}, "fees"),
    ],
)  # fmt: skip
def test_each_cost_that_is_left_out_is_a_finding_of_its_own(desk: Desk, change: dict[str, Any], rule: str) -> None:
    """None: the keyword is not given, which is what the environments' defaults are."""
    told = {name: value for name, value in {**HONEST, **change}.items() if value is not None}
    version = desk.version(where=setting("emp-lob-v0", told))
    desk.evaluate(version, where=setting("emp-lob-v0", told))
    assert refused(desk, version) == {rule}
    (finding,) = [f for f in desk.ledger.examine(version).findings if f.rule == rule]
    assert "configs/honest.yaml" in finding.remedy
    with pytest.raises(LedgerError, match=rule):
        desk.promote(version, "paper", "alice")


def test_a_run_with_the_environments_defaults_misses_all_three(desk: Desk) -> None:
    version = desk.version(where=setting("emp-lob-v0", {}))
    desk.evaluate(version, where=setting("emp-lob-v0", {}))
    assert refused(desk, version) == {"latency", "fees", "impact"}


@pytest.mark.parametrize("impact", ["resilient", "resilient 2 min", "permanent"])
def test_stricter_assumptions_than_the_honest_ones_pass(desk: Desk, impact: str) -> None:
    where = setting("emp-lob-v0", {**HONEST, "impact": impact, "latency_ns": [1_000_000, 300_000], "taker_fee_bps": 30.0})
    version = desk.version(where=where)
    desk.evaluate(version, where=where)
    assert refused(desk, version) == set()


def of_instrument(number: int, **fees: int) -> dict[str, Any]:
    """A day whose instrument has these fees."""
    known = {"maker_bps_e4": 0, "maker_lot_e8": 0, "taker_bps_e4": 0, "taker_lot_e8": 0}
    return day(number) | {"fees": known | fees, "currency": "USD", "rows": sha(f"rows {number}"), "price_e8": 100 * 10**8}


def test_fees_of_the_instrument_count_where_the_setting_names_none(desk: Desk) -> None:
    told = {name: value for name, value in HONEST.items() if not name.endswith("fee_bps")}
    where = setting("emp-lob-v0", told)
    both = {"taker_lot_e8": 100_000, "taker_bps_e4": 2_000}
    weighed = (({"taker_lot_e8": 300_000}, True), ({"taker_lot_e8": 299_000}, False), (both, True))
    for fees, passes in (*weighed, ({"taker_bps_e4": 3_000}, True), ({}, False), ({"taker_bps_e4": 3_000, "maker_lot_e8": -1}, False)):
        version = desk.version(where=where)
        desk.evaluate(version, where=where, days=[of_instrument(i, **fees) for i in range(24)])
        assert findings(desk, version)["fees"] is passes


def test_one_day_without_fees_among_others_is_not_hidden(desk: Desk) -> None:
    told = {name: value for name, value in HONEST.items() if not name.endswith("fee_bps")}
    where = setting("emp-lob-v0", told)
    version = desk.version(where=where)
    days = [of_instrument(i, **({} if i == 7 else {"taker_bps_e4": 3_000})) for i in range(24)]
    desk.evaluate(version, where=where, days=days)
    (finding,) = [f for f in desk.ledger.examine(version).findings if f.rule == "fees"]
    assert not finding.passed and finding.got == "maker 0 bp, taker 0.3 bp; none"


def test_a_venue_without_fees_needs_a_word_that_the_promotion_carries(desk: Desk) -> None:
    where = setting("emp-lob-v0", {**HONEST, "taker_fee_bps": 0.0})
    version = desk.version(where=where)
    desk.evaluate(version, where=where)
    least = Costs(fees="zero")
    assert desk.ledger.examine(version, least=least).passed and not desk.ledger.examine(version).passed
    desk.ledger.promote(version, "paper", [desk.people["alice"]], least)
    entry = desk.log.entry(desk.log.size - 1)
    assert entry.value["costs"] == least.as_payload()
    again = desk.reread()
    assert again.stage(version) == "paper" and not again.state.invalid, "whoever opens the ledger judges by the same word"


def test_a_fee_per_lot_without_a_price_on_record_counts_as_nothing(desk: Desk) -> None:
    told = {name: value for name, value in HONEST.items() if not name.endswith("fee_bps")}
    version = desk.version(where=setting("emp-lob-v0", told))
    unpriced = [{k: v for k, v in of_instrument(i, taker_lot_e8=10**8).items() if k != "price_e8"} for i in range(24)]
    desk.evaluate(version, where=setting("emp-lob-v0", told), days=unpriced)
    (finding,) = [f for f in desk.ledger.examine(version).findings if f.rule == "fees"]
    assert not finding.passed and finding.got == "maker 0, taker 1 a lot, of a price that is not on record"


@pytest.mark.parametrize(
    ("change", "least"),
    [
        ({"maker_fee_bps": -0.2}, Costs(maker_fee_bps_e4=-2_000)), ({"taker_fee_bps": 0.1}, Costs(taker_fee_bps_e4=1_000)),
        ({"impact": "resilient 250 ms"}, Costs(half_life_ns=250_000_000)),
    ],
)  # fmt: skip
def test_a_rule_of_the_stage_lets_so_much_pass_and_no_more(desk: Desk, change: dict[str, Any], least: Costs) -> None:
    where = setting("emp-lob-v0", {**HONEST, **change})
    version = desk.version(where=where)
    desk.evaluate(version, where=where)
    assert desk.ledger.examine(version, least=least).passed and not desk.ledger.examine(version).passed
    desk.ledger.promote(version, "paper", [desk.people["alice"]], least)
    assert desk.reread().stage(version) == "paper", "the promotion carries it"
    stricter = {"maker_fee_bps": -0.21, "taker_fee_bps": 0.09, "impact": "resilient 249 ms"}
    below = setting("emp-lob-v0", {**HONEST, **{key: stricter[key] for key in change}})
    other = desk.version(where=below)
    desk.evaluate(other, where=below)
    assert not desk.ledger.examine(other, least=least).passed


def test_zero_fees_allow_no_rebate(desk: Desk) -> None:
    where = setting("emp-lob-v0", {**HONEST, "taker_fee_bps": 0.0, "maker_fee_bps": -8.0})
    version = desk.version(where=where)
    desk.evaluate(version, where=where)
    (finding,) = [f for f in desk.ledger.examine(version, least=Costs(fees="zero")).findings if f.rule == "fees"]
    assert not finding.passed and "a rebate is not counted on" in finding.expected


def test_a_word_that_was_not_signed_does_not_count(desk: Desk) -> None:
    where = setting("emp-lob-v0", {**HONEST, "impact": "none"})
    version = desk.version(where=where)
    desk.evaluate(version, where=where)
    payload, subject, hashes = desk.wrong_promotion(version, "paper")
    forged = payload | {"costs": Costs(impact="none").as_payload()}  # put in behind the signer's back
    state = desk.with_forged("promote", forged, subject=subject, evidence=hashes)
    assert state.versions[version].stage(0) == "experiment" and "signature" in str(state.invalid[-1])
    odd = payload | {"costs": {**Costs().as_payload(), "fees": "whatever"}}
    assert "fees must be one of" in str(desk.with_forged("promote", odd, subject=subject, evidence=hashes).invalid[-1])


def test_the_default_is_not_written_into_a_promotion(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version)
    desk.ledger.promote(version, "paper", [desk.people["alice"]], Costs())
    assert "costs" not in desk.log.entry(desk.log.size - 1).value


def test_evidence_says_on_which_data_it_is(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version, days=[day(i) for i in range(12)] + [day(i, symbol="AAA", synthetic=False) for i in range(12, 24)])
    (found,) = [f for f in desk.ledger.examine(version).findings if f.rule == "data"]
    assert found.got == "12 recorded days of AAA, 2030-01-13 to 2030-01-24; 12 synthetic days of SYN, 2030-01-01 to 2030-01-12"


def test_profits_in_two_currencies_are_not_added(desk: Desk) -> None:
    version = desk.version()
    days = [day(i, symbol="AB"[i % 2], synthetic=False) | {"currency": ("USD", "EUR")[i % 2]} for i in range(24)]
    desk.evaluate(version, days=days)
    case = desk.ledger.examine(version)
    (found,) = [f for f in case.findings if not f.passed]
    assert (found.rule, found.got) == ("currency", "EUR, USD")
    assert not any("profit" in f.rule or "Sharpe" in f.rule for f in case.findings), "there is no sum to judge"


def test_five_symbols_of_one_date_are_one_session(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version, days=[day(i // 5, symbol="ABCDE"[i % 5], synthetic=False) for i in range(25)])
    got = {f.rule: f.got for f in desk.ledger.examine(version).findings}
    assert got["sessions"] == "5"
    assert len(session_totals(desk.ledger.find(version))) == 5


def test_another_symbol_of_a_date_that_it_trained_on_is_no_news(desk: Desk) -> None:
    version = desk.version(trial=desk.trial([day(3, symbol="AAA", synthetic=False)]))
    desk.evaluate(version, days=[day(i, symbol="BBB", synthetic=False) for i in range(24)])
    assert refused(desk, version) >= {"out of sample"}
    other = desk.version(trial=desk.trial([day(60, symbol="AAA", synthetic=False)]))
    desk.evaluate(other, days=[day(i, symbol="CCC", synthetic=False) for i in range(24)])
    assert findings(desk, other)["out of sample"]


def test_rows_that_it_trained_on_are_known_under_any_name(desk: Desk) -> None:
    rows = {"rows": sha("the rows of a day")}
    version = desk.version(trial=desk.trial([day(3, symbol="AAA", synthetic=False) | rows]))
    days = [day(i, symbol="BBB", synthetic=False, date=f"2031-01-{i + 1:02d}") for i in range(24)]
    desk.evaluate(version, days=[*days[:-1], days[-1] | rows])
    assert refused(desk, version) == {"out of sample"}


def test_sessions_that_were_trained_on_are_refused_also_those_of_an_ancestor(desk: Desk) -> None:
    parent = desk.version(trial=desk.trial([day(5)]))
    child = desk.version(trial=desk.trial([day(200)]), parent=parent)
    desk.evaluate(child)
    assert not findings(desk, child)["out of sample"]
    assert count_trials(desk.ledger.state, desk.ledger.find(child)) == 2, "the ancestor saw a day of the evidence"


def test_a_changed_byte_does_not_make_another_recorded_day(desk: Desk) -> None:
    real = [day(i, symbol="AMZN", synthetic=False) for i in range(20)]
    edited = [day(i, symbol="AMZN", synthetic=False, content=f"edited {i}") for i in range(20)]
    first = desk.version(trial=desk.trial(real[:2]))
    other = desk.version(trial=desk.trial([day(300)]))
    desk.evaluate(other, days=edited)
    assert count_trials(desk.ledger.state, desk.ledger.find(other)) == 2
    desk.evaluate(first, days=edited[2:])
    assert findings(desk, first)["out of sample"]
    fresh = desk.version(trial=desk.trial([day(i, symbol="MSFT", synthetic=False) for i in range(3)]))
    assert count_trials(desk.ledger.state, desk.ledger.find(fresh)) == 1, "no day in common"


def test_failed_trials_count_and_further_versions_of_one_trial_too(desk: Desk) -> None:
    for _ in range(3):
        desk.trial()  # nothing came of them
    trial = desk.trial()
    version = desk.version("a", trial)
    desk.version("b", trial)
    assert count_trials(desk.ledger.state, desk.ledger.find(version)) == 5
    assert len(trials_behind(desk.ledger.state, desk.ledger.find(version))) == 4
    for i, name in enumerate(("a", "b")):
        desk.evaluate(desk.ledger.find(name).version, seed=i)
    said = {f.rule: f.got for f in desk.ledger.examine(version).findings}
    assert "(5 trials over 24 sessions" in said["backtest overfitting"], "a trial that broke off has zeros"


def test_synthetic_days_of_one_date_are_as_many_as_their_contents(desk: Desk) -> None:
    first = desk.version(trial=desk.trial([day(1, content="one world")]))
    desk.version(trial=desk.trial([day(1, content="another world")]))
    assert count_trials(desk.ledger.state, desk.ledger.find(first)) == 1


def test_a_search_whose_failures_were_not_evaluated_is_refused(desk: Desk) -> None:
    hidden = desk.version()
    version = desk.version()
    desk.evaluate(version)
    assert not findings(desk, version)["whole search"]
    desk.evaluate(hidden, seed=5, edge=0.0)
    assert findings(desk, version)["whole search"]


def test_the_champion_must_be_beaten_on_the_same_episodes(desk: Desk) -> None:
    champion = desk.version()
    desk.evaluate(champion, edge=2.0)
    desk.promote(champion, "paper", "alice")
    challenger = desk.version()
    desk.evaluate(challenger, edge=2.0, seed=1)
    assert desk.ledger.state.pointers(desk.ledger.now)["champion"] == champion
    assert not findings(desk, challenger)[f"champion {desk.ledger.find(champion).name}"], "no better than the champion"
    desk.evaluate(
        challenger, edge=0.0, seed=3, offset=30, champions={champion: 2.0}
    )  # so that it does not rank as well
    desk.evaluate(champion, edge=2.0, seed=4, offset=30)
    better = desk.version()
    desk.evaluate(better, edge=6.0, seed=2, champions={champion: 2.0})
    assert findings(desk, better)[f"champion {desk.ledger.find(champion).name}"]
    desk.promote(better, "paper", "bob")
    assert desk.ledger.find("champion").version == desk.ledger.find("paper").version == better
    desk.ledger.demote(better, "no")
    assert desk.ledger.find("champion").version == champion
