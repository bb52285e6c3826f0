"""One leg: a pjsua2 call whose callbacks become the core's events. Owned by the sip thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ParamSpec
from urllib.parse import quote

import pjsua2 as pj
import structlog

from recorder import native
from recorder.calls.dialing import Dialing
from recorder.calls.events import (
    Direction,
    DirectionAsked,
    Event,
    LegAnswered,
    LegConfirmed,
    LegEnded,
    LegMediaActive,
    LegRinging,
    RecordingAsked,
    Side,
)
from recorder.calls.routing import USER_SAFE
from recorder.calls.targets import Contact, place_of
from recorder.sip import translate
from recorder.sip.headers import Headers, is_value, quoted

_log = structlog.get_logger()

Listener = Callable[[Event], None]
P = ParamSpec("P")
Fields = Sequence[tuple[str, str]]
# As pjmedia names them: ENCODING is "we are heard", DECODING "we hear".
_MEDIA_DIRECTIONS = {
    Direction.SENDONLY: pj.PJMEDIA_DIR_ENCODING,
    Direction.RECVONLY: pj.PJMEDIA_DIR_DECODING,
    Direction.INACTIVE: pj.PJMEDIA_DIR_NONE,
}
_EXPIRED = "No session refresh received."  # what pjsip's session timer says when it ends a session


class _Call(pj.Call):  # type: ignore[misc]  # pjsua2 ships no type information
    """pjsua2's part of a leg. It goes by its call's number even when that has become another call's.

    Its destructor takes the number's callbacks away and hangs up (pjproject issue 3856), so that it has to go before
    the number can be given anew: when the stack says that the call is over, while it is still there.
    """

    def __init__(self, account: Any, call_id: int | None, leg: Leg) -> None:
        super().__init__(account, pj.PJSUA_INVALID_ID if call_id is None else call_id)
        self.leg = leg

    def onCallState(self, _prm: Any) -> None:
        """The call is over: that is all that comes this way."""
        guarded(self.leg.on_end)

    def onStreamDestroyed(self, _prm: Any) -> None:
        """Keep the counts of a stream that ends: at a BYE it is gone before anybody is told of the BYE."""
        guarded(self.leg.on_stream_end)


class Leg:
    """One leg of a call. Once it is `gone`, whatever is asked of it has no effect; `ended` says how it ended.

    `sees(fields)` picks what its far end may see of the header fields in an answer to a request that went across.
    """

    def __init__(
        self,
        account: Any,
        side: Side,
        listener: Listener | None,
        remember: Callable[[Leg], None],
        forget: Callable[[Leg], None],
        call_id: int | None = None,
    ) -> None:
        self._call: _Call | None = _Call(account, call_id, self)
        self.side = side
        self.outgoing = call_id is None
        self.listener = listener
        self.sees: Callable[[Fields], Headers] | None = None
        self.call_id = -1 if call_id is None else call_id
        self.sip_call_id: str | None = None
        self.slot = -1
        self.gone = False
        self.ended: LegEnded | None = None
        self._direction = Direction.SENDRECV
        self._recording: bool | None = None
        self._has_said = False  # our last response held headers that the next one must not repeat
        self._said_last: list[tuple[str, str]] = []  # by its far end, as it ended
        self._heard: list[native.StreamStatistics] = []
        self._remember = remember
        self._forget = forget
        if call_id is not None:
            remember(self)

    # What the shell asks of a leg ---------------------------------------------------------------------------------

    def dial(self, dialing: Dialing, home: str, offer_like: Leg, direction: Direction) -> None:
        """Send the INVITE, from our own address `home`. A failure to send becomes LegEnded, as a refusal would.

        It offers what `offer_like`'s far end has offered, and says which way audio is to go.
        """
        prm = _audio_only()
        if direction is not Direction.SENDRECV:
            prm.opt.flag |= pj.PJSUA_CALL_SET_MEDIA_DIR
            prm.opt.mediaDir.append(_MEDIA_DIRECTIONS[direction])
        user = f"{quote(dialing.calling, safe=USER_SAFE)}@" if dialing.calling else ""
        display = f"{quoted(dialing.display)} " if dialing.display else ""
        prm.txOption.localUri = f"{display}<sip:{user}{dialing.host or home}>"
        for name, value in dialing.headers:
            prm.txOption.headers.append(_header(name, value))
        native.offer_like(offer_like.call_id)
        try:
            self._invite(dialing, prm)
        except pj.Error as error:
            self.cannot_dial(dialing.target, error.reason)
            return
        finally:
            native.offer_like(-1)
        if self.gone:
            return
        assert self._call is not None
        self.call_id = int(self._call.getId())
        self._remember(self)
        native.claim_info(self.call_id)

    def _invite(self, dialing: Dialing, prm: Any) -> None:
        assert self._call is not None
        address, place = dialing.address, place_of(dialing.target)
        if address is None or place is None:
            self._send(dialing.target, dialing.to, prm)
            return
        # The stack goes by the URI when it chooses the transport; that of an SRV record has to stand there.
        told = place.transport is not None or address.transport == "udp"
        native.pin(place.host, address.ip, address.port, address.transport)
        try:
            target = dialing.target if told else f"{dialing.target};transport={address.transport}"
            self._send(target, dialing.to, prm)
        finally:
            native.unpin()

    def _send(self, target: str, to: str, prm: Any) -> None:
        if to:
            prm.txOption.targetUri = target
        assert self._call is not None
        self._call.makeCall(to or target, prm)

    def cannot_dial(self, target: str, why: str) -> None:
        """End a leg whose INVITE was never sent."""
        _log.warning("dial_failed", target=target, error=why)
        self._end(0, "Cannot be dialed")

    @property
    def direction(self) -> Direction:
        """What its far end has last asked for."""
        return self._direction

    def read_offer(self) -> None:
        """Take note of what the INVITE that came in asks for, before it is answered."""
        self._direction = Direction(native.asked_direction(self.call_id) or Direction.SENDRECV)

    def take_headers(self) -> list[tuple[str, str]]:
        """What the far end's last message about the call said that is to be passed on; once."""
        if not self.gone:
            return native.take_headers(self.call_id)
        said, self._said_last = self._said_last, []
        return said

    def progress(self, sip_status: int, phrase: str, media: bool, headers: Headers = ()) -> None:
        """Send a provisional response, with SDP (`media`) or without."""
        if self.gone:
            return
        self._say(headers)
        if not native.progress(self.call_id, sip_status, phrase, media, list(headers)):
            # The caller has cancelled meanwhile: DISCONNECTED is on its way and says so.
            _log.debug("progress_failed", status=sip_status)

    def accept(self, headers: Headers = ()) -> None:
        """Send 200 with SDP."""
        if self._call is None:
            return
        self._say(headers)
        if not native.answer(self.call_id, 200, list(headers)):
            # The caller has cancelled meanwhile: DISCONNECTED is on its way and says so.
            _log.debug("answer_failed")

    def agree_with(self, other: Leg) -> None:
        """Have our answer, not sent yet, take the codecs that `other`'s far end has answered."""
        if not self.gone and not other.gone:
            native.answer_like(self.call_id, other.call_id)

    def announce(self, *, recorded: bool) -> None:
        """From now on tell the far end, if it has said that it understands, whether it is recorded (RFC 7866)."""
        if not self.gone:
            native.announce_recording(self.call_id, recorded)

    def hang_up(
        self,
        sip_status: int,
        phrase: str = "",
        retry_after_s: int | None = None,
        contacts: Sequence[Contact] = (),
        headers: Headers = (),
    ) -> None:
        """Reject, cancel or hang up, whichever the leg's state asks for. Harmless when it is over already.

        `contacts` are where a 3xx points to.
        """
        if self._call is None or self.call_id < 0:
            return
        if contacts and native.redirect(self.call_id, sip_status, phrase, [str(contact) for contact in contacts]):
            return
        # In a CANCEL or BYE the stack makes a Reason of the phrase, which is not to stand beside one passed on.
        if self.outgoing and any(name.lower() == "reason" for name, _ in headers):
            phrase = ""
        self._say(headers)
        again = () if retry_after_s is None else (("Retry-After", str(retry_after_s)),)
        if not native.hang_up(self.call_id, sip_status, phrase, [*headers, *again]):
            _log.debug("hang_up_failed", side=self.side.value)

    def abandon(self) -> None:
        """Have no more to do with it: it is cancelled, and hung up should it answer all the same. Nobody is told."""
        self.listener = None
        self.hang_up(487)

    def is_trying(self) -> bool:
        """Whether the INVITE that went out has had any response yet."""
        return not self.gone and native.has_response(self.call_id)

    def reinvite(self, direction: Direction) -> bool:
        """Offer this direction by re-INVITE. False when that cannot be sent now; the endpoint tells its end."""
        return not self.gone and native.reinvite(self.call_id, direction.value)

    def send_digit(self, digit: str, *, relayed: bool) -> None:
        """Send a digit: a telephone event (RFC 4733), or by INFO where the far side takes none.

        `relayed`: events have gone on packet by packet, if they are taken at all.
        """
        if self.gone or (relayed and native.takes_events(self.call_id)):
            return
        if not native.send_digit(self.call_id, digit):
            _log.info("digit_not_passed", side=self.side.value, call_id=self.call_id)

    def statistics(self) -> list[native.StreamStatistics]:
        """The counts of each audio stream the leg has had, in their order; a re-INVITE may begin a new one."""
        running = None if self.gone else native.stream_statistics(self.call_id)
        return [*self._heard, running] if running is not None else list(self._heard)

    def _say(self, headers: Headers) -> None:
        if self._has_said:
            native.drop_headers(self.call_id)
        self._has_said = bool(headers)

    # What pjsua2 tells --------------------------------------------------------------------------------------------

    def on_progress(self, progress: native.CallProgress) -> None:
        """The INVITE session has another state (RFC 3261, section 13), and is not over."""
        self.sip_call_id = self.sip_call_id or translate.readable(progress.sip_call_id)
        if progress.state == pj.PJSIP_INV_STATE_EARLY:
            self.tell(LegRinging(progress.status, _fit(progress.phrase), progress.has_sdp))
        elif progress.state == pj.PJSIP_INV_STATE_CONNECTING:
            self.tell(LegAnswered())
        else:
            self.tell(LegConfirmed())

    def on_end(self) -> None:
        """The INVITE session is over."""
        assert self._call is not None
        # While makeCall runs, its own callbacks come before it has told us the id.
        progress = native.call_progress(self.call_id if self.call_id >= 0 else self._call.getId())
        self.sip_call_id = self.sip_call_id or translate.readable(progress.sip_call_id) or None
        status, phrase = progress.status, _fit(progress.phrase)
        if progress.redirection:
            self._end(status, phrase, contacts=translate.contacts(progress.redirection))
            return
        # Elsewhere the phrase is the far side's: the stack says so with a BYE of ours (RFC 4028, section 10).
        expired = progress.by_own_bye and status == pj.PJSIP_SC_REQUEST_TIMEOUT and phrase == _EXPIRED
        self._end(status, phrase, progress.by_stack, expired=expired)

    def on_media(self) -> None:
        """Media have been negotiated, or are no more."""
        self.slot = native.conference_slot(self.call_id)  # none while it is held both ways
        wanted = native.asked_recording(self.call_id) if self.side is Side.B else None
        if wanted is not None and wanted != self._recording:  # first: what is not to be recorded must not begin to be
            self._recording = wanted
            self.tell(RecordingAsked(self.side, wanted))
        self.tell(LegMediaActive(self.side))
        asked = native.asked_direction(self.call_id)
        if asked is not None and asked != self._direction.value:
            self._direction = Direction(asked)
            self.tell(DirectionAsked(self.side, self._direction))

    def on_stream_end(self) -> None:
        """A stream is about to go."""
        statistics = native.stream_statistics(self.call_id)
        if statistics is not None:
            self._heard.append(statistics)

    def tell(self, event: Event) -> None:
        """Tell whoever listens."""
        if self.listener is not None:
            self.listener(event)

    def _end(
        self,
        sip_status: int,
        phrase: str,
        local: bool = False,
        *,
        expired: bool = False,
        contacts: tuple[Contact, ...] = (),
    ) -> None:
        if self.gone:
            return
        self.gone = True
        self._call = None
        self._said_last = native.take_headers(self.call_id)
        self.ended = LegEnded(self.side, sip_status, phrase, local, expired, contacts)
        self.tell(self.ended)
        self._forget(self)
        self.listener = self.sees = None  # they hold the call, which holds us
        # The stack gives the numbers to other calls; a transfer keeps a leg for longer than that may take.
        self.call_id = self.slot = -1


