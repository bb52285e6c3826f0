"""The call table: every state, every event, and what no order of events may ever do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.calls.actions import (
    AbandonLeg,
    AnswerInfo,
    AnswerLeg,
    ApplyControl,
    DialLeg,
    FinishCall,
    ForwardInfo,
    HangUpLeg,
    JoinMedia,
    LookUpTarget,
    ProgressLeg,
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
    LegPickedUp,
    LegRinging,
    LegTrying,
    MediaTimedOut,
    ReinviteEnded,
    Side,
    TargetLookedUp,
    Timer,
    TimerExpired,
)
from recorder.calls.recording_control import Control, Verb
from recorder.calls.targets import Address, Contact, Place, Target
from recorder.calls.termination import Termination
from recorder.errors import IllegalEventError

ONE, TWO = Target("sip:x@one"), Target("sip:x@two", setup_timeout_s=3)
NAMED = Target("sip:x@ivr.test", lookup=Place("ivr.test"), setup_timeout_s=2)
HERE, THERE = Address("192.0.2.1", 5060, "udp"), Address("192.0.2.2", 5060, "tcp")
MUTE = InfoReceived(Side.B, 7, "", b"", (("Record", "off"),))
UNKNOWN = InfoReceived(Side.B, 8, "text/plain", b"hello", ())


def new_call() -> Call:
    return Call(Limits(setup_timeout_s=10, ring_timeout_s=60, max_call_s=3600), now=100.0)


def after(*events: Event) -> Call:
    call = new_call()
    for event in events:
        call.handle(event, 101.0)
    return call


ANSWERED = (CallAdmitted((ONE,)), LegRinging(180, "Ringing"), LegAnswered(), LegMediaActive(Side.B))
UP = (*ANSWERED, LegMediaActive(Side.A), LegConfirmed())


def test_an_admitted_call_dials_on_with_both_time_limits() -> None:
    assert new_call().handle(CallAdmitted((ONE,)), 100.0) == [
        StartTimer(Timer.RING, 60),
        DialLeg(ONE),
        StartTimer(Timer.SETUP, 10),
    ]


def test_ringing_is_passed_on_as_it_came() -> None:
    call = after(CallAdmitted((ONE,)))
    assert call.handle(LegRinging(180, "Ringing"), 101.0) == [ProgressLeg(180, "Ringing")]
    assert call.rang_at == 101.0


@pytest.mark.parametrize("status", [180, 181, 183, 199])
def test_progress_is_told_with_media_as_soon_as_that_stands_and_without_when_it_came_without(status: int) -> None:
    call = after(CallAdmitted((ONE,)))
    assert call.handle(LegRinging(status, "P"), 101.0) == [ProgressLeg(status, "P")]
    assert call.handle(LegRinging(status, "P", media=True), 101.0) == []
    assert call.handle(LegMediaActive(Side.B), 101.0) == [ProgressLeg(status, "P", media=True)]
    assert call.handle(LegMediaActive(Side.A), 101.0) == [JoinMedia()]
    assert call.handle(LegRinging(status, "P", media=True), 101.0) == [ProgressLeg(status, "P", media=True)]
    assert call.handle(LegMediaActive(Side.B), 101.0) == [JoinMedia()]


def test_early_media_of_a_target_that_failed_is_forgotten() -> None:
    call = after(CallAdmitted((ONE, TWO)), LegRinging(183, "", media=True), LegEnded(Side.B, 503, ""))
    assert call.handle(LegMediaActive(Side.B), 101.0) == []


def test_a_hold_before_the_call_is_up_is_passed_on_when_it_is() -> None:
    call = after(*ANSWERED, LegMediaActive(Side.A), DirectionAsked(Side.A, Direction.SENDONLY))
    assert call.handle(LegConfirmed(), 103.0) == [Reinvite(Side.B, Direction.SENDONLY)]


def test_every_target_is_offered_the_direction_that_the_caller_asks_for_by_then() -> None:
    call = new_call()
    admitted = CallAdmitted((ONE, TWO), direction=Direction.SENDONLY)
    assert DialLeg(ONE, Direction.SENDONLY) in call.handle(admitted, 100.0)
    call.handle(DirectionAsked(Side.A, Direction.INACTIVE), 101.0)
    assert DialLeg(TWO, Direction.INACTIVE) in call.handle(LegEnded(Side.B, 503, ""), 102.0)
    for event in (LegAnswered(), LegMediaActive(Side.B), LegMediaActive(Side.A)):
        call.handle(event, 103.0)
    assert call.handle(LegConfirmed(), 104.0) == []


def test_an_ack_without_the_answer_to_our_offer_ends_the_call() -> None:
    call = after(*ANSWERED)
    actions = call.handle(LegConfirmed(), 103.0)
    assert call.termination == Termination("failed", "no_sdp_answer")
    assert [action.side for action in actions if isinstance(action, HangUpLeg)] == [Side.A, Side.B]


def test_a_session_that_was_not_refreshed_has_expired() -> None:
    call = after(*UP)
    call.handle(LegEnded(Side.A, 408, "", expired=True), 200.0)
    assert call.termination == Termination("failed", "session_expired")


@pytest.mark.parametrize(("expired", "reason"), [(True, "session_expired"), (False, "caller_lost")])
def test_a_leg_that_the_stack_hangs_up_ends_the_call_at_once(expired: bool, reason: str) -> None:
    call = after(*UP)
    actions = call.handle(LegClosing(Side.A, 408, expired), 200.0)
    assert call.termination == Termination("failed", reason)
    assert [action.side for action in actions if isinstance(action, HangUpLeg)] == [Side.B]  # A has its BYE already
    assert StopRecording() in actions
    assert call.handle(LegEnded(Side.B, 200, ""), 200.1) == [ReleaseCall()]  # whether A's BYE is answered or not


def test_who_picks_up_a_call_that_rings_answers_it() -> None:
    call = after(CallAdmitted((ONE, TWO)), LegRinging(180, "Ringing"))
    assert call.handle(LegPickedUp(), 102.0) == []
    assert call.handle(LegMediaActive(Side.B), 102.1) == []
    assert AnswerLeg() in call.handle(LegAnswered(), 102.2)
    [attempt] = call.attempts
    assert (attempt.reason, attempt.sip_status, attempt.ended_at) == ("picked_up", None, 102.0)


def test_who_picks_up_a_call_and_is_lost_ends_it_and_speaks_ill_of_no_target() -> None:
    call = after(CallAdmitted((ONE, TWO)), LegRinging(180, "Ringing"), LegPickedUp(), LegMediaActive(Side.B))
    actions = call.handle(LegEnded(Side.B, 408, "", local=True), 134.0)
    assert call.termination == Termination("failed", "unreachable", 408)
    assert not [action for action in actions if isinstance(action, ReportTarget | DialLeg)]


def test_only_an_info_can_be_a_control() -> None:
    message = InfoReceived(Side.B, 9, "", b"", (("Record", "off"),), method="MESSAGE")
    assert after(*ANSWERED).handle(message, 103.0) == [ForwardInfo(9, Side.A, message.headers)]


def test_the_caller_is_answered_once_the_targets_media_is_settled() -> None:
    call = after(CallAdmitted((ONE,)))
    assert call.handle(LegAnswered(), 102.0) == [StopTimers()]
    assert call.answered_at is None
    assert call.handle(LegMediaActive(Side.B), 103.0) == [AnswerLeg(), StartRecording(), StartTimer(Timer.LENGTH, 3600)]
    assert call.handle(LegMediaActive(Side.A), 103.0) == [JoinMedia()]
    assert call.answered_at == 103.0


def test_an_answer_after_early_media_goes_on_at_once() -> None:
    call = after(CallAdmitted((ONE,)), LegMediaActive(Side.B), LegMediaActive(Side.A))
    assert call.handle(LegAnswered(), 102.0) == [
        StopTimers(),
        AnswerLeg(),
        StartRecording(),
        JoinMedia(),
        StartTimer(Timer.LENGTH, 3600),
    ]


def test_an_answer_whose_media_fails_is_a_failed_call_not_an_answered_one() -> None:
    actions = after(CallAdmitted((ONE,)), LegAnswered()).handle(LegEnded(Side.B, 488, "Not Acceptable Here"), 102.0)
    assert HangUpLeg(Side.A, 488, "Not Acceptable Here") in actions
    assert StopRecording() not in actions


@pytest.mark.parametrize(
    ("status", "result", "reason"),
    [
        (486, "rejected", "busy"),
        (603, "rejected", "declined"),
        (404, "rejected", "not_found"),
        (503, "failed", "overloaded"),
        (500, "failed", "target_error"),
        (302, "rejected", "redirected"),
    ],
)
def test_a_rejection_crosses_over_with_its_own_code(status: int, result: str, reason: str) -> None:
    call = after(CallAdmitted((ONE,)))
    actions = call.handle(LegEnded(Side.B, status, "No"), 102.0)
    assert HangUpLeg(Side.A, status, "No") in actions
    assert call.termination is not None
    assert (call.termination.result, call.termination.reason) == (result, reason)


def test_a_target_that_cannot_be_reached_is_503() -> None:
    assert HangUpLeg(Side.A, 503, "Cannot be dialed") in after(CallAdmitted((ONE,))).handle(
        LegEnded(Side.B, 0, "Cannot be dialed"), 102.0
    )


def test_a_caller_that_gives_up_cancels_the_target() -> None:
    call = after(CallAdmitted((ONE,)), LegRinging(180, "Ringing"))
    actions = call.handle(LegEnded(Side.A, 487, "Request Terminated"), 102.0)
    assert HangUpLeg(Side.B, 487, "Request Terminated") in actions
    assert call.termination is not None
    assert call.termination.reason == "caller_cancelled"
    assert call.handle(LegEnded(Side.B, 487, ""), 103.0) == [ReleaseCall()]


@pytest.mark.parametrize(("side", "reason"), [(Side.A, "caller_hangup"), (Side.B, "callee_hangup")])
def test_a_bye_from_either_side_stops_the_recording_and_ends_the_other_leg(side: Side, reason: str) -> None:
    call = after(*UP)
    actions = call.handle(LegEnded(side, 200, "OK"), 110.0)
    assert [type(action) for action in actions] == [StopTimers, StopRecording, HangUpLeg, FinishCall]
    assert actions[2] == HangUpLeg(side.other, 200, "")
    assert call.termination is not None
    assert (call.termination.result, call.termination.reason) == ("completed", reason)


def test_an_ack_that_never_comes_ends_the_call_as_failed() -> None:
    call = after(*ANSWERED)
    call.handle(LegEnded(Side.A, 408, "Request Timeout"), 132.0)
    assert call.termination is not None
    assert (call.termination.result, call.termination.reason) == ("failed", "no_ack")


def test_silence_from_the_target_ends_the_setup_but_ringing_waits_longer() -> None:
    assert FinishCall in [type(a) for a in after(CallAdmitted((ONE,))).handle(TimerExpired(Timer.SETUP), 110.0)]
    ringing = after(CallAdmitted((ONE,)), LegRinging(180, "Ringing"))
    assert ringing.handle(TimerExpired(Timer.SETUP), 110.0) == []
    actions = ringing.handle(TimerExpired(Timer.RING), 160.0)
    assert HangUpLeg(Side.A, 408, "Request Timeout") in actions
    assert ringing.termination is not None
    assert ringing.termination.reason == "no_answer"


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 0])
def test_a_target_that_fails_is_left_for_the_next_one(status: int) -> None:
    call = after(CallAdmitted((ONE, TWO)))
    actions = call.handle(LegEnded(Side.B, status, "No"), 102.0)
    assert [action for action in actions if not isinstance(action, ReportTarget)] == [
        DialLeg(TWO),
        StartTimer(Timer.SETUP, 3),
    ]
    assert call.state is State.DIALING
    assert (call.attempts[0].sip_status, call.attempts[0].ended_at) == (status or None, 102.0)


@pytest.mark.parametrize("status", [302, 401, 403, 404, 480, 486, 487, 488, 600, 603])
def test_what_would_be_the_same_elsewhere_is_tried_nowhere_else(status: int) -> None:
    actions = after(CallAdmitted((ONE, TWO))).handle(LegEnded(Side.B, status, "No"), 102.0)
    assert HangUpLeg(Side.A, status, "No") in actions
    assert DialLeg(TWO) not in actions


def test_a_target_that_rang_and_then_fails_is_left_too_and_its_media_with_it() -> None:
    call = after(CallAdmitted((ONE, TWO)), LegRinging(183, ""), LegMediaActive(Side.B), LegMediaActive(Side.A))
    assert call.handle(LegEnded(Side.B, 503, "Service Unavailable"), 102.0) == [
        DialLeg(TWO),
        StartTimer(Timer.SETUP, 3),
    ]
    assert call.handle(LegAnswered(), 103.0) == [StopTimers()]
    assert JoinMedia() in call.handle(LegMediaActive(Side.B), 103.0)


def test_a_target_that_says_nothing_is_abandoned_and_reported() -> None:
    call = after(CallAdmitted((ONE, TWO)))
    assert call.handle(TimerExpired(Timer.SETUP), 110.0) == [
        ReportTarget(ONE),
        AbandonLeg(),
        DialLeg(TWO),
        StartTimer(Timer.SETUP, 3),
    ]
    actions = call.handle(TimerExpired(Timer.SETUP), 113.0)
    assert HangUpLeg(Side.A, 408, "Request Timeout") in actions
    assert [attempt.reason for attempt in call.attempts] == ["unreachable", "unreachable"]


def test_a_target_that_has_said_trying_may_take_until_the_ring_limit() -> None:
    call = after(CallAdmitted((ONE, TWO)), LegTrying())
    assert call.handle(TimerExpired(Timer.SETUP), 110.0) == []
    assert DialLeg(TWO) not in call.handle(TimerExpired(Timer.RING), 160.0)


def test_what_the_stack_gave_up_on_is_unreachable_and_has_no_phrase_to_pass_on() -> None:
    call = after(CallAdmitted((ONE,)))
    actions = call.handle(LegEnded(Side.B, 503, "Connection refused", local=True), 102.0)
    assert ReportTarget(ONE) in actions
    assert HangUpLeg(Side.A, 503, "") in actions
    assert call.termination is not None
    assert (call.termination.reason, call.attempts[0].sip_status) == ("unreachable", None)


def test_a_target_that_answered_is_the_last_one() -> None:
    call = after(CallAdmitted((ONE, TWO)), LegAnswered())
    assert DialLeg(TWO) not in call.handle(LegEnded(Side.B, 503, ""), 102.0)


def test_a_redirection_goes_back_to_the_caller_with_where_it_points_to() -> None:
    moved = LegEnded(Side.B, 302, "Moved", contacts=(Contact("sip:x@192.0.2.9:5080"), Contact("tel:+30210", 0.5)))
    call = after(CallAdmitted((ONE, TWO)))
    assert HangUpLeg(Side.A, 302, "Moved", None, moved.contacts) in call.handle(moved, 102.0)
    assert call.termination == Termination("rejected", "redirected", 302)


def test_a_redirection_that_is_followed_leads_to_its_contacts_and_then_to_the_other_targets() -> None:
    trunked = replace(ONE, trunk="carrier", lookup=None)
    call = after(CallAdmitted((trunked, TWO), follow_redirects=True))
    hop = Target("sip:x@192.0.2.9:5080", trunk="carrier")
    moved = LegEnded(Side.B, 302, "Moved", contacts=(Contact(hop.uri), Contact("tel:+30210"), Contact("sip:x@name")))
    assert call.handle(moved, 102.0)[0] == DialLeg(hop)
    named = Target("sip:x@name", trunk="carrier", lookup=Place("name"))
    assert LookUpTarget(named) in call.handle(LegEnded(Side.B, 503, ""), 103.0)
    assert DialLeg(TWO) in call.handle(TargetLookedUp(named, ()), 104.0)


def test_a_redirection_in_a_circle_ends_and_shows_the_caller_nothing_of_it() -> None:
    call = after(CallAdmitted((ONE,), follow_redirects=True))
    back = LegEnded(Side.B, 302, "Moved", contacts=(Contact("sip:x@192.0.2.9"), Contact(ONE.uri)))
    assert DialLeg(Target("sip:x@192.0.2.9")) in call.handle(back, 102.0)
    assert HangUpLeg(Side.A, 480, "Temporarily Unavailable") in call.handle(back, 103.0)
    assert call.termination == Termination("rejected", "redirected", 480)


def test_only_so_many_redirections_are_followed() -> None:
    call = after(CallAdmitted((ONE,), follow_redirects=True))
    for number in range(20):
        contact = Contact(f"sip:x@192.0.2.{number}")
        call.handle(LegEnded(Side.B, 302, "Moved", contacts=(contact,)), 102.0)
        if call.state is State.ENDING:
            break
    assert len(call.attempts) == 6


def test_a_name_is_looked_up_and_each_of_its_addresses_tried() -> None:
    call = new_call()
    assert LookUpTarget(NAMED) in call.handle(CallAdmitted((NAMED, ONE)), 100.0)
    first, second = (replace(NAMED, lookup=None, address=address) for address in (HERE, THERE))
    assert call.handle(TargetLookedUp(NAMED, (HERE, THERE)), 100.1) == [DialLeg(first), StartTimer(Timer.SETUP, 2)]
    assert call.handle(LegEnded(Side.B, 503, ""), 100.2) == [DialLeg(second), StartTimer(Timer.SETUP, 2)]
    assert call.handle(LegEnded(Side.B, 503, ""), 100.3) == [DialLeg(ONE), StartTimer(Timer.SETUP, 10)]
    assert len(call.attempts) == 3


def test_a_name_without_address_leads_to_the_next_target_or_ends_the_call() -> None:
    call = after(CallAdmitted((NAMED, NAMED)))
    assert LookUpTarget(NAMED) in call.handle(TargetLookedUp(NAMED, ()), 101.0)
    actions = call.handle(TargetLookedUp(NAMED, ()), 102.0)
    assert HangUpLeg(Side.A, 503, "") in actions
    assert not any(isinstance(action, HangUpLeg) and action.side is Side.B for action in actions)
    assert call.termination is not None
    assert call.termination.reason == "unresolved"


def test_a_look_up_that_takes_too_long_comes_too_late() -> None:
    call = after(CallAdmitted((NAMED, ONE)))
    assert call.handle(TimerExpired(Timer.SETUP), 102.0) == [DialLeg(ONE), StartTimer(Timer.SETUP, 10)]
    assert call.handle(TargetLookedUp(NAMED, (HERE,)), 103.0) == []


def test_a_caller_that_gives_up_during_a_look_up_leaves_nothing_behind() -> None:
    call = after(CallAdmitted((NAMED,)))
    assert call.handle(LegEnded(Side.A, 487, ""), 101.0)[-1] == ReleaseCall()
    assert call.handle(TargetLookedUp(NAMED, (HERE,)), 102.0) == []


def test_a_caller_that_gives_up_between_two_targets_ends_the_search() -> None:
    call = after(CallAdmitted((ONE, TWO, ONE)), LegEnded(Side.B, 503, ""))
    actions = call.handle(LegEnded(Side.A, 487, ""), 102.0)
    assert HangUpLeg(Side.B, 487, "Request Terminated") in actions
    assert call.handle(LegEnded(Side.B, 487, ""), 103.0) == [ReleaseCall()]


def test_a_call_that_lasts_too_long_is_ended_on_both_sides() -> None:
    call = after(*UP)
    actions = call.handle(TimerExpired(Timer.LENGTH), 3700.0)
    assert [action for action in actions if isinstance(action, HangUpLeg)] == [
        HangUpLeg(Side.A, 200, ""),
        HangUpLeg(Side.B, 200, ""),
    ]
    assert call.termination is not None
    assert (call.termination.result, call.termination.reason) == ("completed", "max_duration")


def test_a_refused_call_dials_nobody() -> None:
    call = new_call()
    actions = call.handle(CallRefused(503, "capacity", "All lines are busy", 5), 100.0)
    assert HangUpLeg(Side.A, 503, "All lines are busy", 5) in actions
    assert call.handle(LegEnded(Side.A, 503, ""), 100.1) == [ReleaseCall()]


def test_a_recording_control_is_applied_and_other_infos_cross_over() -> None:
    call = after(*UP)
    assert call.handle(MUTE, 105.0) == [ApplyControl(Side.B, 7, Control(Verb.MUTE, "", "Record"))]
    assert call.handle(UNKNOWN, 105.0) == [ForwardInfo(8, Side.A, UNKNOWN.headers)]


def test_a_control_is_understood_before_the_answer() -> None:
    assert after(CallAdmitted((ONE,)), LegRinging(180, "")).handle(MUTE, 105.0) == [
        ApplyControl(Side.B, 7, Control(Verb.MUTE, "", "Record"))
    ]


def test_a_digit_goes_to_the_other_side() -> None:
    assert after(*UP).handle(DigitReceived(Side.A, "5"), 105.0) == [SendDigit(Side.B, "5")]


def test_a_digit_that_comes_by_info_as_well_is_passed_once() -> None:
    call = after(*UP)
    call.handle(DigitReceived(Side.A, "5"), 105.0)
    info = InfoReceived(Side.A, 7, "application/dtmf-relay", b"Signal=5\r\nDuration=160\r\n", ())
    assert call.handle(info, 105.2) == [AnswerInfo(7, 200, "OK")]
    assert call.handle(info, 107.0) == [ForwardInfo(7, Side.B, info.headers)]


def test_a_far_end_without_rtp_is_reported_and_ends_the_call_only_where_that_is_wanted() -> None:
    assert after(*UP).handle(MediaTimedOut(Side.B), 105.0) == [ReportMediaTimeout(Side.B, False)]
    call = after(*UP)
    call.limits = replace(call.limits, rtp_timeout_ends=True)
    actions = call.handle(MediaTimedOut(Side.A), 105.0)
    assert actions[0] == ReportMediaTimeout(Side.A, True)
    assert FinishCall(Termination("completed", "rtp_timeout")) in actions


def test_an_info_after_the_end_is_481() -> None:
    call = after(*UP, LegEnded(Side.A, 200, ""))
    assert call.handle(UNKNOWN, 105.0) == [AnswerInfo(8, 481, "Call Does Not Exist")]


def test_an_illegal_event_raises_and_changes_nothing() -> None:
    call = after(CallAdmitted((ONE,)))
    before = dict(vars(call))
    with pytest.raises(IllegalEventError, match="LegConfirmed is not allowed while the call is dialing"):
        call.handle(LegConfirmed(), 102.0)
    assert vars(call) == before


events = st.one_of(
    st.builds(CallAdmitted, st.sampled_from([(ONE,), (ONE, TWO), (NAMED, TWO, NAMED)])),
    st.builds(TargetLookedUp, st.just(NAMED), st.sampled_from([(), (HERE,), (HERE, THERE)])),
    st.just(LegTrying()),
    st.just(CallRefused(503, "capacity", "", 5)),
    st.builds(LegRinging, st.sampled_from([180, 183]), st.just(""), st.booleans()),
    st.builds(DirectionAsked, st.sampled_from(Side), st.sampled_from(Direction)),
    st.builds(ReinviteEnded, st.sampled_from(Side), st.sampled_from([200, 408, 488, 491])),
    st.just(LegAnswered()),
    st.just(LegConfirmed()),
    st.builds(LegMediaActive, st.sampled_from(Side)),
    st.builds(
        LegEnded, st.sampled_from(Side), st.sampled_from([0, 200, 408, 486, 487, 503]), st.just(""), st.booleans()
    ),
    st.builds(LegPickedUp, st.sampled_from(Direction)),
    st.builds(LegClosing, st.sampled_from(Side), st.sampled_from([408, 481]), st.booleans()),
    st.sampled_from([MUTE, UNKNOWN]),
    st.builds(DigitReceived, st.sampled_from(Side), st.just("5")),
    st.builds(TimerExpired, st.sampled_from(Timer)),
    st.just(HangUpRequested("operator")),
)


@given(st.lists(events, max_size=20))
def test_whatever_happens_a_call_ends_once_and_only_moves_forward(script: list[Event]) -> None:
    call = new_call()
    order = list(State)
    done: list[object] = []
    now = 100.0
    for event in script:
        now += 1
        state, snapshot = call.state, dict(vars(call))
        try:
            done += call.handle(event, now)
        except IllegalEventError:
            assert vars(call) == snapshot
        assert order.index(call.state) >= order.index(state)
    kinds = [type(action) for action in done]
    for once in (FinishCall, ReleaseCall, StartRecording, StopRecording, AnswerLeg):
        assert kinds.count(once) <= 1
    assert kinds.count(DialLeg) <= len(call.attempts) <= 5
    if call.state in (State.ENDING, State.ENDED):
        assert all(attempt.ended_at is not None for attempt in call.attempts)
    assert (FinishCall in kinds) == (call.state in (State.ENDING, State.ENDED))
    assert (StopRecording in kinds) == (StartRecording in kinds and FinishCall in kinds)
    if ReleaseCall in kinds:
        assert kinds[-1] is ReleaseCall
        assert call.state is State.ENDED
