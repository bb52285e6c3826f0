"""One call as it happens: the core's decisions carried out on two legs, and the recording that hangs on them.

Owned by the sip thread.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from recorder import native
from recorder.byte_store import PLAIN, Storage
from recorder.calls.actions import (
    AbandonLeg,
    Action,
    AnswerInfo,
    AnswerLeg,
    ApplyControl,
    ConsiderTransfer,
    DialLeg,
    FinishCall,
    ForwardInfo,
    HangUpLeg,
    JoinMedia,
    LookUpTarget,
    ProgressLeg,
    RefuseControl,
    Reinvite,
    ReleaseCall,
    ReportMediaTimeout,
    ReportTarget,
    SendDigit,
    StartRecording,
    StartTimer,
    StopRecording,
    StopTimers,
)
from recorder.calls.call import Call, Limits, State
from recorder.calls.cdr import CallDetailRecord
from recorder.calls.control_shapes import Shapes
from recorder.calls.events import (
    Direction,
    DirectionAsked,
    Event,
    HangUpRequested,
    Invite,
    LegMoved,
    LegPickedUp,
    LegReplaced,
    LegTrying,
    ReinviteEnded,
    Side,
    TargetLookedUp,
    Timer,
    TimerExpired,
)
from recorder.calls.health import Health
from recorder.calls.routing import Decision, Identity
from recorder.calls.targets import Address, Target
from recorder.calls.termination import RESTARTED, Termination
from recorder.controls import Controls
from recorder.errors import IllegalEventError
from recorder.identifiers import RecordingName
from recorder.library.audit import AuditEntry
from recorder.library.keeper import EndedCall, Keeper
from recorder.library.manifest import LegFacts, Parties
from recorder.media.recording import Recording
from recorder.media.writer import Writer
from recorder.metrics import Metrics
from recorder.settings import Settings
from recorder.sip.endpoint import Alarm, Endpoint
from recorder.sip.headers import Headers, display_of, hosts_in
from recorder.sip.leg import Leg, connect, disconnect, guarded
from recorder.take import Take, leg_facts
from recorder.transfer import Switchboard, Transfers
from recorder.transparency import Crossing, Transparency, ip_of, places_of_caller

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Services:
    """What a call needs of the rest of the recorder.

    `ended` holds what is to be kept of a call between the end of its call and that of its recording, which the writer
    thread reaches a little later. `once_audited` calls back on the sip thread when what went to `audit` has been
    written down.
    """

    settings: Settings
    endpoint: Endpoint
    writer: Writer
    keeper: Keeper
    metrics: Metrics
    health: Health
    transparency: Transparency
    shapes: Shapes
    audit: Callable[[AuditEntry], None]
    once_audited: Callable[[Callable[[], object]], None]
    ended: dict[Recording, EndedCall] = field(default_factory=dict)
    storage: Storage = PLAIN

    def close(self, record: CallDetailRecord, ended_at: float, take: Take | None = None) -> None:
        """Account for a call that is over: in metrics, log and by its record, with its recording if there is one."""
        self.metrics.calls_ended.labels(record.result, record.reason).inc()
        cdr = record.as_dict()
        _log.info("call", **cdr)
        if take is None or not take.began:
            self.keeper.submit(EndedCall(cdr, None, None, ended_at))
            return
        take.tell(cdr)
        self.ended[take.recording] = EndedCall(
            cdr, take.recording.commit, lambda written: take.manifest(written, cdr), ended_at
        )
        self.writer.end(take.recording, take.end_position)


class Session:
    """One call: the pure `Call`, its two legs and its recording.

    `on_released(session)` is called once, when both legs are gone.
    """

    def __init__(
        self,
        services: Services,
        leg: Leg,
        invite: Invite,
        decision: Decision | None,
        identity: Identity,
        on_released: Callable[[Session], None],
        switchboard: Switchboard,
    ) -> None:
        self.invite = invite
        self.identity = identity
        self.decision = decision
        self.take: Take | None = None
        self.services = services
        self.switchboard = switchboard
        self._transfers: Transfers | None = None
        self._on_released = on_released
        self._call = Call(_limits(services.settings), time.monotonic(), services.shapes)
        self._legs: dict[Side, Leg] = {Side.A: leg}
        self._alarms: dict[Timer, Alarm] = {}
        self._relayed = False
        self.controls = Controls(self)
        self._inbox: deque[Event] = deque()
        self._busy = False
        self._take_in(leg)

    def _take_in(self, leg: Leg) -> None:
        """Listen to a leg, and say what of an answer to its requests it may see."""
        leg.listener = self.post
        leg.sees = lambda fields: self._crossing(leg.side, fields, whole=True)

    def post(self, event: Event) -> None:
        """Let an event happen. One that comes while another is worked on waits for its turn."""
        self._inbox.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._inbox:
                self._step(self._inbox.popleft())
        finally:
            self._busy = False

    def describe(self) -> dict[str, Any]:
        """The call as the API shows a live one."""
        call = self._call
        return {
            "dialog_id": self.identity.dialog_id,
            "group_id": self.identity.group_id,
            "account_id": self.identity.account_id,
            "state": call.state.value,
            "calling": self.invite.calling,
            "called": self.invite.called,
            "started_ms": self.invite.time_ms,
            "answered_ms": self._epoch_ms(call.answered_at),
            "recorded": self.take is not None and self.take.began,
            "muted": self.controls.steps.muted,
            "steps": [{"control": it.by, "step": it.name, "who": it.who} for it in self.controls.steps.open],
        }

    def _step(self, event: Event) -> None:
        if self._transfers is not None and self._transfers.keeps(event):
            return
        try:
            actions = self._call.handle(event, time.monotonic())
        except IllegalEventError as error:
            _log.warning("illegal_event", dialog_id=self.identity.dialog_id, error=str(error))
            return
        for action in actions:
            try:
                self._perform(action)
            except Exception:  # noqa: BLE001  # whatever it was, this call ends and the others go on
                _log.exception("action_failed", dialog_id=self.identity.dialog_id, action=type(action).__name__)
                if isinstance(action, HangUpLeg):  # without what was to be said with it: no leg may stay
                    guarded(self._legs[action.side].hang_up, action.sip_status)
                if not isinstance(event, HangUpRequested):
                    self._inbox.append(HangUpRequested("internal_error"))
        if isinstance(event, (DirectionAsked, LegReplaced)):
            self._note_hold()
        if self._transfers is not None and self._call.termination is not None:
            self._transfers.call_ended()

    def _perform(self, action: Action) -> None:
        match action:
            case DialLeg(target, direction):
                self._dial(target, direction)
            case LookUpTarget(target):
                self._look_up(target)
            case AbandonLeg():
                self._legs[Side.B].abandon()
            case ReportTarget(target):
                _log.warning("target_failed", dialog_id=self.identity.dialog_id, target=target.uri)
                self.services.health.call_failed(target, time.monotonic())
            case ProgressLeg(sip_status, phrase, media):
                if media:
                    self._agree()
                self._legs[Side.A].progress(sip_status, phrase, media, self._from(Side.B))
            case AnswerLeg():
                self._agree()
                self._legs[Side.A].accept(self._from(Side.B))
            case JoinMedia():
                self._join()
                if self._transfers is not None:
                    self._transfers.let_hear()
            case Reinvite(side, direction):
                if not self._legs[side].reinvite(direction):
                    self.post(ReinviteEnded(side, 491))  # another one is under way: as if it had met that
            case StartRecording():
                self._start_recording()
            case StopRecording():
                self._stop_recording()
            case HangUpLeg(side, sip_status, phrase, retry_after_s, contacts):
                self._legs[side].hang_up(sip_status, phrase, retry_after_s, contacts, self._from(side.other))
            case ApplyControl():
                self.controls.apply(action)
            case RefuseControl():
                self.controls.refuse(action)
            case AnswerInfo(token, sip_status, phrase):
                self._answer_info(token, sip_status, phrase)
            case ConsiderTransfer(side, token, request):
                self.transfers.asked(side, token, request)
            case ForwardInfo(token, to, fields):
                self._forward_info(token, to, fields)
            case SendDigit(to, digit):
                self._legs[to].send_digit(digit, relayed=self._relayed)
            case ReportMediaTimeout(side, ends):
                taken = "end" if ends else "alarm"
                self.services.metrics.rtp_timeouts.labels(side.value, taken).inc()
                _log.warning("rtp_timeout", dialog_id=self.identity.dialog_id, side=side.value, action=taken)
            case StartTimer(timer, delay_s):
                if timer in self._alarms:
                    self._alarms[timer].cancel()
                self._alarms[timer] = self.services.endpoint.call_later(delay_s, lambda: self._ring_alarm(timer))
            case StopTimers():
                for alarm in self._alarms.values():
                    alarm.cancel()
                self._alarms.clear()
            case FinishCall(termination):
                self._finish(termination)
            case ReleaseCall():
                self._release()

    def _dial(self, target: Target, direction: Direction) -> None:
        if (before := self._legs.get(Side.B)) is not None:
            before.listener = before.sees = None
        assert self.decision is not None
        endpoint = self.services.endpoint
        home = endpoint.home(target.uri, target.address)
        dialing = self.services.transparency.dialing(self.invite, self.decision, target, home)
        self._legs[Side.B] = endpoint.dial(self.post, dialing, self._legs[Side.A], direction)
        self._take_in(self._legs[Side.B])

    def _agree(self) -> None:
        a, b = self._legs[Side.A], self._legs[Side.B]
        a.agree_with(b)
        for leg in (a, b):
            leg.announce(recorded=self.is_enabled)

    def _from(self, side: Side) -> Headers:
        """What a leg's far end has just said, as far as it is for the other leg."""
        leg = self._legs.get(side)
        picked = leg.take_headers() if leg is not None else None
        if not picked:
            return ()
        return self._crossing(side.other, picked, whole=False)

    def _crossing(self, to: Side, fields: Sequence[tuple[str, str]], *, whole: bool) -> Headers:
        """What of the header fields of one side's message the other side may see."""
        if self.decision is None or not self._call.attempts:
            return ()
        endpoint, target, invite = self.services.endpoint, self._call.attempts[-1].target, self.invite
        if to is Side.A:
            b_leg = self._legs.get(Side.B)
            places = {*hosts_in([target.uri]), ip_of(target), (b_leg and b_leg.sip_call_id) or ""}
            crossing = Crossing(uri := self._caller_uri(), invite.source, endpoint.home(uri), lambda: places)
        else:
            home = endpoint.home(target.uri, target.address)
            crossing = Crossing(target.uri, ip_of(target), home, lambda: places_of_caller(invite))
        return self.services.transparency.across(fields, self.decision.trunk, crossing, whole=whole)

    def _caller_uri(self) -> str:
        source = self.invite.source
        return f"sip:[{source}]" if ":" in source else f"sip:{source}"

    def _look_up(self, target: Target) -> None:
        assert target.lookup is not None

        def found(addresses: tuple[Address, ...]) -> None:
            in_order = self.services.health.addresses_in_order(target, addresses, time.monotonic())
            self.post(TargetLookedUp(target, in_order))

        self.services.endpoint.look_up(target.lookup, found)

    def _ring_alarm(self, timer: Timer) -> None:
        leg = self._legs.get(Side.B)
        if timer is Timer.SETUP and leg is not None and leg.is_trying():  # of a 100 the stack tells nobody
            self.post(LegTrying())
        self.post(TimerExpired(timer))

    # Media and recording ------------------------------------------------------------------------------------------

    def _join(self) -> None:
        a, b = self._legs[Side.A], self._legs[Side.B]
        relayed = connect(a, b)
        if relayed and not self._relayed:
            disconnect(a, b)
        self._relayed = relayed
        self._attach_taps()

    def _attach_taps(self) -> None:
        if self.take is None and self.decision is not None and self.decision.unrecorded_because is None:
            identity = self.identity
            name = RecordingName(identity.group_id, identity.account_id, self.invite.time_ms, identity.dialog_id)
            parties = Parties(calling=self.invite.calling, called=self.invite.called)
            self.take = Take(name, self.services.settings, self.decision.account, parties, self.services.storage)
        if self.take is not None:
            self.take.attach({side: leg.call_id for side, leg in self._legs.items() if leg.slot >= 0 and not leg.gone})

    def _start_recording(self) -> None:
        self._attach_taps()
        if self.take is None:
            because = self.decision.unrecorded_because if self.decision else None
            self.services.metrics.calls_unrecorded.labels(because or "no_account").inc()
            return
        services = self.services
        services.writer.begin(self.take.begin(self.take.position, self.controls.steps.open))
        self._note_hold()
        self._tell()

    def _tell(self) -> None:
        """Note what is known of the call, should the process die."""
        if self.take is not None and self.take.began:
            record = self._detail_record(RESTARTED)
            self.take.tell(record.as_dict(), self._leg_facts())

    def _leg_facts(self) -> dict[Side, LegFacts]:
        return {side: leg_facts(leg.statistics(), leg.sip_call_id) for side, leg in self._legs.items()}

    def _note_hold(self) -> None:
        if self.take is not None:
            self.take.hold(any(leg.direction is not Direction.SENDRECV for leg in self._legs.values()))

    def _stop_recording(self) -> None:
        if self.take is not None:
            self.take.stop(self.take.position, self._leg_facts())

    # INFO ---------------------------------------------------------------------------------------------------------

    def _answer_info(self, token: int, sip_status: int, phrase: str) -> None:
        native.answer_info(token, sip_status, phrase)
        self.services.metrics.infos.labels("accepted" if sip_status < 300 else "refused").inc()

    def _forward_info(self, token: int, to: Side, fields: Sequence[tuple[str, str]]) -> None:
        leg = self._legs.get(to)
        passed = list(self._crossing(to, fields, whole=True))
        if leg is not None and not leg.gone and native.forward_info(token, leg.call_id, passed):
            self.services.metrics.infos.labels("forwarded").inc()
        else:
            # RFC 3261, section 21.4.18: the other side has no dialog yet; the sender may try again.
            self._answer_info(token, 480, "The other side cannot be reached yet")

    # Transfers ----------------------------------------------------------------------------------------------------

    @property
    def transfers(self) -> Transfers:
        """The transfers of this call; made when the first is asked for, for few calls have any."""
        if self._transfers is None:
            self._transfers = Transfers(self)
        return self._transfers

    @property
    def is_enabled(self) -> bool:
        """Whether the call is recorded, or will be once it is answered."""
        return self.decision is not None and self.decision.unrecorded_because is None

    @property
    def is_over(self) -> bool:
        """Whether its end has been decided."""
        return self._call.termination is not None

    @property
    def is_up(self) -> bool:
        """Whether both sides are there, and no end in sight."""
        return self._call.state is State.UP

    @property
    def rings(self) -> bool:
        """Whether the B leg rings and nobody has taken its call yet."""
        return self._call.state is State.RINGING and self._legs[Side.B].outgoing

    def leg(self, side: Side) -> Leg | None:
        """The leg of a side, if there is one."""
        return self._legs.get(side)

    def side_of(self, leg: Leg) -> Side:
        """The side of a leg of this call. Raises KeyError when it is none."""
        return {id(one): side for side, one in self._legs.items()}[id(leg)]

    def party(self, side: Side) -> str:
        """The number of who began on this side."""
        return self.invite.calling if side is Side.A else self.invite.called

    def display(self, side: Side) -> str:
        """The name of who began on this side; "" when it is not known."""
        named = self.invite.headers.get("from" if side is Side.A else "to", ("",))
        return display_of(named[0])

    def give(self, leg: Leg) -> Direction:
        """Let go of a leg, which another call takes over; this call ends. Returns what its far end has been told."""
        side = self.side_of(leg)
        told = self._call.told(side)
        self.post(LegMoved(side))
        return told

    def pick_up(self, new: Leg) -> None:
        """Let `new`, whose INVITE has come in, answer in the place of the B leg, which rings and is cancelled."""
        a, old = self._legs[Side.A], self._legs[Side.B]
        self.part(a, old)
        old.abandon()
        self._legs[Side.B] = new
        new.side = Side.B
        new.sees = lambda fields: self._crossing(new.side, fields, whole=True)
        self.post(LegPickedUp(new.direction))
        new.agree_with(a)
        new.announce(recorded=self.is_enabled)
        new.accept()

    def part(self, one: Leg, two: Leg) -> None:
        """Have the two legs of the call hear each other no more."""
        for leg in (one, two):
            if not leg.gone:
                native.part(leg.call_id)
        disconnect(one, two)
        self._relayed = False

    def join_again(self) -> None:
        """Have them hear each other again."""
        self._join()

    def replace_leg(self, side: Side, new: Leg, told: Direction = Direction.SENDRECV) -> None:
        """Put `new` in the place of a side's leg, which is from now on no part of the call; the recording goes on.

        `told` is what the far end of `new` has been told of the direction of the audio.
        """
        old, other = self._legs[side], self._legs[side.other]
        old.listener = None
        self.part(old, other)
        if self.take is not None:
            facts = leg_facts(old.statistics(), old.sip_call_id)
            self.take.change_party(side, self.take.position, facts)
        self._legs[side] = new
        new.side = side
        new.announce(recorded=self.is_enabled)
        self._take_in(new)
        self._join()
        self._tell()
        self.post(LegReplaced(side, new.direction, told))

    # The end ------------------------------------------------------------------------------------------------------

    def _release(self) -> None:
        """Let go of everything: no cycle may keep the taps' memory until the garbage collector comes by."""
        for leg in self._legs.values():
            leg.listener = leg.sees = None
        self._legs.clear()
        self.take = None
        self._transfers = None
        del self.controls
        self._on_released(self)

    def _epoch_ms(self, monotonic: float | None) -> int | None:
        if monotonic is None:
            return None
        return self.invite.time_ms + round((monotonic - self._call.invited_at) * 1000)

    def _finish(self, termination: Termination) -> None:
        call, metrics, take = self._call, self.services.metrics, self.take
        record = self._detail_record(termination)
        for attempt in call.attempts:
            if attempt.sip_status is not None:
                self.services.health.call_reached(attempt.target)
        if call.answered_at is not None:
            metrics.call_setup.observe(call.answered_at - call.invited_at)
        if unresumed := self.controls.steps.open:
            metrics.redactions_unresumed.inc(len(unresumed))
            if take is not None:
                _log.warning("redaction_not_resumed", dialog_id=record.id, steps=[step.name for step in unresumed])
        self.services.close(record, call.ended_at or time.monotonic(), take)

    def _detail_record(self, termination: Termination) -> CallDetailRecord:
        call, decision, identity = self._call, self.decision, self.identity
        b_leg = self._legs.get(Side.B)
        stories = self._transfers.stories if self._transfers is not None else []
        recorded = self.take if self.take is not None and self.take.began else None
        ended_at = call.ended_at or time.monotonic()

        def since_invite(moment: float | None) -> float | None:
            return None if moment is None else round(moment - call.invited_at, 4)

        return CallDetailRecord(
            id=identity.dialog_id,
            time=self.invite.time_ms,
            group_id=identity.group_id,
            account_id=identity.account_id,
            calling=self.invite.calling,
            called=self.invite.called,
            result=termination.result,
            reason=termination.reason,
            answered_ms=self._epoch_ms(call.answered_at),
            ended_ms=self._epoch_ms(ended_at) or self.invite.time_ms,
            duration_s=0.0 if call.answered_at is None else round(ended_at - call.answered_at, 3),
            sip_status=termination.sip_status,
            a_sip_call_id=self.invite.sip_call_id,
            b_sip_call_id=b_leg.sip_call_id if b_leg else None,
            recorded=recorded is not None,
            file=recorded.file_name if recorded else None,
            details={
                "trunk": decision.trunk if decision else None,
                "route": decision.route if decision else None,
                "target": call.attempts[-1].target.uri if call.attempts else None,
                "attempts": [
                    {
                        "target": attempt.target.uri,
                        "address": str(attempt.target.address) if attempt.target.address else None,
                        "sip_status": attempt.sip_status,
                        "reason": attempt.reason,
                        "began_s": since_invite(attempt.began_at),
                        "ended_s": since_invite(attempt.ended_at),
                    }
                    for attempt in call.attempts
                ],
                "transfers": [story.as_dict(call.invited_at) for story in stories],
                "unrecorded_because": decision.unrecorded_because if decision else "refused",
                "source": self.invite.source,
                "first_progress_s": since_invite(call.rang_at),
                "answer_s": since_invite(call.answered_at),
                "ack_s": since_invite(call.confirmed_at),
                "end_s": since_invite(ended_at),
            },
        )


def _limits(settings: Settings) -> Limits:
    sip = settings.sip
    ends = settings.media.rtp_timeout_action == "end"
    return Limits(sip.setup_timeout_s, sip.ring_timeout_s, sip.max_call_s, ends)
