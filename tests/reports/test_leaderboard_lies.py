"""Planted lies: a figure that is not what it looks like is named before it is shown, and never stands above an honest one in silence.

Every lie is a run that seems to make a hundred times what the honest one makes. It must be marked and come last in its table, or
stand in a table of its own with the words by which it differs; and a sentence that names the lie stands before the table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emp_gym.agents import registry
from emp_gym.cli import leaderboard as command
from emp_gym.evaluation import comparison
from emp_gym.evaluation.assumptions import HONEST
from emp_gym.evaluation.reliability import iqm
from emp_gym.reports import leaderboard
from emp_gym.reports.report import SCHEMA

RIVALS = ("hold", "long", "short", "random")
DATES = [f"2030-01-{7 + i:02d}" for i in range(10)]
PROVED = {"standing": "held-out", "split": "test", "reason": ""}


def result(mean: float, windows: int, *, fees: float = 2.0, seeds: int = 1) -> dict[str, Any]:
    pnl = mean + np.random.default_rng(int(abs(mean)) + windows).normal(0, 5, size=(seeds, windows))
    return {"pnl": {"mean": float(pnl.mean())}, "pnl_by_window": pnl.tolist(), "fees": fees, "filled": 100.0}


def evaluation(agent: str, mean: float, windows: int = 20, **changes: Any) -> dict[str, Any]:
    """An honest evaluation of a trained agent: held out, ten dates, costs paid; `changes` go to its "run", or to the top."""
    fees = changes.pop("fees", 2.0)
    held = {"hold": 0.0, "long": 3.0, "short": -3.0, "random": -20.0}
    run = {
        "data_hash": "a" * 16, "settings": dict(HONEST), "agent_config": {}, "split": "test", "training_seeds": [0],
        "total_timesteps": 1000, "train_seconds": 1.0, "judge_seconds": 1.0, "machine": "", "trials": None, "commit": None,
        "trained": None,
    }  # fmt: skip
    told = {
        "schema": SCHEMA, "env": "emp-lob-v0", "agent": agent, "judged": "pnl", "seeds": 1, "level": 0.95,
        "windows": [[i // 2, 1000 * (i % 2)] for i in range(windows)], "days": [DATES[i // 2 % 10] for i in range(windows)],
        "symbols": ["AAA"] * windows, "currencies": ["USD"] * windows, "market_moves": [0.01 * (-1) ** i for i in range(windows)],
        "synthetic": False, "proof": PROVED, "skipped": {}, "findings": None, "verdict": "", "run": run,
        "results": {agent: result(mean, windows, fees=fees)} | {name: result(at, windows, fees=fees) for name, at in held.items()},
    }  # fmt: skip
    for key, value in changes.items():
        (run if key in run else told)[key] = value
    return told


@dataclass
class Desk:
    """A folder of runs."""

    path: Path
    honest: dict[str, Any] = field(default_factory=lambda: evaluation("steady", 10.0))

    def put(self, name: str, told: Mapping[str, Any], *, trained: str = "AAA", seed: int | None = None) -> Path:
        folder = self.path / name
        folder.mkdir(parents=True)
        (folder / "evaluation.json").write_text(json.dumps(told))
        if seed is not None:
            self.config(folder, seed)
        (folder / "provenance.json").write_text(json.dumps({"trained_on": [{"symbol": trained, "date": "2029-12-03"}]}))
        return folder

    def config(self, folder: Path, seed: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        told = {"env_id": "emp-lob-v0", "agent_name": "lucky", "seed": seed, "agent": {}, "env": {}, "total_timesteps": 1000}
        (folder / "config.json").write_text(json.dumps(told))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The leaderboard shows no p-value, and Wilcoxon's takes most of the time."""
    monkeypatch.setattr(comparison, "signed_rank", lambda _: float("nan"))
    monkeypatch.setattr(leaderboard.rows, "__defaults__", (0, 50))  # resamples


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setitem(registry.BASELINES, "emp-lob-v0", RIVALS)
    made = Desk(tmp_path / "runs")
    made.put("steady", made.honest)
    made.put("dull", evaluation("dull", 1.0))
    return made


def proof(standing: str, reason: str, split: str = "test") -> dict[str, Any]:
    return {"proof": {"standing": standing, "split": split, "reason": reason}}


def without(told: dict[str, Any], *names: str) -> dict[str, Any]:
    return told | {"results": {name: one for name, one in told["results"].items() if name not in names}}


def setting(**changes: Any) -> dict[str, Any]:
    return {"settings": {name: value for name, value in {**HONEST, **changes}.items() if value is not None}}


Plant = Callable[[Desk], Any]


def lie(**changes: Any) -> Plant:
    """Puts a run down that seems to make a thousand."""
    return lambda desk: desk.put("lie", evaluation("lucky", 1e3, **changes))


def silent(desk: Desk) -> None:
    desk.put("lie", {name: value for name, value in evaluation("lucky", 1e3).items() if name != "proof"})


def elsewhere(desk: Desk) -> None:
    desk.put("lie", evaluation("lucky", 1e3), trained="ZZZ")


def one_of_a_series(desk: Desk) -> None:
    (desk.path / "five").mkdir()
    (desk.path / "five" / "seeds.json").write_text('{"seeds": [0, 1, 2, 3, 4], "config": {}}')
    desk.put("five/seed-3", evaluation("lucky", 1e3, training_seeds=[3]), seed=3)


def one_of_three_runs(desk: Desk) -> None:
    desk.put("lie", evaluation("lucky", 1e3, training_seeds=[7]), seed=7)
    desk.config(desk.path / "a", 8)
    desk.config(desk.path / "b", 9)


def report_elsewhere(desk: Desk) -> None:
    """No run lies beside it, but its evaluation knows."""
    desk.put("lie", evaluation("lucky", 1e3, trained={"symbols": ["AAA"], "series": [0, 1, 2], "alike": "x", "models": []}))
    (desk.path / "lie" / "provenance.json").unlink()


def other_market_elsewhere(desk: Desk) -> None:
    desk.put("lie", evaluation("lucky", 1e3, trained={"symbols": ["ZZZ"], "series": [0], "alike": "x", "models": []}))
    (desk.path / "lie" / "provenance.json").unlink()


def another_model_since(desk: Desk) -> None:
    origin = {"symbols": ["AAA"], "series": [0], "alike": "x", "models": [{"model.json": "the hash of an earlier one"}]}
    (desk.put("lie", evaluation("lucky", 1e3, trained=origin)) / "model.json").write_text("{}")


def gone_on_since(desk: Desk) -> None:
    """An evaluation of an earlier version, of 1,000 steps."""
    (desk.put("lie", evaluation("lucky", 1e3), seed=0) / "curves.csv").write_text("steps,time/seconds\n3000,1.0\n")


SHARED = "every window shares rows with training"
LATE = "20 of 20 windows lie before the last training data (AAA 2030-02-01)"
MOMENTS = "20 of 20 windows lie at moments that were trained on in BBB (2030-01-07)"
CHANGED = "the rows of AAA 2030-01-07 are not those that it was trained on"
FIVE = {"days": [DATES[0]] * 20, "symbols": ["AAA", "BBB", "CCC", "DDD", "EEE"] * 4}
TRAIN = r"split train instead of test.*Judged on the split train, which is not held-out time"
TABLE: dict[str, tuple[Plant, str]] = {
    "days newest first": (lie(**proof("earlier", LATE)), r"NOT HELD OUT: 20 of 20 windows lie before the last training data"),
    "a day five times": (lie(**proof("trained on", SHARED)), f"NOT HELD OUT: {SHARED}"),
    "five symbols of one date": (
        lie(**FIVE, **proof("overlaps", MOMENTS)),
        r"NOT HELD OUT: 20 of 20 windows lie at moments that were trained on in BBB",
    ),
    "one window": (lie(windows=1), r"1 window instead of 20.*ONE WINDOW is one path"),
    "the training split judged": (
        lie(split="train", **proof("trained on", SHARED, "train")),
        r"split train instead of test.*NOT HELD OUT.*Judged on the split train, which is not held-out time",
    ),
    "the training split judged by a rule": (lie(split="train", training_seeds=[], **proof("rule", "", "train")), TRAIN),
    "data changed after training": (lie(**proof("unknown", CHANGED)), f"NOT SHOWN TO BE HELD OUT: {CHANGED}"),
    "a report that says nothing of training": (
        silent,
        r"NOT SHOWN TO BE HELD OUT: its evaluation says nothing of what it was trained on",
    ),
    "a model of another market": (elsewhere, r"OF ANOTHER MARKET: trained on ZZZ, judged on AAA"),
    "optimistic fills": (lie(**setting(fills="optimistic")), r"fills optimistic instead of exact.*OPTIMISTIC: optimistic fills;"),
    "hidden prints that fill": (
        lie(**setting(hidden_prints="fill")),
        r"hidden_prints fill instead of ignore.*OPTIMISTIC: fills by hidden prints where configs/honest.yaml ignores them;",
    ),
    "no fees": (
        lie(fees=0.0, **setting(taker_fee_bps=None, maker_fee_bps=None)),
        r"taker_fee_bps the default instead of 0.3.*OPTIMISTIC: no fees;",
    ),
    "rebates for fees": (
        lie(fees=-4.0, **setting(maker_fee_bps=-0.3)),
        r"maker_fee_bps -0.3 instead of 0.0.*OPTIMISTIC: a maker's rebate of 0.3 bp where configs/honest.yaml counts on none;",
    ),
    "costs in name only": (
        lie(**setting(taker_fee_bps=0.0001, latency_ns=1, impact="resilient 1 ns")),
        r"OPTIMISTIC: order latency 1e-06 ms .*half-life of 1e-09 s .*taker fee 0.0001 bp where configs/honest.yaml charges 0.3;",
    ),
    "a cheap instrument": (
        lie(**setting(taker_fee_bps=None), preface={"data": "", "below": ["taker fee 0.01 bp where configs/honest.yaml charges 0.3"]}),
        r"OPTIMISTIC: taker fee 0.01 bp where configs/honest.yaml charges 0.3;",
    ),
    "no latency": (
        lie(**setting(latency_ns=None)),
        r"latency_ns \[0, 0\] instead of \[200000, 200000\].*OPTIMISTIC: no order latency;",
    ),
    "no impact": (lie(**setting(impact="none")), r"impact none instead of resilient.*OPTIMISTIC: no impact;"),
    "the lucky seed of a series": (one_of_a_series, r"1 OF 5 SEEDS \(seed 3\): the others were trained and are not in it"),
    "the lucky seed of runs of which the others were not judged": (one_of_three_runs, r"1 OF 3 SEEDS \(seed 7\)"),
    "the lucky seed, its report elsewhere": (report_elsewhere, r"1 OF 3 SEEDS \(seed 0\)"),
    "another market, its report elsewhere": (other_market_elsewhere, r"OF ANOTHER MARKET: trained on ZZZ, judged on AAA"),
    "a model that is not there any more": (another_model_since, r"STALE: judged before the model that lies here"),
    "a model that went on, by an earlier version": (gone_on_since, r"STALE: judged before the model that lies here"),
    "other episode length": (lie(**setting(episode="32 decisions")), r"episode 32 decisions instead of 256 decisions"),
    "other data": (lie(data_hash="b" * 16), r"data bbbbbbbb instead of aaaaaaaa"),
    "few blocks": (lie(windows=6), r"6 windows instead of 20.*3 dates: too few for an interval"),
    "another currency": (lie(currencies=["JPY"] * 20), r"JPY instead of USD"),
}
"""Name -> (how it is planted, what must be said)."""


def shown(desk: Desk, capsys: pytest.CaptureFixture[str], *how: str) -> str:
    assert command.main([str(desk.path), *how]) == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", TABLE)
