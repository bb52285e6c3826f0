"""What happens between INVITE and BYE beside the usual: early dialogs, PRACK, UPDATE, session timers, glare, races."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from recorder.loadtest.peers import Outcome, Plan, Sipp
from recorder.loadtest.sipp_output import SipMessage
from recorder.loadtest.tones import Codec
from tests.endtoend.conftest import Bench, Call
from tests.endtoend.test_hold import check_length, directions, heard, steady
from tests.peers.rtp import RtpPeer, encoded, voice_of
from tests.tones import sine

pytestmark = pytest.mark.moments

SDP = "application/sdp"


def progress_of(outcome: Outcome) -> list[tuple[int, bool]]:
    """The provisional responses that came, and whether SDP came with each."""
    found = [(m.status or 0, bool(m.body)) for m in outcome.messages if not m.sent and m.status]
    return [(status, sdp) for status, sdp in found if 100 < status < 200]


def answers_to(outcome: Outcome, method: str) -> list[int]:
    """The final responses that came to requests of this method."""
    return [
        m.status
        for m in outcome.messages
        if not m.sent and m.status and m.status >= 200 and (m.header("CSeq") or "").endswith(method)
    ]


def completed(bench: Bench, call: Call, reason: str = "caller_hangup") -> None:
    assert bench.cdr(call)["reason"] == reason


# Provisional responses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        ("uas-180-with-sdp", [(180, True)]),
        ("uas-183-without-sdp", [(183, False)]),
        # Once our SDP has been told it stands in every response: an answer must not come and go.
        (
            "uas-repeated-18x",
            [(180, False), (181, False), (182, False), (183, True), (180, True), (183, True), (199, True)],
        ),
    ],
)
def test_progress_crosses_over_as_it_came(bench: Bench, scenario: str, expected: list[tuple[int, bool]]) -> None:
    call = bench.call("uac-any-progress", scenario, seconds=0.5)
    assert progress_of(call.caller) == expected
    completed(bench, call)


@pytest.mark.parametrize(("scenario", "answers"), [("uas-forked-first", 0), ("uas-forked-second", 1)])
def test_forked(bench: Bench, scenario: str, answers: int) -> None:
    """Of two early dialogs the one that answers is the call: its audio is heard and recorded."""
    with RtpPeer(encoded(sine(440, 4.0))) as a, RtpPeer(encoded(sine(880, 4.0))) as b, RtpPeer(b"") as silent:
        one, two = (b, silent) if answers == 0 else (silent, b)
        call = bench.call(
            "uac-any-progress",
            scenario,
            seconds=1.5,
            voices=(a, b),
            caller_plan={"edit": voice_of(a, "caller", Codec.PCMU)},
            application_plan={
                "edit": [*voice_of(one, "callee", Codec.PCMU), ("m=audio [media_port+2]", f"m=audio {two.port}")]
            },
        )
    answered = call.caller.received(200)[0].time_s
    assert len([p for p in b.received if p.time_s > answered + 0.1]) > 40
    assert not [p for p in silent.received if p.time_s > answered + 0.3]
    assert call.application.received("ACK")[0].header("To") == call.application.sent(200)[0].header("To")
    assert heard(bench.kept(call), 0.5, 1.2) == (True, True)


# PRACK and UPDATE -----------------------------------------------------------------------------------------------------


def test_prack(bench: Bench, tmp_path: Path) -> None:
    """An application that sends reliable provisional responses has each acknowledged."""
    call = bench.call("uac-any-progress", "uas-prack", seconds=1, **steady(tmp_path))
    assert "100rel" in (call.application.received("INVITE")[0].header("Supported") or "")
    assert [(m.header("RAck") or "").split()[0] for m in call.application.received("PRACK")] == ["11", "12"]
    assert progress_of(call.caller) == [(183, True), (180, True)]
    assert heard(bench.kept(call), 0.2, 0.9) == (True, True)


def test_prack_required(bench: Bench, tmp_path: Path) -> None:
    """A caller that requires 100rel gets it, whatever the application does; its 183 holds the answer, the 200 none."""
    call = bench.call("uac-prack-required", "uas-prack", seconds=1, **steady(tmp_path))
    assert answers_to(call.caller, "PRACK") == [200, 200]
    assert all("100rel" in (m.header("Require") or "") for m in call.caller.received(183) + call.caller.received(180))
    assert heard(bench.kept(call), 0.2, 0.9) == (True, True)


@pytest.mark.parametrize("application", ["uas-prack", "uas-early-media"])
def test_prack_supported(bench: Bench, application: str) -> None:
    """A caller that could do without gets no reliable response: there is nothing for it to wait for."""
    call = bench.call("uac-prack-supported", application, seconds=0.5)
    assert all("100rel" not in (m.header("Require") or "") for m in call.caller.messages if not m.sent)
    completed(bench, call)


def test_update_early(bench: Bench, tmp_path: Path) -> None:
    """UPDATE before the answer, from either side, with SDP and without: answered, and not told to the other side."""
    plans = steady(tmp_path)
    call = bench.call("uac-update-early", "uas-update-early", seconds=1, **plans)
    assert answers_to(call.caller, "UPDATE") == [200, 200]
    assert answers_to(call.application, "UPDATE") == [200, 200]
    assert not call.caller.received("UPDATE") + call.application.received("UPDATE")
    assert heard(bench.kept(call), 0.3, 0.9) == (True, True)


# Offers ---------------------------------------------------------------------------------------------------------------


def test_delayed_offer(bench: Bench, tmp_path: Path) -> None:
    """An INVITE without SDP: the offer is in our 200; the application gets a normal INVITE; both are recorded."""
    call = bench.call("uac-delayed-offer", "uas-answer", seconds=1.5, **steady(tmp_path))
    assert b"m=audio" in call.application.received("INVITE")[0].body
    assert all(not m.body for m in call.caller.received(180))
    kept = bench.kept(call)
    check_length(call, kept)
    assert heard(kept, 0.4, 1.3) == (True, True)


def test_delayed_offer_unanswered(bench: Bench) -> None:
    """An ACK without the answer to our offer ends the call on both sides: it could never have the caller's audio."""
    call = bench.call("uac-delayed-offer-unanswered", "uas-answer")
    cdr = bench.cdr(call)
    assert (cdr["result"], cdr["reason"]) == ("failed", "no_sdp_answer")


