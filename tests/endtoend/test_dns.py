"""Targets with host names, with a nameserver of the test's own: SRV, fail-over between addresses, and silence."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from recorder.loadtest.peers import Plan, Sipp
from recorder.loadtest.subject import HOST, Subject
from tests.endtoend.conftest import Bench, Call
from tests.peers.dns import Nameserver


@pytest.fixture(scope="module")
def nameserver() -> Iterator[Nameserver]:
    with Nameserver() as server:
        yield server


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, nameserver: Nameserver) -> Iterator[Bench]:
    subject = Subject(tmp_path_factory.mktemp("recorder"))
    sip = subject.configuration["sip"]
    sip |= {"nameservers": [nameserver.address], "setup_timeout_s": 1}
    sip["listen"].append({"transport": "tcp", "host": HOST, "port": subject.sip_port})
    port = subject.application_port
    subject.configuration["routes"] = [
        {"name": name, "match": {"called_prefix": digit}, "target": f"sip:{{user}}@{name}.test"}
        for digit, name in (("1", "pool"), ("2", "stream"), ("3", "nowhere"), ("4", "mute"))
    ]
    nameserver.zone = {
        # 127.0.0.9 is an address of this machine on which nobody listens: the first try is in vain.
        ("_sip._udp.pool.test", "SRV"): [f"10 0 {port} dead.test.", f"20 0 {port} alive.test."],
        ("_sip._tcp.stream.test", "SRV"): [f"10 0 {port} alive.test."],
        ("dead.test", "A"): ["127.0.0.9"],
        ("alive.test", "A"): [HOST],
        ("mute.test", "A"): [HOST],
    }
    with subject:
        yield Bench(subject)
        assert subject.stop() == 0, subject.log_tail()
    assert subject.trouble() == []


def test_srv_records_are_followed_from_one_address_to_the_next(bench: Bench) -> None:
    call = bench.call("uac-call", "uas-answer", seconds=0.3)
    port = bench.subject.application_port
    assert call.application.received("INVITE")[0].first_line == "INVITE sip:1000@pool.test SIP/2.0"
    cdr = bench.cdr(call)
    tried = [(attempt["address"], attempt["reason"]) for attempt in cdr["details"]["attempts"]]
    assert tried == [(f"udp:127.0.0.9:{port}", "unreachable"), (f"udp:{HOST}:{port}", None)]
    assert cdr["details"]["target"] == "sip:1000@pool.test"


def test_srv_records_choose_the_transport(bench: Bench) -> None:
    plan = {"transport": "t1"}
    call = bench.call("uac-call", "uas-answer", seconds=0.3, caller_plan={"called": "2000"}, application_plan=plan)
    invite = call.application.received("INVITE")[0]
    assert invite.first_line == "INVITE sip:2000@stream.test;transport=tcp SIP/2.0"
    assert "transport=tcp" in (invite.header("Contact") or "").lower()
    assert call.application.received("BYE")


def rejected(bench: Bench, called: str) -> tuple[int, dict[str, object]]:
    with Sipp(Plan("uac-rejected", remote=bench.subject.sip_address, called=called)) as caller:
        outcome = caller.wait(20)
    assert outcome.ok, outcome.errors
    status = next(message.status for message in outcome.messages if message.status and message.status >= 200)
    return status, bench.cdr(Call(outcome, outcome))


def test_a_name_that_has_no_address(bench: Bench) -> None:
    status, cdr = rejected(bench, "3000")
    assert (status, cdr["result"], cdr["reason"]) == (503, "failed", "unresolved")


def test_a_nameserver_that_says_nothing_holds_up_no_other_call(bench: Bench, nameserver: Nameserver) -> None:
    nameserver.silent = True
    try:
        begun = time.monotonic()
        with Sipp(Plan("uac-rejected", remote=bench.subject.sip_address, called="4000")) as caller:
            call = bench.call("uac-call", "uas-answer", seconds=0.1, caller_plan={"called": "1000"})
            assert bench.cdr(call)["result"] == "completed"
            outcome = caller.wait(20)
        assert outcome.ok, outcome.errors
        assert outcome.received(408)
        assert time.monotonic() - begun < 10
        assert bench.cdr(Call(outcome, outcome))["reason"] == "unresolved"
    finally:
        nameserver.silent = False
