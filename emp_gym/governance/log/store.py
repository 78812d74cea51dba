"""The file under a log: an SQLite database with append-only tables, how it is opened, and the lock of its one writer.

SQLite comes with apsw, since the standard library's is often older than 3.51.3: from 3.7.0 to 3.51.2 a write and a
checkpoint of two connections at the same time could corrupt a database in WAL mode.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emp_gym.extras import need
from emp_gym.file_lock import exclusive
from emp_gym.governance.errors import LogError, LogLocked
from emp_gym.types import NS, ConfigError

if TYPE_CHECKING:
    import apsw

FORMAT = 1
APPLICATION_ID = 0x454D504C  # "EMPL", in the header of the file
WAL_SAFE = (3, 51, 3)  # the first SQLite whose WAL mode is trusted here
SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")  # ends a journal that names another file
BUSY_MS = 10_000  # how long a connection waits for others, e.g. a commit of the ledger for its readers


@dataclass(frozen=True)
class Profile:
    """How a log commits and how often its heads are signed."""

    name: str
    journal_mode: str  # SQLite's
    synchronous: str
    head_every: int  # entries: a head at each multiple; 1: one at the end of each commit
    head_ns: int = NS  # ... or as soon as this time has passed, at the next append


LEDGER = Profile("ledger", "DELETE", "EXTRA", head_every=1)
"""Few entries, each of weight: rollback journal, its deletion synced too; a signed head with every commit."""
DIARY = Profile("diary", "WAL", "FULL", head_every=256)
"""Many entries: write-ahead log, one sync a commit; a signed head each 256 entries or second."""
PROFILES = {profile.name: profile for profile in (LEDGER, DIARY)}

TABLES = ("log", "entry", "node", "head")
SCHEMA = (
    "CREATE TABLE log (id INTEGER PRIMARY KEY CHECK (id = 0), about TEXT NOT NULL, "
    "signature BLOB NOT NULL CHECK (length(signature) = 64)) STRICT",
    "CREATE TABLE entry (seq INTEGER PRIMARY KEY CHECK (seq >= 0), body TEXT NOT NULL, "
    "leaf BLOB NOT NULL CHECK (length(leaf) = 32), payload BLOB) STRICT",
    "CREATE TABLE node (level INTEGER NOT NULL, position INTEGER NOT NULL, "
    "hash BLOB NOT NULL CHECK (length(hash) = 32), PRIMARY KEY (level, position)) STRICT, WITHOUT ROWID",
    "CREATE TABLE head (size INTEGER PRIMARY KEY, body TEXT NOT NULL, "
    "signature BLOB NOT NULL CHECK (length(signature) = 64)) STRICT",
    *(
        f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, 'append-only: {table}'); END"
        for table in TABLES
        for verb in ("UPDATE", "DELETE")
    ),
    "CREATE TRIGGER entry_next BEFORE INSERT ON entry "
    "WHEN NEW.seq <> (SELECT coalesce(max(seq) + 1, 0) FROM entry) "
    "BEGIN SELECT RAISE(ABORT, 'append-only: entry.seq must be the next'); END",
    "CREATE TRIGGER head_next BEFORE INSERT ON head WHEN NEW.size <= (SELECT coalesce(max(size), 0) FROM head) "
    "BEGIN SELECT RAISE(ABORT, 'append-only: head.size must grow'); END",
)


def refuse_old_sqlite(version: str, journal_mode: str) -> None:
    """Raises if this SQLite must not be trusted with WAL mode."""
    if journal_mode == "WAL" and tuple(map(int, version.split("."))) < WAL_SAFE:
        raise ConfigError(
            f"SQLite {version} can corrupt a log in WAL mode (fixed in {'.'.join(map(str, WAL_SAFE))}); "
            "install a newer apsw: pip install -c constraints.txt apsw"
        )


def refuse_foreign_journal(path: Path) -> None:
    """Raises where the journal beside a log names another file, which SQLite would remove when it rolls back: no log writes one."""
    journal = path.with_name(path.name + "-journal")
    if not journal.is_file():
        return
    with journal.open("rb") as stream:
        stream.seek(max(journal.stat().st_size - len(SUPER_JOURNAL), 0))
        end = stream.read()
    if end == SUPER_JOURNAL:
        raise LogError(
            f"{journal}: this journal names another file, which would be removed with it; expected the journal of one log; "
            "keep it as evidence, and take a copy of the log from elsewhere"
        )


def connect(path: Path, *, write: bool, vfs: str | None = None) -> apsw.Connection:
    """A connection to an existing file, or to a new one where `write`; readers cannot write (mode=ro)."""
    need("apsw")
    import apsw

    if write:
        refuse_foreign_journal(path)
    flags = (apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE) if write else apsw.SQLITE_OPEN_READONLY
    try:
        db = apsw.Connection(str(path), flags=flags, vfs=vfs)
    except apsw.CantOpenError as error:
        raise LogError(
            f"{path}: cannot be opened ({error}); expected a log, or a folder in which one can be made"
        ) from error
    db.set_busy_timeout(BUSY_MS)
    db.execute("PRAGMA mmap_size = 0")  # a failed read is an error, not a signal
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute("PRAGMA cell_size_check = ON")
    return db


def prepare(db: apsw.Connection, profile: Profile) -> None:
    """Sets a writer's journal and sync mode, and finishes what an earlier writer left behind.

    A write-ahead log is moved into the database and synced first: if its own sync once failed, the kernel may have
    dropped what it still shows, and only a new write makes it durable.
    """
    need("apsw")
    import apsw

    refuse_old_sqlite(apsw.sqlite_lib_version(), profile.journal_mode)
    got = db.execute(f"PRAGMA journal_mode = {profile.journal_mode}").get
    if str(got).upper() != profile.journal_mode:
        raise LogError(f"{db.filename}: expected journal mode {profile.journal_mode}, got {got}; use a local disk")
    db.execute(f"PRAGMA synchronous = {profile.synchronous}")
    db.execute("PRAGMA journal_size_limit = 67108864")
    if profile.journal_mode == "WAL":
        checkpoint(db)


def checkpoint(db: apsw.Connection) -> None:
    """Moves the write-ahead log into the database as far as readers let it."""
    need("apsw")
    import apsw

    db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)


def create_tables(db: apsw.Connection, about: bytes, signature: bytes) -> None:
    """Makes the tables of an empty database, in the transaction that is open."""
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    for statement in SCHEMA:
        db.execute(statement)
    db.execute("INSERT INTO log VALUES (0, ?, ?)", (about.decode(), signature))


def _own_file(path: Path) -> int:
    """A handle of the regular file `path`, made where there is none; `LogError` where it is anything else."""
    what = "a link, a folder or a pipe"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        if stat.S_ISREG(os.fstat(handle).st_mode):
            return handle
        os.close(handle)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
        what = error.strerror or what
    raise LogError(f"{path}: expected the lock of a log, a plain file, got {what}; remove what stands there")


class WriterLock:
    """At most one writer a log: an advisory lock on ``LOG.lock``, which ends with its process, however that ends."""

    def __init__(self, log: Path) -> None:
        self.path = log.with_name(log.name + ".lock")
        self._handle = _own_file(self.path)
        try:
            exclusive(self._handle)
        except BlockingIOError as error:
            holder = os.read(self._handle, 20).decode("ascii", "replace").strip() or "unknown"
            os.close(self._handle)
            raise LogLocked(
                f"{log}: another writer has this log open (process {holder}); expected to be the only one; "
                "close that one, or read with LogReader"
            ) from error
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Lets the next writer in."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
