"""A leg that goes to another codec inside a sensitive step: nothing of the step is recorded, and all after it is."""

from __future__ import annotations

import hashlib
import os
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from recorder.loadtest.peers import Outcome, Plan, Sipp
from recorder.loadtest.subject import Api, Subject
from recorder.loadtest.tones import Codec
from tests.endtoend.conftest import CHANGES, Bench, Call, audio_port, check_silent
from tests.peers.codecs import G722, OPUS, PCMA, Speech
from tests.peers.rtp import RtpPeer, encoded, voice_of
from tests.tones import amplitude_of, sine

SECONDS = 12.0
DESK = "desk-token"
FULL = os.environ.get("RECORDER_EVIDENCE") == "full"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    subject = Subject(tmp_path_factory.mktemp("recorder"), changes=CHANGES)
    desk = {"name": "desk", "may": ["control"], "sha256": hashlib.sha256(DESK.encode()).hexdigest()}
    subject.configuration["http"]["tokens"].append(desk)
    with subject:
        yield Bench(subject)
        assert subject.stop() == 0, subject.log_tail()
    assert subject.trouble() == []


class Changing(RtpPeer):
    """Speaks PCMU, and from `change` on another codec, as a new source, without a pause."""

    def __init__(self, hertz: float, speech: Speech) -> None:
        super().__init__(encoded(sine(hertz, SECONDS)))
        self._speech = speech
        self._other = speech.encode(sine(hertz, SECONDS, rate=speech.rate))
        self._changed = threading.Event()
        self.sent = 0  # packets of the other codec
        self.protect = self._spoken

    def change(self) -> None:
        self._changed.set()

    def _spoken(self, packet: bytes) -> bytes:
        if not self._changed.is_set():
            return packet
        self.sent += 1
        number = int.from_bytes(packet[2:4], "big")
        speech = self._speech
        header = struct.pack("!BBHII", 0x80, speech.payload_type, number, number * speech.ticks, 0xC0DEC)
        return header + self._other[min(number, len(self._other) - 1)]


def said_as(speech: Speech) -> list[tuple[str, str]]:
    """The changes that have a PCMA scenario change to this codec."""
    number = speech.payload_type
    return [("RTP/AVP 8 101\na=rtpmap:8 PCMA/8000", f"RTP/AVP {number} 101\na=rtpmap:{number} {speech.rtpmap}")]


CHANGES_OF_CODEC = [("caller", PCMA), ("application", G722), ("caller", OPUS)]
if FULL:
    CHANGES_OF_CODEC += [("application", PCMA), ("caller", G722), ("application", OPUS)]


@pytest.mark.moments
@pytest.mark.parametrize(("side", "speech"), CHANGES_OF_CODEC, ids=lambda it: it if isinstance(it, str) else it.name)
def test_a_codec_change_inside_a_muted_step(bench: Bench, side: str, speech: Speech) -> None:
    subject, desk = bench.subject, Api("127.0.0.1", bench.subject.http_port, DESK)
    caller, callee = (Changing(hertz, speech) for hertz in (440, 880))
    mover, who = (caller, "caller") if side == "caller" else (callee, "callee")
    plays_new = f'  <nop><action><exec rtp_stream="{who}.alaw,-1,8,PCMA/8000"/></action></nop>\n'
    edits = {
        "caller": voice_of(caller, "caller", Codec.PCMU),
        "callee": voice_of(callee, "callee", Codec.PCMU),
    }
    edits[who] += [*said_as(speech), (plays_new, "")]
    calling, called = ("uac-reinvite-pcma", "uas-answer") if side == "caller" else ("uac-call", "uas-reinvite-pcma")
    listening = Plan(called, port=subject.application_port, length_ms=1000, edit=edits["callee"])
    length_ms = 1000 if side == "caller" else 2000
    dialing = Plan(calling, remote=subject.sip_address, length_ms=length_ms, edit=edits["caller"])
    began_ms = time.time_ns() // 1_000_000
    with caller, callee, Sipp(listening) as answers, Sipp(dialing) as dials:
        changer = dials if side == "caller" else answers
        path = f"/api/v1/calls/{bench.eventually(lambda: live_since(subject, began_ms), 'the call')}"
        assert desk.request(f"{path}/mute", None, "POST", None)[0] == 200
        muted_at = time.time()
        accepted = bench.eventually(lambda: next(iter(dials.outcome().received(200)), None), "200")
        caller.begin(audio_port(accepted))
        callee.begin(audio_port(answers.outcome().received("INVITE")[0]))
        bench.eventually(lambda: changed_at(changer.outcome(), side), "the new codec's 200")
        mover.change()
        bench.eventually(lambda: mover.sent >= 10 or None, "sound in the new codec")
        unmuted_at = time.time()
        assert desk.request(f"{path}/unmute", None, "POST", None)[0] == 200
        dialed, answered = dials.wait(), answers.wait(10)
    assert dialed.ok, dialed.errors
    assert answered.ok, answered.errors
    kept = bench.kept(Call(dialed, answered))
    origin = kept.manifest["answered_ms"] / 1000
    changed = changed_at(dialed if side == "caller" else answered, side)
    assert changed is not None
    assert muted_at < changed < unmuted_at
    silent = kept.samples[max(0, int((muted_at - origin) * kept.rate)) : int((unmuted_at - origin) * kept.rate)]
    assert len(silent) > 0.5 * kept.rate
    check_silent(silent)
    legs = kept.manifest["legs"]
    assert (legs["a"]["codec"], legs["b"]["codec"])[side != "caller"].lower() == speech.name.lower()
    ended = kept.samples[-int(0.3 * kept.rate) : -int(0.1 * kept.rate)]
    assert min(amplitude_of(ended, hertz, kept.rate) for hertz in (440, 880)) > 4000


def live_since(subject: Subject, began_ms: int) -> str | None:
    """The dialogId of the call that was begun since then."""
    calls = subject.api.get("calls")["calls"]
    return next((call["dialog_id"] for call in calls if call["started_ms"] >= began_ms), None)


def changed_at(outcome: Outcome, side: str) -> float | None:
    """When the re-INVITE of the side that changes was accepted, if it has been."""
    accepted = [it.time_s for it in outcome.received(200) if "INVITE" in (it.header("CSeq") or "")]
    return next(iter(accepted[1 if side == "caller" else 0 :]), None)
