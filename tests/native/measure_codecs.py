"""What a leg of each codec costs to record: CPU of one core. `python -m tests.native.measure_codecs`

`put` is the media thread's share, `read` the writer's, both with what it takes to call them from here.
"""

from __future__ import annotations

import sys
import time

from tests.native.test_codecs import ALL, PACKET_S, RATES, Line, chirp

SECONDS = 60


def main() -> None:
    """Measure each codec at each rate."""
    sys.stdout.write("codec   rate     put      read\n")
    for speech in ALL:
        payloads = speech.encode(chirp(2.0, speech.rate)) * (SECONDS // 2)
        for rate in RATES:
            line = Line(rate, speech)
            put = read = 0.0
            for second in range(SECONDS):
                before = time.thread_time()
                for number in range(50 * second, 50 * second + 50):
                    line.bring(payloads[number], number, number * PACKET_S)
                put += time.thread_time() - before
                line.tap._set_now(line.at(second + 1.2))
                before = time.thread_time()
                line.tap.read()
                read += time.thread_time() - before
            sys.stdout.write(f"{speech.name:6} {rate:5}  {put / SECONDS:.3%}  {read / SECONDS:.3%}\n")


main()
