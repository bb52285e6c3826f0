"""Both legs speak one codec where they can, and packets pass as they are; where they cannot, each hears the other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from recorder.loadtest.sipp_output import SipMessage
from tests.endtoend.conftest import Bench, Call
from tests.peers.codecs import G722, G729, GSM, OPUS, PCMA, PCMU, Speech
from tests.peers.rtp import RtpPeer
from tests.tones import amplitude_of, offset_of, silence, sine, tone_onset, tone_share

pytestmark = pytest.mark.moments

ALIGNED_S = 0.020
SHARE = 0.75  # of what is heard through a jitter buffer, which loses a packet now and then on a busy machine
EVENTLESS = [("a=rtpmap:101 telephone-event/8000\na=fmtp:101 0-16\n", "")]
AUDIO = "m=audio [rtpstream_audio_port]"


def spoken(speech: Speech, before: float, frequency: float, after: float) -> list[bytes]:
    """One second of a tone with silence around it, as this codec says it."""
    rate = speech.rate
    return speech.encode(np.concatenate([silence(before, rate), sine(frequency, 1.0, rate), silence(after, rate)]))


def set_to(speech: Speech) -> dict[str, str]:
    """What makes the codec scenarios speak it."""
    number = speech.payload_type
    return {"formats": f"{number} 101", "codec": f"{number} {speech.rtpmap}"}


def plan(speech: Speech, peer: RtpPeer, **more: Any) -> dict[str, Any]:
    return {"variables": set_to(speech), "edit": [(AUDIO, f"m=audio {peer.port}")], **more}


def call_between(bench: Bench, a_speech: Speech, b_speech: Speech) -> tuple[Call, RtpPeer, RtpPeer]:
    """A call of 4 s: 440 Hz from the caller after one second, 880 Hz from the application after 2.5."""
    with (
        RtpPeer(spoken(a_speech, 1.0, 440, 2.0), a_speech) as a,
        RtpPeer(spoken(b_speech, 2.5, 880, 0.5), b_speech) as b,
    ):
        call = bench.call(
            "uac-codec",
            "uas-codec",
            seconds=4,
            voices=(a, b),
            caller_plan=plan(a_speech, a),
            application_plan=plan(b_speech, b),
        )
    return call, a, b


def check_recording(bench: Bench, call: Call, a: RtpPeer, b: RtpPeer, a_speech: Speech, b_speech: Speech) -> None:
    """Both are in the recording, each where and as loud as it was spoken."""
    kept = bench.kept(call)
    samples, rate = kept.samples, kept.rate
    answered = kept.manifest["answered_ms"] / 1000
    assert a.first_sent_s is not None
    assert b.first_sent_s is not None
    a_onset = offset_of(samples[: 2 * rate], sine(440, 1.0, rate)) / rate
    b_onset = offset_of(samples[2 * rate :], sine(880, 1.0, rate)) / rate + 2
    a_late = a_onset - (a.first_sent_s + 1.0 - answered)
    b_late = b_onset - (b.first_sent_s + 2.5 - answered)
    assert a_late == pytest.approx(0, abs=2 * ALIGNED_S)
    assert a_late == pytest.approx(b_late, abs=ALIGNED_S)
    for onset, frequency in ((a_onset, 440), (b_onset, 880)):
        heard = samples[int((onset + 0.1) * rate) : int((onset + 0.9) * rate)]
        assert tone_share(heard, frequency, rate) == 1
        assert amplitude_of(heard, frequency, rate) == pytest.approx(8000, rel=0.25)
    legs = kept.manifest["legs"]
    assert (legs["a"]["codec"], legs["b"]["codec"]) == (a_speech.name, b_speech.name)


@pytest.mark.parametrize("speech", [G722, OPUS, G729, GSM], ids=lambda speech: speech.name)
def test_codec(bench: Bench, speech: Speech) -> None:
    """Two legs of one codec: packets pass as they are, and both are recorded."""
    call, a, b = call_between(bench, speech, speech)
    check_recording(bench, call, a, b, speech, speech)
    for sender, receiver in ((a, b), (b, a)):
        payloads = [packet.payload for packet in receiver.received]
        assert len(payloads) > 180
        assert set(payloads) <= set(sender.payloads)
        assert {packet.payload_type for packet in receiver.received} == {speech.payload_type}


@pytest.mark.parametrize(
    ("a_speech", "b_speech"),
    [(PCMU, replace(OPUS, payload_type=96)), (G722, PCMA), (G729, PCMU), (GSM, PCMA)],
    ids=lambda speech: speech.name,
)
def test_transcoding(bench: Bench, a_speech: Speech, b_speech: Speech) -> None:
    """Two legs without a common codec: each hears the other all the same, and both are recorded."""
    call, a, b = call_between(bench, a_speech, b_speech)
    check_recording(bench, call, a, b, a_speech, b_speech)
    for peer, speech, frequency in ((a, a_speech, 880), (b, b_speech, 440)):
        heard = speech.decode([packet.payload for packet in peer.received])
        onset = tone_onset(heard, frequency, speech.rate)
        assert (
            tone_share(heard[onset + speech.rate // 5 : onset + speech.rate * 4 // 5], frequency, speech.rate) >= SHARE
        )


def audio_of(message: SipMessage) -> tuple[list[int], dict[int, str], dict[int, str], list[str]]:
    """The audio line of an SDP body: payload types, their rtpmaps, their fmtps, and all of its attributes."""
    lines = message.body.decode().split("m=audio ")[1].splitlines()
    attributes = [line.removeprefix("a=") for line in lines[1:] if line.startswith("a=")]

    def by_number(name: str) -> dict[int, str]:
        values = [line.removeprefix(f"{name}:").split(" ", 1) for line in attributes if line.startswith(f"{name}:")]
        return {int(number): value for number, value in values}

    return [int(number) for number in lines[0].split()[2:]], by_number("rtpmap"), by_number("fmtp"), attributes


def test_offer(bench: Bench) -> None:
    """The application is offered what the caller offers, as the caller said it, and then what else we know."""
    variables = {"formats": "8 126", "codec": "8 PCMA/8000"}
    events = [("a=rtpmap:101 ", "a=rtpmap:126 "), ("a=fmtp:101 ", "a=fmtp:126 "), ("a=ptime:20", "a=ptime:10")]
    call = bench.call("uac-offer", "uas-codec", seconds=0.5, application_plan={"variables": variables, "edit": events})
    numbers, codecs, parameters, attributes = audio_of(call.application.received("INVITE")[0])
    assert [codecs[number] for number in numbers] == [
        *("opus/48000/2", "G722/8000", "G729/8000", "PCMA/8000", "PCMU/8000", "GSM/8000"),
        *("telephone-event/48000", "telephone-event/8000"),
    ]
    assert numbers == [111, 9, 18, 8, 0, 3, 110, 126]
    assert parameters[111] == "maxplaybackrate=16000;useinbandfec=1;minptime=10"
    assert parameters[18] == "annexb=no"
    assert {"ptime:30", "maxptime:60"} <= set(attributes)
    # The caller is told what the application has chosen, and how.
    numbers, codecs, _, attributes = audio_of(call.caller.received(200)[0])
    assert [codecs[number] for number in numbers] == ["PCMA/8000", "telephone-event/8000"]
    assert numbers == [8, 126]
    assert "ptime:10" in attributes
    assert not [line for line in attributes if line.startswith("ssrc:")]


def test_no_telephone_events_where_the_application_has_none(bench: Bench) -> None:
    """The caller, told so, falls back to its own other way."""
    plan = {"variables": {"formats": "0", "codec": "0 PCMU/8000"}, "edit": EVENTLESS}
    call = bench.call("uac-call", "uas-codec", seconds=0.5, application_plan=plan)
    assert audio_of(call.caller.received(200)[0])[0] == [0]


def test_no_telephone_events_where_the_caller_has_none(bench: Bench) -> None:
    plan = {"variables": {"formats": "0", "codec": "0 PCMU/8000"}, "edit": EVENTLESS}
    call = bench.call("uac-codec", "uas-answer", seconds=0.5, caller_plan=plan)
    assert "telephone-event" not in call.application.received("INVITE")[0].body.decode()


def test_several_codecs_in_an_answer_reach_the_caller_in_its_order(bench: Bench) -> None:
    plan = {"variables": {"formats": "8 0 101", "codec": "8 PCMA/8000"}}
    offer = [("RTP/AVP 0 101", "RTP/AVP 0 8 101")]
    call = bench.call("uac-call", "uas-codec", seconds=0.5, caller_plan={"edit": offer}, application_plan=plan)
    assert audio_of(call.caller.received(200)[0])[0] == [8, 0, 101]


def test_early_media_settles_the_codec(bench: Bench) -> None:
    """What a 183 has agreed to is what the 200 repeats."""
    call = bench.call("uac-offer", "uas-early-media", seconds=0.5, application_plan={"length_ms": 300, "sounds": {}})
    progress, answer = call.caller.received(183)[0], call.caller.received(200)[0]
    assert audio_of(progress)[0] == audio_of(answer)[0] == [0, 126]
