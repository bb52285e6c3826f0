"""The API description, OpenAPI 3.1: put together from what each resource says of itself."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable
from typing import Any

from aiohttp import web

from recorder import __version__
from recorder.library.manifest import Manifest
from recorder.library.search import RecordingEntry
from recorder.web.auth import QUERY_PARAMETER, Caller
from recorder.web.parameters import check_parameters
from recorder.web.resource import Resource

_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_NULLABLE = {"type": ["string", "null"]}
_NEXT_CURSOR = {"type": ["string", "null"], "description": "Leads to the next page; null on the last."}


def build_document(resources: Iterable[Resource]) -> dict[str, Any]:
    """Describe `resources`: the whole document, as plain JSON values."""
    paths: dict[str, dict[str, Any]] = {}
    for resource in resources:
        paths.setdefault(resource.path, {})[resource.method.lower()] = _operation(resource)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Recorder",
            "version": __version__,
            "description": "Search, read and play recorded calls; see the calls that are live.",
            "license": {"name": "GPL-2.0-or-later", "identifier": "GPL-2.0-or-later"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "responses": {"Problem": _problem_response()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "query": {"type": "apiKey", "in": "query", "name": QUERY_PARAMETER},
            },
        },
    }
    whole: dict[str, Any] = json.loads(json.dumps(document))
    return whole


def openapi_resource(resources: Iterable[Resource], path: str) -> Resource:
    """The resource that shows the description of `resources` and of itself."""
    described = tuple(resources)

    @functools.cache
    def document() -> bytes:
        return json.dumps(build_document((*described, resource)), indent=1).encode()

    async def get_openapi(request: web.Request, _: Caller) -> web.Response:
        check_parameters(request)
        return web.Response(body=document(), content_type="application/json")

    operation = {
        "operationId": "getOpenApi",
        "tags": ["operation"],
        "summary": "This description",
        "responses": {
            "200": {"description": "OpenAPI 3.1.", "content": {"application/json": {"schema": {"type": "object"}}}}
        },
    }
    resource = Resource("GET", path, get_openapi, None, operation)
    return resource


def _operation(resource: Resource) -> dict[str, Any]:
    operation = dict(resource.operation)
    responses = dict(operation["responses"])
    security: list[dict[str, list[str]]] = []
    problem = {"$ref": "#/components/responses/Problem"}
    if resource.path.startswith("/api/"):  # a parameter that is not known
        responses.setdefault("400", problem)
    if "requestBody" in operation:
        responses.setdefault("413", problem)
    if resource.role is not None:
        security = [{"bearer": []}, {"query": []}] if resource.token_in_query else [{"bearer": []}]
        for status in ("401", "403", "503", *(("404",) if "{" in resource.path else ())):
            responses.setdefault(status, problem)
        note = f"Takes the role {resource.role} or one above it."
        if resource.right is not None:
            note = f"Takes a token with the right `{resource.right}`, which no role brings along."
        operation["description"] = f"{operation.get('description', '')} {note}".strip()
    return operation | {"responses": dict(sorted(responses.items())), "security": security}


def _problem_response() -> dict[str, Any]:
    return {
        "description": "What is wrong, and what to do (RFC 9457).",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def _schemas() -> dict[str, Any]:
    manifest = Manifest.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
    parts: dict[str, Any] = manifest.pop("$defs", {})
    return parts | {
        "Manifest": manifest,
        "Recording": _recording(),
        "RecordingPage": _page("recordings", "Recording"),
        "RecordingDetail": _object(
            recording={"$ref": "#/components/schemas/Recording"},
            manifest={"oneOf": [{"$ref": "#/components/schemas/Manifest"}, {"type": "null"}]},
            manifest_problem=_NULLABLE | {"description": "Why there is no manifest."},
        ),
        "Cdr": _cdr(),
        "CdrPage": _page("cdrs", "Cdr"),
        "LiveCalls": _object(calls={"type": "array", "items": {"type": "object"}}),
        "LiveCall": _object(call={"type": "object"}),
        "AuditEntry": _audit_entry(),
        "AuditPage": _page("entries", "AuditEntry"),
        "Readiness": _object(
            ready={"type": "boolean"},
            checks={
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "required": ["ok"],
                    "properties": {"ok": {"type": "boolean"}, "detail": {"type": "string"}},
                },
            },
        ),
        "Problem": {
            "type": "object",
            "required": ["type", "title", "status", "detail", "instance"],
            "properties": {
                "type": {"type": "string", "format": "uri-reference"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string"},
                "instance": {"type": "string", "format": "uri-reference"},
                "reference": {"type": "string", "description": "Where the recorder's log has an internal error."},
            },
        },
    }


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _page(name: str, schema: str) -> dict[str, Any]:
    entries = {"type": "array", "items": {"$ref": f"#/components/schemas/{schema}"}}
    return _object(**{name: entries, "next_cursor": _NEXT_CURSOR})


def _recording() -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for field in dataclasses.fields(RecordingEntry):
        name, _, rest = str(field.type).partition(" | ")
        properties[field.name] = {"type": [_TYPES[name], "null"] if rest else _TYPES[name]}
    links = _object(self={"type": "string"}, audio={"type": "string"})
    return _object(**properties, links=links)


def _cdr() -> dict[str, Any]:
    return _object(
        id={"type": "string", "description": "The dialogId."},
        time={"type": "integer", "description": "Epoch milliseconds of the INVITE."},
        group_id={"type": "string"},
        account_id={"type": "string"},
        calling={"type": "string"},
        called={"type": "string"},
        result={"type": "string", "description": "completed, cancelled, rejected, failed or refused."},
        reason={"type": "string"},
        answered_ms={"type": ["integer", "null"]},
        ended_ms={"type": "integer"},
        duration_s={"type": "number"},
        sip_status={"type": ["integer", "null"]},
        a_sip_call_id=_NULLABLE,
        b_sip_call_id=_NULLABLE,
        recorded={"type": "boolean"},
        file=_NULLABLE,
        details={"type": "object"},
    )


def _audit_entry() -> dict[str, Any]:
    return _object(
        at_ms={"type": "integer", "description": "Epoch milliseconds."},
        actor={"type": "string", "description": "application, caller, operator, recorder or command."},
        who={"type": "string", "description": "The operator's token, or who gave the command."},
        source={"type": "string", "description": "address:port, or local."},
        action={"type": "string", "description": "mute, unmute, start, hang_up, play and others."},
        shape={"type": "string", "description": "By which header, body or interface it was asked for."},
        step={"type": "string"},
        dialog_id=_NULLABLE,
        group_id=_NULLABLE,
        account_id=_NULLABLE,
        sip_call_id=_NULLABLE,
        result={"type": "string", "enum": ["accepted", "refused"]},
        reason={"type": "string", "description": "Why it was refused, in a word."},
        muted={"type": ["boolean", "null"], "description": "Whether the recording was silent after it."},
        note={"type": "string", "description": "What was given as the reason, or came of it."},
    )
