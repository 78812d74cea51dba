"""The log: durable appends one at a time and grouped, verification, proofs, reopening. Disk figures are the disk's."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from emp_gym.benchmarks.figures import Effort, Figures, rates, say
from emp_gym.governance.log.reader import LogReader
from emp_gym.governance.log.signed_tree_heads import KeyFile
from emp_gym.governance.log.store import Profile
from emp_gym.governance.log.writer import DIARY, LEDGER, Draft, Log
from emp_gym.governance.verify import verify
from emp_gym.types import ConfigError

DECISION = {"instrument": 0, "side": "buy", "price": 5_851_200, "quantity": 100, "reasons": [3, 7], "regime": "CALM_UP"}
PROOFS = 1000


def measure(figures: Figures, effort: Effort, data: Sequence[str] | None = None) -> None:
    """Adds every figure of the log."""
    if data:
        raise ConfigError(f"the log's benchmark reads no day, got --data {data[0]}; leave it out")
    with tempfile.TemporaryDirectory(prefix="emp_gym-") as name:
        folder = Path(name)
        key = KeyFile.generate(folder / "bench.key")
        _disk(figures, effort, folder / "bare")
        for profile in (LEDGER, DIARY):
            with _log(folder / f"single-{profile.name}.log", key, profile) as log:
                _single(figures, effort, log, profile)
        with _log(folder / "grouped.log", key, DIARY) as log:
            _grouped(figures, effort, log)
        _large(figures, effort, folder / "large.log", key)


@contextmanager
def _log(path: Path, key: KeyFile, profile: Profile) -> Iterator[Log]:
    with Log.create(path, signer=key, clock=time.time_ns, profile=profile) as log:
        yield log


def _disk(figures: Figures, effort: Effort, path: Path) -> None:
    """The baseline: what the disk gives without any log. A diary's append waits for one sync, a ledger's for four."""
    with path.open("wb", buffering=0) as stream:

        def write() -> float:
            stream.write(bytes(4096))
            os.fsync(stream.fileno())
            return 1.0

        figures.add("the disk alone: 4 KiB written and synced", rates(write, effort), "syncs/s")


def _single(figures: Figures, effort: Effort, log: Log, profile: Profile) -> None:
    took: list[list[float]] = []

    def some() -> float:
        for _ in range(10):
            began = time.perf_counter()
            log.append("bench", "decision", payload=DECISION)
            took[-1].append(time.perf_counter() - began)
        return 10.0

    speeds, slow = [], []
    for _ in range(effort.repeats):
        took.append([])
        begun = time.perf_counter()
        while time.perf_counter() - begun < effort.seconds:
            some()
        waits = sorted(took[-1])
        speeds.append(len(waits) / (time.perf_counter() - begun))
        slow.append(waits[int(0.99 * (len(waits) - 1))] * 1e3)
    name = f"append, {profile.name} profile, durable one at a time, payload of 6 fields"
    figures.add(name, speeds, "entries/s")
    figures.add(f"{name}: p99", slow, "ms")


def _grouped(figures: Figures, effort: Effort, log: Log) -> None:
    payloads: dict[str, Any] = {
        "no payload": None,
        "payload of 3 fields": {"reward": -3, "reasons": [3, 7], "regime": "CALM_UP"},
        "payload of 6 fields": DECISION,
        "payload of 64 bytes": bytes(64),
    }
    for name, payload in payloads.items():
        drafts = [Draft("bench", "decision", payload=payload)] * 10_000
        samples = rates(lambda: float(len(log.append_many(drafts))), effort)  # noqa: B023
        figures.add(f"append, diary profile, 10,000 a commit, {name}", samples, "entries/s")
    drafts = [Draft("bench", "decision", payload=DECISION)] * 1000
    samples = rates(lambda: float(len(log.append_many(drafts))), effort)
    figures.add("append, diary profile, 1,000 a commit, payload of 6 fields", samples, "entries/s")
    block = Draft("bench", "block", payload=bytes(1_000_000))
    samples = rates(lambda: float(len(log.append_many([block]))), effort)
    figures.add("append, diary profile, one block of 1 MB a commit", samples, "MB/s")


def _large(figures: Figures, effort: Effort, path: Path, key: KeyFile) -> None:
    count = effort.large_rows
    with _log(path, key, DIARY) as log:
        for first in range(0, count, 10_000):
            size = min(10_000, count - first)
            log.append_many([Draft("bench", "decision", payload=DECISION)] * size)
    say(f"a log of {count:,} entries, {path.stat().st_size / 1e6:.0f} MB")
    figures.add(f"verification, {count:,} entries", rates(lambda: _verified(path), effort), "entries/s")
    opened = []
    for _ in range(effort.repeats):
        began = time.perf_counter()
        Log.open(path, signer=key, clock=time.time_ns).close()
        opened.append((time.perf_counter() - began) * 1e3)
    figures.add(f"writer opened and closed, {count:,} entries", opened, "ms")
    with LogReader(path) as reader:
        _proofs(figures, effort, reader, count)


def _verified(path: Path) -> float:
    report = verify(path)
    if not report.whole:
        raise ConfigError(f"{path}: the log just written does not verify: {report.findings[0]}")
    return float(report.entries)


def _proofs(figures: Figures, effort: Effort, reader: LogReader, count: int) -> None:
    head = reader.head()
    made, slow, checked, longest = [], [], [], 0
    for repeat in range(effort.repeats):
        times, checks = [], []
        for number in range(PROOFS):
            seq = (number * 7_919 + repeat * 104_729) % count
            began = time.perf_counter()
            proof = reader.prove(seq, head)
            between = time.perf_counter()
            if not proof.holds(reader.public_key):
                raise ConfigError(f"{reader.path}: the proof of entry {seq} does not hold")
            checks.append(time.perf_counter() - between)
            times.append(between - began)
            longest = max(longest, len(proof.path))
        times.sort()
        made.append(times[PROOFS // 2] * 1e3)
        slow.append(times[int(0.99 * PROOFS)] * 1e3)
        checked.append(sorted(checks)[PROOFS // 2] * 1e3)
    figures.add(f"inclusion proof, {count:,} entries, median", made, "ms")
    figures.add(f"inclusion proof, {count:,} entries, p99", slow, "ms")
    figures.add("inclusion proof checked with its signature, median", checked, "ms")
    figures.add(f"hashes of the longest inclusion proof, {count:,} entries", [float(longest)], "hashes")
