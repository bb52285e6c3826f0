"""What is lost is counted, told, and silence of the right length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recorder.errors import StorageError
from recorder.media.part_file import part_path
from recorder.media.recording import Gap
from recorder.media.wav_header import HEADER_BYTES
from tests.media.calls import ANSWERER, CALLER, GUARD, TOLERANCE, Call
from tests.media.disk import no_file_beyond
from tests.tones import RATE, has_tone, is_silent, is_tone, read_wav, sine, tone_onset


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
