"""What is in the file: who, where, how loud, how long, and what must not be there."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recorder.loadtest.tones import Codec, write_raw
from tests.endtoend.conftest import Bench, Call, Kept, check_silent, later
from tests.peers.rtp import RtpPeer, encoded, voice_of
from tests.tones import amplitude_of, is_tone, silence, sine, tone_onset

pytestmark = pytest.mark.moments

TICK_S = 0.020


def steady(folder: Path) -> dict[str, dict[str, Any]]:
    """A caller with 440 Hz and an application with 880 Hz throughout."""
    return {
        "caller_plan": {"sounds": {"caller.ulaw": write_raw(folder / "caller.ulaw", sine(440, 1.0), Codec.PCMU)}},
        "application_plan": {"sounds": {"callee.ulaw": write_raw(folder / "callee.ulaw", sine(880, 1.0), Codec.PCMU)}},
    }


def answered_s(call: Call) -> float:
    """From the caller's ACK to its BYE, as the caller saw them."""
    return call.caller.sent("BYE")[0].time_s - call.caller.sent("ACK")[0].time_s


def check_length(call: Call, kept: Kept) -> None:
    assert later(len(kept.samples) / kept.rate, answered_s(call))  # 200 and BYE are seen late, if at all
    assert kept.manifest["samples"] == len(kept.samples)


def check_integrity(kept: Kept) -> None:
    assert kept.manifest["sha256"] == hashlib.sha256(kept.path.read_bytes()).hexdigest()
    assert kept.manifest["dropped_samples"] == 0
    assert kept.manifest["gaps"] == []
    assert not kept.manifest["recovered"]


@pytest.mark.parametrize(
    ("caller_codec", "application_codec"),
    [(Codec.PCMU, Codec.PCMU), (Codec.PCMA, Codec.PCMA), (Codec.PCMU, Codec.PCMA)],
)
def test_each_tone_is_where_it_was_spoken(bench: Bench, caller_codec: Codec, application_codec: Codec) -> None:
    """440 Hz from the caller and 880 Hz from the application, each at a moment that its sender knows."""
    caller_sound = np.concatenate([silence(1.0), sine(440, 1.0), silence(3.0)])
    application_sound = np.concatenate([silence(2.5), sine(880, 1.0), silence(1.5)])
    with (
        RtpPeer(encoded(caller_sound, caller_codec), caller_codec) as a,
        RtpPeer(encoded(application_sound, application_codec), application_codec) as b,
    ):
        call = bench.call(
            "uac-call" if caller_codec is Codec.PCMU else "uac-call-pcma",
            "uas-answer" if application_codec is Codec.PCMU else "uas-answer-pcma",
            seconds=4,
            voices=(a, b),
            caller_plan={"edit": voice_of(a, "caller", caller_codec)},
            application_plan={"edit": voice_of(b, "callee", application_codec)},
        )
    kept = bench.kept(call)
    check_length(call, kept)
    check_integrity(kept)
    samples, rate = kept.samples, kept.rate
    answered = kept.manifest["answered_ms"] / 1000
    assert a.first_sent_s is not None
    assert b.first_sent_s is not None
    a_onset = tone_onset(samples[: 2 * rate], 440, rate) / rate
    b_onset = tone_onset(samples[2 * rate :], 880, rate) / rate + 2
    assert a_onset == pytest.approx(a.first_sent_s + 1.0 - answered, abs=TICK_S)
    assert b_onset == pytest.approx(b.first_sent_s + 2.5 - answered, abs=TICK_S)
    assert is_tone(samples[int((a_onset + 0.1) * rate) : int((a_onset + 0.9) * rate)], 440, rate)
    assert is_tone(samples[int((b_onset + 0.1) * rate) : int((b_onset + 0.9) * rate)], 880, rate)
    # The level is the speaker's own.
    heard = samples[int((a_onset + 0.2) * rate) : int((a_onset + 0.8) * rate)]
    assert amplitude_of(heard, 440, rate) == pytest.approx(8000, rel=0.03)
    legs = kept.manifest["legs"]
    assert (legs["a"]["codec"], legs["b"]["codec"]) == (caller_codec.name, application_codec.name)
    assert legs["a"]["rx_packets"] == pytest.approx(200, abs=5)
    # Each side heard the other, without a hole.
    for peer in (a, b):
        sequences = [packet.sequence for packet in peer.received]
        assert len(sequences) == pytest.approx(200, abs=8)
        assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))


@pytest.mark.parametrize("scenario", ["uas-answer-mute", "uas-answer-mute-json"])
def test_a_muted_step_is_exact_silence_and_sound_is_back_at_once(bench: Bench, tmp_path: Path, scenario: str) -> None:
    counted = bench.subject.api.metrics()["recorder_redacted_seconds_total"]
    call = bench.call("uac-call", scenario, seconds=7, **steady(tmp_path))
    kept = bench.kept(call)
    check_length(call, kept)
    check_integrity(kept)
    begins = call.caller.received(200)[0].time_s
    mute, unmute = (message.time_s - begins for message in call.application.sent("INFO"))
    rate = kept.rate
    assert not kept.samples[int(mute * rate) : int(unmute * rate)].any()
    [span] = kept.manifest["redactions"]
    assert span["resumed"]
    assert span["control"] == "application"
    assert span["step"] == ("card" if scenario.endswith("json") else None)
    counted = bench.subject.api.metrics()["recorder_redacted_seconds_total"] - counted
    assert counted == pytest.approx(span["duration_s"], abs=0.001)
    first, last = span["start_sample"], span["start_sample"] + span["samples"]
    check_silent(kept.samples[first:last])
    assert is_tone_pair(kept.samples[first - 3200 : first - 400])
    assert is_tone_pair(kept.samples[last + 400 : last + 4400])
    assert later(first / rate, mute - 0.3)
    assert later(last / rate, unmute + 0.06)
    assert len(call.application.received(200)) >= 2


