"""Transfers as they happen: a party joins a call, another leaves it, and the recording goes on.

Owned by the sip thread.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from recorder import native
from recorder.calls.admission import Refusal
from recorder.calls.dialing import Dialing
from recorder.calls.events import Direction, Event, InfoReceived, LegAnswered, LegClosing, LegConfirmed, LegEnded, Side
from recorder.calls.routing import Decision
from recorder.calls.targets import Address, Target
from recorder.calls.transfer import (
    Action,
    AnswerParty,
    CallEnded,
    Conclude,
    DialParty,
    DropParty,
    Heard,
    LetHear,
    OldLegEnded,
    Referral,
    Replaced,
    Report,
    TakePlace,
    TimedOut,
    Transfer,
    referral,
)
from recorder.errors import IllegalEventError, InvalidRequestError, RecorderError
from recorder.sip import headers as sip_headers
from recorder.sip.leg import Leg, connect
from recorder.transparency import hops

if TYPE_CHECKING:
    from recorder.session import Session

_log = structlog.get_logger()


class Switchboard(Protocol):
    """What a transfer needs to know of the other calls."""

    def may_transfer(self, session: Session) -> bool:
        """Whether the trunk of this call allows transfers."""

    def transfer_route(self, session: Session, leaving: Side, user: str) -> Decision:
        """Where a party called `user` is to be dialed, as a call of the session's trunk. Raises RecorderError."""

    def transfer_refusal(self, session: Session) -> Refusal | None:
        """Why no party may be dialed into this call now; None when one may."""

    def find(self, dialog: Replaced) -> tuple[Session, Leg] | None:
        """The call and the leg whose dialog this is."""


@dataclass(slots=True)
class Story:
    """One transfer, as the CDR tells it. Times are in seconds on the monotonic clock."""

    kind: str
    leaving: Side
    to: str
    began_at: float
    ended_at: float | None = None
    result: str | None = None
    sip_status: int | None = None
    old_sip_call_id: str | None = None
    new_sip_call_id: str | None = None

    def as_dict(self, origin: float) -> dict[str, Any]:
        """As plain values; moments in seconds from `origin`."""
        ended = None if self.ended_at is None else round(self.ended_at - origin, 4)
        return {
            "kind": self.kind,
            "side": self.leaving.value,
            "to": self.to,
            "result": self.result,
            "sip_status": self.sip_status,
            "began_s": round(self.began_at - origin, 4),
            "ended_s": ended,
            "old_sip_call_id": self.old_sip_call_id,
            "new_sip_call_id": self.new_sip_call_id,
        }


@dataclass(slots=True)
class _Running:
    """The transfer that is going on."""

    machine: Transfer
    story: Story
    old: Leg
    dialing: Dialing | None = None
    subscription: str | None = None  # the Event of its NOTIFYs; None when nobody listens
    new: Leg | None = None
    told: Direction = Direction.SENDRECV  # which way audio goes, as far as `new` knows
    kept: LegEnded | None = None  # the old leg's end, which the call has not been told of
    heard: Heard = Heard.NOTHING  # by the party that stays
    tone: int = -1  # the bridge's slot of the ringback tone
    alarm: Any = None


