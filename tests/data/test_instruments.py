"""Instruments as people write them, and when a day begins in UTC."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emp_gym.cli import ingest
from emp_gym.data import instruments
from emp_gym.data.clock import midnight_utc_ns
from emp_gym.data.instruments import Instruments, changed, check, parse_fees, parse_tick, ticks_at
from emp_gym.data.synthetic import day as synthetic
from emp_gym.data.synthetic.day import DayConfig
from emp_gym.data.tape.tape_set import TapeSet, build
from emp_gym.types import NS, ConfigError, DataError, Instrument
from tests.market.by_hand import Hand

DOLLAR = ((0, 1), (10_000, 100))


def day_of(symbol: str, prices: tuple[int, int] = (100, 103), **rules: Any) -> TapeSet:
    own = Instrument(symbol, **({"tick": 1, "price_unit": 0.01} | rules))
    bid, ask = prices
    hand = Hand({bid: 5}, {ask: 5}, instrument=own).new(1, bid, 3, 7).execute(1, bid, 2).new(-1, ask, 4, 8)
    return build(hand.day())


# ------------------------------------------------------------------------------------------------------------------- midnights


@pytest.mark.parametrize(
    ("date", "zone", "utc"),
    [
        ("2012-06-21", "America/New_York", (2012, 6, 21, 4)),  # summer time: four hours behind
        ("2012-01-05", "America/New_York", (2012, 1, 5, 5)),
        ("2012-03-11", "America/New_York", (2012, 3, 11, 5)),  # the clocks go forward at two: midnight is still winter's
        ("2012-03-12", "America/New_York", (2012, 3, 12, 4)),
        ("2012-11-04", "America/New_York", (2012, 11, 4, 4)),  # and back at two: midnight is still summer's
        ("2012-11-05", "America/New_York", (2012, 11, 5, 5)),
        ("2024-07-01", "Europe/Berlin", (2024, 6, 30, 22)),
        ("2024-07-01", "Asia/Tokyo", (2024, 6, 30, 15)),
        ("2024-07-01", "UTC", (2024, 7, 1, 0)),
    ],
)
def test_local_midnight_in_utc_knows_of_summer_time(date: str, zone: str, utc: tuple[int, ...]) -> None:
    assert midnight_utc_ns(date, zone) == int(datetime(*utc, tzinfo=UTC).timestamp()) * NS  # type: ignore[arg-type, misc]


def test_a_day_without_a_date_or_with_an_unknown_zone_is_refused() -> None:
    with pytest.raises(DataError, match=r"like '2012-06-21', got 'yesterday'"):
        midnight_utc_ns("yesterday", "UTC")
    with pytest.raises(DataError, match=r"'America/New_Yorck'; did you mean 'America/New_York'"):
        midnight_utc_ns("2012-06-21", "America/New_Yorck")
    with pytest.raises(DataError, match="no time zone"):
        midnight_utc_ns("2012-06-21", "America")  # a folder of the database


def test_a_tape_that_was_saved_keeps_its_rules_and_its_midnight(tmp_path: Path) -> None:
    tape = day_of("AAA", (9_998, 10_100), price_unit=1e-4, ticks=DOLLAR, timezone="Europe/Berlin", taker_fee_per_lot=0.0035)
    again = TapeSet.open(tape.save(tmp_path / "a.tape"))
    assert again.info[0].instrument == tape.info[0].instrument and again.hash == tape.hash
    assert again.info[0].midnight_utc_ns == int(datetime(2030, 1, 6, 23, tzinfo=UTC).timestamp()) * NS


# ------------------------------------------------------------------------------------------------------- fees and ticks as text


def test_fees_are_written_as_on_a_price_list() -> None:
    assert parse_fees("maker=-0.2bp,taker=0.3bp") == {"maker_fee_bps": -0.2, "taker_fee_bps": 0.3}
    assert parse_fees("taker=0.0035/share") == parse_fees(" taker = 0.0035/lot ") == {"taker_fee_per_lot": 0.0035}
    assert parse_fees("taker=0.3bps, taker=0.003/share") == {"taker_fee_bps": 0.3, "taker_fee_per_lot": 0.003}


@pytest.mark.parametrize("text", ["taker", "taker=1", "maker=bp", "taken=1bp", "taker=1%", "taker=nanbp", "taker=1bp/share"])
def test_what_is_no_fee_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is no fee; expected .*maker=-0.2bp,taker=0.3bp"):
        parse_fees(text)


def test_a_fee_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="taker_fee_bps is given twice"):
        parse_fees("taker=1bp,taker=2bp")


def test_a_tick_is_currency_with_a_point_and_price_units_without() -> None:
    assert parse_tick("0.01") == parse_tick("100") == {"tick": 100, "ticks": ()}
    assert parse_tick("0.0001,1.00:0.01") == parse_tick("1, 10000:100") == {"tick": 1, "ticks": ((10_000, 100),)}
    for text, said in (("a cent", "is no number"), ("0.00005", "no multiple of the price unit"), ("0", "at least one")):
        with pytest.raises(ConfigError, match=said):
            parse_tick(text)
    with pytest.raises(ConfigError, match="TICK,PRICE:TICK"):
        parse_tick("1,100")


# ---------------------------------------------------------------------------------------------------------- files and mappings


def test_fields_hold_for_all_days_and_those_of_a_symbol_for_its_own() -> None:
    tapes = TapeSet.concatenate([day_of("AAA"), day_of("BBB", lot=10)])
    both = changed(tapes, {"taker_fee_bps": 1})
    assert [day.instrument.taker_fee_bps for day in both.info] == [1.0, 1.0]
    own = changed(tapes, {"instrument": {"AAA": {"lot": 5}, "default": {"currency": "EUR"}}})
    assert own.info[0].instrument == replace(tapes.info[0].instrument, lot=5)
    assert own.info[1].instrument == replace(tapes.info[1].instrument, currency="EUR")
    assert changed(tapes, None) is tapes and changed(tapes, {}) is tapes
    assert own.rows is tapes.rows, "only the rules are others"


@pytest.mark.parametrize("ending", [".yaml", ".json"])
def test_a_file_says_the_same_as_its_mapping(ending: str, tmp_path: Path) -> None:
    said = {"instrument": {"AAA": {"tick": 1, "ticks": [[0, 1]], "taker_fee_per_lot": 0.0035}}}
    path = tmp_path / f"mine{ending}"
    path.write_text(json.dumps(said))  # which is YAML too
    assert Instruments(path).by_symbol == Instruments(said).by_symbol
    assert changed(day_of("AAA"), str(path)).hash == changed(day_of("AAA"), said).hash != day_of("AAA").hash


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"taker_fee": 1.0}, r"no field 'taker_fee'; did you mean 'taker_fee_bps'"),
        ({"AAA": {"lots": 1}}, r"AAA: an instrument has no field 'lots'; did you mean 'lot'"),
        ({"lot": 1.5}, r"lot must be an integer, got 1.5"),
        ({"lot": True}, r"lot must be an integer, got True"),
        ({"taker_fee_bps": "free"}, r"taker_fee_bps must be a number, got 'free'"),
        ({"taker_fee_bps": float("nan")}, "must be a number"),
        ({"currency": ""}, "currency must be text"),
        ({"symbol": "CCC"}, "the symbol is the day's own"),
        ({"lot": 1, "AAA": {"lot": 2}}, "side by side"),
        ({"AAB": {"lot": 2}}, r"\['AAB'\], but the days are of \['AAA'\]; did you mean 'AAA'"),
        ({"ticks": {0: 1}}, "side by side|no field"),
        ({"ticks": [[0, 1, 2]]}, r"list of \[price from which, tick\]"),
        ({"ticks": [[100, 1], [50, 10]]}, "ascending"),
        ({"tick": 1, "ticks": [[10, 100]]}, "10 must be a multiple of the tick below it"),
        ({"tick": 0}, "tick and lot must be >= 1"),
        ({"session_end_ns": 0}, "must end after it starts"),
        ({"timezone": "Mars/Olympus"}, "no time zone"),
        (["lot"], "expected fields of an instrument"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_and_says_why(given: Any, said: str) -> None:
    with pytest.raises((ConfigError, DataError), match=said):
        if isinstance(given, list):
            Instruments(given)  # type: ignore[arg-type]
        changed(day_of("AAA"), given)


def test_files_that_are_not_there_or_no_yaml_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no readable file of instruments"):
        Instruments(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("{a: [")
    with pytest.raises(DataError, match=r"bad\.yaml: not YAML"):
        Instruments(tmp_path / "bad.yaml")


def test_what_contradicts_the_recorded_rows_is_refused_with_the_row() -> None:
    tape = day_of("AAA", (100, 103))
    with pytest.raises(ConfigError, match=r"tick 10 contradicts 1 rows of AAA 2030-01-07: row 3 has price 103, .* multiple of 10"):
        changed(tape, {"tick": 10})
    with pytest.raises(ConfigError, match=r"row 3 has price 103, which is no multiple of 10; the day was read with 1"):
        changed(tape, {"ticks": [[0, 1], [100, 10]]})
    with pytest.raises(ConfigError, match=r"price_unit 0.1 contradicts AAA 2030-01-07, .* row 0 has price 1, which is 0.01 USD"):
        changed(tape, {"price_unit": 0.1})
    assert changed(tape, {"price_unit": 0.01, "tick": 1}).hash == tape.hash


def test_ticks_of_many_prices_are_those_of_each() -> None:
    own = Instrument("AAA", tick=7, ticks=((0, 1), (10_000, 100), (20_000, 200)))
    prices = np.array([0, 1, 9_999, 10_000, 19_999, 20_000, 10**9])
    assert ticks_at(own, prices).tolist() == [own.tick_at(int(price)) for price in prices] == [1, 1, 1, 100, 100, 200, 200]
    check(own)


def test_options_of_a_command_line_stand_over_the_file() -> None:
    file = {"AAA": {"lot": 10, "tick": 5, "ticks": [[10, 10]]}}
    said = instruments.from_options("0.01", "taker=1bp", file)
    assert said.of("AAA") == {"lot": 10, "tick": 100, "ticks": (), "taker_fee_bps": 1.0}
    assert said.of("BBB") == {"tick": 100, "ticks": (), "taker_fee_bps": 1.0}
    read_with = said.before_reading("AAA", (1, 2))
    assert read_with == Instrument("AAA", tick=100, lot=10, taker_fee_bps=1.0, session_start_ns=1, session_end_ns=2)
    assert instruments.from_options(None, "taker=1bp", None).before_reading("AAA", None) is None, "the reader finds the tick"


def test_rules_given_at_ingestion_end_in_the_tape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = synthetic.write_day(tmp_path / "files", DayConfig(seed=9, rows=1_000))
    (tmp_path / "mine.yaml").write_text("default: {lot: 10, taker_fee_bps: 0.1}\n")
    source = [str(written.message), "--out", str(tmp_path / "tapes")]
    options = ["--tick", "0.0001,1.00:0.01", "--fees", "taker=0.3bp,maker=-0.0020/share", "--instrument", str(tmp_path / "mine.yaml")]
    assert ingest.main([*source, *options]) == 0
    (tape,) = (tmp_path / "tapes").glob("*.tape")
    own, plain = TapeSet.open(tape).info[0].instrument, Instrument("x")
    assert (own.tick, own.ticks, own.lot) == (1, ((10_000, 100),), 10)
    assert (own.taker_fee_bps, own.maker_fee_per_lot, own.maker_fee_bps) == (0.3, -0.002, 0.0)
    assert (own.price_unit, own.currency, own.timezone) == (plain.price_unit, plain.currency, plain.timezone)
    capsys.readouterr()
    for bad, said in (
        (["--fees", "free"], "'free' is no fee"),
        (["--tick", "a cent"], "is no number"),
        (["--instrument", str(tmp_path / "none.yaml")], "no readable file of instruments"),
    ):
        assert ingest.main([*source, *bad]) == 2 and said in capsys.readouterr().err
    (tmp_path / "other.yaml").write_text("NOBODY: {lot: 10}\n")
    assert ingest.main([*source, "--instrument", str(tmp_path / "other.yaml")]) == 2
    assert "says something of ['NOBODY'], but the days are of" in capsys.readouterr().err
    (tmp_path / "unit.yaml").write_text("price_unit: 0.01\n")
    assert ingest.main([*source, "--instrument", str(tmp_path / "unit.yaml")]) == 2
    assert "price_unit 0.01 contradicts" in capsys.readouterr().err
