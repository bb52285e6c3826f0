"""Recordings of 16 kHz, and codecs with a memory, in real calls: what is heard, where, and what must not be."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recorder.loadtest.subject import Subject
from tests.endtoend.conftest import CHANGES, Bench, Call, Kept, check_silent, later, silent_port
from tests.endtoend.test_transfer import APPLICATION_HZ, CALLER_HZ, TARGET_HZ, check_voices, play
from tests.peers.codecs import G722, G729, GSM, OPUS, PCMU, Speech
from tests.peers.rtp import RtpPeer
from tests.tones import amplitude_of, chirp, level, offset_of, silence, sine

pytestmark = pytest.mark.moments

ALIGNED_S = 0.020
HISS_HZ = 6000  # nothing that has been through 8 kHz holds it
PLAIN = "m=audio [rtpstream_audio_port] RTP/AVP 0 101\na=rtpmap:0 PCMU/8000"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Numbers that begin with 8 follow their codecs, those with 1 are recorded at 16 kHz, the others at 8."""
    changes = CHANGES | {
        "trunks": [CHANGES["trunks"][0] | {"transfer": "allow"}],
        "accounts": [
            {
                "id": "auto",
                "group": "tests",
                "record": True,
                "match": {"called": "8.*"},
                "format": {"sample_rate_hz": "auto"},
            },
            {
                "id": "wide",
                "group": "tests",
                "record": True,
                "match": {"called": "1.*"},
                "format": {"sample_rate_hz": 16000},
            },
            {"id": "narrow", "group": "tests", "record": True},
        ],
    }
    subject = Subject(tmp_path_factory.mktemp("wideband"), changes=changes)
    other = {"name": "other", "match": {"called": "9.*"}, "target": f"sip:{{user}}@127.0.0.1:{silent_port(subject)}"}
    subject.configuration["routes"].insert(0, other)
    with subject:
        yield Bench(subject)
        assert subject.stop() == 0, subject.log_tail()
    assert subject.trouble() == []


def as_spoken(speech: Speech, port: int | str) -> tuple[str, str]:
    """The change to a scenario whose audio is to be this."""
    number = speech.payload_type
    return PLAIN, f"m=audio {port} RTP/AVP {number} 101\na=rtpmap:{number} {speech.rtpmap}"


def mute_of_playing(who: str) -> tuple[str, str]:
    return f'  <nop><action><exec rtp_stream="{who}.ulaw,-1,0,PCMU/8000"/></action></nop>\n', ""


def call_with(bench: Bench, called: str, a: tuple[RtpPeer, Speech], b: tuple[RtpPeer, Speech], **more: Any) -> Call:
    """A call of 3 s between these voices."""
    return bench.call(
        "uac-call",
        more.get("application", "uas-answer"),
        seconds=3,
        voices=(a[0], b[0]),
        caller_plan={"called": called, "edit": [as_spoken(a[1], a[0].port), mute_of_playing("caller")]},
        application_plan={"edit": [as_spoken(b[1], b[0].port), mute_of_playing("callee")], **more.get("plan", {})},
    )


def late_s(kept: Kept, peer: RtpPeer, sent_s: float) -> float:
    """How much later the chirp that was said at `sent_s` stands in the recording."""
    first_s = max(0.0, sent_s - 0.3)
    part = kept.samples[round(first_s * kept.rate) : round((first_s + 1.5) * kept.rate)]
    at = first_s + offset_of(part, chirp(0.8, kept.rate)) / kept.rate
    assert peer.first_sent_s is not None
    answered_s: float = kept.manifest["answered_ms"] / 1000
    return at - (peer.first_sent_s + sent_s - answered_s)


def said(speech: Speech, before_s: float, hiss: int = 0) -> list[bytes]:
    """A chirp after `before_s`, then silence, up to 3 s; all over a hiss."""
    whole = np.concatenate([silence(before_s, speech.rate), chirp(0.8, speech.rate), silence(3, speech.rate)])
    return speech.encode((whole + sine(HISS_HZ, len(whole) / speech.rate, speech.rate, hiss))[: 3 * speech.rate])


