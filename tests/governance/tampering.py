"""What somebody may do to a log: each function changes the file and returns whether only a witness can tell.

The hand is a skilled one: it takes the triggers away and puts them back, keeps the file a sound database, and where a
function says so recomputes hashes or even holds the key.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from random import Random

from emp_gym.governance.log import merkle
from emp_gym.governance.log.reader import BLOCK_LEVEL
from emp_gym.governance.log.signed_tree_heads import sign_head
from emp_gym.governance.log.store import TABLES
from emp_gym.governance.log.writer import DIARY
from tests.governance.logs import create, drafts, key

SIZE = 150
OLD = 90  # entries of the older copy
COLUMNS = {
    "entry": ("body", "leaf", "payload"),
    "node": ("hash",),
    "head": ("body", "signature"),
    "log": ("about", "signature"),
}


def sound(folder: Path) -> tuple[Path, Path, Path]:
    """A closed log, its witness, and an older copy of the log."""
    path, witness, old = folder / "sound.log", folder / "heads", folder / "old.log"
    with create(path, profile=replace(DIARY, head_every=16, journal_mode="DELETE"), witness=witness) as log:
        for first in range(0, SIZE, 10):
            if first == OLD:
                log.sign_head()
                shutil.copy(path, old)
            log.append_many(drafts(10, first))
    return path, witness, old


def content(path: Path) -> list[object] | None:
    """Everything that the file says; None where it cannot be read."""
    try:
        with closing(sqlite3.connect(path)) as db:
            db.text_factory = bytes
            rows = db.execute("SELECT type, name, sql FROM sqlite_schema").fetchall()
            return rows + [row for table in TABLES for row in db.execute(f"SELECT * FROM {table} ORDER BY 1, 2")]
    except (sqlite3.DatabaseError, UnicodeDecodeError):
        return None


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The database without its triggers, which are back afterwards."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        triggers = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        db.execute("PRAGMA synchronous = OFF")
        db.execute("BEGIN")
        for name, _ in triggers:
            db.execute(f"DROP TRIGGER {name}")
        yield db
        for _, sql in triggers:
            db.execute(sql)
        db.execute("COMMIT")


def rehash(db: sqlite3.Connection) -> merkle.Frontier:
    """Makes leaf hashes and nodes fit the entries."""
    db.execute("DELETE FROM node")
    tree = merkle.Frontier()
    for seq, body in db.execute("SELECT seq, body FROM entry ORDER BY seq").fetchall():
        leaf = merkle.leaf_hash(body.encode())
        db.execute("UPDATE entry SET leaf = ? WHERE seq = ?", (leaf, seq))
        db.executemany("INSERT INTO node VALUES (?, ?, ?)", tree.append(leaf, BLOCK_LEVEL))
    return tree


# --- the hands


def flip_bit(path: Path, random: Random) -> bool:
    """One bit of the file."""
    data = bytearray(path.read_bytes())
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    path.write_bytes(data)
    return False


def flip_in_row(path: Path, random: Random) -> bool:
    """One bit of one stored value."""
    table = random.choice(list(COLUMNS))
    column = random.choice(COLUMNS[table])
    with opened(path) as db:
        name = "level || '/' || position" if table == "node" else "rowid"
        rows = db.execute(
            f"SELECT {name}, CAST({column} AS BLOB), typeof({column}) FROM {table} WHERE length({column}) > 0"
        ).fetchall()
        row, value, kind = random.choice(rows)
        changed = bytearray(value)
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(6)  # stays ASCII where it was
        cast = "CAST(? AS TEXT)" if kind == "text" else "?"
        db.execute(f"UPDATE {table} SET {column} = {cast} WHERE {name} = ?", (bytes(changed), row))
    return False


def swap(path: Path, random: Random) -> bool:
    """Two entries change places, with all that is theirs."""
    a, b = random.sample(range(SIZE), 2)
    with opened(path) as db:
        db.execute("UPDATE entry SET seq = 1000000 WHERE seq = ?", (a,))
        db.execute("UPDATE entry SET seq = ? WHERE seq = ?", (a, b))
        db.execute("UPDATE entry SET seq = ? WHERE seq = 1000000", (b,))
        if random.random() < 0.5:
            rehash(db)
    return False


def drop(path: Path, random: Random) -> bool:
    """An entry is gone; perhaps the later ones move up."""
    seq, close = random.randrange(SIZE), random.random() < 0.5
    with opened(path) as db:
        db.execute("DELETE FROM entry WHERE seq = ?", (seq,))
        if close:
            for later in range(seq + 1, SIZE):
                db.execute("UPDATE entry SET seq = ? WHERE seq = ?", (later - 1, later))
            if random.random() < 0.5:
                rehash(db)
    return False


def drop_payload(path: Path, random: Random) -> bool:
    """A payload is gone, or stands where there was none."""
    with opened(path) as db:
        seq = random.randrange(SIZE)
        (payload,) = db.execute("SELECT payload FROM entry WHERE seq = ?", (seq,)).fetchone()
        db.execute("UPDATE entry SET payload = ? WHERE seq = ?", (b"" if payload is None else None, seq))
    return False


def insert(path: Path, random: Random) -> bool:
    """An entry more, in between, with every hash made to fit."""
    seq = random.randrange(SIZE)
    with opened(path) as db:
        for later in range(SIZE - 1, seq - 1, -1):
            db.execute("UPDATE entry SET seq = ? WHERE seq = ?", (later + 1, later))
        db.execute("INSERT INTO entry SELECT ?, body, leaf, payload FROM entry WHERE seq = ?", (seq, seq + 1))
        rehash(db)
    return False


def drop_rows(path: Path, random: Random) -> bool:
    """A head or a node is gone."""
    with opened(path) as db:
        if random.random() < 0.5:
            db.execute("DELETE FROM node WHERE position = ?", (random.choice((0, 1)),))
        else:  # the last one: without it the end of the log is merely unsigned
            db.execute("DELETE FROM log")
    return False


def rewrite_and_rehash(path: Path, random: Random) -> bool:
    """An entry tells another story and every hash fits; the signatures cannot."""
    with opened(path) as db:
        db.execute(
            "UPDATE entry SET body = replace(body, '\"actor-', '\"Actor-') WHERE seq = ?", (random.randrange(SIZE),)
        )
        rehash(db)
    return False


def cut_tail(path: Path, random: Random) -> bool:
    """The last entries are gone; their heads are not."""
    with opened(path) as db:
        db.execute("DELETE FROM entry WHERE seq >= ?", (random.randrange(SIZE),))
        if random.random() < 0.5:
            rehash(db)
    return False


def cut_tail_with_heads(path: Path, random: Random) -> bool:
    """The last entries are gone, and all that spoke of them."""
    size = random.randrange(SIZE)
    with opened(path) as db:
        db.execute("DELETE FROM entry WHERE seq >= ?", (size,))
        db.execute("DELETE FROM head WHERE size > ?", (size,))
        rehash(db)
    return size == 0 or size >= 10  # the first head is at 10: entries without any are too few


def strip_heads(path: Path, random: Random) -> bool:
    """Entries after some head tell another story, and the heads that would know are gone. All heads gone is too much."""
    with opened(path) as db:
        sizes = [0] + [size for (size,) in db.execute("SELECT size FROM head ORDER BY size")]
        kept = random.choice(sizes[:-1])
        db.execute("DELETE FROM head WHERE size > ?", (kept,))
        db.execute("UPDATE entry SET body = replace(body, '\"actor-', '\"Actor-') WHERE seq >= ?", (kept,))
        rehash(db)
    return kept > 0


def rewrite_with_the_key(path: Path, random: Random) -> bool:
    """The holder of the key writes a new history from some entry on."""
    with opened(path) as db:
        db.execute(
            "UPDATE entry SET body = replace(body, '\"actor-', '\"Actor-') WHERE seq = ?", (random.randrange(SIZE),)
        )
        rehash(db)
        heads = db.execute(
            "SELECT size, json_extract(body, '$.ts_ns'), json_extract(body, '$.log_id') FROM head"
        ).fetchall()
        leaves = [leaf for (leaf,) in db.execute("SELECT leaf FROM entry ORDER BY seq")]
        for size, ts_ns, log_id in heads:
            tree = merkle.Frontier()
            for leaf in leaves[:size]:
                tree.append(leaf)
            head = sign_head(key(), log_id, size, tree.root(), ts_ns)
            db.execute(
                "UPDATE head SET body = ?, signature = ? WHERE size = ?", (head.body.decode(), head.signature, size)
            )
    return True


def put_back_old_copy(path: Path, random: Random) -> bool:
    """An older state of the same log, whole as it was then."""
    with suppress(FileNotFoundError):
        path.with_name(path.name + "-journal").unlink()
    shutil.copy(path.parent / "old.log", path)
    return True


HANDS: tuple[Callable[[Path, Random], bool], ...] = (
    flip_bit, flip_in_row, swap, drop, drop_payload, insert, drop_rows, rewrite_and_rehash, cut_tail, cut_tail_with_heads,
    strip_heads, rewrite_with_the_key, put_back_old_copy,
)  # fmt: skip
