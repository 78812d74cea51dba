"""Files as they are sold and saved: a seventh column, trailing commas, and what is said of those that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from emp_gym.data.lobster.reader import read
from emp_gym.types import DataError
from tests.data.reference_lobster import day
from tests.data.test_lobster_damage import write

TAILS = (",null", ",NSDQ", ",", ",7")
FIELDS = ("time_ns", "kind", "order_id", "size", "price", "side", "book_price", "book_size")


def remade(lines: list[str], change, columns: range) -> list[str]:
    """The lines with `change` made to some of their cells."""
    rows = (line.split(",") for line in lines)
    return [",".join(change(cell) if column in columns else cell for column, cell in enumerate(row)) for row in rows]


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_seventh_column_is_named_and_not_used(tail, head, newline, tmp_path):
    messages, books = day(3, 200, 2)
    (plain,) = read(write(tmp_path, messages, books))
    first = ["time,type,id,size,price,direction" + (",mpid" if tail != "," else ",")] if head else []
    paths = write(tmp_path, [*first, *(line + tail for line in messages)], books)
    paths[0].write_bytes(paths[0].read_text().replace("\n", newline).encode())
    (reading,) = read(paths)
    assert reading.rows_kept == 200 and reading.check == plain.check
    assert all((getattr(reading.day, name) == getattr(plain.day, name)).all() for name in FIELDS)
    said = reading.day.source["rules"][f"column 7 {paths[0].name}"]
    assert said == f"not used; {tail[1:]!r} in its first row"
    assert "column 7" not in " ".join(plain.day.source["rules"])


@pytest.mark.parametrize("usual", [",null", ""])
def test_rows_without_the_column_that_the_others_have_are_quarantined(usual, tmp_path):
    messages, books = day(3, 200, 2)
    odd = {40, 41, 120, 199}
    other = "" if usual else ",null"
    (reading,) = read(
        write(tmp_path, [line + (other if n in odd else usual) for n, line in enumerate(messages)], books)
    )
    assert {row.row - 1 for row in reading.quarantine.rows} == odd
    assert reading.quarantine.rules == {"column-count": 4} and reading.rows_kept == 196


def test_an_order_book_whose_lines_end_in_a_comma_is_read(tmp_path):
    messages, books = day(3, 200, 2)
    damaged = [line + ("5" if n == 30 else "") for n, line in enumerate(f"{book}," for book in books)]
    (reading,) = read(write(tmp_path, messages, damaged[:30] + books[30:31] + damaged[31:]))
    assert [(row.row, row.rule) for row in reading.quarantine.rows] == [(31, "column-count")]


def test_an_order_book_with_another_number_behind_each_line_is_refused(tmp_path):
    messages, books = day(3, 200, 2)
    with pytest.raises(DataError, match="9 columns, expected 8"):
        read(write(tmp_path, messages, [f"{book},1" for book in books]))


BOOKS = range(8)
WRITTEN = {
    "spaces": (0, lambda cell: f" {cell}", range(1, 6), "'type', not-a-number.*remove the spaces"),
    "quotes": (0, lambda cell: f'"{cell}"', range(6), "'time', not-a-number.*without quotes"),
    "dollars": (0, lambda cell: f"{int(cell) / 1e4:.2f}", range(4, 5), "'price', .*got '\\d+.\\d\\d'.*multiply by 10,000"),
    "dollar signs": (0, lambda cell: f"${cell}", range(4, 5), "'price', .*no currency sign"),
    "floats": (0, lambda cell: f"{cell}.0", range(2, 6), "'order id', .*saved as floats"),
    "a spreadsheet's ids": (0, lambda cell: "1.6E+07", range(2, 3), "'order id', .*spreadsheet"),
    "clock times": (0, lambda cell: "09:30:01.5", range(1), "'time', .*seconds after local midnight"),
    "milliseconds": (0, lambda cell: str(int(float(cell) * 1000)), range(1), "'time', time-range.*divide milliseconds"),
    "seventeen digits": (0, lambda cell: "34200.01234567891234567", range(1), "'time', time-digits.*at most 9 digits"),
    "words for sides": (0, lambda cell: "buy" if cell == "1" else "sell", range(5, 6), "'direction', .*1 \\(buy\\)"),
    "thousands": (0, lambda cell: f"{int(cell):_}", range(4, 5), "'price', .*separators of thousands"),
    "a counting column": (0, lambda cell: f"5,{cell}", range(1), "'type', .*index=False"),
    "dollars in the book": (1, lambda cell: f"{int(cell) / 1e4:.2f}", range(0, 8, 2), "'ask price 1', .*multiply by 10,000"),
    "floats in the book": (1, lambda cell: f"{cell}.0", BOOKS, "'ask price 1', .*saved as floats"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_that_is_mostly_bad_is_refused_with_its_first_rows_and_the_remedy(name, tmp_path):
    file, change, columns, words = WRITTEN[name]
    lines = list(day(3, 60, 2))
    lines[file] = remade(lines[file], change, columns)
    with pytest.raises(DataError, match=rf"of 60 rows break a rule.*First: line \d+, column {words}") as refused:
        read(write(tmp_path, *lines))
    assert ("message_2.csv", "orderbook_2.csv")[file] in str(refused.value) and "expected" in str(refused.value)


def test_decimal_commas_and_tabs_are_named(tmp_path):
    messages, books = day(3, 60, 2)
    commas = [line.replace(",", ";").replace(".", ",") for line in messages]
    with pytest.raises(DataError, match=r"line \d+, column 'time', .*decimal point"):
        read(write(tmp_path, commas, books))
    with pytest.raises(DataError, match=r"1 columns, expected 6 .*separated by tabs"):
        read(write(tmp_path, [line.replace(",", "\t") for line in messages], books))


def test_sides_that_changed_places_are_refused_with_the_order_of_columns(tmp_path):
    messages, books = day(3, 60, 2, orders=60)
    turned = [
        ",".join(cells[2:4] + cells[:2] + cells[6:] + cells[4:6]) for cells in (line.split(",") for line in books)
    ]
    with pytest.raises(DataError, match="ask price, ask size, bid price, bid size"):
        read(write(tmp_path, messages, turned))


def test_an_unknown_fault_is_named_without_a_guess(tmp_path: Path):
    messages, books = day(3, 60, 2)
    with pytest.raises(DataError, match=r"unknown-type: expected 1 to 7, got 9.*an unedited message file"):
        read(write(tmp_path, remade(messages, lambda cell: "9", range(1, 2)), books))
