"""Whether there is room for one more call: each limit by itself, and the rate of a trunk over time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.calls.admission import Admission, Room
from recorder.settings import Settings

TRUNKS = [
    {"name": "small", "sources": ["192.0.2.1"], "max_calls": 2},
    {"name": "slow", "sources": ["192.0.2.2"], "calls_per_second": 2, "calls_burst": 3},
    {"name": "free", "sources": ["192.0.2.3"]},
]


def admission(**recording: Any) -> Admission:
    return Admission(
        Settings.model_validate(
            {"sip": {"max_calls": 3}, "trunks": TRUNKS, "recording": {"disk_floor_mb": 10, **recording}}
        )
    )


def reason(limits: Admission, trunk: str, room: Room, now: float = 100.0, *, recorded: bool = True) -> str | None:
    refusal = limits.refusal(trunk, room, now, recorded=recorded)
    return None if refusal is None else refusal.reason


@pytest.mark.parametrize(
    ("trunk", "room", "why"),
    [
        ("free", Room(calls=2), None),
        ("free", Room(calls=3), "capacity"),
        ("free", Room(trunk_calls=2), None),
        ("small", Room(trunk_calls=1), None),
        ("small", Room(trunk_calls=2), "trunk_capacity"),
        ("free", Room(legs=1), "rtp_ports"),
        ("free", Room(descriptors=10), "descriptors"),
        ("loopback", Room(), None),
    ],
)
def test_each_limit_has_a_reason_of_its_own(trunk: str, room: Room, why: str | None) -> None:
    assert reason(admission(), trunk, room) == why


def test_while_draining_every_call_is_refused_with_a_time_to_come_back() -> None:
    limits = admission()
    limits.draining = True
    refusal = limits.refusal("free", Room(), 100.0, recorded=False)
    assert refusal is not None
    assert (refusal.reason, refusal.retry_after_s) == ("draining", 30)


@pytest.mark.parametrize(
    ("room", "why"),
    [
        (Room(disk_bytes=9_999_999), "disk_full"),
        (Room(disk_queue_bytes=128_000_001), "disk_stalled"),
        (Room(writer_lag_s=4.1), "writer_lag"),
    ],
)
def test_what_might_not_be_recorded_whole_is_connected_unless_refusing_is_asked_for(room: Room, why: str) -> None:
    assert reason(admission(), "free", room) is None
    assert admission().storage_trouble(room) == why
    refusing = admission(when_disk_full="refuse")
    assert reason(refusing, "free", room) == why
    assert reason(refusing, "free", room, recorded=False) is None


def test_a_disk_that_is_not_known_to_be_full_is_none() -> None:
    assert admission().storage_trouble(Room()) is None
    assert admission().storage_trouble(Room(disk_bytes=10_000_000, writer_lag_s=3.9)) is None


def test_a_trunk_has_its_burst_and_then_its_rate() -> None:
    limits = admission()
    assert [reason(limits, "slow", Room(), 100.0) for _ in range(4)] == [None, None, None, "trunk_rate"]
    assert reason(limits, "free", Room(), 100.0) is None
    assert [reason(limits, "slow", Room(), 100.5) for _ in range(2)] == [None, "trunk_rate"]
    refusal = limits.refusal("slow", Room(), 100.6, recorded=True)
    assert refusal is not None
    assert refusal.retry_after_s == 1
    assert [reason(limits, "slow", Room(), 200.0) for _ in range(4)] == [None, None, None, "trunk_rate"]


def test_a_call_that_is_refused_for_something_else_costs_no_token() -> None:
    limits = admission()
    assert {reason(limits, "slow", Room(calls=3)) for _ in range(20)} == {"capacity"}
    assert [reason(limits, "slow", Room()) for _ in range(4)] == [None, None, None, "trunk_rate"]


@given(st.lists(st.floats(min_value=0, max_value=0.7), min_size=1, max_size=60))
def test_no_pattern_of_arrivals_gets_more_than_burst_and_rate(gaps: list[float]) -> None:
    limits, now, admitted = admission(), 100.0, 0
    for gap in gaps:
        now += gap
        admitted += reason(limits, "slow", Room(), now) is None
    assert admitted <= 3 + 2 * (now - 100.0) + 1e-6
