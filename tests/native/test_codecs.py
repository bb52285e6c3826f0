"""Every codec below the jitter buffer: real packets, put as a network brings them, read as samples on one timeline."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.native import RtpTap
from tests.peers.codecs import G722, G729, GSM, OPUS, PCMA, PCMU, Speech
from tests.tones import Samples, amplitude_of, chirp, level, offset_of, silence, sine

START = 1_000_000  # at 8000; twice that at 16000
HOLD_S = 0.2
PACKET_S = 0.02
ALL = [PCMU, PCMA, GSM, G722, G729, OPUS]
STATEFUL = [GSM, G722, G729, OPUS]
RATES = [8000, 16000]


def named(speeches: Sequence[Speech]) -> list[object]:
    return [pytest.param(speech, id=speech.name) for speech in speeches]


class Line:
    """A tap at the end of a line that brings packets at moments of our choosing; times are in seconds."""

    def __init__(self, rate: int, speech: Speech = PCMU, *, capacity_s: float = 10) -> None:
        self.rate = rate
        self.speech = speech
        self.start = START * rate // 8000
        self.tap = RtpTap("a", rate, round(capacity_s * rate), round(HOLD_S * rate), self.start)

    def at(self, seconds: float) -> int:
        return self.start + round(seconds * self.rate)

    def bring(
        self,
        payload: bytes,
        number: int,
        arrival_s: float,
        *,
        speech: Speech | None = None,
        ssrc: int = 7,
        wrap: int = 0,
    ) -> None:
        """The `number`-th packet of 20 ms comes in; the stream's numbers and timestamps begin at `wrap`."""
        speech = speech or self.speech
        stamp = (wrap + number * speech.ticks) % 2**32
        header = struct.pack("!BBHII", 0x80, speech.payload_type, (wrap + number) % 2**16, stamp, ssrc)
        self.tap._set_now(self.at(arrival_s))
        self.tap._put(header + payload, speech.name)

    def bring_all(self, payloads: Iterable[bytes], first: int = 0, **more: int) -> None:
        """Packets come one after another, each just when it is sent."""
        for number, payload in enumerate(payloads, first):
            self.bring(payload, number, number * PACKET_S, **more)

    def heard(self, seconds: float, block_s: float = 0.4) -> Samples:
        """Everything up to `seconds`, read as the writer reads."""
        blocks = []
        while (read := sum(map(len, blocks))) < round(seconds * self.rate):
            stop = min(round(seconds * self.rate), read + round(block_s * self.rate))
            self.tap._set_now(self.start + stop + round(HOLD_S * self.rate))
            position, samples = self.tap.read(stop - read)
            assert position == self.start + read
            blocks.append(samples)
        return np.concatenate(blocks)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("speech", named(ALL))
