"""What crosses the recorder, and what must not: each side hears of the other, and learns no address of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from recorder.loadtest.peers import Plan, Sipp
from recorder.loadtest.ports import lease
from recorder.loadtest.subject import Subject
from tests.endtoend.conftest import CHANGES, Bench, Call
from tests.native.phone import Phone


def check_hiding(
    bench: Bench, call: Call, of_caller: tuple[str, ...] = (), of_application: tuple[str, ...] = ()
) -> None:
    """No message holds the other side's Call-ID, tags, ports, or one of the addresses that it spoke of."""
    sides = ((call.caller, call.application, of_application), (call.application, call.caller, of_caller))
    for outcome, other, inside in sides:
        secrets = {message.header("Call-ID") or "" for message in other.messages} | set(inside)
        secrets |= {(message.header("From") or "").partition(";tag=")[2] for message in other.messages}
        seen = b"\n".join(message.raw for message in outcome.messages if not message.sent).decode()
        leaked = [secret for secret in secrets if secret and secret in seen]
        assert leaked == []
    ours = f"127.0.0.1:{bench.subject.sip_port}"
    from_ours = [m for m in call.application.messages if not m.sent and m.method]
    assert all(ours in (m.header("Via") or "") for m in from_ours)
    port_of_caller = (call.caller.sent("INVITE")[0].header("Contact") or "").rpartition(":")[2][:5].strip(";>")
    port_of_callee = str(bench.subject.application_port)
    assert all(f":{port_of_caller}".encode() not in m.raw for m in from_ours)
    to_caller = [m for m in call.caller.messages if not m.sent]
    assert all(f":{port_of_callee}".encode() not in m.raw for m in to_caller)


def test_headers(bench: Bench) -> None:
    call = bench.call("uac-headers", "uas-headers", seconds=0.5)
    ours = f"127.0.0.1:{bench.subject.sip_port}"
    there = f"127.0.0.1:{bench.subject.application_port}"
    [invite, *_] = call.application.received("INVITE")
    assert (invite.header("From") or "").startswith('"Alice \\"Al\\" Αλίκη" <sip:+302105550100@127.0.0.1>;tag=')
    assert invite.header("To") == '"Sales" <sip:4321@127.0.0.1>'
    assert invite.first_line == f"INVITE sip:1000@{there} SIP/2.0"
    expected = {
        "P-Asserted-Identity": f'"Alice" <sip:+302105550100@{ours};user=phone>, <tel:+302105550100>',
        "Privacy": "id",
        "Diversion": f"<sip:2100@{ours}>;reason=unconditional;counter=1",
        "History-Info": f"<sip:2100@{ours}?Reason=SIP%3Bcause%3D302>;index=1, <sip:1000@{ours}>;index=1.1",
        "User-to-User": "56a390f3d2b7310023a2;encoding=hex",
        "Reason": "Q.850;cause=31",
        "X-Trace": 'abc;  d="e"',
        "P-Charging-Vector": None,
        "Subject": None,
    }
    assert {name: invite.header(name) for name in expected} == expected

    ringing, answer = call.caller.received(180)[0], call.caller.received(200)[0]
    assert (ringing.header("P-Asserted-Identity"), ringing.header("X-Ring")) == (f'"Bob" <sip:4321@{ours}>', "1")
    assert (answer.header("P-Asserted-Identity"), answer.header("X-Answer")) == (f'"Robert" <sip:4321@{ours}>', "yes")
    assert answer.header("X-Ring") is None
    assert answer.header("Server") != "hidden"
    [bye] = call.application.received("BYE")
    assert (bye.header("Reason"), bye.header("X-Bye")) == ('Q.850;cause=16;text="Normal call clearing"', "caller")
    check_hiding(bench, call, ("10.11.12.13", "10.11.12.14", ":5099"), ("10.21.22.23", ":5088"))


def test_max_forwards_is_one_less(bench: Bench) -> None:
    """A call that goes round in circles comes to an end (RFC 7332)."""
    hops = [("Max-Forwards: 70", "Max-Forwards: 10")]
    call = bench.call("uac-call", "uas-answer", seconds=0.3, caller_plan={"edit": hops})
    [invite, *_] = call.application.received("INVITE")
    assert re.findall(rb"(?im)^max-forwards *: *(\S+)", invite.raw) == [b"9"]


def test_bye_headers(bench: Bench) -> None:
    call = bench.call("uac-wait-bye", "uas-bye-headers", seconds=0.5)
    [bye] = call.caller.received("BYE")
    values = (bye.header("Reason"), bye.header("User-to-User"), bye.header("X-Bye"))
    assert values == ('SIP;cause=200;text="Done"', "3031;encoding=hex", "callee")
    check_hiding(bench, call)


def test_cancel_reason(bench: Bench) -> None:
    call = bench.call("uac-cancel-reason", "uas-ring", seconds=0.5)
    [cancel] = call.application.received("CANCEL")
    assert cancel.raw.count(b"\r\nReason:") == 1
    assert (cancel.header("Reason"), cancel.header("X-Cancel")) == (
        'SIP;cause=200;text="Call completed elsewhere"',
        "1",
    )
    check_hiding(bench, call)


def test_busy_reason(bench: Bench) -> None:
    call = bench.call("uac-rejected", "uas-busy-reason")
    [busy] = call.caller.received(486)
    assert (busy.header("Reason"), busy.header("X-Why")) == ('Q.850;cause=17;text="User busy"', "lunch")
    assert busy.first_line == "SIP/2.0 486 Busy Here"
    check_hiding(bench, call)


def test_anonymous(bench: Bench) -> None:
    call = bench.call("uac-anonymous", "uas-answer", seconds=0.5)
    [invite, *_] = call.application.received("INVITE")
    assert (invite.header("From") or "").startswith('"Anonymous" <sip:anonymous@anonymous.invalid>;tag=')
    assert invite.header("Privacy") == "id"


