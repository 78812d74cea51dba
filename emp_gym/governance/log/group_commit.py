"""Group commit: many entries share one sync. What is added is durable when its receipt comes, not before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from emp_gym.governance.log.writer import Draft, Log, Receipt


class Group:
    """Collects drafts and commits them together: at `rows` of them, or when the oldest has waited `wait_ns`.

    Waiting is looked at when something is added, by the clock handed in; nothing runs in the background, so a caller
    that pauses calls `flush`. A decision that must be on disk before it is sent uses `Log.append`.
    """

    def __init__(self, log: Log, clock: Callable[[], int], *, rows: int = 1000, wait_ns: int = 5_000_000) -> None:
        self._log, self._clock, self._rows, self._wait_ns = log, clock, rows, wait_ns
        self._drafts: list[Draft] = []
        self._since = 0

    def add(self, draft: Draft) -> list[Receipt]:
        """Takes a draft; returns the receipts of what became durable with it, mostly none."""
        now = self._clock()
        if not self._drafts:
            self._since = now
        self._drafts.append(draft if draft.ts_ns is not None else draft._replace(ts_ns=now))
        full = len(self._drafts) >= self._rows
        return self.flush() if full or not 0 <= now - self._since < self._wait_ns else []

    def flush(self) -> list[Receipt]:
        """Commits what has been added. After an error none of it is acknowledged and none is kept here."""
        drafts, self._drafts = self._drafts, []
        return self._log.append_many(drafts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.flush()
