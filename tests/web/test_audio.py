from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from aiohttp import ClientError, ClientResponse, web

from recorder.library import database
from recorder.web.services import Services

from .conftest import Client, Library, bearer

AUDIO = "/api/v1/recordings/D1/audio"


async def fetch(client: Client, method: str = "GET", token: str = "viewer-token", **headers: str) -> ClientResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.request(method, AUDIO, headers=bearer(token) | named)


async def test_the_whole_file_comes_byte_for_byte(client: Client, library: Library) -> None:
    manifest, content = library.add(dialog="D1")
    answer = await fetch(client)
    assert answer.status == 200
    assert await answer.read() == content
    assert answer.headers["Content-Type"] == "audio/wav"
    assert answer.headers["Content-Length"] == str(len(content))
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["ETag"] == f'"{manifest.sha256}"'
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{manifest.file_name}"'
    assert answer.headers["Cache-Control"] == "private, no-store"


async def test_a_large_file_comes_byte_for_byte(client: Client, library: Library) -> None:
    _, content = library.add(dialog="D1", samples=2_000_000)
    assert await (await fetch(client)).read() == content
    part = await fetch(client, Range="bytes=1000000-3999999")
    assert await part.read() == content[1_000_000:4_000_000]


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        ("bytes=0-", 0, 8044),
        ("bytes=0-0", 0, 1),
        ("bytes=0-1", 0, 2),
        ("bytes=44-1043", 44, 1044),
        ("bytes=8043-", 8043, 8044),
        ("bytes=8000-99999", 8000, 8044),
        ("bytes=-1", 8043, 8044),
        ("bytes=-500", 7544, 8044),
        ("bytes=-99999", 0, 8044),
        ("Bytes=5-9", 5, 10),
        ("bytes= 5-9 ", 5, 10),
    ],
)
async def test_a_range_is_answered_with_those_bytes(
    client: Client, library: Library, wanted: str, start: int, end: int
) -> None:
    _, content = library.add(dialog="D1")
    answer = await fetch(client, Range=wanted)
    assert answer.status == 206
    assert await answer.read() == content[start:end]
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/8044"
    assert answer.headers["Content-Length"] == str(end - start)


@pytest.mark.parametrize(
    "wanted", ["bytes=0-1,5-9", "bytes=9-5", "bytes=a-b", "bytes=-", "bytes", "items=0-5", "bytes=--5", "bytes=1 - 2"]
)
async def test_a_range_that_is_not_served_gets_the_whole_file(client: Client, library: Library, wanted: str) -> None:
    _, content = library.add(dialog="D1")
    answer = await fetch(client, Range=wanted)
    assert answer.status == 200
    assert await answer.read() == content


@pytest.mark.parametrize("wanted", ["bytes=8044-", "bytes=9000-9999", "bytes=-0"])
async def test_a_range_outside_the_file_is_refused(client: Client, library: Library, wanted: str) -> None:
    library.add(dialog="D1")
    answer = await fetch(client, Range=wanted)
    assert answer.status == 416
    assert answer.headers["Content-Range"] == "bytes */8044"
    assert (await answer.json())["title"] == "Range not satisfiable"


async def test_joined_ranges_are_the_file(client: Client, library: Library) -> None:
    _, content = library.add(dialog="D1")
    joined = b""
    while len(joined) < len(content):
        answer = await fetch(client, Range=f"bytes={len(joined)}-{len(joined) + 999}")
        joined += await answer.read()
    assert joined == content
    assert library.playbacks() == 1


async def test_if_range_decides_between_part_and_whole(client: Client, library: Library) -> None:
    manifest, content = library.add(dialog="D1")
    same = await fetch(client, Range="bytes=0-9", If_Range=f'"{manifest.sha256}"')
    assert (same.status, await same.read()) == (206, content[:10])
    for other in ('"another"', f'W/"{manifest.sha256}"', "Wed, 21 Oct 2015 07:28:00 GMT", manifest.sha256):
        answer = await fetch(client, Range="bytes=0-9", If_Range=other)
        assert (answer.status, await answer.read()) == (200, content)
    beyond = await fetch(client, Range="bytes=9999-", If_Range='"another"')
    assert beyond.status == 200


async def test_a_known_version_is_not_sent_again_nor_metered(client: Client, library: Library) -> None:
    manifest, _ = library.add(dialog="D1")
    for known in (f'"{manifest.sha256}"', f'W/"{manifest.sha256}"', f'"x", "{manifest.sha256}"', "*"):
        answer = await fetch(client, If_None_Match=known)
        assert (answer.status, await answer.read()) == (304, b"")
        assert answer.headers["ETag"] == f'"{manifest.sha256}"'
    assert library.playbacks() == 0
    assert (await fetch(client, If_None_Match='"x"')).status == 200


async def test_if_match_of_another_version_is_refused(client: Client, library: Library) -> None:
    manifest, _ = library.add(dialog="D1")
    assert (await fetch(client, If_Match=f'"{manifest.sha256}"')).status == 200
    assert (await fetch(client, If_Match="*")).status == 200
    refused = await fetch(client, If_Match='"x"')
    assert refused.status == 412
    assert refused.content_type == "application/problem+json"


async def test_head_tells_the_headers_without_metering(client: Client, library: Library) -> None:
    manifest, _ = library.add(dialog="D1")
    answer = await fetch(client, "HEAD", Range="bytes=0-9")
    assert (answer.status, await answer.read()) == (200, b"")
    assert answer.headers["Content-Length"] == "8044"
    assert answer.headers["ETag"] == f'"{manifest.sha256}"'
    assert library.playbacks() == 0


