"""Verifies a log: python scripts/verify.py LOG [--witness DIR] [--public-key HEX] [--json]

Exit code 0: whole. 1: tampered with or damaged, saying where. 2: not a log, or it cannot be read, or not in time. There is no
fourth, whatever the file is: the work is done by a second process, which the system ends when it has not got on for
`STALL_S` seconds, and which reads no more rows and bytes than a file of that size can hold. A long log takes as long as it takes.

This one file needs Python's standard library and `cryptography` and nothing of emp_gym: copy it to a machine that does
not trust ours. It shares no code with the writer on purpose, so it is also the writer's judge. It never
writes to the log; where an unfinished commit must be rolled back first, it does so in a copy.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

FORMAT = 1
SCHEMA_SHA256 = (
    "e7854af241ea034991063f565971094ccbb7613810917dd9595cf104ffc060f6"  # of the tables and triggers of format 1
)
ABOUT_CONTEXT, HEAD_CONTEXT = b"emp-gym log about v1\0", b"emp-gym log head v1\0"
BLOCK_LEVEL, BLOCK = 6, 64  # nodes of this many leaves and more are stored
HEAD_EVERY = {"ledger": 1, "diary": 256}  # entries; with 1 a head goes with each commit
LOG_ID = re.compile("[0-9a-z-]{8,64}")
PAGE = 64 * BLOCK  # entries a query, so that a writer never waits long
PAGE_BYTES = 1 << 24  # of a query: payloads may be long
SHOWN = 20  # findings kept; more are counted
LETTERS = 500  # of a value that is shown

# Bounds, so that no file can keep us. A log that is whole keeps them all.
STALL_S = 7.0  # seconds without a row read or checked
BUSY_S = 5.0  # that a writer may hold the file against us
SLOWEST = 1_000_000  # bytes a second at least, for the process outside, which sees nothing of what goes on within
LEAST_ENTRY, LEAST_HEAD, LEAST_NODE = 100, 150, 32  # bytes of a row on disk, at least
OBJECTS = 64  # tables, triggers and so on in the schema; format 1 has 14
LONGEST_WORD = 1 << 16  # bytes of what a log says of itself, and of a kept head
LONGEST_ORDER = 1 << 20  # bytes of an entry about people that is read as JSON
LONGEST_VALUE = 1 << 26  # bytes of a value, or twice the file's
MOST_REVOKED = 1000  # lines about revoked keys
MEMORY = 1 << 31  # bytes of memory, and 8 for each of the file
SPARSE = 64  # times the room that it has on disk may a file say that it is long, where a copy is made
SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")  # ends a journal that names another file

# What every entry contains, with its own log_id, hash of its payload and number. Text within quotes cannot contain it, since
# its quotes would be escaped; that the rest of an entry is as it was written is what the signature says.
MIDDLE = b'","log_id":"%b","payload_hash":"%b","seq":%d,"subject_hash":"'
HEAD = re.compile(
    rb'\{"log_id":"([0-9a-z-]{8,64})","root":"([0-9a-f]{64})","size":(0|[1-9]\d{0,18}),"ts_ns":-?\d+\}'
).fullmatch

DAMAGE = (sqlite3.DatabaseError, UnicodeDecodeError)  # the second where a damaged schema is part of SQLite's message
sha256 = hashlib.sha256


class NotALog(Exception):
    """There is nothing here that could be whole or tampered with, or it cannot be told."""


class TooMuch(Exception):
    """There are more rows or bytes than a file of this size holds: its pages lead back to themselves."""


class ReadingBudget:
    """Says how much of the file may still be read, and whether reading gets on.

    Nothing read for `STALL_S` seconds: SQLite is interrupted, and where it does not hear, the system ends the process (if `alone`,
    in the process that `main` starts for it).
    """

    alone = False

    def __init__(self, parts: Sequence[Path]) -> None:
        self.size = 0  # bytes of the files
        self._left = 1 << 20  # bytes that may be handed out
        self.look(parts)
        self.beat()

    def look(self, parts: Sequence[Path]) -> None:
        """Takes the size of the files again, since the log may be growing."""
        size = max(self.size, sum(part.stat().st_size for part in parts))
        self._left += 3 * (size - self.size)  # each row once, those of people twice, heads, nodes
        self.size = size

    def beat(self) -> None:
        """Something was read or checked."""
        self._last = time.monotonic()
        if ReadingBudget.alone:
            signal.setitimer(signal.ITIMER_REAL, STALL_S + 1)

    def stalled(self) -> bool:
        """For SQLite, which asks now and then: whether to stop."""
        return time.monotonic() - self._last > STALL_S

    def rows(
        self, db: sqlite3.Connection, query: str, values: Sequence[int] = (), least: int = 1
    ) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, each of at least `least` bytes; `TooMuch` if they cannot all be in the file."""
        for count, row in enumerate(db.execute(query, values), 1):
            self._left -= sum(len(value) for value in row if isinstance(value, bytes))
            if count * least > self.size or self._left < 0:
                raise TooMuch(f"{count:,} rows or more from {query.split(' WHERE ')[0]}")
            if count % 64 == 1:
                self.beat()
            yield row


