"""Digits pass through, each once, and reach the application as they were pressed."""

from __future__ import annotations

from dataclasses import replace

from recorder.loadtest.tones import Codec
from tests.endtoend.conftest import Bench
from tests.peers.codecs import OPUS, PCMU
from tests.peers.rtp import RtpPeer, encoded, voice_of
from tests.tones import silence, sine

SOUND = encoded(sine(440, 4.0))


def test_telephone_events_from_the_caller_reach_the_application_once_each(bench: Bench) -> None:
    pressed = {50: 5, 80: 11, 110: 0, 140: 5}  # 5 # 0 5
    with RtpPeer(SOUND, digits=pressed) as a, RtpPeer(SOUND) as b:
        bench.call(
            "uac-call",
            "uas-answer",
            seconds=4,
            voices=(a, b),
            caller_plan={"edit": voice_of(a, "caller", Codec.PCMU)},
            application_plan={"edit": voice_of(b, "callee", Codec.PCMU)},
        )
    events = [packet for packet in b.received if packet.payload_type == 101 and len(packet.payload) == 4]
    heard = dict.fromkeys((packet.timestamp, packet.payload[0]) for packet in events)
    assert [code for _, code in heard] == [5, 11, 0, 5]


def test_telephone_events_pass_between_codecs(bench: Bench) -> None:
    """Where the bridge joins the legs, each digit is made anew, once."""
    opus = replace(OPUS, payload_type=96)
    with RtpPeer(SOUND, digits={60: 7, 110: 10}) as a, RtpPeer(opus.encode(silence(4.0, opus.rate)), opus) as b:
        bench.call(
            "uac-codec",
            "uas-codec",
            seconds=4,
            voices=(a, b),
            caller_plan={
                "variables": {"formats": "0 101", "codec": f"0 {PCMU.rtpmap}"},
                "edit": [("[rtpstream_audio_port]", str(a.port))],
            },
            application_plan={
                "variables": {"formats": "96 101", "codec": f"96 {opus.rtpmap}"},
                "edit": [("[rtpstream_audio_port]", str(b.port))],
            },
        )
    events = [packet for packet in b.received if packet.payload_type == 101 and len(packet.payload) == 4]
    heard = dict.fromkeys((packet.timestamp, packet.payload[0]) for packet in events)
    assert [code for _, code in heard] == [7, 10]


def test_no_digit_is_written_down(bench: Bench) -> None:
    """Neither the log nor anything beside the recordings tells which keys were pressed."""
    bench.cdr(bench.call("uac-info-dtmf", "uas-info-dtmf", seconds=0.5))
    for line in bench.subject.log_lines():
        assert "digit" not in line, line
    for path in bench.subject.folder.rglob("*"):
        if path.is_file() and path.suffix != ".wav":
            content = path.read_bytes()
            assert b"Signal" not in content, path
            assert b"dtmf" not in content.lower(), path
