"""Files that somebody made so that the verifier hangs, dies, or calls them whole."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from random import Random

from tests.governance.tampering import opened

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 0 UNION ALL SELECT x + 1 FROM n) SELECT "
COLUMNS = {
    "entry": "x AS seq, 'b' AS body, zeroblob(32) AS leaf, NULL AS payload",
    "node": "6 AS level, x AS position, zeroblob(32) AS hash",
    "head": "x AS size, 'b' AS body, zeroblob(64) AS signature",
}
DEEP = "[" * 100_000


@contextmanager
def schema_of(path: Path) -> Iterator[sqlite3.Connection]:
    """The database with a schema that may be written."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("BEGIN")
        yield db
        db.execute("COMMIT")


def number(seq: int) -> Callable[[Path], None]:
    def hand(path: Path) -> None:
        """The last entry has another number."""
        with opened(path) as db:
            db.execute("PRAGMA ignore_check_constraints = ON")
            db.execute("UPDATE entry SET seq = ? WHERE seq = (SELECT max(seq) FROM entry)", (seq,))

    return hand


def view(table: str) -> Callable[[Path], None]:
    def hand(path: Path) -> None:
        """An endless view in the place of a table."""
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute(f"DROP TABLE {table}")
            db.execute(f"CREATE VIEW {table} AS {ENDLESS}{COLUMNS[table]} FROM n")

    return hand


def about(text: str) -> Callable[[Path], None]:
    def hand(path: Path) -> None:
        """The log says something else of itself."""
        with opened(path) as db:
            db.execute("UPDATE log SET about = ?", (text,))

    return hand


def further_objects(path: Path) -> None:
    """A thousand tables more."""
    with closing(sqlite3.connect(path)) as db:
        for i in range(1000):
            db.execute(f"CREATE TABLE t{i} (x)")


def log_is_a_view(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DROP TABLE log")
        db.execute(f"CREATE VIEW log AS {ENDLESS}'a' AS about, zeroblob(64) AS signature FROM n")


def schema_row_of_numbers(path: Path) -> None:
    with schema_of(path) as db:
        db.execute("UPDATE sqlite_schema SET name = x'1b5b324a' WHERE name = 'head_next'")


def pages_in_a_circle(path: Path) -> None:
    """Every inner page of the file leads to itself."""
    data = bytearray(path.read_bytes())
    size = int.from_bytes(data[16:18], "big")
    for page in range(1, len(data) // size):
        at = page * size
        if data[at] == 5:  # an inner page of a table
            own = (page + 1).to_bytes(4, "big")
            data[at + 8 : at + 12] = own
            for cell in range(int.from_bytes(data[at + 3 : at + 5], "big")):
                to = at + int.from_bytes(data[at + 12 + 2 * cell : at + 14 + 2 * cell], "big")
                data[to : to + 4] = own
    path.write_bytes(data)


def many_pages_said(path: Path) -> None:
    """The header speaks of 2^32 - 2 pages."""
    data = bytearray(path.read_bytes())
    data[28:32] = b"\xff\xff\xff\xfe"
    path.write_bytes(data)


def holes(path: Path) -> None:
    """A file of a terabyte that takes no room."""
    os.truncate(path, 1 << 40)


def pipe_beside(suffix: str) -> Callable[[Path], None]:
    def hand(path: Path) -> None:
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).unlink()
        os.mkfifo(path.with_name(path.name + suffix))

    return hand


def folder_beside(path: Path) -> None:
    path.with_name(path.name + "-wal").mkdir()


def journal_of_noise(path: Path) -> None:
    magic = bytes.fromhex("d9d505f920a163d7")
    path.with_name(path.name + "-journal").write_bytes(magic + Random(5).randbytes(100_000))


def wal_of_noise(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[18:20] = b"\2\2"  # says that there is a write-ahead log
    path.write_bytes(data)
    path.with_name(path.name + "-wal").write_bytes(Random(6).randbytes(300_000))
    path.with_name(path.name + "-shm").write_bytes(b"")


HANDS: dict[str, Callable[[Path], None]] = {
    "entry 2^62": number(1 << 62), "entry 2^63 - 1": number((1 << 63) - 1), "entry 10^6": number(10**6), "entry -7": number(-7),
    "entries from an endless view": view("entry"), "nodes from an endless view": view("node"),
    "heads from an endless view": view("head"), "the log is a view": log_is_a_view,
    "deep about": about(DEEP), "long number in about": about('{"format": ' + "9" * 50_000 + "}"),
    "long about": about('{"format": 1, "x": "' + "x" * (1 << 21) + '"}'), "about is a list": about("[1, 2]"),
    "format is deep": about('{"format":' + "[" * 900 + "]" * 900 + ',"log_id":"12345678","profile":"ledger","public_key":"00"}'),
    "a thousand tables": further_objects, "a schema of bytes": schema_row_of_numbers, "pages in a circle": pages_in_a_circle,
    "too many pages said": many_pages_said, "holes": holes, "pipe as journal": pipe_beside("-journal"),
    "pipe as wal": pipe_beside("-wal"), "pipe as shm": pipe_beside("-shm"), "folder as wal": folder_beside,
    "noise as journal": journal_of_noise, "noise as wal": wal_of_noise,
}  # fmt: skip
LOOK_WHOLE = {"noise as journal", "noise as wal", "holes", "too many pages said"}
"""What changes nothing that the log says: SQLite leaves alone a journal without a good header, frames whose sums are wrong, and pages
behind the last one."""


def damage(path: Path, random: Random) -> None:
    """A few bytes, a page in the place of another, the header, or the end of a file; or noise beside it."""
    data = bytearray(path.read_bytes())
    size = int.from_bytes(data[16:18], "big") or 4096
    kind = random.randrange(6)
    if kind == 0:
        for _ in range(random.randint(1, 40)):
            data[random.randrange(len(data))] = random.randrange(256)
    elif kind == 1:
        a, b = (random.randrange(len(data) // size) * size for _ in range(2))
        data[a : a + size] = data[b : b + size]
    elif kind == 2:
        data[random.randrange(16, 100)] = random.randrange(256)
    elif kind == 3:
        del data[random.randrange(len(data)) :]
    elif kind == 4:  # heads of pages: types, counts, pointers
        at = random.randrange(len(data) // size) * size
        data[at : at + 12] = random.randbytes(12)
    else:
        suffix = random.choice(("-journal", "-wal", "-shm"))
        path.with_name(path.name + suffix).write_bytes(random.randbytes(random.randrange(70_000)))
    path.write_bytes(data)
