"""Takes the tones of keys (DTMF, ITU-T Q.23) out of what the legs say, before it is mixed and written.

Frames of 20 ms, every 5 ms, are compared with the eight tones, each a little detuned as well. A frame is a key's where
two tones, one of each group, hold nearly all of its energy and are about as loud as each other; a key is pressed where
three frames in a row say so. What is spoken never does that for so long. From a lead before the first frame until a
little after the last one that leg is silent, so that not even the start of a tone is heard. To know of it in time the
detector is ahead of what is written by `look_ahead_samples`.

A telephone event (RFC 4733) stands for a key too. No audio comes with it, but a gateway that takes the tone out may
need some tens of milliseconds to notice it: the longer lead before an event silences what has passed by then. Which key
it was is neither kept nor told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from recorder.media.source import LegName, Samples
from recorder.media.timeline import Block

_LOW_HZ = (697, 770, 852, 941)
_HIGH_HZ = (1209, 1336, 1477, 1633)
_DETUNED = (0.988, 1.0, 1.012)  # a sender may be off by 1.5 % (ITU-T Q.24)
_FRAME_S = 0.020
_HOP_S = 0.005
_FRAMES = 3  # in a row: 30 ms; the shortest key that a receiver must take lasts 40 ms (ITU-T Q.24)
_LEAST_AMPLITUDE = 300  # of the weaker tone: -37 dBm0
_MOST_TWIST = 10.0  # the power of one tone over the other's: 10 dB
_LEAST_SHARE = 0.8  # of the frame's energy that the two tones hold
_LOOK_BACK_FRAMES = 2  # side by side: a key that is found now began within them
_ONE_THREAD = 250_000  # OpenBLAS multiplies larger matrices on several threads, which takes longer here

LEAD_S = 0.020
TAIL_S = 0.020
EVENT_LEAD_S = 0.100


class DigitDetector:
    """Finds the keys in one leg's samples, which come in blocks of any size without a break.

    First it looks at frames that stand side by side: one of them lies wholly within a key of 40 ms. Only where one is a
    key's it looks at all the frames around.
    """

    def __init__(self, rate_hz: int) -> None:
        self._frame, self._hop = round(rate_hz * _FRAME_S), round(rate_hz * _HOP_S)
        turns = np.outer(
            np.arange(self._frame),
            [2 * np.pi * hertz * detuned / rate_hz for hertz in _LOW_HZ + _HIGH_HZ for detuned in _DETUNED],
        )
        self._waves = np.concatenate((np.cos(turns), np.sin(turns)), axis=1).astype(np.float32)
        self._rows = _ONE_THREAD // self._waves.size
        self._least_power = _LEAST_AMPLITUDE**2 / 2 * self._frame
        self._rest = np.zeros(0, np.int16)  # begins with the last frames that were looked at
        self._seen = 0  # how many those are
        self._pressed = False  # in the frames that were looked at last

    @property
    def latency_samples(self) -> int:
        """How long after its first sample a key is found."""
        return 2 * self._frame

    def feed(self, position: int, samples: Samples) -> list[tuple[int, int]]:
        """Look at the next samples, the first of which is at `position`.

        Returns:
            [start, stop) of each stretch in which a key has been heard. One that goes on comes in pieces that overlap.
        """
        start = position - len(self._rest)
        samples = np.concatenate((self._rest, samples))
        count = len(samples) // self._frame
        whole = samples[: count * self._frame]
        new = whole[self._seen * self._frame :]
        if len(new) == 0:
            self._rest = samples
            return []
        pressed_before, self._pressed = self._pressed, bool((self._keys(new.reshape(-1, self._frame)) >= 0).any())
        self._seen = min(count, _LOOK_BACK_FRAMES)
        self._rest = samples[(count - self._seen) * self._frame :].copy()
        if not self._pressed and not pressed_before:
            return []
        keys = self._keys(sliding_window_view(whole, self._frame)[:: self._hop])
        return [
            (start + int(run[0]) * self._hop, start + int(run[-1]) * self._hop + self._frame)
            for run in np.split(np.arange(len(keys)), np.flatnonzero(np.diff(keys)) + 1)
            if keys[run[0]] >= 0 and len(run) >= _FRAMES
        ]

    def _keys(self, frames: Samples) -> npt.NDArray[np.intp]:
        """The key of each frame (a row), -1 for none."""
        if int(np.abs(frames).max()) < _LEAST_AMPLITUDE:  # nobody speaks
            return np.full(len(frames), -1, np.intp)
        chunks = range(0, len(frames), self._rows)
        return np.concatenate([self._keys_of_some(frames[first : first + self._rows]) for first in chunks])

    def _keys_of_some(self, frames: Samples) -> npt.NDArray[np.intp]:
        wave = frames.astype(np.float32)
        energy = np.einsum("ij,ij->i", wave, wave)
        parts = wave @ self._waves
        parts *= parts
        tones = self._waves.shape[1] // 2
        power = parts[:, :tones] + parts[:, tones:]
        power = power.reshape(len(frames), -1, len(_DETUNED)).max(axis=2) * np.float32(2 / self._frame)
        low, high = power[:, : len(_LOW_HZ)], power[:, len(_LOW_HZ) :]
        loudest_low, loudest_high = low.max(axis=1), high.max(axis=1)
        pressed = loudest_low + loudest_high > _LEAST_SHARE * energy
        if not pressed.any():
            return np.full(len(frames), -1, np.intp)
        weaker = np.minimum(loudest_low, loudest_high)
        pressed &= (weaker > self._least_power) & (np.maximum(loudest_low, loudest_high) < _MOST_TWIST * weaker)
        return np.where(pressed, low.argmax(axis=1) * len(_HIGH_HZ) + high.argmax(axis=1), -1)


class DigitRemoval:
    """Silences the keys that were pressed in either leg. It sees blocks ahead of time, and hands them on when due.

    `on_tone` is told of each stretch, whose pieces may overlap, before it is silenced.
    """

    def __init__(self, rate_hz: int, on_tone: Callable[[LegName, int, int], object] | None = None) -> None:
        self._on_tone = on_tone
        self._detectors: dict[LegName, DigitDetector] = {"a": DigitDetector(rate_hz), "b": DigitDetector(rate_hz)}
        self._lead, self._tail = round(rate_hz * LEAD_S), round(rate_hz * TAIL_S)
        self._event_lead = round(rate_hz * EVENT_LEAD_S)
        self._waiting: deque[Block] = deque()
        self._stretches: dict[LegName, list[tuple[int, int]]] = {"a": [], "b": []}  # in order, none touching another
        self.look_ahead_samples = self._lead + self._detectors["a"].latency_samples

    def add(self, block: Block) -> None:
        """Look at a block; it follows the one before it."""
        for leg, samples in _legs(block):
            for start, stop in self._detectors[leg].feed(block.position, samples):
                self._silence(leg, start - self._lead, stop + self._tail)
        self._waiting.append(block)

    def add_event(self, leg: LegName, start: int, length: int) -> None:
        """A telephone event: it may come again while it goes on."""
        self._silence(leg, start - self._event_lead, start + length + self._tail)

    def due(self, limit: int) -> Iterator[Block]:
        """Hand on, without the keys, what was added, up to position `limit`."""
        while self._waiting and self._waiting[0].position < limit:
            block = self._waiting.popleft()
            count = limit - block.position
            if count < len(block.a):
                self._waiting.appendleft(Block(limit, block.a[count:], block.b[count:]))
                block = Block(block.position, block.a[:count], block.b[:count])
            for leg, samples in _legs(block):
                for start, stop in reversed(self._stretches[leg]):
                    if stop <= block.position:
                        break
                    samples[max(0, start - block.position) : max(0, stop - block.position)] = 0
            yield block

    def stretches(self) -> list[tuple[LegName, int, int]]:
        """(leg, start, stop) of everything that was silenced, in order."""
        found = ((leg, start, stop) for leg, stretches in self._stretches.items() for start, stop in stretches)
        return sorted(found, key=lambda stretch: stretch[1:])

    def _silence(self, leg: LegName, start: int, stop: int) -> None:
        """Add to the list, in which only the last ones may still change."""
        if self._on_tone is not None:
            self._on_tone(leg, start, stop)
        stretches = self._stretches[leg]
        later: list[tuple[int, int]] = []
        while stretches and stretches[-1][1] >= start:
            first, last = stretches.pop()
            if first > stop:
                later.append((first, last))
            else:
                start, stop = min(start, first), max(stop, last)
        stretches.append((start, stop))
        stretches += reversed(later)


def _legs(block: Block) -> tuple[tuple[LegName, Samples], tuple[LegName, Samples]]:
    return ("a", block.a), ("b", block.b)
