"""Tests that judge moments are asked again: what a fault of ours does, it does every time.

A test marked `moments` compares what several processes did when, by their clocks: SIPp, the recorder, an RTP peer. On a
machine that stops one of them for some hundred milliseconds the comparison fails though all of them are right. Such a
test is run again, at most twice, with the same fixtures but a tmp_path of its own, and the end of the run shows that.
Only what is asserted is asked again: pytest.fail is for what no moment excuses.
"""

from __future__ import annotations

import inspect

import pytest

TRIES = 3
_ASKED_AGAIN = "asked again"


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is marked `moments` until it holds, TRIES times at the most; others are none of our business."""
    if pyfuncitem.get_closest_marker("moments") is None:
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    folder = arguments.get("tmp_path")
    for left in reversed(range(TRIES)):
        if folder is not None:
            arguments["tmp_path"] = folder / str(left)
            arguments["tmp_path"].mkdir()
        try:
            pyfuncitem.obj(**arguments)
        except AssertionError as error:
            if left == 0:
                raise
            pyfuncitem.user_properties.append((_ASKED_AGAIN, str(error)))
        else:
            break
    return True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show which tests did not hold at once, and why."""
    for reports in list(terminalreporter.stats.values()):
        for report in reports:
            if not isinstance(report, pytest.TestReport) or report.when != "call":
                continue
            for name, why in report.user_properties:
                if name == _ASKED_AGAIN:
                    terminalreporter.write_line(f"ASKED AGAIN {report.nodeid} - {str(why).splitlines()[0]}")
