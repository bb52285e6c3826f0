"""What goes into the journal of a recording: line by line what is new, so that a dead process has said what it knew.

A redaction or a loss is in the line before any silence that it explains is in the file. What else happens, and may be
frequent, waits for company up to a second.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from recorder.facts import Facts
from recorder.library.manifest import Legs
from recorder.media.cuts import Join
from recorder.media.recording import Happened, Recording
from recorder.media.redaction import Mode, Redaction, Span


class Diary:
    """One recording's. `tell` belongs to the sip thread, `line` to the writer thread."""

    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self._number = 0
        self._call: tuple[Mapping[str, Any], Legs] | None = None
        self._told: tuple[Mapping[str, Any], Legs] | None = None
        self._entries: tuple[Redaction, ...] = ()
        self._joins: tuple[Join, ...] = ()
        self._spans: list[Span] = []
        self._settled = 0  # of these so many have been said for good
        self._waiting: list[Happened] = []
        self._lost_to = -1
        self._said_at = 0

    def tell(self, cdr: Mapping[str, Any], legs: Legs) -> None:
        """What there is to say of the call from now on: its detail record, should it end now, and who is there."""
        self._call = cdr, legs

    def line(self, recording: Recording, whole: bool = False) -> str | None:
        """What is new since the last line, None for nothing; `whole`: all there is to say, the old ones are lost."""
        content: dict[str, Any] = {}
        if whole:
            self._entries, self._joins, self._spans, self._settled, self._said_at = (), (), [], 0, 0
            content["whole"] = True
            self._call = self._call or self._told
        urgent = self._take_up(recording, whole) or whole or recording.finished
        self._add_redactions(recording, content)
        if (call := self._call) is not None:
            self._call, self._told = None, call
            content["cdr"], content["legs"] = call[0], call[1].model_dump()
        now = recording.samples
        due = urgent or content or now >= self._said_at + recording.clock_rate_hz
        if self._waiting and due:
            content["happened"], self._waiting = self._waiting, []
            self._said_at = now
        if not content:
            return None
        content["number"] = self._number
        self._number += 1
        return json.dumps(content, separators=(",", ":"), default=str)

    def _take_up(self, recording: Recording, whole: bool) -> bool:
        """Take up what has happened. Returns whether a loss has begun."""
        waiting, begun = self._waiting, False
        happened = recording.happened
        if whole:
            waiting.clear()
            happened.clear()
            happened.extend(recording.history())
        while happened:
            one = happened.popleft()
            if one[0] == "lost":
                _, cause, start, length = one
                goes_on, self._lost_to = start == self._lost_to, start + length
                if goes_on and waiting and waiting[-1][:2] == ("lost", cause):
                    waiting[-1] = ("lost", cause, waiting[-1][2], waiting[-1][3] + length)
                    continue
                begun = begun or not goes_on
            begun = begun or one[0] == "gone"
            waiting.append(one)
        return begun

    def _add_redactions(self, recording: Recording, content: dict[str, Any]) -> None:
        """Say of the redactions and the joins those that are new or have changed."""
        entries, joins = recording.redactions.entries(), recording.joins
        if entries == self._entries and joins == self._joins:
            return
        spans = recording.spans()
        facts = Facts(recording.in_file, recording.clock_rate_hz)
        first = min(_alike(spans, self._spans), self._settled)
        content["redaction_mode"], content["redactions_from"] = self._mode, first
        content["redactions"] = [fact.model_dump() for fact in facts.redactions(spans[first:])]
        if joins != self._joins:
            first = _alike(joins, self._joins)
            content["joins_from"] = first
            content["joins"] = [fact.model_dump() for fact in facts.joins(joins[first:])]
        self._entries, self._joins, self._spans = entries, joins, spans
        # Where one ends in the file is known once the file has got there.
        self._settled = sum(span.end is not None and span.end <= recording.samples for span in spans)


def _alike(new: Any, old: Any) -> int:
    """How many from the first on are the same."""
    for number, (one, other) in enumerate(zip(new, old, strict=False)):
        if one != other:
            return number
    return min(len(new), len(old))
