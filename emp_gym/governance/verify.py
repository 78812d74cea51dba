"""Verifies a log: python scripts/verify.py LOG [--witness DIR] [--public-key HEX] [--json]

Exit code 0: whole. 1: tampered with or damaged, saying where. 2: not a log, or it cannot be read.

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
import shutil
import sqlite3
import sys
import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
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
SHOWN = 20  # findings kept; more are counted

# What every entry contains, with its own log_id, hash of its payload and number. Text within quotes cannot contain it, since
# its quotes would be escaped; that the rest of an entry is as it was written is what the signature says.
MIDDLE = b'","log_id":"%b","payload_hash":"%b","seq":%d,"subject_hash":"'
HEAD = re.compile(
    rb'\{"log_id":"([0-9a-z-]{8,64})","root":"([0-9a-f]{64})","size":(0|[1-9]\d{0,18}),"ts_ns":-?\d+\}'
).fullmatch

DAMAGE = (sqlite3.DatabaseError, UnicodeDecodeError)  # the second where a damaged schema is part of SQLite's message
sha256 = hashlib.sha256


class NotALog(Exception):
    """There is nothing here that could be whole or tampered with."""


@dataclass(frozen=True)
class Finding:
    """Something that does not fit, and where."""

    where: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, got {self.got}"


@dataclass
class Report:
    """What was found, and what could not be looked at."""

    log: str
    log_id: str = ""
    public_key: str = ""
    profile: str = ""
    entries: int = 0
    heads: int = 0
    signed: int = 0  # entries under a signed head
    root: str = ""
    findings: list[Finding] = field(default_factory=list)
    more_findings: int = 0
    limits: list[str] = field(default_factory=list)  # what could have happened unseen
    revoked: list[str] = field(default_factory=list)  # what a ledger says of keys that were taken out of use

    @property
    def whole(self) -> bool:
        return not self.findings

    def find(self, where: str, expected: object, got: object) -> None:
        """Notes a finding; the first ones say where to look."""
        if len(self.findings) < SHOWN:
            self.findings.append(Finding(where, _shown(expected), _shown(got)))
        else:
            self.more_findings += 1


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex() if len(value) in (32, 64) else repr(value[:500])
    return str(value)


@dataclass(frozen=True)
class Head:
    """A statement of the log about its own size and root, from the log itself or from a witness."""

    size: int
    root: bytes
    source: str


def verify(log: str | Path, witness: str | Path | None = None, public_key: str | None = None) -> Report:
    """Checks everything there is to check. `NotALog` if there is nothing to check."""
    report = Report(str(log))
    with _opened(Path(log)) as db:
        try:
            _verify(db, report, witness, public_key)
        except DAMAGE as error:
            report.find("database", "a readable file", f"{error}; nothing after this could be looked at")
    return report


def _verify(db: sqlite3.Connection, report: Report, witness: str | Path | None, public_key: str | None) -> None:
    key = _about(db, report, public_key)
    kept = _witnessed(report, key, Path(witness)) if witness is not None else []  # before the log, which may be growing
    db.execute("BEGIN")  # one moment
    (report.entries,) = db.execute("SELECT coalesce(max(seq) + 1, 0) FROM entry").fetchone()
    first = db.execute("SELECT min(seq) FROM entry").fetchone()[0]
    nodes = {
        (level, position): digest for level, position, digest in db.execute("SELECT level, position, hash FROM node")
    }
    rows = db.execute("SELECT size, body, signature FROM head ORDER BY size").fetchall()
    db.execute("COMMIT")
    if first is not None and first < 0:
        report.find("entry", "sequence numbers from 0", f"an entry {first}")
    heads = [head for row in rows if (head := _head(report, key, *row))]
    report.heads = len(rows)
    if witness is not None and not kept and (report.entries or any(Path(witness).glob("*.json"))):
        report.find("witness", f"at least one head of log {report.log_id}", f"none in {witness}")
    tree = Tree(report, nodes, heads + kept)
    _entries(db, report, tree)
    tree.finish()
    _check_heads(report, {head.size for head in heads})
    report.root = tree.root().hex()
    _say_limits(report, witness is not None, public_key is not None)
    report.revoked += _revoked(db) if report.profile == "ledger" else []


# --- the file


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    if sqlite3.sqlite_version_info < (3, 37):
        raise NotALog(f"this Python's SQLite is {sqlite3.sqlite_version}; expected 3.37 or newer; use a newer Python")
    if not path.is_file():
        logs = sorted(one.name for one in path.glob("*.log")) if path.is_dir() else []
        said = (
            f"a folder; its logs are {', '.join(logs)}"
            if logs
            else "a folder without logs"
            if path.is_dir()
            else "no such file"
        )
        raise NotALog(f"{path}: {said}")
    with tempfile.TemporaryDirectory(prefix="verify-") as scratch:
        try:
            db = _connected(path, "ro")
        except DAMAGE as error:
            if not isinstance(error, sqlite3.OperationalError):
                raise NotALog(f"{path}: {error}") from error
            db = _copied(path, Path(scratch))
        with closing(db):
            yield db


def _connected(path: Path, mode: str) -> sqlite3.Connection:
    db = sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=30)
    try:
        db.text_factory = bytes
        db.execute("PRAGMA mmap_size = 0")
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA cell_size_check = ON")
        db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except DAMAGE:
        db.close()
        raise
    return db


def _copied(path: Path, scratch: Path) -> sqlite3.Connection:
    """A copy of a log that cannot be read without writing: a crashed commit, or a folder without write permission."""
    try:
        for suffix in ("", "-journal", "-wal"):
            part = path.with_name(path.name + suffix)
            if part.exists():
                shutil.copyfile(part, scratch / part.name)
        return _connected(scratch / path.name, "rw")
    except (*DAMAGE, OSError) as error:
        raise NotALog(f"{path}: cannot be read ({error})") from error


def _about(db: sqlite3.Connection, report: Report, wanted: str | None) -> bytes:
    """Checks what the log says of itself; returns its public key."""
    if not db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'log' AND type = 'table'").fetchone()[0]:
        raise NotALog(f"{report.log}: a database, but not a log (it has no table `log`)")
    schema = db.execute(
        "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type, name"
    ).fetchall()
    digest = sha256(b"\n".join(b" ".join(row) for row in schema)).hexdigest()
    rows = db.execute("SELECT about, signature FROM log").fetchall()
    try:
        ((body, signature),) = rows
        about = json.loads(body)
        log_id, profile, key = about["log_id"], about["profile"], bytes.fromhex(about["public_key"])
        known = about["format"] == FORMAT
        if not LOG_ID.fullmatch(log_id) or profile not in HEAD_EVERY:
            raise ValueError(log_id)
    except (ValueError, KeyError, TypeError):
        report.find("log", "one row with what the log says of itself", rows)
        return bytes(32)
    report.log_id, report.profile, report.public_key = log_id, profile, key.hex()
    if not known:
        raise NotALog(f"{report.log}: expected a log of format {FORMAT}, got {about['format']!r}: use a newer verifier")
    if digest != SCHEMA_SHA256:
        report.find("schema", f"tables and triggers of format {FORMAT} ({SCHEMA_SHA256})", digest)
    if not _signed(key, signature, ABOUT_CONTEXT + body):
        report.find("log", "a description signed by its own key", body)
    if wanted is not None and report.public_key != wanted.strip().lower():
        report.find("log", f"public key {wanted}", report.public_key)
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


def _head(report: Report, key: bytes, size: Any, body: Any, signature: Any) -> Head | None:
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
    return Head(size, bytes.fromhex(form[2].decode()), "head")


def _witnessed(report: Report, key: bytes, folder: Path) -> list[Head]:
    """The heads that a witness keeps of this log."""
    if not folder.is_dir():
        raise NotALog(f"{folder}: no such witness folder")
    heads = []
    for path in sorted(folder.glob(f"{report.log_id}-*.json")) if report.log_id else []:
        try:
            kept = json.loads(path.read_bytes())
            body = json.dumps(kept["head"], sort_keys=True, separators=(",", ":")).encode()
            head = _head(report, key, kept["head"]["size"], body, bytes.fromhex(kept["signature"]))
        except (ValueError, KeyError, TypeError) as error:
            report.find(f"witness {path.name}", "a kept head", repr(error))
            continue
        if head is not None:
            heads.append(Head(head.size, head.root, f"witness {path.name}"))
    return heads


def _check_heads(report: Report, sizes: set[int]) -> None:
    """Heads that a writer makes without fail: none of them can be missing after a crash."""
    report.signed = max((size for size in sizes if size <= report.entries), default=0)
    every = HEAD_EVERY.get(report.profile, 1)
    if report.entries and (not report.signed or (every == 1 and report.signed < report.entries)):
        report.find(
            "head", f"one after entry {report.entries - 1 if every == 1 else 0}", f"the last covers {report.signed}"
        )
    for size in range(every, report.entries + 1, every) if every > 1 else ():
        if size not in sizes:
            report.find(f"head of {size} entries", "a signed head", "none")


# --- entries


def _entries(db: sqlite3.Connection, report: Report, tree: Tree) -> None:
    """Reads every entry in order; a reader's lock is held for a page at a time."""
    at = 0
    query = "SELECT seq, body, leaf, payload FROM entry WHERE seq >= ? AND seq < ? ORDER BY seq LIMIT ?"
    while at < report.entries:
        rows = db.execute(query, (at, report.entries, PAGE)).fetchall()
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


