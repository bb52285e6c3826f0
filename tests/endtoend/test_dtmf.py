"""Digits pass through, each once, and reach the application as they were pressed."""

from __future__ import annotations

from recorder.loadtest.tones import Codec
from tests.endtoend.conftest import Bench
from tests.peers.rtp import RtpPeer, encoded, voice_of
from tests.tones import sine

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
