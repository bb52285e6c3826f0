"""Encrypted audio, each side for itself: what one side encrypts the other hears in clear, and it is recorded."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from pylibsrtp import Policy, Session

from recorder.loadtest.peers import Plan, Sipp
from recorder.loadtest.subject import Subject
from recorder.loadtest.tones import Codec, write_raw
from tests.endtoend.conftest import Bench, audio_port
from tests.peers.rtp import RtpPeer, encoded, voice_of
from tests.peers.ua import UserAgent
from tests.tones import amplitude_of, read_wav, sine

pytestmark = pytest.mark.moments

HOSTS = {"required": "127.0.0.2", "optional": "127.0.0.3", "dtls": "127.0.0.4", "plain": "127.0.0.1"}
NO_AUDIO = "m=image [media_port] udptl t38\na=T38FaxVersion:0"
SUITE = "AES_CM_128_HMAC_SHA1_80"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A recorder whose trunks are told by their address, each with an encryption of its own."""
    subject = Subject(tmp_path_factory.mktemp("recorder"))
    subject.configuration["trunks"] = [
        {"name": "required", "sources": [HOSTS["required"]], "srtp": "required"},
        {"name": "optional", "sources": [HOSTS["optional"]], "srtp": "optional", "srtp_keying": ["sdes", "dtls"]},
        {"name": "dtls", "sources": [HOSTS["dtls"]], "srtp": "required", "srtp_keying": ["dtls"]},
        {"name": "plain", "sources": [HOSTS["plain"]]},
    ]
    subject.configuration["routes"][:0] = [
        {
            "name": name,
            "match": {"called": f"{digit}.*"},
            "target": f"sip:{{user}}@{HOSTS[name]}:{subject.application_port}",
        }
        for digit, name in (("2", "required"), ("3", "optional"), ("4", "dtls"))
    ]
    with subject:
        yield Bench(subject)
        assert subject.stop() == 0, subject.log_tail()
    assert subject.trouble() == []


def key() -> bytes:
    return os.urandom(30)


def crypto(secret: bytes) -> str:
    return f"a=crypto:1 {SUITE} inline:{base64.b64encode(secret).decode()}"


def crypto_of(body: bytes) -> bytes:
    """The key in an SDP body (RFC 4568)."""
    found = re.search(rf"^a=crypto:\d+ {SUITE} inline:(\S{{40}})".encode(), body, re.MULTILINE)
    assert found is not None, body
    return base64.b64decode(found[1])


def encrypting(peer: RtpPeer, who: str, secret: bytes, profile: str = "RTP/SAVP") -> list[tuple[str, str]]:
    """The changes to a scenario that leave its media to `peer` and offer SRTP."""
    edits = voice_of(peer, who, Codec.PCMU)
    offered = (f"m=audio {peer.port} RTP/AVP 0 101", f"m=audio {peer.port} {profile} 0 101\n{crypto(secret)}")
    peer.protect = Session(Policy(key=secret, ssrc_type=Policy.SSRC_ANY_OUTBOUND)).protect
    return [*edits, offered]


def listen(peer: RtpPeer, body: bytes) -> None:
    """Have `peer` decrypt by the key of the other side's SDP."""
    peer.unprotect = Session(Policy(key=crypto_of(body), ssrc_type=Policy.SSRC_ANY_INBOUND)).unprotect


def heard(peer: RtpPeer) -> bytes:
    """The payloads in their order."""
    return b"".join(packet.payload for packet in peer.received if packet.payload_type == 0)


def check_bit_exact(peer: RtpPeer, sent: bytes) -> None:
    """What was received is an unbroken run of what was sent."""
    received = heard(peer)
    assert len(received) > 0.8 * len(sent)
    assert received in sent


def noise(seed: int) -> bytes:
    """Speech would repeat itself; each packet of this is another."""
    random = np.random.default_rng(seed)
    samples = sine(440 if seed == 1 else 880, 2.0) + random.integers(-500, 500, 16000, dtype=np.int16)
    return encoded(samples)


def check_recorded(samples: Any, rate: int) -> None:
    middle = samples[int(0.5 * rate) : int(1.3 * rate)]
    for frequency in (440, 880):
        assert amplitude_of(middle, frequency) == pytest.approx(8000, rel=0.1), frequency


