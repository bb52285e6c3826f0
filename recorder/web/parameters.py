"""Query parameters, read strictly: what is unknown, repeated or malformed is answered with 400 and its name."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from aiohttp import web

from recorder.errors import InvalidRequestError
from recorder.identifiers import is_valid_dialog_id, is_valid_name
from recorder.library.search import MAX_LIMIT, Filters

DEFAULT_LIMIT = 50
MAX_EPOCH_MS = 10**15
MAX_TEXT = 100

AUDIT_FILTERS = ("from_ms", "to_ms", "group", "account", "dialog_id")
_FILTERS = (*AUDIT_FILTERS, "text")


def check_parameters(request: web.Request, *known: str) -> None:
    """Refuse a parameter that is not `known`, or that is there twice. Raises InvalidRequestError."""
    for name in request.query:
        if name not in known:
            allowed = f"it takes {', '.join(known)}" if known else "it takes none"
            raise InvalidRequestError(f"{name[:64]}: unknown parameter of this resource; {allowed}")
        if len(request.query.getall(name)) > 1:
            raise InvalidRequestError(f"{name}: given more than once")


def read_search(request: web.Request, known: tuple[str, ...] = _FILTERS) -> tuple[Filters, int, str | None]:
    """Read a search's filters, limit and cursor. Raises InvalidRequestError that names the parameter."""
    check_parameters(request, *known, "limit", "cursor")
    filters = Filters(
        from_ms=_integer(request, "from_ms", 0, MAX_EPOCH_MS),
        to_ms=_integer(request, "to_ms", 0, MAX_EPOCH_MS),
        group_id=_name(request, "group", is_valid_name),
        account_id=_name(request, "account", is_valid_name),
        dialog_id=_name(request, "dialog_id", is_valid_dialog_id),
        text=_text(request, "text"),
    )
    if filters.from_ms is not None and filters.to_ms is not None and filters.from_ms >= filters.to_ms:
        raise InvalidRequestError("to_ms: must be after from_ms")
    limit = _integer(request, "limit", 1, MAX_LIMIT)
    return filters, DEFAULT_LIMIT if limit is None else limit, _text(request, "cursor")


def _integer(request: web.Request, name: str, minimum: int, maximum: int) -> int | None:
    value = request.query.get(name)
    if value is None:
        return None
    if not re.fullmatch(r"[0-9]{1,16}", value, re.ASCII) or not minimum <= int(value) <= maximum:
        raise InvalidRequestError(f"{name}: must be a whole number from {minimum} to {maximum}")
    return int(value)


def _name(request: web.Request, name: str, is_valid: Callable[[str], bool]) -> str | None:
    value = request.query.get(name)
    if value is not None and not is_valid(value):
        raise InvalidRequestError(f"{name}: must be 1 to 64 letters, digits and '-', '_' and the like; see /api/docs")
    return value


def _text(request: web.Request, name: str) -> str | None:
    value = request.query.get(name)
    if value is not None and not (1 <= len(value) <= MAX_TEXT and value.isprintable()):
        raise InvalidRequestError(f"{name}: must be 1 to {MAX_TEXT} printable characters")
    return value


def _described(name: str, text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": text, "schema": schema}


_EPOCH = {"type": "integer", "minimum": 0, "maximum": MAX_EPOCH_MS}
_NAME = {"type": "string", "minLength": 1, "maxLength": 64}
SEARCH_PARAMETERS = (
    _described("from_ms", "INVITEs from this time on, epoch milliseconds.", _EPOCH),
    _described("to_ms", "INVITEs before this time, epoch milliseconds.", _EPOCH),
    _described("group", "This groupId alone.", _NAME),
    _described("account", "This accountId alone.", _NAME),
    _described("dialog_id", "This dialogId alone.", _NAME),
    _described(
        "text",
        "Found anywhere in the calling or called party, the dialogId or either leg's SIP Call-ID.",
        {"type": "string", "minLength": 1, "maxLength": MAX_TEXT},
    ),
    _described(
        "limit",
        "Entries on a page.",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    ),
    _described(
        "cursor", "`next_cursor` of the page before.", {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
    ),
)
AUDIT_PARAMETERS = (
    _described("from_ms", "From this time on, epoch milliseconds.", _EPOCH),
    _described("to_ms", "Before this time, epoch milliseconds.", _EPOCH),
    *(each for each in SEARCH_PARAMETERS if each["name"] not in ("from_ms", "to_ms", "text")),
)
