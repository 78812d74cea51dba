"""A tape that was damaged is refused, with the place; what opening cannot see, the hashes do; kernels never run into it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from emp_gym.cli import check as check_command
from emp_gym.data import store
from emp_gym.data.instrument_bounds import BOUNDS, instrument_fault
from emp_gym.data.synthetic.day import DayConfig
from emp_gym.data.tape import check
from emp_gym.data.tape import check_kernels as kernels
from emp_gym.data.tape.files import META
from emp_gym.data.tape.format import COLUMNS, NO_ROW
from emp_gym.data.tape.tape_set import TapeSet, build
from emp_gym.types import NS, DataError, Instrument, MessageType
from tests.data.test_tape import NAMES, day_of
from tests.market.duel import synthetic_day

Change = Callable[[np.ndarray], None]


@pytest.mark.parametrize("name", NAMES)
def test_an_undamaged_tape_passes_and_so_does_a_set(name: str, tmp_path: Path) -> None:
    opened = TapeSet.open(build(day_of(name)).save(tmp_path / "a.tape"))
    assert opened.verify() and set(opened.hashes) >= set(COLUMNS)
    both = TapeSet.concatenate([opened, build(day_of(name))])
    assert not both.verify(), "nobody has written it yet"
    assert TapeSet.open(both.save(tmp_path / "b.tape")).verify()


def change(folder: Path, column: str, how: Change) -> None:
    array = np.load(folder / f"{column}.npy").view(COLUMNS[column][0]) if column in COLUMNS else np.load(folder / f"{column}.npy")
    how(array)
    np.save(folder / f"{column}.npy", array)


def put(field: str, at: object, value: int) -> Change:
    def how(array: np.ndarray) -> None:
        (array[field] if field else array)[at] = value

    return how


def more(field: str, at: object) -> Change:
    def how(array: np.ndarray) -> None:
        (array[field] if field else array)[at] += 1

    return how


def of_kind(kind: int, field: str, value: int) -> Change:
    def how(array: np.ndarray) -> None:
        array[field][np.flatnonzero(array["kind"] == kind)[0]] = value

    return how


def second_before_first(array: np.ndarray) -> None:
    at = np.flatnonzero(array["size"][:, 1, 1] > 0)[0]
    array["price"][at, 1, 1] = array["price"][at, 1, 0]


def hole_before_a_level(array: np.ndarray) -> None:
    at = np.flatnonzero(array["size"][:, 1, 1] > 0)[0]
    array["size"][at, 1, 0] = array["price"][at, 1, 0] = 0


def links_of_an_empty_level(array: np.ndarray) -> None:
    array["touch"][array["touch"] >= -1] = 7


FAULTS: list[tuple[str, Change, str]] = [
    ("messages", more("time_ns", 900), r"messages\.time_ns, row 900"),
    ("rows", put("group_end", 900, 1 << 30), r"rows\.group_end, row 900: expected \d+, .*got 1073741824"),
    ("rows", put("group_end", 900, -5), r"rows\.group_end, row 900"),
    ("messages", put("kind", 900, 8), r"messages\.kind, row 900: expected 1 to 7, got 8"),
    ("messages", put("side", 900, 3), r"messages\.side, row 900"),
    ("messages", put("size", 900, -1), r"messages\.size, row 900: expected at least 0, got -1"),
    ("messages", put("price", 900, 1 << 62), r"messages\.price, row 900"),
    ("messages", put("order", 900, 1 << 30), r"messages\.order, row 900"),
    ("messages", put("birth", 900, 1500), r"messages\.birth, row 900: expected -1 to 900, got 1500"),
    ("messages", put("slot", 900, 1 << 20), r"messages\.slot, row 900"),
    ("messages", put("status", 900, 2), r"messages\.status, row 900"),
    ("rows", put("status", 900, 2), r"rows\.status, row 900"),
    ("messages", more("mid2", 900), r"messages\.mid2, row 900"),
    ("rows", more("mid2", 900), r"rows\.mid2, row 900"),
    ("rows", more("bought", 900), r"rows\.bought, row 900"),
    ("rows", more("sold", 900), r"rows\.sold, row 900"),
    ("rows", more("hidden", 900), r"rows\.hidden, row 900"),
    ("rows", more("flow", 900), r"rows\.flow, row 90[01]"),
    ("rows", more("moves2", 900), r"rows\.moves2, row 900"),
    ("book", put("size", (900, 0, 0), -4), r"book\.size, row 900: expected at least 0, got -4"),
    ("book", hole_before_a_level, r"(book\.size|links\.touch), row \d+"),
    ("book", put("price", (900, 0, 0), -1), r"book\.price, row 900"),
    ("book", second_before_first, r"book\.price, row \d+: expected worse than"),
    ("links", put("touch", (900, 0, 0), 1 << 30), r"links\.touch, row 900"),
    ("links", put("touch", (900, 0, 0), -2), r"links\.touch, row 900: expected -1 to \d+, got -2"),
    ("links", put("cross", (900, 0, 0), 900), r"links\.cross, row 900: expected a later row"),
    ("links", put("cross", (900, 0, 0), NO_ROW - 1), r"links\.cross, row 900"),
    ("touches", put("row", 500, 1 << 30), r"touches\.row, entry 500"),
    ("touches", put("row", 500, -1), r"touches\.row, entry 500: expected 0 to 1999, got -1"),
    ("touches", put("kind", 500, 6), r"touches\.kind, entry 500"),
    ("touches", put("status", 500, 3), r"touches\.status, entry 500"),
    ("touches", of_kind(MessageType.NEW, "size", 1 << 30), r"touches\.size, entry"),
    ("touches", of_kind(MessageType.ADOPT, "volume", 1 << 30), r"touches\.volume, entry"),
    ("touches", of_kind(MessageType.NEW, "volume", -3), r"touches\.volume, entry"),
    ("touches", of_kind(MessageType.NEW, "birth", 1), r"touches\.birth, entry"),
    ("touches", put("last", 500, 2), r"touches\.last, entry 500: expected 0 or 1, got 2"),
    ("touches", put("last", -1, 0), r"touches\.last, entry \d+: expected 1, since the day's touches end here"),
    ("touches", more("mid2", 500), r"touches\.mid2, entry 500"),
    ("cross", put("", (0, 900), 5), r"cross, entry 900"),
    ("cross", put("", (1, 900), 5), r"cross, entry 900"),
    ("cross_block", put("", (1, 9), 5), r"cross_block, entry 9"),
    ("window", put("row", 5, 1 << 30), r"window\.row, entry 5"),
    ("window", put("row", 100, 0), r"window\.row, entry \d+: .*begin anew"),
    ("window", put("kind", 5, 1), r"window\.kind, entry 5"),
    ("window", put("side", 5, 0), r"window\.side, entry 5"),
    ("window", put("size", 5, 0), r"window\.size, entry 5: expected at least 1, got 0"),
    ("first_touch", put("", 3, 1 << 30), r"first_touch: expected -1 to \d+"),
    ("first_touch", put("", 3, -2), r"first_touch: expected -1 to \d+, got -2"),
    *((("days", put(name, 0, 1 << 41), rf"(days\[0\]\.{name}|first_touch)")) for name in (
        "row0", "rows", "touch0", "block0", "first0", "far0", "fars", "stretch", "ticks", "grid", "base", "tick")),
    ("days", put("stretch", 0, 0), r"days\[0\]\.stretch: expected 1 to"),
    ("days", put("tick", 0, 0), r"days\[0\]\.tick: expected one of the instrument's"),
    ("days", more("grid", 0), r"days: other bytes"),
    ("signal", put("", 7, np.nan), r"signal: expected finite"),  # type: ignore[arg-type]
    ("regime", put("", 7, 9), r"regime: expected 0 to 8"),
]  # fmt: skip


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(day_of("wide")).save(tmp_path_factory.mktemp("tapes") / "a.tape")


@pytest.fixture
def folder(intact: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    for file in intact.iterdir():
        (tmp_path / "a.tape").mkdir(exist_ok=True)
        (tmp_path / "a.tape" / file.name).write_bytes(file.read_bytes())
    return tmp_path / "a.tape"


@pytest.mark.parametrize("fault", range(len(FAULTS)))
def test_what_points_outside_or_does_not_follow_is_refused_with_its_place(fault: int, folder: Path) -> None:
    column, how, said = FAULTS[fault]
    change(folder, column, how)
    with pytest.raises(DataError, match=said) as caught:
        TapeSet.open(folder)
    assert "a.tape" in str(caught.value) and "ingest.py" in str(caught.value)


def test_the_rules_that_a_single_change_cannot_reach_alone() -> None:
    tape = build(day_of("wide"))
    day, touches = tape.messages, tape.touches.copy()
    inside = np.flatnonzero((touches["last"][:-1] == 0) & (touches["row"][:-1] < touches["row"][1:]))[0]
    touches[[inside, inside + 1]] = touches[[inside + 1, inside]]
    assert kernels.touch_fault(touches, day, int(tape.days[0]["base"]))[0] == kernels.TOUCH_ORDER
    book, links = tape.book.copy(), tape.links.copy()
    book[3, 1, -1] = 0
    links[3, 1, -1] = (5, 0)
    assert kernels.book_fault(book, links, len(touches))[0] == kernels.LINK_EMPTY
    book["price"][3, 1, -1] = 4
    assert kernels.book_fault(book, links, len(touches))[0] == kernels.EMPTY_PRICE
    rows, messages = tape.rows.copy(), day.copy()
    rows["time_ns"][9] = messages["time_ns"][9] = 5
    assert kernels.row_fault(rows, messages, tape.book, int(tape.days[0]["base"]))[0] in (kernels.TIME_RANGE, kernels.GROUP)


def test_every_rule_has_words() -> None:
    names = [value for name, value in vars(kernels).items() if name.isupper() and isinstance(value, int) and name in dir(kernels)]
    assert set(check._WORDS) == set(range(1, kernels.WINDOW_DAYS + 1)) <= set(names)


# ---- hashes


def test_a_change_within_bounds_is_found_by_the_full_check_which_names_the_column(folder: Path) -> None:
    change(folder, "touches", of_kind(MessageType.NEW, "volume", 12_345))
    tape = TapeSet.open(folder)
    with pytest.raises(DataError, match=r"a\.tape: touches: other bytes than were written"):
        tape.verify()
    assert check_command.main(["--tape", str(folder)]) == 1


def test_what_lies_between_fields_counts_too(folder: Path) -> None:
    data = bytearray((folder / "rows.npy").read_bytes())
    data[-1] ^= 1
    (folder / "rows.npy").write_bytes(data)
    with pytest.raises(DataError, match="rows: other bytes"):
        TapeSet.open(folder).verify()


def test_a_column_of_another_tape_is_found(folder: Path) -> None:
    other = build(synthetic_day(DayConfig(seed=12, rows=2_000, tick_regime="wide", levels=3, signal=0)))
    np.save(folder / "signal.npy", other.signal)
    with pytest.raises(DataError, match="signal: other bytes"):
        TapeSet.open(folder).verify()


def test_a_copy_in_large_pages_is_verified_as_it_is(folder: Path) -> None:
    held = TapeSet.open(folder).in_memory(1 << 30)
    assert held.verify() and held.path == folder
    wrong = held.touches.copy()
    wrong["volume"][3] += 1
    with pytest.raises(DataError, match="touches: other bytes"):
        replace(held, touches=wrong).verify()


@pytest.mark.parametrize("place", ["date", "rows", "tick", "rows_in", "sha", "levels", "columns"])
def test_meta_is_sealed(place: str, folder: Path) -> None:
    meta = json.loads((folder / META).read_text())
    day = meta["days"][0]
    holder, name = {
        "date": (day, "date"), "rows": (day, "rows"), "levels": (day, "levels"), "tick": (day["instrument"], "tick"),
        "rows_in": (day["source"], "rows_in"), "sha": (day["source"]["message"], "sha256"), "columns": (meta["columns"], "rows"),
    }[place]  # fmt: skip
    holder[name] = holder[name] + 1 if isinstance(holder[name], int) else holder[name][:-1] + "9"
    (folder / META).write_text(json.dumps(meta))
    with pytest.raises(DataError, match=r"meta\.json: damaged: expected the seal"):
        TapeSet.open(folder)


HARM = [
    ({"days": []}, "days: expected one or more"), ({"days": [3]}, "expected the fields"), ({"days": [{}]}, "expected instrument, date"),
    ({"columns": 3}, "expected the seal"), ({"format": [6]}, r"tape format \[6\]"),
]  # fmt: skip


@pytest.mark.parametrize(("harm", "said"), HARM)
def test_a_sealed_meta_of_another_form_is_refused(harm: dict[str, object], said: str, folder: Path) -> None:
    meta = json.loads((folder / META).read_text()) | harm
    (folder / META).write_text(json.dumps(meta | {"seal": check.seal(meta)}))
    with pytest.raises(DataError, match=said):
        TapeSet.open(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format": 1' + "0" * 5000 + "}", '"6"', "\udcff"])
def test_json_that_is_no_meta_is_refused(text: str, folder: Path) -> None:
    (folder / META).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match="not a tape"):
        TapeSet.open(folder)


def test_a_pipe_in_the_place_of_a_column_does_not_wait(folder: Path) -> None:
    (folder / "rows.npy").unlink()
    os.mkfifo(folder / "rows.npy")
    with pytest.raises(DataError, match=r"rows\.npy: missing, or not a file"):
        TapeSet.open(folder)


def test_tapes_of_earlier_versions_are_read_within_bounds_and_said_to_be_without_hashes(
    folder: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    meta = json.loads((folder / META).read_text())
    (folder / META).write_text(json.dumps({name: meta[name] for name in ("format", "hash", "days")}))
    with caplog.at_level(logging.INFO):
        tape = TapeSet.open(folder)
    assert "without hashes" in caplog.text and not tape.verify()
    assert check_command.main(["--tape", str(folder)]) == 0
    assert "no hashes" in capsys.readouterr().out
    build(day_of("wide")).save(folder)
    assert TapeSet.open(folder).verify(), "the same day gives it hashes"
    (folder / META).write_text(json.dumps({name: meta[name] for name in ("format", "hash", "days")}).replace("2030", "2031"))
    with pytest.raises(DataError, match=r"meta\.json: damaged: its days have the hash"):
        TapeSet.open(folder)


def test_the_command_says_what_holds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_command.main(["--tape", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["hashes"], told["days"], told["rows"]) == (True, True, 1, 2_000)


def test_everything_is_on_the_disk_before_the_tape_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync, rename = os.fsync, Path.rename

    def fsync(handle: int) -> None:
        order.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        sync(handle)

    def renamed(self: Path, target: Path) -> Path:
        order.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", renamed)
    folder = build(day_of("by hand")).save(tmp_path / "a.tape")
    at = order.index("rename")
    assert set(order[: at - 1]) == {file.name for file in folder.iterdir()}
    assert order[at - 1].startswith(".a.tape.") and order[at + 1] == tmp_path.name


def test_what_is_joined_is_verified_first(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMP_GYM_HOME", str(tmp_path / "home"))
    other = build(synthetic_day(DayConfig(seed=31, rows=1_000, levels=3, date="2030-01-09"))).save(tmp_path / "b.tape")
    assert store.tapes([str(folder), str(other)]).verify()
    change(folder, "touches", of_kind(MessageType.NEW, "volume", 12_345))
    for joined in (tmp_path / "home" / "sets").iterdir():
        for file in joined.iterdir():
            file.unlink()
    with pytest.raises(DataError, match="touches: other bytes"):
        store.tapes([str(folder), str(other)])


# ---- damage at random


def fuzz(tapes: int, lanes: int, seed: int, tmp_path: Path) -> dict:
    """In a process of its own, which a crash ends with the damage named in `note`."""
    note = tmp_path / "note"
    done = subprocess.run(
        [sys.executable, "-m", "tests.state_fuzz", "--tapes", str(tapes), "--lanes", str(lanes), "--seed", str(seed)],
        capture_output=True, text=True, env={**os.environ, "EMP_FUZZ_NOTE": str(note)}, cwd=Path(__file__).parents[2], timeout=3600,
    )  # fmt: skip
    assert done.returncode == 0, f"{note.read_text() if note.exists() else 'at once'}: {done.returncode} {done.stderr[-3000:]}"
    found = json.loads(done.stdout)
    assert not sum(number for name, number in found["tapes"].items() if name.endswith("differs after the full check"))
    return found


def test_damage_at_random_never_crashes_and_never_passes_the_full_check(tmp_path: Path) -> None:
    found = fuzz(150, 100, 0, tmp_path)
    for kind, least in (("tapes", 0.5), ("lanes", 0.3)):
        of = found[kind]
        refused = sum(number for name, number in of.items() if name.endswith("refused when opened"))
        assert least * sum(number for name, number in of.items() if name.endswith("damages")) < refused


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_ten_thousand_damages(tmp_path: Path) -> None:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    seeds = range(1, 11)
    counts: dict[str, Counter[str]] = {"tapes": Counter(), "lanes": Counter(), "missed when opened": Counter()}
    for seed in seeds:
        for name, found in fuzz(700, 300, seed, tmp_path).items():
            counts[name].update(found)
    what = "damaged tapes and states of lanes: refused when opened, by the full check, or run by the kernels; 'old' tapes have no hashes"
    report = {
        "what": what, "tier": "long", "commit": commit, "n": 10_000, "seeds": list(seeds), "crashes": 0,
        "command": "EMP_EVIDENCE=docs/evidence/state_fuzz.json pytest -n 0 -m long tests/data/test_tape_check.py",
        "tapes": dict(sorted(counts["tapes"].items())), "lanes": dict(sorted(counts["lanes"].items())),
        "missed when opened": dict(counts["missed when opened"].most_common()),
    }  # fmt: skip
    if "EMP_EVIDENCE" in os.environ:
        Path(os.environ["EMP_EVIDENCE"]).write_text(json.dumps(report, indent=1) + "\n")


def sealed_with(folder: Path, part: str, **said: object) -> Path:
    """The tape with other values in the `instrument`, the `source` or the entry itself ("") of its first day, and a new seal."""
    meta = json.loads((folder / META).read_text())
    day = meta["days"][0]
    (day[part] if part else day).update(said)
    (folder / META).write_text(json.dumps(meta | {"seal": check.seal(meta)}))
    return folder


BEYOND = [
    ("instrument", {"price_unit": 1e308}, r"price_unit: expected 1e-08 to 100 currency, got 1e\+308"),
    ("instrument", {"price_unit": 0.0}, "price_unit: expected"),
    ("instrument", {"maker_fee_bps": 1e308}, "maker_fee_bps: expected -1,000 to 1,000 bp of notional"),
    ("instrument", {"maker_fee_bps": -1e6}, "maker_fee_bps: expected"),
    ("instrument", {"taker_fee_per_lot": 1e308}, "taker_fee_per_lot: expected"),
    ("instrument", {"maker_fee_per_lot": 1e12}, "maker_fee_per_lot: expected"),
    ("instrument", {"maker_fee_per_lot": -1e12}, "maker_fee_per_lot: expected"),
    ("instrument", {"session_end_ns": 1 << 60}, "session_end_ns: expected"),
    ("instrument", {"sector": -1}, "sector: expected"),
    ("instrument", {"lot": 0}, "lot: expected"),
    ("instrument", {"ticks": [[0, 1 << 61]]}, "ticks: expected prices from 0"),
    ("instrument", {"ticks": [[n, 1] for n in range(65)]}, "ticks: expected 64 entries at most, got 65"),
    ("instrument", {"symbol": "\x1b[31mRED"}, r"symbol: expected 1 to 255 printable letters, got '\\x1b\[31mRED'"),
    ("instrument", {"symbol": ""}, "symbol: expected"),
    ("instrument", {"currency": "US\u202eD"}, r"currency: expected 1 to 32 printable letters, got 'US\\u202eD'"),
    ("", {"date": "9999-12-31"}, "date: expected YEAR-MONTH-DAY in the calendar of 1970 to 2199, got '9999-12-31'"),
    ("", {"date": "1677-01-01"}, "date: expected"),
    ("", {"date": "2012-06-21T00"}, "date: expected"),
    ("", {"date": "2013-02-29"}, "date: expected"),
    ("source", {"sample": [1] * 300}, "sample: expected a list of at most 4,096 unlike integers, got 300:"),
    ("source", {"sample": list(range(5_000))}, "sample: expected a list of at most 4,096 unlike integers, got 5,000:"),
    ("source", {"shape": [[1]]}, "shape: expected a list"),
]  # fmt: skip


@pytest.mark.parametrize(("part", "said", "why"), BEYOND)
def test_what_no_venue_and_no_calendar_has_is_refused_when_a_tape_is_opened(
    part: str, said: dict[str, object], why: str, folder: Path
) -> None:
    with pytest.raises(DataError, match=why):
        TapeSet.open(sealed_with(folder, part, **said))


def test_every_field_of_an_instrument_has_bounds() -> None:
    assert set(BOUNDS) == {field.name for field in fields(Instrument)}


HONEST = [
    {}, {"symbol": "BTC-USDT", "price_unit": 1e-8, "currency": "USDT", "maker_fee_bps": -0.5, "taker_fee_bps": 60.0, "lot": 100_000,
         "session_start_ns": 0, "session_end_ns": 86_400 * NS, "timezone": "UTC"},
    {"taker_fee_per_lot": 0.0035, "maker_fee_per_lot": -0.002, "ticks": ((0, 1), (10_000, 100))},
    {"symbol": "ÆØÅ 7203.T", "price_unit": 1.0, "currency": "JPY"},
]  # fmt: skip


@pytest.mark.parametrize("rules", HONEST)
def test_rules_that_venues_have_are_within_the_bounds(rules: dict[str, object]) -> None:
    assert not instrument_fault(replace(Instrument("AAA"), **rules))


def test_a_day_beyond_the_bounds_does_not_become_a_tape_that_nobody_could_open() -> None:
    day = day_of("by hand")
    with pytest.raises(DataError, match="taker_fee_bps: expected -1,000 to 1,000"):
        build(replace(day, instrument=replace(day.instrument, taker_fee_bps=1e4)))
    with pytest.raises(DataError, match="date: expected YEAR-MONTH-DAY"):
        build(replace(day, date="21.6.2012"))


def test_the_largest_meta_grows_with_the_columns_between_two_bounds() -> None:
    assert [check.largest_meta(size) for size in (0, 160 << 20, 1 << 40)] == [4 << 20, 10 << 20, 64 << 20]


@pytest.mark.parametrize("text", ['{"x": "' + "y" * (4 << 20) + '"}', '{"format": 6, "x": [' + "[]," * 100_000 + "[]]}"])
def test_a_meta_of_millions_of_nothings_is_refused_before_it_is_read(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / META).write_text(text)
    monkeypatch.setattr(json, "loads", lambda *_: pytest.fail("it was read"))
    with pytest.raises(DataError, match=r"expected at most [\d,]+"):
        TapeSet.open(folder)


def test_a_tape_whose_meta_would_be_too_large_is_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "SMALL_META", 100)
    with pytest.raises(DataError, match=r"bytes of 1 days, expected at most [\d,]+; save fewer days"):
        build(day_of("by hand")).save(tmp_path / "a.tape")
    assert not any(tmp_path.iterdir())
