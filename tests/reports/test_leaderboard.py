"""Leaderboard: what was judged alike stands in one table; what was not stands in another, with the words by which it differs."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judged import judged, left

from emp_gym.cli import evaluate
from emp_gym.cli import leaderboard as command
from emp_gym.evaluation import intervals
from emp_gym.evaluation.reliability import iqm
from emp_gym.reports import leaderboard, leaderboard_view
from emp_gym.reports.formatting import bare, interval
from emp_gym.reports.judged_run import outermost
from emp_gym.types import DataError


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders: random (three seeds), and ofi-taker."""
    root = tmp_path_factory.mktemp("runs")
    left(judged(seeds=3), root / "random")
    left(judged(agent="ofi-taker"), root / "taker")
    return root


def changed(folder: Path, to: Path, **changes: Any) -> Path:
    """A copy of a run with other words in its evaluation; keys of "run" are found there."""
    shutil.copytree(folder, to)
    told = json.loads((to / "evaluation.json").read_text())
    for key, value in changes.items():
        (told["run"] if key in told["run"] else told)[key] = value
    (to / "evaluation.json").write_text(json.dumps(told))
    return to


def test_runs_judged_alike_stand_in_one_table(runs: Path) -> None:
    (board,) = leaderboard.boards([runs])
    rows = leaderboard.rows(board)
    assert {row.agent for row in rows} == {"random", "ofi-taker", "hold", "symmetric"}
    assert {row.agent for row in rows if row.baseline} == {"hold", "symmetric"}
    assert [row.pnl.mean for row in rows] == sorted((row.pnl.mean for row in rows), reverse=True)
    best = max((row for row in rows if row.baseline), key=lambda row: row.pnl.mean)
    assert best.improvement is None and all(row.improvement is not None for row in rows if row is not best)


def test_numbers_are_those_of_the_evaluation(runs: Path) -> None:
    (board,) = leaderboard.boards([runs / "random"])
    row = next(row for row in leaderboard.rows(board, resamples=200) if row.agent == "random")
    pnl = judged(seeds=3).comparison.agent.episodes["pnl"]
    assert row.seeds == 3 and row.pnl == judged(seeds=3).comparison.agent.pnl
    assert row.sharpe == pytest.approx(np.mean([one.mean() / one.std(ddof=1) for one in pnl]))
    told = json.loads((runs / "random" / "evaluation.json").read_text())["findings"]["measures"]["random"]
    assert row.drawdown == told["max_drawdown_currency"]["estimate"]["mean"]
    assert row.turnover == told["turnover_currency_per_episode"]["estimate"]["mean"]
    one = np.ones((1, len(board.windows)))
    assert row.sharpe == pytest.approx(np.mean([intervals.sharpe(values)(one)[0] for values in pnl]))


def test_runs_that_differ_in_their_seed_are_seeds_of_one_agent(runs: Path, tmp_path: Path) -> None:
    for seed in range(4):
        told = json.loads((runs / "taker" / "evaluation.json").read_text())["results"]
        told["ofi-taker"]["pnl_by_window"] = [[seed * 1.0] * 8]
        changed(runs / "taker", tmp_path / f"seed{seed}", training_seeds=[seed], results=told, total_timesteps=1000)
    (board,) = leaderboard.boards([tmp_path])
    (entry,) = board.entries
    row = next(row for row in leaderboard.rows(board) if not row.baseline)
    assert entry.seeds == (0, 1, 2, 3) and row.iqm is not None and row.iqm.mean == iqm(np.arange(4.0)) == 1.5
    assert row.iqm.low is not None and row.iqm.low < 1.5 and row.env_steps == 1000


def test_another_budget_or_the_same_seed_again_is_another_row(runs: Path, tmp_path: Path) -> None:
    for name, seed, budget in (("a", 0, 1000), ("b", 0, 1000), ("c", 1, 2000)):
        told = json.loads((runs / "taker" / "evaluation.json").read_text())["results"]
        told["ofi-taker"]["pnl_by_window"] = [[float(ord(name))] * 8]
        changed(runs / "taker", tmp_path / name, training_seeds=[seed], results=told, total_timesteps=budget)
    (board,) = leaderboard.boards([tmp_path])
    names = [row.agent for row in leaderboard.rows(board) if not row.baseline]
    assert sorted(names) == ["ofi-taker (1,000 steps, a)", "ofi-taker (1,000 steps, b)", "ofi-taker (2,000 steps)"]


def test_runs_are_called_by_what_was_set_in_them(runs: Path, tmp_path: Path) -> None:
    for name, told in (("r-2", {"extractor": "mamba3", "gamma": 0.9}), ("r-3", {"extractor": "mlp", "gamma": 0.9}), ("r", {})):
        changed(runs / "taker", tmp_path / name, agent_config=told, training_seeds=[0], total_timesteps=1000)
    (board,) = leaderboard.boards([tmp_path])
    names = [row.agent for row in leaderboard.rows(board) if not row.baseline]
    assert sorted(names) == ["ofi-taker (extractor=mamba3, gamma=0.9)", "ofi-taker (extractor=mlp, gamma=0.9)", "ofi-taker (r)"]


