"""Where a recording has silence because nothing was heard or kept, and why.

The causes, of which every gap has one:

    loss           packets that their sender numbered never came; as long as their timestamps say
    late           packets came when their place on the timeline had been written already
    dtx            the sender sent nothing, and no packet is missing: discontinuous transmission, comfort noise
    event          the sender sent a telephone event instead (RFC 4733)
    hold           nothing came while the call was on hold
    no_rtp         nothing came for 200 ms or longer, and nothing says why
    never_started  no packet ever came from this party
    ring_full      nobody read in time: the writer was held up for longer than `media.ring_s`
    storage        the disk was away, and memory full
    file_lost      it was written, and the disk has lost it
    failure        an error of ours ended the recording early

What was muted is no gap but a redaction. A stretch shorter than 200 ms in which no packet is missing is none either:
there the clock was set.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from recorder.media.source import Cause

GapLeg = Literal["a", "b", "both"]

LISTED = 1000
"""So many gaps of a leg are listed; those after them are only counted."""

_RECENT = 64  # gaps of which may still turn out that their packets merely came late
_MAY_BE_HOLD = ("no_rtp", "dtx")
_HOLD_SLACK_S = 0.5  # a sender falls silent a little before its re-INVITE is here, and speaks a little after


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch that was lost: silence in the file.

    `start` and `length` are in samples, from the start of the call. `leg`: whose sound it was.
    """

    cause: Cause
    leg: GapLeg
    start: int
    length: int

    @property
    def stop(self) -> int:
        """Just past its last sample."""
        return self.start + self.length


@dataclass(slots=True)
class Total:
    """How many gaps there were, and how many samples in all."""

    gaps: int = 0
    samples: int = 0


class Gaps:
    """The gaps of one recording. `hold` may be called from any thread, everything else belongs to the writer thread.

    Args:
        rate_hz: samples a second of all positions.
        on_input: is told of everything that goes in; the same put into another one, in order, makes the same gaps.
    """

    def __init__(self, rate_hz: int, on_input: Callable[[tuple[str | int, ...]], object] | None = None) -> None:
        self._on_input = on_input
        self._slack = round(_HOLD_SLACK_S * rate_hz)
        self._listed: defaultdict[GapLeg, list[Gap]] = defaultdict(list)
        self._recent: defaultdict[GapLeg, list[Gap]] = defaultdict(list)
        self._totals: defaultdict[tuple[GapLeg, Cause], Total] = defaultdict(Total)
        self._holds: list[tuple[int, int | None]] = []

    def hold(self, position: int, held: bool) -> None:
        """From `position` on the call is on hold, or no longer."""
        is_held = bool(self._holds) and self._holds[-1][1] is None
        if held == is_held:
            return
        if self._on_input is not None:
            self._on_input(("hold", position, held))
        if held:
            self._holds.append((position, None))
        else:
            self._holds[-1] = (self._holds[-1][0], position)

    def add(self, gap: Gap) -> None:
        """Add a gap. One that goes on where the last of its kind ended is one with it."""
        if gap.start < 0:
            gap = replace(gap, start=0, length=gap.stop)
        if gap.length <= 0:
            return
        if self._on_input is not None:
            self._on_input(("gap", gap.leg, gap.cause, gap.start, gap.length))
        recent = self._recent[gap.leg]
        if gap.cause == "late":
            self._explain(recent, gap)
            return
        for part in self._without_hold(gap) if gap.cause in _MAY_BE_HOLD else [gap]:
            for index in range(len(recent) - 1, max(len(recent) - 4, -1), -1):
                last = recent[index]
                if (last.cause, last.stop) == (part.cause, part.start):
                    recent[index] = replace(last, length=last.length + part.length)
                    break
            else:
                recent.append(part)
        while len(recent) > _RECENT:
            self._settle(recent.pop(0))

    def close(self, length: int) -> None:
        """The recording is `length` samples long: nothing is missing behind its end."""
        for recent in self._recent.values():
            for gap in recent:
                clipped = replace(gap, length=min(gap.stop, length) - gap.start)
                if clipped.length > 0:
                    self._settle(clipped)
            recent.clear()

    @property
    def listed(self) -> tuple[Gap, ...]:
        """The first `LISTED` gaps of each leg, in order."""
        return in_order([gap for many in (self._listed, self._recent) for of_leg in many.values() for gap in of_leg])

    @property
    def holds(self) -> list[tuple[int, int | None]]:
        """From where to where the call was on hold; None: it still is."""
        return list(self._holds)

    @property
    def totals(self) -> dict[tuple[GapLeg, Cause], Total]:
        """All gaps, whether they are listed or not. Complete after `close`."""
        return {key: replace(total) for key, total in self._totals.items()}

    def _settle(self, gap: Gap) -> None:
        total = self._totals[gap.leg, gap.cause]
        total.gaps += 1
        total.samples += gap.length
        if len(self._listed[gap.leg]) < LISTED:
            self._listed[gap.leg].append(gap)

    @staticmethod
    def _explain(recent: list[Gap], late: Gap) -> None:
        """Packets were thought lost, or never sent, and have come after all."""
        kept: list[Gap] = []
        for gap in recent:
            if gap.cause == "late" and gap.start <= late.stop and late.start <= gap.stop:
                start, stop = min(gap.start, late.start), max(gap.stop, late.stop)
                late = replace(late, start=start, length=stop - start)
                continue
            if gap.stop <= late.start or late.stop <= gap.start:
                kept.append(gap)
                continue
            kept += [
                replace(gap, start=start, length=stop - start)
                for start, stop in ((gap.start, late.start), (late.stop, gap.stop))
                if start < stop
            ]
        recent[:] = sorted([*kept, late], key=lambda gap: gap.start)

    def _without_hold(self, gap: Gap) -> list[Gap]:
        """The gap in pieces, of which those within a hold say so."""
        pieces, at = [], gap.start
        for begin, end in list(self._holds):
            start = max(at, begin - self._slack)
            stop = gap.stop if end is None else min(gap.stop, end + self._slack)
            if start >= stop:
                continue
            if at < start:
                pieces.append(replace(gap, start=at, length=start - at))
            pieces.append(replace(gap, cause="hold", start=start, length=stop - start))
            at = stop
        if at < gap.stop:
            pieces.append(replace(gap, start=at, length=gap.stop - at))
        return pieces


def with_gaps(totals: dict[tuple[GapLeg, Cause], Total], gaps: list[Gap]) -> dict[tuple[GapLeg, Cause], Total]:
    """The totals with these gaps in them, too."""
    for gap in gaps:
        total = totals.setdefault((gap.leg, gap.cause), Total())
        total.gaps += 1
        total.samples += gap.length
    return totals


def in_order(gaps: list[Gap]) -> tuple[Gap, ...]:
    """The gaps by where they begin."""
    return tuple(sorted(gaps, key=lambda gap: (gap.start, gap.cause, gap.leg)))
