"""Types of the extension module. Written by hand; tests/native/test_stub.py holds it against the module.

Threads: `[sip]` is the thread that runs pjsua2, `[writer]` the one writer thread, `[any]` any thread.
A `[sip]` function raises RuntimeError when pjsua is not up, on a thread that pjlib does not know, and when pjproject
refuses, with pjproject's own text.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

RtpCause = Literal["loss", "late", "event", "dtx", "ring_full", "no_rtp", "never_started"]

class RtpTap:
    """What one leg says, taken from its RTP packets below the jitter buffer: PCMU, PCMA, GSM, G.722, G.729, Opus.

    A packet's place on the timeline is its RTP timestamp (RFC 3550): jitter, bursts and stalls leave no trace. What is
    lost, or was never sent, is zeros of the right length. Packets are decoded when they are read. Whatever the codec,
    samples and positions are those of `media_clock(rate_hz)`.
    """

    def __init__(
        self, name: str, rate_hz: int, capacity_samples: int, hold_samples: int, _now: int | None = None
    ) -> None:
        """[any] The timeline begins now; `rate_hz` is 8000 or 16000.

        A packet may come `hold_samples` late; so long nothing can be read.

        `_now` is for tests: the clock stands there until `_set_now`.
        """

    @property
    def name(self) -> str: ...
    def attach(self, call_id: int) -> bool:
        """[sip] Listen to what the far end of this call sends. False when the call has no media to listen to.

        Again when other codecs have been agreed on.
        """

    def detach(self) -> None:
        """[any] Keep nothing that comes later; what has come can be read without the hold. Idempotent."""

    @property
    def origin(self) -> int:
        """[any] Position of the first sample."""

    @property
    def position(self) -> int:
        """[any] Position just past the last sample that can be read."""

    @property
    def gated(self) -> bool:
        """[any] Whether what comes in now is turned into zeros."""

    @property
    def dropped_samples(self) -> int:
        """[any] Samples lost because nobody had read for as long as the ring is."""

    @property
    def late_samples(self) -> int:
        """[any] Samples that came for a position that had been read already."""

    @property
    def packets(self) -> int:
        """[any] RTP packets that have come in."""

    @property
    def lost(self) -> int:
        """[any] Packets that are missing by their sequence numbers, since `start`; one that came twice hides none."""

    def read(self, max_samples: int = 65536) -> tuple[int, npt.NDArray[np.int16]]:
        """[writer] The next samples and the position of the first. Contiguous with the read before, always."""

    def take_gaps(self, last: bool = False) -> list[tuple[RtpCause, int, int]]:
        """[writer] Stretches without sound that have ended or been explained since the last call: cause, start, length.

        `last`: nothing is read any more, so that the stretch that has not ended ends here. One of cause `late` takes
        the place of what was said of the same stretch before.
        """

    def wait(self) -> None:
        """[sip] Keep nothing until `start`, and take no room meanwhile. Before the first packet."""

    def start(self, position: int) -> None:
        """[sip] The timeline begins at this position, which is now. Only after `wait`; nothing may be read before."""

    def take_events(self) -> list[tuple[int, int]]:
        """[writer] Where telephone events were since the last call: start position and length.

        One that goes on comes again, longer. When 64 wait here the newest grows over those that come after it.
        """

    def close_gate(self) -> int:
        """[any] Shut the gate at once; returns the position from which on every sample reads as zero. Idempotent."""

    def open_gate(self, after_samples: int = 0) -> int:
        """[any] Open the gate `after_samples` from now; returns the position of it."""

    def _put(self, packet: bytes, codec: str = "") -> None:
        """Tests only: a packet has come in now. `codec` names what its payload type stands for, if it is dynamic."""

    def _set_now(self, now: int) -> None:
        """Tests only: move the clock."""

class CallProgress:
    """Where a call's INVITE session stands."""

    @property
    def state(self) -> int:
        """pjsua2's PJSIP_INV_STATE_…"""

    @property
    def status(self) -> int:
        """SIP status of the last response, or of what ended the call; 0 for none."""

    @property
    def phrase(self) -> str: ...
    @property
    def sip_call_id(self) -> str:
        """Its Call-ID; "" when the session is gone."""

    @property
    def has_sdp(self) -> bool:
        """Whether the message that made the change holds a session description.

        This and the next three are told within a call's callback only.
        """

    @property
    def by_stack(self) -> bool:
        """Whether no message made the change, but a timer or a transport that failed."""

    @property
    def by_own_bye(self) -> bool:
        """Whether it is a BYE that we sent."""

    @property
    def redirection(self) -> str:
        """The whole 3xx to an INVITE of ours that ended the call, as it came; "" for none."""

