"""Puts both legs on one timeline: aligned blocks, silence where a leg has nothing, no leg ever waited for.

The media clock is common, so alignment is arithmetic on positions. What has not been asked for yet stays in the
taps: their rings are the only buffer. While both legs run in step, what is read is the block itself, without a copy.
The slow path takes care of a leg that starts late, falls behind, is replaced, or breaks off.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from recorder.media.source import Cause, LegName, Samples, SampleSource

_BEFORE_ALL = -(1 << 62)


class Block(NamedTuple):
    """The same stretch of both legs: `a` and `b` are writable, equally long, and start at `position` of the clock."""

    position: int
    a: Samples
    b: Samples


class LegGap(NamedTuple):
    """A stretch of one leg without sound. `start` is a position of the clock."""

    cause: Cause
    leg: LegName
    start: int
    length: int


class LegEvent(NamedTuple):
    """A telephone event in one leg (RFC 4733), whatever its key. `start` is a position of the clock."""

    leg: LegName
    start: int
    length: int


class Timeline:
    """Two sources, aligned from `origin` on.

    One thread iterates (the writer's); `replace` may be called from any other.

    Args:
        a, b: the sources; None for a leg that has no media yet.
        origin: position of the recording's first sample. None: that of the first sample that either source has.
        block_samples: the longest block to make; it bounds the memory that a jump in positions can take.
    """

    def __init__(
        self,
        a: SampleSource | None,
        b: SampleSource | None,
        *,
        origin: int | None = None,
        block_samples: int = 8000,
    ) -> None:
        self._legs: dict[LegName, _Leg] = {"a": _Leg("a", a, block_samples), "b": _Leg("b", b, block_samples)}
        self._a, self._b = self._legs.values()
        self._block_samples = block_samples
        self._origin: int | None = None
        self._position = 0
        if origin is not None:
            self._begin_at(origin)

    @property
    def origin(self) -> int | None:
        """Position of the recording's first sample; None as long as it is not decided."""
        return self._origin

    @property
    def position(self) -> int:
        """Just past the last block. Meaningless while `origin` is None."""
        return self._position

    @property
    def late_samples(self) -> int:
        """Samples with sound that came for a position whose turn was over, and are lost. Late zeros are no loss."""
        return self._a.late_samples + self._b.late_samples

    @property
    def dropped_samples(self) -> int:
        """Samples that full rings lost, both legs, sources that were replaced included."""
        return self._a.dropped_samples + self._b.dropped_samples

    def replace(self, leg: LegName, source: SampleSource | None) -> None:
        """Give a leg another source (re-INVITE, transfer), or none. What the old one still holds is read first.

        Where both have a position, the old one's samples stand and the new one's count as late.
        """
        self._legs[leg].replace(source)

    def leader(self) -> int:
        """How far the leg that is ahead has come.

        Take it before `blocks`: a leg in step with the other then has, when it is read, all that the other had here.
        """
        self._switch()
        return max(self._a.position(), self._b.position())

    def blocks(self, limit: int) -> Iterator[Block]:
        """Yield what is due, in order and without a break, up to exactly `limit`.

        A leg that has nothing for a position is silence there; the caller waits for it by asking for less.
        """
        self._switch()
        if self._origin is None:
            self.settle(limit)
            if self._origin is None:
                return
        while self._position < limit:
            start = self._position
            # Advanced before the block is handed out: a consumer that fails on it does not get it twice.
            self._position = stop = min(limit, start + self._block_samples)
            yield Block(start, self._a.take(start, stop), self._b.take(start, stop))

    def settle(self, limit: int) -> None:
        """Decide the origin, if a source has a sample before `limit`.

        Not sooner: the first tap to report need not be the one with the first sample.
        """
        firsts = [first for leg in (self._a, self._b) if (first := leg.first()) is not None]
        if self._origin is None and firsts and min(firsts) < limit:
            self._begin_at(min(firsts))

    def take_events(self) -> list[LegEvent]:
        """The telephone events since the last call; one that goes on comes again."""
        return [*self._a.take_events(), *self._b.take_events()]

    def take_gaps(self, last: bool = False) -> list[LegGap]:
        """Where the sources have had no sound, as it became known since the last call; `last`: no more is to come."""
        return [*self._a.take_gaps(last), *self._b.take_gaps(last)]

    def _switch(self) -> None:
        self._a.switch(self._position)
        self._b.switch(self._position)

    def _begin_at(self, origin: int) -> None:
        self._origin = self._position = origin
        self._a.origin = self._b.origin = origin


class _Leg:
    """One leg's way from its sources to blocks. Only the writer thread calls it, `replace` and `position` excepted."""

    def __init__(self, name: LegName, source: SampleSource | None, read_samples: int) -> None:
        self.name = name
        self.origin = _BEFORE_ALL
        self.late_samples = 0
        self._source = source
        self._replacements: deque[SampleSource | None] = deque()
        self._read_samples = read_samples
        self._next: int | None = None  # position that the source's next read starts at; None: never read
        self._frontier = _BEFORE_ALL  # just past the last sample taken from any source
        self._pending: deque[tuple[int, Samples]] = deque()  # taken, not yet due; in order, none overlapping
        self._dropped_before = 0
        self._gaps: list[LegGap] = []  # of sources that were replaced
        self._events: list[LegEvent] = []  # the same

    @property
    def dropped_samples(self) -> int:
        return self._dropped_before + (0 if self._source is None else self._source.dropped_samples)

    def replace(self, source: SampleSource | None) -> None:
        self._replacements.append(source)

    def position(self) -> int:
        source = self._source
        return _BEFORE_ALL if source is None else source.position

    def first(self) -> int | None:
        if self._pending:
            return self._pending[0][0]
        return None if self._source is None else self._source.origin

    def switch(self, due: int) -> None:
        """Carry out replacements: empty the old source, then let go of it."""
        while self._replacements:
            old, new = self._source, self._replacements.popleft()
            if new is old:
                continue
            if old is not None:
                self._fill(old, old.position, due)
                self._gaps = self.take_gaps(True)
                self._events = self.take_events()
                self._dropped_before += old.dropped_samples
            self._source, self._next = new, None

    def take(self, start: int, stop: int) -> Samples:
        """Samples [start, stop): what the source has, zeros where it has nothing."""
        source = self._source
        if source is not None and self._next == start and not self._pending:
            position, samples = source.read(stop - start)
            if position == start and len(samples) == stop - start and samples.flags.writeable:
                self._next = self._frontier = stop
                return samples
            self._keep(position, samples, start)
        if source is not None:
            self._fill(source, stop, start)
        block = np.zeros(stop - start, np.int16)
        while self._pending and self._pending[0][0] < stop:
            position, samples = self._pending.popleft()
            due = samples[: stop - position]
            block[position - start : position - start + len(due)] = due
            if len(due) < len(samples):
                self._pending.appendleft((stop, samples[len(due) :]))
        return block

    def take_events(self) -> list[LegEvent]:
        events, self._events = self._events, []
        if self._source is not None:
            events += [LegEvent(self.name, start, length) for start, length in self._source.take_events()]
        return events

    def take_gaps(self, last: bool) -> list[LegGap]:
        gaps, self._gaps = self._gaps, []
        if self._source is not None:
            gaps += [LegGap(cause, self.name, start, length) for cause, start, length in self._source.take_gaps(last)]
        return gaps

    def _fill(self, source: SampleSource, stop: int, due: int) -> None:
        """Read up to position `stop`, or as far as the source goes."""
        while True:
            following = source.origin if self._next is None else self._next
            if following is None or following >= stop:
                return
            position, samples = source.read(min(stop - following, self._read_samples))
            if len(samples) == 0:
                return
            self._keep(position, samples, due)

    def _keep(self, position: int, samples: Samples, due: int) -> None:
        """Queue what is still to come; drop what is before the origin, and what is late."""
        end = position + len(samples)
        if len(samples) == 0:
            return
        self._next = end
        if position < self.origin:
            samples = samples[self.origin - position :]
            position = end - len(samples)
        taken = max(due, self._frontier)
        if position < taken:
            self.late_samples += int(np.count_nonzero(samples[: taken - position]))
            samples = samples[taken - position :]
            position = end - len(samples)
        if len(samples):
            self._pending.append((position, samples))
            self._frontier = end
