"""A run knows its days: other data than those of its record are told, and a run does not go on with them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from emp_gym.data.tape.format import DayInfo
from emp_gym.runs.config import RunConfig
from emp_gym.runs.run_folder import PROVENANCE, RunFolder, data_differs, data_hashes
from emp_gym.types import Instrument


def a_day(symbol: str = "AAA", date: str = "2024-05-01", rows: int = 1_000, content: str = "") -> DayInfo:
    files = {"message": {"sha256": f"m {symbol} {date} {content}"}, "orderbook": {"sha256": f"b {symbol} {date}"}}
    return DayInfo(Instrument(symbol), date, rows, 5, {**files, "content": content or f"{symbol} {date} {rows}"})


DAYS = (a_day(), a_day("BBB"), a_day(date="2024-05-02"))


def env_on(*days: DayInfo) -> Any:
    return SimpleNamespace(unwrapped=SimpleNamespace(tape_set=SimpleNamespace(info=days)))


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    (tmp_path / PROVENANCE).write_text(json.dumps({"data": data_hashes(env_on(*DAYS))}))
    return RunFolder(tmp_path)


def test_the_same_days_are_not_remarked_on_in_any_order(run: RunFolder) -> None:
    assert data_differs(run, env_on(*DAYS)) == data_differs(run, env_on(*DAYS[::-1])) == []


def test_a_changed_day_is_told_with_what_changed(run: RunFolder) -> None:
    shorter, edited = a_day(rows=900), a_day(content="x")
    dearer = replace(DAYS[0], instrument=Instrument("AAA", taker_fee_bps=3.0))
    packed = replace(DAYS[0], source={**DAYS[0].source, "message": {"sha256": "with a comma"}})
    for day, words in (
        (shorter, "1,000 rows then, 900 now"), (edited, "other content"), (dearer, "other rules"), (packed, "other files"),
    ):  # fmt: skip
        (line,) = data_differs(run, env_on(day, *DAYS[1:]))
        assert line.startswith("AAA 2024-05-01 is not the day that the run knew") and words in line


def test_days_that_went_and_days_that_came_are_counted_and_named(run: RunFolder) -> None:
    assert data_differs(run, env_on(*DAYS[:2])) == ["AAA 2024-05-02 of the run's record is not among the data"]
    came = [a_day("CCC", f"2024-06-0{k}") for k in (1, 2)]
    assert data_differs(run, env_on(*DAYS, *came)) == ["2 days (CCC 2024-06-01 to CCC 2024-06-02) of the data are not in the run's record"]
    assert len(data_differs(run, env_on(*came))) == 2


def test_a_record_of_an_earlier_version_is_compared_by_files_and_rows(run: RunFolder) -> None:
    told = json.loads((run.path / PROVENANCE).read_text())
    for day in told["data"]:
        del day["identity"], day["content"]
    (run.path / PROVENANCE).write_text(json.dumps(told))
    assert data_differs(run, env_on(*DAYS)) == []
    assert "900 now" in data_differs(run, env_on(a_day(rows=900), *DAYS[1:]))[0]


def test_without_a_record_or_without_days_there_is_nothing_to_tell(run: RunFolder, tmp_path: Path) -> None:
    assert data_differs(RunFolder(tmp_path / "elsewhere"), env_on(*DAYS)) == []
    (tmp_path / PROVENANCE).write_text(json.dumps({"data": []}))
    assert data_differs(run, SimpleNamespace(unwrapped=SimpleNamespace())) == []


def test_paths_in_a_configuration_are_text(tmp_path: Path) -> None:
    assert RunConfig(env={"data": tmp_path}).env["data"] == str(tmp_path)
    assert RunConfig(env={"data": [tmp_path, "synthetic"]}).env["data"] == [str(tmp_path), "synthetic"]
    assert RunConfig(env={"every": "1 s"}).env == {"every": "1 s"}
