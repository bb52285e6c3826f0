"""The quiet tone that may stand in a recording where a sensitive step was: a listener hears that nothing is broken.

440 Hz, its peaks 30 dB below full scale. It lies wholly within what is redacted, guards included, and its edges of
10 ms rise and fall as a cosine, so that they do not click.
"""

from __future__ import annotations

import numpy as np

from recorder.media.source import Samples

FREQUENCY_HZ = 440
PEAK = round(32768 * 10 ** (-30 / 20))
EDGE_S = 0.010


def marker(start: int, stop: int, begun: int, ends: int | None, rate_hz: int) -> Samples:
    """Samples [start, stop) of the marker of a step that is redacted from `begun` on, until `ends` if that is known.

    All are positions of one clock. Pieces of one step that are made apart join without a seam.
    """
    positions = np.arange(start, stop)
    inside = positions - begun if ends is None else np.minimum(positions - begun, ends - 1 - positions)
    edge = np.clip(inside / (rate_hz * EDGE_S), 0.0, 1.0)
    level = PEAK * (0.5 - 0.5 * np.cos(np.pi * edge))
    # The phase begins anew every second, which holds whole periods: positions may be large.
    wave = np.sin(2 * np.pi * FREQUENCY_HZ / rate_hz * (positions % rate_hz))
    samples: Samples = np.rint(level * wave).astype(np.int16)
    return samples
