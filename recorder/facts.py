"""What a manifest says of a recording's gaps, redactions, joins and removed tones, from what the recording knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from recorder.library.manifest import GapFacts, GapTotal, JoinFacts, RedactionFacts, RemovedTone
from recorder.media.cuts import Join
from recorder.media.gaps import Gap, GapLeg, Total
from recorder.media.redaction import Span
from recorder.media.source import Cause, LegName

LATER_THAN_ANY = 1 << 40  # where a step ends that is open


class Facts:
    """Says it in both clocks, the file's and the call's.

    Args:
        in_file: where in the file a position of the call stands.
        rate_hz: samples a second of all positions.
    """

    def __init__(self, in_file: Callable[[int], int], rate_hz: int) -> None:
        self._in_file = in_file
        self._rate = rate_hz

    def gaps(self, gaps: Iterable[Gap]) -> tuple[GapFacts, ...]:
        """Of each gap that is not within what was left out of the file."""
        return tuple(
            GapFacts(leg=gap.leg, cause=gap.cause, **placed)
            for gap in gaps
            if (placed := self._placed(gap.start, gap.stop))["samples"]
        )

    def totals(self, totals: Mapping[tuple[GapLeg, Cause], Total]) -> tuple[GapTotal, ...]:
        """Of each leg and cause."""
        return tuple(
            GapTotal(leg=leg, cause=cause, gaps=total.gaps, duration_s=total.samples / self._rate)
            for (leg, cause), total in sorted(totals.items())
        )

    def tones(self, stretches: Iterable[tuple[LegName, int, int]]) -> tuple[RemovedTone, ...]:
        """Of each (leg, start, stop) that is not within what was left out of the file."""
        return tuple(
            RemovedTone(leg=leg, **placed)
            for leg, start, stop in stretches
            if (placed := self._placed(start, stop))["samples"]
        )

    def redactions(self, spans: Sequence[Span]) -> tuple[RedactionFacts, ...]:
        """Of each span; one that is open reaches past any end."""
        return tuple(
            RedactionFacts(
                **self._placed(span.start, LATER_THAN_ANY if span.end is None else span.end),
                step=",".join(step for step in span.steps if step) or None,
                control=",".join(span.controls),
                operators=span.operators,
                resumed=not span.unresumed and span.end is not None,
            )
            for span in spans
        )

    def joins(self, joins: Sequence[Join]) -> tuple[JoinFacts, ...]:
        """Of each join."""
        rate = self._rate
        return tuple(
            JoinFacts(
                sample=join.position,
                start_s=join.position / rate,
                call_s=join.call_position / rate,
                left_out_s=join.left_out / rate,
            )
            for join in joins
        )

    def _placed(self, start: int, stop: int) -> dict[str, Any]:
        """Where a stretch of the call stands."""
        rate, first = self._rate, self._in_file(start)
        length = self._in_file(stop) - first
        return {
            "start_sample": first,
            "samples": length,
            "start_s": first / rate,
            "duration_s": length / rate,
            "call_start_s": start / rate,
            "call_duration_s": (stop - start) / rate,
        }
