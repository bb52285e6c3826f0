"""A small load test, from beginning to end, through a real recorder."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from recorder.loadtest import Codec, Options, run, verify
from recorder.loadtest.tones import CALLER


def carried_out(options: Options) -> tuple[int, str]:
    """Run a load test; returns its exit code and what it printed."""
    console = Console(file=io.StringIO(), width=160)
    code = run(options, console)
    assert isinstance(console.file, io.StringIO)
    return code, console.file.getvalue()


@pytest.mark.parametrize(("codec", "spread"), [(Codec.PCMU, False), (Codec.PCMA, False), (Codec.PCMU, True)])
def test_every_call_is_recorded_and_right(tmp_path: Path, codec: Codec, spread: bool) -> None:
    result = tmp_path / "out" / "result.json"
    code, printed = carried_out(
        Options(
            calls=6,
            rate=6,
            duration_s=9,
            codec=codec,
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
    assert tree["cost"]["cpu_per_dialog"] > 0
    assert tree["floor_ratio"] > 0
    assert tree["machine"]["cores"] >= 1
    assert len(list((tmp_path / "kept" / "recordings").glob("*.wav"))) == 6


def test_recordings_that_are_wrong_fail_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held against another voice, every recording is wrong: each is named."""
    monkeypatch.setattr(verify, "CALLER", replace(CALLER, burst_hz=600))
    code, printed = carried_out(
        Options(calls=2, rate=2, duration_s=3, floor=False, setup_phase=False, keep=tmp_path / "kept")
    )
    assert code == 1
    assert "0 of 2 calls are recorded" in printed
    assert printed.count("the caller is never heard") == 2