class StreamStatistics:
    """The audio stream of one call, as pjmedia and RTCP count it. `rx` is what the far end sent us."""

    @property
    def codec(self) -> str:
        """Encoding name of RFC 3551, such as "PCMU"."""

    @property
    def clock_rate_hz(self) -> int: ...
    @property
    def payload_type(self) -> int: ...
    @property
    def rx_packets(self) -> int: ...
    @property
    def rx_bytes(self) -> int: ...
    @property
    def rx_lost(self) -> int: ...
    @property
    def rx_discarded(self) -> int: ...
    @property
    def rx_reordered(self) -> int: ...
    @property
    def rx_duplicated(self) -> int: ...
    @property
    def tx_packets(self) -> int: ...
    @property
    def tx_bytes(self) -> int: ...
    @property
    def jitter_ms(self) -> float:
        """Mean interarrival jitter of what we receive; 0 before the first estimate."""

    @property
    def rtt_ms(self) -> float:
        """Mean round trip by RTCP; 0 before the first report."""

    @property
    def remote_rtp_address(self) -> str:
        """Where packets come from, once some have; the SDP's address before. `1.2.3.4:5000`, `[::1]:5000` or ""."""

    @property
    def telephone_event_pt(self) -> int:
        """Payload type of incoming RFC 4733 digits, -1 when not negotiated."""

class InfoRequest:
    """An INFO, or another request to pass on, that came in within a dialog.

    Bytes that are not UTF-8 come as lone surrogates.
    """

    @property
    def call_id(self) -> int:
        """pjsua's number of the call it came in on."""

    @property
    def token(self) -> int:
        """What to answer or forward it by; never used twice in a process."""

    @property
    def method(self) -> str:
        """INFO, or any other method that the stack has no use for."""

    @property
    def source(self) -> str:
        """`address:port` that it came from."""

    @property
    def content_type(self) -> str:
        """With its parameters, as sent; "" when there is none."""

    @property
    def body(self) -> bytes:
        """The bytes on the wire, as many as Content-Length says, or as came if it says more or is missing."""

    @property
    def headers(self) -> list[tuple[str, str]]:
        """All of them in order, name and value as sent, folded lines joined by one space."""

def install_wake() -> None:
    """[sip] From now on `wake` ends a wait for the stack's events. After libInit."""

def uninstall_wake() -> None:
    """[sip] Undo `install_wake`, before libDestroy. Idempotent."""

def wake() -> None:
    """[any] End the sip thread's wait for events, or its next one. Never blocks."""

def omit_unheard_callbacks() -> None:
    """[sip] Have pjsua no longer bring to pjsua2 the many events that no Python method waits for. After libInit."""

def call_progress(call_id: int) -> CallProgress:
    """[sip] What a state callback asks for: a small part of `getInfo`, at a small part of its cost."""

def install_progress(on_progress: Callable[[int, CallProgress], object], on_media: Callable[[int], object]) -> None:
    """[sip] Have them called with a call's number instead of onCallState and onCallMediaState. After libInit.

    `on_progress` hears of a callee's provisional responses and answer, and of a caller's ACK; `on_media` of every
    offer that has been answered. A call's end comes by onCallState as ever: pjsua2 lets go of its object there.
    """

def uninstall_progress() -> None:
    """[sip] Tell nobody any more, and drop both. Before `libDestroy`; idempotent."""

