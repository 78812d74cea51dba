"""The policy ledger: experiment → paper → pilot → live, on evidence, by people who sign for it.

    with GovernanceFolder(path, clock=time.time_ns) as folder:
        ledger = Ledger(folder.ledger, clock=folder.clock)
        print(*ledger.examine(version, "paper").findings, sep="\\n")
        ledger.promote(version, "paper", [Approver("alice", KeyFile("alice.key"))])

Everything is an entry of the log, and what the entries amount to is `State`, a pure fold. An entry is judged by that fold
before it is written, and again by everybody who opens the ledger: the rules stand in `state` and `evidence`, not here.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from emp_gym.governance.errors import ClockJumped, LedgerError, UnregisteredPolicy
from emp_gym.governance.ledger import clock as clocks
from emp_gym.governance.ledger.record import STAGES, Refused, Version
from emp_gym.governance.ledger.signatures import Approver, Person, approvals, approved_by
from emp_gym.governance.ledger.state import State, below
from emp_gym.governance.log.canonical import canonical
from emp_gym.governance.log.reader import Entry, LogReader
from emp_gym.governance.log.writer import Log, Receipt
from emp_gym.governance.promotion.costs import ASKED, Costs
from emp_gym.governance.promotion.evidence import Case, examine
from emp_gym.types import ConfigError

LEAST_PREFIX = 6  # digits by which a version may be called


class Ledger:
    """Reads a ledger, and writes it where `log` is a `Log`. Other writers of the same `Log` (a kill switch) may go on."""

    def __init__(self, log: LogReader, *, clock: Callable[[], int]) -> None:
        self.log, self._clock = log, clock
        self._state = State(log.log_id, log.public_key.hex())

    @property
    def state(self) -> State:
        """What the ledger says now, every transition judged again (those that were not yet)."""
        return self._state.add(self.log.entries(self._state.size))

    @property
    def now(self) -> int:
        """The clock's time, never before that of the latest entry."""
        return max(self._clock(), self.state.now)

    @property
    def clock_trouble(self) -> str:
        """What is wrong with the clock beside the last entry; "" for nothing."""
        now, state = self._clock(), self.state
        if not state.size:
            return ""
        entry = f"entry {state.size - 1}"
        if clocks.jumped(now, state.now):
            return clocks.ahead(now, state.now, entry)
        return clocks.behind(now, state.now, entry)

    def accept_clock(self, actor: str = "emp-gym") -> Receipt | None:
        """Believes a clock that has jumped, for good: evidence expires by it. None where there is no jump."""
        now, last = self._clock(), self.state.now
        if not self.state.size or not clocks.jumped(now, last):
            return None
        return self._enter(clocks.ACCEPTED, {"after_ns": last, "accepted_ns": now}, actor=actor)

    def _trust(self, kind: str) -> None:
        """`ClockJumped` where an entry of now would move the time of the ledger too far."""
        now, state = self._clock(), self.state
        if not state.size or kind == clocks.ACCEPTED or not clocks.jumped(now, state.now):
            return
        trouble = clocks.ahead(now, state.now, f"entry {state.size - 1}")
        raise ClockJumped(
            f"{self.log.path}: {trouble}; nothing was written. Set the clock of this machine right; if it is right, accept "
            "it for this ledger, and evidence expires by it: "
            f"python scripts/promote.py {shlex.quote(str(self.log.path.parent))} --accept-clock"
        )

    def find(self, name: str) -> Version:
        """A version by its hash (or the first 6 digits or more), an alias, or its name where only one has it.

        `UnregisteredPolicy` where there is none.
        """
        state = self.state
        name = state.pointers(self.now).get(name, name)
        if name in state.versions:
            return state.versions[name]
        found = [v for v in state.versions.values() if v.name == name]
        if not found and len(name) >= LEAST_PREFIX:
            found = [v for v in state.versions.values() if v.version.startswith(name)]
        if len(found) == 1:
            return found[0]
        known = ", ".join(f"{v.version[:12]} ({v.name})" for v in found or state.versions.values())
        what = "means several versions" if found else "is no registered version, alias or name"
        raise UnregisteredPolicy(f"{name!r} {what}; expected one of: {known or 'none is registered'}")

    def stage(self, version: str) -> str:
        """The stage of a version now."""
        return self.find(version).stage(self.now)

    def examine(self, version: str, to: str | None = None, least: Costs | None = None) -> Case:
        """What speaks for and against letting `version` into `to` (None: its next stage), signatures apart. `least`: see
        `decision`."""
        found = self.find(version)
        return examine(self.state, found, to or next_stage(found.stage(self.now)), self.now, least)

    # --- entries

    def add_signer(self, approver: Approver, roles: Sequence[str], vouchers: Sequence[Approver] = ()) -> Receipt:
        """Puts a person on record. All but the first need the signature of someone who has the same roles."""
        payload = {"name": approver.name, "public_key": approver.key.public_key.hex(), "roles": list(roles)}
        return self._signed("signer", payload, [approver, *vouchers])

    def revoke_signer(self, name: str, reason: str, approvers: Sequence[Approver], ends: Sequence[str] = ()) -> Receipt:
        """Takes a person's key out of use: what it signs from now on does not count, what it has signed stays.

        Signed by that key or by someone who has the same roles. `ends` are the stages for which nobody can ever sign again
        in this ledger (`State.ends_with`): they must be named, or it is refused.
        """
        payload = {"name": name, "reason": reason, "ends": list(ends)}
        return self._signed("revoke", payload, approvers)

    def note_trial(self, payload: Mapping[str, Any]) -> Receipt:
        """A training run that is about to begin; it counts from now on, whatever becomes of it."""
        return self._enter("trial", payload)

    def register(self, payload: Mapping[str, Any]) -> Version:
        """A version; use `Registry.register`, which keeps its files."""
        self._enter("register", payload)
        return self.find(payload["version"])

    def enter(self, version: str, execute: Callable[[Version], Mapping[str, Any]]) -> Receipt:
        """Evidence: executes an evaluation of `version` here and now and enters its table.

        There is no way to hand in numbers; see `governed.evidence` for `execute`.
        """
        found = self.find(version)
        payload = {**execute(found), "version": found.version}
        hashes = [
            payload["config"],
            payload["lock"],
            *found.files.values(),
            *(day["content"] for day in payload["days"]),
        ]
        return self._enter("evaluation", payload, evidence=hashes)

    def promote(self, version: str, to: str, approvers: Sequence[Approver], least: Costs | None = None) -> Receipt:
        """Moves a version into its next stage, or renews its stage; `LedgerError` with every reason against it. `least`: see
        `decision`."""
        if to not in STAGES[1:]:
            raise ConfigError(f"a version can be promoted to {', '.join(STAGES[1:])}, got {to!r}")
        case, payload = self.decision(version, to, least)
        return self._signed("promote", payload, approvers, evidence=[e.payload_hash for e in case.used])

    def decision(
        self, version: str, to: str | None = None, least: Costs | None = None
    ) -> tuple[Case, dict[str, Any]]:
        """What `examine` finds, and what people sign who let `version` into `to` (None: its next stage).

        `least`: what the evidence must assume of its own orders, where that is not what every stage asks; it stands in what
        is signed.
        """
        found, now = self.find(version), self.now
        case = examine(self.state, found, to or next_stage(found.stage(now)), now, least)
        word = {} if least is None or least == ASKED else {"costs": least.as_payload()}
        return case, word | {
            "version": found.version,
            "from": found.stage(now),
            "to": case.stage,
            "since": found.since,
            "evaluations": [e.seq for e in case.used],
            "findings": [str(finding) for finding in case.findings],
        }

    def standing(
        self, kind: str, payload: Mapping[str, Any], approvers: Sequence[Approver]
    ) -> tuple[list[Person], list[str]]:
        """Whose signature under `payload` would count, and what is wrong with the others'. Nothing is written."""
        signed = {**payload, "approvals": approvals(self.log.log_id, kind, payload, approvers)}
        return approved_by(self.log.log_id, kind, signed, self.state.people)

    def demote(self, version: str, reason: str, actor: str = "emp-gym") -> Receipt:
        """Moves a version one step down: needs no evidence and no signature."""
        found = self.find(version)
        here = found.stage(self.now)
        payload = {"version": found.version, "from": here, "to": below(here), "reason": reason}
        return self._enter("demote", payload, actor=actor)

    def set_alias(self, alias: str, version: str, actor: str = "emp-gym") -> Receipt:
        """Lets `alias` mean a version. ``champion``, ``challenger`` and the stages follow from the record instead."""
        return self._enter("alias", {"alias": alias, "version": self.find(version).version}, actor=actor)

    # ---

    def _signed(
        self, kind: str, payload: dict[str, Any], approvers: Sequence[Approver], evidence: Sequence[str] = ()
    ) -> Receipt:
        names = ", ".join(one.name for one in approvers) or "nobody"
        signed = payload | {"approvals": approvals(self.log.log_id, kind, payload, approvers)}
        return self._enter(kind, signed, actor=names, evidence=evidence)

    def _enter(
        self, kind: str, payload: Mapping[str, Any], *, actor: str = "emp-gym", evidence: Sequence[str] = ()
    ) -> Receipt:
        """Appends an entry if the fold allows it."""
        if not isinstance(self.log, Log):
            raise ConfigError(f"{self.log.path}: opened to read; open it with Log.open to write")
        self._trust(kind)
        state, ts_ns = self.state, self.now
        subject, stored = payload.get("version", ""), canonical(payload)
        draft = _entry(self.log, ts_ns, actor, kind, subject, stored, evidence)
        state.now = ts_ns
        try:
            state.apply(draft)
        except Refused as refused:
            raise LedgerError(f"{self.log.path}: {kind} refused: {refused}") from None
        receipt = None
        try:
            receipt = self.log.append(actor, kind, subject_hash=subject, payload=stored, evidence=evidence, ts_ns=ts_ns)
        finally:
            if receipt is not None and receipt.seq == draft.seq:
                state.size = receipt.seq + 1
            else:  # nothing was written, or another writer came between: what counts is what stands in the log
                self._state = State(self.log.log_id, self.log.public_key.hex())
        return receipt


def _entry(
    log: LogReader, ts_ns: int, actor: str, kind: str, subject: str, stored: bytes, evidence: Sequence[str]
) -> Entry:
    """The entry that an append would make."""
    digest = hashlib.sha256(stored).hexdigest()
    return Entry(log.log_id, log.size, ts_ns, actor, kind, subject, digest, tuple(evidence), stored, b"")


def next_stage(stage: str) -> str:
    """The stage after `stage`; the last one is its own."""
    return STAGES[min(STAGES.index(stage) + 1, len(STAGES) - 1)]
