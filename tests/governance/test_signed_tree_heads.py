"""Heads, keys and witnesses by themselves: what is a head, who may read a key, and what a witness keeps."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from emp_gym.governance.errors import LogTampered
from emp_gym.governance.log.signed_tree_heads import ABOUT, CONTEXT, Head, KeyFile, Witness, is_signed, sign_head
from emp_gym.types import ConfigError
from tests.governance.logs import key

ROOT = bytes(range(32))


def head(size: int = 3, root: bytes = ROOT, log_id: str = "log-for-tests") -> Head:
    return sign_head(key(), log_id, size, root, 17)


def test_a_head_is_signed_over_its_context_and_its_canonical_body():
    made = head()
    assert made.body == b'{"log_id":"log-for-tests","root":"%b","size":3,"ts_ns":17}' % ROOT.hex().encode()
    assert made.signed_by(key().public_key) and len(made.signature) == 64
    assert is_signed(key().public_key, made.signature, b"emp-gym log head v1\0" + made.body)
    assert CONTEXT != ABOUT
    for wrong in (
        replace(made, size=4),
        replace(made, root=ROOT[::-1]),
        replace(made, log_id="another-log"),
        replace(made, ts_ns=18),
        replace(made, signature=key().sign(made.body)),
        replace(made, signature=key().sign(ABOUT + made.body)),
        replace(made, signature=b""),
    ):
        assert not wrong.signed_by(key().public_key)
    assert not made.signed_by(bytes(32)) and not made.signed_by(b"short")


def test_a_stored_head_reads_back_and_another_form_is_refused():
    made = head()
    assert Head.read(made.body, made.signature) == made
    for body, why in (
        (made.body.replace(b'"size":3', b'"size": 3'), "not in canonical form"),
        (made.body.replace(b'"ts_ns":17', b'"ts_ns":17,"x":1'), "not in canonical form"),
        (b'{"log_id":"log-for-tests"}', "not readable"),
        (made.body.replace(b'"root":"00', b'"root":"zz'), "not readable"),
        (b"[]", "not readable"),
        (b"{", "not readable"),
    ):
        with pytest.raises(LogTampered, match=why):
            Head.read(body, made.signature)


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o610, 0o604, 0o602, 0o601])
def test_a_key_that_anyone_else_may_touch_is_refused(mode, tmp_path):
    made = KeyFile.generate(tmp_path / "a.key")
    made.path.chmod(mode)
    with pytest.raises(ConfigError, match=f"mode {mode:04o}.*expected 0600"):
        KeyFile(made.path)
    made.path.chmod(0o400)
    assert KeyFile(made.path).public_key == made.public_key


def test_a_key_of_another_kind_or_under_a_password_is_refused(tmp_path):
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ed25519, x25519

    def keep(secret: object, how: object) -> KeyFile:
        path = tmp_path / "a.key"
        path.write_bytes(secret.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, how))
        path.chmod(0o600)
        return KeyFile(path)

    assert keep(ed25519.Ed25519PrivateKey.generate(), form.NoEncryption())
    with pytest.raises(ConfigError, match=r"expected an Ed25519 key, got .*X25519"):
        keep(x25519.X25519PrivateKey.generate(), form.NoEncryption())
    with pytest.raises(ConfigError, match="expected an unencrypted Ed25519 key"):
        keep(ed25519.Ed25519PrivateKey.generate(), form.BestAvailableEncryption(b"secret"))


def test_keys_and_kept_heads_are_on_disk_before_anyone_is_told(tmp_path, monkeypatch):
    synced: list[object] = []
    monkeypatch.setattr("os.fsync", lambda handle: synced.append(os.fstat(handle)))
    made = KeyFile.generate(tmp_path / "a.key")
    file, folder = synced
    assert file.st_size == made.path.stat().st_size > 0 and folder.st_ino == tmp_path.stat().st_ino
    synced.clear()
    witness = Witness(tmp_path / "w")
    witness.keep(head(), key().public_key)
    file, folder = synced
    assert file.st_size == witness.path("log-for-tests", 3).stat().st_size > 0
    assert folder.st_ino == witness.folder.stat().st_ino


def test_a_witness_keeps_one_file_a_head_and_gives_back_the_largest_of_the_log(tmp_path):
    witness = Witness(tmp_path / "deep" / "er")
    assert witness.latest("log-for-tests") is None
    for size in (9, 10, 2):
        witness.keep(head(size), key().public_key)
    witness.keep(head(99, log_id="another-log"), key().public_key)
    witness.keep(head(10), key().public_key)  # again: nothing happens
    assert witness.latest("log-for-tests") == head(10)
    names = sorted(path.name for path in witness.folder.iterdir())
    assert names == [
        "another-log-00000000000000000099.json",
        *(f"log-for-tests-{size:020d}.json" for size in (2, 9, 10)),
    ]
    kept = json.loads((witness.folder / names[1]).read_bytes())
    assert kept["public_key"] == key().public_key.hex() and kept["signature"] == head(2).signature.hex()
    assert kept["head"] == json.loads(head(2).body)


def test_two_histories_of_one_log_and_a_damaged_copy_are_refused(tmp_path):
    witness = Witness(tmp_path)
    witness.keep(head(5), key().public_key)
    with pytest.raises(LogTampered, match="two histories of one log"):
        witness.keep(head(5, ROOT[::-1]), key().public_key)
    path = witness.path("log-for-tests", 5)
    for text in (b"{", b"{}", path.read_bytes().replace(b'"signature":"', b'"signature":"zz')):
        path.write_bytes(text)
        with pytest.raises(LogTampered, match="not a kept head"):
            witness.latest("log-for-tests")


def test_a_process_that_dies_while_it_writes_a_key_leaves_none(tmp_path, monkeypatch):
    def dies(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("emp_gym.governance.log.signed_tree_heads.os.fsync", dies)
        with pytest.raises(KeyboardInterrupt):
            KeyFile.generate(tmp_path / "system.key")
    assert not list(tmp_path.iterdir())
    KeyFile.generate(tmp_path / "system.key")
    assert [path.name for path in tmp_path.iterdir()] == ["system.key"]
    assert (tmp_path / "system.key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="already"):
        KeyFile.generate(tmp_path / "system.key")
