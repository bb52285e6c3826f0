"""Both ends of many calls at once, in one process: SIP over UDP as coroutines ask for it, RTP from one thread (G.711).

A `Switch` is one UDP port for signalling; a `Dialog` one end of one call on it. What a dialog does not ask for itself
is answered 200. A `Voice` sends a packet every 20 ms, and knows which ones it sent when.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
import struct
import threading
import time
from collections.abc import Callable

from tests.native.phone import Message
from tests.peers.background import Background

HOST = "127.0.0.1"
PACKET_S = 0.020
_TIMER_1_S = 0.5  # RFC 3261, section 17.1.1.1
_FINAL_S = 15.0
_serial = itertools.count(1)


class Voice:
    """One RTP sender. `payload(number, due_s)` is asked for each packet; None: it is not sent, as during a hold."""

    def __init__(self, payload: Callable[[int, float], bytes | None]) -> None:
        self.payload = payload
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((HOST, 0))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # nobody reads it
        self.remote: tuple[str, int] | None = None
        self.began_s: float | None = None  # the time of packet 0, by time.monotonic
        self.sent = 0
        self._ssrc = next(_serial)

    @property
    def port(self) -> int:
        """To be put in the SDP."""
        return int(self.socket.getsockname()[1])

    def speak_to(self, port: int) -> None:
        """Send to this port on loopback from now on."""
        self.remote = (HOST, port)

    def send_due(self, now: float) -> None:
        """Send what is due by now; what a stall held up is sent all the same, in its place."""
        if self.remote is None:
            return
        if self.began_s is None:
            self.began_s = now
        while (due := self.began_s + self.sent * PACKET_S) <= now:
            payload = self.payload(self.sent, due)
            if payload is not None:
                header = struct.pack("!BBHII", 0x80, 0, self.sent & 0xFFFF, self.sent * 160, self._ssrc)
                self.socket.sendto(header + payload, self.remote)
            self.sent += 1


class Choir(Background):
    """The thread that sends for all voices. Use as a context manager."""

    def __init__(self) -> None:
        self._voices: set[Voice] = set()
        self._lock = threading.Lock()
        super().__init__(self._run)

    def join(self, voice: Voice) -> Voice:
        """Let a voice be heard."""
        with self._lock:
            self._voices.add(voice)
        return voice

    def leave(self, voice: Voice) -> None:
        """Let it fall silent for good."""
        with self._lock:
            self._voices.discard(voice)
            voice.socket.close()

    def catch_up(self) -> float:
        """Have everybody say what is due; returns until when that is, by time.monotonic."""
        with self._lock:
            now = time.monotonic()
            for voice in self._voices:
                voice.send_due(now)
        return now

    def _run(self) -> None:
        while not self._stopping.wait(0.005):
            self.catch_up()


class Dialog:
    """One end of one call. `ended` is set when the other end has hung up."""

    def __init__(self, switch: Switch, voice: Voice, call_id: str, local: str, remote: str, target: str) -> None:
        self.switch, self.voice = switch, voice
        self.call_id, self.local, self.remote, self.target = call_id, local, remote, target
        self.ended = asyncio.Event()
        self.answered_s: float | None = None  # when the 200 to the first INVITE came or went
        self._cseq = 0
        self._version = 0
        self._invite: Message | None = None  # that is not answered yet
        self._answers: dict[str, bytes] = {}  # by branch and method, for retransmissions

    def sdp(self, direction: str = "sendrecv") -> bytes:
        """What this end offers or answers."""
        self._version += 1
        return (
            f"v=0\r\no=- 1 {self._version} IN IP4 {HOST}\r\ns=-\r\nc=IN IP4 {HOST}\r\nt=0 0\r\n"
            f"m=audio {self.voice.port} RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
            f"a=fmtp:101 0-16\r\na=ptime:20\r\na={direction}\r\n"
        ).encode()

    async def request(
        self,
        method: str,
        headers: str = "",
        body: bytes = b"",
        *,
        copies: int = 1,
        told: Callable[[], object] | None = None,
    ) -> Message:
        """Send a request, `copies` times at once, until its final response, which is returned (and acknowledged)."""
        self._cseq += 1
        branch = f"z9hG4bK{next(_serial)}"
        packet = self._request(method, self._cseq, branch, headers, body)
        answer = self.switch.expect(branch)
        for _ in range(copies):
            self.switch.send(packet)
        if told is not None:
            told()
        response = await _until_final(answer, lambda: self.switch.send(packet))
        if method == "INVITE":
            if response.code < 300:
                self._learn(response, "To")
            ack_branch = branch if response.code >= 300 else f"z9hG4bK{next(_serial)}"
            ack = self._request("ACK", self._cseq, ack_branch, "", b"")
            self.switch.acknowledge(branch, ack)
        return response

    async def ring(self) -> None:
        """Say 180 to the INVITE that came in."""
        self._respond(180, "Ringing")

    async def answer(self) -> None:
        """Say 200 to it."""
        self.answered_s = time.monotonic()
        self._respond(200, "OK", self.sdp())

    def handle(self, request: Message) -> None:
        """A request has come in on this dialog."""
        method = request.method
        key = request.all("Via")[0] + method
        if method == "ACK":
            return
        if key in self._answers:
            self.switch.send(self._answers[key])
            return
        if method == "INVITE" and self.answered_s is None:
            self._invite = request
            self._hear(request)
            return
        body = b""
        if method in ("INVITE", "UPDATE") and request.body:
            self._hear(request)
            offered = re.search(rb"a=(sendrecv|sendonly|recvonly|inactive)", request.body)
            turned = {b"sendonly": "recvonly", b"recvonly": "sendonly", b"inactive": "inactive"}
            body = self.sdp(turned.get(offered[1], "sendrecv") if offered else "sendrecv")
        self._answers[key] = self._response(request, 200, "OK", body)
        self.switch.send(self._answers[key])
        if method == "BYE":
            self.ended.set()

    def _respond(self, code: int, phrase: str, body: bytes = b"") -> None:
        assert self._invite is not None
        response = self._response(self._invite, code, phrase, body)
        if code >= 200:
            self._answers[self._invite.all("Via")[0] + "INVITE"] = response
        self.switch.send(response)

    def _response(self, request: Message, code: int, phrase: str, body: bytes) -> bytes:
        lines = [f"SIP/2.0 {code} {phrase}", *(f"Via: {via}" for via in request.all("Via"))]
        lines += [f"From: {request.one('From')}", f"To: {self.local}", f"Call-ID: {self.call_id}"]
        lines += [f"CSeq: {request.one('CSeq')}", f"Contact: <sip:{self.switch.address}>"]
        lines += ["Allow: INVITE, ACK, CANCEL, BYE, INFO, UPDATE, REFER, NOTIFY, OPTIONS"]
        lines += ["Content-Type: application/sdp"] if body else []
        return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body

    def _request(self, method: str, cseq: int, branch: str, headers: str, body: bytes) -> bytes:
        lines = [f"{method} {self.target} SIP/2.0", f"Via: SIP/2.0/UDP {self.switch.address};branch={branch}"]
        lines += [f"From: {self.local}", f"To: {self.remote}", f"Call-ID: {self.call_id}", f"CSeq: {cseq} {method}"]
        lines += [f"Contact: <sip:{self.switch.address}>", "Max-Forwards: 70"]
        lines += [headers] if headers else []
        return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body

    def _learn(self, message: Message, whose: str) -> None:
        self.remote = message.one(whose)
        contact = re.search(r"<(sip:[^>]+)>", message.one("Contact"))
        assert contact is not None
        self.target = contact[1]
        if message.body:
            self._hear(message)

    def _hear(self, message: Message) -> None:
        found = re.search(rb"^m=audio (\d+) ", message.body, re.MULTILINE)
        if found is not None and int(found[1]):
            self.voice.speak_to(int(found[1]))


class Switch(asyncio.DatagramProtocol):
    """One UDP port. INVITEs that come in go to who waits for the number that is called."""

    def __init__(self, recorder: tuple[str, int]) -> None:
        self.recorder = recorder
        self.address = ""
        self._transport: asyncio.DatagramTransport | None = None
        self._dialogs: dict[str, Dialog] = {}
        self._pending: dict[str, asyncio.Queue[Message]] = {}
        self._acks: dict[str, bytes] = {}
        self._awaited: dict[str, tuple[Voice, asyncio.Future[Dialog]]] = {}

    async def listen(self, port: int = 0) -> Switch:
        """Begin to listen."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(HOST, port))
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
        host, bound = self._transport.get_extra_info("sockname")[:2]
        self.address = f"{host}:{bound}"
        return self

    def close(self) -> None:
        """Stop listening."""
        if self._transport is not None:
            self._transport.close()

    def will_be_called(self, number: str, voice: Voice) -> asyncio.Future[Dialog]:
        """Wait for an INVITE to this number."""
        future: asyncio.Future[Dialog] = asyncio.get_running_loop().create_future()
        self._awaited[number] = voice, future
        return future

    async def call(self, number: str, voice: Voice, headers: str = "") -> Dialog:
        """Call `number` through the recorder; returns once it is answered. Raises ConnectionError when it is not."""
        mark = next(_serial)
        local = f"<sip:5550{mark}@{self.address}>;tag=c{mark}"
        uri = f"sip:{number}@{self.recorder[0]}:{self.recorder[1]}"
        dialog = Dialog(self, voice, f"crowd-{mark}@{HOST}", local, f"<{uri}>", uri)
        self._dialogs[dialog.call_id] = dialog
        headers = "\r\n".join(
            filter(None, (headers, "Content-Type: application/sdp", "Allow: INVITE, ACK, BYE, INFO, REFER"))
        )
        response = await dialog.request("INVITE", headers, dialog.sdp())
        if response.code >= 300:
            raise ConnectionError(response.start)
        dialog.answered_s = time.monotonic()
        return dialog

    def send(self, packet: bytes) -> None:
        """Send to the recorder."""
        assert self._transport is not None
        self._transport.sendto(packet, self.recorder)

    def expect(self, branch: str) -> asyncio.Queue[Message]:
        """Where the responses of a transaction come."""
        queue: asyncio.Queue[Message] = asyncio.Queue()
        self._pending[branch] = queue
        return queue

    def acknowledge(self, branch: str, ack: bytes) -> None:
        """Send an ACK, now and for every final response of that INVITE that comes again."""
        self._acks[branch] = ack
        self.send(ack)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if len(data) < 10 or addr[1] != self.recorder[1]:
            return
        message = Message.parse(data)
        if message.is_request:
            self._request(message)
            return
        branch = message.all("Via")[0].partition("branch=")[2].partition(";")[0]
        if branch in self._acks and message.code >= 200:
            self.send(self._acks[branch])
        elif branch in self._pending:
            self._pending[branch].put_nowait(message)

    def _request(self, request: Message) -> None:
        call_id = request.one("Call-ID")
        dialog = self._dialogs.get(call_id)
        if dialog is None and request.method == "INVITE":
            number = request.start.partition("sip:")[2].partition("@")[0]
            voice, future = self._awaited.pop(number)
            local = f"{request.one('To')};tag=a{next(_serial)}"
            dialog = Dialog(self, voice, call_id, local, request.one("From"), "")
            dialog._learn(request, "From")
            self._dialogs[call_id] = dialog
            dialog.handle(request)
            future.set_result(dialog)
        elif dialog is not None:
            dialog.handle(request)


async def _until_final(answers: asyncio.Queue[Message], again: Callable[[], object]) -> Message:
    deadline, pause = time.monotonic() + _FINAL_S, _TIMER_1_S
    provisional = False
    while time.monotonic() < deadline:
        try:
            message = await asyncio.wait_for(answers.get(), _FINAL_S if provisional else pause)
        except TimeoutError:
            if not provisional:
                again()
                pause = min(2 * pause, 4.0)
            continue
        if message.code >= 200:
            return message
        provisional = True
    raise TimeoutError("no final response")
