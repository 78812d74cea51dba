"""Files that no edit explains are refused after a bounded number of comparisons. These are counted here, not seconds."""

from __future__ import annotations

import random
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emp_gym.data.lobster import alignment, edits
from emp_gym.data.lobster import orders as lobster_orders
from emp_gym.data.lobster import parser as lobster_bytes
from emp_gym.data.lobster.alignment import WORK_A_ROW
from emp_gym.data.lobster.edits import Edits
from emp_gym.data.lobster.orders import AGREES, SILENT, OrderRows
from emp_gym.data.lobster.reader import read
from emp_gym.types import DataError
from tests.data.reference_lobster import day
from tests.data.test_lobster_damage import write

FIRST = 3_000  # comparisons: a small budget, so that the tests are quick
OF_ONE_NODE = 400  # what one place of the files may take beyond it


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[Edits]:
    """Of each day that is read: its edits, with the work that they took."""
    made: list[Edits] = []

    class Kept(Edits):
        def __init__(self, *halves: Any) -> None:
            super().__init__(*halves)
            made.append(self)

    monkeypatch.setattr(alignment, "Edits", Kept)
    monkeypatch.setattr(alignment, "WORK", FIRST)
    return made


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """[How many rows of edits were made]."""
    count, real = [0], edits.EditRow

    def row(*fields: Any) -> Any:
        count[0] += 1
        return real(*fields)

    monkeypatch.setattr(edits, "EditRow", row)
    return count


def ended_by(lines: list[str], ends: tuple[str, ...]) -> bytes:
    return "".join(line + end for line, end in zip(lines, cycle(ends))).encode()


@pytest.mark.parametrize("which", ["message", "orderbook"])
def test_lines_that_end_in_three_ways_are_refused_within_the_budget(
    which: str, tmp_path: Path, searches: list[Edits], told: list[int]
) -> None:
    messages, books = day(3, 1_500, 5, orders=60)
    paths = write(tmp_path, messages, books)
    path = next(file for file in Path(tmp_path).rglob("*.csv") if which in file.name)
    path.write_bytes(ended_by(messages if which == "message" else books, ("\n", "\r\n", "\r")))
    with pytest.raises(DataError, match=r"rows, order book file.*row \d.*comparisons, expected at most [\d,]+; expected two files"):
        read(paths)
    (search,) = searches
    assert FIRST < search.work < FIRST + WORK_A_ROW * 1_500 + OF_ONE_NODE
    assert told[0] < 10 * search.work


@pytest.mark.parametrize(("more", "fewer"), [("messages", "books"), ("books", "messages")])
def test_one_row_thousands_of_times_is_refused_within_the_budget(
    more: str, fewer: str, tmp_path: Path, searches: list[Edits], told: list[int]
) -> None:
    messages, books = day(3, 300, 5, orders=60)
    row = next(n for n in range(100, 300) if messages[n].split(",")[1] in "234")  # it cannot be done twice to the same book
    count = {more: 20_000, fewer: 7_000}
    with pytest.raises(DataError, match="no way to pair the rest was found"):
        read(write(tmp_path, [messages[row]] * count["messages"], [books[row]] * count["books"]))
    (search,) = searches
    assert search.work < FIRST + WORK_A_ROW * 200 + OF_ONE_NODE, "not once for each of the 13,000 rows too many"
    assert told[0] < 20_000, "the 13,000 rows that one edit passes are made once at most"


def test_an_honest_day_takes_no_search_and_a_damaged_one_keeps_far_from_the_budget(tmp_path: Path, searches: list[Edits]) -> None:
    messages, books = day(4, 3_000, 5, orders=60)
    (reading,) = read(write(tmp_path, messages, books))
    assert (reading.rows_kept, searches[0].work) == (3_000, 0)
    for row in random.Random(1).sample(range(3_000), 30):  # one row in a hundred
        cells = messages[row].split(",")
        messages[row] = ",".join([*cells[:3], str(int(cells[3]) + 1), *cells[4:]])
    (reading,) = read(write(tmp_path, messages, books))
    assert reading.rows_kept >= 2_960 and 0 < searches[1].work < 5 * 3_000


def test_rows_of_an_edit_are_made_when_they_are_asked_for_and_once() -> None:
    calls = []
    rows = edits.EditRows(lambda: (calls.append(n) or edits.EditRow(n, n, 0) for n in range(3)))
    assert not calls
    assert list(rows) == list(rows) and calls == [0, 1, 2]


def test_the_next_book_row_that_can_be_read_is_that_of_plain_looking(tmp_path: Path, searches: list[Edits]) -> None:
    messages, books = day(5, 400, 5, orders=60)
    bad = set(random.Random(2).sample(range(400), 60)) | set(range(200, 240)) | {399}
    read(write(tmp_path, messages, [f"x{line}" if n in bad else line for n, line in enumerate(books)]))
    plain = [next((later for later in range(n, 400) if later not in bad), 400) for n in range(400)]
    assert searches[0]._next_sound.tolist() == plain


def test_an_order_of_more_events_than_are_weighed_says_nothing(
    tmp_path: Path, searches: list[Edits], monkeypatch: pytest.MonkeyPatch
) -> None:
    messages, books = day(6, 400, 5, orders=60)
    read(write(tmp_path, messages, books))
    orders = OrderRows(searches[0].messages)
    long = max(range(400), key=lambda row: len(orders.rows_of(row)))
    assert len(orders.rows_of(long)) > 2 and orders.word_for(long) >= AGREES
    monkeypatch.setattr(lobster_orders, "MOST_EVENTS", len(orders.rows_of(long)) - 1)
    assert orders.word_for(long) == SILENT


def test_a_refused_book_row_holds_zeros_and_not_what_stood_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = day(7, 200, 5, orders=60)[1]
    text = "".join(f"x{line}\n" if n % 10 == 5 else f"{line}\n" for n, line in enumerate(lines)).encode()
    monkeypatch.setattr(np, "empty", lambda shape, kind: np.full(shape, 7, kind))
    books = lobster_bytes.books_of(np.frombuffer(text, np.uint8), 0, ord(","), 5)
    assert np.flatnonzero(~books.ok).tolist() == list(range(5, 200, 10))
    assert not books.price[~books.ok].any() and not books.size[~books.ok].any()
