"""Damage is found where it was done: exactly the damaged rows are quarantined and no neighbour is accused."""

from __future__ import annotations

import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from emp_gym.data.lobster.reader import Reading, read
from emp_gym.types import DataError
from tests.data.reference_lobster import day, judge

Lines = list[str]
Damage = Callable[[Lines, Lines, int, random.Random], bool]
STRETCH, PLACES = 400, 25


def write(folder: Path, messages: Lines, books: Lines) -> tuple[Path, Path]:
    levels = (books[0].count(",") + 1) // 4
    paths = tuple(folder / f"XYZ_2012-06-21_34200000_57600000_{kind}_{levels}.csv" for kind in ("message", "orderbook"))
    for path, lines in zip(paths, (messages, books)):
        path.write_text("\n".join(lines) + "\n")
    return paths[0], paths[1]


def accused(reading: Reading) -> set[int]:
    """0-based rows of the quarantine."""
    assert reading.rows_in == reading.rows_kept + reading.rows_quarantined
    check = reading.check
    assert check.rows_checked == check.equal + check.explained + check.unexplained
    assert reading.rows_kept == len(reading.day.kind) == len(reading.day.book_size)
    return {row.row - 1 for row in reading.quarantine.rows}


def effect(message: str) -> tuple[str, ...]:
    """What a message does to the book; nothing for types 5-7."""
    _, kind, _, *rest = message.split(",")
    return ("add" if kind == "1" else "take", *rest) if int(kind) < 5 else ()


def cell(lines: Lines, row: int, column: int, change: Callable[[int], int]) -> None:
    cells = lines[row].split(",")
    cells[column] = str(change(int(cells[column])))
    lines[row] = ",".join(cells)


def message_size(messages: Lines, books: Lines, row: int, rng: random.Random) -> bool:
    cell(messages, row, 3, lambda size: size + rng.choice((1, 7, 100, size)))
    return bool(effect(messages[row]))


def message_price(messages: Lines, books: Lines, row: int, rng: random.Random) -> bool:
    cell(messages, row, 4, lambda price: price + 100 * rng.choice((-3, -1, 1, 2)))
    return bool(effect(messages[row]))


def book_size(messages: Lines, books: Lines, row: int, rng: random.Random) -> bool:
    """At a level that was there before and is there after, so that the damage leaves a trace on both sides."""
    levels = len(books[row].split(",")) // 2
    level = rng.randrange(levels - 2)
    price = books[row].split(",")[2 * level]
    near = (books[row - 1].split(",")[::2], books[row + 1].split(",")[::2])
    if price.endswith("9999999999") or not all(price in prices for prices in near):
        return False
    cell(books, row, 2 * level + 1, lambda size: size + rng.choice((1, 5, 50)))
    return True


def exchange(messages: Lines, books: Lines, row: int, rng: random.Random) -> bool:
    """Two adjacent message lines; the same effect at the same time cannot be observed."""
    first, second = messages[row], messages[row + 1]
    messages[row], messages[row + 1] = second, first
    return effect(first) != effect(second) or first.split(",")[0] != second.split(",")[0]


DAMAGES: tuple[tuple[Damage, tuple[int, ...]], ...] = (
    (message_size, (0,)),
    (message_price, (0,)),
    (book_size, (0,)),
    (exchange, (0, 1)),
)


@pytest.fixture(scope="module", params=["generated", "recorded"])
def lines(request: pytest.FixtureRequest) -> tuple[Lines, Lines]:
    if request.param == "generated":
        return day(3, 4_000, 5, orders=60)
    folder: Path = request.getfixturevalue("lobster_dir")
    archive = folder / "LOBSTER_SampleFile_AMZN_2012-06-21_5.zip"
    if not archive.exists():
        pytest.skip(f"{archive.name} is not in {folder}")
    with zipfile.ZipFile(archive) as opened:
        names = sorted(name for name in opened.namelist() if name.endswith(".csv"))
        message, book = (opened.read(name).decode().splitlines() for name in names)
    return message, book


def stretches(lines: tuple[Lines, Lines], seed: int) -> list[tuple[Lines, Lines, int, random.Random]]:
    """Copies of stretches of the day and a row in each, away from the ends."""
    rng = random.Random(seed)
    found = []
    for _ in range(PLACES):
        at = rng.randrange(len(lines[0]) - STRETCH)
        found.append((lines[0][at : at + STRETCH], lines[1][at : at + STRETCH], rng.randrange(20, STRETCH - 60), rng))
    return found


@pytest.mark.parametrize(("damage", "rows"), DAMAGES, ids=[damage.__name__ for damage, _ in DAMAGES])
def test_exactly_the_damaged_rows_are_named(lines, damage, rows, tmp_path):
    tried = 0
    for messages, books, row, rng in stretches(lines, 11):
        if not damage(messages, books, row, rng):
            continue
        (reading,) = read(write(tmp_path, messages, books))
        assert accused(reading) == {row + n for n in rows}, (row, reading.quarantine.rows)
        assert {entry.rule for entry in reading.quarantine.rows} <= {"book-mismatch", "time-decreasing"}
        tried += 1
    assert tried >= PLACES // 2


def tells(messages: Lines, books: Lines, row: int) -> bool:
    """Whether the loss of this row can be told from that of a neighbour: they do different things, at known levels."""
    different = len({effect(messages[n]) for n in range(row - 1, row + 3)} | {()}) == 5
    return different and judge(books[row - 1], messages[row], books[row]) == "equal"


