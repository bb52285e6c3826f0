"""Which INFO requests control the recording, and that no other does."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.calls.events import InfoReceived, Side
from recorder.calls.recording_control import Control, Verb, parse
from recorder.errors import InvalidRequestError


def info(body: bytes = b"", content_type: str = "", headers: tuple[tuple[str, str], ...] = ()) -> InfoReceived:
    return InfoReceived(Side.B, 1, content_type, body, headers)


@pytest.mark.parametrize(
    ("headers", "verb"),
    [
        ((("Record", "off"),), Verb.MUTE),
        ((("record", " OFF "),), Verb.MUTE),
        ((("Via", "x"), ("RECORD", "on")), Verb.UNMUTE),
    ],
)
def test_the_record_header_controls(headers: tuple[tuple[str, str], ...], verb: Verb) -> None:
    assert parse(info(headers=headers)) == Control(verb)


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON;charset=utf-8"])
def test_a_json_body_controls_and_names_its_step(content_type: str) -> None:
    body = json.dumps({"action": "mute", "step": "card-number"}).encode()
    assert parse(info(body, content_type)) == Control(Verb.MUTE, "card-number")
    assert parse(info(b'{"action":"unmute"}', content_type)) == Control(Verb.UNMUTE)


@pytest.mark.parametrize(
    "request_",
    [
        info(),
        info(headers=(("Record", "maybe"),)),
        info(b'{"action":"mute"}', "text/plain"),
        info(b'{"action":"transfer"}', "application/json"),
        info(b'{"action":', "application/json"),
        info(b'["mute"]', "application/json"),
        info(b"\xff\x00\xfe", "application/json"),
        info(b"[" * 4000, "application/json"),
        info(b" " * 5000 + b'{"action":"mute"}', "application/json"),
        info(b"Signal=5\r\nDuration=160", "application/dtmf-relay"),
    ],
)
def test_anything_else_is_somebody_elses(request_: InfoReceived) -> None:
    assert parse(request_) is None


@pytest.mark.parametrize("step", [5, None, "x" * 65, "a\nb", "../etc", ["card"]])
def test_a_step_that_cannot_be_used_is_refused_with_the_reason(step: object) -> None:
    body = json.dumps({"action": "mute", "step": step}).encode()
    with pytest.raises(InvalidRequestError, match="step must be"):
        parse(info(body, "application/json"))


def test_a_request_that_says_on_and_off_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="on and off"):
        parse(info(headers=(("Record", "on"), ("Record", "off"))))


@given(st.binary(max_size=200), st.sampled_from(["application/json", "application/json;x", "", "\x00"]), st.text())
def test_no_body_and_no_header_breaks_the_parser(body: bytes, content_type: str, value: str) -> None:
    try:
        found = parse(info(body, content_type, (("Record", value),)))
    except InvalidRequestError:
        return
    assert found is None or isinstance(found, Control)
