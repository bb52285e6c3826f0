"""A digit that is told twice was pressed once."""

from __future__ import annotations

import pytest

from recorder.calls.dtmf import Presses, digit_of
from recorder.calls.events import InfoReceived, Side


@pytest.mark.parametrize(
    ("content_type", "body", "digit"),
    [
        ("application/dtmf-relay", b"Signal=5\r\nDuration=160\r\n", "5"),
        ("application/dtmf-relay;x=y", b"Signal= *\r\nDuration= 160", "*"),
        ("Application/DTMF", b"#", "#"),
        ("application/dtmf", b" d\r\n", "D"),
        ("application/dtmf", b"55", None),
        ("application/dtmf-relay", b"Duration=160\r\n", None),
        ("application/dtmf-relay", b"Signal=55\r\n", None),
        ("text/plain", b"5", None),
        ("", b"", None),
    ],
)
def test_the_digit_in_an_info(content_type: str, body: bytes, digit: str | None) -> None:
    assert digit_of(InfoReceived(Side.A, 1, content_type, body, ())) == digit


def test_the_second_telling_is_a_repeat_whichever_comes_first() -> None:
    presses = Presses()
    for first_by_info in (True, False):
        assert not presses.is_repeat(Side.A, "5", first_by_info, 1.0)
        assert presses.is_repeat(Side.A, "5", not first_by_info, 1.3)


def test_two_presses_of_one_key_are_two() -> None:
    presses = Presses()
    assert not presses.is_repeat(Side.A, "5", False, 1.0)
    assert not presses.is_repeat(Side.A, "5", False, 1.2)
    assert presses.is_repeat(Side.A, "5", True, 1.25)
    assert presses.is_repeat(Side.A, "5", True, 1.3)
    assert not presses.is_repeat(Side.A, "5", True, 1.35)


def test_another_digit_another_side_or_later_is_no_repeat() -> None:
    presses = Presses()
    assert not presses.is_repeat(Side.A, "5", False, 1.0)
    assert not presses.is_repeat(Side.A, "6", True, 1.1)
    assert not presses.is_repeat(Side.B, "5", True, 1.1)
    assert not presses.is_repeat(Side.A, "5", True, 2.5)
