"""The stack gives a call's number anew as soon as the call is over: no call may answer for the one before it."""

from __future__ import annotations

import time
from pathlib import Path

from recorder.loadtest.peers import HOST, Plan, Sipp
from recorder.loadtest.ports import lease
from recorder.loadtest.subject import Subject

CALLS = 250
SILENT = 20


def test_a_number_that_is_given_anew_belongs_to_the_new_call_alone(tmp_path: Path) -> None:
    """Calls that wait for a target that says nothing keep their numbers, and have the others given anew at once."""
    with lease(1) as silent:
        routes = [
            {
                "name": "silent",
                "match": {"called": "9.*"},
                "targets": [{"uri": f"sip:{{user}}@{HOST}:{silent.first}", "setup_timeout_s": 1}],
            },
        ]
        subject = Subject(tmp_path, calls=100, changes={"sip": {"drain_timeout_s": 0}})
        subject.configuration["routes"] = routes + subject.configuration["routes"]
        with subject:
            waiting = Plan(
                "uac-rejected", remote=subject.sip_address, calls=SILENT, rate=100, called="900", trace=False
            )
            with (
                Sipp(Plan("uas-answer", port=subject.application_port, calls=CALLS, trace=False)) as callee,
                Sipp(waiting) as silenced,
            ):
                calling = Plan("uac-call", remote=subject.sip_address, calls=CALLS, rate=50, length_ms=50, trace=False)
                with Sipp(calling) as caller:
                    called = caller.wait()
                answered = callee.wait(5)
                given_up = silenced.wait()
            assert called.ok, called.errors
            assert answered.ok, answered.errors
            assert given_up.ok, given_up.errors
            end = time.monotonic() + 30
            while (metrics := subject.api.metrics())["recorder_calls_live"] and time.monotonic() < end:
                time.sleep(0.05)
            assert metrics["recorder_calls_live"] == 0
            assert metrics['recorder_calls_ended_total{reason="caller_hangup",result="completed"}'] == CALLS
            assert metrics['recorder_calls_ended_total{reason="unreachable",result="failed"}'] == SILENT
        assert subject.trouble() == []
        assert not [line for line in subject.log_lines() if line["event"] == "illegal_event"]
