"""Re-INVITE and UPDATE from either side: holds, moves and changes of codec, with one recording through it all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recorder.loadtest.tones import Codec, write_raw
from tests.endtoend.conftest import Bench, Call, Kept, later
from tests.peers.rtp import RtpPeer, encoded, voice_of
from tests.tones import amplitude_of, sine

pytestmark = pytest.mark.moments


def steady(folder: Path) -> dict[str, dict[str, Any]]:
    """440 Hz from the caller, 880 Hz from the application, for as long as they send."""
    sounds: dict[str, dict[str, Path]] = {}
    for who, hertz in (("caller", 440), ("callee", 880)):
        sounds[who] = {
            f"{who}{codec.suffix}": write_raw(folder / f"{who}{codec.suffix}", sine(hertz, 1.0), codec)
            for codec in Codec
        }
    return {"caller_plan": {"sounds": sounds["caller"]}, "application_plan": {"sounds": sounds["callee"]}}


def directions(messages: list[Any]) -> list[str]:
    """The direction that each SDP states."""
    words = ("sendrecv", "sendonly", "recvonly", "inactive")
    return [next((word for word in words if f"a={word}" in m.body.decode()), "sendrecv") for m in messages if m.body]


def answered_at(call: Call) -> float:
    return next(m.time_s for m in call.caller.messages if m.status == 200)


def check_length(call: Call, kept: Kept) -> None:
    ended = max(m.time_s for m in call.caller.messages if m.method == "BYE")
    assert later(len(kept.samples) / kept.rate, ended - answered_at(call))
    assert kept.manifest["dropped_samples"] == 0


def heard(kept: Kept, begin_s: float, end_s: float) -> tuple[bool, bool]:
    """Whether the caller's and the application's tones are there throughout a stretch."""
    step = kept.rate // 10
    begin, end = int(begin_s * kept.rate), int(end_s * kept.rate)
    parts = [kept.samples[at : at + step] for at in range(begin, end - step, step)]
    assert parts
    levels = [(amplitude_of(part, 440, kept.rate), amplitude_of(part, 880, kept.rate)) for part in parts]
    caller, application = ([level[who] for level in levels] for who in (0, 1))
    for values in (caller, application):
        assert min(values) > 6000 or max(values) < 500, values
    return min(caller) > 6000, min(application) > 6000


HOLDS = [
    ("uac-hold", "uas-held", "sendonly"),
    ("uac-hold-inactive", "uas-held-inactive", "inactive"),
    ("uac-hold-address", "uas-held", "sendonly"),
    ("uac-hold-session", "uas-held", "sendonly"),
    ("uac-held", "uas-hold", "sendonly"),
    ("uac-held-inactive", "uas-hold-inactive", "inactive"),
    ("uac-held", "uas-hold-address", "sendonly"),
    ("uac-held", "uas-hold-session", "sendonly"),
]


@pytest.mark.parametrize(("caller", "application", "direction"), HOLDS)
def test_hold(bench: Bench, tmp_path: Path, caller: str, application: str, direction: str) -> None:
    """A hold is answered, told to the other side in the same words, and silent in the recording as long as it lasts."""
    call = bench.call(caller, application, seconds=1.2, **steady(tmp_path))
    holder, held = (call.caller, call.application) if caller.startswith("uac-hold") else (call.application, call.caller)
    assert directions(held.received("INVITE"))[-2:] == [direction, "sendrecv"]
    answers = [m for m in holder.received(200) if (m.header("CSeq") or "").endswith("INVITE")][-2:]
    assert directions(answers) == ["recvonly" if direction == "sendonly" else "inactive", "sendrecv"]
    assert b"0.0.0.0" not in answers[0].body
    kept = bench.kept(call)
    check_length(call, kept)
    begin, end = (m.time_s - answered_at(call) for m in holder.sent("INVITE")[-2:])
    assert heard(kept, 0.6, begin - 0.1) == (True, True)
    assert not kept.samples[int((begin + 0.3) * kept.rate) : int((end - 0.1) * kept.rate)].any()
    assert heard(kept, end + 0.4, end + 1.0) == (True, True)
    check_gaps(kept, begin, end)


def check_gaps(kept: Kept, begin_s: float, end_s: float) -> None:
    """The manifest says that either side was silent because of the hold, as long as it lasted."""
    during = [gap for gap in kept.manifest["gaps"] if gap["start_s"] + gap["duration_s"] / 2 > begin_s]
    during = [gap for gap in during if gap["start_s"] < end_s]
    assert {gap["cause"] for gap in during} == {"hold"}
    for leg in "ab":
        held_s = sum(gap["duration_s"] for gap in during if gap["leg"] == leg)
        assert held_s == pytest.approx(end_s - begin_s, abs=0.5)


ONE_WAY = [
    ("sendonly", "recvonly", (True, False)),
    ("recvonly", "sendonly", (False, True)),
    ("inactive", "inactive", (False, False)),
]


@pytest.mark.parametrize(("offered", "answered", "expected"), ONE_WAY)
def test_one_way(bench: Bench, tmp_path: Path, offered: str, answered: str, expected: tuple[bool, bool]) -> None:
    """A call that goes one way from its first INVITE on: both know it from the start, and neither gets a re-INVITE."""
    plans = steady(tmp_path)
    voice = ('<nop><action><exec rtp_stream="callee.ulaw,-1,0,PCMU/8000"/></action></nop>\n', "")
    plans["caller_plan"]["edit"] = [("a=sendonly", f"a={offered}")]
    plans["application_plan"]["edit"] = [("a=recvonly", f"a={answered}")]
    if not expected[0]:
        plans["caller_plan"]["edit"].append((voice[0].replace("callee", "caller"), ""))
    if expected[1]:
        silent = '  <recv request="ACK"/>\n'
        plans["application_plan"]["edit"].append((silent, f"{silent}  {voice[0]}"))
    call = bench.call("uac-one-way", "uas-one-way", seconds=1.2, **plans)
    assert directions(call.application.received("INVITE")) == [offered]
    assert directions(call.caller.received(200)) == [answered]
    kept = bench.kept(call)
    check_length(call, kept)
    assert heard(kept, 0.6, 1.0) == expected
    for leg, sounds in zip("ab", expected, strict=True):
        gaps = [gap for gap in kept.manifest["gaps"] if gap["leg"] == leg]
        assert sounds or [(gap["cause"], gap["samples"]) for gap in gaps] == [("never_started", len(kept.samples))]


def test_hold_music(bench: Bench) -> None:
    """A hold with music: the held side hears it and is recorded with it; the side that holds hears nothing."""
    with RtpPeer(encoded(sine(440, 6.0))) as a, RtpPeer(encoded(sine(880, 6.0))) as b:
        call = bench.talk(a, b, 1.2, "uac-hold-music", "uas-held")
    begin, end = (m.time_s for m in call.caller.sent("INVITE")[-2:])
    assert longest_silence(b, begin - 0.5, end + 0.5) < 0.8
    assert longest_silence(a, begin - 0.5, end + 0.5) == pytest.approx(end - begin, abs=0.4)
    kept = bench.kept(call)
    check_length(call, kept)
    answered = answered_at(call)
    assert heard(kept, 0.6, end + 0.8 - answered) == (True, True)


def longest_silence(peer: RtpPeer, begin_s: float, end_s: float) -> float:
    """The longest time without a packet between two moments (epoch seconds)."""
    times = [begin_s, *(p.time_s for p in peer.received if begin_s < p.time_s < end_s), end_s]
    return float(np.max(np.diff(times)))


@pytest.mark.parametrize("mover", ["uac-reinvite-address", "uas-reinvite-address"])
def test_reinvite_address(bench: Bench, mover: str) -> None:
    """Audio that moves to another port goes there, and is recorded; the other side is told nothing."""
    by_caller = mover.startswith("uac")
    tones = {"caller": 440, "callee": 880}
    mine, other = ("caller", "callee") if by_caller else ("callee", "caller")
    with (
        RtpPeer(encoded(sine(tones[mine], 1.2))) as old,
        RtpPeer(encoded(sine(tones[mine], 5.0)), when_heard=True) as new,
        RtpPeer(encoded(sine(tones[other], 5.0))) as far,
    ):
        edits = {mine: voice_of(old, mine, Codec.PCMU), other: voice_of(far, other, Codec.PCMU)}
        edits[mine].append(("m=audio [media_port+2]", f"m=audio {new.port}"))
        call = bench.call(
            mover if by_caller else "uac-call",
            "uas-answer" if by_caller else mover,
            seconds=1.2 if by_caller else 2.4,
            voices=(old, far) if by_caller else (far, old),
            caller_plan={"edit": edits["caller"]},
            application_plan={"edit": edits["callee"], "length_ms": 1200},
        )
    moving, told = (call.caller, call.application) if by_caller else (call.application, call.caller)
    assert len(told.received("INVITE")) == (1 if by_caller else 0)
    moved_at = moving.sent("INVITE")[-1].time_s
    assert max(p.time_s for p in old.received) < moved_at + 0.3
    assert len([p for p in new.received if p.time_s > moved_at]) > 40
    assert longest_silence(far, moved_at - 0.5, moved_at + 1.0) < 0.8
    kept = bench.kept(call)
    check_length(call, kept)
    assert heard(kept, 0.6, 1.0) == (True, True)
    assert heard(kept, moved_at - answered_at(call) + 0.4, moved_at - answered_at(call) + 1.0) == (True, True)


@pytest.mark.parametrize(
    ("caller", "application", "codecs"),
    [
        ("uac-reinvite-codecs", "uas-answer", ("PCMU", "PCMU")),
        ("uac-call", "uas-reinvite-codecs", ("PCMU", "PCMU")),
        ("uac-reinvite-pcma", "uas-answer", ("PCMA", "PCMU")),
        ("uac-call", "uas-reinvite-pcma", ("PCMU", "PCMA")),
        ("uac-reinvite-without-sdp", "uas-answer", ("PCMU", "PCMU")),
        ("uac-call", "uas-reinvite-without-sdp", ("PCMU", "PCMU")),
        ("uac-update", "uas-held", ("PCMU", "PCMU")),
        ("uac-held", "uas-update", ("PCMU", "PCMU")),
    ],
)
def test_reinvite(bench: Bench, tmp_path: Path, caller: str, application: str, codecs: tuple[str, str]) -> None:
    """The other side's codec is kept wherever it is offered; both are heard throughout, whatever changes."""
    plans = steady(tmp_path)
    plans["application_plan"]["length_ms"] = 1200
    call = bench.call(caller, application, seconds=2.6 if caller == "uac-call" else 1.2, **plans)
    kept = bench.kept(call)
    check_length(call, kept)
    legs = kept.manifest["legs"]
    assert (legs["a"]["codec"], legs["b"]["codec"]) == codecs
    changing = call.application if caller in ("uac-call", "uac-held") else call.caller
    requests = [m for m in changing.messages if m.sent and m.method in ("INVITE", "UPDATE")]
    changed = next((m for m in requests if m.method == "UPDATE" and m.body), requests[-1])
    at = changed.time_s - answered_at(call)
    assert heard(kept, 0.6, at - 0.05) == (True, True)
    assert heard(kept, len(kept.samples) / kept.rate - 0.9, len(kept.samples) / kept.rate - 0.2) == (True, True)