@dataclass(slots=True)
class Transfers:
    """The transfers of one call, at most one at a time."""

    session: Session
    stories: list[Story] = field(default_factory=list)
    _running: _Running | None = None
    _referrals: int = 0

    # What is asked ------------------------------------------------------------------------------------------------

    def asked(self, side: Side, token: int, request: Sequence[tuple[str, str]]) -> None:
        """A REFER has come in on the leg of `side`: that party wants to leave (RFC 3515)."""
        session = self.session
        if not session.switchboard.may_transfer(session):
            self._refuse(token, 603, "denied", side)
            return
        if self._running is not None or not session.is_up:
            self._refuse(token, 491, "busy", side)
            return
        try:
            wanted = referral(request)
        except InvalidRequestError as error:
            self._refuse(token, 400, "malformed", side, str(error))
            return
        found = session.switchboard.find(wanted.replaces) if wanted.replaces is not None else None
        if found is not None:
            self._join_calls(side, token, wanted, *found)
            return
        try:
            decision = session.switchboard.transfer_route(session, side, wanted.user)
        except RecorderError as error:
            self._refuse(token, error.sip_status, "no_route", side)
            return
        refusal = session.switchboard.transfer_refusal(session)
        if refusal is not None:
            again = [("Retry-After", str(refusal.retry_after_s))]
            self._refuse(token, 503, refusal.reason, side, refusal.detail, again)
            return
        self._accept(token, wanted)
        story = Story("attended" if wanted.replaces else "blind", side, decision.targets[0].uri, time.monotonic())
        dialing = self._dialing(side, decision, wanted)
        old = session.leg(side)
        held = old is not None and old.direction is not Direction.SENDRECV
        self._begin(Transfer(decision.targets, held=held), story, dialing, self._subscription(wanted, request))

    def called(self, side: Side, leg: Leg) -> bool:
        """An INVITE has come in that wants the place of the leg of `side` (RFC 3891). False when it cannot be had."""
        if self._running is None and side is Side.B and self.session.rings:
            self._pick_up(leg)
            return True
        if self._running is not None or not self.session.is_up:
            return False
        story = Story("replaces", side, "", time.monotonic())
        self._begin(Transfer(()), story, None, None, leg)
        return True

    def _pick_up(self, leg: Leg) -> None:
        """Somebody takes the call that rings on the B leg: an early dialog of our making (RFC 3891, section 3)."""
        session, now = self.session, time.monotonic()
        old = session.leg(Side.B)
        assert old is not None
        story = Story("pickup", Side.B, "", now, None, None, None, old.sip_call_id, leg.sip_call_id)
        self.stories.append(story)

        def conclude(result: str, sip_status: int) -> None:
            if story.result is None:
                story.ended_at, story.result, story.sip_status = time.monotonic(), result, sip_status
                self._count(story)

        def heard(event: Event) -> None:
            if isinstance(event, LegEnded):
                conclude("failed", event.sip_status)
            elif isinstance(event, LegConfirmed):  # it has called us, so its ACK is what an answer is of who is called
                story.new_sip_call_id = leg.sip_call_id
                conclude("completed", 200)
                event = LegAnswered()
            session.post(event)

        leg.listener = heard
        session.pick_up(leg)

    def _join_calls(self, side: Side, token: int, wanted: Referral, other: Session, leg: Leg) -> None:
        """The transferor is in another call of ours, too: its other party moves here, and nobody is dialed."""
        moving = other.leg(other.side_of(leg).other)
        if other is self.session or not other.is_up or other.transfers.running or moving is None:
            self._refuse(token, 603, "no_dialog", side)
            return
        self._accept(token, wanted)
        now = time.monotonic()
        old = self.session.leg(side)
        assert old is not None
        story = Story("attended", side, other.party(other.side_of(moving)), now, now, "completed", 200, old.sip_call_id)
        story.new_sip_call_id = moving.sip_call_id
        self.stories.append(story)
        subscription = self._subscription(wanted, ())
        told = other.give(moving)
        self.session.replace_leg(side, moving, told)
        if subscription is not None:
            _notify(old, subscription, 200, "OK", final=True)
        old.hang_up(200)
        self._count(story)

    # What happens -------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether one is going on."""
        return self._running is not None

    def keeps(self, event: Event) -> bool:
        """Whether the call is not to hear of `event` yet: the old party has left, and the new one may still come."""
        running = self._running
        if running is None or not isinstance(event, (LegEnded, LegClosing)) or event.side is not running.story.leaving:
            return False
        if isinstance(event, LegClosing):
            return True  # its end follows
        if running.kept is None:
            running.kept = event
            self._handle(OldLegEnded())
        return True

    def call_ended(self) -> None:
        """The call is over: whoever was on the way into it is turned away."""
        if self._running is not None:
            self._handle(CallEnded())

    def _begin(
        self, machine: Transfer, story: Story, dialing: Dialing | None, subscription: str | None, new: Leg | None = None
    ) -> None:
        session = self.session
        old = session.leg(story.leaving)
        assert old is not None
        story.old_sip_call_id = old.sip_call_id
        self.stories.append(story)
        self._running = running = _Running(machine, story, old, dialing, subscription, new)
        if new is not None:
            new.listener = self._heard
        timeout = session.services.settings.sip.ring_timeout_s
        running.alarm = session.services.endpoint.call_later(timeout, lambda: self._handle(TimedOut()))
        _log.info("transfer_begun", dialog_id=session.identity.dialog_id, **story.as_dict(story.began_at))
        actions = machine.begin()
        # Not from inside the stack's callback, in which a REFER comes: it holds the old party's dialog.
        session.services.endpoint.post(lambda: self._perform(actions) if running is self._running else None)

    def _heard(self, event: Event) -> None:
        if isinstance(event, InfoReceived):
            native.answer_info(event.token, 480)
        else:
            self._handle(event)

    def _handle(self, event: Event | OldLegEnded | CallEnded | TimedOut) -> None:
        if self._running is None:
            return
        try:
            actions = self._running.machine.handle(event)
        except IllegalEventError as error:
            _log.debug("transfer_event", error=str(error))  # a digit, a re-INVITE: of no consequence yet
            return
        self._perform(actions)

    def _perform(self, actions: Sequence[Action]) -> None:
        for action in actions:
            running = self._running
            if running is None:
                return
            match action:
                case DialParty(target):
                    self._dial(running, target)
                case AnswerParty():
                    staying = self.session.leg(running.story.leaving.other)
                    if running.new is not None and staying is not None:
                        running.new.agree_with(staying)
                        running.new.announce(recorded=self.session.is_enabled)
                        running.new.accept()
                case Report(sip_status, phrase, final):
                    if running.subscription is not None and not running.old.gone:
                        _notify(running.old, running.subscription, sip_status, phrase, final=final)
                case TakePlace():
                    self._take_place(running)
                case DropParty(sip_status):
                    if running.new is not None:
                        running.new.listener = None
                        running.new.hang_up(sip_status)
                case LetHear(heard):
                    self._change_heard(running, heard)
                case Conclude(result, sip_status, alone):
                    self._conclude(running, result, sip_status, alone)

    def _dial(self, running: _Running, target: Target) -> None:
        endpoint = self.session.services.endpoint
        if target.lookup is not None:
            endpoint.look_up(target.lookup, lambda found: self._looked_up(running, target, found))
            return
        assert running.dialing is not None
        if running.new is not None:
            running.new.listener = None
        to = replace(running.dialing, target=target.uri, trunk=target.trunk, address=target.address)
        staying = self.session.leg(running.story.leaving.other)
        assert staying is not None
        running.told = staying.direction
        running.new = endpoint.dial(self._heard, to, staying, running.told)

    def _looked_up(self, running: _Running, target: Target, found: Sequence[Address]) -> None:
        if running is not self._running:
            return
        if found:
            self._dial(running, replace(target, lookup=None, address=found[0]))
        else:
            self._handle(LegEnded(running.story.leaving, 0, "Not found"))

    def _take_place(self, running: _Running) -> None:
        assert running.new is not None
        self._stop_tone(running)
        running.story.new_sip_call_id = running.new.sip_call_id
        self.session.replace_leg(running.story.leaving, running.new, running.told)
        running.old.hang_up(200)

    def _change_heard(self, running: _Running, heard: Heard) -> None:
        running.heard = heard
        if heard is Heard.NOTHING:
            self._stop_tone(running)
            self.session.join_again()
        else:
            self.let_hear()

    def let_hear(self) -> None:
        """Have the party that stays hear what it is to hear; again when its media have changed."""
        running = self._running
        if running is None or running.heard is Heard.NOTHING:
            return
        session = self.session
        staying = session.leg(running.story.leaving.other)
        assert staying is not None
        self._stop_tone(running)
        session.part(running.old, staying)
        ringback = session.services.settings.sip.transfer_ringback
        if running.heard is Heard.EARLY_MEDIA and running.new is not None:
            connect(staying, running.new)
        elif ringback.enabled and staying.slot >= 0:  # one that is held both ways hears nothing
            try:
                running.tone = native.start_ringback(staying.slot, list(ringback.hertz), list(ringback.cadence_ms))
            except RuntimeError as error:
                _log.warning("no_ringback", dialog_id=session.identity.dialog_id, error=str(error))

    def _stop_tone(self, running: _Running) -> None:
        if running.tone >= 0:
            native.stop_ringback(running.tone)
            running.tone = -1

    def _conclude(self, running: _Running, result: str, sip_status: int, alone: bool) -> None:
        self._running = None
        self._stop_tone(running)
        running.alarm.cancel()
        story = running.story
        story.ended_at, story.result, story.sip_status = time.monotonic(), result, sip_status
        self._count(story)
        if alone and running.kept is not None:
            self.session.post(running.kept)

    def _count(self, story: Story) -> None:
        session = self.session
        session.services.metrics.transfers.labels(story.result).inc()
        _log.info("transfer", dialog_id=session.identity.dialog_id, **story.as_dict(story.began_at))

    # REFER --------------------------------------------------------------------------------------------------------

    def _refuse(
        self,
        token: int,
        sip_status: int,
        outcome: str,
        side: Side,
        phrase: str = "",
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        session = self.session
        session.services.metrics.transfers.labels(outcome).inc()
        _log.warning(
            "transfer_refused",
            dialog_id=session.identity.dialog_id,
            side=side.value,
            status=sip_status,
            reason=outcome,
        )
        native.answer_info(token, sip_status, phrase, list(headers))

    def _accept(self, token: int, wanted: Referral) -> None:
        # RFC 4488, section 4: who wants no subscription is told that there is none.
        native.answer_info(token, 202, "", [] if wanted.subscribed else [("Refer-Sub", "false")])

    def _subscription(self, wanted: Referral, request: Sequence[tuple[str, str]]) -> str | None:
        self._referrals += 1
        if not wanted.subscribed:
            return None
        # RFC 3515, section 2.4.6: those after the first in a dialog are told apart by their CSeq.
        cseq = next((value.split()[0] for name, value in request if name.lower() == "cseq" and value.split()), "")
        return f"refer;id={cseq}" if self._referrals > 1 and cseq.isdigit() else "refer"

    def _dialing(self, leaving: Side, decision: Decision, wanted: Referral) -> Dialing:
        endpoint = self.session.services.endpoint
        home = endpoint.home(decision.targets[0].uri)
        extra = list(hops(self.session.invite))
        by = sip_headers.rehosted(wanted.referred_by, home) if sip_headers.is_value(wanted.referred_by) else None
        if by:
            extra.append(("Referred-By", by))
        if wanted.replaces is not None:
            extra += [("Replaces", str(wanted.replaces)), ("Require", "replaces")]
        display = self.session.display(leaving.other)
        package = self.session.services.settings.redaction.info_package
        if leaving is Side.B and package is not None:
            extra.append(("Recv-Info", package))
        return Dialing("", calling=decision.calling, display=display, headers=tuple(extra))


def _notify(leg: Leg, subscription: str, sip_status: int, phrase: str, *, final: bool) -> None:
    """Tell how a transfer goes (RFC 3515, section 2.4.5)."""
    state = "terminated;reason=noresource" if final else "active;expires=180"
    fields = [("Event", subscription), ("Subscription-State", state)]
    native.notify(leg.call_id, fields, "message/sipfrag;version=2.0", f"SIP/2.0 {sip_status} {phrase}\r\n")
