"""Taps on the packets of real calls of an endpoint to itself, and slots in its conference bridge."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.native.program import command, environment

SECOND = 8000


def run(program: str, *arguments: str) -> str:
    """What the program says last. Its exit code must be 0, also after the endpoint has been destroyed."""
    done = subprocess.run(
        command(program, *arguments), env=environment(), capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def tones() -> dict[str, Any]:
    report: dict[str, Any] = json.loads(run("tones.py"))
    return report


def test_each_tap_hears_the_tone_played_into_the_other_end_of_its_call(tones: dict[str, Any]) -> None:
    heard = [tap["loudest_hz"] for tap in tones["taps"]]
    played = tones["tones_hz"]
    assert heard == pytest.approx([played[1], played[0], played[3], played[2]], abs=2)
    assert all(tap["level"] > 1000 for tap in tones["taps"])


def test_what_is_read_goes_from_the_origin_to_the_end(tones: dict[str, Any]) -> None:
    for tap in tones["taps"]:
        assert tap["first"] == tap["origin"]
        assert tap["first"] + tap["length"] == tap["position"]
        assert tap["dropped"] == 0


def test_the_gate_silences_what_comes_in(tones: dict[str, Any]) -> None:
    tap = tones["taps"][0]
    assert tap["shut"] == 0
    assert tap["opened"] - tap["shut_from"] >= SECOND // 4
    assert tap["reopened"] > SECOND // 20


def test_a_tap_hears_silence_once_its_source_has_gone(tones: dict[str, Any]) -> None:
    assert [tap["after_hang_up"] for tap in tones["taps"]] == [0] * 4


def test_stream_statistics_count_what_was_received(tones: dict[str, Any]) -> None:
    assert tones["codec"] == ["PCMU"] * 4
    assert tones["clock_rate_hz"] == [SECOND] * 4
    assert all(packets > 100 for packets in tones["rx_packets"])
    assert all(address.startswith("127.0.0.1:") for address in tones["remote"])
    assert all(payload_type >= 96 for payload_type in tones["telephone_event_pt"])
    assert tones["no_statistics"]
    assert tones["no_slot"] == [-1, -1, -1]


def test_a_tap_is_told_that_there_is_nobody_to_listen_to(tones: dict[str, Any]) -> None:
    assert tones["attached_to_nobody"] == [False, False, False]


def test_the_bridge_reports_nothing_to_python_once_we_use_it(tones: dict[str, Any]) -> None:
    assert tones["bridge_reports_since_connect"] == 0


def test_a_thousand_taps_come_and_go_under_load() -> None:
    assert int(run("attach_detach.py", "170")) > 0  # times six legs


def test_packets_do_not_wait_for_the_gil_while_slots_are_joined_and_parted() -> None:
    assert int(run("gil.py")) >= 5 * 5


def test_another_thread_ends_the_wait_for_events() -> None:
    assert int(run("woken.py")) == 50


def test_legs_that_are_relayed_encode_nothing_until_they_part() -> None:
    while_joined, afterwards = map(int, run("relayed.py").split())
    assert while_joined == 0
    assert afterwards >= 20