def _fit(phrase: str) -> str:
    """A reason phrase that may be said to the other side; "", the status' own, where it is no line of UTF-8."""
    return phrase if is_value(phrase) else ""


def connect(one: Leg, other: Leg) -> bool:
    """Let two legs hear each other, unless one is gone.

    Returns whether packets are relayed; otherwise the bridge does it. What the bridge has connected before stays so.
    """
    if one.gone or other.gone:  # its number may be another call's by now
        return False
    relayed = native.join(one.call_id, other.call_id)
    if not relayed and one.slot >= 0 and other.slot >= 0:  # a leg that is held both ways is not in the bridge
        native.connect(one.slot, other.slot)
        native.connect(other.slot, one.slot)
    return relayed


def disconnect(one: Leg, other: Leg) -> None:
    """Take two legs apart in the bridge."""
    if not one.gone and not other.gone:
        native.disconnect(one.slot, other.slot)
        native.disconnect(other.slot, one.slot)


def _audio_only() -> Any:
    prm = pj.CallOpParam(True)
    prm.opt.audioCount = 1
    prm.opt.videoCount = 0
    prm.opt.textCount = 0
    return prm


def _header(name: str, value: str) -> Any:
    header = pj.SipHeader()
    header.hName = name
    header.hValue = value
    return header


def guarded(callback: Callable[P, None], *arguments: P.args, **named: P.kwargs) -> None:
    """Run a callback; nothing may be raised into pjsua2, whose C frames would be skipped by the exception."""
    try:
        callback(*arguments, **named)
    except Exception:  # noqa: BLE001  # nothing may be raised into C
        _log.exception("callback_failed", callback=callback.__name__)
