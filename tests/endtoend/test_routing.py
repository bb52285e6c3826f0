"""Routes: which one a number takes, and what its numbers are on the other side."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from recorder.loadtest.peers import Plan, Sipp
from recorder.loadtest.subject import HOST, Subject
from tests.endtoend.conftest import Bench, Call


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    subject = Subject(tmp_path_factory.mktemp("recorder"))
    subject.configuration["routes"] = [
        {
            "name": "greece",
            "match": {"called_prefix": "+30", "calling": "555.*"},
            "rewrite": {
                "called": {"strip": 3, "prefix": "0"},
                "calling": {"pattern": "555([0-9]+)", "replacement": "+1555\\1"},
            },
            "target": f"sip:{{user}}@{HOST}:{subject.application_port}",
        }
    ]
    with subject:
        yield Bench(subject)
        assert subject.stop() == 0, subject.log_tail()
    assert subject.trouble() == []


def test_numbers_are_rewritten_on_their_way_out_and_kept_as_they_came_in_the_cdr(bench: Bench) -> None:
    call = bench.call("uac-call", "uas-answer", seconds=0.2, caller_plan={"called": "+302101234"})
    [invite] = call.application.received("INVITE")
    assert invite.first_line == f"INVITE sip:02101234@{HOST}:{bench.subject.application_port} SIP/2.0"
    assert (invite.header("From") or "").startswith(f"<sip:+15550100@{HOST}")
    cdr = bench.cdr(call)
    assert (cdr["called"], cdr["calling"], cdr["details"]["route"]) == ("+302101234", "5550100", "greece")


def test_a_number_that_no_route_takes_is_not_found(bench: Bench) -> None:
    with Sipp(Plan("uac-rejected", remote=bench.subject.sip_address, called="+49301234")) as caller:
        outcome = caller.wait(20)
    assert outcome.ok, outcome.errors
    assert outcome.received(404)
    cdr = bench.cdr(Call(outcome, outcome))
    assert (cdr["result"], cdr["reason"], cdr["sip_status"]) == ("refused", "no_route", 404)
    assert bench.subject.api.metrics()['recorder_calls_refused_total{reason="no_route",trunk="caller"}'] == 1
