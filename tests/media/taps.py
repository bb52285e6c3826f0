"""Sample sources for tests: one that is fed by hand, one that runs with the machine's clock."""

from __future__ import annotations

import threading
import time

import numpy as np

from recorder.media.source import Cause, Samples


class FakeTap:
    """A source that is fed by hand, from any thread. As from the native tap, what is lost or skipped reads as zeros."""

    def __init__(self, origin: int | None = None) -> None:
        self._lock = threading.Lock()
        self._origin = origin
        self._read_to = origin or 0
        self._samples = np.zeros(0, np.int16)
        self._gaps: list[tuple[Cause, int, int]] = []
        self.dropped_samples = 0
        self.reads = 0
        self.fault: Exception | None = None
        self.events: list[tuple[int, int]] = []

    @property
    def origin(self) -> int | None:
        return self._origin

    @property
    def position(self) -> int:
        with self._lock:
            return self._read_to + len(self._samples)

    def put(self, samples: Samples, at: int | None = None) -> None:
        """Commit samples, at a later position than the last or right behind it."""
        with self._lock:
            end = self._read_to + len(self._samples)
            if self._origin is None:
                self._origin = self._read_to = end = 0 if at is None else at
            jump = 0 if at is None else at - end
            assert jump >= 0, "a tap's clock does not go back"
            self._samples = np.concatenate((self._samples, np.zeros(jump, np.int16), samples))

    def lose(self, count: int) -> None:
        """As when the ring is full: `count` samples become zeros and a gap."""
        start = self.position
        self.put(np.zeros(count, np.int16))
        with self._lock:
            self._gaps.append(("ring_full", start, count))
            self.dropped_samples += count

    def read(self, max_samples: int = 1 << 30) -> tuple[int, Samples]:
        self.reads += 1
        if self.fault is not None:
            raise self.fault
        with self._lock:
            start = self._read_to
            samples = self._samples[:max_samples].copy()
            self._samples = self._samples[max_samples:]
            self._read_to += len(samples)
            return start, samples

    def take_events(self) -> list[tuple[int, int]]:
        events, self.events = self.events, []
        return events

    def take_gaps(self, last: bool = False) -> list[tuple[Cause, int, int]]:  # noqa: ARG002 - as sources have it
        with self._lock:
            gaps, self._gaps = self._gaps, []
            return gaps


class ClockTap:
    """A source that plays one second of sound over and over, as fast as time passes."""

    dropped_samples = 0

    def __init__(self, second: Samples, started: float) -> None:
        self._second = np.concatenate((second, second))
        self._rate = len(second)
        self._started = started
        self._read_to = 0
        self.origin = 0

    @property
    def position(self) -> int:
        frame = self._rate // 50
        return int((time.monotonic() - self._started) * self._rate) // frame * frame

    def read(self, max_samples: int = 1 << 30) -> tuple[int, Samples]:
        start = self._read_to
        count = min(max_samples, self.position - start, self._rate)
        offset = start % self._rate
        self._read_to += count
        return start, self._second[offset : offset + count].copy()

    def take_events(self) -> list[tuple[int, int]]:
        return []

    def take_gaps(self, last: bool = False) -> list[tuple[Cause, int, int]]:  # noqa: ARG002 - as sources have it
        return []
