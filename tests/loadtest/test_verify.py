"""The verification finds what is wrong with a recording, and nothing with a right one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recorder.file_format import ENCODINGS, Encoding, FileFormat
from recorder.loadtest.tones import APPLICATION, CALLER, SAMPLE_RATE_HZ, Codec, Samples
from recorder.loadtest.verify import Expected, Silence, Verdict, verify, verify_file, zero_runs
from recorder.media.part_file import PartFile
from tests.loadtest.spoken import muted, recording, track

LENGTH_S = 12.0
STRICT = Expected(LENGTH_S).strict()
# The step was muted from 5 s to 7 s, 300 ms before and 60 ms after included.
MUTED = Expected(LENGTH_S, [Silence(must=(5.06, 6.94), may=(4.94, 7.06))])


def faults_of(verdict: Verdict) -> set[str]:
    """The kinds of fault: the word before the colon."""
    return {fault.partition(":")[0] for fault in verdict.faults}


@pytest.mark.parametrize("codec", Codec)
def test_a_right_recording_passes_even_strictly(codec: Codec) -> None:
    verdict = verify(recording(codec=codec), STRICT)
    assert verdict.faults == []
    assert verdict.bursts == 12
    assert verdict.caller_start_s == pytest.approx(0.030, abs=0.001)
    assert verdict.offset_s == pytest.approx(0.015, abs=0.001)


@settings(deadline=None, max_examples=30)
@given(
    duration_s=st.floats(2.1, 20),
    caller_s=st.floats(0, 0.2),
    offset_s=st.floats(-0.055, 0.055),
    codec=st.sampled_from(Codec),
)
def test_any_right_recording_passes(duration_s: float, caller_s: float, offset_s: float, codec: Codec) -> None:
    application_s = max(0.0, caller_s + offset_s)
    verdict = verify(recording(duration_s, caller_s, application_s, codec), Expected(duration_s))
    assert verdict.faults == []
    assert verdict.caller_start_s == pytest.approx(caller_s, abs=0.002)


@pytest.mark.parametrize("milliseconds", [-60, 60])
def test_a_wrong_length_is_found(milliseconds: int) -> None:
    verdict = verify(recording(LENGTH_S), Expected(LENGTH_S + milliseconds / 1000))
    assert faults_of(verdict) == {"length"}


def test_a_length_within_40_ms_passes() -> None:
    assert verify(recording(LENGTH_S), Expected(LENGTH_S + 0.035)).ok


@pytest.mark.parametrize("missing", ["caller", "application", "both"])
def test_a_speaker_who_is_not_there_is_found(missing: str) -> None:
    samples = np.zeros(round(LENGTH_S * SAMPLE_RATE_HZ), dtype=np.int16)
    if missing != "both":
        samples = track(APPLICATION if missing == "caller" else CALLER, LENGTH_S, 0.03)
    verdict = verify(samples, Expected(LENGTH_S))
    assert "missing" in faults_of(verdict)
    assert verdict.offset_s is None


def test_legs_that_are_100_ms_apart_are_found() -> None:
    verdict = verify(recording(caller_s=0.03, application_s=0.13), Expected(LENGTH_S))
    assert faults_of(verdict) == {"alignment"}


def stereo(left: Samples, right: Samples) -> Samples:
    return np.stack((left, right), axis=1)


def test_each_speaker_in_his_channel_passes_even_strictly() -> None:
    verdict = verify(stereo(track(CALLER, LENGTH_S, 0.03), track(APPLICATION, LENGTH_S, 0.045)), STRICT)
    assert verdict.faults == []
    assert verdict.bursts == 12


def test_a_speaker_in_the_others_channel_is_found() -> None:
    caller, application = track(CALLER, LENGTH_S, 0.03), track(APPLICATION, LENGTH_S, 0.045)
    assert faults_of(verify(stereo(application, caller), STRICT)) == {"channel"}
    assert faults_of(verify(stereo(caller + application, application), STRICT)) >= {"channel"}
    swapped = stereo(caller, application)
    swapped[40_000:41_000] = swapped[40_000:41_000, ::-1]  # for an eighth of a second, while nobody has a burst
    assert faults_of(verify(swapped, STRICT)) == {"channel"}


def test_a_muted_step_has_to_be_silent_in_both_channels() -> None:
    caller, application = track(CALLER, LENGTH_S, 0.03), track(APPLICATION, LENGTH_S, 0.045)
    assert verify(stereo(muted(caller, 5.0, 7.0), muted(application, 5.0, 7.0)), MUTED).faults == []
    leaked = stereo(muted(caller, 5.0, 7.0), muted(application, 5.0, 7.0))
    leaked[50_000] = (5, -5)
    assert faults_of(verify(leaked, MUTED)) >= {"redaction"}


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_each_format_is_judged(tmp_path: Path, encoding: Encoding, channels: int) -> None:
    one = FileFormat(encoding, channels)
    legs = [muted(track(voice, LENGTH_S, 0.03), 5.0, 7.0) for voice in (CALLER, APPLICATION)]
    path = tmp_path / f"x{one.suffix}"
    part = PartFile.create(path, SAMPLE_RATE_HZ, one)
    part.write(legs[0] + legs[1] if channels == 1 else stereo(*legs))
    part.commit()
    assert verify_file(path, MUTED, one).faults == []
    other = FileFormat("flac" if encoding != "flac" else "pcm16", channels)
    assert faults_of(verify_file(path, MUTED, other)) == {"format"}
    assert faults_of(verify_file(path, MUTED, FileFormat(encoding, 3 - channels))) == {"format"}
    spoken = tmp_path / f"y{one.suffix}"
    part = PartFile.create(spoken, SAMPLE_RATE_HZ, one)
    legs[0][50_000:50_800] = track(CALLER, LENGTH_S, 0.03)[50_000:50_800]
    part.write(legs[0] + legs[1] if channels == 1 else stereo(*legs))
    part.commit()
    assert "redaction" in faults_of(verify_file(spoken, MUTED, one))


def test_sound_that_begins_late_is_found() -> None:
    verdict = verify(recording(caller_s=0.5, application_s=0.5), Expected(LENGTH_S))
    assert faults_of(verdict) == {"order"}


def test_a_start_that_is_cut_off_is_measured_and_found() -> None:
    tracks = [track(CALLER, LENGTH_S, 0.03), track(APPLICATION, LENGTH_S, 0.03)]
    verdict = verify(muted(tracks[0], 0, 0.07) + tracks[1], Expected(LENGTH_S))
    assert verdict.ok
    assert verdict.clipped_s == pytest.approx(0.04, abs=0.006)
    assert verdict.gaps == 0
    assert faults_of(verify(muted(tracks[0], 0, 0.2) + tracks[1], Expected(LENGTH_S))) == {"clipped"}


def test_swapped_speakers_are_found() -> None:
    """Each hears the other's turn: the caller's tone where the application's belongs."""
    verdict = verify(recording(caller_s=1.03, application_s=1.03), Expected(LENGTH_S))
    assert not verdict.ok