# Glare and refusals ---------------------------------------------------------------------------------------------------


def test_held_491(bench: Bench) -> None:
    """Ours met another: tried again after 2.1 to 4 s, since the Call-ID is ours (RFC 3261, section 14.1)."""
    call = bench.call("uac-hold-briefly", "uas-held-491", seconds=4.5)
    _, first, second, third = call.application.received("INVITE")
    assert 2.0 < second.time_s - first.time_s < 5.0
    assert directions([first, second, third]) == ["sendonly", "sendonly", "sendrecv"]
    completed(bench, call)


def test_glare(bench: Bench) -> None:
    """Theirs comes while ours is pending: 491, and ours goes through."""
    call = bench.call("uac-hold", "uas-glare", seconds=1)
    assert answers_to(call.application, "INVITE") == [491]
    assert directions(call.application.received("INVITE"))[-2:] == ["sendonly", "sendrecv"]
    completed(bench, call)


def test_held_488(bench: Bench, tmp_path: Path) -> None:
    """A side that will not be held stays as it was; the one that holds is held all the same."""
    call = bench.call("uac-hold", "uas-held-488", seconds=1, **steady(tmp_path))
    assert len(call.application.received("INVITE")) == 2
    assert answers_to(call.caller, "INVITE") == [200, 200, 200]
    kept = bench.kept(call)
    check_length(call, kept)
    assert heard(kept, len(kept.samples) / kept.rate - 0.6, len(kept.samples) / kept.rate - 0.1) == (True, True)


@pytest.mark.parametrize("answer", ["481 Call Does Not Exist", "408 Request Timeout"])
def test_held_481(bench: Bench, answer: str) -> None:
    """A re-INVITE answered 481 or 408 ends the call (RFC 3261, section 12.2.1.2)."""
    edit = {"edit": [("481 Call Does Not Exist", answer)]}
    call = bench.call("uac-held-lost", "uas-held-481", seconds=0.5, application_plan=edit)
    cdr = bench.cdr(call)
    assert (cdr["result"], cdr["reason"]) == ("failed", "callee_lost")


