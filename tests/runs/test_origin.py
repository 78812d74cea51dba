"""Where a judged model comes from is written with its evaluation, so that it is known wherever report and folder lie."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import fakes
import pytest

from emp_gym.agents import registry
from emp_gym.cli import evaluate, leaderboard, train
from emp_gym.runs.run_folder import RunFolder
from emp_gym.types import DataError

fakes.register()
SMALL = ["agent.batch_size=256", "agent.n_epochs=1", "agent.threads=1", "agent.layers=[16]", "env.days=40", "evaluation.episodes=4"]


@pytest.fixture(autouse=True)
def fake_baselines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.BASELINES, "fake-lob-v0", ("hold",))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds, not judged."""
    folder = tmp_path_factory.mktemp("series") / "three"
    words = ["--env", "fake-lob-v0", "--total-timesteps", "512", "--num-envs", "32", "--seeds", "3", "--no-evaluation"]
    assert train.main([*words, "--run-dir", str(folder), "--set", *SMALL]) == 0
    return folder


@pytest.fixture
def three(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "three"))


def edited(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def judged(run: Path, report: Path, *more: str) -> list[str]:
    """Cautions of its evaluation."""
    assert evaluate.main(["--run", str(run), "--report", str(report), *more]) == 0
    return list(json.loads((report / "evaluation.json").read_text())["preface"]["cautions"])


def board(*folders: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert leaderboard.main([*map(str, folders), "--markdown"]) == 0
    return capsys.readouterr().out


def test_the_lucky_seed_is_known_wherever_its_report_lies(three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judged(three / "seed-0", tmp_path / "elsewhere" / "lucky")
    assert "1 OF 3 SEEDS (seed 0)" in board(tmp_path / "elsewhere", capsys=capsys)


def test_a_seed_that_left_its_folder_knows_of_how_many_it_is_one(three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = shutil.copytree(three / "seed-2", tmp_path / "alone" / "lucky")
    shutil.rmtree(three)
    assert any(text.startswith("one seed (2) of 3;") for text in judged(alone, alone))
    assert "1 OF 3 SEEDS (seed 2)" in board(tmp_path / "alone", capsys=capsys)
    edited(alone / "provenance.json", series=None, trained_as={})
    assert not any("one seed" in text for text in judged(alone, alone)), "of a run of an earlier version nobody knows"


def test_an_evaluation_that_was_edited_is_named(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judged(three, three)
    assert "EDITED" not in board(three, capsys=capsys)
    told = json.loads((three / "evaluation.json").read_text())
    agent = told["results"][told["agent"]]
    agent["pnl_by_window"] = [[value + 5_000 for value in seed] for seed in agent["pnl_by_window"]]
    (three / "evaluation.json").write_text(json.dumps(told))
    assert "EDITED: its evaluation.json is not as it was written" in board(three, capsys=capsys)


def test_a_record_that_was_edited_proves_nothing_nor_does_what_goes_on_from_it(three: Path, tmp_path: Path) -> None:
    run = RunFolder(three / "seed-0")
    assert run.trained_on() == []  # the environment here has no days
    span = {"identity": "i", "content": "c", "symbol": "A", "date": "2001-01-01", "first_row": 0, "last_row": 9, "split": "train"}
    edited(run.path / "provenance.json", trained_on=[span])
    with pytest.raises(DataError, match="edited after the run wrote it"):
        run.trained_on()
    assert any("NOT SHOWN TO BE HELD OUT" in text for text in judged(run.path, tmp_path / "report"))
    run.write_json("provenance.json", run.record | {"versions": {}})  # written again, with a seal that fits
    with pytest.raises(DataError, match="edited after the run wrote it"):
        run.trained_on()


def test_seeds_that_were_struck_from_the_list_are_missed(three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edited(three / "seeds.json", seeds=[0, 1])
    assert any(text.startswith("2 seeds (0, 1) of 3;") for text in judged(three, three))
    assert "2 OF 3 SEEDS (seeds 0, 1)" in board(three, capsys=capsys)


def test_one_run_is_not_several_seeds(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edited(three / "seeds.json", seeds=[0, 0, 0])
    assert evaluate.main(["--run", str(three)]) == 2
    assert "a seed is there twice, got [0, 0, 0]" in capsys.readouterr().err
    (three / "seeds.json").unlink()
    shutil.rmtree(three / "seed-1")
    shutil.copytree(three / "seed-0", three / "seed-1")
    edited(three / "seed-1" / "config.json", seed=1)
    assert evaluate.main(["--run", str(three)]) == 2
    assert "one run is not several" in capsys.readouterr().err


def test_seeds_judged_on_fewer_windows_are_seeds_all_the_same(three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        folder = shutil.copytree(three / f"seed-{seed}", tmp_path / "runs" / "abc"[seed])
        edited(folder / "provenance.json", series=[seed])  # trained one by one
        judged(folder, folder, *(["--episodes", "2"] if seed else []))
    text = board(tmp_path / "runs", capsys=capsys)
    assert "1 OF 3 SEEDS (seed 0)" in text and "2 OF 3 SEEDS (seeds 1, 2)" in text


def test_a_configuration_edited_after_training_is_not_believed(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = three / "seed-0"
    config = json.loads((run / "config.json").read_text())
    honest = judged(run, run)
    edited(run / "config.json", seed=7, env={**config["env"], "days": 41})
    (told,) = set(judged(run, run)) - set(honest)
    assert "judged otherwise than trained: days 41 (trained with 40)" in told and "seed 7 (trained with 0)" in told
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert evaluation["run"]["training_seeds"] == [0] and evaluation["run"]["settings"]["days"] == 41
    assert "seed 7 (trained with 0)" in board(run, capsys=capsys)
    assert train.main(["--resume", str(run), "--total-timesteps", "2048", "--no-evaluation"]) == 2
    assert "was edited since the run began: seed 7 (trained with 0); env.days 41 (trained with 40)" in capsys.readouterr().err


def test_the_evaluation_of_an_earlier_model_is_called_so(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = three / "seed-0"
    honest = judged(run, run)
    assert "STALE" not in board(run, capsys=capsys)
    assert train.main(["--resume", str(run), "--total-timesteps", "2048", "--no-evaluation"]) == 0
    assert f"the report and evaluation.json in {run} are of an earlier model; judge again:" in capsys.readouterr().err
    for name in ("report.md", "report.html"):
        assert (run / name).read_text().count("this report is of an earlier model") == 1
    assert "STALE: judged before the model that lies here; judge again" in board(run, capsys=capsys)
    assert judged(run, run) == honest
    assert "STALE" not in board(run, capsys=capsys) and "earlier model" not in (run / "report.md").read_text()


def test_a_report_goes_into_no_folder_of_another_run(three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slips = [(["--run", three / "seed-0"], three / "seed-1"), (["--run", three / "seed-0"], three), (["--run", three], three / "seed-1")]
    for who, where in [*slips, (["--env", "fake-lob-v0", "--agent", "hold"], three / "seed-1")]:
        assert evaluate.main([*map(str, who), "--report", str(where)]) == 2
        whose = "the runs of several seeds" if where == three else "the run of ppo on fake-lob-v0, seed 1"
        assert f"this folder is that of {whose}" in capsys.readouterr().err
        assert not (where / "evaluation.json").exists()


def test_a_report_above_other_runs_hides_none_of_them(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = three.parent
    assert evaluate.main(["--env", "fake-lob-v0", "--agent", "random", "--set", "env.days=40", "--report", str(root)]) == 0
    judged(three, three)
    text = board(root, capsys=capsys)
    assert "\n| ppo" in text and "\n| random" in text


def test_a_walk_forward_is_called_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fold = tmp_path / "walk" / "fold-0" / "run"
    fold.mkdir(parents=True)
    (tmp_path / "walk" / "walk_forward.json").write_text("{}")
    (fold / "config.json").write_text('{"env_id": "emp-lob-v0", "agent_name": "ppo", "seed": 0}')
    assert leaderboard.main([str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "a walk-forward: each fold is another model" in told and "fold-0" not in told