@pytest.mark.parametrize("position_s", [0.8, 4.2, 5.0, 9.77])
@pytest.mark.parametrize("milliseconds", [5, 20, 200])
def test_a_hole_is_found_wherever_it_is(position_s: float, milliseconds: int) -> None:
    samples = muted(recording(), position_s, position_s + milliseconds / 1000)
    assert "hole" in faults_of(verify(samples, Expected(LENGTH_S)))


@pytest.mark.parametrize("voice", [CALLER, APPLICATION])
@pytest.mark.parametrize("position_s", [0.7, 3.3, 8.0])
def test_a_stretch_missing_of_one_speaker_is_found(voice: object, position_s: float) -> None:
    tracks = {v.name: track(v, LENGTH_S, 0.03) for v in (CALLER, APPLICATION)}
    assert isinstance(voice, type(CALLER))
    tracks[voice.name] = muted(tracks[voice.name], position_s, position_s + 0.1)
    verdict = verify(tracks["caller"] + tracks["application"], Expected(LENGTH_S))
    assert "gap" in faults_of(verdict)
    assert verdict.gap_s == pytest.approx(0.1, abs=0.02)
    assert all(voice.name in fault for fault in verdict.faults)


@pytest.mark.parametrize("lost", [1, 3, 80])
def test_lost_samples_are_found_strictly(lost: int) -> None:
    samples = recording()
    shifted = np.concatenate((samples[:40_000], samples[40_000 + lost :], samples[-lost:]))
    assert not verify(shifted, STRICT).ok


def test_repeated_samples_are_found_strictly() -> None:
    samples = recording()
    repeated = np.concatenate((samples[:40_000], samples[39_840:-160]))
    assert not verify(repeated, STRICT).ok


