"""What the recorder watches of its machine."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from recorder.app import _descriptors_left


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
