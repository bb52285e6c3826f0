"""What operators ask of live calls: carried from the event loop to the sip thread, and answered once it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from recorder.calls.recording_control import Control, Operator
from recorder.errors import NotAnsweringError
from recorder.exchange import Exchange
from recorder.sip.endpoint import Endpoint

ANSWER_S = 3.0
"""How long the sip thread may take; what has not had its turn by then is not carried out."""

_T = TypeVar("_T")


class Operators:
    """The calls of one recorder, as operators may act on them. The methods run on the event loop."""

    def __init__(self, endpoint: Endpoint, exchange: Exchange) -> None:
        self._endpoint = endpoint
        self._exchange = exchange

    async def control(self, dialog_id: str, control: Control, operator: Operator) -> dict[str, Any]:
        """Begin or end a step of an operator; returns the call as it is then. On return a mute holds.

        Raises:
            NotFoundError: there is no such call.
            ConflictError: it cannot be carried out; nothing has changed.
            NotAnsweringError: the sip thread is too busy.
        """
        return await self._ask(partial(self._exchange.control, dialog_id, control, operator))

    async def hang_up(self, dialog_id: str, operator: Operator) -> None:
        """End a call. Raises as `control`."""
        await self._ask(partial(self._exchange.hang_up, dialog_id, operator))

    async def _ask(self, question: Callable[[], _T]) -> _T:
        try:
            return await asyncio.wait_for(self._endpoint.ask(question), ANSWER_S)
        except TimeoutError:
            raise NotAnsweringError("the recorder is too busy; see in calls what has become of it") from None
