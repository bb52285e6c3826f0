"""Digits: which SIP INFO holds one, and which telling of one is a second telling of the same.

Some phones send each digit twice, as telephone event (RFC 4733) and as INFO. It was pressed once.
"""

from __future__ import annotations

import re

from recorder.calls.events import InfoReceived, Side

_REPEATED_WITHIN_S = 1.0
_MOST_WAITING = 32
_RELAY = re.compile(rb"^\s*Signal\s*=\s*([0-9A-Da-d*#])\s*$", re.MULTILINE | re.ASCII)
_BARE = re.compile(rb"\s*([0-9A-Da-d*#])\s*", re.ASCII)


def digit_of(info: InfoReceived) -> str | None:
    """The digit that an INFO holds, as application/dtmf-relay or application/dtmf; None when it is not such an INFO."""
    content_type = info.content_type.partition(";")[0].strip().lower()
    if content_type == "application/dtmf-relay":
        found = _RELAY.search(info.body)
    elif content_type == "application/dtmf":
        found = _BARE.fullmatch(info.body)
    else:
        return None
    return found[1].decode().upper() if found else None


class Presses:
    """The digits of one call that have been told in one way, and may yet be told in the other."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Side, str, bool, float]] = []

    def is_repeat(self, side: Side, digit: str, by_info: bool, now: float) -> bool:
        """Take a digit that has come in. True when the same one has just come the other way, which it then answers."""
        self._waiting = [one for one in self._waiting if now - one[3] <= _REPEATED_WITHIN_S][-_MOST_WAITING:]
        for one in self._waiting:
            if one[:3] == (side, digit, not by_info):
                self._waiting.remove(one)
                return True
        self._waiting.append((side, digit, by_info, now))
        return False
