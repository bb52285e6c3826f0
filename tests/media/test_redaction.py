from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.media.redaction import Control, Redactions

END = 4000
GUARD_BEFORE = 50
GUARD_AFTER = 30
CONTROLS: tuple[Control, ...] = ("application", "operator")


def silenced(redactions: Redactions, length: int = END, position: int = 0) -> np.ndarray:
    """Which positions `apply` zeroes."""
    samples = np.ones(length, np.int16)
    redactions.apply(position, samples)
    return samples == 0


def where(*spans: tuple[int, int], length: int = END) -> np.ndarray:
    mask = np.zeros(length, bool)
    for start, stop in spans:
        mask[max(start, 0) : max(stop, 0)] = True
    return mask


def test_a_redaction_reaches_back_by_its_guard_and_past_its_end_by_the_other() -> None:
    redactions = Redactions(GUARD_BEFORE, GUARD_AFTER)
    assert redactions.begin(1000, "card", "application")
    assert redactions.end(2000, "card")
    assert np.array_equal(silenced(redactions), where((950, 2030)))


def test_all_channels_are_silenced() -> None:
    redactions = Redactions()
    redactions.begin(10, "card", "application")
    a, b = np.ones(20, np.int16), np.ones(20, np.int16)
    redactions.apply(0, a, b)
    assert a.tolist() == b.tolist() == [1] * 10 + [0] * 10


def test_sound_returns_only_when_all_steps_are_over() -> None:
    redactions = Redactions()
    redactions.begin(100, "card", "application")
    redactions.begin(200, "pin", "application")
    redactions.end(300, "card")
    assert redactions.active
    redactions.end(400, "pin")
    assert not redactions.active
    assert np.array_equal(silenced(redactions), where((100, 400)))


def test_a_second_begin_of_the_same_step_changes_nothing() -> None:
    redactions = Redactions()
    assert redactions.begin(100, "card", "application")
    assert not redactions.begin(200, "card", "application")
    assert redactions.end(300, "card")
    assert np.array_equal(silenced(redactions), where((100, 300)))


def test_an_end_without_a_step_ends_only_what_was_begun_without_one() -> None:
    redactions = Redactions()
    redactions.begin(100, "card", "application")
    assert not redactions.end(200)
    redactions.begin(300, "", "application")
    assert redactions.end(400)
    assert redactions.active
    assert silenced(redactions)[100:].all()


def test_an_end_of_an_unknown_step_changes_nothing() -> None:
    redactions = Redactions()
    redactions.begin(100, "", "application")
    assert not redactions.end(200, "card")
    assert silenced(redactions)[100:].all()


def test_the_application_cannot_end_what_an_operator_began() -> None:
    redactions = Redactions()
    redactions.begin(100, "", "operator")
    assert not redactions.end(200, "", "application")
    assert redactions.active
    assert redactions.end(300, "", "operator")
    assert np.array_equal(silenced(redactions), where((100, 300)))


def test_an_operator_cannot_end_what_the_application_began() -> None:
    redactions = Redactions()
    redactions.begin(100, "", "application")
    redactions.begin(150, "", "operator", "jane")
    assert redactions.end(200, "", "operator")
    assert not redactions.end(250, "", "operator")
    assert redactions.active
    assert redactions.end(300, "", "application")
    assert np.array_equal(silenced(redactions), where((100, 300)))
    [span] = redactions.spans()
    assert (span.controls, span.operators) == (("application", "operator"), ("jane",))


def test_what_nobody_ends_is_silent_to_the_end_and_marked() -> None:
    redactions = Redactions()
    redactions.begin(100, "card", "application")
    redactions.end(200, "card")
    redactions.begin(300, "pin", "application")
    assert redactions.close(1000) == 1
    assert not redactions.begin(1000, "late", "application")
    first, second = redactions.spans()
    assert (first.start, first.end, first.unresumed) == (100, 200, False)
    assert (second.start, second.end, second.unresumed) == (300, 1000, True)
    assert redactions.close(1000) == 0


