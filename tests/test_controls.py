"""Controls of one call: what is remembered of them, and what becomes of a call that cannot be silenced."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from recorder import controls
from recorder.calls.events import HangUpRequested
from recorder.calls.recording_control import Control, ControlRefusedError, Operator, Verb
from recorder.controls import Controls
from recorder.library.audit import AuditEntry
from recorder.metrics import Metrics
from recorder.session import Session

JANE = Operator("jane", "192.0.2.7:5000", "asked to")


class Call:
    """As much of a session as its controls need."""

    def __init__(self, take: Any = None) -> None:
        self.take = take
        self.is_enabled = True
        self.is_over = False
        self.identity = SimpleNamespace(dialog_id="D1", group_id="g", account_id="a")
        self.entered: list[AuditEntry] = []
        self.posted: list[object] = []
        self.services = SimpleNamespace(
            metrics=Metrics(), audit=self.entered.append, once_audited=lambda answer: answer()
        )

    def post(self, event: object) -> None:
        self.posted.append(event)

    def controls(self) -> Controls:
        return Controls(cast(Session, self))


def test_who_sends_controls_without_end_does_not_fill_the_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controls, "MOST_ENTRIES", 5)
    call = Call()
    desk = call.controls()
    for _ in range(20):
        with pytest.raises(ControlRefusedError):
            desk.apply_for(JANE, Control(Verb.UNMUTE))
    assert [(it.action, it.result) for it in call.entered] == [("unmute", "refused")] * 4 + [("omit", "accepted")]
    assert {it.dialog_id for it in call.entered} == {"D1"}


def test_a_call_that_cannot_be_silenced_ends() -> None:
    def mute(*_: object) -> None:
        raise RuntimeError("the tap is gone")

    call = Call(SimpleNamespace(position=0, mute=mute))
    with pytest.raises(RuntimeError):
        call.controls().apply_for(JANE, Control(Verb.MUTE))
    assert call.posted == [HangUpRequested("internal_error")]


def test_a_call_that_has_ended_is_not_controlled() -> None:
    call = Call()
    call.is_over = True
    desk = call.controls()
    for act in (lambda: desk.apply_for(JANE, Control(Verb.MUTE)), lambda: desk.hang_up_for(JANE)):
        with pytest.raises(ControlRefusedError, match="has ended") as caught:
            act()
        assert caught.value.http_status == 409
    assert not desk.steps.muted
    assert [(it.action, it.reason, it.who, it.note) for it in call.entered] == [
        ("mute", "call_ended", "jane", "asked to"),
        ("hang_up", "call_ended", "jane", "asked to"),
    ]
