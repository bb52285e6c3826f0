"""Taps and slots in a real conference bridge, with calls of an endpoint to itself."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.native.program import command, environment

FRAME = 160
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


def test_positions_follow_the_clock_and_are_common_to_all_taps(tones: dict[str, Any]) -> None:
    assert tones["spread"] <= FRAME
    assert tones["elapsed_s"] == pytest.approx(2, abs=0.3)
    for tap in tones["taps"]:
        assert (tap["origin"] - tones["taps"][0]["origin"]) % FRAME == 0
        assert tap["first"] == tap["origin"]
        assert tap["first"] + tap["length"] == tap["position"]
        assert tap["dropped"] == 0


def test_the_gate_silences_what_the_bridge_puts(tones: dict[str, Any]) -> None:
    tap = tones["taps"][0]
    assert tap["shut"] == 0
    assert tap["opened"] - tap["shut_from"] >= SECOND // 4
    assert tap["reopened"] > FRAME // 2


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


def test_a_detached_tap_cannot_be_attached_again(tones: dict[str, Any]) -> None:
    assert tones["attach_after_detach_refused"]


def test_the_bridge_reports_nothing_to_python_once_we_use_it(tones: dict[str, Any]) -> None:
    assert tones["bridge_reports_since_connect"] == 0


def test_a_thousand_taps_come_and_go_under_load() -> None:
    assert int(run("attach_detach.py", "170")) > 0  # times six legs


def test_the_media_clock_does_not_wait_for_the_gil_while_taps_join_and_leave() -> None:
    assert int(run("gil.py")) >= 5 * 5


def test_another_thread_ends_the_wait_for_events() -> None:
    assert int(run("woken.py")) == 50
