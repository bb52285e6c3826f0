"""What a log line holds, what it must never hold, and that a log that cannot be written stops nothing."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog

from recorder import log
from recorder.settings import Log


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def fail_with(secret: str) -> None:
    raise RuntimeError(f"{len(secret)} digits")


def test_a_line_elsewhere_than_on_a_terminal_is_json_with_time_and_level(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(Log())
    structlog.get_logger().info("call", dialog_id="AB", reason="caller_hangup", odd=b"\xff", text="ü\n\x1b[31m 100%s")
    (line,) = lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "call",
        "level": "info",
        "dialog_id": "AB",
        "reason": "caller_hangup",
        "odd": "b'\\xff'",
        "text": "ü\n\x1b[31m 100%s",
    }


@pytest.mark.parametrize(
    ("level", "shown"), [("debug", ["a", "b", "c", "d"]), ("info", ["b", "c", "d"]), ("error", ["d"])]
)
def test_lines_below_the_level_are_left_out(
    level: Literal["debug", "info", "error"], shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure(Log(level=level))
    logger = structlog.get_logger()
    logger.debug("a")
    logger.info("b")
    logger.warning("c")
    logger.error("d")
    assert [line["event"] for line in lines(capsys)] == shown


def test_what_is_bound_to_the_context_is_in_each_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(Log())
    structlog.contextvars.bind_contextvars(request="r1")
    structlog.get_logger().info("served")
    assert lines(capsys)[0]["request"] == "r1"


def test_libraries_are_heard_from_warning_on_and_in_the_same_format(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(Log(level="debug"))
    logging.getLogger("aiohttp.server").info("not this")
    logging.getLogger("aiohttp.server").warning("bad request from %s", "192.0.2.1")
    try:
        fail_with("4111")
    except RuntimeError:
        logging.getLogger("asyncio").exception("task failed")
    first, second = lines(capsys)
    assert (first["event"], first["level"], first["logger"]) == (
        "bad request from 192.0.2.1",
        "warning",
        "aiohttp.server",
    )
    assert second["exception"][0]["exc_type"] == "RuntimeError"


def test_configuring_again_changes_the_level_and_doubles_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(Log(level="error"))
    log.configure(Log(level="info"))
    structlog.get_logger().info("ours")
    logging.getLogger("theirs").warning("theirs")
    assert [line["event"] for line in lines(capsys)] == ["ours", "theirs"]


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_never_shows_local_variables(
    form: Literal["json", "console"], capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure(Log(format=form))
    card = "".join(["4111", "1111", "1111", "1111"])
    try:
        fail_with(card)
    except RuntimeError:
        structlog.get_logger().exception("step_failed")
    text = capsys.readouterr().err
    assert card not in text
    assert "fail_with" in text
    assert "16 digits" in text


def test_a_terminal_gets_lines_for_people_unless_json_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    log.configure(Log(format="auto"))
    structlog.get_logger().info("ready", port=5060)
    assert not terminal.getvalue().startswith("{")
    assert "ready" in terminal.getvalue()
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    log.configure(Log(format="json"))
    structlog.get_logger().info("ready", port=5060)
    assert json.loads(terminal.getvalue())["port"] == 5060


def test_colours_are_for_terminals_whose_user_wants_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure(Log(format="console"))
    structlog.get_logger().info("to a file")
    assert "\x1b" not in capsys.readouterr().err
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    log.configure(Log(format="console"))
    structlog.get_logger().info("plain")
    assert "\x1b" not in terminal.getvalue()


def test_what_a_caller_sends_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(Log(format="console"))
    structlog.get_logger().warning("identifier_replaced", value="\x1b]0;owned\x07", other="a\nlevel=info forged\x9b2J")
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert all(character.isprintable() for character in text[:-1])


def test_a_log_that_cannot_be_written_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    monkeypatch.setattr(sys, "stderr", closed)
    log.configure(Log())
    closed.close()
    structlog.get_logger().info("lost")
    logging.getLogger("theirs").warning("lost too")
    monkeypatch.setattr(sys, "stderr", found := io.StringIO())
    structlog.get_logger().info("found")
    assert json.loads(found.getvalue())["event"] == "found"


def test_a_stalled_output_stalls_nobody_who_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    released, written = threading.Event(), []

    class Stalled(io.StringIO):
        def write(self, text: str) -> int:
            assert released.wait(30)
            written.append(text)
            return len(text)

    monkeypatch.setattr(sys, "stderr", Stalled())
    log.configure(Log(format="json"))
    with log.in_background():
        for number in range(100):
            structlog.get_logger().info("line", number=number)
        assert not written
        released.set()
    lines = [json.loads(line) for line in "".join(written).splitlines()]
    assert [line["number"] for line in lines] == list(range(100))
