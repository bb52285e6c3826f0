from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import ClientSession, web
from structlog.testing import capture_logs

from recorder.library.search import Filters
from recorder.settings import Http, Token
from recorder.web.app import build_app, resources
from recorder.web.auth import Caller
from recorder.web.resource import Resource
from recorder.web.server import start
from recorder.web.services import Services
from recorder.web.tokens import new_token, token_sha256

from .conftest import ROLES, Client, Clients, Library, bearer

OPEN = ["/healthz", "/readyz", "/metrics", "/api/docs", "/api/openapi.json"]
GUARDED = [resource for resource in resources() if resource.role is not None]
EVERY_ROLES = [resource for resource in GUARDED if resource.role == "viewer" and resource.right is None]
RIGHTS = [resource for resource in GUARDED if resource.right is not None]


def path_of(resource: Resource, library: Library) -> str:
    if not library.added:
        library.add(dialog="D1")
    return resource.path.replace("{dialogId}", "D1")


def test_only_what_shows_no_data_is_open_to_everybody() -> None:
    assert sorted(each.path for each in resources() if each.role is None) == sorted(OPEN)


def test_only_the_audio_takes_its_token_from_the_query() -> None:
    assert [each.path for each in resources() if each.token_in_query] == ["/api/v1/recordings/{dialogId}/audio"]


@pytest.mark.parametrize("path", OPEN)
async def test_open_resources_need_no_token(client: Client, path: str) -> None:
    assert (await client.get(path)).status == 200
    assert (await client.head(path)).status == 200


@pytest.mark.parametrize("resource", EVERY_ROLES, ids=lambda each: each.path)
@pytest.mark.parametrize("role", ROLES)
async def test_every_role_may_search_read_and_play(
    client: Client, library: Library, resource: Resource, role: str
) -> None:
    answer = await client.request(resource.method, path_of(resource, library), headers=bearer(f"{role}-token"))
    assert answer.status == 200


@pytest.mark.parametrize("role", ROLES)
async def test_the_audit_is_for_maintainers_and_owners(client: Client, role: str) -> None:
    answer = await client.get("/api/v1/audit", headers=bearer(f"{role}-token"))
    assert answer.status == (200 if role in ("maintainer", "owner") else 403)


def test_calls_are_controlled_by_a_right_of_its_own() -> None:
    assert {(each.method, each.path.removeprefix("/api/v1/calls/{dialogId}")) for each in RIGHTS} == {
        ("POST", "/mute"),
        ("POST", "/unmute"),
        ("DELETE", ""),
    }


@pytest.mark.parametrize("resource", RIGHTS, ids=lambda each: each.path)
async def test_no_role_brings_a_right_along_and_who_lacks_it_is_in_the_audit(
    client: Client, library: Library, resource: Resource
) -> None:
    answer = await client.request(resource.method, path_of(resource, library), headers=bearer("owner-token"))
    assert answer.status == 403
    assert (await answer.json())["detail"].startswith("this takes the right control")

    def entries() -> tuple[dict[str, Any], ...]:
        while not (found := library.index.search_audit(Filters(dialog_id="D1")).entries):
            time.sleep(0.01)
        return found

    [entry] = await asyncio.to_thread(entries)
    assert (entry["actor"], entry["who"], entry["action"]) == ("operator", "the-owner", resource.audited)
    assert (entry["result"], entry["reason"]) == ("refused", "no_right")
    assert entry["source"].startswith("127.0.0.1:")


@pytest.mark.parametrize("resource", RIGHTS, ids=lambda each: each.path)
async def test_who_has_the_right_may_whatever_the_role(
    services: Services, aiohttp_client: Clients, library: Library, resource: Resource
) -> None:
    token = Token(name="desk", may=("control",), sha256=token_sha256("desk-token"))
    client = await aiohttp_client(build_app(replace(services, http=Http(tokens=(token,)))))
    answer = await client.request(resource.method, path_of(resource, library), headers=bearer("desk-token"))
    assert answer.status == 404  # of these services, which have no calls


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"steps": 1}', b'{"step": 1}', b'{"step": "a b"}', b'{"reason": "\\u0000"}', b"[" * 9000]
)
async def test_a_body_that_cannot_be_read_is_refused(services: Services, aiohttp_client: Clients, body: bytes) -> None:
    token = Token(name="desk", may=("control",), sha256=token_sha256("desk-token"))
    client = await aiohttp_client(build_app(replace(services, http=Http(tokens=(token,)))))
    answer = await client.post("/api/v1/calls/D1/mute", data=body, headers=bearer("desk-token"))
    assert answer.status == 400


