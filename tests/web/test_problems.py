from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from recorder.web.app import build_app
from recorder.web.auth import Caller
from recorder.web.resource import Resource
from recorder.web.services import Services

from .conftest import Client, Clients, Library, bearer

SECURITY = {
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Server": "recorder",
}


async def test_an_unknown_path_is_a_problem(client: Client) -> None:
    answer = await client.get("/api/v1/nothing?access_token=x")
    assert answer.status == 404
    assert answer.content_type == "application/problem+json"
    assert await answer.json() == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "there is no such resource; /api/docs lists those there are",
        "instance": "/api/v1/nothing",
    }


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_a_method_that_a_resource_has_not_is_a_problem(client: Client, method: str) -> None:
    answer = await client.request(method, "/api/v1/recordings", headers=bearer())
    assert answer.status == 405
    assert set(answer.headers["Allow"].split(",")) == {"GET", "HEAD"}
    assert (await answer.json())["title"] == "Method Not Allowed"
    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_recorder_error_names_a_documented_type(client: Client) -> None:
    answer = await client.get("/api/v1/recordings/NONE", headers=bearer())
    assert await answer.json() == {
        "type": "/api/docs#problem-not-found",
        "title": "Not found",
        "status": 404,
        "detail": "there is no recording of dialog NONE",
        "instance": "/api/v1/recordings/NONE",
    }
    assert 'id="problem-not-found"' in await (await client.get("/api/docs")).text()


async def test_a_fault_tells_the_client_a_reference_and_the_log_the_rest(
    services: Services, aiohttp_client: Clients
) -> None:
    async def faulty(_: web.Request, __: Caller) -> web.Response:
        raise KeyError("inner secret")

    operation = {"operationId": "x", "summary": "x", "responses": {"200": {"description": "x"}}}
    client = await aiohttp_client(build_app(services, [Resource("GET", "/x", faulty, None, operation)]))
    with capture_logs() as logs:
        answer = await client.get("/x")
    assert answer.status == 500
    body = await answer.json()
    assert "secret" not in str(body)
    (fault,) = [entry for entry in logs if entry["event"] == "http_fault"]
    assert fault["reference"] == body["reference"]
    assert body["reference"] in body["detail"]
    assert fault["exc_info"]


async def test_a_body_that_is_too_large_is_a_problem(services: Services, aiohttp_client: Clients) -> None:
    async def read(request: web.Request, _: Caller) -> web.Response:
        return web.json_response({"bytes": len(await request.read())})

    operation = {"operationId": "x", "summary": "x", "responses": {"200": {"description": "x"}}}
    client = await aiohttp_client(build_app(services, [Resource("POST", "/x", read, None, operation)]))
    assert (await client.post("/x", data=b"x" * 1000)).status == 200
    answer = await client.post("/x", data=b"x" * 100_000)
    assert (answer.status, answer.content_type) == (413, "application/problem+json")


async def test_every_answer_is_safe_for_a_browser(client: Client, library: Library) -> None:
    library.add(dialog="D1")
    for path in ("/healthz", "/metrics", "/nowhere", "/api/docs", "/api/v1/calls", "/api/v1/recordings/D1/audio"):
        answer = await client.get(path, headers=bearer())
        await answer.read()
        assert {name: answer.headers[name] for name in SECURITY} == SECURITY, path
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "no-store" in answer.headers["Cache-Control"]


@pytest.mark.parametrize("damage", ["rubbish", "removed"])
async def test_an_unusable_index_is_a_problem_and_not_the_end(
    client: Client, library: Library, services: Services, damage: str
) -> None:
    library.add(dialog="D1")
    assert (await client.get("/api/v1/recordings/D1", headers=bearer())).status == 200
    services.index.close()
    library.index.close()
    path = library.index.path
    saved = path.rename(path.with_suffix(".saved"))
    if damage == "rubbish":
        path.write_bytes(b"rubbish " * 4096)
    else:
        path.mkdir()
    for resource in ("/api/v1/recordings", "/api/v1/recordings/D1", "/api/v1/recordings/D1/audio", "/api/v1/cdrs"):
        answer = await client.get(resource, headers=bearer())
        assert answer.status == 503, resource
        body = await answer.json()
        assert (body["title"], body["type"]) == ("Storage unavailable", "/api/docs#problem-storage-unavailable")
        assert str(path) in body["detail"]
    assert (await client.get("/healthz")).status == 200
    path.unlink() if damage == "rubbish" else path.rmdir()
    saved.rename(path)
    assert (await client.get("/api/v1/recordings/D1", headers=bearer())).status == 200


_watch: dict[str, Any] = {"folder": None, "seen": []}


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    folder = _watch["folder"]
    if folder is None or threading.current_thread() is not threading.main_thread():
        return
    if event in ("open", "sqlite3.connect", "os.scandir", "os.listdir") and folder in str(arguments[0]):
        _watch["seen"].append((event, arguments[0]))


@contextmanager
def files_opened_by_the_event_loop(folder: Path) -> Iterator[list[Any]]:
    """List what the main thread, which is the event loop's, opens below `folder`."""
    if not _watch.get("hooked"):
        sys.addaudithook(_audit)
        _watch["hooked"] = True
    _watch["seen"] = []
    _watch["folder"] = str(folder)
    try:
        yield _watch["seen"]
    finally:
        _watch["folder"] = None


async def test_the_event_loop_never_touches_the_disk(client: Client, library: Library, services: Services) -> None:
    library.add(dialog="D1")
    services.index.close()
    with files_opened_by_the_event_loop(library.folder) as seen:
        for path in (
            "/readyz",
            "/metrics",
            "/api/v1/recordings",
            "/api/v1/recordings/D1",
            "/api/v1/recordings/D1/audio",
            "/api/v1/cdrs",
        ):
            answer = await client.get(path, headers=bearer())
            assert answer.status == 200
            await answer.read()
    assert seen == []


async def test_the_event_loop_never_waits_for_the_index(
    client: Client, library: Library, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.add(dialog="D1")
    threads: set[threading.Thread] = set()
    opened = services.index._opened

    def watched() -> Any:
        threads.add(threading.current_thread())
        return opened()

    monkeypatch.setattr(services.index, "_opened", watched)
    for path in ("/api/v1/recordings", "/api/v1/recordings/D1", "/api/v1/recordings/D1/audio", "/api/v1/cdrs"):
        assert (await client.get(path, headers=bearer())).status == 200
    assert threads
    assert threading.main_thread() not in threads
