"""Putting the resources together into one application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from aiohttp import web

from recorder.web import audio, audit, calls, cdrs, health, recordings
from recorder.web.audio import PLAYBACKS
from recorder.web.docs import docs_resource
from recorder.web.health import READINESS, Readiness
from recorder.web.observe import add_security_headers, observe
from recorder.web.openapi import openapi_resource
from recorder.web.playback import Playbacks
from recorder.web.problems import map_errors
from recorder.web.resource import Resource
from recorder.web.services import SERVICES, Services

MAX_BODY_BYTES = 64 * 1024


def resources(more: Iterable[Resource] = ()) -> tuple[Resource, ...]:
    """Every resource, with `more` of another module's; the description and its page, which tell of all, come last."""
    described = (
        *health.RESOURCES,
        *calls.RESOURCES,
        *recordings.RESOURCES,
        *audio.RESOURCES,
        *cdrs.RESOURCES,
        *audit.RESOURCES,
        *more,
    )
    docs = docs_resource(described, "/api/docs")
    return (*described, docs, openapi_resource((*described, docs), "/api/openapi.json"))


def build_app(services: Services, more: Iterable[Resource] = ()) -> web.Application:
    """Build the application on `services`; `more` resources come from other modules (control of calls, the Monitor)."""
    app = web.Application(middlewares=[observe, map_errors], client_max_size=MAX_BODY_BYTES)
    app[SERVICES] = services
    app[PLAYBACKS] = Playbacks()
    app[READINESS] = Readiness(services.readiness)
    app.on_response_prepare.append(add_security_headers)
    app.cleanup_ctx.append(_closing_readiness)
    for resource in resources(more):
        resource.add_to(app)
    return app


async def _closing_readiness(app: web.Application) -> AsyncIterator[None]:
    yield
    await app[READINESS].close()
