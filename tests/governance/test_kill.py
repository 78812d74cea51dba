"""kill -9 at random moments: what the writer had said is there, nothing is torn, and the log verifies."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from emp_gym.governance.log.store import Profile
from emp_gym.governance.log.writer import DIARY, LEDGER
from tests.governance.logs import create, findings, key, reopen

WRITER = Path(__file__).with_name("doomed_writer.py")
PROFILES = pytest.mark.parametrize("profile", [LEDGER, DIARY], ids=lambda profile: profile.name)


def kill_one(path: Path, witness: Path, random: Random) -> dict[int, str]:
    """Starts a writer, lets it say some lines, kills it; returns what it had said: seq -> leaf hash."""
    command = [sys.executable, str(WRITER), str(path), str(key().path), str(witness)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        lines = [writer.stdout.readline() for _ in range(random.randint(1, 60))]
        moment = time.perf_counter_ns() + random.randint(0, 20_000_000)
        while time.perf_counter_ns() < moment:
            pass
        writer.send_signal(random.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)))  # there is no shutdown path
        lines += writer.stdout.readlines()
    assert lines[0] == b"open\n", "the writer must have been able to open what the one before it left"
    said = (line.decode().split() for line in lines[1:] if line.endswith(b"\n"))
    return {int(seq): leaf for seq, leaf in said}


def kills(folder: Path, profile: Profile, count: int, seed: int) -> tuple[int, float]:
    """Kills `count` writers, a new log each 25; returns acknowledged entries and the longest reopening, s."""
    random, acknowledged, slowest, size = Random(seed), 0, 0.0, 0
    for number in range(count):
        path, witness = folder / f"{number // 25}.log", folder / f"{number // 25}.heads"
        if number % 25 == 0:
            create(path, profile=profile, witness=witness).close()
            size = 0
        said = kill_one(path, witness, random)
        assert findings(path, witness) == [], f"kill {number}: before any repair"
        began = time.perf_counter()
        with reopen(path, witness=witness) as log:
            slowest = max(slowest, time.perf_counter() - began)
            kept = {entry.seq: entry.leaf.hex() for entry in log.entries(size)}
            assert {seq: kept.get(seq) for seq in said} == said, f"kill {number}: an acknowledged entry is gone"
            size = log.size
        acknowledged += len(said)
    assert findings(path, witness) == []
    return acknowledged, slowest


@PROFILES
def test_a_killed_writer_loses_nothing_that_it_had_acknowledged(profile, tmp_path):
    acknowledged, _ = kills(tmp_path, profile, count=5, seed=1)
    assert acknowledged > 0


@pytest.mark.long
@pytest.mark.timeout(7200)
@PROFILES
def test_a_thousand_killed_writers_lose_nothing(profile, tmp_path, evidence):
    acknowledged, slowest = kills(tmp_path, profile, count=500, seed=77)
    evidence(
        f"kills, {profile.name}", n=500, seed=77, acknowledged=acknowledged, lost=0, torn=0, slowest_reopening_ms=round(slowest * 1e3, 1)
    )  # fmt: skip
