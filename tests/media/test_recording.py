"""Both voices in one file, at their positions, of exactly the length of the call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recorder.media.part_file import part_path
from recorder.media.recording import Recording
from recorder.media.wav_header import HEADER_BYTES
from tests.media.calls import ANSWERER, CALLER, Call
from tests.media.taps import FakeTap
from tests.tones import RATE, has_tone, is_silent, is_tone, onset, read_wav, sine, tone_onset


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
    call.recording.spool.flush(call.clock / RATE)
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
    recording.spool.flush(0)
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
