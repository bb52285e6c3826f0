"""How a call ended, in one vocabulary: the same (result, reason) stands in the log line, the metric and the CDR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Result = Literal["completed", "cancelled", "rejected", "failed", "refused"]


@dataclass(frozen=True, slots=True)
class Termination:
    """The one ending of a call.

    Attributes:
        result: `completed` (was answered and hung up), `cancelled` (the caller gave up), `rejected` (the target said
            no), `failed` (it should have worked), `refused` (we turned it away).
        reason: a word out of a small fixed set, fit for a metric label.
        sip_status: the final status the A leg saw, or None when it ended with a BYE.
    """

    result: Result
    reason: str
    sip_status: int | None = None


CALLER_HANGUP = Termination("completed", "caller_hangup")
CALLEE_HANGUP = Termination("completed", "callee_hangup")
CALLER_CANCELLED = Termination("cancelled", "caller_cancelled", 487)
RESTARTED = Termination("failed", "recorder_restarted")
"""Of a call whose recorder died: it may be all that the next start knows."""

# RFC 3261, section 21; what is not here is named by its class.
_REJECTIONS = {
    401: "authentication_required",
    403: "forbidden",
    404: "not_found",
    407: "authentication_required",
    408: "no_answer",
    480: "unavailable",
    481: "no_dialog",
    486: "busy",
    487: "cancelled",
    488: "not_acceptable",
    503: "overloaded",
    600: "busy",
    603: "declined",
}


_REFUSALS = {
    400: "bad_request",
    406: "not_acceptable",
    415: "unsupported_media_type",
    416: "unsupported_uri_scheme",
    420: "bad_extension",
    421: "extension_required",
    422: "session_interval_too_small",
    482: "loop_detected",
    483: "too_many_hops",
    486: "capacity",
    488: "not_acceptable",
}


def of_refusal(sip_status: int) -> Termination:
    """Name the end of an INVITE that was answered with `sip_status` before it became a call."""
    return Termination("refused", _REFUSALS.get(sip_status, "not_taken"), sip_status)


def of_rejection(sip_status: int) -> Termination:
    """Name the end of a call whose target answered the INVITE with `sip_status` (300 to 699)."""
    named = _REJECTIONS.get(sip_status)
    if sip_status >= 600 or named in ("busy", "declined"):
        return Termination("rejected", named or "declined", sip_status)
    if sip_status >= 500 or named == "no_answer":
        return Termination("failed", named or "target_error", sip_status)
    return Termination("rejected", named or ("redirected" if sip_status < 400 else "target_refused"), sip_status)
