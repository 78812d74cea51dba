"""``evolve.py`` as a user has it: what it leaves, going on, kills at any time, errors as one line."""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from searchable import DIAL, TABLE, Fumbling

from emp_gym.cli import evolve
from emp_gym.search import store
from emp_gym.search.driver import Search
from emp_gym.training import executors
from emp_gym.types import ConfigError

ENV = "emp-almgren-chriss-v0"
SMALL = ["--trials", "6", "--population", "2", "--budget", "400", "--seeds", "1", "--episodes", "8"]


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(TABLE))
    return path


def begin(folder: Path, space: Path, *more: str) -> int:
    return evolve.main(["--env", ENV, "--agent", DIAL, "--space", str(space), *SMALL, "--final-seeds", "2", "--out", str(folder), *more])


def test_a_search_leaves_what_it_promises(tmp_path: Path, space: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "study"
    assert begin(folder, space) == 0
    out, err = capsys.readouterr()
    assert {"journal.log", "cells", "report.md", "report.html", "front.png", "search.json", "champion.yaml", "final.json"} <= {
        path.name for path in folder.iterdir()
    }
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pickle", ".tmp")]
    best = Search.load(folder).champion()
    said = " ".join(out.split())  # wherever a terminal of this width folds it
    assert f"Champion: trial {best.number}" in said and "optuna-dashboard" in said and "on test" in said
    rows = [line.split() for line in err.splitlines() if line.split()[1:2] and line.split()[1] in ("complete", "pruned", "failed")]
    assert sorted(int(row[0]) for row in rows) == list(range(6)), "a row for each trial, as they finish"
    told = yaml.safe_load((folder / "champion.yaml").read_text())
    assert told["agent"]["share"] == best.genome["agent.share"] and told["agent_name"] == DIAL


def test_a_study_that_was_told_not_to_look_at_the_test_does_not_when_it_goes_on(
    tmp_path: Path, space: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "study"
    assert begin(folder, space, "--final-seeds", "0", "--finalists", "0") == 0
    cells = sorted(path.name for path in (folder / "cells").iterdir())
    assert not (folder / "final.json").exists() and "The test was not looked at." in " ".join(capsys.readouterr().out.split())
    assert evolve.main(["--resume", str(folder)]) == 0
    assert not (folder / "final.json").exists(), "no look at the test"
    assert sorted(path.name for path in (folder / "cells").iterdir()) == cells, "no finalist, and nothing else, was trained"
    assert evolve.main(["--resume", str(folder), "--final-seeds", "1"]) == 0
    assert "The test was looked at once." in " ".join(capsys.readouterr().out.split())
    assert Search.load(folder).study.user_attrs["final_seeds"] == 1, "what was asked for last is kept"
    assert evolve.main(["--resume", str(folder), "--final-seeds", "2"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "The test was looked at 2 times" in said and "only the first look was fresh" in said
    assert said.index("looked at 2 times") < said.index("on test ("), "before the figure"
    assert "but this is look 2" in (folder / "report.md").read_text() or "no Sharpe ratio" in (folder / "report.md").read_text()


def test_a_study_that_does_not_say_it_is_not_judged_unasked(tmp_path: Path, space: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As studies of earlier versions are."""
    folder = tmp_path / "study"
    assert begin(folder, space, "--final-seeds", "0") == 0
    journal = folder / "journal.log"
    journal.write_text("".join(line for line in journal.read_text().splitlines(True) if "final_seeds" not in line))
    capsys.readouterr()
    assert evolve.main(["--resume", str(folder)]) == 0
    assert "to do it: --final-seeds N" in capsys.readouterr().err and not (folder / "final.json").exists()


@pytest.mark.parametrize("program", ["scripts/evolve.py", "/usr/bin/emp-evolve"])
def test_printed_commands_can_be_pasted(
    program: str, tmp_path: Path, space: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    folder = tmp_path / "a study"
    assert begin(folder, space, "--final-seeds", "0", "--finalists", "0") == 0
    lines = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines() if line.startswith(("Dashboard", "Champion:  ")))
    train = ["emp-train"] if "emp-" in program else ["python", "scripts/train.py"]
    assert shlex.split(lines["Champion"]) == [*train, "--config", str(folder / "champion.yaml")]
    assert shlex.split(lines["Dashboard"])[:2] == ["optuna-dashboard", str(folder / "journal.log")]
    assert shlex.join(["optuna-dashboard", str(folder / "journal.log")]) in (folder / "report.md").read_text()
    again = shlex.split(evolve._again(folder, evolve.parser().parse_args(["--govern", "my log", "--engine", "ray"])))
    program_words = ["emp-evolve"] if "emp-" in program else ["python", "scripts/evolve.py"]
    assert again == [*program_words, "--resume", str(folder), "--engine", "ray", "--govern", "my log"]
    with pytest.raises(ConfigError) as raised:
        store.create(folder, "again", {}, {})
    assert f"--resume {shlex.quote(str(folder))}" in str(raised.value)


def test_the_champion_goes_into_training(tmp_path: Path, space: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from emp_gym.cli import train

    assert begin(tmp_path / "study", space) == 0
    assert train.main(["--config", str(tmp_path / "study/champion.yaml"), "--run-dir", str(tmp_path / "run"), "--no-evaluation"]) == 0
    assert (tmp_path / "run" / "model.json").exists()


def test_ctrl_c_leaves_a_study_that_goes_on(
    tmp_path: Path, space: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(Fumbling):
        def map(self, function: Any, tasks: Any, *, stop: Any = None) -> Any:
            for index, result in super().map(function, tasks):
                yield index, result
                if len(self.done) == 4:
                    os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(executors, "engine", lambda *_: Interrupted())
        assert begin(tmp_path / "study", space) == 130
    err = capsys.readouterr().err
    assert "stopped by SIGINT" in err and f"to go on: python scripts/evolve.py --resume {tmp_path / 'study'}\n" in err
    assert Search.load(tmp_path / "study").study.user_attrs["final_seeds"] == 2, "the study keeps it"
    kept = len(list((tmp_path / "study" / store.CELLS).glob("*.json")))
    assert kept == 4
    assert evolve.main(["--resume", str(tmp_path / "study"), "--final-seeds", "0"]) == 0
    assert begin(tmp_path / "whole", space, "--final-seeds", "0") == 0
    assert Search.load(tmp_path / "study").records() == Search.load(tmp_path / "whole").records()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "--env is missing"),
        (["--env", "emp-almgren-chris-v0"], "did you mean emp-almgren-chriss-v0"),
        (["--env", ENV, "--agent", "hold"], "--space is missing"),
        (["--env", ENV, "--sampler", "tpe"], "no sampler is called 'tpe'"),
        (["--env", ENV, "--num-workers", "2"], "belongs to --engine"),
        (["--env", ENV, "--set", "seed=3"], "--set seed"),
        (["--env", ENV, "--set", "agent.gama=3"], "did you mean agent.gamma"),
        (["--env", ENV, "--govern", "log"], "nothing to govern"),
        (["--env", ENV, "--trials", "0"], "--trials"),
        (["--env", ENV, "--final-seeds", "-1"], "--final-seeds"),
        (["--env", ENV, "--space", "nowhere.yaml"], "nowhere.yaml"),
        (["--resume", "nowhere"], "holds no study"),
        (["--resume", "nowhere", "--budget", "5"], "--budget cannot be changed"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert evolve.main(words) == 2
    err = capsys.readouterr().err
    assert told in err.splitlines()[-1] and err.splitlines()[-1].startswith("evolve.py: ") and "Traceback" not in err
    assert not list(tmp_path.rglob(store.JOURNAL)) and not list(tmp_path.rglob("*.lock"))


def test_trials_under_governance_stand_in_the_ledger_once(tmp_path: Path) -> None:
    from emp_gym.governance.kill_switch.gate import Killed
    from emp_gym.governance.kill_switch.switch import KillSwitch
    from emp_gym.runs.config import RunConfig
    from emp_gym.search.jobs import TrainingJob
    from emp_gym.search.trial_registration import Notes

    config = RunConfig("emp-lob-v0", "ppo")
    units = [TrainingJob.of(config, seed, 100) for seed in (0, 1)]
    for _ in range(2):  # noted, cut, and begun again
        with Notes(tmp_path / "log") as notes:
            for unit in units:
                notes.note(unit)
            assert [entry.value["seed"] for entry in notes._governed.ledger.log.entries(kind="trial")] == [0, 1]
    KillSwitch.at(tmp_path / "log", clock=time.time_ns).trip("test", "enough")
    with Notes(tmp_path / "log") as notes, pytest.raises(Killed):
        notes.note(units[0])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_kill_9_at_random_moments_changes_nothing(tmp_path: Path, space: Path, root: Path) -> None:
    """Killed a random time after a random number of training runs; the end is that of a search that nobody killed."""
    rng, whole, folder, kills = random.Random(5), tmp_path / "whole", tmp_path / "killed", 0
    assert begin(whole, space, "--final-seeds", "0", "--trials", "16") == 0
    first = ["--env", ENV, "--agent", DIAL, "--space", str(space), *SMALL, "--trials", "16", "--out", str(folder)]
    env = {**os.environ, "PYTHONPATH": f"{root}:{root / 'tests'}"}
    while True:
        told = ["--resume", str(folder)] if (folder / store.JOURNAL).exists() else first
        command = [sys.executable, "scripts/evolve.py", "--final-seeds", "0", *told]
        process = subprocess.Popen(command, cwd=root, env=env)
        enough = cells_in(folder) + rng.randint(0, 8)
        while process.poll() is None and (cells_in(folder) < enough or not (folder / store.LOCK).exists()):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.02)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=rng.uniform(0, 0.3))
        if process.poll() is not None:
            break
        process.kill()
        process.wait()
        kills += 1
    assert process.returncode == 0 and kills >= 2
    kept, other = Search.load(folder), Search.load(whole)
    assert [(one.genome, one.objectives) for one in kept.records() if one.genome] == [
        (one.genome, one.objectives) for one in other.records()
    ]
    assert cells_in(folder) == cells_in(whole), "nothing is done twice under another name"


def cells_in(folder: Path) -> int:
    """Training runs that are kept."""
    return len(list((folder / store.CELLS).glob("*.json")))


def test_a_search_announces_what_it_does_where_rollouts_are_longer_than_the_budget() -> None:
    from emp_gym.cli.evolve import _steps
    from emp_gym.search.plans import SearchPlan

    table = {"agent.num_envs": {"low": 8, "high": 256}, "agent.n_steps": [32, 64]}
    study = SimpleNamespace(user_attrs={"final_seeds": 1})
    plan = SearchPlan("emp-lob-v0", trials=3, population=2, halving=1, budget=256, seeds=1, finalists=0, table=table)
    told = _steps(SimpleNamespace(plan=plan, study=study))  # 3 trials, and champion and starting point on the test: 5 runs
    assert told.startswith("1,280 environment steps if none fails") and "up to 81,920" in told and "of at most 16,384" in told
    plan = SearchPlan("emp-lob-v0", trials=3, population=2, halving=1, budget=163_840, seeds=1, finalists=0, table=table)
    assert "up to" not in _steps(SimpleNamespace(plan=plan, study=study)), "it ends where it was asked to"
    unknown = SearchPlan("emp-lob-v0", "muzero", trials=3, population=2, halving=1, finalists=0, table={})
    assert "more where a training run ends with a longer rollout" in _steps(SimpleNamespace(plan=unknown, study=study))
