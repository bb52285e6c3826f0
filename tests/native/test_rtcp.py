"""RTCP that is relayed names nobody: what the far side of a call is called stays on its own side."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from recorder.native._native import _hide_names

SENDER_REPORT = struct.pack("!BBHI", 0x80, 200, 6, 0x1234) + bytes(20)
GOODBYE = struct.pack("!BBHI", 0x81, 203, 1, 0x1234)


def source_description(*chunks: tuple[int, bytes]) -> bytes:
    body = b""
    for ssrc, items in chunks:
        body += struct.pack("!I", ssrc) + items + b"\0"
        body += bytes(-len(body) % 4)
    return struct.pack("!BBH", 0x80 | len(chunks), 202, len(body) // 4) + body


def item(kind: int, text: bytes) -> bytes:
    return bytes([kind, len(text)]) + text


def test_names_are_replaced_and_the_rest_stays() -> None:
    named = source_description(
        (0x01020304, item(1, b"alice@inside.example.com") + item(5, b"Athens")), (0xFEEDBEEF, item(1, b"x"))
    )
    changed = _hide_names(SENDER_REPORT + named + GOODBYE)
    assert (
        changed
        == SENDER_REPORT
        + source_description((0x01020304, item(1, b"01020304")), (0xFEEDBEEF, item(1, b"feedbeef")))
        + GOODBYE
    )


def test_a_report_without_names_stays_as_it_is() -> None:
    assert _hide_names(SENDER_REPORT) == SENDER_REPORT


@given(st.integers(0, 7), st.binary(max_size=12))
def test_items_of_any_length_are_read_to_their_end(more: int, text: bytes) -> None:
    named = source_description((7, item(1, text)), *[(8 + n, item(6, text)) for n in range(more)])
    plain = source_description(*[(7 + n, item(1, b"%08x" % (7 + n))) for n in range(more + 1)])
    assert _hide_names(named) == plain


@given(st.binary(max_size=200))
def test_garbage_is_dropped_or_whole(packet: bytes) -> None:
    changed = _hide_names(packet)
    assert len(changed) % 4 == 0


@given(st.binary(max_size=120), st.integers(0, 31))
def test_a_damaged_description_leaks_nothing(body: bytes, chunks: int) -> None:
    body = body[: len(body) // 4 * 4]
    changed = _hide_names(struct.pack("!BBH", 0x80 | chunks, 202, len(body) // 4) + body)
    assert len(changed) in (0, 4 + 16 * chunks)
