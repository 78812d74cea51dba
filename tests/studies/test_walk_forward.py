"""Walk-forward: what an agent learns from is over before it is judged, and every later day is judged once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from emp_gym.agents import registry
from emp_gym.cli import evaluate, evaluation
from emp_gym.data import store
from emp_gym.data.lobster import reader
from emp_gym.data.tape.tape_set import TapeSet, build
from emp_gym.evaluation import runlog
from emp_gym.runs import backtest
from emp_gym.runs.config import EvaluationConfig, RunConfig
from emp_gym.studies import walk_forward
from emp_gym.types import ConfigError, DataError, RunLog
from tests.data.test_store import day
from tests.evaluation.logs import SMALL

CONFIG = RunConfig(
    agent_name="scholar", env={"data": SMALL, "episode": "20 decisions"},
    evaluation=EvaluationConfig(episodes=3, baselines=("hold", "random")),
)  # fmt: skip


class Silent:
    def update(self, steps: int, scalars: Mapping[str, float]) -> None:
        pass


@contextmanager
def showing(label: str) -> Iterator[Silent]:
    yield Silent()


class Scholar:
    """Notes the days on which it learns, and buys if it has seen any."""

    seen: list[list[int]] = []

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.days: list[int] = []

    def learn(self, make_env: Any, total_timesteps: int, callback: Any = None) -> None:
        env = make_env(num_envs=2)
        self.days = sorted({int(day) for day, _ in env.unwrapped.windows()})
        Scholar.seen.append(self.days)

    def initial_state(self, lanes: int) -> int:
        return 0

    def act(self, observation: Any, state: Any, mask: Any = None) -> Any:
        return np.where(mask[:, 7] & (state == 0) & bool(self.days), 7, 0), 1

    def save(self, folder: Path) -> None:
        pass


@pytest.fixture
def scholar(monkeypatch: pytest.MonkeyPatch) -> None:
    find = registry.find
    monkeypatch.setattr(registry, "find", lambda name: Scholar if name == "scholar" else find(name))
    monkeypatch.setattr(Scholar, "seen", [])


def test_folds_train_on_the_past_only_and_test_every_later_day_once() -> None:
    tape = store.tapes(SMALL)
    for count in (1, 2, 5):
        folds = walk_forward.folds_of(tape, count)
        tested = [day for fold in folds for day in fold.test]
        assert tested == list(range(min(tested), len(tape.info))), "in order, once"
        for fold in folds:
            assert fold.train and max(fold.train) + 1 == min(fold.test)
    dates = [day.date for day in tape.info]
    for fold in walk_forward.folds_of(tape, 2, embargo=3):
        gap = np.datetime64(dates[min(fold.test)]) - np.datetime64(dates[max(fold.train)])
        assert gap > np.timedelta64(3, "D")


def test_symbols_of_one_date_stay_together() -> None:
    days = [SimpleNamespace(date=f"2030-01-0{d}") for d in (1, 1, 2, 2, 3)]
    folds = walk_forward.folds_of(SimpleNamespace(info=days), 2)  # type: ignore[arg-type]
    assert [(fold.train, fold.test) for fold in folds] == [((0, 1), (2, 3)), ((0, 1, 2, 3), (4,))]
    with pytest.raises(ConfigError, match="needs at least 4 dates, the data has 3"):
        walk_forward.folds_of(SimpleNamespace(info=days), 3)  # type: ignore[arg-type]


def test_a_walk_trains_before_it_judges_and_joins_its_folds(scholar: None, tmp_path: Path) -> None:
    found = walk_forward.walk(CONFIG, 3, tmp_path / "walk", showing, embargo=1, record=True)
    assert Scholar.seen == [list(fold.train) for fold in found.folds], "its environments hold the past, and nothing else"
    days = [day for day, _ in found.comparison.windows]
    assert days == sorted(days) and len(days) == 9
    for i, fold in enumerate(found.folds):
        assert set(days[3 * i : 3 * i + 3]) <= set(fold.test)
    assert np.array_equal(runlog.pnl2(found.agent), np.rint(found.agent.episodes["pnl"] * 2e8))
    assert found.agent.episodes["filled"].all() and not found.baselines["hold"].episodes["filled"].any()
    assert found.agent.config["env_kwargs"] == CONFIG.env
    told = json.loads((tmp_path / "walk" / "walk_forward.json").read_text())
    assert [fold["episodes"] for fold in told["folds"]] == [3, 3, 3] and told["embargo_days"] == 1
    assert max(told["folds"][1]["train"]) < min(told["folds"][1]["test"])
    pnl = [fold["pnl_currency_per_episode"]["scholar"] for fold in told["folds"]]
    assert np.mean(pnl) == pytest.approx(found.comparison.agent.pnl.mean)
    with pytest.raises(ConfigError, match="already holds a walk"):
        walk_forward.walk(CONFIG, 3, tmp_path / "walk", showing)
    with pytest.raises(ConfigError, match="its own test days"):
        walk_forward.walk(replace(CONFIG, evaluation=EvaluationConfig(split="all")), 2, tmp_path / "other", showing)


def test_a_baseline_that_is_missing_in_a_later_fold_is_left_out_and_told(
    scholar: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrate, asked = backtest.calibrate, list[str]()

    def refusing(agent: Any, *where: Any) -> None:
        if type(agent).__name__ == "Random":
            asked.append("random")
            if len(asked) == 2:
                raise DataError("no morning on record")
        calibrate(agent, *where)

    monkeypatch.setattr(backtest, "calibrate", refusing)
    found = walk_forward.walk(CONFIG, 3, tmp_path / "walk", showing, record=True)
    assert len(asked) == 3 and found.comparison.skipped == {"random": "in fold 2 of 3: no morning on record"}
    assert [row.name for row in found.comparison.rows] == ["scholar", "hold"] and set(found.baselines) == {"hold"}
    folds = json.loads((tmp_path / "walk" / "walk_forward.json").read_text())["folds"]
    assert ["random" in fold["pnl_currency_per_episode"] for fold in folds] == [True, False, True]
    assert [fold["left_out"] for fold in folds] == [{}, {"random": "no morning on record"}, {}]


def test_why_a_baseline_is_missing_is_said_once_where_it_is_the_same_in_every_fold() -> None:
    assert walk_forward.missing([{"oracle": "recorded days"}, {"oracle": "recorded days"}]) == {"oracle": "recorded days"}
    assert walk_forward.missing([{}, {"vwap": "a"}, {"vwap": "b"}]) == {"vwap": "in fold 2 of 3: a; in fold 3 of 3: b"}


def test_a_folds_tape_is_the_same_days_with_other_marks(tmp_path: Path) -> None:
    tape = store.tapes(SMALL)
    fold = walk_forward.folds_of(tape, 2)[0]
    there = store.tapes(str(walk_forward.fold_tape(tape, fold, tmp_path / "fold.tape")))
    assert np.array_equal(there.rows, tape.rows) and there.info[0].instrument == tape.info[0].instrument
    held_out = [day.source["held_out"] for day in there.info]
    assert [i for i, held in enumerate(held_out) if not held] == list(fold.train)


def test_a_folds_tape_stays_when_the_tape_it_came_from_goes(tmp_path: Path) -> None:
    days = [build(reader.read(day(tmp_path, date=f"2024-05-0{k}"))[0].day) for k in (1, 2, 3)]
    tape = store.tapes(TapeSet.concatenate(days).save(tmp_path / "three.tape"))
    (fold,) = walk_forward.folds_of(tape, 1)
    made = walk_forward.fold_tape(tape, fold, tmp_path / "fold.tape")
    shutil.rmtree(tmp_path / "three.tape")
    store._tapes.cache_clear()
    there = store.tapes(made)
    assert [info.date for info in there.info] == ["2024-05-01", "2024-05-02", "2024-05-03"]
    assert np.array_equal(there.rows, tape.rows) and [info.source["held_out"] for info in there.info] == [False, True, True]


# ------------------------------------------------------------------------------------------------------------ the command


def run(*arguments: str) -> int:
    return evaluate.main(["--env", "emp-lob-v0", "--data", SMALL, "--episodes", "2", *arguments])


SHORT = ("--set", "env.episode=20 decisions", "evaluation.baselines=[hold, random]")


def test_the_command_walks_an_agent_that_does_not_learn(tmp_path: Path, capsys: Any) -> None:
    assert run("--agent", "symmetric", "--walk-forward", "2", "--run-dir", str(tmp_path / "walk"), "--json", *SHORT) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["windows"]) == 4 and (tmp_path / "walk" / "walk_forward.json").exists()


def test_what_does_not_go_together_is_refused_before_anything_runs(tmp_path: Path, capsys: Any) -> None:
    assert run("--agent", "hold", "--embargo", "2") == 2
    assert run("--agent", "hold", "--walk-forward", "2", "--report", str(tmp_path)) == 2
    assert run("--agent", "hold", "--walk-forward", "0") == 2
    said = capsys.readouterr().err
    assert "belong to --walk-forward" in said and "does not go with --report" in said and "--walk-forward >= 1" in said


def test_the_command_leaves_a_log_of_everyone(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    assert run("--agent", "symmetric", "--log", str(folder), "--json", *SHORT) == 0
    logs = {path.name: runlog.load(path) for path in folder.iterdir()}
    assert set(logs) == {"symmetric", "hold", "random"}
    for log in logs.values():
        assert np.array_equal(runlog.pnl2(log), np.rint(log.episodes["pnl"] * 2e8))
    assert run("--agent", "symmetric", "--log", str(folder), *SHORT) == 2, "nothing is written over"


class Hold:
    """Somebody else's, with the name of a baseline."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def initial_state(self, lanes: int) -> None:
        return None

    def act(self, observation: Any, state: Any, mask: Any = None) -> Any:
        return np.zeros(len(observation), np.int64), None


