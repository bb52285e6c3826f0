"""OPTIONS to the targets that ask for it (RFC 3261, section 11). Owned by the sip thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import structlog
from prometheus_client import Gauge

from recorder.calls.health import Health

_log = structlog.get_logger()

_TICK_S = 0.25
_PATIENCE_S = 4.0


class Line(Protocol):
    """What the prober needs of the endpoint."""

    def call_later(self, delay_s: float, action: Callable[[], None]) -> object:
        """Run `action` after `delay_s`."""

    def send_options(self, uri: str, answered: Callable[[int], None]) -> None:
        """Send OPTIONS; `answered(status)` runs once, with 0 when the far side has said nothing."""


class Prober:
    """Probes the targets of `uris`, by the key they have in `health`, when they are due.

    `up` gets 1 or 0 for each. A final response other than 503 is an answer, whatever it says: 405 shows life as well.
    """

    def __init__(self, line: Line, health: Health, uris: dict[str, str], up: Gauge) -> None:
        self._line = line
        self._health = health
        self._uris = uris
        self._up = up

    def begin(self) -> None:
        """Probe from now on, for as long as the endpoint lives."""
        for key in self._uris:
            self._up.labels(key).set(1)
        if self._uris:
            self._tick()

    def _tick(self) -> None:
        for key in self._health.due(time.monotonic()):
            self._probe(key)
        self._line.call_later(_TICK_S, self._tick)

    def _probe(self, key: str) -> None:
        told = False

        def tell(status: int) -> None:
            nonlocal told
            well = status not in (0, 408, 503)
            if told and not well:
                return  # it was given up before
            told = True
            if self._health.answered(key, time.monotonic(), well=well):
                up = self._health.is_up(key)
                self._up.labels(key).set(int(up))
                (_log.info if up else _log.warning)("target_up" if up else "target_down", target=key, sip_status=status)

        # The transaction by itself would take 32 s (RFC 3261, timer F).
        self._line.call_later(_PATIENCE_S, lambda: tell(0))
        self._line.send_options(self._uris[key], tell)