def answer(call_id: int, code: int, headers: list[tuple[str, str]]) -> bool:
    """[sip] Answer with audio alone. False when the call is no longer there to be answered."""

def hang_up(call_id: int, code: int, phrase: str, headers: list[tuple[str, str]]) -> bool:
    """[sip] Refuse, cancel or hang up, whichever the call's state asks for. False when it is over already.

    Without a phrase ("") it is the code's own.
    """

class GateTrunk:
    """Who a trunk is: all that is given must hold. It shows none of its secrets."""

    def __init__(
        self,
        name: str,
        sources: list[str],
        certificates: list[str],
        username: str,
        password: str,
        realm: str,
        algorithms: list[str],
    ) -> None:
        """[any] Networks, names in the peer's certificate, and credentials ("MD5", "SHA-256"); each empty for any.

        Raises ValueError for what is no network, and for an algorithm that is not there.
        """

class RefusedInvite:
    """An INVITE of a trunk that was answered with an error before it could become a call."""

    @property
    def message(self) -> str: ...
    @property
    def source(self) -> str:
        """`address:port`."""

    @property
    def trunk(self) -> str: ...
    @property
    def status(self) -> int: ...
    @property
    def phrase(self) -> str: ...

class Stranger:
    """Requests that were turned away, of one source, since it was told of the last time."""

    @property
    def source(self) -> str:
        """The address; empty for all that the table had no room for."""

    @property
    def reason(self) -> str:
        """Of the first of them: source, certificate, credentials or malformed; "many" without a source."""

    @property
    def method(self) -> str: ...
    @property
    def user_agent(self) -> str: ...
    @property
    def requests(self) -> int: ...

def install_gate(trunks: list[GateTrunk], answer_strangers: bool) -> None:
    """[sip] Let requests out of dialogs in from these trunks alone; others are answered 403, or not at all.

    Once, after `Endpoint.libInit`. It takes the place of pjsua2's `onRejectedIncomingCall`.
    """

def drain_gate(retry_after_s: int) -> None:
    """[sip] From now on answer OPTIONS with 503 and Retry-After."""

def trunk_of_invite() -> str:
    """[sip] In `onIncomingCall`: the trunk that the INVITE came from. Once it was asked, the INVITE counts as taken."""

def assign_account(trunk: str, account_id: int) -> None:
    """[sip] Have pjsua take this trunk's calls by this account, whatever address they come from."""

def take_refused_invites() -> list[RefusedInvite]:
    """[sip] Those since the last call, at most 256."""

def take_strangers() -> list[Stranger]:
    """[sip] Whom to tell of now: each source once a minute at most, 64 of them, and the rest in one entry."""

def gate_counts() -> dict[str, int]:
    """[sip] Since the start: requests turned away by reason (see `Stranger.reason`), and `challenges` sent."""

def conference_slot(call_id: int) -> int:
    """[sip] The bridge slot of a call's audio, -1 when it has none."""

def connect(source_slot: int, sink_slot: int) -> None:
    """[sip] Let `sink_slot` hear `source_slot`, from the bridge's next tick on. Again is no error.

    Ends the bridge's reports to `Endpoint.onAudioMediaOpCompleted`, which would take the GIL on the media thread.
    """

def disconnect(source_slot: int, sink_slot: int) -> None:
    """[sip] End that. No error when they are not connected or one of them is gone."""

def start_ringback(slot: int, hertz: list[int], cadence_ms: list[int]) -> int:
    """[sip] Let the bridge's `slot` hear a ringback tone, until `stop_ringback` with the slot that this returns.

    One or two frequencies, and up to eight pairs of how long it sounds and how long it does not, over and over. Raises
    ValueError when they are not that, RuntimeError when the bridge is full.
    """

def stop_ringback(tone: int) -> None:
    """[sip] End a tone of `start_ringback`; once."""

def stream_statistics(call_id: int) -> StreamStatistics | None:
    """[sip] Statistics of a call's audio stream; None when it has none (ask before the stream ends)."""

