from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.errors import StorageError
from recorder.media.part_file import part_path
from recorder.media.recording import Gap, Recording
from recorder.media.source import Samples
from recorder.media.wav_header import HEADER_BYTES
from tests.media.disk import no_file_beyond
from tests.media.taps import FakeTap
from tests.tones import RATE, has_tone, is_silent, is_tone, onset, read_wav, sine, tone_onset

GUARD = 2400
TOLERANCE = 800
CALLER = 440
ANSWERER = 1000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "group~account~1~A.wav"


class Call:
    """A recorded call of two tones, one a leg, on a clock that starts at `origin`."""

    def __init__(self, path: Path, origin: int = 100_000, recording_origin: int | None = None) -> None:
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
        )

    def talk(self, seconds: float, a: bool = True, b: bool = True) -> None:
        for tap, frequency, speaks in ((self.a, CALLER, a), (self.b, ANSWERER, b)):
            tone = sine(frequency, seconds, start=self.clock)
            tap.put(tone if speaks else np.zeros_like(tone), at=self.clock)
        self.clock += round(seconds * RATE)

    def talk_and_pump(self, seconds: float, block_s: float = 0.2) -> None:
        for _ in range(round(seconds / block_s)):
            self.talk(block_s)
            self.recording.pump()

    def end(self) -> Samples:
        self.recording.finish(self.clock)
        self.recording.commit()
        return read_wav(self.recording.path)[0]


def test_both_voices_are_in_the_file_from_first_to_last_sample(path: Path) -> None:
    call = Call(path)
    call.talk_and_pump(3)
    samples = call.end()
    assert len(samples) == 3 * RATE == call.recording.samples
    expected = sine(CALLER, 3, start=call.origin) + sine(ANSWERER, 3, start=call.origin)
    assert np.array_equal(samples, expected)
    assert (call.recording.gaps, call.recording.late_samples, call.recording.lost_samples) == ((), 0, 0)


def test_a_leg_that_answers_later_is_heard_from_there(path: Path) -> None:
    call = Call(path)
    call.talk(1.5, b=False)
    call.recording.pump()
    call.talk_and_pump(1)
    samples = call.end()
    assert is_tone(samples[:12000], CALLER)
    assert abs(tone_onset(samples, ANSWERER) - 12000) <= 4
    assert has_tone(samples[12000:], CALLER)


def test_the_guard_is_held_back(path: Path) -> None:
    call = Call(path)
    call.talk_and_pump(2)
    assert part_path(path).stat().st_size == HEADER_BYTES + 2 * (2 * RATE - GUARD - TOLERANCE)
    assert call.recording.samples == 2 * RATE - GUARD - TOLERANCE


def test_a_redacted_step_never_reaches_the_disk_not_even_its_guard(path: Path) -> None:
    call = Call(path)
    call.talk_and_pump(2)
    call.recording.redactions.begin(call.clock, "card", "application")
    call.talk_and_pump(1)
    call.recording.redactions.end(call.clock, "card")
    call.talk_and_pump(1)
    first, last = 2 * RATE - GUARD, 3 * RATE
    on_disk = np.frombuffer(part_path(path).read_bytes()[HEADER_BYTES:], np.int16)
    samples = call.end()
    assert np.array_equal(on_disk, samples[: len(on_disk)])
    assert call.recording.escaped_samples == 0
    assert not samples[first:last].any()
    expected = sine(CALLER, 4, start=call.origin) + sine(ANSWERER, 4, start=call.origin)
    assert np.array_equal(samples[:first], expected[:first])
    assert np.array_equal(samples[last:], expected[last:])
    (span,) = call.recording.spans()
    assert (span.start, span.end, span.steps, span.unresumed) == (first, last, ("card",), False)


def test_a_step_that_nobody_ends_is_silent_to_the_end(path: Path) -> None:
    call = Call(path)
    call.talk_and_pump(1)
    call.recording.redactions.begin(call.clock, "pin", "application")
    call.talk_and_pump(1)
    samples = call.end()
    assert len(samples) == 2 * RATE
    assert is_silent(samples[RATE - GUARD :], peak=0)
    (span,) = call.recording.spans()
    assert (span.start, span.end, span.unresumed) == (RATE - GUARD, 2 * RATE, True)


