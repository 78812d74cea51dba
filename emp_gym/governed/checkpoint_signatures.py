"""What binds a checkpoint to the trial that it belongs to: ``seal.json``, signed with the key of the ledger.

A checkpoint that was changed, or is of another run, has no seal that fits. Whoever has the ledger's key can make one, as with
everything in the log.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emp_gym import bounded
from emp_gym.agents.base import read_json
from emp_gym.governance.errors import UnregisteredPolicy
from emp_gym.governance.ledger.record import digest
from emp_gym.governance.ledger.registry import file_hash
from emp_gym.governance.log.canonical import canonical
from emp_gym.governance.log.signed_tree_heads import KeyFile, is_signed

SEAL = "seal.json"
_PURPOSE = b"emp-gym checkpoint\n"  # so that no signature of something else fits


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a checkpoint, its seal apart."""
    return {path.name: file_hash(path) for path in sorted(folder.iterdir()) if path.name != SEAL}


def checkpoint_hash(folder: Path) -> str:
    """One SHA-256 for a checkpoint, hex."""
    return digest(contents(folder))


def seal(folder: Path, steps: int, *, trial: int, log_id: str, key: KeyFile) -> None:
    """Writes the seal of the checkpoint in `folder`: `steps` steps of `trial` in ledger `log_id`."""
    said = {"files": contents(folder), "log_id": log_id, "steps": steps, "trial": trial}
    signed = said | {"signature": key.sign(_PURPOSE + canonical(said)).hex()}
    bounded.write(folder / SEAL, json.dumps(signed, indent=2) + "\n")


def check(folder: Path, *, trials: Mapping[int, str], log_id: str, public_key: bytes) -> None:
    """That the checkpoint in `folder` is whole and of one of `trials` (and what each of them is called).

    `UnregisteredPolicy` says what was expected, what is there, and what can be done.
    """

    def refuse(what: str, expected: Any, got: Any) -> UnregisteredPolicy:
        return UnregisteredPolicy(
            f"{folder}: {what}: expected {expected}, got {got}; put back the files of this run (a copy, or an earlier checkpoint by "
            "moving this one away), or train it anew with --govern"
        )

    expected = " or ".join(trials.values())
    if not (folder / SEAL).exists():
        raise refuse("this checkpoint was not made under governance", f"a {SEAL} for {expected}", "none")
    said = read_json(folder / SEAL)
    signature = said.pop("signature", "")
    if not isinstance(signature, str) or not _signed(public_key, signature, said):
        raise refuse(f"{SEAL} is not signed by this ledger", f"a signature by key {public_key.hex()[:16]}…", "another")
    if said["log_id"] != log_id or said["trial"] not in trials:
        raise refuse("this checkpoint is of another run", expected, f"trial {said['trial']} of log {said['log_id']}")
    if f"{said['steps']:012d}" != folder.name:
        raise refuse("this checkpoint was renamed", f"{said['steps']} steps", f"the name {folder.name}")
    found = contents(folder)
    for name in sorted(found.keys() | said["files"].keys()):
        if found.get(name) != said["files"].get(name):
            raise refuse(
                f"{name} is not what was saved", f"SHA-256 {said['files'].get(name, '(no such file)')}",
                found.get(name, "no such file"),
            )  # fmt: skip


def _signed(public_key: bytes, signature: str, said: Any) -> bool:
    try:
        return is_signed(public_key, bytes.fromhex(signature), _PURPOSE + canonical(said))
    except ValueError:
        return False
