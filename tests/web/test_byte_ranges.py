from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.web.byte_ranges import ByteRange, requested_range
from recorder.web.playback import REMEMBERED, WINDOW_S, Playbacks
from recorder.web.problems import RangeNotSatisfiableError


@given(st.text() | st.from_regex(r"bytes=[0-9]{0,5}-[0-9]{0,5}"), st.integers(1, 10_000))
def test_any_header_leads_to_bytes_of_the_file_or_to_a_refusal(header: str, size: int) -> None:
    wanted: ByteRange | None = None
    with suppress(RangeNotSatisfiableError):
        wanted = requested_range(header, None, '"e"', size)
    if wanted is not None:
        assert wanted.count >= 1
        assert wanted.start >= 0
        assert wanted.start + wanted.count <= size


@given(st.integers(1, 10_000), st.data())
def test_a_range_within_the_file_is_that_range(size: int, draw: st.DataObject) -> None:
    first = draw.draw(st.integers(0, size - 1))
    last = draw.draw(st.integers(first, size + 10))
    wanted = requested_range(f"bytes={first}-{last}", '"e"', '"e"', size)
    assert wanted == ByteRange(first, min(last, size - 1) - first + 1)


def test_no_header_means_the_whole_file() -> None:
    assert requested_range(None, '"e"', '"e"', 100) is None


@pytest.mark.parametrize(
    ("wanted", "begins"),
    [
        (ByteRange(0, 2), False),
        (ByteRange(0, 44), False),
        (ByteRange(10, 20), False),
        (ByteRange(0, 45), True),
        (ByteRange(44, 1), True),
        (ByteRange(5000, 10), True),
    ],
)
def test_the_first_request_for_audio_begins_a_playback(wanted: ByteRange, begins: bool) -> None:
    assert Playbacks().begins("ann", "f", wanted, 0.0) is begins


def test_what_follows_belongs_to_the_playback_until_it_is_old() -> None:
    playbacks = Playbacks()
    assert playbacks.begins("ann", "f", ByteRange(0, 9000), 0.0)
    assert not playbacks.begins("ann", "f", ByteRange(500, 9000), WINDOW_S - 1)
    assert playbacks.begins("ann", "f", ByteRange(500, 9000), WINDOW_S + 1)
    assert playbacks.begins("bob", "f", ByteRange(500, 9000), WINDOW_S + 1)
    assert playbacks.begins("ann", "g", ByteRange(500, 9000), WINDOW_S + 1)
    assert playbacks.begins("ann", "f", ByteRange(0, 9000), WINDOW_S + 2)


def test_what_could_not_be_metered_begins_again() -> None:
    playbacks = Playbacks()
    assert playbacks.begins("ann", "f", ByteRange(500, 9000), 0.0)
    playbacks.forget("ann", "f")
    assert playbacks.begins("ann", "f", ByteRange(500, 9000), 1.0)


def test_what_is_remembered_is_bounded_and_forgetting_meters_again() -> None:
    playbacks = Playbacks()
    for number in range(REMEMBERED + 1):
        assert playbacks.begins("ann", str(number), ByteRange(0, 9000), 0.0)
    assert len(playbacks._begun) == REMEMBERED
    assert playbacks.begins("ann", "0", ByteRange(500, 9000), 0.0)
    assert not playbacks.begins("ann", str(REMEMBERED), ByteRange(500, 9000), 0.0)
