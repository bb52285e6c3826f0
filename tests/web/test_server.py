from __future__ import annotations

import asyncio
import errno
import logging
import socket
from typing import Any

import pytest
from aiohttp import ClientSession, web

from recorder.errors import StartError
from recorder.web.app import build_app
from recorder.web.server import start
from recorder.web.services import Services

from .conftest import Library, bearer


async def test_a_started_server_serves_and_ends(services: Services, library: Library) -> None:
    _, content = library.add(dialog="D1")
    runner = await start(build_app(services), "127.0.0.1", 0)
    host, port = runner.addresses[0]
    async with ClientSession() as session:
        async with session.get(f"http://{host}:{port}/healthz") as answer:
            assert answer.status == 200
        async with session.get(f"http://{host}:{port}/api/v1/recordings/D1/audio", headers=bearer()) as answer:
            assert await answer.read() == content
    await runner.cleanup()
    with socket.socket() as probe:
        assert probe.connect_ex((host, port)) == errno.ECONNREFUSED


async def test_a_port_in_use_is_named_with_what_to_do(services: Services) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(StartError, match=rf"http://127\.0\.0\.1:{port}: cannot listen: the port is in use; end"):
            await start(build_app(services), "127.0.0.1", port)


async def test_an_address_of_another_machine_is_named_with_what_to_do(services: Services) -> None:
    with pytest.raises(StartError, match=r"http://192\.0\.2\.1:8080: .*no such address; give http\.host"):
        await start(build_app(services), "192.0.2.1", 8080)


async def test_a_port_that_is_not_permitted_is_named_with_what_to_do(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may open any port, so the refusal is made here.
    async def refuse(_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(web.TCPSite, "start", refuse)
    with pytest.raises(StartError, match=r"http://\[::1\]:80: .*a number above 1023"):
        await start(build_app(services), "::1", 80)


async def test_a_request_that_cannot_be_parsed_is_not_quoted_in_the_log(
    services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    runner = await start(build_app(services), "127.0.0.1", 0)
    host, port = runner.addresses[0]
    for request in (
        b"GET /api/v1/recordings/D1/audio?access_token=TOPSECRET HTTP/9.9x\r\n\r\n",
        b"GET /?access_token=TOPSECRET" + b"x" * 20000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nAuthorization\x01: Bearer TOPSECRET\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(request)
        answer = await reader.read(4096)
        assert b" 400 " in answer.splitlines()[0]
        writer.close()
        await writer.wait_closed()
    await runner.cleanup()
    assert "TOPSECRET" not in caplog.text