def test_reinvite_twice(bench: Bench) -> None:
    call = bench.call("uac-reinvite-twice", "uas-answer")
    assert call.caller.received(500)[0].header("Retry-After")
    completed(bench, call)


# Races and retransmissions --------------------------------------------------------------------------------------------


def test_answer_after_cancel(bench: Bench) -> None:
    """200 and CANCEL cross: the answer wins, and is hung up at once (RFC 3261, section 9.1)."""
    call = bench.call("uac-cancel", "uas-answer-after-cancel", seconds=0.3)
    assert [m.method for m in call.application.messages if not m.sent and m.method] == [
        "INVITE",
        "CANCEL",
        "ACK",
        "BYE",
    ]
    assert bench.cdr(call)["result"] == "cancelled"


def test_cancel_after_answer(bench: Bench) -> None:
    call = bench.call("uac-cancel-after-answer", "uas-answer", seconds=0.5)
    assert not call.application.received("CANCEL")
    completed(bench, call)


def test_bye_crossing(bench: Bench) -> None:
    call = bench.call("uac-bye-crossing", "uas-bye", seconds=0.5)
    completed(bench, call, "callee_hangup")


def test_bye_after_reinvite(bench: Bench) -> None:
    call = bench.call("uac-bye-after-reinvite", "uas-answer")
    completed(bench, call)


def test_held_bye(bench: Bench) -> None:
    """A BYE that meets our re-INVITE ends the call; what becomes of the re-INVITE is nobody's concern."""
    call = bench.call("uac-held-lost", "uas-held-bye", seconds=0.5)
    completed(bench, call, "callee_hangup")


def test_retransmit(bench: Bench) -> None:
    """What comes twice is answered twice and done once."""
    call = bench.call("uac-retransmit", "uas-info")
    assert [m.method for m in call.application.messages if not m.sent and m.method] == ["INVITE", "ACK", "INFO", "BYE"]
    completed(bench, call)


def test_retransmit_200(bench: Bench) -> None:
    call = bench.call("uac-call", "uas-retransmit-200", seconds=0.5)
    assert len(call.application.received("ACK")) >= 2  # SIPp may send the 200 once more of its own
    completed(bench, call)


def test_lost_200(bench: Bench) -> None:
    call = bench.call("uac-lost-200", "uas-answer", seconds=0.5)
    assert len([m for m in call.caller.received(200) if (m.header("CSeq") or "").endswith("INVITE")]) >= 2
    completed(bench, call)


def test_cseq_out_of_order(bench: Bench) -> None:
    """A request whose CSeq is not higher than the last one's is answered 500 (RFC 3261, section 12.2.2).

    Not by SIPp as the caller: it takes the phrase "Invalid CSeq" for a header.
    """
    with (
        Sipp(Plan("uas-info", port=bench.subject.application_port)) as application,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line,
    ):
        line.bind(("127.0.0.1", 0))
        line.settimeout(5)
        host, port = bench.subject.sip_address.split(":")
        line.connect((host, int(port)))
        own = f"127.0.0.1:{line.getsockname()[1]}"
        to = "<sip:1000@127.0.0.1>"

        def send(method: str, cseq: int, body: str = "", kind: str = "text/plain") -> None:
            line.send(
                f"{method} sip:1000@{host}:{port} SIP/2.0\r\n"
                f"Via: SIP/2.0/UDP {own};branch=z9hG4bK{method}{cseq}\r\nFrom: <sip:5550100@{own}>;tag=a\r\n"
                f"To: {to}\r\nCall-ID: cseq@{own}\r\nCSeq: {cseq} {method}\r\nContact: <sip:5550100@{own}>\r\n"
                f"Max-Forwards: 70\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
            )

        def answer(cseq: int, method: str) -> SipMessage:
            while True:
                message = SipMessage(0, sent=False, raw=line.recv(4096))
                if message.header("CSeq") == f"{cseq} {method}" and (message.status or 0) >= 200:
                    return message

        address = "c=IN IP4 127.0.0.1\r\n"
        send("INVITE", 9, f"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\n{address}t=0 0\r\nm=audio 9 RTP/AVP 0\r\n", SDP)
        to = answer(9, "INVITE").header("To") or ""
        send("ACK", 9)
        send("INFO", 20)
        assert answer(20, "INFO").status == 200
        send("INFO", 15)
        assert answer(15, "INFO").status == 500
        send("BYE", 21)
        assert answer(21, "BYE").status == 200
        outcome = application.wait()
    assert outcome.ok, outcome.errors
    assert len(outcome.received("INFO")) == 1


