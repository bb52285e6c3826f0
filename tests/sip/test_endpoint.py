"""The endpoint's alarms; the rest of it is tried with real calls."""

from __future__ import annotations

import gc

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
