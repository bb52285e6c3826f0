"""What keeps a call out, what ends it by itself, and how a recorder that is told to stop takes its leave."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from recorder.loadtest.peers import Outcome, Plan, Sipp
from recorder.loadtest.subject import HOST, Api, Subject
from tests.endtoend.conftest import Bench

TRUNK = {"name": "caller", "sources": ["127.0.0.0/8"]}


def refused(subject: Subject) -> Outcome:
    """Place a call that must be turned away with 503."""
    with Sipp(Plan("uac-rejected", remote=subject.sip_address)) as caller:
        outcome = caller.wait(20)
    assert outcome.ok, outcome.errors
    assert outcome.received(503), [message.first_line for message in outcome.messages]
    return outcome


def refusals(subject: Subject, reason: str) -> float:
    return subject.api.metrics().get(f'recorder_calls_refused_total{{reason="{reason}",trunk="caller"}}', 0)


def call_that_is_up(stack: ExitStack, subject: Subject, length_ms: int, calls: int = 1) -> Sipp:
    """Begin calls that hang up after `length_ms`; return the caller once they are all up."""
    stack.enter_context(Sipp(Plan("uas-answer", port=subject.application_port, calls=calls)))
    caller = stack.enter_context(
        Sipp(Plan("uac-call", remote=subject.sip_address, length_ms=length_ms, calls=calls, rate=50))
    )
    Bench.eventually(
        lambda: sum(call["state"] == "up" for call in subject.api.get("calls")["calls"]) == calls or None, "the calls"
    )
    return caller


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Any]:
    with ExitStack() as stack:

        def start(**changes: Any) -> Subject:
            return stack.enter_context(Subject(tmp_path, changes=changes))

        yield start


def test_trunk_capacity_is_answered_503_and_free_again_when_a_call_ends(started: Any) -> None:
    subject = started(trunks=[TRUNK | {"max_calls": 2}])
    with ExitStack() as stack:
        caller = call_that_is_up(stack, subject, 3000, calls=2)
        outcome = refused(subject)
        assert outcome.received(503)[0].header("Retry-After") == "5"
        assert caller.wait(20).ok
    assert refusals(subject, "trunk_capacity") == 1
    cdr = next(cdr for cdr in subject.api.get("cdrs")["cdrs"] if cdr["reason"] == "trunk_capacity")
    assert (cdr["result"], cdr["sip_status"], cdr["recorded"], cdr["details"]["trunk"]) == (
        "refused",
        503,
        False,
        "caller",
    )
    Bench.eventually(lambda: subject.api.get("calls")["calls"] == [] or None, "the end of both calls")
    Bench(subject).call("uac-call", "uas-answer", seconds=0.2)


def test_trunk_rate_is_answered_503_until_there_is_a_token_again(started: Any) -> None:
    subject = started(trunks=[TRUNK | {"calls_per_second": 0.3, "calls_burst": 1}])
    Bench(subject).call("uac-call", "uas-answer", seconds=0.2)
    retry_after = refused(subject).received(503)[0].header("Retry-After")
    assert retry_after in ("1", "2", "3", "4")
    assert refusals(subject, "trunk_rate") == 1
    time.sleep(int(retry_after))  # what it says is enough
    Bench(subject).call("uac-call", "uas-answer", seconds=0.2)


class AliveApi(Api):
    def is_ready(self) -> bool:
        """Whether it runs: with a full disk /readyz says 503, as it should."""
        with contextlib.suppress(OSError):
            return self.request("/healthz")[0] == 200
        return False


class FullSubject(Subject):
    """A recorder that holds its disk for full."""

    def __init__(self, folder: Path, policy: str) -> None:
        super().__init__(folder, changes={"recording": {"disk_floor_mb": 10**9, "when_disk_full": policy}})

    @property
    def api(self) -> Api:
        return AliveApi(HOST, self.http_port, self.token)


def test_below_the_floor_of_the_disk_a_call_is_recorded_as_far_as_there_is_room(tmp_path: Path) -> None:
    with FullSubject(tmp_path, "connect") as subject:
        Bench.eventually(lambda: subject.api.metrics().get("recorder_disk_free_bytes") or None, "the first look")
        call = Bench(subject).call("uac-call", "uas-answer", seconds=0.3)
        assert Bench(subject).kept(call).manifest["gaps"] == []
        assert subject.api.request("/readyz")[0] == 503


def test_below_the_floor_of_the_disk_a_call_is_refused_where_it_must_be_recorded(tmp_path: Path) -> None:
    with FullSubject(tmp_path, "refuse") as subject:
        Bench.eventually(lambda: subject.api.metrics().get("recorder_disk_free_bytes") or None, "the first look")
        assert refused(subject).received(503)[0].header("Retry-After") == "60"
        assert refusals(subject, "disk_full") == 1


def test_a_call_that_lasts_too_long_is_hung_up_on_both_sides(started: Any) -> None:
    subject = started(sip={"max_call_s": 1})
    call = Bench(subject).call("uac-wait-bye", "uas-answer")
    assert call.application.received("BYE")
    cdr = Bench(subject).cdr(call)
    assert (cdr["result"], cdr["reason"]) == ("completed", "max_duration")
    assert 0.9 < cdr["duration_s"] < 2.5
    assert Bench(subject).kept(call).manifest["duration_s"] == pytest.approx(cdr["duration_s"], abs=0.1)


def test_draining_refuses_new_calls_and_leaves_when_the_last_one_is_over(started: Any) -> None:
    subject = started(sip={"drain_timeout_s": 30})
    with ExitStack() as stack:
        caller = call_that_is_up(stack, subject, 3000)
        os.kill(subject.pid, signal.SIGTERM)
        Bench.eventually(lambda: any(line["event"] == "draining" for line in subject.log_lines()) or None, "the drain")
        assert refused(subject).received(503)[0].header("Retry-After") == "30"
        assert caller.wait(20).ok
        over = time.monotonic()
        assert subject.stop() == 0, subject.log_tail()
        assert time.monotonic() - over < 10
    assert subject.trouble() == []


def test_draining_ends_at_its_limit_with_the_calls_that_are_left_hung_up(started: Any) -> None:
    subject = started(sip={"drain_timeout_s": 1})
    with ExitStack() as stack:
        stack.enter_context(Sipp(Plan("uas-answer", port=subject.application_port)))
        caller = stack.enter_context(Sipp(Plan("uac-wait-bye", remote=subject.sip_address)))
        Bench.eventually(
            lambda: [call for call in subject.api.get("calls")["calls"] if call["state"] == "up"] or None, "the call"
        )
        assert subject.stop() == 0, subject.log_tail()
        outcome = caller.wait(20)
        assert outcome.ok, outcome.errors
    [line] = [line for line in subject.log_lines() if line["event"] == "call"]
    assert (line["result"], line["reason"], line["recorded"]) == ("completed", "shutdown", True)


def test_a_second_signal_does_not_wait(started: Any) -> None:
    subject = started(sip={"drain_timeout_s": 60})
    with ExitStack() as stack:
        call_that_is_up(stack, subject, 60000)
        os.kill(subject.pid, signal.SIGTERM)
        Bench.eventually(lambda: any(line["event"] == "draining" for line in subject.log_lines()) or None, "the drain")
        begun = time.monotonic()
        assert subject.stop() == 0, subject.log_tail()  # sends another one
        assert time.monotonic() - begun < 15
    assert len(list(subject.recordings.glob("*.wav"))) == 1
