"""Power loss: after a cut at any moment, what was acknowledged is there, nothing is torn, and the log verifies.

The controls show that the harness bites: the same cuts under weaker settings lose acknowledged entries.
"""

from __future__ import annotations

import dataclasses
import shutil
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from emp_gym.governance.errors import LogError
from emp_gym.governance.log.store import Profile
from emp_gym.governance.log.writer import DIARY, LEDGER, Receipt
from tests.governance.bad_disk import BadDisk
from tests.governance.logs import create, drafts, findings, reopen

CONTROLS = [
    dataclasses.replace(LEDGER, synchronous="OFF"),
    dataclasses.replace(DIARY, synchronous="OFF"),
    dataclasses.replace(DIARY, synchronous="NORMAL"),  # syncs the log at checkpoints only
    dataclasses.replace(LEDGER, synchronous="FULL"),  # the deletion of a journal may be undone, and a commit with it
]


class Day:
    """A writer's work: single entries and batches, a restart in the middle; what it was promised."""

    def __init__(self) -> None:
        self.receipts: list[Receipt] = []
        self.asked = 0  # entries handed in

    def work(self, path: Path, vfs: str, profile: Profile) -> None:
        for _ in range(2):
            log = reopen(path, vfs=vfs, profile=profile)
            try:
                for count in (1, 1, 3, 70, 1, 1, 300, 1):
                    self.asked = len(self.receipts) + count
                    self.receipts += log.append_many(drafts(count, len(self.receipts)))
            finally:
                log.close()


def cut(folder: Path, profile: Profile, seed: int, cut_at: int) -> tuple[Day, Path, int]:
    """Runs a day on a disk whose power goes at operation `cut_at` (0: never); returns what is left."""
    new, before, after = folder.parent / "new.log", folder / "before", folder / "after"
    before.mkdir(parents=True)
    after.mkdir()
    if not new.exists():
        create(new, profile=profile).close()
    shutil.copy(new, before / "a.log")
    day = Day()
    with BadDisk(seed=seed, cut_at=cut_at) as disk:
        disk.adopt(before)
        with suppress(LogError):
            day.work(before / "a.log", disk.name, profile)
        disk.leave(after)
    return day, after / "a.log", disk.operations


def lost(day: Day, path: Path) -> int:
    """Acknowledged entries that are not there, or are others."""
    with BadDisk() as sound, reopen(path, vfs=sound.name) as log:
        kept = {entry.seq: entry.leaf for entry in log.entries()}
        assert len(kept) in (len(day.receipts), day.asked), "a batch is there as a whole or not at all"
    return sum(kept.get(receipt.seq) != receipt.leaf for receipt in day.receipts)


def judge(tmp_path: Path, profile: Profile, seed: int, cuts: int) -> int:
    """Cuts at random moments; returns how many entries were acknowledged in all."""
    random, acknowledged = Random(seed), 0
    _, _, operations = cut(tmp_path / "whole", profile, seed, 0)
    for number in range(cuts):
        at = random.randint(1, operations)
        day, path, _ = cut(tmp_path / str(number), profile, seed + number, at)
        assert findings(path) == [], f"seed {seed + number}, operation {at}: before any repair"
        assert lost(day, path) == 0, f"seed {seed + number}, operation {at}"
        assert findings(path) == [], f"seed {seed + number}, operation {at}: after the next opening"
        acknowledged += len(day.receipts)
        shutil.rmtree(tmp_path / str(number))
    return acknowledged


@pytest.mark.parametrize("profile", [LEDGER, DIARY], ids=lambda profile: profile.name)
def test_a_power_cut_loses_nothing_that_was_acknowledged(profile, tmp_path):
    assert judge(tmp_path, profile, seed=0, cuts=20) > 0


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("profile", [LEDGER, DIARY], ids=lambda profile: profile.name)
def test_a_thousand_power_cuts_lose_nothing_that_was_acknowledged(profile, tmp_path, evidence):
    acknowledged = judge(tmp_path, profile, seed=10_000, cuts=1000)
    evidence(f"power cuts, {profile.name}", n=1000, seed=10_000, acknowledged=acknowledged, lost=0, torn=0)


def bite(tmp_path: Path, profile: Profile, cuts: int) -> int:
    """Cuts after which something acknowledged was gone, or the log did not even open."""
    random, bitten = Random(5), 0
    _, _, operations = cut(tmp_path / "whole", profile, 0, 0)
    for number in range(cuts):
        day, path, _ = cut(tmp_path / str(number), profile, number, random.randint(1, operations))
        try:
            bitten += lost(day, path) > 0
        except (LogError, AssertionError):
            bitten += 1
    return bitten


@pytest.mark.parametrize("profile", CONTROLS, ids=lambda profile: f"{profile.name}-{profile.synchronous}")
def test_control_the_same_cuts_lose_entries_under_weaker_settings(profile, tmp_path):
    assert bite(tmp_path, profile, cuts=20) > 0


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("profile", CONTROLS, ids=lambda profile: f"{profile.name}-{profile.synchronous}")
def test_control_in_numbers(profile, tmp_path, evidence):
    bitten = bite(tmp_path, profile, cuts=200)
    evidence(
        f"control: cuts with synchronous={profile.synchronous}, {profile.name}", n=200, seed=5, cuts_that_lost=bitten
    )
    assert bitten > 0
