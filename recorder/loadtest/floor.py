"""The floor: what relaying the same packets costs without anything else, measured in the same go as the recorder.

The program is `recorder/native/floor_relay.c`. Its sender also makes the spread-out RTP of `--spread` for the recorder.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from recorder.errors import StartError
from recorder.loadtest.measure import Sampler
from recorder.loadtest.ports import PortLease, lease
from recorder.loadtest.tones import APPLICATION, CALLER, Codec, write_voice

_SETTLE_S = 1.5
_PAYLOAD_TYPES = {Codec.PCMU: 0, Codec.PCMA: 8}


@dataclass(frozen=True, slots=True)
class Floor:
    """The bare relay's cost. CPU in shares of one core; `packets_per_s` is what went through it."""

    dialogs: int
    shape: str
    seconds: float
    cpu_share: float
    packets_per_s: float
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def cpu_per_dialog(self) -> float:
        """Share of one core that one dialog takes."""
        return self.cpu_share / self.dialogs


def program(folder: Path) -> Path:
    """The built floor_relay: as installed, or compiled into `folder`. Raises StartError when there is neither."""
    spec = importlib.util.find_spec("recorder.native")
    places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec is not None else []
    extension = importlib.util.find_spec("recorder.native._native") if spec is not None else None
    if extension is not None and extension.origin is not None:
        places.append(Path(extension.origin).parent)
    for place in places:
        if (place / "floor_relay").exists():
            return place / "floor_relay"
    source = Path(__file__).resolve().parents[1] / "native" / "floor_relay.c"
    compiler = shutil.which("cc")
    if compiler is None or not source.exists():
        raise StartError("floor_relay is not installed, and there is no C compiler (cc) to build it; use --no-floor")
    built = folder / "floor_relay"
    subprocess.run([compiler, "-O2", "-o", str(built), str(source)], check=True)  # noqa: S603  # our own source
    return built


class Sender:
    """The sending half of floor_relay: both ends of all dialogs. Ports of the sides: `port_a`, `port_b`."""

    def __init__(self, folder: Path, shape: str, codec: Codec) -> None:
        self._lease: PortLease = lease(2)
        self.port_a, self.port_b = self._lease.first, self._lease.last
        self._command = [
            *(str(program(folder)), "send", shape, str(self.port_a), str(self.port_b), str(_PAYLOAD_TYPES[codec])),
            str(write_voice(folder, f"sender-a{codec.suffix}", CALLER, codec)),
            str(write_voice(folder, f"sender-b{codec.suffix}", APPLICATION, codec)),
        ]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Sender:
        self._process = subprocess.Popen(  # noqa: S603  # our own program
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        return self

    def begin(self, side: str, port: int) -> None:
        """Begin a stream of side "a" or "b" to `port`."""
        self._order(f"{side} {port}")

    def end(self, port: int) -> None:
        """End the stream to `port`."""
        self._order(f"end {port}")

    def stop(self) -> dict[str, int]:
        """End it; returns its counts of packets."""
        counts: dict[str, int] = {}
        if self._process is not None:
            counts = _ended(self._process)
            self._process = None
        self._lease.release()
        return counts

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _order(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")


def measure(folder: Path, dialogs: int, seconds: float, shape: str, codec: Codec = Codec.PCMU) -> Floor:
    """Relay `dialogs` dialogs for `seconds` and measure the relay's process. `shape` is "burst" or "spread"."""
    with lease(2 * dialogs) as ports, Sender(folder, shape, codec) as sender:
        arguments = [str(2 * dialogs), str(ports.first), str(sender.port_a), str(sender.port_b)]
        relay = subprocess.Popen(  # noqa: S603  # our own program
            [str(program(folder)), "relay", *arguments], stdout=subprocess.PIPE, text=True
        )
        try:
            for leg in range(2 * dialogs):
                sender.begin("ab"[leg % 2], ports.first + leg)
            time.sleep(_SETTLE_S)
            start = time.time()
            with Sampler(relay.pid) as sampler:
                time.sleep(seconds)
            share = sampler.cpu_share((start, time.time()))
            sent = sender.stop()
        finally:
            counts = _ended(relay)
    if share is None or not counts.get("relayed"):
        raise StartError(f"the floor could not be measured: the relay says {counts or 'nothing'}")
    return Floor(dialogs, shape, seconds, share, 2 * dialogs * 50.0, counts | sent)


def _ended(process: subprocess.Popen[str]) -> dict[str, int]:
    process.terminate()
    try:
        output, _ = process.communicate(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
    _close(process.stdin)
    try:
        counts = json.loads(output)
    except ValueError:
        return {}
    return dict(counts)


def _close(stream: IO[str] | None) -> None:
    if stream is not None and not stream.closed:
        stream.close()
