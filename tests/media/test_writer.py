from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recorder.errors import StorageError
from recorder.media.part_file import PartFile, part_path
from recorder.media.recording import Recording
from recorder.media.source import Cause, Samples
from recorder.media.wav_header import HEADER_BYTES
from recorder.media.writer import Writer
from recorder.metrics import Metrics
from tests.media.taps import FakeTap
from tests.tones import RATE, has_tone, is_silent, is_tone, read_wav, sine

BLOCK_S = 0.01
WAIT_S = 20


class Rig:
    """A running writer, and what it hands on."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.metrics = Metrics()
        self.ended: queue.Queue[Recording] = queue.Queue()
        self.writer = Writer(self.ended.put, block_s=BLOCK_S, metrics=self.metrics, **options)
        self.writer.start()

    def recording(self, name: str, frequency: float, seconds: float = 1) -> tuple[Recording, FakeTap]:
        tap = FakeTap()
        tap.put(sine(frequency, seconds), at=0)
        return Recording(self.folder / f"{name}.wav", RATE, a=tap), tap

    def wait_ended(self, count: int = 1) -> list[Recording]:
        return [self.ended.get(timeout=WAIT_S) for _ in range(count)]

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"recorder_{name}", labels) or 0.0


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    assert rig.writer.stop(WAIT_S)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.002)


class WaitingTap(FakeTap):
    """Tells when it has been read `after` times, and can make the reader wait."""

    def __init__(self, after: int = 1) -> None:
        super().__init__()
        self.was_read = threading.Event()
        self.may_return = threading.Event()
        self.may_return.set()
        self._after = after

    def take_gaps(self, last: bool = False) -> list[tuple[Cause, int, int]]:
        self._after -= 1
        if self._after <= 0:
            self.was_read.set()
            assert self.may_return.wait(WAIT_S)
        return super().take_gaps(last)


def test_a_recording_is_written_while_it_is_live_and_handed_on_when_it_has_ended(rig: Rig) -> None:
    tap = WaitingTap()
    tap.put(sine(440, 1), at=0)
    recording = Recording(rig.folder / "x.wav", RATE, a=tap)
    rig.writer.begin(recording)
    assert tap.was_read.wait(WAIT_S)
    part = part_path(recording.path)
    until(lambda: part.exists() and part.stat().st_size > HEADER_BYTES)
    assert rig.writer.live == 1
    rig.writer.end(recording, RATE)
    assert rig.wait_ended() == [recording]
    assert not recording.path.exists()
    assert recording.commit().samples == RATE
    assert is_tone(read_wav(recording.path)[0], 440)


def test_each_recording_gets_its_own_sound(rig: Rig) -> None:
    recordings = [rig.recording(f"r{n}", 300 + 50 * n)[0] for n in range(40)]
    for recording in recordings:
        rig.writer.begin(recording)
    for recording in recordings:
        rig.writer.end(recording, RATE)
    assert {recording.path for recording in rig.wait_ended(40)} == {recording.path for recording in recordings}
    for n, recording in enumerate(recordings):
        recording.commit()
        samples = read_wav(recording.path)[0]
        assert len(samples) == RATE
        assert is_tone(samples, 300 + 50 * n)


def test_a_recording_is_handed_on_once_however_often_it_is_ended(rig: Rig) -> None:
    recording, _ = rig.recording("x", 440)
    other, _ = rig.recording("y", 440)
    rig.writer.begin(recording)
    rig.writer.begin(recording)
    for _ in range(3):
        rig.writer.end(recording, RATE)
    rig.writer.begin(other)
    rig.writer.end(other, RATE)
    assert set(rig.wait_ended(2)) == {recording, other}
    assert rig.ended.empty()


def test_a_fault_in_one_recording_leaves_the_others_alone(rig: Rig) -> None:
    third_round = WaitingTap(after=3)
    third_round.put(sine(440, 1), at=0)
    good = Recording(rig.folder / "good.wav", RATE, a=third_round)
    bad, tap = rig.recording("bad", 1000)
    tap.fault = RuntimeError("the tap broke")
    for recording in (bad, good):
        rig.writer.begin(recording)
    assert third_round.was_read.wait(WAIT_S)
    for recording in (bad, good):
        rig.writer.end(recording, RATE)
    assert set(rig.wait_ended(2)) == {bad, good}
    assert bad.failure is tap.fault
    assert bad.commit().samples == good.commit().samples == RATE
    assert is_silent(read_wav(bad.path)[0])
    assert is_tone(read_wav(good.path)[0], 440)
    assert rig.metric("storage_errors_total", operation="recording") == 1


def test_a_source_that_breaks_altogether_leaves_the_others_alone(rig: Rig) -> None:
    class BrokenTap(FakeTap):
        @property
        def position(self) -> int:
            raise RuntimeError("gone")

    bad = Recording(rig.folder / "bad.wav", RATE, a=BrokenTap(), origin=0)
    third_round = WaitingTap(after=3)
    third_round.put(sine(440, 1), at=0)
    good = Recording(rig.folder / "good.wav", RATE, a=third_round)
    for recording in (bad, good):
        rig.writer.begin(recording)
    assert third_round.was_read.wait(WAIT_S)
    for recording in (bad, good):
        rig.writer.end(recording, RATE)
    assert set(rig.wait_ended(2)) == {bad, good}
    assert rig.metric("storage_errors_total", operation="recording") == 1, "it is left alone from its first fault on"
    assert bad.commit().samples == RATE
    good.commit()
    assert is_tone(read_wav(good.path)[0], 440)


def test_who_takes_an_ended_recording_and_fails_leaves_the_writer_alone(tmp_path: Path) -> None:
    taken: queue.Queue[Path] = queue.Queue()

    def take(recording: Recording) -> None:
        taken.put(recording.path)
        raise RuntimeError("no")

    writer = Writer(take, block_s=BLOCK_S)
    writer.start()
    for name in ("x", "y"):
        recording = Recording(tmp_path / f"{name}.wav", RATE)
        writer.begin(recording)
        writer.end(recording)
        assert taken.get(timeout=WAIT_S) == recording.path
    assert writer.stop(WAIT_S)


def test_stop_ends_what_is_live_where_it_has_come_to(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    recordings = [rig.recording(f"r{n}", 500)[0] for n in range(5)]
    for recording in recordings:
        rig.writer.begin(recording)
    assert rig.writer.stop(WAIT_S)
    assert set(rig.wait_ended(5)) == set(recordings)
    for recording in recordings:
        assert recording.commit().samples == RATE
    assert rig.writer.live == 0


def test_a_stopped_writer_refuses_what_is_new(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    assert rig.writer.stop(WAIT_S)
    recording, _ = rig.recording("x", 440)
    with pytest.raises(StorageError, match="the writer has stopped"):
        rig.writer.begin(recording)
    rig.writer.end(recording)
    assert rig.ended.empty()


class StalledDisk:
    """Holds up every write until it is told to let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.may_go_on = threading.Event(), threading.Event()
        write = PartFile.write

        def stalled(file: PartFile, samples: Samples) -> None:
            self.reached.set()
            assert self.may_go_on.wait(WAIT_S)
            write(file, samples)

        monkeypatch.setattr(PartFile, "write", stalled)