def call_count() -> int:
    """[any] How many calls pjsua has, a leg each, those that are on their way out included."""

def limits() -> dict[str, int]:
    """[any] Compile-time limits of the pjproject libraries in use.

    max_calls, max_accounts, max_conference_ports, max_ioqueue_handles, max_transactions, max_dialogs, max_modules,
    max_packet_bytes, max_timers, max_url_bytes, max_codecs, max_log_level, udp_to_tcp_threshold_bytes.
    """

def pjproject_version() -> str:
    """[any] Such as "2.17"."""

def openssl_version() -> str:
    """[any] The OpenSSL that is loaded, such as "OpenSSL 3.0.15 3 Sep 2024"."""

def install_info(
    handler: Callable[[InfoRequest], object],
    filter: Callable[[int, list[tuple[str, str]]], list[tuple[str, str]]],
) -> None:
    """[sip] Have `handler` called with each INFO and REFER of a claimed dialog. Once, after `Endpoint.libStart`.

    It runs inside `libHandleEvents` and may answer or forward the INFO at once, or keep its token for later. What it
    raises goes to `sys.unraisablehook`, and the INFO is answered 500 unless it has been. Without an answer for 40 s an
    INFO is answered 408; when its dialog ends, 487.

    `filter(call_id, headers)` says which headers of a far side's answer go back to the sender, on the call `call_id`;
    what it raises goes the same way, and none do.
    """

def uninstall_info() -> None:
    """[sip] Answer what is pending with 503 and drop the handler. Before `libDestroy`; idempotent."""

def claim_info(call_id: int) -> None:
    """[sip] Have the INFOs of this call's dialog come here. In `onIncomingCall` and right after `makeCall`; idempotent.

    Not from another callback of the same call: a usage may not join while its dialog is telling the others.
    Raises RuntimeError when the call has no dialog.
    """

def answer_info(token: int, code: int, reason: str = "", headers: list[tuple[str, str]] = []) -> bool:
    """[sip] Answer with a final code (200 to 699), now or later. False when the request is gone or answered.

    Raises ValueError for another code, or text that cannot stand in a SIP message.
    """

def forward_info(token: int, call_id: int, headers: list[tuple[str, str]]) -> bool:
    """[sip] Send the same INFO on the dialog of another call, and have its answer sent back.

    Body and Content-Type go as they came, either way, with these `headers` beside them. Silence of the far end comes
    back as 408, a transport that fails as 503, the end of the far leg as 481; none of them ends a call. False when it
    cannot be sent (no established dialog there, or the token is gone or forwarded already): the answer is then still
    the caller's.
    """

def notify(call_id: int, headers: list[tuple[str, str]], content_type: str, body: str) -> bool:
    """[sip] Send a NOTIFY within the call's dialog (RFC 6665); its answer goes nowhere. False when it was not sent."""

def pick_headers(names: list[str]) -> None:
    """[sip] Have headers of these names kept for `take_headers`; `X-*` stands for all that begin with `X-`.

    They are taken from what the far end of a claimed dialog says of the call: responses to our INVITE until it is
    answered, CANCEL, BYE. Also takes Replaces (RFC 3891) out of an INVITE that opens a dialog, before pjsua would act
    by it; the text of the message still has it. After `Endpoint.libInit`.
    """

def find_call(sip_call_id: str, local_tag: str, remote_tag: str) -> int:
    """[sip] The call whose dialog this is, by its Call-ID, our tag and the far end's; -1 for none."""

def drop_headers(call_id: int) -> None:
    """[sip] Take picked headers out of the last response to a call's INVITE: the stack makes the next one out of it."""

def take_headers(call_id: int) -> list[tuple[str, str]]:
    """[sip] The picked headers of the last such message of a call, in their order; the next time they are gone."""

def pending_infos() -> int:
    """[sip] INFOs that have not had their final answer, forwarded ones included."""

def install_dialog() -> None:
    """[sip] Have holds said the old way understood, and offers answered with the other leg's codec.

    After `Endpoint.libStart`. It takes the place of pjsua2's `onCallRxOffer`.
    """

