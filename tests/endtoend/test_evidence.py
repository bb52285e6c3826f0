"""Recordings that are signed and encrypted, from the call to the one who verifies, plays or decrypts them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from recorder.keyring import add_key
from recorder.loadtest.peers import Plan, Sipp
from recorder.loadtest.subject import Subject
from recorder.sealed_store import is_sealed, key_ids
from recorder.signing import make_pair
from tests.endtoend.test_operation import eventually, run
from tests.tones import has_tone, read_wav


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    folder = tmp_path_factory.mktemp("evidence")
    make_pair(folder / "signing.pem")
    add_key(folder / "encryption.keys", "first")
    changes = {"recording": {"signing_key_file": "signing.pem", "encryption": {"key_file": "encryption.keys"}}}
    with closing(Subject(folder, changes=changes)) as subject:
        yield subject


def config(subject: Subject) -> Path:
    return subject.folder / "recorder.yaml"


def test_a_sealed_recording_survives_kill_9_is_verified_played_and_rotated(subject: Subject, tmp_path: Path) -> None:
    subject.start()
    with (
        Sipp(Plan("uas-answer", port=subject.application_port, timeout_s=20)),
        Sipp(Plan("uac-call", remote=subject.sip_address, length_ms=20000, timeout_s=20)),
    ):
        [part] = eventually(lambda: [path for path in subject.recordings.glob("*.part") if path.stat().st_size > 40000])
        assert is_sealed(part)
        subject.kill()
    subject.start()
    with Sipp(Plan("uas-answer", port=subject.application_port)) as application:
        with Sipp(Plan("uac-call", remote=subject.sip_address, length_ms=1000)) as caller:
            assert caller.wait().ok
        assert application.wait().ok
    found = eventually(lambda: len(them := subject.api.get("recordings")["recordings"]) == 2 and them)

    beside = run("verify", "--config", config(subject), "--json")
    assert beside.returncode == 0, beside.stdout
    elsewhere = ("verify", "--folder", subject.recordings, "--public-key", subject.folder / "signing.pem.pub")
    assert run(*elsewhere).returncode == 0

    for recording in found:
        path = subject.recordings / recording["file_name"]
        manifest = json.loads(path.with_suffix(".json").read_text())
        assert (manifest["encrypted"], manifest["recovered"]) == (True, recording is found[1])
        assert key_ids(path) == ["first"]
        status, audio = subject.api.request(f"/api/v1/recordings/{recording['dialog_id']}/audio")
        plain = tmp_path / recording["file_name"]
        assert status == 200
        plain.write_bytes(audio)
        samples, rate = read_wav(plain)
        assert has_tone(samples[int(0.6 * rate) : int(0.9 * rate)], 440)
        assert audio[5000:5032] not in path.read_bytes()
        by_hand = tmp_path / f"{recording['dialog_id']}.wav"
        made = run("decrypt", recording["file_name"], "--config", config(subject), "--to", by_hand)
        assert made.returncode == 0, made.stderr
        assert by_hand.read_bytes() == audio

    add_key(subject.folder / "encryption.keys", "second")
    rotated = run("keys", "rotate", "--config", config(subject))
    assert (rotated.returncode, rotated.stdout) == (
        0,
        "wrapped anew by 'second': 2, failed: 0, being recorded under an older key: 0\n",
    )
    assert subject.stop() == 0
    assert run("verify", "--config", config(subject)).returncode == 0
    subject.start()
    assert subject.api.request(f"/api/v1/recordings/{found[0]['dialog_id']}/audio")[0] == 200
    assert subject.stop() == 0

    damaged = subject.recordings / found[0]["file_name"]
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    named = run("verify", "--config", config(subject))
    assert named.returncode == 1
    assert named.stdout.startswith(f"changed: {damaged.name}: its SHA-256 is ")
    secret = (subject.folder / "encryption.keys").read_text().split()[1]
    assert secret not in subject.log_path.read_text()


@pytest.mark.parametrize(
    ("command", "content"), [("serve --config", None), ("recover --config", "first: bm90IDMyIGJ5dGVz")]
)
def test_nothing_is_recorded_in_plain_where_the_key_is_not_there(
    subject: Subject, tmp_path: Path, command: str, content: str | None
) -> None:
    file = tmp_path / "encryption.keys"
    if content is not None:
        file.write_text(content)
    recording = {"folder": str(tmp_path), "encryption": {"key_file": str(file)}}
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(subject.configuration | {"recording": recording}))
    ended = run(*command.split(), path)
    assert ended.returncode == 1
    assert str(file) in ended.stderr
    assert "bm90" not in ended.stderr


def test_secrets_that_others_can_read_are_warned_of(subject: Subject, tmp_path: Path) -> None:
    file = tmp_path / "encryption.keys"
    add_key(file, "first")
    file.chmod(0o644)
    path = tmp_path / "open.yaml"
    path.write_text(yaml.safe_dump(subject.configuration | {"recording": {"encryption": {"key_file": str(file)}}}))
    checked = run("check-config", path)
    assert checked.returncode == 0
    assert f"warning: recording.encryption.key_file: {file} can be read by other users" in checked.stderr
