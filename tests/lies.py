"""Planted lies: results that claim more than they are worth, made on tiny days, each with an honest twin.

A lie is a function of a folder that gives what people would read (`Told`) or raises an error of ours. `LIES` is the table: what is
claimed, the lie, the words by which its first lines give it away, and an honest twin in which these words do not stand.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from emp_gym import trust
from emp_gym.agents.base import BaseAgent
from emp_gym.cli import evaluation as judging
from emp_gym.data import store
from emp_gym.data.lobster import reader
from emp_gym.data.synthetic import day as synthetic
from emp_gym.data.tape.tape_set import TapeSet, build
from emp_gym.evaluation.assumptions import FILE
from emp_gym.evaluation.intervals import FEWEST, Estimate
from emp_gym.reports import report
from emp_gym.reports.blocks import markdown
from emp_gym.reports.preface import Preface, introduce
from emp_gym.reports.report_data import Findings
from emp_gym.runs import backtest
from emp_gym.runs.backtest import AgentResult, Comparison
from emp_gym.runs.config import EvaluationConfig, RunConfig
from emp_gym.runs.evaluation_setup import EvaluationSetup
from emp_gym.runs.held_out import Proof, Standing
from emp_gym.runs.rules import NO_RECORD
from emp_gym.runs.run_folder import RunFolder
from emp_gym.runs.run_metadata import RunMetadata
from emp_gym.runs.spans import Played, Span, trained_spans
from emp_gym.training import train
from emp_gym.types import RunLog

FIRST = 12  # lines
ENV = "emp-lob-v0"
KWARGS = {"data": "synthetic:rows=2000", "episode": "16 decisions", "threads": 1}
COSTS = {"maker_fee_bps": 0.0, "taker_fee_bps": 0.3, "latency_ns": 200_000, "impact": "resilient"}


@dataclass(frozen=True)
class Told:
    """What a person reads first, and the folder of a run where there is one."""

    terminal: str
    text: str
    folder: Path | None = None

    @property
    def first_lines(self) -> tuple[str, str]:
        return tuple("\n".join(text.strip().splitlines()[:FIRST]) for text in (self.terminal, self.text))  # type: ignore[return-value]


class Eager(BaseAgent):
    """Learns nothing in a few steps, and buys."""

    num_timesteps = 0

    def act(self, observation: Any, state: Any, mask: Any = None) -> tuple[np.ndarray, Any]:
        wanted = np.full(len(observation), 7, np.int64)
        return np.where(mask[:, 7], wanted, 0) if mask is not None else wanted, state

    def learn(self, make_env: Any, total_timesteps: int, callback: Any = None) -> None:
        env = make_env(4)
        env.reset(seed=self.seed)
        env.step(np.zeros(4, np.int64))
        env.close()
        self.num_timesteps = total_timesteps
        if callback is not None:
            callback(total_timesteps, {})


class Timid(Eager):
    """Another one."""


class Keeps(Eager):
    """Keeps what it learned in files of its own names, and goes on from a checkpoint."""

    bought = 0

    def learn(self, make_env: Any, total_timesteps: int, callback: Any = None) -> None:
        self.bought += total_timesteps
        super().learn(make_env, total_timesteps, callback)

    def save(self, folder: Path) -> None:
        super().save(folder)
        (folder / "parts").mkdir(exist_ok=True)
        (folder / "weights.json").write_text(f"{self.bought}")
        (folder / "parts" / "head.txt").write_text(f"{self.seed}")

    def load(self, folder: Path) -> None:
        self.bought, self.num_timesteps = int((folder / "weights.json").read_text()), 12

    def checkpoint(self, folder: Path) -> None:
        self.save(folder)
        (folder / "steps.txt").write_text(f"{self.num_timesteps}")

    def resume(self, folder: Path) -> None:
        self.load(folder)
        self.num_timesteps = int((folder / "steps.txt").read_text())


class FromFile(BaseAgent):
    """Somebody's model: its action is what a file says, and nobody recorded where that came from."""

    def __init__(self, *spaces: Any, path: str = "", **keywords: Any) -> None:
        super().__init__(*spaces, **keywords)
        self.action = int(Path(path).read_text()) if path else 0

    def act(self, observation: Any, state: Any, mask: Any = None) -> tuple[np.ndarray, Any]:
        return np.full(len(observation), self.action, np.int64), state


