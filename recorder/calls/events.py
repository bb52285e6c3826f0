"""What can happen to a call. Past tense; the shell translates the wire into these and nothing else reaches the core."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from recorder.calls.targets import Address, Contact, Target

LOOPBACK = "loopback"
"""The trunk of this machine's own calls, which there is while the configuration names none."""


class Side(Enum):
    """The A leg came in from the trunk, the B leg went out to the application."""

    A = "a"
    B = "b"

    __hash__ = object.__hash__  # Enum's own runs in Python, and sides are looked up by dozens a call

    @property
    def other(self) -> Side:
        """The opposite leg."""
        return Side.B if self is Side.A else Side.A


class Timer(Enum):
    """The limits on a call (a target's first sign, the answer, its length), and the pauses before another re-INVITE."""

    SETUP = "setup"
    RING = "ring"
    LENGTH = "length"
    REINVITE_A = "reinvite_a"
    REINVITE_B = "reinvite_b"


class Direction(Enum):
    """Which way audio goes, in SDP's words, as its sender says it: `SENDONLY` is "I speak and will not listen"."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"


@dataclass(frozen=True, slots=True)
class Invite:
    """What the core knows of an INVITE that came in.

    Attributes:
        sip_call_id: the wire's Call-ID.
        source: address the request came from, without its port.
        called, calling: user parts of the Request-URI and of From; "" where there is none.
        calling_uri: the URI of From.
        headers: every header by lower-case name, the values in their order.
        time_ms: epoch milliseconds at which it came in.
        trunk: name of the trunk it came from, which has been let in.
        fields: every header as it came, name and value.
    """

    sip_call_id: str
    source: str
    called: str
    calling: str
    calling_uri: str
    time_ms: int
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    trunk: str = LOOPBACK
    fields: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class CallAdmitted:
    """An INVITE has passed admission; `targets`, at least one, are to be tried in this order.

    `follow_redirects`: a 3xx leads on to its contacts; otherwise it is the caller's to follow. `direction`: which way
    audio is to go by the caller's offer.
    """

    targets: tuple[Target, ...]
    follow_redirects: bool = False
    direction: Direction = Direction.SENDRECV


@dataclass(frozen=True, slots=True)
class TargetLookedUp:
    """The name of a target has been looked up: `addresses` to try in this order, none when it has none."""

    target: Target
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class CallRefused:
    """An INVITE is turned away before anything is spent on it."""

    sip_status: int
    reason: str
    detail: str
    retry_after_s: int | None = None


@dataclass(frozen=True, slots=True)
class LegTrying:
    """The B leg's INVITE has been heard: 100, or more."""


@dataclass(frozen=True, slots=True)
class LegRinging:
    """The B leg sent a provisional response (101 to 199); `media` says whether SDP came with it."""

    sip_status: int
    phrase: str
    media: bool = False


@dataclass(frozen=True, slots=True)
class LegAnswered:
    """The B leg sent 200."""


@dataclass(frozen=True, slots=True)
class LegConfirmed:
    """The A leg sent the ACK for our 200."""


@dataclass(frozen=True, slots=True)
class LegMediaActive:
    """A leg has negotiated media, for the first time or anew; it may be held."""

    side: Side


@dataclass(frozen=True, slots=True)
class DirectionAsked:
    """The far end of a leg has changed which way audio goes, by re-INVITE or UPDATE: a hold, or its end."""

    side: Side
    direction: Direction


@dataclass(frozen=True, slots=True)
class ReinviteEnded:
    """A re-INVITE of ours has its final response; 491 also when it could not be sent."""

    side: Side
    sip_status: int


@dataclass(frozen=True, slots=True)
class LegReplaced:
    """By a transfer another leg has taken the place of one, which is no longer the call's.

    `direction` is what its far end asked for last, `told` what it has been told of the other side.
    """

    side: Side
    direction: Direction = Direction.SENDRECV
    told: Direction = Direction.SENDRECV


@dataclass(frozen=True, slots=True)
class LegPickedUp:
    """While the B leg rang somebody has called to take its place (RFC 3891): theirs is the B leg now, not answered yet.

    The one that rang is no longer the call's. `direction` is what the new far end's offer asks for.
    """

    direction: Direction = Direction.SENDRECV


@dataclass(frozen=True, slots=True)
class LegMoved:
    """By a transfer a leg has gone over to another call."""

    side: Side


@dataclass(frozen=True, slots=True)
class LegEnded:
    """A leg is over: rejected, cancelled, hung up, timed out, or ended by us.

    `sip_status` is the final status of the INVITE, or what ended the dialog (200 for a BYE); 0 if there was none.
    `local`: the far side did not send it; the stack gave up on it (408 after timer B, 503 when it cannot be reached).
    `contacts`: where a 3xx points to, the most wanted first.
    `expired`: no refresh came within the session interval (RFC 4028, section 10).
    """

    side: Side
    sip_status: int
    phrase: str
    local: bool = False
    expired: bool = False
    contacts: tuple[Contact, ...] = ()


@dataclass(frozen=True, slots=True)
class LegClosing:
    """The stack has sent BYE on a leg by itself: its session `expired` (RFC 4028, section 10), or a request failed.

    `LegEnded` follows: 32 s later when its far end is gone without a word. `sip_status` is why.
    """

    side: Side
    sip_status: int
    expired: bool = False


@dataclass(frozen=True, slots=True)
class InfoReceived:
    """A SIP INFO came in on a leg (RFC 6086), or another request that is passed on like one: `method` says which.

    `token` names the request to the shell. `headers` holds (name, value) pairs in the order of the wire. `source` is
    the address and port it came from.
    """

    side: Side
    token: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...]
    method: str = "INFO"
    source: str = ""


@dataclass(frozen=True, slots=True)
class RecordingAsked:
    """The far end of a leg says in SDP, otherwise than before, whether there is to be a recording (RFC 7866)."""

    side: Side
    wanted: bool


@dataclass(frozen=True, slots=True)
class DigitReceived:
    """A telephone event has begun on a leg (RFC 4733): one of 0-9, *, #, A-D."""

    side: Side
    digit: str


@dataclass(frozen=True, slots=True)
class MediaTimedOut:
    """The far end of a leg, which is not on hold, has sent no RTP for as long as is allowed."""

    side: Side


@dataclass(frozen=True, slots=True)
class TimerExpired:
    """A timer that the core asked for has run out."""

    timer: Timer


@dataclass(frozen=True, slots=True)
class HangUpRequested:
    """The call is to end for a reason of our own: an operator, a shutdown, a fault."""

    reason: str


Event = (
    CallAdmitted
    | TargetLookedUp
    | CallRefused
    | LegTrying
    | LegRinging
    | LegAnswered
    | LegConfirmed
    | LegMediaActive
    | DirectionAsked
    | ReinviteEnded
    | LegReplaced
    | LegPickedUp
    | LegMoved
    | LegEnded
    | LegClosing
    | InfoReceived
    | RecordingAsked
    | DigitReceived
    | MediaTimedOut
    | TimerExpired
    | HangUpRequested
)
