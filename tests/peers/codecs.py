"""Real encoders and decoders for the far ends of test calls: what RTP packets of 20 ms hold, and what comes out."""

from __future__ import annotations

import ctypes
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import av
import numpy as np
import soundfile

from tests.tones import Samples

PACKET_MS = 20


@dataclass(frozen=True, slots=True)
class Speech:
    """How a far end speaks: a codec as its SDP names it and as its packets hold it.

    Attributes:
        rtpmap: encoding name, clock rate and channels (RFC 8866, section 6.6).
        rate: samples a second that `encode` takes and `decode` returns.
        ticks: units of the RTP clock in a packet.
    """

    payload_type: int
    rtpmap: str
    rate: int
    ticks: int
    encode: Callable[[Samples], list[bytes]]
    decode: Callable[[Sequence[bytes]], Samples]

    @property
    def name(self) -> str:
        """The encoding name alone."""
        return self.rtpmap.partition("/")[0]


def _pieces(encoded: bytes, size: int) -> list[bytes]:
    return [encoded[start : start + size] for start in range(0, len(encoded) - size + 1, size)]


def _by_file(subtype: str, size: int) -> tuple[Callable[[Samples], list[bytes]], Callable[[Sequence[bytes]], Samples]]:
    """G.711 and GSM 06.10, by libsndfile."""

    def encode(samples: Samples) -> list[bytes]:
        target = io.BytesIO()
        soundfile.write(target, samples, 8000, format="RAW", subtype=subtype)
        return _pieces(target.getvalue(), size)

    def decode(packets: Sequence[bytes]) -> Samples:
        source = io.BytesIO(b"".join(packets))
        samples: Samples = soundfile.read(
            source, dtype="int16", format="RAW", subtype=subtype, samplerate=8000, channels=1
        )[0]
        return samples

    return encode, decode


def _by_av(codec: str, rate: int) -> tuple[Callable[[Samples], list[bytes]], Callable[[Sequence[bytes]], Samples]]:
    """G.722 and Opus, and the decoder of G.729, by FFmpeg."""

    def encode(samples: Samples) -> list[bytes]:
        context = av.AudioCodecContext.create(codec, "w")
        context.sample_rate, context.format, context.layout = rate, av.AudioFormat("s16"), av.AudioLayout("mono")
        size = rate * PACKET_MS // 1000
        packets = []
        for start in range(0, len(samples) - size + 1, size):
            frame = av.AudioFrame.from_ndarray(samples[None, start : start + size], format="s16", layout="mono")
            frame.sample_rate, frame.pts = rate, start
            packets += [bytes(packet) for packet in context.encode(frame)]
        return packets

    def decode(packets: Sequence[bytes]) -> Samples:
        context = av.AudioCodecContext.create(codec.removeprefix("lib"), "r")
        context.sample_rate, context.layout = rate, av.AudioLayout("mono")
        resampler = av.AudioResampler(format="s16", layout="mono", rate=rate)
        frames = [frame for payload in packets for frame in context.decode(av.Packet(payload))]
        pieces = [piece.to_ndarray()[0] for frame in frames for piece in resampler.resample(frame)]
        samples: Samples = np.concatenate(pieces)
        return samples

    return encode, decode


def _encode_g729(samples: Samples) -> list[bytes]:
    """G.729 by bcg729, which the recorder's own stack uses too: no other free encoder is kept up."""
    library = ctypes.CDLL("libbcg729.so.0")
    library.initBcg729EncoderChannel.restype = ctypes.c_void_p
    library.initBcg729EncoderChannel.argtypes = [ctypes.c_uint8]
    library.bcg729Encoder.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    library.closeBcg729EncoderChannel.argtypes = [ctypes.c_void_p]
    channel = library.initBcg729EncoderChannel(0)
    encoded = bytearray()
    for start in range(0, len(samples) - 79, 80):
        frame = np.ascontiguousarray(samples[start : start + 80])
        out, length = ctypes.create_string_buffer(10), ctypes.c_uint8()
        library.bcg729Encoder(channel, frame.ctypes.data, out, ctypes.byref(length))
        encoded += out.raw
    library.closeBcg729EncoderChannel(channel)
    return _pieces(bytes(encoded), 20)


PCMU = Speech(0, "PCMU/8000", 8000, 160, *_by_file("ULAW", 160))
PCMA = Speech(8, "PCMA/8000", 8000, 160, *_by_file("ALAW", 160))
GSM = Speech(3, "GSM/8000", 8000, 160, *_by_file("GSM610", 33))
G722 = Speech(9, "G722/8000", 16000, 160, *_by_av("g722", 16000))
OPUS = Speech(97, "opus/48000/2", 48000, 960, *_by_av("libopus", 48000))
G729 = Speech(18, "G729/8000", 8000, 160, _encode_g729, _by_av("g729", 8000)[1])
