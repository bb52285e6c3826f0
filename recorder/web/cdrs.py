"""`/api/v1/cdrs`: call detail records, recorded or not."""

from __future__ import annotations

import asyncio

from aiohttp import web

from recorder.web.auth import Caller
from recorder.web.parameters import SEARCH_PARAMETERS, read_search
from recorder.web.resource import Resource
from recorder.web.services import SERVICES


async def search_cdrs(request: web.Request, _: Caller) -> web.Response:
    """Search the CDRs, newest first."""
    filters, limit, cursor = read_search(request)
    page = await asyncio.to_thread(request.app[SERVICES].index.search_cdrs, filters, limit, cursor)
    return web.json_response({"cdrs": page.entries, "next_cursor": page.next_cursor})


RESOURCES = (
    Resource(
        "GET",
        "/api/v1/cdrs",
        search_cdrs,
        "viewer",
        {
            "operationId": "searchCdrs",
            "tags": ["cdrs"],
            "summary": "Search call detail records, newest first",
            "parameters": SEARCH_PARAMETERS,
            "responses": {
                "200": {
                    "description": "A page of CDRs.",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/CdrPage"}}},
                }
            },
        },
    ),
)
