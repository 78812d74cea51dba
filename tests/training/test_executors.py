"""Engines: the same results wherever tasks run, and no failure, death or interruption that nobody hears of."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import engine_tasks as tasks
import pytest

from emp_gym.agents.adapters import cluster
from emp_gym.agents.registry import MissingPackage
from emp_gym.training.executors import Executor, TaskFailed, WorkerDied, engine
from emp_gym.types import ConfigError

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


@pytest.fixture(scope="module")
def processes() -> Iterator[Executor]:
    with engine("processes", 2) as where:
        yield where


@pytest.fixture
def where(request: pytest.FixtureRequest, processes: Executor) -> Executor:
    return processes if request.param == "processes" else engine("local")


both = pytest.mark.parametrize("where", ["local", "processes"], indirect=True)


@both
def test_every_task_is_done_once_and_comes_with_its_index(where: Executor) -> None:
    found = list(where.map(tasks.square, range(7)))
    assert sorted(found) == [(i, i * i) for i in range(7)]
    assert list(where.map(tasks.square, [])) == []


def test_this_process_works_in_order() -> None:
    assert [index for index, _ in engine("local").map(tasks.square, range(5))] == [0, 1, 2, 3, 4]


def test_what_is_done_first_comes_first(processes: Executor) -> None:
    assert next(iter(processes.map(tasks.wait_and_square, [60.0, 0.0]))) == (1, 0.0)


def test_workers_have_one_thread_each(processes: Executor) -> None:
    assert dict(processes.map(tasks.threads, [0])) == {0: (1, "1")}


@both
def test_an_error_names_its_task_and_place(where: Executor) -> None:
    with pytest.raises(TaskFailed, match=r"task 1 \(2\): ZeroDivisionError: two \(at engine_tasks.py:\d+\)") as caught:
        list(where.map(tasks.fail_at_two, [1, 2, 3]))
    assert (caught.value.index, caught.value.kind) == (1, "ZeroDivisionError")
    assert "in fail_at_two" in "".join(caught.value.__notes__)
    assert sorted(where.map(tasks.square, [1])) == [(0, 1)], "it works on"


@both
def test_an_error_of_ours_keeps_its_own_words(where: Executor) -> None:
    with pytest.raises(TaskFailed) as caught:
        list(where.map(tasks.refuse_two, [2]))
    assert str(caught.value) == "task 0 (2): expected anything but 2"


def test_a_killed_worker_is_told_and_replaced(processes: Executor) -> None:
    with pytest.raises(WorkerDied, match=r"task 1 \(2\): its process is gone \(exit code -9\)"):
        list(processes.map(tasks.die_at_two, [1, 2, 3]))
    assert sorted(processes.map(tasks.square, [1, 2, 3])) == [(0, 1), (1, 4), (2, 9)]


def test_what_cannot_travel_is_a_failure_and_not_a_wait(processes: Executor) -> None:
    with pytest.raises(TaskFailed, match="task 0"):
        list(processes.map(tasks.cannot_travel, [0]))


def came(path: Path) -> bool:
    until = time.monotonic() + 60
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.01)
    return path.exists()


def test_leaving_early_interrupts_what_is_under_way(processes: Executor, tmp_path: Path) -> None:
    under_way = processes.map(tasks.until_interrupted, [str(tmp_path)], stop=lambda: _raise_when(tmp_path / "began"))
    with pytest.raises(KeyboardInterrupt):
        list(under_way)
    assert came(tmp_path / "interrupted")


def _raise_when(path: Path) -> bool:
    if path.exists():
        raise KeyboardInterrupt
    return False


def test_asked_to_stop_it_begins_nothing_more_and_waits_for_what_runs(processes: Executor, tmp_path: Path) -> None:
    folders = [tmp_path / str(i) for i in range(4)]
    for folder in folders:
        folder.mkdir()
    asked = processes.map(tasks.until_asked, [str(f) for f in folders], stop=lambda: all((f / "began").exists() for f in folders[:2]))
    assert sorted(asked) == [(0, "asked 1 times"), (1, "asked 1 times")]
    assert not any((folder / "began").exists() for folder in folders[2:])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("proceses",), "did you mean processes"), (("processes", 0), "at least 1"), (("local", 2), "works alone"),
        (("processes", 1, "here:6379"), "belongs to the engine ray"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(arguments: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        engine(*arguments)


def test_a_missing_ray_comes_with_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackage, match="pip install"):
        engine("ray")


@needs_ray
def test_ray_gives_the_same_tells_failures_and_deaths_and_stops_when_asked(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    with engine("ray", 2) as where:
        assert sorted(where.map(tasks.square, range(5))) == [(i, i * i) for i in range(5)]
        with pytest.raises(TaskFailed, match=r"task 1 \(2\): ZeroDivisionError: two \(at engine_tasks.py"):
            list(where.map(tasks.fail_at_two, [1, 2, 3]))
        with pytest.raises(WorkerDied, match=r"task 1 \(2\): its Ray worker is gone"):
            list(where.map(tasks.die_at_two, [1, 2, 3]))
        began = tmp_path / "0" / "began"
        assert list(where.map(tasks.until_asked, [str(tmp_path / "0")], stop=began.exists)) == [(0, "asked 1 times")]
    import ray

    assert not ray.is_initialized()


@needs_ray
def test_ray_is_patient_in_words_that_it_knows_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "RAY_health_check_failure_threshold"
    for each in cluster.PATIENCE:
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, "7")
    ray = cluster.package()
    assert {each: os.environ[each] for each in cluster.PATIENCE} == cluster.PATIENCE | {name: "7"}
    known = (Path(ray.__file__).parent / "_raylet.so").read_bytes()
    assert [each for each in cluster.PATIENCE if each.encode() not in known] == []