def test_headers_hostile(bench: Bench) -> None:
    """Whatever the headers hold, the message that goes out is well-formed and small, with no header of their making."""
    many = "\n".join(["1", *(f"X-Number-{number}: {number}" for number in range(300))])
    edit = (("X-Long: LONG", f"X-Long: {'l' * 5000}"), ("X-Many: MANY", f"X-Many: {many}"))
    call = bench.call("uac-headers-hostile", "uas-answer", seconds=0.5, caller_plan={"edit": edit})
    [invite, *_] = call.application.received("INVITE")
    head = invite.raw.partition(b"\r\n\r\n")[0].decode()
    names = [line.partition(":")[0] for line in head.split("\r\n")[1:]]
    assert "X-Evil" not in names
    assert invite.header("X-Encoded") == "a%0d%0aX-Evil: 1"
    assert "X-Long" not in names
    assert sum(name.startswith("X-Number") for name in names) < 32
    assert "10.11.12.13" not in head
    assert len(head) < 6000
    assert bench.subject.api.metrics()["recorder_headers_dropped_total"] >= 270
    bench.call("uac-call", "uas-answer", seconds=0.3)


def test_folded_headers_and_bytes_that_are_no_text(bench: Bench) -> None:
    """What SIPp cannot send: folds are joined, what is no UTF-8 is left out, and no line begins with what they held."""
    caller = Phone()
    with Sipp(Plan("uas-busy", port=bench.subject.application_port)) as callee:
        odd = [("X-Folded", "one\r\n X-Evil: 1\r\n\ttwo"), ("X-Bytes", "a\udcffb"), ("X-Good", "è")]
        caller.call(f"sip:1000@{bench.subject.sip_address}", odd)
        caller.expect("486 INVITE")
        caller.request("ACK")
        outcome = callee.wait()
    caller.close()
    [invite, *_] = outcome.received("INVITE")
    assert invite.header("X-Folded") == "one X-Evil: 1 two"
    assert [invite.header(name) for name in ("X-Evil", "X-Good")] == [None, "è"]
    assert b"\xff" not in invite.raw


def test_no_message_within_a_call_tells_where_the_other_side_is(tmp_path: Path) -> None:
    """Not in the INVITE, nor in MESSAGE and methods that nobody knows, nor in answers; bodies are the far end's."""
    here, there = "127.0.0.2", "127.0.0.3"
    identity = "P-Asserted-Identity: <sip:77@[local_ip]>"
    talk = f"X-Where: at [local_ip]:5060\nX-Good: yes\n{identity}\nCall-Info: <sip:[local_ip]>\n"
    ports = lease(1)
    subject = Subject(tmp_path)
    with ExitStack() as stack:
        stack.callback(ports.release)
        subject.configuration["routes"] = [{"name": "far", "target": f"sip:{{user}}@{there}:{ports.first}"}]
        stack.enter_context(subject)
        plan = Plan("uas-message", host=there, port=ports.first, edit=[("[last_CSeq:]\n", "[last_CSeq:]\n" + talk)])
        application = stack.enter_context(Sipp(plan))
        asks = f"Max-Forwards: 70\n{talk}X-Call: ([call_id])\nIn-Reply-To: [call_id]\n"
        caller = stack.enter_context(
            Sipp(Plan("uac-message", remote=subject.sip_address, host=here, edit=[("Max-Forwards: 70\n", asks)]))
        )
        call = Call(caller.wait(), application.wait(10))
        assert call.caller.ok, call.caller.errors
        assert call.application.ok, call.application.errors
        metrics = subject.api.metrics()
    for outcome, secret in ((call.application, here), (call.caller, there)):
        for message in (message for message in outcome.messages if not message.sent):
            assert secret.encode() not in message.raw.partition(b"\r\n\r\n")[0], message.raw
            assert call.sip_call_id.encode() not in message.raw or outcome is call.caller
    for method in ("INVITE", "MESSAGE", "NOTIFY", "FROB", "BYE"):
        [arrived] = call.application.received(method)
        assert arrived.header("X-Good") == "yes"
        assert arrived.header("P-Asserted-Identity") == f"<sip:77@127.0.0.1:{subject.sip_port}>"
        assert [arrived.header(name) for name in ("X-Where", "X-Call", "Call-Info", "In-Reply-To")] == [None] * 4
    assert call.application.received("NOTIFY")[0].header("Event")
    assert call.caller.received(405)[0].header("X-Good") == "yes"
    assert metrics["recorder_headers_dropped_total"] >= 2 * 4


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A recorder whose trunk passes little, and whose hosts are the target's."""
    trunk = CHANGES["trunks"][0] | {"pass_headers": ["X-Trace"]}
    changes = CHANGES | {"trunks": [trunk], "sip": CHANGES["sip"] | {"identity_hosts": "target"}}
    with Subject(tmp_path_factory.mktemp("configured"), changes=changes) as subject:
        yield Bench(subject)
        assert subject.stop() == 0, subject.log_tail()
    assert subject.trouble() == []


def test_headers_of_a_trunk_that_passes_few(configured: Bench) -> None:
    call = configured.call("uac-headers", "uas-headers", seconds=0.3)
    [invite, *_] = call.application.received("INVITE")
    assert [invite.header(name) for name in ("X-Trace", "Diversion", "Privacy")] == ['abc;  d="e"', None, None]
    assert "<sip:+302105550100@127.0.0.1>" in (invite.header("From") or "")
    assert call.caller.received(180)[0].header("X-Ring") is None
    assert call.application.received("BYE")[0].header("Reason") is None
