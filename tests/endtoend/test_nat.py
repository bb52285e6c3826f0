"""Network address translation on either side: what addresses are shown, and where things really go."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import numpy as np
import pytest

from recorder.loadtest.peers import Plan, Sipp
from recorder.loadtest.subject import Subject
from recorder.loadtest.tones import Codec
from tests.endtoend.conftest import Bench, audio_port
from tests.peers.rtp import RtpPeer, encoded, voice_of
from tests.tones import amplitude_of, sine

pytestmark = pytest.mark.moments

PUBLIC, PUBLIC_PORT, PUBLIC_MEDIA = "203.0.113.7", 15060, "203.0.113.8"
OUTSIDE, NATTED = "127.0.0.9", "127.0.0.10"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A recorder behind a NAT, to which 127.0.0.9 is outside, with phones behind another NAT at 127.0.0.10."""
    subject = Subject(tmp_path_factory.mktemp("recorder"))
    sip = subject.configuration["sip"]
    sip["listen"][0] |= {"public_address": PUBLIC, "public_port": PUBLIC_PORT}
    sip["local_networks"] = ["127.0.0.1", NATTED]
    subject.configuration["media"]["public_address"] = PUBLIC_MEDIA
    subject.configuration["trunks"] = [
        {"name": "phones", "sources": [NATTED], "behind_nat": True},
        {"name": "others", "sources": ["127.0.0.0/8"]},
    ]
    subject.configuration["routes"].insert(
        0,
        {"name": "outside", "match": {"called": "2.*"}, "target": f"sip:{{user}}@{OUTSIDE}:{subject.application_port}"},
    )
    with subject:
        yield Bench(subject)
        assert subject.stop() == 0, subject.log_tail()
    assert subject.trouble() == []


def test_the_outside_is_shown_the_public_address(bench: Bench) -> None:
    """In Via, From, Contact and SDP of what goes out; our side of the NAT sees the real one."""
    inner = f"127.0.0.1:{bench.subject.sip_port}"
    with Sipp(Plan("uas-answer", host=OUTSIDE, port=bench.subject.application_port, timeout_s=15)) as callee:
        # It sends its requests to our public address, which does not exist here: only the set-up is looked at.
        with Sipp(Plan("uac-call", remote=bench.subject.sip_address, called="200", length_ms=500)) as caller:
            dialed = caller.wait()
        answered = callee.wait(10)
    assert dialed.ok, dialed.errors
    assert answered.ok, answered.errors
    for request in (*answered.received("INVITE"), *answered.received("ACK"), *answered.received("BYE")):
        assert (request.header("Via") or "").startswith(f"SIP/2.0/UDP {PUBLIC}:{PUBLIC_PORT};rport"), request.first_line
    invite = answered.received("INVITE")[0]
    assert f"@{PUBLIC}:{PUBLIC_PORT}>" in (invite.header("Contact") or "")
    assert f"@{PUBLIC}>" in (invite.header("From") or "")
    sdp = invite.body.decode()
    assert set(re.findall(r"IN IP4 (\S+)", sdp)) == {PUBLIC_MEDIA}
    answer = dialed.received(200)[0]
    assert f"@{inner}>" in (answer.header("Contact") or "") or f"<sip:{inner}>" in (answer.header("Contact") or "")
    assert set(re.findall(r"IN IP4 (\S+)", answer.body.decode())) == {"127.0.0.1"}


def test_a_caller_outside_is_answered_with_the_public_address(bench: Bench) -> None:
    edit = [("ACK [next_url] SIP/2.0", "ACK sip:100@[remote_ip]:[remote_port] SIP/2.0")]
    edit.append(("BYE [next_url] SIP/2.0", "BYE sip:100@[remote_ip]:[remote_port] SIP/2.0"))
    call = bench.call("uac-call", "uas-answer", seconds=0.5, caller_plan={"host": OUTSIDE, "edit": edit})
    answer = call.caller.received(200)[0]
    assert f"{PUBLIC}:{PUBLIC_PORT}>" in (answer.header("Contact") or "")
    assert set(re.findall(r"IN IP4 (\S+)", answer.body.decode())) == {PUBLIC_MEDIA}


