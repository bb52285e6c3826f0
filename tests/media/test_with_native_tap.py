"""The native tap is a source: real rings, packets put by threads of their own as the media thread does."""

from __future__ import annotations

import struct
import threading
from pathlib import Path

import numpy as np
import pytest

from recorder.media.gaps import Gap
from recorder.media.recording import Recording
from tests.peers.codecs import PCMU
from tests.tones import RATE, Samples, read_wav, sine

native = pytest.importorskip("recorder.native", reason="the extension module is not built: run scripts/bootstrap")

FRAME = 160
START = 12_345 * FRAME
HOLD = RATE // 5


def new_tap(name: str = "a", seconds: float = 8) -> native.RtpTap:
    return native.RtpTap(name, RATE, round(seconds * RATE), HOLD, START)


def feed(tap: native.RtpTap, samples: Samples, at: int = 0) -> None:
    """Each packet comes in just when it is sent."""
    for number, payload in enumerate(PCMU.encode(samples), at // FRAME):
        tap._set_now(START + number * FRAME)
        tap._put(struct.pack("!BBHII", 0x80, 0, number, number * FRAME, 7) + payload)
    tap._set_now(START + at + len(samples) + HOLD)


def as_heard(samples: Samples) -> Samples:
    """What G.711 makes of it."""
    return PCMU.decode(PCMU.encode(samples))


def test_what_two_native_taps_hear_is_in_the_file_sample_by_sample(tmp_path: Path) -> None:
    seconds = 6
    tones = sine(440, seconds, amplitude=3000), sine(1000, seconds, amplitude=3000)
    taps = [new_tap(name) for name in "ab"]
    recording = Recording(
        tmp_path / "x.wav",
        RATE,
        a=taps[0],
        b=taps[1],
        origin=START,
        guard_before_samples=2400,
        tolerance_samples=seconds * RATE,
    )
    feeders = [threading.Thread(target=feed, args=(tap, tone)) for tap, tone in zip(taps, tones, strict=True)]
    for feeder in feeders:
        feeder.start()
    while any(feeder.is_alive() for feeder in feeders):
        recording.pump()
    recording.finish(START + seconds * RATE)
    recording.commit()
    assert np.array_equal(read_wav(recording.path)[0], as_heard(tones[0]) + as_heard(tones[1]))
    assert recording.late_samples == recording.dropped_samples == 0


def test_the_gate_and_the_redaction_agree_on_what_is_silent(tmp_path: Path) -> None:
    tap = new_tap()
    recording = Recording(tmp_path / "x.wav", RATE, a=tap, origin=START, guard_before_samples=2400)
    tone = sine(440, 1)
    feed(tap, tone)
    tap._set_now(START + RATE)
    recording.pump()
    recording.redactions.begin(tap.close_gate(), "card", "application")
    feed(tap, tone, RATE)
    tap._set_now(START + 2 * RATE)
    recording.pump()
    recording.redactions.end(tap.open_gate(), "card")
    feed(tap, tone, 2 * RATE)
    recording.finish(START + 3 * RATE)
    recording.commit()
    samples = read_wav(recording.path)[0]
    first, last = RATE - 2400, 2 * RATE
    assert not samples[first:last].any()
    assert np.array_equal(samples[:first], as_heard(tone)[:first])
    assert np.array_equal(samples[last:], as_heard(tone))
    assert [(span.start, span.end) for span in recording.spans()] == [(first, last)]
    assert recording.escaped_samples == 0


def test_what_a_native_ring_lost_is_a_gap_in_the_file(tmp_path: Path) -> None:
    tap = new_tap(seconds=1)
    recording = Recording(tmp_path / "x.wav", RATE, a=tap, origin=START)
    feed(tap, np.full(2 * RATE, 1000, np.int16))
    recording.finish(START + 2 * RATE)
    recording.commit()
    assert Gap("ring_full", "a", RATE, RATE) in recording.gaps
    assert recording.dropped_samples == RATE
    samples = read_wav(recording.path)[0]
    assert (samples[:RATE] > 900).all()
    assert not samples[RATE:].any()
    assert len(samples) == 2 * RATE
