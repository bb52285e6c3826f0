"""Says how often a wait for the stack's events, far longer than the test may take, was ended by another thread."""

from __future__ import annotations

import sys
import threading

from endpoint import LoopbackEndpoint

from recorder import native

TIMES = 50


def main() -> None:
    endpoint = LoopbackEndpoint()
    native.wake()  # not installed yet: without effect
    native.install_wake()
    turn = threading.Semaphore(0)
    asked = threading.Event()

    def ask() -> None:
        for _ in range(TIMES):
            turn.acquire()
            for _ in range(100):  # more than the socket would hold is one wake-up
                native.wake()
            asked.set()

    threading.Thread(target=ask, daemon=True).start()
    for _ in range(TIMES):
        asked.clear()
        turn.release()
        while not asked.is_set():
            endpoint.pj.libHandleEvents(100_000)
    native.uninstall_wake()
    native.uninstall_wake()
    native.wake()
    endpoint.close()
    sys.stdout.write(f"{TIMES}\n")


main()
