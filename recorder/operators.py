"""What operators ask of live calls: carried from the event loop to the sip thread, and answered once it is done."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from recorder.calls.recording_control import Control, Operator
from recorder.errors import NotAnsweringError
from recorder.exchange import Exchange
from recorder.library.audit import AuditTrail
from recorder.sip.endpoint import Endpoint

ANSWER_S = 3.0
"""How long the sip thread may take; what has not had its turn by then is not carried out."""
AUDIT_S = 0.25
"""How long an answer waits for the audit's file: a disk that stalls holds up no control. An INFO is repeated later."""

_T = TypeVar("_T")


class Operators:
    """The calls of one recorder, as operators may act on them. The methods run on the event loop."""

    def __init__(self, endpoint: Endpoint, exchange: Exchange, audit: AuditTrail) -> None:
        self._endpoint = endpoint
        self._exchange = exchange
        self._audit = audit

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
        finally:
            await self._audited()

    async def _audited(self) -> None:
        """Wait until what has been done is written down, but not for a disk that stalls."""
        loop, written = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
                loop.call_soon_threadsafe(written.set)

        self._audit.when_kept(tell)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(written.wait(), AUDIT_S)


class AuditedAnswers:
    """Has answers wait on the sip thread until what they answer to is written down. Called on that thread."""

    def __init__(self, endpoint: Endpoint, audit: AuditTrail) -> None:
        self._endpoint = endpoint
        self._audit = audit

    def __call__(self, answer: Callable[[], object]) -> None:
        """Call `answer` when all that was entered is written down, or after `AUDIT_S`."""

        def once() -> None:
            if alarm.action is not None:
                alarm.cancel()
                answer()

        alarm = self._endpoint.call_later(AUDIT_S, once)
        self._audit.when_kept(lambda: self._endpoint.post(once))
