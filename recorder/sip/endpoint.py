"""The sip thread: pjsua2's event loop, a queue of commands for it, and timers. Nothing else touches pjsua2."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import queue
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any, TypeVar

import pjsua2 as pj
import structlog

from recorder import native, threads
from recorder.calls.admission import PORTS_PER_LEG
from recorder.calls.dialing import Dialing
from recorder.calls.events import (
    DigitReceived,
    Direction,
    InfoReceived,
    Invite,
    LegClosing,
    MediaTimedOut,
    ReinviteEnded,
    Side,
)
from recorder.calls.targets import Address, Place
from recorder.errors import InvalidRequestError
from recorder.settings import Settings, nameserver
from recorder.sip import translate
from recorder.sip.accounts import Accounts, OnRegistered
from recorder.sip.gate import REPORT_S, Gate, OnRefused, OnTurnedAway
from recorder.sip.leg import Leg, Listener, guarded
from recorder.sip.resolver import Resolver
from recorder.sip.transports import Transports

_log = structlog.get_logger()
_T = TypeVar("_T")

_WATCH_S = 1.0
_FEWEST_SWEPT = 1024  # alarms
_LONGEST_WAIT_MS = 100  # signalling and commands end the wait at once


@dataclass(slots=True)
class Alarm:
    """A timer on the sip thread. `action` is None once it is cancelled."""

    action: Callable[[], None] | None

    def cancel(self) -> None:
        """Have nothing happen when it is due, and hold on to nothing until then."""
        self.action = None


class Endpoint:
    """The SIP stack and its thread.

    `on_invite(leg, invite)` runs on the sip thread, outside any callback of the stack, for each INVITE that comes in.
    It sets `leg.listener` before it returns. `on_registered(trunk, whether)` runs there too, at each news, and
    so do the others, which are the gate's.
    """

    def __init__(
        self,
        settings: Settings,
        on_invite: Callable[[Leg, Invite], None],
        on_registered: OnRegistered = lambda _trunk, _registered: None,
        on_refused: OnRefused = lambda _invite, _status, _phrase: None,
        on_turned_away: OnTurnedAway = lambda _reason, _requests: None,
    ) -> None:
        self.bound: tuple[str, ...] = ()
        self._settings = settings
        self._on_invite = on_invite
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._alarms: list[tuple[float, int, Alarm]] = []
        self._alarm_order = itertools.count()
        self._sweep_at = _FEWEST_SWEPT
        self._legs: dict[int, Leg] = {}
        self._most_legs = min(native.limits()["max_calls"], 2 * settings.sip.max_calls + 64)
        self._options: dict[int, Callable[[int], None]] = {}
        self._options_order = itertools.count(1)
        self._resolver = Resolver(
            self.post,
            tuple(nameserver(one) for one in settings.sip.nameservers),
            tuple(dict.fromkeys(listener.transport for listener in settings.sip.listen)),
            tuple(sorted({ip_address(listener.host).version for listener in settings.sip.listen})),
        )
        self._stopping = False
        self._started: Future[None] = Future()
        self._thread = threads.named("sip", self._run, daemon=False)
        self._gate = Gate(settings, on_refused, on_turned_away)
        self._transports = Transports(settings)
        self._accounts = Accounts(settings, self._invite, on_registered)

    # For other threads --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Bind the listeners and start the thread. Raises StartError when that cannot be done."""
        self._thread.start()
        self._started.result()

    def stop(self) -> None:
        """Close the stack and end the thread; calls that are still up are hung up."""
        self.post(self._request_stop)
        self._thread.join()

    def post(self, command: Callable[[], None]) -> None:
        """Have `command` run on the sip thread."""
        self._commands.put(command)
        native.wake()

    def drain(self, retry_after_s: int) -> None:
        """Tell trunks that ask (OPTIONS) to send their calls elsewhere."""
        self.post(lambda: native.drain_gate(retry_after_s))

    async def ask(self, question: Callable[[], _T]) -> _T:
        """Run `question` on the sip thread; return its answer, or raise what it raised.

        One that is cancelled before its turn does not run.
        """
        answer: Future[_T] = Future()

        def run() -> None:
            if not answer.set_running_or_notify_cancel():
                return
            try:
                answer.set_result(question())
            except Exception as error:  # noqa: BLE001  # handed to the asker
                answer.set_exception(error)

        self.post(run)
        return await asyncio.wrap_future(answer)

    @property
    def alive(self) -> bool:
        """Whether the thread runs and its listeners are bound."""
        return self._thread.is_alive() and bool(self.bound)

    @property
    def leg_count(self) -> int:
        """How many legs there are, with those that only wait for their end."""
        return len(self._legs)

    @property
    def legs_left(self) -> int:
        """How many more legs there are RTP ports and places in the stack's tables for."""
        media = self._settings.media
        ports = (media.rtp_port_last - media.rtp_port_first + 1) // PORTS_PER_LEG
        return min(ports, self._most_legs) - len(self._legs)

    # For the sip thread -------------------------------------------------------------------------------------------

    def call_later(self, delay_s: float, action: Callable[[], None]) -> Alarm:
        """Run `action` on the sip thread after `delay_s`."""
        if len(self._alarms) >= self._sweep_at:
            # Most are cancelled long before they are due: the one for a call's length would stay for hours.
            self._alarms = [entry for entry in self._alarms if entry[2].action is not None]
            heapq.heapify(self._alarms)
            self._sweep_at = max(_FEWEST_SWEPT, 2 * len(self._alarms))
        alarm = Alarm(action)
        heapq.heappush(self._alarms, (time.monotonic() + delay_s, next(self._alarm_order), alarm))
        return alarm

    def leg(self, call_id: int) -> Leg | None:
        """The leg with this number, if there is one."""
        return self._legs.get(call_id)

    def home(self, uri: str, address: Address | None = None) -> str:
        """`host[:port]` of ours as whoever is at `uri`, or at `address` in its place, knows it."""
        way = self._transports.towards(uri if address is None else _uri_of(address))
        return way.home if way is not None else self.bound[0]

    def dial(self, listener: Listener, dialing: Dialing, offer_like: Leg, direction: Direction) -> Leg:
        """Make the leg of a call that goes out, and send its INVITE. It is kept until it is gone.

        Its SDP offer has the codecs of `offer_like`'s far end, in its order, and says which way audio is to go.
        """
        aim = dialing if dialing.address is None else replace(dialing, target=_uri_of(dialing.address))
        sips = dialing.target.lower().startswith("sips:")
        account, way = self._accounts.aimed(aim, self._transports, sips)
        leg = Leg(account, Side.B, listener, self._remember, self._forget)
        if way is not None:
            leg.dial(dialing, way.home, offer_like, direction)
        else:
            leg.cannot_dial(dialing.target, "no entry of sip.listen has its transport and address family")
        return leg

    def look_up(self, place: Place, found: Callable[[tuple[Address, ...]], None]) -> None:
        """Have `found(addresses)` run with the addresses of a name, in the order to try them; () for none."""
        self._resolver.look_up(place, found)

    def send_options(self, uri: str, answered: Callable[[int], None]) -> None:
        """Send OPTIONS; `answered(status)` runs once with its final response, 0 when the far side has sent none."""
        way = self._transports.towards(uri)
        if way is None:
            answered(0)
            return
        token = next(self._options_order)
        self._options[token] = answered
        if not native.send_options(uri, f"<sip:recorder@{way.home}>", way.transport_id, token):
            self._options_answered(token, 0)

    def _options_answered(self, token: int, status: int) -> None:
        answered = self._options.pop(token, None)
        if answered is not None:
            answered(status)

    def _answer_stack(self, token: int, host: str, port: int, transport: str) -> None:
        def found(addresses: tuple[Address, ...]) -> None:
            native.answer_question(token, [(it.ip, it.port, it.transport) for it in addresses])

        self.look_up(Place(host.lower(), port or None, transport or None), found)

    # The thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        endpoint = pj.Endpoint()
        try:
            self._open(endpoint)
        except BaseException as error:  # noqa: BLE001  # handed to the starter
            try:
                self._close(endpoint)
            finally:
                self._started.set_exception(error)
            return
        self._started.set_result(None)
        self._report_gate()
        self._watch_media()
        while not self._stopping:
            endpoint.libHandleEvents(self._wait_ms())
            self._pass_digits_on()
            self._tell_of_reinvites()
            self._tell_of_closing()
            guarded(self._gate.poll)
            self._run_commands()
            self._run_alarms()
        self._close(endpoint)

    def _report_gate(self) -> None:
        guarded(self._gate.report)
        self.call_later(REPORT_S, self._report_gate)

    def _wait_ms(self) -> int:
        if not self._alarms:
            return _LONGEST_WAIT_MS
        return min(_LONGEST_WAIT_MS, max(0, math.ceil((self._alarms[0][0] - time.monotonic()) * 1000)))

    def _request_stop(self) -> None:
        self._stopping = True

    def _run_commands(self) -> None:
        while True:
            try:
                command = self._commands.get_nowait()
            except queue.Empty:
                return
            guarded(command)

    def _watch_media(self) -> None:
        """Ask once a second who has fallen silent: one call into C, whatever the number of legs."""
        self.call_later(_WATCH_S, self._watch_media)
        timeout_s = self._settings.media.rtp_timeout_s
        if timeout_s is None:
            return
        for call_id in native.take_silent(round(timeout_s * 1000)):
            if (leg := self._legs.get(call_id)) is not None:
                guarded(leg.tell, MediaTimedOut(leg.side))

    def _pass_digits_on(self) -> None:
        for call_id, digit in native.take_digits():
            if (leg := self._legs.get(call_id)) is not None:
                guarded(leg.tell, DigitReceived(leg.side, digit))

    def _tell_of_reinvites(self) -> None:
        for call_id, sip_status in native.take_reinvites():
            if (leg := self._legs.get(call_id)) is not None:
                guarded(leg.tell, ReinviteEnded(leg.side, sip_status))

    def _tell_of_closing(self) -> None:
        for call_id, sip_status, expired in native.take_closing():
            if (leg := self._legs.get(call_id)) is not None:
                guarded(leg.tell, LegClosing(leg.side, sip_status, expired))

    def _run_alarms(self) -> None:
        now = time.monotonic()
        while self._alarms and self._alarms[0][0] <= now:
            alarm = heapq.heappop(self._alarms)[2]
            if alarm.action is not None:
                guarded(alarm.action)

    def _open(self, endpoint: Any) -> None:
        sip, media = self._settings.sip, self._settings.media
        # pjlib writes its lines from whichever thread makes them, in C: no Python on a media thread.
        log_level = 4 if sip.log_messages else 1
        native.log_to_stderr(log_level)
        endpoint.libCreate()
        config = pj.EpConfig()
        config.uaConfig.threadCnt = 0  # this thread runs the events
        config.uaConfig.maxCalls = self._most_legs
        config.uaConfig.userAgent = sip.user_agent
        config.logConfig.consoleLevel = config.logConfig.level = log_level
        config.logConfig.msgLogging = sip.log_messages
        config.medConfig.clockRate = media.clock_rate_hz
        config.medConfig.sndClockRate = media.clock_rate_hz
        config.medConfig.audioFramePtime = 20
        config.medConfig.maxMediaPorts = native.limits()["max_conference_ports"]
        config.medConfig.confThreads = media.bridge_threads
        config.medConfig.noVad = True
        config.medConfig.ecTailLen = 0
        config.medConfig.sndAutoCloseTime = -1  # the bridge's clock runs without calls, too
        endpoint.libInit(config)
        native.log_to_stderr(log_level)
        native.omit_unheard_callbacks()
        native.install_progress(self._progress, self._media)
        native.install_resolver(self._answer_stack)
        native.install_wake()
        native.install_options(self._options_answered)
        native.install_digits()
        native.install_relay()
        self._gate.install()
        native.install_offer(media.transcoding)
        order = {name.lower(): 255 - place for place, name in enumerate(media.codecs)}
        for codec in endpoint.codecEnum2():
            name = codec.codecId.partition("/")[0].lower()
            endpoint.codecSetPriority(codec.codecId, order.get(name, 0))
        self._transports.open(endpoint)
        endpoint.libStart()
        endpoint.audDevManager().setNullDev()
        native.install_info(self._info, self._answer_headers)
        native.install_dialog()
        native.pick_headers(sorted(self._picked()))
        self._accounts.open(self._transports)
        self.bound = self._transports.names

    def _picked(self) -> set[str]:
        """Every header that is passed on for some trunk."""
        names = (trunk.pass_headers or () for trunk in self._settings.trunks)
        return set(self._settings.sip.pass_headers).union(*names)

    def _close(self, endpoint: Any) -> None:
        self.bound = ()
        native.uninstall_info()
        native.uninstall_options()
        native.uninstall_progress()
        self._resolver.close()
        native.uninstall_wake()
        if endpoint.libGetState() >= pj.PJSUA_STATE_INIT:
            endpoint.hangupAllCalls()
            self._accounts.close(endpoint)
            native.uninstall_resolver()
        # Every Python object of the stack has to go before the stack: their destructors call into it.
        self._legs.clear()
        endpoint.libDestroy()

    # What the stack tells -----------------------------------------------------------------------------------------

    def _invite(self, account: Any, call_id: int, message: str, source: str) -> None:
        time_ms = time.time_ns() // 1_000_000
        trunk = native.trunk_of_invite()
        leg = Leg(account, Side.A, None, self._remember, self._forget, call_id)

        # Not from inside the stack's callback: it is still building the call, and may not be answered there.
        def begin() -> None:
            if not leg.gone:
                native.claim_info(call_id)
                leg.read_offer()
            try:
                invite = translate.invite(message, source, time_ms, trunk)
            except InvalidRequestError as error:
                _log.warning("invite_unreadable", source=source, error=str(error))
                leg.hang_up(400, str(error))
                return
            try:
                self._on_invite(leg, invite)
            except Exception:
                leg.hang_up(500)  # nobody else would: an INVITE has no timer on this side
                raise

        self._commands.put(begin)

    def _progress(self, call_id: int, progress: native.CallProgress) -> None:
        leg = self._legs.get(call_id)
        if leg is not None:
            guarded(leg.on_progress, progress)

    def _media(self, call_id: int) -> None:
        leg = self._legs.get(call_id)
        if leg is not None:
            guarded(leg.on_media)

    def _info(self, request: native.InfoRequest) -> None:
        leg = self._legs.get(request.call_id)
        if leg is None or leg.listener is None:
            native.answer_info(request.token, 481)
            return
        leg.listener(
            InfoReceived(
                leg.side,
                request.token,
                request.content_type,
                request.body,
                tuple(request.headers),
                request.method,
                request.source,
            )
        )

    def _answer_headers(self, call_id: int, fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
        leg = self._legs.get(call_id)
        return list(leg.sees(fields)) if leg is not None and leg.sees is not None else []

    def _remember(self, leg: Leg) -> None:
        self._legs[leg.call_id] = leg

    def _forget(self, leg: Leg) -> None:
        if self._legs.get(leg.call_id) is leg:
            del self._legs[leg.call_id]


def _uri_of(address: Address) -> str:
    """The URI of an address, for choosing what leads there."""
    host = f"[{address.ip}]" if ":" in address.ip else address.ip
    return f"sip:{host}:{address.port};transport={address.transport}"


def list_codecs() -> list[str]:
    """The codecs that the stack was built with, such as "PCMU/8000/1". For a process that runs no Endpoint."""
    native.log_to_stderr(0)
    endpoint = pj.Endpoint()
    endpoint.libCreate()
    try:
        config = pj.EpConfig()
        config.logConfig.consoleLevel = config.logConfig.level = 0
        endpoint.libInit(config)
        return sorted(codec.codecId for codec in endpoint.codecEnum2())
    finally:
        endpoint.libDestroy()
