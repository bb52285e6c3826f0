"""Control of the recording by every shape that there is, by operators, and who is refused: with real calls."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from recorder.loadtest.peers import Plan, Sipp
from recorder.loadtest.subject import Api, Subject
from recorder.loadtest.tones import Codec, write_raw
from tests.endtoend.conftest import CHANGES, Bench, Call, Kept, check_silent
from tests.tones import amplitude_of, sine

pytestmark = pytest.mark.moments

REDACTION = {
    "guard_before_ms": 100,
    "header": {
        "name": "X-Recording",
        "mute": "pause(;step=(?P<step>.*))?",
        "unmute": "resume(;step=(?P<step>.*))?",
    },
    "info_package": "x-recording",
}
DESK = "desk-token"


def subject_in(folder: Path) -> Subject:
    """A recorder that knows the configurable shapes, and a token that may control calls."""
    subject = Subject(folder, changes={**CHANGES, "redaction": REDACTION})
    desk = {"name": "desk", "may": ["control"], "sha256": hashlib.sha256(DESK.encode()).hexdigest()}
    subject.configuration["http"]["tokens"].append(desk)
    return subject


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One for the whole module; at its end it must leave in peace and have logged no error."""
    subject = subject_in(tmp_path_factory.mktemp("recorder"))
    with subject:
        yield Bench(subject)
        assert subject.stop() == 0, subject.log_tail()
    assert subject.trouble() == []


@pytest.fixture
def desk(bench: Bench) -> Api:
    return Api("127.0.0.1", bench.subject.http_port, DESK)


def steady(folder: Path) -> dict[str, dict[str, Any]]:
    """440 Hz from the caller and 880 Hz from the application, throughout."""
    return {
        "caller_plan": {"sounds": {"caller.ulaw": write_raw(folder / "caller.ulaw", sine(440, 1.0), Codec.PCMU)}},
        "application_plan": {
            "sounds": {"callee.ulaw": write_raw(folder / "callee.ulaw", sine(880, 1.0), Codec.PCMU)},
            "variables": {"mute_after": 500, "mute_for": 400},
        },
    }


@dataclass(frozen=True, slots=True)
class Asked:
    """When the application asked for something and had its answer, in seconds of the recording."""

    sent: float
    answered: float


def asked(call: Call, kept: Kept, method: str = "INFO") -> list[Asked]:
    """The requests of the application, in their order, by the clock that the recording goes by."""
    origin = kept.manifest["answered_ms"] / 1000
    answers = {m.header("CSeq"): m.time_s for m in call.application.messages if not m.sent and (m.status or 0) >= 200}
    return [Asked(m.time_s - origin, answers[m.header("CSeq")] - origin) for m in call.application.sent(method)]


def both_heard(kept: Kept, begin_s: float, end_s: float) -> bool:
    part = kept.samples[int(begin_s * kept.rate) : int(end_s * kept.rate)]
    assert len(part) >= kept.rate // 20
    return min(amplitude_of(part, 440, kept.rate), amplitude_of(part, 880, kept.rate)) > 6000


