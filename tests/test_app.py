"""What the recorder watches of its machine."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import psutil

from recorder.app import _descriptors_left, _give_memory_back


def test_memory_that_is_free_is_given_back() -> None:
    process = psutil.Process()
    taken = [bytes(2000) for _ in range(40_000)]
    last = bytes(2000)  # above them: the C library would give back by itself what nothing is above of
    del taken
    before = process.memory_info().rss
    _give_memory_back()
    assert process.memory_info().rss < before - 40_000_000
    assert last


def test_to_run_out_of_descriptors_does_not_end_the_watch_over_them() -> None:
    _, hard = before = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened: list[int] = []
    assert _descriptors_left() > 0
    try:
        highest = max(int(it.name) for it in Path("/proc/self/fd").iterdir())
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 64, hard))
        try:
            while True:
                opened.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            left = _descriptors_left()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for descriptor in opened:
            os.close(descriptor)
    assert left == 0
