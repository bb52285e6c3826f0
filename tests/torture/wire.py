"""Raw SIP over UDP and TCP from an address of its own, and an application that is always busy."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable

from tests.native.phone import Message
from tests.peers.background import Background

SOURCE = "127.0.0.77"  # where the torture comes from: a trunk, and no other test uses it
PORT = 5060  # where answers go by a Via without a port (RFC 3261, section 18.2.2)


def acknowledge(response: Message, send: Callable[[bytes], object]) -> None:
    """Send the ACK for a final response other than 2xx to an INVITE (RFC 3261, section 17.1.1.3), if it can be made."""
    number, _, method = "".join(response.all("CSeq")[:1]).partition(" ")
    headers = [(name, response.all(name)[0]) for name in ("Via", "From", "To", "Call-ID") if response.all(name)]
    if method != "INVITE" or len(headers) != 4:
        return
    lines = ["ACK sip:user@example.com SIP/2.0", *(f"{name}: {value}" for name, value in headers)]
    lines += [f"CSeq: {number} ACK", "Max-Forwards: 70", "Content-Length: 0", "", ""]
    send("\r\n".join(lines).encode("utf-8", "surrogateescape"))


class Datagrams:
    """A UDP socket on SOURCE that says what it is told, and reads the answers."""

    def __init__(self, port: int, source: tuple[str, int] = (SOURCE, PORT)) -> None:
        self.remote = ("127.0.0.1", port)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(source)

    @property
    def address(self) -> str:
        host, port = self._socket.getsockname()
        return f"{host}:{port}"

    def send(self, packet: bytes) -> None:
        self._socket.sendto(packet, self.remote)

    def receive(self, timeout_s: float) -> Message | None:
        self._socket.settimeout(max(0.001, timeout_s))
        try:
            return Message.parse(self._socket.recv(65536))
        except TimeoutError:
            return None

    def final(self, call_id: str, timeout_s: float = 5) -> Message | None:
        """The final response to a request with this Call-ID, acknowledged if it is that of an INVITE."""
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            message = self.receive(left)
            if message is None or message.is_request or message.code < 200:
                continue
            acknowledge(message, self.send)
            if (message.all("Call-ID") or [""])[0] == call_id:
                return message
        return None

    def options(self, serial: object) -> Message | None:
        """Ask with a request that nothing is wrong with; returns the answer."""
        call_id = f"options-{serial}-{time.monotonic_ns()}"
        lines = [
            "OPTIONS sip:user@127.0.0.1 SIP/2.0",
            f"Via: SIP/2.0/UDP {self.address};rport;branch=z9hG4bK{call_id}",
            "From: <sip:torture@127.0.0.77>;tag=1",
            "To: <sip:user@127.0.0.1>",
            f"Call-ID: {call_id}",
            "CSeq: 1 OPTIONS",
            "Max-Forwards: 70",
            "Content-Length: 0",
            "",
            "",
        ]
        for _ in range(3):  # UDP may lose it (RFC 3261, section 17.1.2.2)
            self.send("\r\n".join(lines).encode())
            if (answer := self.final(call_id)) is not None:
                return answer
        return None

    def close(self) -> None:
        self._socket.close()


def over_tcp(port: int, packet: bytes, answers: int, timeout_s: float = 15) -> list[int]:
    """Send `packet` on a connection of its own; the final status codes of the first so many answers."""
    codes: list[int] = []
    received = b""
    deadline = time.monotonic() + timeout_s
    with socket.create_connection(("127.0.0.1", port), source_address=(SOURCE, 0)) as connection:
        connection.sendall(packet)
        while len(codes) < answers and (left := deadline - time.monotonic()) > 0:
            connection.settimeout(left)
            try:
                chunk = connection.recv(65536)
            except TimeoutError:
                break
            if not chunk:
                break
            received += chunk
            while b"\r\n\r\n" in received:  # none of these answers has a body
                head, _, received = received.partition(b"\r\n\r\n")
                response = Message.parse(head + b"\r\n\r\n")
                if response.code >= 200:
                    codes.append(response.code)
                    acknowledge(response, connection.sendall)
    return codes


class BusyApplication(Background):
    """Answers every INVITE with 486, whatever it says."""

    def __init__(self, port: int) -> None:
        self.invites = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", port))
        super().__init__(self._run)

    def _run(self) -> None:
        self._socket.settimeout(0.1)
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError, OSError):
                packet, sender = self._socket.recvfrom(65536)
                request = Message.parse(packet)
                if not request.is_request or request.method == "ACK":
                    continue
                self.invites += request.method == "INVITE"
                status = "486 Busy Here" if request.method == "INVITE" else "200 OK"
                mirrored = [f"{n}: {v}" for n, v in request.headers if n in ("Via", "From", "Call-ID", "CSeq")]
                lines = [
                    f"SIP/2.0 {status}",
                    *mirrored,
                    f"To: {request.one('To')};tag=busy",
                    "Content-Length: 0",
                    "",
                    "",
                ]
                self._socket.sendto("\r\n".join(lines).encode("utf-8", "surrogateescape"), sender)

    def _close(self) -> None:
        self._socket.close()