def test_the_lie_is_named_before_its_figure(
    name: str, desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant, words = TABLE[name]
    plant(desk)
    monkeypatch.setenv("COLUMNS", "80")
    for how in ((), ("--markdown",)):
        text = shown(desk, capsys, *how)
        said = re.search(words, text)
        assert said is not None, f"{words}\nis not in\n{text}"
        (figure,) = [row.pnl.mean for board in leaderboard.boards([desk.path]) for row in leaderboard.rows(board) if "lucky" in row.agent]
        place = text.index(f"{figure:,.2f}")
        assert said.end() <= place, "it is said before the figure"
    told = json.loads(shown(desk, capsys, "--json"))
    everything = " ".join(json.dumps(told, ensure_ascii=False).split())
    for part in words.split(".*"):
        assert re.search(part.removesuffix(";"), everything), f"{part} is not in the JSON"


@pytest.mark.parametrize("name", TABLE)
def test_the_lie_never_stands_above_the_honest_run(name: str, desk: Desk) -> None:
    TABLE[name][0](desk)
    for board in leaderboard.boards([desk.path]):
        rows = leaderboard.rows(board)
        names = [row.agent for row in rows]
        if "lucky" in names and "steady" in names:
            assert rows[names.index("lucky")].caveats and names.index("lucky") > names.index("steady")
            assert not rows[names.index("steady")].caveats
        elif "lucky" in names:
            assert board.differs, "a table of its own, with the words by which it differs"
        else:
            assert not board.differs and "steady" in names


def test_an_honest_run_is_accused_of_nothing(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.put("better", evaluation("better", 40.0))
    text = shown(desk, capsys)
    for word in (
        "NOT HELD",
        "NOT SHOWN",
        "OPTIMISTIC",
        "ANOTHER MARKET",
        "SEEDS (",
        "ONE WINDOW",
        "too few",
        "Left out",
        "of its own",
        "In no table",
    ):
        assert word not in text
    (board,) = leaderboard.boards([desk.path])
    assert [row.agent for row in leaderboard.rows(board)][:2] == ["better", "steady"]


def test_all_seeds_together_are_no_lucky_one(desk: Desk) -> None:
    (desk.path / "five").mkdir()
    (desk.path / "five" / "seeds.json").write_text('{"seeds": [0, 1, 2], "config": {}}')
    for seed in range(3):
        desk.put(f"five/seed-{seed}", evaluation("lucky", 10.0 * seed, training_seeds=[seed]), seed=seed)
    (board,) = leaderboard.boards([desk.path])
    (row,) = [row for row in leaderboard.rows(board) if row.agent == "lucky"]
    assert row.seeds == 3 and not row.caveats


@pytest.mark.parametrize("left", [("long",), ("long", "short"), ("random",)])
def test_a_baseline_left_out_is_named_unless_another_run_has_it(
    left: tuple[str, ...], desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = desk.path.parent / "alone"
    other = Desk(alone)
    other.put("lie", without(evaluation("lucky", 1e3), *left))
    assert f"Left out of the comparison: {', '.join(left)} (evaluation.baselines)." in shown(other, capsys)
    desk.put("lie", without(evaluation("lucky", 1e3), *left))
    assert "Left out" not in shown(desk, capsys), "the honest run brings it along"
    told = evaluation("lucky", 1e3, skipped={"long": "it cannot be built"})
    Desk(desk.path.parent / "skipped").put("lie", without(told, "long"))
    assert "Not among the baselines: long (it cannot be built)." in shown(Desk(desk.path.parent / "skipped"), capsys)


@pytest.mark.parametrize(("sign", "word", "winner"), [(1, "rose", "long"), (-1, "fell", "short")])
def test_drift_is_said_and_who_only_held_is_the_one_to_beat(
    sign: int, word: str, winner: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = evaluation("lucky", 900.0, market_moves=[sign * 2.0] * 20)
    told["results"][winner] = result(950.0, 20)
    desk = Desk(tmp_path)
    desk.put("lie", told)
    text = shown(desk, capsys)
    up = 20 if sign > 0 else 0
    size = "2.0000" if sign > 0 else "−2.0000"
    assert f"The market {word} meanwhile: {size} a lot in a mean window, up in {up} of 20; long made" in text
    (board,) = leaderboard.boards([tmp_path])
    rows = leaderboard.rows(board)
    assert rows[0].agent == winner and rows[0].improvement is None, "the best baseline is who held"
    told["results"] = {name: one for name, one in told["results"].items() if name not in ("long", "short")}
    other = Desk(tmp_path / "other")
    other.put("lie", told)
    assert "what holding made is not shown" in shown(other, capsys)


def test_synthetic_days_are_said_to_be_that(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    desk = Desk(tmp_path)
    desk.put("lie", evaluation("lucky", 1e3, synthetic=True))
    text = shown(desk, capsys)
    assert text.index("SYNTHETIC days, not a market") < text.index("lucky")
    named = Desk(tmp_path / "named")
    named.put("lie", evaluation("lucky", 1e3, synthetic=True, preface={"data": "SYNTHETIC days, with a planted signal: SYNA, 8 dates"}))
    assert "Data: SYNTHETIC days, with a planted signal: SYNA, 8 dates." in shown(named, capsys)


def test_currencies_in_one_evaluation_are_tabled_apart_and_never_added(tmp_path: Path) -> None:
    told = evaluation("lucky", 10.0, currencies=["USD", "JPY"] * 10)
    for one in told["results"].values():
        one["pnl_by_window"] = [[1.0, 1000.0] * 10]
    Desk(tmp_path).put("both", told)
    found = {board.currency: board for board in leaderboard.boards([tmp_path])}
    assert set(found) == {"USD", "JPY"}
    for currency, value in (("USD", 1.0), ("JPY", 1000.0)):
        assert len(found[currency].windows) == 10
        assert {row.pnl.mean for row in leaderboard.rows(found[currency])} == {value}


def test_symbols_of_one_date_are_one_block(tmp_path: Path) -> None:
    """Forty windows of five symbols on two dates are two blocks, which give no interval."""
    told = evaluation("lucky", 1e3, windows=40, days=[DATES[i % 2] for i in range(40)], symbols=["A", "B", "C", "D", "E"] * 8)
    Desk(tmp_path).put("lie", told)
    (board,) = leaderboard.boards([tmp_path])
    assert all(row.pnl.low is None and row.pnl.blocks == 2 for row in leaderboard.rows(board))
    assert any("2 dates: too few" in note for note in board.notes)


@pytest.mark.parametrize(("seeds", "dates", "there"), [(4, 10, True), (3, 10, False), (4, 4, False)])
def test_an_interval_over_seeds_needs_seeds_and_dates(seeds: int, dates: int, there: bool, tmp_path: Path) -> None:
    told = evaluation("lucky", 1e3, days=[DATES[i % dates] for i in range(20)], training_seeds=list(range(seeds)))
    told["results"]["lucky"] = result(1e3, 20, seeds=seeds)
    Desk(tmp_path).put("lie", told)
    (board,) = leaderboard.boards([tmp_path])
    (row,) = [row for row in leaderboard.rows(board) if not row.baseline]
    assert row.iqm is not None and (row.iqm.low is not None) is there and row.seeds == seeds
    assert np.isclose(row.iqm.mean, iqm(np.array(told["results"]["lucky"]["pnl_by_window"]).mean(axis=1)))


@pytest.mark.parametrize("level", [0.05, -0.9, 95])
def test_the_level_is_the_boards_own_whatever_the_first_run_was_judged_with(
    level: float, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    (honest,) = leaderboard.boards([desk.path])
    desk.put("a-first", evaluation("lucky", 5.0, level=level))
    (board,) = leaderboard.boards([desk.path])
    assert board.level == 0.95
    was = {row.agent: row.pnl for row in leaderboard.rows(honest)}
    assert all(row.pnl == was[row.agent] for row in leaderboard.rows(board) if row.agent in was)
    assert "Intervals are 95% block bootstraps" in shown(desk, capsys)


def test_windows_of_one_date_have_an_interval_that_is_called_within_day(tmp_path: Path) -> None:
    Desk(tmp_path).put("lie", evaluation("lucky", 1e3, days=[DATES[0]] * 20))
    (board,) = leaderboard.boards([tmp_path])
    assert any("intervals are within that day" in note for note in board.notes)
    assert all(row.pnl.low is not None for row in leaderboard.rows(board))


@pytest.mark.parametrize(
    "name", ["no fees", "no latency", "no impact", "optimistic fills", "one window", "few blocks", "the training split judged"]
)
def test_of_two_tables_of_one_run_each_the_honest_one_is_first(name: str, tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.put("steady", desk.honest)
    TABLE[name][0](desk)
    first, second = leaderboard.boards([tmp_path])
    assert [entry.agent for board in (first, second) for entry in board.entries] == ["steady", "lucky"]
    assert not first.differs and second.differs
