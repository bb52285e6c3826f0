"""Re-INVITE and UPDATE from either side: holds, moves and changes of codec, with one recording through it all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recorder.loadtest.tones import Codec, write_raw
from tests.endtoend.conftest import Bench, Call, Kept
from tests.tones import amplitude_of, sine


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
    assert len(kept.samples) / kept.rate == pytest.approx(ended - answered_at(call), abs=0.06)
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
    assert heard(kept, 0.3, begin - 0.1) == (True, True)
    assert not kept.samples[int((begin + 0.3) * kept.rate) : int((end - 0.1) * kept.rate)].any()
    assert heard(kept, end + 0.4, end + 1.0) == (True, True)
