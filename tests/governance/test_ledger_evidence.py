"""What counts as evidence for a stage, which trials stand behind a version, and whom it must beat."""

from __future__ import annotations

from governance.ledgers import OTHER, Desk, day, evaluation, findings

from emp_gym.governance.evidence import count_trials, trials_behind


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
    assert desk.ledger.examine(version, "pilot").used == ()


def test_an_oracle_is_no_rival(desk: Desk) -> None:
    version = desk.version()
    payload = evaluation(version)
    best = payload["policies"][0] | {"name": "oracle", "role": "baseline"}
    best["pnl_e8"] = [x + 10**12 for x in best["pnl_e8"]]
    desk.ledger.enter(version, lambda _: payload | {"policies": [*payload["policies"], best]})
    assert desk.ledger.examine(version).passed


def test_optimistic_fills_are_refused(desk: Desk) -> None:
    from emp_gym.governance.record import setting

    where = setting("emp-lob-v0", {"fills": "optimistic"})
    version = desk.version(where=where)
    desk.evaluate(version, where=where)
    assert not findings(desk, version)["fill model"]


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
