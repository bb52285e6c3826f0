"""Every sample stands where it was said, whatever network and sender do: the tap's timeline, packet by packet.

Packets go into the native tap with a clock that the test moves; it is read as the writer reads it, 320 ms behind. The
sound is noise, of which no two stretches are alike: what is compared is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest

from recorder.media.gaps import Gap, Gaps
from recorder.media.source import Cause
from recorder.native import RtpTap
from tests.peers.rtp_stream import EVENT, PCMU, Network, Phone, Sent, later, oddly_wrapped, shifted, stalled, timeline
from tests.tones import RATE, Samples

START = 1_000_000
HOLD = RATE // 5
BEHIND = HOLD + 320 * RATE // 1000  # what the writer leaves in the tap: its guard and tolerance
ROUND = RATE // 5

Stretches = list[tuple[Cause, int, int]]

# Each mu-law value decodes to one that it is the code of: encoding it again changes nothing.
_LEVELS = np.array([132, 396, 1052, 2876, 5372, 9852, 15996, -132, -652, -2108, -4860, -11900], np.int16)


def noise(seconds: float, seed: int = 7) -> Samples:
    """Sound that is unlike itself at any other moment, and the same after G.711."""
    chosen: Samples = np.random.default_rng(seed).choice(_LEVELS, round(seconds * RATE))
    return chosen


def record(
    arrivals: Sequence[tuple[int, Sent]], length: int, behind: int = BEHIND
) -> tuple[Samples, Stretches, RtpTap]:
    """The timeline of `length` samples that comes of these packets, and its gaps."""
    tap = RtpTap("a", RATE, 8 * RATE, HOLD, START)
    pieces: list[Samples] = []
    gaps: Stretches = []
    read_to, round_at = 0, ROUND
    for arrival, packet in [*arrivals, (length, None)]:
        while round_at <= arrival:
            tap._set_now(START + round_at)
            if round_at - behind > read_to:
                pieces.append(tap.read(round_at - behind - read_to)[1])
                read_to = round_at - behind
            gaps += tap.take_gaps()
            round_at += ROUND
        tap._set_now(START + arrival)
        if packet is not None:
            tap._put(packet.data, "telephone-event" if packet.data[1] & 0x7F == EVENT else "")
    tap.detach()
    pieces.append(tap.read(length - read_to)[1])
    gaps += tap.take_gaps(True)
    samples = np.concatenate(pieces)
    assert len(samples) == length
    return samples, [(cause, start - START, count) for cause, start, count in gaps], tap


def test_packets_of_any_length_that_changes_stand_where_they_were_said() -> None:
    phone = Phone(sequence=65_530, timestamp=2**32 - 3000)  # both wrap within
    for number, ptime_ms in enumerate((10, 20, 30, 40, 60, 20, 10, 60)):
        phone.talk(noise(0.6, number), ptime_ms)
    samples, gaps, _ = record(Network().carry(phone.sent), phone.now)
    assert np.array_equal(samples, timeline(phone.sent, phone.now))
    assert gaps == []


@pytest.mark.parametrize("jitter_ms", [20, 60, 200])
@pytest.mark.parametrize("reordered", [True, False])
def test_jitter_and_duplicates_move_nothing_and_hide_no_loss(jitter_ms: int, reordered: bool) -> None:
    phone = Phone(timestamp=99)
    phone.talk(noise(8))
    network = Network(loss=0.05, duplicates=0.3, jitter_ms=jitter_ms, reordered=reordered)
    arrivals = network.carry(phone.sent)
    came = {packet.sequence for _, packet in arrivals}
    samples, gaps, tap = record(arrivals, phone.now + RATE)
    assert np.array_equal(samples, timeline([p for p in phone.sent if p.sequence in came], phone.now + RATE))
    missing = [p for p in phone.sent if p.sequence not in came]
    assert tap.lost == len(missing) > 10
    lost = [(start, count) for cause, start, count in gaps if cause == "loss"]
    assert marked(lost) == marked([(p.said, 160) for p in missing])
    assert [(cause, start) for cause, start, _ in gaps if cause != "loss"] == [("no_rtp", phone.now)]


def test_a_first_packet_that_has_overtaken_others_hides_no_loss() -> None:
    phone = Phone(sequence=2)
    phone.talk(noise(2))
    arrivals = later(Network().carry(phone.sent, lost=[40, 41]), 0, 3 * 160, 640)
    samples, gaps, tap = record(arrivals, phone.now)
    assert tap.lost == 2
    assert gaps == [("loss", 40 * 160, 320)]
    assert np.array_equal(samples, timeline([*phone.sent[:40], *phone.sent[42:]], phone.now))


def marked(stretches: list[tuple[int, int]]) -> set[int]:
    """The packets' places of 20 ms that these stretches take."""
    return {at for start, count in stretches for at in range(start, start + count, 160)}


