"""A transfer: one party of a call gives its place to another. Pure; one table, as `Call`.

The call itself goes on all the while and knows nothing of it: the old party is in it until the new one has answered,
and stays in it when the new one does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import unquote

from recorder.calls.events import Event, LegAnswered, LegConfirmed, LegEnded, LegMediaActive, LegRinging
from recorder.calls.targets import Target, is_worth_another
from recorder.errors import IllegalEventError, InvalidRequestError


@dataclass(frozen=True, slots=True)
class Replaced:
    """The dialog that a Replaces names (RFC 3891): `to_tag` is that of whoever it is for, `from_tag` its far end's."""

    sip_call_id: str
    to_tag: str
    from_tag: str
    early_only: bool = False

    def __str__(self) -> str:
        early = ";early-only" if self.early_only else ""
        return f"{self.sip_call_id};to-tag={self.to_tag};from-tag={self.from_tag}{early}"


@dataclass(frozen=True, slots=True)
class Referral:
    """What a REFER asks (RFC 3515).

    Attributes:
        user: the number to be connected; "" for none.
        replaces: the dialog whose place is to be taken there; None for a blind transfer.
        subscribed: whether its sender wants to hear how it goes (RFC 4488).
        referred_by: the value of Referred-By (RFC 3892), as it came; "" for none.
    """

    user: str
    replaces: Replaced | None
    subscribed: bool
    referred_by: str


_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"\s*(?=<)')
_TARGET = re.compile(
    r"(?:sips?:(?:(?P<user>[^@:;?\s<>\"]*)(?:[;:][^@\s<>\"]*)?@)?[^@?;\s<>\"]+|tel:(?P<number>[^;?\s<>\"]+))"
    r"(?P<parameters>(?:;[^?;\s<>\"]*)*)(?:\?(?P<headers>[^\s<>\"]*))?",
    re.IGNORECASE,
)
_SIP_CALL_ID = re.compile(r"[A-Za-z0-9.!%*_+`'~()<>:\\/\[\]?{}@-]{1,256}")
_TAG = re.compile(r"[A-Za-z0-9.!%*_+`'~-]{1,128}")


LONGEST_REFER_TO = 2048


def referral(headers: Sequence[tuple[str, str]]) -> Referral:
    """Read a REFER.

    Raises:
        InvalidRequestError: it has no Refer-To, or several, or one that is no call to somebody.
    """

    def values(*names: str) -> list[str]:
        return [value for name, value in headers if name.lower() in names]

    wanted = values("refer-to", "r")
    if len(wanted) != 1 or len(wanted[0]) > LONGEST_REFER_TO:
        raise InvalidRequestError("Refer-To must be there once, and not be overlong")
    before, opened, rest = _QUOTED.sub("", wanted[0].strip(), count=1).partition("<")
    inside, closed, _ = rest.partition(">")
    uri = _TARGET.fullmatch(inside.strip() if opened else wanted[0].partition(";")[0].strip())
    if uri is None or '"' in before or bool(opened) != bool(closed):
        raise InvalidRequestError("Refer-To is no SIP or tel URI")
    method = re.search(r";method=([^;]*)", uri["parameters"], re.IGNORECASE)
    if method is not None and method[1].upper() != "INVITE":
        raise InvalidRequestError("Only calls can be referred")
    user = unquote(uri["user"] or uri["number"] or "")
    if not user.isprintable():
        raise InvalidRequestError("Refer-To has a user that cannot be dialed")
    asked = [
        unquote(value)
        for name, _, value in (part.partition("=") for part in (uri["headers"] or "").split("&"))
        if name.lower() == "replaces"
    ]
    subscribed = not any(value.strip().lower() == "false" for value in values("refer-sub"))
    by = values("referred-by", "b")
    return Referral(user, replaced(asked), subscribed, by[0] if len(by) == 1 else "")


def replaced(values: Sequence[str]) -> Replaced | None:
    """Read the values of Replaces (RFC 3891); None when there is none.

    Raises:
        InvalidRequestError: there are several, or it cannot be read.
    """
    if not values:
        return None
    sip_call_id, *parts = [part.strip() for part in values[0].split(";")]
    parameters = {name.strip().lower(): value.strip() for name, _, value in (part.partition("=") for part in parts)}
    tags = parameters.get("to-tag", ""), parameters.get("from-tag", "")
    if len(values) > 1 or not _SIP_CALL_ID.fullmatch(sip_call_id) or not all(_TAG.fullmatch(tag) for tag in tags):
        raise InvalidRequestError("Replaces cannot be read")
    return Replaced(sip_call_id, *tags, early_only="early-only" in parameters)


# Events of its own ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OldLegEnded:
    """The party that is to be replaced has left before the new one was there, as most do after a blind transfer."""


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The call is over, for another reason."""


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The new party took too long."""


# What it wants done ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DialParty:
    """Send an INVITE to `target`, in place of any target before it."""

    target: Target


@dataclass(frozen=True, slots=True)
class AnswerParty:
    """Answer the INVITE of the new party."""


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the old party how it goes (RFC 3515, section 2.4.4); `final`: and that nothing more will come."""

    sip_status: int
    phrase: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class TakePlace:
    """The new party is there: it takes the old one's place, which is hung up."""


@dataclass(frozen=True, slots=True)
class DropParty:
    """Give the new party up."""

    sip_status: int


