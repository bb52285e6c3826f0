"""Taps come and go under load: argv[1] times, some dropped without detach, some read while they leave."""

from __future__ import annotations

import sys

from calls import SelfCaller, tone
from endpoint import FRAME, LoopbackEndpoint

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
        taps = [native.Tap(f"tap-{cycle}", 8000, FRAME, 8000) for _ in legs]
        for tap, leg in zip(taps, legs, strict=True):
            tap.attach(leg.slot)
        if cycle % 4 == 0:  # at other times the bridge has not even added it yet
            endpoint.until(lambda taps=taps: all(tap.position for tap in taps))
        endpoint.pj.libHandleEvents(0)
        for i, tap in enumerate(taps):
            if i % 3:
                tap.detach()
            if i % 2:
                heard += len(tap.read()[1])
        del tap, taps  # every third one is dropped in the bridge

    sys.stdout.write(str(heard))
    sys.stdout.flush()
    left_in_the_bridge = native.Tap("last", 8000, FRAME, 8000)
    left_in_the_bridge.attach(legs[0].slot)
    endpoint.pj.hangupAllCalls()
    endpoint.until(lambda: not any(leg.isActive() for leg in legs))
    generators.clear()
    legs.clear()
    account.answered.clear()
    del account, generator, leg
    endpoint.close()
    left_in_the_bridge.detach()
    left_in_the_bridge.read()


main(int(sys.argv[1]))
