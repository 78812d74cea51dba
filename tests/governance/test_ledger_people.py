"""Rows, names and people of the ledger: who is on record, whose signature counts, and whose no longer."""

from __future__ import annotations

import pytest
from governance.ledgers import Desk, findings, forward_days, register, sha

from emp_gym.governance.errors import LedgerError, UnregisteredPolicy
from emp_gym.governance.ledger.ledger import Ledger
from emp_gym.governance.ledger.signatures import Approver, Detached, approvals, statement
from emp_gym.governance.log.reader import LogReader
from emp_gym.governance.log.signed_tree_heads import KeyFile
from emp_gym.governance.verify import verify
from emp_gym.types import ConfigError


def test_a_version_is_the_hash_of_its_files_and_never_changes(desk: Desk) -> None:
    trial = desk.trial()
    payload = register("x", trial)
    desk.ledger.register(payload)
    with pytest.raises(LedgerError, match="registered already"):
        desk.ledger.register(payload | {"name": "y"})
    with pytest.raises(LedgerError, match="not the hash"):
        desk.ledger.register(register("z", trial) | {"commit": "other"})
    with pytest.raises(LedgerError, match="is no trial"):
        desk.ledger.register(register("z", 0))
    with pytest.raises(LedgerError, match="parent"):
        desk.ledger.register(register("z", trial, parent=sha("nobody")))


def test_people_have_a_key_of_their_own_and_somebody_vouches_for_them(desk: Desk) -> None:
    with pytest.raises(LedgerError, match="on record already"):
        desk.person("alice")
    same = Approver("alias", desk.people["alice"].key)
    with pytest.raises(LedgerError, match="this key is that of alice"):
        desk.ledger.add_signer(same, ("paper",), [desk.people["bob"]])
    with pytest.raises(LedgerError, match="that of the log itself"):
        desk.ledger.add_signer(Approver("system", desk.log._signer), ("paper",), [desk.people["bob"]])
    with pytest.raises(LedgerError, match="must vouch for mallory"):
        desk.person("mallory", vouchers=())
    stranger = Approver("bob", KeyFile.generate(desk.folder / "s.key"))
    with pytest.raises(LedgerError, match="not by the key on record"):
        desk.ledger.add_signer(Approver("eve", KeyFile.generate(desk.folder / "e.key")), ("paper",), [stranger])
    with pytest.raises(LedgerError, match="roles must be"):
        desk.person("carol", roles=("boss",))


def test_nobody_is_put_on_record_without_having_the_key(desk: Desk) -> None:
    key = KeyFile.generate(desk.folder / "carol.key")
    payload = {"name": "carol", "public_key": key.public_key.hex(), "roles": ["paper"]}
    signed = approvals(desk.log.log_id, "signer", payload, [desk.people["alice"]])
    desk.forge("signer", payload | {"approvals": signed})
    assert "carol" not in desk.ledger.state.people
    assert "must sign that the key is at hand" in desk.ledger.state.invalid[0].why


def test_somebody_elses_key_signs_nothing(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version)
    stranger = KeyFile.generate(desk.folder / "x.key")
    with pytest.raises(LedgerError, match="not by the key on record"):
        desk.ledger.promote(version, "paper", [Approver("alice", stranger)])
    with pytest.raises(LedgerError, match="nobody is not on record"):
        desk.ledger.promote(version, "paper", [Approver("nobody", stranger)])


def test_names_find_versions_and_say_what_there_is(desk: Desk) -> None:
    version = desk.version("ppo-a")
    for name in (version, version[:8], "ppo-a", "challenger"):
        assert desk.ledger.find(name).version == version
    desk.ledger.set_alias("night-shift", version)
    assert desk.reread().find("night-shift").version == version
    for alias in ("champion", "paper", "A B", ""):
        with pytest.raises(LedgerError, match="alias must match"):
            desk.ledger.set_alias(alias, version)
    with pytest.raises(UnregisteredPolicy, match="expected one of"):
        desk.ledger.find("nope")


def test_a_reader_cannot_write(desk: Desk) -> None:
    with LogReader(desk.log.path) as reader, pytest.raises(ConfigError, match="opened to read"):
        Ledger(reader, clock=desk.clock).demote(desk.version(), "x")


# --- keys that are taken out of use


def test_a_revoked_key_signs_nothing_more_and_what_it_signed_stays(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version)
    desk.promote(version, "paper", "bob")
    seq = desk.revoke("bob", "alice")
    assert desk.stage(version) == desk.reread().stage(version) == "paper", "an earlier signature counts as before"
    assert desk.log.entry(seq).actor == "alice" and [one.name for one in desk.ledger.state.signers()] == ["alice"]
    with pytest.raises(LedgerError, match=rf"the key of bob was revoked \(entry {seq}\)"):
        desk.promote(version, "paper", "bob")
    desk.forged_promotion(version, "paper", ["bob"])
    assert "was revoked" in desk.reread().state.invalid[0].why


