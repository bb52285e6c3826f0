"""Ends that go away without a word: no ACK, no BYE, no RTP. The longest call's limit ends what nobody else does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from recorder.loadtest.peers import Outcome, Plan, Sipp
from recorder.loadtest.subject import Subject
from tests.endtoend.conftest import CHANGES, Bench, Call

pytestmark = pytest.mark.moments

LONGEST_S = 2


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A recorder whose calls last 2 s at most."""
    limits = {**CHANGES["sip"], "max_call_s": LONGEST_S, "drain_timeout_s": 0}
    subject = Subject(tmp_path_factory.mktemp("recorder"), changes={**CHANGES, "sip": limits})
    with subject:
        yield Bench(subject)
        assert subject.stop() == 0, subject.log_tail()
    assert subject.trouble() == []


def check(bench: Bench, call: Call, result: str, reason: str) -> None:
    cdr = bench.cdr(call)
    assert (cdr["result"], cdr["reason"]) == (result, reason)
    kept = bench.kept(call)
    assert len(kept.samples) / kept.rate == pytest.approx(cdr["duration_s"], abs=0.1)
    if reason == "max_duration":
        assert LONGEST_S - 0.1 < cdr["duration_s"] < LONGEST_S + 1.5


def test_vanish_of_the_caller(short: Bench) -> None:
    call = short.call("uac-vanish", "uas-answer")
    assert call.application.received("BYE")
    check(short, call, "completed", "max_duration")


def test_vanish_of_the_callee(short: Bench) -> None:
    call = short.call("uac-wait-bye", "uas-vanish")
    assert call.caller.received("BYE")
    check(short, call, "completed", "max_duration")


def test_no_ack(short: Bench) -> None:
    """The 200 is sent again while its ACK is missing, and the call ends at its limit all the same.

    The caller's own BYE has to wait for 32 s: there is none before the ACK (RFC 3261, section 15).
    """
    remote, port = short.subject.sip_address, short.subject.application_port
    with Sipp(Plan("uas-answer", port=port)) as callee, Sipp(Plan("uac-no-ack", remote=remote)) as caller:
        answered = callee.wait(10)
        seen = caller.outcome()
    assert answered.ok, answered.errors
    assert len(seen.received(200)) >= 2
    check(short, Call(seen, answered), "completed", "max_duration")


def test_bye_before_ack(short: Bench) -> None:
    call = short.call("uac-bye-before-ack", "uas-answer")
    assert call.application.received("BYE")
    check(short, call, "completed", "caller_hangup")


def test_a_recorder_with_ends_that_vanished_takes_the_next_call(short: Bench) -> None:
    with Sipp(Plan("uas-answer", port=short.subject.application_port)) as callee:
        with Sipp(Plan("uac-call", remote=short.subject.sip_address, length_ms=300)) as caller:
            outcome: Outcome = caller.wait()
        callee.wait(5)
    assert outcome.ok, outcome.errors
