"""What runs beside a test in threads of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self


class Background:
    """Runs `targets`, each in a thread, within `with`; they end when `_stopping` is set. Then `_close` is called."""

    def __init__(self, *targets: Callable[[], None]) -> None:
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=target, daemon=True) for target in targets]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._close()

    def _close(self) -> None:
        """Give back what the threads used."""
