"""What SIPp leaves behind: its message trace, its statistics, its errors and the lines its scenarios log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

_MESSAGE = re.compile(
    rb"^-{40,} (?P<date>\S+)\s+(?P<time>\S+)\n"
    rb"\w+ message (?P<direction>sent|received) (?:\((?P<sent>\d+) bytes\)|\[(?P<received>\d+)\] bytes ?):\n\n",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class SipMessage:
    """One message as SIPp sent or received it. `time_s` is epoch seconds, `raw` the exact bytes."""

    time_s: float
    sent: bool
    raw: bytes

    @property
    def first_line(self) -> str:
        """The request or status line."""
        return self.raw.partition(b"\r\n")[0].decode("utf-8", "replace")

    @property
    def method(self) -> str | None:
        """The method of a request; None for a response."""
        word = self.first_line.partition(" ")[0]
        return None if word == "SIP/2.0" else word

    @property
    def status(self) -> int | None:
        """The status code of a response; None for a request."""
        parts = self.first_line.split(" ", 2)
        return int(parts[1]) if parts[0] == "SIP/2.0" else None

    @property
    def body(self) -> bytes:
        """What follows the empty line."""
        return self.raw.partition(b"\r\n\r\n")[2]

    def header(self, name: str) -> str | None:
        """The value of the first header of this name; None when there is none."""
        head = self.raw.partition(b"\r\n\r\n")[0].decode("utf-8", "replace")
        for line in head.split("\r\n")[1:]:
            field, colon, value = line.partition(":")
            if colon and field.strip().lower() == name.lower():
                return value.strip()
        return None


@dataclass(frozen=True, slots=True)
class Statistics:
    """SIPp's own counts for one run."""

    created: int = 0
    successful: int = 0
    failed: int = 0
    retransmissions: int = 0
    unexpected: int = 0
    timeouts: int = 0
    out_of_call: int = 0
    watchdog: int = 0


def read_messages(path: Path) -> list[SipMessage]:
    """Read a -trace_msg file; an absent one holds no messages."""
    text = path.read_bytes() if path.exists() else b""
    messages = []
    for found in _MESSAGE.finditer(text):
        size = int(found["sent"] or found["received"])
        when = datetime.fromisoformat(f"{found['date'].decode()} {found['time'].decode()}").astimezone()
        raw = text[found.end() : found.end() + size]
        messages.append(SipMessage(when.timestamp(), found["direction"] == b"sent", raw))
    return messages


def read_statistics(path: Path) -> Statistics:
    """Read the last line of a -trace_stat file."""
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    if len(lines) < 2:
        return Statistics()
    row = dict(zip(lines[0].split(";"), lines[-1].split(";"), strict=False))

    def count(name: str) -> int:
        return int(row.get(name, "0") or 0)

    return Statistics(
        created=count("TotalCallCreated"),
        successful=count("SuccessfulCall(C)"),
        failed=count("FailedCall(C)"),
        retransmissions=count("Retransmissions(C)"),
        unexpected=count("FailedUnexpectedMessage(C)"),
        timeouts=count("FailedMaxUDPRetrans(C)") + count("FailedTimeoutOnRecv(C)"),
        out_of_call=count("OutOfCallMsgs(C)"),
        watchdog=count("WatchdogMajor(C)") + count("WatchdogMinor(C)"),
    )


def read_log(path: Path) -> list[tuple[str, ...]]:
    """Read the lines of <log> actions, as `words`."""
    text = path.read_text(errors="replace") if path.exists() else ""
    return [words(line) for line in text.splitlines() if line]


def words(line: str) -> tuple[str, ...]:
    """Split a line of a <log> action. SIPp's [timestamp] (date, time, epoch seconds) becomes one word, its last."""
    return tuple(re.sub(r"\d{4}-\d\d-\d\d\s+[\d:.]+\s+(\d+\.\d+)", r"\1", line).split())
