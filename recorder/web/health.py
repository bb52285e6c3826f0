"""`/healthz`: the process lives. `/readyz`: calls may be sent here. `/metrics`: everything counted."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web
from prometheus_client import Gauge
from prometheus_client.exposition import choose_encoder

from recorder.errors import RecorderError, StorageError
from recorder.library.index import Index
from recorder.web.auth import Caller
from recorder.web.resource import Resource
from recorder.web.services import SERVICES, ReadinessCheck

_log = structlog.get_logger()

CHECK_TIMEOUT_S = 3.0
WRITING_LAG_S = 5.0
# Anybody may ask, and the index check writes: what was found stands for so long.
FRESH_S = 1.0


class Readiness:
    """The checks behind `/readyz`. Each runs at most once at a time, however often it is asked for."""

    def __init__(self, checks: Mapping[str, ReadinessCheck]) -> None:
        self._checks = checks
        self._running: dict[str, asyncio.Task[str | None]] = {}
        self._found: dict[str, tuple[float, str | None]] = {}

    async def problems(self) -> dict[str, str | None]:
        """What is wrong, by check; None where nothing is. A check that hangs is a problem after CHECK_TIMEOUT_S."""
        found = await asyncio.gather(*(self._ask(name) for name in self._checks))
        return dict(zip(self._checks, found, strict=True))

    async def close(self) -> None:
        """Give up the checks that are under way."""
        running = tuple(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _ask(self, name: str) -> str | None:
        loop = asyncio.get_running_loop()
        found = self._found.get(name)
        if found is not None and loop.time() - found[0] < FRESH_S:
            return found[1]
        task = self._running.get(name)
        if task is None:
            task = self._running[name] = asyncio.create_task(self._run(name))
        done, _ = await asyncio.wait({task}, timeout=CHECK_TIMEOUT_S)
        return task.result() if done else f"no answer within {CHECK_TIMEOUT_S:g} s"

    async def _run(self, name: str) -> str | None:
        problem: str | None = None
        try:
            await self._checks[name]()
        except RecorderError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 - whatever a check raises, it is not ready
            _log.exception("readiness_check_fault", check=name)
            problem = f"the check itself failed: {type(error).__name__}"
        finally:
            del self._running[name]
        self._found[name] = (asyncio.get_running_loop().time(), problem)
        return problem


READINESS: web.AppKey[Readiness] = web.AppKey("readiness", Readiness)


def index_check(index: Index) -> ReadinessCheck:
    """Check that the index can be written, by writing."""

    async def check() -> None:
        await asyncio.to_thread(index.check_writable)

    return check


def disk_check(folder: Path, floor_bytes: int, free_gauge: Gauge) -> ReadinessCheck:
    """Check that the disk of `folder` has more than `floor_bytes` free; what is free goes to `free_gauge`."""

    async def check() -> None:
        try:
            free = (await asyncio.to_thread(shutil.disk_usage, folder)).free
        except OSError as error:
            raise StorageError(f"{folder}: the recordings' folder cannot be reached: {error.strerror}") from error
        free_gauge.set(free)
        if free < floor_bytes:
            raise StorageError(
                f"{folder}: {free // 1_000_000} MB free, less than the floor of {floor_bytes // 1_000_000} MB "
                "(recording.disk_floor_mb); free space, or move recordings away"
            )

    return check


def writing_check(lag_s: Callable[[], float], waiting_bytes: Callable[[], int]) -> ReadinessCheck:
    """Check that the disk takes what is recorded: what waits for it in memory is lost when it does not come back."""

    async def check() -> None:
        if (lag := lag_s()) > WRITING_LAG_S:
            raise StorageError(
                f"the disk of recording.folder has not taken all audio for {lag:.0f} s, {waiting_bytes() / 1e6:.0f} MB "
                "wait in memory (recording.queue_mb); see recording_storage_failed in the log, and the disk itself"
            )

    return check


async def get_health(_: web.Request, __: Caller) -> web.Response:
    """Answer at all: the event loop is alive."""
    return web.json_response({"status": "ok"})


async def get_readiness(request: web.Request, _: Caller) -> web.Response:
    """Run the checks; 503 when one fails."""
    problems = await request.app[READINESS].problems()
    ready = all(problem is None for problem in problems.values())
    checks: dict[str, Any] = {
        name: {"ok": True} if problem is None else {"ok": False, "detail": problem}
        for name, problem in problems.items()
    }
    return web.json_response({"ready": ready, "checks": checks}, status=200 if ready else 503)


async def get_metrics(request: web.Request, _: Caller) -> web.Response:
    """Show the metrics in the format that the scraper accepts."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    body = encode(request.app[SERVICES].metrics.registry)
    return web.Response(body=body, headers={"Content-Type": content_type})


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


_READY = {"$ref": "#/components/schemas/Readiness"}
RESOURCES = (
    Resource(
        "GET",
        "/healthz",
        get_health,
        None,
        {
            "operationId": "getHealth",
            "tags": ["operation"],
            "summary": "Is the process alive",
            "responses": {"200": _json("It is.", {"type": "object", "properties": {"status": {"const": "ok"}}})},
        },
    ),
    Resource(
        "GET",
        "/readyz",
        get_readiness,
        None,
        {
            "operationId": "getReadiness",
            "tags": ["operation"],
            "summary": "May calls be sent here",
            "responses": {"200": _json("Every check holds.", _READY), "503": _json("A check fails.", _READY)},
        },
    ),
    Resource(
        "GET",
        "/metrics",
        get_metrics,
        None,
        {
            "operationId": "getMetrics",
            "tags": ["operation"],
            "summary": "Metrics for Prometheus",
            "responses": {
                "200": {
                    "description": "Text format, or OpenMetrics where that is accepted.",
                    "content": {"text/plain": {"schema": {"type": "string"}}},
                }
            },
        },
    ),
)
