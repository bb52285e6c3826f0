"""Judges one recording by its content: who is heard when, for how long, and what must not be heard.

The two ends speak `tones.CALLER` and `tones.APPLICATION` in loops. Frames of 25 ms, 5 ms apart, under a Hann window are
compared with those tones (all whole cycles in a frame), in one matrix product per file: half a minute of recording
takes some 10 ms. From it follow

- each speaker's start, from the edges of the bursts (good to 1 ms), and so the offset between the legs;
- bursts where none belong, and bursts that are missing;
- stretches in which a speaker's quiet tone is absent (from about 8 ms on), at any time of the call;
- slips: a jump in the phase of the quiet tone, which a single sample lost or repeated makes;
- for muted spans: every sample exactly 0 inside, both speakers back after;
- in stereo: that neither speaker is ever in the other's channel.

A-law has no code for 0: its nearest is 8. Opus makes of silence what is next to silence, once its codec has rung out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from recorder.byte_store import PLAIN, Storage, reading
from recorder.errors import StorageError
from recorder.file_format import FileFormat
from recorder.loadtest.tones import APPLICATION, CALLER, SAMPLE_RATE_HZ, Samples, Voice

_FRAME = 200  # 25 ms
_HOP = 40  # 5 ms
_SHORTEST_HOLE = 20  # two steady tones never add up to 0 for so many samples
_HALF = _FRAME // 2
_SAME_S = 0.100  # bursts that stray less from one another are of one course
_EDGE_S = _FRAME / SAMPLE_RATE_HZ  # a frame this far from an edge does not touch it

# By encoding: its container and subtype in libsndfile; how far from 0 its silence may be; how long it rings.
_KINDS = {
    "pcm16": ("WAV", "PCM_16", 0, 0.0),
    "ulaw": ("WAV", "ULAW", 0, 0.0),
    "alaw": ("WAV", "ALAW", 8, 0.0),
    "flac": ("FLAC", "PCM_16", 0, 0.0),
    "opus": ("OGG", "OPUS", 24, 0.030),
}
_STRAY_S = 0.050  # an edge of one's own burst looks like the other for a shorter time

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Span = tuple[float, float]  # seconds in the file: from, to


@dataclass(frozen=True, slots=True)
class Silence:
    """A muted span. Within `must` every sample has to be 0; outside `may` both speakers have to be heard."""

    must: Span
    may: Span


@dataclass(frozen=True, slots=True)
class Expected:
    """What the recording of a call has to hold.

    `length_s` is the answered time as the ends of the call saw it, None if unknown. `start_s`: by when both speakers
    have to be heard, from the start of the file; of what they play, `clip_tolerance_s` may be cut off there. `tail_s`:
    how much earlier than the file they may end.
    A jitter buffer that adapts drops or stretches a packet or two when the sender or the machine falters: a disturbance
    of up to `disturbance_s` is counted, not a fault, as long as the speaker does not drift by more than
    `drift_tolerance_s` in all. A hole, where both are silent to the last bit, is none of that and always a fault.
    """

    length_s: float | None = None
    silences: Sequence[Silence] = ()
    length_tolerance_s: float = 0.040
    offset_tolerance_s: float = 0.060
    drift_tolerance_s: float = 0.060
    disturbance_s: float = 0.060
    clip_tolerance_s: float = 0.100
    start_s: float = 0.250
    tail_s: float = 0.080

    def strict(self) -> Expected:
        """The same without any allowance for a jitter buffer: every sample where it belongs."""
        return replace(self, disturbance_s=0.0, drift_tolerance_s=0.004, clip_tolerance_s=0.030)


@dataclass(slots=True)
class Verdict:
    """What was measured, and each fault in words. Times in seconds.

    `gap_s` sums what is missing of both speakers, in `gaps` stretches; `disturbances` counts what was tolerated;
    `drift_s` is how far the bursts of one speaker stray from their even course, `clipped_s` what is cut off his start.
    """

    faults: list[str] = field(default_factory=list)
    length_s: float = 0.0
    length_error_s: float | None = None
    caller_start_s: float | None = None
    application_start_s: float | None = None
    bursts: int = 0
    gaps: int = 0
    gap_s: float = 0.0
    slips: int = 0
    disturbances: int = 0
    drift_s: float = 0.0
    clipped_s: float = 0.0
    silent_s: float = 0.0
    silent_spans: list[Span] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    @property
    def offset_s(self) -> float | None:
        """How much later the application is on the recording than the caller, beyond what they play."""
        if self.caller_start_s is None or self.application_start_s is None:
            return None
        return self.application_start_s - self.caller_start_s


def verify_file(
    path: Path,
    expected: Expected,
    file_format: FileFormat = FileFormat(),  # noqa: B008 - immutable
    storage: Storage = PLAIN,
) -> Verdict:
    """Judge the file at `path`. Never raises for what is wrong with it: that is a fault, too."""
    container, subtype, residue, ringing_s = _KINDS[file_format.encoding]
    try:
        with reading(path, storage) as file, soundfile.SoundFile(file) as sound:
            found = (sound.samplerate, sound.channels, sound.format, sound.subtype)
            wanted = (SAMPLE_RATE_HZ, file_format.channels, container, subtype)
            if found != wanted:
                instead = " instead of ".join("{} Hz, {} channels, {}, {}".format(*one) for one in (found, wanted))
                return Verdict([f"format: {instead}"])
            samples = sound.read(dtype="int16", always_2d=True)
    except (OSError, StorageError, soundfile.LibsndfileError) as error:
        return Verdict([f"unreadable: {error}"])
    samples[np.abs(samples) <= residue] = 0
    silences = [replace(one, must=(one.must[0] + ringing_s, one.must[1] - ringing_s)) for one in expected.silences]
    return verify(samples, replace(expected, silences=silences))


def verify(samples: Samples, expected: Expected) -> Verdict:
    """Judge `samples` (8 kHz, 16 bit): mono, or with two columns, which are the caller's and the application's."""
    verdict = Verdict(length_s=len(samples) / SAMPLE_RATE_HZ)
    channels = samples[:, np.newaxis] if samples.ndim == 1 else samples
    sounding: Flags = np.any(channels != 0, axis=1)
    samples = channels.sum(axis=1, dtype=np.int16)  # both at their loudest stay below full scale
    if expected.length_s is not None:
        verdict.length_error_s = verdict.length_s - expected.length_s
        if abs(verdict.length_error_s) > expected.length_tolerance_s:
            verdict.faults.append(f"length: {verdict.length_s:.3f} s recorded, {expected.length_s:.3f} s answered")
    _check_silence(sounding, expected, verdict)
    if len(samples) < 2 * _FRAME:
        verdict.faults.append("content: too short to hold anything")
        return verdict
    spectrum = _Spectrum(samples)
    checks = [_VoiceCheck(voice, spectrum, expected, verdict) for voice in (CALLER, APPLICATION)]
    verdict.caller_start_s, verdict.application_start_s = (check.start_s for check in checks)
    for check in checks:
        check.run()
    if verdict.offset_s is not None and abs(verdict.offset_s) > expected.offset_tolerance_s:
        verdict.faults.append(f"alignment: the application is {1000 * verdict.offset_s:+.0f} ms off the caller")
    if channels.shape[1] == 2:
        for column, stranger in ((0, APPLICATION), (1, CALLER)):
            _check_apart(np.ascontiguousarray(channels[:, column]), stranger, verdict)
    return verdict


def _check_apart(channel: Samples, stranger: Voice, verdict: Verdict) -> None:
    """See that a channel holds nothing of the other one's speaker."""
    spectrum = _Spectrum(channel)
    heard = spectrum.amplitude(stranger.burst_hz) > 0.1 * stranger.burst_level
    heard |= spectrum.amplitude(stranger.pilot_hz) > 0.5 * stranger.pilot_level
    for at, length in _stretches(heard, spectrum):
        if length > _STRAY_S:
            verdict.faults.append(
                f"channel: the {stranger.name} is in the other's for {1000 * length:.0f} ms at {at:.3f} s"
            )


