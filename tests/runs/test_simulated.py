"""What is said of agents in a market without recorded days: its drift is no skill, its seeds are compared, its rules are its author's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest

from emp_gym.agents import registry
from emp_gym.envs import CERTIFICATES
from emp_gym.envs.about import about
from emp_gym.evaluation import intervals, runlog
from emp_gym.evaluation.assumptions import Assumptions
from emp_gym.governance.promotion import costs
from emp_gym.market.replay import ReplayMarket
from emp_gym.market.starts import Numbers, Starts
from emp_gym.reports import caveats, report
from emp_gym.reports.formatting import left_out
from emp_gym.reports.judged_run import JudgedRun
from emp_gym.reports.preface import _depth, below, introduce, proven, setting
from emp_gym.reports.verdict import verdict
from emp_gym.runs import backtest, run_metadata
from emp_gym.runs.backtest import AgentResult, Comparison
from emp_gym.runs.config import EvaluationConfig, RunConfig
from emp_gym.runs.drift import drift_of
from emp_gym.runs.evaluation_setup import EvaluationSetup
from emp_gym.runs.held_out import Standing, prove
from emp_gym.runs.run_recorder import recorder
from emp_gym.runs.spans import Played, Span, played_spans, trained_spans
from emp_gym.types import CASH_UNITS, RunLog

fakes.register()
WALK, POSITION = "emp_example_market.market:Walk", "emp_example_market.task:Position"
ENV: dict[str, Any] = {"market": WALK, "episode": "8 decisions", "threads": 1}
ID = "emp-lob-v0"


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """As if it were installed."""
    monkeypatch.syspath_prepend(str(root / "tests" / "third_party" / "emp_example_market"))


# ---- drift


def worth(pnl: Sequence[float], moves: Sequence[float], limit: int = 100) -> Any:
    rng = np.random.default_rng(0)
    dates = np.zeros(len(pnl), np.int64)
    return drift_of(np.array(pnl, float), np.array(moves, float), limit, dates, rng, level=0.95, resamples=500)


MOVES = np.array([1.0, 2.0, 3.0, 2.0] * 5)
EDGE = np.tile([4.0, 6.0], 10)  # earned whatever the market does


def test_what_a_position_earned_is_taken_out_and_an_edge_is_left() -> None:
    held = worth(100 * MOVES - 3, MOVES)  # always long, costs of 3
    assert held.lots == pytest.approx(100) and held.constant == 200 and held.rest.mean == pytest.approx(-3)
    flat = worth(EDGE, MOVES)
    beta = np.cov(EDGE, MOVES, ddof=0)[0, 1] / MOVES.var()  # least squares by another hand
    assert flat.lots == pytest.approx(beta) and flat.rest.mean == pytest.approx(EDGE.mean() - beta * 2)
    assert flat.rest.clear and flat.rest.mean > 4
    both = worth(100 * MOVES + EDGE, MOVES, 1000)
    assert both.rest.mean == pytest.approx(flat.rest.mean)


def test_where_every_episode_moves_alike_the_most_that_may_be_held_is_taken_out() -> None:
    same = worth(EDGE, np.full(20, 2.0))
    assert same.lots == 100 and same.rest.mean == pytest.approx(EDGE.mean() - 200)
    fell = worth(EDGE, np.full(20, -2.0))
    assert fell.lots == -100 and fell.rest.mean == pytest.approx(EDGE.mean() - 200) and fell.constant == -200
    still = worth(EDGE, np.zeros(20))
    assert still.lots == 0 and still.rest.mean == EDGE.mean()
    assert worth(EDGE, [np.nan] + [1.0] * 19) is None


def told(pnl: np.ndarray, moves: np.ndarray = MOVES, **of: np.ndarray) -> str:
    """The verdict of an agent that made `pnl`, beside others, in a market that moved by `moves`."""
    windows = [[0, at] for at in range(len(pnl))]

    def log(values: np.ndarray) -> RunLog:
        return RunLog({"env": ID, "windows": windows}, {"pnl": values, "return": values, "filled": np.ones(len(values))})

    span = Span("m:M", "m:M 0", "M", "", 0, 0, "test", simulated="m:M", seeds=True)
    played = [Played(replace(span, first_row=at, last_row=at), "USD", False, float(move), np.nan) for at, move in enumerate(moves)]
    others = {name: log(values) for name, values in of.items()}
    asked = EvaluationConfig(resamples=500)
    return verdict(backtest.compare("me", [log(pnl)], others, ["day 0"] * len(pnl), asked, played=played, limit=100))


def test_drift_is_never_called_profit_and_an_edge_is() -> None:
    noise = np.random.default_rng(1).normal(0, 0.5, 20)
    said = told(100 * MOVES - 3 + noise, hold=0 * MOVES, short=-100 * MOVES - 3)
    assert said.startswith("me cannot be said to make money by skill: 19") and "makes money:" not in said
    assert "Meanwhile the market rose by 2.00 USD a lot, the mean of 20 episodes (20 of them up)" in said
    assert "being short all the time made −203.00; the best constant position, 100 lots long, made 200.00 but for costs" in said
    assert "me moved with the market as 100 lots long do: without that drift it made −" in said
    assert told(EDGE).startswith("me makes money: 5.00 ["), "a market maker without exposure, whatever the drift"
    assert "cannot be said to make money by skill" in told(EDGE, np.full(20, 2.0)), "nobody can tell"
    assert "in some episodes there was no mid" in told(EDGE, np.append(np.nan, MOVES[1:]))
    assert "cannot be said to make money by skill" in told(EDGE, np.full(20, np.nan))
    assert told(-100 * MOVES).startswith("me loses money")


def test_moves_are_those_of_the_episodes_own_mids() -> None:
    chosen = [(0, 1 << 30), (0, (1 << 30) + 7)]
    log = backtest.evaluate(agent("hold"), ID, ENV, chosen)
    env = backtest.make_env(ID, ENV, 2, autoreset_mode="Disabled")
    env.reset(options={"day": [0, 0], "start": [row for _, row in chosen]})
    first = env.unwrapped.view.mid2[:, 0].copy()
    for _ in range(8):
        env.step(np.zeros(2, np.int64))
    assert log.episodes[intervals.MOVE].tolist() == pytest.approx(((env.unwrapped.view.mid2[:, 0] - first) / 2 * 1e-4).tolist())
    assert (log.episodes[intervals.MOVE] != 0).any()


def agent(name: str, **more: Any) -> Any:
    return backtest.build(name, backtest.make_env(ID, ENV | more, 1))


# ---- seeds


def walk_env(split: str = "train", **more: Any) -> Any:
    return backtest.make_env(ID, ENV | more, 1, split=split)


def test_training_and_judging_have_other_seeds_of_one_generator() -> None:
    trained = trained_spans(walk_env(), "train")
    judged = [one.span for one in played_spans(walk_env("test"), [(0, 1 << 30), (0, (1 << 30) + 1)], "test")]
    rows = [(one.first_row, one.last_row) for one in [*trained, *judged]]
    assert rows == [(0, 2**30 - 1), (2**30, 2**30), (2**30 + 1, 2**30 + 1)]
    found = prove(judged, trained, "test")
    assert found.standing is Standing.UNSEEN and not found.held_out and found.caution == ""
    assert found.windows(2, "episode") == "2 episodes of unseen seeds" and "held-out" not in found.episode


@pytest.mark.parametrize(("rows", "standing", "said"), [
    ([3], Standing.TRAINED_ON, "every episode has a seed that was trained on"),
    ([1 << 30, 3], Standing.OVERLAPS, "1 of 2 episodes has a seed that was trained on"),
])  # fmt: skip
def test_seeds_that_were_trained_on_are_told(rows: list[int], standing: Standing, said: str) -> None:
    judged = [one.span for one in played_spans(walk_env(spread=6), [(0, row) for row in rows], "train")]
    found = prove(judged, trained_spans(walk_env(), "train"), "train")  # another spread is no other noise
    assert found.standing is standing and found.caution == f"NOT HELD OUT: {said}"


def test_starts_of_which_only_the_market_knows_what_they_share_are_not_proved() -> None:
    env = walk_env("test")
    market = env.unwrapped.lanes.market

    class Own(Starts):
        pin = Numbers.pin

    market.starts = Own(market.starts.table)
    judged = [one.span for one in played_spans(env, [(0, 1 << 30)], "test")]
    found = prove(judged, trained_spans(walk_env(), "train"), "test")
    assert found.standing is Standing.UNKNOWN and f"starts of {WALK} have in common is known to it alone" in found.reason


def test_days_are_not_held_out_from_a_model_of_a_simulated_market() -> None:
    day = Span("i", "rows", "AAA", "2031-03-03", 0, 9, "test")
    found = prove([day], trained_spans(walk_env(), "train"), "test")
    assert found.standing is Standing.UNKNOWN and WALK in found.reason


def alone(config: RunConfig) -> Comparison:
    zero = intervals.Estimate(0.0)
    return Comparison(
        config.env_id,
        [AgentResult("hold", {"pnl": np.zeros((1, 2))}, zero, zero, {})],
        [(0, 0), (0, 1)],
        ["day 0"] * 2,
        0.95,
    )


def test_only_episodes_of_a_certificate_are_said_to_be_drawn_anew() -> None:
    foreign, certificate = RunConfig(env_id="fake-lob-v0", agent_name="ppo"), RunConfig(env_id=next(iter(CERTIFICATES)), agent_name="ppo")
    assert proven(alone(foreign), foreign, []).standing is Standing.UNKNOWN
    assert proven(alone(foreign), replace(foreign, agent_name="hold"), []).standing is Standing.RULE
    assert proven(alone(certificate), certificate, []).standing is Standing.DRAWN


# ---- words


def test_the_first_lines_say_simulated_seeds_and_whose_rules() -> None:
    config = RunConfig(env_id=ID, agent_name="long", env=ENV, evaluation=EvaluationConfig(episodes=8, resamples=200, baselines=("hold",)))
    setup = EvaluationSetup(config, [agent("long")])
    comparison, (log,), _ = backtest.judge(setup, record=True)
    comparison = introduce(comparison, setup)
    lines = dict(comparison.preface.lines)
    assert f"a SIMULATED market, {WALK}, seeds {1 << 30:,} to " in lines["judged on"] and "come from one generator" in lines["judged on"]
    assert lines["costs and fills"].startswith(f"as {WALK} has them")
    cautions = " ".join(comparison.preface.cautions)
    assert "BEYOND THE BOOK: of the lots that they took, these took beyond the levels that it shows" in cautions
    assert f"at a price that {WALK} sets" in cautions
    assert "FILE" not in cautions and "windows" not in cautions
    kept = report.as_json(comparison)
    assert kept["market_moves"] == pytest.approx(log.episodes[intervals.MOVE].tolist())
    assert kept["drift"]["limit"] == 500 and kept["proof"]["standing"] == "rule"


class OnDays(ReplayMarket):
    """Somebody's, derived from the replay."""


