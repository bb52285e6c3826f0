"""Two calls to itself, a tone of its own in each direction; what the four taps heard goes to stdout as JSON."""

from __future__ import annotations

import json
import sys

import numpy as np
from calls import SelfCaller, tone
from endpoint import Endpoint, LoopbackEndpoint

from recorder import native

SECOND = 8000
HOLD = SECOND // 5


def loudest_hz(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * SECOND / len(samples))


def main() -> None:
    endpoint = LoopbackEndpoint()
    account = SelfCaller(endpoint)
    legs = [*account.call_self(), *account.call_self()]
    tones_hz = [400, 700, 1100, 1600]
    generators = [tone(hz) for hz in tones_hz]
    for generator, leg in zip(generators, legs, strict=True):
        native.connect(generator.getPortId(), leg.slot)
    taps = [native.RtpTap(f"leg-{i}", SECOND, 8 * SECOND, HOLD) for i in range(len(legs))]
    for tap, leg in zip(taps, legs, strict=True):
        attached = tap.attach(leg.getId()) and tap.attach(leg.getId())  # once more is no harm
        assert attached
    endpoint.until(lambda: all(tap.position - tap.origin >= 2 * SECOND for tap in taps))
    reports = Endpoint.reports  # of what pjsua did before it was our turn

    shut_from = taps[0].close_gate()
    endpoint.until(lambda: taps[0].position >= shut_from + SECOND // 4)
    opened = taps[0].open_gate(200)
    endpoint.until(lambda: taps[0].position >= opened + SECOND // 4)

    statistics = [native.stream_statistics(leg.getId()) for leg in legs]
    before_hang_up = [tap.position for tap in taps]
    for leg in legs[2:]:  # the second call ends; its taps stay and hear silence
        native.disconnect(leg.slot, 0)
    gone = legs[0].getId()
    endpoint.pj.hangupAllCalls()
    endpoint.until(lambda: all(not leg.isActive() for leg in legs))
    end = max(tap.position for tap in taps) + HOLD + SECOND // 4
    endpoint.until(lambda: all(tap.position >= end for tap in taps))
    nobody = [taps[0].attach(gone), taps[0].attach(9999), taps[0].attach(-1)]

    for tap in taps:
        tap.detach()
        tap.detach()
    result = []
    for tap, before in zip(taps, before_hang_up, strict=True):
        position, samples = tap.read()
        heard = samples[before - position - SECOND : before - position]
        result.append(
            {
                "origin": tap.origin,
                "first": position,
                "length": len(samples),
                "position": tap.position,
                "dropped": tap.dropped_samples,
                "loudest_hz": loudest_hz(samples[SECOND : 2 * SECOND]),
                "level": float(np.abs(heard).max()),
                "after_hang_up": int(np.count_nonzero(samples[-SECOND // 10 :])),
            }
        )
        if tap is taps[0]:
            result[-1]["shut"] = int(np.count_nonzero(samples[shut_from - position : opened - position]))
            result[-1]["reopened"] = int(np.count_nonzero(samples[opened - position :][: SECOND // 10]))
            result[-1]["shut_from"], result[-1]["opened"] = shut_from, opened
    report = {
        "taps": result,
        "tones_hz": tones_hz,
        "codec": [s.codec for s in statistics if s],
        "rx_packets": [s.rx_packets for s in statistics if s],
        "clock_rate_hz": [s.clock_rate_hz for s in statistics if s],
        "remote": [s.remote_rtp_address for s in statistics if s],
        "telephone_event_pt": [s.telephone_event_pt for s in statistics if s],
        "no_statistics": native.stream_statistics(legs[0].getId()) is None and native.stream_statistics(9999) is None,
        "no_slot": [native.conference_slot(-1), native.conference_slot(legs[0].getId()), native.conference_slot(9999)],
        "attached_to_nobody": nobody,
        "bridge_reports_since_connect": Endpoint.reports - reports,
    }
    sys.stdout.write(json.dumps(report))
    sys.stdout.flush()
    taps.clear()
    generators.clear()
    legs.clear()
    account.answered.clear()
    del account, leg, generator, tap
    endpoint.close()


main()