@pytest.mark.parametrize(
    ("trunk", "profile"),
    [("required", "RTP/SAVP"), ("optional", "RTP/SAVP"), ("optional", "RTP/AVP"), ("required", "RTP/SAVPF")],
)
def test_srtp_from_the_caller_plain_to_the_application(bench: Bench, trunk: str, profile: str) -> None:
    """A speaks SRTP, B plain RTP; both hear each other bit for bit, and both are recorded in clear."""
    a_sound, b_sound, secret = noise(1), noise(2), key()
    with RtpPeer(a_sound, host=HOSTS[trunk]) as a, RtpPeer(b_sound) as b:
        edits = encrypting(a, "caller", secret, profile)
        application = Plan(
            "uas-answer", port=bench.subject.application_port, edit=voice_of(b, "callee", Codec.PCMU), length_ms=2000
        )
        caller = Plan("uac-call", remote=bench.subject.sip_address, host=HOSTS[trunk], edit=edits, length_ms=2200)
        with Sipp(application) as callee, Sipp(caller) as dialing:
            answer = bench.eventually(lambda: next(iter(dialing.outcome().received(200)), None), "200")
            listen(a, answer.body)
            a.begin(audio_port(answer))
            b.begin(audio_port(callee.outcome().received("INVITE")[0]))
            dialed = dialing.wait()
            answered = callee.wait(10)
    assert dialed.ok, dialed.errors
    assert answered.ok, answered.errors
    assert f"m=audio {audio_port(answer)} {profile} " in answer.body.decode()
    assert "crypto" not in answered.received("INVITE")[0].body.decode()
    check_bit_exact(a, b_sound)
    check_bit_exact(b, a_sound)
    kept = bench.kept_of(bench.cdr_where("a_sip_call_id", dialed.sent("INVITE")[0].header("Call-ID")))
    check_recorded(kept.samples, kept.rate)


@pytest.mark.parametrize(("called", "trunk"), [("200", "required"), ("300", "optional")])
def test_plain_from_the_caller_srtp_to_the_application(bench: Bench, called: str, trunk: str) -> None:
    """The other way round: what the target's trunk says decides over what it is offered."""
    a_sound, b_sound, secret = noise(1), noise(2), key()
    profile = "RTP/SAVP" if trunk == "required" else "RTP/AVP"
    with RtpPeer(a_sound) as a, RtpPeer(b_sound, host=HOSTS[trunk]) as b:
        application = Plan(
            "uas-answer",
            port=bench.subject.application_port,
            host=HOSTS[trunk],
            edit=encrypting(b, "callee", secret, profile),
            length_ms=2000,
        )
        caller = Plan(
            "uac-call",
            remote=bench.subject.sip_address,
            called=called,
            edit=voice_of(a, "caller", Codec.PCMU),
            length_ms=2200,
        )
        with Sipp(application) as callee, Sipp(caller) as dialing:
            answer = bench.eventually(lambda: next(iter(dialing.outcome().received(200)), None), "200")
            offer = callee.outcome().received("INVITE")[0]
            listen(b, offer.body)
            a.begin(audio_port(answer))
            b.begin(audio_port(offer))
            dialed = dialing.wait()
            answered = callee.wait(10)
    assert dialed.ok, dialed.errors
    assert answered.ok, answered.errors
    assert f"m=audio {audio_port(offer)} {profile} " in offer.body.decode()
    check_bit_exact(a, b_sound)
    check_bit_exact(b, a_sound)
    kept = bench.kept_of(bench.cdr_where("a_sip_call_id", dialed.sent("INVITE")[0].header("Call-ID")))
    check_recorded(kept.samples, kept.rate)


def test_an_offer_without_srtp_is_refused_where_it_is_required(bench: Bench) -> None:
    caller = Plan(
        "uac-no-audio",
        remote=bench.subject.sip_address,
        host=HOSTS["required"],
        edit=[(NO_AUDIO, "m=audio [media_port] RTP/AVP 0")],
    )
    with Sipp(caller) as dialing:
        outcome = dialing.wait()
    assert outcome.ok, outcome.errors
    assert outcome.received(488)