def plain(text: str) -> str:
    """`text` in one line, with what would act on a terminal (control codes, line ends, marks of direction) spelled out."""
    if text.isprintable():
        return text
    return "".join(
        letter if unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else ascii(letter)[1:-1]
        for letter in text
    )


@dataclass(frozen=True)
class Misfit:
    """Something that does not fit, and where."""

    where: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, got {self.got}"


@dataclass
class Verification:
    """What was found, and what could not be looked at."""

    log: str
    log_id: str = ""
    public_key: str = ""
    profile: str = ""
    entries: int = 0
    heads: int = 0
    signed: int = 0  # entries under a signed head
    root: str = ""
    findings: list[Misfit] = field(default_factory=list)
    more_findings: int = 0
    limits: list[str] = field(default_factory=list)  # what could have happened unseen
    revoked: list[str] = field(default_factory=list)  # what a ledger says of keys that were taken out of use

    @property
    def whole(self) -> bool:
        return not self.findings

    def find(self, where: str, expected: object, got: object) -> None:
        """Notes a finding; the first ones say where to look."""
        if len(self.findings) < SHOWN:
            self.findings.append(Misfit(_shown(where), _shown(expected), _shown(got)))
        else:
            self.more_findings += 1


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex() if len(value) in (32, 64) else repr(value[:LETTERS])
    if isinstance(value, list | tuple):
        return f"{len(value)} of them: {', '.join(map(_shown, value[:2]))}"[: 2 * LETTERS]
    text = plain(str(value)[: 4 * LETTERS])
    return text if len(text) <= 4 * LETTERS else f"{text[: 4 * LETTERS]}..."


@dataclass(frozen=True)
class StatedHead:
    """A statement of the log about its own size and root, from the log itself or from a witness."""

    size: int
    root: bytes
    source: str


def verify(log: str | Path, witness: str | Path | None = None, public_key: str | None = None) -> Verification:
    """Checks everything there is to check. `NotALog` if there is nothing to check, or it cannot be told."""
    return _judged(Path(log), witness, public_key, None)


def _judged(log: Path, witness: str | Path | None, public_key: str | None, scratch: Path | None) -> Verification:
    """The same; a copy, where one is needed, is made in `scratch` (None: in a folder that is gone afterwards)."""
    report = Verification(str(log))
    with _opened(log, scratch) as (db, watch):
        try:
            _verify(db, watch, report, witness, public_key)
        except TooMuch as error:
            report.find(
                "database", f"what fits {watch.size:,} bytes", f"{error}; nothing after this could be looked at"
            )
        except DAMAGE as error:
            why = _not_the_files_fault(error)
            if why and report.whole:
                raise NotALog(f"{plain(str(log))}: {why}") from error
            report.find("database", "a readable file", f"{why or error}; nothing after this could be looked at")
    return report


