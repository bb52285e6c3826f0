"""Packets of G.711 as a phone would number and time them, exact in every header field, and what networks do to them.

A `Phone` says what its sound is and when; a `Network` gives the moments at which the packets arrive. Times are in
samples of 8 kHz from the beginning, so that a test can ask for every sample of a recording where it was said.
"""

from __future__ import annotations

import heapq
import socket
import struct
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from recorder.loadtest.tones import Codec
from tests.peers.background import Background
from tests.peers.rtp import encoded
from tests.tones import RATE, Samples

PCMU, PCMA, COMFORT_NOISE, EVENT = 0, 8, 13, 101


@dataclass(frozen=True, slots=True)
class Sent:
    """A packet: when its first sample was said, when it leaves, its bytes, and what it sounds like."""

    said: int
    leaves: int
    data: bytes
    sound: Samples

    @property
    def sequence(self) -> int:
        """Its sequence number."""
        return int.from_bytes(self.data[2:4], "big")


class Phone:
    """Makes the packets of one sender. `ppm`: how much too fast its clock is; sound is said by that clock."""

    def __init__(
        self, *, ssrc: int = 0x5EED, sequence: int = 0, timestamp: int = 0, ppm: float = 0, codec: Codec = Codec.PCMU
    ) -> None:
        self.ssrc, self.sequence, self.timestamp, self.codec = ssrc, sequence, timestamp, codec
        self.sent: list[Sent] = []
        self._rate = 1 + ppm * 1e-6  # samples of its own in one of ours
        self._said = 0  # of its own clock, since the beginning

    @property
    def now(self) -> int:
        """Where it is, in samples of our clock."""
        return round(self._said / self._rate)

    def talk(self, sound: Samples, ptime_ms: int = 20, marker: bool = False) -> None:
        """Say it, in packets of this length."""
        codes = encoded(sound, self.codec)
        size = ptime_ms * RATE // 1000
        for start in range(0, len(codes) - size + 1, size):
            kind = PCMU if self.codec is Codec.PCMU else PCMA
            self._send(kind, codes[start : start + size], marker and start == 0, sound[start : start + size])
            self._pass(size)

    def pause(self, seconds: float, *, timestamps_run: bool = True) -> None:
        """Send nothing for a while."""
        count = round(seconds * RATE)
        self._said += count
        self.timestamp += count * timestamps_run

    def comfort_noise(self, level_db: int = 60) -> None:
        """Send a packet that describes the noise of the silence that follows (RFC 3389)."""
        self._send(COMFORT_NOISE, bytes([level_db]), False, np.zeros(0, np.int16))

    def odd(self, payload_type: int, payload: bytes) -> None:
        """Send a packet that is no sound: of no known type, or empty (RFC 6263, section 4.1)."""
        self._send(payload_type, payload, False, np.zeros(0, np.int16))

    def digit(self, code: int, packets: int = 6) -> None:
        """Press a key for so many packets of 20 ms: a telephone event in place of sound (RFC 4733)."""
        begin = self.timestamp
        for number in range(packets):
            timestamp, self.timestamp = self.timestamp, begin
            end = 0x80 if number == packets - 1 else 0
            payload = struct.pack("!BBH", code, end | 10, (number + 1) * 160)
            self._send(EVENT, payload, number == 0, np.zeros(0, np.int16))
            self.timestamp = timestamp
            self._pass(160)

    def begin_anew(self, *, ssrc: int | None = None, sequence: int, timestamp: int) -> None:
        """Go on with other numbers: another source, unless it keeps its SSRC."""
        self.ssrc = self.ssrc if ssrc is None else ssrc
        self.sequence, self.timestamp = sequence, timestamp

    def _pass(self, count: int) -> None:
        self._said += count
        self.timestamp += count

    def _send(self, kind: int, payload: bytes, marker: bool, sound: Samples) -> None:
        second = kind | 0x80 * marker
        header = struct.pack("!BBHII", 0x80, second, self.sequence % 2**16, self.timestamp % 2**32, self.ssrc)
        said = self.now
        # It leaves when it has been said to its end, as far as a test can tell: the constant part is no concern.
        self.sent.append(Sent(said, said, header + payload, sound))
        self.sequence += 1


@dataclass(frozen=True, slots=True)
class Network:
    """What happens to packets on their way. `jitter_ms`: the most that one takes longer than another."""

    loss: float = 0
    duplicates: float = 0
    jitter_ms: float = 0
    reordered: bool = True
    seed: int = 1

    def carry(self, sent: Iterable[Sent], lost: Collection[int] = ()) -> list[tuple[int, Sent]]:
        """When each packet arrives, in this order. `lost`: indexes of packets that never do, besides the random ones.

        The first packet takes no longer than the fastest.
        """
        random = Random(self.seed)
        arrivals: list[tuple[int, int, Sent]] = []
        last = 0
        for index, packet in enumerate(sent):
            delay = round(random.random() * self.jitter_ms * RATE / 1000) if index else 0
            arrival = packet.leaves + delay
            if not self.reordered:
                arrival = last = max(arrival, last)
            if index in lost or (index and random.random() < self.loss):
                continue
            arrivals.append((arrival, index, packet))
            if random.random() < self.duplicates:
                arrivals.append((arrival + round(random.random() * RATE / 10), index, packet))
        return [(arrival, packet) for arrival, _, packet in sorted(arrivals, key=lambda one: one[:2])]


def later(arrivals: list[tuple[int, Sent]], start: int, stop: int, by: int) -> list[tuple[int, Sent]]:
    """The same with all that arrives in [start, stop) delayed by so many samples."""
    moved = [(at + by if start <= at < stop else at, packet) for at, packet in arrivals]
    return sorted(moved, key=lambda one: one[0])


