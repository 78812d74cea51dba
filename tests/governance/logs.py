"""Small logs for tests: a clock that ticks, a key, and the outcome of the verifier."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from emp_gym.governance.log.signed_tree_heads import KeyFile
from emp_gym.governance.log.writer import LEDGER, Draft, Log
from emp_gym.governance.verify import verify

START_NS = 1_700_000_000_000_000_000


class Ticks:
    """A clock that moves on by `step_ns` at each look."""

    def __init__(self, step_ns: int = 1_000_000, start_ns: int = START_NS) -> None:
        self.now, self.step_ns = start_ns, step_ns

    def __call__(self) -> int:
        self.now += self.step_ns
        return self.now


@cache
def key() -> KeyFile:
    """One key for all tests of a process."""
    return KeyFile.generate(Path(mkdtemp(prefix="emp_gym-key-")) / "test.key")


def create(path: Path, **options: Any) -> Log:
    return Log.create(path, **{"signer": key(), "clock": Ticks(), "profile": LEDGER, **options})


def reopen(path: Path, **options: Any) -> Log:
    return Log.open(path, **{"signer": key(), "clock": Ticks(), **options})


def drafts(count: int, first: int = 0) -> Iterator[Draft]:
    """Entries with JSON, binary and no payloads."""
    for i in range(first, first + count):
        payload = ({"i": i, "why": "spread ≥ 2"}, bytes([i % 256]) * (i % 50), None)[i % 3]
        yield Draft(
            f"actor-{i % 2}", "decision" if i % 4 else "note", f"{i:064x}", payload, [f"{i + 1:064x}"] * (i % 3)
        )


def findings(path: Path, witness: Path | None = None) -> list[str]:
    """What the verifier finds, as text."""
    return [str(finding) for finding in verify(path, witness).findings]
