"""A conversation of two that take turns: recorded prompts of an IVR, and a caller who is read out by espeak-ng.

`build` makes the two sound files; `listen` finds each turn again in a recording, by comparing the sound itself.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from recorder.errors import StartError
from recorder.loadtest.tones import SAMPLE_RATE_HZ, Codec, Samples, read_raw, write_raw

_PROMPT_FOLDERS = (
    Path("/usr/share/asterisk/sounds/en_US_f_Allison"),
    Path("/usr/share/asterisk/sounds/en"),
    Path("/var/lib/asterisk/sounds/en"),
)
# Loud enough to hear, below half scale: the recorder's mix passes it unchanged.
_PEAK = 0.35 * 32768
_CHUNK = round(0.4 * SAMPLE_RATE_HZ)
_LONG_CHUNK = round(1.0 * SAMPLE_RATE_HZ)
_SEARCH_S = 0.5

Floats = npt.NDArray[np.float64]


class Speaker(Enum):
    """Who speaks."""

    CALLER = "caller"
    APPLICATION = "application"


@dataclass(frozen=True, slots=True)
class Line:
    """What is said in one turn. `prompt` is a file of the prompts' package; without, espeak-ng reads `words`.

    `secret`: it belongs to the sensitive step and must not be in the recording. `pause_s` comes before it.
    """

    speaker: Speaker
    words: str
    prompt: str | None = None
    secret: bool = False
    pause_s: float = 0.7


@dataclass(frozen=True, slots=True)
class Turn:
    """A line with its sound, and where that begins in the speaker's file."""

    line: Line
    start_s: float
    samples: Samples

    @property
    def end_s(self) -> float:
        """Where its sound ends in the speaker's file."""
        return self.start_s + len(self.samples) / SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True)
class Conversation:
    """The turns in order, both speakers' files, and from when to when the step is held muted."""

    turns: tuple[Turn, ...]
    files: dict[Speaker, Path]
    mute: tuple[float, float]
    length_s: float


@dataclass(frozen=True, slots=True)
class Heard:
    """What a recording holds of one turn: `likeness` 1 is the very sound, 0 nothing of it. `start_s` is in the file."""

    turn: Turn
    likeness: float
    start_s: float

    @property
    def is_there(self) -> bool:
        """Whether this turn is in the recording."""
        return self.likeness > 0.8


def missing_programs(lines: Sequence[Line]) -> list[str]:
    """What has to be installed before `build` can work, each with how to get it. Empty when all is there."""
    wanted = {"sipp": "sip-tester", "espeak-ng": "espeak-ng", "sox": "sox"}
    missing = [
        f"{program} is not installed: apt-get install {package}"
        for program, package in wanted.items()
        if shutil.which(program) is None
    ]
    return missing + [
        f"the IVR prompt {line.prompt}.wav is missing: apt-get install asterisk-core-sounds-en-wav"
        for line in lines
        if line.prompt is not None and _prompt_path(line.prompt) is None
    ]


def build(lines: Sequence[Line], folder: Path) -> Conversation:
    """Make the sound files of `lines` in `folder`, G.711 mu-law. Raises StartError when a program fails."""
    turns: list[Turn] = []
    now = 0.3
    mute_from = mute_to = 0.0
    for number, line in enumerate(lines):
        if line.secret and mute_from == 0:
            # The recorder reaches back by its guard interval; the turn before is not to lose its end to it.
            mute_from = now + 0.6
            now += 0.3
        if not line.secret and mute_from and not mute_to:
            mute_to = now + 0.4
            now += 0.3
        now += line.pause_s
        samples = _prompt(line.prompt) if line.prompt is not None else _spoken(line.words, folder / f"line{number}")
        turns.append(Turn(line, now, samples))
        now = turns[-1].end_s
    length_s = now + 0.8
    files = {}
    for speaker, name in ((Speaker.CALLER, "caller.ulaw"), (Speaker.APPLICATION, "callee.ulaw")):
        # Longer than the call: SIPp plays in a loop.
        track = np.zeros(round((length_s + 5) * SAMPLE_RATE_HZ), dtype=np.int16)
        for turn in turns:
            if turn.line.speaker is speaker:
                first = round(turn.start_s * SAMPLE_RATE_HZ)
                track[first : first + len(turn.samples)] = turn.samples
        files[speaker] = write_raw(folder / name, track, Codec.PCMU)
    return Conversation(tuple(_as_sent(turn, files) for turn in turns), files, (mute_from, mute_to), length_s)


def listen(recording: Samples, conversation: Conversation) -> list[Heard]:
    """Look for every turn in `recording`: those of the sensitive step anywhere, the others about where they were."""
    return [_find_anywhere(recording, t) if t.line.secret else _find(recording, t) for t in conversation.turns]


