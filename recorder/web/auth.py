"""Who asks: bearer tokens (RFC 6750) and the roles they carry."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from recorder.errors import ForbiddenError, InvalidRequestError, UnauthenticatedError
from recorder.settings import Token
from recorder.web.tokens import token_sha256

Role = Literal["viewer", "developer", "maintainer", "owner"]
Right = Literal["control"]
# Each may do what those before it may.
ROLES: tuple[Role, ...] = ("viewer", "developer", "maintainer", "owner")
QUERY_PARAMETER = "access_token"


class InvalidTokenError(UnauthenticatedError):
    """A token was given, and it is not one of ours."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose token a request carries. The name stands in logs and in the usage ledger; the token nowhere."""

    name: str
    role: Role | None
    rights: frozenset[Right] = frozenset()


# Who asks for what is open to everybody; has no role, so may do nothing else.
NOBODY = Caller("nobody", None)


def authenticate(request: web.Request, tokens: Iterable[Token], in_query: bool = False) -> Caller:
    """Find out who asks.

    The token is in the Authorization header or, where `in_query` allows it (RFC 6750, section 2.3: a media element
    sends no headers), in the query. Raises UnauthenticatedError, or InvalidRequestError for a token in both places.
    """
    token = _token(request, in_query)
    if token is None:
        where = f", or the query parameter {QUERY_PARAMETER}" if in_query else ""
        raise UnauthenticatedError(f"this needs a token in the header 'Authorization: Bearer …'{where}")
    digest = token_sha256(token)
    found: Caller | None = None
    for known in tokens:
        # Every token is compared, so the time taken tells nothing.
        if hmac.compare_digest(known.sha256, digest):
            found = Caller(known.name, known.role, frozenset(known.may))
    if found is None:
        raise InvalidTokenError(
            "this token is not known here; make one with 'recorder token' and add it to http.tokens"
        )
    return found


def authorise(caller: Caller, role: Role, right: Right | None = None) -> None:
    """Check that `caller` has at least `role`, and `right`, which no role brings along. Raises ForbiddenError."""
    if caller.role is None or ROLES.index(caller.role) < ROLES.index(role):
        raise ForbiddenError(f"this takes the role {role}; the token {caller.name!r} has the role {caller.role}")
    if right is not None and right not in caller.rights:
        raise ForbiddenError(f"this takes the right {right}, which the token {caller.name!r} lacks; see its may")


def _token(request: web.Request, in_query: bool) -> str | None:
    headers = request.headers.getall("Authorization", [])
    queries = request.query.getall(QUERY_PARAMETER, []) if in_query else []
    if len(headers) + len(queries) > 1:
        raise InvalidRequestError(f"more than one token: give the Authorization header or {QUERY_PARAMETER}, once")
    if queries:
        return queries[0]
    if not headers:
        return None
    scheme, _, token = headers[0].partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None