class Still(BaseAgent):
    """A rule of a third party; who wrote it may have looked at anything."""

    def act(self, observation: Any, state: Any, mask: Any = None) -> tuple[np.ndarray, Any]:
        return np.zeros(len(observation), np.int64), state


class Apart(Eager):
    """Learns without asking for an environment."""

    def learn(self, make_env: Any, total_timesteps: int, callback: Any = None) -> None:
        super().learn(lambda lanes: backtest.make_env(ENV, KWARGS, lanes, split="test"), total_timesteps, callback)


class Tuned(Eager):
    """Begins where an earlier run ended."""

    @dataclass
    class Config:
        init: str = ""


class Silent:
    def update(self, steps: int, scalars: Mapping[str, float]) -> None: ...


def config(agent: str = "lies:Eager", *, evaluation: Mapping[str, Any] | None = None, **env: Any) -> RunConfig:
    """Of a tiny run."""
    judged = {"baselines": ("hold", "long", "short"), "resamples": 50, **(evaluation or {})}
    return RunConfig(ENV, agent, 12, env={**KWARGS, **env}, evaluation=EvaluationConfig(**judged))


def trained(folder: Path, asked: RunConfig) -> RunFolder:
    """A run that learned as `asked`."""
    return train.train(asked, folder, Silent())[0]


def judged(asked: RunConfig, runs: Sequence[RunFolder] = ()) -> Told:
    """The agents of `runs` (the rule that `asked` names where there are none) as `evaluate.py` would tell of them."""
    if runs:
        agents = [train.load(run, asked.env_id, asked.env, asked.evaluation.split) for run in runs]
    else:
        env = backtest.make_env(asked.env_id, asked.env, 1, split=asked.evaluation.split)
        agents = [backtest.build(asked.agent_name, env)]
        env.close()
    setup = EvaluationSetup(asked, agents, runs)
    comparison, _, _ = backtest.judge(setup)
    return told(introduce(comparison, setup), asked, runs[0].path if runs else None)


