"""Damage that opening a tape cannot see ends what asks for the full check: `--verify`, and evidence always."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emp_gym.cli import check, evaluate, train
from emp_gym.data.synthetic.day import DayConfig
from emp_gym.data.tape.tape_set import TapeSet, build
from emp_gym.governed.evidence import Execution
from emp_gym.runs.config import EvaluationConfig, RunConfig
from emp_gym.types import DataError, MessageType
from tests.market.duel import synthetic_day

WORLD = ["env.episode=10 decisions", "env.every=20 messages", "evaluation.split=all"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return build(synthetic_day(DayConfig(seed=41, rows=3_000))).save(tmp_path / "day.tape")


def harm(folder: Path) -> None:
    touches = np.load(folder / "touches.npy")
    touches["volume"][np.flatnonzero(touches["kind"] == MessageType.NEW)[0]] += 1
    np.save(folder / "touches.npy", touches)
    TapeSet.open(folder)


def judged(folder: Path, *more: str) -> int:
    asked = ["--env", "emp-lob-v0", "--agent", "hold", "--data", str(folder), "--episodes", "2", "--json"]
    return evaluate.main([*asked, "--set", *WORLD, *more])


def test_evaluate_says_that_the_days_are_whole_and_stops_where_they_are_not(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert judged(folder, "--verify") == 0
    assert "columns are as they were written" in capsys.readouterr().err
    harm(folder)
    assert judged(folder, "--verify") == 2
    told = capsys.readouterr()
    assert "touches: other bytes than were written" in told.err and not told.out


def test_train_stops_before_anything_is_written(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    harm(folder)
    run = tmp_path / "run"
    arguments = ["--env", "emp-lob-v0", "--data", str(folder), "--total-timesteps", "64", "--run-dir", str(run), "--verify"]
    assert train.main([*arguments, "--set", *WORLD]) == 2
    assert "touches: other bytes" in capsys.readouterr().err and not run.exists()


def test_evidence_is_not_made_of_damaged_days(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = RunConfig(
        env_id="emp-lob-v0", env={"data": str(folder), "episode": "10 decisions", "every": "20 messages"},
        evaluation=replace(EvaluationConfig(), split="all", episodes=2),
    )  # fmt: skip
    execution = Execution(None, config, label=lambda tape: np.zeros(len(tape.rows), np.int8))  # type: ignore[arg-type]
    assert execution._where["days"] and "without hashes" not in caplog.text
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({name: meta[name] for name in ("format", "hash", "days")}))
    with caplog.at_level(logging.WARNING):
        assert Execution(None, config, label=lambda tape: np.zeros(len(tape.rows), np.int8))._where  # type: ignore[arg-type]
    assert "evidence on days without hashes" in caplog.text
    (folder / "meta.json").write_text(json.dumps(meta))
    harm(folder)
    with pytest.raises(DataError, match="touches: other bytes"):
        Execution(None, config, label=lambda tape: np.zeros(len(tape.rows), np.int8))._where  # type: ignore[arg-type]


def test_a_tape_without_its_meta_is_told_as_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "meta.json").unlink()
    assert check.main(["--tape", str(folder)]) == 2
    assert "not a tape: meta.json is missing" in capsys.readouterr().err
