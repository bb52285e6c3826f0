"""What a call wants done. Imperative; the shell carries these out on the sip thread, in their order."""

from __future__ import annotations

from dataclasses import dataclass

from recorder.calls.events import Direction, Side, Timer
from recorder.calls.recording_control import Control, ControlRefusedError
from recorder.calls.targets import Contact, Target
from recorder.calls.termination import Termination


@dataclass(frozen=True, slots=True)
class DialLeg:
    """Make the B leg, and send its INVITE to `target`: its offer says which way audio is to go.

    A B leg of before is no longer the call's.
    """

    target: Target
    direction: Direction = Direction.SENDRECV


@dataclass(frozen=True, slots=True)
class LookUpTarget:
    """Look up the name of a target, and tell by `TargetLookedUp`."""

    target: Target


@dataclass(frozen=True, slots=True)
class AbandonLeg:
    """Give up the B leg, whatever becomes of it: CANCEL, or ACK and BYE should it answer yet. Nobody hears of it."""


@dataclass(frozen=True, slots=True)
class ReportTarget:
    """Tell whoever keeps count that a target could not be reached."""

    target: Target


@dataclass(frozen=True, slots=True)
class ProgressLeg:
    """Send a provisional response on the A leg; with `media` it carries our SDP, so that early media can flow."""

    sip_status: int
    phrase: str
    media: bool = False


@dataclass(frozen=True, slots=True)
class AnswerLeg:
    """Send 200 on the A leg."""


@dataclass(frozen=True, slots=True)
class JoinMedia:
    """Connect the audio of both legs, and the taps if the call is recorded."""


@dataclass(frozen=True, slots=True)
class Reinvite:
    """Tell a leg by re-INVITE which way audio goes now. `ReinviteEnded` follows."""

    side: Side
    direction: Direction


@dataclass(frozen=True, slots=True)
class StartRecording:
    """The call is answered: begin its recording, if an account claims it."""


@dataclass(frozen=True, slots=True)
class StopRecording:
    """The call is over: the recording ends at this moment."""


@dataclass(frozen=True, slots=True)
class HangUpLeg:
    """End a leg: a final response, CANCEL or BYE, whichever its state asks for. `contacts` go with a 3xx."""

    side: Side
    sip_status: int
    phrase: str = ""
    retry_after_s: int | None = None
    contacts: tuple[Contact, ...] = ()


@dataclass(frozen=True, slots=True)
class ApplyControl:
    """Carry out a recording control that came on a leg, and answer it once it holds; SDP (no `token`) has no answer."""

    side: Side
    token: int | None
    control: Control
    source: str = ""


@dataclass(frozen=True, slots=True)
class RefuseControl:
    """Answer an INFO that is a recording control and cannot be carried out as it stands."""

    side: Side
    token: int
    error: ControlRefusedError
    source: str = ""


@dataclass(frozen=True, slots=True)
class AnswerInfo:
    """Answer an INFO ourselves."""

    token: int
    sip_status: int
    phrase: str


@dataclass(frozen=True, slots=True)
class ConsiderTransfer:
    """A leg's far end asks by REFER (RFC 3515) that the other one be connected elsewhere."""

    side: Side
    token: int
    headers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ForwardInfo:
    """Send an INFO on to the other leg; its answer goes back to where the INFO came from.

    `headers` are those it came with, as far as they may be told there.
    """

    token: int
    to: Side
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class SendDigit:
    """Send a telephone event on a leg."""

    to: Side
    digit: str


@dataclass(frozen=True, slots=True)
class ReportMediaTimeout:
    """Count and log that a leg's far end sends no RTP; `ends` tells whether the call is ended for it."""

    side: Side
    ends: bool


@dataclass(frozen=True, slots=True)
class StartTimer:
    """Ask for `TimerExpired(timer)` after `delay_s`, in place of the same timer of before."""

    timer: Timer
    delay_s: float


@dataclass(frozen=True, slots=True)
class StopTimers:
    """Ask for no more timers."""


@dataclass(frozen=True, slots=True)
class FinishCall:
    """Account for the call: CDR, metric, log line. Comes once."""

    termination: Termination


@dataclass(frozen=True, slots=True)
class ReleaseCall:
    """Both legs are gone: forget the call. Comes once, last."""


Action = (
    DialLeg
    | LookUpTarget
    | AbandonLeg
    | ReportTarget
    | ProgressLeg
    | AnswerLeg
    | JoinMedia
    | Reinvite
    | StartRecording
    | StopRecording
    | HangUpLeg
    | ApplyControl
    | RefuseControl
    | AnswerInfo
    | ConsiderTransfer
    | ForwardInfo
    | SendDigit
    | ReportMediaTimeout
    | StartTimer
    | StopTimers
    | FinishCall
    | ReleaseCall
)
