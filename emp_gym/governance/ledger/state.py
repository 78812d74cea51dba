"""What a ledger says: a pure fold over its entries, which judges every one of them.

Nothing is believed because it stands in the log: whoever holds the log's key can append anything. An entry that the rules do
not allow has no effect, is listed in `State.invalid`, and from then on nothing is promoted in this ledger. So a state is the same
for the writer, who asks here before it appends, and for any reader, who recomputes every promotion from the evidence.

Entries of kinds that are not in `record.SHAPES` belong to others (kill switch, diary): they may stand here and move nothing,
but for a kill by drawdown, which takes the strategy one step down. Time is that of the entries and never goes back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from emp_gym.governance.ledger import clock
from emp_gym.governance.ledger.record import (
    SHAPES,
    STAGES,
    VALID_NS,
    Evaluation,
    Move,
    Refused,
    Trial,
    Version,
    identity,
    json_of,
    payload_of,
    read_setting,
)
from emp_gym.governance.ledger.signatures import Person, approved_by
from emp_gym.governance.log.reader import Entry
from emp_gym.governance.promotion.costs import Costs
from emp_gym.governance.promotion.evidence import examine, signed
from emp_gym.types import ConfigError

ALIAS = re.compile(r"[a-z][a-z0-9-]{1,39}")
DERIVED = ("champion", "challenger", *STAGES)
"""Aliases that follow from the record and cannot be set."""


@dataclass(frozen=True)
class Invalid:
    """An entry that the rules do not allow."""

    seq: int
    kind: str
    actor: str
    why: str

    def __str__(self) -> str:
        return f"entry {self.seq} ({self.kind} by {self.actor}) is not allowed and has no effect: {self.why}"


@dataclass
class State:
    """What the entries so far amount to."""

    log_id: str
    public_key: str = ""  # of the log, hex: it signs heads and may not be a person's
    size: int = 0
    now: int = 0  # time of the latest entry that is believed, ns
    ahead: list[int] = field(default_factory=list)  # entries whose time is not believed: they have that of the one before
    people: dict[str, Person] = field(default_factory=dict)
    trials: dict[int, Trial] = field(default_factory=dict)
    versions: dict[str, Version] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    invalid: list[Invalid] = field(default_factory=list)

    # --- questions

    def champion(self, stage: str, now: int, env_id: str | None = None) -> Version | None:
        """The version that moved into `stage` last and is still there, of those trained on `env_id` where it is given."""
        there = [v for v in self.versions.values() if v.moves and v.stage(now) == stage]
        there = [v for v in there if env_id in (None, read_setting(v.setting)[0])]
        return max(there, key=lambda v: v.since, default=None)

    def pointers(self, now: int) -> dict[str, str]:
        """All aliases: those that were set, ``champion`` (of the highest stage that has one) and ``challenger`` (the
        version that was registered last, if it has not been promoted)."""
        found = dict(self.aliases)
        for stage in STAGES[1:]:
            champion = self.champion(stage, now)
            if champion is not None:
                found["champion"] = found[stage] = champion.version
        last = max(self.versions.values(), key=lambda v: v.seq, default=None)
        if last is not None and last.stage(now) == STAGES[0]:
            found["challenger"] = last.version
        return found

    def signers(self) -> list[Person]:
        """People whose key is on record and was not revoked."""
        return [one for one in self.people.values() if one.revoked is None]

    def ends_with(self, name: str) -> list[str]:
        """Stages for which nobody could ever sign again without the key of `name`: a role can be had only from who has it."""
        left = {role for one in self.signers() if one.name != name for role in one.roles}
        return [stage for stage in STAGES if stage in self.people[name].roles and stage not in left]

    # --- the fold

    def add(self, entries: Iterable[Entry]) -> State:
        """This state after `entries`; returns itself."""
        for one in entries:
            entry = self._timed(one)
            self.now = max(self.now, entry.ts_ns)
            try:
                self.apply(entry)
            except Refused as refused:
                self.invalid.append(Invalid(entry.seq, entry.kind, entry.actor, str(refused)))
            self.size = entry.seq + 1
        return self

    def _timed(self, entry: Entry) -> Entry:
        """The entry at a time that can be believed: under a clock that jumped it moves nothing, unless it says that it is meant."""
        if not self.size or entry.kind == clock.ACCEPTED or not clock.jumped(entry.ts_ns, self.now):
            return entry
        self.ahead.append(entry.seq)
        return replace(entry, ts_ns=self.now)

    def apply(self, entry: Entry) -> None:
        """The effect of one entry; `Refused`, and none, where the rules do not allow it."""
        if entry.kind == "kill":
            self._killed(entry)
        if entry.kind not in SHAPES:
            return
        payload = payload_of(entry)
        if "version" in payload and entry.subject_hash != payload["version"]:
            raise Refused(
                f"the entry is about {entry.subject_hash or 'nothing'}, its payload about {payload['version']}"
            )
        getattr(self, f"_{entry.kind}")(entry, payload)

    def _signer(self, entry: Entry, p: Mapping[str, Any]) -> None:
        """A person: the key was at hand, and whoever is on record already vouches for all its roles."""
        person = Person(p["name"], p["public_key"], tuple(p["roles"]))
        if not person.name or person.name in self.people:
            raise Refused(f"{person.name!r} is on record already; names stay, take another")
        taken = {one.public_key: one.name for one in self.people.values()} | {self.public_key: "the log itself"}
        if person.public_key in taken:
            raise Refused(f"this key is that of {taken[person.public_key]}; everyone needs a key of their own")
        if not set(person.roles) <= set(STAGES[1:]):
            raise Refused(f"roles must be of {', '.join(STAGES[1:])}, got {', '.join(person.roles)}")
        who, wrong = approved_by(self.log_id, entry.kind, p, self.people | {person.name: person})
        if person not in who:
            raise Refused(f"{person.name} must sign that the key is at hand{_listed(wrong)}")
        vouched = [one for one in who if one != person and set(person.roles) <= set(one.roles)]
        if self.people and not vouched:
            able = [one.name for one in self.signers() if set(person.roles) <= set(one.roles)]
            raise Refused(
                f"someone on record who has the roles {', '.join(person.roles)} must vouch for {person.name}: "
                f"{', '.join(able) or 'nobody has them all; they can never be had in this ledger'}{_listed(wrong)}"
            )
        self.people[person.name] = person

    def _revoke(self, entry: Entry, p: Mapping[str, Any]) -> None:
        """A key that signs nothing from here on; what it has signed stays as it is. Whose key it is may say so, or someone who
        could have vouched for it. That nobody is left for a stage must be said, since it is for good."""
        person = self.people.get(p["name"])
        if person is None or person.revoked is not None:
            at = "" if person is None else f" any more (revoked in entry {person.revoked})"
            raise Refused(f"{p['name']!r} has no key on record{at}")
        who, wrong = approved_by(self.log_id, entry.kind, p, self.people)
        if not any(one == person or set(person.roles) <= set(one.roles) for one in who):
            able = [one.name for one in self.signers() if one == person or set(person.roles) <= set(one.roles)]
            raise Refused(f"{' or '.join(able)} must sign for it{_listed(wrong)}")
        ends = self.ends_with(person.name)
        if p["ends"] != ends:
            raise Refused(
                f"after it nobody can ever sign for {', '.join(ends) or 'nothing less than before'} in this ledger, it says "
                f"{', '.join(p['ends']) or 'nothing of that'}"
            )
        self.people[person.name] = replace(person, revoked=entry.seq)

    def _trial(self, entry: Entry, p: Mapping[str, Any]) -> None:
        self.trials[entry.seq] = Trial.of(entry, p)

    def _register(self, entry: Entry, p: Mapping[str, Any]) -> None:
        if p["version"] in self.versions:
            raise Refused(f"{p['version'][:12]} is registered already; a version never changes")
        if p["version"] != identity(p["files"], p["commit"]):
            raise Refused("the version is not the hash of its files and commit")
        if p["trial"] not in self.trials:
            raise Refused(f"entry {p['trial']} is no trial: every version comes from a trial on record")
        read_setting(p["setting"])
        if p["parent"] and p["parent"] not in self.versions:
            raise Refused(f"its parent {p['parent'][:12]} is not registered")
        names = ("version", "name", "agent", "trial", "parent", "files", "setting", "commit")
        self.versions[p["version"]] = Version(
            seq=entry.seq, ts_ns=entry.ts_ns, **{name: p[name] for name in names}
        )  # fmt: skip

    def _evaluation(self, entry: Entry, p: Mapping[str, Any]) -> None:
        version, evaluation = self._known(p), Evaluation.of(entry, p)
        version.evaluations += (evaluation,)
        if evaluation.policies[version.version].breaches:
            self._down(version, entry, "a control limit was breached")

    def _promote(self, entry: Entry, p: Mapping[str, Any]) -> None:
        version = self._known(p)
        here = version.stage(self.now)
        if p["from"] != here or p["since"] != version.since:
            raise Refused(
                f"it says from {p['from']} as of entry {p['since']}; {version.version[:12]} is in {here} "
                f"as of entry {version.since}"
            )
        if p["to"] not in STAGES[1:]:
            raise Refused(f"{p['to']!r} is no stage; expected one of {', '.join(STAGES[1:])}")
        case = examine(self, version, p["to"], self.now, _costs(p))
        used = [e.seq for e in case.used]
        if p["evaluations"] != used or list(entry.evidence) != [e.payload_hash for e in case.used]:
            raise Refused(f"its evidence must be all valid evaluations of this version, entries {used}")
        who, wrong = approved_by(self.log_id, entry.kind, p, self.people)
        missing = [finding for finding in (*case.findings, signed(who, p["to"], wrong)) if not finding.passed]
        if missing:
            raise Refused("; ".join(map(str, missing)))
        version.moves += (Move(entry.seq, entry.ts_ns, here, p["to"], "promoted"),)
        version.until_ns = min(e.ts_ns for e in case.used) + VALID_NS

    def _demote(self, entry: Entry, p: Mapping[str, Any]) -> None:
        version = self._known(p)
        here = version.stage(self.now)
        if here == STAGES[0]:
            raise Refused(f"{version.name} is in {here}, the lowest stage: there is nothing to take from it")
        if p["from"] != here or p["to"] != below(here):
            raise Refused(
                f"it says {p['from']} to {p['to']}; {version.version[:12]} is in {here}, and one step is taken"
            )
        self._down(version, entry, p["reason"])

    def _alias(self, entry: Entry, p: Mapping[str, Any]) -> None:
        if not ALIAS.fullmatch(p["alias"]) or p["alias"] in DERIVED:
            raise Refused(
                f"alias must match {ALIAS.pattern} and not be one of {', '.join(DERIVED)}, got {p['alias']!r}"
            )
        self.aliases[p["alias"]] = self._known(p).version

    def _killed(self, entry: Entry) -> None:
        """A kill by drawdown of a registered version takes it one step down; who else was killed moves nobody."""
        version = self.versions.get(entry.subject_hash)
        if version is not None and cause(entry) == "drawdown":
            self._down(version, entry, "killed by drawdown")

    def _down(self, version: Version, entry: Entry, why: str) -> None:
        here = version.stage(self.now)
        if here == STAGES[0]:
            return
        late = self.now - version.until_ns
        version.until_ns += 0 if late < 0 else (1 + late // VALID_NS) * VALID_NS  # what time has taken stays taken
        version.moves += (Move(entry.seq, entry.ts_ns, here, below(here), why),)

    def _known(self, p: Mapping[str, Any]) -> Version:
        if p["version"] not in self.versions:
            raise Refused(f"{p['version'][:12]} is not registered")
        return self.versions[p["version"]]


def _costs(p: Mapping[str, Any]) -> Costs | None:
    """What a promotion says that its evidence must assume; None where it is what every stage asks."""
    try:
        return Costs.of(p["costs"]) if "costs" in p else None
    except ConfigError as error:
        raise Refused(f"promote.costs: {error}") from error


def cause(entry: Entry) -> str:
    """Why a kill entry was written; "" where it does not say, `Refused` where its payload is not JSON."""
    value = json_of(entry)
    return str(value.get("cause", "")) if isinstance(value, dict) else ""


def below(stage: str) -> str:
    return STAGES[max(STAGES.index(stage) - 1, 0)]


def _listed(wrong: list[str]) -> str:
    return f" ({'; '.join(wrong)})" if wrong else ""