@pytest.mark.parametrize("resource", GUARDED, ids=lambda each: each.path)
@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ({}, 'Bearer realm="recorder"'),
        ({"Authorization": "Bearer"}, 'Bearer realm="recorder"'),
        ({"Authorization": "Bearer  "}, 'Bearer realm="recorder"'),
        ({"Authorization": "Basic dmlld2VyLXRva2Vu"}, 'Bearer realm="recorder"'),
        ({"Authorization": "viewer-token"}, 'Bearer realm="recorder"'),
        (bearer("unknown"), 'Bearer realm="recorder", error="invalid_token"'),
        (bearer("viewer-toke"), 'Bearer realm="recorder", error="invalid_token"'),
        (bearer("viewer-token2"), 'Bearer realm="recorder", error="invalid_token"'),
        (bearer(token_sha256("viewer-token")), 'Bearer realm="recorder", error="invalid_token"'),
    ],
)
async def test_without_a_known_token_nothing_is_shown(
    client: Client, library: Library, resource: Resource, headers: dict[str, str], challenge: str
) -> None:
    answer = await client.request(resource.method, path_of(resource, library), headers=headers)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == challenge
    assert answer.content_type == "application/problem+json"
    assert set(await answer.json()) == {"type", "title", "status", "detail", "instance"}


async def test_the_scheme_is_read_in_either_case(client: Client) -> None:
    assert (await client.get("/api/v1/calls", headers={"Authorization": "bearer viewer-token"})).status == 200


async def test_a_token_in_the_query_opens_the_audio_and_nothing_else(client: Client, library: Library) -> None:
    for resource in GUARDED:
        answer = await client.request(resource.method, f"{path_of(resource, library)}?access_token=viewer-token")
        assert answer.status == (200 if resource.token_in_query else 401), resource.path
        if resource.token_in_query:
            assert answer.headers["Cache-Control"] == "private, no-store"
    refused = await client.get("/api/v1/calls?access_token=viewer-token", headers=bearer())
    assert refused.status == 400


async def test_an_unknown_token_in_the_query_is_refused(client: Client, library: Library) -> None:
    library.add(dialog="D1")
    assert (await client.get("/api/v1/recordings/D1/audio?access_token=x")).status == 401
    assert (await client.get("/api/v1/recordings/D1/audio?access_token=")).status == 401


@pytest.mark.parametrize("query", ["access_token=viewer-token", "access_token=x"])
async def test_two_tokens_at_once_are_refused(client: Client, library: Library, query: str) -> None:
    library.add(dialog="D1")
    answer = await client.get(f"/api/v1/recordings/D1/audio?{query}", headers=bearer())
    assert answer.status == 400
    assert "more than one token" in (await answer.json())["detail"]


async def test_two_authorization_headers_are_refused(client: Client) -> None:
    headers = [("Authorization", "Bearer viewer-token"), ("Authorization", "Bearer owner-token")]
    assert (await client.get("/api/v1/calls", headers=headers)).status == 400


async def test_without_configured_tokens_nobody_gets_in(services: Services, aiohttp_client: Clients) -> None:
    client = await aiohttp_client(build_app(replace(services, http=Http())))
    assert (await client.get("/api/v1/calls", headers=bearer(""))).status == 401
    assert (await client.get("/api/v1/calls", headers=bearer())).status == 401


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("needed", ROLES)
async def test_a_role_may_do_what_the_roles_below_it_may(
    services: Services, aiohttp_client: Clients, role: Any, needed: Any
) -> None:
    async def show(_: web.Request, caller: Caller) -> web.Response:
        return web.json_response({"name": caller.name})

    operation = {"operationId": "x", "summary": "x", "responses": {"200": {"description": "x"}}}
    client = await aiohttp_client(build_app(services, [Resource("POST", "/api/v1/x", show, needed, operation)]))
    answer = await client.post("/api/v1/x", headers=bearer(f"{role}-token"))
    if ROLES.index(role) >= ROLES.index(needed):
        assert (answer.status, await answer.json()) == (200, {"name": f"the-{role}"})
    else:
        assert answer.status == 403
        assert answer.headers["WWW-Authenticate"].endswith('error="insufficient_scope"')
        assert f"takes the role {needed}" in (await answer.json())["detail"]


async def test_no_token_is_logged_or_shown(
    services: Services, library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    library.add(dialog="D1")
    caplog.set_level(logging.DEBUG)
    runner = await start(build_app(services), "127.0.0.1", 0)
    host, port = runner.addresses[0]
    shown = ""
    with capture_logs() as logs:
        async with ClientSession(f"http://{host}:{port}") as session:
            for path in (
                "/api/v1/recordings/D1/audio?access_token=viewer-token",
                "/api/v1/recordings/D1/audio?access_token=not-viewer-token",
                "/api/v1/recordings/NONE/audio?access_token=viewer-token",
                "/api/v1/calls?access_token=viewer-token",
                "/nowhere?access_token=viewer-token",
                "/metrics",
            ):
                async with session.get(path) as answer:
                    shown += str(answer.headers) + str(await answer.read())
    await runner.cleanup()
    assert len(logs) >= 6
    assert "viewer-token" not in str(logs) + caplog.text + shown


def test_a_new_token_fits_its_hash_and_a_header() -> None:
    token, digest = new_token()
    assert token_sha256(token) == digest
    assert len(token) >= 43
    assert token.isascii()
    assert not set(token) & set(" \t,;\"'")
    assert new_token()[0] != token
