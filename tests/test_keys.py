"""Key files: made, read, refused; and never shown."""

from __future__ import annotations

import base64
import errno
import os
import subprocess
from pathlib import Path
from unittest.mock import Mock

import pytest
from click.testing import CliRunner

from recorder import keys, rotation
from recorder.cli import main
from recorder.errors import KeyMaterialError, StorageError
from recorder.keyring import add_key, parse_key, read_keys
from recorder.settings import parse
from recorder.settings_files import problems, warnings
from recorder.signing import PublicKeys, Signer, canonical, key_id, make_pair

KEY = base64.b64encode(b"k" * 32).decode()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_key_pair_signs_and_its_public_half_verifies(tmp_path: Path) -> None:
    made = CliRunner().invoke(main, ["keys", "new-signing", str(tmp_path / "signing.pem")])
    assert made.exit_code == 0
    assert (mode(tmp_path / "signing.pem"), mode(tmp_path / "signing.pem.pub")) == (0o600, 0o644)
    signer = Signer.load(tmp_path / "signing.pem")
    known = PublicKeys.load([tmp_path / "signing.pem.pub"])
    assert signer.key_id in made.output
    assert signer.key_id in known
    signature = signer.sign("thing", {"b": 1, "a": "x"})
    assert known.hold("thing", {"a": "x", "b": 1}, signature)
    assert not known.hold("thing", {"a": "x", "b": 2}, signature)
    assert not known.hold("another thing", {"a": "x", "b": 1}, signature)
    assert not PublicKeys().hold("thing", {"a": "x", "b": 1}, signature)


def test_openssl_reads_what_is_made_and_verifies_what_is_signed(tmp_path: Path) -> None:
    make_pair(tmp_path / "signing.pem")
    signature = Signer.load(tmp_path / "signing.pem").sign("thing", {"a": 1})
    (tmp_path / "message").write_bytes(b"thing\n" + canonical({"a": 1}))
    (tmp_path / "signature").write_bytes(base64.b64decode(signature.value))
    check = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "signing.pem.pub", "-rawin"]
    check += ["-in", "message", "-sigfile", "signature"]
    assert subprocess.run(check, cwd=tmp_path, check=False, capture_output=True).returncode == 0


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    make_pair(tmp_path / "signing.pem")
    with pytest.raises(KeyMaterialError, match="is there already, and a key is never replaced"):
        make_pair(tmp_path / "signing.pem")


@pytest.mark.parametrize(
    ("algorithm", "more", "complaint"),
    [
        ("RSA", [], "is no Ed25519 key"),
        ("ED25519", ["-aes256", "-pass", "pass:secret"], "is encrypted by a password"),
    ],
)
def test_another_key_is_refused(tmp_path: Path, algorithm: str, more: list[str], complaint: str) -> None:
    path = tmp_path / "key.pem"
    command = ["openssl", "genpkey", "-algorithm", algorithm, "-out", str(path), *more]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(KeyMaterialError, match=complaint):
        Signer.load(path)


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 100, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_what_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    with pytest.raises(KeyMaterialError, match="holds no private key"):
        Signer.load(path)
    with pytest.raises(KeyMaterialError, match="holds no Ed25519 public key"):
        PublicKeys.load([path])


def test_new_keys_are_put_first_and_the_old_ones_stay(tmp_path: Path) -> None:
    path = tmp_path / "encryption.keys"
    add_key(path, "one")
    assert mode(path) == 0o600
    path.chmod(0o640)
    assert CliRunner().invoke(main, ["keys", "new-encryption", str(path), "--id", "two"]).exit_code == 0
    assert (list(read_keys(path)), mode(path)) == (["two", "one"], 0o640)
    with pytest.raises(KeyMaterialError, match="has a key one already"):
        add_key(path, "one")
    assert len({*read_keys(path).values()}) == 2