def test_what_was_said_in_one_moment_stands_in_one_place(speech: Speech, rate: int) -> None:
    """Within what the codecs themselves delay: 7 ms at most, by RFC 6716, section 2, and G.729, section 2.3."""
    line = Line(rate, speech)
    said = np.concatenate([silence(0.5, speech.rate), chirp(1.0, speech.rate), silence(0.5, speech.rate)])
    line.bring_all(speech.encode(said))
    heard = line.heard(2.0)
    assert 0 <= offset_of(heard, chirp(1.0, rate)) / rate - 0.5 <= 0.007
    assert level(heard[round(0.6 * rate) : round(1.4 * rate)]) == pytest.approx(8000 / np.sqrt(2), rel=0.3)
    assert line.tap.late_samples == line.tap.dropped_samples == 0


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("speech", named(ALL))
def test_jitter_and_reordering_change_no_sample(speech: Speech, rate: int) -> None:
    """A decoder is given its packets in their order, whatever their order was."""
    payloads = speech.encode(chirp(2.0, speech.rate))
    plain, shaken = Line(rate, speech), Line(rate, speech)
    plain.bring_all(payloads)
    random = np.random.default_rng(7)
    late = random.uniform(0, 0.19, len(payloads))
    late[0] = 0
    for number in np.argsort(np.arange(len(payloads)) * PACKET_S + late):
        for _ in range(1 + int(number) % 5 // 4):  # some come twice
            shaken.bring(
                payloads[number], int(number), number * PACKET_S + late[number], wrap=2**32 - 50 * speech.ticks
            )
    np.testing.assert_array_equal(shaken.heard(2.0), plain.heard(2.0))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("speech", named(ALL))
def test_a_lost_packet_is_silence_of_its_length_and_no_more(speech: Speech, rate: int) -> None:
    payloads = speech.encode(chirp(2.0, speech.rate))
    line, whole = Line(rate, speech), Line(rate, speech)
    whole.bring_all(payloads)
    lost = {40, 41, 60}
    for number, payload in enumerate(payloads):
        if number not in lost:
            line.bring(payload, number, number * PACKET_S)
    heard, expected = line.heard(2.0), whole.heard(2.0)
    packet = round(rate * PACKET_S)
    for first, last in ((40, 42), (60, 61)):
        assert not heard[first * packet : last * packet].any()
        np.testing.assert_array_equal(heard[: (40 - 1) * packet], expected[: (40 - 1) * packet])
        # The decoder has missed something: it finds back. That of G.729, whose tone is all memory, takes its time.
        again, meant = (one[(last + 5) * packet : (last + 15) * packet].astype(int) for one in (heard, expected))
        assert level(again) > 0.25 * level(meant)
        assert speech is G729 or level(again - meant) < 0.2 * level(meant)
    assert line.tap.lost == len(lost)


@pytest.mark.parametrize("speech", named([G722, OPUS]))
def test_wideband_in_a_narrow_file_has_no_mirror_images(speech: Speech) -> None:
    """6 kHz would be heard at 2 kHz if every other sample were just left out."""
    said = sine(6000, 1.0, speech.rate)
    line = Line(8000, speech)
    line.bring_all(speech.encode(said))
    assert level(line.heard(1.0)[800:-800]) < 80
    wide = Line(16000, speech)
    wide.bring_all(speech.encode(said))
    assert amplitude_of(wide.heard(1.0)[1600:-1600], 6000, 16000) > 5000


@pytest.mark.parametrize("speech", named([PCMU, PCMA, GSM, G729]))
def test_narrow_audio_in_a_wide_file_gains_nothing_above_4_khz(speech: Speech) -> None:
    line = Line(16000, speech)
    line.bring_all(speech.encode(sine(1000, 1.0)))
    heard = line.heard(1.0)[1600:-1600]
    assert amplitude_of(heard, 1000, 16000) == pytest.approx(8000, rel=0.15)
    assert amplitude_of(heard, 7000, 16000) < 16


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("speech", named(ALL))
@pytest.mark.parametrize("guard_s", [0.06, 0.053])
def test_what_is_behind_the_gate_is_zeros_and_nothing_of_it_is_heard_later(
    speech: Speech, rate: int, guard_s: float
) -> None:
    """Two lines hear the same but for what is behind the gate: what they have is the same, to the last bit."""
    before, after = chirp(0.6, speech.rate), chirp(0.8, speech.rate)
    found = []
    for secret in (sine(2500, 0.6, speech.rate, 20000), sine(700, 0.6, speech.rate, 15000)):
        line = Line(rate, speech)
        payloads = speech.encode(np.concatenate([before, secret, after]))
        # The encoders' own memory of the secret is not what this is about: the packets after it are those of another.
        payloads[60:] = speech.encode(after)
        for number, payload in enumerate(payloads):
            if number == 30:
                shut = line.tap.close_gate()
            if number == 60:
                opened = line.tap.open_gate(round(guard_s * rate))
            line.bring(payload, number, number * PACKET_S)
        heard = line.heard(2.0)
        assert not heard[shut - line.start : opened - line.start].any()
        assert heard[opened - line.start + round(0.01 * rate) :].any()
        found.append(heard)
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("rate", RATES)
def test_each_codec_change_makes_another_decoder_and_no_gap(rate: int) -> None:
    """By re-INVITE, or of the far end's own accord; the RTP clock changes with Opus."""
    line = Line(rate)
    tones = []
    first = 0
    for turn, speech in enumerate(chain(ALL, ALL[::-1])):
        payloads = speech.encode(sine(500 + 100 * turn, 0.4, speech.rate))
        line.bring_all(payloads, first, speech=speech)
        first += len(payloads)
        tones.append(500 + 100 * turn)
    heard = line.heard(0.4 * len(tones))
    for turn, tone in enumerate(tones):
        middle = heard[round((0.4 * turn + 0.1) * rate) : round((0.4 * turn + 0.38) * rate)]
        assert amplitude_of(middle, tone, rate) == pytest.approx(8000, rel=0.2)
    quiet = np.flatnonzero(np.abs(heard.astype(int)) > 1000)
    assert np.diff(quiet).max() < 0.02 * rate


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("speech", named(STATEFUL))
def test_another_source_is_decoded_by_itself(speech: Speech, rate: int) -> None:
    payloads = speech.encode(chirp(1.0, speech.rate))
    alone, second = Line(rate, speech), Line(rate, speech)
    alone.bring_all(payloads, 25)
    second.bring_all(speech.encode(sine(2500, 0.5, speech.rate, 20000)), ssrc=1)
    second.bring_all(payloads, 25, ssrc=2)
    half = round(0.5 * rate)
    np.testing.assert_array_equal(second.heard(1.5)[half + rate // 100 :], alone.heard(1.5)[half + rate // 100 :])


@pytest.mark.parametrize("ppm", [100, -100])
@pytest.mark.parametrize("speech", named([G722, OPUS]))
def test_a_senders_clock_that_is_off_never_drifts_away(speech: Speech, ppm: int) -> None:
    """Ten minutes of it, faster than real time; the end stands where it was said."""
    line = Line(16000, speech, capacity_s=10)
    quiet = silence(0.45, speech.rate)
    beep = speech.encode(np.concatenate([quiet, sine(1000, 0.1, speech.rate), quiet]))
    worst = 0.0
    for second in range(600):
        for number, payload in enumerate(beep):
            said = (second + number * PACKET_S) * (1 + ppm / 1e6)
            line.bring(payload, 50 * second + number, said)
        line.tap._set_now(line.at((second + 1) * (1 + ppm / 1e6) + HOLD_S))
        position, samples = line.tap.read()
        if second > 5:
            loud = (position + int(np.argmax(np.abs(samples.astype(int)) > 2000)) - line.start) / line.rate
            worst = max(worst, abs(loud - (second + 0.45) * (1 + ppm / 1e6)))
    assert worst < 0.02


def test_packets_of_any_length_make_the_same_sound() -> None:
    """10 to 60 ms, changing: G.722 and G.711 hold any number of samples (RFC 3551, section 4.2)."""
    for speech in (PCMU, G722):
        encoded = b"".join(speech.encode(chirp(2.4, speech.rate)))
        plain, mixed = Line(16000, speech), Line(16000, speech)
        plain.bring_all([encoded[at : at + 160] for at in range(0, len(encoded), 160)])
        at = number = 0
        while at < len(encoded):
            size = 80 * (1, 2, 3, 4, 6)[number % 5]
            header = struct.pack("!BBHII", 0x80, speech.payload_type, number, at, 7)
            mixed.tap._set_now(mixed.at(at / 8000))
            mixed.tap._put(header + encoded[at : at + size])
            at, number = at + size, number + 1
        np.testing.assert_array_equal(mixed.heard(2.4), plain.heard(2.4))


@pytest.mark.parametrize("speech", named([PCMU, PCMA]))
def test_g711_is_decoded_to_the_bit(speech: Speech) -> None:
    """Each code as libsndfile decodes it."""
    codes = bytes(range(256)) + bytes(64)
    line = Line(8000, speech)
    line.bring_all([codes[:160], codes[160:]])
    np.testing.assert_array_equal(line.heard(0.04), speech.decode([codes]))


def test_g722_is_decoded_to_the_bit() -> None:
    """As FFmpeg decodes it, on sound and on noise."""
    noise = np.random.default_rng(3).integers(0, 256, 160 * 50).astype(np.uint8).tobytes()
    payloads = [*G722.encode(chirp(1.0, 16000)), *(noise[at : at + 160] for at in range(0, len(noise), 160))]
    line = Line(16000, G722)
    line.bring_all(payloads)
    np.testing.assert_array_equal(line.heard(2.0), G722.decode(payloads))


def test_pauses_described_by_their_noise_are_silence() -> None:
    """G.729 annex B: 2 bytes at the end of a packet, or alone in one."""
    line = Line(8000, G729)
    payloads = G729.encode(sine(1000, 0.2))
    line.bring_all([*payloads[:5], payloads[5][:10] + b"\x12\x34", b"\x12\x34"])
    heard = line.heard(0.4)
    assert heard[700:880].any()
    assert not heard[880:].any()


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.tuples(st.sampled_from([speech.name for speech in ALL]), st.integers(0, 60), st.binary(max_size=300)),
        max_size=40,
    ),
    st.sampled_from(RATES),
)
def test_payloads_of_any_bytes_hurt_nobody(packets: list[tuple[str, int, bytes]], rate: int) -> None:
    line = Line(rate)
    for number, (codec, step, payload) in enumerate(packets):
        line.tap._set_now(line.at(number * PACKET_S))
        line.tap._put(struct.pack("!BBHII", 0x80, 96, number, step * 160, 7) + payload, codec)
    assert len(line.heard(2.0)) == 2 * rate
