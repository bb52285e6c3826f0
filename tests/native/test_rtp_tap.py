"""The tap below the jitter buffer: where a packet stands in the recording, whatever the network made of it."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recorder.native import RtpTap
from tests.tones import Samples

RATE = 8000
PACKET = 160
HOLD = 1600
START = 1_000_000
LOUD = 0x80  # mu-law, the largest positive sample
PEAK = 32124


def packet(
    number: int, payload: bytes, *, kind: int = 0, ssrc: int = 7, sequence: int = 0, timestamp: int = 0
) -> bytes:
    """The `number`-th packet of a stream that begins at this sequence number and timestamp."""
    stamp = (timestamp + number * PACKET) % 2**32
    return struct.pack("!BBHII", 0x80, kind, (sequence + number) % 2**16, stamp, ssrc) + payload


def voice(number: int) -> bytes:
    """20 ms that no other packet sounds like: a level of its own."""
    return bytes([LOUD + number % 100]) * PACKET


def levels(samples: Samples) -> list[int]:
    """The level of each 20 ms, 0 for silence; each must be even."""
    rows = samples[: len(samples) // PACKET * PACKET].reshape(-1, PACKET)
    assert (rows == rows[:, :1]).all()
    return [int(row[0]) for row in rows]


def expected(number: int) -> int:
    """What `voice(number)` decodes to."""
    tap = new_tap()
    tap._put(packet(0, voice(number)))
    tap._set_now(START + PACKET + HOLD)
    return int(tap.read()[1][0])


def new_tap(capacity: int = 10 * RATE) -> RtpTap:
    return RtpTap("a", RATE, capacity, HOLD, START)


def heard(tap: RtpTap, stop: int) -> Samples:
    """Everything from the start to position START + `stop`."""
    tap._set_now(START + stop + HOLD)
    position, samples = tap.read(stop)
    assert position == START
    assert len(samples) == stop
    return samples


LEVELS = [expected(number) for number in range(100)]


@given(
    st.lists(st.integers(0, HOLD - 1), min_size=1, max_size=60),
    st.sets(st.integers(1, 59)),
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**32 - 1),
)
def test_jitter_loss_and_reordering_move_nothing(
    jitter: list[int], lost: set[int], sequence: int, timestamp: int
) -> None:
    """Whatever came at all is where it was sent; the first packet, whose time is the measure, came in time."""
    tap = new_tap()
    jitter[0] = 0
    arrivals = sorted(
        (number * PACKET + late, number) for number, late in enumerate(jitter) if number == 0 or number not in lost
    )
    for arrival, number in arrivals:
        tap._set_now(START + arrival)
        tap._put(packet(number, voice(number), sequence=sequence, timestamp=timestamp))
    sent = [0 if number in lost and number else LEVELS[number] for number in range(len(jitter))]
    assert levels(heard(tap, len(jitter) * PACKET)) == sent
    # The sequence numbers show what is missing between the first packet and the last that came.
    assert tap.lost == sum(number in lost for number in range(1, max(number for _, number in arrivals)))
    assert tap.late_samples == 0


def test_a_duplicate_is_heard_once() -> None:
    tap = new_tap()
    for number in (0, 1, 1, 1, 2):
        tap._set_now(START + number * PACKET)
        tap._put(packet(number, voice(number)))
    assert levels(heard(tap, 4 * PACKET)) == [*LEVELS[:3], 0]


def test_a_pause_of_the_sender_is_silence_of_its_length() -> None:
    """Discontinuous transmission: nothing comes, and the timestamps go on."""
    tap = new_tap()
    for number in (0, 1, 40, 41):
        tap._set_now(START + number * PACKET)
        tap._put(packet(number, voice(number)))
    assert levels(heard(tap, 42 * PACKET)) == [*LEVELS[:2], *[0] * 38, *LEVELS[40:42]]


def test_a_first_packet_that_was_late_gives_way_to_those_that_are_in_time() -> None:
    tap = new_tap()
    for number in range(20):
        tap._set_now(START + number * PACKET + (800 if number == 0 else 0))
        tap._put(packet(number, voice(number)))
    assert levels(heard(tap, 20 * PACKET))[1:20] == LEVELS[1:20]


def test_a_stall_at_the_start_that_holds_many_packets_up_moves_none_after_it() -> None:
    """Half a second stands still: 25 packets come at one moment, the last of them as it is sent."""
    tap = new_tap()
    for number in range(40):
        tap._set_now(START + max(number, 25) * PACKET)
        tap._put(packet(number, voice(number)))
    assert levels(heard(tap, 40 * PACKET))[25:40] == [expected(number) for number in range(25, 40)]


def test_another_source_begins_where_it_comes_in() -> None:
    """A new SSRC (transfer, re-INVITE) has clocks of its own."""
    tap = new_tap()
    for number in range(5):
        tap._set_now(START + number * PACKET)
        tap._put(packet(number, voice(number)))
    for number in range(5, 10):
        tap._set_now(START + number * PACKET)
        tap._put(packet(number, voice(number), ssrc=9, sequence=30000, timestamp=1 << 31))
    assert levels(heard(tap, 10 * PACKET)) == LEVELS[:10]


def test_timestamps_that_stop_during_hold_do_not_put_the_rest_in_the_past() -> None:
    """Some senders freeze their timestamps while they send nothing."""
    tap = new_tap()
    for number in range(5):
        tap._set_now(START + number * PACKET)
        tap._put(packet(number, voice(number)))
    for number in range(5, 20):
        tap._set_now(START + (number + 200) * PACKET)
        tap._put(packet(number, voice(number)))
    found = levels(heard(tap, 220 * PACKET))
    assert found[:5] == LEVELS[:5]
    assert not any(found[5:205])
    assert found[208:220] == LEVELS[8:20]


@pytest.mark.parametrize("ppm", [100, -100])
def test_a_senders_clock_that_is_off_never_drifts_away(ppm: int) -> None:
    """Ten minutes at 100 ppm are 60 ms; the recording stays within 10 ms of when it was said."""
    tap = new_tap()
    count = 30_000
    worst = 0
    for number in range(count):
        said = round(number * PACKET * (1 + ppm / 1e6))
        tap._set_now(START + said)
        tap._put(packet(number, bytes([LOUD if number % 50 == 0 else 0xFF]) * PACKET))
        if number % 50 == 49 and number > 200:
            tap._set_now(START + said + HOLD)
            position, samples = tap.read()
            for at in np.flatnonzero(np.diff((samples > PEAK // 2).astype(int)) == 1):
                spoken = (round((position + at + 1 - START) / (50 * PACKET * (1 + ppm / 1e6)))) * 50 * PACKET
                worst = max(worst, abs(position + int(at) + 1 - START - round(spoken * (1 + ppm / 1e6))))
    assert worst < 80


@example([("shut", 0), ("open", 400), ("shut", 0)])
@given(st.lists(st.tuples(st.sampled_from(["shut", "open", "tick"]), st.integers(0, 400)), max_size=40))
def test_what_is_behind_the_gate_is_never_heard(script: list[tuple[str, int]]) -> None:
    tap = new_tap()
    shut = np.zeros(400 * PACKET, bool)
    closed: int | None = None
    now = START
    script = [*script, ("open", 0)] if any(word == "shut" for word, _ in script) else script
    number = 0
    for word, amount in script:
        if word == "shut":
            at = tap.close_gate()
            closed = at if closed is None else min(closed, at)
        elif word == "open" and closed is not None:
            opened = tap.open_gate(amount)
            shut[closed - START : opened - START] = True
            closed = None
        for _ in range(1 + amount % 8):
            tap._put(packet(number, bytes([LOUD]) * PACKET))
            number += 1
            now += PACKET
            tap._set_now(now)
    stop = number * PACKET
    samples = heard(tap, stop)
    assert not samples[shut[:stop]].any()
    assert (samples[~shut[:stop]] == PEAK).all()


def test_without_a_reader_the_loss_is_counted_and_the_timeline_holds() -> None:
    tap = new_tap(capacity=RATE)
    for number in range(100):
        tap._set_now(START + number * PACKET)
        tap._put(packet(number, voice(number)))
    found = levels(heard(tap, 100 * PACKET))
    assert found[:50] == LEVELS[:50]
    assert not any(found[50:])
    assert tap.dropped_samples == 50 * PACKET
    assert tap.take_gaps(True) == [("ring_full", START + 50 * PACKET, 50 * PACKET)]


def test_nothing_is_kept_after_the_end_and_all_before_it_can_be_read_at_once() -> None:
    tap = new_tap()
    for number in range(10):
        tap._set_now(START + number * PACKET)
        if number == 5:
            tap.detach()
        tap._put(packet(number, voice(number)))
    assert tap.position == START + 5 * PACKET
    assert levels(tap.read()[1]) == LEVELS[:5]


@given(st.binary(max_size=300))
def test_bytes_that_are_no_rtp_hurt_nobody(noise: bytes) -> None:
    tap = new_tap()
    tap._put(noise)
    tap._put(packet(0, voice(0)))
    assert len(heard(tap, 40 * PACKET)) == 40 * PACKET


def event(number: int, lasted: int) -> bytes:
    """A packet of the telephone event (RFC 4733) that began with the `number`-th packet, after `lasted` samples."""
    return packet(number, struct.pack("!BBH", 5, 10, lasted), kind=101)


def test_telephone_events_tell_where_keys_were_pressed() -> None:
    tap = new_tap()
    for number in range(10):
        tap._set_now(START + number * PACKET)
        tap._put(packet(number, voice(number)))
    for steps in range(1, 6):
        tap._set_now(START + (10 + steps) * PACKET)
        tap._put(event(10, steps * PACKET), "telephone-event")
        if steps == 2:
            assert tap.take_events() == [(START + 10 * PACKET, 2 * PACKET)]
            assert tap.take_events() == []
    assert tap.take_events() == [(START + 10 * PACKET, 5 * PACKET)]
    tap._set_now(START + 41 * PACKET)
    tap._put(event(40, PACKET), "telephone-event")
    assert tap.take_events() == [(START + 40 * PACKET, PACKET)]
    tap._put(event(50, PACKET))  # nobody has said that this payload type is an event
    assert tap.take_events() == []
    assert levels(heard(tap, 16 * PACKET)) == [*LEVELS[:10], *[0] * 6]


def test_a_key_that_is_held_down_for_long_does_not_move_what_is_said_after_it() -> None:
    tap = new_tap()
    for number in range(5):
        tap._set_now(START + number * PACKET)
        tap._put(packet(number, voice(number)))
    for steps in range(1, 201):
        tap._set_now(START + (5 + steps) * PACKET)
        tap._put(event(5, steps * PACKET), "telephone-event")
    for number in range(206, 220):
        tap._set_now(START + number * PACKET)
        tap._put(packet(number, voice(number)))
    assert tap.take_events() == [(START + 5 * PACKET, 200 * PACKET)]
    assert levels(heard(tap, 220 * PACKET))[206:] == [expected(number) for number in range(206, 220)]


def test_events_that_nobody_takes_are_one_from_the_first_without_room() -> None:
    tap = new_tap()
    for key in range(100):
        tap._set_now(START + (3 * key + 1) * PACKET)
        tap._put(event(3 * key, PACKET), "telephone-event")
    spans = tap.take_events()
    assert spans[:63] == [(START + 3 * key * PACKET, PACKET) for key in range(63)]
    assert spans[63:] == [(START + 3 * 63 * PACKET, (3 * 99 + 1 - 3 * 63) * PACKET)]
