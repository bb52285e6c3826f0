"""Media lines that are not audio, packets of any length, and far ends that send nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from recorder.loadtest.subject import Subject
from recorder.loadtest.tones import Codec, write_raw
from tests.endtoend.conftest import CHANGES, Bench
from tests.tones import is_tone, sine

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
