"""Logging: for people on a terminal, JSON elsewhere; one canonical line a call (event `call`).

No line holds the local variables of a traceback: a digit or a name that was redacted from the audio must not come back
in the log. No line that cannot be written raises: a call does not fail of its log.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import sys
import threading
from collections.abc import Iterator
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict

from recorder import threads
from recorder.settings import Log

_MOST_WAITING = 20_000  # lines that a stalled output may leave behind
_LAST_WRITE_S = 5.0
_CONTROL_PICTURES = {code: 0x2400 + code for code in range(0x20)} | dict.fromkeys(range(127, 160), 65533)


class _StandardError:
    """Whatever `sys.stderr` is at the time; a line that it does not take (closed, broken pipe) is lost.

    Between `begin` and `end` a thread of its own writes, so that a disk or a reader that stalls stalls nobody who logs;
    what waits is bounded.
    """

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[str | None] | None = None
        self._thread: threading.Thread | None = None
        self._lost = 0

    def write(self, text: str) -> int:
        waiting = self._waiting
        if waiting is None:
            self._put(text)
        elif waiting.qsize() < _MOST_WAITING:
            waiting.put(text)
        else:
            self._lost += 1
        return len(text)

    def flush(self) -> None:
        if self._waiting is None:
            self._put("")

    def begin(self) -> None:
        waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._waiting = waiting
        self._thread = threads.named("log", self._run, waiting)
        self._thread.start()

    def end(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and self._thread is not None:
            waiting.put(None)
            self._thread.join(_LAST_WRITE_S)

    def _run(self, waiting: queue.SimpleQueue[str | None]) -> None:
        while (text := waiting.get()) is not None:
            self._put(text)
            lost, self._lost = self._lost, 0
            if lost:
                structlog.get_logger().warning("log_lines_lost", lines=lost)

    @staticmethod
    def _put(text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):
            return


_STANDARD_ERROR = _StandardError()


@contextlib.contextmanager
def in_background() -> Iterator[None]:
    """Have a thread write the lines meanwhile; at the end all that were logged are written."""
    _STANDARD_ERROR.begin()
    try:
        yield
    finally:
        _STANDARD_ERROR.end()


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
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, _STANDARD_ERROR)),
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
