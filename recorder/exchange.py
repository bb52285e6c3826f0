"""All calls: each INVITE is admitted, routed and made a session; live ones can be looked up and ended.

Owned by the sip thread, but for the methods that say otherwise.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import structlog

from recorder import native
from recorder.calls.admission import Admission, Refusal, Room
from recorder.calls.cdr import CallDetailRecord
from recorder.calls.events import CallAdmitted, CallRefused, Direction, HangUpRequested, Invite, Side
from recorder.calls.recording_control import Control, Operator
from recorder.calls.routing import Decision, Identity, Router
from recorder.calls.termination import of_refusal
from recorder.calls.transfer import Replaced, replaced
from recorder.errors import InvalidRequestError, NotFoundError, RecorderError
from recorder.identifiers import new_dialog_id
from recorder.library.audit import AuditEntry
from recorder.media.disk import Disk
from recorder.session import Services, Session
from recorder.sip.leg import Leg

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Watched:
    """What the machine had left when it was last looked at.

    Attributes:
        descriptors: how many more files and sockets the process might open.
        disk_bytes: free space where recordings are written; None when that is not known.
        legs: how many legs there were then.
    """

    descriptors: int = 1_000_000
    disk_bytes: int | None = None
    legs: int = 0


class Exchange:
    """The calls of one recorder."""

    def __init__(self, services: Services) -> None:
        self.admission = Admission(services.settings)
        self._services = services
        self._router = Router(services.settings)
        self._sessions: dict[str, Session] = {}
        self._admitted: dict[str, str] = {}  # dialogId to trunk; those refused take no room until their ACK is there
        self._trunk_calls: Counter[str] = Counter()
        self._watched = Watched()

    def invite(self, leg: Leg, invite: Invite) -> None:
        """Take an INVITE that came in: it becomes a call that is dialed on, or one that is refused."""
        if "replaces" in invite.headers:
            if not leg.gone:
                self._take_over(leg, invite)
            return
        event, decision = self._judge(invite, leg.direction)
        identity = decision.identity if decision else Identity("unknown", "unknown", new_dialog_id())
        identity = self._checked(identity)
        session = Session(self._services, leg, invite, decision, identity, self._released, self)
        self._sessions[identity.dialog_id] = session
        if isinstance(event, CallAdmitted) and decision is not None:
            self._admitted[identity.dialog_id] = decision.trunk
            self._trunk_calls[decision.trunk] += 1
        metrics = self._services.metrics
        metrics.calls_started.inc()
        metrics.calls_live.inc()
        session.post(leg.ended or event)  # a CANCEL may have come right behind the INVITE

    def refused(self, invite: Invite, sip_status: int, phrase: str) -> None:
        """Keep what is to be known of an INVITE that was answered before it became a call: it cannot be taken."""
        termination, metrics = of_refusal(sip_status), self._services.metrics
        record = CallDetailRecord(
            id=new_dialog_id(),
            time=invite.time_ms,
            group_id="unknown",
            account_id="unknown",
            calling=invite.calling,
            called=invite.called,
            result=termination.result,
            reason=termination.reason,
            answered_ms=None,
            ended_ms=invite.time_ms,
            duration_s=0.0,
            sip_status=sip_status,
            a_sip_call_id=invite.sip_call_id,
            b_sip_call_id=None,
            recorded=False,
            file=None,
            details={
                "trunk": invite.trunk,
                "source": invite.source,
                "phrase": phrase,
                "unrecorded_because": "refused",
            },
        )
        metrics.calls_started.inc()
        metrics.calls_refused.labels(termination.reason, invite.trunk).inc()
        self._services.close(record, time.monotonic())

    def live(self) -> list[dict[str, Any]]:
        """Every call there is, as the API shows it."""
        return [session.describe() for session in self._sessions.values()]

    def control(self, dialog_id: str, control: Control, operator: Operator) -> dict[str, Any]:
        """Begin or end a step of an operator; returns the call as it is then.

        Raises:
            NotFoundError: there is no such call.
            ConflictError: it cannot be carried out; nothing has changed.
        """
        session = self._session(dialog_id, control.verb.value, operator)
        session.controls.apply_for(operator, control)
        return session.describe()

    def hang_up(self, dialog_id: str, operator: Operator) -> None:
        """End a call because an operator says so. Raises as `control`."""
        self._session(dialog_id, "hang_up", operator).controls.hang_up_for(operator)

    def _session(self, dialog_id: str, action: str, operator: Operator) -> Session:
        session = self._sessions.get(dialog_id)
        if session is None:
            refusal = AuditEntry(
                "operator",
                action,
                "refused",
                "no_such_call",
                operator.name,
                operator.source,
                dialog_id,
                note=operator.note,
            )
            self._services.audit(refusal)
            raise NotFoundError("there is no such call now; it may have ended")
        return session

    @property
    def disk(self) -> Disk:
        """What writes the recordings."""
        return self._services.writer.disk

    @property
    def count(self) -> int:
        """How many calls there are. Any thread may ask."""
        return len(self._sessions)

    def hang_up_all(self, reason: str) -> None:
        """End every call, for a reason of ours."""
        for session in list(self._sessions.values()):
            session.post(HangUpRequested(reason))

    def watch(self, watched: Watched) -> None:
        """Take note of what the machine has left."""
        self._watched = replace(watched, legs=self._services.endpoint.leg_count)

    def _judge(self, invite: Invite, direction: Direction) -> tuple[CallAdmitted | CallRefused, Decision | None]:
        refused = self._services.metrics.calls_refused
        try:
            decision = self._router.decide(invite)
        except RecorderError as error:
            _log.warning("call_refused", source=invite.source, sip_call_id=invite.sip_call_id, error=str(error))
            reason = error.title.lower().replace(" ", "_")
            refused.labels(reason, invite.trunk).inc()
            return CallRefused(error.sip_status, reason, error.title), None
        room = self._room(decision.trunk)
        recorded = decision.unrecorded_because is None
        refusal = self.admission.refusal(decision.trunk, room, time.monotonic(), recorded=recorded)
        if refusal is not None:
            refused.labels(refusal.reason, decision.trunk).inc()
            return CallRefused(503, refusal.reason, refusal.detail, refusal.retry_after_s), replace(
                decision, unrecorded_because="refused"
            )
        if recorded:
            decision = replace(decision, unrecorded_because=self.admission.overload(room))
        targets = self._services.health.in_order(decision.targets, time.monotonic())
        return CallAdmitted(targets, decision.follow_redirects, direction), decision

    # Transfers ----------------------------------------------------------------------------------------------------

    def may_transfer(self, session: Session) -> bool:
        """Whether the trunk of this call allows transfers."""
        return session.decision is not None and self._router.may_transfer(session.decision.trunk)

    def transfer_route(self, session: Session, leaving: Side, user: str) -> Decision:
        """Where a party called `user` is to be dialed, as a call of the session's trunk. Raises RecorderError."""
        invite, staying = session.invite, session.party(leaving.other)
        return self._router.decide(replace(invite, called=user, calling=staying, headers={}, fields=()))

    def transfer_refusal(self, session: Session) -> Refusal | None:
        """Why no party may be dialed into this call now; None when one may: it takes as much as a call's second leg."""
        return self._refusal(session.invite.trunk)

    def _refusal(self, trunk: str) -> Refusal | None:
        return self.admission.refusal(trunk, self._room(trunk), time.monotonic(), recorded=False)

    def find(self, dialog: Replaced) -> tuple[Session, Leg] | None:
        """The call and the leg whose dialog this is."""
        call_id = native.find_call(dialog.sip_call_id, dialog.to_tag, dialog.from_tag)
        leg = self._services.endpoint.leg(call_id)
        if leg is None:
            return None
        return next(((one, leg) for one in self._sessions.values() if leg in (one.leg(Side.A), one.leg(Side.B))), None)

    def _take_over(self, leg: Leg, invite: Invite) -> None:
        """An INVITE that wants the place of one of our legs (RFC 3891, section 3): it has it, or is refused."""
        sip_status, outcome, retry_after_s = self._judge_takeover(leg, invite)
        if sip_status == 0:
            return
        self._services.metrics.transfers.labels(outcome).inc()
        _log.warning("takeover_refused", source=invite.source, sip_call_id=invite.sip_call_id, reason=outcome)
        leg.hang_up(sip_status, retry_after_s=retry_after_s)

    def _judge_takeover(self, leg: Leg, invite: Invite) -> tuple[int, str, int | None]:
        try:
            wanted = replaced(invite.headers["replaces"])
        except InvalidRequestError as error:
            return error.sip_status, "malformed", None
        if not self._router.may_transfer(invite.trunk):
            return 603, "denied", None
        found = self.find(wanted) if wanted is not None else None
        if wanted is None or found is None:
            return 481, "no_dialog", None
        session, old = found
        if wanted.early_only and session.is_up:
            return 486, "busy", None
        if (refusal := self._refusal(invite.trunk)) is not None:
            return 503, refusal.reason, refusal.retry_after_s
        # RFC 3891, section 3: 481 for an early dialog that is not of our making; of one that is the place can be had.
        taken = session.transfers.called(session.side_of(old), leg)
        return (0, "", None) if taken else (481, "no_dialog", None)

    def _room(self, trunk: str) -> Room:
        endpoint, watched = self._services.endpoint, self._watched
        # What has been opened since the watch: two sockets a leg, and a file or a connection.
        opened = 3 * max(0, endpoint.leg_count - watched.legs)
        return Room(
            calls=len(self._admitted),
            trunk_calls=self._trunk_calls[trunk],
            legs=endpoint.legs_left,
            descriptors=watched.descriptors - opened,
            disk_bytes=watched.disk_bytes,
            writer_lag_s=self._services.writer.lag_s,
            disk_queue_bytes=self._services.writer.disk.memory.used_bytes,
        )

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
        trunk = self._admitted.pop(session.identity.dialog_id, None)
        if trunk is not None:
            self._trunk_calls[trunk] -= 1
        self._services.metrics.calls_live.dec()