def told(comparison: Comparison, asked: RunConfig, folder: Path | None = None) -> Told:
    """Terminal and report."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), mock.patch.dict(os.environ, {"COLUMNS": "2000"}):
        judging.show(comparison)
    facts = RunMetadata(asked, {"data": [], "versions": {}}, market=True)
    return Told(out.getvalue(), markdown(report.document(comparison, Findings({}, {}), facts, {})), folder)


def day(
    folder: Path, symbol: str = "AAA", date: str = "2031-03-03", seed: int = 1, rows: int = 4000, *, planted: bool = False
) -> str:  # fmt: skip
    """A tape of one day; without its planted truth it counts as recorded."""
    folder.mkdir(parents=True, exist_ok=True)
    written = synthetic.write_day(folder / "csv", synthetic.DayConfig(seed=seed, rows=rows, symbol=symbol, date=date))
    (reading,) = reader.read((written.message, written.orderbook))
    shutil.rmtree(folder / "csv")
    if planted:
        reading.day.signal, reading.day.regime = written.signal, written.regime
    tape: TapeSet = build(reading.day)
    return str(tape.save(folder / f"{symbol}-{date}-{seed}.tape"))


# ---- which data


def newest_first(folder: Path) -> Told:
    """Trained on the later date, judged on the earlier one."""
    late, early = day(folder, date="2031-03-05"), day(folder, date="2031-03-03", seed=2)
    run = trained(folder / "run", config(data=late))
    return judged(config(data=early, evaluation={"split": "all"}), [run])


def oldest_first(folder: Path) -> Told:
    early, late = day(folder, date="2031-03-03", seed=2), day(folder, date="2031-03-05")
    run = trained(folder / "run", config(data=early))
    return judged(config(data=late, evaluation={"split": "all"}), [run])


def one_day_five_times(folder: Path) -> Told:
    asked = config(data=[day(folder)] * 5)
    return judged(asked, [trained(folder / "run", asked)])


def one_date_in_another_symbol(folder: Path) -> Told:
    """Trained on four symbols of a date, judged on the fifth at the same moments."""
    four = [day(folder, symbol, seed=number) for number, symbol in enumerate(("AAA", "BBB", "CCC", "DDD"))]
    run = trained(folder / "run", config(data=four))
    return judged(config(data=day(folder, "EEE", seed=9), evaluation={"split": "all"}), [run])


def the_training_split(folder: Path) -> Told:
    asked = config()
    run = trained(folder / "run", asked)
    return judged(config(evaluation={"split": "train", "episodes": 8}), [run])


def all_of_the_data(folder: Path) -> Told:
    return judged(config(evaluation={"split": "all"}), [trained(folder / "run", config())])


def the_test_split(folder: Path) -> Told:
    asked = config()
    return judged(asked, [trained(folder / "run", asked)])


def changed_data(folder: Path) -> Told:
    """The rows of the day are others than at training time."""
    run = trained(folder / "run", config(data=day(folder / "then")))
    return judged(config(data=day(folder / "now", seed=2)), [run])


def same_data(folder: Path) -> Told:
    asked = config(data=day(folder))
    return judged(asked, [trained(folder / "run", asked)])


def resumed_with_other_data(folder: Path) -> Told:
    asked = config(data=day(folder))
    run = trained(folder / "run", asked)
    now = backtest.make_env(ENV, config(data=day(folder / "now", seed=2)).env, 1, split="train")
    run.note_trained(trained_spans(now, "train"))
    now.close()
    return judged(asked, [run])


def a_model_of_another_run(folder: Path) -> Told:
    asked = config()
    run, other = trained(folder / "run", asked), trained(folder / "other", config("lies:Timid"))
    model = (other.path / "model.json").read_text().replace("Timid", "Eager").replace('"seed": 0', '"seed": 1')
    (run.path / "model.json").write_text(model + "\n")
    return judged(asked, [run])


def a_model_of_another_market(folder: Path) -> Told:
    run = trained(folder / "run", config())
    return judged(config(data=day(folder, "BBB", "2031-03-03"), evaluation={"split": "all"}), [run])


def no_record(folder: Path) -> Told:
    asked = config()
    run = trained(folder / "run", asked)
    (run.path / "provenance.json").unlink()
    return judged(asked, [run])


def a_model_from_a_file(folder: Path) -> Told:
    """Never trained here, so it has no run folder and no record."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.txt").write_text("0")
    return judged(replace(config("lies:FromFile"), agent={"path": str(folder / "weights.txt")}))