def test_a_burst_of_lost_packets_is_one_gap_of_their_length() -> None:
    phone = Phone()
    phone.talk(noise(3))
    samples, gaps, tap = record(Network().carry(phone.sent, lost=range(50, 80)), phone.now)
    assert gaps == [("loss", 50 * 160, 30 * 160)]
    assert tap.lost == 30
    assert np.array_equal(samples, timeline([*phone.sent[:50], *phone.sent[80:]], phone.now))


def test_packets_that_come_after_their_turn_are_late_and_not_lost() -> None:
    phone = Phone()
    phone.talk(noise(4))
    arrivals = later(Network().carry(phone.sent), 50 * 160, 53 * 160, round(0.9 * RATE))
    samples, gaps, tap = record(arrivals, phone.now)
    assert tap.lost == 0
    assert np.array_equal(samples, timeline([*phone.sent[:50], *phone.sent[53:]], phone.now))
    kept = Gaps(RATE)
    for cause, start, count in gaps:
        kept.add(Gap(cause, "a", start, count))
    assert kept.listed == (Gap("late", "a", 50 * 160, 3 * 160),)


def test_packets_that_come_much_too_late_do_no_harm() -> None:
    phone = Phone()
    phone.talk(noise(5))
    arrivals = later(Network().carry(phone.sent), 50 * 160, 53 * 160, 2 * RATE)
    samples, _, tap = record(arrivals, phone.now)
    assert np.array_equal(samples, timeline([*phone.sent[:50], *phone.sent[53:]], phone.now))
    assert tap.lost <= 3


def test_a_sender_that_counts_again_from_where_it_began_is_heard() -> None:
    """The same source, sequence numbers and timestamps all over, as after a move to another address."""
    phone = Phone()
    phone.talk(noise(2))
    phone.begin_anew(sequence=0, timestamp=0)
    phone.talk(noise(2, 8))
    phone.begin_anew(sequence=0, timestamp=0)
    phone.pause(3, timestamps_run=False)
    phone.talk(noise(2, 9))
    samples, gaps, tap = record(Network().carry(phone.sent), phone.now)
    assert np.array_equal(samples, timeline(phone.sent, phone.now))
    assert gaps == [("no_rtp", 4 * RATE, 3 * RATE)]
    assert tap.lost == 0


def test_discontinuous_transmission_is_silence_of_its_length_with_its_cause() -> None:
    phone = Phone()
    phone.talk(noise(1))
    phone.comfort_noise()
    phone.pause(0.7)
    phone.talk(noise(0.5, 8), marker=True)
    phone.pause(1.5)  # without comfort noise
    phone.talk(noise(0.5, 9), marker=True)
    phone.comfort_noise()
    phone.pause(0.5)
    samples, gaps, tap = record(Network().carry(phone.sent), phone.now)
    assert np.array_equal(samples, timeline(phone.sent, phone.now))
    assert gaps == [("dtx", 8000, 5600), ("dtx", 17600, 12000), ("dtx", 33600, 4000)]
    assert tap.lost == 0


def test_a_packet_lost_before_a_pause_is_told_from_the_pause() -> None:
    phone = Phone()
    phone.talk(noise(1))
    phone.pause(1)
    phone.talk(noise(1, 8), marker=True)
    _, gaps, _ = record(Network().carry(phone.sent, lost=[49]), phone.now)
    assert gaps == [("loss", 49 * 160, 160), ("dtx", 8000, 8000)]


def test_telephone_events_leave_the_clock_alone_and_their_span_says_so() -> None:
    phone = Phone()
    phone.talk(noise(1))
    phone.digit(5, packets=100)  # two seconds, all with the timestamp of its beginning
    phone.talk(noise(1, 8))
    samples, gaps, tap = record(Network().carry(phone.sent), phone.now)
    assert np.array_equal(samples, timeline(phone.sent, phone.now))
    assert gaps == [("event", 8000, 16000)]
    assert tap.lost == 0


