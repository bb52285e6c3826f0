"""The legs of a long call do not drift apart, however wrong the clocks of their phones are.

Both phones say the same chirp at the same moments, each by its own clock; where it stands in either channel of the
recording is found by cross-correlation. The call runs faster than real time, through the native taps, the timeline, the
mixer and the file.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest

from recorder.file_format import FileFormat
from recorder.media.recording import Recording
from recorder.native import RtpTap
from tests.evidence.size import FULL, figures
from tests.peers.rtp import encoded
from tests.tones import RATE, Samples, read_wav

START = 50_000_000
HOLD = RATE // 5
PACKET = 160
CALL_S = 7200 if FULL else 180
EVERY_S = 15
LIMIT = 20 * RATE // 1000

_TIME = np.arange(RATE // 5) / RATE
CHIRP = np.rint(6000 * np.sin(2 * np.pi * (300 * _TIME + 5000 * _TIME**2))).astype(np.int16)
"""200 ms from 300 Hz to 2300 Hz: its correlation with itself has one sharp peak."""


def packets(side: str, ppm: float, jitter: Random, *, pauses: bool) -> Iterator[tuple[int, str, bytes]]:
    """What one phone sends in the call, and when each packet arrives: jitter of 40 ms, a thousandth lost.

    Between chirps it hums without end, or speaks and pauses: then the clock can be followed in the pauses.
    """
    codes = encoded(CHIRP)
    chirp = [codes[start : start + PACKET] for start in range(0, len(codes), PACKET)]
    hum = encoded(np.rint(1500 * np.sin(2 * np.pi * 50 * np.arange(PACKET) / RATE)).astype(np.int16))
    quiet = b"\xff" * PACKET
    left: list[bytes] = []
    chirps = 1
    timestamp = jitter.randrange(2**32)
    for number in range(int(CALL_S * RATE * (1 + ppm * 1e-6)) // PACKET):
        said = number * PACKET / (1 + ppm * 1e-6)
        if said >= chirps * EVERY_S * RATE:
            left, chirps = list(chirp), chirps + 1
        speaks = not pauses or number % 100 < 70
        payload = left.pop(0) if left else (hum if speaks else quiet)
        late = round(jitter.random() * 320) if number else 0
        if jitter.random() > 0.001 or payload in chirp:
            header = struct.pack("!BBHII", 0x80, 0, number % 2**16, (timestamp + number * PACKET) % 2**32, 7)
            yield round(said) + late, side, header + payload


def said_at(ppm: float) -> list[int]:
    """When a phone of this clock begins each chirp: at the first packet that is due."""
    rate = 1 + ppm * 1e-6
    numbers = [int(np.ceil(k * EVERY_S * RATE * rate / PACKET)) for k in range(1, (CALL_S - 1) // EVERY_S + 1)]
    return [round(number * PACKET / rate) for number in numbers]


def found(samples: Samples, near: int) -> int:
    """Where the chirp begins, looked for 100 ms around a place."""
    reach = RATE // 10
    window = samples[near - reach : near + len(CHIRP) + reach].astype(np.float64)
    return near - reach + int(np.argmax(np.correlate(window, CHIRP.astype(np.float64), "valid")))


@pytest.mark.parametrize(("ppm_a", "ppm_b"), [(100, -100), (-100, 0), (20, -35)])
def test_legs_do_not_drift_apart(tmp_path: Path, ppm_a: int, ppm_b: int) -> None:
    taps = {side: RtpTap(side, RATE, 8 * RATE, HOLD, START) for side in "ab"}
    recording = Recording(
        tmp_path / "long.wav",
        RATE,
        a=taps["a"],
        b=taps["b"],
        origin=START,
        guard_before_samples=2400,
        tolerance_samples=160,
        file_format=FileFormat(channels=2),
    )
    arriving = heapq.merge(
        packets("a", ppm_a, Random(1), pauses=False),
        packets("b", ppm_b, Random(2), pauses=True),
        key=lambda one: one[0],
    )
    due = RATE // 5
    for arrival, side, data in arriving:
        while due <= arrival:
            for tap in taps.values():
                tap._set_now(START + due)
            recording.pump()
            recording.spool.flush(due / RATE)
            due += RATE // 5
        taps[side]._set_now(START + arrival)
        taps[side]._put(data)
    for tap in taps.values():
        tap._set_now(START + CALL_S * RATE)
        tap.detach()
    recording.finish(START + CALL_S * RATE)
    written = recording.commit()
    assert written.samples == CALL_S * RATE

    samples, _ = read_wav(recording.path)
    moments = {side: said_at(ppm) for side, ppm in (("a", ppm_a), ("b", ppm_b))}
    errors = {
        side: np.array([found(samples[:, channel], at) - at for at in moments[side]])
        for channel, side in enumerate("ab")
    }
    apart = errors["a"] - errors["b"]
    furthest = max(np.abs(of_leg).max() for of_leg in errors.values())
    figures.info(
        "%d s, %+d and %+d ppm: apart %.1f ms at the end, %.1f ms at most; off when it was said by %.1f ms at most",
        *(CALL_S, ppm_a, ppm_b, apart[-1] / 8, np.abs(apart).max() / 8, furthest / 8),
    )
    assert abs(apart[-1]) <= LIMIT
    assert np.abs(apart).max() <= LIMIT
    lost = sum(gap.cause == "loss" for gap in recording.gaps)
    assert lost > 0
    assert {gap.cause for gap in recording.gaps} == {"loss"}
    # Where the clock was just moving, a hole may be a sample shorter than what is missing.
    lost_samples = sum(total.samples for total in recording.gap_totals.values())
    assert lost_samples == pytest.approx(PACKET * sum(tap.lost for tap in taps.values()), rel=0.001)