class Declares(ReplayMarket):
    """One that says itself what it assumes."""

    assumes = {"fills": "touch", "latency_ns": 1_000_000}  # type: ignore[assignment]


def test_a_market_derived_from_the_replay_is_told_as_somebody_elses() -> None:
    name = f"{__name__}:OnDays"
    synthetic_day = {"data": "synthetic:rows=2000", "episode": "8 decisions", "threads": 1}
    ours, theirs = (backtest.make_env(ID, synthetic_day | more, 1) for more in ({}, {"market": name}))
    assert below(ours) and not below(theirs), "what it assumes, nobody here has seen"
    assert setting(theirs).startswith(f"as {name} has them")
    declares = backtest.make_env(ID, synthetic_day | {"market": f"{__name__}:Declares"}, 1)
    assert setting(declares).startswith(f"as {__name__}:Declares declares them (touch fills, latency 1 ms, impact none), which is not this")
    assert not below(declares)
    row = AgentResult("me", {"pnl": np.zeros((1, 1))}, intervals.Estimate(0.0), intervals.Estimate(0.0), {"beyond_share": 0.5})
    comparison = Comparison(ID, [row], [(0, 0)], ["d"], 0.95)
    assert _depth(comparison, name)[0].startswith("BEYOND THE BOOK") and _depth(comparison, "")[0].startswith("BEYOND THE FILE")
    log = backtest.evaluate(agent("hold"), ID, synthetic_day | {"market": name}, [(0, 10)], record=recorder(theirs))
    assert log.config["market"] == name and "fills" not in log.config