def stalled(arrivals: list[tuple[int, Sent]], start: int, stop: int) -> list[tuple[int, Sent]]:
    """The same when nothing gets through in [start, stop), and all of it at `stop`."""
    return [(stop if start <= at < stop else at, packet) for at, packet in arrivals]


def oddly_wrapped(arrivals: Iterable[tuple[int, Sent]]) -> Iterator[tuple[int, Sent]]:
    """The same with markers, padding, header extensions and contributing sources (RFC 3550, section 5.1) about them.

    Between them come datagrams that are no RTP, and each of those sorts of packets with its end missing.
    """
    for number, (at, packet) in enumerate(arrivals):
        kind, head, payload = packet.data[1:2], packet.data[2:12], packet.data[12:]
        whole, broken = (
            (b"\x80" + bytes([kind[0] | 0x80]) + head + payload, packet.data[:7]),
            (b"\xa0" + kind + head + payload + b"\0\0\0\4", b"\xa0" + kind + head + b"\xff" * 160),
            (
                b"\x90" + kind + head + b"\xbe\xde\0\1\x10\xff\0\0" + payload,
                b"\x90" + kind + head + b"\xbe\xde\xff\xff",
            ),
            (b"\x82" + kind + head + bytes(8) + payload, b"\x8f" + kind + head),
            (packet.data, b"\x40" + packet.data[1:]),  # of version 1
            (packet.data, b"\x81\xcb\0\1" + packet.data[8:12]),  # a goodbye (RTCP)
        )[number % 6]
        yield at, replace(packet, data=broken, sound=np.zeros(0, np.int16))
        yield at, replace(packet, data=whole)


def timeline(sent: Iterable[Sent], length: int) -> Samples:
    """What a recording of these packets has to be: each sample where it was said."""
    samples = np.zeros(length, np.int16)
    for packet in sent:
        stop = min(length, packet.said + len(packet.sound))
        if packet.said < stop:
            samples[packet.said : stop] = packet.sound[: stop - packet.said]
    return samples


def shifted(sent: Iterable[Sent], since: int, by: int) -> list[Sent]:
    """The packets with all that is said from `since` on standing `by` samples later."""
    return [replace(packet, said=packet.said + by) if packet.said >= since else packet for packet in sent]


class PacedPeer:
    """Sends packets at the moments given, in real time from `begin` on, and takes what comes. A context manager.

    It can stand in the place of an `RtpPeer`. Given a `LossyProxy`, it is reached and sends through that.
    """

    def __init__(self, arrivals: Sequence[tuple[int, Sent]], proxy: LossyProxy | None = None) -> None:
        self.arrivals = arrivals
        self.first_sent_s: float | None = None
        self._proxy = proxy
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        if proxy is not None:
            proxy.inside = self._socket.getsockname()

    @property
    def port(self) -> int:
        """The port to put in the SDP."""
        return int(self._socket.getsockname()[1]) if self._proxy is None else self._proxy.port

    def begin(self, remote_port: int) -> None:
        """Begin to send to this port on loopback."""
        target = ("127.0.0.1", remote_port)
        if self._proxy is not None:
            self._proxy.outside = target
            target = ("127.0.0.1", self._proxy.port)
        self._thread = threading.Thread(target=self._send, args=(target,), daemon=True)
        self._thread.start()

    def _send(self, target: tuple[str, int]) -> None:
        begin = time.monotonic()
        self.first_sent_s = time.time()
        for at, packet in self.arrivals:
            wait = begin + at / RATE - time.monotonic()
            if wait > 0 and self._stopping.wait(wait):
                return
            self._socket.sendto(packet.data, target)

    def __enter__(self) -> PacedPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self._socket.close()


class LossyProxy(Background):
    """A bad network between a peer and the recorder, both ways: UDP in, some of it out, later, twice, in another order.

    `dropped` are the packets of the peer that went no further. Its first five get through at once: nobody can know of
    what is missing before the first. Use as a context manager.
    """

    def __init__(self, loss: float, duplicates: float, jitter_ms: float, seed: int = 1) -> None:
        self.inside: tuple[str, int] | None = None  # the peer
        self.outside: tuple[str, int] | None = None  # the recorder
        self.dropped: list[bytes] = []
        self.passed: list[bytes] = []
        self._loss, self._duplicates, self._jitter_s = loss, duplicates, jitter_ms / 1000
        self._randoms = {True: Random(seed), False: Random(seed)}  # from the peer, to it: each the same every time
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._due: list[tuple[float, int, bytes, tuple[str, int]]] = []
        super().__init__(self._run)

    @property
    def port(self) -> int:
        """Where both send to."""
        return int(self._socket.getsockname()[1])

    def _run(self) -> None:
        count = 0
        while not self._stopping.is_set():
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                _, _, packet, target = heapq.heappop(self._due)
                self._socket.sendto(packet, target)
            self._socket.settimeout(min(0.05, max(0.0005, self._due[0][0] - now)) if self._due else 0.05)
            try:
                packet, source = self._socket.recvfrom(2048)
            except TimeoutError:
                continue
            from_peer = source == self.inside
            target = self.outside if from_peer else self.inside
            if target is None:
                continue
            random = self._randoms[from_peer]
            calm = from_peer and len(self.passed) < 5
            lost = not calm and random.random() < self._loss
            if from_peer:
                (self.dropped if lost else self.passed).append(packet)
            for _ in range(0 if lost else 1 + (random.random() < self._duplicates)):
                count += 1
                delay_s = 0 if calm else random.random() * self._jitter_s
                heapq.heappush(self._due, (now + delay_s, count, packet, target))

    def _close(self) -> None:
        self._socket.close()
