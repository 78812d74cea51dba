"""``diary.py`` as a user meets it: the table, filters, sums, exports, the replay, and errors as one line."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys

import numpy as np
import pytest

from emp_gym.experiments.browsing import FIELDS
from emp_gym.experiments.commands.diary import main
from emp_gym.governance.diary import DiaryReader
from emp_gym.governance.diary_blocks import MASKED
from tests.governance.diaries import RISK, WEIGHTS, blocks, diary_log, drive, forged, vector


@pytest.fixture(scope="module")
def folder(tmp_path_factory, root):
    """Two runs; the last has regimes, objections, masked actions and a note."""
    folder = tmp_path_factory.mktemp("governed")
    with pytest.MonkeyPatch.context() as patch, diary_log(folder) as log:
        patch.chdir(root)
        first = vector(log, "emp-lob-market-making-v0")
        drive(first, 5)
        first.close()
        gates = [RISK | {"masks": True}]
        kept = {"policy": ("ppo", WEIGHTS), "regime": lambda tapes: tapes.regime}
        env = vector(log, lanes=4, gates=gates, episode="25 decisions", autoreset_mode="SameStep", kept=kept)
        env.reset(seed=1)
        env.diary.note(2, "wide spread [wait]")
        drive(env, 60)
        env.close()
    return folder


@pytest.fixture
def ask(folder, capsys):
    def said(*words: str, status: int = 0) -> str:
        assert main([str(folder), *words]) == status
        return capsys.readouterr().out

    return said


def test_the_table_fits_a_hundred_columns_and_explains(ask, folder, monkeypatch):
    from rich.console import Console

    monkeypatch.setattr("emp_gym.experiments.commands.diary.console", lambda: Console(width=100))
    text = ask("--show", "9")
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "emp-lob-v0, 4 lanes; 60 steps, 240 decisions" in text and "ppo abababababab" in text
    assert "[wait]" in text and "--since STEP" in text
    assert "no decision is like that" in ask("--since", "9999")


def rows(ask, *words: str) -> list[dict]:
    return json.loads(ask("--json", "--show", "10000", *words))["decisions"]


def test_filters_leave_what_was_asked_for(ask):
    every = rows(ask)
    assert len(every) == 240 and set(every[0]) == set(FIELDS)
    for words, keeps in (
        (("--lane", "1", "3"), lambda r: r["lane"] in (1, 3)),
        (("--since", "10", "--until", "12"), lambda r: 10 <= r["step"] <= 12),
        (("--fills-only",), lambda r: r["lots"] > 0),
        (("--regime", every[0]["regime"]), lambda r: r["regime"] == every[0]["regime"]),
        (("--reason", "position"), lambda r: "position" in r["reasons"].split()),
        (("--reason", "masked"), lambda r: r["masked"]),
        (("--reason", "(none)"), lambda r: r["reasons"] == ""),
    ):
        wanted = [row for row in every if keeps(row)]
        assert rows(ask, *words) == wanted, words
        assert (0 < len(wanted) < len(every)) or words[1:] == ("position",), words


def test_sums_agree_with_the_blocks(ask, folder):
    found = json.loads(ask("--summary", "--json"))
    every = blocks(folder)
    total = found["total"]
    assert total["decisions"] == sum(len(block.decisions) for block in every) == 240
    assert total["orders"] == sum(len(block.orders) for block in every)
    assert total["objections"] == sum(len(block.objections) for block in every)
    assert total["lots"] == sum(block.fills["quantity"].sum() for block in every)
    assert total["pnl"] == pytest.approx(sum(block.decisions["pnl2"].sum() for block in every) / 2e8)
    masked = sum(((block.decisions["flags"] & MASKED) != 0).sum() for block in every)
    assert found["by_reason"]["masked"]["decisions"] == masked > 0
    for column in total:
        assert sum(sums[column] for sums in found["by_regime"].values()) == pytest.approx(total[column])
    text = ask("--summary")
    assert "reason" in text and "regime" in text and "240" in text


def test_csv_holds_every_decision(ask, tmp_path):
    assert "240 decisions" in ask("--export", str(tmp_path / "all.csv"))
    with (tmp_path / "all.csv").open(newline="", encoding="utf-8") as stream:
        found = list(csv.DictReader(stream))
    assert list(found[0]) == list(FIELDS)
    for written, row in zip(found, rows(ask), strict=True):
        assert written == {name: str(value) for name, value in row.items()}
    assert float(found[5]["reward"]) == rows(ask)[5]["reward"], "floats come back to the bit"
    assert not list(tmp_path.glob("*.tmp"))


def test_parquet_says_what_to_install_where_it_cannot(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main([str(folder), "--export", str(tmp_path / "all.parquet")]) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1 and "pip install -c constraints.txt -e '.[parquet]'" in told


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed (extra: parquet)")
def test_parquet_holds_every_decision(ask, tmp_path):
    import pyarrow.parquet

    ask("--export", str(tmp_path / "all.parquet"))
    assert pyarrow.parquet.read_table(tmp_path / "all.parquet").to_pylist() == rows(ask)


def test_a_replay_says_whether_it_is_the_same(ask, folder, tmp_path, monkeypatch, root, capsys):
    monkeypatch.chdir(tmp_path)  # the limits are in the diary, not in a file that may have changed
    assert "240 decisions replayed, every bit the same" in ask("--replay")
    with DiaryReader(folder) as reader:
        first = reader.runs()[0].number
    assert json.loads(ask("--replay", "--json", "--run", str(first)))["identical"]

    def changed(found):
        found[-1].decisions["reward"][7] = np.nextafter(found[-1].decisions["reward"][7], 9e9)

    forged(folder, tmp_path / "forged", changed)
    assert main([str(tmp_path / "forged"), "--replay"]) == 1
    assert "reward is" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--reason", "positon"), "near: position"), (("--regime", "calm"), "did you mean 'calm"),
        (("--run", "77"), "no run 77"), (("--show", "-1"), "expected 0 or more"),
        (("--export", "all.xlsx"), ".csv or .parquet"), (("--export", "/nowhere/all.csv"), "cannot be written"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_line(words, text, folder, capsys):
    assert main([str(folder), *words]) == 2
    told = capsys.readouterr()
    assert text in told.err and len(told.err.splitlines()) == 1 and told.out == ""


def test_a_folder_without_a_diary_is_one_line(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "no such log" in capsys.readouterr().err
