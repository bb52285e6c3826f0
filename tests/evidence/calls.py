"""Judging recordings of calls between the two test voices, however short they are and wherever they were cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from recorder.byte_store import PLAIN, Storage, reading
from recorder.loadtest.tones import APPLICATION, CALLER, Voice
from recorder.loadtest.verify import Silence
from tests.tones import RATE, Samples

_WINDOW = 400  # 50 ms: whole cycles of all four tones
_SLACK_S = 0.1  # what the far ends' clocks and the recording's may differ by
# A far end that is short of CPU begins to speak late: its bursts are looked for where they fit best.
_LATE_S = np.arange(-0.1, 0.6, 0.01)


@dataclass(slots=True)
class Judged:
    """What a recording holds. `faults` is empty when all is as it was said."""

    length_s: float = 0.0
    faults: list[str] = field(default_factory=list)


def judge(
    path: Path,
    silences: Sequence[Silence] = (),
    settle_s: float = 0.3,
    storage: Storage = PLAIN,
    lossy: bool = False,
    torn: bool = False,
) -> Judged:
    """Look for both voices at their places from `settle_s` to the end, and for nothing at all in `silences`.

    `lossy`: the format was asked to say nothing there, and may say a little of what is beside. `torn`: the end may be
    silence that the disk made of what it had not taken yet; it does not count as length.
    """
    try:
        with reading(path, storage) as file:
            samples, rate = soundfile.read(file, dtype="int16")
    except Exception as error:  # noqa: BLE001 - whatever it is, the file cannot be played
        return Judged(faults=[f"unplayable: {error}"])
    if torn and samples.ndim == 1:
        loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > (100 if lossy else 0))
        heard = len(samples) if any(silence.must[1] * rate > len(samples) - rate for silence in silences) else None
        samples = samples[: heard or (int(loud[-1]) + 1 if len(loud) else 0)]
    judged = Judged(len(samples) / rate)
    if rate != RATE or samples.ndim != 1:
        judged.faults.append(f"unplayable: {rate} Hz, {samples.ndim} dimensions")
        return judged
    for silence in silences:
        margin_s, peak = (0.02, 100) if lossy else (0, 0)
        first, last = (max(0, round(at * RATE)) for at in (silence.must[0] + margin_s, silence.must[1] - margin_s))
        if heard := int(np.count_nonzero(np.abs(samples[first:last].astype(np.int32)) > peak)):
            judged.faults.append(f"{heard} samples are heard where silence is to be")
    for voice in (CALLER, APPLICATION):
        _hear(samples, voice, silences, settle_s, judged)
    return judged


def _hear(samples: Samples, voice: Voice, silences: Sequence[Silence], settle_s: float, judged: Judged) -> None:
    count = len(samples) // _WINDOW
    windows = samples[: count * _WINDOW].reshape(count, _WINDOW).astype(np.float64) * np.hanning(_WINDOW)
    position = np.arange(_WINDOW)

    def amplitude(tone_hz: int) -> np.ndarray:
        turn = np.exp(-2j * np.pi * tone_hz * position / RATE)
        return np.asarray(4 * np.abs(windows @ turn) / _WINDOW)

    starts = np.arange(count) * _WINDOW / RATE
    stops = starts + _WINDOW / RATE
    judged_here = (starts > settle_s) & (stops < len(samples) / RATE - 0.05)
    for silence in silences:
        judged_here &= (stops < silence.may[0]) | (starts > silence.may[1])
    if missing := int(np.count_nonzero(judged_here & (amplitude(voice.pilot_hz) < 0.5 * voice.pilot_level))):
        judged.faults.append(f"{voice.name} is not heard in {missing} windows of 50 ms")
    burst = amplitude(voice.burst_hz) / voice.burst_level

    def wrong(late_s: float) -> int:
        into = (starts - voice.first_s - late_s) % voice.period_s
        within = (into > _SLACK_S) & (into + _WINDOW / RATE < voice.burst_s - _SLACK_S)
        outside = (into > voice.burst_s + _SLACK_S) & (into + _WINDOW / RATE < voice.period_s - _SLACK_S)
        return int(np.count_nonzero(judged_here & ((within & (burst < 0.5)) | (outside & (burst > 0.2)))))

    if fewest := min(wrong(late_s) for late_s in _LATE_S):
        judged.faults.append(f"{voice.name} speaks out of turn in {fewest} windows of 50 ms")
