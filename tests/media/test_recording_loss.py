"""What is lost is counted, told, and silence of the right length."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from recorder.errors import StorageError
from recorder.media.gaps import Gap
from recorder.media.part_file import PartFile, part_path
from recorder.media.spool import Memory
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


def test_what_a_full_disk_refuses_waits_in_memory_and_is_written_when_there_is_room(path: Path) -> None:
    call = Call(path)
    call.talk_and_pump(2)
    written = call.recording.samples
    with no_file_beyond(HEADER_BYTES + 2 * written + 1001):
        call.talk_and_pump(3)
        assert call.recording.storage_errors > 1
    assert call.recording.spool.memory.used_bytes == 2 * (call.recording.samples - written - 500)
    call.talk_and_pump(6)
    assert call.recording.spool.memory.used_bytes == 0
    samples = call.end()
    expected = sine(CALLER, 11, start=call.origin) + sine(ANSWERER, 11, start=call.origin)
    assert np.array_equal(samples, expected)
    assert (call.recording.gaps, call.recording.lost_samples) == ((), 0)


def test_what_finds_no_room_in_memory_is_a_gap_and_the_recording_goes_on(path: Path) -> None:
    call = Call(path)
    call.recording.spool.memory = Memory(4 * RATE)
    call.talk_and_pump(2)
    written = call.recording.samples
    with no_file_beyond(HEADER_BYTES + 2 * written):
        call.talk_and_pump(8)
    call.talk_and_pump(6)
    samples = call.end()
    (gap,) = call.recording.gaps
    assert (gap.cause, gap.leg, gap.start) == ("storage", "both", written + 2 * RATE - 2 * RATE % 1600)
    assert gap.length == call.recording.lost_samples
    assert 6 * RATE - 1600 <= gap.length <= 8 * RATE
    expected = sine(CALLER, 16, start=call.origin) + sine(ANSWERER, 16, start=call.origin)
    expected[gap.start : gap.start + gap.length] = 0
    assert np.array_equal(samples, expected)


def test_a_disk_that_stays_full_is_tried_less_often_and_the_length_holds(path: Path) -> None:
    call = Call(path)
    call.recording.spool.memory = Memory(0)
    call.talk_and_pump(60)
    call.recording.finish(call.clock)
    call.recording.commit()
    assert call.recording.gaps == (Gap("storage", "both", 0, 60 * RATE),)
    samples = read_wav(path)[0]
    assert len(samples) == 60 * RATE
    assert not samples.any()


def test_a_refusal_is_tried_again_after_a_while_that_grows(path: Path) -> None:
    call = Call(path)
    call.talk_and_pump(1)
    with no_file_beyond(HEADER_BYTES + 2 * call.recording.samples):
        call.talk_and_pump(60)
        assert 30 <= call.recording.storage_errors <= 40


def test_a_recording_whose_file_cannot_be_opened_at_first_loses_nothing(path: Path) -> None:
    part_path(path).write_bytes(b"")
    call = Call(path)
    call.talk_and_pump(2)
    assert call.recording.storage_errors > 0
    part_path(path).unlink()
    call.talk_and_pump(4)
    samples = call.end()
    assert call.recording.gaps == ()
    assert np.array_equal(samples, sine(CALLER, 6, start=call.origin) + sine(ANSWERER, 6, start=call.origin))


def test_a_recording_that_never_had_a_file_says_why(path: Path) -> None:
    path.write_bytes(b"audio")
    call = Call(path)
    call.talk_and_pump(1)
    call.recording.finish(call.clock)
    call.recording.spool.flush(1e6)
    assert call.recording.spool.stored, "nobody waits for it"
    assert call.recording.spool.memory.used_bytes == 0
    with pytest.raises(StorageError, match="is there already"):
        call.recording.commit()
    assert path.read_bytes() == b"audio"
    assert call.recording.gaps == (Gap("storage", "both", 0, RATE),)


def test_a_file_that_is_deleted_under_its_writer_is_made_again_with_all_it_held(path: Path) -> None:
    call = Call(path)
    call.talk_and_pump(3)
    shutil.rmtree(path.parent)
    call.talk_and_pump(3)
    assert part_path(path).exists()
    samples = call.end()
    assert np.array_equal(samples, sine(CALLER, 6, start=call.origin) + sine(ANSWERER, 6, start=call.origin))
    assert call.recording.gaps == ()


def test_a_file_that_is_deleted_between_its_end_and_its_commit_is_made_again(path: Path) -> None:
    call = Call(path)
    call.talk_and_pump(3)
    call.recording.finish(call.clock)
    call.recording.spool.flush(call.clock / RATE)
    shutil.rmtree(path.parent)
    call.recording.commit()
    assert np.array_equal(read_wav(path)[0], sine(CALLER, 3, start=call.origin) + sine(ANSWERER, 3, start=call.origin))
    assert call.recording.gaps == ()


def test_a_file_that_is_moved_away_is_made_again(path: Path) -> None:
    call = Call(path)
    call.talk_and_pump(3)
    path.parent.rename(path.parent.with_name("elsewhere"))
    call.talk_and_pump(3)
    samples = call.end()
    assert np.array_equal(samples, sine(CALLER, 6, start=call.origin) + sine(ANSWERER, 6, start=call.origin))


@pytest.mark.parametrize("left", [20_000, 0, None])
def test_a_disk_that_comes_back_with_less_than_was_written_leaves_an_exact_gap(
    path: Path, left: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an error that is not for want of room the file is opened anew: the disk may have been mounted again."""
    call = Call(path)
    call.talk_and_pump(3, block_s=0.5)
    written = call.recording.samples

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", broken)
        call.talk_and_pump(1)
    if left is None:
        part_path(path).unlink()
    else:
        os.truncate(part_path(path), HEADER_BYTES + 2 * left if left else 0)
    call.talk_and_pump(4)
    samples = call.end()
    assert call.recording.gaps == (Gap("file_lost", "both", left or 0, written - (left or 0)),)
    expected = sine(CALLER, 8, start=call.origin) + sine(ANSWERER, 8, start=call.origin)
    expected[left or 0 : written] = 0
    assert np.array_equal(samples, expected)


