"""Measures the CPU that writer and disk thread take per recorded dialog: `python -m tests.media.measure_writer`.

Real thread, real files, real time; the taps are Python stand-ins that hand out a copy of what the clock says is due.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from recorder.media.recording import Recording
from recorder.media.source import Samples
from recorder.media.writer import Writer
from recorder.metrics import Metrics
from tests.media.taps import ClockTap


def speech_like(rate: int, seed: int) -> Samples:
    """One second of noise at speech level with pauses, so that the mixer's table is used as speech uses it."""
    noise = np.random.default_rng(seed).laplace(0, 1500, rate)
    noise[: rate // 3] = 0
    return np.clip(noise, -30000, 30000).astype(np.int16)


def measure(dialogs: int, block_s: float, rate: int, seconds: float, folder: Path, remove_digits: bool) -> None:
    """Run and print one line."""
    metrics = Metrics()
    ended = threading.Semaphore(0)
    writer = Writer(lambda _: ended.release(), block_s=block_s, metrics=metrics)
    started = time.monotonic()
    a, b = speech_like(rate, 1), speech_like(rate, 2)
    recordings = [
        Recording(
            folder / f"{number}.wav",
            rate,
            a=ClockTap(a, started),
            b=ClockTap(b, started),
            origin=0,
            guard_before_samples=rate * 3 // 10,
            remove_digits=remove_digits,
        )
        for number in range(dialogs)
    ]
    for recording in recordings:
        writer.begin(recording)
    writer.start()
    settle = threading.Event()
    settle.wait(1)  # the files are opened in the first round
    clocks = [
        time.pthread_getcpuclockid(thread.ident)
        for thread in (writer._thread, writer.disk._thread)
        if thread.ident is not None
    ]
    cpu, wall = sum(map(time.clock_gettime, clocks)), time.monotonic()
    settle.wait(seconds)
    cpu, wall = sum(map(time.clock_gettime, clocks)) - cpu, time.monotonic() - wall
    writer.stop(60)
    value = metrics.registry.get_sample_value
    blocks, took = value("recorder_write_seconds_count") or 1, value("recorder_write_seconds_sum") or 0
    print(  # noqa: T201
        f"{dialogs} dialogs, {rate} Hz, block {block_s} s: {100 * cpu / wall / dialogs:.4f} % of a core per dialog, "
        f"{1e6 * took / blocks:.1f} us a block (mean), late {sum(r.late_samples for r in recordings)}, "
        f"lost {sum(r.lost_samples for r in recordings)}"
    )


def main() -> None:
    """Measure what the arguments ask for; by default all that the design names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dialogs", type=int, default=100)
    parser.add_argument("--block", type=float, nargs="+", default=[0.2, 0.4])
    parser.add_argument("--rate", type=int, nargs="+", default=[8000, 16000])
    parser.add_argument("--remove-digits", action="store_true", help="take the tones of keys out")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--folder", type=Path, help="where to write (default: the temporary folder)")
    options = parser.parse_args()
    for rate in options.rate:
        for block_s in options.block:
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                measure(options.dialogs, block_s, rate, options.seconds, Path(folder), options.remove_digits)


if __name__ == "__main__":
    main()
