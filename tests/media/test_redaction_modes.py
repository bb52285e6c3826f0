"""What stands in the file where a step was redacted: nothing (pause) or a quiet tone (tone)."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.media.cuts import Join
from recorder.media.marker import FREQUENCY_HZ, PEAK
from recorder.media.part_file import part_path, repair
from recorder.media.recording import Recording
from recorder.media.redaction import Mode
from recorder.media.spool import Memory
from recorder.media.writer import Writer
from tests.media.calls import ANSWERER, CALLER, GUARD, Call
from tests.media.taps import FakeTap
from tests.tones import RATE, amplitude_of, read_wav, sine


def both(start: int, seconds: float) -> np.ndarray:
    return sine(CALLER, seconds, start=start) + sine(ANSWERER, seconds, start=start)


def test_a_paused_step_is_not_in_the_file_and_its_join_is_known(path: Path) -> None:
    call = Call(path, mode="pause")
    call.talk_and_pump(2)
    call.recording.redactions.begin(call.clock, "card", "application")
    call.talk_and_pump(1)
    call.recording.redactions.end(call.clock, "card")
    call.talk_and_pump(2)
    samples = call.end()
    said = both(call.origin, 5)
    first, last = 2 * RATE - GUARD, 3 * RATE
    assert np.array_equal(samples, np.concatenate((said[:first], said[last:])))
    assert call.recording.joins == (Join(first, first, last - first),)
    assert call.recording.samples == 5 * RATE
    assert [call.recording.in_file(at) for at in (0, first, last, 5 * RATE)] == [0, first, first, len(samples)]
    [span] = call.recording.spans()
    assert (span.start, span.end) == (first, last)


@pytest.mark.parametrize("ends", [True, False])
def test_a_recording_that_is_paused_throughout_is_an_empty_file(path: Path, ends: bool) -> None:
    call = Call(path, recording_origin=100_000, mode="pause")
    call.recording.redactions.begin(call.origin, "card", "application")
    call.talk_and_pump(2)
    if ends:
        call.recording.redactions.end(call.clock, "card")
    assert len(call.end()) == 0
    assert call.recording.joins == (Join(0, 0, 2 * RATE),)
    assert call.recording.duration_s == 2


def test_what_was_left_by_a_crash_within_a_paused_step_is_what_came_before_it(path: Path) -> None:
    call = Call(path, mode="pause")
    call.talk_and_pump(2)
    call.recording.redactions.begin(call.clock, "card", "application")
    call.talk_and_pump(2)
    call.recording.spool.abandon()
    repair(part_path(path))
    assert np.array_equal(read_wav(path)[0], both(call.origin, 2)[: 2 * RATE - GUARD])


def test_a_gap_that_the_disk_made_stands_where_it_belongs_in_a_shorter_file(path: Path) -> None:
    call = Call(path, mode="pause")
    call.talk_and_pump(2)
    call.recording.redactions.begin(call.clock, "card", "application")
    call.talk_and_pump(1)
    call.recording.redactions.end(call.clock, "card")
    call.talk_and_pump(1)
    call.recording.spool.memory = Memory(0)  # the disk is away, and what it is to have has no room
    call.talk_and_pump(1)
    call.recording.spool.memory = Memory()
    call.talk_and_pump(2)
    samples = call.end()
    said, cut = both(call.origin, 7), (2 * RATE - GUARD, 3 * RATE)
    [gap] = call.recording.gaps
    said[gap.start : gap.start + gap.length] = 0
    assert np.array_equal(samples, np.concatenate((said[: cut[0]], said[cut[1] :])))
    assert not samples[call.recording.in_file(gap.start) :][: gap.length].any()


def test_what_was_written_already_is_erased_where_it_stands_in_a_shorter_file(path: Path) -> None:
    call = Call(path, mode="pause")
    call.talk_and_pump(2)
    call.recording.redactions.begin(call.clock, "card", "application")
    call.talk_and_pump(1)
    call.recording.redactions.end(call.clock, "card")
    call.talk_and_pump(3)
    call.recording.redactions.begin(call.origin + 4 * RATE, "late", "application")
    call.recording.redactions.end(call.origin + 5 * RATE, "late")
    samples = call.end()
    said, cut = both(call.origin, 6), (2 * RATE - GUARD, 3 * RATE)
    said[4 * RATE - GUARD : 5 * RATE] = 0
    assert np.array_equal(samples, np.concatenate((said[: cut[0]], said[cut[1] :])))


def test_a_tone_with_soft_edges_stands_where_the_step_was(path: Path) -> None:
    call = Call(path, mode="tone")
    call.talk_and_pump(2)
    call.recording.redactions.begin(call.clock, "card", "application")
    call.talk_and_pump(1)
    call.recording.redactions.end(call.clock, "card")
    call.talk_and_pump(1)
    on_disk = np.frombuffer(part_path(path).read_bytes(), np.int16)[-RATE:]
    samples = call.end()
    first, last = 2 * RATE - GUARD, 3 * RATE
    said = both(call.origin, 4)
    assert np.array_equal(samples[:first], said[:first])
    assert np.array_equal(samples[last:], said[last:])
    heard = samples[first:last]
    assert 0.98 * PEAK < amplitude_of(heard, FREQUENCY_HZ) < 1.02 * PEAK
    assert np.abs(heard).max() <= PEAK
    assert max(abs(int(one) - int(two)) for one, two in pairwise(np.concatenate(([0], heard, [0])))) < PEAK / 2
    assert amplitude_of(heard, ANSWERER) < 2
    assert np.abs(heard[:8]).max() < PEAK / 20
    assert np.abs(heard[-8:]).max() < PEAK / 20
    assert amplitude_of(on_disk, FREQUENCY_HZ) > 0


EVENTS = st.lists(
    st.tuples(st.sampled_from(["talk", "pump", "begin", "end"]), st.integers(1, 900), st.sampled_from(["", "pin"])),
    max_size=50,
)


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.sampled_from(["pause", "tone"]))
def test_whatever_happens_only_what_was_redacted_is_gone(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, int, str]], mode: Mode
) -> None:
    path = tmp_path_factory.mktemp("redacted") / "x.wav"
    taps = FakeTap(), FakeTap()
    guard = 300
    recording = Recording(
        path,
        RATE,
        a=taps[0],
        b=taps[1],
        origin=0,
        guard_before_samples=guard,
        tolerance_samples=50,
        redaction_mode=mode,
    )
    said = np.zeros(0, np.int16)
    began: dict[str, int] = {}
    gone: list[tuple[int, int]] = []
    for verb, count, step in [("talk", 1, ""), *events]:
        clock = len(said)
        if verb == "talk":
            for tap in taps:
                tap.put(np.full(count, 2000 if began else 1000, np.int16), at=clock)
            said = np.concatenate((said, np.full(count, 4000 if began else 2000, np.int16)))
        elif verb == "begin":
            recording.redactions.begin(clock, step, "application")
            began.setdefault(step, clock - guard)
        elif verb == "end" and step in began:
            recording.redactions.end(clock, step)
            gone.append((began.pop(step), clock))
        else:
            recording.pump()
            recording.spool.flush(0)
            assert 4000 not in np.frombuffer(part_path(path).read_bytes(), np.int16)
    recording.finish(len(said))
    recording.commit()
    redacted = np.zeros(len(said), bool)
    for start, stop in (*gone, *((start, len(said)) for start in began.values())):
        redacted[max(0, start) : stop] = True
    samples = read_wav(path)[0]
    if mode == "pause":
        assert np.array_equal(samples, said[~redacted])
        assert sum(join.left_out for join in recording.joins) == np.count_nonzero(redacted)
    else:
        assert np.array_equal(samples[~redacted], said[~redacted])
        assert int(np.abs(samples[redacted]).max(initial=0)) <= PEAK
    assert recording.samples == len(said)


def test_a_step_outlives_the_writer_that_it_began_under(path: Path) -> None:
    """Whoever writes next finds the step open: the recording keeps it, not its writer."""
    call = Call(path)
    call.talk_and_pump(1)
    ended = threading.Event()
    call.recording.redactions.begin(call.clock, "card", "application")
    call.talk_and_pump(1)
    writer = Writer(lambda _: ended.set(), block_s=0.02)
    writer.begin(call.recording)
    writer.start()  # while it reads, no leg is ahead by more than is held back
    for _ in range(5):
        call.talk(0.2)
    call.recording.redactions.end(call.clock, "card")
    for _ in range(5):
        call.talk(0.2)
    writer.end(call.recording, call.clock)
    assert ended.wait(10)
    writer.stop(10)
    call.recording.commit()
    samples, said = read_wav(path)[0], both(call.origin, 4)
    said[RATE - GUARD : 3 * RATE] = 0
    assert np.array_equal(samples, said)
