"""What stands in front of the samples of a WAV file of ours: always 1024 bytes, so that samples never have to move.

    RIFF or RF64 | JUNK, or ds64 in its place | fmt | fact (G.711) | LIST INFO (tags) | JUNK (fills up) | data

A file past 4 GiB is an RF64 (EBU Tech 3306): its sizes do not fit RIFF's 32 bits and stand in the ds64 chunk, for which
the first JUNK chunk kept the room. A header of 44 bytes (RIFF, fmt, data), as earlier versions wrote it, is read too.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from recorder.tags import Tags

HEADER_BYTES = 1024
OLD_HEADER_BYTES = 44
_RIFF = struct.Struct("<4sI4s")
_CHUNK = struct.Struct("<4sI")
_FMT = struct.Struct("<HHIIHH")
_DS64 = struct.Struct("<QQQI")
_UNKNOWN = 0xFFFFFFFF
_BITS = {1: 16, 6: 8, 7: 8}
PCM, ALAW, ULAW = _BITS  # format tags (RFC 2361)
_TEXTS = {"title": b"INAM", "date": b"ICRD", "comment": b"ICMT", "software": b"ISFT"}
_NAMES = {key: name for name, key in _TEXTS.items()}


@dataclass(frozen=True, slots=True)
class WavHeader:
    """What the header says. `data_bytes` is the length of the samples that follow it, after `header_bytes`."""

    rate_hz: int
    channels: int
    data_bytes: int = 0
    format_tag: int = PCM
    tags: Tags = field(default_factory=Tags)
    header_bytes: int = HEADER_BYTES

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return self.channels * _BITS[self.format_tag] // 8

    @property
    def samples(self) -> int:
        """Samples of one channel."""
        return self.data_bytes // self.frame_bytes

    def pack(self) -> bytes:
        """Lay the header out.

        Source: Multimedia Programming Interface and Data Specifications 1.0, chapter 3; EBU Tech 3306.
        """
        # Every chunk has an even length, a pad byte behind it if need be, which only the RIFF chunk counts.
        riff_bytes = self.header_bytes - 8 + self.data_bytes + self.data_bytes % 2
        fmt = _FMT.pack(
            self.format_tag,
            self.channels,
            self.rate_hz,
            self.rate_hz * self.frame_bytes,
            self.frame_bytes,
            _BITS[self.format_tag],
        )
        if self.header_bytes == OLD_HEADER_BYTES:
            start = _RIFF.pack(b"RIFF", min(riff_bytes, _UNKNOWN), b"WAVE") + _chunk(b"fmt ", fmt)
            return start + _CHUNK.pack(b"data", min(self.data_bytes, _UNKNOWN))
        if riff_bytes <= _UNKNOWN:
            start = _RIFF.pack(b"RIFF", riff_bytes, b"WAVE") + _chunk(b"JUNK", bytes(_DS64.size))
        else:
            sizes = _DS64.pack(riff_bytes, self.data_bytes, self.samples, 0)
            start = _RIFF.pack(b"RF64", _UNKNOWN, b"WAVE") + _chunk(b"ds64", sizes)
        if self.format_tag == PCM:
            start += _chunk(b"fmt ", fmt)
        else:  # what is not PCM says how long its extension is, and how many samples there are
            start += _chunk(b"fmt ", fmt + bytes(2)) + _chunk(b"fact", struct.pack("<I", min(self.samples, _UNKNOWN)))
        start += _info(self.tags)
        room = HEADER_BYTES - len(start) - 2 * _CHUNK.size
        assert room >= 0
        return start + _chunk(b"JUNK", bytes(room)) + _CHUNK.pack(b"data", min(self.data_bytes, _UNKNOWN))

    @classmethod
    def unpack(cls, content: bytes) -> WavHeader:
        """Read a header of ours back, whatever its sizes say; `content` begins with it.

        Raises:
            ValueError: it is none, or not there as a whole.
        """
        if len(content) < _RIFF.size:
            raise ValueError("is shorter than a WAV header")
        start, _, form = _RIFF.unpack_from(content)
        at, fmt, tags = _RIFF.size, b"", Tags()
        while start in (b"RIFF", b"RF64") and form == b"WAVE" and at + _CHUNK.size <= len(content):
            kind, size = _CHUNK.unpack_from(content, at)
            at += _CHUNK.size
            if kind == b"data":
                return cls._checked(fmt, size, tags, at)
            body = content[at : at + size]
            if kind == b"fmt ":
                fmt = body
            elif kind == b"LIST" and body.startswith(b"INFO"):
                tags = _read_info(body)
            at += size + size % 2
        raise ValueError("does not start with the header of a WAV file of ours")

    @classmethod
    def _checked(cls, fmt: bytes, data_bytes: int, tags: Tags, header_bytes: int) -> WavHeader:
        fields = _FMT.unpack_from(fmt) if len(fmt) >= _FMT.size else (0,) * 6
        tag, channels, rate_hz = fields[:3]
        if tag in _BITS and channels and header_bytes in (HEADER_BYTES, OLD_HEADER_BYTES):
            header = cls(rate_hz, channels, data_bytes, tag, tags, header_bytes)
            if fields[3:] == (rate_hz * header.frame_bytes, header.frame_bytes, _BITS[tag]):
                return header
        raise ValueError("does not start with the header of a WAV file of ours")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return _CHUNK.pack(kind, len(body)) + body + bytes(len(body) % 2)


def _info(tags: Tags) -> bytes:
    texts = tags.as_texts().items()
    return _chunk(b"LIST", b"INFO" + b"".join(_chunk(_TEXTS[name], text.encode() + b"\0") for name, text in texts))


def _read_info(body: bytes) -> Tags:
    texts, at = {}, len(b"INFO")
    while at + _CHUNK.size <= len(body):
        kind, size = _CHUNK.unpack_from(body, at)
        at += _CHUNK.size
        if kind in _NAMES:
            texts[_NAMES[kind]] = body[at : at + size].rstrip(b"\0").decode(errors="replace")
        at += size + size % 2
    return Tags.from_texts(texts)
