from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from recorder.errors import StartError
from recorder.library import database
from recorder.web import health
from recorder.web.app import build_app
from recorder.web.health import disk_check, index_check
from recorder.web.services import ReadinessCheck, Services

from .conftest import Client, Clients, bearer

ClientWith = Callable[..., Any]


@pytest.fixture
def with_checks(services: Services, aiohttp_client: Clients) -> ClientWith:
    async def make(**checks: ReadinessCheck) -> Client:
        return await aiohttp_client(build_app(replace(services, readiness=checks)))

    return make


async def fine() -> None:
    pass


async def test_healthz_says_that_the_loop_lives(client: Client) -> None:
    answer = await client.get("/healthz")
    assert (answer.status, await answer.json()) == (200, {"status": "ok"})


async def test_ready_when_every_check_holds(with_checks: ClientWith, services: Services) -> None:
    client = await with_checks(
        sip=fine,
        index=index_check(services.index),
        disk=disk_check(services.folder, 1, services.metrics.disk_free),
    )
    answer = await client.get("/readyz")
    assert answer.status == 200
    assert await answer.json() == {"ready": True, "checks": {name: {"ok": True} for name in ("sip", "index", "disk")}}
    assert services.metrics.registry.get_sample_value("recorder_disk_free_bytes") > 0


async def test_one_failing_check_is_enough_and_is_named(with_checks: ClientWith) -> None:
    async def broken() -> None:
        raise StartError("udp 127.0.0.1:5060 is not bound")

    client = await with_checks(sip=broken, index=fine)
    answer = await client.get("/readyz")
    assert answer.status == 503
    assert await answer.json() == {
        "ready": False,
        "checks": {"sip": {"ok": False, "detail": "udp 127.0.0.1:5060 is not bound"}, "index": {"ok": True}},
    }


async def test_a_check_with_a_fault_is_not_ready(with_checks: ClientWith) -> None:
    async def faulty() -> None:
        raise ZeroDivisionError("secret")

    answer = await (await with_checks(sip=faulty)).get("/readyz")
    assert answer.status == 503
    assert (await answer.json())["checks"]["sip"]["detail"] == "the check itself failed: ZeroDivisionError"


async def test_a_hanging_check_is_not_ready_and_is_not_started_twice(
    with_checks: ClientWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "CHECK_TIMEOUT_S", 0.02)
    started = 0
    go_on = asyncio.Event()

    async def hangs() -> None:
        nonlocal started
        started += 1
        await go_on.wait()

    client = await with_checks(disk=hangs)
    for _ in range(3):
        answer = await client.get("/readyz")
        assert answer.status == 503
        assert (await answer.json())["checks"]["disk"]["detail"] == "no answer within 0.02 s"
    assert started == 1
    go_on.set()
    monkeypatch.setattr(health, "CHECK_TIMEOUT_S", 10)
    assert (await client.get("/readyz")).status == 200


async def test_a_hanging_check_does_not_hold_up_the_end(
    with_checks: ClientWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "CHECK_TIMEOUT_S", 0.01)

    async def hangs() -> None:
        await asyncio.Event().wait()

    client = await with_checks(disk=hangs)
    assert (await client.get("/readyz")).status == 503
    async with asyncio.timeout(5):
        await client.close()


async def test_asking_often_checks_seldom(with_checks: ClientWith) -> None:
    asked = 0

    async def counted() -> None:
        nonlocal asked
        asked += 1

    client = await with_checks(index=counted)
    answers = await asyncio.gather(*(client.get("/readyz") for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert asked == 1


async def test_a_locked_index_is_not_ready(
    with_checks: ClientWith, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.02)
    services.index.close()
    client = await with_checks(index=index_check(services.index))
    with closing(sqlite3.connect(services.index.path, isolation_level=None)) as other:
        services.index.check_writable()
        other.execute("BEGIN IMMEDIATE")
        answer = await client.get("/readyz")
    assert answer.status == 503
    assert "another process holds it" in (await answer.json())["checks"]["index"]["detail"]


async def test_a_disk_below_its_floor_or_out_of_reach_is_not_ready(
    with_checks: ClientWith, services: Services, tmp_path: Path
) -> None:
    gauge = services.metrics.disk_free
    client = await with_checks(
        full=disk_check(services.folder, 2**62, gauge), gone=disk_check(tmp_path / "gone", 0, gauge)
    )
    checks = (await (await client.get("/readyz")).json())["checks"]
    assert "less than the floor" in checks["full"]["detail"]
    assert "cannot be reached: No such file" in checks["gone"]["detail"]


async def test_metrics_count_requests_by_template_without_identifiers(client: Client) -> None:
    await client.get("/api/v1/recordings/SOMEDIALOG", headers=bearer())
    await client.get("/api/v1/recordings/OTHERDIALOG/audio")
    await client.get("/some/where/else")
    await client.request("PROPFIND", "/healthz")
    await client.head("/healthz")
    answer = await client.get("/metrics")
    text = await answer.text()
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    for labels in (
        'method="GET",resource="/api/v1/recordings/{dialogId}",status="404"',
        'method="GET",resource="/api/v1/recordings/{dialogId}/audio",status="401"',
        'method="GET",resource="unmatched",status="404"',
        'method="other",resource="unmatched",status="405"',
        'method="HEAD",resource="/healthz",status="200"',
    ):
        assert f"recorder_http_requests_total{{{labels}}} 1.0" in text
    assert "DIALOG" not in text.replace("dialogId", "")
    assert "/some/where" not in text


async def test_metrics_speak_openmetrics_where_it_is_asked_for(client: Client) -> None:
    answer = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert (await answer.text()).endswith("# EOF\n")