def test_a_redaction_holds_for_what_waits_in_memory_and_for_what_a_disk_forgot(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Call(path)
    call.talk_and_pump(3)
    kept = part_path(path).read_bytes()
    call.recording.redactions.begin(call.origin + RATE, "card", "application")
    call.recording.redactions.end(call.origin + 2 * RATE, "card")
    call.talk_and_pump(0.4)

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", broken)
        call.talk_and_pump(2)
        late = call.clock - RATE
        call.recording.redactions.begin(late, "pin", "application")
        call.recording.redactions.end(late + 4000, "pin")
        call.talk_and_pump(1)
        waiting = [item.samples for item in call.recording.spool._queue if hasattr(item, "samples")]
        assert sum(int(np.count_nonzero(samples == 0)) for samples in waiting) >= 4000, "silent in memory, too"
    part_path(path).write_bytes(kept)  # the erasure had not become durable
    call.talk_and_pump(3)
    samples = call.end()
    assert is_silent(samples[RATE - GUARD : 2 * RATE], peak=0)
    assert is_silent(samples[late - call.origin - GUARD : late - call.origin + 4000], peak=0)
    assert has_tone(samples[2 * RATE : 3 * RATE - GUARD - TOLERANCE], CALLER)


def test_a_fault_of_ours_in_writing_keeps_what_was_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Call(path)
    call.talk_and_pump(2)
    kept = call.recording.samples
    monkeypatch.setattr(PartFile, "write", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        call.talk_and_pump(1)
    monkeypatch.undo()
    call.recording.spool.give_up()
    samples = call.end()
    assert has_tone(samples[:kept], CALLER)
    assert {gap.cause for gap in call.recording.gaps} == {"failure"}
    assert sum(gap.length for gap in call.recording.gaps) == len(samples) - kept
    assert call.recording.spool.memory.used_bytes == 0


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