def _find(recording: Samples, turn: Turn) -> Heard:
    """The likeness of a turn in pieces, each wherever nearby it fits best: one late packet must not spoil the rest."""
    likeness, lags = [], []
    for first in _pieces(turn.samples, _CHUNK):
        expected = round(turn.start_s * SAMPLE_RATE_HZ) + first
        begin = max(0, expected - round(_SEARCH_S * SAMPLE_RATE_HZ))
        around = recording[begin : expected + _CHUNK + round(_SEARCH_S * SAMPLE_RATE_HZ)]
        if len(around) < _CHUNK:
            likeness.append(0.0)
            continue
        curve = _likeness(around, turn.samples[first : first + _CHUNK])
        best = int(np.argmax(curve))
        likeness.append(float(curve[best]))
        lags.append((begin + best - expected) / SAMPLE_RATE_HZ)
    lag = float(np.median(lags)) if lags else 0.0
    return Heard(turn, float(np.median(likeness)) if likeness else 0.0, turn.start_s + lag)


def _find_anywhere(recording: Samples, turn: Turn) -> Heard:
    best, where = 0.0, 0.0
    for first in _pieces(turn.samples, _LONG_CHUNK):
        curve = _likeness(recording, turn.samples[first : first + _LONG_CHUNK])
        if len(curve) and float(curve.max()) > best:
            best, where = float(curve.max()), float(np.argmax(curve)) / SAMPLE_RATE_HZ
    return Heard(turn, best, where)


def _pieces(samples: Samples, size: int) -> list[int]:
    """Where pieces of `size` begin that are not mostly a pause."""
    loudness = float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))
    starts = range(0, max(1, len(samples) - size + 1), size)
    return [
        first
        for first in starts
        if np.sqrt(np.mean(samples[first : first + size].astype(np.float64) ** 2)) > 0.5 * loudness
    ]


def _likeness(where: Samples, what: Samples) -> Floats:
    """Normalised cross-correlation: at each position of `where`, how much `what` is there, from -1 to 1."""
    x, y = where.astype(np.float64), what.astype(np.float64)
    if len(x) < len(y) or not y.any():
        return np.zeros(0)
    size = 1 << (len(x) + len(y)).bit_length()
    product = np.fft.irfft(np.fft.rfft(x, size) * np.conj(np.fft.rfft(y, size)), size)[: len(x) - len(y) + 1]
    energy = np.concatenate(([0.0], np.cumsum(x * x)))
    # What is all but silent is like nothing.
    local = np.maximum(energy[len(y) :] - energy[: -len(y)], len(y) * 100.0)
    return np.asarray(product / np.sqrt(local * float(np.dot(y, y))), dtype=np.float64)


def _as_sent(turn: Turn, files: dict[Speaker, Path]) -> Turn:
    """The turn with its samples as G.711 leaves them."""
    first = round(turn.start_s * SAMPLE_RATE_HZ)
    sent = read_raw(files[turn.line.speaker], Codec.PCMU)[first : first + len(turn.samples)]
    return Turn(turn.line, turn.start_s, sent)


def _prompt(name: str) -> Samples:
    path = _prompt_path(name)
    if path is None:
        raise StartError(f"there is no IVR prompt {name}.wav; install Debian's asterisk-core-sounds-en-wav")
    return _levelled(path)


def _prompt_path(name: str) -> Path | None:
    return next((folder / f"{name}.wav" for folder in _PROMPT_FOLDERS if (folder / f"{name}.wav").exists()), None)


def _spoken(words: str, stem: Path) -> Samples:
    wide, narrow = stem.with_suffix(".22k.wav"), stem.with_suffix(".8k.wav")
    _call("espeak-ng", "-v", "en-gb", "-s", "160", "-w", str(wide), words)
    _call("sox", str(wide), "-r", str(SAMPLE_RATE_HZ), "-c", "1", "-b", "16", str(narrow), "gain", "-n", "-6")
    return _levelled(narrow)


def _levelled(path: Path) -> Samples:
    """The sound at our level, less the silence around it."""
    samples, rate = soundfile.read(path, dtype="int16")
    if rate != SAMPLE_RATE_HZ or samples.ndim != 1:
        raise StartError(f"{path}: {rate} Hz, {samples.ndim} dimensions; 8000 Hz mono was expected")
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > 300)
    if len(loud) == 0:
        raise StartError(f"{path}: is silent")
    spoken = samples[loud[0] : loud[-1] + 1].astype(np.float64)
    return np.asarray(np.round(spoken * (_PEAK / np.abs(spoken).max())), dtype=np.int16)


def _call(program: str, *arguments: str) -> None:
    found = shutil.which(program)
    if found is None:
        raise StartError(f"{program} is not installed: apt-get install {program}")
    done = subprocess.run([found, *arguments], capture_output=True, text=True, check=False)  # noqa: S603  # fixed programs
    if done.returncode != 0:
        raise StartError(f"{program} failed with exit code {done.returncode}: {done.stderr.strip()[-300:]}")