def test_spans_that_overlap_or_touch_are_one() -> None:
    redactions = Redactions()
    for start, stop, step in ((100, 200, "a"), (150, 250, "b"), (250, 300, "a"), (400, 500, "c")):
        redactions.begin(start, step, "application")
        redactions.end(stop, step)
    assert [(span.start, span.end, span.steps) for span in redactions.spans()] == [
        (100, 300, ("a", "b")),
        (400, 500, ("c",)),
    ]


def test_an_end_before_the_begin_does_not_uncover_the_guard() -> None:
    redactions = Redactions(GUARD_BEFORE)
    redactions.begin(100, "card", "application")
    redactions.end(20, "card")
    assert np.array_equal(silenced(redactions), where((50, 100)))


def test_what_escaped_is_what_was_applied_and_is_redacted_now() -> None:
    redactions = Redactions(GUARD_BEFORE)
    silenced(redactions, 1000)
    redactions.begin(2000, "early", "application")
    assert redactions.take_escaped() == []
    redactions.begin(900, "card", "application")
    assert redactions.take_escaped() == [(850, 1000)]
    assert redactions.take_escaped() == []
    redactions.begin(500, "pin", "application")
    redactions.end(600, "pin")
    assert redactions.take_escaped() == [(450, 600)]


def test_what_was_silent_already_has_not_escaped() -> None:
    redactions = Redactions(GUARD_BEFORE, GUARD_AFTER)
    redactions.begin(500, "card", "application")
    redactions.end(990, "card")
    silenced(redactions, 1000)
    redactions.begin(500, "pin", "application")
    assert redactions.take_escaped() == []
    redactions.begin(499, "cvv", "application")
    assert redactions.take_escaped() == [(449, 1000)]


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "end"]),
        st.integers(0, 60),
        st.sampled_from(["", "card", "pin"]),
        st.sampled_from(CONTROLS),
    ),
    max_size=40,
)


def run_model(operations: list[tuple[str, int, str, Control]], redactions: Redactions) -> np.ndarray:
    """Do the operations, in the order of their positions; return which positions have to be silent."""
    opened: dict[tuple[Control, str], int] = {}
    mask = np.zeros(END, bool)
    position = 100
    for verb, advance, step, control in operations:
        position += advance
        if verb == "begin":
            assert redactions.begin(position, step, control) == ((control, step) not in opened)
            opened.setdefault((control, step), position)
            continue
        began = opened.pop((control, step), None)
        assert redactions.end(position, step, control) == (began is not None)
        if began is not None:
            mask[began - GUARD_BEFORE : position + GUARD_AFTER] = True
    for began in opened.values():
        mask[began - GUARD_BEFORE :] = True
    return mask


@settings(deadline=None)
@given(OPERATIONS, st.lists(st.integers(0, END), max_size=20))
def test_silent_is_exactly_what_was_asked_for_in_blocks_of_any_size(
    operations: list[tuple[str, int, str, Control]], cuts: list[int]
) -> None:
    redactions = Redactions(GUARD_BEFORE, GUARD_AFTER)
    expected = run_model(operations, redactions)
    edges = [0, *sorted(cuts), END]
    blocks = [silenced(redactions, stop - start, start) for start, stop in itertools.pairwise(edges)]
    assert np.array_equal(np.concatenate(blocks), expected)


@settings(deadline=None)
@given(OPERATIONS, st.permutations(range(8)))
def test_blocks_in_any_order_give_the_same(operations: list[tuple[str, int, str, Control]], order: list[int]) -> None:
    redactions = Redactions(GUARD_BEFORE, GUARD_AFTER)
    expected = run_model(operations, redactions)
    for index in order:
        start, stop = index * END // 8, (index + 1) * END // 8
        assert np.array_equal(silenced(redactions, stop - start, start), expected[start:stop])


@settings(deadline=None)
@given(OPERATIONS)
def test_spans_tell_what_is_silent_and_do_not_touch(operations: list[tuple[str, int, str, Control]]) -> None:
    redactions = Redactions(GUARD_BEFORE, GUARD_AFTER)
    expected = run_model(operations, redactions)
    spans = redactions.spans()
    assert np.array_equal(where(*((s.start, END if s.end is None else s.end) for s in spans)), expected)
    assert all(one.end is not None and one.end < two.start for one, two in itertools.pairwise(spans))
    redactions.close(END)
    assert all(span.end is not None for span in redactions.spans())
