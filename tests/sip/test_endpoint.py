"""The endpoint's alarms; the rest of it is tried with real calls."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

from recorder.settings import Settings
from recorder.sip.endpoint import Alarm, Endpoint


def test_alarms_that_are_cancelled_do_not_pile_up_until_they_are_due() -> None:
    endpoint = Endpoint(Settings(), lambda _leg, _invite: None)
    waiting = [endpoint.call_later(3600, list) for _ in range(10)]
    for _ in range(20_000):
        endpoint.call_later(14_400, list).cancel()
    held = [one for one in gc.get_objects() if isinstance(one, Alarm)]
    assert len(held) < 3000
    assert all(any(one is alarm for one in held) for alarm in waiting)


def test_an_invite_that_cannot_be_made_a_call_of_is_answered_500() -> None:
    """Nothing else would end it: an INVITE that has come in has no timer. In a process of its own, as every stack."""
    program = [sys.executable, "-m", "tests.sip.broken"]
    root = Path(__file__).parents[2]
    done = subprocess.run(program, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert "SIP/2.0 500 " in done.stdout, done.stderr
    assert "there is no way to make a call of this" in done.stdout  # the log
