"""`/api/v1/audit`: who did what to which call, done or refused."""

from __future__ import annotations

import asyncio

from aiohttp import web

from recorder.web.auth import Caller
from recorder.web.parameters import AUDIT_FILTERS, AUDIT_PARAMETERS, read_search
from recorder.web.resource import Resource
from recorder.web.services import SERVICES


async def search_audit(request: web.Request, _: Caller) -> web.Response:
    """Search the audit, newest first."""
    filters, limit, cursor = read_search(request, AUDIT_FILTERS)
    page = await asyncio.to_thread(request.app[SERVICES].index.search_audit, filters, limit, cursor)
    return web.json_response({"entries": page.entries, "next_cursor": page.next_cursor})


RESOURCES = (
    Resource(
        "GET",
        "/api/v1/audit",
        search_audit,
        "maintainer",
        {
            "operationId": "searchAudit",
            "tags": ["audit"],
            "summary": "Search the audit, newest first",
            "description": "Controls of recordings, hang-ups by operators and playbacks; refusals too.",
            "parameters": AUDIT_PARAMETERS,
            "responses": {
                "200": {
                    "description": "A page of entries.",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/AuditPage"}}},
                }
            },
        },
    ),
)
