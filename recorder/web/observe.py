"""What happens to every request, whoever answers it: it is counted and logged, and the answer is made safe."""

from __future__ import annotations

import time

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from recorder.web.services import SERVICES

_log = structlog.get_logger()

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count and log the request by its resource's template: no identifier becomes a label, no query is logged."""
    begun = time.monotonic()
    response = await handler(request)
    template = request.match_info.route.resource
    resource = template.canonical if template is not None else "unmatched"
    method = request.method if request.method in _METHODS else "other"
    request.app[SERVICES].metrics.requests.labels(resource, method, str(response.status)).inc()
    duration_s = round(time.monotonic() - begun, 6)
    _log.debug("http_request", method=method, resource=resource, status=response.status, duration_s=duration_s)
    return response


async def add_security_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Set what the handler did not set itself. A signal of aiohttp's, so streamed answers have them too."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = "recorder"
