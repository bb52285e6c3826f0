"""A resource: a path, what answers it, who may ask, and what the API description says of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from recorder.web.auth import NOBODY, Caller, Role, authenticate, authorise
from recorder.web.services import SERVICES

Handler = Callable[[web.Request, Caller], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Resource:
    """One method on one path.

    Attributes:
        role: the least role that may ask; None opens the resource to everybody.
        operation: its OpenAPI operation object, without what follows from the other attributes.
        token_in_query: also take the token from the query (the audio, for media elements).
    """

    method: str
    path: str
    handler: Handler
    role: Role | None
    operation: Mapping[str, Any]
    token_in_query: bool = False

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
            authorise(caller, self.role)
        return await self.handler(request, caller)
