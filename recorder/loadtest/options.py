"""What a load test is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recorder.errors import InvalidRequestError
from recorder.file_format import FileFormat
from recorder.loadtest.tones import Codec

SHORTEST_CALL_S = 2.0
SHORTEST_MUTED_CALL_S = 8.0


@dataclass(frozen=True, slots=True)
class Options:
    """What `recorder loadtest` is asked to do.

    Attributes:
        calls: how many calls in all. rate: how many are set up a second. duration_s: how long each one lasts. All are
            up at once when duration_s is more than calls / rate; otherwise it is a test of setting up.
        codec: what both ends offer. file_format: what recordings are kept as.
        mute_every: each so-manieth call has a sensitive step; 0 for none.
        json_path: where to put everything that was measured. keep: where to leave recordings and logs.
        config: configuration to take over into the recorder that is started; addresses, routes, accounts and folder are
            the load test's own.
        target: `host:port` of a recorder that runs already and leads every call to 127.0.0.1:`application_port`; then
            `recordings` is its folder, and `pid` its process if that is to be measured.
        floor: measure the bare relay afterwards. spread: send packets evenly over the 20 ms, by a sender of our own,
            instead of SIPp's bursts; the floor does the same.
        strict: allow nothing for a jitter buffer; every sample has to be where it belongs.
        setup_phase: add a short phase of its own that tells the CPU of a set-up from that of the media.
    """

    calls: int = 100
    rate: float = 10
    duration_s: float = 30
    codec: Codec = Codec.PCMU
    file_format: FileFormat = FileFormat()  # noqa: RUF009 - immutable
    mute_every: int = 0
    json_path: Path | None = None
    keep: Path | None = None
    config: Path | None = None
    target: str | None = None
    application_port: int = 5070
    recordings: Path | None = None
    pid: int | None = None
    floor: bool = True
    spread: bool = False
    strict: bool = False
    setup_phase: bool = True

    def check(self) -> None:
        """Raise InvalidRequestError for what cannot be carried out."""
        faults = []
        if self.calls < 1:
            faults.append("--calls must be at least 1")
        if self.rate < 0.1:
            faults.append("--rate must be at least 0.1 calls a second")
        if self.duration_s < SHORTEST_CALL_S:
            faults.append(f"--duration must be at least {SHORTEST_CALL_S:g} s, or not both speakers are heard")
        if self.mute_every < 0:
            faults.append("--mute-every must be 0 (never) or more")
        if self.mute_every > 0 and self.duration_s < SHORTEST_MUTED_CALL_S:
            faults.append(f"--mute-every needs a --duration of at least {SHORTEST_MUTED_CALL_S:g} s")
        if self.target is not None and self.recordings is None:
            faults.append("--target needs --recordings FOLDER: what was recorded is judged by its content")
        if self.target is not None and self.config is not None:
            faults.append("give --config for a recorder to be started, or --target for one that runs already")
        if faults:
            raise InvalidRequestError("; ".join(faults))


@dataclass(frozen=True, slots=True)
class Phase:
    """One stretch of the test: `calls` calls of `duration_s`, set up at `rate` a second."""

    name: str
    calls: int
    rate: float
    duration_s: float
    mute_every: int = 0

    @property
    def ramp_s(self) -> float:
        """How long it takes until the last call is set up."""
        return self.calls / self.rate

    @property
    def concurrent(self) -> int:
        """How many calls are up at once."""
        return min(self.calls, max(1, round(self.rate * self.duration_s)))

    @property
    def steady_s(self) -> float:
        """How long all calls are up, less what it takes them to settle."""
        return self.duration_s - self.ramp_s - 2.0

    @property
    def is_steady(self) -> bool:
        """Whether all calls are up for long enough to measure."""
        return self.steady_s >= 3.0
