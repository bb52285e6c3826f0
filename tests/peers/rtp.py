"""An RTP end of our own: it knows to the millisecond what it sent when, and keeps what it received (RFC 3550)."""

from __future__ import annotations

import io
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import soundfile

from recorder.loadtest.tones import Codec
from tests.peers.background import Background
from tests.peers.codecs import Speech
from tests.tones import RATE, Samples

_PAYLOAD_TYPES = {Codec.PCMU: 0, Codec.PCMA: 8}


@dataclass(frozen=True, slots=True)
class Received:
    """One packet that came in: when (epoch seconds), what its header says, and its payload."""

    time_s: float
    payload_type: int
    sequence: int
    timestamp: int
    payload: bytes


class RtpPeer(Background):
    """Sends `sound` in real time from `begin` on, and receives. Use as a context manager.

    Args:
        encoded: the sound as raw G.711 bytes, 8000 a second, or as the payloads of packets.
        codec: which G.711 law, or any other way to speak.
        digits: telephone events by the number of the packet that they begin at (RFC 4733): codes 0 to 15.
        event_payload_type: what they are sent as.
        when_heard: begin by itself, towards where the first packet comes from.
        host: the address to send from and receive at.
        packet_ms: how much sound is in a packet.

    `protect` and `unprotect` are what each packet passes on its way out and in, such as SRTP.
    """

    def __init__(
        self,
        encoded: bytes | Sequence[bytes],
        codec: Codec | Speech = Codec.PCMU,
        digits: Mapping[int, int] | None = None,
        event_payload_type: int = 101,
        when_heard: bool = False,
        host: str = "127.0.0.1",
        packet_ms: int = 20,
    ) -> None:
        self.protect: Callable[[bytes], bytes] = bytes
        self.unprotect: Callable[[bytes], bytes] = bytes
        self._when_heard = when_heard
        self._events = _event_packets(digits or {})
        self._event_payload_type = event_payload_type
        self.received: list[Received] = []
        self.first_sent_s: float | None = None
        if isinstance(encoded, bytes):
            size = 8 * packet_ms
            encoded = [encoded[start : start + size] for start in range(0, len(encoded), size)]
        self._packet_s = packet_ms / 1000
        self.payloads = encoded
        self._payload_type, self._ticks = (
            (codec.payload_type, codec.ticks) if isinstance(codec, Speech) else (_PAYLOAD_TYPES[codec], 8 * packet_ms)
        )
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self._socket.settimeout(0.1)
        self._begun = threading.Event()
        self._remote: tuple[str, int] | None = None
        super().__init__(self._receive, self._send)

    @property
    def port(self) -> int:
        """The port to put in the SDP."""
        return int(self._socket.getsockname()[1])

    def begin(self, remote_port: int) -> None:
        """Begin to send to this port on loopback."""
        self._remote = ("::1" if self._socket.family == socket.AF_INET6 else "127.0.0.1", remote_port)
        self._begun.set()

    def _close(self) -> None:
        self._socket.close()

    def _receive(self) -> None:
        while not self._stopping.is_set():
            try:
                packet, source = self._socket.recvfrom(2048)
                packet = self.unprotect(packet)
            except TimeoutError:
                continue
            if self._when_heard and not self._begun.is_set():
                self.begin(source[1])
            now = time.time()
            if len(packet) >= 12:
                sequence, timestamp = struct.unpack_from("!HI", packet, 2)
                self.received.append(Received(now, packet[1] & 0x7F, sequence, timestamp, packet[12:]))

    def _send(self) -> None:
        while not self._begun.wait(0.05):
            if self._stopping.is_set():
                return
        begin = time.monotonic()
        self.first_sent_s = time.time()
        for number, payload in enumerate(self.payloads):
            wait = begin + number * self._packet_s - time.monotonic()
            if wait > 0 and self._stopping.wait(wait):
                return
            kind, begin_number = self._payload_type, number
            if number in self._events:
                kind, (begin_number, payload) = self._event_payload_type, self._events[number]
            header = struct.pack("!BBHII", 0x80, kind, number & 0xFFFF, begin_number * self._ticks & 0xFFFFFFFF, 0x5EED)
            assert self._remote is not None
            self._socket.sendto(self.protect(header + payload), self._remote)


def _event_packets(digits: Mapping[int, int]) -> dict[int, tuple[int, bytes]]:
    """Six packets a digit, the last three with the end bit: by packet number, where the event began and the payload."""
    packets = {}
    for begin, code in digits.items():
        for step in range(6):
            end = 0x80 if step >= 3 else 0
            packets[begin + step] = (begin, struct.pack("!BBH", code, end | 10, min(step + 1, 4) * 160))
    return packets


def encoded(samples: Samples, codec: Codec = Codec.PCMU) -> bytes:
    """The samples as G.711 bytes."""
    target = io.BytesIO()
    soundfile.write(target, np.asarray(samples), RATE, format="RAW", subtype=codec.subtype)
    return target.getvalue()


def voice_of(peer: RtpPeer, who: str, codec: Codec) -> list[tuple[str, str]]:
    """The changes to a scenario that leave its media to `peer`."""
    number = 0 if codec is Codec.PCMU else 8
    played = f'  <nop><action><exec rtp_stream="{who}{codec.suffix},-1,{number},{codec.name}/8000"/></action></nop>\n'
    return [("m=audio [rtpstream_audio_port]", f"m=audio {peer.port}"), (played, "")]
