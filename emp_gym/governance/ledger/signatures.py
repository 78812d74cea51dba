"""Named people and what they sign: a detached Ed25519 signature over the canonical bytes of a statement.

A statement names the log, the kind of entry and everything that the entry decides, so a signature fits one decision in
one ledger and cannot be moved to another. Private keys are files of their owners (`heads.KeyFile`); a ledger holds public keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emp_gym.governance.log.canonical import canonical
from emp_gym.governance.log.signed_tree_heads import Signer, is_signed

APPROVAL = (
    b"emp-gym ledger approval v1\0"  # before the signed bytes: the same key may sign heads, which approve nothing
)


@dataclass(frozen=True)
class Person:
    """Someone whose key is on record, and the stages into which the key may let a strategy."""

    name: str
    public_key: str  # hex, 32 bytes
    roles: tuple[str, ...]  # of "paper", "pilot", "live"
    revoked: int | None = None  # the entry from which on the key signs nothing more


@dataclass(frozen=True)
class Approver:
    """A person at the keyboard: a name and the key that signs for it."""

    name: str
    key: Signer


@dataclass(frozen=True)
class Detached:
    """A `Signer` that has one signature, made elsewhere: with it a private key need not be where the ledger is."""

    signature: bytes
    public_key: bytes = b""  # not asked for: what counts is the key on record

    def sign(self, message: bytes) -> bytes:
        """The signature, whatever is asked to be signed; it counts if it is of exactly that."""
        return self.signature


def statement(log_id: str, kind: str, payload: Mapping[str, Any]) -> bytes:
    """What is signed: the entry's payload without its approvals, bound to this log and kind."""
    said = {name: value for name, value in payload.items() if name != "approvals"}
    return APPROVAL + canonical({"kind": kind, "log_id": log_id, "payload": said})


def approvals(
    log_id: str, kind: str, payload: Mapping[str, Any], approvers: Sequence[Approver]
) -> list[dict[str, str]]:
    """The approvals of `payload`, to be put into it as ``approvals``."""
    message = statement(log_id, kind, payload)
    return [{"signature": one.key.sign(message).hex(), "signer": one.name} for one in approvers]


def approved_by(
    log_id: str, kind: str, payload: Mapping[str, Any], people: Mapping[str, Person]
) -> tuple[list[Person], list[str]]:
    """Who approved `payload` (each person once), and what is wrong with the approvals that do not count."""
    message = statement(log_id, kind, payload)
    known: dict[str, Person] = {}
    wrong = []
    for approval in payload["approvals"]:
        name, signature = approval["signer"], approval["signature"]
        if name not in people:
            wrong.append(f"{name} is not on record")
        elif people[name].revoked is not None:
            wrong.append(f"the key of {name} was revoked (entry {people[name].revoked})")
        elif not is_signed(bytes.fromhex(people[name].public_key), _bytes(signature), message):
            wrong.append(f"the signature of {name} is not by the key on record, or is of another decision")
        else:
            known[name] = people[name]
    return list(known.values()), wrong


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
