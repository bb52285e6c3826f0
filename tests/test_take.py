"""Somebody else takes a leg's place while the recording goes on: what is muted stays muted."""

from __future__ import annotations

from pathlib import Path

from recorder import native
from recorder.calls.events import Side
from recorder.calls.recording_control import OpenStep
from recorder.identifiers import RecordingName
from recorder.library.manifest import LegFacts
from recorder.settings import Account, Recording, Settings
from recorder.take import Take

CARD = OpenStep("application", "card")


def begun(folder: Path, steps: tuple[OpenStep, ...] = ()) -> Take:
    settings = Settings(recording=Recording(folder=folder))
    account = Account(id="sales", group="acme")
    take = Take(RecordingName("acme", "sales", 1_700_000_000_000, "D" * 32), settings, account)
    take.begin(native.media_clock(8000), steps)
    return take


def gates(take: Take) -> dict[str, bool]:
    return {side.value: tap.gated for side, tap in take._taps.items()}


def test_a_new_party_is_silenced_while_a_step_is_muted(tmp_path: Path) -> None:
    take = begun(tmp_path, (CARD,))
    take.change_party(Side.A, native.media_clock(8000), LegFacts(sip_call_id="old"))
    take.change_party(Side.B, native.media_clock(8000), LegFacts())
    assert gates(take) == {"a": True, "b": True}


def test_a_new_party_is_heard_when_nothing_is_muted(tmp_path: Path) -> None:
    take = begun(tmp_path)
    take.change_party(Side.A, native.media_clock(8000), LegFacts(sip_call_id="old"))
    assert gates(take) == {"a": False, "b": False}
    take.mute(native.media_clock(8000), CARD)
    assert gates(take) == {"a": True, "b": True}
    take.change_party(Side.A, native.media_clock(8000), LegFacts())
    assert gates(take) == {"a": True, "b": True}
