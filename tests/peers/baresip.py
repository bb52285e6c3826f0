"""baresip, with its own SIP stack (libre), driven over its control socket: netstrings of JSON."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from typing import Any

from tests.peers.agent import UserAgent

_CONFIG = """\
poll_method epoll
sip_listen 127.0.0.1:{port}
net_interface 127.0.0.1
audio_source aufile,{voice}
audio_player aubridge,nobody
audio_alert aubridge,nobody
ausrc_srate 8000
auplay_srate 8000
ausrc_channels 1
auplay_channels 1
rtp_ports {first_rtp}-{last_rtp}
module_path /usr/lib/baresip/modules
module g711.so
module aufile.so
module aubridge.so
module_app account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:{control}
"""
_STATES = {
    "CALL_INCOMING": "incoming",
    "CALL_RINGING": "ringing",
    "CALL_PROGRESS": "ringing",
    "CALL_ESTABLISHED": "up",
    "CALL_CLOSED": "idle",
}


class Baresip(UserAgent):
    """Its `events` are as it tells them."""

    def start(self) -> None:
        """Start it and connect to its control socket."""
        control = self.port + 4  # the port after its SIP port is its SIP over TLS
        first, last = self.rtp_ports
        config = _CONFIG.format(port=self.port, voice=self.voice, first_rtp=first, last_rtp=last, control=control)
        (self.folder / "config").write_text(config)
        account = f"<sip:{self.user}@127.0.0.1:{self.port}>;regint=0;audio_codecs=PCMU/8000/1"
        (self.folder / "accounts").write_text(account + "\n")
        (self.folder / "contacts").touch()
        self.events: list[dict[str, Any]] = []
        self._state = "idle"
        with (self.folder / "output.txt").open("wb") as output:
            self._process = subprocess.Popen(
                ["baresip", "-f", str(self.folder)], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        self.eventually(lambda: "baresip is ready" in self.output(), "baresip does not start: ")
        self._socket = socket.create_connection(("127.0.0.1", control), timeout=10)
        self._socket.settimeout(None)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def dial(self, uri: str) -> None:
        """Call `uri`."""
        self._command("dial", uri)

    def answer(self) -> None:
        """Answer the call that comes in."""
        self._command("accept")

    def hang_up(self) -> None:
        """Hang up, cancel, or turn down."""
        self._command("hangup")

    def hold(self) -> None:
        """Put the call on hold."""
        self._command("hold")
        self._state = "held"

    def resume(self) -> None:
        """Take the call back."""
        self._command("resume")
        self._state = "up"

    def press(self, digit: str) -> None:
        """Press a digit and let go of it."""
        self._command("sndcode", digit)

    @property
    def state(self) -> str:
        """Of the newest call."""
        return self._state

    @property
    def digits(self) -> str:
        """The digits that have come in."""
        return "".join(event["param"] for event in self.events if event["type"] == "CALL_DTMF_START")

    def close(self) -> None:
        """End it, and the thread that reads from it."""
        super().close()
        if hasattr(self, "_reader"):
            self._reader.join(5)
            self._socket.close()

    def _command(self, name: str, parameters: str = "") -> None:
        text = json.dumps({"command": name, "params": parameters, "token": name})
        self._socket.sendall(f"{len(text)}:{text},".encode())

    def _read(self) -> None:
        stream = self._socket.makefile("rb")
        while True:
            length = b""
            while not length.endswith(b":"):
                byte = stream.read(1)
                if not byte:
                    return
                length += byte
            message = json.loads(stream.read(int(length[:-1])))
            stream.read(1)
            if message.get("event"):
                self.events.append(message)
                self._state = _STATES.get(message["type"], self._state)