def zero_runs(samples: Samples | Flags, shortest: int) -> list[tuple[int, int]]:
    """Every stretch of at least `shortest` samples that are all 0, as [start, stop)."""
    zero = np.concatenate(([0], (samples == 0).astype(np.int8), [0]))
    steps = np.diff(zero)
    starts, stops = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    return [(int(a), int(b)) for a, b in zip(starts, stops, strict=True) if b - a >= shortest]


def _check_silence(samples: Flags, expected: Expected, verdict: Verdict) -> None:
    runs = [(a / SAMPLE_RATE_HZ, b / SAMPLE_RATE_HZ) for a, b in zero_runs(samples, _SHORTEST_HOLE)]
    verdict.silent_spans = [(a, b) for a, b in runs if b - a >= 0.100]
    latest = verdict.length_s - expected.tail_s
    for start, stop in runs:
        excused = any(silence.may[0] <= start and stop <= silence.may[1] for silence in expected.silences)
        if expected.start_s < start and stop < latest and not excused:
            verdict.faults.append(f"hole: {1000 * (stop - start):.0f} ms of nothing at all at {start:.3f} s")
    for silence in expected.silences:
        first = max(0, round(silence.must[0] * SAMPLE_RATE_HZ))
        last = min(len(samples), round(silence.must[1] * SAMPLE_RATE_HZ))
        inside = samples[first:last]
        heard = int(np.count_nonzero(inside))
        verdict.silent_s += (len(inside) - heard) / SAMPLE_RATE_HZ
        if heard:
            where = (first + int(np.flatnonzero(inside)[0])) / SAMPLE_RATE_HZ
            verdict.faults.append(f"redaction: {heard} of {len(inside)} samples are not 0, the first at {where:.3f} s")