@pytest.mark.parametrize("file", [0, 1], ids=["message", "orderbook"])
def test_a_dropped_line_is_the_only_row_lost(lines, file, tmp_path):
    tried = 0
    for messages, books, row, _ in stretches(lines, 12):
        if not tells(messages, books, row):
            continue
        whole = list(messages)
        del (messages, books)[file][row]
        (reading,) = read(write(tmp_path, messages, books))
        assert accused(reading) == {row}, reading.quarantine.rows
        assert reading.quarantine.rules == {("missing-message", "missing-book-row")[file]: 1}
        ids = [int(line.split(",")[2]) for n, line in enumerate(whole) if n != row]
        assert reading.day.order_id.tolist() == ids
        tried += 1
    assert tried >= 5


def test_lines_dropped_in_both_files_keep_every_other_row_paired(lines, tmp_path):
    messages, books = lines[0][:STRETCH], lines[1][:STRETCH]
    rows = [n for n in range(30, 350) if tells(messages, books, n)]
    first, last = rows[0], rows[-1]
    expected = [judge(books[n - 1], messages[n], books[n]) for n in range(1, STRETCH)]
    damaged_messages, damaged_books = list(messages), list(books)
    del damaged_messages[first], damaged_books[last]  # equal row counts, and everything between is out of step
    (reading,) = read(write(tmp_path, damaged_messages, damaged_books))
    assert reading.quarantine.rules == {"missing-message": 1, "missing-book-row": 1}
    assert reading.rows_kept == STRETCH - 2 and reading.rows_in == STRETCH
    assert reading.check.equal + reading.check.explained + 2 == len(expected)


def test_two_damages_close_together_are_both_found(lines, tmp_path):
    messages, books, _, rng = stretches(lines, 13)[0]
    rows = [n for n in range(50, 300) if effect(messages[n])][:1]
    rows.append(next(n for n in range(rows[0] + 3, 350) if effect(messages[n])))
    for row in rows:
        cell(messages, row, 3, lambda size: size + 3)
    (reading,) = read(write(tmp_path, messages, books))
    assert accused(reading) == set(rows)
    assert [row.column for row in reading.quarantine.rows] == ["size", "size"]


def test_the_entry_says_what_was_expected(tmp_path):
    messages, books = day(3, 400, 5, orders=60)
    row = next(n for n in range(100, 300) if effect(messages[n]))
    size = messages[row].split(",")[3]
    cell(messages, row, 3, lambda size: size + 5)
    (reading,) = read(write(tmp_path, messages, books))
    (entry,) = reading.quarantine.rows
    assert entry.file.endswith("message_5.csv") and entry.row == row + 1 and entry.column == "size"
    assert entry.expected.startswith(size) and entry.got == str(int(size) + 5)
    assert reading.check.unexplained_rows == (row + 1,)
    assert reading.day.source["rules"]["book-mismatch"] == 1


def test_book_rows_edited_alike_for_a_while_are_all_named(tmp_path):
    """As met in the wild: 33,570 replaced by 50 in 24 successive book rows. Only the ends disagree by themselves."""
    first = "1000100,500,999900,33570,1000200,100,999800,100"
    messages, books = ["34200.1,1,1,33570,999900,1"], [first]
    for n in range(80):
        size = 100 + 10 * (n + 1)
        messages.append(f"{34201 + n},1,{n + 2},10,1000200,-1")
        books.append(f"1000100,500,999900,33570,1000200,{size},999800,100")
    for row in range(20, 44):
        books[row] = books[row].replace("33570", "50")
    (reading,) = read(write(tmp_path, messages, books))
    assert accused(reading) == set(range(20, 44))
    entry = reading.quarantine.rows[0]
    assert (entry.file.split("_")[4], entry.row, entry.column, entry.got) == ("orderbook", 21, "bid size 1", "50")
    assert entry.expected.startswith("33570")


def test_a_wrong_time_accuses_no_neighbour(tmp_path):
    messages, books = day(4, 300, 5)
    for row, clock in ((100, "86000"), (200, "34200.000000001")):
        cells = messages[row].split(",")
        messages[row] = ",".join([clock, *cells[1:]])
    (reading,) = read(write(tmp_path, messages, books))
    assert accused(reading) == {100, 200}
    assert reading.quarantine.rules == {"time-decreasing": 2}


def test_refused_rows_never_shift_the_pairing(tmp_path):
    messages, books = day(5, 600, 5, orders=60)
    rng = random.Random(1)
    bad = sorted(rng.sample(range(600), 60))
    for row in bad:
        if rng.random() < 0.5:
            messages[row] = "NaN" + messages[row]
        else:
            books[row] = books[row] + ",7"
    (reading,) = read(write(tmp_path, messages, books))
    assert accused(reading) == set(bad) and reading.rows_in == 600
    assert reading.check.unexplained == 0
    kept = [line.split(",") for n, line in enumerate(messages) if n not in bad]
    assert reading.day.order_id.tolist() == [int(cells[2]) for cells in kept]
    asks = [int(line.split(",")[0]) for n, line in enumerate(books) if n not in bad]
    assert reading.day.book_price[:, 1, 0].tolist() == asks


def test_a_file_that_ends_a_little_early_keeps_the_rest(tmp_path):
    messages, books = day(6, 300, 5)
    (reading,) = read(write(tmp_path, messages[:-3], books))
    assert accused(reading) == {297, 298, 299} and reading.rows_kept == 297


@pytest.mark.parametrize("kind", ["half a message file", "another day's book"])
def test_files_that_do_not_belong_together_are_refused_with_both_counts(kind, tmp_path):
    messages, books = day(7, 1_000, 5, orders=60)
    if kind == "half a message file":
        messages = messages[:500]
    else:
        books = day(8, 1_000, 5, orders=60)[1]
    with pytest.raises(DataError, match=rf"{len(messages):,} rows.*{len(books):,}.*row \d.*take both files"):
        read(write(tmp_path, messages, books))