def test_srtp_is_refused_where_it_is_off(bench: Bench) -> None:
    offered = (NO_AUDIO, f"m=audio [media_port] RTP/SAVP 0\n{crypto(key())}")
    with Sipp(Plan("uac-no-audio", remote=bench.subject.sip_address, edit=[offered])) as dialing:
        outcome = dialing.wait()
    assert outcome.ok, outcome.errors
    assert outcome.received(488)


def test_optional_takes_plain_audio_too(bench: Bench, tmp_path: Path) -> None:
    sounds = {"caller.ulaw": write_raw(tmp_path / "caller.ulaw", sine(440, 1.0), Codec.PCMU)}
    heard = {"callee.ulaw": write_raw(tmp_path / "callee.ulaw", sine(880, 1.0), Codec.PCMU)}
    call = bench.call(
        "uac-call",
        "uas-answer",
        seconds=2,
        caller_plan={"host": HOSTS["optional"], "sounds": sounds},
        application_plan={"sounds": heard},
    )
    kept = bench.kept(call)
    check_recorded(kept.samples, kept.rate)


@pytest.mark.parametrize(("direction", "trunk"), [("in", "dtls"), ("out", "dtls"), ("in", "optional")])
def test_dtls_srtp(bench: Bench, tmp_path: Path, direction: str, trunk: str) -> None:
    """Keys agreed on the media path (RFC 5764), with a phone of another process."""
    voice, ear = tmp_path / "voice.wav", tmp_path / "heard.wav"
    soundfile.write(voice, sine(440 if direction == "in" else 880, 8.0), 8000)
    phone: dict[str, Any] = {
        "srtp": "required",
        "keying": ["dtls"],
        "sound": str(voice),
        "heard": str(ear),
        "listen": {"host": HOSTS[trunk], "port": 0 if direction == "in" else bench.subject.application_port},
    }
    other = sine(880 if direction == "in" else 440, 1.0)
    name = "callee.ulaw" if direction == "in" else "caller.ulaw"
    sounds = {name: write_raw(tmp_path / name, other, Codec.PCMU)}
    if direction == "in":
        plan = Plan("uas-answer", port=bench.subject.application_port, sounds=sounds)
        phone |= {"call": f"sip:100@{bench.subject.sip_address}", "seconds": 4}
    else:
        plan = Plan("uac-call", remote=bench.subject.sip_address, called="400", sounds=sounds, length_ms=4000)
    with UserAgent(**phone) as agent, Sipp(plan) as sipp:
        outcome = sipp.wait(20)
        assert agent.wait() == 0
    assert outcome.ok, outcome.errors
    invite = (outcome.received if direction == "in" else outcome.sent)("INVITE")[0].header("Call-ID")
    kept = bench.kept_of(bench.cdr_where("b_sip_call_id" if direction == "in" else "a_sip_call_id", invite))
    late = kept.samples[2 * kept.rate : 3 * kept.rate]
    for frequency in (440, 880):
        assert amplitude_of(late, frequency) == pytest.approx(8000, rel=0.1), frequency
    samples, rate = read_wav(ear)
    # In short pieces: where the phone's jitter buffer skips, a tone's phase does too.
    pieces = [samples[at : at + rate // 10] for at in range(2 * rate, 3 * rate, rate // 10)]
    clear = [piece for piece in pieces if amplitude_of(piece, 880 if direction == "in" else 440) > 6000]
    assert len(clear) > len(pieces) / 2


def test_dtls_is_refused_where_srtp_is_off(bench: Bench) -> None:
    """An offer of DTLS alone."""
    fingerprint = ":".join(["AB"] * 32)
    offered = (
        NO_AUDIO,
        f"m=audio [media_port] UDP/TLS/RTP/SAVP 0\na=setup:actpass\na=fingerprint:SHA-256 {fingerprint}",
    )
    with Sipp(Plan("uac-no-audio", remote=bench.subject.sip_address, edit=[offered])) as dialing:
        outcome = dialing.wait()
    assert outcome.ok, outcome.errors
    assert outcome.received(488)
