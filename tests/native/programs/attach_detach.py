"""Taps come and go under load: argv[1] times, some dropped without detach, some read while packets come in."""

from __future__ import annotations

import sys

from calls import SelfCaller, tone
from endpoint import LoopbackEndpoint

from recorder import native


def main(cycles: int) -> None:
    endpoint = LoopbackEndpoint()
    account = SelfCaller(endpoint)
    legs = [leg for _ in range(3) for leg in account.call_self()]
    generators = [tone(500 + 100 * i) for i in range(len(legs))]
    for generator, leg in zip(generators, legs, strict=True):
        native.connect(generator.getPortId(), leg.slot)

    heard = 0
    for cycle in range(cycles):
        taps = [native.RtpTap(f"tap-{cycle}", 8000, 8000, 800) for _ in legs]
        for tap, leg in zip(taps, legs, strict=True):
            tap.attach(leg.getId())
        if cycle % 4 == 0:  # at other times no packet has come yet
            endpoint.until(lambda taps=taps: all(tap.packets for tap in taps))
        endpoint.pj.libHandleEvents(0)
        for i, tap in enumerate(taps):
            if i % 3:
                tap.detach()
            if i % 2:
                heard += len(tap.read()[1])
        del tap, taps  # the legs keep what they fill until the next ones are there

    sys.stdout.write(str(heard))
    sys.stdout.flush()
    last = native.RtpTap("last", 8000, 8000, 800)
    last.attach(legs[0].getId())
    endpoint.pj.hangupAllCalls()
    endpoint.until(lambda: not any(leg.isActive() for leg in legs))
    generators.clear()
    legs.clear()
    account.answered.clear()
    del account, generator, leg
    endpoint.close()
    last.detach()
    last.read()


main(int(sys.argv[1]))
