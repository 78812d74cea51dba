"""A run that learned from days which its trial did not note gets no version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from governance.ledgers import SETTING, day, sha

from emp_gym.governance.errors import UnregisteredPolicy
from emp_gym.governed.run_hooks import Governed
from emp_gym.runs.learned_from import trained_on
from emp_gym.runs.run_folder import RunFolder
from emp_gym.types import DataError


def left(folder: Path, spans: Any) -> RunFolder:
    folder.mkdir(parents=True)
    (folder / "provenance.json").write_text(json.dumps({"data": [], "trained_on": spans}))
    return RunFolder(folder)


def span(symbol: str, date: str, first: int = 0) -> dict[str, Any]:
    return {"identity": "i", "content": "c", "symbol": symbol, "date": date, "first_row": first, "last_row": first + 9, "split": "train"}


def test_each_day_is_named_once_and_a_run_without_a_record_names_none(tmp_path: Path) -> None:
    run = left(tmp_path / "a", [span("A", "2030-01-07"), span("A", "2030-01-07", 50), span("B", "2030-01-07")])
    assert trained_on(run.path) == [("A", "2030-01-07"), ("B", "2030-01-07")]
    assert trained_on(tmp_path) == [] and trained_on(left(tmp_path / "b", []).path) == []
    for broken in ([{"symbol": "A"}], ["A"], 7):
        with pytest.raises(DataError, match=r"provenance\.json"):
            trained_on(left(tmp_path / f"broken {broken!r}", broken).path)


def test_days_that_the_trial_did_not_note_are_named_and_refused(tmp_path: Path) -> None:
    with Governed(tmp_path / "log", create=True) as governed:
        days = [day(1, symbol="A"), day(2, symbol="A")]
        payload = {"agent": "ppo", "config": sha("c"), "days": days, "seed": 0, "setting": SETTING, "steps": 1}
        governed._trial = governed.ledger.note_trial(payload).seq
        noted = [(one["symbol"], one["date"]) for one in days]
        governed._as_noted(left(tmp_path / "good", [span(*one) for one in noted]))
        with pytest.raises(UnregisteredPolicy, match=r"trained on B 2030-01-03, which trial 0 did not note"):
            governed._as_noted(left(tmp_path / "bad", [span(*noted[0]), span("B", "2030-01-03")]))