def test_a_stalled_disk_holds_up_neither_callers_nor_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = StalledDisk(monkeypatch)
    rig = Rig(tmp_path)
    taps = FakeTap(), FakeTap()
    first, second = (
        Recording(tmp_path / f"{name}.wav", RATE, a=tap, origin=0) for name, tap in zip("xy", taps, strict=True)
    )
    rig.writer.begin(first)
    taps[0].put(sine(440, 1), at=0)
    assert disk.reached.wait(WAIT_S)
    rig.writer.begin(second)  # it begins while the disk is away
    for round_ in range(1, 31):
        for tap in taps:
            tap.put(sine(440, 1, start=round_ * RATE), at=round_ * RATE)
    until(lambda: min(first.samples, second.samples) >= 30 * RATE)
    assert rig.metric("disk_queue_bytes") > 50 * RATE
    assert rig.metric("disk_lag_seconds") > 0
    assert rig.writer.lag_s < 1
    rig.writer.end(first, 31 * RATE)
    until(lambda: rig.writer.live == 1)
    assert rig.ended.empty(), "an ended call waits for the disk"
    disk.may_go_on.set()
    assert rig.wait_ended() == [first]
    rig.writer.end(second, 31 * RATE)
    assert rig.wait_ended() == [second]
    for recording in (first, second):
        recording.commit()
        assert is_tone(read_wav(recording.path)[0][RATE:], 440)
        assert recording.gaps == ()
    assert rig.metric("disk_queue_bytes") == 0
    assert rig.writer.stop(WAIT_S)


def test_what_a_stall_keeps_from_fitting_in_memory_is_counted_and_is_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = StalledDisk(monkeypatch)
    rig = Rig(tmp_path, memory_bytes=10 * RATE)
    tap = FakeTap()
    recording = Recording(tmp_path / "x.wav", RATE, a=tap, origin=0)
    rig.writer.begin(recording)
    tap.put(sine(440, 1), at=0)
    assert disk.reached.wait(WAIT_S)
    for round_ in range(1, 20):
        tap.put(sine(440, 1, start=round_ * RATE), at=round_ * RATE)
        until(lambda end=(round_ + 1) * RATE: recording.samples >= end - 2 * RATE)
    until(lambda: rig.metric("lost_samples_total") > 0)
    disk.may_go_on.set()
    rig.writer.end(recording, 20 * RATE)
    rig.wait_ended()
    recording.commit()
    samples = read_wav(recording.path)[0]
    assert len(samples) == 20 * RATE
    lost = sum(gap.length for gap in recording.gaps)
    assert {gap.cause for gap in recording.gaps} == {"storage"}
    assert lost == rig.metric("lost_samples_total") > 10 * RATE
    for gap in recording.gaps:
        assert not samples[gap.start : gap.start + gap.length].any()
        samples[gap.start : gap.start + gap.length] = sine(440, gap.length / RATE, start=gap.start)
    assert np.array_equal(samples, sine(440, 20))
    assert rig.writer.stop(WAIT_S)


