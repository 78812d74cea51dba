"""Entries of a diary that were made up, in a log that is whole: each is named, none is taken for a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emp_gym.governance.diary.blocks import DECISION, FILLED, OBJECTION, ORDERED, Block, DiaryDamaged, encode
from emp_gym.governance.diary.diary import DiaryReader
from emp_gym.governance.log.writer import DIARY
from tests.governance.logs import create

ABOUT: dict[str, Any] = {
    "format": 2, "env": "emp-lob-v0", "face": "vector", "kwargs": "{}", "gates": [{"name": "risk", "made_by": "", "reasons": ["x"]}],
    "task": "TradeBook", "menu": ["keep"], "lanes": 2, "levers": 0, "durable": False,
    "data": {"hash": "0", "given": "null", "days": ["A 2030-01-07"], "price_units": ["0.0001"]},
}  # fmt: skip
FOLLOW: dict[str, Any] = {
    "diary-reset": {"step": 0, "seed": None, "options": "{}"}, "diary-policy": {"step": 0, "id": "a", "hash": "0"},
    "diary-end": {"steps": 1, "decisions": 2},
}  # fmt: skip


def runs(path: Path, about: Any = ABOUT, **follow: Any) -> Any:
    with create(path / "diary.log", profile=DIARY) as log:
        leaf = log.append("x", "diary-run", payload=about).leaf.hex()
        for kind, payload in (FOLLOW | {f"diary-{name}": value for name, value in follow.items()}).items():
            log.append("x", kind, subject_hash=leaf, payload=payload)
    with DiaryReader(path) as reader:
        return reader.runs()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", 99), ("env", 7), ("kwargs", "[]"), ("kwargs", "[" * 50_000), ("kwargs", "{"), ("gates", None), ("gates", [7]),
        ("gates", [{"name": 1, "made_by": "", "reasons": []}]), ("menu", [[]]), ("menu", "keep"), ("lanes", 0), ("lanes", 1 << 52),
        ("lanes", True), ("levers", -1), ("durable", 1), ("data", []), ("data", ABOUT["data"] | {"price_units": ["x"]}),
        ("data", ABOUT["data"] | {"price_units": ["1e999999999"]}), ("data", ABOUT["data"] | {"price_units": []}),
        ("data", ABOUT["data"] | {"days": None}), ("task", None),
    ],
)  # fmt: skip
def test_a_run_says_what_it_was_in_the_form_of_one(name: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(DiaryDamaged, match=name):
        runs(tmp_path, ABOUT | {name: value})


@pytest.mark.parametrize("about", [None, [], "x", b"\xff\xfe", b"[" * 100_000])
def test_a_run_that_says_nothing_is_damaged(about: Any, tmp_path: Path) -> None:
    with pytest.raises(DiaryDamaged):
        runs(tmp_path, about)


@pytest.mark.parametrize(
    "follow",
    [
        {"policy": [None]}, {"policy": "os:system"}, {"policy": {"hash": "0", "step": 1}}, {"end": {"steps": 1, "decisions": None}},
        {"end": {"steps": -1, "decisions": 2}}, {"reset": {"step": 0, "seed": 1, "options": "7"}}, {"reset": b"\xff"}, {"policy": None},
    ],
)  # fmt: skip
def test_what_follows_has_its_form(follow: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DiaryDamaged, match=r"entry \d"):
        runs(tmp_path, **follow)


def test_the_honest_twin_is_read(tmp_path: Path) -> None:
    (run,) = runs(tmp_path)
    assert run.end == {"steps": 1, "decisions": 2} and run.policies == ((0, "a", "0"),) and run.resets == ((0, None, {}),)


def block(**columns: Any) -> Block:
    decisions = np.zeros(2, DECISION)
    decisions["lane"] = [0, 1]
    actions = columns.pop("actions", np.zeros(2, np.int64))
    objections = np.zeros(1, OBJECTION)
    objections["gate"] = columns.pop("gate", 0)
    for name, value in columns.items():
        decisions[name] = value
    none = np.zeros(0, ORDERED)
    return Block("", 2, 0, 1, decisions, actions, none, none, objections, np.zeros(0, FILLED))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("day", 1), ("day", -1), ("regime", 9), ("regime", -2), ("latch", 3), ("latch", -1), ("gate", 1), ("gate", -1),
        ("actions", np.ones(2, np.int64)), ("actions", np.full(2, np.nan, np.float32)), ("actions", np.zeros((2, 1), np.float32)),
    ],
)  # fmt: skip
def test_decisions_that_the_run_cannot_hold_are_not_read(column: str, value: Any, tmp_path: Path) -> None:
    with create(tmp_path / "diary.log", profile=DIARY) as log:
        leaf = log.append("x", "diary-run", payload=ABOUT).leaf.hex()
        for one in (block(), block(**{column: value})):
            one.run = leaf
            log.append("x", "diary-block", subject_hash=leaf, payload=encode(one))
    with DiaryReader(tmp_path) as reader:
        read = reader.blocks(reader.run())
        assert len(next(read).decisions) == 2, "the honest twin"
        with pytest.raises(DiaryDamaged, match="are not of run 0"):
            next(read)


@pytest.mark.parametrize(
    ("kind", "row"), [("diary-decision", []), ("diary-decision", b"\xff"), ("diary-outcome", {"of": []}), ("diary-decision", {"step": 0})]
)
def test_rows_that_are_none_are_damaged(kind: str, row: Any, tmp_path: Path) -> None:
    with create(tmp_path / "diary.log", profile=DIARY) as log:
        leaf = log.append("x", "diary-run", payload=ABOUT | {"durable": True}).leaf.hex()
        log.append("x", kind, subject_hash=leaf, payload=row)
    with DiaryReader(tmp_path) as reader, pytest.raises(DiaryDamaged):
        list(reader.blocks(reader.run()))
