"""The benchmark of agents: cells are done once, kept, and found again; tables say what made them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emp_gym.cli import benchmark
from emp_gym.reports.blocks import markdown
from emp_gym.studies import suite
from emp_gym.studies.suite import Cell, SuitePlan
from emp_gym.types import EmpGymError

DATA = "synthetic:rows=6000"
PLAN = SuitePlan(
    ("hold", "random", "twap"), seeds=2, certificates=("emp-almgren-chriss-v0", "emp-ladder-noise-v0"),
    markets=("emp-lob-v0",), days=(DATA,), episodes=2, budget=100,
)  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Cell, dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("cells")
    return folder, suite.run(PLAN, folder)


def test_every_cell_is_kept_and_not_done_again(
    done: tuple[Path, dict[Cell, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, found = done
    assert {path.name for path in folder.iterdir()} == {cell.file for cell in found}
    monkeypatch.setattr(suite, "_done", lambda cell: pytest.fail(f"{cell} was done again"))
    assert suite.run(PLAN, folder) == found


def test_what_was_interrupted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Cell] = []

    def stub(cell: Cell) -> dict[str, Any]:
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(cell)
        return {"skipped": "a stub"}

    monkeypatch.setattr(suite, "_done", stub)
    with pytest.raises(KeyboardInterrupt):
        suite.run(PLAN, tmp_path)
    first = list(asked)
    asked.clear()
    monkeypatch.setattr(suite, "_done", lambda cell: asked.append(cell) or {"skipped": "a stub"})
    suite.run(PLAN, tmp_path)
    assert first + asked == suite.cells(PLAN)


def test_another_budget_parameter_or_data_is_another_cell() -> None:
    cell = Cell("emp-lob-v0", "ppo", 0, 100)
    others = [replace(cell, budget=200), replace(cell, seed=1), replace(cell, data="x"), replace(cell, episodes=3),
              replace(cell, parameters={"gamma": 0.9}), replace(cell, env="emp-lob-execution-v0")]  # fmt: skip
    assert len({one.file for one in (cell, *others)}) == 7


def test_what_neither_learns_nor_draws_runs_once_and_everybody_has_one_budget() -> None:
    plan = SuitePlan(("ppo", "random", "hold"), seeds=3)
    cells = suite.cells(plan)
    own = [cell for cell in cells if cell.agent != suite.BASELINES]
    assert {agent: max(c.seed for c in own if c.agent == agent) + 1 for agent in plan.agents} == {
        "ppo": 3, "random": 3, "hold": 1,
    }  # fmt: skip
    later = suite.cells(replace(plan, first_seed=10))
    assert sorted({cell.seed for cell in later if cell.agent == "ppo"}) == [10, 11, 12]
    for env in {cell.env for cell in own}:
        assert len({cell.budget for cell in own if cell.env == env}) == 1, env
    planned = {cell.budget for cell in suite.cells(replace(plan, agents=("muzero",))) if cell.agent == "muzero"}
    assert planned == {800_000}, "an agent that plans before every step is given fewer of them"
    every = suite.cells(replace(plan, agents=("muzero", "ppo"), budget=500))
    assert {cell.budget for cell in every if cell.agent != suite.BASELINES} == {500}


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(EmpGymError, match="--budget must be at least 1 step, got 0"):
        replace(PLAN, budget=0)


def test_who_does_not_fit_is_told_and_the_others_go_on(done: tuple[Path, dict[Cell, dict[str, Any]]]) -> None:
    _, found = done
    skipped = {cell.agent for cell, told in found.items() if "skipped" in told}
    assert skipped == {"twap"}
    assert all(t["skipped"] for t in found.values() if "skipped" in t) and len(found) > len(PLAN.certificates)


def test_scores_and_boards_are_made_of_the_cells(done: tuple[Path, dict[Cell, dict[str, Any]]]) -> None:
    _, found = done
    table = suite.scores(found)
    assert set(table) == set(PLAN.certificates) and set(table["emp-almgren-chriss-v0"]) == {"hold", "random"}
    random = [told["score"] for cell, told in found.items() if cell.agent == "random" and cell.env == "emp-almgren-chriss-v0"]
    assert table["emp-almgren-chriss-v0"]["random"].scores == tuple(random) and len(random) == 2
    assert table["emp-almgren-chriss-v0"]["random"].estimate.mean == pytest.approx(np.mean(random))
    noise = table["emp-ladder-noise-v0"]
    assert noise["hold"].abstention and noise["hold"].passed and not noise["random"].passed
    (board,) = suite.boards(PLAN, found)
    assert {entry.agent for entry in board.entries} == {"hold", "random"} and len(board.windows) == 2
    assert {"symmetric", "ofi-taker", "oracle"} <= {entry.agent for entry in board.baselines}


def test_the_table_says_what_made_it(done: tuple[Path, dict[Cell, dict[str, Any]]]) -> None:
    folder, found = done
    text = markdown(suite.document(PLAN, found, folder))
    assert "| ladder: noise | abstains | trades | – |" in text
    for words in ("2 seeds", "minutes of wall clock", "commit", "training runs on record", "Not run", "steps: 100 for every agent"):
        assert words in text, words


def test_an_unknown_agent_is_refused_before_anything_is_run() -> None:
    with pytest.raises(EmpGymError, match="did you mean"):
        SuitePlan(("pppo",))
    with pytest.raises(EmpGymError, match=r"did you mean agent\.extractor"):
        SuitePlan(("ppo[extracter=gru]",))
    with pytest.raises(EmpGymError, match="an agent with parameters in brackets"):
        SuitePlan(("ppo[extractor]",))


def test_the_same_agent_takes_part_with_other_parameters(tmp_path: Path) -> None:
    rung = "emp-ladder-trend-v0"
    plan = SuitePlan(("ppo", "ppo[n_steps=8,memory=numpy]"), 1, certificates=(rung,), markets=(), budget=2048)
    first, second = suite.cells(plan)
    assert second.parameters == {**first.parameters, "n_steps": 8, "memory": "numpy"} and first.file != second.file
    row = suite.scores(suite.run(plan, tmp_path))[rung]
    assert set(row) == set(plan.agents) and row["ppo"].scores != row["ppo[n_steps=8,memory=numpy]"].scores


def test_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from emp_gym.benchmarks import agents

    small = {"certificates": ("emp-ladder-noise-v0",), "markets": (), "seeds": 2, "budget": 100}
    monkeypatch.setattr(agents, "SMALL_PLAN", small)
    words = ["agents", "--small", "--agents", "hold", "random", "--out", str(tmp_path), "--json"]
    assert benchmark.main(words) == 0
    figures = json.loads(capsys.readouterr().out)
    assert set(figures) == {"emp-ladder-noise-v0, hold", "emp-ladder-noise-v0, random"}
    assert "abstains" in (tmp_path / "agents.md").read_text()
    once = ["agents", "--agents", "hold", "random", "--only", "emp-ladder-noise-v0", "--seeds", "1", "--budget", "9", "--json"]
    assert benchmark.main([*once, "--out", str(tmp_path / "other")]) == 0
    assert set(json.loads(capsys.readouterr().out)) == set(figures)
    assert "training steps: 9 for every agent" in (tmp_path / "other" / "agents.md").read_text()
    assert benchmark.main(["agents", "--only", "emp-lob-v9"]) == 2
    with pytest.raises(SystemExit):
        benchmark.main(["log", "--agents", "ppo"])
    assert "--agents belongs to agents" in capsys.readouterr().err