def _not_the_files_fault(error: Exception) -> str:
    """Why nothing can be told, where SQLite's error does not speak of the bytes; "" where it does."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
        return f"a writer holds it for longer than {BUSY_S:g} s ({error}); try again when it has gone on"
    if code == sqlite3.SQLITE_INTERRUPT:
        return f"nothing could be read for {STALL_S:g} s; given up"
    return ""


def _verify(
    db: sqlite3.Connection, watch: ReadingBudget, report: Verification, witness: str | Path | None, public_key: str | None
) -> None:
    key = _about(db, watch, report, public_key)
    if key is None:
        return
    # the witness before the log, which may be growing
    kept = [] if witness is None else _witnessed(report, watch, key, Path(witness))
    db.execute("BEGIN")  # one moment
    first, last = db.execute("SELECT (SELECT min(seq) FROM entry), (SELECT max(seq) FROM entry)").fetchone()
    watch.look(_parts(Path(report.log)))
    found = watch.rows(db, "SELECT level, position, hash FROM node", least=LEAST_NODE)
    nodes = {(level, position): digest for level, position, digest in found}
    rows = list(watch.rows(db, "SELECT size, body, signature FROM head ORDER BY size", least=LEAST_HEAD))
    db.execute("COMMIT")
    if first is not None and first < 0:
        report.find("entry", "sequence numbers from 0", f"an entry {first}")
    most = watch.size // LEAST_ENTRY
    report.entries = 0 if last is None else max(last + 1, 0)
    if report.entries > most:
        report.find("entry", f"numbers below {most:,}, which is what {watch.size:,} bytes may hold", f"an entry {last}")
        report.entries = most
    heads: list[StatedHead] = []
    for row in rows:
        watch.beat()
        heads += filter(None, [_head(report, key, *row)])
    report.heads = len(rows)
    if witness is not None and not kept and (report.entries or any(Path(witness).glob("*.json"))):
        report.find("witness", f"at least one head of log {report.log_id}", f"none in {witness}")
    tree = LeafTree(report, nodes, heads + kept)
    _entries(db, watch, report, tree)
    tree.finish()
    _check_heads(report, {head.size for head in heads}, tree.size)
    report.root = tree.root().hex()
    _say_limits(report, witness is not None, public_key is not None)
    report.revoked += islice(_revoked(db, watch), MOST_REVOKED) if report.profile == "ledger" else []


# --- the file


@contextmanager
def _opened(path: Path, scratch: Path | None) -> Iterator[tuple[sqlite3.Connection, ReadingBudget]]:
    if sqlite3.sqlite_version_info < (3, 37):
        raise NotALog(f"this Python's SQLite is {sqlite3.sqlite_version}; expected 3.37 or newer; use a newer Python")
    watch = ReadingBudget(_parts(path))
    with tempfile.TemporaryDirectory(prefix="verify-", dir=scratch) as room:
        try:
            db = _connected(path, "ro", watch)
        except DAMAGE as error:
            why = _not_the_files_fault(error)
            if why or not isinstance(error, sqlite3.OperationalError):
                raise NotALog(f"{plain(str(path))}: {why or plain(str(error))}") from error
            db = _copied(path, Path(room), watch)
        with closing(db):
            yield db, watch


def _parts(path: Path) -> list[Path]:
    """The log and the files that SQLite reads beside it; `NotALog` where one is no file, or there is no log."""
    try:
        real = path.resolve()
    except RuntimeError as error:  # links in a circle
        raise NotALog(f"{plain(str(path))}: {plain(str(error))}") from error
    found = []
    for suffix in ("", "-journal", "-wal", "-shm"):
        part = real.with_name(real.name + suffix)
        try:
            mode = part.stat().st_mode
        except FileNotFoundError:
            if suffix:
                continue
            raise NotALog(f"{plain(str(path))}: no such file") from None
        if not stat.S_ISREG(mode):
            raise NotALog(f"{plain(str(path) + suffix)}: {_kind(part, mode)}; expected a file")
        found += [part] if suffix != "-shm" else []
    return found


def _kind(path: Path, mode: int) -> str:
    if not stat.S_ISDIR(mode):
        kinds = {stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}
        return kinds.get(stat.S_IFMT(mode), "no file")
    logs = sorted(one.name for one in path.glob("*.log"))
    return f"a folder; its logs are {plain(', '.join(logs[:SHOWN]))}" if logs else "a folder without logs"


def _size(path: Path) -> int:
    """Bytes that a file holds: of one with holes, those that have room on disk."""
    found = path.stat()
    blocks = getattr(found, "st_blocks", None)
    return found.st_size if blocks is None else min(found.st_size, SPARSE * 512 * max(blocks, 8))


def _connected(path: Path, mode: str, watch: ReadingBudget) -> sqlite3.Connection:
    db = sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=BUSY_S)
    try:
        db.text_factory = bytes
        db.set_progress_handler(watch.stalled, 10_000)
        db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, min(max(2 * watch.size, LONGEST_VALUE), 1_000_000_000))
        db.execute("PRAGMA mmap_size = 0")
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA cell_size_check = ON")
        db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
    except DAMAGE:
        db.close()
        raise
    return db


def _copied(path: Path, scratch: Path, watch: ReadingBudget) -> sqlite3.Connection:
    """A copy of a log that cannot be read without writing: a crashed commit, or a folder without write permission."""
    try:
        for part in _parts(path):
            if part.stat().st_size > _size(part):
                raise NotALog(
                    f"{plain(str(part))}: a file of holes; expected at most {SPARSE} times the room that it has on disk"
                )
            with part.open("rb") as source, (scratch / part.name).open("wb") as target:
                while piece := source.read(1 << 20):
                    target.write(piece)
                    watch.beat()
            if part.name.endswith("-journal") and _names_another_file(part):
                raise NotALog(
                    f"{plain(str(part))}: it names another file, which rolling back would remove; no writer of logs makes such "
                    "a journal"
                )
        return _connected(scratch / path.resolve().name, "rw", watch)
    except (*DAMAGE, OSError) as error:
        raise NotALog(
            f"{plain(str(path))}: cannot be read ({_not_the_files_fault(error) or plain(str(error))})"
        ) from error


def _names_another_file(journal: Path) -> bool:
    with journal.open("rb") as stream:
        stream.seek(max(journal.stat().st_size - len(SUPER_JOURNAL), 0))
        return stream.read() == SUPER_JOURNAL


def _about(db: sqlite3.Connection, watch: ReadingBudget, report: Verification, wanted: str | None) -> bytes | None:
    """Checks what the log says of itself; returns its public key, or None where nothing more can be asked of this database."""
    where = plain(report.log)
    schema = list(db.execute("SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL LIMIT ?", (OBJECTS,)))
    (sql,) = [row[2] for row in schema if row[:2] == (b"table", b"log")][:1] or [b""]
    if type(sql) is not bytes or not sql.startswith(b"CREATE TABLE log "):
        raise NotALog(f"{where}: a database, but not a log (it has no table `log`)")
    watch.beat()
    sound = all(type(text) is bytes for row in schema for text in row)
    digest = sha256(b"\n".join(b" ".join(row) for row in sorted(schema))).hexdigest() if sound else "something else"
    rows = db.execute("SELECT about, signature FROM log WHERE length(about) <= ? LIMIT 2", (LONGEST_WORD,)).fetchall()
    try:
        ((body, signature),) = rows
        about = json.loads(body)
        log_id, profile, key = about["log_id"], about["profile"], bytes.fromhex(about["public_key"])
        known = about["format"] == FORMAT
        if not LOG_ID.fullmatch(log_id) or profile not in HEAD_EVERY:
            raise ValueError(log_id)
    except (ValueError, KeyError, TypeError, RecursionError):
        report.find("log", f"one row of at most {LONGEST_WORD} bytes with what the log says of itself", rows)
        return None
    report.log_id, report.profile, report.public_key = log_id, profile, key.hex()
    if not known:
        got = _shown(repr(about["format"])[:LETTERS])
        raise NotALog(f"{where}: expected a log of format {FORMAT}, got {got}: use a newer verifier")
    if not _signed(key, signature, ABOUT_CONTEXT + body):
        report.find("log", "a description signed by its own key", body)
    if wanted is not None and report.public_key != wanted.strip().lower():
        report.find("log", f"public key {wanted}", report.public_key)
    if digest != SCHEMA_SHA256:  # a view, a table of another kind: what it answers need not stand in the file
        report.find(
            "schema",
            f"tables and triggers of format {FORMAT} ({SCHEMA_SHA256})",
            f"{digest}; nothing else was looked at",
        )
        return None
    return key


def _signed(key: bytes, signature: Any, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


# --- heads


def _head(report: Verification, key: bytes, size: Any, body: Any, signature: Any) -> StatedHead | None:
    form = HEAD(body) if isinstance(body, bytes) else None
    if form is None:
        report.find(f"head of {size} entries", "canonical JSON of log_id, root, size, ts_ns", body)
        return None
    if not _signed(key, signature, HEAD_CONTEXT + body):
        report.find(f"head of {size} entries", "a signature by the log's key", signature)
        return None
    if (form[1].decode(), int(form[3])) != (report.log_id, size):
        report.find(f"head of {size} entries", f"log {report.log_id}, size {size}", body)
        return None
    return StatedHead(size, bytes.fromhex(form[2].decode()), "head")


def _witnessed(report: Verification, watch: ReadingBudget, key: bytes, folder: Path) -> list[StatedHead]:
    """The heads that a witness keeps of this log."""
    if not folder.is_dir():
        raise NotALog(f"{plain(str(folder))}: no such witness folder")
    heads = []
    for path in sorted(folder.glob(f"{report.log_id}-*.json")) if report.log_id else []:
        watch.beat()
        try:
            kept = json.loads(_small_file(path))
            body = json.dumps(kept["head"], sort_keys=True, separators=(",", ":")).encode()
            head = _head(report, key, kept["head"]["size"], body, bytes.fromhex(kept["signature"]))
        except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
            report.find(f"witness {path.name}", "a kept head", _shown(error) or type(error).__name__)
            continue
        if head is not None:
            heads.append(StatedHead(head.size, head.root, f"witness {path.name}"))
    return heads


def _small_file(path: Path) -> bytes:
    """The bytes of a file of at most `LONGEST_WORD`; a pipe or a device holds up nobody."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with open(handle, "rb") as stream:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_size > LONGEST_WORD:
            raise ValueError(f"no file of at most {LONGEST_WORD} bytes")
        return stream.read(LONGEST_WORD)


