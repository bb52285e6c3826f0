"""`/api/v1/calls`: the calls that are live now, and what operators may do to them."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from recorder.calls.control_shapes import STEP
from recorder.calls.recording_control import Control, Operator, Verb
from recorder.errors import InvalidRequestError, NotFoundError
from recorder.identifiers import is_valid_dialog_id
from recorder.web.auth import Caller
from recorder.web.parameters import MAX_TEXT, check_parameters
from recorder.web.resource import Resource, source_of
from recorder.web.services import SERVICES


async def get_calls(request: web.Request, _: Caller) -> web.Response:
    """List the live calls, as the call side describes them."""
    check_parameters(request)
    calls = await request.app[SERVICES].live_calls()
    return web.json_response({"calls": [dict(call) for call in calls]})


async def mute_call(request: web.Request, caller: Caller) -> web.Response:
    """Begin a sensitive step; the answer comes when the recording is silent."""
    return await _control(request, caller, Verb.MUTE)


async def unmute_call(request: web.Request, caller: Caller) -> web.Response:
    """End a sensitive step that an operator has begun."""
    return await _control(request, caller, Verb.UNMUTE)


async def hang_up_call(request: web.Request, caller: Caller) -> web.Response:
    """End the call on both sides."""
    check_parameters(request)
    said = await _said(request, "reason")
    operator = Operator(caller.name, source_of(request), said["reason"])
    await request.app[SERVICES].control.hang_up(_dialog_id(request), operator)
    return web.Response(status=204)


async def _control(request: web.Request, caller: Caller, verb: Verb) -> web.Response:
    check_parameters(request)
    said = await _said(request, "step", "reason")
    operator = Operator(caller.name, source_of(request), said["reason"])
    control = Control(verb, said["step"], "HTTP")
    call = await request.app[SERVICES].control.control(_dialog_id(request), control, operator)
    return web.json_response({"call": dict(call)})


def _dialog_id(request: web.Request) -> str:
    dialog_id = request.match_info["dialogId"]
    if not is_valid_dialog_id(dialog_id):
        raise NotFoundError("this is not a dialogId, so there is no call of it")
    return dialog_id


async def _said(request: web.Request, *known: str) -> dict[str, str]:
    """Read the body, which may be left out; what is not said is "". Raises InvalidRequestError."""
    body = await request.read()
    try:
        content = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError):
        raise InvalidRequestError("the body is not JSON") from None
    if not isinstance(content, dict) or not content.keys() <= set(known):
        raise InvalidRequestError(f"the body must be a JSON object that has no members but {', '.join(known)}")
    said = {name: content.get(name, "") for name in known}
    step, reason = said.get("step", ""), said["reason"]
    if not isinstance(step, str) or not STEP.fullmatch(step):
        raise InvalidRequestError("step: must be a string of at most 64 letters, digits and _.:-")
    if not isinstance(reason, str) or len(reason) > MAX_TEXT or not reason.isprintable():
        raise InvalidRequestError(f"reason: must be a string of at most {MAX_TEXT} printable characters")
    return said


_DIALOG_ID: dict[str, Any] = {
    "name": "dialogId",
    "in": "path",
    "required": True,
    "description": "The dialog of a live call.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"},
}
_STEP: dict[str, Any] = {
    "type": "string",
    "maxLength": 64,
    "pattern": "^[A-Za-z0-9_.:-]*$",
    "description": "The step's name; without one, the step that has none.",
}
_REASON: dict[str, Any] = {"type": "string", "maxLength": MAX_TEXT, "description": "Goes to the audit."}
_PROBLEM = {"$ref": "#/components/responses/Problem"}


def _body(**properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {"required": False, "content": {"application/json": {"schema": schema}}}


def _changing(operation_id: str, summary: str, description: str) -> dict[str, Any]:
    return {
        "operationId": operation_id,
        "tags": ["calls"],
        "summary": summary,
        "description": description,
        "parameters": [_DIALOG_ID],
        "requestBody": _body(step=_STEP, reason=_REASON),
        "responses": {
            "200": {
                "description": "Done; this is how the call stands.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/LiveCall"}}},
            },
            "409": _PROBLEM,
        },
    }


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
    Resource(
        "POST",
        "/api/v1/calls/{dialogId}/mute",
        mute_call,
        "viewer",
        _changing(
            "muteCall",
            "Begin a sensitive step",
            "Answered when the recording is silent. A step that operators have begun already stays as it is.",
        ),
        right="control",
        audited="mute",
    ),
    Resource(
        "POST",
        "/api/v1/calls/{dialogId}/unmute",
        unmute_call,
        "viewer",
        _changing(
            "unmuteCall",
            "End a sensitive step",
            "Ends a step that an operator has begun, this one or another; 409 when there is none of that name. Steps "
            "of the application are its own to end. The recording goes on when no step is open any more.",
        ),
        right="control",
        audited="unmute",
    ),
    Resource(
        "DELETE",
        "/api/v1/calls/{dialogId}",
        hang_up_call,
        "viewer",
        {
            "operationId": "hangUpCall",
            "tags": ["calls"],
            "summary": "Hang up",
            "description": "Both sides are hung up; the call's reason is `operator`. 409 when it has ended already.",
            "parameters": [_DIALOG_ID],
            "requestBody": _body(reason=_REASON),
            "responses": {"204": {"description": "Hung up."}, "409": _PROBLEM},
        },
        right="control",
        audited="hang_up",
    ),
)