def _look_at(report: Report, seq: int, body: Any, leaf: Any, payload: Any) -> None:
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


class Tree:
    """The Merkle tree that the leaves make, held against stored nodes and against every head on the way."""

    def __init__(self, report: Report, nodes: dict[tuple[int, int], bytes], heads: Sequence[Head]) -> None:
        self.report, self.nodes = report, nodes
        self.heads: dict[int, list[Head]] = {}
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


def _revoked(db: sqlite3.Connection) -> Iterator[str]:
    """Keys of people that the ledger calls revoked, and signatures by them in entries that follow."""
    since: dict[str, int] = {}
    kinds = " OR ".join(f'instr(body, \'"kind":"{kind}"\')' for kind in ("revoke", "signer", "promote"))
    for seq, body, payload in db.execute(f"SELECT seq, body, payload FROM entry WHERE {kinds} ORDER BY seq").fetchall():
        try:
            kind, said = json.loads(body)["kind"], json.loads(payload)
            signers = [approval["signer"] for approval in said["approvals"]]
            late = [name for name in signers if name in since]
            yield from (
                f"entry {seq} ({kind}): the signature of {name} does not count (entry {since[name]})" for name in late
            )
            if kind == "revoke" and said["name"] not in since:
                since[said["name"]] = seq
                yield f"entry {seq}: the key of {said['name']} is revoked by {', '.join(signers)}: {said['reason']}"
        except (ValueError, KeyError, TypeError):
            continue  # of another form: whether an entry is allowed is not judged here


def _say_limits(report: Report, witness: bool, key: bool) -> None:
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


def _text(report: Report) -> Iterator[str]:
    yield f"{report.log}: {'whole' if report.whole else 'TAMPERED WITH OR DAMAGED'}"
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
    arguments = parser.parse_args(argv)
    if arguments.public_key is not None and not re.fullmatch(r"\s*[0-9a-fA-F]{64}\s*", arguments.public_key):
        parser.error(f"--public-key: expected 64 hexadecimal digits, got {arguments.public_key!r}")
    try:
        report = verify(arguments.log, arguments.witness, arguments.public_key)
    except (NotALog, OSError) as error:
        sys.stderr.write(f"verify: {error}\n")
        return 2
    said = json.dumps({"whole": report.whole, **asdict(report)}) if arguments.json else "\n".join(_text(report))
    return _say(said + "\n") or (0 if report.whole else 1)


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
    sys.exit(main())
