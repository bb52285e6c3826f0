"""Setting calls up and down, with SIPp on both sides. Each test bears the name of what its scenarios do."""

from __future__ import annotations

import pytest

from recorder.loadtest.peers import Plan, Sipp
from tests.endtoend.conftest import Bench, later, silent_port

pytestmark = pytest.mark.moments


def test_answer(bench: Bench) -> None:
    call = bench.call("uac-call", "uas-answer")
    assert [m.status for m in call.caller.messages if m.status and not m.sent] == [100, 180, 200, 200]
    cdr = bench.cdr(call)
    assert (cdr["result"], cdr["reason"]) == ("completed", "caller_hangup")
    assert later(cdr["duration_s"], 2.0)
    assert cdr["b_sip_call_id"] == call.application.received("INVITE")[0].header("Call-ID")


def test_the_b_leg_is_our_own_and_offers_audio_with_telephone_events(bench: Bench) -> None:
    call = bench.call("uac-call", "uas-answer", seconds=0.5)
    invite = call.application.received("INVITE")[0]
    assert invite.header("Call-ID") != call.sip_call_id
    assert (invite.header("From") or "").startswith("<sip:5550100@127.0.0.1>")
    offer = invite.body.decode()
    assert offer.count("m=") == 1
    assert "a=rtpmap:0 PCMU/8000" in offer
    assert "a=rtpmap:8 PCMA/8000" in offer
    assert "telephone-event/8000" in offer
    assert "telephone-event/8000" in call.caller.received(200)[0].body.decode()


def test_callee_hangs_up(bench: Bench) -> None:
    call = bench.call("uac-wait-bye", "uas-bye")
    assert bench.cdr(call)["reason"] == "callee_hangup"


def test_cancel(bench: Bench) -> None:
    call = bench.call("uac-cancel", "uas-ring", seconds=0.5)
    assert call.application.received("CANCEL")
    cdr = bench.cdr(call)
    assert (cdr["result"], cdr["reason"], cdr["answered_ms"]) == ("cancelled", "caller_cancelled", None)


@pytest.mark.parametrize(
    ("scenario", "status", "result", "reason"),
    [
        ("uas-busy", 486, "rejected", "busy"),
        ("uas-reject-404", 404, "rejected", "not_found"),
        ("uas-reject-480", 480, "rejected", "unavailable"),
        ("uas-reject-503", 503, "failed", "overloaded"),
    ],
)
def test_rejected(bench: Bench, scenario: str, status: int, result: str, reason: str) -> None:
    call = bench.call("uac-rejected", scenario)
    assert call.caller.received(status)
    cdr = bench.cdr(call)
    assert (cdr["result"], cdr["reason"], cdr["sip_status"]) == (result, reason, status)


def test_a_phrase_that_is_no_utf8_is_not_passed_on(bench: Bench) -> None:
    """As some PBXs write it, in Latin-1 (RFC 3261, section 25.1, has it in UTF-8): its status alone crosses over."""
    ringing = {"edit": [("180 Ringing", "180 Sonn\udce9")]}
    call = bench.call("uac-call", "uas-ring-answer", seconds=0.5, application_plan=ringing)
    assert call.application.sent(180)[0].raw.startswith(b"SIP/2.0 180 Sonn\xe9\r\n")
    assert call.caller.received(180)[0].raw.startswith(b"SIP/2.0 180 Ringing\r\n")
    assert bench.cdr(call)["reason"] == "caller_hangup"

    call = bench.call("uac-rejected", "uas-busy", application_plan={"edit": [("Busy Here", "Occup\udce9")]})
    assert call.caller.received(486)[0].raw.startswith(b"SIP/2.0 486 Busy Here\r\n")
    assert bench.cdr(call)["reason"] == "busy"


def test_a_call_id_that_is_no_utf8_is_recorded_and_told(bench: Bench) -> None:
    edit = [("Call-ID: [call_id]", "Call-ID: \udce9///[call_id]")]
    call = bench.call("uac-call", "uas-answer", seconds=0.5, caller_plan={"edit": edit})
    assert call.caller.sent("INVITE")[0].raw.count(b"Call-ID: \xe9///") == 1
    kept = bench.kept(call)
    assert kept.manifest["legs"]["a"]["sip_call_id"].startswith("\ufffd///")


def test_no_answer(bench: Bench) -> None:
    """The target takes the INVITE and says nothing: the set-up ends after setup_timeout_s."""
    call = bench.call(
        "uac-rejected",
        "uas-no-answer",
        caller_plan={"called": "900"},
        application_plan={"port": silent_port(bench.subject)},
    )
    assert call.caller.received(408)
    assert bench.cdr(call)["reason"] == "unreachable"


def test_a_target_where_nobody_listens(bench: Bench) -> None:
    with Sipp(Plan("uac-rejected", remote=bench.subject.sip_address, called="901")) as caller:
        outcome = caller.wait()
    assert outcome.ok, outcome.errors
    assert outcome.received(408)


def test_ring_without_answer(bench: Bench) -> None:
    """The target rings and never answers: it is cancelled after ring_timeout_s."""
    call = bench.call("uac-rejected", "uas-ring", seconds=20)
    assert call.caller.received(180)
    assert call.caller.received(408)
    assert call.application.received("CANCEL")
    assert bench.cdr(call)["reason"] == "no_answer"


def test_no_audio(bench: Bench) -> None:
    """An offer without audio is turned away with 488, and the next call is none the worse."""
    with Sipp(Plan("uac-no-audio", remote=bench.subject.sip_address)) as caller:
        outcome = caller.wait()
    assert outcome.ok, outcome.errors
    assert outcome.received(488)
    bench.call("uac-call", "uas-answer", seconds=0.5)
