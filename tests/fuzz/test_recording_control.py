"""INFO bodies and headers that nobody meant well: a control, none, or a clear refusal, and nothing else."""

from __future__ import annotations

import json
import re

from hypothesis import example
from hypothesis import strategies as st

from recorder.calls.events import InfoReceived, Side
from recorder.calls.recording_control import Control, Verb, parse
from recorder.errors import InvalidRequestError
from tests.fuzz.cases import fuzzed

STEP = re.compile(r"[A-Za-z0-9_.:-]{0,64}")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
actions = st.sampled_from(["mute", "unmute", "Mute", "pause", ""]) | json_values
near_controls = st.fixed_dictionaries({"action": actions}, optional={"step": json_values, "x": json_values})
bodies = st.one_of(
    st.binary(max_size=200),
    (json_values | near_controls).map(lambda value: json.dumps(value).encode()),
    near_controls.map(lambda value: json.dumps(value).encode("utf-16")),
    st.tuples(near_controls, st.binary(max_size=4)).map(lambda pair: json.dumps(pair[0]).encode() + pair[1]),
    st.integers(1, 6000).map(lambda depth: b"[" * depth),
    st.integers(4000, 6000).map(lambda digits: b'{"action": "mute", "n": ' + b"9" * digits + b"}"),
)
content_types = st.one_of(
    st.sampled_from(["application/json", "Application/JSON; charset=utf-8", "application/json;", "text/plain", ""]),
    st.text(max_size=30),
)
headers = st.lists(
    st.tuples(
        st.sampled_from(["Record", "record", "RECORD", "X-Record"]) | st.text(max_size=10),
        st.sampled_from(["on", "off", " On ", "OFF", "on,off", ""]) | st.text(max_size=10),
    ),
    max_size=4,
).map(tuple)


@fuzzed(side=st.sampled_from(Side), content_type=content_types, body=bodies, fields=headers)
@example(side=Side.B, content_type="application/json", body=b'{"action": ["mute"]}', fields=())
@example(side=Side.B, content_type="application/json", body=b'{"action": {"mute": 1}}', fields=())
@example(side=Side.B, content_type="application/json", body=b"\xff\xfe\x00", fields=())
@example(side=Side.B, content_type="application/json", body=b'{"action": "mute", "step": "\\ud800"}', fields=())
def test_an_info_is_a_control_or_none_or_refused(
    side: Side, content_type: str, body: bytes, fields: tuple[tuple[str, str], ...]
) -> None:
    info = InfoReceived(side, 1, content_type, body, fields)
    try:
        control = parse(info)
    except InvalidRequestError:
        return
    if control is not None:
        assert control.verb in Verb
        assert STEP.fullmatch(control.step)


@fuzzed(
    verb=st.sampled_from(Verb),
    step=st.from_regex(STEP, fullmatch=True),
    junk=st.dictionaries(
        st.text(max_size=8).filter(lambda key: key not in ("action", "step")), json_values, max_size=3
    ),
)
def test_a_right_control_is_understood_whatever_else_the_body_holds(
    verb: Verb, step: str, junk: dict[str, object]
) -> None:
    body = json.dumps({**junk, "action": verb.value, "step": step}).encode()
    assert parse(InfoReceived(Side.B, 1, "application/json", body, ())) == Control(verb, step)