def asked_direction(call_id: int) -> str | None:
    """[sip] What the far end asks of us in its last SDP: sendrecv, sendonly (it sends), recvonly or inactive.

    None before there is any, and when it only answered an offer of ours that asked for less than sendrecv.
    """

def announce_recording(call_id: int, recorded: bool) -> None:
    """[sip] From now on, in SDP not sent yet, tell a far end that is record-aware whether it is recorded (RFC 7866)."""

def asked_recording(call_id: int) -> bool | None:
    """[sip] Whether the far end's last SDP says that there is to be a recording (RFC 7866): a=record, a=recordpref.

    None when it says nothing of it, or has no preference. Of two that disagree the one without a recording.
    """

def progress(call_id: int, code: int, phrase: str, media: bool, headers: list[tuple[str, str]] = []) -> bool:
    """[sip] Send a provisional response with exactly this code, 101 to 199, with SDP (`media`) or without.

    There is none with an INVITE that brought no offer. False when it can no longer be sent.
    """

def reinvite(call_id: int, direction: str) -> bool:
    """[sip] Send a re-INVITE that offers this direction: sendrecv, sendonly (we send), recvonly or inactive.

    Offers that come later are answered with no more than it. False when none can be sent now (another is under way, the
    call is not up): try again later (RFC 3261, section 14.1). The outcome is in `take_reinvites`.
    """

def take_reinvites() -> list[tuple[int, int]]:
    """[sip] The re-INVITEs of ours that have ended since the last call: pjsua's number of the call, final status."""

def take_closing() -> list[tuple[int, int, bool]]:
    """[sip] The calls that the stack has sent BYE by itself since the last time.

    Pjsua's number of the call, the status why, and whether it is because nobody refreshed its session (RFC 4028). Its
    own end comes with the answer to the BYE, or 32 s later.
    """

def install_digits() -> None:
    """[sip] Have telephone events (RFC 4733) kept for `take_digits`. After `Endpoint.libInit`.

    It takes the place of pjsua2's `onDtmfDigit` and `onDtmfEvent`, which would run Python on a media thread.
    """

def take_digits() -> list[tuple[int, str]]:
    """[sip] The digits that have begun since the last call, in their order: pjsua's number of the call, the digit."""

def takes_events(call_id: int) -> bool:
    """[sip] Whether a call's far end has agreed to take telephone events (RFC 4733)."""

def send_digit(call_id: int, digit: str) -> bool:
    """[sip] Send a digit: as telephone event, or by INFO where the far end takes none. False when that cannot be."""

def redirect(call_id: int, code: int, phrase: str, contacts: Sequence[str]) -> bool:
    """[sip] Answer the INVITE of a call that came in with a 3xx that points to `contacts`, which are header values.

    False when it cannot be answered any more.
    """

def has_response(call_id: int) -> bool:
    """[sip] Whether the INVITE that this call sent has had any response yet, be it a 100."""

def install_options(handler: Callable[[int, int], None]) -> None:
    """[sip] Have `handler(token, status)` hear how an OPTIONS went; status 0: the far side has sent no final response.

    Between libInit and libDestroy.
    """

def uninstall_options() -> None:
    """[sip] Tell nobody any more. Before libDestroy."""

def send_options(uri: str, from_uri: str, transport_id: int, token: int) -> bool:
    """[sip] Send OPTIONS to `uri` through this listener. False when it cannot be sent; the handler may be told, too."""

def install_resolver(handler: Callable[[int, str, int, str], None]) -> None:
    """[sip] Have the stack ask `handler(token, host, port, transport)` for every host name.

    `port` is 0 and `transport` "" where none was given. It is to be answered with `answer_question`, at once or later.
    Between libInit and libDestroy.
    """

def uninstall_resolver() -> None:
    """[sip] Ask nobody any more; what is still open is answered with no address. Before libDestroy."""

