"""A recorded call of two tones, without a telephone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from recorder.media.recording import Recording
from recorder.media.redaction import Mode
from recorder.media.source import Samples
from tests.media.taps import FakeTap
from tests.tones import RATE, read_wav, sine

GUARD = 2400
TOLERANCE = 800
CALLER = 440
ANSWERER = 1000


class Call:
    """A recorded call of two tones, one a leg, on a clock that starts at `origin`."""

    def __init__(
        self,
        path: Path,
        origin: int = 100_000,
        recording_origin: int | None = None,
        mode: Mode = "mute",
        journal: Callable[[Recording, bool], str | None] | None = None,
    ) -> None:
        self.a, self.b = FakeTap(), FakeTap()
        self.clock = self.origin = origin
        self.recording = Recording(
            path,
            RATE,
            a=self.a,
            b=self.b,
            origin=recording_origin,
            guard_before_samples=GUARD,
            tolerance_samples=TOLERANCE,
            redaction_mode=mode,
            journal=journal,
        )

    def talk(self, seconds: float, a: bool = True, b: bool = True) -> None:
        for tap, frequency, speaks in ((self.a, CALLER, a), (self.b, ANSWERER, b)):
            tone = sine(frequency, seconds, start=self.clock)
            tap.put(tone if speaks else np.zeros_like(tone), at=self.clock)
        self.clock += round(seconds * RATE)

    def talk_and_pump(self, seconds: float, block_s: float = 0.2) -> None:
        for _ in range(round(seconds / block_s)):
            self.talk(block_s)
            self.pump()

    def pump(self) -> None:
        """What the writer and the disk thread do in turn, on the call's own clock."""
        self.recording.pump()
        self.recording.spool.flush(self.clock / RATE)

    def end(self) -> Samples:
        self.recording.finish(self.clock)
        self.recording.commit()
        return read_wav(self.recording.path)[0]
