"""Events of orders follow from each other: against a slow judge, and what is accused where they do not."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emp_gym.cli.ingest import main
from emp_gym.data.lobster.alignment import pair
from emp_gym.data.lobster.lives import CONTRADICTS, CUT, FIRST, FITS, lives_of
from emp_gym.data.lobster.parser import books_of, messages_of
from emp_gym.data.lobster.reader import Reading, read
from tests.data.reference_lobster import day, sides
from tests.data.test_lobster_damage import write

Lines = list[str]
WORDS = {FIRST: "first", FITS: "fits", CUT: "cut"}


def judged(messages: Lines, books: Lines) -> list[str]:
    """Of each message row: "first", "fits", "cut", "wrong", or "" for types 5 to 7. Plain dicts, one rule after the other."""
    orders: dict[str, dict[str, Any]] = {}
    visits: dict[tuple[int, int], dict[str, int]] = {}  # (side, price) -> a level while it is seen
    said: list[str] = []
    entries: list[int] = []  # ids in the order of entry
    rising = 0
    seen: dict[int, dict[int, int]] = {1: {}, -1: {}}
    for row, (message, book) in enumerate(zip(messages, books)):
        _, kind_text, number, *rest = message.split(",")
        kind, (size, price, side) = int(kind_text), (int(cell) for cell in rest)
        before, seen = seen, {s: dict(levels) for s, levels in sides(book).items()}
        if not row:  # the first book row: its message is not part of a visit
            before = seen
            visits = {(s, p): {"lots": 0} for s in seen for p in seen[s]}
        word = ""
        here = visits.get((side, price)) if row else None
        if kind == 1 and row and price not in before[side]:
            here = visits[side, price] = {"lots": 0}
        if kind <= 4:
            best = max(before[side], key=lambda p: p * side, default=None)
            behind = kind == 4 and row > 0 and price != best
            order = orders.get(number)
            rise = rising >= max(50, 0.9 * len(entries))
            again = order is not None and kind == 1 and (int(number) > entries[-1] if rise else order["over"])
            if order is None or again:
                word = "wrong" if behind or (again and rise) else "first"
                entered = kind == 1
                if entered:
                    rising += int(number) > (entries[-1] if entries else 0)
                    entries.append(int(number))
                orders[number] = {
                    "price": price, "side": side, "left": size if entered else None, "over": kind == 3,
                    "visit": here if entered else None,
                }  # fmt: skip
                if entered and here is not None:
                    here["lots"] += size
            elif (price, side) != (order["price"], order["side"]) or kind == 1:
                word = "wrong"  # it belongs to another order
            else:
                same = order["visit"] is not None and order["visit"] is here
                left = order["left"]
                word = "fits"
                if order["over"] or behind or (left is not None and (size > left or (kind == 2 and size == left))):
                    word = "wrong"
                elif left is not None and kind == 3 and size < left:
                    word = "wrong" if same else "cut"
                if word == "wrong":  # what is left of the order is not known any more
                    order["left"], order["over"] = None, False
                else:
                    order["over"] = kind == 3 or left == size
                    order["left"] = None if left is None else left - size
                    if same and here is not None:
                        here["lots"] -= size
            if here is not None:
                if here["lots"] > seen[side].get(price, 0):
                    word = "wrong"
                if word == "wrong":
                    visits[side, price] = {"lots": 0}
        for s in (1, -1):
            for key in [key for key in visits if key[0] == s and key[1] not in seen[s]]:
                del visits[key]
            for p in seen[s]:
                visits.setdefault((s, p), {"lots": 0})
        said.append(word)
    return said


def said(messages: Lines, books: Lines) -> list[str]:
    """The same of the kernel."""
    body, depth = (np.frombuffer(("\n".join(lines) + "\n").encode(), np.uint8) for lines in (messages, books))
    x, y = messages_of(body, 0, 44), books_of(depth, 0, 44, (books[0].count(",") + 1) // 4)
    lives = lives_of(x, y, pair(x, y), np.ones(len(x), np.bool_))
    return ["" if kind > 4 else WORDS.get(found, "wrong") for kind, found in zip(x.kind.tolist(), lives.found.tolist())]


@pytest.mark.parametrize(("seed", "levels", "orders"), [(1, 1, 12), (2, 2, 30), (3, 5, 60), (4, 10, 20), (5, 3, 8), (6, 2, 90)])
def test_every_event_is_judged_as_by_plain_reading(seed, levels, orders):
    messages, books = day(seed, 2_500, levels, orders=orders)
    plain = judged(messages, books)
    assert said(messages, books) == plain and "wrong" not in plain
    messages = spoilt(messages, seed, 60)
    damaged = judged(messages, books)
    assert said(messages, books) == damaged and damaged.count("wrong") > 10


def test_the_judges_words_by_hand():
    """A bid of 100 at the best: 30 of it are executed, an order behind it comes and goes, the rest is deleted."""
    messages = [
        "34200.1,1,5,100,999900,1", "34200.2,1,6,40,999800,1", "34200.3,4,5,30,999900,1", "34200.4,3,6,40,999800,1",
        "34200.5,2,5,20,999900,1", "34200.6,3,5,50,999900,1", "34200.7,1,7,10,999700,1", "34200.8,3,7,10,999700,1",
    ]  # fmt: skip
    bids = [[(999900, 100)], [(999900, 100), (999800, 40)], [(999900, 70), (999800, 40)], [(999900, 70)],
            [(999900, 50)], [], [(999700, 10)], []]  # fmt: skip
    books = []
    for levels in bids:
        flat = [*levels, (-9_999_999_999, 0), (-9_999_999_999, 0)][:2]
        books.append(f"1000100,5,{flat[0][0]},{flat[0][1]},9999999999,0,{flat[1][0]},{flat[1][1]}")
    expected = ["first", "first", "fits", "fits", "fits", "fits", "first", "fits"]
    assert said(messages, books) == expected == judged(messages, books)
    for row, column, value, words in (
        (3, 1, "4", {3: "wrong"}),  # executed behind the best
        (5, 1, "2", {5: "wrong"}),  # a partial cancellation of all that is left
        (4, 1, "3", {5: "wrong"}),  # a deletion, and more comes. The order's entry is the first row: no visit tells
        (3, 2, "9", {3: "wrong"}),  # an id that nobody has, at a level whose every order is known
        (7, 2, "5", {7: "wrong"}),
    ):
        cells = messages[row].split(",")
        cells[column] = value
        changed = [*messages[:row], ",".join(cells), *messages[row + 1 :]]
        got = said(changed, books)
        assert got == judged(changed, books)
        assert {at: word for at, word in enumerate(got) if word == "wrong"} == words, (row, value, got)


def accusation(reading: Reading) -> dict[int, tuple[str, str]]:
    return {entry.row - 1: (entry.column, entry.rule) for entry in reading.quarantine.rows}


def lives(messages: Lines) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row, line in enumerate(messages):
        if line.split(",")[1] in "1234":
            found.setdefault(line.split(",")[2], []).append(row)
    return found


def changed(messages: Lines, row: int, column: int, value: str) -> Lines:
    cells = messages[row].split(",")
    cells[column] = value
    return [*messages[:row], ",".join(cells), *messages[row + 1 :]]


@pytest.fixture(scope="module")
def lines() -> tuple[Lines, Lines]:
    return day(3, 3_000, 5, orders=60)


def test_a_day_of_whole_orders_accuses_nobody(lines, tmp_path):
    (reading,) = read(write(tmp_path, *lines))
    checked = reading.orders
    words = judged(*lines)
    assert (checked.first, checked.equal, checked.explained) == (words.count("first"), words.count("fits"), words.count("cut"))
    assert checked.explained > 0 and checked.unexplained == 0 and reading.rows_quarantined == 0
    assert checked.checked + checked.first == sum(line.split(",")[1] in "1234" for line in lines[0])
    told = reading.day.source["orders"]
    assert told["checked"] == checked.checked and told["unseen"] == sum(line.split(",")[1] in "567" for line in lines[0])


def renamed(lines: tuple[Lines, Lines], place: int, folder: Path) -> list[tuple[int, Reading]]:
    """25 rows, and what is read where each of them has an id that nobody has: the first or last event of a whole order."""
    messages, books = lines
    whole = [rows for rows in lives(messages).values() if len(rows) > 1 and messages[rows[0]].split(",")[1] == "1"]
    chosen = random.Random(1).sample([rows[place] for rows in whole if rows[0] > 300 and rows[-1] < 2_700], 25)
    return [(row, *read(write(folder, changed(messages, row, 2, str(10**9 + row)), books))) for row in chosen]


def test_an_end_with_an_id_that_nobody_has_is_found(lines, tmp_path):
    found = [(row, accusation(reading)) for row, reading in renamed(lines, -1, tmp_path)]
    assert all(set(told) <= {row} for row, told in found)
    assert sum(told.get(row) == ("order id", "order-id") for row, told in found) >= 15


def test_an_entry_with_an_id_that_nobody_has_is_told_of_later_and_no_other_row_is_taken_for_it(lines, tmp_path):
    found = renamed(lines, 0, tmp_path)
    assert all(reading.rows_quarantined == 0 for _, reading in found)
    told = [reading.orders.unexplained_rows for row, reading in found]
    assert sum(bool(rows) and rows[0] > row + 1 for (row, _), rows in zip(found, told)) >= 15
    assert all(len(rows) == reading.orders.unexplained <= 1 for (_, reading), rows in zip(found, told))


def spoilt(messages: Lines, seed: int, many: int) -> Lines:
    """Ids and types that the order book does not tell."""
    rng, messages = random.Random(seed), list(messages)
    for row in rng.sample(range(1, len(messages)), many):
        cells = messages[row].split(",")
        if cells[1] in "1234" and rng.random() < 0.5:
            cells[2] = rng.choice((messages[rng.randrange(len(messages))].split(",")[2], str(rng.randrange(10**9, 10**10))))
        elif cells[1] in "234":
            cells[1] = rng.choice("234")
        messages[row] = ",".join(cells)
    return messages


@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_said_of_a_row_does_not_depend_on_the_rows_behind_it(seed, lines, tmp_path):
    messages, books = spoilt(lines[0], seed, 30), lines[1]
    (whole,) = read(write(tmp_path, messages, books))
    assert {"order-id", "order-type"} <= set(whole.quarantine.rules) and whole.orders.unexplained > whole.rows_quarantined
    for cut in random.Random(seed).sample(range(300, len(messages)), 25):
        (part,) = read(write(tmp_path, messages[:cut], books[:cut]))
        assert part.quarantine.rows == tuple(entry for entry in whole.quarantine.rows if entry.row <= cut)
        assert part.orders.unexplained_rows == tuple(row for row in whole.orders.unexplained_rows if row <= cut)
        assert np.array_equal(part.day.order_id, whole.day.order_id[: part.rows_kept])


def test_a_type_that_its_order_contradicts_is_found_with_those_that_fit(lines, tmp_path):
    messages, books = lines
    right = wrong = tried = 0
    for rows in lives(messages).values():
        kinds = [messages[row].split(",")[1] for row in rows]
        if kinds[0] != "1" or len(rows) < 3 or "2" not in kinds[1:-1] or tried == 25:
            continue
        tried += 1
        row = rows[kinds.index("2")]
        (reading,) = read(write(tmp_path, changed(messages, row, 1, "3"), books))
        told = accusation(reading)
        right += told.get(row) == ("type", "order-type")
        wrong += len(set(told) - {row})
        assert all("2" in entry.expected and entry.got == "3" for entry in reading.quarantine.rows)
    assert tried > 5 and wrong == 0 and right >= 0.9 * tried, (right, wrong, tried)


def test_a_deletion_that_is_called_partial_is_found(lines, tmp_path):
    messages, books = lines
    ends = [rows[-1] for rows in lives(messages).values() if len(rows) > 1 and messages[rows[0]].split(",")[1] == "1"]
    words = judged(messages, books)
    ends = [row for row in ends if messages[row].split(",")[1] == "3" and words[row] == "fits"][::17]
    for row in ends[:20]:
        (reading,) = read(write(tmp_path, changed(messages, row, 1, "2"), books))
        assert accusation(reading) == {row: ("type", "order-type")}
        assert reading.quarantine.rows[0].expected.startswith("3")


def test_ids_renamed_throughout_cannot_be_seen(lines, tmp_path):
    messages, books = lines
    rows = next(rows for rows in lives(messages).values() if len(rows) > 2)
    for row in rows:
        messages = changed(messages, row, 2, "77777777")
    (reading,) = read(write(tmp_path, messages, books))
    assert reading.rows_quarantined == 0 and reading.orders.unexplained == 0


def test_the_command_tells_of_orders_beside_book_rows(lines, tmp_path, capsys):
    paths = write(tmp_path, *lines)
    assert main([str(paths[0]), "--out", str(tmp_path / "tapes"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["order_events_checked"] == told["order_events_equal"] + told["order_events_explained"] > 1_000
    assert told["order_events_unexplained"] == 0 and told["book_rows_checked"] == 2_999
    assert main([str(paths[0]), "--out", str(tmp_path / "again")]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert f"{told['order_events_checked']:,} checked" in words and "No check sees" in words


def test_the_recorded_days_own_exceptions_are_explained(lobster_dir: Path) -> None:
    archive = lobster_dir / "LOBSTER_SampleFile_AMZN_2012-06-21_5.zip"
    if not archive.exists():
        pytest.skip(f"{archive.name} is not in {lobster_dir}")
    (reading,) = read(archive)
    assert reading.rows_kept == reading.rows_in == 155_935
    assert (reading.orders.explained, reading.orders.unexplained) == (5, 0)
    assert CONTRADICTS > CUT
