"""The two-leg state machine of a call: one table, from (state, event) to what is done.

An event that the table does not allow raises IllegalEventError and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from recorder.calls import termination
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
    ReleaseCall,
    ReportMediaTimeout,
    ReportTarget,
    SendDigit,
    StartRecording,
    StartTimer,
    StopRecording,
    StopTimers,
)
from recorder.calls.control_shapes import Shapes
from recorder.calls.dtmf import Presses, digit_of
from recorder.calls.events import (
    CallAdmitted,
    CallRefused,
    DigitReceived,
    Direction,
    DirectionAsked,
    Event,
    HangUpRequested,
    InfoReceived,
    LegAnswered,
    LegClosing,
    LegConfirmed,
    LegEnded,
    LegMediaActive,
    LegMoved,
    LegPickedUp,
    LegReplaced,
    LegRinging,
    LegTrying,
    MediaTimedOut,
    RecordingAsked,
    ReinviteEnded,
    Side,
    TargetLookedUp,
    Timer,
    TimerExpired,
)
from recorder.calls.holding import Holding
from recorder.calls.recording_control import SDP_STEP, Control, ControlRefusedError, Verb
from recorder.calls.targets import Attempt, Contact, Target, is_worth_another, lookup_of, place_of
from recorder.calls.termination import Termination
from recorder.errors import IllegalEventError

Actions = list[Action]
_SHAPES = Shapes()


class State(Enum):
    """Where a call is. It only moves forward, in this order."""

    NEW = "new"
    DIALING = "dialing"
    RINGING = "ringing"
    ANSWERED = "answered"  # the target sent 200, its media is not settled yet
    ACCEPTED = "accepted"  # we sent 200 to the caller, its ACK is awaited
    UP = "up"
    ENDING = "ending"
    ENDED = "ended"

    __hash__ = object.__hash__  # Enum's own runs in Python, at every event


@dataclass(frozen=True, slots=True)
class Limits:
    """How long things may take, in seconds: a target's first sign, the answer in all, and the call from its answer on.

    `max_call_s` is None for a call without an end of ours; `rtp_timeout_ends`: whether one is over when a far end falls
    silent.
    """

    setup_timeout_s: float
    ring_timeout_s: float
    max_call_s: float | None = None
    rtp_timeout_ends: bool = False


class Call:
    """One call: an A leg, a B leg and their common state. Owned by the sip thread.

    `handle(event, now)` returns the actions to carry out, in order; `now` is in seconds on a monotonic clock. `shapes`
    are those of the INFO requests that control its recording.
    """

    def __init__(self, limits: Limits, now: float, shapes: Shapes = _SHAPES) -> None:
        self.state = State.NEW
        self.limits = limits
        self._shapes = shapes
        self.invited_at = now
        self.rang_at: float | None = None
        self.answered_at: float | None = None
        self.confirmed_at: float | None = None
        self.ended_at: float | None = None
        self.termination: Termination | None = None
        self.attempts: list[Attempt] = []
        self._waiting: list[Target] = []
        self._follow_redirects = False
        self._followed = 0
        self._heard = False  # the target that is tried has sent something
        self._media: set[Side] = set()
        self._presses = Presses()
        self._gone: set[Side] = set()
        self._dialed = False
        self._muted_by_sdp = False
        self._ringing: LegRinging | None = None  # its SDP is being negotiated
        self._holding = {side: Holding(side) for side in Side}

    def handle(self, event: Event, now: float) -> Actions:
        """Apply one event; return what is to be done about it.

        Raises:
            IllegalEventError: the event has no place in the present state. Nothing has changed.
        """
        transition = _TABLE.get((self.state, type(event)))
        if transition is None:
            raise IllegalEventError(f"{type(event).__name__} is not allowed while the call is {self.state.value}")
        return transition(self, event, now)

    # What each cell of the table does -----------------------------------------------------------------------------

    def _dial(self, event: CallAdmitted, now: float) -> Actions:
        self.state = State.DIALING
        self._waiting = list(event.targets)
        self._follow_redirects = event.follow_redirects
        self._holding[Side.A].asked(event.direction)
        self._holding[Side.B].want(event.direction)
        return [StartTimer(Timer.RING, self.limits.ring_timeout_s), *self._try_next(now)]

    def _try_next(self, now: float) -> Actions:
        """Send the call to the next target, as if there had been none before it but for what the caller has heard."""
        target = self._waiting.pop(0)
        self.attempts.append(Attempt(target, now))
        self._heard = False
        self._media.discard(Side.B)
        self._ringing = None
        self._holding[Side.A].want(Direction.SENDRECV)
        direction = self._holding[Side.B].offer()
        timer = StartTimer(Timer.SETUP, target.setup_timeout_s or self.limits.setup_timeout_s)
        if target.lookup is not None:
            self._gone.add(Side.B)
            return [timer, LookUpTarget(target)]
        self._gone.discard(Side.B)
        self._dialed = True
        return [DialLeg(target, direction), timer]

    def _looked_up(self, event: TargetLookedUp, now: float) -> Actions:
        target = self.attempts[-1].target
        if target != event.target or self.attempts[-1].ended_at is not None:
            return []  # it took so long that the call has gone on to the next one
        if event.addresses:
            # Each address is a target like any other; the look-up by itself was no attempt.
            self.attempts.pop()
            self._waiting[:0] = [replace(target, lookup=None, address=address) for address in event.addresses]
            return self._try_next(now)
        self._close_attempt(None, "unresolved", now)
        if self._waiting:
            return self._try_next(now)
        return self._end(Termination("failed", "unresolved", 503), now, 503, "")

    def _close_attempt(self, sip_status: int | None, reason: str | None, now: float) -> None:
        attempt = self.attempts[-1]
        if attempt.reason == PICKED_UP:
            return  # it has ended in that way, whatever becomes of who picked it up
        attempt.ended_at, attempt.sip_status, attempt.reason = now, sip_status, reason

    def _refuse(self, event: CallRefused, now: float) -> Actions:
        ending = Termination("refused", event.reason, event.sip_status)
        return self._end(ending, now, event.sip_status, event.detail, event.retry_after_s)

    def _try(self, _event: LegTrying, _now: float) -> Actions:
        self._heard = True
        return []

    def _ring(self, event: LegRinging, now: float) -> Actions:
        self.state = State.RINGING
        self._heard = True
        if self.rang_at is None:
            self.rang_at = now
        if event.media and Side.B not in self._media:
            self._ringing = event  # goes on once that has become media: ours may not promise what is not there
            return []
        return [ProgressLeg(event.sip_status, event.phrase, event.media)]

    def _answer(self, _event: LegAnswered, now: float) -> Actions:
        self.state = State.ANSWERED
        self._close_attempt(200, None, now)
        return [StopTimers(), *(self._accept(now) if Side.B in self._media else [])]

    def _accept(self, now: float) -> Actions:
        # Only now: a caller must not be told 200 while the target's answer may still turn out to hold no audio.
        self.state = State.ACCEPTED
        self.answered_at = now
        limit = self.limits.max_call_s
        timers: Actions = [] if limit is None else [StartTimer(Timer.LENGTH, limit)]
        return [AnswerLeg(), StartRecording(), *self._join(), *timers]

    def _confirm(self, _event: LegConfirmed, now: float) -> Actions:
        if Side.A not in self._media:
            # Our 200 held an offer, whose answer belongs into the ACK (RFC 3261, section 13.2.1): none will come now.
            return self._end(Termination("failed", "no_sdp_answer"), now, 200, "")
        self.state = State.UP
        self.confirmed_at = now
        return [action for holding in self._holding.values() for action in holding.begin()]

    def _early_media(self, event: LegMediaActive, _now: float) -> Actions:
        self._media.add(event.side)
        ringing, self._ringing = self._ringing, None
        if event.side is Side.A or ringing is None:
            return self._join()
        return [ProgressLeg(ringing.sip_status, ringing.phrase, media=True), *self._join()]

    def _answered_media(self, event: LegMediaActive, now: float) -> Actions:
        self._media.add(event.side)
        return self._accept(now) if event.side is Side.B else []

    def _media_up(self, event: LegMediaActive, _now: float) -> Actions:
        self._media.add(event.side)
        return self._join()

    def _asked(self, event: DirectionAsked, _now: float) -> Actions:
        return [
            *self._holding[event.side].asked(event.direction),
            *self._holding[event.side.other].want(event.direction),
        ]

    def _reinvited(self, event: ReinviteEnded, _now: float) -> Actions:
        return self._holding[event.side].ended(event.sip_status)

    def told(self, side: Side) -> Direction:
        """Which way audio goes, as far as the far end of a leg has been told."""
        return self._holding[side].told

    def _replace(self, event: LegReplaced, _now: float) -> Actions:
        holding = Holding(event.side, told=event.told, asked=event.direction)
        waiting = holding.want(self._holding[event.side].wanted)
        self._holding[event.side] = holding
        return [*waiting, *holding.begin(), *self._holding[event.side.other].want(event.direction)]

    def _pick_up(self, event: LegPickedUp, now: float) -> Actions:
        self._close_attempt(None, PICKED_UP, now)
        self._waiting.clear()
        self._media.discard(Side.B)
        self._ringing = None
        wanted = self._holding[Side.B].wanted
        self._holding[Side.B] = Holding(Side.B, asked=event.direction)
        # Nothing is sent before the call is up.
        return [*self._holding[Side.B].want(wanted), *self._holding[Side.A].want(event.direction)]

    def _move(self, event: LegMoved, now: float) -> Actions:
        self._gone.add(event.side)
        return self._end(Termination("completed", "transferred"), now, 200, "")

    def _join(self) -> Actions:
        return [JoinMedia()] if len(self._media) == 2 else []

    def _caller_gone_at_once(self, event: LegEnded, now: float) -> Actions:
        if event.side is Side.B:
            raise IllegalEventError("there is no B leg yet that could end")
        return self._leg_ended_early(event, now)

    def _leg_ended_early(self, event: LegEnded, now: float) -> Actions:
        self._gone.add(event.side)
        if event.side is Side.A:
            if self.attempts and self.state is not State.ANSWERED:
                self._close_attempt(None, "caller_cancelled", now)
            return self._end(termination.CALLER_CANCELLED, now, 487, "Request Terminated")
        unreachable = event.sip_status == 0 or (event.local and event.sip_status in _UNREACHABLE)
        status = event.sip_status if event.sip_status >= 300 else 503
        ending = Termination("failed", "unreachable", status) if unreachable else termination.of_rejection(status)
        answered = self.state is State.ANSWERED
        if not answered:
            self._close_attempt(None if event.local else event.sip_status or None, ending.reason, now)
        is_targets = self.attempts[-1].reason != PICKED_UP
        report: Actions = (
            [ReportTarget(self.attempts[-1].target)] if unreachable and not answered and is_targets else []
        )
        # A target that has rung and then fails is left for the next one as well; one that has answered never is.
        if self._waiting and not answered and is_worth_another(event.sip_status):
            return [*report, *self._try_next(now)]
        if 300 <= status < 400 and not answered:
            return self._redirect(event, ending, now)
        # What the stack gave up on has no phrase of the far side's to pass on.
        return report + self._end(ending, now, status, "" if event.local else event.phrase)

    def _redirect(self, event: LegEnded, ending: Termination, now: float) -> Actions:
        """Go where a 3xx points to, or have the caller do so (RFC 3261, section 8.1.3.4)."""
        if not self._follow_redirects:
            return self._end(ending, now, event.sip_status, event.phrase, contacts=event.contacts)
        known = {attempt.target.uri for attempt in self.attempts} | {target.uri for target in self._waiting}
        here = self.attempts[-1].target
        new = [
            replace(here, uri=contact.uri, lookup=lookup_of(contact.uri), address=None)
            for contact in event.contacts
            if place_of(contact.uri) is not None and contact.uri not in known
        ][: _MOST_FOLLOWED - self._followed]
        self._followed += len(new)
        self._waiting[:0] = new
        if self._waiting:
            return self._try_next(now)
        # The contacts are the far side's, which the caller is not to see.
        return self._end(replace(ending, sip_status=480), now, 480, "Temporarily Unavailable")

    def _leg_ended(self, event: LegEnded, now: float) -> Actions:
        self._gone.add(event.side)
        if event.sip_status >= 300 or event.expired:
            return self._end(self._lost(event), now, 200, "")
        return self._end(termination.CALLER_HANGUP if event.side is Side.A else termination.CALLEE_HANGUP, now, 200, "")

    def _lost(self, event: LegEnded | LegClosing) -> Termination:
        """How a call ends of which a leg is over without anybody having hung up."""
        if self.state is State.ACCEPTED and event.side is Side.A and event.sip_status >= 300:
            # RFC 3261, section 13.3.1.4: a 2xx whose ACK never comes ends the session.
            return Termination("failed", "no_ack", event.sip_status)
        if event.expired:
            return Termination("failed", "session_expired")
        return Termination("failed", f"{'caller' if event.side is Side.A else 'callee'}_lost")

    def _leg_closing(self, event: LegClosing, now: float) -> Actions:
        self._gone.add(event.side)  # its BYE is on its way; what comes of that, if anything does, is not waited for
        return self._end(self._lost(event), now, 200, "")

    def _other_leg_ended(self, event: LegEnded, _now: float) -> Actions:
        self._gone.add(event.side)
        return self._release_when_empty()

    def _time_out(self, event: TimerExpired, now: float) -> Actions:
        if event.timer is Timer.RING:
            self._close_attempt(None, "no_answer", now)
            return self._end(Termination("failed", "no_answer", 408), now, 408, "Request Timeout")
        if self._heard:
            return []
        target = self.attempts[-1].target
        reason = "unreachable" if target.lookup is None else "unresolved"
        self._close_attempt(None, reason, now)
        report: Actions = [ReportTarget(target)] if target.lookup is None else []
        if self._waiting:
            abandon: Actions = [AbandonLeg()] if target.lookup is None else []
            return [*report, *abandon, *self._try_next(now)]
        return [*report, *self._end(Termination("failed", reason, 408), now, 408, "Request Timeout")]

    def _time_is_up(self, event: TimerExpired, now: float) -> Actions:
        if event.timer in (Timer.REINVITE_A, Timer.REINVITE_B):
            return self._holding[Side.A if event.timer is Timer.REINVITE_A else Side.B].retry()
        if event.timer is not Timer.LENGTH:
            return []
        return self._end(Termination("completed", "max_duration"), now, 200, "")

    def _hang_up(self, event: HangUpRequested, now: float) -> Actions:
        answered = self.answered_at is not None
        if self.attempts and self.attempts[-1].ended_at is None:
            self._close_attempt(None, event.reason, now)
        ending = Termination("completed" if answered else "failed", event.reason, None if answered else 503)
        return self._end(ending, now, 503, "Service Unavailable")

    def _info(self, event: InfoReceived, now: float) -> Actions:
        if event.method == "REFER":
            return [ConsiderTransfer(event.side, event.token, event.headers)]
        try:
            control = self._shapes.read(event) if event.method == "INFO" else None
        except ControlRefusedError as error:
            return [RefuseControl(event.side, event.token, error, event.source)]
        if control is not None:
            return [ApplyControl(event.side, event.token, control, event.source)]
        digit = digit_of(event)
        if digit is not None and self._presses.is_repeat(event.side, digit, True, now):
            return [AnswerInfo(event.token, 200, "OK")]
        return [ForwardInfo(event.token, event.side.other, event.headers)]

    def _recording_asked(self, event: RecordingAsked, _now: float) -> Actions:
        if not self._shapes.sdp or event.wanted is not self._muted_by_sdp:
            return []
        self._muted_by_sdp = not event.wanted
        verb = Verb.UNMUTE if event.wanted else Verb.MUTE
        return [ApplyControl(event.side, None, Control(verb, SDP_STEP, "SDP"))]

    def _digit(self, event: DigitReceived, now: float) -> Actions:
        if self._presses.is_repeat(event.side, event.digit, False, now):
            return []
        return [SendDigit(event.side.other, event.digit)]

    def _media_timed_out(self, event: MediaTimedOut, now: float) -> Actions:
        report = ReportMediaTimeout(event.side, self.limits.rtp_timeout_ends)
        if not self.limits.rtp_timeout_ends:
            return [report]
        return [report, *self._end(Termination("completed", "rtp_timeout"), now, 200, "")]

    def _late_info(self, event: InfoReceived, _now: float) -> Actions:
        return [AnswerInfo(event.token, 481, "Call Does Not Exist")]

    def _ignore(self, _event: Event, _now: float) -> Actions:
        return []

    # Endings ------------------------------------------------------------------------------------------------------

    def _end(
        self,
        ending: Termination,
        now: float,
        sip_status: int,
        phrase: str,
        retry_after_s: int | None = None,
        contacts: tuple[Contact, ...] = (),
    ) -> Actions:
        """End the call, whatever its state: one Termination, both legs hung up, the recording stopped now."""
        actions: Actions = [StopTimers()]
        if self.answered_at is not None:
            actions.append(StopRecording())
        if Side.A not in self._gone:
            actions.append(HangUpLeg(Side.A, sip_status, phrase, retry_after_s, contacts))
        if self._dialed and Side.B not in self._gone:
            actions.append(HangUpLeg(Side.B, sip_status, phrase))
        self.state = State.ENDING
        self.ended_at = now
        self.termination = ending
        actions.append(FinishCall(ending))
        return actions + self._release_when_empty()

    def _release_when_empty(self) -> Actions:
        legs = {Side.A, Side.B} if self._dialed else {Side.A}
        if not legs <= self._gone:
            return []
        self.state = State.ENDED
        return [ReleaseCall()]


PICKED_UP = "picked_up"
"""How an attempt ends when somebody else takes the call that rings there."""
_MOST_FOLLOWED = 5  # contacts of 3xx responses, in all of a call
_UNREACHABLE = (408, 502, 503)  # what the stack says of timer B, of a name without address, of a broken transport
_Transition = Callable[[Call, Any, float], Actions]
_BEFORE_ANSWER = (State.DIALING, State.RINGING)
_BEFORE_ACCEPT = (*_BEFORE_ANSWER, State.ANSWERED)
_AFTER_ACCEPT = (State.ACCEPTED, State.UP)

# fmt: off
_TABLE: dict[tuple[State, type], _Transition] = {
    (State.NEW, CallAdmitted): Call._dial,
    (State.NEW, CallRefused): Call._refuse,
    (State.NEW, LegEnded): Call._caller_gone_at_once,
    **{(state, TargetLookedUp): Call._looked_up for state in _BEFORE_ANSWER},
    **{(state, LegTrying): Call._try for state in _BEFORE_ANSWER},
    **{(state, LegRinging): Call._ring for state in _BEFORE_ANSWER},
    **{(state, LegAnswered): Call._answer for state in _BEFORE_ANSWER},
    **{(state, LegMediaActive): Call._early_media for state in _BEFORE_ANSWER},
    **{(state, TimerExpired): Call._time_out for state in _BEFORE_ANSWER},
    (State.RINGING, LegPickedUp): Call._pick_up,
    (State.ANSWERED, LegMediaActive): Call._answered_media,
    **{(state, LegEnded): Call._leg_ended_early for state in _BEFORE_ACCEPT},
    **{(state, LegClosing): Call._ignore for state in _BEFORE_ACCEPT},
    (State.ACCEPTED, LegConfirmed): Call._confirm,
    (State.UP, LegReplaced): Call._replace,
    (State.UP, LegMoved): Call._move,
    **{(state, TimerExpired): Call._time_is_up for state in _AFTER_ACCEPT},
    **{(state, LegMediaActive): Call._media_up for state in _AFTER_ACCEPT},
    **{(state, DirectionAsked): Call._asked for state in (*_BEFORE_ACCEPT, *_AFTER_ACCEPT)},
    **{(state, ReinviteEnded): Call._reinvited for state in _AFTER_ACCEPT},
    **{(state, LegEnded): Call._leg_ended for state in _AFTER_ACCEPT},
    **{(state, LegClosing): Call._leg_closing for state in _AFTER_ACCEPT},
    **{(state, InfoReceived): Call._info for state in (*_BEFORE_ACCEPT, *_AFTER_ACCEPT)},
    **{(state, RecordingAsked): Call._recording_asked for state in (*_BEFORE_ACCEPT, *_AFTER_ACCEPT)},
    **{(state, DigitReceived): Call._digit for state in (*_BEFORE_ACCEPT, *_AFTER_ACCEPT)},
    **{(state, MediaTimedOut): Call._media_timed_out for state in _AFTER_ACCEPT},
    **{(state, HangUpRequested): Call._hang_up for state in (State.NEW, *_BEFORE_ACCEPT, *_AFTER_ACCEPT)},
    # The far end learns of our hang-up only after a round trip: what it said before that is late, not wrong.
    (State.ENDING, LegEnded): Call._other_leg_ended,
    (State.ENDING, InfoReceived): Call._late_info,
    (State.ENDED, TargetLookedUp): Call._ignore,
    **{(State.ENDING, kind): Call._ignore for kind in
       (TargetLookedUp, LegTrying, LegRinging, LegAnswered, LegConfirmed, LegMediaActive, DirectionAsked, ReinviteEnded,
        LegClosing, RecordingAsked, MediaTimedOut, DigitReceived, TimerExpired, HangUpRequested)},
}
# fmt: on
