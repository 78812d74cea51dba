"""`check --queue` with a deeper file of the same day: table, JSON, exit codes, and what cannot be asked."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emp_gym.cli.check import main
from emp_gym.data import store
from emp_gym.data.shallow import recorded, shallow, shallow_tape
from emp_gym.data.synthetic import day as synthetic
from emp_gym.data.synthetic.day import DayConfig
from emp_gym.data.tape.tape_set import build
from emp_gym.market import depths
from emp_gym.market.records import KEPT

ASKED = ["--orders", "300", "--hold", "60"]


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("deep")
    return str(
        synthetic.write_day(folder, DayConfig(seed=8, rows=3_000, levels=10, tick_regime="wide", stressed=0.6)).message
    )


def test_shallow_days_of_a_day_are_judged_by_it(day: str, capsys: Any) -> None:
    assert main(["--queue", day, "--depth", "1,2", *ASKED, "--seed", "3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] and [(pair["levels"], pair["deeper_levels"]) for pair in told["pairs"]] == [(1, 10), (2, 10)]
    for pair in told["pairs"]:
        parts = ("earlier", "same", "later", "only_shallow", "only_deeper")
        assert sum(pair[part] for part in parts) == pair["orders"] == 300 and pair["seed"] == 3
        assert all(low <= pair[part] / 300 <= high for part, (low, high) in pair["intervals"].items())
    assert main(["--queue", day, "--depth", "1", *ASKED]) == 0
    shown = capsys.readouterr().out
    assert "1 levels against 10: 300 one-lot orders at the touch, held 60 s, seed 0" in shown
    assert "no order is filled earlier than the deeper file says" in shown and "spells out of sight of its own" in shown


def test_two_files_of_a_day_are_compared(day: str, tmp_path: Path, capsys: Any) -> None:
    shallow = str(shallow_tape(store.tapes(day), 2).save(tmp_path / "two.tape"))
    assert main(["--queue", shallow, "--against", day, *ASKED, "--json"]) == 0
    (pair,) = json.loads(capsys.readouterr().out)["pairs"]
    main(["--queue", day, "--depth", "2", *ASKED, "--json"])
    assert json.loads(capsys.readouterr().out)["pairs"] == [pair]
    assert main(["--queue", day, "--against", shallow]) == 2
    assert "give the deeper file" in capsys.readouterr().err


def test_files_that_show_other_books_are_refused(day: str, tmp_path: Path, capsys: Any) -> None:
    """The same day with every size doubled: touch, date and symbol agree."""
    deep = store.tapes(day)
    two = shallow(recorded(deep), 2)
    doubled = str(build(replace(two, size=two.size * 2, book_size=two.book_size * 2)).save(tmp_path / "doubled.tape"))
    assert main(["--queue", doubled, "--against", day, *ASKED]) == 2
    told = capsys.readouterr().err
    assert re.search(r"another book at [\d,]+ of [\d,]+ moments, first at [\d,]+ ns than .*give two files of the same day", told)


def test_where_no_order_is_filled_nothing_was_judged(day: str, capsys: Any) -> None:
    asked = ["--queue", day, "--depth", "1", "--orders", "20", "--hold", "0.000001"]
    assert main(asked) == 2
    assert "nothing was judged: no order was filled in either file" in capsys.readouterr().out
    assert main([*asked, "--json"]) == 2 and not json.loads(capsys.readouterr().out)["ok"]


def test_shares_say_of_how_many_they_are(day: str, capsys: Any) -> None:
    main(["--queue", day, "--depth", "1", *ASKED, "--json"])
    (pair,) = json.loads(capsys.readouterr().out)["pairs"]
    assert pair["neither"] == pair["orders"] - pair["filled"] - pair["only_shallow"]
    assert 0 < pair["out_of_sight"] < 300 and pair["out_of_sight_later"] == pair["later"] + pair["only_deeper"]
    main(["--queue", day, "--depth", "1", *ASKED])
    shown = capsys.readouterr().out
    assert f"all shares are of 300; {pair['filled']} were filled in the deeper file, {pair['neither']} in neither" in shown
    assert f"levels of {pair['out_of_sight']}, of which {pair['out_of_sight_later'] / pair['out_of_sight']:.3%} filled later" in shown


def test_a_rule_that_fills_too_early_is_told_with_exit_code_1(
    day: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    true = depths.compare
    monkeypatch.setattr(depths, "compare", lambda *asked: replace(true(*asked, births=0), only_shallow=2))
    assert main(["--queue", day, "--depth", "1", *ASKED]) == 1
    assert "orders are filled too early" in capsys.readouterr().out


def test_mutants_fill_too_early_on_a_synthetic_day(day: str) -> None:
    deep = store.tapes(day)
    tape = shallow_tape(deep, 1)
    orders = depths.sampled(tape, deep, 2_000, 60 * 10**9, 0)
    found = {births: depths.compare(tape, deep, orders, births=births) for births in (0, 1, KEPT)}
    assert found[1].earlier + found[1].only_shallow == 0
    assert found[0].earlier + found[0].only_shallow > 0


@pytest.mark.parametrize(
    "wrong",
    [
        ["--env", "emp-lob-v0", "--depth", "1"],
        ["--queue", "x", "--depth", "1", "--against", "y"],
        ["--queue", "x", "--hold", "5"],
        ["--queue", "x", "--depth", "1", "--orders", "0"],
        ["--queue", "x", "--seed", "5"],
        ["--queue", "x", "--depth", "1", "--seed", "-1"],
        ["--queue", "x", "--depth", "1", "--hold", "1e-12"],
    ],
)
def test_what_does_not_go_together_is_said(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(wrong)
    assert refused.value.code == 2


@pytest.mark.parametrize(
    ("depth", "words"),
    [("one", "expected levels such as"), ("10", "levels must be 1 to 9"), ("0", "levels must be 1 to 9")],
)
def test_levels_that_cannot_be_are_refused(day: str, depth: str, words: str, capsys: Any) -> None:
    assert main(["--queue", day, "--depth", depth]) == 2
    assert words in capsys.readouterr().err


def test_a_day_too_short_to_hold_an_order_is_refused(day: str, capsys: Any) -> None:
    assert main(["--queue", day, "--depth", "1", "--hold", "80000"]) == 2
    assert "hold it shorter" in capsys.readouterr().err
