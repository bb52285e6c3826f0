"""Tells how many cases were tried: what `scripts/fuzz` is run for."""

from __future__ import annotations

import os

import pytest

from tests.fuzz.cases import VARIABLE, tried


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the count of each fuzz test, and of all."""
    if VARIABLE not in os.environ:
        return
    terminalreporter.section("cases tried")
    for name, count in sorted(tried.items()):
        terminalreporter.write_line(f"{count:8,}  {name}")
    terminalreporter.write_line(f"{tried.total():8,}  in all")
