"""Which stretches of a file hold silence because the disk did not take, or has lost, what was said there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from recorder.media.cuts import Cuts
from recorder.media.gaps import Gap

Cause = Literal["storage", "file_lost", "failure"]


@dataclass(frozen=True, slots=True)
class Lost:
    """A stretch of the file, in samples, that holds silence in place of what was said."""

    cause: Cause
    start: int
    length: int


class Losses:
    """The losses of one file, in order; no two overlap. One thread at a time."""

    def __init__(self) -> None:
        self.listed: list[Lost] = []

    def add(self, cause: Cause, start: int, length: int) -> None:
        """A stretch that will not be written, behind those before it."""
        last = self.listed[-1] if self.listed else None
        if last is not None and (last.cause, last.start + last.length) == (cause, start):
            self.listed[-1] = replace(last, length=last.length + length)
        else:
            self.listed.append(Lost(cause, start, length))

    def gone(self, has: int, written: int) -> int:
        """The file holds `has` samples, though `written` of them were. Returns how many more are lost now."""
        known = sum(lost.length for lost in self.listed)
        before = [lost for lost in self.listed if lost.start < has]
        if before and before[-1].start + before[-1].length > has:
            before[-1] = replace(before[-1], length=has - before[-1].start)
        behind = [lost for lost in self.listed if lost.start >= written]
        self.listed = [*before, Lost("file_lost", has, written - has), *behind]
        return sum(lost.length for lost in self.listed) - known


def as_gaps(losses: Iterable[Lost], cuts: Cuts, length: int | None = None) -> list[Gap]:
    """What the losses of a file are in its call, of which both legs are lost; within `length` samples of the call."""
    gaps = []
    for lost in losses:
        for start, stop in cuts.in_call(lost.start, lost.start + lost.length):
            stop = stop if length is None else min(stop, length)
            if start < stop:
                gaps.append(Gap(lost.cause, "both", start, stop - start))
    return gaps
