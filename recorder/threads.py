"""Threads that `top -H` and profilers show by their names."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

_LONGEST = 15  # of a thread's name, in the kernel


def named(name: str, run: Callable[..., None], *arguments: object, daemon: bool = True) -> threading.Thread:
    """A thread that is not started yet; the kernel knows it by `name`, too, cut to 15 characters."""

    def carry_out() -> None:
        with contextlib.suppress(OSError):  # no /proc: then it goes by the program's name
            Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(name[:_LONGEST], encoding="ascii")
        run(*arguments)

    return threading.Thread(target=carry_out, name=name, daemon=daemon)
