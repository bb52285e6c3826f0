"""Control of one call's recording as it happens: steps are begun and ended, and whoever asked is told and remembered.

Owned by the sip thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from recorder import native
from recorder.calls.actions import ApplyControl, RefuseControl
from recorder.calls.events import HangUpRequested, Side
from recorder.calls.recording_control import By, Control, ControlRefusedError, Effect, Operator, Steps, controller_of
from recorder.library.audit import AuditEntry

if TYPE_CHECKING:
    from recorder.session import Session

_log = structlog.get_logger()

MOST_ENTRIES = 1000
"""Of one call in the audit and the log: who sends controls without end is not to fill them."""


class Controls:
    """The steps of one call, and the ways to begin and end them."""

    def __init__(self, session: Session) -> None:
        self.steps = Steps()
        self._session = session
        self._entries = 0

    def apply(self, action: ApplyControl) -> None:
        """Carry out what the far end of a leg asks for; it is answered only when it holds."""
        control, facts = action.control, self._facts_of(action.side, action.source)
        try:
            self._apply(controller_of(action.side), control)
        except ControlRefusedError as error:
            self._refused(error, control, facts)
            self._answer(action.token, error.sip_status, str(error), error.headers)
            return
        self._enter(AuditEntry(action=control.verb.value, **self._said(control), **facts))
        self._answer(action.token, 200, "OK")

    def refuse(self, action: RefuseControl) -> None:
        """Turn down an INFO that controls, but says nothing that could be carried out."""
        error = action.error
        self._refused(error, None, self._facts_of(action.side, action.source))
        self._answer(action.token, error.sip_status, str(error), error.headers)

    def apply_for(self, operator: Operator, control: Control) -> None:
        """Carry out what an operator asks for.

        Raises:
            ControlRefusedError: it cannot be carried out; nothing has changed.
        """
        facts = self._facts_of_operator(operator)
        try:
            self._check_not_over()
            self._apply("operator", control, operator.name)
        except ControlRefusedError as error:
            self._refused(error, control, facts)
            raise
        except Exception:
            # Nobody knows whether it is silent now: as with an INFO, such a call ends.
            self._session.post(HangUpRequested("internal_error"))
            raise
        self._enter(AuditEntry(action=control.verb.value, **self._said(control), **facts))

    def hang_up_for(self, operator: Operator) -> None:
        """End the call because an operator says so.

        Raises:
            ControlRefusedError: it has ended already.
        """
        facts = self._facts_of_operator(operator)
        try:
            self._check_not_over()
        except ControlRefusedError as error:
            self._enter(AuditEntry(action="hang_up", result="refused", reason=error.reason, **facts))
            raise
        self._enter(AuditEntry(action="hang_up", shape="HTTP", **facts))
        self._session.post(HangUpRequested("operator"))

    def _apply(self, by: By, control: Control, who: str = "") -> None:
        session, metrics = self._session, self._session.services.metrics
        effect, step = self.steps.apply(by, control, who, enabled=session.is_enabled)
        take = session.take
        if effect is Effect.BEGUN:
            metrics.redactions.labels(by).inc()
            if take is not None:
                take.mute(take.position, step)
        elif effect is Effect.ENDED and take is not None:
            take.unmute(take.position, step, last=not self.steps.muted)

    def _check_not_over(self) -> None:
        if self._session.is_over:
            raise ControlRefusedError("call_ended", 481, "The call has ended")

    # Who is told --------------------------------------------------------------------------------------------------

    def _answer(
        self, token: int | None, sip_status: int, phrase: str, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        """Answer once what was asked stands in the audit where `kill -9` does not reach it; what holds, holds now."""
        services = self._session.services
        if token is not None:
            services.once_audited(lambda: native.answer_info(token, sip_status, phrase, list(headers)))
            services.metrics.infos.labels("accepted" if sip_status < 300 else "refused").inc()

    def _refused(self, error: ControlRefusedError, control: Control | None, facts: dict[str, Any]) -> None:
        self._session.services.metrics.redactions_refused.labels(error.reason).inc()
        action = control.verb.value if control is not None else "unclear"
        self._enter(AuditEntry(action=action, result="refused", reason=error.reason, **self._said(control), **facts))

    def _enter(self, entry: AuditEntry) -> None:
        self._entries += 1
        if self._entries > MOST_ENTRIES:
            return
        services = self._session.services
        if self._entries == MOST_ENTRIES:
            services.audit(AuditEntry("recorder", "omit", dialog_id=entry.dialog_id, reason="too_many_entries"))
            _log.warning("recording_controls_too_many", dialog_id=entry.dialog_id, entries=MOST_ENTRIES)
            return
        services.audit(entry)
        log = _log.info if entry.result == "accepted" else _log.warning
        log(
            "recording_control",
            dialog_id=entry.dialog_id,
            actor=entry.actor,
            who=entry.who,
            source=entry.source,
            action=entry.action,
            step=entry.step,
            shape=entry.shape,
            result=entry.result,
            reason=entry.reason,
            muted=entry.muted,
        )

    def _said(self, control: Control | None) -> dict[str, Any]:
        said = {"step": control.step, "shape": control.shape} if control is not None else {}
        return {"muted": self.steps.muted, **said}

    def _facts_of(self, side: Side, source: str) -> dict[str, Any]:
        leg = self._session.leg(side)
        return {
            "actor": "caller" if side is Side.A else "application",
            "source": source,
            "sip_call_id": leg.sip_call_id if leg is not None else None,
            **self._of_call(),
        }

    def _facts_of_operator(self, operator: Operator) -> dict[str, Any]:
        return {
            "actor": "operator",
            "who": operator.name,
            "source": operator.source,
            "note": operator.note,
            **self._of_call(),
        }

    def _of_call(self) -> dict[str, Any]:
        identity = self._session.identity
        return {"dialog_id": identity.dialog_id, "group_id": identity.group_id, "account_id": identity.account_id}