def test_a_redaction_survives_a_leg_that_is_replaced(path: Path) -> None:
    call = Call(path)
    call.talk_and_pump(1)
    call.recording.redactions.begin(call.clock, "pin", "application")
    call.talk_and_pump(0.4)
    call.b = FakeTap()
    call.recording.replace("b", call.b)
    call.talk_and_pump(1)
    call.recording.redactions.end(call.clock, "pin")
    call.talk_and_pump(1)
    samples = call.end()
    assert onset(samples[RATE - GUARD :]) >= GUARD + round(1.4 * RATE)
    assert has_tone(samples[round(2.4 * RATE) :], ANSWERER)


def test_a_redaction_that_comes_too_late_is_erased_from_the_disk(path: Path) -> None:
    call = Call(path)
    call.talk_and_pump(3)
    call.recording.redactions.begin(call.origin + RATE, "card", "application")
    call.recording.redactions.end(call.origin + 2 * RATE, "card")
    call.talk_and_pump(0.2)
    on_disk = np.frombuffer(part_path(path).read_bytes()[HEADER_BYTES:], np.int16)
    assert not on_disk[RATE - GUARD : 2 * RATE].any()
    assert call.recording.escaped_samples == RATE + GUARD
    samples = call.end()
    assert is_silent(samples[RATE - GUARD : 2 * RATE], peak=0)
    assert has_tone(samples[: RATE - GUARD], CALLER)
    assert has_tone(samples[2 * RATE :], CALLER)


def test_what_cannot_be_erased_keeps_the_file_from_being_committed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Call(path)
    call.talk_and_pump(3)
    call.recording.redactions.begin(call.origin + RATE, "card", "application")

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pwrite", broken)
    call.recording.pump()
    call.recording.finish(call.clock)
    with pytest.raises(StorageError, match="cannot be erased"):
        call.recording.commit()
    monkeypatch.undo()
    call.recording.commit()
    assert is_silent(read_wav(path)[0][RATE - GUARD :], peak=0)


def test_the_end_pads_what_the_sources_did_not_reach(path: Path) -> None:
    call = Call(path)
    call.talk_and_pump(1)
    call.clock += 1234
    samples = call.end()
    assert len(samples) == RATE + 1234
    assert has_tone(samples[:RATE], CALLER)
    assert is_silent(samples[RATE:], peak=0)


@pytest.mark.parametrize("length", [1, 5000, 12345])
def test_the_end_cuts_what_is_beyond_also_what_is_on_the_disk(path: Path, length: int) -> None:
    call = Call(path)
    call.talk_and_pump(2)
    call.clock = call.origin + length
    call.recording.finish(call.clock)
    assert part_path(path).stat().st_size == HEADER_BYTES + 2 * length, "and so it is when the process dies here"
    samples = call.end()
    assert len(samples) == length
    expected = sine(CALLER, 2, start=call.origin) + sine(ANSWERER, 2, start=call.origin)
    assert np.array_equal(samples, expected[:length])


def test_an_end_without_a_position_is_where_the_longer_leg_has_come(path: Path) -> None:
    call = Call(path)
    call.talk(1)
    call.a.put(sine(CALLER, 0.5, start=call.clock))
    call.recording.finish()
    assert call.recording.commit().samples == RATE * 3 // 2
    assert is_tone(read_wav(path)[0][RATE:], CALLER)


def test_a_recording_begins_at_the_origin_it_is_given(path: Path) -> None:
    call = Call(path, recording_origin=100_000 + 500)
    call.talk_and_pump(1)
    samples = call.end()
    assert len(samples) == RATE - 500
    expected = sine(CALLER, 1, start=call.origin) + sine(ANSWERER, 1, start=call.origin)
    assert np.array_equal(samples, expected[500:])


def test_a_recording_can_begin_before_its_legs_have_media(path: Path) -> None:
    recording = Recording(path, RATE, origin=1000)
    recording.pump()
    assert part_path(path).exists()
    tap = FakeTap()
    recording.replace("a", tap)
    tap.put(sine(CALLER, 1), at=3000)
    recording.pump()
    recording.finish(11_000)
    recording.commit()
    samples = read_wav(path)[0]
    assert len(samples) == 10_000
    assert abs(onset(samples) - 2000) <= 2
    assert is_tone(samples[2000:], CALLER)


