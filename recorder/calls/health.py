"""Which targets can be reached: what OPTIONS says of those that are probed, and what calls have found out.

A target that is down is tried last, not never. `now` is in seconds on a monotonic clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from recorder.calls.targets import Address, Target

_FAILURES = 2  # so many probes in a row, before a target that has been up is down
_SOON_S = 2.0  # until the probe after the first one that failed
_MOST_DOUBLED = 3  # times the interval is doubled for a target that stays down
_SUSPECT_S = 30.0
_MOST_SUSPECTS = 1000


@dataclass(slots=True)
class _Probed:
    interval_s: float
    due_at: float
    up: bool = True
    asked: bool = False
    failures: int = 0


class Health:
    """What is known of each target. Owned by the sip thread.

    `intervals` holds the targets to be probed, by `key_of`, with the seconds between two probes.
    """

    def __init__(self, intervals: Mapping[str, float], now: float) -> None:
        self._probed = {key: _Probed(interval_s, now) for key, interval_s in intervals.items()}
        self._suspects: dict[str, float] = {}  # until when

    def due(self, now: float) -> list[str]:
        """The targets to be probed now; of each it is to be told whether it `answered`."""
        due = [key for key, probed in self._probed.items() if not probed.asked and probed.due_at <= now]
        for key in due:
            self._probed[key].asked = True
        return due

    def answered(self, key: str, now: float, *, well: bool) -> bool:
        """Take note of how a probe went, `well` or not; return whether the target has changed between up and down.

        An answer that comes after its probe was counted as failed is still an answer.
        """
        probed = self._probed[key]
        was_up, probed.asked = probed.up, False
        if well:
            probed.up, probed.failures = True, 0
            probed.due_at = now + probed.interval_s
        else:
            probed.failures += 1
            probed.up = probed.up and probed.failures < _FAILURES
            beyond = probed.failures - _FAILURES
            probed.due_at = now + (
                min(_SOON_S, probed.interval_s) if beyond < 0 else probed.interval_s * 2 ** min(beyond, _MOST_DOUBLED)
            )
        return probed.up != was_up

    def is_up(self, key: str) -> bool:
        """What the probes say of a target that is probed."""
        return self._probed[key].up

    def call_failed(self, target: Target, now: float) -> None:
        """A call could not reach this target: others come first for a while, or until it is heard of."""
        if len(self._suspects) >= _MOST_SUSPECTS:
            self._suspects = {key: until for key, until in self._suspects.items() if until > now}
        if len(self._suspects) < _MOST_SUSPECTS:
            self._suspects[_at(key_of(target.uri), target.address)] = now + _SUSPECT_S
        probed = self._probed.get(key_of(target.uri))
        if probed is not None:
            probed.due_at = min(probed.due_at, now)

    def call_reached(self, target: Target) -> None:
        """A call has had a response from this target."""
        self._suspects.pop(_at(key_of(target.uri), target.address), None)

    def in_order(self, targets: Iterable[Target], now: float) -> tuple[Target, ...]:
        """The targets as they are, but for those that are down or suspect: they come last."""
        return tuple(sorted(targets, key=lambda target: self._is_doubtful(target, now)))

    def addresses_in_order(self, target: Target, addresses: Iterable[Address], now: float) -> tuple[Address, ...]:
        """The addresses of a target's name, those last that calls could not reach."""
        key = key_of(target.uri)
        return tuple(sorted(addresses, key=lambda address: self._is_suspect(_at(key, address), now)))

    def _is_doubtful(self, target: Target, now: float) -> bool:
        key = key_of(target.uri)
        probed = self._probed.get(key)
        return (probed is not None and not probed.up) or self._is_suspect(_at(key, target.address), now)

    def _is_suspect(self, key: str, now: float) -> bool:
        return self._suspects.get(key, now) > now


@lru_cache(1024)
def key_of(uri: str) -> str:
    """What stands for a target, whichever number is called there: its URI without user, which OPTIONS goes to."""
    return re.sub(r"^(sips?:)[^@]*@", r"\1", uri, flags=re.IGNORECASE)


def _at(key: str, address: Address | None) -> str:
    return key if address is None else f"{key} {address}"