@pytest.mark.parametrize(
    ("a_speech", "b_speech"),
    [(G722, PCMU), (PCMU, replace(OPUS, payload_type=96)), (OPUS, G722)],
    ids=lambda speech: speech.name,
)
def test_a_recording_follows_its_wideband_leg(bench: Bench, a_speech: Speech, b_speech: Speech) -> None:
    """It has 16,000 samples a second, holds what only such have, and both legs stand where they were said."""
    hisses = [2000 if speech.rate > 8000 else 0 for speech in (a_speech, b_speech)]
    with (
        RtpPeer(said(a_speech, 0.3, hisses[0]), a_speech) as a,
        RtpPeer(said(b_speech, 1.5, hisses[1]), b_speech) as b,
    ):
        call = call_with(bench, "8000", (a, a_speech), (b, b_speech))
    kept = bench.kept(call)
    assert kept.rate == kept.manifest["format"]["sample_rate_hz"] == 16000
    a_late, b_late = late_s(kept, a, 0.3), late_s(kept, b, 1.5)
    assert a_late == pytest.approx(b_late, abs=ALIGNED_S)
    assert a_late == pytest.approx(0, abs=2 * ALIGNED_S)
    assert amplitude_of(kept.samples[kept.rate : 2 * kept.rate], HISS_HZ, kept.rate) > 0.5 * max(hisses)


def test_a_call_without_a_wideband_leg_is_recorded_at_8_khz(bench: Bench) -> None:
    call = bench.call("uac-call", "uas-answer", seconds=0.6, caller_plan={"called": "8000"})
    assert bench.kept(call).rate == 8000


def test_a_wideband_leg_in_a_recording_of_8_khz_leaves_no_mirror_image(bench: Bench) -> None:
    with RtpPeer(said(G722, 0.3, 4000), G722) as a, RtpPeer(said(PCMU, 1.5), PCMU) as b:
        kept = bench.kept(call_with(bench, "7000", (a, G722), (b, PCMU)))
    assert kept.rate == 8000
    assert late_s(kept, a, 0.3) == pytest.approx(late_s(kept, b, 1.5), abs=ALIGNED_S)
    quiet = kept.samples[round(2.5 * kept.rate) : round(2.8 * kept.rate)]
    assert amplitude_of(quiet, 8000 - HISS_HZ, 8000) < 100


