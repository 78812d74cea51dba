"""Every rule refuses what it is there for, says why, and lets a sound candidate pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from emp_gym.evaluation.overfitting import backtest_overfitting, effective_trials, one_strategy
from emp_gym.governance.promotion import guard
from emp_gym.governance.promotion.guard import GATES, Evidence, Performance, PromotionCriteria, RuleFinding, judge
from emp_gym.types import ConfigError, DataError, Regime

PILOT = GATES["pilot"]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def performance(pnl: np.ndarray, name: str = "candidate", regimes: int = 4, decisions: int = 100) -> Performance:
    """One episode a session; regimes in turn."""
    count = len(pnl)
    number = np.arange(count)
    return Performance(name, number, number + 1000, (number % regimes).astype(np.int8), pnl, np.full(count, decisions))


def sound(sessions: int = 40) -> Evidence:
    """A strategy with an edge of 1.2 standard deviations a session, the best of 20; passes every gate."""
    draw = rng(1)
    search = draw.normal(size=(60, 20))
    search[:, 7] += 1.2
    ours = draw.normal(1.2, 1, size=sessions) * 500
    return Evidence(
        performance(ours),
        trials=20,
        breaches=0,
        trial_pnl=search * 500,
        champion=performance(ours - draw.normal(300, 200, sessions), "old one"),
        baselines=(performance(np.zeros(sessions), "hold"),),
        fitted=np.arange(500),
    )


def finding(evidence: Evidence, rule: str, gate: PromotionCriteria = PILOT) -> RuleFinding:
    found = [f for f in judge(evidence, gate, rng()).findings if f.rule.startswith(rule)]
    assert len(found) == 1, [f.rule for f in found]
    return found[0]


def with_pnl(evidence: Evidence, pnl: np.ndarray) -> Evidence:
    return replace(evidence, candidate=replace(evidence.candidate, pnl=pnl))


@pytest.mark.parametrize("stage", GATES)
def test_a_sound_candidate_passes_every_gate(stage: str) -> None:
    judgement = judge(sound(), GATES[stage], rng())
    assert judgement.passed, str(judgement)
    assert judgement.regimes == (Regime.CALM_DOWN, Regime.CALM_FLAT, Regime.CALM_UP, Regime.NORMAL_DOWN)
    assert str(judgement).startswith(f"{stage}: all rules pass\npassed  sessions: expected at least")


def test_gates_become_stricter() -> None:
    paper, pilot, live = (GATES[stage] for stage in ("paper", "pilot", "live"))
    for name in ("sessions", "decisions", "regimes", "sessions_per_regime", "deflated_sharpe", "level", "forward"):
        assert getattr(paper, name) <= getattr(pilot, name) <= getattr(live, name), name
    assert paper.overfitting >= pilot.overfitting > live.overfitting
    assert (pilot.sessions, pilot.decisions, pilot.regimes, pilot.sessions_per_regime) == (20, 1000, 4, 5)
    assert (pilot.overfitting, live.overfitting, pilot.deflated_sharpe) == (0.20, 0.10, 0.95)


def test_too_few_sessions_and_decisions_are_refused() -> None:
    short = replace(sound(), candidate=performance(rng().normal(600, 300, 19), decisions=50))
    sessions, decisions = finding(short, "sessions"), finding(short, "decisions")
    assert not sessions.passed and sessions.remedy.startswith("run 1 more sessions")
    assert not decisions.passed and decisions.got == "950"


def test_more_episodes_of_the_same_sessions_are_no_more_sessions() -> None:
    ours = sound().candidate
    twice = Performance(
        "candidate",
        np.arange(80),
        np.tile(ours.session[:10], 8),
        np.tile(ours.regime, 2),
        np.tile(ours.pnl, 2),
        np.tile(ours.decisions, 2),
    )
    assert finding(replace(sound(), candidate=twice), "sessions").got == "10"


def test_sessions_that_were_trained_on_are_no_evidence() -> None:
    seen = finding(replace(sound(), fitted=np.array([3, 1004, 1005])), "out of sample")
    assert not seen.passed and seen.got == "2 that were fitted on, the first being 1004"


def test_one_control_breach_is_one_too_many() -> None:
    assert not finding(replace(sound(), breaches=1), "control breaches").passed


def test_thin_regimes_do_not_count_and_are_named() -> None:
    evidence = sound()
    regime = evidence.candidate.regime.copy()
    regime[regime == 3] = 8
    regime[np.flatnonzero(regime == 8)[4:]] = 0
    found = finding(replace(evidence, candidate=replace(evidence.candidate, regime=regime)), "regime coverage")
    assert not found.passed and found.got == "3; too thin to judge (sessions): STRESSED_UP 4"
    assert "STRESSED_UP" in found.remedy and "CALM_DOWN" not in found.remedy


def test_five_sessions_cover_a_regime_and_four_do_not() -> None:
    evidence = sound(20)  # five sessions of each of four regimes
    assert finding(evidence, "regime coverage").passed
    pnl = evidence.candidate.pnl.copy()
    pnl[0] = 0.0
    assert not finding(with_pnl(evidence, pnl), "regime coverage").passed


def test_a_mean_above_zero_is_not_enough() -> None:
    pnl = np.tile([9.0, 9.0, 9.0, 9.0, -7.0, -7.0, -7.0, -7.0], 5)  # in each regime by turns, mean 1
    found = finding(with_pnl(sound(), pnl), "profit in CALM_UP")
    assert not found.passed and "(mean 1.00 ± 8.43 over 10 sessions)" in found.got
    assert found.remedy.startswith("about 239 sessions of this regime")


def test_staying_out_of_a_regime_is_not_a_loss_but_no_coverage_either() -> None:
    evidence = sound()
    pnl = np.where(evidence.candidate.regime == 2, 0.0, evidence.candidate.pnl)
    judgement = judge(with_pnl(evidence, pnl), replace(PILOT, regimes=3), rng())
    assert judgement.passed and Regime.CALM_UP not in judgement.regimes
    assert not finding(with_pnl(evidence, pnl), "regime coverage").passed


def test_a_loss_in_one_regime_is_refused_though_the_sum_is_fine() -> None:
    evidence = sound(100)
    pnl = np.where(evidence.candidate.regime == 1, -200.0 + evidence.candidate.pnl * 0.1, evidence.candidate.pnl * 3)
    found = finding(with_pnl(evidence, pnl), "profit in CALM_FLAT")
    assert not found.passed and found.remedy.startswith("it loses there")
    assert finding(with_pnl(evidence, pnl), "deflated").passed


def test_the_regime_bound_is_students() -> None:
    stats = pytest.importorskip("scipy.stats")
    totals = sound().candidate.totals(Regime.CALM_UP)
    low = stats.t.interval(0.9, len(totals) - 1, totals.mean(), stats.sem(totals))[0]
    got = finding(sound(), "profit in CALM_UP").got
    assert float(got.split(" ")[0].replace(",", "")) == pytest.approx(low, rel=2e-3)


def test_a_regimes_sessions_are_summed_over_episodes() -> None:
    held = Performance(
        "x",
        np.arange(5),
        np.array([1, 1, 1, 2, 2]),
        np.array([0, 0, 4, 4, 4], np.int8),
        np.array([1.0, 2.0, 4.0, 8.0, 16.0]),
        np.ones(5, int),
    )
    assert held.totals().tolist() == [7.0, 24.0]
    assert held.totals(0).tolist() == [3.0] and held.totals(4).tolist() == [4.0, 24.0] and held.totals(8).size == 0


def test_the_deflated_ratio_falls_with_the_number_of_trials() -> None:
    pnl = rng(2).normal(0.9, 1, 25)
    seen = []
    for trials in (1, 10, 1000, 100_000):
        evidence = replace(sound(), trials=trials, candidate=performance(pnl), trial_pnl=None)
        found = finding(evidence, "deflated")
        seen.append(float(found.got.split(" ")[0]))
    assert seen == sorted(seen, reverse=True) and seen[0] > 0.99 and seen[-1] < 0.7


def test_idle_trials_do_not_dilute_the_luck_of_the_others() -> None:
    """A record padded with strategies that do nothing lowers the variance across trials, not the bar."""
    evidence = sound(25)
    noise = rng(3).normal(size=(60, 50))
    padded = np.hstack([noise, np.zeros((60, 950))])
    plain = finding(replace(evidence, trials=50, trial_pnl=noise), "deflated")
    more = finding(replace(evidence, trials=1000, trial_pnl=padded), "deflated")
    assert float(more.got.split(" ")[0]) < float(plain.got.split(" ")[0])


def test_skew_in_its_favour_does_not_help_a_candidate() -> None:
    lucky = np.full(20, 10.0) + rng(4).normal(size=20)
    lucky[3] = 200.0  # one windfall
    sample = guard._strict_sample(lucky)
    assert sample is not None and sample.skew == 0.0 and sample.kurtosis > 3
    assert guard._strict_sample(-lucky).skew == 0.0, "nor does its mirror image"


def test_the_remedy_for_a_short_record_is_a_length_that_would_do() -> None:
    evidence = replace(sound(), candidate=performance(rng(5).normal(0.8, 1, 20)), trial_pnl=None)
    found = finding(evidence, "deflated")
    assert not found.passed
    needed = int(found.remedy.split(" ")[1].replace(",", ""))
    sample = guard._strict_sample(evidence.candidate.totals())
    for sessions, enough in ((needed, True), (needed - 1, False)):
        longer = replace(sample, observations=sessions)
        luck = guard._luck(sessions, 20, 0.0)
        assert (guard.probabilistic_sharpe(longer, luck) >= 0.95) is enough


def test_a_ratio_that_the_search_explains_has_no_remedy_in_length() -> None:
    evidence = sound()
    wide = rng(6).normal(size=(60, 20)) + rng(7).normal(size=20)  # trials truly differ by one a session
    found = finding(replace(evidence, candidate=performance(rng(8).normal(0.8, 1, 60)), trial_pnl=wide), "deflated")
    assert not found.passed and "the search explains this ratio" in found.remedy


def test_a_strategy_that_loses_is_told_so_and_nothing_of_a_search() -> None:
    losing = replace(sound(), candidate=performance(rng(8).normal(-0.8, 1, 40)), trials=1, trial_pnl=None)
    found = finding(losing, "deflated")
    assert not found.passed and found.remedy.startswith("it loses (-") and "search" not in found.remedy
    slight = guard._why_never(0.01, 1)
    assert "the ratio is too small" in slight and "search" not in slight


def test_rivals_count_only_where_the_sessions_came_after_registration() -> None:
    evidence = replace(sound(25), trials=100_000, trial_pnl=None, rivals=2)
    assert "of 2 without skill" in finding(evidence, "deflated", GATES["pilot"]).got
    assert "of 100,000 without skill" in finding(evidence, "deflated", GATES["paper"]).got
    assert "of 100,000 without skill" in finding(replace(evidence, rivals=None), "deflated", GATES["live"]).got


def test_a_search_over_noise_is_overfit() -> None:
    noise = rng(9).normal(size=(60, 20))
    found = finding(replace(sound(), trial_pnl=noise), "backtest overfitting", GATES["live"])
    assert not found.passed and "20 trials over 60 sessions, as different as 20" in found.got


def test_every_trial_of_the_record_must_be_in_the_table() -> None:
    found = finding(replace(sound(), trials=400), "backtest overfitting")
    assert not found.passed and found.got == "P&L of 20 trials, while the record counts 400"
    assert not finding(replace(sound(), trial_pnl=None), "backtest overfitting").passed
    short = finding(replace(sound(), trial_pnl=sound().trial_pnl[:7]), "backtest overfitting")
    assert not short.passed and short.got == "7 sessions of trials, fewer than 8"


def test_one_trial_selects_nothing() -> None:
    assert finding(replace(sound(), trials=1, trial_pnl=None), "backtest overfitting").passed
    assert finding(replace(sound(), trials=1, trial_pnl=rng().normal(size=(60, 1))), "backtest overfitting").passed


def test_runs_that_are_one_strategy_have_no_probability_of_overfitting() -> None:
    """Two seeds of one recipe, and exact copies: PBO would be a toss of the noise between them, or 1."""
    base = rng(2).normal(1.2, 1, size=(60, 1))
    alike = base + 0.1 * rng(3).normal(size=(60, 2))
    for table, size in ((alike, "1.0"), (np.repeat(base, 2, axis=1), "1.0"), (base + 0.02 * rng(4).normal(size=(60, 12)), "1.0")):
        found = finding(replace(sound(), trials=table.shape[1], trial_pnl=table), "backtest overfitting")
        assert found.passed and found.got.startswith(f"not defined: {table.shape[1]} trials as different as {size} are one strategy")
    assert backtest_overfitting(alike).probability > 0.2, "it would have been refused as overfit"


def test_one_strategy_is_still_counted_as_often_as_it_was_tried() -> None:
    """The word about ranks is no pardon: the deflated Sharpe ratio takes off the luck of every trial."""
    base = rng(2).normal(0.2, 1, size=(60, 1))
    table = base + 0.01 * rng(3).normal(size=(60, 12))
    evidence = with_pnl(replace(sound(60), trials=12, trial_pnl=table), table[:, 0])
    assert finding(evidence, "backtest overfitting").passed
    assert "the luckiest of 12 without skill" in finding(evidence, "deflated Sharpe ratio").got
    assert not finding(evidence, "deflated Sharpe ratio").passed


def test_what_differs_a_little_more_or_did_nothing_is_judged_as_before() -> None:
    base, noise = rng(2).normal(size=(400, 1)), rng(3).normal(size=(400, 2))
    for share, defined in ((0.9, False), (0.6, False), (0.3, True)):  # correlation: 2 - share is the number of trials
        table = np.sqrt(share) * base + np.sqrt(1 - share) * noise
        got = finding(replace(sound(), trials=2, trial_pnl=table), "backtest overfitting").got
        assert got.startswith("not defined") is not defined
    idle = np.hstack([base, np.zeros((400, 1))])
    assert effective_trials(idle) == 1 and not one_strategy(idle), "to do nothing is another strategy"
    assert "the winner loses" in finding(replace(sound(), trials=2, trial_pnl=idle), "backtest overfitting").got


def test_clones_of_the_winner_do_not_make_a_wide_search_one_strategy() -> None:
    wide = rng(5).normal(size=(60, 40))
    padded = np.hstack([wide, np.repeat(wide[:, :1], 1000, axis=1)])
    assert not one_strategy(padded)


def test_no_baseline_is_no_result() -> None:
    assert not finding(replace(sound(), baselines=()), "baselines").passed


def test_the_first_strategy_of_a_stage_has_no_champion_to_beat() -> None:
    assert finding(replace(sound(), champion=None), "champion").passed


def test_a_champion_that_is_as_good_stays() -> None:
    evidence = sound()
    twin = replace(evidence.candidate, name="twin")
    noise = replace(twin, pnl=twin.pnl + rng(10).normal(size=len(twin.pnl)))
    assert not finding(replace(evidence, champion=twin), "champion twin").passed
    assert not finding(replace(evidence, champion=noise), "champion twin").passed


def test_pairing_finds_what_two_separate_means_hide() -> None:
    evidence = sound()
    market = rng(11).normal(0, 5000, 40)
    ours, theirs = market + 30 + rng(12).normal(0, 5, 40), market
    paired = replace(evidence, candidate=performance(ours), champion=performance(theirs, "old one"))
    assert finding(paired, "champion").passed


def test_the_bound_of_a_comparison_is_one_sided() -> None:
    evidence = sound()
    difference = evidence.candidate.pnl - evidence.champion.pnl
    got = finding(evidence, "champion", replace(PILOT, level=0.975)).got
    low = difference.mean() - 2.02 * difference.std(ddof=1) / np.sqrt(40)  # Student, 39 degrees
    assert float(got.split(" ")[0].replace(",", "")) == pytest.approx(low, rel=0.01)


def test_order_of_episodes_does_not_matter() -> None:
    evidence = sound()
    shuffled = rng(13).permutation(40)
    old = evidence.champion
    columns = {f: getattr(old, f)[shuffled] for f in ("episode", "session", "regime", "pnl", "decisions")}
    assert finding(replace(evidence, champion=replace(old, **columns)), "champion") == finding(evidence, "champion")


def test_other_seeds_are_no_comparison() -> None:
    old = sound().champion
    moved = finding(replace(sound(), champion=replace(old, episode=old.episode + 4)), "champion")
    assert not moved.passed and moved.got == "36 episodes in common of 40 and 40"
    relabelled = finding(replace(sound(), champion=replace(old, session=old.session[::-1])), "champion")
    assert not relabelled.passed and "other sessions" in relabelled.got


def test_one_long_session_is_no_comparison() -> None:
    one = performance(rng().normal(5, 1, 40))
    one = replace(one, session=np.zeros(40, int))
    found = finding(replace(sound(), candidate=one, champion=replace(one, name="old", pnl=one.pnl - 5)), "champion")
    assert not found.passed and found.got == "1 sessions"


@pytest.mark.parametrize("pnl", [np.zeros(40), np.full(40, 3.0)])
def test_pnl_that_never_varies_is_refused_without_an_error(pnl: np.ndarray) -> None:
    judgement = judge(with_pnl(sound(), pnl), PILOT, rng())
    assert not judgement.passed
    assert "does not vary" in finding(with_pnl(sound(), pnl), "deflated").got


def test_a_refusal_reads_like_a_review() -> None:
    text = str(judge(replace(sound(), breaches=2), PILOT, rng()))
    assert text.startswith("pilot: 1 of 13 rules refuse\n")
    assert "REFUSED control breaches: expected 0, got 2. find the cause in the diary" in text


def test_the_same_evidence_and_seed_give_the_same_words() -> None:
    assert judge(sound(), PILOT, rng(5)) == judge(sound(), PILOT, rng(5))


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"pnl": np.full(40, np.nan)}, DataError, "P&L of episode 0 is not finite"),
        ({"pnl": np.zeros(39)}, DataError, "one length"),
        ({"episode": np.zeros(40, int)}, DataError, "listed twice"),
        ({"regime": np.full(40, 9, np.int8)}, DataError, "types.Regime"),
    ],
)
def test_broken_performance_is_an_error(change: dict, error: type, says: str) -> None:
    with pytest.raises(error, match=says):
        replace(sound().candidate, **change)


@pytest.mark.parametrize("change", [{"level": 0.4}, {"overfitting": 20}, {"sessions_per_regime": 2}])
def test_impossible_gates_are_an_error(change: dict) -> None:
    with pytest.raises(ConfigError):
        replace(PILOT, **change)


def test_a_declared_count_of_no_trials_is_an_error() -> None:
    with pytest.raises(ConfigError, match="count the candidate itself"):
        judge(replace(sound(), trials=0), PILOT, rng())