def answer_question(token: int, addresses: Sequence[tuple[str, int, str]]) -> bool:
    """[sip] Answer a question: (ip, port, transport) in the order to try them; port 0 for the transport's own.

    False when the question is not open any more.
    """

def pin(host: str, ip: str, port: int, transport: str) -> None:
    """[sip] Until `unpin`, what the stack sends to `host` goes to this address."""

def unpin() -> None:
    """[sip] Forget the pinned address."""

def log_to_stderr(level: int) -> None:
    """[sip] Send pjproject's log lines to standard error, 0 (none) to 5.

    Before `Endpoint.libCreate`, and again after `libInit`, which sets its own way.
    """

def install_offer(transcoding: bool) -> None:
    """[sip] Shape the SDP bodies of all legs, for `offer_like` and `answer_like`. After `Endpoint.libInit`.

    With `transcoding` a leg is offered our other codecs as well, after those of the other leg. It takes the place of
    pjsua2's `onCallSdpCreated`.
    """

def offer_like(call_id: int, events: bool | None = None) -> None:
    """[sip] The next SDP offer that is made lists what this call's far end has offered, or agreed to; -1 ends that.

    Its order, payload types, format parameters and packet times are kept. `events` says whether telephone events
    (RFC 4733) are offered; None: if that far end has them.
    """

def answer_like(call_id: int, other: int, events: bool | None = None) -> bool:
    """[sip] Have the answer to `call_id`, not sent yet, agree to what `other`'s far end has answered.

    Where its far end has not offered that codec it gets the first of its own that we know. An INVITE without SDP is
    offered what `other` has agreed to, then the rest. False when the answer has been sent, or `other` has none yet.
    """

def install_relay() -> None:
    """[sip] Put a transport of ours on every leg's media, for `join` and `RtpTap`. After `Endpoint.libInit`.

    It takes the place of pjsua2's `onCreateMediaTransport`.
    """

def join(call_a: int, call_b: int) -> bool:
    """[sip] Relay RTP and RTCP between two calls, packet by packet, instead of what their streams would send.

    False when they have not negotiated the same codec, or one of them is held: the bridge has to join them then. Again
    after a re-INVITE.
    """

def _hide_names(packet: bytes) -> bytes:
    """Tests only: an RTCP packet as it is relayed, without names (RFC 3550, section 6.5); b"" for a dropped one."""

def part(call_id: int) -> None:
    """[sip] End the relaying from and to a call. Idempotent."""

def take_silent(timeout_ms: int) -> list[int]:
    """[sip] Calls whose far end has sent no RTP for so long, each told once a silence. Not those on hold.

    Meant to be asked about once a second: the silence is measured from one question to another.
    """

def media_clock(rate_hz: int) -> int:
    """[any] Where the clock of all recordings stands, in samples of `rate_hz`: CLOCK_MONOTONIC."""

def _take_apart(packet: bytes, content_length: int) -> tuple[list[tuple[str, str]], str, bytes]:
    """Tests only: headers, Content-Type and body of a SIP message; `content_length` is -1 when there is none."""

def install_paths(
    peers: list[tuple[str, int, bool]],
    other_account: int,
    local_networks: list[str],
    names: list[tuple[int, str, int]],
    media_address: str,
    public_media: str,
) -> None:
    """[sip] Say whose calls are whose, and what our addresses are called from outside. After listeners and accounts.

    `peers` holds (network, account id, behind a NAT), the first that fits wins; `other_account` is for everybody else.
    `names` holds (listener's id, public address, public port or 0). "" for an address is none.
    """

def aim(account_id: int, transport_id: int, ipv6: bool, sips: bool) -> None:
    """[sip] Have the next call of this account leave through this listener, to a sip: or a sips: URI.

    Its audio goes by IPv6 or IPv4.
    """

def loosen(call_id: int) -> None:
    """[sip] Let a call's dialog choose any listener when the far side's Contact asks for another kind."""

def _answer_malformed(packet: bytes, what: str) -> bytes:
    """Tests only: the answer to a request that cannot be parsed; b"" for none."""
