"""The call detail record: one a call, written when it ends."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class CallDetailRecord:
    """What is kept of a call.

    Attributes:
        id: the dialogId. time: epoch milliseconds of the INVITE; the other times are epoch milliseconds too.
        result, reason: as in `termination.Termination`. sip_status: the final status the caller saw, None after a BYE.
        file: name of the recording, None when the call was not recorded.
        details: set-up timings in seconds, trunk, target, the reason for not recording.
    """

    id: str
    time: int
    group_id: str
    account_id: str
    calling: str
    called: str
    result: str
    reason: str
    answered_ms: int | None
    ended_ms: int
    duration_s: float
    sip_status: int | None
    a_sip_call_id: str
    b_sip_call_id: str | None
    recorded: bool
    file: str | None
    details: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The record as plain values, fit for JSON."""
        return {name: getattr(self, name) for name in _FIELDS}


_FIELDS = tuple(field.name for field in fields(CallDetailRecord))
