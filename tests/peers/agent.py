"""What the tests ask of a real user agent, whichever it is: one line at a time, no audio device, a file for a voice."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import soundfile

from recorder.loadtest.ports import lease
from tests.tones import RATE, Samples

_PORTS = 20


class UserAgent(ABC):
    """One user agent in a process, a folder and on ports of its own. Use as a context manager.

    `user` is its number; `voice` what it plays in every call, from the call's beginning on.
    """

    def __init__(self, user: str, voice: Samples) -> None:
        self.user = user
        self._lease = lease(_PORTS)
        self.port = self._lease.first
        self.rtp_ports = (self._lease.first + 6, self._lease.last - 1)
        self._scratch = tempfile.TemporaryDirectory(prefix="agent-")
        self.folder = Path(self._scratch.name)
        self.voice = self.folder / "voice.wav"
        soundfile.write(self.voice, voice, RATE, subtype="PCM_16")
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def start(self) -> None:
        """Start the process and wait until it listens."""

    @abstractmethod
    def dial(self, uri: str) -> None:
        """Call `uri`."""

    @abstractmethod
    def answer(self) -> None:
        """Answer the call that comes in."""

    @abstractmethod
    def hang_up(self) -> None:
        """Hang up, cancel, or turn down, whichever the call's state asks for."""

    @abstractmethod
    def hold(self) -> None:
        """Put the call on hold."""

    @abstractmethod
    def resume(self) -> None:
        """Take the call back."""

    @abstractmethod
    def press(self, digit: str) -> None:
        """Send a digit as a telephone event (RFC 4733)."""

    @property
    @abstractmethod
    def state(self) -> str:
        """Of the newest call: "idle", "ringing" (at the far end), "incoming", "up" or "held"."""

    @property
    @abstractmethod
    def digits(self) -> str:
        """The digits that have come in by now."""

    def wait_for(self, *states: str, timeout_s: float = 30) -> None:
        """Wait until the call is in one of `states`."""
        self.eventually(
            lambda: self.state in states, f"{type(self).__name__} is not {states}, but {self.state}: ", timeout_s
        )

    def eventually(self, question: Callable[[], bool], what: str, timeout_s: float = 30) -> None:
        """Wait until it is so; fails with what the user agent has written."""
        end = time.monotonic() + timeout_s
        while not question():
            assert time.monotonic() < end, what + self.output()[-3000:]
            time.sleep(0.02)

    def output(self) -> str:
        """What the process has written."""
        path = self.folder / "output.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    def close(self) -> None:
        """End the process; nothing of it stays."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            self._process.kill()
            self._process.wait()
        self._scratch.cleanup()
        self._lease.release()

    def __enter__(self) -> UserAgent:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
