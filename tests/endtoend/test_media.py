"""Media lines that are not audio, packets of any length, and far ends that send nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from recorder.loadtest.subject import Subject
from recorder.loadtest.tones import Codec, write_raw
from tests.endtoend.conftest import CHANGES, Bench, audio_port
from tests.endtoend.test_hold import heard
from tests.peers.rtp import RtpPeer, encoded, voice_of
from tests.tones import is_tone, sine

pytestmark = pytest.mark.moments

TIMEOUT_S = 1


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A recorder that ends calls whose far end sends nothing."""
    media = {"rtp_timeout_s": TIMEOUT_S, "rtp_timeout_action": "end"}
    with Subject(tmp_path_factory.mktemp("recorder"), changes={**CHANGES, "media": media}) as subject:
        yield Bench(subject)
        assert subject.stop() == 0, subject.log_tail()
    assert subject.trouble() == []


def test_many_lines(bench: Bench, tmp_path: Path) -> None:
    """Whatever is not audio is refused in its place, and the call goes on by the audio line alone."""
    sounds = {"caller.ulaw": write_raw(tmp_path / "caller.ulaw", sine(440, 1.0), Codec.PCMU)}
    quiet = {"callee.ulaw": write_raw(tmp_path / "callee.ulaw", sine(440, 1.0, amplitude=0), Codec.PCMU)}
    call = bench.call(
        "uac-many-lines", "uas-answer", caller_plan={"sounds": sounds}, application_plan={"sounds": quiet}
    )
    answer = call.caller.received(200)[0].body.decode()
    lines = [line.split() for line in answer.splitlines() if line.startswith("m=")]
    kinds = ["video", "audio", "image", "text", "application", "x-unheard-of", "audio"]
    assert [line[0].removeprefix("m=") for line in lines] == kinds
    assert [line[1] == "0" for line in lines] == [True, False, True, True, True, True, True]
    assert "ice-ufrag" not in answer
    assert "BUNDLE" not in answer
    offered = call.application.received("INVITE")[0].body.decode()
    assert offered.count("m=") == 1
    assert "inside" not in offered
    kept = bench.kept(call)
    assert is_tone(kept.samples[kept.rate // 2 : kept.rate * 3 // 2], 440, kept.rate)


def test_rtcp_mux_is_declined(bench: Bench) -> None:
    """An offer to send RTCP on RTP's port (RFC 5761, section 5.1.1) is answered without it: RTCP has its own port."""
    offer = {"edit": [("a=ptime:20", "a=ptime:20\na=rtcp-mux")]}
    call = bench.call("uac-call", "uas-answer", seconds=0.3, caller_plan=offer)
    answer = call.caller.received(200)[0]
    assert b"rtcp-mux" not in answer.body
    assert f"a=rtcp:{audio_port(answer) + 1} ".encode() in answer.body
    assert b"rtcp-mux" not in call.application.received("INVITE")[0].body


@pytest.mark.parametrize(("a_ms", "b_ms"), [(10, 30), (30, 10)])
def test_packet_times(bench: Bench, a_ms: int, b_ms: int) -> None:
    """Packets of 10 and of 30 ms pass as they came, and what is recorded of them has no seam."""
    with (
        RtpPeer(encoded(sine(440, 4.0)), packet_ms=a_ms) as a,
        RtpPeer(encoded(sine(880, 4.0)), packet_ms=b_ms) as b,
    ):
        call = bench.call(
            "uac-call",
            "uas-answer",
            seconds=1.5,
            voices=(a, b),
            caller_plan={"edit": [*voice_of(a, "caller", Codec.PCMU), ("a=ptime:20", f"a=ptime:{a_ms}")]},
            application_plan={"edit": [*voice_of(b, "callee", Codec.PCMU), ("a=ptime:20", f"a=ptime:{b_ms}")]},
        )
    assert {len(packet.payload) for packet in b.received} == {8 * a_ms}
    assert {len(packet.payload) for packet in a.received} == {8 * b_ms}
    kept = bench.kept(call)
    for leg, packet_ms in (("a", a_ms), ("b", b_ms)):
        assert kept.manifest["legs"][leg]["rx_packets"] > 1000 / packet_ms
    assert heard(kept, 0.4, 1.3) == (True, True)
    assert not [gap for gap in kept.manifest["gaps"] if 0.4 < gap["start_s"] < 1.3]


def test_silent(bench: Bench) -> None:
    """A caller that sends no RTP: the call is ended, and everybody is told why."""
    series = 'recorder_rtp_timeouts_total{action="end",side="a"}'
    before = bench.subject.api.metrics().get(series, 0)
    call = bench.call("uac-silent", "uas-answer")
    cdr = bench.cdr(call)
    assert (cdr["result"], cdr["reason"]) == ("completed", "rtp_timeout")
    assert TIMEOUT_S <= cdr["duration_s"] < TIMEOUT_S + 4
    assert bench.subject.api.metrics()[series] == before + 1


def test_silence_on_hold_is_no_timeout(bench: Bench) -> None:
    call = bench.call("uac-hold", "uas-held", seconds=2.5)
    assert bench.cdr(call)["reason"] == "caller_hangup"
