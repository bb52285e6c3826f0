"""A program: an endpoint none of whose INVITEs becomes a call, since that always fails. Writes how one is answered."""

from __future__ import annotations

import socket
import sys

from recorder.calls.events import Invite
from recorder.settings import Settings
from recorder.sip.endpoint import Endpoint
from recorder.sip.leg import Leg

SDP = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"


def fail(_leg: Leg, _invite: Invite) -> None:
    raise RuntimeError("there is no way to make a call of this")


def main() -> None:
    endpoint = Endpoint(Settings.model_validate({"sip": {"listen": [{"host": "127.0.0.1", "port": 0}]}}), fail)
    endpoint.start()
    try:
        host, _, port = endpoint.bound[0].rpartition(":")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
            caller.settimeout(10)
            caller.connect((host, int(port)))
            here = f"{caller.getsockname()[0]}:{caller.getsockname()[1]}"
            lines = [
                f"INVITE sip:1000@{host}:{port} SIP/2.0",
                f"Via: SIP/2.0/UDP {here};branch=z9hG4bK1",
                f"From: <sip:5550100@{here}>;tag=a",
                f"To: <sip:1000@{host}>",
                "Call-ID: broken",
                "CSeq: 1 INVITE",
                f"Contact: <sip:5550100@{here}>",
                "Content-Type: application/sdp",
                f"Content-Length: {len(SDP)}",
                "",
                SDP,
            ]
            caller.send("\r\n".join(lines).encode())
            while (line := caller.recv(65536).partition(b"\r\n")[0].decode()).startswith("SIP/2.0 1"):
                pass
            sys.stdout.write(f"{line}\n")
    finally:
        endpoint.stop()


if __name__ == "__main__":
    main()
