"""What a process costs: CPU, memory, descriptors and threads, read from the kernel while it works.

Only the process itself is counted, as the kernel charges it (user and system time); neither its children nor the
softirq work that loopback charges to the sender of a packet.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

_PERIOD_S = 0.25
_BEAT_S = 0.010
_STALL_S = 0.040


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading. `at` is epoch seconds, `cpu_s` user and system time since the process began."""

    at: float
    cpu_s: float
    rss_bytes: int
    fds: int
    threads: int
    udp_drops: int


class Sampler:
    """Reads one process four times a second, in a thread of its own, from `start` to `stop`.

    `udp_ports`: local ports whose kernel drop counters are summed, so that packets the process was too slow for show.
    """

    def __init__(self, pid: int, udp_ports: range = range(0)) -> None:
        self.samples: list[Sample] = []
        self._process = psutil.Process(pid)
        self._udp_ports = udp_ports
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def start(self) -> Sampler:
        """Begin to read."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Read a last time and end. Harmless when done twice."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def __enter__(self) -> Sampler:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def cpu_share(self, window: tuple[float, float]) -> float | None:
        """CPU in `window` (epoch seconds), as a share of one core; None when too little of it was seen."""
        inside = self.within(window)
        if len(inside) < 3:
            return None
        return (inside[-1].cpu_s - inside[0].cpu_s) / (inside[-1].at - inside[0].at)

    def cpu_s(self, window: tuple[float, float]) -> float | None:
        """CPU seconds used in `window`, to the nearest readings around it."""
        times = [sample.at for sample in self.samples]
        first = max(0, bisect_left(times, window[0]) - 1)
        last = min(len(times) - 1, bisect_left(times, window[1]))
        return self.samples[last].cpu_s - self.samples[first].cpu_s if last > first else None

    def within(self, window: tuple[float, float]) -> list[Sample]:
        """The readings in `window`."""
        return [sample for sample in self.samples if window[0] <= sample.at <= window[1]]

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            try:
                self.samples.append(self._read())
            except psutil.Error:
                return  # it has ended
            due += _PERIOD_S
            if self._stopping.wait(max(0.0, due - time.monotonic())):
                return

    def _read(self) -> Sample:
        with self._process.oneshot():
            cpu = self._process.cpu_times()
            return Sample(
                at=time.time(),
                cpu_s=cpu.user + cpu.system,
                rss_bytes=self._process.memory_info().rss,
                fds=self._process.num_fds(),
                threads=self._process.num_threads(),
                udp_drops=udp_drops(self._udp_ports) if self._udp_ports else 0,
            )


@dataclass(frozen=True, slots=True)
class Stall:
    """A time for which a thread that had nothing to wait for was not let run. `at` is epoch seconds, when it ended."""

    at: float
    seconds: float


class Heartbeat:
    """Wakes up a hundred times a second and notes when it was held up: by the machine, or by others that compute on it.

    A hole that every recording has at such a moment says nothing of the recorder. `beats` counts how often it woke up.
    """

    def __init__(self) -> None:
        self.beats = 0
        self.stalls: list[Stall] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        last = time.monotonic()
        while not self._stopping.wait(_BEAT_S):
            now = time.monotonic()
            if now - last > _BEAT_S + _STALL_S:
                self.stalls.append(Stall(time.time(), now - last - _BEAT_S))
            last = now
            self.beats += 1


def stolen_s() -> float | None:
    """CPU seconds that the hypervisor has kept from this machine since it started; None where that is not told."""
    steal = getattr(psutil.cpu_times(), "steal", None)
    return float(steal) if steal is not None else None


def udp_drops(ports: range) -> int:
    """Datagrams that the kernel threw away because a socket, open now, on one of these local ports was full."""
    return sum(int(fields[-1]) for fields in _udp_sockets(ports))


def udp_sockets(ports: range) -> int:
    """How many sockets, of whichever process, are bound to these local ports."""
    return sum(1 for _ in _udp_sockets(ports))


def _udp_sockets(ports: range) -> Iterator[list[str]]:
    try:
        lines = Path("/proc/net/udp").read_text().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) in ports:
            yield fields


def peak(values: Iterable[int]) -> int:
    """The largest, 0 of none."""
    return max(values, default=0)


def machine() -> dict[str, object]:
    """What this was measured on."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }
