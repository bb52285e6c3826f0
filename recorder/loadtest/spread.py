"""RTP spread over the 20 ms for a load test: our own sender speaks for both ends, SIPp does the signalling alone.

SIPp's log says which port of the recorder belongs to which call; the sender is told of each as it appears.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from recorder.loadtest.floor import Sender
from recorder.loadtest.sipp_output import words
from recorder.loadtest.tones import Codec
from recorder.loadtest.traffic import PhaseRun, Sound

_POLL_S = 0.005


class SpreadSound:
    """The spread-out media of one phase. `sound` goes into the PhaseRun, `follow` on it once it has started."""

    def __init__(self, folder: Path, codec: Codec) -> None:
        self.sender = Sender(folder, "spread", codec)
        played = f'"%s{codec.suffix},-1,{"0,PCMU" if codec is Codec.PCMU else "8,PCMA"}/8000"'
        self.sound = Sound(
            caller_edit=_edits(self.sender.port_a, played % "caller"),
            application_edit=_edits(self.sender.port_b, played % "callee"),
        )
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self, run: PhaseRun) -> None:
        """Begin to speak for the calls of `run` as they are answered."""
        logs = [_Tail(run.caller.folder / "log.txt"), _Tail(run.application.folder / "log.txt")]
        self._thread = threading.Thread(target=self._run, args=(logs,), name="spread", daemon=True)
        self._thread.start()

    def __enter__(self) -> SpreadSound:
        self.sender.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> dict[str, int]:
        """Fall silent. Returns how many packets were sent, how many came back, and how often the sender was late."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        return self.sender.stop()

    def _run(self, logs: list[_Tail]) -> None:
        ports: dict[tuple[str, str], int] = {}
        with contextlib.suppress(BrokenPipeError):
            while not self._stopping.wait(_POLL_S):
                for log in logs:
                    for line in log.read():
                        self._obey(line, ports)

    def _obey(self, line: tuple[str, ...], ports: dict[tuple[str, str], int]) -> None:
        match line:
            case ("answered", called, _, port):
                ports["a", called] = int(port)
                self.sender.begin("a", int(port))
            case ("invited", called, _, port):
                ports["b", called] = int(port)
            case ("acked", called, *_):
                self.sender.begin("b", ports["b", called])
            case ("bye", called, *_):
                for side in "ab":
                    if (side, called) in ports:
                        self.sender.end(ports.pop((side, called)))
            case _:
                pass


class _Tail:
    """What has been added to a file since the last look, line by line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0

    def read(self) -> list[tuple[str, ...]]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                added = file.read()
        except OSError:
            return []
        whole = added[: added.rfind(b"\n") + 1]
        self._position += len(whole)
        return [words(line) for line in whole.decode(errors="replace").splitlines()]


def _edits(port: int, played: str) -> tuple[tuple[str, str], ...]:
    return (
        ("m=audio [rtpstream_audio_port]", f"m=audio {port}"),
        (f"  <nop><action><exec rtp_stream={played}/></action></nop>\n", ""),
    )
