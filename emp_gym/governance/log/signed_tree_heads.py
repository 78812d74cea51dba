"""Signed heads: who vouches for how much of a log, the key that signs, and the witness folder that keeps copies.

The private key is better kept out of the writer's process: anything with `public_key` and `sign` is a `Signer`.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from emp_gym import bounded
from emp_gym.extras import need
from emp_gym.governance.errors import LogError, LogTampered
from emp_gym.governance.log.canonical import canonical, parse
from emp_gym.types import ConfigError, DataError

LONGEST = 1 << 16  # bytes of a key file, and of a kept head
CONTEXT = b"emp-gym log head v1\0"  # before the signed bytes: the key may sign other things, which are then no heads
ABOUT = b"emp-gym log about v1\0"  # ... and before what a log says of itself
MAKE_ONE = (
    "a signer's is made by scripts/promote.py LOGDIR --add-signer NAME --new-key FILE, any other by "
    "openssl genpkey -algorithm ed25519 -out FILE; chmod 600 FILE"
)


class Signer(Protocol):
    """Signs heads: a key file, or a client of a process or device that holds the key."""

    @property
    def public_key(self) -> bytes:
        """Ed25519 public key, 32 bytes."""

    def sign(self, message: bytes) -> bytes:
        """Ed25519 signature of `message`, 64 bytes."""


class KeyFile:
    """A `Signer` whose Ed25519 key lies in a file (PKCS #8 PEM, mode 0600, as openssl reads it)."""

    def __init__(self, path: str | Path) -> None:
        need("cryptography")
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        self.path = Path(path)
        self._key = _private_key(self.path)
        self.public_key = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @classmethod
    def generate(cls, path: str | Path) -> KeyFile:
        """A new key in a new file that only its owner may read. An existing file is never overwritten."""
        need("cryptography")
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        path = Path(path)
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        aside = path.with_name(f".{path.name}.{os.getpid()}.new")  # a process that dies here leaves no half of a key at `path`
        aside.unlink(missing_ok=True)
        try:
            with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
                stream.write(pem)
                stream.flush()
                os.fsync(stream.fileno())
            os.link(aside, path)
        except FileExistsError as error:
            raise ConfigError(
                f"{path}: a key file is there already; use it (KeyFile) or choose another name"
            ) from error
        finally:
            aside.unlink(missing_ok=True)
        sync_folder(path.parent)
        return cls(path)

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


def _private_key(path: Path):  # type: ignore[no-untyped-def]  # of a package that is imported where it is used
    need("cryptography")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        mode, pem = stat.S_IMODE(path.stat().st_mode), bounded.read_bytes(path, LONGEST)
    except (OSError, DataError) as error:
        raise ConfigError(f"{path}: the key file cannot be read ({getattr(error, 'strerror', None) or error}); {MAKE_ONE}") from error
    if mode & 0o077:
        raise ConfigError(
            f"{path}: others may read this key (mode {mode:04o}); expected 0600; chmod 600 it, or make a new one"
        )
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"{path}: expected an unencrypted Ed25519 key in PKCS #8 PEM, got something else: {error}"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path}: expected an Ed25519 key, got {type(key).__name__}; {MAKE_ONE}")
    return key


@dataclass(frozen=True, slots=True)
class Head:
    """The statement "log `log_id` had `size` entries with this Merkle root", signed."""

    log_id: str
    size: int  # entries
    root: bytes  # 32 bytes
    ts_ns: int  # of the writer's clock
    signature: bytes = b""  # 64 bytes, over CONTEXT ‖ body

    @property
    def body(self) -> bytes:
        """The signed bytes: canonical JSON."""
        return head_body(self.log_id, self.size, self.root, self.ts_ns)

    @classmethod
    def read(cls, body: bytes, signature: bytes) -> Head:
        """A stored head; `LogTampered` if it has another form."""
        try:
            fields = parse(body)
            head = cls(fields["log_id"], fields["size"], bytes.fromhex(fields["root"]), fields["ts_ns"], signature)
        except (ValueError, KeyError, TypeError) as error:
            raise LogTampered(
                f"a stored head is not readable ({error!r}): {body[:200]!r}; run scripts/verify.py"
            ) from error
        if head.body != body:
            raise LogTampered(f"a stored head is not in canonical form: {body[:200]!r}; run scripts/verify.py")
        return head

    def signed_by(self, public_key: bytes) -> bool:
        """Whether the holder of this key signed exactly this head."""
        return is_signed(public_key, self.signature, CONTEXT + self.body)


def is_signed(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether this is the Ed25519 signature of `message` by the holder of the key."""
    need("cryptography")
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def head_body(log_id: str, size: int, root: bytes, ts_ns: int) -> bytes:
    return canonical({"log_id": log_id, "root": root.hex(), "size": size, "ts_ns": ts_ns}, "head")


def sign_head(signer: Signer, log_id: str, size: int, root: bytes, ts_ns: int) -> Head:
    """A head with its signature."""
    return Head(log_id, size, root, ts_ns, signer.sign(CONTEXT + head_body(log_id, size, root, ts_ns)))


class Witness:
    """A folder with a copy of each head, best on another disk or host: one file a head, never overwritten."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, log_id: str, size: int) -> Path:
        return self.folder / f"{log_id}-{size:020d}.json"

    def keep(self, head: Head, public_key: bytes) -> None:
        """Copies `head` durably: written aside, synced, renamed, the folder synced.

        `LogTampered` if another root is kept for this size: two histories of one log.
        """
        target = self.path(head.log_id, head.size)
        if target.exists():
            self._refuse_another(target, head)
            return
        text = canonical(
            {
                "head": {"log_id": head.log_id, "root": head.root.hex(), "size": head.size, "ts_ns": head.ts_ns},
                "public_key": public_key.hex(),
                "signature": head.signature.hex(),
            }
        )
        aside = self.folder / f".{head.log_id}.new"
        try:
            with bounded.unlinked(aside).open("wb") as stream:
                stream.write(text + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
            aside.rename(target)
            sync_folder(self.folder)
        except OSError as error:
            raise LogError(
                f"{target}: the head of {head.size} entries is in the log but could not be copied to the witness "
                f"({error.strerror}); make room or mend the folder, then open the log again"
            ) from error

    def latest(self, log_id: str) -> Head | None:
        """The kept head of this log with most entries."""
        names = sorted(self.folder.glob(f"{log_id}-*.json"))
        return self._read(names[-1]) if names else None

    def _refuse_another(self, target: Path, head: Head) -> None:
        kept = self._read(target)
        if kept.root != head.root:
            raise LogTampered(
                f"{target}: the witness has root {kept.root.hex()} for {head.size} entries, the log {head.root.hex()}: "
                "two histories of one log; keep both and run scripts/verify.py --witness"
            )

    def _read(self, path: Path) -> Head:
        try:
            kept = parse(bounded.read_bytes(path, LONGEST))
            return Head.read(canonical(kept["head"]), bytes.fromhex(kept["signature"]))
        except (ValueError, KeyError, TypeError, OSError, DataError) as error:
            raise LogTampered(f"{path}: not a kept head ({error!r}); run scripts/verify.py --witness") from error


def sync_folder(folder: Path) -> None:
    """Makes names that were created or renamed in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
