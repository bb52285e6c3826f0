"""Which stretches of a recording must not be heard: marked by the sip thread, silenced by the writer thread.

What stands in their place is the account's choice: silence (mute), nothing at all (pause) or a quiet tone (tone).

It fails closed. Each step is silenced from its own begin to its own end, so that sound returns only when all steps are
over. A step ends only when it is named: an end without a step ends the step that was begun without one, nothing else.
The application cannot end what an operator began, nor an operator what the application began. A step that nobody ends
is silent to the end of the recording.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Literal

from recorder.media.source import Samples

Control = Literal["application", "operator"]
Mode = Literal["mute", "pause", "tone"]


@dataclass(frozen=True, slots=True)
class Redaction:
    """One step that was silenced. Positions are in samples of the media clock.

    `began` and `ended` are when it was asked for; `start` and `end` are what is silent, guards included. Both `ended`
    and `end` are None while it is open. `unresumed`: nobody ended it, the recording's end did. `who`: the operator's
    name.
    """

    step: str
    control: Control
    began: int
    start: int
    ended: int | None = None
    end: int | None = None
    unresumed: bool = False
    who: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """One silent stretch, [start, end) in samples: the union of steps that overlap or touch. `end` None: still open."""

    start: int
    end: int | None
    steps: tuple[str, ...]
    controls: tuple[Control, ...]
    unresumed: bool = False
    operators: tuple[str, ...] = ()


class Redactions:
    """The redactions of one recording. Every method may be called from any thread.

    Args:
        guard_before_samples: how far a redaction reaches back from where it was asked for.
        guard_after_samples: how far it reaches past its end.
    """

    def __init__(self, guard_before_samples: int = 0, guard_after_samples: int = 0) -> None:
        self._guard_before = guard_before_samples
        self._guard_after = guard_after_samples
        self._lock = threading.Lock()
        self._entries: list[Redaction] = []
        self._open: dict[tuple[Control, str], int] = {}  # -> index into _entries
        self._settled = 0  # entries before this index are over at position _settled_at
        self._settled_at = 0
        self._applied_to: int | None = None
        self._escaped: list[tuple[int, int]] = []  # (index into _entries, what was applied when it began)
        self._closed = False

    @property
    def active(self) -> bool:
        """Whether a step is open now."""
        return bool(self._open)

    def begin(self, position: int, step: str, control: Control, who: str = "") -> bool:
        """Silence from `position`, less the guard, until the step ends.

        Returns:
            Whether this began a redaction: not when the step is open already, nor after the recording's end.
        """
        with self._lock:
            if self._closed or (control, step) in self._open:
                return False
            start = position - self._guard_before
            index = len(self._entries)
            if self._applied_to is not None and not self._is_silent(start, self._applied_to):
                self._escaped.append((index, self._applied_to))
            self._open[control, step] = index
            self._entries.append(Redaction(step, control, position, start, who=who))
            return True

    def end(self, position: int, step: str = "", control: Control = "application") -> bool:
        """End the step at `position`, plus the guard.

        The application ends its own steps, and operators end those of operators.

        Returns:
            Whether a step ended. False: it is not open (to this `control`), and whatever is silent stays silent.
        """
        with self._lock:
            index = self._open.pop((control, step), None)
            if index is None:
                return False
            self._finish(index, position, guard=self._guard_after, unresumed=False)
            return True

    def close(self, position: int) -> int:
        """The recording ends at `position`: what is open ends there, marked unresumed. Idempotent.

        Returns:
            How many redactions nobody ended.
        """
        with self._lock:
            self._closed = True
            unresumed = len(self._open)
            for index in self._open.values():
                self._finish(index, position, guard=0, unresumed=True)
            self._open.clear()
            return unresumed

    def apply(self, position: int, *channels: Samples) -> list[tuple[int, int]]:
        """Zero what is redacted, in place.

        Args:
            position: of the first sample of each of `channels`, which are writable and equally long.

        Returns:
            [start, stop) of each stretch that was zeroed, as positions, in order, none touching another.
        """
        with self._lock:
            stop = position + len(channels[0])
            if self._applied_to is None or stop > self._applied_to:
                self._applied_to = stop
            stretches = [
                (max(entry.start, position), stop if entry.end is None else min(entry.end, stop))
                for entry in self._entries[self._first_unsettled(position) :]
                if entry.start < stop and (entry.end is None or entry.end > position)
            ]
        silent = _united(stretches)
        for start, end in silent:
            for samples in channels:
                samples[start - position : end - position] = 0
        return silent

    def take_escaped(self) -> list[tuple[int, int]]:
        """[start, stop) of stretches that had been applied, and perhaps written, when a redaction reached back to them.

        Empty as long as the writer holds back more than the guard. Who wrote them must erase them.
        """
        if not self._escaped:
            return []
        with self._lock:
            marks, self._escaped = self._escaped, []
            stretches = []
            for index, applied_to in marks:
                entry = self._entries[index]
                stretches.append((entry.start, applied_to if entry.end is None else min(applied_to, entry.end)))
            return stretches

    def entries(self) -> tuple[Redaction, ...]:
        """Every redaction, in the order in which they were asked for."""
        with self._lock:
            return tuple(self._entries)

    def spans(self) -> list[Span]:
        """The silent stretches in order, none touching another, on the media clock."""
        merged: list[Span] = []
        for entry in sorted(self.entries(), key=lambda entry: entry.start):
            last = merged[-1] if merged else None
            who = (entry.who,) if entry.who else ()
            if last is None or (last.end is not None and last.end < entry.start):
                merged.append(Span(entry.start, entry.end, (entry.step,), (entry.control,), entry.unresumed, who))
                continue
            merged[-1] = Span(
                last.start,
                None if last.end is None or entry.end is None else max(last.end, entry.end),
                last.steps if entry.step in last.steps else (*last.steps, entry.step),
                last.controls if entry.control in last.controls else (*last.controls, entry.control),
                last.unresumed or entry.unresumed,
                last.operators if entry.who in last.operators else (*last.operators, *who),
            )
        return merged

    def _is_silent(self, start: int, stop: int) -> bool:
        """Tell whether [start, stop) is empty or redacted already."""
        for entry in sorted(self._entries, key=lambda entry: entry.start) if start < stop else ():
            if entry.start <= start:
                start = stop if entry.end is None else max(start, entry.end)
        return start >= stop

    def _finish(self, index: int, position: int, *, guard: int, unresumed: bool) -> None:
        entry = self._entries[index]
        ended = max(position, entry.began)
        self._entries[index] = replace(entry, ended=ended, end=ended + guard, unresumed=unresumed)

    def _first_unsettled(self, position: int) -> int:
        """Skip the entries that are over. Blocks come in order; one that goes back is looked at from the start."""
        index = self._settled if position >= self._settled_at else 0
        while index < len(self._entries):
            end = self._entries[index].end
            if end is None or end > position:
                break
            index += 1
        self._settled, self._settled_at = index, position
        return index


def _united(stretches: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The union of stretches, in order."""
    united: list[tuple[int, int]] = []
    for start, stop in sorted(stretches):
        if start >= stop:
            continue
        if united and start <= united[-1][1]:
            united[-1] = (united[-1][0], max(united[-1][1], stop))
        else:
            united.append((start, stop))
    return united
