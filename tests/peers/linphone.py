"""Linphone, with its own SIP stack (belle-sip) and media (mediastreamer2), driven over its daemon's standard input."""

from __future__ import annotations

import os
import re
import subprocess

from tests.peers.agent import UserAgent

_CONFIG = """\
[sip]
sip_port={port}
sip_tcp_port=0
sip_tls_port=0
contact=sip:{user}@127.0.0.1
guess_hostname=0
use_ipv6=0
register_only_when_network_is_up=0
auto_net_state_mon=0
keepalive_period=0
use_rfc2833=1
use_info=0

[net]
firewall_policy=none

[rtp]
audio_rtp_port={first_rtp}-{last_rtp}

[sound]
echocancellation=0
mic_gain_db=0

[video]
enabled=0
capture=0
display=0

[app]
auto_download_incoming_files_max_size=-1
"""
_PROMPT = b"daemon-linphone>"
# liblinphone's names of a call's state, without their prefix.
_STATES = {
    "OutgoingRinging": "ringing",
    "OutgoingEarlyMedia": "ringing",
    "IncomingReceived": "incoming",
    "Connected": "up",
    "StreamsRunning": "up",
    "PausedByRemote": "held",
    "Paused": "held",
    "Resuming": "held",
}


class Linphone(UserAgent):
    """Each question is a command to the daemon, whose answer ends with its prompt."""

    def start(self) -> None:
        """Start the daemon and wait for its prompt."""
        first, last = self.rtp_ports
        config = _CONFIG.format(port=self.port, user=self.user, first_rtp=first, last_rtp=last)
        (self.folder / "linphonerc").write_text(config)
        (self.folder / ".local/share/linphone").mkdir(parents=True)  # without it there is no database, and no answer
        self._digits = ""
        self._call = 0
        self._playing = False
        self._process = subprocess.Popen(
            ["linphone-daemon", "--config", "linphonerc", "--log", "log.txt", "--disable-stats-events"],
            cwd=self.folder,
            env={**os.environ, "HOME": str(self.folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._until_prompt()
        self._command("ipv6 disable")

    def dial(self, uri: str) -> None:
        """Call `uri`."""
        self._playing = False
        found = re.search(r"Id: (\d+)", self._command(f"call {uri}"))
        assert found is not None, self.output()
        self._call = int(found[1])

    def answer(self) -> None:
        """Answer the call that comes in."""
        self._playing = False
        self._command(f"answer {self._call}")

    def hang_up(self) -> None:
        """Hang up, cancel, or turn down."""
        self._command(f"terminate {self._call}")

    def hold(self) -> None:
        """Put the call on hold."""
        self._command(f"call-pause {self._call}")

    def resume(self) -> None:
        """Take the call back."""
        self._command(f"call-resume {self._call}")
        self._playing = False

    def press(self, digit: str) -> None:
        """Send a digit."""
        self._command(f"dtmf {digit}")

    @property
    def state(self) -> str:
        """Of the newest call; its voice is started as soon as there is a stream to play it on."""
        self._take_events()
        name = re.search(r"State: LinphoneCall(\w+)", self._command(f"call-status {self._call}"))
        state = name[1] if name is not None else "End"
        if state == "StreamsRunning" and not self._playing:
            self._playing = "Ok" in self._command(f"incall-player-start {self.voice} {self._call}")
        return _STATES.get(state, "idle")

    @property
    def digits(self) -> str:
        """The digits that have come in."""
        self._take_events()
        return self._digits

    def output(self) -> str:
        """The end of its log: its own protocol of what it did."""
        path = self.folder / "log.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    def close(self) -> None:
        """End it and its pipes."""
        super().close()
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                pipe.close()

    def _take_events(self) -> None:
        while True:
            event = self._command("pop-event")
            if "Event-type" not in event and "Event:" not in event:
                return
            if found := re.search(r"receiving-tone.*?Tone: (\S)", event, re.DOTALL):
                self._digits += found[1]
            # The id of a call that comes in is told by its state changes alone.
            if found := re.search(r"call-state-changed.*?Id: (\d+)", event, re.DOTALL | re.IGNORECASE):
                self._call = max(self._call, int(found[1]))
            if "LinphoneCallPaused" in event or "LinphoneCallResuming" in event:
                self._playing = False  # it makes a new stream, which does not have the player

    def _command(self, line: str) -> str:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        return self._until_prompt()

    def _until_prompt(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        answer = b""
        while not answer.endswith(_PROMPT):
            byte = self._process.stdout.read1(1)  # type: ignore[attr-defined]
            assert byte, "linphone-daemon has ended: " + self.output()[-3000:]
            answer += byte
        return answer.decode(errors="replace")
