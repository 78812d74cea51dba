"""Whoever holds the log's key may append anything: nothing that was forged ever moves a strategy upwards.

A state machine plays honest people and a forger against one ledger. The model knows the stage of each version from honest
promotions and from demotions alone, and whose keys were revoked; the fold, also that of a fresh reader, must never say more.
Each forgery is judged in the ledger as it is without the others: once one of them stands there, everything is refused,
whatever it is.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from governance.ledgers import Desk, evaluation, register, sha
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from emp_gym.governance.errors import LedgerError
from emp_gym.governance.ledger import state
from emp_gym.governance.ledger.record import STAGES
from emp_gym.governance.ledger.signatures import Approver, approvals
from emp_gym.governance.log.canonical import canonical
from emp_gym.governance.log.signed_tree_heads import KeyFile
from emp_gym.governance.promotion.guard import RuleFinding

TO = st.sampled_from((*STAGES, "nowhere"))
NAMES = st.sampled_from(("alice", "bob", "mallory"))
WHO = st.lists(st.sampled_from(("alice", "bob", "mallory")), max_size=3)

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda part: st.lists(part, max_size=2) | st.dictionaries(st.text(max_size=3), part, max_size=2),
)


class Governed(RuleBasedStateMachine):
    """Versions with and without an edge, honest promotions, demotions, time, and forgeries of every kind."""

    forged = by_revoked = 0

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(mkdtemp(prefix="emp_gym-ledger-"))
        self.desk = Desk(self.folder)
        self.desk.people["mallory"] = Approver(
            "mallory", self.desk.log._signer
        )  # holds the log's key, is not on record
        self.level: dict[str, int] = {}  # the most that each version may be
        self.good: dict[str, bool] = {}
        self.spoiled = False
        self.active = {"alice", "bob"}  # whose keys count

    def teardown(self) -> None:
        self.desk.log.close()
        shutil.rmtree(self.folder)

    def pick(self, which: int) -> str:
        return list(self.level)[which % len(self.level)]

    @rule(edge=st.booleans(), seed=st.integers(0, 3))
    @precondition(lambda self: len(self.level) < 3)
    def register_one(self, edge: bool, seed: int) -> None:
        days = [{**d, "symbol": f"S{len(self.level)}"} for d in evaluation("x")["days"]]
        days = [{**d, "content": sha(d["symbol"] + d["date"])} for d in days]
        trial = self.desk.trial([{**days[0], "content": sha(f"train {len(self.level)}")}])
        version = self.desk.version(f"v{len(self.level)}", trial)
        self.desk.evaluate(version, seed=seed, edge=3.0 if edge else 0.0, days=days)
        self.level[version], self.good[version] = 0, edge

    @rule(which=st.integers(0, 2), who=WHO)
    @precondition(lambda self: self.level)
    def promote_honestly(self, which: int, who: list[str]) -> None:
        version = self.pick(which)
        before = STAGES.index(self.desk.stage(version))
        try:
            self.desk.promote(version, "paper", *who)
        except LedgerError:
            return
        assert self.good[version] and set(who) & self.active and before <= 1 and not self.spoiled
        self.level[version] = 1

    @rule(name=NAMES, who=WHO, luck=st.integers(0, 1))
    def revoke_honestly(self, name: str, who: list[str], luck: int) -> None:
        """By somebody who may; the last one says that it is the last. Not always, or nothing would be left to play with."""
        if luck or name not in self.desk.ledger.state.people:
            return
        ends = self.desk.ledger.state.ends_with(name)
        try:
            self.desk.revoke(name, *who, ends=ends)
        except LedgerError:
            return
        assert name in self.active and set(who) & self.active
        assert ends == ([] if len(self.active) == 2 else ["paper", "pilot"])
        self.active -= {name}
        for version in self.level:  # right in everything but that the key counts no more
            if self.desk.ledger.examine(version, "paper").passed:
                type(self).by_revoked += 1
                self._refused("promote", *self.desk.wrong_promotion(version, "paper", [name]))

    @rule(which=st.integers(0, 2))
    @precondition(lambda self: self.level)
    def demote(self, which: int) -> None:
        version = self.pick(which)
        if self.desk.stage(version) != "experiment":
            self.desk.ledger.demote(version, "as the model says")
            self.level[version] -= 1

    @rule(days=st.sampled_from((1, 50, 91)))
    def wait(self, days: int) -> None:
        self.desk.wait(days)

    @rule(which=st.integers(0, 2), to=TO, who=WHO, since=st.none() | st.integers(-1, 40), origin=TO | st.none(),
          evaluations=st.none() | st.lists(st.integers(0, 40), max_size=2))  # fmt: skip
    @precondition(lambda self: self.level)
    def forge_promotion(
        self, which: int, to: str, who: list[str], since: int | None, origin: str | None, evaluations: list[int] | None
    ) -> None:
        version = self.pick(which)
        found, stage = self.desk.ledger.find(version), self.desk.stage(version)
        used = [e.seq for e in self.desk.ledger.examine(version, "paper").used]
        right = {"since": found.since, "from": stage, "evaluations": used}
        asked = {"since": since, "from": origin, "evaluations": evaluations}
        changes = {name: value for name, value in asked.items() if value is not None}
        honest = to == "paper" and all(right[name] == value for name, value in changes.items())
        if honest and self.good[version] and self.active & set(who):
            return  # people who may have signed what the ledger itself would write
        payload, subject, proof = self.desk.wrong_promotion(version, to, who, **changes)
        self._refused("promote", payload, subject, proof)

    @rule(which=st.integers(0, 2), entry=st.integers(0, 60))
    @precondition(lambda self: self.level)
    def replay(self, which: int, entry: int) -> None:
        """An old entry again, whole, about this version or the one it was about."""
        old = self.desk.log.entry(entry % self.desk.log.size)
        if old.kind in ("promote", "signer", "register", "revoke"):
            self._refused(old.kind, old.payload or b"", old.subject_hash, old.evidence)

    @rule(name=st.sampled_from(("alice", "carol")), voucher=st.sampled_from(("alice", "mallory", None)))
    def forge_person(self, name: str, voucher: str | None) -> None:
        """Somebody whose key the forger made, vouched for by nobody who may."""
        key = KeyFile.generate(self.folder / f"forged-{len(list(self.folder.iterdir()))}.key")
        payload = {"name": name, "public_key": key.public_key.hex(), "roles": ["paper", "pilot", "live"]}
        signers = [Approver(name, key)] + ([Approver(voucher, self.desk.log._signer)] if voucher else [])
        signed = payload | {"approvals": approvals(self.desk.log.log_id, "signer", payload, signers)}
        self._refused("signer", signed)

    @rule(name=NAMES, who=WHO, ends=st.lists(st.sampled_from(STAGES), max_size=2))
    def forge_revocation(self, name: str, who: list[str], ends: list[str]) -> None:
        """Signed by nobody who may, or by one who does not say what it ends."""
        payload = {"name": name, "reason": "x", "ends": ends}
        right = name in self.active and ends == self.desk.ledger.state.ends_with(name)
        if right and set(who) & self.active:
            return
        signers = [self.desk.people[one] for one in who]
        signed = payload | {"approvals": approvals(self.desk.log.log_id, "revoke", payload, signers)}
        self._refused("revoke", signed)

    @rule(
        kind=st.sampled_from(("promote", "revoke", "register", "evaluation", "signer", "alias", "demote")),
        payload=ANYTHING,
    )
    def forge_shape(self, kind: str, payload: Any) -> None:
        self._refused(kind, canonical(payload))

    @rule(luck=st.integers(0, 19))
    def spoil(self, luck: int) -> None:
        """Rarely a forgery is really written: nothing is promoted any more."""
        if luck == 7:
            self.desk.forge("promote", {})
            self.spoiled = True

    def _refused(self, kind: str, payload: Any, subject: str = "", evidence: Sequence[str] = ()) -> None:
        type(self).forged += 1
        before = self.desk.ledger.state
        after = self.desk.with_forged(kind, payload, subject=subject, evidence=evidence)
        assert len(after.invalid) == len(before.invalid) + 1, f"taken: {kind} {payload!r}"
        assert {v.version: v.moves for v in after.versions.values()} == {
            v.version: v.moves for v in before.versions.values()
        }
        assert after.people == before.people

    @invariant()
    def nothing_is_higher_than_honest_people_put_it(self) -> None:
        for version, level in self.level.items():
            assert STAGES.index(self.desk.stage(version)) <= level

    @invariant()
    def a_fresh_reader_says_the_same(self) -> None:
        if self.desk.log.size % 7 == 0:
            other = self.desk.reread()
            for version in self.level:
                assert other.find(version).moves == self.desk.ledger.find(version).moves


def play(examples: int, steps: int) -> int:
    Governed.forged = Governed.by_revoked = 0
    quiet = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(Governed, settings=quiet)
    return Governed.forged


def test_nothing_forged_moves_a_strategy_upwards() -> None:
    assert play(20, 30) >= 100


def test_the_machine_meets_a_revoked_key() -> None:
    """By hand, since the examples that are drawn need not revoke one while there is something to promote."""
    machine, before = Governed(), Governed.by_revoked
    try:
        machine.register_one(edge=True, seed=0)
        machine.revoke_honestly("bob", ["alice"], luck=0)
        machine.promote_honestly(0, ["bob"])
        assert Governed.by_revoked == before + 1 and machine.active == {"alice"} and set(machine.level.values()) == {0}
        machine.promote_honestly(0, ["alice"])
        assert set(machine.level.values()) == {1}
    finally:
        machine.teardown()


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_ten_thousand_forgeries_move_nothing(evidence: Callable[..., None]) -> None:
    forged = mutated(10_000, seed=0)
    machine = play(400, 50)
    evidence("ledger_forgeries", seed=0, mutated_promotions=forged, state_machine=machine, moved=0)
    assert forged == 10_000


def test_a_promotion_with_any_part_changed_is_refused(tmp_path: Path) -> None:
    assert mutated(300, seed=1) == 300


def test_the_forgeries_would_be_seen_if_signatures_were_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "signed", lambda who, stage, wrong: RuleFinding("signatures", True, "", ""))
    with pytest.raises(AssertionError):
        mutated(100, seed=1)


def mutated(count: int, seed: int) -> int:
    """Entries that differ from a right promotion in one part each, by a holder of the log's key; none may be taken."""
    rng = random.Random(seed)
    folder = Path(mkdtemp(prefix="emp_gym-ledger-"))
    try:
        desk = Desk(folder)
        version, other = desk.version("good"), None
        desk.evaluate(version)
        other = desk.ledger.register(register("bad", desk.trial())).version
        desk.evaluate(other, edge=0.0)
        right = desk.ledger.examine(version, "paper")
        base = {
            "version": version, "from": "experiment", "to": "paper", "since": desk.ledger.find(version).since,
            "evaluations": [e.seq for e in right.used], "findings": [],
        }  # fmt: skip
        base["approvals"] = approvals(desk.log.log_id, "promote", base, [desk.people["alice"]])
        hashes = [e.payload_hash for e in right.used]
        assert not desk.with_forged("promote", base, subject=version, evidence=hashes).invalid, "unchanged it is right"
        refused = 0
        for _ in range(count):
            payload, subject, proof = _changed(rng, base, version, other, hashes)
            found = desk.with_forged("promote", payload, subject=subject, evidence=proof)
            assert {v.stage(found.now) for v in found.versions.values()} == {"experiment"}, payload
            refused += len(found.invalid)
        return refused
    finally:
        shutil.rmtree(folder)