def _check_heads(report: Verification, sizes: set[int], there: int) -> None:
    """Heads that a writer makes without fail: none of them can be missing after a crash. `there`: entries that were found."""
    report.signed = max((size for size in sizes if size <= report.entries), default=0)
    every = HEAD_EVERY.get(report.profile, 1)
    if report.entries and (not report.signed or (every == 1 and report.signed < report.entries)):
        report.find(
            "head", f"one after entry {report.entries - 1 if every == 1 else 0}", f"the last covers {report.signed}"
        )
    for size in range(every, there + 1, every) if every > 1 else ():
        if size not in sizes:
            report.find(f"head of {size} entries", "a signed head", "none")


# --- entries


def _entries(db: sqlite3.Connection, watch: ReadingBudget, report: Verification, tree: LeafTree) -> None:
    """Reads every entry in order; a reader's lock is held for a page at a time."""
    at = 0
    while at < report.entries:
        rows = _page(db, watch, at, report.entries)
        there = next((i for i, row in enumerate(rows) if row[0] != at + i), len(rows))
        if not _page_is_sound(rows, report.log_id):
            for row in rows[:there]:
                _look_at(report, *row)
        tree.extend([leaf if type(leaf) is bytes else b"" for _, _, leaf, _ in rows[:there]])
        at += there
        if there < len(rows) or not rows:
            after = f"the next is {rows[there][0]}" if rows else f"though the last is {report.entries - 1}"
            report.find(f"entry {at}", "an entry", f"none; {after}")
            tree.lost = True  # no later root can be computed
            return


