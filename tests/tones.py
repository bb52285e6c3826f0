"""Tones with known frequencies: who is heard, where and when. Samples are 1-D int16 arrays at `rate` Hz."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

Samples = npt.NDArray[np.int16]

RATE = 8000


def sine(frequency: float, seconds: float, rate: int = RATE, amplitude: int = 8000, start: int = 0) -> Samples:
    """Make a tone; `start` is the position of its first sample, so that pieces made apart join without a click."""
    n = np.arange(start, start + round(seconds * rate))
    tone: Samples = np.rint(amplitude * np.sin(2 * np.pi * frequency * n / rate)).astype(np.int16)
    return tone


def chirp(seconds: float, rate: int = RATE) -> Samples:
    """Make a sweep from 200 Hz to 3 kHz, which is like itself in one place only."""
    t = np.arange(round(seconds * rate)) / rate
    swept: Samples = np.rint(8000 * np.sin(2 * np.pi * (200 * t + 1400 / seconds * t**2))).astype(np.int16)
    return swept


def silence(seconds: float, rate: int = RATE) -> Samples:
    """Make digital silence."""
    return np.zeros(round(seconds * rate), np.int16)


def read_wav(path: Path) -> tuple[Samples, int]:
    """Read a WAV file: its samples (2-D when it has several channels) and its rate."""
    samples, rate = soundfile.read(path, dtype="int16")
    return samples, rate


def level(samples: Samples) -> float:
    """Root mean square, in sample units."""
    return float(np.sqrt(np.mean(np.square(samples.astype(np.float64))))) if len(samples) else 0.0


def is_silent(samples: Samples, peak: int = 64) -> bool:
    """Tell whether no sample exceeds `peak` (64 leaves room for what a codec makes of silence)."""
    return len(samples) == 0 or int(np.abs(samples.astype(np.int32)).max()) <= peak


def amplitude_of(samples: Samples, frequency: float, rate: int = RATE) -> float:
    """Amplitude of the sine at `frequency` in `samples` (one bin of a Hann-windowed DFT; a few periods are enough)."""
    window = np.hanning(len(samples))
    turn = np.exp(-2j * np.pi * frequency * np.arange(len(samples)) / rate)
    return float(2 * np.abs(np.sum(samples * window * turn)) / np.sum(window))


def has_tone(samples: Samples, frequency: float, rate: int = RATE, amplitude: float = 1000) -> bool:
    """Tell whether the tone is heard in `samples`, alone or with others."""
    return len(samples) > 0 and amplitude_of(samples, frequency, rate) >= amplitude


def is_tone(samples: Samples, frequency: float, rate: int = RATE, purity: float = 0.9) -> bool:
    """Tell whether `samples` are that tone and little else: at least `purity` of the energy is its own."""
    total = level(samples) ** 2
    return total > 0 and amplitude_of(samples, frequency, rate) ** 2 / 2 >= purity * total and level(samples) > 64


def tone_share(samples: Samples, frequency: float, rate: int = RATE) -> float:
    """Of the 50 ms slices of `samples`, the share that are mostly that tone, whatever its phase in each.

    What a codec makes of a tone is not pure, and a jitter buffer that loses a packet breaks its phase.
    """
    length = rate // 20
    slices = samples[: len(samples) // length * length].reshape(-1, length)
    return float(np.mean([is_tone(one, frequency, rate, purity=0.5) for one in slices]))


def loudest(samples: Samples, rate: int = RATE) -> float:
    """Frequency in Hz of the strongest component."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


def stretches(samples: Samples, threshold: int = 500, quiet_samples: int = 80) -> list[tuple[int, int]]:
    """Where there is sound: [start, stop) of each stretch above `threshold`; breaks under `quiet_samples` are bridged.

    The edges of a tone are found to within the samples that it takes to pass the threshold: a few at 300 Hz and above.
    """
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > threshold)
    if len(loud) == 0:
        return []
    breaks = np.flatnonzero(np.diff(loud) > quiet_samples)
    starts = loud[np.concatenate(([0], breaks + 1))]
    stops = loud[np.concatenate((breaks, [len(loud) - 1]))] + 1
    return [(int(start), int(stop)) for start, stop in zip(starts, stops, strict=True)]


def onset(samples: Samples, threshold: int = 500) -> int:
    """Position of the first sample above `threshold`: the start of a sound that follows silence. -1 when none is."""
    loud = np.abs(samples.astype(np.int32)) > threshold
    return int(np.argmax(loud)) if loud.any() else -1


def tone_onset(samples: Samples, frequency: float, rate: int = RATE, window: int = 160) -> int:
    """Position at which one tone starts, heard among others: half-way up its envelope. -1 when it is not heard.

    Good to a few samples when the others are some hundreds of Hz away; `window` is the smoothing in samples.
    """
    turn = samples * np.exp(-2j * np.pi * frequency * np.arange(len(samples)) / rate)
    sums = np.concatenate(([0], np.cumsum(turn)))
    envelope = 2 * np.abs(sums[window:] - sums[:-window]) / window
    plateau = float(np.percentile(envelope, 95)) if len(envelope) else 0.0
    if plateau < 100:
        return -1
    return int(np.argmax(envelope >= plateau / 2)) + window // 2


def offset_of(samples: Samples, sent: Samples) -> int:
    """Position at which `sent` is heard in `samples`, by cross-correlation; negative if it began before them."""
    size = 1 << (len(samples) + len(sent)).bit_length()
    spectrum = np.fft.rfft(samples.astype(np.float64), size) * np.conj(np.fft.rfft(sent.astype(np.float64), size))
    lag = int(np.argmax(np.fft.irfft(spectrum, size)))
    return lag if lag < size // 2 else lag - size
