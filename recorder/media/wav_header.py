"""The 44 bytes in front of the samples of a PCM_16 WAV file, as libsndfile lays them out."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_LAYOUT = struct.Struct("<4sI4s4sIHHIIHH4sI")
HEADER_BYTES = _LAYOUT.size
_BYTES_PER_SAMPLE = 2
_PCM = 1
# The RIFF chunk's size counts all but its own first 8 bytes, in 32 bits.
MAX_FILE_BYTES = (1 << 32) - 1 + 8


@dataclass(frozen=True, slots=True)
class WavHeader:
    """What the header says. `data_bytes` is the length of the samples that follow it."""

    rate_hz: int
    channels: int
    data_bytes: int

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return self.channels * _BYTES_PER_SAMPLE

    def pack(self) -> bytes:
        """Lay the header out. Source: Multimedia Programming Interface and Data Specifications 1.0, chapter 3."""
        return _LAYOUT.pack(
            b"RIFF",
            HEADER_BYTES - 8 + self.data_bytes,
            b"WAVE",
            b"fmt ",
            16,
            _PCM,
            self.channels,
            self.rate_hz,
            self.rate_hz * self.frame_bytes,
            self.frame_bytes,
            8 * _BYTES_PER_SAMPLE,
            b"data",
            self.data_bytes,
        )

    @classmethod
    def unpack(cls, content: bytes) -> WavHeader:
        """Read a header of ours back, whatever its sizes say. Raises ValueError when it is none."""
        if len(content) < HEADER_BYTES:
            raise ValueError("is shorter than a WAV header")
        fields = _LAYOUT.unpack_from(content)
        header = cls(rate_hz=fields[7], channels=fields[6], data_bytes=fields[12])
        sizes_apart = (*fields[:1], *fields[2:12])
        if not header.channels or sizes_apart != (
            b"RIFF",
            b"WAVE",
            b"fmt ",
            16,
            _PCM,
            header.channels,
            header.rate_hz,
            header.rate_hz * header.frame_bytes,
            header.frame_bytes,
            8 * _BYTES_PER_SAMPLE,
            b"data",
        ):
            raise ValueError("does not start with the header of a 16-bit PCM WAV file")
        return header
