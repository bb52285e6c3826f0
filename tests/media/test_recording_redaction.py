"""What is redacted never reaches the disk, and nothing else is missing."""

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
from recorder.media.recording import Recording
from recorder.media.wav_header import HEADER_BYTES
from tests.media.calls import ANSWERER, CALLER, GUARD, TOLERANCE, Call
from tests.media.taps import FakeTap
from tests.tones import RATE, has_tone, is_silent, onset, read_wav, sine


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


def test_the_journal_tells_of_a_step_before_the_file_is_silent(path: Path) -> None:
    told: list[int] = []

    def journal(recording: Recording, _whole: bool) -> str | None:
        if recording.spans():
            told.append(recording.samples)
        return None

    call = Call(path, journal=journal)
    call.talk_and_pump(1)
    call.recording.redactions.begin(call.clock, "card", "application")
    call.talk(5)  # the writer was kept from its work
    call.pump()
    assert told[0] <= RATE - GUARD < call.recording.samples
    call.end()


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
    call.pump()
    call.recording.finish(call.clock)
    with pytest.raises(StorageError, match="cannot be erased"):
        call.recording.commit()
    monkeypatch.undo()
    call.recording.commit()
    assert is_silent(read_wav(path)[0][RATE - GUARD :], peak=0)


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
            recording.spool.flush(0)
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
