"""What the HTTP interface is built on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from recorder.library.index import Index
from recorder.metrics import Metrics
from recorder.settings import Http

LiveCalls = Callable[[], Awaitable[Sequence[Mapping[str, Any]]]]
ReadinessCheck = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Services:
    """What the resources work with.

    Attributes:
        index: the library's index.
        folder: where the recordings and their manifests are.
        http: the section of the settings, with the tokens.
        metrics: the recorder's metrics, which `/metrics` shows.
        live_calls: what `GET /api/v1/calls` returns: one JSON-ready mapping a call.
        readiness: what must hold before calls are sent here, by name; a check raises RecorderError to say what fails.
    """

    index: Index
    folder: Path
    http: Http
    metrics: Metrics
    live_calls: LiveCalls
    readiness: Mapping[str, ReadinessCheck]


SERVICES: web.AppKey[Services] = web.AppKey("services", Services)
