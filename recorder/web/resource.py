"""A resource: a path, what answers it, who may ask, and what the API description says of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from recorder.errors import ForbiddenError
from recorder.identifiers import is_valid_dialog_id
from recorder.library.audit import AuditEntry
from recorder.web.auth import NOBODY, Caller, Right, Role, authenticate, authorise
from recorder.web.services import SERVICES

Handler = Callable[[web.Request, Caller], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Resource:
    """One method on one path.

    Attributes:
        role: the least role that may ask; None opens the resource to everybody.
        right: what a token must have been given besides; audited: what an attempt without it is called in the audit.
        operation: its OpenAPI operation object, without what follows from the other attributes.
        token_in_query: also take the token from the query (the audio, for media elements).
    """

    method: str
    path: str
    handler: Handler
    role: Role | None
    operation: Mapping[str, Any]
    token_in_query: bool = False
    right: Right | None = None
    audited: str = ""

    def add_to(self, app: web.Application) -> None:
        """Route requests to the handler, behind the check of the caller's role."""
        if self.method == "GET":
            app.router.add_get(self.path, self._guarded, allow_head=True)
        else:
            app.router.add_route(self.method, self.path, self._guarded)

    async def _guarded(self, request: web.Request) -> web.StreamResponse:
        caller = NOBODY
        if self.role is not None:
            caller = authenticate(request, request.app[SERVICES].http.tokens, in_query=self.token_in_query)
            try:
                authorise(caller, self.role, self.right)
            except ForbiddenError:
                if self.audited:
                    self._enter_refusal(request, caller)
                raise
        return await self.handler(request, caller)

    def _enter_refusal(self, request: web.Request, caller: Caller) -> None:
        named = request.match_info.get("dialogId", "")
        dialog_id = named if is_valid_dialog_id(named) else None
        request.app[SERVICES].audit(
            AuditEntry(
                "operator", self.audited, "refused", "no_right", caller.name, source_of(request), dialog_id=dialog_id
            )
        )


def source_of(request: web.Request) -> str:
    """`address:port` of whoever asks, or of the proxy in between."""
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    if not isinstance(peer, tuple) or len(peer) < 2:
        return ""
    return f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"
