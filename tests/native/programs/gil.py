"""Takes the GIL and keeps it, while taps join and leave the bridge: prints how far the media clock came meanwhile."""

from __future__ import annotations

import sys
import time

from calls import SelfCaller
from endpoint import FRAME, LoopbackEndpoint

from recorder import native


def main() -> None:
    endpoint = LoopbackEndpoint()
    account = SelfCaller(endpoint)
    legs = [*account.call_self()]
    watch = native.Tap("watch", 8000, FRAME, 8000)
    watch.attach(legs[0].slot)
    endpoint.until(lambda: watch.position)

    sys.setswitchinterval(30)  # nobody asks for the GIL back in this time; only blocking calls give it up
    start = watch.position
    for i in range(5):
        tap = native.Tap(f"tap-{i}", 8000, FRAME, 8000)
        tap.attach(legs[1].slot)
        deadline = time.monotonic() + 2
        target = watch.position + 5 * FRAME
        while watch.position < target and time.monotonic() < deadline:
            pass
        tap.detach()
    frames = (watch.position - start) // FRAME
    sys.setswitchinterval(0.005)

    sys.stdout.write(str(frames))
    sys.stdout.flush()
    legs.clear()
    account.answered.clear()
    del account
    endpoint.close()


main()
