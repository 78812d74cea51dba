"""The same rows in disguise: shifted, renumbered, renamed or cut, they are known again, and other days are not taken for them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emp_gym.data import store
from emp_gym.data.duplicates import IRREGULAR, RUN, RUNS, SHARED, Given, _sharing, shape, shape_of, shares
from emp_gym.data.lobster import reader
from emp_gym.data.synthetic import day as synthetic
from emp_gym.data.tape.format import hash_of
from emp_gym.data.tape.tape_set import TapeSet, build
from emp_gym.types import EMPTY_ASK, EMPTY_BID, MESSAGE, DataError, RecordedDay

ROWS = 3_000
ALONG = ("time_ns", "kind", "order_id", "size", "price", "side", "book_price", "book_size")


def recorded(folder: Path, seed: int = 1) -> RecordedDay:
    config = synthetic.DayConfig(seed=seed, rows=ROWS, symbol="AAA", date="2031-05-01")
    written = synthetic.write_day(folder / str(seed), config)
    (reading,) = reader.read((written.message, written.orderbook))
    return reading.day


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> RecordedDay:
    return recorded(tmp_path_factory.mktemp("day"))


def on_another_date(day: RecordedDay) -> RecordedDay:
    return replace(day, date="2031-05-02")


def cut(day: RecordedDay, rows: slice = slice(None, -1)) -> RecordedDay:
    return replace(on_another_date(day), **{name: getattr(day, name)[rows] for name in ALONG})


def a_nanosecond_later(day: RecordedDay) -> RecordedDay:
    return replace(on_another_date(day), time_ns=day.time_ns + 1)


def a_tick_higher(day: RecordedDay) -> RecordedDay:
    empty = (day.book_price == EMPTY_ASK) | (day.book_price == EMPTY_BID)
    book = np.where(empty, day.book_price, day.book_price + 100)
    return replace(on_another_date(day), price=day.price + 100, book_price=book)


def renumbered(day: RecordedDay) -> RecordedDay:
    return replace(on_another_date(day), order_id=day.order_id + 7)


def renamed_and_all_of_it(day: RecordedDay) -> RecordedDay:
    return replace(a_tick_higher(renumbered(a_nanosecond_later(cut(day)))), instrument=replace(day.instrument, symbol="ZZZ"))


def a_tenth_of_it_renumbered(day: RecordedDay) -> RecordedDay:
    return renumbered(cut(day, slice(1_000, 1_300)))


DISGUISES = [cut, a_nanosecond_later, a_tick_higher, renumbered, renamed_and_all_of_it, a_tenth_of_it_renumbered]


@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_day_in_disguise_is_refused_beside_the_day_that_it_is(
    tmp_path: Path, day: RecordedDay, disguise: Callable[[RecordedDay], RecordedDay]
) -> None:
    paths = [build(each).save(tmp_path / f"{n}.tape") for n, each in enumerate((day, disguise(day)))]
    with pytest.raises(DataError, match=r"share rows.*give one of them"):
        store.tapes([str(path) for path in paths])
    assert all(len(store.tapes(path).info) == 1 for path in paths), "each alone is fine"


def test_days_of_other_seeds_share_nothing_and_are_read_together(tmp_path: Path, day: RecordedDay) -> None:
    other = on_another_date(recorded(tmp_path, seed=2))
    tapes = [build(each) for each in (day, other)]
    assert not set(shape_of(tapes[0], 0)) & set(shape_of(tapes[1], 0))
    saved = [str(tape.save(tmp_path / f"{tape.info[0].date}.tape")) for tape in tapes]
    assert len(store.tapes(saved).info) == 2


def test_the_embedded_days_share_no_run_of_rows() -> None:
    tape = store.tapes()
    shapes = [set(shape_of(tape, day)) for day in range(len(tape.info))]
    assert all(len(each) == RUNS for each in shapes)
    assert not any(one & other for one, other in itertools.combinations(shapes, 2))


def test_a_tape_that_was_saved_without_a_shape_has_the_same_one_and_the_same_hash(day: RecordedDay) -> None:
    tape = build(day)
    (info,) = tape.info
    older = replace(info, source={name: value for name, value in info.source.items() if name != "shape"})
    assert shape_of(replace(tape, info=(older,)), 0) == tuple(info.source["shape"]) == shape_of(tape, 0)
    assert hash_of([older]) == tape.hash and older.identity == info.identity
    assert shape_of(TapeSet.concatenate([build(on_another_date(day)), replace(tape, info=(older,))]), 1) == shape_of(tape, 0)


def rows_with_pauses(pauses: list[int]) -> np.ndarray:
    rows = np.zeros(len(pauses) + 1, MESSAGE)
    rows["time_ns"][1:] = np.cumsum(pauses)
    rows["size"] = 100
    return rows


def test_sweeps_and_clocks_of_whole_seconds_look_alike_on_all_days_and_are_left_out() -> None:
    assert shape(rows_with_pauses([0] * 50)) == shape(rows_with_pauses([10**9] * 50)) == []
    few, enough = ([0] * (RUN - n) + list(range(1, n + 1)) for n in (IRREGULAR - 1, IRREGULAR))
    assert shape(rows_with_pauses(few)) == [] and len(shape(rows_with_pauses(enough))) == 1
    assert shape(rows_with_pauses([])) == shape(np.zeros(0, MESSAGE)) == []


def test_days_share_from_so_many_runs_on() -> None:
    assert shares(range(10), range(10 - SHARED, 20)) and not shares(range(10), range(11 - SHARED, 20))


class Counted(int):
    """A row of a sketch that counts how often it is looked up."""

    looked = 0

    def __hash__(self) -> int:
        Counted.looked += 1
        return int(self) % 7


def test_equal_values_of_one_sketch_are_no_pairs_and_cost_what_they_are(day: RecordedDay) -> None:
    tape = build(day)
    one, other = Given("a", 0, tape), Given("b", 1, tape)
    Counted.looked = 0
    sketches = [[Counted(1)] * 2_000, [Counted(2)] * 2_000]
    assert not list(_sharing([one, other], sketches, "{}"))
    assert Counted.looked < 5_000, "not the four million pairs"


def test_a_row_that_hundreds_of_days_hold_still_finds_each_of_them(day: RecordedDay) -> None:
    tape = build(day)
    many = [Given(str(number), number, tape) for number in range(300)]
    found = list(_sharing(many, [range(SHARED)] * len(many), "{}"))
    assert {other.where for _, other, _ in found} == {str(number) for number in range(1, 300)}
    assert len(found) == 64 * 63 // 2 + 64 * (300 - 64), "each with the first 64"
