"""The ring of a Tap, fed without a bridge: against a simple model, and with the gate raced by a producer."""

from __future__ import annotations

import threading
import time
from collections import deque

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from recorder.native import Tap

FRAME = 8
CAPACITY_FRAMES = 5


def make_tap(frame: int = FRAME, frames: int = CAPACITY_FRAMES) -> Tap:
    return Tap("test", 8000, frame, frame * frames)


def tone(count: int, value: int = 1) -> np.ndarray:
    return np.full(count, value, np.int16)


class RingAgainstModel(RuleBasedStateMachine):
    """The model keeps the whole timeline as a list; what the tap returns must be that list, piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.tap = make_tap()
        self.clock = 1000  # what the bridge would stamp the next frame with
        self.offset = 0
        self.origin: int | None = None
        self.timeline: list[int] = []
        self.read_so_far = 0
        self.stored: deque[int] = deque()  # where each slot in the ring ends
        self.dropped: list[int] = []
        self.gaps_seen: list[int] = []
        self.open_from: int | None = 0  # None: shut
        self.shut_from = 0
        self.promised = 0
        self.value = 0

    @property
    def end(self) -> int:
        return 0 if self.origin is None else self.origin + len(self.timeline)

    def _start(self, timestamp: int) -> None:
        if self.origin is None:
            self.origin = timestamp
        if timestamp + self.offset < self.end:
            self.offset = self.end - timestamp
        self.timeline += [0] * (timestamp + self.offset - self.end)

    def _chunk(self, samples: list[int]) -> None:
        start, end = self.end, self.end + len(samples)
        passes_from = end if self.open_from is None else max(start, min(self.open_from, end))
        sound = samples[passes_from - start :]
        if sound and len(self.stored) == CAPACITY_FRAMES:
            self.dropped += range(passes_from, end)
            sound = [0] * len(sound)
        elif sound:
            self.stored.append(end)
        self.timeline += [0] * (passes_from - start) + sound

    @rule(jump=st.sampled_from([0, 0, 0, 0, 1, FRAME, 3 * FRAME + 5]), count=st.sampled_from([FRAME] * 4 + [1, 3, 21]))
    def put_sound(self, jump: int, count: int) -> None:
        self.clock += jump
        samples = []
        for _ in range(count):
            self.value = self.value % 32000 + 1
            samples.append(self.value)
        self.tap._put(self.clock, np.array(samples, np.int16))
        self._start(self.clock)
        for i in range(0, count, FRAME):
            self._chunk(samples[i : i + FRAME])
        self.clock += count

    @rule(jump=st.sampled_from([0, 0, 5]), empty=st.booleans())
    def put_silence(self, jump: int, empty: bool) -> None:
        self.clock += jump
        self.tap._put(self.clock, np.array([], np.int16) if empty else None)
        self._start(self.clock)
        self.timeline += [0] * FRAME
        self.clock += FRAME

    @rule(clock=st.integers(0, 50))
    def bridge_clock_starts_again(self, clock: int) -> None:
        self.clock = clock

    @rule(count=st.one_of(st.integers(0, 40), st.just(65536)))
    def read(self, count: int) -> None:
        position, samples = self.tap.read(count)
        assert position == (self.origin or 0) + self.read_so_far
        expected = self.timeline[self.read_so_far : self.read_so_far + count]
        assert samples.tolist() == expected
        self.read_so_far += len(expected)
        while self.stored and self.stored[0] <= position + len(expected):
            self.stored.popleft()

    @rule()
    def close_gate(self) -> None:
        if self.open_from is not None and self.end > self.open_from:
            self.shut_from = self.end
        self.open_from = None
        assert self.tap.close_gate() == self.shut_from

    @rule(after=st.integers(0, 5 * FRAME))
    def open_gate(self, after: int) -> None:
        if self.open_from is None:
            self.promised = max(self.promised, self.end + -(-after // FRAME) * FRAME)
            self.open_from = self.promised
        assert self.tap.open_gate(after) == self.open_from

    @rule()
    def take_gaps(self) -> None:
        for _, start, length in self.tap.take_gaps():
            self.gaps_seen += range(start, start + length)
        assert self.gaps_seen == self.dropped

    @invariant()
    def tells_the_same_of_itself(self) -> None:
        assert self.tap.origin == self.origin
        assert self.tap.position == self.end
        assert self.tap.dropped_samples == len(self.dropped)
        assert self.tap.gated == (self.open_from is None or self.open_from > self.end)


RingAgainstModel.TestCase.settings = settings(max_examples=400, stateful_step_count=60, deadline=None)
test_ring_behaves_as_the_model = RingAgainstModel.TestCase


def test_a_jump_of_years_costs_no_memory_and_is_read_as_zeros_bit_by_bit() -> None:
    tap = make_tap()
    tap._put(0, tone(FRAME))
    tap._put(1 << 50, tone(FRAME))
    assert tap.position == (1 << 50) + FRAME
    position, samples = tap.read(65536)
    assert (position, len(samples), samples[:FRAME].all(), samples[FRAME:].any()) == (0, 65536, True, False)
    assert tap.dropped_samples == 0


def test_samples_outlive_the_tap_and_are_not_shared_with_the_ring() -> None:
    tap = make_tap()
    tap._put(0, tone(FRAME, 5))
    _, samples = tap.read()
    for i in range(1, 2 * CAPACITY_FRAMES):
        tap._put(i * FRAME, tone(FRAME, 9))
    del tap
    assert samples.tolist() == [5] * FRAME
    samples += 1


def test_one_overflow_is_one_gap_even_when_it_is_taken_while_it_grows() -> None:
    tap = make_tap()
    for i in range(CAPACITY_FRAMES + 2):
        tap._put(i * FRAME, tone(FRAME))
    assert tap.take_gaps() == [("ring_full", CAPACITY_FRAMES * FRAME, 2 * FRAME)]
    tap._put((CAPACITY_FRAMES + 2) * FRAME, tone(FRAME))
    assert tap.take_gaps() == [("ring_full", (CAPACITY_FRAMES + 2) * FRAME, FRAME)]
    assert tap.take_gaps() == []


def test_gaps_are_bounded_and_the_count_of_dropped_samples_is_not() -> None:
    tap = make_tap(frame=1, frames=1)
    for i in range(1000):
        tap._put(2 * i, tone(1))  # each drop stands alone
    assert tap.dropped_samples == 999
    assert len(tap.take_gaps()) == 256


def test_a_gate_shut_before_the_first_frame_lets_nothing_through() -> None:
    tap = make_tap()
    assert tap.close_gate() == 0
    tap._put(480, tone(FRAME))
    assert not tap.read()[1].any()


def test_a_gate_closed_again_while_it_waits_to_open_stays_shut_from_the_first_time() -> None:
    tap = make_tap()
    tap._put(0, tone(FRAME))
    shut_from = tap.close_gate()
    tap.open_gate(3 * FRAME)
    tap._put(FRAME, tone(FRAME))
    assert tap.close_gate() == shut_from
    for i in range(2, 10):
        tap._put(i * FRAME, tone(FRAME))
    assert tap.read()[1].tolist() == [1] * FRAME + [0] * 9 * FRAME


def test_a_promised_silence_is_kept_when_the_gate_is_shut_and_opened_again_before_its_end() -> None:
    tap = make_tap()
    tap._put(0, tone(FRAME))
    tap.close_gate()
    opens = tap.open_gate(4 * FRAME)
    tap.close_gate()
    assert tap.open_gate() == opens
    for i in range(1, 7):
        tap._put(i * FRAME, tone(FRAME))
    assert np.flatnonzero(tap.read()[1]).tolist() == [*range(FRAME), *range(opens, 7 * FRAME)]


@pytest.mark.parametrize(
    ("clock_rate", "frame", "capacity"),
    [(0, 160, 1600), (8000, 0, 1600), (8000, 8001, 16000), (8000, 160, 159), (8000, 160, 1 << 60)],
)
def test_impossible_sizes_are_refused(clock_rate: int, frame: int, capacity: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        Tap("test", clock_rate, frame, capacity)


def test_no_sound_passes_a_gate_that_is_shut_while_frames_rush_in() -> None:
    """From Python, with a producer that needs no GIL; ring_race.cpp does the same at full speed."""
    frame, run = 160, 500
    tap = Tap("race", 8000, frame, frame * run * 4)
    stop = threading.Event()
    heard = np.zeros(0, np.int16)

    def produce() -> None:
        position = 0
        while not stop.is_set():
            if position - len(heard) < frame * run * 3:  # never so far ahead that something is dropped
                tap._put_run(position, run, 7)
                position += frame * run

    def drain() -> None:
        nonlocal heard
        position, samples = tap.read(1 << 20)
        assert position == len(heard)
        heard = np.concatenate([heard, samples])

    producer = threading.Thread(target=produce)
    producer.start()
    spans: list[tuple[int, int]] = []
    deadline = time.monotonic() + 60
    try:
        while len(spans) < 100 and time.monotonic() < deadline:
            shut_from = tap.close_gate()
            assert tap.close_gate() == shut_from
            spans.append((shut_from, tap.open_gate(frame * (len(spans) % 5))))
            while tap.gated and time.monotonic() < deadline:
                drain()  # until sound flows again
            drain()
    finally:
        stop.set()
        producer.join()
    drain()
    assert len(spans) == 100
    assert tap.dropped_samples == 0
    assert np.count_nonzero(heard) > 0
    silent = [heard[start:end] for start, end in spans]
    assert [len(part) for part in silent] == [end - start for start, end in spans]
    assert sum(len(part) for part in silent) > 0
    assert not any(part.any() for part in silent)
