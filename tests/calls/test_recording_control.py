"""Which steps are open, who may end them, and that what is refused changes nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.calls.events import Side
from recorder.calls.recording_control import (
    MOST_STEPS,
    SDP_STEP,
    By,
    Control,
    ControlRefusedError,
    Effect,
    OpenStep,
    Steps,
    Verb,
    controller_of,
)

MUTE, UNMUTE, START = Control(Verb.MUTE), Control(Verb.UNMUTE), Control(Verb.START)


def effect(steps: Steps, control: Control, by: By = "application", *, enabled: bool = True) -> Effect:
    return steps.apply(by, control, enabled=enabled)[0]


def refusal(steps: Steps, control: Control, by: By = "application", *, enabled: bool = True) -> ControlRefusedError:
    before = steps.open
    with pytest.raises(ControlRefusedError) as caught:
        steps.apply(by, control, enabled=enabled)
    assert steps.open == before
    return caught.value


def test_only_the_applications_side_controls() -> None:
    assert controller_of(Side.B) == "application"
    with pytest.raises(ControlRefusedError, match="Only the application") as caught:
        controller_of(Side.A)
    assert (caught.value.sip_status, caught.value.reason) == (403, "caller_side")


def test_sound_is_back_when_every_step_is_over() -> None:
    steps = Steps()
    assert effect(steps, Control(Verb.MUTE, "card")) is Effect.BEGUN
    assert effect(steps, Control(Verb.MUTE, "pin")) is Effect.BEGUN
    assert effect(steps, Control(Verb.UNMUTE, "card")) is Effect.ENDED
    assert steps.muted
    assert effect(steps, Control(Verb.UNMUTE, "pin")) is Effect.ENDED
    assert not steps.muted


def test_the_same_again_changes_nothing() -> None:
    steps = Steps()
    assert [effect(steps, control) for control in (UNMUTE, MUTE, MUTE, UNMUTE, UNMUTE)] == [
        Effect.UNCHANGED,
        Effect.BEGUN,
        Effect.UNCHANGED,
        Effect.ENDED,
        Effect.UNCHANGED,
    ]


def test_a_step_that_is_over_may_be_ended_again_while_another_is_open() -> None:
    steps = Steps()
    for control in (Control(Verb.MUTE, "card"), Control(Verb.UNMUTE, "card"), Control(Verb.MUTE, "pin")):
        effect(steps, control)
    assert effect(steps, Control(Verb.UNMUTE, "card")) is Effect.UNCHANGED
    assert steps.muted


def test_a_step_that_was_never_begun_cannot_be_ended() -> None:
    steps = Steps()
    effect(steps, Control(Verb.MUTE, "card"))
    for control in (UNMUTE, START, Control(Verb.UNMUTE, "pin")):
        error = refusal(steps, control)
        assert (error.reason, error.sip_status, error.http_status) == ("unknown_step", 481, 409)


def test_start_is_refused_where_nothing_is_recorded_unless_it_ends_a_step() -> None:
    steps = Steps()
    error = refusal(steps, START, enabled=False)
    assert (error.reason, error.sip_status) == ("not_enabled", 403)
    assert effect(steps, UNMUTE, enabled=False) is Effect.UNCHANGED
    assert effect(steps, MUTE, enabled=False) is Effect.BEGUN
    assert effect(steps, START, enabled=False) is Effect.ENDED
    assert effect(steps, START) is Effect.UNCHANGED


def test_operators_and_the_application_have_steps_of_their_own() -> None:
    steps = Steps()
    effect(steps, MUTE)
    assert refusal(steps, UNMUTE, "operator").http_status == 409
    steps.apply("operator", MUTE, "jane", enabled=True)
    effect(steps, UNMUTE)
    assert steps.open == (OpenStep("operator", "", "jane"),)
    assert effect(steps, UNMUTE) is Effect.UNCHANGED
    assert effect(steps, UNMUTE, "operator") is Effect.ENDED
    assert refusal(steps, UNMUTE, "operator").reason == "unknown_step"


def test_there_is_an_end_to_open_steps_but_not_for_sdp() -> None:
    steps = Steps()
    for number in range(MOST_STEPS):
        effect(steps, Control(Verb.MUTE, str(number)))
    assert refusal(steps, Control(Verb.MUTE, "more")).reason == "too_many_steps"
    assert effect(steps, Control(Verb.MUTE, "7")) is Effect.UNCHANGED
    assert effect(steps, Control(Verb.MUTE, SDP_STEP)) is Effect.BEGUN


CONTROLS = st.tuples(
    st.sampled_from(["application", "operator"]),
    st.builds(Control, st.sampled_from(Verb), st.sampled_from(["", "card", "pin", SDP_STEP])),
    st.booleans(),
)


@given(st.lists(CONTROLS, max_size=40))
def test_silent_is_exactly_while_a_step_lacks_its_end(script: list[tuple[By, Control, bool]]) -> None:
    """Against a model: a step is open from its mute to its own end, whatever else is asked, refused or asked twice."""
    steps, model = Steps(), set[tuple[By, str]]()
    for by, control, enabled in script:
        before = steps.open
        key = (by, control.step)
        try:
            done, _ = steps.apply(by, control, enabled=enabled)
        except ControlRefusedError:
            assert steps.open == before
            assert control.verb is not Verb.MUTE
            assert key not in model
            continue
        if control.verb is Verb.MUTE:
            assert done is (Effect.UNCHANGED if key in model else Effect.BEGUN)
            model.add(key)
        else:
            assert done is (Effect.ENDED if key in model else Effect.UNCHANGED)
            model.discard(key)
        assert {(one.by, one.name) for one in steps.open} == model
        assert steps.muted == bool(model)
        # The same once more: nothing changes by it, whether it is taken or refused.
        held = steps.open
        try:
            again, _ = steps.apply(by, control, enabled=enabled)
        except ControlRefusedError:
            pass
        else:
            assert again is Effect.UNCHANGED
        assert steps.open == held