class _Spectrum:
    """Amplitude and phase of the four tones in every frame."""

    def __init__(self, samples: Samples) -> None:
        frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float32), _FRAME)[::_HOP]
        frequencies = [tone for voice in (CALLER, APPLICATION) for tone in (voice.burst_hz, voice.pilot_hz)]
        position = np.arange(_FRAME)
        window = np.hanning(_FRAME + 1)[:-1]
        # A sine's amplitude is twice the mean of its product with the turning phasor.
        basis = (
            np.exp(-2j * np.pi * np.outer(position, frequencies) / SAMPLE_RATE_HZ)
            * window[:, None]
            * (2 / window.sum())
        )
        both = np.hstack((basis.real, basis.imag)).astype(np.float32)
        product = frames @ both
        self.values: dict[int, npt.NDArray[np.complex128]] = {
            tone: product[:, k].astype(np.float64) + 1j * product[:, k + len(frequencies)]
            for k, tone in enumerate(frequencies)
        }
        self.count = len(frames)
        self.starts = np.arange(self.count) * _HOP
        self.centres_s: Floats = (self.starts + _HALF) / SAMPLE_RATE_HZ
        self.length_s = len(samples) / SAMPLE_RATE_HZ

    def amplitude(self, tone_hz: int) -> Floats:
        return np.asarray(np.abs(self.values[tone_hz]), dtype=np.float64)

    def turn(self, tone_hz: int) -> npt.NDArray[np.complex128]:
        """The phase of the tone, less the turning that its steady course makes from frame to frame."""
        steady = np.exp(-2j * np.pi * tone_hz * self.starts / SAMPLE_RATE_HZ)
        return np.asarray(self.values[tone_hz] * steady)


