"""What SIPp writes is read back exactly."""

from __future__ import annotations

from pathlib import Path

import pytest

from recorder.loadtest.sipp_output import Statistics, read_log, read_messages, read_statistics, words

INFO = b"INFO sip:x SIP/2.0\r\nCall-ID: 1@h\r\nContent-Type:  a/b \r\nContent-Length: 7\r\n\r\n\x01\xff---\r\n"
OK = b"SIP/2.0 299 Noted\r\nCSeq: 2 INFO\r\n\r\n"


def trace(folder: Path) -> Path:
    bar = b"-" * 47
    path = folder / "messages.txt"
    path.write_bytes(
        bar + b" 2026-11-22 12:21:00.250000\nUDP message sent (" + str(len(INFO)).encode()
        + b" bytes):\n\n" + INFO + b"\n"
        + bar + b" 2026-11-22 12:21:00.260000\nUDP message received [" + str(len(OK)).encode()
        + b"] bytes :\n\n" + OK + b"\n"
    )  # fmt: skip
    return path


def test_messages_keep_every_byte(tmp_path: Path) -> None:
    sent, received = read_messages(trace(tmp_path))
    assert (sent.sent, sent.method, sent.status, sent.raw) == (True, "INFO", None, INFO)
    assert sent.body == b"\x01\xff---\r\n"
    assert sent.header("content-type") == "a/b"
    assert sent.header("record") is None
    assert (received.sent, received.method, received.status) == (False, None, 299)
    assert received.time_s - sent.time_s == pytest.approx(0.01, abs=1e-4)


def test_no_trace_holds_no_messages(tmp_path: Path) -> None:
    assert read_messages(tmp_path / "absent.txt") == []


def test_the_last_line_of_the_statistics_counts(tmp_path: Path) -> None:
    path = tmp_path / "statistics.csv"
    path.write_text(
        "TotalCallCreated;SuccessfulCall(C);FailedCall(C);Retransmissions(C);\n1;0;0;0;\n10;8;2;3;\n", encoding="utf-8"
    )
    assert read_statistics(path) == Statistics(created=10, successful=8, failed=2, retransmissions=3)
    assert read_statistics(tmp_path / "absent.csv") == Statistics()


def test_a_timestamp_in_a_log_line_is_one_word(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("answered 7001 2026-11-22\t12:32:55.576752\t1795350775.576752 18522\nplain\n", encoding="utf-8")
    assert read_log(path) == [("answered", "7001", "1795350775.576752", "18522"), ("plain",)]
    assert words("") == ()
