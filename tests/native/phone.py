"""A SIP phone on a raw UDP socket, that says exactly the bytes it is told to. Blocking, with deadlines."""

from __future__ import annotations

import itertools
import re
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

_serial = itertools.count(1)
Headers = Sequence[tuple[str, str]]


@dataclass
class Message:
    start: str
    headers: list[tuple[str, str]]
    body: bytes
    raw: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Message:
        head, _, body = raw.partition(b"\r\n\r\n")
        start, *lines = head.decode("utf-8", "surrogateescape").split("\r\n")
        return cls(start, [(n.strip(), v.strip()) for n, _, v in (line.partition(":") for line in lines)], body, raw)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def one(self, name: str) -> str:
        [value] = self.all(name)
        return value

    @property
    def is_request(self) -> bool:
        return not self.start.startswith("SIP/2.0 ")

    @property
    def method(self) -> str:
        return self.start.split()[0] if self.is_request else self.one("CSeq").split()[1]

    @property
    def code(self) -> int:
        return 0 if self.is_request else int(self.start.split()[1])

    @property
    def reason(self) -> str:
        return self.start.split(maxsplit=2)[2]


@dataclass
class Phone:
    """One dialog. The caller's side starts with `call`, the called side with `take_call`."""

    socket: socket.socket = field(default_factory=lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    peer: tuple[str, int] = ("", 0)
    local: str = ""  # From of our requests, To of the peer's
    remote: str = ""
    target: str = ""
    call_id: str = ""
    cseq: int = 0
    invite: Message | None = None

    def __post_init__(self) -> None:
        self.socket.bind(("127.0.0.1", 0))
        self.waiting: list[Message] = []
        self.heard: list[Message] = []
        self.number = next(_serial)

    @property
    def address(self) -> str:
        host, port = self.socket.getsockname()
        return f"{host}:{port}"

    @property
    def uri(self) -> str:
        return f"sip:phone@{self.address}"

    def sdp(self) -> bytes:
        lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "t=0 0"]
        return "\r\n".join([*lines, "m=audio 9 RTP/AVP 0", "a=rtpmap:0 PCMU/8000", ""]).encode()

    def send(self, start: str, headers: Headers, body: bytes = b"") -> bytes:
        raw = "\r\n".join([start, *(f"{n}: {v}" for n, v in headers), "", ""]).encode("utf-8", "surrogateescape") + body
        self.socket.sendto(raw, self.peer)
        return raw

    def request(self, method: str, headers: Headers = (), body: bytes = b"", length: int | None = -1) -> bytes:
        """Sends a request of the dialog; `length` is the Content-Length, None to leave it out. Returns the bytes."""
        self.cseq += method != "ACK"
        own = [
            ("Via", f"SIP/2.0/UDP {self.address};rport;branch=z9hG4bK-{self.number}-{next(_serial)}"),
            ("Max-Forwards", "70"),
            ("From", self.local),
            ("To", self.remote),
            ("Call-ID", self.call_id),
            ("CSeq", f"{self.cseq} {method}"),
        ]
        if length is not None:
            headers = [*headers, ("Content-Length", str(len(body) if length < 0 else length))]
        return self.send(f"{method} {self.target} SIP/2.0", [*own, *headers], body)

    def respond(self, request: Message, code: int, reason: str, headers: Headers = (), body: bytes = b"") -> None:
        mirrored = [(n, v) for n, v in request.headers if n in ("Via", "From", "Call-ID", "CSeq", "Record-Route")]
        to = request.one("To")
        tagged = to if ";tag=" in to else f"{to};tag=far{self.number}"
        own = [*mirrored, ("To", tagged), *headers, ("Content-Length", str(len(body)))]
        self.send(f"SIP/2.0 {code} {reason}", own, body)

    def expect(self, what: str, timeout_s: float = 30) -> Message:
        """The next message that is a request of method `what`, or a response like `200 INFO` or `final INFO`."""
        deadline = time.monotonic() + timeout_s
        while True:
            for message in self.waiting:
                if self._matches(message, what):
                    self.waiting.remove(message)
                    return message
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                raw, self.peer = self.socket.recvfrom(65536)
            except TimeoutError:
                raise AssertionError(f"no {what}; waiting: {[m.start for m in self.waiting]}") from None
            message = Message.parse(raw)
            self.heard.append(message)
            self.waiting.append(message)

    @staticmethod
    def _matches(message: Message, what: str) -> bool:
        kind, _, method = what.partition(" ")
        if not method:
            return message.is_request and message.method == kind
        wanted = message.code >= 200 if kind == "final" else message.code == int(kind)
        return not message.is_request and message.method == method and wanted

    def call(self, uri: str, headers: Headers = ()) -> None:
        """Sends an INVITE; `answered` waits for the 200."""
        host, port = uri.partition("@")[2].split(":")
        self.peer = (host, int(port))
        self.local, self.remote, self.target = f"<{self.uri}>;tag=near{self.number}", f"<{uri}>", uri
        self.call_id = f"call-{self.number}@{self.address}"
        offer = [*headers, ("Contact", f"<{self.uri}>"), ("Content-Type", "application/sdp")]
        self.request("INVITE", offer, self.sdp())

    def in_dialog(self, response: Message) -> None:
        self.remote = response.one("To")
        [self.target] = re.findall(r"<([^>]*)>", response.one("Contact"))

    def answered(self) -> None:
        response = self.expect("200 INVITE")
        self.in_dialog(response)
        self.request("ACK", length=0)

    def take_call(self, code: int = 200) -> Message:
        self.invite = self.expect("INVITE")
        self.local = f"{self.invite.one('To')};tag=far{self.number}"
        self.remote, self.call_id = self.invite.one("From"), self.invite.one("Call-ID")
        [self.target] = re.findall(r"<([^>]*)>", self.invite.one("Contact"))
        self.answer_call(code)
        return self.invite

    def answer_call(self, code: int = 200) -> None:
        assert self.invite is not None
        contact = ("Contact", f"<{self.uri}>")
        if code == 200:
            self.respond(self.invite, 200, "OK", [contact, ("Content-Type", "application/sdp")], self.sdp())
            self.expect("ACK")
        else:
            self.respond(self.invite, code, "Progress", [contact])

    def close(self) -> None:
        self.socket.close()
