"""Joins two calls: prints how many packets their streams made while far ends heard 50 relayed ones, then made again."""

from __future__ import annotations

import sys

from calls import SelfCaller, tone
from endpoint import LoopbackEndpoint

from recorder import native


def main() -> None:
    endpoint = LoopbackEndpoint()
    account = SelfCaller(endpoint)
    legs = [*account.call_self(), *account.call_self()]  # the first speaks, the last listens
    generator = tone(440)
    native.connect(generator.getPortId(), legs[0].slot)
    watch = native.RtpTap("watch", 8000, 80_000, 1600)

    def made() -> int:
        streams = [native.stream_statistics(leg.getId()) for leg in legs[1:3]]
        return sum(stream.tx_packets for stream in streams if stream is not None)

    endpoint.until(lambda: made() > 20)
    joined = native.join(legs[1].getId(), legs[2].getId())
    assert joined
    watch.attach(legs[3].getId())
    endpoint.until(lambda: watch.packets > 5)  # a frame that was being made is made
    before, heard = made(), watch.packets
    endpoint.until(lambda: watch.packets >= heard + 50)
    while_joined, before = made() - before, made()
    native.part(legs[1].getId())
    endpoint.until(lambda: made() >= before + 20)

    sys.stdout.write(f"{while_joined} {made() - before}")
    sys.stdout.flush()
    legs.clear()
    account.answered.clear()
    del account, generator
    endpoint.close()


main()