@pytest.mark.parametrize("hold_s", [0.3, 0.5, 0.7, 0.95, 5])
@pytest.mark.parametrize("timestamps_run", [True, False])
def test_a_hold_is_silence_of_its_length_whether_timestamps_run_or_stand_still(
    hold_s: float, timestamps_run: bool
) -> None:
    phone = Phone()
    phone.talk(noise(2))
    phone.pause(hold_s, timestamps_run=timestamps_run)
    phone.talk(noise(2, 8))
    samples, gaps, tap = record(Network().carry(phone.sent), phone.now)
    assert np.array_equal(samples, timeline(phone.sent, phone.now))
    assert gaps == [("dtx" if timestamps_run else "no_rtp", 16000, round(hold_s * RATE))]
    assert tap.lost == 0


@pytest.mark.parametrize("same_source", [True, False])
def test_another_source_or_timestamps_that_begin_anew_go_on_where_they_come_in(same_source: bool) -> None:
    phone = Phone()
    phone.talk(noise(1))
    phone.begin_anew(ssrc=None if same_source else 9, sequence=30_000, timestamp=1 << 31)
    phone.talk(noise(1, 8))
    phone.begin_anew(ssrc=None if same_source else 0x5EED, sequence=5, timestamp=3_000_000_000)
    phone.talk(noise(1, 9))
    samples, gaps, tap = record(Network().carry(phone.sent), phone.now)
    assert np.array_equal(samples, timeline(phone.sent, phone.now))
    assert gaps == []
    assert tap.lost == 0


def test_two_sources_that_overlap_do_not_unsettle_one_another() -> None:
    """Around a transfer the old party's last packets come among the new one's first."""
    old, new = Phone(ssrc=1), Phone(ssrc=2, timestamp=5_000_000, sequence=900)
    old.talk(noise(2))
    new.pause(1.8, timestamps_run=False)
    new.talk(noise(2, 8))
    arrivals = sorted([*Network().carry(old.sent), *Network().carry(new.sent)], key=lambda one: one[0])
    samples, gaps, tap = record(arrivals, new.now)
    expected = timeline([*old.sent, *new.sent], new.now)
    apart = np.r_[0 : round(1.8 * RATE), 2 * RATE : new.now]
    assert np.array_equal(samples[apart], expected[apart])
    assert gaps == []
    assert tap.lost == 0


@pytest.mark.parametrize("stall_s", [0.1, 0.3, 0.45])
def test_a_stall_at_the_start_costs_nothing(stall_s: float) -> None:
    """The first packets come at one moment: they are put where they were said as soon as that is known."""
    phone = Phone()
    phone.talk(noise(2))
    stop = round(stall_s * RATE)
    samples, gaps, _ = record(stalled(Network().carry(phone.sent), 0, stop), phone.now)
    expected = timeline(phone.sent, phone.now)
    late = max(0, stop + ROUND - BEHIND)  # what had been written by then
    assert np.array_equal(samples[late:], expected[late:])
    assert all(cause in ("late", "no_rtp") and start < late for cause, start, _ in gaps)


@pytest.mark.parametrize("stall_s", [0.1, 0.25, 0.5, 0.9])
def test_a_stall_within_the_call_costs_what_had_been_written_by_its_end(stall_s: float) -> None:
    phone = Phone()
    phone.talk(noise(5))
    begin, stop = 2 * RATE, 2 * RATE + round(stall_s * RATE)
    samples, gaps, tap = record(stalled(Network().carry(phone.sent), begin, stop), phone.now)
    expected = timeline(phone.sent, phone.now)
    late = max(begin, stop - BEHIND + ROUND)
    assert np.array_equal(samples[late:], expected[late:])
    assert np.array_equal(samples[:begin], expected[:begin])
    assert all(cause == "late" and begin <= start and start + count <= late for cause, start, count in gaps)
    assert tap.lost == 0