def test_a_phone_behind_a_nat_is_reached_where_it_really_is(bench: Bench) -> None:
    """Its Via and Contact name an address of its own network; our BYE still gets there."""
    private = "192.168.178.20:5060"
    edit = [("Contact: <sip:5550100@[local_ip]:[local_port];", f"Contact: <sip:5550100@{private};")]
    edit.append(("Via: SIP/2.0/[transport] [local_ip]:[local_port];", f"Via: SIP/2.0/[transport] {private};"))
    call = bench.call("uac-wait-bye", "uas-bye", seconds=1, caller_plan={"host": NATTED, "edit": edit})
    bye = call.caller.received("BYE")[0]
    assert NATTED in bye.first_line
    trying = call.caller.received(100)[0]
    assert f"received={NATTED}" in (trying.header("Via") or "")


def test_rport_is_answered(bench: Bench) -> None:
    """RFC 3581: the answer goes to the port that the request came from, and says which that was."""
    edit = [
        (
            "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch",
            "Via: SIP/2.0/[transport] 192.168.178.20:5060;rport;branch",
        )
    ]
    call = bench.call("uac-call", "uas-answer", seconds=0.5, caller_plan={"edit": edit})
    via = call.caller.received(200)[0].header("Via") or ""
    port = re.search(r"rport=(\d+)", via)
    assert port is not None
    assert int(port[1]) != 5060
    assert "received=127.0.0.1" in via


def test_audio_follows_where_it_really_comes_from_and_no_stranger_gets_in(bench: Bench) -> None:
    """The SDP of the caller names a port that its NAT has changed: relayed audio goes to where its audio comes from.

    A third party that sends to our port is neither heard nor recorded while the caller speaks.
    """
    noise = np.random.default_rng(7).integers(-500, 500, 16000, dtype=np.int16)
    b_sound = encoded(sine(880, 2.0) + noise)
    a_sound = encoded(sine(440, 2.0))
    with (
        RtpPeer(a_sound) as a,
        RtpPeer(b_sound) as b,
        RtpPeer(encoded(sine(1200, 1.4))) as stranger,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere,
    ):
        elsewhere.bind(("127.0.0.1", 0))
        edit = voice_of(a, "caller", Codec.PCMU)
        edit[0] = (edit[0][0], f"m=audio {elsewhere.getsockname()[1]}")
        application = Plan(
            "uas-answer", port=bench.subject.application_port, edit=voice_of(b, "callee", Codec.PCMU), length_ms=2000
        )
        with (
            Sipp(application) as callee,
            Sipp(Plan("uac-call", remote=bench.subject.sip_address, edit=edit, length_ms=2200)) as caller,
        ):
            answer = bench.eventually(lambda: next(iter(caller.outcome().received(200)), None), "200")
            a.begin(audio_port(answer))
            b.begin(audio_port(callee.outcome().received("INVITE")[0]))
            bench.eventually(lambda: len(b.received) > 20 or None, "the caller's audio")
            stranger.begin(audio_port(answer))
            dialed, answered = caller.wait(), callee.wait(10)
    assert dialed.ok, dialed.errors
    assert answered.ok, answered.errors
    heard_by_a = b"".join(packet.payload for packet in a.received)
    assert len(heard_by_a) > 0.8 * len(b_sound)
    assert heard_by_a in b_sound
    assert b"".join(packet.payload for packet in b.received) in a_sound * 2
    assert stranger.received == []
    kept = bench.kept_of(bench.cdr_where("a_sip_call_id", dialed.sent("INVITE")[0].header("Call-ID")))
    middle = kept.samples[int(0.8 * kept.rate) : int(1.6 * kept.rate)]
    assert amplitude_of(middle, 440) == pytest.approx(8000, rel=0.1)
    assert amplitude_of(middle, 880) == pytest.approx(8000, rel=0.1)
    assert amplitude_of(middle, 1200) < 100
