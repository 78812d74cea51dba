"""Reading a log: entries, heads and proofs. Any number of readers, none of which can write or make the writer wait long."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from emp_gym.extras import need
from emp_gym.governance.errors import LogError, LogTampered, LogUnfinished
from emp_gym.governance.log import merkle, store
from emp_gym.governance.log.canonical import canonical, parse
from emp_gym.governance.log.signed_tree_heads import ABOUT, Head, Witness, is_signed
from emp_gym.types import ConfigError

if TYPE_CHECKING:
    import apsw

BLOCK_LEVEL = 6  # nodes from this level up (64 leaves) are stored; those below are computed from the leaf hashes
PAGE = 1024  # entries a query: a reader holds its lock for one page


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as it was written, with its payload."""

    log_id: str
    seq: int
    ts_ns: int
    actor: str
    kind: str
    subject_hash: str
    payload_hash: str  # "" for none
    evidence: tuple[str, ...]
    payload: bytes | None
    leaf: bytes

    @property
    def value(self) -> Any:
        """The payload as the JSON value that was handed in; `ValueError` if it is bytes of another kind."""
        return None if self.payload is None else parse(self.payload)


@dataclass(frozen=True, slots=True)
class Inclusion:
    """That a leaf stands at `seq` under a signed head: checkable by anyone who has the public key, without the log."""

    leaf: bytes
    seq: int
    head: Head
    path: tuple[bytes, ...]

    def holds(self, public_key: bytes) -> bool:
        """Whether the signature and the audit path are right."""
        signed = self.head.signed_by(public_key)
        return signed and merkle.verify_inclusion(self.leaf, self.seq, self.head.size, self.path, self.head.root)