@pytest.mark.parametrize("stall_s", [0.26, 0.5, 0.9, 1.4])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_stall_leaves_no_trace_in_what_comes_after_it(stall_s: float, seed: int) -> None:
    """Whatever the jitter of those that end it: they are of the same stream, and stand by the same clock."""
    phone = Phone()
    phone.talk(noise(6))
    begin, stop = 2 * RATE, 2 * RATE + round(stall_s * RATE)
    carried = Network(jitter_ms=15, seed=seed).carry(phone.sent)
    arrivals = sorted(stalled(carried, begin, stop), key=lambda one: (one[0], one[1].sequence))
    samples, gaps, tap = record(arrivals, phone.now)
    expected = timeline(phone.sent, phone.now)
    late = max(begin, stop - BEHIND + ROUND)
    assert np.array_equal(samples[late:], expected[late:])
    assert all(cause == "late" and begin <= start and start + count <= late for cause, start, count in gaps)
    assert tap.lost == 0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("jitter_ms", [0, 15])
def test_stalls_that_come_again_and_again_move_nothing(seed: int, jitter_ms: int) -> None:
    """From the first moment to the last nothing gets through for 50 to 400 ms, then for 1 to 200 ms all does."""
    phone = Phone(timestamp=99)
    phone.talk(noise(8, seed))
    random = Random(seed)
    arrivals, at = Network(jitter_ms=jitter_ms, reordered=False, seed=seed).carry(phone.sent), 0
    while at < phone.now - RATE:
        begin = at + random.randint(8, 1600)
        at = begin + random.randint(400, 3200)
        arrivals = stalled(arrivals, begin, at)
    samples, gaps, tap = record(arrivals, phone.now)
    assert np.array_equal(samples, timeline(phone.sent, phone.now))
    assert gaps == []
    assert tap.lost == tap.late_samples == 0