@pytest.mark.parametrize("pumped", [True, False])
def test_legs_that_come_with_the_end_are_recorded_from_their_first_sample(path: Path, pumped: bool) -> None:
    recording = Recording(path, RATE)
    if pumped:
        recording.pump()
    tap = FakeTap()
    tap.put(sine(CALLER, 1), at=3000)
    recording.replace("b", tap)
    recording.finish(9000)
    assert recording.commit().samples == 6000
    assert recording.origin == 3000
    assert is_tone(read_wav(path)[0], CALLER)


@pytest.mark.parametrize("origin", [None, 5000])
def test_a_call_without_media_is_an_empty_file(path: Path, origin: int | None) -> None:
    recording = Recording(path, RATE, a=FakeTap(), b=None, origin=origin)
    recording.pump()
    recording.finish(5000)
    assert recording.commit().samples == 0
    assert (recording.samples, recording.spans(), recording.gaps) == (0, [], ())


def test_both_legs_on_hold_leave_silence_of_the_right_length(path: Path) -> None:
    call = Call(path)
    call.talk_and_pump(1)
    call.clock += 200 * RATE
    call.talk(1)
    grown = [call.recording.pump() for _ in range(5)]
    assert grown[:3] == [60 * RATE] * 3, "it catches up in rounds of bounded size"
    assert grown[4] == 0
    samples = call.end()
    assert len(samples) == 202 * RATE
    assert is_silent(samples[RATE : 201 * RATE], peak=0)
    assert onset(samples[RATE:]) - 200 * RATE <= 2
    assert call.recording.late_samples == 0


def test_what_a_full_ring_lost_is_a_gap_at_its_place_in_the_file(path: Path) -> None:
    call = Call(path)
    call.talk_and_pump(1)
    call.a.put(sine(CALLER, 0.1, start=call.clock))
    call.b.lose(500)
    call.b.lose(300)
    call.clock += 800
    call.talk_and_pump(0.4)
    samples = call.end()
    assert call.recording.gaps == (Gap("ring_full", "b", RATE, 800),)
    assert call.recording.dropped_samples == 800
    assert is_tone(samples[RATE : RATE + 800], CALLER)


def test_a_full_disk_leaves_silence_and_the_recording_goes_on_when_there_is_room(path: Path) -> None:
    call = Call(path)
    call.talk_and_pump(2)
    written = call.recording.samples
    with no_file_beyond(HEADER_BYTES + 2 * written + 1001):
        call.talk_and_pump(3)
        assert call.recording.storage_errors > 1
    call.talk_and_pump(6)
    samples = call.end()
    (gap,) = call.recording.gaps
    assert (gap.cause, gap.leg, gap.start) == ("storage", "both", written + 500)
    assert gap.length == call.recording.lost_samples
    assert 3 * RATE <= gap.length + 500 <= 5 * RATE + RATE // 5
    expected = sine(CALLER, 11, start=call.origin) + sine(ANSWERER, 11, start=call.origin)
    expected[gap.start : gap.start + gap.length] = 0
    assert np.array_equal(samples, expected)


def test_a_disk_that_stays_full_is_tried_less_often_and_the_length_holds(path: Path) -> None:
    call = Call(path)
    call.talk_and_pump(1)
    written = call.recording.samples
    with no_file_beyond(HEADER_BYTES + 2 * written):
        call.talk_and_pump(60)
        assert call.recording.storage_errors < 60
        call.recording.finish(call.clock)
    call.recording.commit()
    assert call.recording.gaps == (Gap("storage", "both", written, 61 * RATE - written),)
    samples = read_wav(path)[0]
    assert len(samples) == 61 * RATE
    assert has_tone(samples[:written], CALLER)
    assert not samples[written:].any()


