"""A run log whose columns point outside of it is refused when it is read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from emp_gym.evaluation import runlog
from emp_gym.types import DataError, RunLog
from tests.evaluation.logs import by_hand

FAULTS = [
    ("fills", "episode", 1), ("fills", "episode", -1), ("steps", "episode", 7), ("fills", "side", 3), ("fills", "row", -1),
    ("fills", "regime", 9), ("steps", "decision", -1), ("accounts", "price_to_cash", 0), ("accounts", "parent_side", 2),
    ("accounts", "decisions", -4), ("steps", "reward", np.inf), ("accounts", "twap2", -np.inf),
]  # fmt: skip


def log() -> RunLog:
    return by_hand([100, 101, 102, 101], [{"decision": 1, "side": 1, "price": 100, "quantity": 5, "mid": 100}])


def test_a_log_within_bounds_is_read(tmp_path: Path) -> None:
    assert runlog.load(runlog.save(log(), tmp_path / "log")).fills["price"].tolist() == [100]


@pytest.mark.parametrize(("table", "column", "value"), FAULTS)
def test_a_column_out_of_bounds_is_refused_with_its_place(table: str, column: str, value: float, tmp_path: Path) -> None:
    wrong = log()
    wrong.tables[table][column][0] = value
    with pytest.raises(DataError, match=rf"{table}\.{column}, entry 0: expected .*, got {value}"):
        runlog.load(runlog.save(wrong, tmp_path / "log"))


def test_an_episode_without_an_account_is_refused(tmp_path: Path) -> None:
    wrong = log()
    folder = runlog.save(RunLog({**wrong.config, "windows": [[0, 0], [0, 9]]}, {}, wrong.tables), tmp_path / "log")
    with pytest.raises(DataError, match="accounts: 1 entries, expected 2"):
        runlog.load(folder)
    header = json.loads((folder / runlog.HEADER).read_text())
    header["config"]["windows"] = 3
    (folder / runlog.HEADER).write_text(json.dumps(header))
    with pytest.raises(DataError, match="windows: expected a list"):
        runlog.load(folder)
