"""All calls: each INVITE is admitted, routed and made a session; live ones can be looked up and ended.

Owned by the sip thread, but for the methods that say otherwise.
"""

from __future__ import annotations

from typing import Any

import structlog

from recorder.calls.admission import Admission
from recorder.calls.events import CallAdmitted, CallRefused, HangUpRequested, Invite
from recorder.calls.routing import Decision, Identity, Router
from recorder.errors import RecorderError
from recorder.identifiers import new_dialog_id
from recorder.session import Services, Session
from recorder.sip.leg import Leg

_log = structlog.get_logger()


class Exchange:
    """The calls of one recorder."""

    def __init__(self, services: Services) -> None:
        self.admission = Admission(services.settings)
        self._services = services
        self._router = Router(services.settings)
        self._sessions: dict[str, Session] = {}

    def invite(self, leg: Leg, invite: Invite) -> None:
        """Take an INVITE that came in: it becomes a call that is dialed on, or one that is refused."""
        event, decision = self._judge(invite)
        identity = decision.identity if decision else Identity("unknown", "unknown", new_dialog_id())
        identity = self._checked(identity)
        session = Session(self._services, leg, invite, decision, identity, self._released)
        self._sessions[identity.dialog_id] = session
        metrics = self._services.metrics
        metrics.calls_started.inc()
        metrics.calls_live.inc()
        session.post(event)

    def live(self) -> list[dict[str, Any]]:
        """Every call there is, as the API shows it."""
        return [session.describe() for session in self._sessions.values()]

    @property
    def count(self) -> int:
        """How many calls there are. Any thread may ask."""
        return len(self._sessions)

    def hang_up_all(self, reason: str) -> None:
        """End every call, for a reason of ours."""
        for session in list(self._sessions.values()):
            session.post(HangUpRequested(reason))

    def _judge(self, invite: Invite) -> tuple[CallAdmitted | CallRefused, Decision | None]:
        refusal = self.admission.refusal(len(self._sessions))
        if refusal is not None:
            return CallRefused(503, refusal.reason, refusal.detail, refusal.retry_after_s), None
        try:
            decision = self._router.decide(invite)
        except RecorderError as error:
            _log.warning("call_refused", source=invite.source, sip_call_id=invite.sip_call_id, error=str(error))
            reason = error.title.lower().replace(" ", "_")
            return CallRefused(error.sip_status, reason, error.title), None
        return CallAdmitted(decision.targets), decision

    def _checked(self, identity: Identity) -> Identity:
        """Report what was replaced, and give a call whose dialogId is taken by a live one an id of its own."""
        replaced = identity.replaced
        if identity.dialog_id in self._sessions:
            replaced = (*replaced, ("dialog_id", identity.dialog_id))
            identity = Identity(identity.group_id, identity.account_id, new_dialog_id(), replaced)
        for field, value in replaced:
            self._services.metrics.identifiers_replaced.labels(field).inc()
            _log.warning("identifier_replaced", dialog_id=identity.dialog_id, field=field, value=value[:80])
        return identity

    def _released(self, session: Session) -> None:
        del self._sessions[session.identity.dialog_id]
        self._services.metrics.calls_live.dec()
