"""Control of the recording: what may be asked, who may ask, and which sensitive steps of a call are open.

The application and the operators each have steps of their own, told apart by name; nobody ends another's. The recording
is silent while any step is open. What is refused changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from recorder.calls.events import Side
from recorder.errors import ConflictError

MOST_STEPS = 64
"""Steps of one call that may be open at a time, and that are known to be over."""
SDP_STEP = "a=record"
"""The step that SDP begins and ends (RFC 7866); no request can name it."""

By = Literal["application", "operator"]


class Verb(Enum):
    """What a control asks for.

    `START` is an `UNMUTE` in words that want a recording where there is none: that is refused where none can be.
    """

    MUTE = "mute"
    UNMUTE = "unmute"
    START = "start"


@dataclass(frozen=True, slots=True)
class Control:
    """A recording control. `step` names the sensitive step, "" the one without a name; `shape` is how it was said."""

    verb: Verb
    step: str = ""
    shape: str = ""


@dataclass(frozen=True, slots=True)
class Operator:
    """Who asks by HTTP: the name of the token, the address, and what was given as the reason."""

    name: str
    source: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class OpenStep:
    """A sensitive step that is not over. `who`: the operator's name; "" for the application."""

    by: By
    name: str
    who: str = ""


class ControlRefusedError(ConflictError):
    """A control that is not carried out. `reason` is the refusal in a word, for metrics and the audit."""

    title = "Control refused"

    def __init__(self, reason: str, sip_status: int, text: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(text)
        self.reason = reason
        self.sip_status = sip_status
        self.headers = headers


class Effect(Enum):
    """What a control has done."""

    BEGUN = "begun"
    ENDED = "ended"
    UNCHANGED = "unchanged"


def controller_of(side: Side) -> By:
    """Who speaks on a side.

    Raises:
        ControlRefusedError: the caller, who may not control the recording.
    """
    if side is not Side.B:
        raise ControlRefusedError("caller_side", 403, "Only the application may control the recording")
    return "application"


class Steps:
    """The sensitive steps of one call."""

    def __init__(self) -> None:
        self._open: dict[tuple[By, str], OpenStep] = {}
        self._over: dict[tuple[By, str], None] = {}

    @property
    def muted(self) -> bool:
        """Whether any step is open."""
        return bool(self._open)

    @property
    def open(self) -> tuple[OpenStep, ...]:
        """The steps that are open, in the order in which they began."""
        return tuple(self._open.values())

    def apply(self, by: By, control: Control, who: str = "", *, enabled: bool) -> tuple[Effect, OpenStep]:
        """Carry out a control; the same one again changes nothing. `enabled`: the call is recorded, or will be.

        Raises:
            ControlRefusedError: it cannot be carried out. Nothing has changed.
        """
        step = OpenStep(by, control.step, who)
        key = (by, control.step)
        if control.verb is Verb.MUTE:
            return self._begin(key, step), step
        if key in self._open:
            self._remember(key)
            return Effect.ENDED, self._open.pop(key)
        if control.verb is Verb.START and not enabled:
            raise ControlRefusedError("not_enabled", 403, "This call is not recorded")
        others = any(one.by == by for one in self._open.values())
        if by == "operator" or (others and key not in self._over):
            raise ControlRefusedError("unknown_step", 481, "No such step is muted")
        return Effect.UNCHANGED, step

    def _begin(self, key: tuple[By, str], step: OpenStep) -> Effect:
        if key in self._open:
            return Effect.UNCHANGED
        if len(self._open) >= MOST_STEPS and step.name != SDP_STEP:  # which nobody can be told of
            raise ControlRefusedError("too_many_steps", 403, f"{MOST_STEPS} steps are muted already")
        self._open[key] = step
        self._over.pop(key, None)
        return Effect.BEGUN

    def _remember(self, key: tuple[By, str]) -> None:
        self._over[key] = None
        if len(self._over) > MOST_STEPS:
            del self._over[next(iter(self._over))]