def test_an_approval_that_was_signed_before_and_comes_after_does_not_count(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version)
    payload, subject, proof = desk.wrong_promotion(version, "paper", ["bob"])
    assert not desk.with_forged("promote", payload, subject=subject, evidence=proof).invalid
    desk.revoke("bob", "bob")
    (refused,) = desk.with_forged("promote", payload, subject=subject, evidence=proof).invalid
    assert "the key of bob was revoked" in refused.why


def test_a_key_is_revoked_by_its_owner_or_by_one_who_could_vouch_for_it(desk: Desk) -> None:
    desk.person("carol", roles=("paper",))
    with pytest.raises(LedgerError, match="alice or bob must sign for it"):
        desk.revoke("alice", "carol")
    stranger = Approver("alice", KeyFile.generate(desk.folder / "s.key"))
    for who in ([stranger], [Approver("mallory", desk.log._signer)], []):
        with pytest.raises(LedgerError, match="must sign for it"):
            desk.ledger.revoke_signer("carol", "x", who)
    with pytest.raises(LedgerError, match="'dave' has no key on record"):
        desk.revoke("dave", "alice")
    desk.revoke("carol", "carol")
    with pytest.raises(LedgerError, match="has no key on record any more"):
        desk.revoke("carol", "alice")
    desk.revoke("alice", "bob")
    with pytest.raises(LedgerError, match="the key of alice was revoked"):
        desk.revoke("bob", "alice")


def test_a_revoked_person_vouches_for_nobody_and_never_comes_back(desk: Desk) -> None:
    desk.revoke("bob", "alice")
    with pytest.raises(LedgerError, match=r"must vouch for carol: alice \(the key of bob was revoked"):
        desk.person("carol", vouchers=("bob",))
    with pytest.raises(LedgerError, match="on record already"):
        desk.ledger.add_signer(
            Approver("bob", KeyFile.generate(desk.folder / "b2.key")), ("paper",), [desk.people["alice"]]
        )
    with pytest.raises(LedgerError, match="this key is that of bob"):
        desk.ledger.add_signer(Approver("bob-2", desk.people["bob"].key), ("paper",), [desk.people["alice"]])
    desk.person("bob-2")
    assert [one.name for one in desk.ledger.state.signers()] == ["alice", "bob-2"]


def test_the_last_who_can_sign_does_not_go_silently(desk: Desk) -> None:
    desk.person("carol", roles=("paper",))
    desk.revoke("bob", "alice")
    assert desk.ledger.state.ends_with("alice") == ["pilot"] and desk.ledger.state.ends_with("carol") == []
    for ends in ((), ("paper",), ("paper", "pilot")):
        with pytest.raises(LedgerError, match="nobody can ever sign for pilot in this ledger"):
            desk.revoke("alice", "alice", ends=ends)
    with pytest.raises(LedgerError, match="nothing less than before"):
        desk.revoke("carol", "alice", ends=("paper",))
    desk.revoke("alice", "alice", ends=("pilot",))
    desk.revoke("carol", "carol", ends=("paper",))
    for i, vouchers in enumerate(((), ("alice",), ("carol",))):  # nor can anybody begin anew here
        with pytest.raises(LedgerError, match="they can never be had in this ledger"):
            desk.person(f"dave-{i}", roles=("paper",), vouchers=vouchers)


def test_pilot_wants_two_keys_that_are_not_revoked(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version)
    desk.promote(version, "paper", "alice")
    desk.evaluate(version, days=forward_days(desk, 30), seed=1)
    desk.revoke("bob", "bob")
    assert all(findings(desk, version).values())
    with pytest.raises(LedgerError, match="expected 2 different people"):
        desk.promote(version, "pilot", "alice", "bob")
    desk.person("carol")
    desk.promote(version, "pilot", "alice", "carol")


def test_a_signature_made_elsewhere_counts_for_that_decision_alone(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version)
    _, decision = desk.ledger.decision(version, "paper")
    made = desk.people["alice"].key.sign(statement(desk.log.log_id, "promote", decision))
    elsewhere = [Approver("alice", Detached(made))]
    assert [one.name for one in desk.ledger.standing("promote", decision, elsewhere)[0]] == ["alice"]
    for who, wrong in (("bob", made), ("alice", made[::-1]), ("alice", b"")):
        assert desk.ledger.standing("promote", decision, [Approver(who, Detached(wrong))])[0] == []
    desk.ledger.promote(version, "paper", elsewhere)
    with pytest.raises(LedgerError, match="is of another decision"):  # a renewal is another one
        desk.ledger.promote(version, "paper", elsewhere)
    assert desk.reread().stage(version) == "paper"


def test_the_verifier_lists_revoked_keys_and_what_they_sign_later(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version)
    desk.promote(version, "paper", "bob")
    assert verify(desk.log.path).revoked == []
    seq = desk.revoke("bob", "alice")
    late = desk.forged_promotion(version, "paper", ["bob"])
    desk.forge("revoke", b"{}")
    report = verify(desk.log.path)
    assert report.whole, "nothing was tampered with: the entries stand as they were written"
    assert report.revoked == [
        f"entry {seq}: the key of bob is revoked by alice: key lost",
        f"entry {late} (promote): the signature of bob does not count (entry {seq})",
    ]