def _changed(
    rng: random.Random, base: dict[str, Any], version: str, other: str, hashes: list[str]
) -> tuple[dict[str, Any], str, list[str]]:
    payload, subject, proof = dict(base), version, list(hashes)
    part = rng.choice(
        ("version", "from", "to", "since", "evaluations", "findings", "signature", "signer", "proof", "key", "none")
    )
    if part == "version":
        payload["version"] = subject = other
    elif part in ("from", "to"):
        payload[part] = rng.choice([s for s in (*STAGES, "", "x") if s != base[part]])
    elif part == "since":
        payload["since"] += rng.choice((-2, -1, 1, 2, 10**6))
    elif part == "evaluations":
        payload["evaluations"] = rng.choice(([], [0], base["evaluations"] * 2, [rng.randrange(50)]))
        payload["evaluations"] = [] if payload["evaluations"] == base["evaluations"] else payload["evaluations"]
    elif part == "findings":
        payload["findings"] = [f"all is well {rng.random()}"]  # signed by nobody
    elif part == "signature":
        raw = bytearray.fromhex(base["approvals"][0]["signature"])
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        payload["approvals"] = [base["approvals"][0] | {"signature": raw.hex()}]
    elif part == "signer":
        payload["approvals"] = [base["approvals"][0] | {"signer": rng.choice(("bob", "mallory", ""))}]
    elif part == "proof":
        proof = rng.choice(([], hashes * 2, [f"{rng.getrandbits(256):064x}"]))
    elif part == "key":
        payload[rng.choice(("extra", "reason"))] = 1
    else:
        payload["approvals"] = []
    return payload, subject, proof