def test_evidence_from_another_market_than_the_replay_is_refused_and_keywords_in_its_mapping_are_read() -> None:
    (found,) = costs.findings({"market": WALK, "latency_ns": 10**9}, [None], costs.Costs())
    assert not found.passed and found.got == f"market={WALK}"
    assert costs.findings({"market": {"market": "walk", "spread": 4}}, [None], costs.Costs())[0].got == "market=walk"
    inside = {"market": {"market": "replay", "fills": "touch"}}
    assert Assumptions.of(inside).fills == "touch" and not costs.findings(inside, [None], costs.Costs())[0].passed
    assert costs.findings({"market": "replay"}, [None], costs.Costs())[0].passed


# ---- baselines, parameters, names


def test_baselines_that_cannot_act_are_named_with_the_reason() -> None:
    keywords = ENV | {"task": POSITION}
    left = registry.unsuited(ID, keywords)
    assert "symmetric" in left and left["symmetric"].startswith("for actions that quote both sides") and "long" not in left
    assert not registry.unsuited(ID, {}) and not registry.unsuited(ID, {"task": "trade"})
    config = RunConfig(env_id=ID, agent_name="hold", env=keywords, evaluation=EvaluationConfig(episodes=2, resamples=50))
    log = backtest.evaluate(agent("hold"), ID, keywords, [(0, 1 << 30), (0, 2**30 + 1)])
    comparison = backtest.conclude(EvaluationSetup(config), [log], {}, {"x": "y"})
    assert comparison.skipped == left | {"x": "y"}
    (first, *_) = left_out(comparison.skipped)
    assert first.startswith("symmetric, avellaneda-stoikov") and first.count("(") == 1


