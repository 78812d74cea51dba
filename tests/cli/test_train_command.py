"""The main job on a small fake environment: run folder, curves, report, pictures, resume, errors as one line."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest

from emp_gym.agents import registry
from emp_gym.agents.base import read_arrays
from emp_gym.cli import evaluate, train
from emp_gym.data.synthetic.day import DayConfig, write_day
from emp_gym.terminal.console import duration

fakes.register()
SMALL = ["agent.batch_size=256", "agent.n_epochs=2", "agent.threads=1", "agent.layers=[16]", "env.days=40"]


@pytest.fixture(autouse=True)
def fake_baselines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.BASELINES, "fake-lob-v0", ("hold", "random", "ofi-taker", "oracle"))


def run(folder: Path, *more: str, steps: str = "20000") -> int:
    words = [
        "--env",
        "fake-lob-v0",
        "--total-timesteps",
        steps,
        "--num-envs",
        "32",
        "--run-dir",
        str(folder),
        "--set",
        *SMALL,
    ]
    return train.main([*words, *more])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "one"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.BASELINES, "fake-lob-v0", ("hold", "random", "ofi-taker", "oracle"))
        assert run(folder, "--seed", "3") == 0
    return folder


def table(folder: Path) -> list[str]:
    return [line for line in (folder / "report.md").read_text().splitlines() if line.startswith("|")]


def test_a_run_leaves_what_it_promises_and_no_pickle(finished: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    names = {path.name for path in finished.iterdir()}
    assert {
        "config.json",
        "provenance.json",
        "model.json",
        "model.safetensors",
        "curves.csv",
        "evaluation.json",
    } <= names
    assert {"report.md", "learning_curve.png", "comparison.png"} <= names
    assert not [p for p in finished.rglob("*") if p.suffix in (".zip", ".pkl", ".pickle", ".pt", ".pth")]
    events = EventAccumulator(str(finished))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {
        "rollout/ep_rew_mean",
        "train/approx_kl",
        "time/fps",
        "market/pnl",
        "market/inventory",
        "market/fill_rate",
    } <= tags
    assert {"market/spread_captured", "market/fees", "market/masked"} <= tags
    first = min(event.step for event in events.Scalars("market/pnl"))
    assert first == 32 * 32, "curves begin with the first iteration"
    provenance = json.loads((finished / "provenance.json").read_text())
    assert len(provenance["data"]) == 40 and provenance["data"][0]["sha256"] == ["0" * 64]


def test_the_agent_learns_and_the_report_says_so(finished: Path) -> None:
    results = json.loads((finished / "evaluation.json").read_text())["results"]
    assert results["ppo"]["pnl"]["mean"] > results["hold"]["pnl"]["mean"] == 0
    assert results["ppo"]["ahead"] is None and results["hold"]["ahead"]["low"] is not None
    assert 0 < results["ppo"]["oracle_share"] < 1.2
    assert {line.split("|")[1].strip() for line in table(finished)} >= {"ppo", "hold", "random", "ofi-taker", "oracle"}


def test_the_same_seed_gives_the_same_table(finished: Path, tmp_path: Path) -> None:
    assert run(tmp_path / "again", "--seed", "3") == 0
    assert table(tmp_path / "again") == table(finished)
    one, other = read_arrays(finished / "model.safetensors"), read_arrays(tmp_path / "again" / "model.safetensors")
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_evaluate_repeats_the_report(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main(["--env", "fake-lob-v0", "--run", str(finished), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    kept = json.loads((finished / "evaluation.json").read_text())
    assert said["results"] == kept["results"]


def test_data_that_changed_since_training_are_told_and_not_gone_on_with(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "r"
    shutil.copytree(finished, folder)
    record = json.loads((folder / "provenance.json").read_text())
    record["data"][2] |= {"identity": "another", "content": "others", "rows": 7}
    (folder / "provenance.json").write_text(json.dumps(record))
    assert evaluate.main(["--run", str(folder), "--episodes", "5", "--json"]) == 0
    told = capsys.readouterr().err
    assert "not those of the run's record: FAKE 2030-01-03 is not the day that the run knew: 7 rows then, 2,000 now" in told
    assert train.main(["--resume", str(folder), "--total-timesteps", "30000"]) == 2
    told = capsys.readouterr().err
    assert "was trained on other data: FAKE 2030-01-03" in told and "begin a new run" in told
    assert json.loads((folder / "provenance.json").read_text()) == record, "the record is of what was learned, not of today"


def test_evaluate_fewer_episodes_of_a_named_agent(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--env", "fake-lob-v0", "--agent", "random", "--episodes", "5", "--json"]
    assert evaluate.main(words) == 0
    said = json.loads(capsys.readouterr().out)
    assert len(said["windows"]) == 5 and "random" in said["results"] and "hold" in said["results"]
    assert "too few for an interval" in said["results"]["random"]["pnl"]["note"]


def test_seeds_are_judged_together(tmp_path: Path) -> None:
    assert run(tmp_path / "two", "--seeds", "2", steps="4000") == 0
    kept = json.loads((tmp_path / "two" / "evaluation.json").read_text())
    assert kept["seeds"] == 2 and np.shape(kept["results"]["ppo"]["pnl_by_window"])[0] == 2
    assert (tmp_path / "two" / "seed-0" / "model.json").exists() and (
        tmp_path / "two" / "seed-1" / "model.json"
    ).exists()
    assert evaluate.main(["--run", str(tmp_path / "two"), "--episodes", "9"]) == 0


def test_resume_goes_on_where_it_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "r", "--no-evaluation", steps="4096") == 0
    assert train.main(["--resume", str(tmp_path / "r"), "--total-timesteps", "8192"]) == 0
    steps = [int(line.split(",")[0]) for line in (tmp_path / "r" / "curves.csv").read_text().splitlines()[1:]]
    assert steps == sorted(set(steps)) and steps[-1] == 8192
    assert (
        json.loads((tmp_path / "r" / "checkpoints" / "000000008192" / "training.json").read_text())["num_timesteps"]
        == 8192
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--env", "fake-lob-v0", "--agent", "pop"], "did you mean 'ppo'"),
        (["--env", "fake-lob-v0", "--set", "agent.gama=1"], "did you mean agent.gamma"),
        (["--env", "emp-lob-v9"], "did you mean emp-lob-v0"),
        ([], "--env is missing"),
        (["--resume", "/nowhere"], "is not a run folder"),
    ],
)
def test_errors_are_one_line_and_status_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(words) == 2
    error = capsys.readouterr().err.strip()
    assert said in error and "\n" not in error


def test_a_second_run_does_not_overwrite_the_first(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(finished) == 2
    assert "--resume" in capsys.readouterr().err


def test_an_agent_that_does_not_learn_is_judged(tmp_path: Path) -> None:
    assert train.main(["--env", "fake-lob-v0", "--agent", "hold", "--run-dir", str(tmp_path / "h")]) == 0
    assert "hold" in (tmp_path / "h" / "report.md").read_text()


def test_the_tables_fit_a_terminal_of_80_columns(finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert evaluate.main(["--env", "fake-lob-v0", "--run", str(finished)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    rows = [line for line in lines if line.startswith(("ppo ", "hold ", "random ", "oracle ")) and "│" in line]
    assert len(rows) == 8, "two tables of four agents, a line each"
    assert all(line.count("[") == line.count("]") for line in rows), "no interval is broken in two"


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5000, "83 min"), (9000, "2.5 h")])
def test_time_left_is_told_in_a_unit_for_people(seconds: float, said: str) -> None:
    assert duration(seconds) == said


class Forgetful(fakes.Rule):
    def learn(self, make_env: Any, total_timesteps: int, callback: Any = None) -> None:
        raise AssertionError("it must be refused before it learns")


def test_a_rule_that_cannot_be_kept_is_told_the_command_that_judges_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--env", "fake-lob-v0", "--agent", "fakes:Rule"]
    assert train.main([*words, "--run-dir", str(tmp_path / "r")]) == 2 and not (tmp_path / "r").exists()
    pasted = shlex.split(capsys.readouterr().err.partition("to judge it: ")[2])
    assert pasted[:2] == ["python", "scripts/evaluate.py"] and pasted[2:] == words
    assert evaluate.main([*pasted[2:], "--episodes", "5"]) == 0


def test_who_learns_and_cannot_save_is_refused_before_it_learns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--env", "fake-lob-v0", "--agent", f"{__name__}:Forgetful", "--run-dir", str(tmp_path / "r")]) == 2
    assert "has no save(folder): what it learns could not be kept" in capsys.readouterr().err


def test_steps_beyond_those_asked_for_are_told_before_and_after(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert run(tmp_path / "r", steps="5000") == 0
    steps = json.loads((tmp_path / "r" / "evaluation.json").read_text())["run"]["total_timesteps"]
    rollout = 32 * registry.find("ppo").Config().n_steps
    assert steps == -(-5000 // rollout) * rollout > 5000
    line = f"5,000 steps asked, {steps:,} will be trained: ppo ends its last rollout, and one is {rollout:,} steps over all lanes"
    assert [record.getMessage() for record in caplog.records if "asked" in record.getMessage()] == [line]
    assert f"training: {steps:,} environment steps (5,000 asked), seed 0" in (tmp_path / "r" / "report.md").read_text()
    caplog.clear()
    assert run(tmp_path / "s", "--no-evaluation", steps=str(2 * rollout)) == 0
    assert "asked" not in caplog.text


def test_data_that_are_gone_are_told_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    days, folder = tmp_path / "days", tmp_path / "r"
    for date in ("2030-03-04", "2030-03-05"):
        write_day(days, DayConfig(seed=int(date[-1]), rows=1_500, date=date))
    words = ["--env", "emp-lob-v0", "--agent", "hold", "--data", str(days), "--set", "env.episode='5 decisions'"]
    assert train.main([*words, "--no-evaluation", "--run-dir", str(folder)]) == 0
    days.rename(tmp_path / "elsewhere")
    capsys.readouterr()
    assert evaluate.main(["--run", str(folder)]) == 2
    said = capsys.readouterr().err
    assert f"{folder}: the run's data are not there any more ({days}); say where they are now: --data NEW_PLACE" in said
    assert evaluate.main(["--run", str(folder), "--data", str(tmp_path / "elsewhere"), "--json"]) == 0
    assert evaluate.main(["--run", str(folder), "--data", str(tmp_path / "nowhere")]) == 2
    assert "nowhere: no such file or folder; give a LOBSTER day" in capsys.readouterr().err
    assert train.main(["--resume", str(folder), "--total-timesteps", "99"]) == 2
    assert f"the run's data are not there any more: put them back at {days}" in capsys.readouterr().err
