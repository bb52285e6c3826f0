"""What operators ask is not carried out once they have been told that it was not."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from recorder import operators
from recorder.calls.recording_control import Control, Operator, Verb
from recorder.errors import NotAnsweringError
from recorder.exchange import Exchange
from recorder.operators import Operators
from recorder.settings import Settings
from recorder.sip.endpoint import Endpoint


class Asked:
    """In the place of the exchange: how often it was asked."""

    def __init__(self) -> None:
        self.times = 0

    def control(self, _dialog_id: str, _control: Control, _operator: Operator) -> dict[str, Any]:
        self.times += 1
        return {"muted": True}


async def test_a_sip_thread_that_comes_too_late_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "ANSWER_S", 0.05)
    endpoint = Endpoint(Settings(), lambda _leg, _invite: None)  # whose thread does not run
    exchange = Asked()
    desk = Operators(endpoint, cast(Exchange, exchange))
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
