"""INFO bodies and headers that nobody meant well: a control, none, or a clear refusal, and nothing else."""

from __future__ import annotations

import json
import re

from hypothesis import example
from hypothesis import strategies as st

from recorder.calls.actions import ApplyControl
from recorder.calls.call import Call, Limits
from recorder.calls.control_shapes import Shapes
from recorder.calls.events import CallAdmitted, InfoReceived, RecordingAsked, Side
from recorder.calls.recording_control import SDP_STEP, Control, ControlRefusedError, Steps, Verb, controller_of
from recorder.calls.targets import Target
from recorder.settings import ControlHeader, Redaction
from tests.fuzz.cases import fuzzed

STEP = re.compile(r"[A-Za-z0-9_.:-]{0,64}")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
actions = st.sampled_from(["mute", "unmute", "Mute", "pause", "RESUME", "start", "stop", ""]) | json_values
near_controls = st.fixed_dictionaries({"action": actions}, optional={"step": json_values, "x": json_values})
bodies = st.one_of(
    st.binary(max_size=200),
    st.sampled_from([b"pause", b" Resume\r\n", b"stop", b"unmute\x00", b"start it"]),
    (json_values | near_controls).map(lambda value: json.dumps(value).encode()),
    near_controls.map(lambda value: json.dumps(value).encode("utf-16")),
    st.tuples(near_controls, st.binary(max_size=4)).map(lambda pair: json.dumps(pair[0]).encode() + pair[1]),
    st.integers(1, 6000).map(lambda depth: b"[" * depth),
    st.integers(4000, 6000).map(lambda digits: b'{"action": "mute", "n": ' + b"9" * digits + b"}"),
)
content_types = st.one_of(
    st.sampled_from(
        ["application/json", "Application/JSON; charset=utf-8", "application/json;", "text/plain", "TEXT/PLAIN;x", ""]
    ),
    st.text(max_size=30),
)
NAMES = ["Record", "record", "X-AC-Action", "x-reason", "X-Recording", "Info-Package", "info-package", "X-Record"]
VALUES = [
    *("on", "off", " On ", "OFF", "on,off", "", "pause", "resume;step=card", "pause;step=../x", "x-recording", "dtmf"),
    *("pause-siprec;a=b", "resume-siprec", "stop-siprec ", "abort", "pauseCallRecording", "RESUMECALLRECORDING"),
]
headers = st.lists(
    st.tuples(
        st.sampled_from(NAMES) | st.text(max_size=10),
        st.sampled_from(VALUES) | st.text(max_size=10),
    ),
    max_size=4,
).map(tuple)
OWN = ControlHeader(
    name="X-Recording", mute="pause(;step=(?P<step>.*))?", unmute="(resume|pause;step=both)(;step=(?P<step>.*))?"
)
JSON = "application/json"
SHAPES = [Shapes(), Shapes(Redaction(header=OWN, info_package="x-recording"))]


@fuzzed(
    shapes=st.sampled_from(SHAPES), side=st.sampled_from(Side), content_type=content_types, body=bodies, fields=headers
)
@example(shapes=SHAPES[0], side=Side.B, content_type=JSON, body=b'{"action": ["mute"]}', fields=())
@example(shapes=SHAPES[0], side=Side.B, content_type=JSON, body=b'{"action": {"mute": 1}}', fields=())
@example(shapes=SHAPES[0], side=Side.B, content_type=JSON, body=b"\xff\xfe\x00", fields=())
@example(
    shapes=SHAPES[0],
    side=Side.B,
    content_type="application/json",
    body=b'{"action": "mute", "step": "\\ud800"}',
    fields=(),
)
def test_an_info_is_a_control_or_none_or_refused(
    shapes: Shapes, side: Side, content_type: str, body: bytes, fields: tuple[tuple[str, str], ...]
) -> None:
    info = InfoReceived(side, 1, content_type, body, fields)
    try:
        read: Control | ControlRefusedError | None = shapes.read(info)
    except ControlRefusedError as error:
        read = error
    if isinstance(read, ControlRefusedError):
        assert (read.sip_status, read.reason) in [(400, "malformed"), (415, "malformed"), (400, "contradictory")]
        assert str(read).isprintable()  # it goes into the answer as the reason phrase
    elif read is not None:
        assert read.verb in Verb
        assert STEP.fullmatch(read.step)


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
    assert SHAPES[0].read(InfoReceived(Side.B, 1, "application/json", body, ())) == Control(
        verb, step, "application/json"
    )


infos = st.builds(InfoReceived, st.sampled_from(Side), st.just(1), content_types, bodies, headers)
asked = st.one_of(infos, infos, st.builds(RecordingAsked, st.sampled_from(Side), st.booleans()))


@fuzzed(script=st.lists(asked, max_size=12), enabled=st.booleans())
def test_whatever_is_not_accepted_leaves_every_step_as_it_was(
    script: list[InfoReceived | RecordingAsked], enabled: bool
) -> None:
    """A call that is dialing, and its shell: only a control of the application that is accepted changes steps."""
    call, steps = Call(Limits(10, 60), 0.0, SHAPES[1]), Steps()
    call.handle(CallAdmitted((Target("sip:1@192.0.2.1"),)), 0.0)
    for event in script:
        before = steps.open
        accepted = False
        for action in call.handle(event, 1.0):
            if isinstance(action, ApplyControl):
                try:
                    steps.apply(controller_of(action.side), action.control, enabled=enabled)
                except ControlRefusedError:
                    assert steps.open == before
                else:
                    accepted = True
                    assert action.side is Side.B
                    assert (action.control.step == SDP_STEP) == isinstance(event, RecordingAsked)
        assert accepted or steps.open == before
