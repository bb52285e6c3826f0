"""Taking SIP messages apart as they are on the wire."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recorder.native._native import _take_apart

START = b"INFO sip:a@b SIP/2.0\r\n"
names = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,15}", fullmatch=True)
values = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp")), max_size=30)
header = st.tuples(names, values)
newlines = st.sampled_from([b"\r\n", b"\n"])


@given(
    headers=st.lists(st.tuples(names, values)), body=st.binary(max_size=300), newline=newlines, pad=st.integers(0, 3)
)
def test_headers_and_body_come_out_as_they_went_in(
    headers: list[tuple[str, str]], body: bytes, newline: bytes, pad: int
) -> None:
    lines = [name.encode() + b":" + b" " * pad + value.encode() + b"\t" * pad for name, value in headers]
    packet = newline.join([START.rstrip(), *lines, b"", b""]) + body
    taken, content_type, taken_body = _take_apart(packet, len(body))
    assert taken == headers
    assert taken_body == body
    wanted = [value for name, value in headers if name.lower() in ("content-type", "c")]
    assert content_type == (wanted[0] if wanted else "")


@given(packet=st.binary(max_size=400), length=st.integers(-1, 500))
def test_any_bytes_are_survived_and_the_body_is_theirs(packet: bytes, length: int) -> None:
    headers, _, body = _take_apart(packet, length)
    assert packet.find(body) >= 0
    assert length < 0 or len(body) <= length
    assert not any(c in name + value for name, value in headers for c in "\r\n")


def test_a_folded_value_is_one_value() -> None:
    packet = START + b"Subject: one\r\n  two\r\n\tthree\r\nX: y\r\n\r\n"
    assert _take_apart(packet, -1)[0] == [("Subject", "one two three"), ("X", "y")]


def test_without_content_length_the_body_is_the_rest() -> None:
    assert _take_apart(START + b"c: a/b;x=1\r\n\r\nab\0c\r\n", -1)[1:] == ("a/b;x=1", b"ab\0c\r\n")


def test_a_content_length_past_the_packet_gives_what_is_there() -> None:
    assert _take_apart(START + b"\r\nabc", 10)[2] == b"abc"


def test_a_content_length_short_of_the_packet_cuts_the_body() -> None:
    assert _take_apart(START + b"\r\nabcdef", 3)[2] == b"abc"


def test_bytes_that_are_not_utf8_survive_as_surrogates() -> None:
    [(_, value)] = _take_apart(START + b"X: \xff\r\n\r\n", -1)[0]
    assert value.encode("utf-8", "surrogateescape") == b"\xff"
