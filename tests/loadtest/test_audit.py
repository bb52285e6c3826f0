"""Calls against files: what is missing, doubled, changed or left over is found and named."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import soundfile

from recorder.loadtest.audit import Audit, Guards, audit, expectation
from recorder.loadtest.traffic import CallSeen
from tests.loadtest.spoken import muted, recording

START = 1_800_000_000.0
GUARDS = Guards()


def seen(number: int, sensitive: bool = False) -> CallSeen:
    """A call of 12 s; a sensitive one was muted from 5.3 s to 6.94 s."""
    call = CallSeen(
        called=f"{8 if sensitive else 7}{number:06}",
        dialog_id=f"{number:032X}",
        sensitive=sensitive,
        answered=START,
        hung_up=START + 12.0,
        ended=START + 12.01,
    )
    if sensitive:
        call.muting, call.muted = START + 5.300, START + 5.301
        call.unmuting, call.unmuted = START + 6.940, START + 6.941
    return call


def keep(folder: Path, call: CallSeen, **changes: Any) -> Path:
    """Write the recording of a call and its manifest, with `changes` in the latter; returns the recording."""
    samples = recording()
    if call.sensitive:
        samples = muted(samples, 5.0, 7.0)
    path = folder / f"tests~loadtest~1800000000000~{call.dialog_id}.wav"
    soundfile.write(path, samples, 8000, subtype="PCM_16")
    manifest = {
        "file_name": path.name,
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "parties": {"called": call.called},
        "redactions": [{}] if call.sensitive else [],
        "dropped_samples": 0,
        "recovered": False,
    } | changes
    path.with_suffix(".json").write_text(json.dumps(manifest))
    os.utime(path.with_suffix(".json"), (START + 12.2, START + 12.2))
    return path


def only_fault(found: Audit) -> str:
    [line] = found.faults()
    return line


def test_right_recordings_pass(tmp_path: Path) -> None:
    calls = [seen(1), seen(2, sensitive=True)]
    for call in calls:
        keep(tmp_path, call)
    found = audit(tmp_path, calls, GUARDS)
    assert found.faults() == []
    assert found.ok
    assert found.good == 2
    assert found.findings[0].durable_s == pytest.approx(0.2, abs=0.001)


def test_a_missing_recording_is_named(tmp_path: Path) -> None:
    keep(tmp_path, seen(1))
    found = audit(tmp_path, [seen(1), seen(2)], GUARDS)
    assert not found.ok
    assert found.good == 1
    assert only_fault(found).startswith("call 7000002 (no file): missing")


def test_a_manifest_without_its_file_is_named(tmp_path: Path) -> None:
    keep(tmp_path, seen(1)).unlink()
    assert "the recording is not" in only_fault(audit(tmp_path, [seen(1)], GUARDS))


def test_a_file_without_its_manifest_is_named(tmp_path: Path) -> None:
    path = keep(tmp_path, seen(1))
    path.with_suffix(".json").unlink()
    assert path.name in only_fault(audit(tmp_path, [seen(1)], GUARDS))


def test_two_recordings_of_one_call_are_named(tmp_path: Path) -> None:
    keep(tmp_path, seen(1))
    twin = seen(1)
    twin.dialog_id = "F" * 32
    keep(tmp_path, twin)
    assert "twice" in only_fault(audit(tmp_path, [seen(1)], GUARDS))


def test_a_changed_file_is_found_by_its_hash(tmp_path: Path) -> None:
    path = keep(tmp_path, seen(1))
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    assert "sha256" in only_fault(audit(tmp_path, [seen(1)], GUARDS))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"bytes": 1}, "bytes"),
        ({"redactions": [{}]}, "1 redactions instead of 0"),
        ({"dropped_samples": 160}, "160 samples were dropped"),
        ({"recovered": True}, "recovered"),
    ],
)
def test_what_a_manifest_admits_is_a_fault(tmp_path: Path, change: dict[str, Any], fault: str) -> None:
    keep(tmp_path, seen(1), **change)
    assert fault in only_fault(audit(tmp_path, [seen(1)], GUARDS))


def test_an_unmuted_step_is_found(tmp_path: Path) -> None:
    call = seen(1, sensitive=True)
    path = keep(tmp_path, call)
    soundfile.write(path, recording(), 8000, subtype="PCM_16")
    assert "redaction" in only_fault(audit(tmp_path, [call], GUARDS))


def test_another_calls_sound_shows_by_its_length(tmp_path: Path) -> None:
    call = seen(1)
    call.hung_up = START + 11.0
    keep(tmp_path, call)
    assert "length" in only_fault(audit(tmp_path, [call], GUARDS))


def test_a_call_that_failed_is_named(tmp_path: Path) -> None:
    call = CallSeen("7000001", "1" * 32, sensitive=False)
    assert "never answered" in only_fault(audit(tmp_path, [call], GUARDS))


def test_an_unfinished_file_is_named(tmp_path: Path) -> None:
    keep(tmp_path, seen(1))
    (tmp_path / "tests~loadtest~1800000000000~2.wav.part").touch()
    found = audit(tmp_path, [seen(1)], GUARDS)
    assert not found.ok
    assert "unfinished" in only_fault(found)


def test_a_broken_manifest_counts_as_none(tmp_path: Path) -> None:
    path = keep(tmp_path, seen(1))
    path.with_suffix(".json").write_text("{")
    assert "no manifest" in only_fault(audit(tmp_path, [seen(1)], GUARDS))


def test_a_step_that_never_resumes_is_silent_to_the_end() -> None:
    call = seen(1, sensitive=True)
    call.unmuting = call.unmuted = None
    [silence] = expectation(call, GUARDS).silences
    assert silence.must[0] == pytest.approx(5.061, abs=0.001)
    assert silence.must[1] > 12.0
