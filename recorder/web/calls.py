"""`/api/v1/calls`: the calls that are live now."""

from __future__ import annotations

from aiohttp import web

from recorder.web.auth import Caller
from recorder.web.parameters import check_parameters
from recorder.web.resource import Resource
from recorder.web.services import SERVICES


async def get_calls(request: web.Request, _: Caller) -> web.Response:
    """List the live calls, as the call side describes them."""
    check_parameters(request)
    calls = await request.app[SERVICES].live_calls()
    return web.json_response({"calls": [dict(call) for call in calls]})


RESOURCES = (
    Resource(
        "GET",
        "/api/v1/calls",
        get_calls,
        "viewer",
        {
            "operationId": "listCalls",
            "tags": ["calls"],
            "summary": "The live calls",
            "responses": {
                "200": {
                    "description": "Every call that is being set up or is up.",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/LiveCalls"}}},
                }
            },
        },
    ),
)
