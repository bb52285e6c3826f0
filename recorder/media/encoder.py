"""From a `.part`, which is 16-bit PCM, to the format that the finished recording is to have.

Block by block, so that a call of hours takes no more memory than one of seconds. G.711 is a table; FLAC and Opus are
libsndfile's, with its defaults but for Opus's bit rate.
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from recorder.byte_store import ByteStore
from recorder.file_format import Encoding, FileFormat
from recorder.media.source import Samples
from recorder.media.wav_header import ALAW, ULAW, WavHeader
from recorder.tags import Tags

_BLOCK_SAMPLES = 1 << 16
_SUBTYPES = {"ulaw": "ULAW", "alaw": "ALAW"}
_FORMAT_TAGS = {"ulaw": ULAW, "alaw": ALAW}
# Of one channel. Opus is clear with these; libsndfile reckons 6 to 256 kbit/s from a level of 1 down to 0.
_OPUS_BITS_PER_S = {8000: 24_000, 16000: 32_000}


@dataclass(frozen=True, slots=True)
class Described:
    """What a file says of itself. `samples` are of one channel."""

    file_format: FileFormat
    sample_rate_hz: int
    samples: int
    tags: Tags


def encoded_samples(samples: int, encoding: Encoding) -> int:
    """How many samples `encode` makes of so many: as many, but FLAC and Opus cannot do with none."""
    return max(1, samples) if encoding in ("flac", "opus") else samples


def encode(source: ByteStore, header: WavHeader, encoding: Encoding, target: ByteStore) -> None:
    """Write what `source` holds, a finished WAV with this `header`, to the empty `target`.

    Raises:
        OSError: of either store, or because libsndfile failed.
    """
    if encoding in _FORMAT_TAGS:
        _encode_g711(source, header, encoding, target)
        return
    try:
        _encode_with_libsndfile(source, header, encoding, target)
    except soundfile.SoundFileError as error:
        raise OSError(f"libsndfile: {error}") from error


def describe(store: ByteStore) -> Described:
    """Look into a finished file. Raises OSError when the disk fails, or when it is no recording."""
    file = _StoreFile(store)
    try:
        with soundfile.SoundFile(file) as sound:
            encodings: dict[str, Encoding] = {"ULAW": "ulaw", "ALAW": "alaw", "OPUS": "opus", "PCM_16": "pcm16"}
            encoding = "flac" if sound.format == "FLAC" else encodings.get(sound.subtype)
            if encoding is None:
                raise OSError(f"a {sound.format} file of {sound.subtype} is none of a recorder")
            texts = {name: getattr(sound, name) or "" for name in ("title", "date", "comment")}
            file_format = FileFormat(encoding, sound.channels)
            return Described(file_format, sound.samplerate, sound.frames, Tags.from_texts(texts))
    except soundfile.SoundFileError as error:
        raise file.error or OSError(f"cannot be read as audio: {error}") from error


def _encode_g711(source: ByteStore, header: WavHeader, encoding: Encoding, target: ByteStore) -> None:
    codes = header.samples * header.channels
    made = WavHeader(header.rate_hz, header.channels, codes, _FORMAT_TAGS[encoding], header.tags)
    target.write_at(0, made.pack())
    table, at = _g711_table(encoding), made.header_bytes
    for samples in _blocks(source, header):
        target.write_at(at, table[samples.view(np.uint16)].tobytes())
        at += samples.size
    target.truncate(at + at % 2)  # a chunk of an odd length is padded


def _encode_with_libsndfile(source: ByteStore, header: WavHeader, encoding: Encoding, target: ByteStore) -> None:
    file = _StoreFile(target)
    options: dict[str, Any]
    if encoding == "flac":
        options = {"format": "FLAC", "subtype": "PCM_16"}
    else:
        level = 1 - (_OPUS_BITS_PER_S[header.rate_hz] - 6000) / 250_000
        options = {"format": "OGG", "subtype": "OPUS", "compression_level": level}
    try:
        with soundfile.SoundFile(file, "w", header.rate_hz, header.channels, **options) as sound:
            for name, text in header.tags.as_texts().items():
                setattr(sound, name, text)
            for samples in _blocks(source, header):
                sound.buffer_write(samples, "int16")
                file.check()
            if not header.samples:
                sound.buffer_write(np.zeros(header.channels, np.int16), "int16")
    except (soundfile.SoundFileError, AssertionError):  # soundfile asserts that all was written
        file.check()
        raise
    file.check()


def _blocks(source: ByteStore, header: WavHeader) -> Iterator[Samples]:
    """The samples of a WAV, a block of whole frames at a time, channels interleaved."""
    at, end = header.header_bytes, header.header_bytes + header.data_bytes
    while at < end:
        content = source.read_at(at, min(_BLOCK_SAMPLES * header.frame_bytes, end - at))
        if not content:
            raise OSError("the audio is shorter than its header says")
        yield np.frombuffer(content, "<i2")
        at += len(content)


@functools.cache
def _g711_table(encoding: Encoding) -> npt.NDArray[np.uint8]:
    """The code of every sample there is, by its 16 bits taken as a number without sign (ITU-T G.711)."""
    raw = io.BytesIO()
    linear = np.arange(1 << 16).astype(np.uint16).view(np.int16)
    soundfile.write(raw, linear, 8000, format="RAW", subtype=_SUBTYPES[encoding])
    return np.frombuffer(raw.getvalue(), np.uint8)


class _StoreFile:
    """A store as libsndfile asks for a file. An error that soundfile's callbacks would swallow is kept for `check`."""

    def __init__(self, store: ByteStore) -> None:
        self._store = store
        self._at = 0
        self.error: OSError | None = None

    def check(self) -> None:
        """Raise what went wrong."""
        if self.error is not None:
            raise self.error

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size()}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, count: int) -> bytes:
        try:
            content = self._store.read_at(self._at, count)
        except OSError as error:
            self.error = self.error or error
            return b""
        self._at += len(content)
        return content

    def write(self, content: bytes) -> int:
        try:
            self._store.write_at(self._at, content)
        except OSError as error:
            self.error = self.error or error
            return 0
        self._at += len(content)
        return len(content)

    def _size(self) -> int:
        try:
            return self._store.size
        except OSError as error:
            self.error = self.error or error
            return 0