def test_an_agent_called_like_a_baseline_has_a_log_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    assert run("--agent", f"{__name__}:Hold", "--log", str(folder), "--json", *SHORT) == 0
    assert {path.name for path in folder.iterdir()} == {"hold-judged", "hold", "random"}


def test_labels_of_logs_are_all_different() -> None:
    assert evaluation.labels("ppo", 1, ["hold"]) == ["ppo"] and evaluation.labels("a.b:Mine", 2, ["hold"]) == ["mine-0", "mine-1"]
    assert evaluation.labels("x:Hold", 1, ["hold", "hold-judged"]) == ["hold-judged-judged"]
    assert evaluation.labels("x:Hold", 2, ["hold", "Hold-1"]) == ["hold-0-judged", "hold-1-judged"]


def test_everybody_plays_once_whatever_is_left_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated, played = backtest.evaluate, list[str]()

    def counted(agent: Any, *args: Any, **kwargs: Any) -> RunLog:
        played.append(type(agent).__name__)
        return evaluated(agent, *args, **kwargs)

    monkeypatch.setattr(backtest, "evaluate", counted)
    words = ("--agent", "symmetric", "--log", str(tmp_path / "logs"), "--report", str(tmp_path / "report"),
             "--html", str(tmp_path / "page.html"), "--json")  # fmt: skip
    assert run(*words, *SHORT) == 0
    assert len(played) == len(set(played)) == 3
    told = json.loads((tmp_path / "report" / "evaluation.json").read_text())["results"]["symmetric"]
    assert told["pnl_by_window"][0] == runlog.load(tmp_path / "logs" / "symmetric").episodes["pnl"].tolist()