def test_a_parameter_that_all_share_sets_nothing_apart(runs: Path, tmp_path: Path) -> None:
    for name, width in (("a", 32), ("b", 64)):
        changed(runs / "taker", tmp_path / name, agent_config={"width": width, "gamma": 0.9}, training_seeds=[0], total_timesteps=1000)
    (board,) = leaderboard.boards([tmp_path])
    assert sorted(row.agent for row in leaderboard.rows(board) if not row.baseline) == ["ofi-taker (width=32)", "ofi-taker (width=64)"]


def test_a_second_report_of_a_run_is_no_second_run(runs: Path, tmp_path: Path) -> None:
    for name in ("a", "report-of-a"):
        changed(runs / "taker", tmp_path / name, training_seeds=[0])
    (board,) = leaderboard.boards([tmp_path])
    assert [row.agent for row in leaderboard.rows(board) if not row.baseline] == ["ofi-taker"]
    assert board.notes[-1:] == (f"{tmp_path / 'report-of-a'} has the agent, seeds and results of {tmp_path / 'a'}: it stands here once",)


def test_a_run_on_other_windows_takes_no_table_from_the_others(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.loads((runs / "taker" / "evaluation.json").read_text())
    cut = {
        name: {**one, "pnl_by_window": [seed[:-1] for seed in one["pnl_by_window"]]} for name, one in told["results"].items()
    }  # fmt: skip
    columns = {name: told[name][:-1] for name in ("windows", "days", "symbols", "currencies", "market_moves")}
    other = changed(runs / "taker", tmp_path / "other", **columns, results=cut)
    assert command.main([str(other), str(runs)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "A table of its own, not to be compared with the first of emp-lob-v0: 7 windows instead of 8." in shown
    assert shown.index("8 test windows of 8 dates") < shown.index("7 test windows of 7 dates"), "the largest first, whatever came first"
    assert shown.count("ofi-taker") >= 2 and "random" in shown


@pytest.mark.parametrize(
    "change", [{"data_hash": "another"}, {"settings": {"fills": "optimistic"}}, {"env": "emp-lob-v1"}, {"split": "all"}]
)
def test_other_data_settings_splits_and_environments_are_other_tables(
    change: dict[str, Any], runs: Path, tmp_path: Path
) -> None:
    other = changed(runs / "taker", tmp_path / "other", **change)
    boards = leaderboard.boards([runs, other])
    assert len(boards) == 2 and all("ofi-taker" in {entry.agent for entry in board.entries} for board in boards)
    assert boards[0].differs == () and bool(boards[1].differs) == ("env" not in change)


@pytest.mark.parametrize("same", [{"latency_ns": 0}, {"latency_ns": [0, 0]}, {"fills": "exact", "impact": "none"}, {"threads": 3}])
def test_a_default_that_was_said_is_the_same_setting(same: dict[str, Any], runs: Path, tmp_path: Path) -> None:
    told = json.loads((runs / "taker" / "evaluation.json").read_text())["run"]["settings"]
    other = changed(runs / "taker", tmp_path / "other", settings={**told, **same}, training_seeds=[9])
    assert len(leaderboard.boards([runs, other])) == 1


def test_the_words_of_a_difference_are_those_of_the_setting(runs: Path, tmp_path: Path) -> None:
    told = json.loads((runs / "taker" / "evaluation.json").read_text())["run"]["settings"]
    other = changed(
        runs / "taker", tmp_path / "other", settings={**told, "episode": "32 decisions", "latency_ns": 200_000, "fills": "touch"},
        data_hash="0123456789abcdef", split="train",
    )  # fmt: skip
    _, board = leaderboard.boards([runs, other])
    own = leaderboard.boards([runs])[0].data_hash
    assert set(board.differs) == {
        "episode 32 decisions instead of 50 decisions", "latency_ns [200000, 200000] instead of [0, 0]", "fills touch instead of exact",
        f"data 01234567 instead of {own[:8]}", "split train instead of test",
    }  # fmt: skip


def test_a_baseline_that_differs_between_runs_is_told(runs: Path, tmp_path: Path) -> None:
    told = json.loads((runs / "taker" / "evaluation.json").read_text())["results"]
    told["symmetric"]["pnl_by_window"][0][0] += 1
    other = changed(runs / "taker", tmp_path / "other", results=told, training_seeds=[9])
    (board,) = leaderboard.boards([runs, other])
    assert sum(note.startswith("symmetric differs between") for note in board.notes) == 1


def test_where_nothing_was_judged_the_command_that_judges_is_told(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing was judged here.*evaluate.py --run"):
        leaderboard.boards([tmp_path])
    with pytest.raises(DataError, match=r"schema 1, expected 2.*scripts/evaluate.py --run"):
        leaderboard.boards([changed(runs / "taker", tmp_path / "old", schema=1)])


def test_what_was_not_judged_or_cannot_be_read_is_listed_beside_the_tables(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs, tmp_path / "all")
    changed(runs / "taker", tmp_path / "all" / "old", schema=1)
    (changed(runs / "taker", tmp_path / "all" / "cut") / "evaluation.json").write_text('{"schema": ')
    for name, seeds in (("my run", None), ("five", [0, 1])):
        folder = tmp_path / "all" / name
        for one in [folder] if seeds is None else [folder / f"seed-{seed}" for seed in seeds]:
            one.mkdir(parents=True)
            (one / "config.json").write_text('{"env_id": "emp-lob-v0", "agent_name": "ppo", "seed": 0}')
        if seeds is not None:
            (folder / "seeds.json").write_text('{"seeds": [0, 1], "config": {}}')
    (tmp_path / "all" / "broken").mkdir()
    (tmp_path / "all" / "broken" / "config.json").write_text("{")
    assert command.main([str(tmp_path / "all"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    why = {Path(one["folder"]).name: one["why"] for one in told["beside"]}
    assert set(why) == {"my run", "five", "old", "cut", "broken"} and why["my run"] == why["five"] == "not judged yet"
    assert "schema 1" in why["old"] and "not JSON" in why["cut"] and "not JSON" in why["broken"]
    assert len(told["boards"]) == 1 and len(told["boards"][0]["rows"]) == 4
    assert command.main([str(tmp_path / "all")]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "my run" in line)
    quoted = shlex.split(line[line.index("python ") :])
    assert quoted[-4:] == ["--run", str(tmp_path / "all" / "my run"), "--report", str(tmp_path / "all" / "my run")]


def test_the_evaluation_of_all_seeds_stands_for_theirs(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "random", tmp_path / "run")
    shutil.copytree(runs / "random", tmp_path / "run" / "seed-0")
    assert outermost(tmp_path) == [tmp_path / "run"] == outermost(tmp_path / "run")


def test_terminal_markdown_and_json_have_the_same_numbers(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(runs), "--json"]) == 0
    (board,) = json.loads(capsys.readouterr().out)["boards"]
    assert command.main([str(runs), "--markdown"]) == 0
    text = capsys.readouterr().out
    assert command.main([str(runs)]) == 0
    terminal = capsys.readouterr().out
    for row in board["rows"]:
        shown = f"{row['pnl']['mean']:,.2f}".replace("-", "−")
        assert shown in text and shown in terminal
    assert "8 test windows of 8 dates" in text and board["data_hash"][:8] in text


@pytest.mark.parametrize("width", [80, 120])
def test_no_number_is_broken_on_a_narrow_terminal_and_what_is_left_out_is_named(
    width: int, runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (board,) = leaderboard.boards([runs])
    monkeypatch.setenv("COLUMNS", str(width))
    assert command.main([str(runs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    for row in leaderboard.rows(board):
        (line,) = [line for line in lines if line.startswith((f"{row.agent} ", f"{row.agent} *")) and "│" in line]
        assert interval(row.pnl) in line and bare(row.improvement) in line
    names = leaderboard_view.table(board)[0]
    told = " ".join(" ".join(lines).replace("│", " ").replace("┃", " ").split())
    assert ("No room for turnover; see --markdown or --json." in told) == (width == 80) and "turnover" in names


def test_a_certificate_is_told_in_the_problems_own_unit_and_not_in_money(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--env", "emp-cartea-jaimungal-v0", "--agent", "hold", "--episodes", "8", "--report", str(tmp_path)]
    assert evaluate.main(words) == 0
    capsys.readouterr()
    for how in ([], ["--markdown"]):
        assert command.main([str(tmp_path), *how]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert "value per episode" in said and "in the problem's own unit, which is not currency" in said
        assert "P&L" not in said and "in currency" not in said and "Sharpe" not in said
    assert command.main([str(tmp_path), "--json"]) == 0
    (board,) = json.loads(capsys.readouterr().out)["boards"]
    assert board["judged"] == "value" and board["unit"] == "the problem's own" and "pnl" not in board["rows"][0]
    judged_values = json.loads((tmp_path / "evaluation.json").read_text())["results"]
    assert {row["agent"]: row["value"]["mean"] for row in board["rows"]} == {
        name: pytest.approx(told["pnl"]["mean"]) for name, told in judged_values.items()
    }


def test_a_title_stays_a_line_whatever_the_gates_are(runs: Path) -> None:
    (board,) = leaderboard.boards([runs / "taker"])
    limits = {f"limit{i}": i for i in range(40)}
    gates = [{"gate": "risk", "limits": limits}, {"gate": "collar"}]
    titles = [leaderboard_view.title(replace(board, settings={"gates": gates, "latency_ns": lag})) for lag in (1, 2)]
    assert all("gates=risk+collar#" in title and len(title) < 120 for title in titles)
    more = {"gates": [{"gate": "risk", "limits": limits | {"limit1": 7}}, {"gate": "collar"}]}
    other = leaderboard_view.title(replace(board, settings=more))
    assert other.split("#")[1][:8] != titles[0].split("#")[1][:8], "other limits, another title"
    assert titles[0] != titles[1] and "latency_ns=1" in titles[0]