def _page(db: sqlite3.Connection, watch: ReadingBudget, at: int, end: int) -> list[tuple[Any, ...]]:
    """Entries from `at` on, as many as may be in memory at once."""
    query = "SELECT seq, body, leaf, payload FROM entry WHERE seq >= ? AND seq < ? ORDER BY seq LIMIT ?"
    rows, room = [], PAGE_BYTES
    for row in watch.rows(db, query, (at, end, PAGE), LEAST_ENTRY):
        rows.append(row)
        room -= sum(len(value) for value in row if isinstance(value, bytes))
        if room <= 0:
            break
    return rows


def _page_is_sound(rows: list[tuple[Any, ...]], log_id: str) -> bool:
    """The quick question, asked of many entries at once."""
    own = log_id.encode()
    try:
        if [sha256(b"\0" + body).digest() for _, body, _, _ in rows] != [row[2] for row in rows]:
            return False
        hashes = [b"" if row[3] is None else sha256(row[3]).hexdigest().encode() for row in rows]
        return all(MIDDLE % (own, h, row[0]) in row[1] for h, row in zip(hashes, rows))
    except TypeError:  # a column of another kind
        return False


def _look_at(report: Verification, seq: int, body: Any, leaf: Any, payload: Any) -> None:
    """Says what is wrong with an entry, if anything is."""
    if type(body) is not bytes or sha256(b"\0" + body).digest() != leaf:
        got = sha256(b"\0" + body).hexdigest() if type(body) is bytes else "nothing to hash"
        report.find(f"entry {seq}", f"leaf hash {_shown(leaf)}", f"{got}, from {_shown(body)}")
        return
    digest = sha256(payload).hexdigest() if type(payload) is bytes else "" if payload is None else repr(payload)
    if MIDDLE % (report.log_id.encode(), digest.encode(), seq) not in body:
        expected = f"log_id {report.log_id}, seq {seq} and payload_hash {digest or 'empty'}"
        report.find(f"entry {seq} or its payload", f"{expected} (as stored)", body)


