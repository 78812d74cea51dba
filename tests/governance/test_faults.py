"""Disk full and I/O errors at the n-th operation, for every n until none fires: said aloud, nothing acknowledged lost."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from emp_gym.governance.errors import LogError
from emp_gym.governance.log.store import Profile
from emp_gym.governance.log.writer import DIARY, LEDGER, Log, Receipt
from tests.governance.bad_disk import BadDisk
from tests.governance.logs import create, drafts, findings, key, reopen


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """The folder is on a real disk, which is not asked to sync."""
    monkeypatch.setattr("emp_gym.governance.log.writer.sync_folder", lambda folder: None)


ERRORS = {"I/O error": apsw.IOError, "disk full": apsw.FullError}
BATCHES = (1, 1, 70, 1, 130)


class Story:
    """Creation, appends, a close and a reopening on one disk; after an error, that nothing more is taken."""

    def __init__(self, path: Path, profile: Profile, vfs: str) -> None:
        self.path, self.profile, self.vfs = path, profile, vfs
        self.receipts: list[Receipt] = []
        self.asked = 0
        self.raised = 0

    def run(self) -> None:
        try:
            log = create(self.path, profile=self.profile, vfs=self.vfs)
            self.append(log)
            self.close(log)
            log = reopen(self.path, vfs=self.vfs)
            self.append(log)
            self.close(log)
        except LogError:
            self.raised += 1

    def append(self, log: Log) -> None:
        for count in BATCHES:
            self.asked = len(self.receipts) + count
            try:
                self.receipts += log.append_many(drafts(count, len(self.receipts)))
            except LogError:
                self.refuses_everything(log)
                raise

    def refuses_everything(self, log: Log) -> None:
        for _ in range(3):  # the fault is over (unless it lasts), and still: no success without opening again
            with pytest.raises(LogError, match="open the log again"):
                log.append("a", "k")
        try:
            log.close()
        except LogError:
            self.raised += 1

    def close(self, log: Log) -> None:
        log.close()

    def judge(self) -> None:
        """Opens what is there on a sound disk (one that does not wait for syncs)."""
        with BadDisk() as sound:
            self.judge_on(sound.name)

    def judge_on(self, sound: str) -> None:
        try:
            log = reopen(self.path, vfs=sound)
        except LogError:
            assert not self.receipts, "what was acknowledged must open"
            log = create(self.path, profile=self.profile, vfs=sound)  # the creation failed, so it may be repeated
        with log:
            kept = [entry.leaf for entry in log.entries()]
            assert [receipt.leaf for receipt in self.receipts] == kept[: len(self.receipts)]
            assert len(kept) in (len(self.receipts), self.asked)
            assert log.append("a", "after the repair").seq == len(kept)
        assert findings(self.path) == []


def every_operation(folder: Path, profile: Profile, error: type[Exception], lasting: bool) -> int:
    """Fails operation 1, 2, ... until none is left; returns how many failed. Each failure is heard and judged."""
    number = 0
    while True:
        number += 1
        (folder / str(number)).mkdir()
        with BadDisk(fail_at=number, error=error, lasting=lasting) as disk:
            story = Story(folder / str(number) / "a.log", profile, disk.name)
            story.run()
            if not disk.failures:
                assert len(story.receipts) == 2 * sum(BATCHES)
                return number - 1
            assert story.raised, f"operation {number} failed and nobody heard of it"
        story.judge()
        shutil.rmtree(folder / str(number))


PROFILES = pytest.mark.parametrize("profile", [LEDGER, DIARY], ids=lambda profile: profile.name)


@PROFILES
@pytest.mark.parametrize("error", ERRORS)
def test_a_failing_operation_is_said_and_loses_nothing(profile, error, tmp_path):
    assert every_operation(tmp_path, profile, ERRORS[error], lasting=False) > 200


@pytest.mark.long
@pytest.mark.timeout(3600)
@PROFILES
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
def test_failing_operations_in_numbers(profile, error, lasting, tmp_path, evidence):
    count = every_operation(tmp_path, profile, ERRORS[error], lasting)
    how = "every later one too" if lasting else "that one only"
    evidence(f"{error} at the n-th operation, {how}, {profile.name}", n=count, unheard=0, lost=0)


def test_a_file_size_limit_is_an_error_and_not_a_loss(tmp_path):
    """A real disk that takes no more: RLIMIT_FSIZE on a writer of its own."""
    program = (
        "import resource, sys\nfrom pathlib import Path\nfrom tests.governance.logs import *\n"
        "from emp_gym.governance.errors import LogError\nfrom emp_gym.governance.log.signed_tree_heads import KeyFile\n"
        f"log = Log.create(Path(sys.argv[1]), signer=KeyFile({str(key().path)!r}), clock=Ticks())\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))\ncount = 0\n"
        "try:\n    while True:\n        count += len(log.append_many(drafts(50, count)))\n"
        "except LogError as error:\n    print(count)\n    assert 'not acknowledged' in str(error), error\n"
    )
    path, root = tmp_path / "a.log", Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", program, str(path)], cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    acknowledged = int(run.stdout)
    assert acknowledged >= 50
    assert findings(path) == []
    with reopen(path) as log:
        assert log.size in (acknowledged, acknowledged + 50)
        log.append("a", "there is room again")
    assert findings(path) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
