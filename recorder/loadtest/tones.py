"""What the two ends of a test call say, so that a recording of it can be judged to the sample.

Each speaker has two tones of its own. Loud bursts at known times show who speaks when. Underneath, a quiet tone never
stops: it shows a stretch that is missing anywhere, also between the bursts, and it tells true silence (a muted step)
from a speaker who pauses. All frequencies are multiples of 40 Hz: whole cycles in a verification window of 25 ms and in
a period, so that a sound file that is played in a loop has no seam.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

SAMPLE_RATE_HZ = 8000
Samples = npt.NDArray[np.int16]


class Codec(Enum):
    """A G.711 law: its name in SIPp's scenarios, its subtype in libsndfile, the ending of its raw files."""

    PCMU = ("pcmu", "ULAW", ".ulaw")
    PCMA = ("pcma", "ALAW", ".alaw")

    def __init__(self, label: str, subtype: str, suffix: str) -> None:
        self.label = label
        self.subtype = subtype
        self.suffix = suffix


@dataclass(frozen=True, slots=True)
class Voice:
    """One speaker: `burst_hz` from `first_s` on, for `burst_s` at a time, every `period_s`; `pilot_hz` throughout.

    Levels are amplitudes in 16-bit steps. Both voices at their loudest stay below half scale.
    """

    name: str
    burst_hz: int
    pilot_hz: int
    first_s: float
    burst_s: float = 0.5
    period_s: float = 2.0
    burst_level: int = 6000
    pilot_level: int = 500

    def samples(self, duration_s: float | None = None) -> Samples:
        """The voice for `duration_s`, one period by default."""
        count = round((self.period_s if duration_s is None else duration_s) * SAMPLE_RATE_HZ)
        position = np.arange(count)
        time_s = position / SAMPLE_RATE_HZ
        phase = (time_s - self.first_s) % self.period_s
        burst = (phase < self.burst_s - 1e-9) * self.burst_level * np.sin(2 * np.pi * self.burst_hz * time_s)
        pilot = self.pilot_level * np.sin(2 * np.pi * self.pilot_hz * time_s)
        return np.asarray(np.round(burst + pilot), dtype=np.int16)


CALLER = Voice("caller", burst_hz=440, pilot_hz=1480, first_s=0.5)
APPLICATION = Voice("application", burst_hz=880, pilot_hz=2280, first_s=1.5)


def write_raw(path: Path, samples: Samples, codec: Codec) -> Path:
    """Write `samples` (8 kHz) as the raw G.711 file that SIPp's rtp_stream plays; returns `path`."""
    soundfile.write(path, samples, SAMPLE_RATE_HZ, format="RAW", subtype=codec.subtype)
    return path


def read_raw(path: Path, codec: Codec) -> Samples:
    """Read a raw G.711 file back as 16-bit samples."""
    samples, _ = soundfile.read(
        path, dtype="int16", samplerate=SAMPLE_RATE_HZ, channels=1, format="RAW", subtype=codec.subtype
    )
    return np.asarray(samples, dtype=np.int16)


def write_voice(folder: Path, file_name: str, voice: Voice, codec: Codec) -> Path:
    """Write one period of `voice` into `folder`, to be played in a loop."""
    return write_raw(folder / file_name, voice.samples(), codec)
