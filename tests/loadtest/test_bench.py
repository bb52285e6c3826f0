"""A small load test, from beginning to end, through a real recorder."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from recorder.file_format import FileFormat
from recorder.loadtest import Codec, Options, run, verify
from recorder.loadtest.subject import Subject
from recorder.loadtest.tones import CALLER

pytestmark = [pytest.mark.alone, pytest.mark.moments]


def carried_out(options: Options) -> tuple[int, str]:
    """Run a load test; returns its exit code and what it printed."""
    console = Console(file=io.StringIO(), width=160)
    code = run(options, console)
    assert isinstance(console.file, io.StringIO)
    return code, console.file.getvalue()


@pytest.mark.parametrize(
    ("codec", "kept_as", "spread"),
    [
        (Codec.PCMU, FileFormat(), False),
        (Codec.PCMA, FileFormat("alaw", 2), False),
        (Codec.PCMU, FileFormat("opus", 2), True),
    ],
)
def test_every_call_is_recorded_and_right(tmp_path: Path, codec: Codec, kept_as: FileFormat, spread: bool) -> None:
    result = tmp_path / "out" / "result.json"
    code, printed = carried_out(
        Options(
            calls=6,
            rate=6,
            duration_s=9,
            codec=codec,
            file_format=kept_as,
            mute_every=3,
            spread=spread,
            json_path=result,
            keep=tmp_path / "kept",
            setup_phase=False,
        )
    )
    assert code == 0, printed
    assert "6 of 6 calls are recorded" in printed
    tree = json.loads(result.read_text())
    assert tree["passed"]
    assert tree["faults"] == []
    [phase] = tree["phases"]
    assert (phase["good"], phase["failed_calls"], phase["muted_calls"]) == (6, 0, 2)
    assert phase["silent_s"] > 4
    assert tree["options"]["file_format"] == kept_as.label
    assert tree["cost"]["cpu_per_dialog"] > 0
    assert tree["cost"]["cpu_finish_per_minute_s"] >= 0
    assert tree["floor_ratio"] > 0
    assert tree["machine"]["cores"] >= 1
    kept = max(tmp_path.glob("*/recordings"), key=lambda folder: folder.stat().st_mtime)
    assert len(list(kept.glob(f"*{kept_as.suffix}"))) == 6


def test_recordings_that_are_wrong_fail_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held against another voice, every recording is wrong: each is named."""
    monkeypatch.setattr(verify, "CALLER", replace(CALLER, burst_hz=600))
    code, printed = carried_out(
        Options(calls=2, rate=2, duration_s=3, floor=False, setup_phase=False, keep=tmp_path / "kept")
    )
    assert code == 1
    assert "0 of 2 calls are recorded" in printed
    assert printed.count("the caller is never heard") == 2


def test_a_configuration_is_taken_over_but_for_its_addresses_and_rules(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(
        "sip: {listen: [{host: 192.0.2.1, port: 5060}], max_calls: 2000, user_agent: mine}\n"
        "media: {rtp_port_first: 20000, rtp_port_last: 29999}\n"
        "recording: {folder: /nowhere, block_ms: 400}\n"
        "redaction: {guard_before_ms: 700}\n"
        "routes: [{name: elsewhere, target: 'sip:192.0.2.2'}]\n"
        "http: {port: 80}\n"
    )
    kept = tmp_path / "kept"
    code, printed = carried_out(
        Options(calls=2, rate=2, duration_s=10, mute_every=2, config=config, keep=kept, floor=False, setup_phase=False)
    )
    assert code == 0, printed
    kept = max(tmp_path.glob("*/recordings"), key=lambda folder: folder.stat().st_mtime).parent
    used = (kept / "recorder.yaml").read_text()
    assert "user_agent: mine" in used
    assert "block_ms: 400" in used
    assert "192.0.2" not in used
    assert "nowhere" not in used
    [muted] = [
        manifest["redactions"][0]
        for path in (kept / "recordings").glob("*.json")
        if (manifest := json.loads(path.read_text()))["redactions"]
    ]
    # Muted at 4.0 s for 2.5 s, less the guard of its own.
    assert 3.25 < muted["start_s"] < 3.8


def test_a_recorder_that_runs_already_is_tested_by_its_folder(tmp_path: Path) -> None:
    with Subject(tmp_path / "running") as subject:
        options = Options(
            calls=2,
            rate=2,
            duration_s=3,
            target=subject.sip_address,
            application_port=subject.application_port,
            recordings=subject.recordings,
            pid=subject.pid,
            floor=False,
            setup_phase=False,
        )
        code, printed = carried_out(options)
        assert code == 0, printed
        assert "was running already" in printed
        assert subject.api.is_ready()
