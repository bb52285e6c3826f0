"""The native tap is a source: real rings, fed from threads of their own as the bridge does."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from recorder.media.gaps import Gap
from recorder.media.recording import Recording
from recorder.media.source import SampleSource
from tests.tones import RATE, read_wav, sine

native = pytest.importorskip("recorder.native", reason="the extension module is not built: run scripts/bootstrap")

FRAME = 160
START = 12_345 * FRAME


def feed(tap: native.Tap, samples: np.ndarray, at: int) -> None:
    for start in range(0, len(samples), FRAME):
        tap._put(at + start, samples[start : start + FRAME])


def test_what_two_native_taps_hear_is_in_the_file_sample_by_sample(tmp_path: Path) -> None:
    seconds = 6
    tones = sine(440, seconds, amplitude=3000), sine(1000, seconds, amplitude=3000)
    taps = [native.Tap(name, RATE, FRAME, 8 * RATE) for name in "ab"]
    sources: list[SampleSource] = list(taps)
    recording = Recording(
        tmp_path / "x.wav",
        RATE,
        a=sources[0],
        b=sources[1],
        guard_before_samples=2400,
        tolerance_samples=seconds * RATE,
    )
    feeders = [threading.Thread(target=feed, args=(tap, tone, START)) for tap, tone in zip(taps, tones, strict=True)]
    for feeder in feeders:
        feeder.start()
    while any(feeder.is_alive() for feeder in feeders):
        recording.pump()
    recording.finish(START + seconds * RATE)
    recording.commit()
    assert recording.origin == START
    assert np.array_equal(read_wav(recording.path)[0], tones[0] + tones[1])
    assert recording.late_samples == recording.dropped_samples == 0


def test_the_gate_and_the_redaction_agree_on_what_is_silent(tmp_path: Path) -> None:
    tap = native.Tap("a", RATE, FRAME, 8 * RATE)
    recording = Recording(tmp_path / "x.wav", RATE, a=tap, guard_before_samples=2400)
    tone = sine(440, 1)
    feed(tap, tone, START)
    recording.pump()
    recording.redactions.begin(tap.close_gate(), "card", "application")
    feed(tap, tone, START + RATE)
    recording.pump()
    recording.redactions.end(tap.open_gate(), "card")
    feed(tap, tone, START + 2 * RATE)
    recording.finish()
    recording.commit()
    samples = read_wav(recording.path)[0]
    first, last = RATE - 2400, 2 * RATE
    assert not samples[first:last].any()
    assert np.array_equal(samples[:first], tone[:first])
    assert np.array_equal(samples[last:], tone)
    assert [(span.start, span.end) for span in recording.spans()] == [(first, last)]
    assert recording.escaped_samples == 0


def test_what_a_native_ring_lost_is_a_gap_in_the_file(tmp_path: Path) -> None:
    tap = native.Tap("a", RATE, FRAME, RATE)
    recording = Recording(tmp_path / "x.wav", RATE, a=tap)
    feed(tap, np.full(2 * RATE, 1000, np.int16), START)
    recording.finish()
    recording.commit()
    assert recording.gaps == (Gap("ring_full", "a", RATE, RATE),)
    assert recording.dropped_samples == RATE
    samples = read_wav(recording.path)[0]
    assert (samples[:RATE] == 1000).all()
    assert not samples[RATE:].any()
    assert len(samples) == 2 * RATE