def test_a_key_that_cannot_be_added_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "encryption.keys"
    add_key(path, "one")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", Mock(side_effect=OSError(errno.ENOSPC, "no space")))
        with pytest.raises(KeyMaterialError, match="cannot be written: no space"):
            add_key(path, "two")
    assert (list(tmp_path.iterdir()), list(read_keys(path))) == ([path], ["one"])
    other = tmp_path / "encryption.keys.tmp"
    other.touch()
    with pytest.raises(KeyMaterialError, match="if nobody does, remove it"):
        add_key(path, "two")
    other.unlink()
    path.write_bytes(b"\xff")
    with pytest.raises(KeyMaterialError, match="line 1"):
        add_key(path, "two")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (f"a: {KEY}\nb: {KEY[:-4]}\n", "line 2: the key b must be 32 bytes in base64"),
        (f"a: {KEY}\n# all is well\na: {KEY}\n", "line 3: there is a key a already"),
        (f"{KEY}\n", "line 1: must be id: key"),
        (f"a/b: {KEY}\n", "line 1: must be id: key"),
        ("# nothing\n\n", "holds no key"),
    ],
)
def test_a_key_file_that_cannot_be_used_is_told_and_no_key_is_shown(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "encryption.keys"
    path.write_text(text)
    [problem] = problems(parse(f"recording: {{encryption: {{key_file: {path}}}}}", tmp_path, "recorder.yaml", {}))
    assert problem.startswith("recording.encryption: ")
    assert complaint in problem
    assert KEY[:-4] not in problem


def test_a_key_from_the_environment_comes_first_and_is_shown_nowhere(tmp_path: Path) -> None:
    add_key(tmp_path / "encryption.keys", "old")
    environment = {"RECORDER__RECORDING__ENCRYPTION__KEY": f"new:{KEY}"}
    settings = parse("recording: {encryption: {key_file: encryption.keys}}", tmp_path, "recorder.yaml", environment)
    ring = keys.keyring(settings)
    assert ring.first == "new"
    assert "old" in ring
    assert KEY not in repr(settings) + repr(ring) + repr(keys.storage(settings)) + str(vars(ring))
    bad = parse("", tmp_path, "recorder.yaml", {"RECORDER__RECORDING__ENCRYPTION__KEY": KEY})
    [problem] = problems(bad)
    assert problem.startswith("recording.encryption: key: must be id: key")
    assert KEY not in problem


def test_the_keys_text_is_read_with_or_without_blanks() -> None:
    assert parse_key(f"a:{KEY}") == parse_key(f" a : {KEY} ") == ("a", b"k" * 32)


def test_secrets_that_others_can_read_are_warned_of(tmp_path: Path) -> None:
    make_pair(tmp_path / "signing.pem")
    text = "recording: {signing_key_file: signing.pem}"
    settings = parse(text, tmp_path, "recorder.yaml", {})
    assert warnings(settings) == []
    (tmp_path / "signing.pem").chmod(0o644)
    [warning] = warnings(settings)
    assert warning.startswith(f"recording.signing_key_file: {tmp_path}/signing.pem can be read by other users")


def test_a_keys_id_is_that_of_its_public_half(tmp_path: Path) -> None:
    make_pair(tmp_path / "signing.pem")
    signer = Signer.load(tmp_path / "signing.pem")
    assert key_id(signer.public_key) == signer.key_id


def test_half_of_a_recording_that_was_changed_is_not_left_as_plain_audio(tmp_path: Path) -> None:
    add_key(tmp_path / "encryption.keys", "one")
    settings = parse("recording: {encryption: {key_file: encryption.keys}}", tmp_path, "recorder.yaml", {})
    settings.recording.folder.mkdir(parents=True, exist_ok=True)
    path, plain = settings.recording.folder / "acme~sales~5~X.wav", tmp_path / "plain.wav"
    store = keys.storage(settings).create(os.open(path, os.O_RDWR | os.O_CREAT))
    store.write_at(0, bytes(1_000_000))
    store.sync()
    store.close()
    with path.open("r+b") as file:
        file.seek(600_000)
        file.write(b"changed")
    with pytest.raises(StorageError, match="does not authenticate"):
        rotation.decrypt(settings, path.name, plain)
    assert not plain.exists()
