"""What the HTTP interface is built on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from recorder.byte_store import PLAIN, Storage
from recorder.calls.recording_control import Control, Operator
from recorder.library.audit import AuditEntry
from recorder.library.index import Index
from recorder.metrics import Metrics
from recorder.settings import Http

LiveCalls = Callable[[], Awaitable[Sequence[Mapping[str, Any]]]]
ReadinessCheck = Callable[[], Awaitable[None]]


class CallControl(Protocol):
    """What operators may do to live calls. Raises NotFoundError, ConflictError and NotAnsweringError."""

    async def control(self, dialog_id: str, control: Control, operator: Operator) -> Mapping[str, Any]:
        """Begin or end a step of an operator; returns the call as it is then."""

    async def hang_up(self, dialog_id: str, operator: Operator) -> None:
        """End a call."""


@dataclass(frozen=True, slots=True)
class Services:
    """What the resources work with.

    Attributes:
        index: the library's index.
        folder: where the recordings and their manifests are.
        http: the section of the settings, with the tokens.
        metrics: the recorder's metrics, which `/metrics` shows.
        live_calls: what `GET /api/v1/calls` returns: one JSON-ready mapping a call.
        control: what operators do to live calls.
        audit: takes an entry of the audit over, and does not wait for the disk.
        storage: how the recordings' files are laid out.
        readiness: what must hold before calls are sent here, by name; a check raises RecorderError to say what fails.
    """

    index: Index
    folder: Path
    http: Http
    metrics: Metrics
    live_calls: LiveCalls
    control: CallControl
    audit: Callable[[AuditEntry], None]
    readiness: Mapping[str, ReadinessCheck]
    storage: Storage = PLAIN


SERVICES: web.AppKey[Services] = web.AppKey("services", Services)
