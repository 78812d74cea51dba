"""`ingest`: every day gets a tape of its own, and none takes another's place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from emp_gym.cli.ingest import main
from emp_gym.data.tape.tape_set import TapeSet
from tests.data.test_store import ROWS, book_of, day, shorten, zipped


def ingest(out: Path, *sources: Path, options: tuple[str, ...] = ()) -> int:
    return main([*map(str, sources), "--out", str(out), "--json", *options])


def made(out: Path) -> dict[str, int]:
    """Rows by the name of the tape."""
    return {path.name: TapeSet.open(path).info[0].rows for path in sorted(out.glob("*.tape"))}


def test_a_day_alone_is_called_by_symbol_date_and_depth(tmp_path: Path) -> None:
    assert ingest(tmp_path / "out", day(tmp_path)) == 0
    assert made(tmp_path / "out") == {"XYZ_2024-05-02_2.tape": ROWS}


def test_morning_and_afternoon_and_three_depths_are_five_tapes(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    day(data, rows=80, end_s=43_200)
    day(data, rows=100, start_s=43_200)
    for levels in (1, 2, 3):
        day(data, "ABC", levels=levels)
    assert ingest(out, data) == 0
    assert made(out) == {
        "ABC_2024-05-02_1.tape": ROWS, "ABC_2024-05-02_2.tape": ROWS, "ABC_2024-05-02_3.tape": ROWS,
        "XYZ_2024-05-02_34200000_43200000_2.tape": 80, "XYZ_2024-05-02_43200000_57600000_2.tape": 100,
    }  # fmt: skip


def test_a_session_that_comes_in_a_later_run_is_kept_beside_the_first(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for path in (day(tmp_path / "a"), day(tmp_path / "b", rows=60, end_s=37_800)):
        for _ in range(2):  # once more changes nothing
            assert ingest(out, path) == 0
    assert made(out) == {"XYZ_2024-05-02_2.tape": ROWS, "XYZ_2024-05-02_34200000_37800000_2.tape": 60}


def test_a_damaged_copy_does_not_replace_the_good_day_unless_asked(tmp_path: Path, capsys: Any) -> None:
    out, good, bad = tmp_path / "out", day(tmp_path / "good"), day(tmp_path / "bad")
    shorten(bad)
    shorten(book_of(bad))
    assert ingest(out, good) == 0
    assert ingest(out, bad) == 2
    told = capsys.readouterr().err
    assert str(bad) in told and "120 rows" in told and "100 rows" in told and "--replace" in told
    assert made(out) == {"XYZ_2024-05-02_2.tape": ROWS}
    assert ingest(out, bad, options=("--replace",)) == 0
    assert made(out) == {"XYZ_2024-05-02_2.tape": 100}


def test_two_versions_of_a_day_in_one_run_are_refused_with_both_names(tmp_path: Path, capsys: Any) -> None:
    good, bad = day(tmp_path / "good"), day(tmp_path / "bad")
    shorten(bad)
    for options in ((), ("--replace",)):
        assert ingest(tmp_path / "out", good, bad, options=options) == 2
        told = capsys.readouterr().err
        assert str(good) in told and str(bad) in told


def test_the_same_day_in_two_archives_is_taken_once_and_said(tmp_path: Path, capsys: Any) -> None:
    one = zipped(day(tmp_path / "a"), tmp_path / "a.zip")
    other = zipped(day(tmp_path / "b"), tmp_path / "b.zip")
    assert ingest(tmp_path / "out", one, other) == 0
    told = capsys.readouterr()
    assert "b.zip" in told.err and "taken once" in told.err
    assert json.loads(told.out)["rows_in"] == ROWS and len(made(tmp_path / "out")) == 1


def test_what_is_not_read_is_told_and_folders_are_searched(tmp_path: Path, capsys: Any) -> None:
    data = tmp_path / "data"
    zipped(day(data / "2024" / "May"), data / "2024" / "may.zip")
    day(data / "2024" / "June", date="2024-06-03")
    (data / "notes.txt").write_text("bought in May")
    assert ingest(tmp_path / "out", data) == 0
    assert "not read: " + str(data / "notes.txt") in capsys.readouterr().err
    assert list(made(tmp_path / "out")) == ["XYZ_2024-05-02_2.tape", "XYZ_2024-06-03_2.tape"]


@pytest.mark.parametrize("turned", [False, True])
def test_two_files_of_any_name_are_the_halves_of_a_day(tmp_path: Path, turned: bool) -> None:
    path = day(tmp_path)
    if turned:  # by their names they are clear, so their order does not matter
        assert ingest(tmp_path / "out", book_of(path), path) == 0
        return
    book = book_of(path).rename(tmp_path / "b.csv")
    assert ingest(tmp_path / "out", path.rename(tmp_path / "XYZ 2024-05-02.txt"), book) == 0
    (name,) = made(tmp_path / "out")
    assert name.endswith("_2024-05-02_2.tape")


def test_a_day_named_by_both_its_files_is_counted_once(tmp_path: Path, capsys: Any) -> None:
    message = day(tmp_path)
    assert ingest(tmp_path / "out", message, book_of(message)) == 0
    assert json.loads(capsys.readouterr().out)["rows_in"] == ROWS