class _VoiceCheck:
    """One speaker on one recording."""

    def __init__(self, voice: Voice, spectrum: _Spectrum, expected: Expected, verdict: Verdict) -> None:
        self.voice = voice
        self.spectrum = spectrum
        self.expected = expected
        self.verdict = verdict
        self.burst = spectrum.amplitude(voice.burst_hz) / voice.burst_level
        self.pilot = spectrum.amplitude(voice.pilot_hz) / voice.pilot_level
        self.start_s = self._find_start()
        self.clipped_s = self._find_clipped()

    def run(self) -> None:
        """Add what is wrong with this speaker to the verdict."""
        if self.start_s is None:
            self._fault("missing: the {} is never heard")
            return
        if not -0.030 <= self.start_s <= self.expected.start_s:
            self._fault(f"order: the {{}}'s sound begins {1000 * self.start_s:+.0f} ms from the answer")
        if self.clipped_s > self.expected.clip_tolerance_s:
            self._fault(f"clipped: the first {1000 * self.clipped_s:.0f} ms of the {{}} are missing")
        self.verdict.clipped_s = max(self.verdict.clipped_s, self.clipped_s)
        due, clear = self._bursts_due()
        judged = self._judged()
        self.verdict.bursts += _count(due & judged & (self.burst > 0.8))
        for at, length in _stretches(due & judged & (self.burst < 0.8), self.spectrum):
            self._disturbed(length, f"burst: the {{}}'s tone is broken for {1000 * length:.0f} ms at {at:.3f} s")
        for at, length in _stretches(clear & judged & (self.burst > 0.15), self.spectrum):
            self._disturbed(length, f"order: the {{}} is heard for {1000 * length:.0f} ms at {at:.3f} s, out of turn")
        self._check_pilot(judged)

    def _find_start(self) -> float | None:
        """Where the voice's sound file begins on the recording, from all edges of its bursts."""
        on = self.burst > 0.5
        steps = np.flatnonzero(on[1:] & ~on[:-1])
        if len(steps) == 0:
            return None
        before, after = self.burst[steps], self.burst[steps + 1]
        edges = self.spectrum.centres_s[steps] + (0.5 - before) / (after - before) * _HOP / SAMPLE_RATE_HZ
        for silence in self.expected.silences:  # a burst that mute cuts into begins where mute ends
            edges = edges[(edges < silence.may[0] - _EDGE_S) | (edges > silence.may[1] + _EDGE_S)]
        if len(edges) == 0:
            return None
        # The edges agree up to whole periods. One that loss has moved must not move the rest: those with the
        # most company win, the earliest where there are as many elsewhere.
        late = (edges - self.voice.first_s + self.voice.period_s / 2) % self.voice.period_s - self.voice.period_s / 2
        near = np.abs(late[:, None] - late[None, :]) < _SAME_S
        mine = late[near[np.argmax(near.sum(axis=1))]]
        drift = float(np.ptp(mine))
        self.verdict.drift_s = max(self.verdict.drift_s, drift)
        if drift > self.expected.drift_tolerance_s:
            self._fault(f"drift: the {{}}'s bursts stray by {1000 * drift:.0f} ms")
        return float(np.median(mine))

    def _find_clipped(self) -> float:
        """How much of the start of the sound file is not on the recording, if that begins late at all."""
        heard = np.flatnonzero(self.pilot > 0.5)
        if self.start_s is None or len(heard) == 0:
            return 0.0
        return max(0.0, float(self.spectrum.centres_s[heard[0]]) - max(0.0, self.start_s))

    def _bursts_due(self) -> tuple[Flags, Flags]:
        """Frames that lie wholly within a burst, and frames that touch none, whatever drift is allowed."""
        assert self.start_s is not None
        voice = self.voice
        phase = (self.spectrum.centres_s - self.start_s - voice.first_s) % voice.period_s
        half = _EDGE_S / 2 + 0.002 + self.expected.drift_tolerance_s
        inside = (phase > half) & (phase < voice.burst_s - half)
        outside = (phase > voice.burst_s + half) & (phase < voice.period_s - half)
        started = self.spectrum.centres_s > self.start_s + half
        return inside & started, outside

    def _judged(self) -> Flags:
        """Frames in which this speaker has to be heard if he speaks: after his start, before the end, not muted."""
        assert self.start_s is not None
        centres, half = self.spectrum.centres_s, _EDGE_S / 2
        begin = max(0.0, self.start_s) + self.clipped_s
        judged = (centres > begin + half) & (centres < self.spectrum.length_s - self.expected.tail_s - half)
        for silence in self.expected.silences:
            judged &= (centres < silence.may[0] - half) | (centres > silence.may[1] + half)
        return np.asarray(judged)

    def _check_pilot(self, judged: Flags) -> None:
        for at, length in _stretches(judged & (self.pilot < 0.5), self.spectrum):
            self.verdict.gaps += 1
            self.verdict.gap_s += length
            self._disturbed(length, f"gap: the {{}} is missing for {1000 * length:.0f} ms at {at:.3f} s")
        turn = self.spectrum.turn(self.voice.pilot_hz)
        sound = judged & (self.pilot > 0.7)
        # Frames that share no sample, so that a jump shows whole; what lies between them has to be sound, too.
        apart = _FRAME // _HOP
        steady = sound[apart:] & sound[:-apart]
        for shift in range(1, apart):
            steady &= sound[shift : shift - apart]
        jump = np.abs(np.angle(turn[apart:] * np.conj(turn[:-apart])))
        slips = _count(steady & (jump > 0.7))
        self.verdict.slips += slips
        for _ in range(slips):
            self._disturbed(0.001, "slip: samples of the {} were lost or repeated")

    def _disturbed(self, length_s: float, text: str) -> None:
        """A fault if it is longer than what is tolerated."""
        if length_s <= self.expected.disturbance_s:
            self.verdict.disturbances += 1
        else:
            self._fault(text)

    def _fault(self, text: str) -> None:
        self.verdict.faults.append(text.format(self.voice.name))


def _count(flags: Flags) -> int:
    """How many runs of flagged frames there are."""
    return int(np.count_nonzero(np.diff(np.concatenate(([0], flags.astype(np.int8)))) == 1))


def _stretches(flags: Flags, spectrum: _Spectrum) -> list[Span]:
    """Runs of flagged frames as (start, length) in seconds, about as long as what caused them."""
    edges = np.diff(np.concatenate(([0], flags.astype(np.int8), [0])))
    firsts, lasts = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1
    return [
        (float(spectrum.centres_s[a]), float((b - a + 1) * _HOP / SAMPLE_RATE_HZ))
        for a, b in zip(firsts, lasts, strict=True)
    ]