def a_kept_model_from_a_file(folder: Path) -> Told:
    """The same, laid into a run folder by a run that had nothing to train."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.txt").write_text("0")
    asked = replace(config("lies:FromFile"), agent={"path": str(folder / "weights.txt")})
    return judged(asked, [trained(folder / "run", asked)])


def learned_without_a_run(folder: Path) -> Told:
    return judged(config("lies:Eager"))


def a_rule_of_a_third_party(folder: Path) -> Told:
    return judged(config("lies:Still"))


def a_built_in_rule(folder: Path) -> Told:
    return judged(config("hold"))


def a_kept_rule(folder: Path) -> Told:
    asked = config("hold")
    return judged(asked, [trained(folder / "run", asked)])


def learned_apart(folder: Path) -> Told:
    asked = config("lies:Apart")
    return judged(asked, [trained(folder / "run", asked)])


def tuned(init: str) -> Callable[[Path], Told]:
    def make(folder: Path) -> Told:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "earlier.txt").write_text("7")
        asked = replace(config("lies:Tuned"), agent={"init": init and str(folder / init)})
        return judged(asked, [trained(folder / "run", asked)])

    return make


def without_a_date(folder: Path) -> Told:
    """Trained on a day whose file says no date, judged on rows of another one."""
    known, unknown = day(folder / "known", "AAA", "2031-03-03", seed=2), day(folder / "unknown", "BBB", "1970-01-01")
    return judged(config(data=known, evaluation={"split": "all"}), [trained(folder / "run", config(data=unknown))])


def trained_on_synthetic_days(folder: Path) -> Told:
    """Which are at no time that recorded days know: their dates are later."""
    asked = config(data=day(folder, "AAA", "2012-06-21"), evaluation={"split": "all"})
    return judged(asked, [trained(folder / "run", config())])


def symbols_at_once(folder: Path) -> Told:
    """Four moments of two symbols are not eight windows."""
    days = [day(folder, symbol, "2031-03-03", seed=seed) for symbol, seed in (("AAA", 1), ("BBB", 2))]
    return judged(config("long", data=days, evaluation={"split": "all"}))


def symbols_one_after_the_other(folder: Path) -> Told:
    days = [day(folder, "AAA", "2031-03-03"), day(folder, "BBB", "2031-03-04", seed=2)]
    return judged(config("long", data=days, evaluation={"split": "all"}))


def a_day_too_short(folder: Path) -> Told:
    return judged(config("hold", data=day(folder), episode="256 decisions"))


def synthetic_days(folder: Path) -> Told:
    return judged(config("hold"))


def recorded_days(folder: Path) -> Told:
    return judged(config("hold", data=day(folder)))


def some_synthetic_days(folder: Path) -> Told:
    """A set of both kinds, which has no planted truth any more."""
    return judged(
        config("hold", data=["synthetic:rows=2000", day(folder, "BBB", "2031-03-03")], evaluation={"split": "all", "episodes": 30})
    )


def synthetic_by_another_name(folder: Path) -> Told:
    """A tape of a synthetic day beside a recorded one, both below one folder: nothing there is called synthetic."""
    store.tapes("synthetic:rows=2000").one(0).save(folder / "days" / "a.tape")
    day(folder / "days", "BBB", "2031-03-03")
    return judged(config("hold", data=str(folder / "days"), evaluation={"split": "all", "episodes": 30}))


def two_recorded_days(folder: Path) -> Told:
    day(folder / "days", "AAA", "2031-03-03")
    day(folder / "days", "BBB", "2031-03-04", seed=2)
    return judged(config("hold", data=str(folder / "days"), evaluation={"split": "all", "episodes": 30}))


# ---- how much of it


def one_window(folder: Path) -> Told:
    return judged(config("long", data=day(folder)))


def few_dates(folder: Path) -> Told:
    days = [day(folder, date=f"2031-03-{number:02d}", seed=number, rows=2000) for number in (3, 4, 5, 6, 7)]
    return judged(config("long", data=days, evaluation={"split": "all"}))


def eight_dates(folder: Path) -> Told:
    return judged(config("long"))


def fewer_episodes_than_asked(folder: Path) -> Told:
    return judged(config("hold", evaluation={"episodes": 1000}))


def some_of_the_windows(folder: Path) -> Told:
    return judged(config("hold", evaluation={"episodes": 4}))


def intervals(**changes: Any) -> Callable[[Path], Told]:
    return lambda folder: judged(config("long", evaluation={"resamples": 1000, **changes}))


def another_episode_than_trained(folder: Path) -> Told:
    return judged(config(episode="8 decisions"), [trained(folder / "run", config())])


def one_seed_of_three(folder: Path) -> Told:
    asked = [replace(config(), seed=seed) for seed in range(3)]
    RunFolder(folder / "series").write_series(asked)
    runs = [trained(folder / "series" / f"seed-{one.seed}", one) for one in asked]
    return judged(asked[1], runs[1:2])


def a_seed_that_left_its_series(folder: Path) -> Told:
    asked = [replace(config(), seed=seed) for seed in range(3)]
    RunFolder(folder / "series").write_series(asked)
    (folder / "series" / "seed-2").mkdir()
    run = trained(folder / "series" / "seed-2", asked[2])
    return judged(asked[2], [RunFolder(Path(shutil.copytree(run.path, folder / "lucky")))])


def edited_after_training(folder: Path) -> Told:
    """Costs and a seed under which it was not trained, written into its configuration."""
    run = trained(folder / "run", config())
    asked = run.config
    run.write_json("config.json", asdict(replace(asked, seed=7, env={**asked.env, **COSTS})))
    with trust.word():
        return judged(run.config, [run])


def all_three_seeds(folder: Path) -> Told:
    asked = [replace(config(), seed=seed) for seed in range(3)]
    RunFolder(folder / "series").write_series(asked)
    return judged(asked[0], [trained(folder / "series" / f"seed-{one.seed}", one) for one in asked])


def a_baseline_left_out(folder: Path) -> Told:
    return judged(config("hold", evaluation={"baselines": ("random",)}))


def every_baseline(folder: Path) -> Told:
    return judged(config("hold", evaluation={"baselines": None}))


# ---- under which costs


def without(key: str) -> Callable[[Path], Told]:
    """The honest setting with one assumption as optimistic as it can be."""
    free: dict[str, Any] = {"fills": "optimistic", "hidden_prints": "fill", "latency_ns": 0, "impact": "none", "taker_fee_bps": 0.0}
    return lambda folder: judged(config("hold", **{**COSTS, key: free[key]}))


def in_name_only(**changes: Any) -> Callable[[Path], Told]:
    """The honest setting with costs that are there, and next to nothing."""
    return lambda folder: judged(config("hold", **{**COSTS, **changes}))


def with_costs(folder: Path) -> Told:
    return judged(config("hold", **COSTS))


# ---- from which depth


def a_parent(lots: int) -> Callable[[Path], Told]:
    """Taken whole at the deadline."""
    asked = config("hold", parent=lots, order_quantity=lots, evaluation={"baselines": ("passive",)}, **COSTS)
    return lambda folder: judged(replace(asked, env_id="emp-lob-execution-v0"))


def every_message(impact: str) -> Callable[[Path], Told]:
    """Clips at random after every message."""
    return lambda folder: judged(config("random", evaluation={"baselines": ("hold",)}, every="1 messages", impact=impact))


# ---- which skill


def drift(way: int, own: float, held: float, gap: tuple[float, float]) -> Callable[[Path], Told]:
    """A market that goes one way; the agent made `own` an episode, whoever held made `held`."""

    def make(folder: Path) -> Told:
        def estimate(mean: float, low: float, high: float) -> Estimate:
            return Estimate(mean, low, high, FEWEST)

        def row(name: str, mean: float, ahead: Estimate | None = None) -> AgentResult:
            made = estimate(mean, mean - 10, mean + 10)
            return AgentResult(name, {"pnl": np.full((1, FEWEST), mean)}, made, made, {}, ahead)

        with_it, against = ("long", "short") if way > 0 else ("short", "long")
        rows = [
            row("ppo", own), row("hold", 0.0, estimate(own, own - 10, own + 10)),
            row(with_it, held, estimate(own - held, *gap)), row(against, -held, estimate(own + held, own, own + 2 * held)),
        ]  # fmt: skip
        dates = [f"2031-03-{number + 3:02d}" for number in range(FEWEST)]
        played = [Played(Span("i", date, "AAA", date, 0, 9, "test"), "USD", False, way * 1.5, way * 30.0) for date in dates]
        found = Comparison(ENV, rows, [(i, 0) for i in range(FEWEST)], dates, 0.95, played=played, proof=Proof(Standing.HELD_OUT, "test"))
        return told(replace(found, preface=Preface("recorded days: AAA", "AAA", "no fees")), config("ppo"))

    return make


def two_currencies(folder: Path) -> Told:
    """USD 100 and JPY 10,000 an episode: no number is both."""
    dates = [f"2031-03-{number + 3:02d}" for number in range(FEWEST)] * 2
    money = ["USD"] * FEWEST + ["JPY"] * FEWEST
    made = np.where(np.array(money) == "USD", 100.0, 10_000.0) * np.tile(np.linspace(0.9, 1.1, FEWEST), 2)  # dates differ
    windows = [[number, 0] for number in range(2 * FEWEST)]
    played = [
        Played(Span("i", f"{currency}{date}", f"{currency}A", date, 0, 9, "test"), currency, False, 1.0, 1.0)
        for date, currency in zip(dates, money)
    ]

    def log(values: np.ndarray) -> RunLog:
        episodes = {"pnl": values, "return": values, "day": np.zeros(len(values)), "start": np.zeros(len(values))}
        return RunLog({"env": ENV, "windows": windows, "dates": dates}, episodes)

    asked = config("ppo")
    rivals = {"hold": log(np.zeros(2 * FEWEST)), "long": log(made / 2), "short": log(-made / 2)}
    found = backtest.compare("ppo", [log(made)], rivals, dates, asked.evaluation, played=played)
    return told(found, asked)


def one_currency(folder: Path) -> Told:
    return drift(1, 200.0, 50.0, (100.0, 200.0))(folder)


@dataclass(frozen=True)
class Lie:
    name: str
    make: Callable[[Path], Told]
    given_away_by: str  # pattern, in the first lines of terminal and report
    honest: Callable[[Path], Told]
    refused: bool = False  # may be an error of ours instead


CHANGED = "NOT SHOWN TO BE HELD OUT: the rows of AAA 2031-03-03 are not those that it was trained on"
CHEAP_LOTS = in_name_only(taker_fee_bps=None, taker_fee_per_lot=1e-6)
ALONE = "alone made as much: drift is not skill"

LIES = (
    Lie("days newest first", newest_first, "NOT HELD OUT: .* before the last training data", oldest_first),
    Lie("a day five times", one_day_five_times, "NOT HELD OUT", same_data, refused=True),
    Lie("symbols of one date", one_date_in_another_symbol, "NOT HELD OUT: .* at moments that were trained on", oldest_first),
    Lie("the training split judged", the_training_split, "NOT HELD OUT[^#]* of the training split", the_test_split),
    Lie("all of the data judged", all_of_the_data, "NOT HELD OUT: [0-9]+ of [0-9]+ windows", the_test_split),
    Lie("data changed after training", changed_data, CHANGED, same_data),
    Lie("resumed with other data", resumed_with_other_data, "two versions of the rows|NOT SHOWN", same_data),
    Lie("a model of another run", a_model_of_another_run, "NOT SHOWN TO BE HELD OUT: the model in .* is not the one", the_test_split),
    Lie("a model of another market", a_model_of_another_market, "(?s)judged on.*: BBB.*trained on.*: SYNA, SYNB", the_test_split),
    Lie("no record of the training", no_record, "NOT SHOWN TO BE HELD OUT", the_test_split),
    Lie("a model from a file", a_model_from_a_file, f"NOT SHOWN TO BE HELD OUT: {NO_RECORD}", a_built_in_rule),
    Lie("a rule of a third party", a_rule_of_a_third_party, f"NOT SHOWN TO BE HELD OUT: {NO_RECORD}", a_built_in_rule),
    Lie("learned apart", learned_apart, "NOT SHOWN TO BE HELD OUT: .* without asking for an environment", the_test_split),
    Lie("tuned from an earlier run", tuned("earlier.txt"), "NOT SHOWN TO BE HELD OUT: .* its parameter init=.* brings", tuned("")),
    Lie("a day without a date", without_a_date, "NOT SHOWN TO BE HELD OUT: rows of BBB have no date", trained_on_synthetic_days),
    Lie("symbols at once", symbols_at_once, "several symbols at the same moments of one date", symbols_one_after_the_other),
    Lie("a day too short", a_day_too_short, "ends? after [0-9]+ of the 256 decisions of an episode", one_window),
    Lie("a model from a file in a run", a_kept_model_from_a_file, "NOT SHOWN TO BE HELD OUT: .* its parameter path=", a_kept_rule),
    Lie("a learner without a run", learned_without_a_run, f"NOT SHOWN TO BE HELD OUT: {NO_RECORD}", the_test_split),
    Lie("synthetic days", synthetic_days, "SYNTHETIC days, not a market, with a planted signal", recorded_days),
    Lie("synthetic days among recorded ones", some_synthetic_days, "SYNTHETIC ones, which are not a market", recorded_days),
    Lie("synthetic days by another name", synthetic_by_another_name, "SYNTHETIC ones, which are not a market", two_recorded_days),
    Lie("one window", one_window, "1 window of|1 window: too few", eight_dates),
    Lie("few dates", few_dates, "5 dates: too few for an interval", eight_dates),
    Lie("fewer episodes than asked", fewer_episodes_than_asked, "1000 windows were asked for, the test split holds", eight_dates),
    Lie("another episode than trained", another_episode_than_trained, "otherwise than trained: episode 8 decisions", the_test_split),
    Lie("a lucky seed of many", one_seed_of_three, r"one seed \(1\) of 3", all_three_seeds),
    Lie("a lucky seed without its series", a_seed_that_left_its_series, r"one seed \(2\) of 3", all_three_seeds),
    Lie("a configuration edited after training", edited_after_training, r"otherwise than trained: .*seed 7 \(", the_test_split),
    Lie("a baseline left out", a_baseline_left_out, "left out by evaluation.baselines: long, short", every_baseline),
    Lie("optimistic fills", without("fills"), "optimistic fills: an optimistic setting", with_costs),
    Lie("fills by hidden prints", without("hidden_prints"), f"careful.*OPTIMISTIC: fills by hidden prints where {FILE}", with_costs),
    Lie("no fees", without("taker_fee_bps"), "no fees.*optimistic setting", with_costs),
    Lie("no latency", without("latency_ns"), "no latency.*optimistic setting", with_costs),
    Lie("no impact", without("impact"), "no impact.*optimistic setting", with_costs),
    Lie("fees in name only", in_name_only(taker_fee_bps=1e-4), f"careful.*OPTIMISTIC: taker fee 0.0001 bp where {FILE}", with_costs),
    Lie("a rebate", in_name_only(maker_fee_bps=-8), f"careful.*OPTIMISTIC: a maker's rebate of 8 bp where {FILE}", with_costs),
    Lie("fees a lot in name only", CHEAP_LOTS, f"careful.*OPTIMISTIC: taker fee .* bp where {FILE}", with_costs),
    Lie("latency in name only", in_name_only(latency_ns=1), f"careful.*OPTIMISTIC: order latency 1e-06 ms where {FILE}", with_costs),
    Lie("impact in name only", in_name_only(impact="resilient 1 ns"), f"careful.*OPTIMISTIC: impact .* where {FILE} has 1 s", with_costs),
    Lie("beyond the file", a_parent(20_000), "careful.*BEYOND THE FILE: .*hold [0-9]+", a_parent(100)),
    Lie("the same lots again", every_message("none"), "careful.*TAKEN AGAIN: .*random [0-9]+", every_message("permanent")),
    Lie("some of the windows", some_of_the_windows, "careful.*4 of the 8 windows of the test split were judged", eight_dates),
    Lie("a narrow interval", intervals(level=0.8), "careful.*intervals of 80%, narrower than those of 95%", intervals()),
    Lie("alpha for a level", intervals(level=0.05), "level", eight_dates, refused=True),
    Lie("few resamples", intervals(resamples=50), "careful.*intervals from 50 resamples", intervals()),
    Lie("drift up", drift(1, 90.0, 100.0, (-20.0, 0.0)), f"market rose .*being long {ALONE}", drift(1, 200.0, 50.0, (100.0, 200.0))),
    Lie("drift down", drift(-1, 90.0, 100.0, (-20.0, 0.0)), f"market fell .*being short {ALONE}", drift(-1, 200.0, 50.0, (100.0, 200.0))),
    Lie("a lead over drift that may be luck", drift(1, 110.0, 100.0, (-5.0, 25.0)), "drift and skill are not told apart", one_currency),
    Lie("currencies summed", two_currencies, "(?s)In USD: ppo makes money: 100.00.*In JPY: ppo makes money: 10,000.00", one_currency),
)
