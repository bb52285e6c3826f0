from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from recorder.settings import Http, Token
from recorder.web.app import build_app, resources
from recorder.web.openapi import build_document
from recorder.web.problems import DOCUMENTED
from recorder.web.services import Services
from recorder.web.tokens import token_sha256

from .conftest import Client, Clients, Library, bearer


async def document(client: Client) -> dict[str, Any]:
    answer = await client.get("/api/openapi.json")
    assert answer.content_type == "application/json"
    body: dict[str, Any] = await answer.json()
    return body


async def test_the_description_is_valid(client: Client) -> None:
    described = await document(client)
    assert described["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(described).validate()


async def test_the_description_has_every_route_and_no_other(client: Client, services: Services) -> None:
    described = await document(client)
    routes = {
        (route.method.lower(), route.resource.canonical)
        for route in build_app(services).router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert routes == {(method, path) for path, methods in described["paths"].items() for method in methods}


async def test_operations_have_names_of_their_own_and_their_path_parameters(client: Client) -> None:
    described = await document(client)
    operations = [(path, each) for path, methods in described["paths"].items() for each in methods.values()]
    names = [each["operationId"] for _, each in operations]
    assert len(set(names)) == len(names)
    for path, each in operations:
        in_path = {parameter["name"] for parameter in each.get("parameters", ()) if parameter["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", path))


async def test_security_is_described_as_it_is_enforced(client: Client) -> None:
    described = await document(client)
    for resource in resources():
        security = described["paths"][resource.path][resource.method.lower()]["security"]
        if resource.role is None:
            assert security == []
        else:
            assert security == [{"bearer": []}] + ([{"query": []}] if resource.token_in_query else [])


@pytest.mark.parametrize(
    "path",
    [
        "/healthz",
        "/readyz",
        "/api/v1/calls",
        "/api/v1/recordings",
        "/api/v1/recordings?limit=1",
        "/api/v1/recordings/D1",
        "/api/v1/recordings/NONE",
        "/api/v1/cdrs",
        "/api/v1/cdrs?limit=none",
        "/api/openapi.json",
        "/api/openapi.json?limit=1",
        "/api/docs?limit=1",
    ],
)
async def test_answers_are_as_described(client: Client, library: Library, path: str) -> None:
    library.add(dialog="D1")
    library.add(dialog="D2")
    described = await document(client)
    answer = await client.get(path, headers=bearer())
    template = path.partition("?")[0].replace("/D1", "/{dialogId}").replace("/NONE", "/{dialogId}")
    response = described["paths"][template]["get"]["responses"][str(answer.status)]
    if "$ref" in response:
        response = described["components"]["responses"][response["$ref"].rpartition("/")[2]]
    schema = response["content"][answer.content_type]["schema"]
    closed = {"components": described["components"]} | schema
    jsonschema.Draft202012Validator(closed).validate(await answer.json())


async def test_a_body_that_is_not_taken_is_answered_as_described(services: Services, aiohttp_client: Clients) -> None:
    token = Token(name="desk", may=("control",), sha256=token_sha256("desk-token"))
    client = await aiohttp_client(build_app(replace(services, http=Http(tokens=(token,)))))
    described = await document(client)
    for resource in (each for each in resources() if "requestBody" in each.operation):
        known = described["paths"][resource.path][resource.method.lower()]["responses"]
        for body, status in ((b"[", 400), (b"x" * 100_000, 413)):
            path = resource.path.replace("{dialogId}", "D1")
            answer = await client.request(resource.method, path, data=body, headers=bearer("desk-token"))
            assert answer.status == status
            assert str(status) in known


async def test_described_query_parameters_are_the_ones_taken(client: Client) -> None:
    values = {"from_ms": "1", "to_ms": "2", "group": "g", "account": "a", "dialog_id": "D", "text": "t", "limit": "5"}
    described = await document(client)
    for path in ("/api/v1/recordings", "/api/v1/cdrs"):
        parameters = described["paths"][path]["get"]["parameters"]
        names = {each["name"] for each in parameters}
        assert names == set(values) | {"cursor"}
        answer = await client.get(path, params=values, headers=bearer())
        assert answer.status == 200


async def test_every_error_that_can_come_is_described() -> None:
    described = build_document(resources())
    statuses = {
        status
        for methods in described["paths"].values()
        for operation in methods.values()
        for status in operation["responses"]
    }
    assert {str(error.http_status) for error in DOCUMENTED} <= statuses


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            if name == "id" and value:
                self.anchors.add(value)


async def test_the_page_names_every_resource_and_needs_nothing_from_elsewhere(client: Client) -> None:
    answer = await client.get("/api/docs")
    assert answer.content_type == "text/html"
    text = await answer.text()
    page = _Page()
    page.feed(text)
    for resource in resources():
        if resource.path != "/api/openapi.json":
            assert f"{resource.method} {resource.path}" in text
    assert page.tags & {"script", "link", "img", "iframe"} == set()
    assert {link for link in page.links if not link.startswith("#")} == {"/api/openapi.json"}
    assert {link[1:] for link in page.links if link.startswith("#")} <= page.anchors
    assert "style-src 'sha256-" in answer.headers["Content-Security-Policy"]
