"""Digits pass through, each once, and reach the application as they were pressed."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from recorder.loadtest.tones import Codec
from tests.endtoend.conftest import Bench
from tests.peers.codecs import OPUS, PCMU
from tests.peers.rtp import RtpPeer, encoded, voice_of
from tests.tones import silence, sine

pytestmark = pytest.mark.moments

SOUND = encoded(sine(440, 4.0))


def test_telephone_events_from_the_caller_reach_the_application_once_each(bench: Bench) -> None:
    pressed = {50: 5, 80: 11, 110: 0, 140: 5}  # 5 # 0 5
    with RtpPeer(SOUND, digits=pressed) as a, RtpPeer(SOUND) as b:
        bench.talk(a, b, 4)
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


# The second offer of uas-reinvite-codecs, with no telephone events in it any more, and a digit by INFO after it.
DROPS_EVENTS = [
    ("RTP/AVP 8 0 101", "RTP/AVP 0"),
    (
        '  <recv request="BYE"/>\n',
        """  <recv request="INFO"/>
  <send><![CDATA[

SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0

  ]]></send>
  <recv request="BYE"/>
""",
    ),
]
BY_INFO_DTMF = [
    ("Content-Type: application/dtmf-relay", "Content-Type: application/dtmf"),
    ("Signal= 5\nDuration= 160", "5"),
]


@pytest.mark.parametrize("caller", ["uac-call", "uac-info-dtmf"])
def test_a_side_without_telephone_events_gets_each_digit_once_by_info(bench: Bench, caller: str) -> None:
    """From a telephone event alone, and from a caller that sends it by INFO as well."""
    with RtpPeer(SOUND, digits={95: 5}) as a, RtpPeer(SOUND) as b:
        call = bench.call(
            caller,
            "uas-reinvite-codecs",
            seconds=3.5 if caller == "uac-call" else 2,
            voices=(a, b),
            caller_plan={"edit": voice_of(a, "caller", Codec.PCMU)},
            application_plan={"edit": [*voice_of(b, "callee", Codec.PCMU), *DROPS_EVENTS], "length_ms": 700},
        )
    [info] = {m.header("CSeq"): m for m in call.application.received("INFO")}.values()
    assert info.header("Content-Type") == "application/dtmf-relay"
    assert re.search(rb"Signal= ?5", info.body)
    assert not [packet for packet in b.received if packet.payload_type == 101]


def test_a_digit_as_application_dtmf_passes_once(bench: Bench) -> None:
    """uac-info-dtmf, with the digit alone for a body."""
    expected = ('"Signal= ?5"', '"application/dtmf"')
    call = bench.call(
        "uac-info-dtmf",
        "uas-info-dtmf",
        seconds=0.5,
        caller_plan={"edit": BY_INFO_DTMF},
        application_plan={"edit": [expected]},
    )
    [sent], [arrived] = call.caller.sent("INFO"), call.application.received("INFO")
    assert arrived.body.strip() == sent.body.strip() == b"5"
    assert arrived.header("Content-Type") == "application/dtmf"


def test_mute_dtmf(bench: Bench) -> None:
    """Digits dialled in a sensitive step reach the application and are written down nowhere."""
    dialled = "4929713086405172"
    events = {40 + 8 * number: int(digit) for number, digit in enumerate(dialled)}
    with RtpPeer(SOUND, digits=events) as a, RtpPeer(SOUND) as b:
        call = bench.call(
            "uac-info-dtmf",
            "uas-mute-dtmf",
            seconds=2,
            voices=(a, b),
            caller_plan={"edit": [*voice_of(a, "caller", Codec.PCMU), ("Signal= 5", f"Signal={dialled}")]},
            application_plan={"edit": voice_of(b, "callee", Codec.PCMU)},
        )
    [info] = call.application.received("INFO")
    assert dialled.encode() in info.body
    heard = dict.fromkeys((p.timestamp, p.payload[0]) for p in b.received if p.payload_type == 101)
    assert "".join(str(code) for _, code in heard) == dialled
    assert bench.kept(call).manifest["redactions"]
    for path in bench.subject.folder.rglob("*"):
        if path.is_file() and path.suffix != ".wav":
            assert dialled.encode() not in path.read_bytes(), path
