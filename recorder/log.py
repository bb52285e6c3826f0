"""Logging: for people on a terminal, JSON elsewhere; one canonical line a call (event `call`).

No line holds the local variables of a traceback: a digit or a name that was redacted from the audio must not come back
in the log. No line that cannot be written raises: a call does not fail of its log.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import structlog
from structlog.typing import EventDict

from recorder.settings import Log

_CONTROL_PICTURES = {code: 0x2400 + code for code in range(0x20)} | dict.fromkeys(range(127, 160), 65533)


class _StandardError:
    """Whatever `sys.stderr` is at the time; a line that it does not take (closed, broken pipe) is lost."""

    def write(self, text: str) -> int:
        try:
            return sys.stderr.write(text)
        except (OSError, ValueError, AttributeError):
            return 0

    def flush(self) -> None:
        try:
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):
            return


_STANDARD_ERROR: Any = _StandardError()


class _Foreign(logging.Handler):
    """Lines of libraries that use the standard library's logging, in the same format as ours."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            structlog.get_logger().log(
                record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info or None
            )
        except Exception:  # noqa: BLE001  # what every handler does: report on standard error and go on
            self.handleError(record)


def configure(settings: Log) -> None:
    """Send structured log lines to standard error, in the format and from the level that `settings` name.

    Libraries are heard from `warning` on, or from a higher level if that is the one set. May be called again.
    """
    terminal = sys.stderr is not None and sys.stderr.isatty()
    console = settings.format == "console" or (settings.format == "auto" and terminal)
    renderers: list[Any] = (
        [
            _without_controls,
            structlog.dev.ConsoleRenderer(
                colors=terminal and "NO_COLOR" not in os.environ,
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ]
        if console
        else [
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(),
        ]
    )
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=_STANDARD_ERROR),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Foreign)]:
        root.removeHandler(handler)
    root.addHandler(_Foreign())
    root.setLevel(max(level, logging.WARNING))


def _without_controls(_logger: Any, _method: str, line: EventDict) -> EventDict:
    """What a caller put into a header must not steer the terminal it is shown on."""
    return {
        key: value.translate(_CONTROL_PICTURES) if isinstance(value, str) and key != "exception" else value
        for key, value in line.items()
    }
