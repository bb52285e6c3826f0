"""The floor: a bare relay, measured like the recorder."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from recorder.errors import StartError
from recorder.loadtest import floor, measure
from recorder.loadtest.measure import Heartbeat, Sampler, machine, udp_drops

pytestmark = [pytest.mark.alone, pytest.mark.moments]


def eventually(question: Callable[[], bool], timeout_s: float = 30) -> None:
    end = time.monotonic() + timeout_s
    while not question():
        assert time.monotonic() < end, f"not within {timeout_s} s"
        time.sleep(0.01)


@pytest.mark.parametrize("shape", ["burst", "spread"])
def test_the_floor_relays_every_packet(tmp_path: Path, shape: str) -> None:
    found = floor.measure(tmp_path, dialogs=5, seconds=2.0, shape=shape)
    sent, relayed = found.counts["sent"], found.counts["relayed"]
    # 10 legs, 50 packets a second, 3.5 s.
    assert sent == pytest.approx(1750, rel=0.1)
    assert relayed >= sent - 10
    assert found.cpu_share < 0.5
    if shape == "spread":
        assert found.counts["received"] == relayed


def test_without_program_and_compiler_it_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floor.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(floor.shutil, "which", lambda _: None)
    with pytest.raises(StartError, match="--no-floor"):
        floor.program(tmp_path)


def test_a_sampler_sees_this_process_work() -> None:
    with Sampler(os.getpid()) as sampler:
        start = time.time()
        while time.time() < start + 1.5:
            pass
    share = sampler.cpu_share((start, time.time()))
    assert share is not None
    assert 0.05 < share < 1.3
    assert all(sample.rss_bytes > 0 and sample.fds > 0 and sample.threads > 0 for sample in sampler.samples)
    assert sampler.cpu_share((start - 100, start - 90)) is None


def test_a_sampler_outlives_what_it_watches() -> None:
    with subprocess.Popen(["sleep", "60"]) as watched, Sampler(watched.pid) as sampler:
        eventually(lambda: len(sampler.samples) >= 2)
        watched.kill()
        watched.wait()
        eventually(lambda: not sampler._thread.is_alive())
    seen = len(sampler.samples)
    assert seen >= 2
    sampler.stop()
    assert len(sampler.samples) == seen


def test_a_heartbeat_notes_when_it_was_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_STALL_S", 100.0)
    with Heartbeat() as calm:
        eventually(lambda: calm.beats >= 5)
    assert calm.stalls == []
    monkeypatch.setattr(measure, "_STALL_S", -1.0)
    with Heartbeat() as nervous:
        eventually(lambda: nervous.beats >= 5)
    assert len(nervous.stalls) == nervous.beats


def test_udp_drops_of_no_ports() -> None:
    assert udp_drops(range(0)) == 0


def test_the_machine_is_named() -> None:
    assert {"cpu", "cores", "memory_bytes", "kernel"} <= set(machine())
