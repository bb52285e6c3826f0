"""Serving the application on a port."""

from __future__ import annotations

import errno
import logging

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from recorder.errors import StartError

SHUTDOWN_TIMEOUT_S = 5.0

_ADVICE = {
    errno.EADDRINUSE: "the port is in use; end the program that has it, or give http.port another number",
    errno.EACCES: "this user may not open the port; give http.port a number above 1023",
    errno.EADDRNOTAVAIL: "this machine has no such address; give http.host one that it has, such as 127.0.0.1",
}


async def start(app: web.Application, host: str, port: int) -> web.AppRunner:
    """Serve `app` on `host` and `port` (0: any free one; see `runner.addresses`). Raises StartError.

    `await runner.cleanup()` ends it: open requests have SHUTDOWN_TIMEOUT_S to finish.
    """
    # No access log: a query may hold a token. `observe` logs what there is to log.
    runner = web.AppRunner(app, access_log=None, logger=_server_log(), shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        advice = _ADVICE.get(error.errno or 0, error.strerror or str(error))
        raise StartError(f"http://{_shown(host)}:{port}: cannot listen: {advice}") from error
    return runner


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _server_log() -> logging.Logger:
    log = logging.getLogger("recorder.web.server")
    if not log.filters:
        log.addFilter(_without_wire_content)
    return log


def _without_wire_content(record: logging.LogRecord) -> bool:
    """A request that cannot be parsed is quoted in aiohttp's exception, perhaps with a token: name its kind alone."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.msg = f"{record.msg}: {type(error).__name__}"
        record.exc_info = None
    return True
