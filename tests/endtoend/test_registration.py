"""Trunks that ask who we are: registrations, and calls answered with 401 or 407."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import pytest

from recorder.loadtest.peers import Plan, Sipp
from recorder.loadtest.ports import PortLease, lease
from recorder.loadtest.sipp_output import SipMessage
from recorder.loadtest.subject import Subject
from tests.endtoend.conftest import Bench

SECRET = "open sesame"
SERIES = 'recorder_registered{trunk="carrier"}'


@pytest.fixture
def port() -> Iterator[PortLease]:
    with lease(2) as leased:
        yield leased


@pytest.fixture
def subject(tmp_path_factory: pytest.TempPathFactory, port: PortLease) -> Subject:
    """A recorder with a trunk that registers; it is not started yet."""
    folder = tmp_path_factory.mktemp("recorder")
    (folder / "carrier.password").write_text(f"{SECRET}\n")
    subject = Subject(folder)
    subject.configuration["trunks"].insert(
        0,
        {
            "name": "carrier",
            "sources": ["127.0.0.2"],
            "credentials": {"username": "recorder", "password_file": "carrier.password"},
            "registration": {
                "registrar": f"sip:127.0.0.2:{port.first}",
                "user": "302105550100",
                "expires_s": 60,
                "retry_s": 1,
            },
        },
    )
    subject.configuration["routes"].insert(
        0, {"name": "carrier", "match": {"called": "7.*"}, "target": f"sip:{{user}}@127.0.0.2:{port.last}"}
    )
    return subject


def test_a_registration_is_made_kept_up_and_taken_back(subject: Subject, port: PortLease) -> None:
    """401 is answered, the registration is renewed before it runs out, and it is taken back at the end."""
    plan = Plan("uas-registrar", host="127.0.0.2", port=port.first)
    with Sipp(plan) as registrar:
        with subject:
            Bench.eventually(lambda: subject.api.metrics().get(SERIES) == 1 or None, "the registration")
            Bench.eventually(lambda: len(registrar.outcome().received("REGISTER")) >= 3 or None, "its refresh")
            assert subject.stop() == 0, subject.log_tail()
        outcome = registrar.wait(10)
    assert outcome.ok, outcome.errors
    first, second, refresh, last = outcome.received("REGISTER")
    assert "<sip:302105550100@127.0.0.2>" in (first.header("To") or "")
    assert f"<sip:302105550100@127.0.0.1:{subject.sip_port}>" in (first.header("Contact") or "")
    assert first.header("Expires") == "60"
    assert first.header("Authorization") is None
    assert ("verified", "true") in outcome.log, outcome.log
    assert 1 <= refresh.time_s - second.time_s < 7
    assert last.header("Expires") == "0"
    assert subject.trouble() == []


def test_a_registration_is_tried_again_until_there_is_a_registrar(subject: Subject, port: PortLease) -> None:
    """A registrar that is away at first keeps nothing from working, and is found once it is back."""
    with subject:
        assert subject.api.metrics()[SERIES] == 0
        with Sipp(Plan("uas-registrar", host="127.0.0.2", port=port.first)) as registrar:
            Bench.eventually(lambda: subject.api.metrics().get(SERIES) == 1 or None, "the registration", 20)
            assert registrar.running
        assert subject.stop() == 0, subject.log_tail()


def check_digest(request: SipMessage) -> None:
    """The credentials in a request are right (RFC 7616, section 3.4.1, with MD5)."""
    header = request.header("Proxy-Authorization") or ""
    told = dict(re.findall(r'(\w+)="?([^",]*)"?', header.removeprefix("Digest ")))

    def md5(*parts: str) -> str:
        return hashlib.md5(":".join(parts).encode()).hexdigest()

    assert (told["username"], told["realm"]) == ("recorder", "carrier.example.com")
    who = md5("recorder", "carrier.example.com", SECRET)
    what = md5("INVITE", told["uri"])
    assert told["response"] == md5(who, told["nonce"], told["nc"], told["cnonce"], told["qop"], what)


def test_challenge(subject: Subject, port: PortLease) -> None:
    """The target's 407 is answered with the trunk's credentials; the caller sees nothing of it."""
    with subject:
        bench = Bench(subject)
        call = bench.call(
            "uac-call",
            "uas-challenge",
            seconds=1,
            caller_plan={"called": "700"},
            application_plan={"host": "127.0.0.2", "port": port.last},
        )
        assert not call.caller.received(407)
        assert not call.caller.received(401)
        assert len(call.application.received("INVITE")) == 2
        check_digest(call.application.received("INVITE")[1])
        assert bench.cdr(call)["result"] == "completed"
        assert subject.stop() == 0, subject.log_tail()
