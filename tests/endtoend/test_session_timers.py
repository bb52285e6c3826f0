"""Session timers (RFC 4028) at the pace that they have: no interval may be shorter than 90 s."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from recorder.loadtest.peers import Plan, Sipp
from recorder.loadtest.ports import lease
from recorder.loadtest.subject import Subject
from tests.endtoend.conftest import Bench, Call

# By the number that is called: both sides' scenarios, and how the call ends.
CALLS = {
    "81": ("uac-call", "uas-session-refreshed", ("completed", "caller_hangup")),
    "82": ("uac-call", "uas-session-reinvited", ("completed", "caller_hangup")),
    "83": ("uac-wait-bye", "uas-session-expires", ("failed", "session_expired")),
    "84": ("uac-session-refreshed", "uas-bye", ("completed", "callee_hangup")),
    "85": ("uac-session-reinvited", "uas-bye", ("completed", "callee_hangup")),
    "86": ("uac-session-expires", "uas-answer", ("failed", "session_expired")),
    "87": ("uac-session-vanish", "uas-answer", ("failed", "session_expired")),
}


def test_refreshed_or_expired(tmp_path: Path) -> None:
    """Refreshed by us after half the interval, by UPDATE or re-INVITE; ended when nobody does; on either leg, at once.

    A scenario that is sent BYE before or after its time, or on one side alone, fails.
    """
    ports = lease(len(CALLS))
    subject = Subject(tmp_path)
    addresses = {number: ports.first + place for place, number in enumerate(CALLS)}
    subject.configuration["routes"] = [
        {"name": f"to-{number}", "match": {"called": number}, "target": f"sip:{{user}}@127.0.0.1:{port}"}
        for number, port in addresses.items()
    ]
    with ExitStack() as stack:
        stack.callback(ports.release)
        stack.enter_context(subject)
        applications = {
            number: stack.enter_context(Sipp(Plan(scenario, port=addresses[number], length_ms=50000, timeout_s=90)))
            for number, (_, scenario, _) in CALLS.items()
        }
        callers = {
            number: stack.enter_context(
                Sipp(Plan(scenario, remote=subject.sip_address, called=number, length_ms=50000, timeout_s=90))
            )
            for number, (scenario, _, _) in CALLS.items()
        }
        ended = {number: Call(callers[number].wait(), applications[number].wait(5)) for number in CALLS}
        for call in ended.values():
            assert call.caller.ok, call.caller.errors
            assert call.application.ok, call.application.errors
        cdrs = {number: Bench(subject).cdr(call) for number, call in ended.items()}
        assert subject.stop() == 0
        assert subject.trouble() == []
    # Towards a far end that knows no UPDATE it is a re-INVITE.
    b_updated, b_reinvited, a_updated, a_reinvited = (
        side.received(method)
        for side, method in (
            (ended["81"].application, "UPDATE"),
            (ended["82"].application, "INVITE"),
            (ended["84"].caller, "UPDATE"),
            (ended["85"].caller, "INVITE"),
        )
    )
    assert [len(refreshes) for refreshes in (b_updated, b_reinvited, a_updated, a_reinvited)] == [1, 2, 1, 1]
    for number, refresh in (("81", b_updated), ("82", b_reinvited), ("84", a_updated), ("85", a_reinvited)):
        answered = ended[number].caller.received(200)[0].time_s
        assert 44 < refresh[-1].time_s - answered < 55, number
        assert (refresh[-1].header("Session-Expires") or "").startswith("90;refresher=")
    # Also where the BYE to the caller, which is gone, gets no answer: that takes another 32 s to be given up.
    for number in ("83", "86", "87"):
        answered = ended[number].caller.received(200)[0].time_s
        for side in (ended[number].caller, ended[number].application):
            assert 59 < side.received("BYE")[0].time_s - answered < 70, number
    for number, (_, _, ending) in CALLS.items():
        assert (cdrs[number]["result"], cdrs[number]["reason"]) == ending


def test_session_timers_off_and_required(tmp_path: Path) -> None:
    """Off: nobody hears of them. Required: a caller that does not know them is answered 421 (RFC 4028, section 9)."""
    with Subject(tmp_path / "off", changes={"sip": {"session_timers": "off"}}) as subject:
        call = Bench(subject).call("uac-session-timer-declined", "uas-answer", seconds=0.3)
        assert call.caller.received(200)[0].header("Session-Expires") is None
        assert call.application.received("INVITE")[0].header("Session-Expires") is None
    changes = {"sip": {"session_timers": "required", "session_expires_s": 600}}
    with Subject(tmp_path / "required", changes=changes) as subject:
        with Sipp(Plan("uac-rejected", remote=subject.sip_address)) as caller:
            outcome = caller.wait()
        assert outcome.received(421), outcome.errors
        call = Bench(subject).call("uac-session-timer", "uas-session-too-small")
        first = call.application.received("INVITE")[0]
        assert (first.header("Session-Expires") or "").startswith("600")
        assert "timer" in (first.header("Require") or "")