def test_a_recording_whose_file_cannot_be_opened_at_first_is_written_from_when_it_can(path: Path) -> None:
    part_path(path).write_bytes(b"")
    call = Call(path)
    call.talk_and_pump(2)
    assert call.recording.storage_errors > 0
    part_path(path).unlink()
    call.talk_and_pump(4)
    samples = call.end()
    (gap,) = call.recording.gaps
    assert (gap.cause, gap.start) == ("storage", 0)
    assert len(samples) == 6 * RATE
    assert is_silent(samples[: gap.length], peak=0)
    assert has_tone(samples[gap.length :], ANSWERER)
    assert gap.length < 4 * RATE


def test_a_recording_that_never_had_a_file_says_why(path: Path) -> None:
    path.write_bytes(b"audio")
    call = Call(path)
    call.talk_and_pump(1)
    call.recording.finish(call.clock)
    with pytest.raises(StorageError, match=r"was never written: .* is there already"):
        call.recording.commit()
    assert path.read_bytes() == b"audio"
    assert call.recording.gaps == (Gap("storage", "both", 0, RATE),)


def test_a_recording_that_failed_keeps_what_it_had_and_its_length(path: Path) -> None:
    call = Call(path)
    call.talk_and_pump(2)
    kept = call.recording.samples
    call.a.fault = RuntimeError("the tap broke")
    call.talk(1)
    with pytest.raises(RuntimeError):
        call.recording.pump()
    call.recording.fail(call.a.fault)
    samples = call.end()
    assert len(samples) == 3 * RATE
    assert has_tone(samples[:kept], CALLER)
    assert is_silent(samples[kept:], peak=0)
    assert call.recording.gaps == (Gap("failure", "both", kept, 3 * RATE - kept),)


def test_a_late_leg_costs_only_itself(path: Path) -> None:
    call = Call(path)
    call.talk_and_pump(1)
    call.a.put(sine(CALLER, 1, start=call.clock))
    call.recording.pump()
    call.b.put(sine(ANSWERER, 1, start=call.clock))
    call.clock += RATE
    samples = call.end()
    assert has_tone(samples[RATE:], CALLER)
    missed = RATE - GUARD - TOLERANCE
    assert call.recording.late_samples == np.count_nonzero(sine(ANSWERER, 1, start=call.origin + RATE)[:missed])
    assert abs(tone_onset(samples[RATE:], ANSWERER) - missed) <= 4


EVENTS = st.lists(
    st.tuples(st.sampled_from(["talk", "pump", "begin", "end"]), st.integers(1, 900), st.sampled_from(["", "pin"])),
    max_size=50,
)


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.booleans())
def test_no_sample_of_a_redacted_stretch_is_ever_on_the_disk_and_no_other_is_missing(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, int, str]], known_origin: bool
) -> None:
    path = tmp_path_factory.mktemp("redacted") / "x.wav"
    taps = FakeTap(), FakeTap()
    recording = Recording(
        path,
        RATE,
        a=taps[0],
        b=taps[1],
        origin=0 if known_origin else None,
        guard_before_samples=300,
        tolerance_samples=50,
    )
    clock = 0
    began: dict[str, int] = {}
    silent: list[tuple[int, int]] = []

    def check(content: bytes) -> None:
        samples = np.frombuffer(content[HEADER_BYTES:], np.int16)
        for start, stop in (*silent, *((start, clock) for start in began.values())):
            assert not samples[max(0, start) : stop].any()

    for verb, count, step in [("talk", 1, ""), *events]:
        if verb == "talk":
            for tap in taps:
                tap.put(np.full(count, 1000, np.int16), at=clock)
            clock += count
        elif verb == "begin":
            recording.redactions.begin(clock, step, "application")
            began.setdefault(step, clock - 300)
        elif verb == "end" and step in began:
            assert recording.redactions.end(clock, step)
            silent.append((began.pop(step), clock))
        else:
            recording.pump()
            check(part_path(path).read_bytes())
    recording.finish(clock)
    recording.commit()
    expected = np.full(clock, 2000, np.int16)
    for start, stop in (*silent, *((start, clock) for start in began.values())):
        expected[max(0, start) : stop] = 0
    assert np.array_equal(read_wav(path)[0], expected)
    assert recording.escaped_samples == 0
    spans = recording.spans()
    assert sum(span.end - span.start for span in spans if span.end is not None) == np.count_nonzero(expected == 0)
    assert any(span.unresumed for span in spans) == bool([start for start in began.values() if start < clock])
