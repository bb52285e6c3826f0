"""`/api/docs`: the API description as one page that needs nothing else: no script, no font, no other host."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from html import escape
from typing import Any

from aiohttp import web

from recorder.web.auth import Caller
from recorder.web.openapi import build_document
from recorder.web.parameters import check_parameters
from recorder.web.problems import DOCUMENTED, anchor
from recorder.web.resource import Resource

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
section { border-top: 1px solid color-mix(in srgb, currentColor 25%, transparent); padding: .5rem 0 1rem; }
code, pre { font: 14px/1.45 ui-monospace, monospace; }
pre { overflow-x: auto; padding: .75rem; background: color-mix(in srgb, currentColor 7%, transparent); }
table { border-collapse: collapse; }
th, td { text-align: left; vertical-align: top; padding: .15rem 1rem .15rem 0; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'; base-uri 'none'"


def render(document: dict[str, Any]) -> str:
    """Make the page of an API description that `build_document` made."""
    info = document["info"]
    operations = [
        _operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    schemas = [
        f'<section id="schema-{escape(name)}"><h3>{escape(name)}</h3><pre>{escape(json.dumps(schema, indent=2))}</pre>'
        "</section>"
        for name, schema in sorted(document["components"]["schemas"].items())
    ]
    problems = [
        f'<tr id="{anchor(error)}"><td>{error.http_status}</td><td>{escape(error.title)}</td>'
        f"<td>{escape(_first_line(error))}</td></tr>"
        for error in DOCUMENTED
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(info['title'])} API {escape(info['version'])}</h1><p>{escape(info['description'])} "
        'The same for programs: <a href="/api/openapi.json">openapi.json</a>.</p>'
        "<p>Send a token as <code>Authorization: Bearer …</code>. For <code>…/audio</code> it may also be "
        "the query parameter <code>access_token</code>, for media elements.</p>"
        f"<h2>Resources</h2>{''.join(operations)}"
        "<h2>Errors</h2><p>Every error is <code>application/problem+json</code> (RFC 9457).</p>"
        f"<table><tr><th>Status</th><th>Title</th><th>When</th></tr>{''.join(problems)}</table>"
        f"<h2>Schemas</h2>{''.join(schemas)}</body></html>"
    )


def docs_resource(resources: Iterable[Resource], path: str) -> Resource:
    """The resource that shows the page of `resources`."""
    described = tuple(resources)
    page: list[bytes] = []

    async def get_docs(request: web.Request, _: Caller) -> web.Response:
        check_parameters(request)
        if not page:
            page.append(render(build_document((*described, resource))).encode())
        headers = {"Content-Security-Policy": _POLICY}
        return web.Response(body=page[0], content_type="text/html", charset="utf-8", headers=headers)

    operation = {
        "operationId": "getDocs",
        "tags": ["operation"],
        "summary": "This description, for people",
        "responses": {"200": {"description": "A page.", "content": {"text/html": {"schema": {"type": "string"}}}}},
    }
    resource = Resource("GET", path, get_docs, None, operation)
    return resource


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parameters = "".join(
        f"<tr><td><code>{escape(each['name'])}</code></td><td>{escape(each['in'])}</td>"
        f"<td>{escape(each.get('description', ''))} <code>{escape(_constraints(each['schema']))}</code></td></tr>"
        for each in operation.get("parameters", ())
    )
    table = f"<table><tr><th>Parameter</th><th>In</th><th></th></tr>{parameters}</table>" if parameters else ""
    answers = "".join(
        f"<tr><td>{escape(status)}</td><td>{_answer(answer)}</td></tr>"
        for status, answer in operation["responses"].items()
    )
    return (
        f'<section id="{escape(operation["operationId"])}"><h3><code>{method.upper()} {escape(path)}</code></h3>'
        f"<p>{escape(operation['summary'])}. {escape(operation.get('description', ''))}</p>{table}"
        f"<table><tr><th>Answer</th><th></th></tr>{answers}</table></section>"
    )


def _answer(answer: dict[str, Any]) -> str:
    if "$ref" in answer:
        return '<a href="#schema-Problem">Problem</a>'
    kinds = []
    for media_type, content in answer.get("content", {}).items():
        name = content["schema"].get("$ref", "").rpartition("/")[2]
        link = f' <a href="#schema-{escape(name)}">{escape(name)}</a>' if name else ""
        kinds.append(f"<code>{escape(media_type)}</code>{link}")
    return f"{escape(answer['description'])} {', '.join(kinds)}"


def _constraints(schema: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in schema.items())


def _first_line(error: type[Exception]) -> str:
    return (error.__doc__ or "").strip().partition("\n")[0]
