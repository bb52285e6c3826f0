"""Packets of any bytes into the native RTP tap: none is read past its end, and nothing but what was sent is heard."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import example
from hypothesis import strategies as st

from recorder.native import RtpTap
from recorder.native._native import _take_apart
from tests.fuzz.cases import fuzzed

HOLD = 800
START = 100_000
RATE = 8000
CAPACITY = 4_000
PEAK = 32_124

fixed = st.tuples(
    st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1), st.integers(0, 3)
).map(lambda fields: struct.pack("!BBHII", *fields))
plain = st.builds(
    lambda kind, sequence, step, size, level: (
        struct.pack("!BBHII", 0x80, kind, sequence, 160 * step, 7) + bytes([level]) * size
    ),
    st.sampled_from([0, 8, 13, 101]),
    st.integers(0, 40),
    st.integers(0, 40),
    st.sampled_from([0, 1, 4, 160, 240]),
    st.integers(0, 255),
)
packets = st.one_of(st.binary(max_size=64), st.tuples(fixed, st.binary(max_size=400)).map(b"".join), plain)
steps = st.one_of(
    st.tuples(st.just("put"), packets),
    st.tuples(st.just("pass"), st.integers(0, 2_000)),
    st.tuples(st.just("read"), st.integers(1, 5_000)),
    st.tuples(st.just("close"), st.none()),
    st.tuples(st.just("open"), st.integers(0, 600)),
    st.tuples(st.just("gaps"), st.none()),
)


@fuzzed(script=st.lists(steps, max_size=60))
def test_any_packets_leave_one_timeline_and_muted_spans_silent(script: list[tuple[str, object]]) -> None:
    tap = RtpTap("fuzz", RATE, CAPACITY, HOLD, START)
    now, read_to = START, START
    muted: list[list[int]] = []
    for what, value in script:
        if what == "put":
            assert isinstance(value, bytes)
            tap._put(value)
        elif what == "pass":
            assert isinstance(value, int)
            now += value
            tap._set_now(now)
        elif what == "read":
            assert isinstance(value, int)
            position, samples = tap.read(value)
            assert position == read_to
            assert len(samples) <= value
            assert position + len(samples) <= max(START, now - HOLD)
            assert samples.dtype == np.int16
            assert not len(samples) or int(np.abs(samples.astype(np.int32)).max()) <= PEAK
            for shut, opened in muted:
                silent = samples[max(0, shut - position) : max(0, opened - position)]
                assert not silent.any()
            read_to += len(samples)
        elif what == "close":
            shut = tap.close_gate()
            if muted and muted[-1][1] > now:
                muted[-1][1] = 2**62
            else:
                muted.append([shut, 2**62])
            assert tap.gated
        elif what == "open":
            assert isinstance(value, int)
            opened = tap.open_gate(value)
            if muted and muted[-1][1] == 2**62:
                muted[-1][1] = opened
        else:
            assert all(length > 0 for _, _, length in tap.take_gaps())
        assert tap.lost >= 0


@fuzzed(packet=packets, size=st.integers(-1, 500))
@example(packet=b"", size=5)
@example(packet=b"INFO sip:a SIP/2.0\r\nc: x\r\n\r\nab", size=500)
def test_any_bytes_can_be_taken_apart_as_a_message(packet: bytes, size: int) -> None:
    headers, content_type, body = _take_apart(packet, size)
    assert len(body) <= len(packet)
    assert size < 0 or len(body) <= size
    assert content_type == "" or content_type in [value for _, value in headers]
