"""``diary.py`` as a user meets it: the table, filters, sums, exports, the replay, and errors as one line."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from emp_gym.cli.diary import main
from emp_gym.governance.diary.blocks import MASKED, TERMINATED, TRUNCATED
from emp_gym.governance.diary.diary import DiaryReader
from emp_gym.governed.diary_query import FIELDS
from tests.governance.diaries import RISK, WEIGHTS, blocks, diary_log, drive, forged, vector
from tests.governance.logs import create


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


def test_tables_fit_eighty_columns_and_explain(ask, folder, monkeypatch):
    from rich.console import Console

    monkeypatch.setattr("emp_gym.cli.diary.console", lambda: Console(width=100))
    text = ask("--show", "9")
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "emp-lob-v0, 4 lanes; 60 steps, 240 decisions" in text and "ppo abababababab" in text
    assert "[wait]" in text and "--since STEP" in text
    monkeypatch.setattr("emp_gym.cli.diary.console", lambda: Console(width=80))
    for words in (["--runs"], ["--show", "9"], ["--summary"]):
        assert max(len(line) for line in ask(*words).splitlines()) <= 80, words


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
        (("--reason", "masked"), lambda r: r["masked"]),
        (("--reason", "(none)"), lambda r: r["reasons"] == ""),
    ):
        wanted = [row for row in every if keeps(row)]
        assert rows(ask, *words) == wanted, words
        assert 0 < len(wanted) < len(every), words


def test_a_reason_of_a_gate_is_found(tmp_path, capsys, monkeypatch, root):
    monkeypatch.chdir(root)
    with diary_log(tmp_path) as log:
        env = vector(log, gates=[RISK])
        drive(env, 40)
        env.close()
    found = {}
    for words in ((), ("--reason", "position")):
        assert main([str(tmp_path), "--json", "--show", "1000", *words]) == 0
        found[words] = json.loads(capsys.readouterr().out)["decisions"]
    wanted = [row for row in found[()] if "position" in row["reasons"].split()]
    assert found["--reason", "position"] == wanted and 0 < len(wanted) < len(found[()])


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


def test_the_summary_says_what_comes_of_episodes_that_are_not_over(ask, folder, monkeypatch):
    """60 steps of episodes of 25 decisions: each lane is left with one that is not over."""
    open_, pnl2 = {}, {}
    for block in blocks(folder):
        for row in block.decisions:
            lane = int(row["lane"])
            open_[lane], pnl2[lane] = open_.get(lane, 0) + 1, pnl2.get(lane, 0) + int(row["pnl2"])
            if row["flags"] & (TERMINATED | TRUNCATED):
                open_[lane] = pnl2[lane] = 0
    found = json.loads(ask("--summary", "--json"))
    assert found["unfinished_episodes"] == len([lane for lane in open_ if open_[lane]]) > 0
    assert found["unfinished"]["decisions"] == sum(open_.values()) < found["total"]["decisions"]
    assert found["unfinished"]["pnl"] == pytest.approx(sum(pnl2.values()) / 2e8)
    monkeypatch.setenv("COLUMNS", "80")
    text = ask("--summary")
    assert "of it unfinished" in text and f"{found['unfinished']['pnl']:,.2f}" in text
    assert f"P&L includes {found['unfinished_episodes']} episode" in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_a_summary_of_whole_episodes_says_nothing_of_others(tmp_path, capsys, monkeypatch, root):
    monkeypatch.chdir(root)
    with diary_log(tmp_path) as log:
        env = vector(log, lanes=2, autoreset_mode="Disabled")
        drive(env, 12)
        env.close()
    assert main([str(tmp_path), "--summary"]) == 0
    assert "unfinished" not in capsys.readouterr().out


def test_the_list_of_runs_counts_from_the_oldest(ask):
    first, second = json.loads(ask("--runs", "--json"))["runs"]
    assert (first["run"], first["env"], first["lanes"]) == (0, "emp-lob-market-making-v0", 3)
    assert (second["run"], second["decisions"], second["policy"]) == (1, 240, "ppo")
    assert first["entry"] == 0 < second["entry"], "entries of the log have numbers of their own"
    text = ask("--runs")
    assert "emp-lob-market-making-v0" in text and "run 0 is the oldest" in text
    assert json.loads(ask("--json", "--run", "0", "--show", "1"))["run"] == 0


def test_nothing_found_is_said_with_what_there_is(ask, folder, tmp_path, capsys):
    empty = {"run": 1, "decisions": [], "more": False}
    assert json.loads(ask("--json", "--reason", "notional", status=1)) == empty
    for words in ([], ["--summary"], ["--export", str(tmp_path / "none.csv")]):
        capsys.readouterr()
        assert main([str(folder), "--reason", "stressed", *words]) == 2, "that is no reason at all"
        assert main([str(folder), "--reason", "notional", *words]) == 1
        told = capsys.readouterr()
        assert told.out == "" and "240 decisions in lanes 0 to 3; its reasons:" in told.err
    assert not list(tmp_path.iterdir())


def test_csv_holds_every_decision(ask, tmp_path):
    assert "240 decisions" in ask("--export", str(tmp_path / "all.csv"))
    with (tmp_path / "all.csv").open(newline="", encoding="utf-8") as stream:
        found = list(csv.DictReader(stream))
    assert list(found[0]) == list(FIELDS)
    for written, row in zip(found, rows(ask), strict=True):
        assert written == {name: str(value) for name, value in row.items()}
    assert float(found[5]["reward"]) == rows(ask)[5]["reward"], "floats come back to the bit"
    assert not list(tmp_path.glob("*.tmp"))


def test_parquet_holds_every_decision(ask, tmp_path):
    import pyarrow.parquet

    ask("--export", str(tmp_path / "all.parquet"))
    assert pyarrow.parquet.read_table(tmp_path / "all.parquet").to_pylist() == rows(ask)


def test_a_replay_says_whether_it_is_the_same(ask, folder, tmp_path, monkeypatch, root, capsys):
    monkeypatch.chdir(tmp_path)  # the limits are in the diary, not in a file that may have changed
    assert "240 decisions replayed, every bit the same" in ask("--replay")
    with DiaryReader(folder) as reader:
        assert [run.number for run in reader.runs()] == [0, 1]
    assert json.loads(ask("--replay", "--json", "--run", "0"))["identical"]

    def changed(found):
        found[-1].decisions["reward"][7] = np.nextafter(found[-1].decisions["reward"][7], 9e9)

    forged(folder, tmp_path / "forged", changed)
    assert main([str(tmp_path / "forged"), "--replay"]) == 1
    assert "reward is" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--reason", "positon"), "near: position"), (("--regime", "calm"), "did you mean 'calm"),
        (("--run", "77"), "no run 77; there are runs 0 (the oldest) to 1"), (("--run", "-1"), "no run -1"),
        (("--show", "0"), "expected 1 or more"), (("--lane", "1", "4"), "no lane 4 in run 1; it has lanes 0 to 3"),
        (("--lane", "-1"), "no lane -1"), (("--since", "60"), "no step 60 in run 1; it has steps 0 to 59"),
        (("--until", "-1"), "no step -1"), (("--since", "9", "--until", "8"), "no step is from 9 on"),
        (("--export", "a.csv", "--summary"), "one answer at a time"), (("--replay", "--runs"), "one answer at a time"),
        (("--replay", "--lane", "0"), "--lane would do nothing"), (("--replay", "--since", "0"), "--since would"),
        (("--summary", "--show", "3"), "--show would do nothing"), (("--runs", "--run", "0"), "--run would do nothing"),
        (("--data", "x"), "--data would do nothing"), (("--export", "a.csv", "--show", "2"), "--show would"),
        (("--export", "all.xlsx"), ".csv or .parquet"), (("--export", "/nowhere/all.csv"), "cannot be written"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_line(words, text, folder, capsys):
    assert main([str(folder), *words]) == 2
    told = capsys.readouterr()
    assert text in told.err and len(told.err.splitlines()) == 1 and told.out == ""


def test_the_ledger_in_place_of_the_folder_is_named(tmp_path, capsys):
    create(tmp_path / "ledger.log").close()
    assert main([str(tmp_path / "ledger.log")]) == 2
    told = capsys.readouterr().err
    assert "this is the ledger" in told and str(tmp_path / "diary.log") in told


def test_a_diary_without_runs_says_so(tmp_path, capsys):
    diary_log(tmp_path).close()
    assert main([str(tmp_path)]) == 2 and "no run is in this diary yet" in capsys.readouterr().err
    assert main([str(tmp_path), "--runs"]) == 0 and "no run is in this diary yet" in capsys.readouterr().out


def test_a_folder_without_a_diary_is_one_line(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "no such log" in capsys.readouterr().err