@pytest.mark.parametrize("seed", range(5))
def test_a_machine_that_runs_for_moments_only_strays_by_less_than_a_packet(seed: int) -> None:
    """Every 50 to 400 ms it takes what has come: of each burst the last packet tells most, and that by chance."""
    phone = Phone()
    phone.talk(noise(12, seed))
    random, moments = Random(seed), [0]
    while moments[-1] < phone.now - RATE:
        moments.append(moments[-1] + random.randint(400, 3200))
    arrivals = [(min((at for at in moments if at > packet.said), default=packet.said), packet) for packet in phone.sent]
    samples, _, tap = record(arrivals, phone.now + RATE // 10)
    strays = [where(packet.sound[40:60], samples, packet.said + 40) for packet in phone.sent]
    assert max(strays) - min(strays) < 160
    assert tap.lost == 0


def where(sound: Samples, samples: Samples, about: int) -> int:
    """How far from there this sound is, at most half a second, which is there once."""
    start = max(0, about - RATE // 2)
    windows = np.lib.stride_tricks.sliding_window_view(samples[start : about + RATE // 2 + len(sound)], len(sound))
    (found,) = np.flatnonzero((windows == sound).all(axis=1))
    return start + int(found) - about


def test_markers_padding_extensions_and_what_is_no_sound_move_nothing_and_are_no_loss() -> None:
    phone = Phone(sequence=65_500)
    for number, (kind, payload) in enumerate(
        [(77, bytes(160)), (PCMU, b""), (13, b""), (35, b"?"), (127, bytes(1400))]
    ):
        phone.talk(noise(0.5, number))
        phone.odd(kind, payload)
        phone.talk(noise(0.5, number + 10))
    arrivals = [*oddly_wrapped(Network().carry(phone.sent))]
    samples, gaps, tap = record(arrivals, phone.now)
    assert np.array_equal(samples, timeline(phone.sent, phone.now))
    assert gaps == []
    assert tap.lost == tap.late_samples == 0


def test_events_by_another_clock_are_where_they_came_in() -> None:
    """A phone may count them 8000 a second beside Opus, which counts 48000."""
    phone = Phone(timestamp=48_000)
    phone.talk(noise(1))
    phone.timestamp += 500_000
    phone.digit(5, packets=10)
    phone.timestamp -= 500_000
    phone.talk(noise(1, 8))
    samples, _, tap = record(Network().carry(phone.sent), phone.now)
    assert np.array_equal(samples, timeline(phone.sent, phone.now))
    spans = [(start - START, start - START + length) for start, length in tap.take_events()]
    assert min(start for start, _ in spans) == 8000 - 160  # its packets say what is over before they leave
    assert max(stop for _, stop in spans) == 8000 + 9 * 160


@pytest.mark.parametrize("hours", [3, -3, 100])
def test_timestamps_that_jump_by_hours_go_on_where_they_come_in(hours: int) -> None:
    phone = Phone(timestamp=5 * 3600 * RATE)
    for number in range(3):
        phone.talk(noise(1, number))
        phone.timestamp += hours * 3600 * RATE
    samples, gaps, tap = record(Network(jitter_ms=15, reordered=False).carry(phone.sent), phone.now + RATE)
    strays = [where(packet.sound[40:60], samples, packet.said + 40) for packet in phone.sent]
    assert min(strays) >= -8
    assert max(strays) < 160
    assert {cause for cause, _, count in gaps if count >= 160} <= {"no_rtp"}
    assert tap.lost == 0


def test_one_packet_with_a_wild_timestamp_does_no_harm() -> None:
    phone, stray = Phone(), Phone(timestamp=123_456_789, sequence=100)
    phone.talk(noise(2))
    phone.sequence += 1
    phone.talk(noise(2, 8))
    stray.pause(2, timestamps_run=False)
    stray.talk(noise(0.02, 9))
    arrivals = sorted([*Network().carry(phone.sent), *Network().carry(stray.sent)], key=lambda one: one[0])
    samples, _, _ = record(arrivals, phone.now)
    expected = timeline(phone.sent, phone.now)
    apart = np.r_[0 : 2 * RATE, 2 * RATE + 160 : phone.now]
    assert np.array_equal(samples[apart], expected[apart])


@pytest.mark.parametrize("by_ms", [60, 150, -60])
def test_a_route_that_is_longer_for_good_is_followed_in_the_next_pause(by_ms: int) -> None:
    """The speech stays whole: what comes and goes is a stretch of a pause, within five seconds."""
    phone = Phone()
    by = by_ms * RATE // 1000
    for number in range(12):  # a second of speech, then half a second of quiet: packets without sound
        phone.talk(noise(1, number))
        phone.talk(np.zeros(RATE // 2, np.int16))
    changed = 5 * RATE
    arrivals = [(at + max(0, -by) + (by if at >= changed else 0), packet) for at, packet in Network().carry(phone.sent)]
    samples, gaps, tap = record(arrivals, phone.now + RATE // 2)
    base = max(0, -by)
    pauses = [round((1.5 * number + 1) * RATE) for number in range(12)]
    first = next(pause for pause in pauses if pause > changed + 2 * RATE)
    found = []
    for pause in pauses:
        if changed <= pause <= changed + 6 * RATE:
            expected = timeline(shifted(shifted(phone.sent, 0, base), pause + base, by), len(samples))
            margin = abs(by) + 320
            apart = np.r_[0 : pause + base - margin, pause + base + margin : len(samples)]
            found.append((pause, bool(np.array_equal(samples[apart], expected[apart]))))
    assert any(same for _, same in found), found
    assert next(pause for pause, same in found if same) - first <= 3 * RATE
    assert gaps in ([], [("no_rtp", gaps[0][1], gaps[0][2])] if gaps else [])
    assert tap.late_samples == 0


def test_one_way_media_is_a_leg_that_never_started() -> None:
    samples, gaps, _ = record([], 3 * RATE)
    assert not samples.any()
    assert gaps == [("never_started", 0, 3 * RATE)]


def test_waiting_for_the_answer_takes_no_room_however_long_it_rings() -> None:
    """Early media settles the clock, and the first word after the answer is there."""
    phone = Phone()
    phone.talk(noise(30))
    tap = RtpTap("a", RATE, 8 * RATE, HOLD, START)
    tap.wait()
    answer = 25 * RATE + 37
    started = False
    for packet in phone.sent:
        if packet.leaves >= answer and not started:
            tap._set_now(START + answer)
            tap.start(START + answer)
            started = True
        if packet.sequence % 10:  # a tenth is lost, of which those before the answer are not the recording's
            tap._set_now(START + packet.leaves)
            tap._put(packet.data)
    tap._set_now(START + phone.now)
    tap.detach()
    position, samples = tap.read(phone.now - answer)
    assert position == START + answer
    came = [packet for packet in phone.sent if packet.sequence % 10 and packet.leaves >= answer]
    assert np.array_equal(samples, timeline(came, phone.now)[answer:])
    assert tap.dropped_samples == tap.late_samples == 0
    causes = {cause for cause, _, _ in tap.take_gaps(True)}
    assert causes == {"loss"}
    assert tap.lost == sum(packet.sequence % 10 == 0 and packet.leaves + 160 > answer for packet in phone.sent)