def test_parameters_of_gates_and_of_anothers_market_are_told_defaults_too() -> None:
    gates = [{"gate": "lunch", "begin": 9.5}, "mine:G", {"gate": "risk", "limits": {"order": {"max_quantity": 1}}}]
    env = {**ENV, "gates": gates}
    foreign = {"market": WALK, **about(walk_env()).market_setting}
    lines = run_metadata.lines(run_metadata.RunMetadata(RunConfig(env=env), {}, market=True, foreign=foreign))
    assert "gates lunch (begin 9.5) and `mine:G` and risk (1 limits, in `config.json`)" in lines[1]
    assert f"market {WALK}, spread 2, tick 100, price 1000000, fee_per_lot 0.003" in lines
    assert not any("--fidelity" in line for line in lines)


def run_of(env: dict[str, Any], market: dict[str, Any] | None = None, **more: Any) -> JudgedRun:
    kept = run_metadata.RunMetadata(RunConfig(env=env), {}, foreign=market).as_json() | more
    told = {"env": ID, "judged": "pnl", "windows": [[0, 0]], "skipped": {"long": "why"}, "days": ["day 0"], "run": kept}
    return JudgedRun(Path("run"), told)


def test_a_table_knows_a_market_by_all_its_keywords_and_what_was_to_be_compared() -> None:
    whole = {"market": WALK, "spread": 2, "tick": 100}
    given, default = run_of(ENV | {"spread": 2}, whole), run_of({**ENV, "market": "walk"}, whole)
    assert caveats.likeness(given) == caveats.likeness(default)
    other = run_of(ENV, whole | {"tick": 200})
    assert caveats.differences(other, default) == ["tick 200 instead of 100"]
    gated = [run_of(ENV | {"gates": [{"gate": "lunch", "begin": begin}]}, whole) for begin in (9.5, 10.0)]
    assert len({caveats.likeness(one) for one in gated}) == 2
    own = run_of(ENV | {"task": POSITION}, whole)
    left = "short, random, ofi-taker, momentum, mean-reversion"
    assert caveats._left_out(own, ["hold"]) == f"Left out of the comparison: {left} (evaluation.baselines)."


def test_a_log_of_a_simulated_market_has_its_fills_to_the_unit() -> None:
    chosen = [(0, 1 << 30), (0, (1 << 30) + 3)]
    env = walk_env("test")
    log = backtest.evaluate(agent("random"), ID, ENV, chosen, record=recorder(env))
    fills = log.tables["fills"]
    assert len(fills) > 5 and runlog.currencies(log) == ["USD", "USD"] and log.config["market"] == WALK
    unit = int(1e-4 * CASH_UNITS)
    paid = runlog.per_episode(fills, fills["side"] * fills["price"] * fills["quantity"] * unit + fills["fee"], 2)
    assert runlog.per_episode(fills, fills["side"] * fills["quantity"], 2).tolist() == [0, 0], "closed at the end"
    assert (-paid / CASH_UNITS).tolist() == pytest.approx(log.episodes["pnl"].tolist(), abs=1e-9)
    assert log.tables["decisions"]["episode"].tolist() == [0] * 8 + [1] * 8 and fills["decision"].max() <= 7