def test_stop_tells_of_what_a_stalled_disk_has_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = StalledDisk(monkeypatch)
    rig = Rig(tmp_path)
    recording, _ = rig.recording("x", 440)
    rig.writer.begin(recording)
    assert disk.reached.wait(WAIT_S)
    assert not rig.writer.stop(0.01)
    assert rig.ended.empty()
    disk.may_go_on.set()
    until(lambda: not rig.writer.disk._thread.is_alive())


class Shock(BaseException):
    """What no `except Exception` holds up."""


def test_the_writer_and_the_disk_thread_survive_any_fault_and_the_redaction_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path)
    tap = FakeTap()
    recording = Recording(tmp_path / "x.wav", RATE, a=tap, origin=0, guard_before_samples=800)
    rig.writer.begin(recording)
    tap.put(sine(440, 1), at=0)
    until(lambda: recording.samples > 0)
    recording.redactions.begin(RATE, "card", "application")
    tap.put(sine(440, 1, start=RATE), at=RATE)
    for owner, name, where in ((Recording, "pump", "writer"), (PartFile, "write", "disk")):
        thread = rig.writer._thread if where == "writer" else rig.writer.disk._thread
        shocks = []

        def shocked(*_: object, shocks: list[int] = shocks) -> int:
            shocks.append(1)
            raise Shock

        with monkeypatch.context() as patched:
            patched.setattr(owner, name, shocked)
            tap.put(sine(440, 1, start=tap.position), at=tap.position)
            until(lambda shocks=shocks: len(shocks) >= 2)
        assert thread.is_alive()
    tap.put(sine(440, 1, start=4 * RATE), at=4 * RATE)
    recording.redactions.end(5 * RATE, "card")
    tap.put(sine(440, 1, start=5 * RATE), at=5 * RATE)
    rig.writer.end(recording, 6 * RATE)
    rig.wait_ended()
    recording.commit()
    samples = read_wav(recording.path)[0]
    expected = sine(440, 6)
    expected[RATE - 800 : 5 * RATE] = 0
    assert np.array_equal(samples, expected)
    assert rig.metric("storage_errors_total", operation="writer") >= 2
    assert rig.writer.stop(WAIT_S)


def test_losses_and_rounds_are_counted(rig: Rig) -> None:
    recording, tap = rig.recording("x", 440)
    tap.lose(500)
    part_path(recording.path).write_bytes(b"")
    rig.writer.begin(recording)
    rig.writer.end(recording, RATE + 500)
    rig.wait_ended()
    part_path(recording.path).unlink()
    assert rig.metric("dropped_samples_total") == 500
    assert rig.metric("storage_errors_total", operation="write") == recording.storage_errors > 0
    assert rig.metric("recordings_live") == 0


def test_the_time_of_every_block_is_measured(rig: Rig) -> None:
    tap = WaitingTap(after=3)
    recording = Recording(rig.folder / "x.wav", RATE, a=tap, origin=0)
    rig.writer.begin(recording)
    assert tap.was_read.wait(WAIT_S)
    rig.writer.end(recording)
    rig.wait_ended()
    assert rig.metric("write_seconds_count") >= 2
    assert rig.metric("recordings_live") == 0


def test_legs_fed_by_other_threads_come_out_whole_and_aligned(rig: Rig) -> None:
    """The media threads put 20 ms frames at full speed while the writer reads: no sample is lost, none is displaced."""
    a, b = FakeTap(), FakeTap()
    seconds = 20
    tones = sine(440, seconds, amplitude=3000), sine(1000, seconds, amplitude=3000)
    recording = Recording(rig.folder / "x.wav", RATE, a=a, b=b, origin=0, tolerance_samples=seconds * RATE)
    rig.writer.begin(recording)

    def feed(tap: FakeTap, tone: np.ndarray) -> None:
        for start in range(0, len(tone), 160):
            tap.put(tone[start : start + 160], at=start)

    feeders = [threading.Thread(target=feed, args=pair) for pair in zip((a, b), tones, strict=True)]
    for feeder in feeders:
        feeder.start()
    for feeder in feeders:
        feeder.join()
    rig.writer.end(recording, seconds * RATE)
    rig.wait_ended()
    recording.commit()
    samples = read_wav(recording.path)[0]
    assert np.array_equal(samples, tones[0] + tones[1])
    assert has_tone(samples, 440)
    assert has_tone(samples, 1000)
