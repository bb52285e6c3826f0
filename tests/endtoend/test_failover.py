"""Several targets a route: which failure leads on to the next one, and which does not, with SIPp as every target."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from recorder.loadtest.peers import Outcome, Plan, Sipp
from recorder.loadtest.ports import lease
from recorder.loadtest.subject import HOST, Subject
from tests.endtoend.conftest import Bench, Call
from tests.tones import has_tone

SETUP_S, PATIENCE_S = 0.8, 10
SILENT = (4, 6)  # the targets that answer too late or not at all


class Targets(Bench):
    """A recorder whose calls are tried at `ports`, one after the other."""

    def __init__(self, subject: Subject, ports: list[int]) -> None:
        super().__init__(subject)
        self.ports = ports

    def place(
        self,
        caller: str,
        *applications: str,
        called: str = "1000",
        seconds: float = 0.5,
        edit: Any = (),
        auto_answer: bool = False,
        first: int = 0,
    ) -> tuple[Outcome, list[Outcome], dict[str, Any]]:
        """Call through targets that behave as `applications` say; return what all saw, and the CDR."""
        with ExitStack() as stack:
            targets = [
                stack.enter_context(
                    Sipp(
                        Plan(
                            name,
                            port=port,
                            length_ms=round(seconds * 1000),
                            edit=edit if position == 0 else (),
                            auto_answer=auto_answer,
                        )
                    )
                )
                for position, (name, port) in enumerate(zip(applications, self.ports[first:], strict=False))
            ]
            plan = Plan(caller, remote=self.subject.sip_address, called=called, length_ms=round(seconds * 1000))
            with Sipp(plan) as dialing:
                dialed = dialing.wait(20)
            assert dialed.ok, dialed.errors
            outcomes = [target.wait(20) for target in targets]
        for outcome in outcomes:
            assert outcome.ok, outcome.errors
        return dialed, outcomes, self.cdr(Call(dialed, outcomes[-1]))


def attempts(cdr: dict[str, Any]) -> list[tuple[int | None, str | None]]:
    return [(attempt["sip_status"], attempt["reason"]) for attempt in cdr["details"]["attempts"]]


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Targets]:
    with lease(8) as ports:
        numbers = list(range(ports.first, ports.last + 1))

        def uris(*positions: int, transport: str = "") -> list[dict[str, Any]]:
            return [
                {
                    "uri": f"sip:{{user}}@{HOST}:{numbers[position]}{transport}",
                    "priority": priority,
                    "setup_timeout_s": SETUP_S if position in SILENT else PATIENCE_S,
                }
                for priority, position in enumerate(positions)
            ]

        routes = [
            {"name": "refused", "match": {"called_prefix": "7"}, "targets": [*uris(3, transport=";transport=tcp")]},
            # A target that could not be reached is tried last for a while: others must not get to feel that.
            {"name": "silent", "match": {"called_prefix": "5"}, "targets": uris(4, 5)},
            {"name": "late", "match": {"called_prefix": "6"}, "targets": uris(6, 7)},
            {"name": "follow", "match": {"called_prefix": "8"}, "targets": uris(0), "redirects": "follow"},
            {"name": "application", "targets": uris(0, 1)},
        ]
        routes[0]["targets"] += [target | {"priority": 9} for target in uris(0)]  # type: ignore[operator]
        subject = Subject(tmp_path_factory.mktemp("recorder"), changes={"routes": routes})
        listen = subject.configuration["sip"]["listen"]
        listen.append({"transport": "tcp", "host": HOST, "port": subject.sip_port})
        with subject:
            yield Targets(subject, numbers)
            assert subject.stop() == 0, subject.log_tail()
        assert subject.trouble() == []


def test_reject_503_leads_to_the_next_target(targets: Targets) -> None:
    caller, (first, second), cdr = targets.place("uac-call", "uas-reject-503", "uas-answer")
    assert not caller.received(503)
    assert attempts(cdr) == [(503, "overloaded"), (200, None)]
    assert cdr["details"]["target"] == f"sip:1000@{HOST}:{targets.ports[1]}"
    assert cdr["b_sip_call_id"] == second.received("INVITE")[0].header("Call-ID")
    assert first.received("INVITE")[0].header("Call-ID") != cdr["b_sip_call_id"]


def test_busy_is_the_callees_word_and_crosses_over(targets: Targets) -> None:
    caller, _, cdr = targets.place("uac-rejected", "uas-busy", edit=[("Busy Here", "Gone Fishing")])
    assert caller.received(486)[0].first_line == "SIP/2.0 486 Gone Fishing"
    assert (cdr["result"], cdr["reason"], cdr["sip_status"]) == ("rejected", "busy", 486)
    assert attempts(cdr) == [(486, "busy")]


def test_no_answer_leads_to_the_next_target_which_is_the_first_one_for_a_while(targets: Targets) -> None:
    _, _, cdr = targets.place("uac-call", "uas-no-answer", "uas-answer", called="5000", first=4, seconds=1.5)
    assert attempts(cdr) == [(None, "unreachable"), (200, None)]
    assert SETUP_S - 0.05 < cdr["details"]["attempts"][0]["ended_s"] < PATIENCE_S / 2
    _, _, cdr = targets.place("uac-call", "uas-answer", called="5001", first=5)
    assert attempts(cdr) == [(200, None)]


def test_late_answer_of_a_target_that_was_given_up_is_acknowledged_and_hung_up(targets: Targets) -> None:
    caller, (late, second), cdr = targets.place(
        "uac-call", "uas-late-answer", "uas-answer", called="6000", first=6, seconds=1.8
    )
    assert late.received("ACK")
    assert late.received("BYE")
    assert second.received("BYE")
    assert (cdr["result"], cdr["reason"]) == ("completed", "caller_hangup")
    assert cdr["duration_s"] == pytest.approx(1.8, abs=0.6)
    assert not caller.received("BYE")


@pytest.mark.moments
def test_early_media_503_leads_to_the_next_target_whose_audio_is_recorded(targets: Targets) -> None:
    caller, (_, second), cdr = targets.place("uac-call", "uas-early-media-503", "uas-answer", seconds=1)
    assert caller.received(183)
    assert not caller.received(503)
    assert attempts(cdr) == [(503, "overloaded"), (200, None)]
    kept = targets.kept(Call(caller, second))
    assert has_tone(kept.samples[int(0.6 * kept.rate) : int(0.9 * kept.rate)], 440)


def test_a_refused_connection_leads_to_the_next_target(targets: Targets) -> None:
    _, _, cdr = targets.place("uac-call", "uas-answer", called="7000")
    assert attempts(cdr) == [(None, "unreachable"), (200, None)]
    assert cdr["details"]["attempts"][0]["ended_s"] < PATIENCE_S / 2


def test_the_last_target_has_the_last_word(targets: Targets) -> None:
    caller, _, cdr = targets.place("uac-rejected", "uas-reject-503", "uas-reject-404")
    assert caller.received(404)
    assert attempts(cdr) == [(503, "overloaded"), (404, "not_found")]


def test_cancel_stops_the_search(targets: Targets) -> None:
    _, (_, ringing), cdr = targets.place("uac-cancel", "uas-reject-503", "uas-ring")
    assert ringing.received("CANCEL")
    assert attempts(cdr) == [(503, "overloaded"), (None, "caller_cancelled")]
    assert (cdr["result"], cdr["reason"]) == ("cancelled", "caller_cancelled")


MOVED = "Contact: <sip:9001234567@198.51.100.1>"


def test_redirect_goes_back_to_the_caller_with_where_it_points_to(targets: Targets) -> None:
    elsewhere = "Contact: <sip:9@198.51.100.1>;q=0.2, <sip:8@198.51.100.2:5080;transport=tcp>"
    caller, _, cdr = targets.place("uac-rejected", "uas-redirect", edit=[(MOVED, elsewhere)])
    [answer] = caller.received(302)
    assert answer.first_line == "SIP/2.0 302 Moved Temporarily"
    contacts = re.findall(rb"^Contact: (.*?)\r$", answer.raw, re.MULTILINE)
    assert contacts == [b"<sip:8@198.51.100.2:5080;transport=tcp>;q=1", b"<sip:9@198.51.100.1>;q=0.2"]
    assert (cdr["result"], cdr["reason"], cdr["sip_status"]) == ("rejected", "redirected", 302)


def test_redirect_is_followed_where_the_route_says_so(targets: Targets) -> None:
    there = f"Contact: <sip:77@{HOST}:{targets.ports[1]}>"
    caller, (_, second), cdr = targets.place(
        "uac-call", "uas-redirect", "uas-answer", called="8000", edit=[(MOVED, there)]
    )
    assert not caller.received(302)
    assert second.received("INVITE")[0].first_line == f"INVITE sip:77@{HOST}:{targets.ports[1]} SIP/2.0"
    assert attempts(cdr) == [(302, "redirected"), (200, None)]


def test_redirect_in_a_circle_ends_the_call(targets: Targets) -> None:
    back = f"Contact: <sip:8000@{HOST}:{targets.ports[0]}>"
    caller, _, cdr = targets.place("uac-rejected", "uas-redirect", called="8000", edit=[(MOVED, back)])
    assert caller.received(480)
    assert attempts(cdr) == [(302, "redirected")]


def test_options_tell_which_target_is_up(tmp_path: Path) -> None:
    """A target that does not answer OPTIONS is down and tried last; with its first answer it is up again."""
    with lease(2) as ports:
        first, second = (f"sip:{{user}}@{HOST}:{port}" for port in (ports.first, ports.last))
        targets = [
            {"uri": first, "priority": 1, "options_interval_s": 1},
            {"uri": second, "priority": 2},
        ]
        changes = {"routes": [{"name": "application", "targets": targets}]}
        with Subject(tmp_path, changes=changes) as subject:
            bench = Targets(subject, [ports.last])
            metric = f'recorder_target_up{{target="sip:{HOST}:{ports.first}"}}'
            assert subject.api.metrics()[metric] == 1
            Bench.eventually(lambda: subject.api.metrics()[metric] == 0 or None, "the target to be down", 30)
            _, _, cdr = bench.place("uac-call", "uas-answer", seconds=0.2)
            assert attempts(cdr) == [(200, None)]  # the one that is down came last
            with Sipp(Plan("uas-options", port=ports.first, calls=1)) as target:
                outcome = target.wait(30)
            assert outcome.ok, outcome.errors
            options = outcome.received("OPTIONS")[0]
            assert options.first_line == f"OPTIONS sip:{HOST}:{ports.first} SIP/2.0"
            assert options.header("User-Agent") == "recorder"
            Bench.eventually(lambda: subject.api.metrics()[metric] == 1 or None, "the target to be up")
            bench.ports = [ports.first]
            _, _, cdr = bench.place("uac-call", "uas-answer", seconds=0.2, auto_answer=True)
            assert cdr["details"]["target"] == first.replace("{user}", "1000")
            assert subject.stop() == 0, subject.log_tail()
            events = [line["event"] for line in subject.log_lines() if line["event"].startswith("target_")]
            assert events == ["target_down", "target_up"]
        assert subject.trouble() == []