def test_one_dropped_packet_is_tolerated_and_counted() -> None:
    """What an adaptive jitter buffer does now and then."""
    samples = recording()
    verdict = verify(np.concatenate((samples[:40_000], samples[40_160:], samples[-160:])), Expected(LENGTH_S))
    assert verdict.ok
    assert verdict.disturbances > 0
    assert verdict.drift_s == pytest.approx(0.020, abs=0.002)


def test_a_drift_over_the_call_is_found() -> None:
    """A clock that is 1 % fast: nothing is missing anywhere, and in the end everything is off."""
    samples = recording()
    fast = samples[np.arange(0, len(samples), 1.01).astype(int)]
    assert not verify(fast, Expected(len(fast) / SAMPLE_RATE_HZ)).ok


def test_a_muted_span_passes() -> None:
    verdict = verify(muted(recording(), 5.0, 7.0), MUTED)
    assert verdict.faults == []
    assert verdict.silent_s == pytest.approx(1.88, abs=0.001)
    assert verdict.silent_spans == [pytest.approx((5.0, 7.0), abs=0.001)]


@settings(deadline=None, max_examples=60)
@given(start_s=st.floats(0.7, 5.0), length_s=st.floats(0.2, 5.0))
@example(start_s=5.0, length_s=1.6)  # ends 70 ms into one of the caller's bursts
def test_whatever_a_muted_span_cuts_into_passes(start_s: float, length_s: float) -> None:
    stop_s = start_s + length_s
    silence = Silence(must=(start_s + 0.06, stop_s - 0.06), may=(start_s - 0.06, stop_s + 0.06))
    assert verify(muted(recording(), start_s, stop_s), Expected(LENGTH_S, [silence])).faults == []


@pytest.mark.parametrize("codec", Codec)
def test_a_span_that_was_not_muted_is_found(codec: Codec) -> None:
    assert "redaction" in faults_of(verify(recording(codec=codec), MUTED))


@pytest.mark.parametrize("at_s", [5.07, 6.0, 6.93])
def test_a_single_sample_within_a_muted_span_is_found(at_s: float) -> None:
    samples = muted(recording(), 5.0, 7.0)
    samples[round(at_s * SAMPLE_RATE_HZ)] = 1
    verdict = verify(samples, MUTED)
    assert faults_of(verdict) == {"redaction"}
    assert "1 of 15040 samples" in verdict.faults[0]


def test_only_one_speaker_muted_is_found() -> None:
    caller, application = track(CALLER, LENGTH_S, 0.03), track(APPLICATION, LENGTH_S, 0.03)
    assert "redaction" in faults_of(verify(muted(caller, 5.0, 7.0) + application, MUTED))


def test_a_recording_that_stays_silent_after_the_step_is_found() -> None:
    verdict = verify(muted(recording(), 5.0, LENGTH_S), MUTED)
    assert {"hole", "gap"} & faults_of(verdict)


def test_more_silence_than_was_asked_for_is_found() -> None:
    assert not verify(muted(recording(), 4.0, 8.0), MUTED).ok


def test_a_file_of_the_wrong_format_is_found(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.zeros((8000, 2), dtype=np.int16), 8000)
    assert faults_of(verify_file(path, Expected())) == {"format"}


@pytest.mark.parametrize("content", [b"", b"RIFF", b"no sound at all" * 100])
def test_a_file_that_is_none_is_found(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.wav"
    path.write_bytes(content)
    assert faults_of(verify_file(path, Expected())) == {"unreadable"}


def test_a_missing_file_is_found(tmp_path: Path) -> None:
    assert faults_of(verify_file(tmp_path / "absent.wav", Expected())) == {"unreadable"}


def test_a_truncated_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "cut.wav"
    soundfile.write(path, recording(), 8000, subtype="PCM_16")
    path.write_bytes(path.read_bytes()[:50_000])
    assert not verify_file(path, Expected(LENGTH_S)).ok


def test_an_empty_recording_is_found() -> None:
    assert not verify(np.zeros(0, dtype=np.int16), Expected()).ok


def test_zero_runs() -> None:
    samples = np.array([0, 0, 5, 0, 0, 0, 7, 0], dtype=np.int16)
    assert zero_runs(samples, 2) == [(0, 2), (3, 6)]
    assert zero_runs(samples, 1) == [(0, 2), (3, 6), (7, 8)]
