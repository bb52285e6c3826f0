"""What a leg is once it is over; the rest of it is tried with real calls."""

from __future__ import annotations

import pytest

from recorder.calls.events import Event, Side
from recorder.sip import leg as module
from recorder.sip.leg import Leg


def test_a_leg_that_is_over_lets_go_of_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another call has them soon: it must not be joined or parted for this one's sake, nor its headers be taken."""
    said = {7: [("Reason", "Q.850;cause=16")]}
    monkeypatch.setattr(module, "_Call", lambda *_: None)
    monkeypatch.setattr(module.native, "take_headers", lambda call_id: said.pop(call_id, []))
    told: list[Event] = []
    forgotten: list[int] = []
    leg = Leg(None, Side.A, told.append, lambda _: None, lambda leg: forgotten.append(leg.call_id), 7)
    leg.slot = 3
    leg._end(200, "")
    assert told == [leg.ended]
    assert forgotten == [7]
    assert (leg.call_id, leg.slot) == (-1, -1)
    said[7] = [("X-Of", "another call")]
    assert leg.take_headers() == [("Reason", "Q.850;cause=16")]
    assert leg.take_headers() == []
    assert 7 in said
