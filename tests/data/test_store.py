"""What a user names becomes days: in order of date, each once, told apart, read again when they change."""

from __future__ import annotations

import itertools
import json
import logging
import os
import zipfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emp_gym.data import store
from emp_gym.data.duplicates import SAMPLE
from emp_gym.data.lobster import reader
from emp_gym.data.synthetic.day import DayConfig
from emp_gym.data.tape.format import DayInfo, hash_of, rules_of
from emp_gym.data.tape.tape_set import TapeSet, build
from emp_gym.market.clock import Clock
from emp_gym.market.day_starts import split_days
from emp_gym.types import ConfigError, DataError, Instrument, RecordedDay
from tests.market.duel import synthetic_day

DATE, ROWS = "2024-05-02", 120


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMP_GYM_HOME", str(tmp_path / "cache"))


def quotes(rows: int, first_s: int, order: int, levels: int) -> tuple[list[str], list[str]]:
    """Messages and book rows: orders that come to one of the levels and go again, one a second."""
    sizes = {side: [100 * (level + 1) for level in range(levels)] for side in (1, -1)}
    messages, books = [], []
    for k in range(rows):
        side, level, size, coming = (1, -1)[k // 2 % 2], k // 4 % levels, 10 + k // 2 % 7, k % 2 == 0
        sizes[side][level] += size if coming else -size
        price = 1_000_000 - side * 100 * (level + 1)
        messages.append(f"{first_s + k}.000000001,{1 if coming else 3},{order + k // 2},{size},{price},{side}")
        cells = [[1_000_100 + 100 * i, sizes[-1][i], 999_900 - 100 * i, sizes[1][i]] for i in range(levels)]
        books.append(",".join(map(str, itertools.chain(*cells))))
    return messages, books


def day(
    folder: Path, symbol: str = "XYZ", date: str = DATE, *, rows: int = ROWS, start_s: int = 34_200, end_s: int = 57_600,
    first_s: int | None = None, order: int | None = None, levels: int = 2,
) -> Path:  # fmt: skip
    """A pair in `folder`; the path of its message file. Orders have the numbers of that symbol and date unless `order` is given."""
    folder.mkdir(parents=True, exist_ok=True)
    own = int.from_bytes(f"{symbol}{date}{start_s}".encode(), "big") % 10**9 if order is None else order
    stem = f"{symbol}_{date}_{start_s * 1000}_{end_s * 1000}"
    for kind, text in zip(("message", "orderbook"), quotes(rows, first_s or start_s, own, levels)):
        (folder / f"{stem}_{kind}_{levels}.csv").write_text("\n".join(text) + "\n")
    return folder / f"{stem}_message_{levels}.csv"


def book_of(message: Path) -> Path:
    return message.with_name(message.name.replace("message", "orderbook"))


def zipped(message: Path, archive: Path, *, keep: bool = False) -> Path:
    with zipfile.ZipFile(archive, "w") as packed:
        for file in (message, book_of(message)):
            packed.write(file, file.name)
            if not keep:
                file.unlink()
    return archive


def called(tape: TapeSet) -> list[str]:
    return [str(info) for info in tape.info]


def recorded(message: Path) -> RecordedDay:
    (reading,) = reader.read(message)
    return reading.day


def same(a: TapeSet, b: TapeSet) -> bool:
    arrays = [f.name for f in fields(TapeSet) if f.name not in ("info", "path", "signal", "regime", "hashes")]
    return a.info == b.info and all(np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays)


# ------------------------------------------------------------------------------------------------------------ in what order


def test_days_are_in_order_of_date_session_and_symbol_whatever_the_order_given(tmp_path: Path) -> None:
    days = [
        day(tmp_path / "a", "BBB", "2024-05-03"), day(tmp_path / "b", "AAA", "2024-05-03"),
        day(tmp_path / "c", "ZZZ", "2024-05-01", start_s=43_200), day(tmp_path / "d", "ZZZ", "2024-05-01", end_s=43_200),
    ]  # fmt: skip
    hashes = set()
    for order in ((0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)):
        tape = store.tapes([days[i] for i in order])
        hashes.add(tape.hash)
        assert called(tape) == ["ZZZ 2024-05-01", "ZZZ 2024-05-01", "AAA 2024-05-03", "BBB 2024-05-03"]
        assert tape.info[0].instrument.session_start_ns < tape.info[1].instrument.session_start_ns
    assert len(hashes) == 1, "whoever compares hashes of the same days finds them the same"


def test_a_set_that_was_saved_in_another_order_is_put_in_order_too(tmp_path: Path) -> None:
    late, early = (build(recorded(day(tmp_path, date=date))) for date in ("2024-05-03", "2024-05-02"))
    saved = TapeSet.concatenate([late, early]).save(tmp_path / "two.tape")
    tape = store.tapes(str(saved))
    assert called(tape) == ["XYZ 2024-05-02", "XYZ 2024-05-03"]
    assert same(tape, TapeSet.concatenate([early, late]))


def test_a_day_of_a_set_is_the_day_that_was_put_in(tmp_path: Path) -> None:
    each = [build(recorded(day(tmp_path, date=date, rows=rows))) for date, rows in ((DATE, 120), ("2024-05-03", 90))]
    together = TapeSet.concatenate(each)
    assert all(same(together.one(number), tape) for number, tape in enumerate(each))
    assert each[0].one(0) is each[0]


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_newest_first_is_trained_and_judged_like_oldest_first(tmp_path: Path, order: slice) -> None:
    days = [str(day(tmp_path, date=f"2024-05-0{k}")) for k in range(1, 7)]
    tape = store.tapes(days[order])
    train, test = ({int(d) for d, *_ in split_days(tape, split, Clock(5, 0), 4).table} for split in ("train", "test"))
    assert [tape.info[d].date for d in sorted(train)] == [f"2024-05-0{k}" for k in range(1, 6)]
    assert [tape.info[d].date for d in test] == ["2024-05-06"]


# ------------------------------------------------------------------------------------------------------ the same rows twice


def given_twice(folder: Path) -> list[Path]:
    path = day(folder)
    return [path, path]


def copied_to_another_place(folder: Path) -> list[Path]:
    return [day(folder / "one", order=1), day(folder / "two", order=1)]


def another_symbol(folder: Path) -> list[Path]:
    return [day(folder, "AAA", order=1), day(folder, "BBB", order=1)]


def another_date(folder: Path) -> list[Path]:
    return [day(folder, order=1), day(folder, date="2024-05-07", order=1)]


def part_of_it_under_another_symbol_and_date(folder: Path) -> list[Path]:
    return [day(folder, order=1), day(folder, "BBB", "2024-06-01", order=1, rows=ROWS // 2)]


def another_depth(folder: Path) -> list[Path]:
    return [day(folder, levels=1), day(folder, levels=2)]


def a_session_inside(folder: Path) -> list[Path]:
    return [day(folder), day(folder, start_s=34_230, first_s=34_230, end_s=37_800)]


def a_damaged_copy(folder: Path) -> list[Path]:
    good, bad = day(folder / "good", order=1), day(folder / "bad", order=1)
    for file in (bad, book_of(bad)):
        lines = file.read_text().splitlines()
        file.write_text("\n".join(lines[:50] + lines[60:]) + "\n")
    return [good, bad]


def a_tape_beside_its_zip(folder: Path) -> list[Path]:
    path = day(folder)
    tape = build(recorded(path)).save(folder / "a.tape")
    return [tape, zipped(path, folder / "a.zip")]


def five_times_under_five_symbols(folder: Path) -> list[Path]:
    return [day(folder, symbol * 3, order=1) for symbol in "ABCDE"]


REPEATS = [
    given_twice, copied_to_another_place, another_symbol, another_date, part_of_it_under_another_symbol_and_date, another_depth,
    a_session_inside, a_damaged_copy, a_tape_beside_its_zip, five_times_under_five_symbols,
]  # fmt: skip


@pytest.mark.parametrize("plant", REPEATS)
def test_the_same_rows_twice_are_refused_with_the_names_of_both(tmp_path: Path, plant: Callable[[Path], list[Path]]) -> None:
    paths = plant(tmp_path)
    for order in (paths, paths[::-1]):
        with pytest.raises(DataError, match="give one of them") as refused:
            store.tapes(list(order))
        assert len(paths) > 2 or all(str(path) in str(refused.value) for path in paths)
    for path in paths:
        assert len(store.tapes(path).info) == 1, "each alone is fine"


def test_another_depth_is_told_as_such(tmp_path: Path) -> None:
    another_depth(tmp_path)
    with pytest.raises(DataError, match="one day at 1 and at 2 levels"):
        store.tapes(tmp_path)


def test_unlike_days_with_the_same_prices_and_sizes_are_not_taken_for_each_other(tmp_path: Path) -> None:
    days = [day(tmp_path, symbol, date) for symbol in ("AAA", "BBB") for date in ("2024-05-01", "2024-05-02")]
    tape = store.tapes([str(path) for path in days])
    assert len(tape.info) == 4 and len({info.content for info in tape.info}) == 4


def test_one_day_under_rules_of_two_venues_is_let_through_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read = recorded(day(tmp_path))
    instruments = (Instrument("AAA"), Instrument("BBB", taker_fee_bps=30))
    tapes = [build(replace(read, instrument=each)).save(tmp_path / f"{each.symbol}.tape") for each in instruments]
    assert called(store.tapes(tapes)) == ["AAA 2024-05-02", "BBB 2024-05-02"]
    assert "share rows under other rules (taker_fee_bps)" in caplog.text


def test_two_sessions_of_a_day_may_touch(tmp_path: Path) -> None:
    day(tmp_path, end_s=34_200 + ROWS - 1)
    day(tmp_path, start_s=34_200 + ROWS - 1)  # the last row of the first is as late as the first of the second
    assert len(store.tapes(tmp_path).info) == 2


def test_a_sample_of_two_days_tells_how_much_they_share(tmp_path: Path) -> None:
    whole = recorded(day(tmp_path, rows=4_000))
    half = replace(whole, **{
        name: getattr(whole, name)[:2_000]
        for name in ("time_ns", "kind", "order_id", "size", "price", "side", "book_price", "book_size")
    })  # fmt: skip
    samples = [set(build(each).info[0].source["sample"]) for each in (whole, half)]
    assert [len(rows) for rows in samples] == [SAMPLE, SAMPLE]
    union = sorted(samples[0] | samples[1])[:SAMPLE]
    assert 0.35 < len(samples[0] & samples[1] & set(union)) / SAMPLE < 0.65, "half of all rows are common"


def test_days_of_unlike_depth_are_refused_with_an_example_of_each(tmp_path: Path) -> None:
    shallow, deep = day(tmp_path / "a", levels=1), day(tmp_path / "b", date="2024-05-03", levels=2)
    with pytest.raises(ConfigError, match=f"1 in XYZ {DATE} .*2 in XYZ 2024-05-03 .*days of one depth"):
        store.tapes([shallow, deep])


# ---------------------------------------------------------------------------------------------------- what tells days apart


def test_morning_and_afternoon_are_two_days_of_one_date(tmp_path: Path) -> None:
    day(tmp_path / "day", rows=80, end_s=43_200)
    day(tmp_path / "day", rows=120, start_s=43_200)
    for _ in range(2):
        tape = store.tapes(tmp_path / "day")
        assert [info.rows for info in tape.info] == [80, 120]
        assert tape.rows["time_ns"][tape.day_slice(1)][0] > tape.rows["time_ns"][tape.day_slice(0)][-1]
        store._tapes.cache_clear()


def test_the_cache_keeps_every_depth_and_every_version_of_a_day(tmp_path: Path) -> None:
    one, two, other = day(tmp_path, levels=1), day(tmp_path, levels=2), day(tmp_path / "other", levels=2, rows=100)
    for _ in range(2):
        assert [(store.tapes(path).levels, store.tapes(path).info[0].rows) for path in (one, two, other)] == [
            (1, ROWS), (2, ROWS), (2, 100),
        ]  # fmt: skip
        store._tapes.cache_clear()
    assert len(list((tmp_path / "cache" / "tapes").iterdir())) == 3


def test_identity_follows_all_that_identifies_a_day_and_content_the_rows_alone() -> None:
    files: dict[str, Any] = {"message": {"sha256": "m"}, "orderbook": {"sha256": "b"}, "content": "rows"}
    base = DayInfo(Instrument("AAA"), DATE, 5, 2, files)
    others = [
        replace(base, date="2024-05-03"), replace(base, levels=1),
        *(replace(base, instrument=replace(base.instrument, **change)) for change in (
            {"symbol": "BBB"}, {"session_end_ns": 1}, {"tick": 1}, {"lot": 100}, {"currency": "EUR"}, {"taker_fee_bps": 1.0},
            {"maker_fee_per_lot": 0.1}, {"ticks": ((10_000, 100),)},
        )),
        *(replace(base, source={**files, half: {"sha256": "x"}}) for half in ("message", "orderbook")),
    ]  # fmt: skip
    assert len({base.identity, *(other.identity for other in others)}) == len(others) + 1
    assert {other.content for other in others} == {base.content} == {"rows"}
    assert replace(base, source={**files, "content": "x"}).identity != base.identity
    moved = replace(base, source={**files, "folder": "/elsewhere"})
    assert (moved.identity, moved.content) == (base.identity, base.content)


def test_rules_that_came_later_change_a_hash_only_where_they_are_used() -> None:
    assert not {"ticks", "maker_fee_per_lot", "taker_fee_per_lot"} & set(rules_of(Instrument("AAA")))
    assert rules_of(Instrument("AAA", taker_fee_per_lot=0.01))["taker_fee_per_lot"] == 0.01


def test_ticks_by_price_come_back_from_disk_as_they_were(tmp_path: Path) -> None:
    instrument = Instrument("AAA", ticks=((0, 1), (10_000, 100)))
    tape = build(replace(recorded(day(tmp_path)), instrument=instrument))
    assert TapeSet.open(tape.save(tmp_path / "a.tape")).info[0].instrument == instrument


# ------------------------------------------------------------------------------------------------- files change under us


def shorten(file: Path) -> None:
    """The last 20 rows are gone; size and time are the file system's."""
    file.write_text("\n".join(file.read_text().splitlines()[:-20]) + "\n")


def as_named(path: Path) -> Path:
    return path


def in_a_folder(path: Path) -> Path:
    return path.parent


def in_a_folder_of_folders(path: Path) -> Path:
    return path.parent.parent


@pytest.mark.parametrize("new_process", [False, True])
@pytest.mark.parametrize("given", [as_named, book_of, in_a_folder, in_a_folder_of_folders])
@pytest.mark.parametrize("changed", [as_named, book_of])
def test_a_half_that_changed_is_seen(
    tmp_path: Path, given: Callable[[Path], Path], changed: Callable[[Path], Path], new_process: bool
) -> None:
    path = day(tmp_path / "data" / "deep")
    assert store.tapes(given(path)).info[0].rows == ROWS
    shorten(changed(path))
    if new_process:
        store._tapes.cache_clear()
        store._hash_of.cache_clear()
    assert store.tapes(given(path)).info[0].rows == ROWS - 20


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path: Path) -> None:
    path = day(tmp_path)
    before, status = store.tapes(path), path.stat()
    path.write_text(path.read_text().replace(".000000001,", ".000000002,"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert store.tapes(path).info[0].content != before.info[0].content


def test_a_zip_that_changed_is_seen_inside_of_a_folder_too(tmp_path: Path) -> None:
    archive = zipped(day(tmp_path / "a"), tmp_path / "data.zip")
    (tmp_path / "zips").mkdir()
    archive = archive.rename(tmp_path / "zips" / "a.zip")
    assert [store.tapes(path).info[0].rows for path in (archive, archive.parent)] == [ROWS, ROWS]
    zipped(day(tmp_path / "a", rows=90), archive)
    assert [store.tapes(path).info[0].rows for path in (archive, archive.parent)] == [90, 90]


def test_a_kept_tape_that_was_cut_off_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = day(tmp_path)
    kept = store.tapes(path).path
    assert kept is not None
    (kept / "book.npy").write_bytes(b"")
    store._tapes.cache_clear()
    assert store.tapes(path).info[0].rows == ROWS and "made again" in caplog.text


# ------------------------------------------------------------------------------------------------ folders as people keep them


def test_folders_of_zips_of_tapes_of_days_and_of_folders_are_read(tmp_path: Path) -> None:
    zips, tapes, nested = tmp_path / "zips", tmp_path / "tapes", tmp_path / "nested"
    zips.mkdir()
    for number, part in enumerate(("train", "val", "test"), 1):
        date = f"2024-05-0{number}"
        path = day(nested / part, date=date)
        build(recorded(path)).save(tapes / f"{date}.tape")
        zipped(path, zips / f"{date}.zip", keep=True)
    dates = ["2024-05-01", "2024-05-02", "2024-05-03"]
    found = [store.tapes(folder) for folder in (zips, tapes, nested)]
    assert [[info.date for info in tape.info] for tape in found] == [dates] * 3
    assert len({tape.info[0].identity for tape in found}) == 1, "the same day in every form"


def test_a_folder_that_holds_a_day_in_two_forms_gives_it_once_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:  # fmt: skip
    path = day(tmp_path / "data")
    zipped(path, tmp_path / "data" / "a.zip", keep=True)
    zipped(day(tmp_path / "data", date="2024-05-03"), tmp_path / "data" / "b.zip")
    assert called(store.tapes(tmp_path / "data")) == ["XYZ 2024-05-02", "XYZ 2024-05-03"]
    assert "a.zip" in caplog.text and "read once" in caplog.text


@pytest.mark.parametrize("one_by_one", [False, True])
def test_of_many_days_that_are_read_for_the_first_time_one_line_says_how_many(
    one_by_one: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [day(tmp_path / "days", date=f"2024-05-{1 + i:02d}") for i in range(store.SHOWN + 2)]

    def told(chosen: list[Path]) -> list[str]:
        caplog.clear()
        store.tapes(chosen if one_by_one or len(chosen) < len(paths) else tmp_path / "days")
        return [line for line in map(logging.LogRecord.getMessage, caplog.records) if "once; kept" in line]

    with caplog.at_level(logging.INFO):
        (alone,) = told(paths[:1])
        assert alone.startswith(f"reading {paths[0]} (once; kept in ")
        (line,) = told(paths)
        assert line == f"reading {store.SHOWN + 1} days (once; kept in {tmp_path / 'cache' / 'tapes'})"
        store._tapes.cache_clear()
        assert told(paths) == []


@pytest.mark.parametrize("keep", [0.3, 0.9, -1])
def test_a_zip_that_was_cut_off_is_called_damaged(keep: float, tmp_path: Path) -> None:
    archive = zipped(day(tmp_path / "a", rows=300), tmp_path / "a.zip")
    whole = archive.read_bytes()
    (tmp_path / "zips").mkdir()
    cut = tmp_path / "zips" / "cut.zip"
    cut.write_bytes(whole[: int(keep * len(whole)) if keep > 0 else -1])
    for source in (cut, cut.parent, [cut, archive]):
        with pytest.raises(DataError, match=r"cut.zip: a damaged zip.*get it again") as found:
            store.tapes(source)
        assert "unpack" not in str(found.value)
    cut.write_bytes(whole[:-22].replace(b"PK\x01\x02", b"PK\x07\x07") + whole[-22:])  # its list of files is overwritten
    with pytest.raises(DataError, match=r"cut.zip: a damaged zip \(.*\); expected a whole one; get it again"):
        store.tapes(cut)


def test_what_lies_beside_and_is_not_read_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    day(tmp_path)
    for name in ("prices.csv", "more.7z", "a.parquet", ".hidden", "XYZ_2024-05-02_2.quarantine.csv", "ReadMe.txt"):
        (tmp_path / name).write_text("nothing of ours")
    with caplog.at_level(logging.WARNING):
        store.tapes(tmp_path)
    (line,) = [record.getMessage() for record in caplog.records if "not read" in record.getMessage()]
    assert all(name in line for name in ("prices.csv", "more.7z", "a.parquet"))
    assert not any(word in line for word in ("hidden", "quarantine", "ReadMe"))


def test_a_folder_of_packed_files_says_to_unpack_them(tmp_path: Path) -> None:
    (tmp_path / "days.7z").write_bytes(b"7z\xbc\xaf")
    with pytest.raises(DataError, match=r"no LOBSTER pair in it.*unpack the archive in it first \(days.7z\)"):
        store.tapes(tmp_path)


def test_a_folder_that_links_to_itself_is_read_once(tmp_path: Path) -> None:
    day(tmp_path / "data")
    (tmp_path / "data" / "again").symlink_to(tmp_path / "data")
    assert len(store.tapes(tmp_path / "data").info) == 1


def test_paths_and_lists_of_paths_are_text(tmp_path: Path) -> None:
    one, two = day(tmp_path), day(tmp_path, date="2024-05-03")
    assert store.tapes(one).hash == store.tapes(str(one)).hash
    assert store.tapes((one, str(two))).hash == store.tapes([str(two), two.parent / one.name]).hash
    for wrong in ("", [], [""], [None], 5, [one, 5]):
        with pytest.raises(ConfigError, match="a path or a list of paths"):
            store.tapes(wrong)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------------------ the cache


def test_joined_sets_that_were_not_used_for_longest_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    days = [str(day(tmp_path, date=f"2024-05-0{k}")) for k in range(1, 5)]
    sets = tmp_path / "cache" / "sets"
    first = store.tapes(days[:2])
    store.tapes(days[1:3])
    assert len(list(sets.iterdir())) == 2
    os.utime(next(path for path in sets.iterdir() if path != first.path), ns=(1, 1))
    size = sum(file.stat().st_size for file in first.path.iterdir())  # type: ignore[union-attr]
    monkeypatch.setattr(store, "MOST_JOINED", size + size // 2)
    last = store.tapes(days[2:])
    assert set(sets.iterdir()) == {first.path, last.path}
    assert store.tapes(days[1:3]).info[0].rows == ROWS, "joined again, or still open"


def test_a_folder_that_is_no_tape_is_never_replaced(tmp_path: Path) -> None:
    tape = build(recorded(day(tmp_path / "data")))
    mine = tmp_path / "results"
    mine.mkdir()
    (mine / "thesis.txt").write_text("three years")
    for place in (mine, mine / "thesis.txt"):
        with pytest.raises(DataError, match="is no tape"):
            tape.save(place, replace=True)
    assert (mine / "thesis.txt").read_text() == "three years" and len(list(tmp_path.iterdir())) == 2


def test_a_synthetic_day_stays_one_in_any_set_and_under_any_name(tmp_path: Path) -> None:
    first, second = (synthetic_day(DayConfig(seed=seed, rows=1000, date=f"2031-03-0{seed}")) for seed in (1, 2))
    made, recorded = build(first), build(replace(second, signal=None, regime=None))
    assert [made.info[0].synthetic, recorded.info[0].synthetic] == [True, False]
    source = {name: value for name, value in made.info[0].source.items() if name != "synthetic"}
    assert hash_of([replace(made.info[0], source=source)]) == made.hash, "no hash knows of it"
    made.save(tmp_path / "days" / "a.tape")
    recorded.save(tmp_path / "days" / "b.tape")
    for _ in range(2):  # joined, and joined days from the cache
        both = store.tapes(tmp_path / "days")
        assert both.signal is None and [day.synthetic for day in both.info] == [True, False]
        store._tapes.cache_clear()
    assert both.one(0).info[0].synthetic
    meta = tmp_path / "days" / "a.tape" / "meta.json"
    told = json.loads(meta.read_text())
    assert told["days"][0]["source"].pop("synthetic")
    meta.write_text(json.dumps({name: told[name] for name in ("format", "hash", "days")}))
    assert TapeSet.open(meta.parent).info[0].synthetic, "a tape of an earlier version has its truth beside it"


def test_a_cached_set_without_hashes_is_made_again_without_a_word(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("EMP_GYM_HOME", str(tmp_path))
    told = "synthetic:rows=2000"
    made = store.tapes(told)
    meta = made.path / "meta.json"
    whole = json.loads(meta.read_text())
    meta.write_text(json.dumps({name: whole[name] for name in ("format", "hash", "days")}))
    store._tapes.cache_clear()
    with caplog.at_level(logging.INFO):
        again = store.tapes(told)
    assert again.hash == made.hash and again.verify() and "without hashes" not in caplog.text
    assert json.loads(meta.read_text())["columns"] == whole["columns"]


def test_a_text_called_zip_is_told_as_one(tmp_path):
    (tmp_path / "day.zip").write_text("time,type\n")
    with pytest.raises(DataError, match=r"day\.zip: no zip, whatever its name says"):
        store.tapes(tmp_path / "day.zip")