async def test_each_playback_is_metered_once_whatever_its_ranges(
    client: Client, library: Library, services: Services
) -> None:
    manifest, _ = library.add(dialog="D1")
    # As Safari asks: is it there, all of it, a seek.
    for wanted in ("bytes=0-1", "bytes=0-8043", "bytes=4000-8043"):
        assert (await fetch(client, Range=wanted)).status == 206
    assert library.playbacks() == 1
    assert (await fetch(client)).status == 200
    assert library.playbacks() == 2
    assert services.metrics.registry.get_sample_value("recorder_recording_accesses_total", {"kind": "playback"}) == 2
    with closing(sqlite3.connect(library.index.path)) as connection:
        entries = connection.execute("SELECT who, seconds, bytes, file_name FROM usage WHERE kind = 'playback'")
        assert set(entries) == {("the-viewer", 0.5, 8044, manifest.file_name)}


async def test_leaving_byte_0_out_is_metered_too_and_each_caller_by_itself(client: Client, library: Library) -> None:
    library.add(dialog="D1")
    assert (await fetch(client, Range="bytes=1-")).status == 206
    assert (await fetch(client, Range="bytes=-4000")).status == 206
    assert library.playbacks() == 1
    assert (await fetch(client, token="owner-token", Range="bytes=4000-")).status == 206
    assert library.playbacks() == 2


async def test_a_ledger_that_cannot_be_written_hands_out_nothing(
    client: Client, library: Library, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, content = library.add(dialog="D1")
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.02)
    services.index.close()
    services.index.check_writable()
    with closing(sqlite3.connect(library.index.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = await fetch(client, Range="bytes=100-")
        assert answer.status == 503
        assert (await answer.json())["title"] == "Storage unavailable"
        assert answer.headers["Retry-After"] == "5"
        other.execute("ROLLBACK")
    again = await fetch(client, Range="bytes=100-")
    assert await again.read() == content[100:]
    assert library.playbacks() == 1


async def test_a_missing_file_is_not_found(client: Client, library: Library) -> None:
    manifest, _ = library.add(dialog="D1")
    (library.folder / manifest.file_name).unlink()
    answer = await fetch(client)
    assert answer.status == 404
    assert "the file of this recording is gone" in (await answer.json())["detail"]
    assert library.playbacks() == 0


@pytest.mark.parametrize("kind", ["shorter", "longer", "folder", "link", "fifo"])
async def test_a_file_that_is_not_what_was_recorded_is_not_handed_out(
    client: Client, library: Library, kind: str
) -> None:
    manifest, content = library.add(dialog="D1")
    path = library.folder / manifest.file_name
    path.unlink()
    if kind == "shorter":
        path.write_bytes(content[:-1])
    elif kind == "longer":
        path.write_bytes(content + b"x")
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        elsewhere = library.folder.parent / "elsewhere.wav"
        elsewhere.write_bytes(content)
        path.symlink_to(elsewhere)
    answer = await fetch(client)
    assert answer.status == 503
    assert library.playbacks() == 0


@pytest.mark.parametrize("name", ["../secret.wav", "/etc/passwd", "index.sqlite", "a~b~1~D1", "..~a~1~D1.wav"])
async def test_an_index_row_that_names_another_file_leads_nowhere(client: Client, library: Library, name: str) -> None:
    library.add(dialog="D1")
    (library.folder.parent / "secret.wav").write_bytes(b"x" * 8044)
    with closing(sqlite3.connect(library.index.path)) as connection, connection:
        connection.execute("UPDATE recordings SET file_name = ?", (name,))
    answer = await fetch(client)
    assert answer.status == 503
    assert "no recording's" in (await answer.json())["detail"]


async def test_a_client_that_leaves_midway_does_no_harm(client: Client, library: Library) -> None:
    _, content = library.add(dialog="D1", samples=8_000_000)
    answer = await fetch(client)
    await answer.content.readexactly(1000)
    answer.close()
    whole = await fetch(client, Range="bytes=0-99")
    assert await whole.read() == content[:100]


async def test_many_at_once_each_get_their_own(client: Client, library: Library) -> None:
    contents = {f"D{number}": library.add(dialog=f"D{number}", samples=20_000 + number)[1] for number in range(8)}

    async def one(dialog: str) -> tuple[str, Any]:
        answer = await client.get(f"/api/v1/recordings/{dialog}/audio", headers=bearer())
        return dialog, await answer.read()

    assert dict(await asyncio.gather(*(one(dialog) for dialog in contents))) == contents
    assert library.playbacks() == 8


async def test_a_file_that_shrinks_while_it_is_sent_ends_the_connection(
    client: Client, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, _ = library.add(dialog="D1")
    prepare = web.StreamResponse.prepare

    async def shrink(response: web.StreamResponse, request: Any) -> Any:
        if "ETag" in response.headers and not response.prepared:
            os.truncate(library.folder / manifest.file_name, 4000)
        return await prepare(response, request)

    monkeypatch.setattr(web.StreamResponse, "prepare", shrink)

    async def fetch_whole() -> bytes:
        return await (await fetch(client)).read()

    with pytest.raises(ClientError):
        await fetch_whole()
    assert (await client.get("/healthz")).status == 200
