"""What the command line may ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recorder.errors import InvalidRequestError
from recorder.loadtest.bench import phases_of
from recorder.loadtest.options import Options, Phase


def test_the_defaults_are_in_order() -> None:
    Options().check()


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"calls": 0}, "--calls"),
        ({"rate": 0}, "--rate"),
        ({"duration_s": 1}, "--duration"),
        ({"mute_every": -1}, "--mute-every"),
        ({"mute_every": 2, "duration_s": 5}, "--mute-every"),
        ({"target": "127.0.0.1:5060"}, "--recordings"),
        ({"target": "h:1", "recordings": Path(), "config": Path("a")}, "--config"),
    ],
)
def test_what_cannot_be_carried_out_is_refused(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidRequestError, match=fault):
        Options(**options).check()


def test_long_calls_are_followed_by_short_ones_and_short_ones_by_long_ones() -> None:
    main, short = phases_of(Options(calls=100, rate=10, duration_s=60))
    assert main.is_steady
    assert (short.calls, short.duration_s) == (100, 2.0)
    main, steady = phases_of(Options(calls=600, rate=10, duration_s=2))
    assert not main.is_steady
    assert main.concurrent == 20
    assert steady.is_steady


def test_one_phase_where_nothing_can_be_measured() -> None:
    assert len(phases_of(Options(setup_phase=False))) == 1
    assert len(phases_of(Options(target="h:1", recordings=Path()))) == 1


def test_concurrent_calls_of_a_phase() -> None:
    assert Phase("p", calls=10, rate=5, duration_s=60).concurrent == 10
    assert Phase("p", calls=600, rate=10, duration_s=2).concurrent == 20