def check_muted(kept: Kept, begin: Asked, end: Asked) -> None:
    """Exact silence from the answer to `begin` until `end` is asked; both voices up to the guards around that."""
    first, last = int(begin.answered * kept.rate), int(end.sent * kept.rate)
    check_silent(kept.samples[first : max(first, last - kept.rate // 2)])
    assert not kept.samples[first:last].any()
    assert both_heard(kept, begin.sent - 0.3, begin.sent - 0.15)
    assert both_heard(kept, end.answered + 0.1, end.answered + 0.25)


def audit(bench: Bench, dialog_id: str, count: int) -> list[dict[str, Any]]:
    """What the audit has of a call, oldest first, once these many entries are there."""

    def there() -> list[dict[str, Any]] | None:
        found = bench.subject.api.get("audit", dialog_id=dialog_id)["entries"]
        return found[::-1] if len(found) >= count else None

    entries: list[dict[str, Any]] = bench.eventually(there, f"{count} entries of the audit")
    assert len(entries) == count
    return entries


def statuses(call: Call, side: str = "application") -> list[int | None]:
    """The answers to the INFO requests of one side, by CSeq."""
    outcome = call.application if side == "application" else call.caller
    answers = {m.header("CSeq"): m.status for m in outcome.messages if not m.sent and m.status}
    return [answers[m.header("CSeq")] for m in outcome.sent("INFO")]


@pytest.mark.parametrize(
    ("scenario", "shape", "step", "end"),
    [
        ("uas-mute-audiocodes", "X-AC-Action", "", "unmute"),
        ("uas-mute-jambonz", "X-Reason", "", "unmute"),
        ("uas-mute-text", "text/plain", "", "unmute"),
        ("uas-mute-header", "X-Recording", "card", "unmute"),
        ("uas-answer-mute", "Record", "", "start"),
    ],
)
def test_a_step_by_each_shape(bench: Bench, tmp_path: Path, scenario: str, shape: str, step: str, end: str) -> None:
    call = bench.call("uac-call", scenario, seconds=1.8, **steady(tmp_path))
    kept = bench.kept(call)
    mute, unmute = asked(call, kept)
    check_muted(kept, mute, unmute)
    [span] = kept.manifest["redactions"]
    assert (span["control"], span["step"], span["operators"], span["resumed"]) == (
        "application",
        step or None,
        [],
        True,
    )
    cdr = bench.cdr(call)
    for entry, action in zip(audit(bench, cdr["id"], 2), ("mute", end), strict=True):
        assert entry["actor"] == "application"
        assert (entry["action"], entry["shape"], entry["step"], entry["result"]) == (action, shape, step, "accepted")
        assert entry["muted"] is (action == "mute")
        assert entry["source"] == f"127.0.0.1:{bench.subject.application_port}"
        assert entry["sip_call_id"] == cdr["b_sip_call_id"]
        request = mute if action == "mute" else unmute
        at_s = (entry["at_ms"] - kept.manifest["answered_ms"]) / 1000
        assert request.sent - 0.25 < at_s <= request.answered + 0.001  # SIPp notes the time when it has sent it


def test_mute_info_package(bench: Bench, tmp_path: Path) -> None:
    """The application is offered the package; what is in none of its bodies is refused and changes nothing."""
    call = bench.call("uac-call", "uas-mute-info-package", seconds=1.9, **steady(tmp_path))
    assert statuses(call) == [200, 400, 415, 200]
    unsupported = next(m for m in call.application.received(415))
    assert unsupported.header("Accept") == "application/json, text/plain"
    kept = bench.kept(call)
    mute, *_, unmute = asked(call, kept)
    check_muted(kept, mute, unmute)
    assert kept.manifest["redactions"][0]["step"] == "card"


def test_recv_info_crosses_and_ours_is_for_the_application_alone(bench: Bench) -> None:
    call = bench.call(
        "uac-call",
        "uas-answer",
        seconds=0.2,
        caller_plan={"edit": [("Max-Forwards: 70\nAllow", "Max-Forwards: 70\nRecv-Info: x-caller\nAllow")]},
        application_plan={"edit": [("Allow: INVITE", "Recv-Info: x-application\nAllow: INVITE")]},
    )
    assert call.application.received("INVITE")[0].header("Recv-Info") == "x-recording, x-caller"
    assert call.caller.received(200)[0].header("Recv-Info") == "x-application"


def test_mute_sdp(bench: Bench, tmp_path: Path) -> None:
    """RFC 7866: paused in one re-INVITE, not spoken of in the next, on again in the third."""
    plans = steady(tmp_path)
    plans["application_plan"] |= {"length_ms": 600, "variables": {}}
    call = bench.call("uac-call", "uas-mute-sdp", seconds=2.6, **plans)
    kept = bench.kept(call)
    begin, _, end = asked(call, kept, "INVITE")
    check_muted(kept, begin, end)
    [span] = kept.manifest["redactions"]
    assert (span["step"], span["control"], span["resumed"]) == ("a=record", "application", True)
    entries = audit(bench, bench.cdr(call)["id"], 2)
    assert [(it["action"], it["shape"]) for it in entries] == [("mute", "SDP"), ("unmute", "SDP")]


def test_mute_sdp_by_update(bench: Bench, tmp_path: Path) -> None:
    """The same by UPDATE, for the session instead of the medium."""
    session = "s=-\nc=IN IP[media_ip_type] [media_ip]\nt=0 0\n"
    third = "o=- 1 3 IN IP[local_ip_type] [local_ip]\n"
    plans = steady(tmp_path)
    plans["application_plan"] |= {
        "length_ms": 600,
        "variables": {},
        "edit": [
            ("a=sendonly\n", "a=sendrecv\na=record:paused\n"),
            (f"{third}{session}", f"{third}{session}a=recordpref:on\n"),
        ],
    }
    call = bench.call("uac-call", "uas-update", seconds=2.0, **plans)
    kept = bench.kept(call)
    _, begin, end = asked(call, kept, "UPDATE")
    check_muted(kept, begin, end)


def test_sdp_from_the_answer_on(bench: Bench, tmp_path: Path) -> None:
    """An application that answers with a preference for no recording has none, from the first sample on."""
    plans = steady(tmp_path)
    plans["application_plan"] = {
        "sounds": plans["application_plan"]["sounds"],
        "edit": [("t=0 0\n", "t=0 0\na=recordpref:off\n")],
    }
    call = bench.call("uac-call", "uas-answer", seconds=0.6, **plans)
    kept = bench.kept(call)
    assert len(kept.samples) > 0.4 * kept.rate
    check_silent(kept.samples)
    assert not kept.manifest["redactions"][0]["resumed"]


def test_the_callers_sdp_controls_nothing(bench: Bench, tmp_path: Path) -> None:
    plans = steady(tmp_path)
    plans["caller_plan"]["edit"] = [("a=sendrecv\n", "a=sendrecv\na=record:paused\na=recordpref:off\n")]
    plans["application_plan"]["variables"] = {}
    call = bench.call("uac-call", "uas-answer", seconds=0.6, **plans)
    kept = bench.kept(call)
    assert kept.manifest["redactions"] == []
    assert both_heard(kept, 0.2, 0.5)


def test_mute_steps(bench: Bench, tmp_path: Path) -> None:
    """Steps that overlap, each said twice: silence from the first one's begin to the last one's end."""
    call = bench.call("uac-call", "uas-mute-steps", seconds=2.2, **steady(tmp_path))
    assert statuses(call) == [200, 200, 481, 200, 200, 200, 481, 481, 200, 200]
    kept = bench.kept(call)
    requests = asked(call, kept)
    check_muted(kept, requests[0], requests[8])
    [span] = kept.manifest["redactions"]
    assert (span["step"], span["resumed"]) == ("card,pin", True)
    entries = audit(bench, bench.cdr(call)["id"], 10)
    assert [it["reason"] for it in entries] == ["", "", *["unknown_step"], "", "", "", *["unknown_step"] * 2, "", ""]
    assert [it["muted"] for it in entries] == [True] * 8 + [False] * 2


def test_control_refused(bench: Bench, tmp_path: Path) -> None:
    """What an application says in contradiction or nonsense is refused, and leaves sound or silence as it was."""
    call = bench.call("uac-call", "uas-control-refused", seconds=1.6, **steady(tmp_path))
    assert statuses(call) == [400, 400, 200, 400, 400, 400, 481]
    kept = bench.kept(call)
    requests = asked(call, kept)
    assert both_heard(kept, requests[1].answered + 0.05, requests[2].sent - 0.15)
    check_silent(kept.samples[int(requests[2].answered * kept.rate) :])
    reasons = [it["reason"] for it in audit(bench, bench.cdr(call)["id"], 7)]
    assert reasons == ["contradictory", "malformed", "", *["contradictory"] * 3, "unknown_step"]


def test_control_refused_of_the_caller(bench: Bench, tmp_path: Path) -> None:
    """The caller's side may not, by any shape: what is muted stays muted."""
    before = bench.subject.api.metrics().get('recorder_redactions_refused_total{reason="caller_side"}', 0)
    plans = steady(tmp_path)
    plans["application_plan"]["variables"] = {"mute_after": 300}
    call = bench.call("uac-control-refused", "uas-mute-forever", seconds=0.7, **plans)
    assert statuses(call, "caller") == [403] * 14
    assert not call.application.received("INFO")
    kept = bench.kept(call)
    [mute] = asked(call, kept)
    check_silent(kept.samples[int(mute.answered * kept.rate) :])
    assert bench.subject.api.metrics()['recorder_redactions_refused_total{reason="caller_side"}'] == before + 14
    cdr = bench.cdr(call)
    refused = [it for it in audit(bench, cdr["id"], 15) if it["actor"] == "caller"]
    assert {(it["result"], it["reason"], it["sip_call_id"]) for it in refused} == {
        ("refused", "caller_side", cdr["a_sip_call_id"])
    }
    assert len(refused) == 14


def test_control_refused_of_the_caller_mutes_nothing(bench: Bench, tmp_path: Path) -> None:
    plans = steady(tmp_path)
    call = bench.call("uac-control-refused", "uas-answer", seconds=0.4, caller_plan=plans["caller_plan"])
    assert bench.kept(call).manifest["redactions"] == []


def test_start_refused(bench: Bench) -> None:
    """A call that is not recorded: nobody can have it recorded; its sensitive steps are taken."""
    call = bench.call(
        "uac-call",
        "uas-start-refused",
        seconds=0.8,
        caller_plan={"called": "200"},
        application_plan={"variables": {"mute_after": 100}},
    )
    assert statuses(call) == [403, 403, 403, 403, 200, 200, 200, 200]
    assert bench.cdr(call)["recorded"] is False


def test_who_is_record_aware_is_told_that_it_is_recorded(bench: Bench) -> None:
    """RFC 7866, section 6.1.2: in every SDP from then on, and nobody else."""
    aware = ("Max-Forwards: 70\nAllow", "Max-Forwards: 70\nSupported: record-aware\nAllow")
    both = bench.call(
        "uac-hold",
        "uas-held",
        seconds=0.3,
        caller_plan={"edit": [aware]},
        application_plan={"edit": [("Allow: INVITE", "Supported: timer, record-aware\nAllow: INVITE")]},
    )
    assert [b"a=record:on" in m.body for m in both.caller.received(200) if m.body] == [True] * 3
    assert [b"a=record:on" in m.body for m in both.application.received("INVITE")] == [False, True, True]
    for plan in ({"edit": [aware], "called": "200"}, {}):  # a call that is not recorded, a caller that is not aware
        call = bench.call("uac-call", "uas-answer", seconds=0.1, caller_plan=plan)
        sdp = [m.body for outcome in (call.caller, call.application) for m in outcome.messages if not m.sent and m.body]
        assert len(sdp) == 2
        assert not any(b"a=record" in body for body in sdp)


# Operators ------------------------------------------------------------------------------------------------------------


class LiveCall:
    """A call that goes on while a test acts on it."""

    def __init__(self, bench: Bench, folder: Path, application: str, seconds: float, **plan: Any) -> None:
        plans = steady(folder)
        port = bench.subject.application_port
        variables = plan.pop("variables", {})
        application_plan = {**plans["application_plan"], "variables": variables, "length_ms": 300, **plan}
        self.callee = Sipp(Plan(application, port=port, **application_plan))
        remote, length_ms = bench.subject.sip_address, round(seconds * 1000)
        self.dialing = Sipp(Plan("uac-call", remote=remote, length_ms=length_ms, **plans["caller_plan"]))
        self.bench = bench

    def __enter__(self) -> LiveCall:
        self.callee.start()
        self.dialing.start()
        self.dialog_id: str = self.bench.eventually(self._dialog_id, "the live call")
        return self

    def __exit__(self, *_: object) -> None:
        self.dialing.close()
        self.callee.close()

    def _dialog_id(self) -> str | None:
        calls = self.bench.subject.api.get("calls")["calls"]
        return calls[0]["dialog_id"] if calls else None

    def shown(self) -> dict[str, Any]:
        """The call as the API shows it."""
        return dict(self.bench.subject.api.get("calls")["calls"][0])

    def wait_until(self, **values: Any) -> None:
        """Wait until the API shows the call so."""
        self.bench.eventually(lambda: values.items() <= self.shown().items() or None, f"a call with {values}")

    def over(self) -> Call:
        """The whole call, once it is over."""
        dialed, answered = self.dialing.wait(), self.callee.wait(10)
        assert dialed.ok, f"caller: {dialed.errors}"
        assert answered.ok, f"application: {answered.errors}"
        return Call(dialed, answered)


def ask(api: Api, dialog_id: str, verb: str, **said: str) -> tuple[int, Any]:
    method, path = ("DELETE", "") if verb == "hang_up" else ("POST", f"/{verb}")
    body = json.dumps(said).encode() if said else None
    status, answer = api.request(f"/api/v1/calls/{dialog_id}{path}", None, method, body)
    return status, json.loads(answer) if answer else None


def test_an_operator_mutes_and_unmutes(bench: Bench, desk: Api, tmp_path: Path) -> None:
    with LiveCall(bench, tmp_path, "uas-answer", 2.4) as live:
        live.wait_until(state="up")
        threading.Event().wait(0.6)  # of sound
        status, answer = ask(desk, live.dialog_id, "mute", step="id", reason="reads an identity card")
        assert (status, answer["call"]["muted"]) == (200, True)
        assert answer["call"]["steps"] == [{"control": "operator", "step": "id", "who": "desk"}]
        assert ask(desk, live.dialog_id, "mute", step="id")[0] == 200
        threading.Event().wait(0.3)
        assert ask(desk, live.dialog_id, "unmute", step="card")[0] == 409
        assert live.shown()["muted"]
        status, answer = ask(desk, live.dialog_id, "unmute", step="id")
        assert (status, answer["call"]["muted"]) == (200, False)
        status, problem = ask(desk, live.dialog_id, "unmute", step="id")
        assert (status, problem["type"], problem["status"]) == (409, "/api/docs#problem-conflict", 409)
        call = live.over()
    entries = audit(bench, live.dialog_id, 5)
    kept = bench.kept(call)
    moments = [(it["at_ms"] - kept.manifest["answered_ms"]) / 1000 for it in entries]
    check_muted(kept, Asked(moments[0] - 0.01, moments[0]), Asked(moments[3] - 0.01, moments[3]))
    [span] = kept.manifest["redactions"]
    assert (span["control"], span["operators"], span["step"]) == ("operator", ["desk"], "id")
    assert {(it["actor"], it["who"], it["shape"]) for it in entries} == {("operator", "desk", "HTTP")}
    assert [it["action"] for it in entries] == ["mute", "mute", "unmute", "unmute", "unmute"]
    assert [it["reason"] for it in entries] == ["", "", "unknown_step", "", "unknown_step"]
    assert entries[0]["note"] == "reads an identity card"
    assert entries[0]["source"].startswith("127.0.0.1:")


def test_an_operator_and_the_application_end_their_own_steps(bench: Bench, desk: Api, tmp_path: Path) -> None:
    variables = {"mute_after": 200, "mute_for": 600}
    with LiveCall(bench, tmp_path, "uas-answer-mute", 2.0, variables=variables) as live:
        live.wait_until(muted=True)
        assert ask(desk, live.dialog_id, "unmute")[0] == 409
        assert ask(desk, live.dialog_id, "mute")[0] == 200
        live.wait_until(steps=[{"control": "operator", "step": "", "who": "desk"}])
        assert ask(desk, live.dialog_id, "unmute")[0] == 200
        live.wait_until(muted=False)
        kept = bench.kept(live.over())
    [span] = kept.manifest["redactions"]
    assert (span["control"], span["operators"], span["resumed"]) == ("application,operator", ["desk"], True)
    assert span["duration_s"] > 0.6


def test_an_operator_mutes_before_the_answer(bench: Bench, desk: Api, tmp_path: Path) -> None:
    with LiveCall(bench, tmp_path, "uas-ring-answer", 0.6, length_ms=600) as live:
        live.wait_until(state="ringing")
        assert ask(desk, live.dialog_id, "mute")[0] == 200
        kept = bench.kept(live.over())
    assert len(kept.samples) > 0.4 * kept.rate
    check_silent(kept.samples)
    [span] = kept.manifest["redactions"]
    assert (span["control"], span["operators"], span["resumed"]) == ("operator", ["desk"], False)


def test_an_operator_hangs_up(bench: Bench, desk: Api) -> None:
    port = bench.subject.application_port
    with (
        Sipp(Plan("uas-answer", port=port)) as callee,
        Sipp(Plan("uac-wait-bye", remote=bench.subject.sip_address)) as dialing,
    ):
        live = bench.eventually(lambda: bench.subject.api.get("calls")["calls"] or None, "the call")
        dialog_id = live[0]["dialog_id"]
        bench.eventually(lambda: bench.subject.api.get("calls")["calls"][0]["state"] == "up" or None, "its answer")
        assert ask(bench.subject.api, dialog_id, "hang_up")[0] == 403
        assert ask(desk, dialog_id, "hang_up", reason="asked for it")[0] == 204
        dialed, answered = dialing.wait(), callee.wait(10)
    assert dialed.ok
    assert answered.ok
    cdr = bench.cdr_where("id", dialog_id)
    assert (cdr["result"], cdr["reason"], cdr["recorded"]) == ("completed", "operator", True)
    assert ask(desk, dialog_id, "hang_up")[0] == 404
    assert ask(desk, dialog_id, "mute")[0] == 404
    entries = audit(bench, dialog_id, 4)
    assert [(it["who"], it["action"], it["result"], it["reason"]) for it in entries] == [
        ("loadtest", "hang_up", "refused", "no_right"),
        ("desk", "hang_up", "accepted", ""),
        ("desk", "hang_up", "refused", "no_such_call"),
        ("desk", "mute", "refused", "no_such_call"),
    ]
    assert entries[1]["note"] == "asked for it"


def test_controls_while_the_call_ends(bench: Bench, desk: Api, tmp_path: Path) -> None:
    """Whoever asks at any moment of the end gets an answer that is true, and what was muted stays silent."""
    with LiveCall(bench, tmp_path, "uas-answer", 0.5) as live:
        live.wait_until(state="up")
        answers = [ask(desk, live.dialog_id, "mute")[0]]
        while answers[-1] != 404:
            answers.append(ask(desk, live.dialog_id, "mute")[0])
        kept = bench.kept(live.over())
    assert answers[0] == 200
    assert set(answers) <= {200, 404, 409}
    [span] = kept.manifest["redactions"]
    check_silent(kept.samples[span["start_sample"] :])


def test_a_playback_is_in_the_audit(bench: Bench) -> None:
    call = bench.call("uac-call", "uas-answer", seconds=0.2)
    dialog_id = bench.cdr(call)["id"]
    assert bench.subject.api.request(f"/api/v1/recordings/{dialog_id}/audio")[0] == 200
    [entry] = audit(bench, dialog_id, 1)
    assert (entry["actor"], entry["who"], entry["action"]) == ("operator", "loadtest", "play")


def test_the_audit_outlives_an_index_that_is_held_and_a_crash(tmp_path: Path) -> None:
    """While the index cannot be written a mute holds as ever; who asked for it is known after a SIGKILL, too."""
    with subject_in(tmp_path) as subject:
        bench, desk = Bench(subject), Api("127.0.0.1", subject.http_port, DESK)
        with LiveCall(bench, tmp_path, "uas-answer", 8) as live:
            live.wait_until(state="up")
            with closing(sqlite3.connect(subject.recordings / "index.sqlite", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                assert ask(desk, live.dialog_id, "mute", step="id")[0] == 200
                subject.kill()  # at once: what has been answered is written down
                spills = [*subject.recordings.glob("unindexed-*.audit")]
                assert spills
                other.execute("ROLLBACK")
        subject.start()
        entries = bench.subject.api.get("audit")["entries"][::-1]
        actions = [it["action"] for it in entries]
        assert actions == ["begin", "configure", "mute", "begin", "configure", "recover"]
        assert (entries[2]["dialog_id"], entries[2]["who"], entries[2]["step"]) == (live.dialog_id, "desk", "id")
        assert entries[4]["reason"] == "unchanged"
        assert entries[5]["note"] == "repaired 1, indexed 1, failed 0"
        assert not any(path.exists() for path in spills)
