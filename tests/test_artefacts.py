"""What an earlier version wrote still opens, and gives the same figures to the bit."""

from __future__ import annotations

import json
import math
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emp_gym.cli import evaluate, train
from emp_gym.evaluation import runlog
from emp_gym.governance.diary.diary import DiaryReader
from emp_gym.governed.diary_replay import replay

ARTEFACTS = Path(__file__).parent / "artefacts"


@pytest.fixture
def opened(tmp_path, monkeypatch, root):
    """Unpacks an archive by its name; the current folder is the checkout's root."""
    monkeypatch.chdir(root)

    def unpack(name: str) -> Path:
        with tarfile.open(ARTEFACTS / f"{name}.tar.xz") as archive:
            archive.extractall(tmp_path, filter="data")
        return tmp_path / name

    return unpack


def same(a: Any, b: Any) -> bool:
    """Equal JSON, where what is no number is one thing."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() <= b.keys() and all(same(a[key], b[key]) for key in a)  # a later version may say more
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b or (isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b))


@pytest.mark.parametrize("name", ["ppo", "muzero"])
def test_a_model_is_judged_as_it_was_beside_every_baseline(name, opened, capsys):
    run = opened(name)
    assert evaluate.main(["--run", str(run), "--json"]) == 0
    now, then = json.loads(capsys.readouterr().out), json.loads((run / "evaluation.json").read_text())
    assert then["results"].keys() == now["results"].keys() and name in then["results"]
    for label, row in then["results"].items():
        assert same(row, now["results"][label]), label
    assert same({"windows": then["windows"], "days": then["days"]}, now)


def test_a_run_goes_on_from_its_checkpoint_and_begins_new_episodes_where_lanes_are_laid_out_otherwise(opened, caplog):
    run = opened("ppo")
    before = (run / "model.safetensors").read_bytes()
    assert train.main(["--resume", str(run), "--total-timesteps", "768", "--no-evaluation"]) == 0
    assert (run / "checkpoints" / "000000000768").is_dir()
    assert (run / "model.safetensors").read_bytes() != before
    assert (run / "curves.csv").read_text().splitlines()[-1].startswith("768,")
    assert "another version of this package: new episodes begin" in caplog.text


def test_a_run_log_is_read_and_recording_again_gives_its_tables(opened, tmp_path):
    kept, again = opened("runlog"), tmp_path / "again"
    then = {path.name: runlog.load(path) for path in kept.iterdir()}
    assert then.keys() == {"random", "symmetric"}
    assert evaluate.main([
        "--env", "emp-lob-market-making-v0", "--agent", "random", "--data", "synthetic:rows=2000", "--episodes", "4",
        "--risk", "configs/limits/strict.yaml", "--log", str(again), "--set", "env.episode=8 decisions", "env.latency_ns=1000000",
        "env.every=50 messages", "evaluation.baselines=[symmetric]",
    ]) == 0  # fmt: skip
    for name, log in then.items():
        now = runlog.load(again / name)
        for what, values in log.episodes.items():
            assert np.array_equal(values, now.episodes[what], equal_nan=True), f"{name}: {what}"
        for table, rows in log.tables.items():
            assert len(rows) == len(now.tables[table]), f"{name}: {table}"
            for column in rows.dtype.names:
                assert rows[column].tobytes() == now.tables[table][column].tobytes(), f"{name}: {table}.{column}"


def test_every_run_of_a_diary_replays_to_the_bit(opened):
    with DiaryReader(opened("diary")) as reader:
        found = [replay(reader, run.number) for run in reader.runs()]
    assert [(each.difference, each.played_back, each.whole) for each in found] == [(None, (), True)] * 4
    assert [each.decisions for each in found] == [81, 90, 90, 20]
