"""Work that is spread gives the same to the bit: seeds of a training, a judgement, certificates, cells of the benchmark."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emp_gym.cli import benchmark, check, evaluate, train
from emp_gym.runs import backtest
from emp_gym.runs.config import EvaluationConfig, RunConfig
from emp_gym.runs.evaluation_setup import EvaluationSetup
from emp_gym.runs.run_folder import RunFolder
from emp_gym.studies import suite
from emp_gym.training import certify, distributed
from emp_gym.training.executors import Executor, Local, TaskFailed, engine

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
DATA = "synthetic:rows=6000"
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
TRAIN = ["--env", "emp-lob-v0", "--data", DATA, "--total-timesteps", "2048", "--num-envs", "64", "--seeds", "2", "--set",
         "agent.n_steps=16", "agent.batch_size=256", "agent.n_epochs=2", "agent.layers=[16]", "evaluation.episodes=3",
         "evaluation.baselines=[hold, random]"]  # fmt: skip


@pytest.fixture(scope="module")
def processes() -> Iterator[Executor]:
    with engine("processes", 2) as where:
        yield where


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds, trained one after another and judged here."""
    root = tmp_path_factory.mktemp("alone") / "run"
    assert train.main([*TRAIN, "--run-dir", str(root)]) == 0
    return root


def same_runs(one: Path, other: Path) -> None:
    for seed in ("seed-0", "seed-1"):
        weights = [(root / seed / "model.safetensors").read_bytes() for root in (one, other)]
        assert weights[0] == weights[1], f"{seed}: the weights differ"
        curves = [(root / seed / "curves.csv").read_text().splitlines() for root in (one, other)]
        keep = [i for i, name in enumerate(curves[0][0].split(",")) if not name.startswith("time/")]
        rows = [[[row.split(",")[i] for i in keep] for row in each] for each in curves]
        assert rows[0] == rows[1]
    judged = [json.loads((root / "evaluation.json").read_text()) for root in (one, other)]
    for each in judged:
        each["run"] = {name: value for name, value in each["run"].items() if "seconds" not in name}
        assert each.pop("seal")  # of the seconds, too
    assert judged[0]["run"] == judged[1]["run"]
    assert judged[0] == judged[1]