@pytest.mark.parametrize("scenario", ["uas-record-route", "uas-record-route-strict"])
def test_record_route_of_the_application(bench: Bench, scenario: str) -> None:
    """Everything after the 200 goes by the route that it set (RFC 3261, section 12.2.1.1)."""
    call = bench.call("uac-call", scenario, seconds=0.5)
    for request in call.application.received("ACK") + call.application.received("BYE"):
        target, route = request.first_line.split()[1], request.header("Route") or ""
        if scenario.endswith("strict"):
            assert "192.0.2.77" in route, request.raw
        else:
            assert "192.0.2.77" in target
            assert ";lr" in route
    completed(bench, call)


def test_record_route_of_the_caller(bench: Bench) -> None:
    call = bench.call("uac-record-route", "uas-bye", seconds=0.5)
    bye = call.caller.received("BYE")[0]
    assert "192.0.2.77" in bye.first_line
    assert ";lr" in (bye.header("Route") or "")
    assert call.caller.received(200)[0].header("Record-Route")
    completed(bench, call, "callee_hangup")


def test_merged(bench: Bench) -> None:
    call = bench.call("uac-merged", "uas-answer")
    assert len(call.application.received("INVITE")) == 1
    completed(bench, call)


# Requests that are not ours -------------------------------------------------------------------------------------------


def test_message(bench: Bench) -> None:
    """MESSAGE, NOTIFY and an unknown method cross over with their content, and so do their answers."""
    call = bench.call("uac-message", "uas-message")
    for method in ("MESSAGE", "NOTIFY", "FROB"):
        [sent], [arrived] = call.caller.sent(method), call.application.received(method)
        assert arrived.body == sent.body
        assert arrived.header("Event") == sent.header("Event")
    assert call.application.received("FROB")[0].header("X-Frob") == "yes"
    assert call.caller.received(405)[0].header("X-Frob") == "no"
    [options] = [m for m in call.caller.received(200) if (m.header("CSeq") or "").endswith("OPTIONS")]
    assert "INVITE" in (options.header("Allow") or "")


# Session timers -------------------------------------------------------------------------------------------------------


def interval_of(message: SipMessage) -> int:
    found = re.match(r"\d+", message.header("Session-Expires") or "")
    assert found is not None
    return int(found[0])


def test_session_timer(bench: Bench) -> None:
    """A refresh is answered, by UPDATE and by re-INVITE, and is the other leg's business in no way."""
    call = bench.call("uac-session-timer", "uas-answer")
    assert answers_to(call.caller, "UPDATE") == [200]
    [answer] = [m for m in call.caller.received(200) if (m.header("CSeq") or "").endswith("UPDATE")]
    assert interval_of(answer) == 1800
    assert interval_of(call.caller.received(200)[0]) == 1800
    assert len(call.application.received("INVITE")) == 1
    completed(bench, call)


def test_session_too_small_for_us(bench: Bench) -> None:
    call = bench.call("uac-session-too-small", "uas-answer")
    assert call.caller.received(422)[0].header("Min-SE") == "90"
    assert call.application.received("BYE")


def test_session_too_small_for_the_application(bench: Bench) -> None:
    call = bench.call("uac-call", "uas-session-too-small", seconds=0.5)
    first, second = call.application.received("INVITE")
    assert interval_of(first) == 1800
    assert interval_of(second) == 3600
    completed(bench, call)
