"""No memory: SQLite's allocator fails at ever higher limits, Python's at the n-th allocation. Said aloud, nothing lost."""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from emp_gym.governance.errors import LogError
from emp_gym.governance.log.store import Profile
from emp_gym.governance.log.writer import DIARY, LEDGER, Log
from tests.governance.bad_disk import BadDisk
from tests.governance.logs import create, drafts, findings, reopen
from tests.governance.test_faults import Story

PROFILES = pytest.mark.parametrize("profile", [LEDGER, DIARY], ids=lambda profile: profile.name)
ENOUGH = 600_000  # bytes: more than the story needs
HEARD, SUCCEEDED = 40, 41  # exit codes of a child


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """The folder is on a real disk, which is not asked to sync."""
    monkeypatch.setattr("emp_gym.governance.log.writer.sync_folder", lambda folder: None)


# ------------------------------------------------------------------------------------------------------ SQLite's allocator


@contextmanager
def heap_of(more: int) -> Iterator[None]:
    """SQLite gets at most `more` bytes beyond what it holds; an allocation that needs more fails."""
    apsw.hard_heap_limit(apsw.memory_used() + more)
    try:
        yield
    finally:
        apsw.hard_heap_limit(0)
        apsw.soft_heap_limit(0)


class Later(Story):
    """The story with memory enough until the first acknowledgement."""

    def __init__(self, path: Path, profile: Profile, vfs: str, limit: int) -> None:
        super().__init__(path, profile, vfs)
        self.limit = limit

    def append(self, log: Log) -> None:
        self.receipts += log.append_many(drafts(5, len(self.receipts)))
        with heap_of(self.limit):
            super().append(log)


def with_heaps(folder: Path, profile: Profile, limits: Iterable[int]) -> Counter:
    """Both stories under each limit, judged with all the memory there is. Counts what was heard, before and after the first
    acknowledgement, and what went well."""
    told: Counter = Counter()
    for limit in limits:
        for late in (False, True):
            (folder / "one").mkdir()
            with BadDisk() as disk:
                path = folder / "one/a.log"
                story = Later(path, profile, disk.name, limit) if late else Story(path, profile, disk.name)
                with heap_of(ENOUGH if late else limit):
                    story.run()
            told[("late" if story.receipts else "early") if story.raised else "whole"] += 1
            story.judge()
            shutil.rmtree(folder / "one")
    return told


@PROFILES
def test_no_memory_for_sqlite_is_said_and_loses_nothing(profile, tmp_path):
    limits = sorted(random.Random(1).sample(range(1, 300_000), 16))
    told = with_heaps(tmp_path, profile, [*limits, ENOUGH])
    assert told["early"] >= 8 and told["late"] >= 4 and told["whole"] >= 2


@pytest.mark.long
@pytest.mark.timeout(7200)
@PROFILES
def test_every_limit_of_memory_in_numbers(profile, tmp_path, evidence):
    step = int(os.environ.get("EMP_HEAP_STEP", 256))
    told = with_heaps(tmp_path, profile, range(1, ENOUGH, step))
    what = f"heap limits of SQLite, every {step} bytes, {profile.name}"
    evidence(what, n=told["early"] + told["late"], after_an_acknowledgement=told["late"], unheard=0, lost=0)


# ------------------------------------------------------------------------------------------------------ Python's allocator


def refuses_or_holds(log: Log) -> None:
    """After an error a log takes nothing more, or the error came before anything was written and it goes on as if not."""
    try:
        assert log.append("a", "k").seq == log.size - 1
    except LogError as error:
        assert "open the log again" in str(error)


def child(path: Path, number: int) -> int:
    """Appends with the `number`-th allocation failing; the exit code says what came of it."""
    import _testcapi

    log, batch = reopen(path), list(drafts(3, 5))
    try:
        _testcapi.set_nomemory(number, number + 1)
        log.append_many(batch)
    except (MemoryError, LogError):
        _testcapi.remove_mem_hooks()
        refuses_or_holds(log)
        return HEARD
    finally:
        _testcapi.remove_mem_hooks()
    return SUCCEEDED


def forked(path: Path, number: int) -> int:
    """`child` in a process of its own: exit code, or minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = child(path, number)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def with_failing_allocations(folder: Path, profile: Profile, numbers: Iterable[int]) -> Counter:
    """An append of three to a log of five for each number. What had been acknowledged is there, and the log verifies."""
    with create(folder / "origin.log", profile=profile) as log:
        kept = [receipt.leaf for receipt in log.append_many(drafts(5))]
    told: Counter = Counter()
    for number in numbers:
        path = folder / "a.log"
        shutil.copy(folder / "origin.log", path)
        code = forked(path, number)
        assert code in (HEARD, SUCCEEDED) or code < 0, f"allocation {number}: exit code {code}"
        told["heard" if code == HEARD else "whole" if code == SUCCEEDED else "killed"] += 1
        with reopen(path) as log:
            leaves = [entry.leaf for entry in log.entries()]
        assert leaves[:5] == kept and len(leaves) in ((8,) if code == SUCCEEDED else (5, 6, 8, 9))
        assert findings(path) == []
        for file in folder.glob("a.log*"):
            file.unlink()
    return told


@pytest.fixture
def failing_python():
    """Python's own switch for failing allocations."""
    return pytest.importorskip("_testcapi", reason="this Python has no test hooks for its allocator")


@PROFILES
def test_no_memory_for_python_is_said_and_loses_nothing(profile, tmp_path, failing_python):
    numbers = [*range(0, 160, 8), 100_000]
    told = with_failing_allocations(tmp_path, profile, numbers)
    assert told["heard"] > 10 and told["whole"] >= 1


@pytest.mark.long
@pytest.mark.timeout(7200)
@PROFILES
def test_every_allocation_of_python_in_numbers(profile, tmp_path, failing_python, evidence):
    told: Counter = Counter()
    for first in range(0, 100_000, 50):
        block = with_failing_allocations(tmp_path, profile, range(first, first + 50))
        (tmp_path / "origin.log").unlink()
        told += block
        if block["whole"] == 50:
            break
    what = f"the n-th allocation of Python in an append, every n, {profile.name}"
    evidence(what, n=first, heard=told["heard"], killed=told["killed"], without_effect=told["whole"] - 50, lost=0)
    assert told["heard"] > 50