def is_tone_pair(samples: Any) -> bool:
    return bool(amplitude_of(samples, 440) > 7000 and amplitude_of(samples, 880) > 7000)


def test_info_before_answer_mutes_from_the_first_sample(bench: Bench, tmp_path: Path) -> None:
    sounds = steady(tmp_path)
    sounds["application_plan"]["length_ms"] = 500
    call = bench.call("uac-call", "uas-info-before-answer", seconds=5, **sounds)
    kept = bench.kept(call)
    [span] = kept.manifest["redactions"]
    assert span["start_sample"] == 0
    check_silent(kept.samples[: span["samples"]])
    unmuted_s = call.application.sent("INFO")[-1].time_s - kept.manifest["answered_ms"] / 1000
    assert later(span["duration_s"], unmuted_s + 0.06)
    assert is_tone_pair(kept.samples[span["samples"] + 800 : span["samples"] + 4800])


@pytest.mark.parametrize(("caller", "scenario"), [("uac-call", "uas-mute-forever"), ("uac-wait-bye", "uas-mute-bye")])
def test_without_a_resume_it_is_silent_to_the_end(bench: Bench, tmp_path: Path, caller: str, scenario: str) -> None:
    before = bench.subject.api.metrics()["recorder_redactions_unresumed_total"]
    call = bench.call(caller, scenario, seconds=4, **steady(tmp_path))
    kept = bench.kept(call)
    [span] = kept.manifest["redactions"]
    assert not span["resumed"]
    assert span["start_sample"] + span["samples"] == len(kept.samples)
    check_silent(kept.samples[span["start_sample"] :])
    assert is_tone_pair(kept.samples[4000:12000])
    assert bench.subject.api.metrics()["recorder_redactions_unresumed_total"] == before + 1


def test_unmute_refused(bench: Bench, tmp_path: Path) -> None:
    """The caller's side may not control: 403, and a muted recording stays muted."""
    call = bench.call(
        "uac-unmute-refused",
        "uas-mute-forever",
        seconds=2,
        caller_plan=steady(tmp_path)["caller_plan"],
        application_plan={**steady(tmp_path)["application_plan"], "variables": {"mute_after": 1000}},
    )
    assert call.caller.received(403)
    kept = bench.kept(call)
    [span] = kept.manifest["redactions"]
    assert span["start_s"] < 1.0
    check_silent(kept.samples[span["start_sample"] :])


def test_early_media_is_heard_but_the_file_starts_with_the_answer(bench: Bench, tmp_path: Path) -> None:
    call = bench.call(
        "uac-call",
        "uas-early-media",
        seconds=2,
        caller_plan=steady(tmp_path)["caller_plan"],
        application_plan={**steady(tmp_path)["application_plan"], "length_ms": 1000},
    )
    assert call.caller.received(183)[0].body
    kept = bench.kept(call)
    check_length(call, kept)
    assert is_tone(kept.samples[100:400], 880) or is_tone_pair(kept.samples[100:400])


def test_an_account_that_is_not_enabled_is_connected_counted_and_not_recorded(bench: Bench) -> None:
    series = 'recorder_calls_unrecorded_total{reason="not_enabled"}'
    before = bench.subject.api.metrics().get(series, 0)
    files = set(bench.subject.recordings.iterdir())
    call = bench.call("uac-call", "uas-answer", seconds=1, caller_plan={"called": "200"})
    cdr = bench.cdr(call)
    assert (cdr["result"], cdr["recorded"], cdr["file"]) == ("completed", False, None)
    assert bench.subject.api.metrics()[series] == before + 1
    new = {path.suffix for path in set(bench.subject.recordings.iterdir()) - files}
    assert new.isdisjoint({".wav", ".json", ".part"})


def test_bad_identifier(bench: Bench) -> None:
    """A header that is a path becomes no path: a generated id stands in, and it is logged."""
    call = bench.call("uac-bad-identifier", "uas-answer", seconds=1)
    kept = bench.kept(call)
    assert kept.path.parent == bench.subject.recordings
    assert len(kept.manifest["name"]["dialog_id"]) == 32
    replaced = [line for line in bench.subject.log_lines() if line["event"] == "identifier_replaced"]
    assert replaced[-1]["value"] == "../../etc/x"


def test_mapped_headers_name_the_file(bench: Bench) -> None:
    headers = "X-Dialog-Id: D-1\r\nX-Group-Id: g.1\r\nX-Account-Id: partner\r\nMax-Forwards: 70"
    plan = {"edit": [("Max-Forwards: 70\nAllow", f"{headers}\nAllow")]}
    call = bench.call("uac-call", "uas-answer", seconds=1, caller_plan=plan)
    kept = bench.kept(call)
    assert kept.path.name.startswith("g.1~partner~")
    assert kept.path.name.endswith("~D-1.wav")
    begun_ms = int(kept.path.name.split("~")[2])
    assert later(begun_ms / 1000, call.caller.sent("INVITE")[0].time_s)
