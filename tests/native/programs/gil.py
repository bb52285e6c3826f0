"""Takes the GIL and keeps it, while slots are joined and parted: prints how many packets came in meanwhile."""

from __future__ import annotations

import sys
import time

from calls import SelfCaller, tone
from endpoint import LoopbackEndpoint

from recorder import native


def main() -> None:
    endpoint = LoopbackEndpoint()
    account = SelfCaller(endpoint)
    legs = [*account.call_self()]
    generator = tone(440)
    native.connect(generator.getPortId(), legs[1].slot)
    watch = native.RtpTap("watch", 8000, 80_000, 1600)
    watch.attach(legs[0].getId())
    endpoint.until(lambda: watch.packets)

    sys.setswitchinterval(30)  # nobody asks for the GIL back in this time; only blocking calls give it up
    start = watch.packets
    for _ in range(5):
        native.connect(legs[0].slot, legs[1].slot)
        deadline = time.monotonic() + 2
        target = watch.packets + 5
        while watch.packets < target and time.monotonic() < deadline:
            pass
        native.disconnect(legs[0].slot, legs[1].slot)
    packets = watch.packets - start
    sys.setswitchinterval(0.005)

    sys.stdout.write(str(packets))
    sys.stdout.flush()
    legs.clear()
    account.answered.clear()
    del account, generator
    endpoint.close()


main()