@pytest.mark.parametrize("speech", [G722, OPUS, G729, GSM], ids=lambda speech: speech.name)
def test_a_sensitive_step_is_zeros_in_each_codec(bench: Bench, speech: Speech) -> None:
    """At 16 kHz, whatever the codec; before and after it both are heard."""
    with (
        RtpPeer(speech.encode(sine(440, 3.0, speech.rate)), speech) as a,
        RtpPeer(speech.encode(sine(880, 3.0, speech.rate)), speech) as b,
    ):
        plan = {"variables": {"mute_after": 900, "mute_for": 900}}
        call = call_with(bench, "1000", (a, speech), (b, speech), application="uas-answer-mute", plan=plan)
    kept = bench.kept(call)
    assert kept.rate == 16000
    [step] = kept.manifest["redactions"]
    first, last = step["start_sample"], step["start_sample"] + step["samples"]
    infos = [m.time_s - kept.manifest["answered_ms"] / 1000 for m in call.application.sent("INFO")]
    assert later(first / kept.rate, infos[0] - 0.3)
    assert later(last / kept.rate, infos[1] + 0.06)
    check_silent(kept.samples[first:last])
    # A decoder that has forgotten the step has forgotten the tone, too, which is nearly all that G.729 goes by.
    least = 1000 if speech is G729 else 5000
    for around, loud in (
        (kept.samples[first - kept.rate // 5 : first], 5000),
        (kept.samples[last + kept.rate // 10 :][: kept.rate // 5], least),
    ):
        assert amplitude_of(around, 440, kept.rate) > loud
        assert amplitude_of(around, 880, kept.rate) > loud


@pytest.mark.parametrize("speech", [OPUS, G729], ids=lambda speech: speech.name)
def test_lost_packets_are_silence_of_their_length(bench: Bench, speech: Speech) -> None:
    """60 ms are missing; what comes after them stands where it was said."""
    lost = range(50, 53)

    def drop(packet: bytes) -> bytes:
        return b"" if struct.unpack_from("!H", packet, 2)[0] in lost else packet

    with RtpPeer(speech.encode(sine(440, 3.0, speech.rate)), speech) as a, RtpPeer(said(PCMU, 1.5), PCMU) as b:
        a.protect = drop
        kept = bench.kept(call_with(bench, "7000", (a, speech), (b, PCMU)))
    [gap] = [gap for gap in kept.manifest["gaps"] if gap["cause"] == "loss"]
    assert (gap["leg"], gap["duration_s"]) == ("a", pytest.approx(0.06, abs=0.001))
    assert a.first_sent_s is not None
    hole = round((a.first_sent_s + 1.0 - kept.manifest["answered_ms"] / 1000) * kept.rate)
    around = np.flatnonzero(kept.samples[hole - kept.rate // 5 : hole + kept.rate // 5])
    holes = np.diff(around)
    assert holes.max() == pytest.approx(0.06 * kept.rate, abs=2)
    assert around[int(np.argmax(holes))] == pytest.approx(kept.rate // 5, abs=ALIGNED_S * kept.rate)


def test_reinvite_to_a_wideband_codec(bench: Bench) -> None:
    """uac-reinvite-pcma, with G.722: a recording that was begun at 8 kHz stays so, and its positions too."""
    with (
        RtpPeer(PCMU.encode(sine(440, 1.2)), PCMU) as old,
        RtpPeer(G722.encode(sine(660, 4.0, 16000)), G722, when_heard=True) as new,
        RtpPeer(PCMU.encode(sine(880, 4.0)), PCMU) as far,
    ):
        second = "m=audio [rtpstream_audio_port] RTP/AVP 8 101\na=rtpmap:8 PCMA/8000"
        call = bench.call(
            "uac-reinvite-pcma",
            "uas-answer",
            seconds=1.2,
            voices=(old, far),
            caller_plan={
                "called": "8000",
                "edit": [
                    as_spoken(PCMU, old.port),
                    (second, f"m=audio {new.port} RTP/AVP 9 101\na=rtpmap:9 G722/8000"),
                    mute_of_playing("caller"),
                    ('  <nop><action><exec rtp_stream="caller.alaw,-1,8,PCMA/8000"/></action></nop>\n', ""),
                ],
            },
            application_plan={"edit": [as_spoken(PCMU, far.port), mute_of_playing("callee")]},
        )
    kept = bench.kept(call)
    assert kept.rate == 8000
    moved = round((call.caller.sent("INVITE")[-1].time_s - kept.manifest["answered_ms"] / 1000) * kept.rate)
    before, after = kept.samples[3200 : moved - 800], kept.samples[moved + 4000 :][:4000]
    assert amplitude_of(before, 440) > 6000
    assert amplitude_of(before, 660) < 500
    assert amplitude_of(after, 660) > 6000
    assert amplitude_of(after, 440) < 500
    assert min(amplitude_of(part, 880) for part in (before, after)) > 6000
    assert kept.manifest["legs"]["a"]["codec"] == "G722"
    ended = max(m.time_s for m in call.caller.messages if m.method == "BYE")
    assert later(len(kept.samples) / kept.rate, ended - kept.manifest["answered_ms"] / 1000)


def test_a_transfer_in_a_recording_of_16_khz(bench: Bench, tmp_path: Path) -> None:
    """uac-transfer: positions of who left and who came are those of the file."""
    three = play(bench, tmp_path, "uac-transfer", "uas-answer", "uas-bye")
    kept = bench.kept(three.call)
    assert kept.rate == 16000
    check_voices(kept, {CALLER_HZ, APPLICATION_HZ}, {TARGET_HZ, APPLICATION_HZ})
    [earlier] = kept.manifest["legs"]["earlier"]
    assert 0.5 < earlier["until_s"] < len(kept.samples) / kept.rate
    assert level(kept.samples[-kept.rate // 2 :]) > 1000