class Heard(Enum):
    """What the party that stays is given to hear while it waits for the new one."""

    NOTHING = "nothing"  # of ours: what the old party says or plays, if it is there
    RINGBACK = "ringback"
    EARLY_MEDIA = "early_media"


@dataclass(frozen=True, slots=True)
class LetHear:
    """Have the party that stays hear this from now on."""

    heard: Heard


@dataclass(frozen=True, slots=True)
class Conclude:
    """It is over: `completed`, `failed`, or `abandoned` because the call ended. Comes once, last.

    `alone`: the old party has left, nobody took its place, and so the call has ended.
    """

    result: str
    sip_status: int
    alone: bool = False


Action = DialParty | AnswerParty | Report | TakePlace | DropParty | LetHear | Conclude
Actions = list[Action]


class State(Enum):
    """Where a transfer is."""

    NEW = "new"
    TRYING = "trying"
    ANSWERED = "answered"  # its media is not there yet
    DONE = "done"


class Transfer:
    """One party that is on its way into a call.

    Args:
        targets: where it is to be dialed, in order; () when it has called by itself.
        held: the old party has put the one that stays on hold, so that they do not talk meanwhile.
    """

    def __init__(self, targets: Sequence[Target], *, held: bool = False) -> None:
        self.state = State.NEW
        self._targets = list(targets)
        self._dialed = bool(targets)
        self._media = False
        self._alone = False
        self._said = 0
        self._waits = held
        self._rings = False
        self._heard = Heard.NOTHING

    def begin(self) -> Actions:
        """Set out."""
        self.state = State.TRYING
        return [Report(100, "Trying"), self._next()] if self._dialed else [AnswerParty()]

    def handle(self, event: Event | OldLegEnded | CallEnded | TimedOut) -> Actions:
        """Apply one event of the new party's leg, or of its own; return what is to be done about it.

        Raises:
            IllegalEventError: the event has no place in the present state. Nothing has changed.
        """
        transition = _TABLE.get((self.state, type(event)))
        if transition is None:
            raise IllegalEventError(f"{type(event).__name__} is not allowed while a transfer is {self.state.value}")
        return transition(self, event)

    def _next(self) -> Action:
        self._media = False
        return DialParty(self._targets.pop(0))

    def _ring(self, event: LegRinging) -> Actions:
        # RFC 3960, section 3.2: 180 has somebody hear it ring, unless there is early media. 183 alone says nothing.
        self._rings |= event.sip_status == 180 and not event.media
        sound = self._let_hear()
        if event.sip_status == self._said:
            return sound
        self._said = event.sip_status
        return [Report(event.sip_status, event.phrase), *sound]

    def _let_hear(self) -> Actions:
        if not self._waits or not self._dialed:
            return []
        heard = Heard.EARLY_MEDIA if self._media else Heard.RINGBACK if self._rings else Heard.NOTHING
        if heard is self._heard:
            return []
        self._heard = heard
        return [LetHear(heard)]

    def _answer(self, _event: LegAnswered | LegConfirmed) -> Actions:
        self.state = State.ANSWERED
        return self._arrive() if self._media else []

    def _hear(self, _event: LegMediaActive) -> Actions:
        self._media = True
        return self._arrive() if self.state is State.ANSWERED else self._let_hear()

    def _arrive(self) -> Actions:
        self.state = State.DONE
        return [Report(200, "OK", final=True), TakePlace(), Conclude("completed", 200)]

    def _lose(self, event: LegEnded) -> Actions:
        if self._targets and self.state is State.TRYING and is_worth_another(event.sip_status):
            following = self._next()
            return [*self._let_hear(), following]
        return self._fail(event.sip_status if event.sip_status >= 300 else 503, event.phrase)

    def _time_out(self, _event: TimedOut) -> Actions:
        return [DropParty(408), *self._fail(408, "Request Timeout")]

    def _fail(self, sip_status: int, phrase: str) -> Actions:
        self.state = State.DONE
        back: Actions = [LetHear(Heard.NOTHING)] if self._heard is not Heard.NOTHING else []
        return [Report(sip_status, phrase, final=True), *back, Conclude("failed", sip_status, self._alone)]

    def _leave(self, _event: OldLegEnded) -> Actions:
        self._alone = self._waits = True
        return self._let_hear()

    def _abandon(self, _event: CallEnded) -> Actions:
        self.state = State.DONE
        return [DropParty(487), Conclude("abandoned", 487, self._alone)]

    def _ignore(self, _event: object) -> Actions:
        return []


_RUNNING = (State.TRYING, State.ANSWERED)
_Transition = Callable[[Transfer, Any], Actions]

# fmt: off
_TABLE: dict[tuple[State, type], _Transition] = {
    (State.TRYING, LegRinging): Transfer._ring,
    (State.TRYING, LegAnswered): Transfer._answer,
    (State.TRYING, LegConfirmed): Transfer._answer,
    **{(state, LegMediaActive): Transfer._hear for state in _RUNNING},
    **{(state, LegEnded): Transfer._lose for state in _RUNNING},
    **{(state, OldLegEnded): Transfer._leave for state in _RUNNING},
    **{(state, CallEnded): Transfer._abandon for state in _RUNNING},
    **{(state, TimedOut): Transfer._time_out for state in _RUNNING},
    **{(State.DONE, kind): Transfer._ignore for kind in
       (LegRinging, LegAnswered, LegConfirmed, LegMediaActive, LegEnded, OldLegEnded, CallEnded, TimedOut)},
}
# fmt: on