def test_seeds_in_processes_are_the_seeds_one_after_another(alone: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    assert train.main([*TRAIN, "--run-dir", str(root), "--engine", "processes", "--num-workers", "2"]) == 0
    same_runs(alone, root)


@needs_ray
@pytest.mark.slow
def test_seeds_on_ray_are_the_seeds_one_after_another(alone: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    assert train.main([*TRAIN, "--run-dir", str(root), "--engine", "ray", "--num-workers", "2"]) == 0
    same_runs(alone, root)
    with engine("ray", 2) as where:
        runs = [RunFolder.open(root / f"seed-{seed}") for seed in (0, 1)]
        same_judgement(runs, where)
        (found,) = certify.certify_all(certify.attempts("random", "emp-ladder-noise-v0", [0, 1]), where)
        assert found.runs == certify.certify("random", "emp-ladder-noise-v0", [0, 1]).runs


def same_judgement(runs: list[RunFolder], where: Executor) -> None:
    from emp_gym.training import train as training

    config = runs[0].config
    agents = [training.load(run, config.env_id, config.env, "test") for run in runs]
    one, logs, baselines = backtest.judge(EvaluationSetup(config, agents), record=True)
    two, other_logs, other_baselines = distributed.judging(where)(EvaluationSetup(config, runs=runs), record=True)
    assert [row.name for row in one.rows] == [row.name for row in two.rows] and one.agent.pnl == two.agent.pnl
    for mine, theirs in zip([*logs, *baselines.values()], [*other_logs, *other_baselines.values()], strict=True):
        assert mine.config == theirs.config
        assert all(np.array_equal(mine.episodes[name], theirs.episodes[name]) for name in mine.episodes)
        assert mine.tables.keys() == theirs.tables.keys()


def test_a_judgement_in_processes_is_the_judgement_here(alone: Path, processes: Executor) -> None:
    same_judgement([RunFolder.open(alone / f"seed-{seed}") for seed in (0, 1)], processes)


def test_an_agent_by_name_is_judged_elsewhere_too() -> None:
    config = RunConfig(agent_name="ofi-taker", env={"data": DATA}, evaluation=EvaluationConfig(episodes=2, baselines=("hold", "oracle")))
    found, logs, baselines = distributed.judging(Local())(EvaluationSetup(config))
    expected = backtest.judge(EvaluationSetup(config, [distributed.named(config)]))
    assert found.agent.pnl == expected[0].agent.pnl and set(baselines) == set(expected[2]) and found.skipped == expected[0].skipped
    assert len(logs) == 1


def test_certificates_in_processes_are_those_one_after_another(processes: Executor) -> None:
    ids = ["emp-ladder-noise-v0", "emp-ladder-trend-v0"]
    asked = [one for env_id in ids for one in certify.attempts("random", env_id, [0, 1])]
    found = {certificate.env_id: certificate for certificate in certify.certify_all(asked, processes)}
    assert sorted(found) == ids
    for env_id, certificate in found.items():
        mine = replace(certify.certify("random", env_id, [0, 1]), seconds=0.0)
        assert replace(certificate, seconds=0.0) == mine


def test_a_failing_seed_is_named(processes: Executor) -> None:
    asked = [replace(one, parameters={"no": 1}) for one in certify.attempts("ppo", "emp-ladder-noise-v0", [7])]
    with pytest.raises(TaskFailed, match=r"ppo on emp-ladder-noise-v0, seed 7.*no parameter 'no'"):
        list(processes.map(certify.attempt, asked))


def test_cells_in_processes_are_the_cells_here(processes: Executor, tmp_path: Path) -> None:
    plan = suite.SuitePlan(("random",), seeds=2, certificates=("emp-ladder-noise-v0",), markets=("emp-lob-v0",), days=(DATA,), episodes=2)
    here, there = suite.run(plan, tmp_path / "here"), suite.run(plan, tmp_path / "there", where=processes)
    assert list(here) == list(there)
    vary = ("wall_seconds", "seconds")

    def kept(told: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in told.items() if name not in vary}

    assert [kept(told) for told in here.values()] == [kept(told) for told in there.values()]


@pytest.mark.parametrize(
    ("command", "line", "words"),
    [
        (train.main, ["--env", "emp-lob-v0", "--num-workers", "2"], "--num-workers belongs to --engine"),
        (train.main, ["--env", "emp-lob-v0", "--engine", "processes", "--govern", "x"], "leave out --engine"),
        (evaluate.main, ["--env", "emp-lob-v0", "--agent", "hold", "--ray-address", "x:1"], "--ray-address belongs to --engine"),
        (evaluate.main, ["--env", "emp-lob-v0", "--agent", "hold", "--engine", "processes", "--ray-address", "x"], "engine ray"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(command: Any, line: list[str], words: str, capsys: Any) -> None:
    assert command(line) == 2
    assert words in capsys.readouterr().err


def test_an_engine_belongs_to_certificates_and_to_agents(capsys: Any) -> None:
    for command, line in ((check.main, ["--agent", "hold"]), (benchmark.main, ["parse"])):
        with pytest.raises(SystemExit):
            command([*line, "--engine", "processes"])
        assert "--engine belongs to" in capsys.readouterr().err


@pytest.mark.slow
def test_a_third_partys_agent_goes_the_whole_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Trained, judged and certified by module:Class, in processes that find it where this one does."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    run = tmp_path / "run"
    line = ["--env", "emp-lob-v0", "--data", DATA, "--agent", "sb3_agents:A2C", "--total-timesteps", "2048", "--seeds", "2",
            "--set", "evaluation.episodes=2", "evaluation.baselines=[hold]"]  # fmt: skip
    two = ["--engine", "processes", "--num-workers", "2"]
    assert train.main([*line, "--run-dir", str(run), *two, "--no-evaluation"]) == 0
    capsys.readouterr()
    assert evaluate.main(["--run", str(run), "--json", *two]) == 0
    told = json.loads(capsys.readouterr().out)
    assert evaluate.main(["--run", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == told
    check.main(["--certify", "--agent", "sb3_agents:A2C", "--only", "emp-ladder-trend-v0", "--seeds", "1", "--total-timesteps", "1024",
                "--json"])  # fmt: skip
    assert json.loads(capsys.readouterr().out)["emp-ladder-trend-v0"]["env_steps"] == 1024


@pytest.mark.slow
def test_asked_to_stop_all_seeds_save_where_they_stand(tmp_path: Path) -> None:
    """SIGINT to the command alone, as soon as both seeds have done a rollout."""
    where = Path(__file__).parents[2]
    run = [sys.executable, str(where / "scripts" / "train.py")]
    line = [*TRAIN[:5], "2000000", *TRAIN[6:], "checkpoints=1", "--run-dir", str(tmp_path / "run"), "--no-evaluation"]
    with (tmp_path / "said").open("w") as said:
        command = subprocess.Popen([*run, *line, "--engine", "processes", "--num-workers", "2"], stderr=said, cwd=where,
                                   env={**os.environ, "PYTHONPATH": str(where)})  # fmt: skip
        while (tmp_path / "said").read_text().count(" steps/s") < 2:
            assert command.poll() is None, (tmp_path / "said").read_text()
            time.sleep(0.05)
        command.send_signal(signal.SIGINT)
        assert command.wait(120) == 130
    told = (tmp_path / "said").read_text()
    assert "seeds done: none" in told
    again = shlex.split(told[told.index("to go on: ") + len("to go on: ") :])
    assert "--engine" in again and "--resume" in again
    reached = [int(max((tmp_path / "run" / f"seed-{seed}" / "checkpoints").iterdir()).name) for seed in (0, 1)]
    assert all(1024 <= steps < 2_000_000 for steps in reached), "each has saved where it stood"