class LogReader:
    """Reads a log, also while its writer appends: what was acknowledged when a method is called is seen."""

    def __init__(self, path: str | Path, *, vfs: str | None = None, _db: apsw.Connection | None = None) -> None:
        self.path = Path(path)
        if _db is None and not self.path.is_file():
            raise LogError(f"{path}: no such log; expected a file that Log.create made")
        self._db: Any = _db or store.connect(self.path, write=False, vfs=vfs)
        try:
            self.about, self._about_signature = self._read_about()
        except BaseException:
            self._db.close(True)
            raise
        self.log_id: str = self.about["log_id"]
        self.public_key: bytes = bytes.fromhex(self.about["public_key"])
        self.profile: str = self.about["profile"]

    def _read_about(self) -> tuple[dict[str, Any], bytes]:
        """What the log says of itself, and the signature of that."""
        need("apsw")
        import apsw

        try:
            row = self._db.execute("SELECT about, signature FROM log").fetchone()
            about = parse(row[0].encode())
            known = about["format"] == store.FORMAT and about["profile"] in store.PROFILES
        except (apsw.ReadOnlyError, apsw.CantOpenError) as error:
            raise LogUnfinished(
                f"{self.path}: a writer crashed in a commit, or the folder cannot be written ({error}); Log.open repairs "
                "the first (a reader may not); scripts/verify.py reads a copy"
            ) from error
        except (apsw.NotADBError, apsw.SQLError, apsw.CorruptError, TypeError, KeyError, ValueError) as error:
            raise LogError(f"{self.path}: not a log ({error}); expected a file that Log.create made") from error
        if not known:
            raise LogError(
                f"{self.path}: expected a log of format {store.FORMAT}, got {about!r}; use the version that made it"
            )
        return about, row[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    # --- entries

    @property
    def size(self) -> int:
        """Number of entries now."""
        return int(self._rows("SELECT coalesce(max(seq) + 1, 0) FROM entry", (), (int,))[0][0])

    def entry(self, seq: int) -> Entry:
        """The entry at `seq`."""
        for found in self.entries(seq, seq + 1):
            return found
        raise LogError(f"{self.path}: no entry {seq}; expected 0 to {self.size - 1}")

    def entries(
        self, start: int = 0, stop: int | None = None, *, kind: str | None = None, actor: str | None = None,
        subject_hash: str | None = None,
    ) -> Iterator[Entry]:  # fmt: skip
        """Entries [start, stop) in order, those that match; `stop` None is the end of the log when the iteration begins.

        Each is checked against its leaf hash (`LogTampered`). That the hashes are those that were signed, and that no
        entry was changed so as not to match, is for ``scripts/verify.py`` to say.
        """
        wanted = {"kind": kind, "actor": actor, "subject_hash": subject_hash}
        wanted = {name: value for name, value in wanted.items() if value is not None}
        where = "".join(f" AND body ->> '$.{name}' = :{name}" for name in wanted)
        query = f"SELECT seq, body, leaf, payload FROM entry WHERE seq >= :start AND seq < :stop{where} ORDER BY seq LIMIT {PAGE}"
        at, stop = max(start, 0), self.size if stop is None else stop
        while at < stop:
            rows = self._rows(query, {"start": at, "stop": stop, **wanted}, (int, str, bytes, bytes | None))
            if not wanted and [row[0] for row in rows] != list(range(at, min(at + PAGE, stop, self.size))):
                raise LogTampered(f"{self.path}: entries are missing from {at} on; run scripts/verify.py")
            for row in rows:
                yield self._checked(*row)
            if len(rows) < PAGE:
                return
            at = rows[-1][0] + 1

    def _rows(self, query: str, values: Any, kinds: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """Rows of a query, each column of the kind that was once stored."""
        need("apsw")
        import apsw

        try:
            rows = self._db.execute(query, values).fetchall()
        except (apsw.CorruptError, apsw.SQLError, apsw.NotADBError) as error:
            raise LogTampered(f"{self.path}: damaged ({error}); run scripts/verify.py") from error
        except apsw.Error as error:
            raise LogError(f"{self.path}: cannot be read ({type(error).__name__}: {error}); try again") from error
        for row in rows:
            if not all(map(isinstance, row, kinds)):
                raise LogTampered(
                    f"{self.path}: a row has columns of another kind: {row!r:.200}; run scripts/verify.py"
                )
        return rows

    def _checked(self, seq: int, body: str, leaf: bytes, payload: bytes | None) -> Entry:
        got = merkle.leaf_hash(body.encode())
        if got != leaf:
            raise LogTampered(
                f"{self.path}: entry {seq} has leaf hash {got.hex()}, expected {leaf.hex()}; run scripts/verify.py"
            )
        try:
            fields = parse(body.encode())
            fields["evidence"] = tuple(fields["evidence"])
            found = Entry(**fields, payload=payload, leaf=leaf)
        except (ValueError, KeyError, TypeError) as error:
            raise LogTampered(f"{self.path}: entry {seq} has another form ({error}); run scripts/verify.py") from error
        digest = "" if payload is None else hashlib.sha256(payload).hexdigest()
        if (found.seq, found.log_id, found.payload_hash) != (seq, self.log_id, digest):
            raise LogTampered(
                f"{self.path}: entry {seq} of {self.log_id} with payload {digest or 'none'} calls itself {found.seq} "
                f"of {found.log_id} with payload {found.payload_hash or 'none'}; run scripts/verify.py"
            )
        return found

    # --- what a writer asks of a log before it appends, and whoever wants to know whether one could

    def check_end(self, witness: Witness | None, head_every: int = 0) -> tuple[Head | None, Head | None]:
        """The last head, and that of the witness; `LogTampered` if the end of the log does not fit them. `head_every`: entries
        (0: as the log's profile says)."""
        every = head_every or store.PROFILES[self.profile].head_every
        if not is_signed(self.public_key, self._about_signature, ABOUT + canonical(self.about)):
            raise LogTampered(f"{self.path}: what the log says of itself is not signed by its key: {self.about!r}")
        kept = witness.latest(self.log_id) if witness is not None else None  # before the log, which may be growing
        self._db.execute("BEGIN")  # one moment
        try:
            head, size = self.head(), self.size
            for one, whose in ((head, "its last head"), (kept, "the witness")):
                if one is not None:
                    self._fits(one, whose)
            covered = 0 if head is None else head.size
            if size - covered >= every or (size and head is None):  # no crash leaves this
                raise LogTampered(
                    f"{self.path}: the last {size - covered} of {size} entries are under no signed head, expected fewer "
                    f"than {every} and a first head: heads are missing; run scripts/verify.py"
                )
            for _ in self.entries(covered):  # checks each of them
                pass
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        return head, kept

    def _fits(self, head: Head, whose: str) -> None:
        if not head.signed_by(self.public_key):
            raise LogTampered(f"{self.path}: the signature of {whose} ({head.size} entries) is not by the log's key")
        if head.size > self.size:
            raise LogTampered(f"{self.path}: {whose} has {head.size} entries, the log {self.size}: its end is missing")
        root = self.root(head.size)
        if root != head.root:
            raise LogTampered(
                f"{self.path}: {whose} says that {head.size} entries have root {head.root.hex()}, got {root.hex()}; "
                "run scripts/verify.py, which says where"
            )

    # --- heads and proofs

    def heads(self) -> Iterator[Head]:
        """Every signed head, oldest first."""
        for body, signature in self._rows("SELECT body, signature FROM head ORDER BY size", (), (str, bytes)):
            yield Head.read(body.encode(), signature)

    def head(self) -> Head | None:
        """The last signed head; None if there is none yet."""
        query = "SELECT body, signature FROM head ORDER BY size DESC LIMIT 1"
        rows = self._rows(query, (), (str, bytes))
        return Head.read(rows[0][0].encode(), rows[0][1]) if rows else None

    def root(self, size: int | None = None) -> bytes:
        """Merkle root of the first `size` entries (None: of all)."""
        size = self.size if size is None else size
        return merkle.span_root(self.node, 0, size) if size else merkle.EMPTY_ROOT

    def prove(self, seq: int, head: Head | None = None) -> Inclusion:
        """That entry `seq` is in the log, under `head` (None: the last)."""
        head = head or self.head()
        if head is None or not 0 <= seq < head.size:
            raise ConfigError(
                f"{self.path}: entry {seq} is not under a signed head (it covers {head.size if head else 0} entries); "
                "Log.sign_head() or Log.close() signs the rest"
            )
        path = tuple(merkle.inclusion_proof(self.node, seq, head.size))
        return Inclusion(self.node(0, seq), seq, head, path)

    def prove_append_only(self, old: Head, new: Head | None = None) -> list[bytes]:
        """That the log of `new` (None: the last head) begins with that of `old`: for `merkle.verify_consistency`."""
        new = new or self.head()
        if new is None:
            raise ConfigError(f"{self.path}: there is no signed head yet; Log.sign_head() or Log.close() makes one")
        return merkle.consistency_proof(self.node, old.size, new.size)

    def node(self, level: int, position: int) -> bytes:
        """Hash of a complete subtree; see `merkle`."""
        if level >= BLOCK_LEVEL:
            query = "SELECT hash FROM node WHERE level = ? AND position = ?"
            rows, count = self._rows(query, (level, position), (bytes,)), 1
        else:
            begin, count = position << level, 1 << level
            query = "SELECT leaf FROM entry WHERE seq >= ? AND seq < ? ORDER BY seq"
            rows = self._rows(query, (begin, begin + count), (bytes,))
        if len(rows) != count:
            raise LogTampered(
                f"{self.path}: node {level}/{position} needs {count} hashes, got {len(rows)}; run scripts/verify.py"
            )
        hashes = [row[0] for row in rows]
        while len(hashes) > 1:
            hashes = [merkle.node_hash(*hashes[i : i + 2]) for i in range(0, len(hashes), 2)]
        return hashes[0]


@contextmanager
def reading(path: Path) -> Iterator[LogReader]:
    """A log as its next writer will find it, which is not touched: what a crash left of a commit is undone in a copy."""
    try:
        reader = LogReader(path)
    except LogUnfinished:
        with tempfile.TemporaryDirectory(prefix="emp_gym-log-") as room:
            for suffix in ("", "-journal", "-wal"):
                part = path.with_name(path.name + suffix)
                if part.is_file():
                    shutil.copyfile(part, Path(room) / part.name)
            copy = Path(room) / path.name
            with LogReader(path, _db=store.connect(copy, write=True)) as reader:
                yield reader
        return
    with reader:
        yield reader
