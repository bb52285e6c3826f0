"""Recordings as a faultless recorder would make them, for the verification to be tried on."""

from __future__ import annotations

import io

import numpy as np
import soundfile

from recorder.loadtest.tones import APPLICATION, CALLER, SAMPLE_RATE_HZ, Codec, Samples, Voice


def as_sent(voice: Voice, codec: Codec = Codec.PCMU) -> Samples:
    """One period of a voice as G.711 leaves it."""
    raw = io.BytesIO()
    soundfile.write(raw, voice.samples(), SAMPLE_RATE_HZ, format="RAW", subtype=codec.subtype)
    raw.seek(0)
    samples, _ = soundfile.read(
        raw, dtype="int16", samplerate=SAMPLE_RATE_HZ, channels=1, format="RAW", subtype=codec.subtype
    )
    return np.asarray(samples, dtype=np.int16)


def track(voice: Voice, duration_s: float, start_s: float, codec: Codec = Codec.PCMU, level: float = 1.0) -> Samples:
    """A voice that begins `start_s` into a recording of `duration_s`."""
    count, first = round(duration_s * SAMPLE_RATE_HZ), round(start_s * SAMPLE_RATE_HZ)
    period = as_sent(voice, codec)
    looped = np.tile(period, count // len(period) + 1)[: count - first]
    return np.concatenate((np.zeros(first), np.round(level * looped))).astype(np.int16)


def recording(
    duration_s: float = 12.0,
    caller_s: float = 0.030,
    application_s: float = 0.045,
    codec: Codec = Codec.PCMU,
) -> Samples:
    """Both voices, mixed."""
    caller = track(CALLER, duration_s, caller_s, codec).astype(np.int32)
    return (caller + track(APPLICATION, duration_s, application_s, codec)).astype(np.int16)


def muted(samples: Samples, from_s: float, to_s: float) -> Samples:
    """A copy that is digitally silent from one time to the other."""
    copy = samples.copy()
    copy[round(from_s * SAMPLE_RATE_HZ) : round(to_s * SAMPLE_RATE_HZ)] = 0
    return copy