# --- the tree


class LeafTree:
    """The Merkle tree that the leaves make, held against stored nodes and against every head on the way."""

    def __init__(self, report: Verification, nodes: dict[tuple[int, int], bytes], heads: Sequence[StatedHead]) -> None:
        self.report, self.nodes = report, nodes
        self.heads: dict[int, list[StatedHead]] = {}
        for head in heads:
            self.heads.setdefault(head.size, []).append(head)
        self.stops = sorted(self.heads)
        self.size = 0
        self.good = 0  # the last head that fitted: what is wrong comes after it
        self.lost = False
        self._peaks: list[tuple[int, bytes]] = []  # (level, hash), highest first
        if 0 in self.heads:  # a witness is told of a log before its first entry
            self._compare()

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Adds leaf hashes; whole blocks at once where no head lies inside."""
        at = 0
        while at < len(leaves):
            whole = self.size % BLOCK == 0 and at + BLOCK <= len(leaves) and self._next_stop() >= self.size + BLOCK
            if whole:
                self._add(BLOCK_LEVEL, _folded(leaves[at : at + BLOCK]))
            else:
                self._add(0, leaves[at])
            at += BLOCK if whole else 1
            if self.size in self.heads:
                self._compare()

    def _next_stop(self) -> int:
        at = bisect_right(self.stops, self.size)
        return self.stops[at] if at < len(self.stops) else 1 << 62

    def _add(self, level: int, digest: bytes) -> None:
        self.size += 1 << level
        self._check_node(level, digest)
        while self._peaks and self._peaks[-1][0] == level:
            digest = sha256(b"\1" + self._peaks.pop()[1] + digest).digest()
            level += 1
            self._check_node(level, digest)
        self._peaks.append((level, digest))

    def _check_node(self, level: int, digest: bytes) -> None:
        if level < BLOCK_LEVEL:
            return
        position = (self.size >> level) - 1
        stored = self.nodes.pop((level, position), None)
        if stored != digest:
            first = position << level
            self.report.find(f"node over entries {first} to {first + (1 << level) - 1}", digest, stored)

    def _compare(self) -> None:
        root = self.root()
        for head in self.heads.pop(self.size):
            if head.root == root:
                self.good = max(self.good, head.size)
            else:
                where = f"{head.source}, after {self.size} entries (the last good head is at {self.good})"
                self.report.find(where, f"root {head.root.hex()}", root.hex())

    def root(self) -> bytes:
        """Root of the leaves so far."""
        if not self._peaks:
            return sha256(b"").digest()
        digest = self._peaks[-1][1]
        for _, peak in self._peaks[-2::-1]:
            digest = sha256(b"\1" + peak + digest).digest()
        return digest

    def finish(self) -> None:
        """What is left over: heads of entries that are not there, nodes that belong to nothing."""
        for size in sorted(self.heads) if not self.lost else []:
            for head in self.heads[size]:
                where = f"{head.source} of {size} entries"
                self.report.find(where, f"at least {size} entries", f"{self.report.entries}: cut off, or an older copy")
        for (level, position), digest in sorted(self.nodes.items(), key=repr) if not self.lost else []:
            self.report.find(f"node {level}/{position}", "none there", digest)


def _folded(hashes: Sequence[bytes]) -> bytes:
    """Root of a power of two of leaf hashes."""
    level = list(hashes)
    while len(level) > 1:
        level = [sha256(b"\1" + level[i] + level[i + 1]).digest() for i in range(0, len(level), 2)]
    return level[0]


# --- saying it


def _revoked(db: sqlite3.Connection, watch: ReadingBudget) -> Iterator[str]:
    """Keys of people that the ledger calls revoked, and signatures by them in entries that follow."""
    since: dict[str, int] = {}
    kinds = " OR ".join(f'instr(body, \'"kind":"{kind}"\')' for kind in ("revoke", "signer", "promote"))
    query = f"SELECT seq, body, payload FROM entry WHERE ({kinds}) AND length(payload) <= {LONGEST_ORDER} ORDER BY seq"
    for seq, body, payload in watch.rows(db, query, least=LEAST_ENTRY):
        try:
            kind, said = json.loads(body)["kind"], json.loads(payload)
            signers = [approval["signer"] for approval in said["approvals"]]
            late = [name for name in signers if name in since]
            yield from (
                f"entry {seq} ({plain(kind)}): the signature of {_shown(name)} does not count (entry {since[name]})"
                for name in late
            )
            if kind == "revoke" and said["name"] not in since:
                since[said["name"]] = seq
                by = _shown(", ".join(signers))
                yield f"entry {seq}: the key of {_shown(said['name'])} is revoked by {by}: {_shown(said['reason'])}"
        except (ValueError, KeyError, TypeError, RecursionError):
            continue  # of another form: whether an entry is allowed is not judged here


def _say_limits(report: Verification, witness: bool, key: bool) -> None:
    if report.signed < report.entries:
        report.limits.append(
            f"Entries {report.signed} to {report.entries - 1} are not yet under a signed head: whoever can write the file "
            "can change or remove them unseen, as long as the hashes fit."
        )
    if not witness:
        report.limits.append(
            "Without a witness (--witness DIR) these look whole: an older copy put back in place of this log, a tail cut off "
            "together with its heads (and, in a diary, up to 255 other entries in its place), and a history written anew by "
            "the holder of the key."
        )
    else:
        report.limits.append(
            "What came after the witness's last head can be cut off unseen, and the holder of the key can rewrite it."
        )
    if not key:
        report.limits.append(
            "The public key is the log's own word: another log under another key looks whole. Compare it with the one "
            "that you were given, or pass --public-key HEX."
        )


def _text(report: Verification) -> Iterator[str]:
    yield f"{plain(report.log)}: {'whole' if report.whole else 'TAMPERED WITH OR DAMAGED'}"
    yield f"  log {report.log_id} ({report.profile}), public key {report.public_key}"
    yield f"  {report.entries:,} entries, {report.signed:,} of them under {report.heads:,} signed heads, root {report.root}"
    for finding in report.findings:
        yield f"  ! {finding}"
    if report.more_findings:
        yield f"  ! and {report.more_findings:,} more"
    for line in report.revoked:
        yield f"  {line}"
    if report.revoked:
        yield "  (as the ledger says; whether an entry is allowed is judged by scripts/promote.py)"
    for limit in report.limits:
        yield f"  Not seen: {limit}"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="verify", description="Verifies a log (exit 0 whole, 1 tampered, 2 not a log)."
    )
    parser.add_argument("log", type=Path, help="the file of the log")
    parser.add_argument("--witness", type=Path, metavar="DIR", help="folder with kept heads")
    parser.add_argument("--public-key", metavar="HEX", help="the key that the log must be signed with")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else")
    parser.add_argument(
        "--inside", type=Path, help=argparse.SUPPRESS
    )  # the process that does the work; its scratch folder
    arguments = parser.parse_args(argv)
    if arguments.public_key is not None and not re.fullmatch(r"\s*[0-9a-fA-F]{64}\s*", arguments.public_key):
        parser.error(f"--public-key: expected 64 hexadecimal digits, got {arguments.public_key!r}")
    if arguments.inside is not None:
        return _inside(arguments)
    code, said, why = _watched(arguments, argv)
    if why:
        _complain(why)
        return 2
    return _say(said) or code


def _inside(arguments: argparse.Namespace) -> int:
    """The work, in a process of its own; one JSON line on standard output tells the outcome to the process that began it."""
    ReadingBudget.alone = hasattr(signal, "setitimer")
    if ReadingBudget.alone:  # whoever began us may have had other wishes
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    with suppress(ImportError, ValueError, OSError, NotALog):
        import resource

        most = MEMORY + 8 * sum(_size(part) for part in _parts(arguments.log))
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    try:
        report = _judged(arguments.log, arguments.witness, arguments.public_key, arguments.inside)
    except (NotALog, OSError, MemoryError) as error:
        told = [2, "", plain(str(error) or type(error).__name__)]
    else:
        said = json.dumps({"whole": report.whole, **asdict(report)}) if arguments.json else "\n".join(_text(report))
        told = [0 if report.whole else 1, f"{said}\n", ""]
    sys.stdout.write(json.dumps(told))
    return 0


def _watched(arguments: argparse.Namespace, argv: Sequence[str] | None) -> tuple[int, str, str]:
    """(exit code, what to print, why not) of a process that does the work and cannot keep us."""
    flags = ["-I"] if sys.flags.isolated else ["-P"]
    words = sys.argv[1:] if argv is None else [*map(str, argv)]
    where = plain(str(arguments.log))
    with tempfile.TemporaryDirectory(prefix="verify-", ignore_cleanup_errors=True) as scratch:
        command = [sys.executable, *flags, str(Path(__file__).resolve()), f"--inside={scratch}", *words]
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            try:
                said, trouble = process.communicate(timeout=STALL_S + 2 + _apparent(arguments.log) / SLOWEST)
            except subprocess.TimeoutExpired:
                process.kill()
                return 2, "", f"{where}: not judged in time; given up"
            except BaseException:
                process.kill()
                raise
    if process.returncode == -getattr(signal, "SIGALRM", 0):
        return 2, "", f"{where}: nothing could be read or checked for {STALL_S + 1:g} s; given up"
    try:
        code, text, why = json.loads(said)
    except ValueError:
        last = plain((trouble.decode(errors="replace").split("\n") or [""])[-2:][0])[:LETTERS]
        return 2, "", f"{where}: cannot be read (status {process.returncode}{': ' if last else ''}{last})"
    return code, text, why


def _apparent(path: Path) -> int:
    try:
        return sum(_size(part) for part in _parts(path))
    except (NotALog, OSError):
        return 0  # the other process says what it is


def _complain(why: str) -> None:
    if sys.stderr is not None:
        encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        sys.stderr.write(f"verify: {why}\n".encode(encoding, "replace").decode(encoding))


def _say(text: str) -> int:
    """0, or the exit status where standard output takes nothing: 141 of a broken pipe, 2 of a full disk. A letter that its encoding
    lacks is a question mark."""
    if sys.stdout is None:  # closed: the exit status says it all
        return 0
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in the buffer goes nowhere
        if isinstance(error, BrokenPipeError):
            return 141
        sys.stderr.write(f"verify: standard output: {error.strerror}\n")
        return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
