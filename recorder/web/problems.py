"""Errors as application/problem+json (RFC 9457), mapped here and nowhere else."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from http import HTTPStatus

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from recorder.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotAnsweringError,
    NotFoundError,
    RecorderError,
    StorageError,
    UnauthenticatedError,
)
from recorder.web.auth import InvalidTokenError

_log = structlog.get_logger()

CONTENT_TYPE = "application/problem+json"
_REALM = 'Bearer realm="recorder"'


class RangeNotSatisfiableError(RecorderError):
    """The range asked for lies outside the file, which has `size` bytes."""

    http_status = 416
    title = "Range not satisfiable"

    def __init__(self, size: int) -> None:
        super().__init__(f"the file has {size} bytes, and the range is outside of it")
        self.size = size


class PreconditionFailedError(RecorderError):
    """If-Match names another version."""

    http_status = 412
    title = "Precondition failed"


DOCUMENTED: tuple[type[RecorderError], ...] = (
    InvalidRequestError,
    UnauthenticatedError,
    ForbiddenError,
    NotFoundError,
    ConflictError,
    PreconditionFailedError,
    RangeNotSatisfiableError,
    StorageError,
    NotAnsweringError,
)


def anchor(error: type[RecorderError]) -> str:
    """The error's place in the documentation page."""
    return "problem-" + re.sub(r"[^a-z]+", "-", error.title.lower())


def problem(
    request: web.Request,
    status: int,
    title: str,
    detail: str,
    problem_type: str = "about:blank",
    headers: Mapping[str, str] | None = None,
    **members: str,
) -> web.Response:
    """Make the answer. `instance` is the path that was asked for, never the query, which may hold a token."""
    body = {
        "type": problem_type,
        "title": title,
        "status": status,
        "detail": detail,
        "instance": request.path,
        **members,
    }
    return web.Response(
        status=status, body=json.dumps(body).encode(), headers=dict(headers or {}), content_type=CONTENT_TYPE
    )


@web.middleware
async def map_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer with a problem for whatever a handler, or the routing, raises."""
    try:
        return await handler(request)
    except RecorderError as error:
        return _of_recorder_error(request, error)
    except web.HTTPException as error:
        return _of_http_exception(request, error)
    except Exception:  # noqa: BLE001 - the client gets an answer, the log the traceback
        reference = secrets.token_hex(4)
        _log.exception("http_fault", reference=reference, method=request.method, path=request.path)
        detail = f"something that is a fault of the recorder; its log has it under {reference}"
        return problem(request, 500, "Internal error", detail, reference=reference)


def _of_recorder_error(request: web.Request, error: RecorderError) -> web.Response:
    headers: dict[str, str] = {}
    if isinstance(error, UnauthenticatedError):
        invalid = isinstance(error, InvalidTokenError)
        headers["WWW-Authenticate"] = _REALM + (', error="invalid_token"' if invalid else "")
    elif isinstance(error, ForbiddenError):
        headers["WWW-Authenticate"] = _REALM + ', error="insufficient_scope"'
    elif isinstance(error, RangeNotSatisfiableError):
        headers["Content-Range"] = f"bytes */{error.size}"
    elif error.http_status >= 500:
        _log.error("http_failed", method=request.method, path=request.path, error=str(error))
    if error.http_status == 503:
        headers["Retry-After"] = "5"
    documented = next((known for known in DOCUMENTED if isinstance(error, known)), None)
    problem_type = f"/api/docs#{anchor(documented)}" if documented else "about:blank"
    return problem(request, error.http_status, error.title, str(error), problem_type, headers)


def _of_http_exception(request: web.Request, error: web.HTTPException) -> web.Response:
    status = error.status
    headers = {name: error.headers[name] for name in ("Allow", "Location", "Retry-After") if name in error.headers}
    if status == 404:
        detail = "there is no such resource; /api/docs lists those there are"
    elif status == 405:
        detail = f"{request.method} is not one of the methods of this resource: {headers.get('Allow', '')}"
    else:
        detail = error.reason
    return problem(request, status, HTTPStatus(status).phrase, detail, headers=headers)