def test_hold_across_the_bridge(bench: Bench) -> None:
    """Legs of different codecs hear each other again after a hold in which nothing flows."""
    pcma = [
        (
            "m=audio [rtpstream_audio_port] RTP/AVP 0 101\na=rtpmap:0 PCMU",
            "m=audio [rtpstream_audio_port] RTP/AVP 8 101\na=rtpmap:8 PCMA",
        ),
        ("callee.ulaw,-1,0,PCMU", "callee.alaw,-1,8,PCMA"),
    ]
    with RtpPeer(encoded(sine(440, 6.0))) as a, RtpPeer(encoded(sine(880, 6.0), Codec.PCMA), Codec.PCMA) as b:
        call = bench.call(
            "uac-hold-inactive",
            "uas-held-inactive",
            seconds=1.2,
            voices=(a, b),
            caller_plan={"edit": voice_of(a, "caller", Codec.PCMU)},
            application_plan={"edit": [*pcma, *voice_of(b, "callee", Codec.PCMA)]},
        )
    begin, end = (m.time_s for m in call.caller.sent("INVITE")[-2:])
    for peer in (a, b):
        assert longest_silence(peer, begin - 0.5, begin) < 0.4
        assert longest_silence(peer, end + 0.4, end + 1.1) < 0.4
    legs = bench.kept(call).manifest["legs"]
    assert (legs["a"]["codec"], legs["b"]["codec"]) == ("PCMU", "PCMA")


def test_held_muted(bench: Bench, tmp_path: Path) -> None:
    """A muted step stays muted through a hold and its end."""
    call = bench.call("uac-hold", "uas-held-muted", seconds=1.2, **steady(tmp_path))
    mute, unmute = (m.time_s - answered_at(call) for m in call.application.sent("INFO"))
    kept = bench.kept(call)
    check_length(call, kept)
    assert heard(kept, 0.2, mute - 0.35) == (True, True)
    assert not kept.samples[int(mute * kept.rate) : int(unmute * kept.rate)].any()
    assert len(kept.manifest["redactions"]) == 1
    assert kept.manifest["redactions"][0]["resumed"]


def test_third_party(bench: Bench, tmp_path: Path) -> None:
    """An INVITE that has no address for audio yet: the call is made, and both are heard from the re-INVITE on."""
    call = bench.call("uac-third-party", "uas-resumed", seconds=1.5, **steady(tmp_path))
    assert directions(call.application.received("INVITE")) == ["sendonly", "sendrecv"]
    kept = bench.kept(call)
    check_length(call, kept)
    end = len(kept.samples) / kept.rate
    assert heard(kept, end - 0.8, end - 0.1) == (True, True)
