"""An append-only, tamper-evident log: entries are leaves of a Merkle tree whose heads are signed.

    key = KeyFile.generate("ledger.key")
    with Log.create("ledger.log", signer=key, clock=time.time_ns, profile=LEDGER, witness="/mnt/other/heads") as log:
        receipt = log.append("alice", "promotion", subject_hash=..., payload={"stage": "paper"})

An entry is canonical JSON of ``log_id, seq, ts_ns, actor, kind, subject_hash, payload_hash, evidence``; a leaf of the
tree is SHA-256(0x00 ‖ entry). A payload (bytes as they are, or canonical JSON) lies beside its entry and is bound by
``payload_hash``. What an append returns for is on disk.

An exception from an append means "not acknowledged": the entries may be there or not, all of one call or none. The log
then takes nothing more until it is opened again (a value that cannot be held exactly is refused before anything is
written and changes nothing). Nothing here reads a clock: the time of entries and heads comes from `clock`.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from emp_gym.extras import need
from emp_gym.governance.errors import LogError, LogValueError
from emp_gym.governance.ledger import clock as clocks
from emp_gym.governance.log import merkle, store
from emp_gym.governance.log.canonical import LARGEST, canonical, quote, utf8
from emp_gym.governance.log.reader import BLOCK_LEVEL, LogReader
from emp_gym.governance.log.signed_tree_heads import ABOUT, Head, Signer, Witness, sign_head, sync_folder
from emp_gym.governance.log.store import DIARY, LEDGER, PROFILES, Profile, WriterLock
from emp_gym.types import ConfigError

__all__ = ["DIARY", "LEDGER", "Draft", "Log", "Receipt"]

HASH = re.compile(r"[0-9a-f]{64}")  # SHA-256 in hex
LOG_ID = re.compile(r"[0-9a-z-]{8,64}")
LOGGER = logging.getLogger("emp_gym.governance.log.writer")


class Draft(NamedTuple):
    """What the caller says of an entry; the log adds identity, sequence number and, where None, time."""

    actor: str
    kind: str
    subject_hash: str = ""  # hex SHA-256 of what the entry is about
    payload: Any = None  # bytes, a canonical JSON value, or None for none
    evidence: Sequence[str] = ()  # hex SHA-256 each
    ts_ns: int | None = None


class Receipt(NamedTuple):
    """The entry is on disk: where it stands, and its leaf hash, which no later log can deny and stay whole."""

    log_id: str
    seq: int
    ts_ns: int
    leaf: bytes


@dataclass
class _Batch:
    """Rows of one transaction."""

    tree: merkle.Frontier
    entries: list[tuple[int, str, bytes, bytes | None]] = field(default_factory=list)
    nodes: list[merkle.Node] = field(default_factory=list)
    heads: list[Head] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)


class Log(LogReader):
    """The one writer of a log. Threads may share it; processes may not."""

    def __init__(
        self, path: Path, lock: WriterLock, *, signer: Signer, clock: Callable[[], int], profile: Profile | None,
        witness: str | Path | None, vfs: str | None,
    ) -> None:  # fmt: skip
        """Use `create` or `open`."""
        self._lock: WriterLock | None = lock
        self._signer, self._clock, self._pid = signer, clock, os.getpid()
        self._broken = ""  # why nothing more is taken
        self._doubted = ""  # what was last said of the clock
        self._guard = threading.RLock()
        super().__init__(path, _db=store.connect(path, write=True, vfs=vfs))
        self._profile = profile or PROFILES[self.profile]
        try:
            with _Storing(self, "open"):
                store.prepare(self._db, self._profile)
                self._resume(Witness(witness) if witness is not None else None)
        except BaseException:
            self._db.close(True)
            raise

    @classmethod
    def create(
        cls, path: str | Path, *, signer: Signer, clock: Callable[[], int], profile: Profile = LEDGER,
        witness: str | Path | None = None, log_id: str | None = None, vfs: str | None = None,
    ) -> Self:  # fmt: skip
        """A new log. `log_id` is random unless given; `vfs` names an SQLite file system (tests, encryption)."""
        need("apsw")
        import apsw

        path, log_id = Path(path), log_id or secrets.token_hex(16)
        if not LOG_ID.fullmatch(log_id):
            raise ConfigError(f"log_id must be 8 to 64 of a-z, 0-9 and -, got {log_id!r}")
        lock = WriterLock(path)
        try:
            _found(path, log_id, signer, profile, vfs)
            return cls(path, lock, signer=signer, clock=clock, profile=profile, witness=witness, vfs=vfs)
        except apsw.Error as error:
            lock.release()
            raise LogError(
                f"{path}: the log could not be created ({error}); mend the disk and create it again"
            ) from error
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(
        cls, path: str | Path, *, signer: Signer, clock: Callable[[], int], profile: Profile | None = None,
        witness: str | Path | None = None, vfs: str | None = None,
    ) -> Self:  # fmt: skip
        """An existing log, to append to: also after a crash, which needs no other repair than this.

        `LogLocked` if another writer has it, `LogTampered` if its end does not fit its last head or the witness.
        """
        path = Path(path)
        if not path.is_file():
            raise LogError(f"{path}: no such log; expected a file; make one with Log.create")
        lock = WriterLock(path)
        try:
            return cls(path, lock, signer=signer, clock=clock, profile=profile, witness=witness, vfs=vfs)
        except BaseException:
            lock.release()
            raise

    def append(
        self, actor: str, kind: str, *, subject_hash: str = "", payload: Any = None, evidence: Sequence[str] = (),
        ts_ns: int | None = None,
    ) -> Receipt:  # fmt: skip
        """Adds one entry; returns when it is durable."""
        return self.append_many((Draft(actor, kind, subject_hash, payload, evidence, ts_ns),))[0]

    def append_many(self, drafts: Iterable[Draft]) -> list[Receipt]:
        """Adds entries in one transaction, all or none; returns when they are durable."""
        with self._guard:
            self._usable()
            batch = self._batch(drafts)
            if batch.entries:
                self._commit(batch)
            return batch.receipts

    def sign_head(self) -> Head | None:
        """Signs the log as it is, unless its last head does already; for a writer that pauses. None: it is empty."""
        with self._guard:
            self._usable()
            if self._tree.size > self._head_size:
                batch = _Batch(self._tree)
                batch.heads.append(self._signed(self._tree, self._time()))
                self._commit(batch)
            return self.head()

    def close(self) -> None:
        """Signs what is not yet signed and lets the next writer in. Closing is good manners; a crash loses nothing."""
        with self._guard:
            if self._lock is None:
                return
            try:
                if not self._broken and os.getpid() == self._pid:
                    self.sign_head()
            finally:
                self._let_go()

    def _let_go(self) -> None:
        lock, self._lock = self._lock, None
        if lock is None or os.getpid() != self._pid:
            return  # a forked child must not touch its parent's database
        try:
            with _Storing(self, "close"):
                super().close()
        finally:
            self._broken = self._broken or "it is closed"
            lock.release()

    # --- what a transaction holds

    def _batch(self, drafts: Iterable[Draft]) -> _Batch:
        drafts = list(drafts)
        now = self._time(max((draft.ts_ns for draft in drafts if type(draft.ts_ns) is int), default=-LARGEST))
        batch = _Batch(self._tree.copy())
        signed, every = self._head_size, self._profile.head_every
        for draft in drafts:
            self._add(batch, draft, now)
            if batch.tree.size % every == 0 and every > 1:
                batch.heads.append(self._signed(batch.tree, now))
                signed = batch.tree.size
        late = not 0 <= now - self._head_ts_ns < self._profile.head_ns  # also where the clock began anew
        if batch.tree.size > signed and (late or every == 1):
            batch.heads.append(self._signed(batch.tree, now))
        return batch

    def _time(self, handed_in: int = -LARGEST) -> int:
        """The clock's time, in a ledger never before its last head's, and that one where the clock jumps further than `handed_in`,
        the latest time of an entry that brings its own: a kill must be written whatever the clock says."""
        now, last = self._clock(), self._head_ts_ns
        if self._profile.head_every > 1 or not self._head_size:
            return now
        if clocks.jumped(now, max(last, min(handed_in, now))):
            self._doubt(clocks.ahead(now, last, "the last head"))
            return last
        self._doubt(clocks.behind(now, last, "the last head"))
        return max(now, last)

    def _doubt(self, trouble: str) -> None:
        """Says once that the clock is not believed."""
        if trouble and not self._doubted:
            told = "entries have the time of that one (times never decrease): set the clock of this machine right"
            LOGGER.warning("%s: %s; %s", self.path, trouble, told)
        self._doubted = trouble

    def _add(self, batch: _Batch, draft: Draft, now: int) -> None:
        actor, kind, subject, payload, evidence, ts_ns = draft
        stored, digest = None, ""
        if payload is not None:
            stored = bytes(payload) if isinstance(payload, bytes | bytearray | memoryview) else canonical(payload)
            digest = hashlib.sha256(stored).hexdigest()
        ts_ns = now if ts_ns is None else ts_ns
        if type(ts_ns) is not int or not -LARGEST <= ts_ns <= LARGEST:
            raise LogValueError(f"ts_ns must be an int of 64 bits (ns), got {ts_ns!r}; convert it, e.g. int(x)")
        if (subject and not _is_hash(subject)) or (evidence and not all(map(_is_hash, evidence))):
            raise LogValueError(
                f"subject_hash and evidence must be SHA-256 in lower-case hex (64 digits; the subject may be empty), "
                f"got {subject!r} and {list(evidence)!r}; put other references into the payload"
            )
        if type(actor) is not str or type(kind) is not str or not actor or not kind:
            raise LogValueError(f"actor and kind must be text that is not empty, got {actor!r} and {kind!r}")
        seq = batch.tree.size
        listed = ",".join([f'"{h}"' for h in evidence]) if evidence else ""
        text = (
            f'{{"actor":{quote(actor)},"evidence":[{listed}],"kind":{quote(kind)},"log_id":"{self.log_id}",'
            f'"payload_hash":"{digest}","seq":{seq},"subject_hash":"{subject}","ts_ns":{ts_ns}}}'
        )
        leaf = hashlib.sha256(b"\0" + utf8(text, "actor or kind")).digest()
        batch.nodes += batch.tree.append(leaf, BLOCK_LEVEL)
        batch.entries.append((seq, text, leaf, stored))
        batch.receipts.append(Receipt(self.log_id, seq, ts_ns, leaf))

    def _signed(self, tree: merkle.Frontier, now: int) -> Head:
        return sign_head(self._signer, self.log_id, tree.size, tree.root(), now)

    # --- how it reaches the disk

    def _commit(self, batch: _Batch) -> None:
        heads = [(head.size, head.body.decode(), head.signature) for head in batch.heads]
        with _Storing(self, "append"):
            self._db.execute("BEGIN IMMEDIATE")
            if batch.entries:
                self._db.executemany("INSERT INTO entry VALUES (?, ?, ?, ?)", batch.entries)
            if batch.nodes:
                self._db.executemany("INSERT INTO node VALUES (?, ?, ?)", batch.nodes)
            if heads:
                self._db.executemany("INSERT INTO head VALUES (?, ?, ?)", heads)
            self._db.execute("COMMIT")
            self._tree = batch.tree
            if batch.heads:
                self._note(batch.heads[-1])

    def _note(self, head: Head) -> None:
        """Remembers the last head and copies it to the witness: after its commit, or a crash would look like a cut."""
        self._head_size, self._head_ts_ns = head.size, head.ts_ns
        if self._witness is not None:
            self._witness.keep(head, self.public_key)

    def _usable(self) -> None:
        if self._broken:
            raise LogError(f"{self.path}: nothing more is taken: {self._broken}; open the log again (Log.open)")
        if os.getpid() != self._pid:
            raise LogError(f"{self.path}: opened by process {self._pid}, used by {os.getpid()}; open it after the fork")

    def _resume(self, witness: Witness | None) -> None:
        """Takes up where the log ends: the frontier, the last head; refuses an end that does not fit them."""
        self._witness = None
        if self._signer.public_key != self.public_key:
            raise ConfigError(
                f"{self.path}: this log is signed by key {self.public_key.hex()}, "
                f"got a signer with {self._signer.public_key.hex()}; use the key that it was created with"
            )
        head, kept = self.check_end(witness, self._profile.head_every)
        self._tree = merkle.Frontier.of(self.node, self.size)
        self._head_size, self._head_ts_ns = (0, -LARGEST) if head is None else (head.size, head.ts_ns)
        self._witness = witness
        if head is not None and (kept is None or kept.size < head.size):
            self._note(head)  # a crash came between its commit and its copy
        elif witness is not None and kept is None:  # the witness knows of the log before its first entry
            witness.keep(self._signed(self._tree, self._clock()), self.public_key)


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and HASH.fullmatch(value) is not None


class _Storing:
    """Around work on the database: rolls back on an error, shuts the log until it is opened again, names the cause."""

    def __init__(self, log: Log, what: str) -> None:
        self.log, self.what = log, what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        need("apsw")
        import apsw

        if error is None:
            return
        log = self.log
        log._broken = log._broken or f"{self.what} failed ({error})"
        with contextlib.suppress(apsw.Error):  # the connection is given up; the next one recovers from the journal
            if log._db.in_transaction:
                log._db.execute("ROLLBACK")
        if isinstance(error, apsw.Error):
            raise LogError(
                f"{log.path}: {self.what} failed ({type(error).__name__}: {error}); the entries of this call are not "
                "acknowledged; mend the cause (disk full, I/O error), open the log again and look before a retry"
            ) from error


def _found(path: Path, log_id: str, signer: Signer, profile: Profile, vfs: str | None) -> None:
    """Makes the file with its tables and its signed description, durably."""
    about = canonical(
        {
            "format": store.FORMAT,
            "log_id": log_id,
            "profile": profile.name,
            "public_key": signer.public_key.hex(),
        }
    )
    db = store.connect(path, write=True, vfs=vfs)
    try:
        if db.execute("SELECT count(*) FROM sqlite_schema").get:
            raise ConfigError(f"{path}: a database is there already; use Log.open, or choose another name")
        store.prepare(db, profile)
        with db:
            store.create_tables(db, about, signer.sign(ABOUT + about))
    finally:
        db.close()
    sync_folder(path.resolve().parent)
