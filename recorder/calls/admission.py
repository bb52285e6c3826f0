"""Whether there is room for one more call, asked before anything is spent on it. `now` is on a monotonic clock."""

from __future__ import annotations

import math
from dataclasses import dataclass

from recorder.settings import Settings

PORTS_PER_LEG = 2
"""One for RTP, one for RTCP (RFC 3550, section 11)."""
_SPARE_LEGS = 2  # a call's own B leg, and the A leg of the next call, which is to hear 503
_SPARE_DESCRIPTORS = 32


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no room: `reason` is fit for a metric label, `detail` for a person."""

    reason: str
    detail: str
    retry_after_s: int


DRAINING = Refusal("draining", "Shutting down", 30)


@dataclass(frozen=True, slots=True)
class Room:
    """What there is as a call comes in.

    Attributes:
        calls, trunk_calls: those that are there without it, in all and of its trunk.
        legs: how many more legs there are RTP ports and places in the stack's tables for; its A leg has its own.
        descriptors: how many more files and sockets the process may open.
        disk_bytes: free space where recordings are written; None when that is not known.
        writer_lag_s: how late the writer is.
        disk_queue_bytes: what waits in memory for the disk.
    """

    calls: int = 0
    trunk_calls: int = 0
    legs: int = 1000
    descriptors: int = 1000
    disk_bytes: int | None = None
    writer_lag_s: float = 0.0
    disk_queue_bytes: int = 0


class Admission:
    """The limits of one configuration."""

    def __init__(self, settings: Settings) -> None:
        self.capacity = settings.sip.max_calls
        self.draining = False
        self._trunk_capacity = {trunk.name: trunk.max_calls for trunk in settings.trunks}
        self._buckets = {
            trunk.name: _Bucket(trunk.calls_per_second, trunk.calls_burst or max(1, math.ceil(trunk.calls_per_second)))
            for trunk in settings.trunks
            if trunk.calls_per_second is not None
        }
        self._floor_bytes = settings.recording.disk_floor_mb * 1_000_000
        # Beyond this the rings of the calls that run are about to lose samples.
        self._longest_lag_s = settings.media.ring_s / 2
        self._longest_queue_bytes = settings.recording.queue_mb * 1_000_000 // 2
        self._refuse_unrecorded = settings.recording.when_disk_full == "refuse"

    def refusal(self, trunk: str, room: Room, now: float, *, recorded: bool) -> Refusal | None:
        """Why a call is turned away; None when there is room, which it has then taken of its trunk's rate.

        `recorded`: whether it is to be recorded.
        """
        if self.draining:
            return DRAINING
        if room.calls >= self.capacity:
            return Refusal("capacity", "All lines are busy", 5)
        most = self._trunk_capacity.get(trunk)
        if most is not None and room.trunk_calls >= most:
            return Refusal("trunk_capacity", "All lines are busy", 5)
        if room.legs < _SPARE_LEGS:
            return Refusal("rtp_ports", "All lines are busy", 10)
        if room.descriptors < _SPARE_DESCRIPTORS:
            return Refusal("descriptors", "All lines are busy", 10)
        if recorded and self._refuse_unrecorded and (because := self.storage_trouble(room)) is not None:
            return Refusal(because, "Cannot record", 60)
        bucket = self._buckets.get(trunk)
        if bucket is not None and (wait_s := bucket.take(now)) > 0:
            return Refusal("trunk_rate", "Too many calls a second", max(1, math.ceil(wait_s)))
        return None

    def storage_trouble(self, room: Room) -> str | None:
        """Why a new recording might not be whole, in a word; None when nothing speaks against it."""
        if room.disk_bytes is not None and room.disk_bytes < self._floor_bytes:
            return "disk_full"
        if room.disk_queue_bytes > self._longest_queue_bytes:
            return "disk_stalled"
        return self.overload(room)

    def overload(self, room: Room) -> str | None:
        """Why nothing more should be recorded, lest those suffer that are; None when it can be."""
        return "writer_lag" if room.writer_lag_s > self._longest_lag_s else None


class _Bucket:
    """A token bucket: `rate` tokens a second flow in, at most `size` are in it."""

    def __init__(self, rate: float, size: int) -> None:
        self._rate = rate
        self._size = size
        self._tokens = float(size)
        self._filled_at: float | None = None

    def take(self, now: float) -> float:
        """Take a token; return 0, or the seconds until there will be one."""
        elapsed = 0.0 if self._filled_at is None else now - self._filled_at
        self._filled_at = now
        self._tokens = min(self._size, self._tokens + elapsed * self._rate)
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate
