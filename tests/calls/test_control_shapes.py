"""Which INFO requests control the recording, by which shape, and that no other does."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.calls.control_shapes import Shapes
from recorder.calls.events import InfoReceived, Side
from recorder.calls.recording_control import Control, ControlRefusedError, Verb
from recorder.settings import ControlHeader, Redaction

Fields = tuple[tuple[str, str], ...]
OWN = ControlHeader(name="X-Rec", mute="pause(;id=(?P<step>.*))?", unmute="resume(;id=(?P<step>.*))?")
PLAIN, FULL = Shapes(), Shapes(Redaction(header=OWN, info_package="x-recording"))
PACKAGE = (("Info-Package", "X-Recording"),)


def info(body: bytes = b"", content_type: str = "", headers: Fields = ()) -> InfoReceived:
    return InfoReceived(Side.B, 1, content_type, body, headers)


def refusal(shapes: Shapes, request: InfoReceived) -> ControlRefusedError:
    with pytest.raises(ControlRefusedError) as caught:
        shapes.read(request)
    return caught.value


@pytest.mark.parametrize(
    ("name", "value", "verb"),
    [
        ("Record", "off", Verb.MUTE),
        ("record", " OFF ", Verb.MUTE),
        ("RECORD", "on", Verb.START),
        ("X-AC-Action", "start-siprec", Verb.START),
        ("X-AC-Action", 'start-siprec;recording-ip-group="SRS"', Verb.START),
        ("x-ac-action", "pause-siprec;x=1", Verb.MUTE),
        ("X-AC-Action", "Resume-SIPREC", Verb.UNMUTE),
        ("X-AC-Action", "stop-siprec", Verb.MUTE),
        ("X-Reason", "startCallRecording", Verb.START),
        ("X-Reason", "pauseCallRecording", Verb.MUTE),
        ("X-Reason", "resumeCallRecording", Verb.UNMUTE),
        ("X-Reason", "stopCallRecording", Verb.MUTE),
    ],
)
def test_headers_of_other_products_control(name: str, value: str, verb: Verb) -> None:
    found = PLAIN.read(info(headers=(("Via", "x"), (name, value))))
    assert found is not None
    assert (found.verb, found.step, found.shape.lower()) == (verb, "", name.lower())


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON;charset=utf-8"])
@pytest.mark.parametrize(
    ("action", "verb"),
    [
        ("mute", Verb.MUTE),
        ("Pause", Verb.MUTE),
        ("stop", Verb.MUTE),
        ("unmute", Verb.UNMUTE),
        ("resume", Verb.UNMUTE),
        ("start", Verb.START),
    ],
)
def test_a_json_body_controls_and_may_name_its_step(content_type: str, action: str, verb: Verb) -> None:
    body = json.dumps({"action": action, "step": "card-number"}).encode()
    assert PLAIN.read(info(body, content_type)) == Control(verb, "card-number", "application/json")
    body = json.dumps({"action": action, "more": [1]}).encode()
    assert PLAIN.read(info(body, content_type)) == Control(verb, "", "application/json")


@pytest.mark.parametrize(
    ("body", "verb"),
    [(b"pause", Verb.MUTE), (b" Resume\r\n", Verb.UNMUTE), (b"mute", Verb.MUTE), (b"start", Verb.START)],
)
def test_a_word_of_text_controls(body: bytes, verb: Verb) -> None:
    assert PLAIN.read(info(body, "text/plain; charset=us-ascii")) == Control(verb, "", "text/plain")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("pause", Control(Verb.MUTE, "", "X-Rec")),
        ("PAUSE;id=card", Control(Verb.MUTE, "card", "X-Rec")),
        ("resume;id=card", Control(Verb.UNMUTE, "card", "X-Rec")),
        ("paused", None),
        ("pause;id=" + "x" * 300, None),
    ],
)
def test_the_configured_header_controls(value: str, expected: Control | None) -> None:
    assert FULL.read(info(headers=(("x-rec", value),))) == expected
    assert PLAIN.read(info(headers=(("x-rec", value),))) is None


def test_the_configured_header_cannot_name_a_step_that_is_none() -> None:
    assert refusal(FULL, info(headers=(("X-Rec", "pause;id=../etc"),))).reason == "malformed"


def test_the_configured_info_package_controls() -> None:
    assert FULL.read(info(b"pause", "text/plain", PACKAGE)) == Control(Verb.MUTE, "", "text/plain")
    assert FULL.read(info(b'{"action": "mute"}', "application/json", PACKAGE)) == Control(
        Verb.MUTE, "", "application/json"
    )


def test_what_the_package_does_not_hold_is_refused() -> None:
    assert refusal(FULL, info(b"stay", "text/plain", PACKAGE)).sip_status == 400
    error = refusal(FULL, info(b"<pause/>", "application/xml", PACKAGE))
    assert (error.sip_status, error.headers) == (415, (("Accept", "application/json, text/plain"),))


@pytest.mark.parametrize("packages", [("dtmf",), ("dtmf", "x-recording"), ("",)])
def test_the_body_of_another_package_is_that_packages(packages: tuple[str, ...]) -> None:
    request = info(b"pause", "text/plain", tuple(("Info-Package", package) for package in packages))
    assert FULL.read(request) is None
    assert PLAIN.read(request) is None


@pytest.mark.parametrize(
    "request_",
    [
        info(),
        info(headers=(("Record", "maybe"),)),
        info(headers=(("X-AC-Action", "abort-transfer"),)),
        info(headers=(("X-Reason", "busy"),)),
        info(b'{"action":"mute"}', "text/plain"),
        info(b"pause, please", "text/plain"),
        info(b"pause", ""),
        info(b"pause", "text/html"),
        info(b"\xb5ause", "text/plain"),
        info(b'{"action":"transfer"}', "application/json"),
        info(b'{"action":1}', "application/json"),
        info(b'{"action":', "application/json"),
        info(b'["mute"]', "application/json"),
        info(b"\xff\x00\xfe", "application/json"),
        info(b"[" * 4000, "application/json"),
        info(b" " * 5000 + b'{"action":"mute"}', "application/json"),
        info(b"Signal=5\r\nDuration=160", "application/dtmf-relay"),
    ],
)
def test_anything_else_is_somebody_elses(request_: InfoReceived) -> None:
    assert PLAIN.read(request_) is None
    assert FULL.read(request_) is None


@pytest.mark.parametrize("step", [5, None, "x" * 65, "a\nb", "../etc", ["card"], "a=record"])
def test_a_step_that_cannot_be_used_is_refused_with_the_reason(step: object) -> None:
    body = json.dumps({"action": "mute", "step": step}).encode()
    error = refusal(PLAIN, info(body, "application/json"))
    assert (error.sip_status, error.reason) == (400, "malformed")
    assert "step must be" in str(error)


JSON_MUTE = (b'{"action": "mute", "step": "card"}', "application/json")


@pytest.mark.parametrize(
    "request_",
    [
        info(headers=(("Record", "on"), ("Record", "off"))),
        info(headers=(("Record", "off"), ("Record", "maybe"))),
        info(headers=(("Record", "on"), ("X-Reason", "pauseCallRecording"))),
        info(*JSON_MUTE, (("Record", "on"),)),
        info(*JSON_MUTE, (("X-Rec", "pause;id=pin"),)),
        info(headers=(("X-Rec", "pause"), ("X-Rec", "resume"))),
        info(b'{"action": "mute", "action": "unmute"}', "application/json"),
        info(b'{"action": "mute", "step": "a", "step": "b"}', "application/json"),
    ],
)
def test_an_info_that_says_two_things_is_refused(request_: InfoReceived) -> None:
    error = refusal(FULL, request_)
    assert (error.sip_status, error.reason) == (400, "contradictory")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (info(*JSON_MUTE, (("Record", "off"),)), Control(Verb.MUTE, "card", "Record+application/json")),
        (info(headers=(("Record", "off"), ("Record", "OFF"))), Control(Verb.MUTE, "", "Record")),
        (
            info(b"resume", "text/plain", (("X-AC-Action", "start-siprec"),)),
            Control(Verb.START, "", "X-AC-Action+text/plain"),
        ),
    ],
)
def test_an_info_that_says_the_same_twice_is_one_control(request_: InfoReceived, expected: Control) -> None:
    assert PLAIN.read(request_) == expected


@given(st.binary(max_size=200), st.sampled_from(["application/json", "text/plain;x", "", "\x00"]), st.text(), st.text())
def test_no_body_and_no_header_breaks_the_parser(body: bytes, content_type: str, value: str, own: str) -> None:
    for shapes in (PLAIN, FULL):
        try:
            found = shapes.read(info(body, content_type, (("Record", value), ("X-Rec", own), ("Info-Package", value))))
        except ControlRefusedError:
            continue
        assert found is None or isinstance(found, Control)
