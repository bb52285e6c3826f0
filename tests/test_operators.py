"""What operators ask is not carried out once they have been told that it was not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from recorder import operators
from recorder.calls.recording_control import Control, Operator, Verb
from recorder.errors import NotAnsweringError
from recorder.exchange import Exchange
from recorder.library.audit import AuditTrail
from recorder.operators import AuditedAnswers, Operators
from recorder.settings import Settings
from recorder.sip.endpoint import Endpoint


class Asked:
    """In the place of the exchange: how often it was asked."""

    def __init__(self) -> None:
        self.times = 0

    def control(self, _dialog_id: str, _control: Control, _operator: Operator) -> dict[str, Any]:
        self.times += 1
        return {"muted": True}


class Trail:
    """In the place of the audit's: what waits for it, which it tells at once unless the disk stalls."""

    def __init__(self) -> None:
        self.stalls = False
        self.waiting: list[Callable[[], None]] = []

    def when_kept(self, then: Callable[[], None]) -> None:
        self.waiting.append(then)
        if not self.stalls:
            self.disk_back()

    def disk_back(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


async def test_a_sip_thread_that_comes_too_late_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "ANSWER_S", 0.05)
    endpoint = Endpoint(Settings(), lambda _leg, _invite: None)  # whose thread does not run
    exchange = Asked()
    desk = Operators(endpoint, cast(Exchange, exchange), cast(AuditTrail, Trail()))
    with pytest.raises(NotAnsweringError, match="too busy"):
        await desk.control("D1", Control(Verb.UNMUTE), Operator("desk", ""))
    endpoint._run_commands()
    assert exchange.times == 0

    monkeypatch.setattr(operators, "ANSWER_S", 60)
    asking = asyncio.create_task(desk.control("D1", Control(Verb.MUTE), Operator("desk", "")))
    while not exchange.times:
        await asyncio.sleep(0)
        endpoint._run_commands()
    assert await asking == {"muted": True}
    assert exchange.times == 1


async def test_an_operator_is_answered_once_it_is_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint, trail, exchange = Endpoint(Settings(), lambda _leg, _invite: None), Trail(), Asked()
    trail.stalls = True
    desk = Operators(endpoint, cast(Exchange, exchange), cast(AuditTrail, trail))
    monkeypatch.setattr(operators, "AUDIT_S", 60)
    asking = asyncio.create_task(desk.control("D1", Control(Verb.MUTE), Operator("desk", "")))
    while not trail.waiting:
        await asyncio.sleep(0)
        endpoint._run_commands()
    assert exchange.times == 1
    assert not asking.done()
    trail.disk_back()
    assert await asking == {"muted": True}

    monkeypatch.setattr(operators, "AUDIT_S", 0.05)
    asking = asyncio.create_task(desk.control("D1", Control(Verb.MUTE), Operator("desk", "")))
    while exchange.times < 2:
        await asyncio.sleep(0)
        endpoint._run_commands()
    assert await asking == {"muted": True}  # of a disk that stalls nobody waits for the end


def test_an_info_is_answered_once_it_is_written_down_and_once_only(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint, trail = Endpoint(Settings(), lambda _leg, _invite: None), Trail()
    answers, answered = AuditedAnswers(endpoint, cast(AuditTrail, trail)), list[str]()
    answers(lambda: answered.append("kept"))
    assert answered == []
    endpoint._run_commands()
    assert answered == ["kept"]

    trail.stalls = True
    monkeypatch.setattr(operators, "AUDIT_S", 0.0)
    answers(lambda: answered.append("late"))
    endpoint._run_commands()
    endpoint._run_alarms()
    assert answered == ["kept", "late"]
    trail.disk_back()
    endpoint._run_commands()
    assert answered == ["kept", "late"]
