"""How many cases each fuzz test tries: some hundreds in the suite, as many as `scripts/fuzz` is told otherwise."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

IN_THE_SUITE = 200
VARIABLE = "FUZZ_CASES"

tried: Counter[str] = Counter()


def fuzzed(**arguments: SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Like Hypothesis's `given`, with as many cases as are wanted of every test here; each one is counted."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def counted(**drawn: Any) -> None:
            tried[test.__name__] += 1
            test(**drawn)

        return settings(
            max_examples=int(os.environ.get(VARIABLE, IN_THE_SUITE)),
            deadline=None,  # the machine may stop for a while; a test that hangs is ended by pytest-timeout
            suppress_health_check=list(HealthCheck),
        )(given(**arguments)(counted))

    return decorate
