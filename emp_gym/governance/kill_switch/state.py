"""What the kill switch's state file says, and the signed order that alone opens the switch again.

The file ``kill`` holds one JSON object: ``{"state": "armed"}`` where nothing was ever wrong, ``{"state": "armed", "rearm":
{...}}`` after a signed order, ``{"state": "tripped", "kill": {...}, "noted": [...]}``: the kill that stands, and reasons that
came while it stood. Anything else, an empty file too, means tripped: by that file, at its time, for what it says.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from emp_gym import bounded
from emp_gym.governance.log.canonical import canonical, parse
from emp_gym.governance.log.signed_tree_heads import Signer, is_signed, sync_folder
from emp_gym.printable import printable
from emp_gym.types import ConfigError, DataError, EmpGymError, TruncationReason

CONTEXT = b"emp-gym rearm v1\0"  # before the signed bytes: a signature under something else re-arms nothing
ARMED: dict[str, Any] = {"state": "armed"}
LONGEST = 1 << 16  # bytes of a state file; a longer one is not ours
NOTED, NOTED_TEXT = 20, 200  # later reasons that the file keeps, the last ones; their letters
EMPTY = "the state file is empty"


class RearmRefused(EmpGymError):
    """The kill switch stays closed: the order does not open it, or could not be recorded."""


@dataclass(frozen=True)
class Kill:
    """One closing of the switch."""

    kill_id: str  # 32 hex digits
    who: str
    cause: TruncationReason
    reason: str
    ts_ns: int  # UTC; 0: nobody has told when
    subject: str = ""  # hex SHA-256 of the policy version that was running, where it is known
    recorded: bool = field(default=True, compare=False)  # False: made up here, for a file that holds no record of ours

    def __post_init__(self) -> None:
        for name in ("who", "reason"):  # whatever a shell or a file has handed over must be storable
            text = getattr(self, name).encode(errors="replace").decode()
            object.__setattr__(self, name, text or "unknown")

    def __str__(self) -> str:
        how = "" if self.cause is TruncationReason.FILE else f" ({self.cause.name.lower()})"  # a file is named as who did it
        return printable(f"kill {self.kill_id} by {self.who}{how}: {self.reason}")

    @property
    def record(self) -> dict[str, Any]:
        """As JSON, for the state file and the ledger."""
        return {
            "kill_id": self.kill_id, "who": self.who, "cause": self.cause.name.lower(), "reason": self.reason,
            "ts_ns": self.ts_ns, "subject": self.subject,
        }  # fmt: skip

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Kill:
        """From JSON; `KeyError`, `TypeError` or `ValueError` if it is of another form."""
        kill_id, who, reason = (record[name] for name in ("kill_id", "who", "reason"))
        subject = record.get("subject", "")
        if not all(isinstance(text, str) for text in (kill_id, who, reason, record["cause"], subject)):
            raise TypeError("kill_id, who, cause, reason and subject must be text")
        ts_ns = int(record["ts_ns"])
        if not 0 <= ts_ns < 1 << 63:
            raise ValueError(f"ts_ns must be ns of 63 bits, got {ts_ns}")
        return cls(kill_id, who, TruncationReason[record["cause"].upper()], reason, ts_ns, subject)


@dataclass(frozen=True)
class Rearm:
    """An order to open the switch after one kill, signed by a person's Ed25519 key."""

    kill_id: str
    who: str
    reason: str
    ts_ns: int
    public_key: bytes
    signature: bytes

    @classmethod
    def sign(cls, signer: Signer, kill_id: str, *, who: str, reason: str, ts_ns: int) -> Rearm:
        """The order, signed. Who and why must be said."""
        if not who.strip() or not reason.strip():
            raise ConfigError(f"re-arming needs who and why, got who={who!r}, reason={reason!r}")
        body = _statement(kill_id, who, reason, ts_ns)
        return cls(kill_id, who, reason, ts_ns, signer.public_key, signer.sign(CONTEXT + body))

    def signed_by_one_of(self, keys: Iterable[bytes]) -> bool:
        """Whether the signature is good, and its key is among `keys`."""
        return self.public_key in set(keys) and self.is_signed

    @property
    def is_signed(self) -> bool:
        """Whether the holder of `public_key` signed exactly this."""
        body = _statement(self.kill_id, self.who, self.reason, self.ts_ns)
        return is_signed(self.public_key, self.signature, CONTEXT + body)

    @property
    def record(self) -> dict[str, Any]:
        """As JSON, for the state file and the ledger."""
        return {
            "kill_id": self.kill_id, "who": self.who, "reason": self.reason, "ts_ns": self.ts_ns,
            "public_key": self.public_key.hex(), "signature": self.signature.hex(),
        }  # fmt: skip

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Rearm:
        """From JSON; `KeyError`, `TypeError` or `ValueError` if it is of another form."""
        return cls(
            str(record["kill_id"]), str(record["who"]), str(record["reason"]), int(record["ts_ns"]),
            bytes.fromhex(record["public_key"]), bytes.fromhex(record["signature"]),
        )  # fmt: skip


def _statement(kill_id: str, who: str, reason: str, ts_ns: int) -> bytes:
    return canonical({"kill_id": kill_id, "reason": reason, "ts_ns": ts_ns, "who": who}, "re-arm order")


def stamp(path: Path) -> tuple[int, int, int, int] | None:
    """What tells one state of the file from another; None if the file cannot be seen. One system call, about 2 us."""
    try:
        seen = os.stat(path)
    except OSError:
        return None
    return seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


def load(path: Path) -> Kill | Rearm | None:
    """What the file says: a kill, the order that opened the switch again, or None (armed, never tripped).

    `FileNotFoundError` if it is not there. Whatever cannot be read or understood is a `Kill`.
    """
    return read(path)[0]


def read(path: Path) -> tuple[Kill | Rearm | None, tuple[Kill, ...]]:
    """The same, with the reasons that were noted while the kill stood."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # not even a named pipe may hold us up
        try:
            raw, written_ns = os.read(handle, LONGEST), os.fstat(handle).st_mtime_ns
        finally:
            os.close(handle)
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = f"the state file cannot be read: {error.strerror}"
        return strange(repr(stamp(path)).encode(), TruncationReason.STATE, reason), ()
    try:
        said = parse(raw)
        if said == ARMED:
            return None, ()
        if said["state"] == "armed":
            return Rearm.read(said["rearm"]), ()
        return Kill.read(said["kill"]), tuple(map(Kill.read, said.get("noted", ())))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        text = " ".join(raw[:200].decode(errors="replace").split()) or EMPTY
        who = f"file {path.parent.resolve() / path.name}"
        return strange(raw + repr(stamp(path)).encode(), TruncationReason.FILE, text, who, max(written_ns, 0)), ()


def strange(seed: bytes, cause: TruncationReason, reason: str, who: str = "unknown", ts_ns: int = 0) -> Kill:
    """A kill without a record: its id follows from what was found, so that all processes name it alike."""
    return Kill(hashlib.sha256(seed).hexdigest()[:32], who, cause, reason, ts_ns, recorded=False)


def tripped(kill: Kill, noted: Iterable[Kill] = ()) -> dict[str, Any]:
    """What the file says of a kill, and of reasons that came while it stood."""
    said: dict[str, Any] = {"state": "tripped", "kill": kill.record}
    later = [replace(one, reason=one.reason[:NOTED_TEXT], who=one.who[:NOTED_TEXT]).record for one in noted]
    return said | {"noted": later[-NOTED:]} if later else said


def keep(path: Path, said: Mapping[str, Any]) -> None:
    """Writes the state durably: aside, synced, renamed, the folder synced. `OSError` if that cannot be done.

    Where there is no room for a new file, a kill cuts the old one to nothing, which needs none and means tripped; one that
    says tripped already is left as it is.
    """
    aside = path.with_name(f".kill-{os.getpid()}-{threading.get_ident()}.new")
    try:
        with aside.open("wb") as stream:
            stream.write(canonical(said, "state") + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):  # left lying; the error that counts is the first one
            aside.unlink()
        if said["state"] != "tripped" or isinstance(load(path), Kill):
            raise
        with path.open("r+b") as stream:
            stream.truncate(0)
            os.fsync(stream.fileno())
    sync_folder(path.parent)


def found(path: Path) -> None:
    """Makes a new state file that says armed; does nothing where there is a file, whatever it says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".kill-{os.getpid()}-{threading.get_ident()}.new")
    with aside.open("wb") as stream:
        stream.write(canonical(ARMED, "state") + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    try:
        os.link(aside, path)  # unlike a rename, never replaces what somebody else has put there meanwhile
    except FileExistsError:
        return
    finally:
        aside.unlink()
    sync_folder(path.parent)


def rearm_keys(folder: Path) -> tuple[bytes, ...]:
    """Public keys that may re-arm, from ``keys/rearm.pub``: a line each, 64 hex digits and whatever else, # for comments."""
    path = folder / "keys" / "rearm.pub"
    try:
        lines = bounded.text(path, bounded.WRITTEN).splitlines()
    except FileNotFoundError:
        return ()
    except (OSError, DataError) as error:
        raise ConfigError(f"{path}: the keys that may re-arm cannot be read ({error})") from error
    return parse_keys((line.split()[0] for line in lines if line.strip() and not line.startswith("#")), str(path))


def drop_key(folder: Path, key: bytes, why: str) -> bool:
    """Turns the lines of `key` in ``keys/rearm.pub`` into comments that say why; False where there is none."""
    path = folder / "keys" / "rearm.pub"
    if key not in rearm_keys(folder):
        return False
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [f"# {why}: {line}" if line.lower().split()[:1] == [key.hex()] else line for line in lines]
    aside = path.with_name(f".rearm-{os.getpid()}.new")
    try:
        with aside.open("w", encoding="utf-8") as stream:
            stream.write("\n".join(kept) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written ({error.strerror}), so key {key.hex()[:12]}… may still open the switch; take its line out"
        ) from error
    return True


def parse_keys(texts: Iterable[str | bytes], where: str) -> tuple[bytes, ...]:
    """Ed25519 public keys, 32 bytes each, from bytes or hex."""
    keys = []
    for text in texts:
        try:
            key = bytes.fromhex(text) if isinstance(text, str) else bytes(text)
        except ValueError:
            key = b""
        if len(key) != 32:
            raise ConfigError(f"{where}: expected Ed25519 public keys as 64 hex digits, got {text!r}")
        keys.append(key)
    return tuple(keys)
